//! `emberpost import`: reads files of an archive into a store that no router uses.
//!
//! Each line that is whole is imported, whatever is wrong with others. What the store has is left as it is, so that an import may be
//! repeated, and continues after it was stopped.

use super::import_batch::{self, Counts, Pending};
use super::import_row::ImportedMessage;
use super::side::Side;
use super::{TransferError, failed};
use crate::store::archive::line::Record;
use crate::store::archive::{Damage, LineReader};
use crate::store_url::StoreUrl;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages of one transaction, and the bytes of lines after which it ends.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The most damaged places that are described; all are counted.
const DAMAGE_MOST: usize = 100;

/// What was imported.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub store: String,
    pub messages: u64,
    /// Messages whose content was missing.
    pub contents: u64,
    /// Messages that were there already.
    pub present: u64,
    pub damaged: u64,
    /// The first of what is damaged.
    pub damage: Vec<Damage>,
}

#[derive(Clone, Copy, Debug)]
pub struct ImportProgress {
    pub messages: u64,
    /// Of all files.
    pub read_bytes: u64,
    pub of_bytes: u64,
}

/// Imports files into a store, which is created if it is missing.
pub async fn import(
    files: &[PathBuf],
    store: &StoreUrl,
    now_us: i64,
    observe: &mut (dyn FnMut(ImportProgress) + Send),
) -> Result<Imported, TransferError> {
    let size = |path: &PathBuf| path.metadata().map_or(0, |data| data.len());
    let mut side = Side::open_import(store, now_us).await?;
    let mut importing = Importing {
        imported: Imported { store: side.name(), ..Imported::default() },
        pending: Pending::new(),
        read_bytes: Arc::default(),
        of_bytes: files.iter().map(size).sum(),
        now_us,
        batch: Vec::new(),
        batch_bytes: 0,
    };
    for path in files {
        importing.file(path, &mut side, observe).await?;
    }
    importing.write(&mut side, observe).await?;
    side.close().await;
    Ok(importing.imported)
}

struct Importing {
    imported: Imported,
    pending: Pending,
    read_bytes: Arc<AtomicU64>,
    of_bytes: u64,
    now_us: i64,
    batch: Vec<ImportedMessage>,
    batch_bytes: usize,
}

impl Importing {
    async fn file(
        &mut self,
        path: &Path,
        side: &mut Side,
        observe: &mut (dyn FnMut(ImportProgress) + Send),
    ) -> Result<(), TransferError> {
        let damage = |line, text| Damage { path: path.to_owned(), line, text };
        let reader = match LineReader::open(path, self.read_bytes.clone()) {
            Ok(reader) => reader,
            Err(error) => {
                self.damaged(damage(1, format!("the file cannot be read ({error})")));
                return Ok(());
            }
        };
        let mut ids: HashSet<_> = self.batch.iter().map(|message| message.id).collect();
        for line in reader {
            let (number, line) = match line {
                Ok(line) => line,
                Err(damage) => {
                    self.damaged(damage);
                    continue;
                }
            };
            let message = match Record::from_line(&line) {
                Ok(record) => ImportedMessage::new(record).await.map_err(str::to_owned),
                Err(wrong) => Err(wrong),
            };
            let message = match message {
                Ok(message) => message,
                Err(wrong) => {
                    self.damaged(damage(number, wrong));
                    continue;
                }
            };
            let is_full = self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES;
            if is_full || ids.contains(&message.id) {
                self.write(side, observe).await?;
                ids.clear();
            }
            ids.insert(message.id);
            self.batch_bytes += line.len();
            self.batch.push(message);
        }
        Ok(())
    }

    async fn write(
        &mut self,
        side: &mut Side,
        observe: &mut (dyn FnMut(ImportProgress) + Send),
    ) -> Result<(), TransferError> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let written = import_batch::write(side, batch, self.now_us, &mut self.pending).await;
        let Counts { messages, contents, present } = written.map_err(failed(side))?;
        self.imported.messages += messages;
        self.imported.contents += contents;
        self.imported.present += present;
        let all = &self.imported;
        observe(ImportProgress {
            messages: all.messages + all.contents + all.present,
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            of_bytes: self.of_bytes,
        });
        Ok(())
    }

    fn damaged(&mut self, damage: Damage) {
        self.imported.damaged += 1;
        if self.imported.damage.len() < DAMAGE_MOST {
            self.imported.damage.push(damage);
        }
    }
}
