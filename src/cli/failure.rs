//! How a command fails, and the exit code that says so.

use std::io;

/// Why a command ended before its work was done. Each is a plain sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration, or a feature that is not built: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// No connection, or it broke off: exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered, and the answer is no: exit code 1.
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
            // Who closes the pipe, as `head` does, has seen enough: nothing failed.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Failure::Output(_) => 1,
        }
    }

    /// Whether there is something to tell: a closed pipe ends a command in silence.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code of a finished command, with its failure told on standard error.
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
