//! Opens one connection to one broker: TLS, SASL, virtual host, heartbeat, a deadline.

use crate::config::{BrokerUrl, read_regular_text};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Connect, Connection, ConnectionProperties};
use std::path::Path;
use std::time::Duration;

const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// Size limit of a certificate, a key, or a system's list of authorities.
const PEM_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// Why there is no connection; the text never contains the password.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    #[error("{0}")]
    File(String),
    #[error("{}", explained(.0))]
    Broker(#[from] lapin::Error),
    #[error("no answer within {CONNECT_TIMEOUT_SECONDS} seconds")]
    Silent,
}

/// Connects. The broker's list of connections shows `name`.
pub async fn connect(broker: &BrokerUrl, name: &str) -> Result<Connection, NotConnected> {
    let tls = tls(broker).map_err(NotConnected::File)?;
    let options = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = uri(broker).connect_with_config(options, tls, lapin::runtime::default_runtime()?);
    let connecting = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_SECONDS), connecting);
    Ok(connecting.await.map_err(|_| NotConnected::Silent)??)
}

/// The client library names the problem with a certificate, but not the remedy.
fn explained(error: &lapin::Error) -> String {
    let mut text = error.to_string();
    if text.contains("UnknownIssuer") {
        text += "; name the authority that signed the broker's certificate with the URL's parameter cacertfile";
    }
    text
}

fn uri(broker: &BrokerUrl) -> AMQPUri {
    AMQPUri {
        scheme: if broker.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: broker.user.clone(), password: broker.password.expose().to_owned() },
            host: broker.host.clone(),
            port: broker.port,
        },
        vhost: broker.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: broker.heartbeat_seconds,
            auth_mechanism: broker.external.then_some(SASLMechanism::External),
            ..AMQPQueryString::default()
        },
    }
}

fn tls(broker: &BrokerUrl) -> Result<OwnedTLSConfig, String> {
    let cert_chain = broker.ca_file.as_deref().map(read_text).transpose()?;
    let identity = match (&broker.cert_file, &broker.key_file) {
        (Some(certificate), Some(key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read_text(certificate)?.into(), key: read_text(key)?.into() })
        }
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

fn read_text(path: &Path) -> Result<String, String> {
    read_regular_text(path, PEM_LIMIT_BYTES).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
