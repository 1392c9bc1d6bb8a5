//! What a copy brings: every column of every table that is not the database's own.

use super::*;
use crate::store::transfer::table::{Kind, TABLES};
use std::collections::BTreeSet;

/// Tables and columns that a database derives from the others, or needs for itself.
const OWN_TABLES: [&str; 10] = [
    "_sqlx_migrations",
    "message_count",
    "node",
    "partition",
    "participant_count",
    "probe",
    "reference_log",
    "schema_reader",
    "sqlite_stat1",
    "sqlite_sequence",
];
const OWN_COLUMNS: [&str; 2] = ["delivery.waiting", "message.event_code"];

/// Columns as `table.column`.
fn expect_all(found: BTreeSet<String>) {
    let is_own = |column: &String| {
        let table = column.split('.').next().unwrap();
        let is_partition = ["body_", "attempt_"].iter().any(|parent| table.starts_with(parent));
        OWN_TABLES.contains(&table) || is_partition || OWN_COLUMNS.contains(&column.as_str())
    };
    let found: BTreeSet<String> = found.into_iter().filter(|column| !is_own(column)).collect();
    let counters = ["participant.waiting", "participant.dead"];
    let copied = TABLES.iter().flat_map(|table| table.columns.iter().map(|(name, _)| format!("{}.{name}", table.name)));
    let copied: BTreeSet<String> =
        copied.filter(|name| found.contains(name) || !counters.contains(&name.as_str())).collect();
    assert_eq!(found, copied, "a column of the schema is not copied, or is not there");
}

#[tokio::test]
async fn every_column_is_copied_that_the_database_does_not_derive() {
    let fixture = Fixture::new().await;
    if crate::testing::postgres::is_chosen() {
        let sql =
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'";
        let columns = crate::testing::postgres::shared().run_at(&fixture.folder.path().join("data/emberpost.db"), sql);
        return expect_all(columns.lines().map(str::to_owned).collect());
    }
    let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema t CROSS JOIN pragma_table_info(t.name) c WHERE t.type = 'table'";
    let rows = sqlx::query(sql).fetch_all(&fixture.store.core().readers).await.unwrap();
    expect_all(rows.iter().map(|row| sqlx::Row::get(row, 0)).collect());
}

#[test]
fn the_key_of_a_table_is_among_its_columns_and_is_never_null() {
    for table in &TABLES {
        for name in table.key {
            assert!(table.columns.iter().any(|(column, _)| column == name), "{}.{name}", table.name);
            assert_ne!(table.kind(name), Kind::Flag);
        }
    }
}
