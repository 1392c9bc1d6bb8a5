//! Two hundred messages, each damaged in some way that a person or a program could damage it: never an error of ours.

use crate::bad_input::assert_faults;
use crate::harness::{NodeConfig, Party, Peer, Sample};

const MUTATIONS: u64 = 200;

/// SplitMix64: small, and the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What programs write where something else should stand.
const VALUES: [&str; 14] = [
    "null",
    "true",
    "-0",
    "1e999",
    "1.50",
    "\"\"",
    "\" \"",
    "{}",
    "[]",
    "[[]]",
    "[null]",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "{\"reference\":\"#\"}",
];

/// One or a few changes: bytes, JSON values, members.
fn damaged(random: &mut Random, sample: &Sample) -> Vec<u8> {
    let mut text = sample.bytes();
    for _ in 0..=random.below(3) {
        let at = random.below(text.len());
        match random.below(7) {
            0 => text[at] = random.next() as u8,
            1 => drop(text.remove(at)),
            2 => text.truncate(at.max(1)),
            3 => {
                let end = (at + random.below(40)).min(text.len());
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
            4 => text = with_other_string(random, text),
            _ => text = with_other_value(random, text),
        }
    }
    text
}

/// Puts another JSON value where one string stood, member names included.
fn with_other_value(random: &mut Random, text: Vec<u8>) -> Vec<u8> {
    let Some((start, end)) = any_string(random, &text) else { return text };
    [&text[..start], random.pick(&VALUES).as_bytes(), &text[end..]].concat()
}

/// Puts one of the text's own strings where another stood.
fn with_other_string(random: &mut Random, text: Vec<u8>) -> Vec<u8> {
    let (Some(to), Some(from)) = (any_string(random, &text), any_string(random, &text)) else { return text };
    [&text[..to.0], &text[from.0..from.1], &text[to.1..]].concat()
}

fn any_string(random: &mut Random, text: &[u8]) -> Option<(usize, usize)> {
    let quotes: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'"').collect();
    let strings: Vec<_> = quotes.chunks_exact(2).map(|pair| (pair[0], pair[1] + 1)).collect();
    (!strings.is_empty()).then(|| *random.pick(&strings))
}

#[tokio::test]
async fn a_damaged_message_is_taken_or_refused_with_a_fault_and_never_an_error_of_ours() {
    let lab = Peer::answering(crate::harness::Answer::Empty(204)).await;
    let config = NodeConfig::with_sender().participant(Party::new("lab").at(&lab)).server("answer_timeout_ms = 2000");
    let node = config.start().await;
    let mut random = Random(20_260_101);
    let (mut taken, mut refused) = (0, 0);
    for number in 0..MUTATIONS {
        let sample = Sample::new().addressed_to("lab");
        let sample = if number % 3 == 0 { sample.r5() } else { sample };
        let body = damaged(&mut random, &sample);

        let reply = node.post(body.clone()).await;

        let told = String::from_utf8_lossy(&body);
        assert!(reply.status < 500, "mutation {number}: {} {}\n{told}", reply.status, reply.text());
        let is_refusal = reply.status >= 400 || reply.response_code().as_deref() == Some("fatal-error");
        if is_refusal {
            assert_faults(&reply);
            refused += 1;
        } else {
            taken += 1;
        }
    }
    // A mutation that damages all, or nothing, would prove nothing.
    assert!(taken > 10 && refused > 50, "{taken} taken, {refused} refused");
    assert_eq!(node.get("/health/ready").await.status, 200);
}
