//! What an import brings back.

use super::*;
use crate::store::{archive, transfer};

#[tokio::test(flavor = "multi_thread")]
async fn content_that_an_import_restored_stays_until_the_import_is_old() {
    let fixture = Fixture::new().await;
    let (key, _) = fixture.accept_new(numbered(1)).await;
    fixture.accept_new(numbered(2)).await;
    let rules = RetentionRules::from(RetentionDays { bodies: 1, dead_letters: 1, traces: 0, identities: 0 });
    let later_us = fixture.clock.now_us() + 2 * DAY_US;
    let folder = fixture.folder.path().join("archive");
    let file = fixture.store.archive(later_us, rules, &folder).await.unwrap();
    let archived = Some(Arc::new(file.archived));
    fixture.store.sweep_archived(later_us, rules, 100, archived).await.unwrap();
    assert!(fixture.store.content(key).await.unwrap().is_none());
    fixture.store.close().await;
    let files = archive::find(&[folder]).unwrap();
    let imported = transfer::import(&files, &fixture.store.settings().url, later_us, &mut |_| {}).await.unwrap();
    assert_eq!((imported.messages, imported.contents), (0, 2));

    let fixture = fixture.reopen().await;
    fixture.store.sweep_archived(later_us + DAY_US / 2, rules, 100, None).await.unwrap();
    assert!(fixture.store.content(key).await.unwrap().is_some(), "who imported it wants to look at it");
    fixture.store.sweep_archived(later_us + 2 * DAY_US, rules, 100, None).await.unwrap();
    assert!(fixture.store.content(key).await.unwrap().is_none());
}
