//! How other modules send commands to the running courier. A caller never waits for the courier, and no command is
//! lost.
//!
//! Commands go through one bounded queue. An offer that does not fit is remembered per participant, and the courier
//! then reads the store instead. Commands of which only the latest counts (pause, reload) are coalesced, so they always
//! fit.

use super::ParticipantStatus;
use crate::delivery::PendingDelivery;
use crate::routing::Participant;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

const COMMANDS_LIMIT: usize = 1024;
/// Deliveries to forget that did not fit in the queue. Beyond this bound a delivery is attempted needlessly, which
/// changes nothing.
const FORGET_LIMIT_DELIVERIES: usize = 10_000;

/// Deliveries to retry now that the courier has not handled yet.
const TRY_NOW_LIMIT_DELIVERIES: usize = 10_000;

pub(super) enum Command {
    Offer(Vec<PendingDelivery>),
    Forget(Box<PendingDelivery>),
    Status(oneshot::Sender<Vec<ParticipantStatus>>),
    Active(oneshot::Sender<Vec<Uuid>>),
}

/// Commands that did not fit in the queue or are coalesced by nature.
#[derive(Default)]
pub(super) struct Coalesced {
    /// Participants whose offers did not fit: their backlog is read from the store.
    pub reread: HashSet<Arc<str>>,
    pub forget: Vec<PendingDelivery>,
    pub pause: HashMap<String, bool>,
    pub retry_participants: HashSet<String>,
    pub retry_deliveries: Vec<PendingDelivery>,
    pub reload: Option<Vec<Arc<Participant>>>,
}

#[derive(Default)]
struct Shared {
    coalesced: Mutex<Coalesced>,
    filled: AtomicBool,
    notify: Notify,
}

/// Sends commands to the running courier. Clones share it.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// The courier's end of a `Handle`.
pub struct Inbox {
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
}

impl Handle {
    /// A handle and its inbox for `Courier::run`. Commands sent before the courier runs are not lost.
    pub fn new() -> (Handle, Inbox) {
        let (sender, receiver) = mpsc::channel(COMMANDS_LIMIT);
        let shared = Arc::new(Shared::default());
        (Handle { commands: sender, shared: shared.clone() }, Inbox { commands: receiver, shared })
    }

    /// Offers deliveries that were just committed. Beyond the bound the courier reads them from the store.
    pub fn offer(&self, deliveries: Vec<PendingDelivery>) {
        if deliveries.is_empty() {
            return;
        }
        if let Err(error) = self.commands.try_send(Command::Offer(deliveries))
            && let Command::Offer(deliveries) = error.into_inner()
        {
            self.coalesce(|coalesced| {
                coalesced.reread.extend(deliveries.into_iter().map(|delivery| delivery.participant))
            });
        }
    }

    /// A delivery ended or changed outside of the courier (answered, discarded): removes it from memory.
    pub fn forget(&self, delivery: PendingDelivery) {
        let delivery = Box::new(PendingDelivery { body: None, ..delivery });
        if let Err(error) = self.commands.try_send(Command::Forget(delivery))
            && let Command::Forget(delivery) = error.into_inner()
        {
            self.coalesce(|coalesced| {
                if coalesced.forget.len() < FORGET_LIMIT_DELIVERIES {
                    coalesced.forget.push(*delivery);
                }
            });
        }
    }

    /// Stops or resumes the attempts at one participant. Storing that state is the caller's task.
    pub fn pause(&self, participant: &str, paused: bool) {
        self.coalesce(|coalesced| {
            coalesced.pause.insert(participant.to_owned(), paused);
        });
    }

    /// Retries everything that waits for this participant now, because the cause of its failures may be gone. While its
    /// breaker is open, one probe is sent first.
    pub fn retry_now(&self, participant: &str) {
        self.coalesce(|coalesced| {
            coalesced.retry_participants.insert(participant.to_owned());
        });
    }

    /// Retries a waiting delivery now, which the store already shows as due. Beyond the bound it waits for its turn.
    pub fn retry_delivery_now(&self, delivery: PendingDelivery) {
        self.coalesce(|coalesced| {
            if coalesced.retry_deliveries.len() < TRY_NOW_LIMIT_DELIVERIES {
                coalesced.retry_deliveries.push(PendingDelivery { body: None, ..delivery });
            }
        });
    }

    /// Replaces the participants (SIGHUP).
    pub fn reload(&self, participants: Vec<Arc<Participant>>) {
        self.coalesce(|coalesced| coalesced.reload = Some(participants));
    }

    /// Status of each participant, by id; empty once the courier has stopped.
    pub async fn status(&self) -> Vec<ParticipantStatus> {
        self.ask(Command::Status).await
    }

    /// Ids of the deliveries with an active attempt.
    pub async fn active(&self) -> Vec<Uuid> {
        self.ask(Command::Active).await
    }

    async fn ask<T: Default>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(command(sender)).await.is_err() {
            return T::default();
        }
        receiver.await.unwrap_or_default()
    }

    fn coalesce(&self, change: impl FnOnce(&mut Coalesced)) {
        // A poisoned lock still holds complete values, because each change is a single insertion.
        change(&mut self.shared.coalesced.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.filled.store(true, Ordering::Release);
        self.shared.notify.notify_one();
    }
}

impl Inbox {
    /// Waits for a command or a coalesced one. False once every handle is dropped.
    pub(super) async fn wait(&mut self, commands: &mut Vec<Command>, limit: usize) -> bool {
        tokio::select! {
            count = self.commands.recv_many(commands, limit) => count > 0,
            () = self.shared.notify.notified() => true,
        }
    }

    /// What was coalesced since the last call, if anything.
    pub(super) fn take_coalesced(&self) -> Option<Coalesced> {
        if !self.shared.filled.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.shared.coalesced.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
