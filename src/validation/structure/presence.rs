//! Constraints that ask only which elements are there, such as `value.empty() or system.exists()`: read into a small
//! tree once, and answered from the bits of the elements that the walk met. Exact: `exists`, `empty`, `count() > 0` and
//! the operators between them have two values only.

use crate::fhir::schema::TypeDef;

/// A yes or no over the elements that are present.
#[derive(Debug, PartialEq)]
pub(super) enum Presence {
    /// Any of these elements is there.
    Any(u128),
    Not(Box<Presence>),
    And(Box<Presence>, Box<Presence>),
    Or(Box<Presence>, Box<Presence>),
    Xor(Box<Presence>, Box<Presence>),
}

impl Presence {
    /// None: the expression asks for more than presence.
    pub fn compile(expression: &str, of: &TypeDef) -> Option<Presence> {
        let mut reader = Reader { rest: expression, of, depth: 0 };
        let found = reader.implies()?;
        reader.rest.trim().is_empty().then_some(found)
    }

    /// `present` has a bit for each element, by its position in the type.
    pub fn holds(&self, present: u128) -> bool {
        match self {
            Presence::Any(bits) => present & bits != 0,
            Presence::Not(inner) => !inner.holds(present),
            Presence::And(left, right) => left.holds(present) && right.holds(present),
            Presence::Or(left, right) => left.holds(present) || right.holds(present),
            Presence::Xor(left, right) => left.holds(present) != right.holds(present),
        }
    }
}

/// Parentheses deeper than this are left to the engine.
const DEPTH_LIMIT: u32 = 8;

struct Reader<'e> {
    rest: &'e str,
    of: &'e TypeDef,
    depth: u32,
}

fn not(inner: Presence) -> Presence {
    Presence::Not(Box::new(inner))
}

/// Precedence as in FHIRPath: `!=` and `=` bind tightest, then `and`, then `or` and `xor`, then `implies`.
impl Reader<'_> {
    fn implies(&mut self) -> Option<Presence> {
        let mut left = self.either()?;
        while self.word("implies") {
            let right = self.either()?;
            left = Presence::Or(Box::new(not(left)), Box::new(right));
        }
        Some(left)
    }

    fn either(&mut self) -> Option<Presence> {
        let mut left = self.both()?;
        loop {
            if self.word("or") {
                left = Presence::Or(Box::new(left), Box::new(self.both()?));
            } else if self.word("xor") {
                left = Presence::Xor(Box::new(left), Box::new(self.both()?));
            } else {
                return Some(left);
            }
        }
    }

    fn both(&mut self) -> Option<Presence> {
        let mut left = self.equal()?;
        while self.word("and") {
            left = Presence::And(Box::new(left), Box::new(self.equal()?));
        }
        Some(left)
    }

    fn equal(&mut self) -> Option<Presence> {
        let left = self.term()?;
        if self.sign("!=") {
            return Some(Presence::Xor(Box::new(left), Box::new(self.term()?)));
        }
        if self.sign("=") {
            return Some(not(Presence::Xor(Box::new(left), Box::new(self.term()?))));
        }
        Some(left)
    }

    fn term(&mut self) -> Option<Presence> {
        if let Some(counted) = self.counted() {
            return Some(counted);
        }
        let mut term = if self.sign("(") {
            self.depth += 1;
            let inner = if self.depth > DEPTH_LIMIT { None } else { self.implies() }?;
            self.depth -= 1;
            self.sign(")").then_some(inner)?
        } else {
            let element = self.element()?;
            if self.sign(".exists()") {
                element
            } else if self.sign(".empty()") {
                not(element)
            } else {
                return None;
            }
        };
        while self.sign(".not()") {
            term = not(term);
        }
        Some(term)
    }

    /// `(a.count() + b.count()) > 0`
    fn counted(&mut self) -> Option<Presence> {
        let from = self.rest;
        let found = self.sum_of_counts();
        if found.is_none() {
            self.rest = from;
        }
        found
    }

    fn sum_of_counts(&mut self) -> Option<Presence> {
        let is_wrapped = self.sign("(");
        let mut bits = 0;
        loop {
            let Presence::Any(element) = self.element()? else { return None };
            bits |= element;
            if !self.sign(".count()") {
                return None;
            }
            if !self.sign("+") {
                break;
            }
        }
        let is_closed = !is_wrapped || self.sign(")");
        (is_closed && self.sign(">") && self.sign("0")).then_some(Presence::Any(bits))
    }

    fn element(&mut self) -> Option<Presence> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let position = self.of.elements.iter().position(|element| *element.name == rest[..end])?;
        let bit = 1u128.checked_shl(u32::try_from(position).ok()?)?;
        self.rest = &rest[end..];
        Some(Presence::Any(bit))
    }

    fn sign(&mut self, sign: &str) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix(word) else { return false };
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return false;
        }
        self.rest = rest;
        true
    }
}
