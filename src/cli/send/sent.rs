//! What came of one message, over whichever protocol it went.

use super::answer::Verdict;
use crate::cli::source::Source;
use std::time::Duration;

#[derive(Debug)]
pub struct Sent {
    pub label: String,
    pub is_further: bool,
    pub verdict: Verdict,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// `Emberpost-Message-Id` of the answer.
    pub message_id: Option<String>,
    /// The answer to an earlier copy of this message, given again.
    pub is_repeat: bool,
    /// Diagnostics of the first issue, or what broke.
    pub detail: Option<String>,
    /// From the request to the last byte of the answer; None where no answer came.
    pub duration: Option<Duration>,
}

impl Sent {
    /// Before anything was sent: with the bytes to send, or finished where they could not be read.
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
