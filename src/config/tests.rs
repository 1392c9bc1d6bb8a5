//! The configuration as a whole.

use super::*;
use crate::routing::Channel;

fn load_text(text: &str, variables: &[(&str, &str)], overrides: &Overrides) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    let variables: Vec<_> = variables.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    Config::load(Some(&path), true, variables.into_iter(), overrides).map_err(|errors| {
        let folder = format!("{}/", folder.path().display());
        errors.iter().map(|error| error.to_string().replace(&folder, "")).collect()
    })
}

fn load(text: &str) -> Result<Config, Vec<String>> {
    load_text(text, &[], &Overrides::default())
}

#[test]
fn with_nothing_configured_the_defaults_hold() {
    let config = Config::load(None, false, std::iter::empty(), &Overrides::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.base_url, "http://127.0.0.1:8080/fhir");
    assert_eq!(config.server.name, "127.0.0.1:8080");
    assert_eq!(config.server.body_limit_bytes, 20_971_520);
    assert_eq!(
        (config.server.answer_timeout_ms, config.server.max_in_flight, config.server.max_waiting),
        (30_000, 1024, 10_000)
    );
    assert_eq!(config.store.url, StoreUrl::Sqlite("emberpost-data/emberpost.db".into()));
    assert_eq!(config.store.min_free_bytes, 1_073_741_824);
    assert_eq!(config.retention.identities_days, 30);
    assert_eq!(config.definitions.paths, [Path::new("message-definitions")]);
    assert_eq!(config.definitions.unknown_events, UnknownEvents::Reject);
    assert_eq!((config.validation.level, config.validation.on_failure), (Level::Structure, OnFailure::Reject));
    assert!(config.participants.is_empty() && config.operators.is_empty() && config.routes.is_empty());
    assert_eq!(config.notices().len(), 1);
}

/// The text with every example line (`#key = …`, `#[[…]]`) made a setting.
fn with_examples() -> String {
    let is_example =
        |line: &str| line.starts_with("#[") || line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    DEFAULT_TOML.lines().map(|line| if is_example(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_stands_in_default_toml_below_a_line_that_explains_it() {
    let text = with_examples();
    let mut section = "";
    let mut explained = std::collections::BTreeSet::new();
    let mut before = "";
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            assert!(before.starts_with("# "), "{section}.{key} is not explained");
            explained.insert((section.to_owned(), key.to_owned()));
        }
        before = line;
    }
    for (section, keys) in keys::SECTIONS {
        for key in *keys {
            let told = explained.contains(&(section.to_string(), key.to_string()))
                || *key == "when" && text.contains("`when`");
            assert!(told, "{section}.{key} is missing in default.toml");
        }
    }
}

#[test]
fn the_examples_of_default_toml_load_and_show_the_true_defaults() {
    let config = load(&with_examples()).unwrap();
    let shown = &config.participants[0];
    let hidden = Participant::new("lab");
    assert_eq!(shown.may_send, hidden.may_send);
    assert_eq!(shown.may_receive, hidden.may_receive);
    assert_eq!((shown.order, shown.concurrency), (hidden.order, hidden.concurrency));
    assert_eq!(shown.attempt_timeout_seconds, hidden.attempt_timeout_seconds);
    assert_eq!(shown.retry_schedule_seconds, hidden.retry_schedule_seconds);
    assert_eq!(shown.expire_after_seconds, hidden.expire_after_seconds);
    assert_eq!(shown.rejections, hidden.rejections);
    assert_eq!(config.operators[0].role, Role::Operator);
    assert_eq!(config.routes[0].to, ["lab"]);
    assert_eq!(config.table(&config.server.base_url).unwrap().routes.len(), 1);
}

#[test]
fn file_variables_and_flags_lie_over_each_other() {
    let text =
        "[server]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 7\nmax_waiting = 7\n[store]\nurl = \"sqlite:file.db\"\n";
    let variables = [
        ("EMBERPOST__SERVER__LISTEN", "127.0.0.1:2"),
        ("EMBERPOST__SERVER__MAX_IN_FLIGHT", "8"),
        ("EMBERPOST__SERVER__NAME", "8080"),
        ("EMBERPOST__STORE__URL", "sqlite:variable.db"),
        ("EMBERPOST__DEFINITIONS__FAN_OUT", "[\"a\", 'b']"),
        ("EMBERPOST__DEFINITIONS__PATHS", "folder"),
        ("PATH", "/bin"),
    ];
    let overrides = Overrides { listen: Some("127.0.0.1:3".into()), store_url: None };
    let config = load_text(text, &variables, &overrides).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!((config.server.max_in_flight, config.server.max_waiting), (8, 7));
    assert_eq!(config.server.name, "8080");
    assert_eq!(config.store.url, StoreUrl::Sqlite("variable.db".into()));
    assert_eq!(config.definitions.fan_out, ["a", "b"]);
    assert_eq!(config.definitions.paths, [Path::new("folder")]);
    assert_eq!(config.server.base_url, "http://127.0.0.1:3/fhir");
}

#[test]
fn every_error_of_every_layer_is_reported_at_once_with_its_location() {
    let text = r#"[server]
lisen = "127.0.0.1:1"
base_url = "ftp://x"
body_limit_bytes = "20 MB"
max_in_flight = 0
[store]
url = "postgres://user@host"
[sever]
[amqp]
url = "http://x"
[definitions]
unknown_events = "rejekt"
[[participant]]
id = "lab"
adresses = ["urn:a"]
addresses = ["urn:b"]
channel = { type = "amqp", exchange = "x" }
retry_schedule_seconds = []
token_sha256 = "secret-token"
[[participant]]
id = "ward"
addresses = ["urn:b"]
channel = { type = "http", url = "lab.example.org" }
fhir_version = "3.0"
order = "patient"
[[operator]]
name = "duty"
[[route]]
when = "true"
to = ["nobody"]
"#;
    let variables = [("EMBERPOST__SERVER__NAMES", "x"), ("EMBERPOST__PARTICIPANT__ID", "x"), ("EMBERPOST__X", "1")];
    let overrides = Overrides { listen: Some("here".into()), store_url: None };
    let expected = [
        "EMBERPOST__X: a variable must have the form EMBERPOST__SECTION__KEY",
        "EMBERPOST__PARTICIPANT__ID: [[participant]] can be set in the file only, not by a variable",
        "x.toml:8: there is no section \"sever\"; did you mean \"server\"?",
        "x.toml:10: url must begin with amqp:// or amqps://",
        "x.toml:2: [server] has no key \"lisen\"; did you mean \"listen\"?",
        "EMBERPOST__SERVER__NAMES: [server] has no key \"names\"; did you mean \"name\"?",
        "--listen: listen must be an IP address and port such as 127.0.0.1:8080, not \"here\"",
        "x.toml:3: base_url must be an http or https URL such as https://host.example.org/fhir",
        "x.toml:4: body_limit_bytes must be a number from 1024 to 1073741824, not a string",
        "x.toml:5: max_in_flight must be from 1 to 1000000, not 0",
        "x.toml:7: url names no database, as in postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        "x.toml:12: unknown_events must be one of \"reject\", \"route\", not \"rejekt\"; did you mean \"reject\"?",
        "x.toml:15: participant \"lab\" has no key \"adresses\"; did you mean \"addresses\"?",
        "x.toml:17: routing_key is missing: a channel of type \"amqp\" needs one",
        "x.toml:18: retry_schedule_seconds must not be empty",
        "x.toml:19: token_sha256 must be a SHA-256, 64 lower-case hex digits, never the token itself",
        "x.toml:23: url must be an http or https URL such as https://host.example.org/fhir",
        "x.toml:24: fhir_version must be one of \"4.0\", \"4.3\", \"5.0\", not \"3.0\"",
        "x.toml:25: order must be one of \"none\", \"sender\", \"subject\", not \"patient\"",
        "x.toml:26: token_sha256 is missing: an operator needs a token",
        "x.toml:29: when is set: FHIRPath conditions are not built yet",
        "x.toml:20: the participants \"lab\" and \"ward\" both claim the address \"urn:b\"",
        "x.toml:28: \"to\" names \"nobody\", which is not a participant",
    ];
    let found = load_text(text, &variables, &overrides).unwrap_err();
    assert_eq!(found, expected, "{found:#?}");
}

#[test]
fn beyond_loopback_a_credential_is_needed() {
    let server = "[server]\nlisten = \"0.0.0.0:8080\"\n";
    let refused = load(server).unwrap_err();
    assert!(refused[0].starts_with("x.toml:2: listen is not a loopback address"), "{refused:?}");
    assert_eq!(refused.len(), 1);
    let operator = format!("{server}[[operator]]\nname = \"duty\"\ntoken_sha256 = \"{}\"\n", "0a".repeat(32));
    let config = load(&operator).unwrap();
    assert!(config.notices().iter().any(|notice| notice.contains("base_url is not set")));
    assert!(!format!("{config:?}").contains("0a0a"), "token hashes are masked");
    assert_eq!(config.operators[0].role, Role::Viewer);
}

#[test]
fn a_token_names_one_party() {
    let hash = "0a".repeat(32);
    let text = format!(
        "[[participant]]\nid = \"lab\"\ntoken_sha256 = [\"{hash}\"]\n[[operator]]\nname = \"duty\"\ntoken_sha256 = \"{hash}\"\n"
    );
    let expected =
        ["x.toml:6: token_sha256 is also that of participant \"lab\"; a token must belong to one of them only"];
    assert_eq!(load(&text).unwrap_err(), expected);
}

#[test]
fn a_named_file_must_exist_and_the_usual_one_need_not() {
    let path = Path::new("no/such.toml");
    let load = |explicit| Config::load(Some(path), explicit, std::iter::empty(), &Overrides::default());
    assert!(load(false).unwrap().file.is_none());
    let errors = load(true).unwrap_err();
    assert_eq!(errors[0].location, "no/such.toml");
}

#[test]
fn a_base_url_that_is_not_set_follows_the_bound_socket() {
    let mut config = load("[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    config.set_bound_address("127.0.0.1:4711".parse().unwrap());
    assert_eq!((&*config.server.base_url, &*config.server.name), ("http://127.0.0.1:4711/fhir", "127.0.0.1:4711"));
    let mut config = load("[server]\nbase_url = \"https://hub.example.org/fhir/\"\n").unwrap();
    config.set_bound_address("127.0.0.1:4711".parse().unwrap());
    assert_eq!(
        (&*config.server.base_url, &*config.server.name),
        ("https://hub.example.org/fhir", "hub.example.org:443")
    );
}

#[test]
fn channels_are_checked_by_type() {
    let cases = [
        ("{ type = \"mailbox\" }", Ok(Some(Channel::Mailbox))),
        (
            "{ type = \"http\", url = \"http://a.org/fhir\", async = true }",
            Ok(Some(Channel::Http { url: "http://a.org/fhir".into(), asynchronous: true })),
        ),
        ("{ type = \"mailbox\", url = \"http://a.org\" }", Err("url is not a key of a channel of type \"mailbox\"")),
        ("{ type = \"repository\" }", Err("channel type \"repository\" is not built yet")),
        ("{ type = \"htpt\" }", Err("did you mean \"http\"?")),
        ("{ url = \"http://a.org\" }", Err("type is missing")),
        ("{ type = \"http\" }", Err("url is missing")),
        ("\"mailbox\"", Err("must be a section with keys, not a string")),
    ];
    for (channel, expected) in cases {
        let found = load(&format!("[[participant]]\nid = \"lab\"\nchannel = {channel}\n"));
        match (found, expected) {
            (Ok(config), Ok(expected)) => assert_eq!(config.participants[0].channel, expected),
            (Err(errors), Err(text)) => assert!(errors[0].contains(text), "{channel}: {errors:?}"),
            (found, _) => panic!("{channel}: {found:?}"),
        }
    }
}

#[test]
fn a_broken_file_reports_its_syntax_and_what_else_is_wrong() {
    let errors = load("[server]\nmax_in_flight = \nmax_waitin = 1\n").unwrap_err();
    assert!(errors[0].starts_with("x.toml:2: this is not valid TOML"), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("did you mean \"max_waiting\"?")), "{errors:?}");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_its_own() {
    let errors = load("listen = \"127.0.0.1:1\"\n[server]\nmin_free_bytes = 1\n").unwrap_err();
    let expected = [
        "x.toml:1: there is no section \"listen\"; it belongs to [server]",
        "x.toml:3: [server] has no key \"min_free_bytes\"; it belongs to [store]",
    ];
    assert_eq!(errors, expected);
}
