//! Texts that quote a message, in two versions: with the quotations, for its sender, and with the quotations masked,
//! for everyone else.
//!
//! Code that formats an issue marks what comes from a message with `quote`. `Text` removes the marks and has both
//! versions, so that no later code has to know which words were the sender's.

use super::schema::vocabulary;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, Range};

/// The longest token that is quoted, in characters.
const TOKEN_LIMIT: usize = 32;
/// Replaces a token that is masked, or that is too long to be quoted.
pub(super) const MASK: &str = "…";
/// Marks around what came from a message until the text is split into its versions: characters that texts cannot
/// contain.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';
/// The first byte of both in UTF-8.
const MARK_LEAD: u8 = 0xEF;

/// A token of a message, to be formatted into a text. Only a token that looks like a code is quoted: at most 32
/// characters without white space and control characters. Anything else might be a person's name.
pub fn quote(token: &str) -> Quote<'_> {
    Quote(token)
}

/// See `quote`.
pub struct Quote<'t>(&'t str);

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}');
        let is_code_like = !self.0.is_empty() && self.0.chars().nth(TOKEN_LIMIT).is_none() && !self.0.contains(unfit);
        write!(f, "{OPEN}{}{CLOSE}", if is_code_like { self.0 } else { MASK })
    }
}

/// An expression with its unknown names marked, to be formatted into a text.
pub fn quote_path(path: &str) -> String {
    let (mut marked, mut from) = (String::with_capacity(path.len()), 0);
    while let Some(name) = unknown_name(path, from) {
        marked.push_str(&path[from..name.start]);
        marked.push_str(&quote(&path[name.clone()]).to_string());
        from = name.end;
    }
    marked.push_str(&path[from..]);
    marked
}

/// Whether both versions of an expression are the expression itself, which is the usual case.
pub(super) fn is_plain_path(path: &str) -> bool {
    is_plain(path) && unknown_name(path, 0).is_none()
}

/// The first name from `from` on that the specification does not define.
fn unknown_name(path: &str, mut from: usize) -> Option<Range<usize>> {
    loop {
        let start = from + path[from..].find(is_of_name)?;
        let end = path[start..].find(|c| !is_of_name(c)).map_or(path.len(), |length| start + length);
        let name = &path[start..end];
        let is_index = path[..start].ends_with('[') && name.bytes().all(|b| b.is_ascii_digit());
        if !is_index && !vocabulary::has(name) {
            return Some(start..end);
        }
        from = end;
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// A text that few issues have; boxed to keep all other issues small.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Full(pub Box<str>);

impl Full {
    pub fn boxed(text: impl Into<Box<str>>) -> Box<Full> {
        Box::new(Full(text.into()))
    }
}

/// A text in two versions. Display, serialization, and `Deref` use the masked one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text {
    /// The text with its quotations masked.
    pub masked: Cow<'static, str>,
    /// The text with its quotations; None if it has none.
    pub(super) full: Option<Box<Full>>,
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text { masked: text.into(), full: None }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.masked.into_owned()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.masked
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl Text {
    /// Removes the marks from a text. Control characters are escaped, so that it can appear in lists and logs.
    pub fn new(marked: impl Into<Cow<'static, str>>) -> Text {
        let marked = marked.into();
        if is_plain(&marked) {
            return Text { masked: marked, full: None };
        }
        if !marked.contains(OPEN) {
            return Text { masked: escaped(&marked).into_owned().into(), full: None };
        }
        let (mut masked, mut full) = (String::with_capacity(marked.len()), String::with_capacity(marked.len()));
        let mut depth = 0_usize;
        let mut rest = &*marked;
        loop {
            let end = next_mark(rest).unwrap_or(rest.len());
            let (words, mark) = rest.split_at(end);
            let words = escaped(words);
            full.push_str(&words);
            if depth == 0 {
                masked.push_str(&words);
            }
            let mut behind = mark.chars();
            match behind.next() {
                Some(OPEN) => {
                    if depth == 0 {
                        masked.push_str(MASK);
                    }
                    depth += 1;
                }
                Some(_) => depth = depth.saturating_sub(1),
                None => break,
            }
            rest = behind.as_str();
        }
        let full = (full != masked).then(|| Full::boxed(full));
        Text { masked: masked.into(), full }
    }

    /// The text with its quotations.
    pub fn full(&self) -> &str {
        self.full.as_ref().map_or(&*self.masked, |full| &full.0)
    }

    pub(super) fn unmasked(self) -> Text {
        Text { masked: self.full.map_or(self.masked, |full| full.0.into_string().into()), full: None }
    }

    /// The same with these words appended.
    pub fn followed_by(self, words: &str) -> Text {
        let behind = |text: &str| format!("{text}{words}");
        Text { masked: behind(&self.masked).into(), full: self.full.map(|full| Full::boxed(behind(&full.0))) }
    }

    /// The same with these words prepended.
    pub fn prefixed(self, words: &str) -> Text {
        let before = |text: &str| format!("{words}{text}");
        Text { masked: before(&self.masked).into(), full: self.full.map(|full| Full::boxed(before(&full.0))) }
    }
}

/// The offset of the first mark. Both begin with the same byte, which few other characters do.
fn next_mark(text: &str) -> Option<usize> {
    let leads = memchr::memchr_iter(MARK_LEAD, text.as_bytes());
    leads.into_iter().find(|at| text[*at..].starts_with([OPEN, CLOSE]))
}

/// Whether a text is printable ASCII, as nearly all are, and so has neither marks nor control characters. Checks all
/// bytes without an early exit, so that the compiler vectorizes the loop.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte))
}

fn escaped(text: &str) -> Cow<'_, str> {
    match is_plain(text) || !text.contains(char::is_control) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(escape_controls(text)),
    }
}

/// Replaces control characters by `\\u{0}` and so on: texts stored beside a body and shown have none.
pub fn escape_controls(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        if c.is_control() {
            escaped.extend(c.escape_default())
        } else {
            escaped.push(c)
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_like_token_is_quoted_to_the_sender_and_masked_for_the_others() {
        let long = "x".repeat(33);
        for (token, quoted) in [
            ("male", "male"),
            (&"x".repeat(32), &*"x".repeat(32)),
            (&long, MASK),
            ("Jane Doe", MASK),
            ("Jane\u{a0}Doe", MASK),
            ("a\u{0}b", MASK),
            ("", MASK),
            ("a\u{fdd1}b", MASK),
        ] {
            let text = Text::new(format!("the code '{}' is not in the set", quote(token)));
            assert_eq!(&*text.masked, "the code '…' is not in the set", "{token:?}");
            assert_eq!(text.full(), format!("the code '{quoted}' is not in the set"), "{token:?}");
        }
    }

    #[test]
    fn a_text_that_was_cut_inside_a_quotation_is_masked_to_its_end() {
        let cut: String = format!("First: '{}' is none", quote("secret")).chars().take(12).collect();
        let text = Text::new(cut);
        assert_eq!((&*text.masked, text.full()), ("First: '…", "First: 'sec"));
    }

    #[test]
    fn unknown_names_of_an_expression_are_masked_and_names_of_the_specification_are_not() {
        for (path, masked) in [
            ("Bundle.entry[1].resource.value.ofType(Quantity)", "Bundle.entry[1].resource.value.ofType(Quantity)"),
            ("Patient.ZZPATIENTZZ[0].given", "Patient.…[0].given"),
            ("Bundle.entry[0].resource.valueQuantity", "Bundle.entry[0].resource.valueQuantity"),
            ("Bundle.entry[0].resource._birthDate", "Bundle.entry[0].resource._birthDate"),
            (
                "Bundle.entry[0].resource.destination[0].target.resolve()",
                "Bundle.entry[0].resource.destination[0].target.resolve()",
            ),
            ("$this", "$this"),
            ("Müller.name", "….name"),
        ] {
            let text = Text::new(quote_path(path));
            assert_eq!((&*text.masked, text.full()), (masked, path));
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(&*Text::new("a\u{0}b\tc".to_owned()).masked, "a\\u{0}b\\tc");
        assert_eq!(escape_controls("a\u{1b}[1m"), "a\\u{1b}[1m");
    }
}
