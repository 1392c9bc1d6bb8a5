//! Splits text into tokens by the lexical part of the FHIRPath grammar; skips comments and white space.

use super::failure::SyntaxError;
use super::value::{DateTime, Value};
use rust_decimal::Decimal;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name; `true` if it was in backticks, so that it is not a keyword.
    Name(Box<str>, bool),
    Text(Box<str>),
    Integer(i64),
    Long(i64),
    Decimal(Decimal),
    Moment(Value<'static>),
    /// `$this`, `$index`, `$total`, without the sign.
    Dollar(Box<str>),
    /// `%name`
    Percent(Box<str>),
    Symbol(&'static str),
    End,
}

pub(super) struct Lexed {
    pub token: Token,
    pub offset: usize,
}

const SYMBOLS: [&str; 24] = [
    "!=", "!~", "<=", ">=", "<", ">", "=", "~", "+", "-", "*", "/", "&", "|", "(", ")", "[", "]", "{", "}", ".", ",",
    ";", "@",
];

struct Lexer<'e> {
    text: &'e str,
    at: usize,
}

pub(super) fn tokens(text: &str) -> Result<Vec<Lexed>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip()?;
        let offset = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        found.push(Lexed { token, offset });
        if done {
            return Ok(found);
        }
    }
}

impl<'e> Lexer<'e> {
    fn rest(&self) -> &'e str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error<T>(&self, message: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError { offset: self.at, message: message.to_owned() })
    }

    /// Takes characters while they match.
    fn while_is(&mut self, wanted: impl Fn(char) -> bool) -> &'e str {
        let rest = self.rest();
        let end = rest.find(|letter| !wanted(letter)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.while_is(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.while_is(|letter| letter != '\n' && letter != '\r');
            } else if self.rest().starts_with("/*") {
                match self.rest().find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return self.error("A comment is not closed"),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token, SyntaxError> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        match first {
            // Double quotes are not FHIRPath, but the specification's own eld-11 has them.
            quote @ ('\'' | '"') => Ok(Token::Text(self.quoted(quote)?)),
            '`' => Ok(Token::Name(self.quoted('`')?, true)),
            '0'..='9' => self.number(),
            '@' => self.moment(),
            '$' => {
                self.at += 1;
                Ok(Token::Dollar(self.name().into()))
            }
            '%' => self.percent(),
            'A'..='Z' | 'a'..='z' | '_' => Ok(Token::Name(self.name().into(), false)),
            _ => self.symbol(),
        }
    }

    fn symbol(&mut self) -> Result<Token, SyntaxError> {
        match SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None => self.error("FHIRPath does not use this character"),
        }
    }

    fn name(&mut self) -> &'e str {
        self.while_is(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    }

    fn percent(&mut self) -> Result<Token, SyntaxError> {
        self.at += 1;
        let name = match self.peek() {
            Some(quote @ ('`' | '\'')) => self.quoted(quote)?,
            // Hyphens, because older expressions use `%vs-name`.
            _ => self.constant_name().into(),
        };
        if name.is_empty() { self.error("A name is missing after %") } else { Ok(Token::Percent(name)) }
    }

    fn constant_name(&mut self) -> &'e str {
        let with_hyphens = self.rest().starts_with("vs-") || self.rest().starts_with("ext-");
        self.while_is(|letter| letter.is_ascii_alphanumeric() || letter == '_' || (with_hyphens && letter == '-'))
    }

    fn quoted(&mut self, quote: char) -> Result<Box<str>, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(letter) = self.peek() else {
                self.at = open;
                return self.error("A quote is not closed");
            };
            self.at += letter.len_utf8();
            match letter {
                '\\' => text.push(self.escape()?),
                _ if letter == quote => return Ok(text.into()),
                _ => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let Some(letter) = self.peek() else { return self.error("The text ends in an escape") };
        self.at += letter.len_utf8();
        Ok(match letter {
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '\'' | '"' | '`' | '\\' | '/' => letter,
            'u' => return self.unicode(),
            // Published expressions escape characters needlessly (`'\\.'`), meaning the character itself.
            '.' | '-' | '[' | ']' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | '|' | ' ' => letter,
            _ => return self.error("FHIRPath does not define this escape"),
        })
    }

    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let unit = self.hex()?;
        let code = match unit {
            0xD800..=0xDBFF if self.rest().starts_with("\\u") => {
                self.at += 2;
                let low = self.hex()?;
                0x10000 + ((unit - 0xD800) << 10) + low.wrapping_sub(0xDC00) % 0x400
            }
            _ => unit,
        };
        match char::from_u32(code) {
            Some(letter) => Ok(letter),
            None => self.error("This escape is not a character"),
        }
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.error("\\u is not followed by four hexadecimal digits"),
        }
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        let start = self.at;
        self.while_is(|letter| letter.is_ascii_digit());
        let has_fraction = {
            let mut letters = self.rest().chars();
            letters.next() == Some('.') && letters.next().is_some_and(|letter| letter.is_ascii_digit())
        };
        if has_fraction {
            self.at += 1;
            self.while_is(|letter| letter.is_ascii_digit());
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if !has_fraction && self.rest().starts_with('L') {
            self.at += 1;
            return text.parse().map(Token::Long).or_else(|_| self.error("A number is too large"));
        }
        match has_fraction {
            true => Decimal::from_str_exact(text).map(Token::Decimal).or_else(|_| self.error("A number is too long")),
            false => text.parse().map(Token::Integer).or_else(|_| self.error("A number is too large")),
        }
    }

    fn moment(&mut self) -> Result<Token, SyntaxError> {
        self.at += 1;
        let text = self.moment_text();
        let parsed = match text.strip_prefix('T') {
            Some(time) => DateTime::parse_time(time).map(Value::Time),
            None if text.contains('T') => {
                let text = text.strip_suffix('T').unwrap_or(text);
                DateTime::parse(text).map(Value::DateTime)
            }
            None => DateTime::parse(text).map(Value::Date),
        };
        match parsed {
            Some(value) => Ok(Token::Moment(value)),
            None => self.error("This is not a valid date or time literal"),
        }
    }

    /// The longest text that the literal can be: digits, `-`, `:`, `T`, one fraction, and a zone.
    fn moment_text(&mut self) -> &'e str {
        let start = self.at;
        let mut after_t = false;
        while let Some(letter) = self.peek() {
            let next_is_digit = self.rest().chars().nth(1).is_some_and(|next| next.is_ascii_digit());
            let taken = match letter {
                '0'..='9' => true,
                'T' if !after_t => {
                    after_t = true;
                    true
                }
                '-' => next_is_digit,
                ':' | '.' | '+' => after_t && next_is_digit,
                'Z' => after_t,
                _ => false,
            };
            if !taken {
                break;
            }
            self.at += 1;
            if letter == 'Z' {
                break;
            }
        }
        self.text.get(start..self.at).unwrap_or_default()
    }
}
