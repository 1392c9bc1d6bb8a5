//! A router in this process of which one part ends unexpectedly.

use super::*;
use crate::config::Overrides;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

pub(super) async fn router_in(folder: &std::path::Path) -> Running {
    let variables = [
        ("EMBERPOST__SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("EMBERPOST__STORE__URL", format!("sqlite:{}", folder.join("store.db").display())),
        ("EMBERPOST__STORE__MIN_FREE_BYTES", "0".to_owned()),
        ("EMBERPOST__DEFINITIONS__PATHS", "[]".to_owned()),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(None, false, variables, &Overrides::default()).unwrap();
    start(&config, Definitions::default(), Clock::default()).await.unwrap()
}

async fn ready(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn a_part_that_ends_unasked_turns_readiness_503_by_name_and_the_stop_reports_it() {
    for part in ["courier", "retention", "listener"] {
        let folder = tempfile::tempdir().unwrap();
        let running = router_in(folder.path()).await;
        assert!(ready(running.address).await.starts_with("HTTP/1.1 200"));
        match part {
            "courier" => running.courier.abort(),
            "retention" => running.upkeep.abort(),
            _ => running.http.abort(),
        }
        tokio::time::timeout(SOON, running.supervisor.failure()).await.expect(part);
        assert_eq!(running.supervisor.failed(), [part]);
        if part != "listener" {
            let reply = ready(running.address).await;
            assert!(reply.starts_with("HTTP/1.1 503") && reply.contains(&format!("[\"{part}\"]")), "{reply}");
        }
        assert!(!running.stop().await, "{part}");
    }
}

#[tokio::test]
async fn a_router_that_is_stopped_ends_with_every_part_well() {
    let folder = tempfile::tempdir().unwrap();
    assert!(router_in(folder.path()).await.stop().await);
}

#[test]
fn the_base_path_is_what_follows_host_and_port() {
    assert_eq!(base_path("http://127.0.0.1:8080/fhir"), "/fhir");
    assert_eq!(base_path("https://a.example/x/y/"), "/x/y");
    assert_eq!(base_path("https://a.example"), "");
}
