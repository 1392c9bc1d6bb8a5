//! Why a delivery waits, in one sentence for people.
//!
//! Pure: the caller passes what store, courier, and configuration know.

use crate::courier::ParticipantStatus;
use crate::routing::{Channel, Participant};
use crate::store::view::{DeliveryView, FirstInLane};

/// What is known about a waiting delivery.
pub(super) struct Waiting<'a> {
    pub delivery: &'a DeliveryView,
    /// None: not configured.
    pub participant: Option<&'a Participant>,
    /// None: the courier has no deliveries for it.
    pub status: Option<&'a ParticipantStatus>,
    /// The first waiting delivery of its lane, if that is another one.
    pub head: Option<&'a FirstInLane>,
    /// Whether an attempt at the head is under way.
    pub is_head_active: bool,
    /// UTC microseconds since 1970.
    pub now_us: i64,
}

impl Waiting<'_> {
    /// Whether an operator can start an attempt now.
    pub fn can_be_tried(&self) -> bool {
        self.head.is_none() && self.reader().is_none() && !self.is_paused()
    }

    pub fn sentence(&self) -> String {
        if let Some(reader) = self.reader() {
            return reader;
        }
        match self.head {
            None => format!("It waits because {}.", self.reason(self.delivery.due_at_us, self.delivery.attempts)),
            Some(head) if self.is_head_active => {
                format!("It waits behind delivery {} of the same lane, which is being attempted.", head.id)
            }
            Some(head) => {
                let reason = self.reason(head.due_at_us, head.attempts);
                format!("It waits behind delivery {} of the same lane, which waits because {reason}.", head.id)
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.status.is_some_and(|status| status.paused)
    }

    /// Why it waits, if the courier is not responsible for it.
    fn reader(&self) -> Option<String> {
        let (id, expires) = (&self.delivery.participant, instant(self.delivery.expires_at_us));
        if self.delivery.kind.bypasses_channel() {
            return None;
        }
        match self.participant.map(|participant| &participant.channel) {
            Some(Some(Channel::Http { .. } | Channel::Amqp { .. })) => None,
            Some(Some(Channel::Mailbox)) => {
                Some(format!("It waits in the mailbox of {id} until {id} reads it, or until it expires at {expires}."))
            }
            Some(None) => {
                Some(format!("It waits because {id} has no channel, until it gets one or it expires at {expires}."))
            }
            None => Some(format!("It waits because {id} is not configured, until it is or it expires at {expires}.")),
        }
    }

    fn reason(&self, due_at_us: i64, attempts: u32) -> String {
        let id = &self.delivery.participant;
        if self.is_paused() {
            return format!("deliveries to {id} are paused until an operator resumes them");
        }
        let own_way = self.delivery.kind.bypasses_channel();
        if let Some(status) = self.status.filter(|status| status.breaker == "open" && !own_way) {
            let fault = status.last_fault.map_or("its last attempts failed", |fault| fault.code());
            let probe = match status.next_probe_at_us {
                Some(at_us) => format!("the next goes out at {}", instant(at_us.max(self.now_us))),
                None => "one is under way".to_owned(),
            };
            return format!("the breaker of {id} is open ({fault}) and only probes go out; {probe}");
        }
        if due_at_us > self.now_us {
            let failed = if attempts == 1 { "one attempt".into() } else { format!("{attempts} attempts") };
            return format!("{failed} failed and the next is due at {}", instant(due_at_us));
        }
        let Some(participant) = self.participant else { return "its turn has not come".into() };
        if self.status.is_some_and(|status| status.active >= participant.concurrency) {
            return format!("all {} attempts that may go to {id} at once are under way", participant.concurrency);
        }
        if participant.rate_per_second > 0 {
            return format!("at most {} attempts a second may go to {id}", participant.rate_per_second);
        }
        format!("the courier has not come to it among the deliveries to {id}; it is due now")
    }
}

/// UTC microseconds since 1970 as RFC 3339.
fn instant(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |at| format!("{at:.3}"))
}
