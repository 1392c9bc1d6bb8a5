//! Writes the missing terms before a search.

use super::core::Core;
use super::term;
use crate::store::Unavailable;
use futures_util::FutureExt;
use std::sync::Arc;

impl Core {
    /// Writes the missing terms of stored messages, before a search by terms.
    pub async fn write_terms(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.write(|_, writer| term::write_missing(&mut writer.conn, &mut writer.unwritten_terms).boxed()).await
    }

    /// Moves one slice of the references to the table that is sorted by hash.
    #[cfg(test)]
    pub async fn move_references(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.write(|_, writer| super::recent::move_slice(&writer.recent, &mut writer.conn).boxed()).await
    }
}
