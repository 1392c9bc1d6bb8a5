//! The queues and exchanges that messages need: declares or checks them, and says what to change where the broker's
//! differ.

use crate::config::{Amqp, DEAD_LETTERS};
use crate::routing::{Channel, Participant};
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ErrorKind, ExchangeKind};
use std::fmt;
use std::sync::Arc;

/// A queue or exchange that messages need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// A durable quorum queue. `dead_letters`: it names its dead-letter queue.
    Queue { name: String, dead_letters: bool },
    /// A durable topic exchange.
    Exchange { name: String },
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entity::Queue { name, .. } => write!(f, "queue {name}"),
            Entity::Exchange { name } => write!(f, "exchange {name}"),
        }
    }
}

/// The queue for messages of this queue that cannot be stored.
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}{DEAD_LETTERS}")
}

/// A queue, preceded by its dead-letter queue.
pub fn queue(name: &str) -> [Entity; 2] {
    let dead = Entity::Queue { name: dead_letter_queue(name), dead_letters: false };
    [dead, Entity::Queue { name: name.to_owned(), dead_letters: true }]
}

/// The queues that we consume.
pub fn inbound(amqp: &Amqp) -> Vec<Entity> {
    amqp.inbound_queues.iter().chain([&amqp.answer_queue]).flat_map(|name| queue(name)).collect()
}

/// The entities that messages to participants are published to. The broker's own exchanges exist already.
pub fn outbound(participants: &[Arc<Participant>]) -> Vec<Entity> {
    let mut entities: Vec<Entity> = Vec::new();
    for participant in participants {
        let Some(Channel::Amqp { exchange, routing_key }) = &participant.channel else { continue };
        let needed = match exchange.as_str() {
            "" => queue(routing_key).to_vec(),
            name if name.starts_with("amq.") => Vec::new(),
            name => vec![Entity::Exchange { name: name.to_owned() }],
        };
        for entity in needed {
            if !entities.contains(&entity) {
                entities.push(entity);
            }
        }
    }
    entities
}

/// Declares each entity, or checks that it exists. Returns a sentence for each that is not as it should be. A broker
/// that is lost meanwhile is not an error: everything is checked again with the next connection.
pub async fn ensure(connection: &Connection, entities: &[Entity], declare: bool) -> Vec<String> {
    let mut errors = Vec::new();
    let mut channel = None;
    for entity in entities {
        let open = match channel.take() {
            Some(open) => open,
            None => match connection.create_channel().await {
                Ok(open) => open,
                Err(_) => return errors,
            },
        };
        match declare_one(&open, entity, declare).await {
            Ok(()) => channel = Some(open),
            // A refusal closes the channel, so the next entity gets a new one.
            Err(error) => errors.extend(explain(entity, declare, &error)),
        }
    }
    errors
}

async fn declare_one(channel: &lapin::Channel, entity: &Entity, declare: bool) -> lapin::Result<()> {
    match entity {
        Entity::Queue { name, dead_letters } => {
            let options = QueueDeclareOptions { passive: !declare, durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.as_str().into(), options, arguments(name, *dead_letters)).await.map(drop)
        }
        Entity::Exchange { name } => {
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

/// What to change; None if the connection was lost.
fn explain(entity: &Entity, declare: bool, error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(reply) = error.kind() else { return None };
    let ours = match entity {
        Entity::Queue { dead_letters: true, name } => format!(
            "durable, x-queue-type=quorum, x-dead-letter-exchange=\"\", x-dead-letter-routing-key={}",
            dead_letter_queue(name)
        ),
        Entity::Queue { dead_letters: false, .. } => "durable, x-queue-type=quorum".into(),
        Entity::Exchange { .. } => "durable, type topic".into(),
    };
    let text = reply.get_message();
    let advice = match reply.get_id() {
        404 => format!("declare it ({ours}), or set amqp.declare = true"),
        403 => "give the router's user the permission, or set amqp.declare = false if it is declared elsewhere".into(),
        405 => "another connection has it exclusively; close that connection, or use another name".into(),
        406 => format!(
            "it exists with other settings than {ours}; delete it, or set amqp.declare = false to use it as it is"
        ),
        _ => format!("it should be {ours}"),
    };
    let verb = if declare { "cannot be declared" } else { "cannot be used" };
    Some(format!("{entity} {verb}: {advice}. The broker says: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participant(exchange: &str, routing_key: &str) -> Arc<Participant> {
        let channel = Some(Channel::Amqp { exchange: exchange.into(), routing_key: routing_key.into() });
        Arc::new(Participant { channel, ..Participant::new("lab") })
    }

    #[test]
    fn participants_queues_and_exchanges_are_declared_once_and_the_brokers_own_never() {
        let entities = outbound(&[
            participant("fhir.out", "lab"),
            participant("fhir.out", "ward"),
            participant("amq.topic", "x"),
            participant("", "ward.in"),
            Arc::new(Participant::new("none")),
        ]);
        let names: Vec<String> = entities.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["exchange fhir.out", "queue ward.in.dead", "queue ward.in"]);
    }
}
