//! Parses an expression into a `Shortcut`. Precedence as in FHIRPath: `=` and `!=` bind tightest, then `and`, then
//! `or` and `xor`, then `implies`.

use super::{Shortcut, bit};
use emberpost_fhir::schema::{ElementDef, Primitive, Schema, TypeDef, TypeKind};

/// Parentheses nested deeper than this are not parsed.
const DEPTH_LIMIT: u32 = 8;
/// The operators that join operands.
const JOINS: [&str; 4] = ["and", "or", "xor", "implies"];
/// Steps of a path that return nothing if they are applied to nothing.
const STEPS: [&str; 6] = ["where", "select", "first", "last", "ofType", "as"];
/// The name of UCUM's system in constraints.
const UCUM: (&str, &str) = ("%ucum", "http://unitsofmeasure.org");

pub(super) fn read(expression: &str, of: &TypeDef, schema: &Schema) -> Shortcut {
    if matches!(of.kind, TypeKind::Primitive(_)) {
        // The `_` sibling of a value is not part of the node.
        return Shortcut::Open;
    }
    let mut reader = Reader { rest: expression, of, schema, depth: 0 };
    let read = reader.implies();
    read.filter(|_| reader.rest.trim().is_empty()).unwrap_or(Shortcut::Open)
}

struct Reader<'e> {
    rest: &'e str,
    of: &'e TypeDef,
    schema: &'e Schema,
    depth: u32,
}

fn not(inner: Shortcut) -> Shortcut {
    Shortcut::Not(Box::new(inner))
}

impl<'e> Reader<'e> {
    fn implies(&mut self) -> Option<Shortcut> {
        let mut left = self.either()?;
        while self.word("implies") {
            let right = self.either()?;
            left = Shortcut::Or(Box::new(not(left)), Box::new(right));
        }
        Some(left)
    }

    fn either(&mut self) -> Option<Shortcut> {
        let mut left = self.both()?;
        loop {
            if self.word("or") {
                left = Shortcut::Or(Box::new(left), Box::new(self.both()?));
            } else if self.word("xor") {
                left = Shortcut::Xor(Box::new(left), Box::new(self.both()?));
            } else {
                return Some(left);
            }
        }
    }

    fn both(&mut self) -> Option<Shortcut> {
        let mut left = self.operand()?;
        while self.word("and") {
            left = Shortcut::And(Box::new(left), Box::new(self.operand()?));
        }
        Some(left)
    }

    /// Parses what is between two operators, understood or not.
    fn operand(&mut self) -> Option<Shortcut> {
        let (rest, depth) = (self.rest, self.depth);
        if let Some(known) = self.equal().filter(|_| self.is_at_end()) {
            return Some(known);
        }
        (self.rest, self.depth) = (rest, depth);
        let length = length_before(rest, &JOINS);
        let (operand, rest) = rest.split_at(length);
        self.rest = rest;
        (!operand.trim().is_empty()).then(|| self.leaf(operand.trim()))
    }

    fn is_at_end(&self) -> bool {
        let rest = self.rest.trim_start();
        rest.is_empty() || rest.starts_with(')') || JOINS.iter().any(|join| starts_with_word(rest, join))
    }

    fn equal(&mut self) -> Option<Shortcut> {
        let left = self.term()?;
        if self.sign("!=") {
            return Some(Shortcut::Xor(Box::new(left), Box::new(self.term()?)));
        }
        if self.sign("=") {
            return Some(not(Shortcut::Xor(Box::new(left), Box::new(self.term()?))));
        }
        Some(left)
    }

    fn term(&mut self) -> Option<Shortcut> {
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
    fn counted(&mut self) -> Option<Shortcut> {
        let from = self.rest;
        let found = self.sum_of_counts();
        if found.is_none() {
            self.rest = from;
        }
        found
    }

    fn sum_of_counts(&mut self) -> Option<Shortcut> {
        let is_wrapped = self.sign("(");
        let mut bits = 0;
        loop {
            let Shortcut::Any(element) = self.element()? else { return None };
            bits |= element;
            if !self.sign(".count()") {
                return None;
            }
            if !self.sign("+") {
                break;
            }
        }
        let is_closed = !is_wrapped || self.sign(")");
        (is_closed && self.sign(">") && self.sign("0")).then_some(Shortcut::Any(bits))
    }

    /// Whether an element is present; one that the type does not define never is.
    fn element(&mut self) -> Option<Shortcut> {
        let (name, rest) = name(self.rest.trim_start());
        let is_element = name.starts_with(|c: char| c.is_ascii_lowercase()) && rest.starts_with('.');
        let bit = if is_element { self.bit(name) } else { None }?;
        self.rest = rest;
        Some(Shortcut::Any(bit))
    }

    /// No bit if the type does not define the element; None if a specialization of the type may define it.
    fn bit(&self, name: &str) -> Option<u128> {
        match self.of.elements.iter().position(|element| *element.name == *name) {
            Some(position) => Some(bit(u32::try_from(position).ok()?)),
            None => (!self.of.is_abstract).then_some(0),
        }
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
        let rest = self.rest.trim_start();
        let found = starts_with_word(rest, word);
        if found {
            self.rest = &rest[word.len()..];
        }
        found
    }

    /// An operand that depends on more than presence.
    fn leaf(&self, operand: &str) -> Shortcut {
        self.compared(operand).or_else(|| self.path(operand)).unwrap_or(Shortcut::Open)
    }

    /// `type = 'x'`, `type in ('x' | 'y')`, `system = %ucum`, `url.contains('x')`, `duration >= 0`
    fn compared(&self, operand: &str) -> Option<Shortcut> {
        let (name, rest) = name(operand);
        let of = self.single(name)?;
        let rest = rest.trim();
        if of == Primitive::Decimal {
            let limit = rest.strip_prefix(">=")?.trim();
            return (limit == "0").then(|| Shortcut::NotNegative(name.into()));
        }
        let texts = |texts: Vec<Box<str>>| Some(Shortcut::Text(name.into(), texts));
        if let Some(list) = rest.strip_prefix("in") {
            let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
            return texts(list.split('|').map(|item| literal(item.trim())).collect::<Option<Vec<_>>>()?);
        }
        if let Some(part) = rest.strip_prefix(".contains(") {
            let (part, is_not) = match part.strip_suffix(".not()") {
                Some(part) => (part, true),
                None => (part, false),
            };
            let found = Shortcut::Contains(name.into(), literal(part.strip_suffix(')')?)?);
            return Some(if is_not { not(found) } else { found });
        }
        match rest.strip_prefix("!=") {
            Some(right) => Some(not(Shortcut::Text(name.into(), vec![literal(right.trim())?]))),
            None => texts(vec![literal(rest.strip_prefix('=')?.trim())?]),
        }
    }

    /// The type of an element that has a single value of a single primitive type, written in JSON as a string or a
    /// decimal.
    fn single(&self, name: &str) -> Option<Primitive> {
        let element: &ElementDef = self.of.elements.iter().find(|element| *element.name == *name)?;
        match (element.types.first().map(|of_type| self.schema.def(of_type.type_id).kind), element.is_choice) {
            (_, true) | (None, _) => None,
            (Some(TypeKind::Primitive(of)), _) if !element.is_array => match of {
                Primitive::Code | Primitive::String | Primitive::Uri | Primitive::Decimal => Some(of),
                _ => None,
            },
            _ => None,
        }
    }

    /// `component.code.where(…).empty()`: nothing if there is no component.
    fn path(&self, operand: &str) -> Option<Shortcut> {
        let (first, mut rest) = name(operand);
        if !first.starts_with(|c: char| c.is_ascii_lowercase()) {
            return None;
        }
        loop {
            let (step, after) = name(rest.strip_prefix('.')?);
            match (step, after.strip_prefix('(')) {
                ("", _) => return None,
                (_, None) => rest = after,
                (_, Some(inner)) => {
                    rest = inner.get(length_before(inner, &[])..)?.strip_prefix(')')?;
                    match step {
                        "empty" | "exists" => return last(self.bit(first)?, step == "empty", rest),
                        _ if STEPS.contains(&step) => {}
                        _ => return None,
                    }
                }
            }
        }
    }
}

/// A path that ends with `empty()` or `exists()`, optionally negated.
fn last(bits: u128, if_absent: bool, rest: &str) -> Option<Shortcut> {
    match rest.trim() {
        "" => Some(Shortcut::From(bits, if_absent)),
        ".not()" => Some(Shortcut::From(bits, !if_absent)),
        _ => None,
    }
}

/// Splits off the identifier at the start of a text.
fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    text.split_at(end)
}

fn literal(text: &str) -> Option<Box<str>> {
    if text == UCUM.0 {
        return Some(UCUM.1.into());
    }
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.contains(['\'', '\\'])).then(|| inner.into())
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The length of a text before one of these words, or before a parenthesis that closes an outer one.
fn length_before(text: &str, words: &[&str]) -> usize {
    let (mut depth, mut quoted, mut after_white) = (0u32, false, false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quoted => drop(characters.next()),
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' if depth == 0 => return at,
            ')' => depth -= 1,
            _ if depth == 0 && after_white && words.iter().any(|word| starts_with_word(&text[at..], word)) => {
                return at;
            }
            _ => {}
        }
        after_white = character.is_whitespace();
    }
    text.len()
}
