//! What `docs/validation.md` says is true: Emberpost held against the HL7 reference validator on real messages, on mutants
//! of them, and on ways of our own.
//!
//! `EMBERPOST_CORPUS` and `EMBERPOST_ORACLE` name the folders; the page is made by this tool.

use super::oracle::Source;
use super::page::Page;
use super::ways;

#[test]
fn every_way_of_ours_is_refused_at_its_element_or_accepted() {
    let wrong = ways::go().into_iter().filter(|went| !went.is_right()).map(|went| {
        let found: Vec<_> =
            went.issues.iter().filter(|issue| issue.is_error()).map(|issue| &issue.expression).collect();
        format!("{} ({}): {found:?}", went.way.name, went.version.short())
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_page_of_validation_is_true_and_its_figures_are_as_good_as_they_should_be() {
    let Some(source) = Source::of_environment() else {
        println!("skipped: EMBERPOST_CORPUS and EMBERPOST_ORACLE name no folders");
        return;
    };
    let made = tempfile::tempdir().unwrap();
    let (mutants, corpus) = (source.mutants(made.path()).unwrap(), source.corpus().unwrap());
    let own = ways::go();
    let page = Page { corpus: &corpus, mutants: &mutants, own: &own };
    let figures = page.figures();
    assert!(figures.refused * 1000 >= figures.to_refuse * 995, "{figures:?}");
    assert_eq!((figures.accepted, figures.false_alarms), (figures.to_accept, 0), "{figures:?}");
    assert!(figures.located * 100 >= figures.placed * 98, "{figures:?}");
    assert_eq!(include_str!("../../docs/validation.md"), page.write(), "docs/validation.md is no longer true");
}
