//! The result of one message, whichever protocol carried it.

use super::answer::Verdict;
use crate::cli::source::Source;
use std::time::Duration;

#[derive(Debug)]
pub struct Sent {
    pub label: String,
    pub is_further: bool,
    pub verdict: Verdict,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `Emberpost-Message-Id` of the answer.
    pub message_id: Option<String>,
    /// The message is a duplicate, and this is the answer to its first copy.
    pub is_repeat: bool,
    /// Diagnostics of the first issue, or what failed.
    pub detail: Option<String>,
    /// From the request to the last byte of the answer; None without an answer.
    pub duration: Option<Duration>,
}

impl Sent {
    /// The state before sending, with the bytes to send; or the final result if they could not be read.
    pub fn begin(source: Source) -> Result<(Sent, Vec<u8>), Sent> {
        let sent = Sent {
            label: source.label,
            is_further: source.is_further,
            verdict: Verdict::Unreadable,
            status: None,
            message_id: None,
            is_repeat: false,
            detail: None,
            duration: None,
        };
        match source.bytes {
            Ok(bytes) => Ok((sent, bytes)),
            Err(error) => Err(Sent { detail: Some(error), ..sent }),
        }
    }
}
