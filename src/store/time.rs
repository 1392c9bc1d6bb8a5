//! What the store knows of the clock: a moment at which it was right, renewed while it is.

use super::core::Core;
use super::writer::Writer;
use super::{Store, Unavailable};
use crate::clock::{Anchor, Clock};
use futures_util::FutureExt;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::HashMap;

const WALL: &str = "clock_wall_us";
const MACHINE: &str = "clock_machine_us";
const BOOT: &str = "clock_boot";

impl Store {
    /// Takes the wall clock as it is now for right, as an operator confirmed it: expiry and retention go on.
    pub async fn confirm_clock(&self) -> Result<(), Unavailable> {
        let core = &self.inner.core;
        core.clock.confirm();
        tracing::warn!(now_us = core.clock.now_us(), "an operator confirmed the clock; expiry and retention go on");
        core.write(|core, writer| save(core, writer).boxed()).await
    }
}

/// Lets the clock compare itself with what the last run left.
pub(super) async fn resume(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let rows = sqlx::query("SELECT name, k FROM progress WHERE name IN (?, ?, ?)").bind(WALL).bind(MACHINE).bind(BOOT);
    let mut found: HashMap<String, i64> = HashMap::new();
    for row in rows.fetch_all(&mut *conn).await? {
        found.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let last = found.get(WALL).zip(found.get(MACHINE)).map(|(wall_us, machine_us)| Anchor {
        wall_us: *wall_us,
        machine_us: *machine_us,
        boot: found.get(BOOT).copied(),
    });
    let newest = "SELECT committed_us FROM message ORDER BY k DESC LIMIT 1";
    let newest = sqlx::query(newest).fetch_optional(&mut *conn).await?;
    clock.resume(last, newest.map(|row| row.try_get(0)).transpose()?);
    if let Some(off_us) = clock.jump() {
        tell(off_us);
    }
    write(clock, conn).await
}

/// Says once that the clock is wrong, or right again. `told`: whether the last word was that it is wrong.
pub(super) fn watch(clock: &Clock, told: &mut bool) {
    match clock.jump() {
        Some(off_us) if !*told => tell(off_us),
        None if *told => tracing::warn!("the clock is right again, or was confirmed; expiry and retention go on"),
        _ => return,
    }
    *told = !*told;
}

fn tell(off_us: i64) {
    tracing::error!(
        ahead_seconds = off_us / 1_000_000,
        "the clock differs by more than an hour from what the machine's own clock and the store say: nothing expires and \
         nothing is dropped by age until it is right again or an operator confirms it (emberpost clock confirm)"
    );
}

pub(super) async fn save(core: &Core, writer: &mut Writer) -> Result<(), Error> {
    write(&core.clock, &mut writer.conn).await
}

/// Nothing is written while the clock is wrong: the next start compares with when it was right.
async fn write(clock: &Clock, conn: &mut SqliteConnection) -> Result<(), Error> {
    let Some(Anchor { wall_us, machine_us, boot }) = clock.anchor() else { return Ok(()) };
    let upsert = "INSERT INTO progress (name, k) VALUES (?, ?), (?, ?), (?, ?) \
                  ON CONFLICT (name) DO UPDATE SET k = excluded.k";
    let query = sqlx::query(upsert).bind(WALL).bind(wall_us).bind(MACHINE).bind(machine_us);
    query.bind(BOOT).bind(boot.unwrap_or_default()).execute(conn).await.map(drop)
}
