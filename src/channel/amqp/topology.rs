//! Queues and exchanges: what must be there, declared or only checked, and what to change where the broker has it otherwise
//! (design 1.6).

use crate::config::{Amqp, DEAD_LETTERS};
use crate::routing::{Channel, Participant};
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ErrorKind, ExchangeKind};
use std::fmt;
use std::sync::Arc;

/// A queue or exchange that messages need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A durable quorum queue; `dead_letters`: with its dead-letter queue named.
    Queue { name: String, dead_letters: bool },
    /// A durable topic exchange.
    Exchange { name: String },
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Queue { name, .. } => write!(f, "queue {name}"),
            Thing::Exchange { name } => write!(f, "exchange {name}"),
        }
    }
}

/// Where what cannot be kept of this queue goes.
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}{DEAD_LETTERS}")
}

/// A queue and, before it, its dead-letter queue.
pub fn queue(name: &str) -> [Thing; 2] {
    let dead = Thing::Queue { name: dead_letter_queue(name), dead_letters: false };
    [dead, Thing::Queue { name: name.to_owned(), dead_letters: true }]
}

/// What we consume.
pub fn inbound(amqp: &Amqp) -> Vec<Thing> {
    amqp.inbound_queues.iter().chain([&amqp.answer_queue]).flat_map(|name| queue(name)).collect()
}

/// What participants' messages are published to. The broker's own exchanges are there already.
pub fn outbound(participants: &[Arc<Participant>]) -> Vec<Thing> {
    let mut things: Vec<Thing> = Vec::new();
    for participant in participants {
        let Some(Channel::Amqp { exchange, routing_key }) = &participant.channel else { continue };
        let needed = match exchange.as_str() {
            "" => queue(routing_key).to_vec(),
            name if name.starts_with("amq.") => Vec::new(),
            name => vec![Thing::Exchange { name: name.to_owned() }],
        };
        for thing in needed {
            if !things.contains(&thing) {
                things.push(thing);
            }
        }
    }
    things
}

/// Declares each thing, or looks whether it is there; a sentence for each that is not as it should be. A broker that
/// is lost meanwhile is no mistake: everything is looked at again with the next connection.
pub async fn ensure(connection: &Connection, things: &[Thing], declare: bool) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut channel = None;
    for thing in things {
        let open = match channel.take() {
            Some(open) => open,
            None => match connection.create_channel().await {
                Ok(open) => open,
                Err(_) => return mistakes,
            },
        };
        match declare_one(&open, thing, declare).await {
            Ok(()) => channel = Some(open),
            // A refusal closes the channel, so that the next thing gets a new one.
            Err(error) => mistakes.extend(mistake(thing, declare, &error)),
        }
    }
    mistakes
}

async fn declare_one(channel: &lapin::Channel, thing: &Thing, declare: bool) -> lapin::Result<()> {
    match thing {
        Thing::Queue { name, dead_letters } => {
            let options = QueueDeclareOptions { passive: !declare, durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.as_str().into(), options, arguments(name, *dead_letters)).await.map(drop)
        }
        Thing::Exchange { name } => {
            let options =
                ExchangeDeclareOptions { passive: !declare, durable: true, ..ExchangeDeclareOptions::default() };
            let none = FieldTable::default();
            channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, options, none).await
        }
    }
}

fn arguments(queue: &str, dead_letters: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut set = |key: &str, value: &str| {
        arguments.insert(key.into(), AMQPValue::LongString(value.into()));
    };
    set("x-queue-type", "quorum");
    if dead_letters {
        set("x-dead-letter-exchange", "");
        set("x-dead-letter-routing-key", &dead_letter_queue(queue));
    }
    arguments
}

/// What to change; None where the connection was lost.
fn mistake(thing: &Thing, declare: bool, error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(said) = error.kind() else { return None };
    let ours = match thing {
        Thing::Queue { dead_letters: true, name } => format!(
            "durable, x-queue-type=quorum, x-dead-letter-exchange=\"\", x-dead-letter-routing-key={}",
            dead_letter_queue(name)
        ),
        Thing::Queue { dead_letters: false, .. } => "durable, x-queue-type=quorum".into(),
        Thing::Exchange { .. } => "durable, type topic".into(),
    };
    let text = said.get_message();
    let advice = match said.get_id() {
        404 => format!("declare it ({ours}), or set amqp.declare = true"),
        403 => {
            "give the router's user the permission, or set amqp.declare = false where somebody else declares it".into()
        }
        405 => "another connection holds it for itself alone; end that, or name another".into(),
        406 => format!("it exists otherwise than {ours}; delete it, or set amqp.declare = false to use it as it is"),
        _ => format!("it should be {ours}"),
    };
    let verb = if declare { "cannot be declared" } else { "cannot be used" };
    Some(format!("{thing} {verb}: {advice}. The broker says: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(exchange: &str, routing_key: &str) -> Arc<Participant> {
        let channel = Some(Channel::Amqp { exchange: exchange.into(), routing_key: routing_key.into() });
        Arc::new(Participant { channel, ..Participant::new("lab") })
    }

    #[test]
    fn participants_queues_and_exchanges_are_declared_once_and_the_brokers_own_never() {
        let things = outbound(&[
            party("fhir.out", "lab"),
            party("fhir.out", "ward"),
            party("amq.topic", "x"),
            party("", "ward.in"),
            Arc::new(Participant::new("none")),
        ]);
        let names: Vec<String> = things.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["exchange fhir.out", "queue ward.in.dead", "queue ward.in"]);
    }
}
