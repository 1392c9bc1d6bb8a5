//! `emberpost store check`: whether what a store holds agrees with itself. Reads only.

use super::lanes::Lanes;
use super::row::{Cell, StoredBody};
use super::side::Side;
use super::table::{LINKS, Link, Table};
use super::{Observer, Progress, TransferError, failed};
use crate::store::prepare::unpack;
use crate::store_url::StoreUrl;
use fhir::identity;

/// The most faults of a kind that are described; all are counted.
const EXAMPLES: usize = 20;

/// What one check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub what: &'static str,
    pub rows: u64,
    pub wrong: u64,
    /// The first of what is wrong, a sentence each.
    pub examples: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct CheckReport {
    pub store: String,
    pub checks: Vec<Checked>,
}

impl CheckReport {
    pub fn is_sound(&self) -> bool {
        self.checks.iter().all(|check| check.wrong == 0)
    }
}

impl Checked {
    fn new(what: &'static str) -> Checked {
        Checked { what, ..Checked::default() }
    }

    fn add(&mut self, wrong: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(wrong());
        }
    }
}

/// Verifies a store: a SQLite file that no router has open, or a database as it is at this moment.
pub async fn check(store: &StoreUrl, observe: Observer<'_>) -> Result<CheckReport, TransferError> {
    let mut side = Side::open_to_check(store).await?;
    let checks = vec![
        bodies(&mut side, observe).await?,
        links(&mut side, observe).await?,
        lanes(&mut side, observe).await?,
        counters(&mut side).await?,
    ];
    let report = CheckReport { store: side.name(), checks };
    side.close().await;
    Ok(report)
}

async fn bodies(side: &mut Side, observe: &mut (dyn FnMut(Progress) + Send)) -> Result<Checked, TransferError> {
    let mut checked = Checked::new("bodies");
    let of = side.count(Table::named("body")).await.map_err(failed(side))?;
    let mut after = i64::MIN;
    loop {
        let page = side.bodies(after).await.map_err(failed(side))?;
        let Some(last) = page.last() else { return Ok(checked) };
        after = last.message_key;
        for body in page {
            checked.rows += 1;
            let id = body.message_id;
            if let Some(wrong) = wrong_body(body) {
                checked.add(|| format!("message {id}: {wrong}"));
            }
        }
        observe(Progress { doing: "checking", table: "body", rows: checked.rows, of });
    }
}

/// Messages that were stored without having been read (refused ones) have a hash of zeros.
fn wrong_body(body: StoredBody) -> Option<&'static str> {
    let Some(bytes) = unpack(body.codec, body.size, body.bytes) else { return Some("its body cannot be unpacked") };
    if bytes.len() as i64 != body.size {
        return Some("its body does not have the size that was stored with it");
    }
    let Ok(hash) = <[u8; 32]>::try_from(body.content_sha256) else { return Some("its hash is not 32 bytes") };
    let agrees = hash == [0; 32] || identity::has_content(&bytes, &hash);
    (!agrees).then_some("its body does not have the hash that was stored with it")
}

async fn links(side: &mut Side, observe: &mut (dyn FnMut(Progress) + Send)) -> Result<Checked, TransferError> {
    let mut checked = Checked::new("references between tables");
    for link in LINKS {
        let of = side.count(Table::named(link.table)).await.map_err(failed(side))?;
        let mut after: Option<Vec<Cell>> = None;
        let mut rows = 0;
        loop {
            let page = side.dangling(link, after.as_deref()).await.map_err(failed(side))?;
            rows += page.rows;
            for key in page.dangling {
                checked.add(|| dangling(link, Table::named(link.table).key, &key));
            }
            observe(Progress { doing: "checking", table: link.table, rows, of });
            if page.last.is_none() {
                break;
            }
            after = page.last;
        }
        checked.rows += rows;
    }
    Ok(checked)
}

fn dangling(link: Link, names: &[&str], key: &[Cell]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Integer(value) => value.to_string(),
        _ => "…".to_owned(),
    };
    let key: Vec<String> = names.iter().zip(key).map(|(name, cell)| format!("{name} {}", value(cell))).collect();
    format!("{} {}: its {} names a row that is not in {}", link.table, key.join(", "), link.column, link.to)
}

async fn lanes(side: &mut Side, observe: &mut (dyn FnMut(Progress) + Send)) -> Result<Checked, TransferError> {
    let mut checked = Checked::new("links of waiting deliveries");
    let (mut rule, mut after) = (Lanes::default(), (i64::MIN, i64::MIN, i64::MIN));
    loop {
        let page = side.waiting(after).await.map_err(failed(side))?;
        let Some(last) = page.last() else { return Ok(checked) };
        after = (last.participant, last.lane, last.seq);
        for delivery in page {
            checked.rows += 1;
            let key = delivery.key;
            if let Some(wrong) = rule.next(delivery) {
                checked.add(|| format!("delivery {key}: {wrong}"));
            }
        }
        observe(Progress { doing: "checking", table: "delivery", rows: checked.rows, of: 0 });
    }
}

async fn counters(side: &mut Side) -> Result<Checked, TransferError> {
    let mut checked = Checked::new("counters of participants");
    for row in side.counters().await.map_err(failed(side))? {
        checked.rows += 1;
        if row.counted != row.found {
            checked.add(|| {
                format!(
                    "participant {}: counters say {} waiting and {} dead, and there are {} and {}",
                    row.participant, row.counted.0, row.counted.1, row.found.0, row.found.1
                )
            });
        }
    }
    Ok(checked)
}
