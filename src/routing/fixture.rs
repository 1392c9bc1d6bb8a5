//! For tests: participants, of which a test sets what it is about.

use super::{Channel, Participant};

/// A participant that owns these addresses, and has no channel.
pub fn owner(id: &str, addresses: &[&str]) -> Participant {
    Participant { addresses: addresses.iter().map(|address| (*address).to_owned()).collect(), ..Participant::new(id) }
}

/// A participant with an HTTP channel that refuses connections.
pub fn participant(id: &str, concurrency: usize) -> Participant {
    Participant {
        channel: Some(Channel::Http { url: "http://127.0.0.1:1/fhir".into(), asynchronous: false }),
        concurrency,
        retry_schedule_seconds: vec![1, 5, 30],
        ..Participant::new(id)
    }
}
