//! Opens one connection to one broker: TLS, SASL, virtual host, heartbeat, a deadline.

use super::attempt::attempt;
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
    connect_within(Duration::from_secs(CONNECT_TIMEOUT_SECONDS), broker, name).await
}

/// When the time is up, or the caller drops this future, nothing of the attempt is left.
async fn connect_within(limit: Duration, broker: &BrokerUrl, name: &str) -> Result<Connection, NotConnected> {
    let tls = broker.tls.then(|| TlsFiles::read(broker)).transpose().map_err(NotConnected::File)?;
    let options = ConnectionProperties::default().with_connection_name(name.into());
    let (waiter, attempt) = attempt();
    let open = async move |uri: AMQPUri, _| {
        let stream = socket::open(&uri.authority.host, uri.authority.port, tls.as_ref(), &attempt).await?;
        Ok(AsyncTcpStream::Plain(stream))
    };
    let connecting = Connection::connector(uri(broker), socket::runtime(), open, options);
    let connection = tokio::time::timeout(limit, connecting).await.map_err(|_| NotConnected::Silent)??;
    waiter.connected();
    Ok(connection)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const ATTEMPTS: usize = 3;

    /// The client's end is closed, whatever it sent before.
    async fn until_closed(mut socket: TcpStream) {
        let closed = async { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the client closes its socket");
    }

    async fn listen(scheme: &str) -> (TcpListener, BrokerUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://guest:guest@{}/%2f", listener.local_addr().unwrap());
        (listener, BrokerUrl::parse(&url).unwrap())
    }

    #[tokio::test]
    async fn an_attempt_that_a_silent_broker_never_answers_leaves_no_socket_open() {
        for scheme in ["amqp", "amqps"] {
            let (listener, url) = listen(scheme).await;
            for _ in 0..ATTEMPTS {
                let connected = connect_within(Duration::from_millis(200), &url, "test").await;
                assert!(matches!(connected, Err(NotConnected::Silent)), "{scheme}: {connected:?}");
                until_closed(listener.accept().await.unwrap().0).await;
            }
        }
    }

    #[tokio::test]
    async fn an_attempt_that_stalls_after_the_first_bytes_leaves_no_socket_open() {
        let (listener, url) = listen("amqp").await;
        for _ in 0..ATTEMPTS {
            let broker = async {
                let mut socket = listener.accept().await.unwrap().0;
                socket.read_exact(&mut [0; 8]).await.unwrap();
                // The start of a frame on channel 0, which never ends.
                socket.write_all(&[1, 0, 0]).await.unwrap();
                socket
            };
            let limit = Duration::from_millis(200);
            let (connected, socket) = tokio::join!(connect_within(limit, &url, "test"), broker);
            assert!(matches!(connected, Err(NotConnected::Silent)), "{connected:?}");
            until_closed(socket).await;
        }
    }

    #[tokio::test]
    async fn an_attempt_whose_caller_gives_up_leaves_no_socket_open() {
        for scheme in ["amqp", "amqps"] {
            let (listener, url) = listen(scheme).await;
            let spoken_to = async {
                let socket = listener.accept().await.unwrap().0;
                socket.readable().await.unwrap();
                socket
            };
            let socket = tokio::select! {
                connected = connect(&url, "test") => panic!("{scheme}: {connected:?}"),
                socket = spoken_to => socket,
            };
            until_closed(socket).await;
        }
    }
}
