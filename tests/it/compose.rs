//! The files for container engines. None runs here: they are read, and the configuration that they mount is checked.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::program;

const TO_JSON: &str = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose")
}

/// A YAML file as a value. None, with a line that says so, when nothing here can read YAML and it is not required.
fn yaml(name: &str) -> Option<Value> {
    let mut python = Command::new("python3");
    let said = python.args(["-c", TO_JSON]).arg(folder().join(name)).output();
    let said = match said {
        Ok(said) if !String::from_utf8_lossy(&said.stderr).contains("No module named 'yaml'") => said,
        _ => {
            assert!(std::env::var_os("EMBERPOST_REQUIRE_BROKER").is_none(), "python3 with PyYAML is not installed");
            eprintln!("skipped: python3 with PyYAML is not installed (tests/run installs it)");
            return None;
        }
    };
    assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    Some(serde_json::from_slice(&said.stdout).unwrap())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn ports_are_on_loopback_services_are_looked_after_and_what_is_named_is_there() {
    for (name, wanted) in [
        ("rabbitmq.yaml", "rabbitmq"),
        ("postgres.yaml", "postgres"),
        ("all.yaml", "rabbitmq"),
        ("all.yaml", "postgres"),
    ] {
        let Some(file) = yaml(name) else { return };
        let services = file["services"].as_object().unwrap();
        assert!(services.contains_key(wanted), "{name}");
        for (id, service) in services {
            if let Some(extended) = service.get("extends") {
                let other = yaml(extended["file"].as_str().unwrap()).unwrap();
                assert!(other["services"][extended["service"].as_str().unwrap()].is_object(), "{name}: {id}");
                continue;
            }
            let ports = texts(&service["ports"]);
            assert!(!ports.is_empty() && ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}: {ports:?}");
            assert!(service["healthcheck"]["test"].is_array(), "{name}: {id}");
            for volume in texts(&service["volumes"]) {
                let (source, _) = volume.split_once(':').unwrap();
                let known = file["volumes"].get(source).is_some() || folder().join(source).is_file();
                assert!(known, "{name}: {volume}");
            }
            if let Some(build) = service.get("build") {
                let context = folder().join(build["context"].as_str().unwrap());
                assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file(), "{name}: {build}");
            }
        }
    }
}

#[test]
fn the_mounted_configuration_passes_the_check() {
    let Some(file) = yaml("all.yaml") else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let mut check = program(elsewhere.path());
    check.args(["check", "--config"]).arg(folder().join("emberpost.toml"));
    for (name, value) in file["services"]["emberpost"]["environment"].as_object().unwrap() {
        check.env(
            name,
            value.as_str().unwrap().replace("${RABBITMQ_PASSWORD}", "secret").replace("${POSTGRES_PASSWORD}", "secret"),
        );
    }
    let said = check.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}{err}");
    assert!(out.contains("0.0.0.0:8080") && out.contains("lab.in") && !out.contains("secret"), "{out}");
}
