//! The section `[amqp]`, and the URL of a broker: `amqp(s)://user:password@host:port/vhost?parameters`.
//!
//! The parameters are those of RabbitMQ's URI query parameters (<https://www.rabbitmq.com/docs/uri-query-parameters>):
//! `heartbeat` (seconds), `auth_mechanism` (plain or external), `cacertfile`, `certfile`, `keyfile` (PEM files).

use super::section::Section;
use crate::secret::Secret;
use std::fmt;
use std::path::PathBuf;

/// The connection to RabbitMQ. Fields have the names of the keys in `default.toml`, which explains them.
#[derive(Clone, Debug, PartialEq)]
pub struct Amqp {
    /// Tried in turn; at least one.
    pub urls: Vec<BrokerUrl>,
    pub inbound_queues: Vec<String>,
    pub answer_queue: String,
    pub declare: bool,
    pub prefetch: u16,
}

/// One broker, its virtual host and our credential there.
#[derive(Clone, PartialEq)]
pub struct BrokerUrl {
    pub tls: bool,
    pub user: String,
    pub password: Secret,
    pub host: String,
    pub port: u16,
    pub vhost: String,
    /// None: the broker's suggestion.
    pub heartbeat_seconds: Option<u16>,
    /// SASL EXTERNAL: the broker authenticates us by our certificate.
    pub external: bool,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;
/// The length limit of AMQP's short strings, which include queue names.
const NAME_LIMIT_BYTES: usize = 255;
/// Suffix of the name of a dead-letter queue.
pub const DEAD_LETTERS: &str = ".dead";
const QUEUES_MOST: usize = 64;

impl Amqp {
    /// Whether the router consumes this queue or dead-letters to it.
    pub fn is_own_queue(&self, name: &str) -> bool {
        self.inbound_queues.iter().chain([&self.answer_queue]).any(|queue| is_queue_or_its_dead_letters(name, queue))
    }
}

/// Whether a name is that of this queue or of its dead-letter queue.
pub fn is_queue_or_its_dead_letters(name: &str, queue: &str) -> bool {
    name == queue || name.strip_suffix(DEAD_LETTERS) == Some(queue)
}

impl BrokerUrl {
    /// Errs with a sentence that does not quote the URL, because of its password.
    pub fn parse(text: &str) -> Result<BrokerUrl, String> {
        let url = reqwest::Url::parse(text).map_err(|error| format!("is not a valid URL: {error}"))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err("must begin with amqp:// or amqps://".into()),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?;
        let vhost = match url.path().strip_prefix('/') {
            // As in most clients: no path means the default virtual host.
            None | Some("") => "/".into(),
            Some(path) => decoded(path)?,
        };
        let mut broker = BrokerUrl {
            tls,
            user: if url.username().is_empty() { "guest".into() } else { decoded(url.username())? },
            password: url.password().map(decoded).transpose()?.map_or_else(|| "guest".into(), Secret::from),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(if tls { TLS_PORT } else { PORT }),
            vhost,
            heartbeat_seconds: None,
            external: false,
            ca_file: None,
            cert_file: None,
            key_file: None,
        };
        for (name, value) in url.query_pairs() {
            broker.set(&name, &value)?;
        }
        broker.check()?;
        Ok(broker)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let file = || Some(PathBuf::from(value));
        match name {
            "heartbeat" => {
                let seconds =
                    value.parse().map_err(|_| "has a heartbeat that is not a number of seconds (0 to 65535)")?;
                self.heartbeat_seconds = Some(seconds);
            }
            "auth_mechanism" => match value.to_ascii_lowercase().as_str() {
                "plain" => self.external = false,
                "external" => self.external = true,
                _ => return Err("has an auth_mechanism other than plain and external".into()),
            },
            "cacertfile" => self.ca_file = file(),
            "certfile" => self.cert_file = file(),
            "keyfile" => self.key_file = file(),
            _ => {
                return Err(format!(
                    "has the unknown parameter {name}; known are heartbeat, auth_mechanism, cacertfile, \
                     certfile and keyfile"
                ));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let files = self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some();
        match () {
            () if files && !self.tls => Err("names certificates, which need amqps://".into()),
            () if self.cert_file.is_some() != self.key_file.is_some() => {
                Err("needs both certfile and keyfile for a client certificate, or none".into())
            }
            () if self.external && self.cert_file.is_none() => {
                Err("asks for auth_mechanism=external, which needs certfile and keyfile".into())
            }
            () => Ok(()),
        }
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "has a part that is not UTF-8 text".into())
}

/// The broker and its virtual host, without the credentials.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let slash = if self.vhost.starts_with('/') { "" } else { "/" };
        write!(f, "{scheme}://{}:{}{slash}{}", self.host, self.port, self.vhost)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

pub fn amqp(section: &Section) -> Amqp {
    let urls = section.one_or_more_texts("url").unwrap_or_else(|| vec!["amqp://127.0.0.1".into()]);
    let say = |key: &str, text: String| section.report(key, text);
    let parsed = urls.iter().filter_map(|url| BrokerUrl::parse(url).map_err(|text| say("url", text)).ok()).collect();
    if urls.is_empty() {
        say("url", "must name a broker".into());
    }
    let amqp = Amqp {
        urls: parsed,
        inbound_queues: section.texts("inbound_queues").unwrap_or_else(|| vec!["fhir.inbound".into()]),
        answer_queue: section.text("answer_queue").unwrap_or_else(|| "emberpost.answers".into()),
        declare: section.flag("declare").unwrap_or(true),
        prefetch: section.number("prefetch", 1..=i64::from(u16::MAX)).map_or(256, |number| number as u16),
    };
    for queue in &amqp.inbound_queues {
        check_queue(section, "inbound_queues", queue);
    }
    check_queue(section, "answer_queue", &amqp.answer_queue);
    for (index, queue) in amqp.inbound_queues.iter().enumerate() {
        let others = amqp.inbound_queues[..index].iter().chain([&amqp.answer_queue]);
        if others
            .clone()
            .any(|other| is_queue_or_its_dead_letters(queue, other) || is_queue_or_its_dead_letters(other, queue))
        {
            say("inbound_queues", format!("names \"{queue}\", which is also another of the router's queues"));
        }
    }
    if amqp.inbound_queues.len() > QUEUES_MOST {
        say("inbound_queues", format!("names more than {QUEUES_MOST} queues"));
    }
    amqp
}

fn check_queue(section: &Section, key: &str, queue: &str) {
    if queue.starts_with("amq.") {
        section.report(key, format!("names \"{queue}\"; names that begin with amq. are reserved by the broker"));
    }
    if queue.len() + DEAD_LETTERS.len() > NAME_LIMIT_BYTES {
        section.report(key, "names a queue with a name of more than 250 bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_as_other_clients_name_it() {
        let broker = BrokerUrl::parse("amqp://ann:p%40ss@mq.example.org/%2f?heartbeat=30").unwrap();
        assert_eq!((&*broker.user, broker.password.expose(), &*broker.host), ("ann", "p@ss", "mq.example.org"));
        assert_eq!((broker.port, &*broker.vhost, broker.heartbeat_seconds), (5672, "/", Some(30)));
        assert_eq!(broker.to_string(), "amqp://mq.example.org:5672/");
        let broker = BrokerUrl::parse("amqps://[::1]/exchange").unwrap();
        assert_eq!((&*broker.host, broker.port, &*broker.vhost, &*broker.user), ("::1", 5671, "exchange", "guest"));
        for url in ["amqp://h", "amqp://h/", "amqp://h/%2f", "amqp://h/%2F"] {
            assert_eq!(BrokerUrl::parse(url).unwrap().vhost, "/", "{url}");
        }
        let tls = "amqps://h/?auth_mechanism=EXTERNAL&cacertfile=ca.pem&certfile=a.pem&keyfile=b.pem";
        assert!(BrokerUrl::parse(tls).unwrap().external);
    }

    #[test]
    fn what_cannot_be_meant_is_told_without_the_password() {
        for url in [
            "http://u:secret@h/",
            "amqp:secret",
            "amqp://u:secret@h/?heartbeat=often",
            "amqp://u:secret@h/?verify=no",
            "amqp://u:secret@h/?certfile=x",
            "amqps://u:secret@h/?certfile=x",
            "amqps://u:secret@h/?auth_mechanism=external",
            "amqps://u:secret@h/?auth_mechanism=magic",
        ] {
            let sentence = BrokerUrl::parse(url).expect_err(url);
            assert!(!sentence.contains("secret"), "{sentence}");
        }
        let broker = BrokerUrl::parse("amqp://u:secret@h").unwrap();
        assert!(!format!("{broker:?} {broker}").contains("secret"));
    }
}
