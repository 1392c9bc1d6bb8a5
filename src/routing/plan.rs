//! The plan: who receives a message and why, or why it is refused.
//!
//! A destination is delivered to the owner of its address. At our own base, the owner of its target and then the first matching
//! route decide; at an address without owner, the first matching route. One destination that cannot be served refuses the
//! whole message.

use super::address::Pattern;
use super::lane::{OrderedBy, lane};
use super::participant::{Order, Participant};
pub use super::table::{Route, Table};
use crate::delivery::{DeliveryKind, NewDelivery};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use fhir::event::Category;
use fhir::header::Destination;
use fhir::{Event, Message};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const DESTINATION: &str = "Bundle.entry[0].resource.destination";

/// The receivers of a message.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Each participant once, in the order of the destinations.
    pub receivers: Vec<Receiver>,
    /// Emberpost itself receives it.
    pub to_self: bool,
    /// One sentence per decision, for people.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Receiver {
    pub participant: Arc<Participant>,
    /// The first destination that selected this participant, as the message spells it; None for a route without destination.
    pub destination: Option<String>,
    /// Lane key; 0 if the participant is configured without order.
    pub lane: i64,
}

impl Receiver {
    /// A delivery to this receiver: due at once, and expiring as its participant's configuration says. `now_us`: UTC
    /// microseconds since 1970.
    pub fn delivery(&self, kind: DeliveryKind, id: Uuid, now_us: i64) -> NewDelivery {
        let expire_seconds = i64::try_from(self.participant.expire_after_seconds).unwrap_or(i64::MAX);
        NewDelivery {
            id,
            participant: self.participant.id.clone(),
            destination: self.destination.clone(),
            lane: self.lane,
            kind,
            due_at_us: 0,
            expires_at_us: now_us.saturating_add(expire_seconds.saturating_mul(1_000_000)),
            is_awaited: false,
        }
    }
}

/// Plans a request or an unmatched response. `sender` is the sending participant's id; it may be a receiver, too. Errs with one
/// issue per destination that cannot be served: the message is refused as a whole (MSG-22, MSG-46).
pub fn plan(message: &Message, sender: &str, category: Option<Category>, table: &Table) -> Result<Plan, Vec<Issue>> {
    let mut planner = Planner {
        message,
        sender,
        table,
        plan: Plan::default(),
        issues: Vec::new(),
        owners: HashMap::new(),
        routed: HashMap::new(),
        lanes: Vec::new(),
    };
    let mut usable = 0;
    for (index, destination) in message.header.destinations.iter().enumerate() {
        usable += usize::from(planner.place(index, destination));
    }
    if usable == 0 {
        planner.place_without_destination();
    }
    planner.check_fan_out(category);
    if planner.issues.is_empty() { Ok(planner.plan) } else { Err(planner.issues) }
}

struct Planner<'a> {
    message: &'a Message,
    sender: &'a str,
    table: &'a Table,
    plan: Plan,
    issues: Vec<Issue>,
    /// Per list of targets, which many destinations may share: the first target that has an owner.
    owners: HashMap<Targets, Option<(&'a str, &'a Arc<Participant>)>>,
    /// Per list of targets and route: whether the route's address pattern matches any of them.
    routed: HashMap<(Targets, usize), bool>,
    lanes: Vec<(Order, i64)>,
}

/// Identifies a shared list of targets by its address in memory while the message is planned.
type Targets = usize;

fn place_of(targets: &[Arc<str>]) -> Targets {
    targets.as_ptr().addr()
}

/// What a decision is about: its name in reasons, and the element that an issue points to.
struct Origin<'a> {
    name: String,
    expression: String,
    address: Option<&'a str>,
}

impl<'a> Planner<'a> {
    /// False if the destination cannot be used: it names a person or a system without an address that we know.
    fn place(&mut self, index: usize, destination: &'a Destination) -> bool {
        let name = format!("destination[{index}]");
        let targeted = self.owner_of_targets(&destination.targets);
        let Some(endpoint) = destination.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            let expression = format!("{DESTINATION}[{index}].target");
            match targeted {
                Some(found) => self.add_targeted(found, name, expression),
                None => self.reason(&name, "has no endpoint and counts as none"),
            }
            return targeted.is_some();
        };
        // FHIRPath spells a choice element without its type, so this is R5's endpointUrl and endpointReference, too.
        let expression = format!("{DESTINATION}[{index}].endpoint");
        let origin = Origin { name, expression, address: Some(endpoint) };
        if let Some(owner) = self.table.owner(endpoint) {
            self.add(owner, &origin, "owns the address");
        } else if !self.table.is_own_base(endpoint) {
            if !self.add_by_route(&origin, Some(destination)) {
                self.refuse(&origin, "No participant owns the destination's endpoint and no route takes it");
            }
        } else if let Some(found) = targeted {
            self.add_targeted(found, origin.name, origin.expression);
        } else if !self.add_by_route(&origin, Some(destination)) {
            self.plan.to_self = true;
            self.reason(&origin.name, "is Emberpost's own base and no route takes it: Emberpost itself receives it");
        }
        true
    }

    /// For a message without usable destination: the routes without `destination`; else Emberpost itself if no participant is
    /// configured; else an error.
    fn place_without_destination(&mut self) {
        let origin = Origin { name: "no destination".into(), expression: DESTINATION.into(), address: None };
        if self.add_by_route(&origin, None) {
            return;
        }
        if self.table.participants.is_empty() {
            self.plan.to_self = true;
            self.reason(&origin.name, "and no participant is configured: Emberpost itself receives it");
        } else {
            self.refuse(&origin, "The message names no destination that can be used and no route takes it");
        }
    }

    fn owner_of_targets(&mut self, targets: &'a [Arc<str>]) -> Option<(&'a str, &'a Arc<Participant>)> {
        let (first, table) = (targets.first()?, self.table);
        let find = || targets.iter().find_map(|target| Some((&**target, table.owner(target)?)));
        match targets.len() {
            1 => Some((&**first, table.owner(first)?)),
            _ => *self.owners.entry(place_of(targets)).or_insert_with(find),
        }
    }

    /// Whether a route's pattern matches a destination's endpoint or one of its targets.
    fn leads_to(&mut self, (route, pattern): (usize, &Pattern), destination: &Destination) -> bool {
        if destination.endpoint.as_deref().is_some_and(|endpoint| pattern.matches(endpoint)) {
            return true;
        }
        let targets = &destination.targets;
        let matches = || targets.iter().any(|target| pattern.matches(target));
        !targets.is_empty() && *self.routed.entry((place_of(targets), route)).or_insert_with(matches)
    }

    fn lane(&mut self, order: Order) -> i64 {
        if let Some((_, lane)) = self.lanes.iter().find(|(known, _)| *known == order) {
            return *lane;
        }
        let message = self.message;
        let by = OrderedBy::Sender { source: message.header.source_endpoint.as_deref(), sender: self.sender };
        let lane = lane(order, by, || message.subject_key());
        self.lanes.push((order, lane));
        lane
    }

    fn add_targeted(&mut self, found: (&'a str, &'a Arc<Participant>), name: String, expression: String) {
        let (target, participant) = found;
        let origin = Origin { name, expression, address: Some(target) };
        self.add(participant, &origin, "owns the address of its target");
    }

    /// Adds the receivers of the first route whose conditions hold. False if there is no such route.
    fn add_by_route(&mut self, origin: &Origin, destination: Option<&Destination>) -> bool {
        let table = self.table;
        let mut holds = |(index, route, pattern): &(usize, &Route, Option<&Pattern>)| {
            let event = route.event.as_deref().is_none_or(|wanted| event_matches(self.message, wanted));
            let source = route.source.as_deref().is_none_or(|wanted| wanted == self.sender);
            let place = |pattern| destination.is_some_and(|destination| self.leads_to((*index, pattern), destination));
            event && source && pattern.is_none_or(place)
        };
        let Some((index, route, _)) = table.compiled_routes().find(|route| holds(route)) else {
            return false;
        };
        let why = format!("is named by route {}", index + 1);
        for participant in route.to.iter().filter_map(|id| table.participant(id)) {
            self.add(participant, origin, &why);
        }
        true
    }

    /// Adds a receiver once, or the issue that rules it out.
    fn add(&mut self, participant: &Arc<Participant>, origin: &Origin, why: &str) {
        let id = &participant.id;
        if participant.channel.is_none() {
            let text =
                format!("The participant {id} has no channel: it gets answers only, no messages can be sent to it");
            return self.refuse(origin, &text);
        }
        if !may_receive(participant, self.message.header.event.as_ref()) {
            let text = format!("The participant {id} may not receive this event");
            let issue = Issue::error(IssueCode::Forbidden, Fault::RouteForbidden, text).at(&origin.expression);
            return self.push(issue);
        }
        if self.plan.receivers.iter().any(|receiver| receiver.participant.id == *id) {
            return self
                .reason(&origin.name, &format!("participant {id} {why}, and receives it already: one delivery"));
        }
        self.reason(&origin.name, &format!("participant {id} {why}"));
        let lane = self.lane(participant.order);
        self.plan.receivers.push(Receiver {
            participant: participant.clone(),
            destination: origin.address.map(str::to_owned),
            lane,
        });
    }

    /// A message of category consequence may have only one receiver (MSG-46); Emberpost counts as one.
    fn check_fan_out(&mut self, category: Option<Category>) {
        let receivers = self.plan.receivers.len() + usize::from(self.plan.to_self);
        let allowed = self.table.fan_out.iter().any(|event| event_matches(self.message, event));
        if category == Some(Category::Consequence) && receivers > 1 && !allowed {
            let text =
                format!("An event of category consequence goes to one receiver only, this message to {receivers}");
            let issue = Issue::error(IssueCode::BusinessRule, Fault::RouteFanOut, text);
            self.push(issue.rule("MSG-46").at(DESTINATION));
        }
    }

    fn refuse(&mut self, origin: &Origin, text: &str) {
        let issue = Issue::error(IssueCode::NotFound, Fault::SendUnknownDestination, text.to_owned());
        self.push(issue.rule("MSG-22").at(&origin.expression));
    }

    /// Adds an issue once, even if a route names a participant twice.
    fn push(&mut self, issue: Issue) {
        let mut here = self.issues.iter().rev().take_while(|known| known.expression == issue.expression);
        if !here.any(|known| *known == issue) {
            self.issues.push(issue);
        }
    }

    fn reason(&mut self, name: &str, text: &str) {
        self.plan.reasons.push(format!("{name}: {text}"));
    }
}

fn event_matches(message: &Message, pattern: &str) -> bool {
    message.header.event.as_ref().map_or(pattern == "*", |event| event.matches(pattern))
}

/// A message without event is allowed only if every event is.
fn may_receive(participant: &Participant, event: Option<&Event>) -> bool {
    match event {
        Some(event) => participant.may_receive(event),
        None => participant.may_receive.iter().any(|pattern| pattern == "*"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
