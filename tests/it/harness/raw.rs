//! Connections without an HTTP client: for requests that no client would make.

use std::io::Write;
use std::net::SocketAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::SOON;
use super::node::PROCESS_MESSAGE;

/// A TCP connection to a node.
pub struct RawConnection(TcpStream);

impl RawConnection {
    pub async fn open(address: SocketAddr) -> RawConnection {
        RawConnection(TcpStream::connect(address).await.expect("the node does not take connections"))
    }

    /// Sends these bytes, whatever they are. False when the other side has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// All that comes until the other side closes the connection. Panics when it does not within ten seconds.
    pub async fn reply(mut self) -> String {
        let mut reply = Vec::new();
        // An error means that the connection was reset; what came before it counts.
        let end = tokio::time::timeout(SOON, self.0.read_to_end(&mut reply)).await;
        assert!(end.is_ok(), "the connection is still open; so far: {}", String::from_utf8_lossy(&reply));
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn half_close(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Closes the connection without reading: the client that hangs up.
    pub fn hang_up(self) {
        drop(self);
    }
}

/// The head of a POST to `$process-message` that announces `length` bytes; `more` holds further header lines, each with `\r\n`.
pub fn head(address: SocketAddr, length: usize, more: &str) -> Vec<u8> {
    let head = format!(
        "POST {PROCESS_MESSAGE} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/fhir+json\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
    );
    head.into_bytes()
}

/// Sends the head for the whole body, but only its first half.
pub async fn half_a_body(address: SocketAddr, body: &[u8]) -> RawConnection {
    let mut connection = RawConnection::open(address).await;
    connection.send(&head(address, body.len(), "")).await;
    connection.send(&body[..body.len() / 2]).await;
    connection
}

/// Sends a whole request; the caller reads the reply, or hangs up.
pub async fn whole_body(address: SocketAddr, body: &[u8], more: &str) -> RawConnection {
    let mut connection = RawConnection::open(address).await;
    connection.send(&head(address, body.len(), more)).await;
    connection.send(body).await;
    connection
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A few bytes that become `length` spaces, followed by nothing.
pub fn gzip_bomb(length: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), length as u64), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// JSON that nests arrays this deep.
pub fn nested(depth: usize) -> Vec<u8> {
    let mut text = br#"{"resourceType":"Bundle","type":"message","entry":"#.to_vec();
    text.resize(text.len() + depth, b'[');
    text.resize(text.len() + depth, b']');
    text.push(b'}');
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Peer, Sample};
    use super::*;

    #[tokio::test]
    async fn a_whole_body_is_answered_and_half_a_body_never_arrives() {
        let peer = Peer::ok().await;
        let message = Sample::new().bytes();
        let reply = whole_body(peer.address(), &message, "X-Test: 1\r\n").await.reply().await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        let mut half = half_a_body(peer.address(), &message).await;
        half.half_close().await;
        assert!(!half.reply().await.starts_with("HTTP/1.1 200"));
        assert_eq!(peer.count(), 1);
    }

    #[test]
    fn a_bomb_is_small_until_it_is_unpacked() {
        let bomb = gzip_bomb(10_000_000);
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        assert_eq!(
            std::io::copy(&mut flate2::read::GzDecoder::new(&bomb[..]), &mut std::io::sink()).unwrap(),
            10_000_000
        );
    }
}
