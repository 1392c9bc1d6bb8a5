//! The store in SQLite: one database file that belongs to one process, with a single writing connection.
//!
//! All SQL of the store is in this folder. The methods of `Sqlite` are those of `Store`, which documents them.

pub(super) mod archive;
pub(super) mod backup;
pub(super) mod bulk;
pub(super) mod checkpoint;
pub(super) mod commit;
pub(super) mod connect;
pub(super) mod core;
pub(super) mod due;
pub(super) mod error;
pub(super) mod files;
pub(super) mod filter;
mod import;
pub(super) mod indexes;
pub(super) mod insert;
pub(super) mod lanes;
pub(super) mod leftover;
pub(super) mod lists;
pub(super) mod lookup;
pub(super) mod message_status;
pub(super) mod migrate;
pub(super) mod open;
pub(super) mod plan;
pub(super) mod probe;
pub(super) mod progress;
pub(super) mod recent;
pub(super) mod replay;
pub(super) mod restore;
pub(super) mod retention;
pub(super) mod retry;
pub(super) mod row;
pub(super) mod search;
pub(super) mod term;
pub(super) mod time;
pub(super) mod timeline;
pub(super) mod transfer;
pub(super) mod tries;
pub(super) mod verify;
pub(super) mod watch;
pub(super) mod writer;

use self::core::Core;
use self::error::unavailable;
use crate::clock::Clock;
use crate::delivery::Metadata;
use crate::store::{OpenError, StoreSettings, Unavailable, batch, prepare};
use fhir::identity::{IdentityKeys, Verdict};
use futures_util::FutureExt;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// An open store. Clones share it.
#[derive(Clone)]
pub(super) struct Sqlite {
    pub core: Arc<Core>,
}

impl Sqlite {
    pub async fn open(path: &Path, settings: StoreSettings, clock: Clock) -> Result<Sqlite, OpenError> {
        open::open(path, settings, clock).await.map(|core| Sqlite { core: Arc::new(core) })
    }

    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        let context = self.core.context();
        let message = prepare::identity_only(metadata, identity);
        let Some(lookups) = context.identity_query(&message) else { return Ok(Verdict::New) };
        let found = async {
            let mut conn = self.core.readers.acquire().await?;
            lookup::identities(&mut conn, &self.core.recent, &lookups).await
        };
        let identities = found.await.map_err(|error| unavailable(&error))?;
        Ok(batch::verdict(context, identities, &message))
    }

    pub async fn confirm_clock(&self) -> Result<(), Unavailable> {
        let core = &self.core;
        core.clock.confirm();
        tracing::warn!(now_us = core.clock.now_us(), "an operator confirmed the clock; expiry and retention continue");
        core.write(|core, writer| time::save(&core.clock, &mut writer.conn).boxed()).await
    }

    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let (watch, checkpoints) =
            (probe::watch(Arc::downgrade(&self.core)), checkpoint::run(Arc::downgrade(&self.core)));
        async move {
            tokio::join!(watch, checkpoints);
        }
    }
}
