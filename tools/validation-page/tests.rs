//! Tests that `docs/validation.md` is up to date: Emberpost compared with the HL7 reference validator on real
//! messages, on mutants of them, and on cases of our own.
//!
//! `EMBERPOST_CORPUS` and `EMBERPOST_ORACLE` name the folders; this tool makes the page.

use super::cases;
use super::oracle::Source;
use super::page::Page;

#[test]
fn every_case_of_our_own_is_refused_at_its_element_or_accepted() {
    let wrong = cases::run().into_iter().filter(|result| !result.is_right()).map(|result| {
        let found: Vec<_> =
            result.issues.iter().filter(|issue| issue.is_error()).map(|issue| &issue.expression).collect();
        format!("{} ({}): {found:?}", result.case.name, result.version.short())
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_validation_page_is_up_to_date_and_its_figures_meet_their_targets() {
    let Some(source) = Source::of_environment() else {
        println!("skipped: EMBERPOST_CORPUS and EMBERPOST_ORACLE name no folders");
        return;
    };
    let made = tempfile::tempdir().unwrap();
    let (mutants, corpus) = (source.mutants(made.path()).unwrap(), source.corpus().unwrap());
    let own = cases::run();
    let page = Page { corpus: &corpus, mutants: &mutants, own: &own };
    let figures = page.figures();
    assert!(figures.refused * 1000 >= figures.to_refuse * 995, "{figures:?}");
    assert_eq!((figures.accepted, figures.false_alarms), (figures.to_accept, 0), "{figures:?}");
    assert!(figures.located * 100 >= figures.placed * 98, "{figures:?}");
    assert_eq!(
        include_str!("../../docs/validation.md"),
        page.write(),
        "docs/validation.md is out of date; run the tool"
    );
}
