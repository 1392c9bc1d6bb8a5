//! Participants, addresses and routes, built and checked once; the plan and the sender are looked up in it.
//!
//! A table never changes: a new configuration makes a new one.

use super::address::{self, Index, Pattern};
use super::participant::{ANYONE, EMBERPOST, Participant};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A route of the configuration: for destinations that no participant owns, or for messages without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// Code, `system|code`, uri or `*`.
    pub event: Option<String>,
    /// Id of the sending participant.
    pub source: Option<String>,
    /// Address; a final `*` matches any ending.
    pub destination: Option<String>,
    /// Ids of the receiving participants; at least one.
    pub to: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub participants: Vec<Arc<Participant>>,
    pub routes: Vec<Route>,
    /// Consequence events that may go to more than one participant.
    pub fan_out: Vec<String>,
    /// Our own base, as others address it.
    pub base_url: String,
    /// Stands in for senders that are not participants.
    pub anyone: Arc<Participant>,
    by_id: HashMap<Arc<str>, usize>,
    by_amqp_user: HashMap<Box<str>, usize>,
    by_address: Index,
    /// The compiled `destination` of each route, in the routes' order.
    destinations: Vec<Option<Pattern>>,
    own_base: String,
}

/// An error in the table, and the entry of the configuration that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub about: Entry,
    pub text: String,
}

/// Index into the participants or routes that the table was built from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry {
    Participant(usize),
    Route(usize),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.about {
            // The text names the participant.
            Entry::Participant(_) => f.write_str(&self.text),
            Entry::Route(index) => write!(f, "route {}: {}", index + 1, self.text),
        }
    }
}

/// Paths below our base that fix the FHIR version; each is our own address, too.
const BASE_ALIASES: [&str; 3] = ["/R4", "/R4B", "/R5"];

impl Default for Table {
    fn default() -> Self {
        Table {
            participants: Vec::new(),
            routes: Vec::new(),
            fan_out: Vec::new(),
            base_url: String::new(),
            anyone: Arc::new(Participant::anyone()),
            by_id: HashMap::new(),
            by_amqp_user: HashMap::new(),
            by_address: Index::default(),
            destinations: Vec::new(),
            own_base: String::new(),
        }
    }
}

impl Table {
    /// Errs with every error found: an address with two owners, a route to an unknown participant, an id used twice or reserved.
    pub fn build(
        participants: Vec<Participant>,
        routes: Vec<Route>,
        fan_out: Vec<String>,
        base_url: String,
    ) -> Result<Table, Vec<String>> {
        Table::build_or_conflicts(participants, routes, fan_out, base_url)
            .map_err(|conflicts| conflicts.iter().map(Conflict::to_string).collect())
    }

    /// As `build`; each error says which entry it is about, so that the caller can name its line.
    pub fn build_or_conflicts(
        participants: Vec<Participant>,
        routes: Vec<Route>,
        fan_out: Vec<String>,
        base_url: String,
    ) -> Result<Table, Vec<Conflict>> {
        let own_base = address::normalize(&base_url);
        let destinations = routes.iter().map(|route| route.destination.as_deref().map(Pattern::new)).collect();
        let participants = participants.into_iter().map(Arc::new).collect();
        let mut table = Table { participants, routes, fan_out, base_url, destinations, own_base, ..Table::default() };
        let mut conflicts = table.index_ids();
        conflicts.extend(table.index_addresses());
        conflicts.extend(table.route_conflicts());
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    pub fn participant(&self, id: &str) -> Option<&Arc<Participant>> {
        self.by_id.get(id).map(|index| &self.participants[*index])
    }

    /// The participant that publishes with this `user_id` of the broker.
    pub fn amqp_user(&self, user: &str) -> Option<&Arc<Participant>> {
        self.by_amqp_user.get(user).map(|index| &self.participants[*index])
    }

    /// All that the courier may deliver to: every participant, also those without a channel (callbacks, reply queues).
    pub fn carried_to(&self) -> Vec<Arc<Participant>> {
        self.participants.iter().chain([&self.anyone]).cloned().collect()
    }

    /// The participant that owns an address: by an exact match, else by the longest pattern. Our own base has no owner.
    pub fn owner(&self, address: &str) -> Option<&Arc<Participant>> {
        if self.is_own_base(address) {
            return None;
        }
        self.by_address.find(address).map(|index| &self.participants[index])
    }

    /// Whether this participant owns an address.
    pub fn is_owner(&self, participant: &str, address: &str) -> bool {
        self.owner(address).is_some_and(|owner| *owner.id == *participant)
    }

    /// Whether an address is our own base or an alias of it, after normalization.
    pub fn is_own_base(&self, address: &str) -> bool {
        if self.own_base.is_empty() || address::flaw(address).is_some() {
            return false;
        }
        let address = address::normalize(address);
        address.strip_prefix(&self.own_base).is_some_and(|rest| rest.is_empty() || BASE_ALIASES.contains(&rest))
    }

    /// Whether any participant has a credential.
    pub fn has_credentials(&self) -> bool {
        self.participants.iter().any(|participant| !participant.token_sha256.is_empty())
    }

    /// The routes in order, each with its compiled destination.
    pub(super) fn compiled_routes(&self) -> impl Iterator<Item = (usize, &Route, Option<&Pattern>)> {
        self.routes.iter().zip(&self.destinations).enumerate().map(|(i, (route, pattern))| (i, route, pattern.as_ref()))
    }

    fn index_ids(&mut self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (index, participant) in self.participants.iter().enumerate() {
            let id = &participant.id;
            let user = participant.amqp_user.as_deref();
            let first = user.and_then(|user| match self.by_amqp_user.get(user) {
                Some(first) => Some(*first),
                None => {
                    self.by_amqp_user.insert(user.into(), index);
                    None
                }
            });
            let mut say = |text| conflicts.push(Conflict { about: Entry::Participant(index), text });
            if [ANYONE, EMBERPOST].contains(&&**id) {
                say(format!("the participant id \"{id}\" is reserved; choose another"));
            }
            if self.by_id.contains_key(id) {
                say(format!("the participant id \"{id}\" is used twice"));
            } else {
                self.by_id.insert(id.clone(), index);
            }
            if let Some(other) = first.map(|first| &self.participants[first].id) {
                say(format!("the participants \"{other}\" and \"{id}\" have one amqp_user; each has its own"));
            }
        }
        conflicts
    }

    fn index_addresses(&mut self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (index, participant) in self.participants.iter().enumerate() {
            let id = &participant.id;
            for address in &participant.addresses {
                if let Some(flaw) = address::flaw(address) {
                    let text = format!("the address {address:?} of participant \"{id}\" has {flaw}");
                    conflicts.push(Conflict { about: Entry::Participant(index), text });
                    continue;
                }
                let text = match self.by_address.insert(address, index) {
                    _ if address.is_empty() => format!("participant \"{id}\" has an empty address"),
                    _ if self.is_own_base(address) => {
                        format!("participant \"{id}\" claims \"{address}\", which is Emberpost's own base_url")
                    }
                    // One owner may list one address in two spellings.
                    Ok(()) => continue,
                    Err(first) if first == index => continue,
                    Err(first) => format!(
                        "the participants \"{}\" and \"{id}\" both claim the address \"{address}\"",
                        self.participants[first].id
                    ),
                };
                conflicts.push(Conflict { about: Entry::Participant(index), text });
            }
        }
        conflicts
    }

    fn route_conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let mut say = |text| conflicts.push(Conflict { about: Entry::Route(index), text });
            if let Some((pattern, flaw)) = route.destination.as_ref().and_then(|it| Some((it, address::flaw(it)?))) {
                say(format!("\"destination\" {pattern:?} has {flaw}"));
            }
            if route.to.is_empty() {
                say("\"to\" names no participant".to_owned());
            }
            for id in route.to.iter().filter(|id| !self.by_id.contains_key(id.as_str())) {
                say(format!("\"to\" names \"{id}\", which is not a participant"));
            }
            if let Some(id) = route.source.as_ref().filter(|id| !self.by_id.contains_key(id.as_str())) {
                say(format!("\"source\" names \"{id}\", which is not a participant"));
            }
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixture::owner as participant;

    fn build(participants: Vec<Participant>, routes: Vec<Route>) -> Result<Table, Vec<String>> {
        Table::build(participants, routes, Vec::new(), "http://hub.example.org/fhir".into())
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let participants = vec![
            participant("lab", &["https://lab.example.org/fhir", "urn:oid:1.*"]),
            participant("ward", &["HTTPS://LAB.example.org:443/fhir/", "urn:oid:1.*", "urn:oid:1.2"]),
            participant("lab", &[""]),
            participant("anyone", &[]),
            participant("emberpost", &["http://hub.example.org/fhir/$process-message"]),
        ];
        let routes = vec![
            Route { to: vec!["lab".into(), "nobody".into()], ..Route::default() },
            Route { source: Some("stranger".into()), ..Route::default() },
        ];
        let errors = build(participants, routes).unwrap_err();
        let expected = [
            "the participant id \"lab\" is used twice",
            "the participant id \"anyone\" is reserved; choose another",
            "the participant id \"emberpost\" is reserved; choose another",
            "the participants \"lab\" and \"ward\" both claim the address \"HTTPS://LAB.example.org:443/fhir/\"",
            "the participants \"lab\" and \"ward\" both claim the address \"urn:oid:1.*\"",
            "participant \"lab\" has an empty address",
            "participant \"emberpost\" claims \"http://hub.example.org/fhir/$process-message\", which is Emberpost's own base_url",
            "route 1: \"to\" names \"nobody\", which is not a participant",
            "route 2: \"to\" names no participant",
            "route 2: \"source\" names \"stranger\", which is not a participant",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn an_address_has_one_owner_and_our_base_has_none() {
        let table =
            build(vec![participant("lab", &["https://lab.example.org/fhir"]), participant("all", &["*"])], vec![]);
        let table = table.unwrap();
        let owner = |address| table.owner(address).map(|participant| &*participant.id);
        assert_eq!(owner("https://lab.example.org/fhir/$process-message"), Some("lab"));
        assert_eq!(owner("mailto:a@b.org"), Some("all"));
        assert_eq!(owner("http://HUB.example.org/fhir/"), None);
        assert!(table.is_own_base("http://HUB.example.org:80/fhir/$process-message"));
        assert!(table.is_own_base("http://hub.example.org/fhir/R4B/$process-message"));
        assert_eq!(owner("http://hub.example.org/fhir/R5/"), None);
        assert_eq!(owner("http://hub.example.org/fhir/R6"), Some("all"));
        assert!(!table.is_own_base("http://hub.example.org/other"));
        assert!(!Table::default().is_own_base(""));
        assert_eq!(table.participant("all").map(|participant| &*participant.id), Some("all"));
        assert!(table.participant("nobody").is_none());
    }

    #[test]
    fn one_participant_may_spell_its_address_twice() {
        assert!(build(vec![participant("lab", &["https://lab.org", "https://lab.org/"])], vec![]).is_ok());
    }
}
