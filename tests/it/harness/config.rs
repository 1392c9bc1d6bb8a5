//! Configurations, written as a test would tell them.
//!
//! By default a node knows no definitions and takes every event, needs no room on its disk, and has no participants.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Peer, postgres};

/// The configuration of a node, less its address and folder, which each node gets for itself.
#[derive(Clone, Default)]
pub struct NodeConfig {
    /// Section to key to line: a key that is set twice has its last value.
    sections: BTreeMap<String, BTreeMap<String, String>>,
    participants: Vec<Party>,
    rest: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) prelude: Option<String>,
    pub(super) program: Option<PathBuf>,
    pub(super) stderr: StandardError,
}

/// Where the node's standard error leads.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum StandardError {
    /// To the file that `Node::log` reads.
    #[default]
    Log,
    /// To a pipe that nobody has open for reading.
    ClosedPipe,
    /// To a pipe that nobody reads from.
    UnreadPipe,
}

impl NodeConfig {
    pub fn new() -> NodeConfig {
        NodeConfig::default()
            .store("min_free_bytes = 0")
            .definitions("paths = []")
            .definitions("unknown_events = \"route\"")
    }

    /// A node with the participant `sender`, who owns the source addresses of `sample`.
    pub fn with_sender() -> NodeConfig {
        NodeConfig::new().participant(Party::sender())
    }

    pub fn participant(mut self, party: Party) -> NodeConfig {
        self.participants.push(party);
        self
    }

    pub fn server(self, line: &str) -> NodeConfig {
        self.set("server", line)
    }

    pub fn store(self, line: &str) -> NodeConfig {
        self.set("store", line)
    }

    pub fn retention(self, line: &str) -> NodeConfig {
        self.set("retention", line)
    }

    pub fn definitions(self, line: &str) -> NodeConfig {
        self.set("definitions", line)
    }

    pub fn validation(self, line: &str) -> NodeConfig {
        self.set("validation", line)
    }

    /// The node takes messages from `inbound_queue` of the broker at `url`, and answers to what it sent from `answer_queue`.
    pub fn amqp(self, url: &str, inbound_queue: &str, answer_queue: &str) -> NodeConfig {
        self.with_amqp(&format!("url = {}", quoted(url)))
            .with_amqp(&format!("inbound_queues = [{}]", quoted(inbound_queue)))
            .with_amqp(&format!("answer_queue = {}", quoted(answer_queue)))
            .with_amqp("declare = true")
            .with_amqp("prefetch = 256")
    }

    /// One line of `[amqp]`, such as `prefetch = 1` or a list of brokers' URLs.
    pub fn with_amqp(self, line: &str) -> NodeConfig {
        self.set("amqp", line)
    }

    /// The definitions that are shipped with the project, and unknown events refused, as without any configuration.
    pub fn shipped_definitions(self) -> NodeConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("message-definitions");
        let folder = toml::Value::String(folder.display().to_string());
        self.definitions(&format!("paths = [{folder}]")).definitions("unknown_events = \"reject\"")
    }

    /// Any further text, such as a `[[route]]` or an `[[operator]]`.
    pub fn toml(mut self, text: &str) -> NodeConfig {
        self.rest.push(text.to_owned());
        self
    }

    /// A variable of the node's environment, such as `EMBERPOST__SERVER__MAX_IN_FLIGHT`.
    pub fn variable(mut self, name: &str, value: &str) -> NodeConfig {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What a shell does before it becomes the node, such as `ulimit -n 200` or `exec 2>/dev/full`.
    pub fn prelude(mut self, script: &str) -> NodeConfig {
        self.prelude = Some(script.to_owned());
        self
    }

    /// Another build of the program, such as that of an earlier release.
    pub fn program(mut self, path: Option<&Path>) -> NodeConfig {
        self.program = path.map(Path::to_owned);
        self
    }

    pub fn standard_error(mut self, stderr: StandardError) -> NodeConfig {
        self.stderr = stderr;
        self
    }

    fn set(mut self, section: &str, line: &str) -> NodeConfig {
        let key = line.split('=').next().unwrap_or(line).trim();
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), line.to_owned());
        self
    }

    fn or_set(self, section: &str, key: &str, value: String) -> NodeConfig {
        let known = self.sections.get(section).is_some_and(|lines| lines.contains_key(key));
        let line = format!("{key} = {}", toml::Value::String(value));
        if known { self } else { self.set(section, &line) }
    }

    /// The file's text for a node on `address` whose store is in `folder`, unless the test said otherwise.
    pub fn render(&self, address: SocketAddr, folder: &Path) -> String {
        let whole = self
            .clone()
            .or_set("server", "listen", address.to_string())
            .or_set("server", "base_url", format!("http://{address}/fhir"))
            .or_set("store", "url", store_url(&folder.join("store.db")));
        let mut text = String::new();
        for (section, lines) in &whole.sections {
            let _ = writeln!(text, "[{section}]");
            for line in lines.values() {
                let _ = writeln!(text, "{line}");
            }
        }
        for part in self.participants.iter().map(Party::render).chain(self.rest.iter().cloned()) {
            let _ = writeln!(text, "\n{part}");
        }
        text
    }
}

/// One `[[participant]]`.
#[derive(Clone)]
pub struct Party {
    id: String,
    addresses: Vec<String>,
    channel: Option<String>,
    lines: Vec<String>,
}

impl Party {
    /// A participant that owns `http://<id>.example/*`, without a channel. `address` replaces that.
    pub fn new(id: &str) -> Party {
        Party { id: id.to_owned(), addresses: Vec::new(), channel: None, lines: Vec::new() }
    }

    /// The participant that sends the messages of `sample`; it has no channel.
    pub fn sender() -> Party {
        Party::new("sender")
    }

    /// One more address that it owns.
    pub fn address(mut self, address: &str) -> Party {
        self.addresses.push(address.to_owned());
        self
    }

    /// Its messages are posted to this FHIR base.
    pub fn url(self, url: &str) -> Party {
        let url = toml::Value::String(url.to_owned());
        self.channel(&format!("{{ type = \"http\", url = {url} }}"))
    }

    /// Its messages are posted to this peer.
    pub fn at(self, peer: &Peer) -> Party {
        self.url(&peer.url())
    }

    /// Its messages are published to this exchange.
    pub fn amqp(self, exchange: &str, routing_key: &str) -> Party {
        let (exchange, key) = (quoted(exchange), quoted(routing_key));
        self.channel(&format!("{{ type = \"amqp\", exchange = {exchange}, routing_key = {key} }}"))
    }

    /// The broker's user that it publishes with.
    pub fn amqp_user(self, user: &str) -> Party {
        self.with(&format!("amqp_user = {}", quoted(user)))
    }

    /// Its messages wait until it reads them.
    pub fn mailbox(self) -> Party {
        self.channel("{ type = \"mailbox\" }")
    }

    /// Any channel, as TOML.
    pub fn channel(mut self, channel: &str) -> Party {
        self.channel = Some(channel.to_owned());
        self
    }

    /// One more line, such as `order = "none"`.
    pub fn with(mut self, line: &str) -> Party {
        self.lines.push(line.to_owned());
        self
    }

    fn render(&self) -> String {
        let default = [format!("http://{}.example/*", self.id)];
        let addresses = if self.addresses.is_empty() { default.as_slice() } else { &self.addresses };
        let mut text = format!("[[participant]]\nid = \"{}\"\naddresses = {addresses:?}\n", self.id);
        if let Some(channel) = &self.channel {
            let _ = writeln!(text, "channel = {channel}");
        }
        text + &self.lines.join("\n")
    }
}

/// The store of a node: a file in its folder, or, with EMBERPOST_TEST_STORE=postgres, a database of its own.
pub fn store_url(file: &Path) -> String {
    match postgres::is_chosen() {
        true => postgres::shared().url_of(file),
        false => format!("sqlite:{}", file.display()),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[test]
fn a_configuration_is_toml_and_its_last_word_on_a_key_holds() {
    let config = NodeConfig::with_sender()
        .server("answer_timeout_ms = 1")
        .server("answer_timeout_ms = 500")
        .participant(Party::new("lab").url("http://127.0.0.1:1/fhir").with("concurrency = 1"))
        .toml("[[route]]\nto = [\"lab\"]");
    let text = config.render("127.0.0.1:8080".parse().unwrap(), Path::new("/folder"));
    let read: toml::Table = text.parse().unwrap();
    assert_eq!(read["server"]["answer_timeout_ms"].as_integer(), Some(500));
    assert_eq!(read["server"]["base_url"].as_str(), Some("http://127.0.0.1:8080/fhir"));
    assert_eq!(read["participant"][0]["addresses"][0].as_str(), Some("http://sender.example/*"));
    assert_eq!(read["participant"][1]["channel"]["type"].as_str(), Some("http"));
    assert_eq!(read["route"][0]["to"][0].as_str(), Some("lab"));
}

#[test]
fn a_configuration_tells_of_the_broker_and_of_the_parties_on_it() {
    let url = "amqp://guest:guest@127.0.0.1:1/%2f";
    let config = NodeConfig::with_sender()
        .amqp(url, "fhir.in", "answers")
        .with_amqp("prefetch = 1")
        .participant(Party::new("lab").amqp("fhir.out", "lab").amqp_user("lab-user"));
    let read: toml::Table = config.render("127.0.0.1:8080".parse().unwrap(), Path::new("/folder")).parse().unwrap();
    assert_eq!(read["amqp"]["url"].as_str(), Some(url));
    assert_eq!(read["amqp"]["inbound_queues"][0].as_str(), Some("fhir.in"));
    assert_eq!(read["amqp"]["answer_queue"].as_str(), Some("answers"));
    assert_eq!(read["amqp"]["prefetch"].as_integer(), Some(1));
    let lab = &read["participant"][1];
    assert_eq!(lab["channel"]["routing_key"].as_str(), Some("lab"));
    assert_eq!(lab["amqp_user"].as_str(), Some("lab-user"));
}
