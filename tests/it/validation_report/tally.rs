//! Counts of the comparison, and every disagreement.

use super::Said;
use super::located::is_located;
use super::outcomes::{Expected, Outcome};
use emberpost::fhir::Issue;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Tally {
    /// By publisher and form.
    pub sources: BTreeMap<(String, String), Source>,
    /// The files that are invalid for their publisher: file, what the reference says, what we say.
    pub invalid: Vec<(String, bool, bool)>,
    pub groups: BTreeMap<String, Group>,
    pub disagreements: Vec<Disagreement>,
}

/// The messages of one publisher in one form.
#[derive(Default)]
pub struct Source {
    pub all: usize,
    pub reference_accepts: usize,
    pub accepted: usize,
    /// Accepted where prose rules are warnings.
    pub usually_accepted: usize,
    pub agree: usize,
}

/// The mutants of one group of ways.
#[derive(Default)]
pub struct Group {
    pub to_refuse: usize,
    pub refused: usize,
    pub to_accept: usize,
    pub accepted: usize,
    pub either: usize,
    pub either_refused: usize,
    pub with_place: usize,
    pub located: usize,
}

pub struct Disagreement {
    /// File or mutant.
    pub id: String,
    /// Where its explanation stands.
    pub key: String,
    pub ours: String,
    pub theirs: String,
}

/// The rules of the errors, or that there are none.
fn ours(said: &Said) -> String {
    let mut rules = said.issues.iter().filter(|issue| issue.is_error()).filter_map(|issue| issue.rule.as_deref());
    let first = rules.next().map(str::to_owned);
    let all = first.into_iter().chain(rules.map(str::to_owned)).collect::<std::collections::BTreeSet<_>>();
    match all.is_empty() {
        true => "accepted".to_owned(),
        false => format!("refused: {}", all.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn theirs(outcome: &Outcome) -> String {
    match outcome.refused {
        false => "accepted".to_owned(),
        true => format!("refused: {}", outcome.rules.join(", ")),
    }
}

impl Tally {
    pub fn corpus(&mut self, outcome: &Outcome, strict: &Said, usual: &Said) {
        let agrees = strict.refuses() == outcome.refused;
        if outcome.id.contains("/invalid/") {
            self.invalid.push((outcome.id.clone(), outcome.refused, strict.refuses()));
        } else {
            let publisher = outcome.id.split('/').next().unwrap_or_default().to_owned();
            let source = self.sources.entry((publisher, outcome.format.clone())).or_default();
            source.all += 1;
            source.reference_accepts += usize::from(!outcome.refused);
            source.accepted += usize::from(!strict.refuses());
            source.usually_accepted += usize::from(!usual.refuses());
            source.agree += usize::from(agrees);
        }
        if !agrees {
            self.disagree(outcome, strict, outcome.id.clone());
        }
    }

    pub fn mutant(&mut self, outcome: &Outcome, said: &Said) {
        let group = self.groups.entry(outcome.group.clone()).or_default();
        let refuses = said.refuses();
        let agrees = match outcome.expected {
            Expected::Refused => {
                group.to_refuse += 1;
                group.refused += usize::from(refuses);
                refuses
            }
            Expected::Accepted => {
                group.to_accept += 1;
                group.accepted += usize::from(!refuses);
                !refuses
            }
            Expected::Either => {
                group.either += 1;
                group.either_refused += usize::from(refuses);
                true
            }
        };
        let has_place = outcome.expected == Expected::Refused && !outcome.at.is_empty() && outcome.format == "json";
        let located = has_place && is_any_located(&outcome.at, &said.issues);
        group.with_place += usize::from(has_place);
        group.located += usize::from(located);
        if !agrees || (has_place && !located) {
            self.disagree(outcome, said, outcome.way.clone());
        }
    }

    fn disagree(&mut self, outcome: &Outcome, said: &Said, key: String) {
        let errors = said.issues.iter().filter(|issue| issue.is_error());
        let places = errors.filter_map(|issue| issue.expression.as_deref()).take(3).collect::<Vec<_>>().join(", ");
        let ours = match outcome.at.is_empty() || places.is_empty() {
            true => ours(said),
            false => format!("{} at {places} (changed: {})", ours(said), outcome.at),
        };
        self.disagreements.push(Disagreement { id: outcome.id.clone(), key, ours, theirs: theirs(outcome) });
    }
}

fn is_any_located(at: &str, issues: &[Issue]) -> bool {
    let mut errors = issues.iter().filter(|issue| issue.is_error()).filter_map(|issue| issue.expression.as_deref());
    errors.any(|expression| is_located(at, expression))
}
