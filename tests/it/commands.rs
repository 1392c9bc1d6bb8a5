//! The commands, as a person in a shell meets them: output, exit codes, help.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::harness::{
    Answer, Node, NodeConfig, Party, Peer, SOON, Sample, emberpost, free_address, program, wait_until,
};

async fn hub(lab: &Peer) -> Node {
    NodeConfig::with_sender().participant(Party::new("lab").at(lab)).start().await
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "out: {}\nerr: {}", out(output), err(output));
    out(output)
}

fn to(node: &Node) -> String {
    node.url("/fhir")
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn ids(ndjson: &str) -> Vec<String> {
    let ids =
        ndjson.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn a_folder_a_file_of_lines_and_standard_input_are_sent() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    let folder = tempfile::tempdir().unwrap();
    let message = || Sample::new().addressed_to("lab").bytes();
    write(folder.path(), "in/a.json", &message());
    write(folder.path(), "in/deep/b.fhir", &message());
    write(folder.path(), "in/notes.txt", b"not a message");
    let lines = [message(), message(), Vec::new()].join(&b'\n');
    let lines = write(folder.path(), "day.ndjson", &lines);
    let inbox = folder.path().join("in").display().to_string();

    let output = program(folder.path()).args(["send", &inbox, &lines, "--to", &to(&node)]).output().unwrap();
    let text = expect(&output, 0);
    for part in
        ["a.json 200 ok", "b.fhir 200 ok", "day.ndjson:1 200 ok", "day.ndjson:2 200 ok", "4 messages in", "4 ok"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(lab.count(), 4);

    let mut child = program(folder.path())
        .args(["send", "-", "--to", &to(&node)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&message()).unwrap();
    let text = expect(&child.wait_with_output().unwrap(), 0);
    assert!(text.contains("1 message in"), "{text}");
    assert_eq!(lab.count(), 5);
}

#[tokio::test]
async fn send_says_by_its_exit_code_how_it_went() {
    let lab = Peer::answering(Answer::Fatal).await;
    let node = hub(&lab).await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "a.json", &Sample::new().addressed_to("lab").bytes());
    let send = |file: &str, to: &str| program(folder.path()).args(["send", file, "--to", to]).output().unwrap();

    let text = expect(&send(&file, &to(&node)), 1);
    assert!(text.contains("200 fatal-error"), "{text}");
    let broken = write(folder.path(), "b.json", b"{");
    let text = expect(&send(&broken, &to(&node)), 1);
    assert!(text.contains(" 400") && text.contains("line 1"), "{text}");
    expect(&send("no-such-file.json", &to(&node)), 2);
    expect(&send(&file, "ftp://127.0.0.1/fhir"), 2);
    expect(&send(&file, &format!("http://{}/fhir", free_address())), 3);
}

#[tokio::test]
async fn lists_show_what_happened_and_follow_their_filters() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    for _ in 0..3 {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    node.post(Sample::new().to("http://nobody.example/fhir").bytes()).await;

    let table = expect(&node.command(&["messages"]), 0);
    assert!(table.starts_with("ID "), "{table}");
    assert_eq!(table.lines().count(), 1 + 4 * 2, "{table}");
    assert!(table.contains("refused") && table.contains("SEND_UNKNOWN_DESTINATION"), "{table}");
    let refused = ids(&expect(&node.command(&["messages", "--state", "refused", "--format", "ndjson"]), 0));
    assert_eq!(refused.len(), 1);
    let json = expect(&node.command(&["messages", "--sender", "sender", "--limit", "2", "--format", "json"]), 0);
    let items: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(items.as_array().unwrap().len(), 2);

    let shown = expect(&node.command(&["messages", "show", &refused[0]]), 0);
    for part in ["refused", "Issues:", "not-found", "Timeline:", "received", "checked"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    expect(&node.command(&["messages", "show", "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d"]), 1);

    let deliveries = expect(&node.command(&["deliveries", "--participant", "lab"]), 0);
    assert_eq!(deliveries.matches(" answered ").count(), 3, "{deliveries}");
    let nodes = expect(&node.command(&["nodes"]), 0);
    assert!(nodes.contains(&node.address().to_string()) && nodes.contains(env!("CARGO_PKG_VERSION")), "{nodes}");
    let participants = expect(&node.command(&["participants"]), 0);
    assert!(participants.lines().any(|line| line.starts_with("lab ") && line.contains("running")), "{participants}");
}

#[tokio::test]
async fn the_content_of_a_message_is_printed_byte_for_byte() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    let bytes = format!("\n{:#}  ", Sample::new().addressed_to("lab").value()).into_bytes();
    let reply = node.post(bytes.clone()).await.expect_status(200);
    let id = reply.header("emberpost-message-id").unwrap();
    let output = node.command(&["messages", "content", id]);
    expect(&output, 0);
    assert_eq!(output.stdout, bytes);
}

#[tokio::test]
async fn a_participant_is_paused_and_resumed_and_its_deliveries_discarded_and_retried() {
    let lab = Peer::ok().await;
    let config = NodeConfig::with_sender().server("answer_timeout_ms = 50");
    let node = config.participant(Party::new("lab").at(&lab)).start().await;
    let text = expect(&node.command(&["participants", "pause", "lab"]), 0);
    assert!(text.contains("lab is paused"), "{text}");
    expect(&node.command(&["participants", "pause", "nobody"]), 1);
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
    let list = expect(&node.command(&["deliveries", "--state", "waiting", "--format", "ndjson"]), 0);
    let id = ids(&list).remove(0);
    let text = expect(&node.command(&["deliveries", "discard", &id]), 0);
    assert_eq!(text, format!("{id}: discarded\n"));
    expect(&node.command(&["deliveries", "discard", &id]), 1);
    expect(&node.command(&["participants", "resume", "lab"]), 0);
    let text =
        expect(&node.command(&["deliveries", "retry", "--all-matching", "--state", "discarded", "--dry-run"]), 0);
    assert!(text.starts_with("1 deliveries match"), "{text}");
    assert_eq!(lab.count(), 0);
    expect(&node.command(&["deliveries", "retry", &id]), 0);
    lab.wait_for(1, SOON).await;
}

#[tokio::test]
async fn the_way_of_a_message_is_explained() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.json", &Sample::new().addressed_to("lab").bytes());
    let text = expect(&node.command(&["route", &good]), 0);
    for part in ["sender:", "sender", "goes to:", "lab", "Why:"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let lost = write(folder.path(), "lost.json", &Sample::new().to("urn:nobody").bytes());
    let text = expect(&node.command(&["route", &lost]), 1);
    assert!(text.contains("nobody") && text.contains("not-found"), "{text}");
    expect(&node.command(&["route", "no-such-file.json"]), 2);
    assert_eq!(lab.count(), 0);
}

#[tokio::test]
async fn a_replay_is_counted_and_ordered() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    for _ in 0..3 {
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    let words = ["replay", "--event", "patient-link", "--sender", "sender"];
    let text = expect(&node.command(&[&words[..], &["--dry-run"]].concat()), 0);
    assert_eq!(text, "3 messages match\n");
    assert_eq!(lab.count(), 3);
    // Nobody can be asked here, and nothing says yes.
    expect(&node.command(&words), 2);
    let text = expect(&node.command(&[&words[..], &["--yes"]].concat()), 0);
    assert!(text.contains("3 replayed, 0 left out"), "{text}");
    lab.wait_for(6, SOON).await;
    let text = expect(&node.command(&["replay", "--event", "no-such", "--yes"]), 0);
    assert!(text.contains("no message matches"), "{text}");
}

#[tokio::test]
async fn a_backup_of_a_running_router_opens_as_a_store_of_its_own_and_holds_the_messages() {
    crate::harness::sqlite_only!();
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    let message = Sample::new().addressed_to("lab");
    let first = node.post(message.bytes()).await.expect_status(200);
    let id = first.header("emberpost-message-id").unwrap();

    // The configuration says which store; so does the flag.
    let config = node.config_path().display().to_string();
    let backup = |words: &[&str]| program(node.folder()).args(["store", "backup"]).args(words).output().unwrap();
    let text = expect(&backup(&["monday.db", "--config", &config]), 0);
    assert!(text.contains("store.db") && text.contains("monday.db"), "{text}");
    expect(&backup(&["monday.db", "--config", &config]), 2);
    let url = format!("sqlite:{}", node.store_path().display());
    expect(&backup(&["tuesday.db", "--store", &url]), 0);
    // `emberpost.toml` of the working directory is read as every command reads it.
    expect(&backup(&["wednesday.db"]), 0);
    expect(&backup(&["thursday.db", "--store", "sqlite:no-such.db"]), 2);
    expect(&backup(&["thursday.db", "--store", "postgres://emberpost@127.0.0.1/emberpost"]), 2);

    for day in ["monday.db", "tuesday.db", "wednesday.db"] {
        let restored = node.folder().join(day);
        let store = format!("url = {}", toml::Value::String(format!("sqlite:{}", restored.display())));
        let restored = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).store(&store).start().await;
        let content = restored.get(&format!("/admin/v1/messages/{id}/content")).await.expect_status(200);
        assert_eq!(content.body, message.bytes(), "{day}");
        let repeat = restored.post(message.bytes()).await;
        assert_eq!((repeat.header("emberpost-repeat"), &repeat.body), (Some("true"), &first.body), "{day}");
    }
    assert_eq!(lab.count(), 1);
}

#[tokio::test]
async fn a_command_that_finds_no_server_is_exit_code_3() {
    let nobody = format!("http://{}", free_address());
    for words in
        [&["messages"][..], &["deliveries"], &["participants"], &["nodes"], &["replay", "--event", "x", "--dry-run"]]
    {
        let output = emberpost(&[words, &["--server", &nobody]].concat());
        expect(&output, 3);
        assert!(err(&output).contains(&nobody), "{}", err(&output));
    }
}

#[test]
fn what_is_not_built_says_its_name_and_does_nothing() {
    let output = emberpost(&["exchanges", "--overdue"]);
    expect(&output, 2);
    assert!(err(&output).contains("`emberpost exchanges` is not built yet"), "{}", err(&output));
}

/// The commands below one, as its help lists them.
fn commands_of(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_help_has_an_example_of_its_own_command() {
    let mut open = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = expect(&emberpost(&words), 0);
        let name = ["emberpost".to_owned()].into_iter().chain(path.clone()).collect::<Vec<_>>().join(" ");
        let examples = help.split("Example").nth(1).unwrap_or_else(|| panic!("{name} has no example:\n{help}"));
        assert!(examples.contains(&name), "{name}: its example is of another command:\n{help}");
        open.extend(commands_of(&help).into_iter().map(|child| path.iter().cloned().chain([child]).collect()));
        seen += 1;
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[tokio::test]
async fn tables_hold_what_senders_wrote_on_one_line_and_without_control_characters() {
    let lab = Peer::ok().await;
    let node = hub(&lab).await;
    let wicked = Sample::new().addressed_to("lab").event_of("http://x.example", "a\u{1b}[31mb\nc");
    node.post(wicked.bytes()).await;
    wait_until(SOON, "it is listed", async || !node.admin("messages").await["items"].as_array().unwrap().is_empty())
        .await;
    let table = expect(&node.command(&["messages"]), 0);
    assert!(!table.contains('\u{1b}'), "{table:?}");
    let count = node.admin("messages").await["items"].as_array().unwrap().len();
    assert_eq!(table.lines().count(), 1 + count, "{table:?}");
}
