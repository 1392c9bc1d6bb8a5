//! Units of quantities: calendar durations, and the part of UCUM that needs no library.
//!
//! A UCUM term of known atoms is a factor times powers of base dimensions; a term with an unknown atom is only
//! comparable with the same term.

use super::Text;
use rust_decimal::Decimal;
use std::fmt;

/// The unit of a quantity.
#[derive(Clone, Debug, PartialEq)]
pub enum Unit<'t> {
    /// The default unit `1`.
    One,
    /// A calendar duration, singular: `day`.
    Calendar(&'static str),
    /// A UCUM term, or the text of a unit without one.
    Code(Text<'t>),
}

/// Calendar duration, its plural, the UCUM term, microseconds; years and months have no fixed length.
const CALENDAR: [(&str, &str, &str, Option<i64>); 8] = [
    ("year", "years", "a", None),
    ("month", "months", "mo", None),
    ("week", "weeks", "wk", Some(604_800_000_000)),
    ("day", "days", "d", Some(86_400_000_000)),
    ("hour", "hours", "h", Some(3_600_000_000)),
    ("minute", "minutes", "min", Some(60_000_000)),
    ("second", "seconds", "s", Some(1_000_000)),
    ("millisecond", "milliseconds", "ms", Some(1_000)),
];

/// Base dimensions: m, g, s, rad, K, C, cd, mol, and each kind of countable that UCUM distinguishes.
const DIMENSIONS: usize = 9;

/// A factor and the powers of the base dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    pub factor: Decimal,
    pub powers: [i8; DIMENSIONS],
}

/// Prefix and power of ten.
const PREFIXES: [(&str, i32); 16] = [
    ("da", 1),
    ("Y", 24),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("h", 2),
    ("d", -1),
    ("c", -2),
    ("m", -3),
    ("u", -6),
    ("n", -9),
    ("p", -12),
    ("f", -15),
    ("a", -18),
    ("Z", 21),
];

/// Atom, whether prefixes are allowed, factor, powers of m, g, s, rad, K, C, cd, mol, U.
type Atom = (&'static str, bool, &'static str, [i8; DIMENSIONS]);

const ATOMS: [Atom; 44] = [
    ("m", true, "1", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("g", true, "1", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("s", true, "1", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("rad", true, "1", [0, 0, 0, 1, 0, 0, 0, 0, 0]),
    ("K", true, "1", [0, 0, 0, 0, 1, 0, 0, 0, 0]),
    ("C", true, "1", [0, 0, 0, 0, 0, 1, 0, 0, 0]),
    ("cd", true, "1", [0, 0, 0, 0, 0, 0, 1, 0, 0]),
    ("mol", true, "1", [0, 0, 0, 0, 0, 0, 0, 1, 0]),
    ("U", true, "1", [0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ("1", false, "1", [0; DIMENSIONS]),
    ("10*", false, "10", [0; DIMENSIONS]),
    ("10^", false, "10", [0; DIMENSIONS]),
    ("%", false, "0.01", [0; DIMENSIONS]),
    ("[ppth]", false, "0.001", [0; DIMENSIONS]),
    ("[ppm]", false, "0.000001", [0; DIMENSIONS]),
    ("min", false, "60", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("h", false, "3600", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("d", false, "86400", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("wk", false, "604800", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("mo", false, "2629800", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("a", false, "31557600", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ("l", true, "0.001", [3, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("L", true, "0.001", [3, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("t", true, "1000000", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("Hz", true, "1", [0, 0, -1, 0, 0, 0, 0, 0, 0]),
    ("N", true, "1000", [1, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("Pa", true, "1000", [-1, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("J", true, "1000", [2, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("W", true, "1000", [2, 1, -3, 0, 0, 0, 0, 0, 0]),
    ("A", true, "1", [0, 0, -1, 0, 0, 1, 0, 0, 0]),
    ("V", true, "1000", [2, 1, -2, 0, 0, -1, 0, 0, 0]),
    ("bar", true, "100000000", [-1, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("m[Hg]", true, "133322000", [-1, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("m[H2O]", true, "9806650", [-1, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("cal", true, "4184", [2, 1, -2, 0, 0, 0, 0, 0, 0]),
    ("[in_i]", false, "0.0254", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("[in_us]", false, "0.0254000508001016", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("[ft_i]", false, "0.3048", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("[yd_i]", false, "0.9144", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("[mi_i]", false, "1609.344", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("[lb_av]", false, "453.59237", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("[oz_av]", false, "28.349523125", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("[st_av]", false, "6350.29318", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("[gr]", false, "0.06479891", [0, 1, 0, 0, 0, 0, 0, 0, 0]),
];

impl<'t> Unit<'t> {
    /// The unit of a literal or of a text: `'mg'`.
    pub fn code(text: &str) -> Unit<'t> {
        if text == "1" { Unit::One } else { Unit::Code(Text::Shared(text.into())) }
    }

    /// `day` or `days`.
    pub fn calendar(word: &str) -> Option<Unit<'t>> {
        let known = CALENDAR.iter().find(|known| known.0 == word || known.1 == word)?;
        Some(Unit::Calendar(known.0))
    }

    /// A duration of fixed length, in microseconds, from a calendar word or a UCUM term.
    pub fn duration_micros(&self) -> Option<i64> {
        let word = match self {
            Unit::One => return None,
            Unit::Calendar(word) => *word,
            Unit::Code(code) => code,
        };
        CALENDAR.iter().find(|known| known.0 == word || known.1 == word || known.2 == word)?.3
    }

    /// Months of a calendar year or month, also if the word is in quotes; a UCUM year is not a calendar year.
    pub fn calendar_months(&self) -> Option<i64> {
        let word = match self {
            Unit::One => return None,
            Unit::Calendar(word) => *word,
            Unit::Code(code) => code,
        };
        match word {
            "year" | "years" => Some(12),
            "month" | "months" => Some(1),
            _ => None,
        }
    }

    /// The dimension and factor; None if they are unknown.
    pub fn measure(&self) -> Option<Measure> {
        match self {
            Unit::One => Some(Measure::ONE),
            Unit::Calendar(word) => {
                let known = CALENDAR.iter().find(|known| known.0 == *word && known.3.is_some())?;
                Measure::of(known.2)
            }
            Unit::Code(code) => Measure::of(code),
        }
    }
}

impl fmt::Display for Unit<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::One => to.write_str("'1'"),
            Unit::Calendar(word) => to.write_str(word),
            Unit::Code(code) => write!(to, "'{}'", &**code),
        }
    }
}

impl Measure {
    const ONE: Measure = Measure { factor: Decimal::ONE, powers: [0; DIMENSIONS] };

    /// Parses terms with `.` and `/`, exponents, and annotations, but without parentheses.
    pub fn of(term: &str) -> Option<Measure> {
        if term.len() > 64 {
            return None;
        }
        let mut found = Measure::ONE;
        let mut rest = term;
        let mut divides = rest.starts_with('/');
        rest = rest.strip_prefix('/').unwrap_or(rest);
        loop {
            let end = component_end(rest);
            let (component, after) = rest.split_at_checked(end)?;
            found = found.times(component_measure(component)?, divides)?;
            match after.chars().next() {
                None => return Some(found),
                Some(mark) => divides = mark == '/',
            }
            rest = after.get(1..)?;
        }
    }

    fn times(mut self, other: Measure, divides: bool) -> Option<Measure> {
        self.factor = match divides {
            true => self.factor.checked_div(other.factor)?,
            false => self.factor.checked_mul(other.factor)?,
        };
        for (mine, theirs) in self.powers.iter_mut().zip(other.powers) {
            *mine = if divides { mine.checked_sub(theirs)? } else { mine.checked_add(theirs)? };
        }
        Some(self)
    }

    /// The term in base units, as a product has it.
    pub fn term(&self) -> String {
        const NAMES: [&str; DIMENSIONS] = ["m", "g", "s", "rad", "K", "C", "cd", "mol", "U"];
        let named = NAMES.iter().zip(self.powers).filter(|(_, power)| *power != 0);
        let parts = named.map(|(name, power)| if power == 1 { (*name).to_owned() } else { format!("{name}{power}") });
        let parts = parts.collect::<Vec<_>>();
        if parts.is_empty() { "1".to_owned() } else { parts.join(".") }
    }
}

/// The end of the component: at `.` or `/` outside of brackets and braces.
fn component_end(text: &str) -> usize {
    let mut inside = 0_i32;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' | '{' => inside += 1,
            ']' | '}' => inside -= 1,
            '.' | '/' if inside <= 0 => return at,
            _ => {}
        }
    }
    text.len()
}

fn component_measure(component: &str) -> Option<Measure> {
    let plain = component.split('{').next().unwrap_or_default();
    if plain.is_empty() {
        return component.ends_with('}').then_some(Measure::ONE);
    }
    if let Some(found) = atom(plain) {
        return Some(found);
    }
    let start = plain.rfind(|letter: char| !letter.is_ascii_digit() && letter != '-' && letter != '+')? + 1;
    let (name, exponent) = plain.split_at_checked(start)?;
    let exponent = exponent.trim_start_matches('+').parse::<i8>().ok().filter(|exponent| exponent.abs() <= 20)?;
    let base = atom(name)?;
    let mut found = Measure::ONE;
    for _ in 0..exponent.abs() {
        found = found.times(base, exponent < 0)?;
    }
    Some(found)
}

fn atom(name: &str) -> Option<Measure> {
    let known = |name: &str| ATOMS.iter().find(|atom| atom.0 == name);
    let measure = |atom: &Atom, power: i32| {
        let mut factor = atom.2.parse::<Decimal>().ok()?;
        for _ in 0..power.abs() {
            factor = if power < 0 { factor.checked_div(Decimal::TEN)? } else { factor.checked_mul(Decimal::TEN)? };
        }
        Some(Measure { factor, powers: atom.3 })
    };
    if let Some(atom) = known(name) {
        return measure(atom, 0);
    }
    PREFIXES.iter().find_map(|(prefix, power)| {
        let atom = known(name.strip_prefix(prefix)?).filter(|atom| atom.1)?;
        measure(atom, *power)
    })
}
