//! Other people's clients with their defaults, as `examples/clients/run.py` runs them.

use crate::harness::Broker;
use std::process::{Command, Stdio};

/// Programs that are missing fail the tests when this variable is set.
const REQUIRE: &str = "EMBERPOST_REQUIRE_BROKER";

/// Runs one of them to its end; `needs` are the programs that it is made of.
async fn works(name: &str, needs: &[&str], on_broker: bool) {
    let missing = needs.iter().find(|program| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    });
    if let Some(program) = missing {
        assert!(std::env::var_os(REQUIRE).is_none(), "{program} is missing, and {REQUIRE} is set");
        eprintln!("skipped: {program} is missing");
        return;
    }
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/clients/run.py")).arg(name);
    command.env("EMBERPOST", env!("CARGO_BIN_EXE_emberpost")).stdin(Stdio::null());
    if on_broker {
        let Some(broker) = Broker::shared().await else { return };
        command.env("AMQP_URL", broker.url());
    }
    let output = tokio::task::spawn_blocking(move || command.output().expect("python3 runs")).await.expect("it ends");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}

#[tokio::test]
async fn kombu_publishes_with_its_defaults_and_is_answered() {
    works("kombu", &["python3"], true).await;
}

#[tokio::test]
async fn amqp_tools_publish_without_a_content_type_and_are_answered() {
    works("amqp-tools", &["python3", "amqp-publish"], true).await;
}

#[tokio::test]
async fn fhir_kit_client_reads_the_statement_and_sends_a_message() {
    works("fhir-kit-client", &["python3", "node", "npm"], false).await;
}

#[tokio::test]
#[ignore = "a minute: Maven downloads and compiles it; see examples/clients/README.md"]
async fn spring_amqp_sends_texts_and_bytes_with_its_default_converter() {
    works("spring-amqp", &["python3", "mvn", "java"], true).await;
}

#[tokio::test]
#[ignore = "a minute: Maven downloads and compiles it; see examples/clients/README.md"]
async fn hapi_sends_and_receives_in_r4_and_r5() {
    works("hapi", &["python3", "mvn", "java"], false).await;
}
