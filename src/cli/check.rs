//! `emberpost check`: reads configuration and definitions like `serve`, and prints the result as tables.
//!
//! Opens no socket and no store. Token hashes are counted, not shown; URLs are shown without user and password.

use crate::config::{Config, ConfigError, Overrides};
use crate::routing::{Channel, Order, Participant, Route};
use fhir::event::{Category, ResponseRequired};
use std::io::Write;
use std::path::Path;
use validation::definition::{Definition, Definitions};

/// Exit code of wrong usage or configuration.
const WRONG_CONFIGURATION: i32 = 2;

/// Reads the configuration (`--config`, else `emberpost.toml` if it exists) and the definitions. If they have errors, prints
/// each on a line of standard error with file and line, and returns 2; otherwise prints the tables and returns 0.
pub fn run(config: Option<&Path>) -> i32 {
    match check(config, &Overrides::default()) {
        Ok(report) => {
            // A reader that closes the pipe early is not a failure.
            let _ = std::io::stdout().lock().write_all(report.as_bytes());
            0
        }
        Err(mistakes) => {
            let mut errors = std::io::stderr().lock();
            for mistake in &mistakes {
                let _ = writeln!(errors, "{mistake}");
            }
            let _ = writeln!(errors, "{}", counted(mistakes.len(), "error"));
            WRONG_CONFIGURATION
        }
    }
}

/// The report, or every error of configuration and definitions, one per line.
fn check(path: Option<&Path>, overrides: &Overrides) -> Result<String, Vec<String>> {
    let lines = |mistakes: Vec<ConfigError>| mistakes.iter().map(ConfigError::to_string).collect::<Vec<_>>();
    let config = Config::open(path, overrides).map_err(lines)?;
    let (definitions, mistakes) = config.load_definitions(&[]);
    let mistakes = lines(mistakes);
    if mistakes.is_empty() { Ok(report(&config, &definitions)) } else { Err(mistakes) }
}

fn report(config: &Config, definitions: &Definitions) -> String {
    let file = config.file.as_ref().map_or("defaults only".to_owned(), |file| file.display().to_string());
    let mut rows = vec![
        row(["configuration", &file]),
        row(["listens on", &config.server.listen.to_string()]),
        row(["base", &config.server.base_url.clone()]),
        row(["name in Via", &config.server.name]),
        row(["store", &config.store.url.to_string()]),
        row(["operators", &config.operators.len().to_string()]),
    ];
    if let Some(amqp) = &config.amqp {
        rows.push(row(["brokers", &listed(&amqp.urls.iter().map(ToString::to_string).collect::<Vec<_>>())]));
        rows.push(row(["consumes", &listed(&amqp.inbound_queues)]));
        rows.push(row(["answer queue", &amqp.answer_queue]));
    }
    let mut report = aligned(&rows);
    let heading = row(["id", "channel", "order", "credential", "may send", "may receive", "addresses"]);
    let participants = config.participants.iter().map(participant_row).collect();
    table(&mut report, "participant", heading, participants);
    let heading = row(["event", "FHIR", "category", "response", "focus"]);
    let events = definitions.catalog.messages.iter().map(|definition| event_row(definition)).collect();
    table(&mut report, "event", heading, events);
    let heading = row(["route", "event", "source", "destination", "to"]);
    let routes = config.routes.iter().enumerate().map(|(index, route)| route_row(index, route)).collect();
    table(&mut report, "route", heading, routes);
    for notice in config.notices().iter().chain(&definitions.notices) {
        report.push_str(&format!("\nnotice: {notice}"));
    }
    report.push('\n');
    report
}

fn participant_row(participant: &Participant) -> Vec<String> {
    let channel = match &participant.channel {
        Some(Channel::Http { url, asynchronous: true }) => format!("http {} (async)", url),
        Some(Channel::Http { url, asynchronous: false }) => format!("http {}", url),
        Some(Channel::Amqp { exchange, routing_key }) => format!("amqp {exchange:?} {routing_key}"),
        Some(Channel::Mailbox) => "mailbox".to_owned(),
        None => "none (receives answers only)".to_owned(),
    };
    let order = match participant.order {
        Order::None => "none",
        Order::Sender => "sender",
        Order::Subject => "subject",
    };
    let credential = match participant.token_sha256.len() {
        0 => "none".to_owned(),
        number => counted(number, "token"),
    };
    let send = listed(&participant.may_send);
    let receive = listed(&participant.may_receive);
    row([&participant.id, &*channel, order, &credential, &send, &receive, &listed(&participant.addresses)])
}

fn event_row(definition: &Definition) -> Vec<String> {
    let category = match definition.category {
        Some(Category::Consequence) => "consequence",
        Some(Category::Currency) => "currency",
        Some(Category::Notification) => "notification",
        None => "-",
    };
    let response = match definition.response_required {
        Some(ResponseRequired::Always) => "always",
        Some(ResponseRequired::OnError) => "on-error",
        Some(ResponseRequired::Never) => "never",
        Some(ResponseRequired::OnSuccess) => "on-success",
        None => "-",
    };
    let focus = definition.focus.iter().map(|focus| {
        let most = focus.max.map_or("*".to_owned(), |most| most.to_string());
        format!("{} {}..{most}", focus.code, focus.min)
    });
    let focus = listed(&focus.collect::<Vec<_>>());
    let version = definition.fhir_version.map_or("-", |version| version.short());
    row([&*definition.event.to_string(), version, category, response, &focus])
}

fn route_row(index: usize, route: &Route) -> Vec<String> {
    let or_every = |condition: &Option<String>| condition.clone().unwrap_or_else(|| "every".to_owned());
    let (event, source, destination) = (or_every(&route.event), or_every(&route.source), or_every(&route.destination));
    row([&*(index + 1).to_string(), &event, &source, &destination, &listed(&route.to)])
}

fn table(report: &mut String, name: &str, heading: Vec<String>, rows: Vec<Vec<String>>) {
    report.push_str(&format!("\n{}\n", counted(rows.len(), name)));
    if !rows.is_empty() {
        let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
        report.push_str(&aligned(&rows));
    }
}

/// Rows as lines, each column as wide as its widest cell.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

fn counted(number: usize, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn check_text(text: &str, definition: Option<&str>) -> Result<String, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let definitions = folder.path().join("definitions");
        fs::create_dir(&definitions).unwrap();
        if let Some(definition) = definition {
            fs::write(definitions.join("event.json"), definition).unwrap();
        }
        let path = folder.path().join("x.toml");
        let text = format!("{text}\n[definitions]\npaths = [{:?}]\n", definitions.display().to_string());
        fs::write(&path, text).unwrap();
        let masked = |text: String| text.replace(&folder.path().display().to_string(), "FOLDER");
        let found = check(Some(&path), &Overrides::default());
        found.map(masked).map_err(|mistakes| mistakes.into_iter().map(masked).collect())
    }

    const PARTIES: &str = r#"
[[participant]]
id = "lab"
addresses = ["https://lab.example.org/fhir", "urn:oid:1.*"]
channel = { type = "http", url = "https://user:secret@lab.example.org/fhir" }
[[participant]]
id = "ward"
order = "none"
[[route]]
event = "patient-link"
to = ["lab"]
"#;

    #[test]
    fn participants_and_routes_are_shown_in_columns() {
        let report = check_text(PARTIES, None).unwrap();
        let expected = "
2 participants
  id    channel                            order   credential  may send  may receive  addresses
  lab   http https://lab.example.org/fhir  sender  none        *         *            https://lab.example.org/fhir, urn:oid:1.*
  ward  none (receives answers only)       none    none        *         *            -

0 events

1 route
  route  event         source  destination  to
  1      patient-link  every   every        lab
";
        assert!(report.contains(expected), "{report}");
        assert!(report.contains("notice: no credential"), "{report}");
        assert!(report.starts_with("  configuration  FOLDER/x.toml\n  listens on     127.0.0.1:8080\n"), "{report}");
    }

    #[test]
    fn the_broker_is_shown_without_its_password() {
        let report = check_text("[amqp]\nurl = \"amqp://hub:secret@mq.example.org\"\n", None).unwrap();
        for line in ["brokers", "amqp://mq.example.org:5672/", "consumes", "fhir.inbound", "emberpost.answers"] {
            assert!(report.contains(line), "{report}");
        }
        assert!(!report.contains("secret"), "{report}");
    }

    #[test]
    fn a_mistake_of_the_configuration_is_a_line_with_its_place() {
        let mistakes = check_text("[server]\nlisten = \"nowhere\"\nname = \"\"\n", None).unwrap_err();
        assert_eq!(mistakes.len(), 2);
        assert!(mistakes[0].starts_with("FOLDER/x.toml:2: listen must be"), "{mistakes:?}");
        assert_eq!(mistakes[1], "FOLDER/x.toml:3: name must not be empty");
    }

    #[test]
    fn a_wrong_configuration_ends_with_code_two() {
        assert_eq!(run(Some(Path::new("no/such/file.toml"))), 2);
    }
}
