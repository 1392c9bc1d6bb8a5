//! The default start, as a newcomer has it: no configuration, the shipped definitions, their samples.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Answer, NodeConfig, Party, Peer, Reply, SOON, free_address, program, wait_for};

/// A router without any configuration, in a folder that holds `message-definitions/` and nothing else.
struct DefaultStart {
    address: SocketAddr,
    client: reqwest::Client,
    child: Child,
    folder: TempDir,
}

impl DefaultStart {
    async fn new() -> DefaultStart {
        let folder = TempDir::with_prefix("emberpost-it-").unwrap();
        std::os::unix::fs::symlink(shipped(), folder.path().join("message-definitions")).unwrap();
        let address = free_address();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = program(folder.path());
        command.args(["--log-format", "json", "serve", "--listen", &address.to_string()]);
        command.args(["--store", "sqlite:kept/store.db"]).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut router = DefaultStart { address, client, child, folder };
        let url = format!("http://{address}/health/ready");
        wait_for(SOON, "the default start is ready", async || {
            assert_eq!(router.child.try_wait().unwrap(), None, "it ended: {}", router.log());
            let answer = router.client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status() == 200).then_some(())
        })
        .await;
        router
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    async fn post(&self, bytes: Vec<u8>) -> Reply {
        let url = format!("http://{}/fhir/$process-message", self.address);
        let request = self.client.post(url).header("content-type", "application/fhir+json").body(bytes);
        Reply::of(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str, accept: &str) -> Reply {
        let request = self.client.get(format!("http://{}{path}", self.address)).header("accept", accept);
        Reply::of(request.send().await.unwrap()).await
    }
}

impl Drop for DefaultStart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- the router's log:\n{log}");
        } else {
            assert!(!log.contains("panicked at"), "{log}");
        }
    }
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("message-definitions")
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The identifier by which a response names this request: MessageHeader.id in R4, Bundle.identifier in R5 (MSG-37).
fn identifier_of(request: &Value) -> String {
    let header = &request["entry"][0]["resource"];
    let r5 = header["source"].get("endpointUrl").is_some();
    let identifier = if r5 { &request["identifier"]["value"] } else { &header["id"] };
    identifier.as_str().expect("a sample has an identifier").to_owned()
}

/// The resource that the response's focus names.
fn focus(reply: &Reply) -> Option<Value> {
    let header = reply.message_header()?;
    let reference = header.pointer("/focus/0/reference")?.as_str()?.to_owned();
    let bundle = reply.json();
    let entry = bundle["entry"].as_array()?.iter().find(|entry| entry["fullUrl"] == reference.as_str())?;
    Some(entry["resource"].clone())
}

#[tokio::test]
async fn the_default_start_takes_every_sample_and_each_gets_its_answer() {
    let router = DefaultStart::new().await;
    let files = json_files(&shipped().join("samples"));
    assert!(files.len() >= 15, "samples are missing: {files:?}");
    for file in &files {
        let sample = name(file);
        let bytes = fs::read(file).unwrap();
        let request: Value = serde_json::from_slice(&bytes).unwrap();
        let reply = router.post(bytes).await;
        assert_eq!(reply.status, 200, "{sample}: {}", reply.text());
        assert_eq!(reply.response_identifier(), Some(identifier_of(&request)), "{sample}: {}", reply.text());
        let code = reply.response_code().unwrap();
        if sample.starts_with("search-") || sample.starts_with("definition-count") {
            assert_eq!(code, "fatal-error", "{sample}: {}", reply.text());
            assert_eq!(reply.issue_codes(), ["not-supported"], "{sample}");
            assert!(reply.faults()[0].starts_with("SEND_"), "{sample}: {}", reply.text());
        } else {
            assert_eq!(code, "ok", "{sample}: {}", reply.text());
            assert_eq!(reply.issues(), Vec::<Value>::new(), "{sample}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn the_expansions_bring_their_data_in_r4_and_r5() {
    let router = DefaultStart::new().await;
    let sample = |name: &str| fs::read(shipped().join("samples").join(name)).unwrap();

    for file in ["valueset-expand-request.json", "valueset-expand-request-r5.json"] {
        let reply = router.post(sample(file)).await;
        let value_set = focus(&reply).unwrap_or_else(|| panic!("{file}: no focus: {}", reply.text()));
        assert_eq!(value_set["resourceType"], "ValueSet", "{file}");
        let contains = value_set["expansion"]["contains"].as_array().unwrap();
        assert!(contains.len() > 3 && contains.iter().all(|it| it["code"].is_string()), "{file}: {value_set}");
        let spelling = if file.contains("r5") { "endpointUrl" } else { "endpoint" };
        assert!(reply.message_header().unwrap()["source"][spelling].is_string(), "{file}: {}", reply.text());
    }
    let request = sample("CodeSystem-expand-request.json");
    let reply = router.post(request.clone()).await;
    let code_system = focus(&reply).unwrap_or_else(|| panic!("no focus: {}", reply.text()));
    assert_eq!(code_system["resourceType"], "CodeSystem");
    assert!(code_system["concept"].as_array().is_some_and(|concepts| concepts.len() > 3), "{code_system}");

    // There is no R5 sample of it: the same message in R5's spelling.
    let reply = router.post(in_r5(&request)).await;
    let header = reply.message_header().unwrap_or_else(|| panic!("no message: {}", reply.text()));
    assert!(header["source"]["endpointUrl"].is_string() && header["response"]["identifier"]["value"].is_string());
    assert_eq!(focus(&reply).unwrap()["resourceType"], "CodeSystem");
}

/// A request in R5's spelling, with an identity of its own.
fn in_r5(request: &[u8]) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(request).unwrap();
    bundle["id"] = "r5-of-it".into();
    bundle["identifier"] =
        serde_json::json!({ "system": "urn:ietf:rfc:3986", "value": "urn:uuid:5ca1ab1e-0000-4000-8000-000000000001" });
    let header = &mut bundle["entry"][0]["resource"];
    let url = header["source"].as_object_mut().unwrap().remove("endpoint").unwrap();
    header["source"]["endpointUrl"] = url;
    bundle.to_string().into_bytes()
}

#[tokio::test]
async fn every_shipped_definition_is_served_and_listed_in_the_capability_statement() {
    let router = DefaultStart::new().await;
    let resources: Vec<Value> =
        json_files(&shipped()).iter().map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect();
    let of = |kind: &str| resources.iter().filter(|it| it["resourceType"] == kind).cloned().collect::<Vec<_>>();
    let definitions = of("MessageDefinition");
    assert!(definitions.len() >= 30, "{}", definitions.len());

    let list = router.get("/fhir/MessageDefinition", "application/fhir+json").await.expect_status(200).json();
    let listed: Vec<&Value> = list["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]).collect();
    assert_eq!(listed.len(), definitions.len());
    let expected_canonicals: Vec<String> = definitions
        .iter()
        .map(|it| format!("{}|{}", it["url"].as_str().unwrap(), it["version"].as_str().unwrap()))
        .collect();
    for definition in &definitions {
        assert!(listed.contains(&definition), "{} is not listed as it is", definition["id"]);
        let path = format!("/fhir/MessageDefinition/{}", definition["id"].as_str().unwrap());
        let read = router.get(&path, "application/fhir+json").await.expect_status(200);
        assert_eq!(&read.json(), definition);
    }
    for operation in of("OperationDefinition") {
        let path = format!("/fhir/OperationDefinition/{}", operation["id"].as_str().unwrap());
        assert_eq!(router.get(&path, "application/fhir+json").await.expect_status(200).json(), operation);
    }
    router.get("/fhir/MessageDefinition/no-such", "application/fhir+json").await.expect_status(404);

    for (short, full) in [("4.0", "4.0.1"), ("4.3", "4.3.0"), ("5.0", "5.0.0")] {
        let accept = format!("application/fhir+json; fhirVersion={short}");
        let statement = router.get("/fhir/metadata", &accept).await.expect_status(200).json();
        assert_eq!((&statement["fhirVersion"], &statement["kind"]), (&full.into(), &"instance".into()));
        assert_eq!(statement["messaging"][0]["reliableCache"], 30 * 24 * 60);
        let supported = statement["messaging"][0]["supportedMessage"].as_array().unwrap();
        for canonical in &expected_canonicals {
            let times = supported.iter().filter(|it| it["definition"] == canonical.as_str()).count();
            assert_eq!(times, 1, "{canonical} in {short}");
        }
        assert!(statement["rest"][0]["operation"].as_array().unwrap().iter().any(|it| it["name"] == "process-message"));
    }
}

#[tokio::test]
async fn one_log_line_tells_of_each_message_and_none_of_its_content() {
    let router = DefaultStart::new().await;
    let secrets = ["Quarrelsome", "MRN-of-Ada", "ward.example.org"];
    let sample = fs::read_to_string(shipped().join("samples/patient-link-request.json")).unwrap();
    let text = sample.replace("\"Sample\"", "\"Quarrelsome\"").replace("\"1001\"", "\"MRN-of-Ada\"");
    assert!(secrets.iter().all(|secret| text.contains(secret)), "the sample changed: {text}");

    let reply = router.post(text.clone().into_bytes()).await;
    let id = reply.header("emberpost-message-id").unwrap().to_owned();
    // A refusal quotes nothing, either.
    let broken = text.replace("\"Patient\"", "\"Observation\"").replace("\"id\": \"", "\"id\": \"x");
    let refused = router.post(broken.into_bytes()).await;
    let refused_id = refused.header("emberpost-message-id").unwrap().to_owned();
    router.post(b"{\"resourceType\": \"Bundle\", \"Vanishing\": }".to_vec()).await.expect_status(400);

    let log = router.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}")))
        .collect();
    for id in [&id, &refused_id] {
        let about: Vec<&Value> =
            lines.iter().filter(|line| line["level"] == "INFO" && line.to_string().contains(id.as_str())).collect();
        assert_eq!(about.len(), 1, "{log}");
        assert!(about[0]["message.id"] == id.as_str() && about[0]["duration_ms"].is_number(), "{}", about[0]);
    }
    for secret in secrets.into_iter().chain(["Vanishing"]) {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// Of the shipped events notifications leave open whether they are answered; pull events are always.
#[tokio::test]
async fn a_receiver_that_says_204_closes_a_notification_and_not_a_pull_event() {
    let lab = Peer::answering(Answer::Empty(204)).await;
    let node = NodeConfig::new()
        .shipped_definitions()
        .server("answer_timeout_ms = 300")
        .participant(Party::new("ward").address("https://ward.example.org/*"))
        .participant(Party::new("lab").at(&lab))
        .toml("[[route]]\nto = [\"lab\"]")
        .start()
        .await;
    let sample = |name: &str| fs::read(shipped().join("samples").join(name)).unwrap();
    node.post(sample("patient-link-request.json")).await.expect_status(204);
    let pull = node.post(sample("valueset-expand-request.json")).await.expect_status(202);
    assert!(pull.header("content-location").is_some(), "the wait goes on at the status URL");
}
