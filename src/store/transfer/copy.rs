//! `emberpost store copy`: all rows of a store, page by page, into an empty one.
//!
//! A page is one transaction of the target, with a note of its last key: a copy that was stopped continues there. The target is marked
//! until every table has the same digest as in the source, and no router starts on it meanwhile.

use super::row::{Cell, TableDigest};
use super::side::Side;
use super::table::{PROGRESS, TABLES, Table};
use super::{Observer, Progress, TransferError, failed, refused};
use crate::store::codes;
use crate::store_url::StoreUrl;

/// Notes about a copy: where it comes from, and the newest message there, which a router that ran meanwhile would have changed.
const SOURCE: &str = "source";
const NEWEST: &str = "newest message and delivery";
/// The note of a table whose rows are all copied.
const DONE: &str = "done";

/// What was copied: tables with their rows.
#[derive(Clone, Debug)]
pub struct Copied {
    pub from: String,
    pub to: String,
    /// Whether an earlier run had begun it.
    pub continued: bool,
    pub tables: Vec<(&'static str, u64)>,
}

/// Copies a store that no router uses into an empty one. May be repeated until it succeeds.
pub async fn copy(from: &StoreUrl, to: &StoreUrl, now_us: i64, observe: Observer<'_>) -> Result<Copied, TransferError> {
    if from == to {
        return refused("the store and its copy are the same");
    }
    let mut source = Side::open_source(from).await?;
    let mut target = Side::open_target(to).await?;
    let continued = begin(&mut source, &mut target, now_us).await?;
    for table in &TABLES {
        copy_table(&mut source, &mut target, table, observe).await?;
    }
    let tables = verify(&mut source, &mut target, observe).await?;
    target.finish().await.map_err(failed(&target))?;
    let copied = Copied { from: source.name(), to: target.name(), continued, tables };
    source.close().await;
    target.close().await;
    Ok(copied)
}

/// Marks an empty target, or checks that the target belongs to this copy. Returns whether it was begun before.
async fn begin(source: &mut Side, target: &mut Side, now_us: i64) -> Result<bool, TransferError> {
    let extent = source.extent().await.map_err(failed(source))?;
    let newest = format!("{} and {}", extent.last_message, extent.last_delivery);
    let begun = target.note(SOURCE).await.map_err(failed(target))?;
    let Some(begun) = begun else {
        for table in TABLES.iter().filter(|table| table.name != PROGRESS) {
            if !target.rows(table, None).await.map_err(failed(target))?.is_empty() {
                return refused(format_args!("{} holds other data; copy into a new database", target.name()));
            }
        }
        let notes = [(SOURCE, source.name()), (NEWEST, newest)];
        target.begin_copy(&notes, &extent, now_us).await.map_err(failed(target))?;
        return Ok(false);
    };
    if begun != source.name() {
        return refused(format_args!("{} is the target of an unfinished copy of {begun}", target.name()));
    }
    if target.note(NEWEST).await.map_err(failed(target))? != Some(newest) {
        return refused(format_args!(
            "{begun} has changed since its copy to {} began; remove what was copied, and copy again while no router runs",
            target.name()
        ));
    }
    Ok(true)
}

async fn copy_table(
    source: &mut Side,
    target: &mut Side,
    table: &'static Table,
    observe: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), TransferError> {
    let mut after: Option<Vec<Cell>> = match target.note(table.name).await.map_err(failed(target))? {
        Some(note) if note == DONE => return Ok(()),
        Some(note) => Some(codes::from_json(&note).map_err(failed(target))?),
        None => None,
    };
    let of = source.count(table).await.map_err(failed(source))?;
    let mut rows = if after.is_some() { target.count(table).await.map_err(failed(target))? } else { 0 };
    loop {
        let mut page = source.rows(table, after.as_deref()).await.map_err(failed(source))?;
        let Some(last) = page.last().map(|row| table.values(row, table.key)) else { break };
        page.retain(|row| table.moves(row));
        let note = serde_json::to_string(&last).map_err(|error| TransferError::Failed(error.to_string()))?;
        target.write(table, &page, (table.name, &note)).await.map_err(failed(target))?;
        rows += page.len() as u64;
        observe(Progress { doing: "copying", table: table.name, rows, of });
        after = Some(last);
    }
    target.write(table, &[], (table.name, DONE)).await.map_err(failed(target))
}

/// Reads both stores, and errs with the tables that differ.
async fn verify(
    source: &mut Side,
    target: &mut Side,
    observe: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<(&'static str, u64)>, TransferError> {
    let (mut same, mut differ) = (Vec::new(), Vec::new());
    for table in &TABLES {
        let from = digest(source, table, TableDigest::default(), observe).await?;
        let to = digest(target, table, from, observe).await?;
        if from == to {
            same.push((table.name, from.rows));
        } else {
            let hashes = if from.sum == to.sum { "same" } else { "other" };
            differ.push(format!(
                "{} ({} rows, and {} in the copy, with {hashes} hashes)",
                table.name, from.rows, to.rows
            ));
        }
    }
    if differ.is_empty() {
        return Ok(same);
    }
    Err(TransferError::Differs(format!(
        "{} is not the same as {}: {}; it stays marked as unfinished. Remove it, and copy again",
        target.name(),
        source.name(),
        differ.join(", ")
    )))
}

async fn digest(
    side: &mut Side,
    table: &'static Table,
    expected: TableDigest,
    observe: &mut (dyn FnMut(Progress) + Send),
) -> Result<TableDigest, TransferError> {
    let mut digest = TableDigest::default();
    let mut after: Option<Vec<Cell>> = None;
    loop {
        let page = side.rows(table, after.as_deref()).await.map_err(failed(side))?;
        let Some(last) = page.last() else { return Ok(digest) };
        after = Some(table.values(last, table.key));
        page.iter().filter(|row| table.moves(row)).for_each(|row| digest.add(row));
        observe(Progress { doing: "comparing", table: table.name, rows: digest.rows, of: expected.rows });
    }
}
