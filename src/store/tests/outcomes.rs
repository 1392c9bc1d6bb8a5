//! The full text of an outcome is stored with the body, and is deleted with it.

use crate::store::sqlite::migrate::MIGRATIONS;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

/// The position of the migration that parts masked and full outcomes.
fn parting() -> usize {
    MIGRATIONS.iter().position(|text| text.contains("ADD COLUMN outcome")).unwrap()
}

#[tokio::test]
async fn outcomes_stored_before_texts_were_masked_are_deleted_with_the_bodies() {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for text in &MIGRATIONS[..parting()] {
        sqlx::raw_sql(AssertSqlSafe(text.to_string())).execute(&mut conn).await.unwrap();
    }
    let outcome = r#"{"issues":[{"severity":"error","code":"value","fault":"SEND_STRUCTURE","rule":"binding","expression":"Patient.secret","diagnostics":"'secret' is not in","position":[1,2]}]}"#;
    let insert = |k: i64, outcome: Option<&str>| {
        let outcome = outcome.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
        format!(
            "INSERT INTO message (k, id, state, received_us, committed_us, sender, destinations, content, facts, outcome) \
             VALUES ({k}, randomblob(16), 1, 0, 0, 1, '', zeroblob(32), '{{}}', {outcome}); \
             INSERT INTO body (message_k, codec, size, bytes) VALUES ({k}, 0, 0, x'')"
        )
    };
    for text in [insert(1, Some(outcome)), insert(2, None)] {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut conn).await.unwrap();
    }
    sqlx::raw_sql(AssertSqlSafe(MIGRATIONS[parting()].to_owned())).execute(&mut conn).await.unwrap();
    let rows = sqlx::query("SELECT m.outcome, b.outcome FROM message m JOIN body b ON b.message_k = m.k ORDER BY m.k")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    let texts = |row: usize, column: usize| rows[row].try_get::<Option<String>, _>(column).unwrap();
    assert_eq!(texts(0, 1).as_deref(), Some(outcome));
    let masked = texts(0, 0).unwrap();
    assert!(!masked.contains("secret"), "{masked}");
    let read = crate::store::sqlite::row::outcome(Some(&masked)).unwrap().unwrap();
    assert_eq!((read.issues[0].rule.as_deref(), read.issues[0].position), (Some("binding"), Some((1, 2))));
    assert_eq!((texts(1, 0), texts(1, 1)), (None, None));
}
