//! AMQP frames by hand, for what no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Publishes `{}` to a queue of the default exchange with these bytes as its correlation_id.
pub fn publish_with_correlation(port: u16, queue: &str, correlation: &[u8]) {
    let mut wire = TcpStream::connect(("127.0.0.1", port)).unwrap();
    wire.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    assert_eq!(method(&mut wire), [0, 10, 0, 10]);
    let start_ok = [&[0; 4][..], b"\x05PLAIN", &[0, 0, 0, 12], b"\0guest\0guest", b"\x05en_US"].concat();
    send(&mut wire, 1, 0, &[&[0, 10, 0, 11][..], &start_ok].concat());
    assert_eq!(method(&mut wire), [0, 10, 0, 30]);
    send(&mut wire, 1, 0, &[0, 10, 0, 31, 0, 1, 0, 2, 0, 0, 0, 0]);
    send(&mut wire, 1, 0, &[0, 10, 0, 40, 1, b'/', 0, 0]);
    assert_eq!(method(&mut wire), [0, 10, 0, 41]);
    send(&mut wire, 1, 1, &[0, 20, 0, 10, 0]);
    assert_eq!(method(&mut wire), [0, 20, 0, 11]);
    // confirm.select, so that the message is there when this returns.
    send(&mut wire, 1, 1, &[0, 85, 0, 10, 0]);
    assert_eq!(method(&mut wire), [0, 85, 0, 11]);
    let short = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    send(&mut wire, 1, 1, &[&[0, 60, 0, 40, 0, 0, 0][..], &short(queue.as_bytes()), &[0]].concat());
    let flags = 1_u16 << 10;
    let header = [&[0, 60, 0, 0][..], &2_u64.to_be_bytes(), &flags.to_be_bytes(), &short(correlation)].concat();
    send(&mut wire, 2, 1, &header);
    send(&mut wire, 3, 1, b"{}");
    assert_eq!(method(&mut wire), [0, 60, 0, 80], "the message was not confirmed");
}

fn send(wire: &mut TcpStream, kind: u8, channel: u16, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    wire.write_all(&[&[kind][..], &channel.to_be_bytes(), &length, payload, &[0xCE]].concat()).unwrap();
}

/// Class and method of the next frame.
fn method(wire: &mut TcpStream) -> [u8; 4] {
    let mut head = [0; 7];
    wire.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut payload = vec![0; length + 1];
    wire.read_exact(&mut payload).unwrap();
    [payload[0], payload[1], payload[2], payload[3]]
}
