//! How a command fails, and the exit code for each failure.

use std::io;

/// Why a command ended early, in a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration, or a feature that is not built: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// No connection, or it was lost: exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered and refused: exit code 1.
    #[error("{0}")]
    Refused(String),
    /// The result could not be written: exit code 1.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub fn exit_code(&self) -> i32 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Refused(_) => 1,
            // The reader closed the pipe, as `head` does: not a failure.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Failure::Output(_) => 1,
        }
    }

    /// Whether nothing should be printed: a closed pipe ends a command silently.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code of a finished command; prints its failure to standard error.
pub fn exit_code(result: Result<i32, Failure>) -> i32 {
    match result {
        Ok(code) => code,
        Err(failure) => {
            if !failure.is_silent() {
                eprintln!("emberpost: {failure}");
            }
            failure.exit_code()
        }
    }
}
