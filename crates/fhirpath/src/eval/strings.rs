//! Functions on texts. Positions count characters.

use super::super::Failure;
use super::super::ast::{Call, Expr};
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::parser;
use super::super::value::{Item, Text, Value};
use super::{Done, Eval, Focus, encode};
use regex::Regex;
use std::borrow::Cow;

impl<'t> Eval<'t> {
    pub(super) fn string_function(
        &mut self,
        call: &Call,
        input: Collection<'t>,
        focus: Focus<'_, 't>,
    ) -> Done<Collection<'t>> {
        use Function as F;
        if call.function == F::Join {
            return self.join(call, input, focus);
        }
        let name = call.function.name();
        let Some(text) = self.text(input, name)? else { return Ok(Collection::Empty) };
        self.spend_bytes(text.len())?;
        match call.function {
            F::Length => Ok(Some(Value::Integer(count(&text))).into()),
            F::Upper | F::Lower if self.check_text(text.len()).is_err() => Err(Failure::TextLimit),
            F::Upper => self.made(text.to_uppercase()),
            F::Lower => self.made(text.to_lowercase()),
            F::Trim => self.made(text.trim().to_owned()),
            F::ToChars => {
                self.kept(text.chars().map(|letter| Item::Value(Value::text(letter.encode_utf8(&mut [0; 4])))))
            }
            F::Substring => self.substring(call, text, focus),
            F::ReplaceMatches => self.replace_matches(call, &text, focus),
            F::Replace => self.replace(call, &text, focus),
            _ => {
                let Some(argument) = self.text_argument(call, 0, focus)? else { return Ok(Collection::Empty) };
                self.with_argument(call.function, &text, &argument)
            }
        }
    }

    fn text_argument(&mut self, call: &Call, at: usize, focus: Focus<'_, 't>) -> Done<Option<Text<'t>>> {
        let argument = self.argument(call, at, focus)?;
        self.text(argument, call.function.name())
    }

    fn with_argument(&mut self, function: Function, text: &str, argument: &str) -> Done<Collection<'t>> {
        use Function as F;
        let position = |found: Option<usize>| match found {
            Some(at) => count(text.get(..at).unwrap_or_default()),
            None => -1,
        };
        self.spend_bytes(argument.len())?;
        if matches!(function, F::Encode | F::Escape) {
            self.check_text(text.len())?;
        }
        let made = match function {
            F::Encode => encode::encode(text, argument),
            F::Decode => encode::decode(text, argument),
            F::Escape => encode::escape(text, argument),
            F::Unescape => encode::unescape(text, argument),
            _ => None,
        };
        if let Some(made) = made {
            return self.made(made);
        }
        Ok(match function {
            F::IndexOf => Some(Value::Integer(position(text.find(argument)))).into(),
            F::LastIndexOf => Some(Value::Integer(position(text.rfind(argument)))).into(),
            F::Split if argument.is_empty() => Some(Value::text(text)).into(),
            F::Split => self.kept(text.split(argument).map(|part| Item::Value(Value::text(part))))?,
            _ => Collection::Empty,
        })
    }

    /// Parts of the document's text are not copied.
    fn substring(&mut self, call: &Call, text: Text<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let start = self.argument(call, 0, focus)?;
        let Some(start) = self.integer(&start, "substring")? else { return Ok(Collection::Empty) };
        let length = match call.arguments.get(1) {
            Some(_) => {
                let length = self.argument(call, 1, focus)?;
                self.integer(&length, "substring")?
            }
            None => None,
        };
        let Some(start) = usize::try_from(start).ok().and_then(|start| offset(&text, start)) else {
            return Ok(Collection::Empty);
        };
        let cut = |text: &str| -> (usize, usize) {
            let rest = text.get(start..).unwrap_or_default();
            let end = length.map(|length| usize::try_from(length).unwrap_or(0));
            let end = end.and_then(|length| rest.char_indices().nth(length)).map_or(text.len(), |(at, _)| start + at);
            (start, end)
        };
        let (start, end) = cut(&text);
        let part = match &text {
            Text::Borrowed(text) => Text::Borrowed(text.get(start..end).unwrap_or_default()),
            Text::Shared(text) => Text::Shared(text.get(start..end).unwrap_or_default().into()),
        };
        Ok(Some(Value::String(part)).into())
    }

    /// The pattern compiled with the expression, else the argument's, compiled now.
    fn pattern<'c>(&mut self, call: &'c Call, focus: Focus<'_, 't>) -> Done<Option<Cow<'c, Regex>>> {
        if let Some(regex) = &call.regex {
            return Ok(Some(Cow::Borrowed(regex)));
        }
        let Some(pattern) = self.text_argument(call, 0, focus)? else { return Ok(None) };
        let flags = if call.function == Function::ReplaceMatches { 2 } else { 1 };
        let flags = self.text_argument(call, flags, focus)?;
        // Compiling costs as much as many other steps.
        self.spend(1000 + pattern.len())?;
        let whole = call.function == Function::MatchesFull;
        let regex = parser::regex(&pattern, whole, flags.as_deref().unwrap_or_default()).ok_or(Failure::Regex)?;
        Ok(Some(Cow::Owned(regex)))
    }

    /// `startsWith`, `endsWith`, `contains`, `matches` and `matchesFull`.
    pub(super) fn text_test(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let name = call.function.name();
        let (mut first, mut count) = (Collection::Empty, 0);
        self.each_input(call, focus, &mut |_, item| {
            count += 1;
            first = Collection::One(item);
            Ok(count < 2)
        })?;
        if count > 1 {
            return Err(Failure::Several(name));
        }
        let Some(text) = self.text(first, name)? else { return Ok(None) };
        self.spend_bytes(text.len())?;
        if matches!(call.function, Function::Matches | Function::MatchesFull) {
            return Ok(self.pattern(call, focus)?.map(|regex| regex.is_match(&text)));
        }
        if let Some(Expr::Literal(Value::String(argument))) = call.arguments.first() {
            return Ok(Some(test(call.function, &text, argument)));
        }
        let argument = self.text_argument(call, 0, focus)?;
        Ok(argument.map(|argument| test(call.function, &text, &argument)))
    }

    fn replace_matches(&mut self, call: &Call, text: &str, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let Some(regex) = self.pattern(call, focus)? else { return Ok(Collection::Empty) };
        let Some(by) = self.text_argument(call, 1, focus)? else { return Ok(Collection::Empty) };
        if regex.as_str().is_empty() {
            return self.made(text.to_owned());
        }
        let (mut count, mut matched) = (0, 0);
        for found in regex.find_iter(text) {
            count += 1;
            matched += found.len();
        }
        // Each `$` may refer to the whole match.
        let groups = by.matches('$').count();
        self.spend_replaced(text, count, &by, matched.saturating_mul(groups))?;
        self.made(regex.replace_all(text, &*by).into_owned())
    }

    fn replace(&mut self, call: &Call, text: &str, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let Some(pattern) = self.text_argument(call, 0, focus)? else { return Ok(Collection::Empty) };
        let Some(by) = self.text_argument(call, 1, focus)? else { return Ok(Collection::Empty) };
        // An empty pattern matches before and after each character.
        let count = text.matches(&*pattern).count();
        self.spend_replaced(text, count, &by, 0)?;
        self.made(text.replace(&*pattern, &by))
    }

    /// Charges for the maximum size of a replacement's result.
    fn spend_replaced(&mut self, text: &str, count: usize, by: &str, groups_bytes: usize) -> Done<()> {
        self.spend(count)?;
        let made = count.saturating_mul(by.len()).saturating_add(groups_bytes);
        self.spend_text(made.saturating_add(text.len()))
    }

    fn join(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let separator = self.text_argument(call, 0, focus)?;
        let separator = separator.as_deref().unwrap_or_default();
        if input.is_empty() {
            return Ok(Collection::Empty);
        }
        let mut joined = String::new();
        let mut is_first = true;
        for item in input {
            let Some(text) = self.text(Collection::One(item), "join")? else { continue };
            self.spend(1 + (text.len() + separator.len()) / 16)?;
            self.check_text(joined.len().saturating_add(text.len() + separator.len()))?;
            if !is_first {
                joined.push_str(separator);
            }
            is_first = false;
            joined.push_str(&text);
        }
        self.made(joined)
    }
}

fn test(function: Function, text: &str, argument: &str) -> bool {
    match function {
        Function::StartsWith => text.starts_with(argument),
        Function::EndsWith => text.ends_with(argument),
        _ => text.contains(argument),
    }
}

/// The number of characters.
fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

/// The byte offset of the character at this position; None if there is none.
fn offset(text: &str, number: usize) -> Option<usize> {
    match number {
        0 if text.is_empty() => Some(0),
        _ => text.char_indices().nth(number).map(|(at, _)| at),
    }
}
