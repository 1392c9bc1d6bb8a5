//! The AMQP target of `send`: the broker's URL, the exchange, and the routing key.

use crate::cli::failure::Failure;
use crate::config::BrokerUrl;
use lapin::types::ShortString;

/// The queue of the examples and the documentation (`amqp.inbound_queues`).
const DEFAULT_QUEUE: &str = "fhir.inbound";

/// The options that apply to AMQP only.
#[derive(Debug, Default, clap::Args)]
pub struct Place {
    /// AMQP: the queue [default: fhir.inbound]
    #[arg(long, value_name = "NAME", conflicts_with = "exchange")]
    pub queue: Option<String>,
    /// AMQP: publish to this exchange instead of a queue
    #[arg(long, value_name = "NAME")]
    pub exchange: Option<String>,
    /// AMQP: the routing key of the messages [default: none]
    #[arg(long, value_name = "KEY", requires = "exchange")]
    pub routing_key: Option<String>,
}

impl Place {
    pub fn is_given(&self) -> bool {
        self.queue.is_some() || self.exchange.is_some()
    }
}

/// A broker with an exchange and a routing key.
#[derive(Clone)]
pub struct Address {
    pub broker: BrokerUrl,
    pub exchange: ShortString,
    pub routing_key: ShortString,
}

/// Whether the scheme is amqp or amqps.
pub fn is_amqp(to: &str) -> bool {
    to.split_once("://").is_some_and(|(scheme, _)| matches!(&*scheme.to_ascii_lowercase(), "amqp" | "amqps"))
}

impl Address {
    /// Fails for a URL without a host, and for names longer than 255 bytes, the limit of AMQP.
    pub fn new(to: &str, place: &Place) -> Result<Address, Failure> {
        let example = "give one such as amqp://user:password@host:5672/vhost";
        let broker =
            BrokerUrl::parse(to).map_err(|sentence| Failure::Usage(format!("--to: the URL {sentence}; {example}")))?;
        let queue = place.queue.as_deref().unwrap_or(DEFAULT_QUEUE);
        let (exchange, routing_key) = match &place.exchange {
            Some(exchange) => (exchange.as_str(), place.routing_key.as_deref().unwrap_or_default()),
            None => ("", queue),
        };
        if exchange.is_empty() && routing_key.is_empty() {
            return Err(Failure::Usage("the default exchange requires the name of a queue: give --queue NAME".into()));
        }
        let short = |name: &str| {
            let long =
                |_| Failure::Usage("names of queues and exchanges, and routing keys, have at most 255 bytes".into());
            ShortString::try_new(name).map_err(long)
        };
        Ok(Address { broker, exchange: short(exchange)?, routing_key: short(routing_key)? })
    }

    /// Why the broker could not route a message.
    pub fn no_route(&self) -> String {
        let key = &self.routing_key;
        match self.exchange.as_str() {
            "" => format!("the broker has no queue {key}: start the router that declares it, or give --queue"),
            exchange => format!("no queue is bound to the exchange {exchange} for the routing key \"{key}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(queue: Option<&str>, exchange: Option<&str>, routing_key: Option<&str>) -> Place {
        let owned = |text: Option<&str>| text.map(String::from);
        Place { queue: owned(queue), exchange: owned(exchange), routing_key: owned(routing_key) }
    }

    #[test]
    fn messages_go_to_the_inbound_queue_by_default() {
        for (place, exchange, routing_key) in [
            (Place::default(), "", "fhir.inbound"),
            (place(Some("lab.in"), None, None), "", "lab.in"),
            (place(None, Some("fhir"), Some("lab.#")), "fhir", "lab.#"),
            (place(None, Some("amq.fanout"), None), "amq.fanout", ""),
        ] {
            let address = Address::new("amqp://127.0.0.1", &place).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((address.exchange.as_str(), address.routing_key.as_str()), (exchange, routing_key));
        }
    }

    #[test]
    fn host_port_and_vhost_come_from_the_url() {
        for (to, host, port, vhost) in [
            ("amqp://u:p@rabbit/hub", "rabbit", 5672, "hub"),
            ("AMQPS://rabbit", "rabbit", 5671, "/"),
            ("amqp://[::1]:5673/%2f", "::1", 5673, "/"),
        ] {
            assert!(is_amqp(to), "{to}");
            let broker = Address::new(to, &Place::default()).unwrap_or_else(|error| panic!("{error}")).broker;
            assert_eq!((&*broker.host, broker.port, &*broker.vhost), (host, port, vhost), "{to}");
        }
    }

    #[test]
    fn a_wrong_url_is_wrong_usage_and_its_password_is_not_repeated() {
        let long = "q".repeat(256);
        let secret = "amqp://u:s3cret@h";
        for (to, place) in [
            ("amqp://u:s3cret@", Place::default()),
            ("amqp://u:s3cret@h:port", Place::default()),
            ("amqp:///vhost", Place::default()),
            ("amqp://u:s3cret@h?heartbeat=often", Place::default()),
            (secret, place(Some(&long), None, None)),
            (secret, place(Some(""), None, None)),
            (secret, place(None, Some(""), None)),
        ] {
            let error = Address::new(to, &place).err().unwrap_or_else(|| panic!("{to} was accepted"));
            assert_eq!(error.exit_code(), 2, "{to}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
