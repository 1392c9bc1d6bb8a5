//! Opens one connection to one broker: TLS, SASL, virtual host, heartbeat, a deadline.

use super::socket::{self, TlsFiles};
use crate::config::BrokerUrl;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use std::time::Duration;

const CONNECT_TIMEOUT_SECONDS: u64 = 10;

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
    let tls = broker.tls.then(|| TlsFiles::read(broker)).transpose().map_err(NotConnected::File)?;
    let options = ConnectionProperties::default().with_connection_name(name.into());
    let open = async move |uri: AMQPUri, _| {
        let stream = socket::open(&uri.authority.host, uri.authority.port, tls.as_ref()).await?;
        Ok(AsyncTcpStream::Plain(stream))
    };
    let connecting = Connection::connector(uri(broker), socket::runtime(), open, options);
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
