//! The way out of a message that the client cannot read: a text property that is no UTF-8 ends its connection, each time
//! the broker brings the message, and nothing behind it would ever come.
//!
//! A few frames of AMQP 0-9-1 spoken by hand (chapter 4.2): consume the queue until a message comes whose properties the
//! client's own parser refuses, reject that one, so that the broker dead-letters it, and leave; the others are the broker's
//! again, in order: of one consumer, a quorum queue takes them back so, but not those that were got one by one. Without TLS
//! only.

use crate::config::BrokerUrl;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RESCUE_SECONDS: u64 = 30;
/// A queue that brings nothing for so long has no more.
const SILENCE: Duration = Duration::from_secs(1);
/// Frames that are longer are not read; brokers send 128 KiB as a rule.
const FRAME_LIMIT_BYTES: usize = 16 * 1024 * 1024;
const FRAME_END: u8 = 0xCE;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const CHANNEL: u16 = 1;
/// The consumer's.
const TAG: &str = "rescue";

/// Rejects the first message of the queue that the client cannot read, among the first `most`. False where there is none.
/// Errs with a sentence where the broker cannot be spoken to.
pub(super) async fn reject_unreadable(broker: &BrokerUrl, queue: &str, most: u16) -> Result<bool, String> {
    if broker.tls {
        return Err("messages that cannot be read are not looked for over TLS".into());
    }
    let looking = async {
        let mut wire = Wire::open(broker).await?;
        wire.consume(queue, most).await?;
        for _ in 0..most {
            match tokio::time::timeout(SILENCE, wire.delivery()).await {
                Err(_) => break,
                Ok(delivery) => match delivery? {
                    (_, true) => {}
                    (tag, false) => {
                        wire.reject(tag).await?;
                        return Ok(true);
                    }
                },
            }
        }
        Ok(false)
    };
    let looked = tokio::time::timeout(Duration::from_secs(RESCUE_SECONDS), looking).await;
    looked.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time"))).map_err(|error| error.to_string())
}

struct Wire(TcpStream);

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// Class and method, of a method frame.
    fn method(&self) -> Option<(u16, u16)> {
        match (self.kind, self.payload.as_slice()) {
            (METHOD, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        }
    }
}

impl Wire {
    async fn open(broker: &BrokerUrl) -> std::io::Result<Wire> {
        let mut wire = Wire(TcpStream::connect((broker.host.as_str(), broker.port)).await?);
        wire.0.write_all(b"AMQP\x00\x00\x09\x01").await?;
        wire.expect((10, 10)).await?;
        let secret = format!("\0{}\0{}", broker.user, broker.password.expose());
        let start_ok = [&[0; 4][..], &short("PLAIN"), &long(secret.as_bytes()), &short("en_US")].concat();
        wire.send(0, (10, 11), &start_ok).await?;
        let tune = wire.expect((10, 30)).await?;
        // Channels and frame size as the broker offers them; no heartbeat.
        let offered = tune.payload.get(4..10).ok_or_else(broken)?;
        wire.send(0, (10, 31), &[offered, &[0, 0]].concat()).await?;
        wire.send(0, (10, 40), &[&short(&broker.vhost)[..], &[0, 0]].concat()).await?;
        wire.expect((10, 41)).await?;
        wire.send(CHANNEL, (20, 10), &[0]).await?;
        wire.expect((20, 11)).await?;
        Ok(wire)
    }

    async fn consume(&mut self, queue: &str, most: u16) -> std::io::Result<()> {
        self.send(CHANNEL, (60, 10), &[&[0; 4][..], &most.to_be_bytes(), &[0]].concat()).await?;
        self.expect((60, 11)).await?;
        self.send(CHANNEL, (60, 20), &[&[0, 0][..], &short(queue), &short(TAG), &[0], &[0; 4]].concat()).await?;
        self.expect((60, 21)).await.map(drop)
    }

    /// The next message's tag, and whether the client can read its properties.
    async fn delivery(&mut self) -> std::io::Result<(u64, bool)> {
        let came = self.expect((60, 60)).await?;
        // Behind class and method stands the consumer's tag, which we gave, with its length.
        let tag = came.payload.get(5 + TAG.len()..13 + TAG.len());
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

    /// Has the broker dead-letter it, and closes, so that it has been done before the queue is consumed again.
    async fn reject(&mut self, tag: u64) -> std::io::Result<()> {
        self.send(CHANNEL, (60, 90), &[&tag.to_be_bytes()[..], &[0]].concat()).await?;
        let close = [&200_u16.to_be_bytes()[..], &short("done"), &[0; 4]].concat();
        self.send(0, (10, 50), &close).await?;
        // What was on its way to us comes before the answer.
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

/// Names of queues and hosts are bounded where they are configured.
fn short(text: &str) -> Vec<u8> {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    [&[bytes.len() as u8][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn broken() -> std::io::Error {
    std::io::Error::other("the broker answered with another frame than was asked for")
}
