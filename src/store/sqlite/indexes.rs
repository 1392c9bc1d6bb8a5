//! What is written later than messages: their terms, and their references in order of hash.

use super::core::Core;
use super::{recent, term};
use crate::store::Unavailable;
use futures_util::FutureExt;
use std::sync::Arc;

impl Core {
    /// Writes the terms and moves the references of messages, once there are enough of them.
    pub async fn write_indexes(self: &Arc<Self>) {
        if self.writer.lock().await.unwritten_terms.is_due()
            && let Err(error) = self.write_terms().await
        {
            tracing::warn!(%error, "the terms of messages cannot be written; the next search tries again");
        }
        if self.recent.is_due()
            && let Err(error) = self.move_references().await
        {
            tracing::warn!(%error, "the references of messages cannot be moved; the next batch tries again");
        }
    }

    /// Writes the missing terms of stored messages, before a search by terms.
    pub async fn write_terms(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.write(|_, writer| term::write_missing(&mut writer.conn, &mut writer.unwritten_terms).boxed()).await
    }

    /// Moves one slice of the references to the table that is sorted by hash.
    pub async fn move_references(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.write(|_, writer| recent::move_slice(&writer.recent, &mut writer.conn).boxed()).await
    }
}
