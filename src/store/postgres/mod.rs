//! The store in PostgreSQL: a database that one process uses.
//!
//! All SQL of the backend is in this folder. The methods of `Postgres` are those of `Store`, which documents them.

pub(super) mod archive;
pub(super) mod commit;
pub(super) mod connect;
pub(super) mod core;
pub(super) mod delete;
pub(super) mod drop;
pub(super) mod due;
pub(super) mod error;
pub(super) mod figures;
pub(super) mod filter;
mod import;
pub(super) mod lanes;
pub(super) mod lists;
pub(super) mod lock;
pub(super) mod lookup;
pub(super) mod message_status;
pub(super) mod migrate;
pub(super) mod node;
pub(super) mod operations;
pub(super) mod partitions;
pub(super) mod plan;
pub(super) mod pool;
pub(super) mod probe;
pub(super) mod replay;
pub(super) mod retention;
pub(super) mod row;
pub(super) mod search;
pub(super) mod session;
pub(super) mod sql;
pub(super) mod statement;
pub(super) mod time;
pub(super) mod timeline;
pub(super) mod transfer;
mod transfer_rows;
pub(super) mod tries;
mod verify;
pub(super) mod write;

use self::connect::{Connector, Purpose, cannot_open};
use self::core::Core;
use self::error::unavailable;
use crate::clock::Clock;
use crate::delivery::Metadata;
use crate::secret::SecretUrl;
use crate::store::batch::{BatchFailure, BatchResult};
use crate::store::prepare::BatchJob;
use crate::store::{OpenError, StoreSettings, Unavailable, batch, prepare};
use fhir::identity::{IdentityKeys, Verdict};
use std::sync::Arc;
use uuid::Uuid;

/// An open store. Clones share it.
#[derive(Clone)]
pub(super) struct Postgres {
    pub core: Arc<Core>,
    /// The number of the writer that has this handle.
    pub writer: usize,
}

/// Connections that commit batches. The first one has the lock on the store.
pub(super) const WRITERS: usize = 2;

impl Postgres {
    pub async fn open(url: &SecretUrl, settings: StoreSettings, clock: Clock) -> Result<Postgres, OpenError> {
        let connector = Connector::new(url)?;
        let mut conn = connector.connect(Purpose::Write).await.map_err(cannot_open)?;
        connect::check_server(&mut conn).await?;
        migrate::run(&mut conn).await?;
        transfer::refuse_unfinished(&mut conn).await?;
        let participants = Core::read_participants(&mut conn).await.map_err(cannot_open)?;
        time::resume(&clock, &mut conn).await.map_err(cannot_open)?;
        partitions::begin(&mut conn, clock.now_us()).await.map_err(cannot_open)?;
        let node = node::register(&mut conn, clock.now_us()).await.map_err(cannot_open)?;
        connect::close(conn).await;
        // Attempts of the last run ended with its process. Rows stay "waiting" during an attempt, so nothing must be reset.
        let core = Core::new(settings, clock, &connector, (participants, node), WRITERS);
        Ok(Postgres { core: Arc::new(core), writer: 0 })
    }

    pub fn of_writer(&self, writer: usize) -> Postgres {
        Postgres { core: self.core.clone(), writer }
    }

    pub async fn commit(&self, jobs: &[BatchJob]) -> Result<Vec<BatchResult>, BatchFailure> {
        self.core.commit(self.writer, jobs).await
    }

    pub async fn close(&self) {
        match self.writer {
            0 => self.core.close().await,
            writer => self.core.detach(writer).await,
        }
    }

    pub async fn verdict(&self, metadata: &Metadata, identity: IdentityKeys) -> Result<Verdict<Uuid>, Unavailable> {
        let context = self.core.context();
        let message = prepare::identity_only(metadata, identity);
        let Some(lookups) = context.identity_query(&message) else { return Ok(Verdict::New) };
        let row = self.core.readers.one(&lookup::identities(&lookups)).await;
        let identities = row.and_then(|row| lookup::known(&row, &lookups)).map_err(|error| unavailable(&error))?;
        Ok(batch::verdict(context, identities, &message))
    }

    pub fn keep_attached(&self) -> impl Future<Output = ()> + Send + use<> {
        probe::keep_attached(Arc::downgrade(&self.core), self.writer)
    }

    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        probe::watch(Arc::downgrade(&self.core))
    }
}
