//! Stores that earlier schema versions wrote: each opens, has its messages and deliveries, and recognizes duplicates.

use super::migrate::MIGRATIONS;
use super::*;
use crate::store::view::MessageFilter;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

/// A message from `clinic` with a delivery to `lab` that waits in lane 5, as schema version `version` stores them.
async fn write(conn: &mut SqliteConnection, version: usize, new: &NewMessage) {
    let old = version < 13;
    let metadata_column = if version < 12 { "facts" } else { "metadata" };
    let (participant, content, head, hash) = match old {
        true => ("party", "content", "content", "h"),
        false => ("participant", "content_sha256", "content_head", "hash"),
    };
    let run = async |conn: &mut SqliteConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
    };
    run(conn, format!("INSERT INTO {participant} (k, id) VALUES (1, 'clinic'), (2, 'lab')")).await;
    let insert = format!(
        "INSERT INTO message (k, id, state, received_us, committed_us, sender, source, destinations, {content}, \
         {metadata_column}) VALUES (1, ?1, 0, ?2, ?2, 1, ?3, '', ?4, ?5)"
    );
    let query = sqlx::query(AssertSqlSafe(insert)).bind(new.metadata.id.as_bytes().to_vec());
    let query = query.bind(new.metadata.received_at_us).bind(new.metadata.source.clone());
    let query = query.bind(new.identity.content.to_vec()).bind(serde_json::to_string(&new.metadata).unwrap());
    query.execute(&mut *conn).await.unwrap();
    run(conn, "INSERT INTO body (message_k, codec, size, bytes) VALUES (1, 0, 2, x'7b7d')".into()).await;
    for row in reference::references(&new.metadata, &new.identity) {
        let (hash_value, kind, content_head) = (row.hash, row.kind, reference::head(&new.identity.content));
        let insert = if version < 14 {
            let table = if version < 11 { "reference" } else { "reference_recent" };
            format!(
                "INSERT INTO {table} ({hash}, sender, kind, {head}, message_k) \
                 VALUES ({hash_value}, 1, {kind}, {content_head}, 1)"
            )
        } else {
            let row = format!("[{hash_value}, 1, {kind}, {content_head}, 1]");
            format!("INSERT INTO reference_log (change) VALUES ('{{\"add\": [{row}]}}')")
        };
        run(conn, insert).await;
    }
    let delivery = format!(
        "INSERT INTO delivery (k, id, message_k, {participant}, lane, seq, state, due_us, expires_us, created_us, kind) \
         VALUES (1, randomblob(16), 1, 2, 5, 101, 0, 0, 9000000000000000, 100, 0)"
    );
    run(conn, delivery).await;
    if version >= 14 {
        run(conn, "UPDATE participant SET waiting = 1 WHERE k = 2".into()).await;
    }
}

#[tokio::test]
async fn a_store_of_every_earlier_schema_version_is_migrated_with_its_content() {
    sqlite_only!();
    for version in 1..=MIGRATIONS.len() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        std::fs::create_dir_all(file_of(&settings).parent().unwrap()).unwrap();
        let options = connect::writer_options(&file_of(&settings)).create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        for (number, text) in (1..).zip(&MIGRATIONS[..version]) {
            let sql = format!("{text}; PRAGMA user_version = {number}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        }
        let new = message("clinic", "b", "h", 1);
        write(&mut conn, version, &new).await;
        conn.close().await.unwrap();
        for start in 1..=2 {
            let case = format!("version {version}, start {start}");
            let store = Store::open(settings.clone(), Clock::default()).await.unwrap();
            check(&store, &new, &case).await;
            store.close().await;
        }
    }
}

async fn check(store: &Store, new: &NewMessage, case: &str) {
    let id = new.metadata.id;
    assert_eq!(store.message(id).await.unwrap().unwrap().metadata.id, id, "{case}");
    let key = store.message_key(id).await.unwrap().unwrap();
    assert_eq!(store.content(key).await.unwrap().unwrap().1, new.bytes, "{case}");
    let lab = |deliveries: &[PendingDelivery]| deliveries.iter().map(|delivery| delivery.lane).collect::<Vec<_>>();
    assert_eq!(lab(&store.lane_deliveries("lab", 5, 0, false, 9).await.unwrap()), [5], "{case}");
    assert_eq!(store.sent_requests("lab", "h").await.unwrap().deliveries.len(), 1, "{case}");
    let filter = MessageFilter { source: new.metadata.source.clone(), ..MessageFilter::default() };
    assert_eq!(store.count_messages(&filter).await.unwrap(), 1, "{case}");
    let figures = store.figures().await.unwrap();
    let waiting: Vec<u64> = figures.participants.iter().map(|participant| participant.waiting).collect();
    assert_eq!(waiting, [0, 1], "{case}");
    let copy = store.accept(message("clinic", "b", "h", 1)).await.unwrap();
    assert!(matches!(copy, Acceptance::Duplicate { message_id } if message_id == id), "{case}: {copy:?}");
    let other = store.accept(message("clinic", "b", "h", 2)).await.unwrap();
    assert!(matches!(other, Acceptance::Conflict { message_id } if message_id == id), "{case}: {other:?}");
    let versions =
        sqlx::query("SELECT (SELECT count(*) FROM _sqlx_migrations), (SELECT user_version FROM pragma_user_version)");
    let row = versions.fetch_one(&store.core().readers).await.unwrap();
    let newest = MIGRATIONS.len() as i64;
    assert_eq!((sqlx::Row::get::<i64, _>(&row, 0), sqlx::Row::get::<i64, _>(&row, 1)), (newest, newest), "{case}");
}
