//! Closed by default: who is let in, who may do what, and that tokens stay secret.

use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Node, NodeConfig, Party, Peer, Reply, SOON, Sample, wait_until};

const SENDER_TOKEN: &str = "token-of-the-sender";
const LAB_TOKEN: &str = "token-of-the-lab";
const DUTY_TOKEN: &str = "token-of-duty";
const VIEWER_TOKEN: &str = "token-of-the-viewer";
const TOKENS: [&str; 4] = [SENDER_TOKEN, LAB_TOKEN, DUTY_TOKEN, VIEWER_TOKEN];

fn digest(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token(token: &str) -> String {
    format!("token_sha256 = \"{}\"", digest(token))
}

fn operators() -> String {
    let one = |name: &str, role: &str, of: &str| {
        format!("[[operator]]\nname = \"{name}\"\nrole = \"{role}\"\n{}\n", token(of))
    };
    one("duty", "operator", DUTY_TOKEN) + &one("desk", "viewer", VIEWER_TOKEN)
}

/// Sender and lab with a token each, an operator and a viewer.
fn closed(peer: &Peer) -> NodeConfig {
    NodeConfig::new()
        .participant(Party::sender().with(&token(SENDER_TOKEN)).with("may_send = [\"patient-link\"]"))
        .participant(Party::new("lab").at(peer).with(&token(LAB_TOKEN)))
        .toml(&operators())
}

async fn as_caller(node: &Node, method: Method, path: &str, token: Option<&str>) -> Reply {
    let mut request = node.request(method.clone(), path);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if method == Method::POST {
        request = request.header("content-type", "application/json").body("{}");
    }
    node.ask(request).await
}

#[tokio::test]
async fn without_credentials_only_direct_requests_are_served() {
    let node = NodeConfig::with_sender().start().await;
    let port = node.address().port();
    let paths = [(Method::GET, "/admin/v1/messages"), (Method::GET, "/metrics"), (Method::GET, "/fhir/async/x")];
    for (header, value) in [
        ("forwarded", "for=10.0.0.1".to_owned()),
        ("x-forwarded-for", "127.0.0.1".to_owned()),
        ("host", "evil.example".to_owned()),
        ("host", format!("evil.example:{port}")),
        ("origin", "https://evil.example".to_owned()),
        ("origin", "null".to_owned()),
    ] {
        let reply = node.ask(node.posting(Sample::new().bytes()).header(header, &value)).await;
        assert_eq!((reply.status, reply.faults()), (403, vec!["ROUTE_CLOSED".to_owned()]), "{header}: {value}");
        for (method, path) in &paths {
            let reply = node.ask(node.request(method.clone(), path).header(header, &value)).await;
            assert_eq!(
                (reply.status, reply.faults()),
                (403, vec!["ROUTE_CLOSED".to_owned()]),
                "{path} {header}: {value}"
            );
        }
    }
    for (header, value) in [
        ("host", format!("localhost:{port}")),
        ("host", format!("[::1]:{port}")),
        ("origin", format!("http://127.0.0.1:{port}")),
    ] {
        let reply = node.ask(node.posting(Sample::new().bytes()).header(header, &value)).await;
        assert_eq!(reply.response_code().as_deref(), Some("fatal-error"), "no destination: {}", reply.text());
    }
    assert_eq!(node.admin("messages").await["items"].as_array().unwrap().len(), 3 * 2, "messages and answers");
}

#[tokio::test]
async fn the_name_of_base_url_is_a_good_host_too() {
    let node = NodeConfig::with_sender().server("base_url = \"http://hub.example:8443/fhir\"").start().await;
    let with_host = |host: &str| node.request(Method::GET, "/admin/v1/stats").header("host", host.to_owned());
    for (host, status) in [("hub.example:8443", 200), ("hub.example", 200), ("hub.example:9", 403)] {
        assert_eq!(node.ask(with_host(host)).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_listen_address_beyond_loopback_without_credentials_is_refused() {
    let listen = format!("0.0.0.0:{}", crate::harness::free_address().port());
    let refused = NodeConfig::with_sender().server(&format!("listen = \"{listen}\"")).try_start().await;
    let failure = refused.err().expect("it started");
    assert_eq!(failure.exit_code, Some(2));
    assert!(
        failure.log.contains("not a loopback address") && failure.log.contains("emberpost.toml:"),
        "{}",
        failure.log
    );
}

#[tokio::test]
async fn a_token_opens_the_address_beyond_loopback() {
    let peer = Peer::ok().await;
    let port = crate::harness::free_address().port();
    let config = closed(&peer).server(&format!("listen = \"0.0.0.0:{port}\""));
    let folder = tempfile::tempdir().unwrap();
    let text = config.render(([0, 0, 0, 0], port).into(), folder.path());
    std::fs::write(folder.path().join("emberpost.toml"), text).unwrap();
    let output = crate::harness::program(folder.path()).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_message_needs_the_token_of_its_source() {
    let peer = Peer::ok().await;
    let node = closed(&peer).start().await;
    let message = || Sample::new().addressed_to("lab");

    let none = node.post(message().bytes()).await.expect_status(401);
    assert!(none.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{:?}", none.headers);
    assert_eq!(none.faults(), ["SEND_CREDENTIAL"]);
    let wrong = node.post_as("token-of-nobody", message().bytes()).await.expect_status(401);
    assert_eq!(wrong.faults(), ["SEND_CREDENTIAL"]);
    let foreign = node.post_as(LAB_TOKEN, message().bytes()).await.expect_status(403);
    assert_eq!(
        (foreign.faults(), foreign.issue_codes()),
        (vec!["SEND_FOREIGN_SOURCE".to_owned()], vec!["forbidden".to_owned()])
    );
    let event = node.post_as(SENDER_TOKEN, message().event("admin-notify").bytes()).await.expect_status(403);
    assert_eq!(event.faults(), ["SEND_FORBIDDEN_EVENT"]);
    node.post_as(DUTY_TOKEN, message().bytes()).await.expect_status(403);
    assert_eq!(peer.count(), 0);

    let good = node.post_as(SENDER_TOKEN, message().bytes()).await.expect_status(200);
    assert_eq!(good.response_code().as_deref(), Some("ok"));
    // Through a proxy, too: the token says who it is.
    let proxied = node.posting(message().bytes()).bearer_auth(SENDER_TOKEN).header("x-forwarded-for", "10.0.0.1");
    assert_eq!(node.ask(proxied).await.response_code().as_deref(), Some("ok"));
}

#[tokio::test]
async fn an_answer_is_taken_only_from_the_party_that_was_asked() {
    let peer = Peer::answering(crate::harness::Answer::Empty(202)).await;
    let node = closed(&peer).start().await;
    let request = Sample::new().addressed_to("lab");
    node.post_as(SENDER_TOKEN, request.bytes()).await;
    peer.wait_for(1, SOON).await;
    let forged = Sample::new().from("http://sender.example/fhir").answering(&request.header_id(), "ok");
    node.post_as(SENDER_TOKEN, forged.bytes()).await.expect_status(403);
    let answer = Sample::new().from("http://lab.example/fhir").answering(&request.header_id(), "ok");
    node.post_as(LAB_TOKEN, answer.bytes()).await.expect_status(200);
}

#[tokio::test]
async fn operators_viewers_and_participants_have_their_own_rights() {
    let peer = Peer::ok().await;
    let node = closed(&peer).start().await;
    let reply = node.post_as(SENDER_TOKEN, Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    let id = reply.header("emberpost-message-id").unwrap().to_owned();
    let content = format!("/admin/v1/messages/{id}/content");
    let shown = format!("/admin/v1/messages/{id}");

    let looks = ["/admin/v1/messages", &shown, "/admin/v1/deliveries", "/admin/v1/participants", "/admin/v1/stats"];
    let looks = looks.into_iter().chain(["/admin/v1/nodes", "/metrics"]).map(|path| (Method::GET, path));
    for (method, path) in looks {
        for (token, status) in [(DUTY_TOKEN, 200), (VIEWER_TOKEN, 200), (SENDER_TOKEN, 403), ("nobody", 401)] {
            assert_eq!(as_caller(&node, method.clone(), path, Some(token)).await.status, status, "{path} {token}");
        }
        assert_eq!(as_caller(&node, method, path, None).await.status, 401, "{path}");
    }
    let orders =
        ["/admin/v1/participants/lab/pause", "/admin/v1/participants/lab/resume", "/admin/v1/deliveries/retry"];
    let acts = orders.into_iter().map(|path| (Method::POST, path)).chain([(Method::GET, content.as_str())]);
    for (method, path) in acts {
        for (token, status) in [(VIEWER_TOKEN, 403), (SENDER_TOKEN, 403), ("nobody", 401), (DUTY_TOKEN, 200)] {
            assert_eq!(as_caller(&node, method.clone(), path, Some(token)).await.status, status, "{path} {token}");
        }
    }
    assert_eq!(node.get("/health/ready").await.status, 200, "health is for everybody");
}

#[tokio::test]
async fn tokens_and_their_digests_are_never_shown() {
    let peer = Peer::ok().await;
    let node = closed(&peer).variable("EMBERPOST_LOG", "debug").start().await;
    node.post_as(SENDER_TOKEN, Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    node.post_as("token-of-nobody", Sample::new().addressed_to("lab").bytes()).await.expect_status(401);
    let participants = as_caller(&node, Method::GET, "/admin/v1/participants", Some(DUTY_TOKEN)).await;
    assert_eq!(participants.json()["items"][0]["has_token"], json!(true));
    let server = format!("http://{}", node.address());
    let mut command = crate::harness::program(node.folder());
    command.args(["participants", "--format", "json", "--server", &server]).env("EMBERPOST_TOKEN", DUTY_TOKEN);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for shown in [node.log(), participants.text(), String::from_utf8_lossy(&output.stdout).into_owned()] {
        for secret in TOKENS.into_iter().chain(["token-of-nobody"]) {
            assert!(!shown.contains(secret), "{secret} is shown in\n{shown}");
            assert!(!shown.contains(&digest(secret)[..16]), "the digest of {secret} is shown in\n{shown}");
        }
    }
}

#[tokio::test]
async fn a_reload_brings_a_new_participant_and_a_new_token_and_ends_the_old_one() {
    let peer = Peer::ok().await;
    let mut node = closed(&peer).start().await;
    let message = || Sample::new().addressed_to("lab").bytes();
    node.post_as(SENDER_TOKEN, message()).await.expect_status(200);

    let rotated = NodeConfig::new()
        .participant(Party::sender().with(&token("second-token")))
        .participant(Party::new("lab").at(&peer).with(&token(LAB_TOKEN)))
        .participant(Party::new("clinic").with(&token("token-of-the-clinic")))
        .toml(&operators());
    node.reload(rotated);
    wait_until(SOON, "the new token counts", async || node.post_as("second-token", message()).await.status == 200)
        .await;
    node.post_as(SENDER_TOKEN, message()).await.expect_status(401);
    let of_clinic = Sample::new().from("http://clinic.example/fhir").addressed_to("lab").bytes();
    let reply = node.post_as("token-of-the-clinic", of_clinic).await.expect_status(200);
    assert_eq!(reply.response_code().as_deref(), Some("ok"));
}

#[tokio::test]
async fn nobody_who_lists_participants_sees_the_password_or_key_of_a_channel() {
    let lab = Peer::ok().await;
    let url = lab.url().replace("http://", "http://lab:hunter2@") + "/fhir";
    let node = NodeConfig::new()
        .participant(Party::sender().with(&token(SENDER_TOKEN)))
        .participant(Party::new("lab").url(&url).with(&token(LAB_TOKEN)))
        .participant(Party::new("ward").url("http://ward.example/fhir/hunter"))
        .toml(&operators())
        .start()
        .await;
    for caller in [VIEWER_TOKEN, DUTY_TOKEN] {
        let reply = as_caller(&node, Method::GET, "/admin/v1/participants", Some(caller)).await.expect_status(200);
        assert!(!reply.text().contains("hunter2"), "{}", reply.text());
        let listed = reply.json()["items"][1]["url"].clone();
        assert_eq!(listed, json!(format!("{}/fhir", lab.url())));
    }
    let sent = node.post_as(SENDER_TOKEN, Sample::new().addressed_to("lab").bytes()).await;
    sent.expect_status(200);
    let received = &lab.received()[0];
    assert!(received.header("authorization").is_some_and(|value| value.starts_with("Basic ")), "the channel uses it");
    assert!(!node.log().contains("hunter2"));
}
