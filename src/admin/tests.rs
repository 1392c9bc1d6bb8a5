use super::*;
use crate::delivery::DeliveryState;
use crate::exchange::fixture::{Fixture, StoredMessage};
use crate::fault::Fault;
use crate::security::{Operator, Role, sha256_hex};
use crate::supervisor::Supervisor;
use axum::body::Body;
use axum::http::Request;
use fhir::event::Category;
use serde_json::Value;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The API over a real store, without listeners.
struct Api {
    fixture: Fixture,
    router: Router,
    stop: CancellationToken,
}

struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    fn fault(&self) -> String {
        self.json()["issue"][0]["details"]["coding"][0]["code"].as_str().unwrap().to_owned()
    }
}

impl Api {
    async fn new(operators: Vec<Operator>) -> Api {
        let fixture = Fixture::new().await;
        let mut lab = crate::exchange::fixture::participant("lab");
        if !operators.is_empty() {
            lab.token_sha256 = vec![sha256_hex("lab-token").into()];
        }
        let credentials = Credentials::new(&[Arc::new(lab)], operators, "http://127.0.0.1:8080/fhir").unwrap();
        let stop = CancellationToken::new();
        let admin = Admin {
            exchange: fixture.exchange.clone(),
            security: Arc::new(ArcSwap::from_pointee(credentials)),
            replays: Replays::start(fixture.exchange.clone(), stop.clone(), &Supervisor::default()),
            node_name: "node".into(),
            started_at_us: 1,
            body_limit_bytes: 1000,
        };
        Api { fixture, router: router(admin), stop }
    }

    async fn open() -> Api {
        Api::new(Vec::new()).await
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/admin/v1{path}")).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, Body::empty()).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, None, body.to_owned()).await
    }

    async fn dead(&self, name: &str) -> StoredMessage {
        let kept = self.fixture.store(name, "push", None).await;
        self.fixture.settle(&kept, DeliveryState::Dead, Some(Fault::RecvRefused)).await;
        kept
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn team() -> Vec<Operator> {
    let operator = |name: &str, role| Operator {
        name: name.into(),
        token_sha256: vec![sha256_hex(&format!("{name}-token")).into()],
        role,
    };
    vec![operator("duty", Role::Operator), operator("eyes", Role::Viewer)]
}

#[test]
fn every_path_is_described() {
    let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut listed = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        listed.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let served: BTreeSet<String> =
        paths().iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect();
    assert_eq!(listed, served);
}

#[test]
fn every_filter_is_described() {
    let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let schemas = &described["components"]["schemas"];
    let names = |value: Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let messages = serde_json::to_value(crate::store::view::MessageFilter::default()).unwrap();
    let deliveries = serde_json::to_value(crate::store::view::DeliveryFilter::default()).unwrap();
    assert_eq!(names(schemas["MessageFilter"]["properties"].clone()), names(messages));
    assert_eq!(names(schemas["DeliveryFilter"]["properties"].clone()), names(deliveries));
}

/// Every member that the API returns is in the schema of its type.
#[tokio::test]
async fn every_member_is_described() {
    let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let schemas = &described["components"]["schemas"];
    let api = Api::new(Vec::new()).await;
    let stored = api.fixture.store("a", "push", Some(Category::Currency)).await;
    for (path, schema) in [
        ("/messages".to_owned(), "Message"),
        ("/deliveries".to_owned(), "Delivery"),
        (format!("/messages/{}/timeline", stored.id), "TimelineEntry"),
    ] {
        let item = api.get(&path).await.json()["items"][0].clone();
        for member in item.as_object().expect(schema).keys() {
            assert!(schemas[schema]["properties"].get(member).is_some(), "{schema}.{member} is not described");
        }
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_contract_says() {
    let api = Api::new(team()).await;
    let id = "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d";
    let content = format!("/messages/{id}/content");
    let cases = [
        ("GET", "/messages", 200, 200),
        ("GET", "/deliveries", 200, 200),
        ("GET", "/participants", 200, 200),
        ("GET", "/nodes", 200, 200),
        ("GET", "/stats", 200, 200),
        ("GET", "/openapi.json", 200, 200),
        ("GET", "/exchanges", 501, 501),
        ("GET", content.as_str(), 403, 404),
        ("POST", "/deliveries/retry", 403, 200),
        ("POST", "/deliveries/discard", 403, 400),
        ("POST", "/route", 403, 200),
        ("POST", "/replays", 403, 400),
        ("POST", "/participants/lab/pause", 403, 200),
        ("DELETE", "/replays/none", 403, 404),
    ];
    for (method, path, viewer, operator) in cases {
        for (token, status) in
            [(Some("eyes-token"), viewer), (Some("duty-token"), operator), (Some("lab-token"), 403), (None, 401)]
        {
            let answer = api.ask(method, path, token, Body::empty()).await;
            assert_eq!(answer.status, status, "{method} {path} {token:?}");
            if status == 403 {
                assert_eq!(answer.fault(), "ROUTE_PERMISSION");
            }
            assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
        }
    }
}

#[tokio::test]
async fn a_message_is_listed_shown_and_read_byte_for_byte() {
    let api = Api::open().await;
    let kept = api.fixture.store("a", "push", Some(Category::Currency)).await;
    api.fixture.store("b", "push", None).await;
    let page = api.get("/messages?event=push&limit=1").await.json();
    assert_eq!(page["items"][0]["header_id"], "b");
    let path = format!("/messages?event=push&limit=1&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(api.get(&path).await.json()["items"][0]["id"], kept.id.to_string());
    let shown = api.get(&format!("/messages/{}", kept.id)).await.json();
    assert_eq!(shown["deliveries"][0]["id"], kept.delivery.to_string());
    assert_eq!(shown["answers"], serde_json::json!([]));
    let content = api.get(&format!("/messages/{}/content", kept.id)).await;
    assert_eq!(content.bytes, b"{ \"id\" : \"a\" }");
    assert_eq!(content.headers["content-type"], "application/fhir+json");
    let timeline = api.get(&format!("/messages/{}/timeline", kept.id)).await.json();
    assert!(timeline["items"].as_array().unwrap().iter().any(|entry| entry["what"] == "committed"));
}

#[tokio::test]
async fn what_is_not_there_or_not_asked_well_is_said_as_an_outcome() {
    let api = Api::open().await;
    let none = "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d";
    let cases = [
        ("GET", "/messages?colour=red".to_owned(), "", 400, "SEND_REQUEST"),
        ("GET", "/messages?limit=501".to_owned(), "", 400, "SEND_REQUEST"),
        ("DELETE", "/messages".to_owned(), "", 405, "SEND_REQUEST"),
        ("GET", "/messages?since=yesterday".to_owned(), "", 400, "SEND_REQUEST"),
        ("GET", "/messages?cursor=x".to_owned(), "", 400, "SEND_REQUEST"),
        ("GET", format!("/messages/{none}"), "", 404, "ROUTE_NOT_FOUND"),
        ("GET", format!("/messages/{none}/content"), "", 404, "ROUTE_NOT_FOUND"),
        ("GET", format!("/messages/{none}/timeline"), "", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/messages/seven".to_owned(), "", 404, "ROUTE_NOT_FOUND"),
        ("POST", format!("/deliveries/{none}/retry"), "", 404, "ROUTE_NOT_FOUND"),
        ("POST", format!("/deliveries/{none}/discard"), "", 404, "ROUTE_NOT_FOUND"),
        ("GET", format!("/replays/{none}"), "", 404, "ROUTE_NOT_FOUND"),
        ("POST", "/participants/nobody/pause".to_owned(), "", 404, "ROUTE_NOT_FOUND"),
        ("POST", "/replays".to_owned(), "{}", 400, "SEND_REQUEST"),
        ("POST", "/replays".to_owned(), r#"{"event":"push","to":"nobody"}"#, 400, "SEND_REQUEST"),
        ("POST", "/replays".to_owned(), r#"{"event":"push","rate_per_second":0}"#, 400, "SEND_REQUEST"),
        ("POST", "/replays".to_owned(), r#"{"event":"push","colour":"red"}"#, 400, "SEND_REQUEST"),
        ("POST", "/deliveries/discard".to_owned(), "{}", 400, "SEND_REQUEST"),
        ("POST", "/deliveries/retry?participant=lab".to_owned(), "", 400, "SEND_REQUEST"),
        ("DELETE", format!("/replays/{none}?force=true"), "", 400, "SEND_REQUEST"),
        ("POST", "/deliveries/retry".to_owned(), r#"{"state":"waiting"}"#, 400, "SEND_REQUEST"),
        ("POST", "/route?from=lab".to_owned(), "{}", 400, "SEND_REQUEST"),
        ("GET", "/exchanges".to_owned(), "", 501, "ROUTE_NOT_BUILT"),
        ("GET", "/nothing".to_owned(), "", 404, "ROUTE_NOT_FOUND"),
    ];
    for (method, path, body, status, fault) in cases {
        let answer = api.ask(method, &path, None, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.fault(), fault, "{method} {path}");
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
    let large = api.post("/route", &"x".repeat(1001)).await;
    assert_eq!((large.status, large.fault().as_str()), (413, "SEND_TOO_LARGE"));
}

#[tokio::test]
async fn deliveries_are_listed_and_orders_count_first() {
    let api = Api::open().await;
    let dead = api.dead("a").await;
    api.fixture.store("b", "push", None).await;
    let page = api.get("/deliveries?state=dead&fault=RECV_REFUSED").await.json();
    assert_eq!(page["items"][0]["id"], dead.delivery.to_string());
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let counted = serde_json::json!({ "matched": 1, "done": 0 });
    assert_eq!(api.post("/deliveries/retry", r#"{"dry_run":true}"#).await.json(), counted);
    let filter = r#"{"filter":{"participant":"lab"},"dry_run":true}"#;
    assert_eq!(api.post("/deliveries/discard", filter).await.json(), counted);
    let again = api.post(&format!("/deliveries/{}/discard", dead.delivery), "").await;
    assert_eq!((again.status, again.fault().as_str()), (409, "SEND_REQUEST"));
}

#[tokio::test]
async fn a_replay_is_counted_ordered_and_shown_to_its_end() {
    let api = Api::open().await;
    api.fixture.store("a", "push", None).await;
    let count = api.post("/replays", r#"{"filter":{"event":"push"},"dry_run":true}"#).await;
    assert_eq!((count.status, count.json()["matched"].as_u64()), (200, Some(1)));
    let ordered = api.post("/replays", r#"{"filter":{"event":"push"},"to":"ward","rate_per_second":5}"#).await;
    assert_eq!(ordered.status, 201);
    let path = ordered.headers["location"].to_str().unwrap().trim_start_matches("/admin/v1").to_owned();
    let done = async {
        while api.get(&path).await.json()["state"] != "done" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), done).await.expect("the replay ends");
    assert_eq!(api.get(&path).await.json()["done"], 1);
    assert_eq!(api.post(&format!("{path}/resume"), "").await.status, 409);
    assert_eq!(api.ask("DELETE", &path, None, Body::empty()).await.status, 409);
}

#[tokio::test]
async fn a_pause_is_kept_and_shown_and_no_token_ever_is() {
    let api = Api::open().await;
    assert_eq!(api.post("/participants/lab/pause", "").await.status, 200);
    let page = api.get("/participants?limit=1").await.json();
    assert_eq!((page["items"][0]["id"].as_str(), page["items"][0]["paused"].as_bool()), (Some("lab"), Some(true)));
    assert!(!page.to_string().contains("sha256"));
    let rest = api.get(&format!("/participants?cursor={}", page["next"].as_str().unwrap())).await.json();
    assert_eq!(rest["items"][0]["id"], "ward");
    assert!(rest.get("next").is_none());
    assert_eq!(api.fixture.exchange.store.paused().await.unwrap(), ["lab"]);
    api.post("/participants/lab/resume", "").await;
    assert!(api.fixture.exchange.store.paused().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_plan_of_a_message_comes_with_its_outcome() {
    let api = Api::open().await;
    let plan = api.post("/route?sender=lab", "{}").await;
    assert_eq!(plan.status, 200);
    assert!(plan.json()["accepted"].is_boolean());
    assert!(plan.json().as_object().unwrap().contains_key("outcome"));
}
