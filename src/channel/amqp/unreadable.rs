//! Removes a message that the AMQP client library cannot decode from a queue, so that the queue can be consumed again.
//!
//! The library decodes a frame as a whole. A text property that is not valid UTF-8, or a header value of an unknown
//! type, is a parse error, and a parse error ends the connection (`io_loop` in lapin 4; the decoder of amq-protocol has
//! no lenient mode or hook). The broker redelivers the message on the next connection, which ends in the same way, and
//! nothing behind it is ever received. The delivery limit of quorum queues does not help: each lost connection also
//! counts against every other message in the prefetch window, so up to `amqp.prefetch` good messages would be
//! dead-lettered along with the bad one. `docs/decisions.md` has the details.
//!
//! So this module speaks the few AMQP 0-9-1 frames that are needed (chapter 4.2 of its specification), without TLS
//! only. It consumes the queue, checks each message's properties with the library's own decoder, rejects the first one
//! that cannot be decoded, so that the broker dead-letters it, and disconnects. The other messages return to the front
//! of the queue in order, because a quorum queue does that for messages of a consumer (but not for messages read with
//! `basic.get`).

use crate::config::BrokerUrl;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE_SECONDS: u64 = 30;
/// A queue that delivers nothing for this long is empty.
const SILENCE: Duration = Duration::from_secs(1);
/// Longer frames are an error; brokers usually send at most 128 KiB.
const FRAME_LIMIT_BYTES: usize = 16 * 1024 * 1024;
const FRAME_END: u8 = 0xCE;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const CHANNEL: u16 = 1;
/// Our consumer tag.
const TAG: &str = "emberpost-unreadable";

/// Rejects the first message among the first `most` of the queue that the client library cannot decode. False if there
/// is none. Errs with a sentence if the broker cannot be reached or answers unexpectedly.
pub(super) async fn reject_unreadable(broker: &BrokerUrl, queue: &str, most: u16) -> Result<bool, String> {
    if broker.tls {
        return Err("messages that cannot be decoded are not removed over TLS".into());
    }
    let looking = async {
        let mut connection = RawConnection::open(broker).await?;
        connection.consume(queue, most).await?;
        for _ in 0..most {
            match tokio::time::timeout(SILENCE, connection.delivery()).await {
                Err(_) => break,
                Ok(delivery) => match delivery? {
                    (_, true) => {}
                    (tag, false) => {
                        connection.reject(tag).await?;
                        return Ok(true);
                    }
                },
            }
        }
        Ok(false)
    };
    let looked = tokio::time::timeout(Duration::from_secs(DEADLINE_SECONDS), looking).await;
    looked
        .unwrap_or_else(|_| Err(std::io::Error::other("the broker did not answer in time")))
        .map_err(|error| error.to_string())
}

struct RawConnection(TcpStream);

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// Class and method of a method frame.
    fn method(&self) -> Option<(u16, u16)> {
        match (self.kind, self.payload.as_slice()) {
            (METHOD, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        }
    }
}

impl RawConnection {
    async fn open(broker: &BrokerUrl) -> std::io::Result<RawConnection> {
        let mut connection = RawConnection(TcpStream::connect((broker.host.as_str(), broker.port)).await?);
        connection.0.write_all(b"AMQP\x00\x00\x09\x01").await?;
        connection.expect((10, 10)).await?;
        let secret = format!("\0{}\0{}", broker.user, broker.password.expose());
        let start_ok = [&[0; 4][..], &short("PLAIN"), &long(secret.as_bytes()), &short("en_US")].concat();
        connection.send(0, (10, 11), &start_ok).await?;
        let tune = connection.expect((10, 30)).await?;
        // Accepts the broker's limits for channels and frame size; no heartbeat.
        let offered = tune.payload.get(4..10).ok_or_else(broken)?;
        connection.send(0, (10, 31), &[offered, &[0, 0]].concat()).await?;
        connection.send(0, (10, 40), &[&short(&broker.vhost)[..], &[0, 0]].concat()).await?;
        connection.expect((10, 41)).await?;
        connection.send(CHANNEL, (20, 10), &[0]).await?;
        connection.expect((20, 11)).await?;
        Ok(connection)
    }

    async fn consume(&mut self, queue: &str, most: u16) -> std::io::Result<()> {
        self.send(CHANNEL, (60, 10), &[&[0; 4][..], &most.to_be_bytes(), &[0]].concat()).await?;
        self.expect((60, 11)).await?;
        self.send(CHANNEL, (60, 20), &[&[0, 0][..], &short(queue), &short(TAG), &[0], &[0; 4]].concat()).await?;
        self.expect((60, 21)).await.map(drop)
    }

    /// The next message's delivery tag, and whether the client library can decode its properties.
    async fn delivery(&mut self) -> std::io::Result<(u64, bool)> {
        let received = self.expect((60, 60)).await?;
        // After class and method comes the consumer tag, with its length.
        let tag = received.payload.get(5 + TAG.len()..13 + TAG.len());
        let tag = tag.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let header = self.frame().await?;
        let size = header.payload.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(tag), Some(mut left), HEADER) = (tag, size, header.kind) else { return Err(broken()) };
        let readable = lapin::protocol::basic::parse_properties(&header.payload[12..]).is_ok();
        while left > 0 {
            let body = self.frame().await?;
            if body.kind != BODY {
                return Err(broken());
            }
            left = left.saturating_sub(body.payload.len() as u64);
        }
        Ok((tag, readable))
    }

    /// Rejects the message, and closes the connection, so that the broker has done so before the queue is consumed
    /// again.
    async fn reject(&mut self, tag: u64) -> std::io::Result<()> {
        self.send(CHANNEL, (60, 90), &[&tag.to_be_bytes()[..], &[0]].concat()).await?;
        let close = [&200_u16.to_be_bytes()[..], &short("done"), &[0; 4]].concat();
        self.send(0, (10, 50), &close).await?;
        // Frames that were already on their way arrive before the answer.
        while self.frame().await?.method() != Some((10, 51)) {}
        Ok(())
    }

    async fn send(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(arguments.len() + 4).map_err(|_| broken())?;
        let mut frame = vec![METHOD];
        frame.extend(channel.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([class.to_be_bytes(), method.to_be_bytes()].concat());
        frame.extend(arguments);
        frame.push(FRAME_END);
        self.0.write_all(&frame).await
    }

    async fn expect(&mut self, method: (u16, u16)) -> std::io::Result<Frame> {
        let frame = self.frame().await?;
        if frame.method() == Some(method) { Ok(frame) } else { Err(broken()) }
    }

    async fn frame(&mut self) -> std::io::Result<Frame> {
        let (kind, _channel) = (self.0.read_u8().await?, self.0.read_u16().await?);
        let length = self.0.read_u32().await? as usize;
        if length > FRAME_LIMIT_BYTES {
            return Err(broken());
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        if self.0.read_u8().await? == FRAME_END { Ok(Frame { kind, payload }) } else { Err(broken()) }
    }
}

/// Names of queues and hosts are bounded by the configuration.
fn short(text: &str) -> Vec<u8> {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    [&[bytes.len() as u8][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn broken() -> std::io::Error {
    std::io::Error::other("the broker answered with an unexpected frame")
}
