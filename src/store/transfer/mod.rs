//! Moving a store into another database, verifying one, and reading archives back: `emberpost store copy`, `emberpost store check`,
//! and `emberpost import`.
//!
//! All work on the rows of tables (`table`), which are the same in every database, and read them in bounded pages. A side (`side`)
//! is a database that one of the commands has open; its SQL is in the folder of its backend.

mod check;
mod copy;
mod import;
mod import_batch;
mod import_row;
mod lanes;
pub(super) mod row;
mod side;
pub(super) mod table;

pub use check::{CheckReport, Checked, check};
pub use copy::{Copied, copy};
pub use import::{ImportProgress, Imported, import};

use super::OpenError;
use std::fmt;

/// How far a command has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What it does, and with which table.
    pub doing: &'static str,
    pub table: &'static str,
    pub rows: u64,
    /// Rows of the table; 0 if they are not known.
    pub of: u64,
}

/// Called after each page.
pub type Observer<'o> = &'o mut (dyn FnMut(Progress) + Send);

/// Why a command did not finish.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Nothing was done.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was done stays; the same command continues.
    #[error("{0}")]
    Failed(String),
    /// The copy is not the same as its source.
    #[error("{0}")]
    Differs(String),
}

fn refused<T>(text: impl fmt::Display) -> Result<T, TransferError> {
    Err(TransferError::Open(OpenError::Refused(text.to_string())))
}

fn failed(side: &side::Side) -> impl FnOnce(sqlx::Error) -> TransferError + use<> {
    let name = side.name().to_owned();
    move |error| TransferError::Failed(format!("the store {name} failed: {}", side::text(&error)))
}
