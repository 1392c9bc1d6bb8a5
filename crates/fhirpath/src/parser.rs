//! Parses tokens to an expression, by the precedence of the FHIRPath grammar. Depth and length are limited.

use super::ast::{Call, Expr, Namespace, Operator, TypeName};
use super::constant;
use super::failure::SyntaxError;
use super::function::Function;
use super::lexer::{self, Lexed, Token};
use super::value::{Quantity, Unit, Value};
use super::{DEPTH_LIMIT_LEVELS, LENGTH_LIMIT_BYTES, REGEX_LIMIT_BYTES};
use regex::{Regex, RegexBuilder};

pub(super) struct Parsed {
    pub expr: Expr,
    pub defines_variables: bool,
    /// The number of right sides of `in` that are worth caching.
    pub memos: u16,
    /// The nesting depth.
    pub levels: u32,
}

pub(super) fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    if text.len() > LENGTH_LIMIT_BYTES {
        let message = format!("The expression is longer than {LENGTH_LIMIT_BYTES} bytes");
        return Err(SyntaxError { offset: 0, message });
    }
    let tokens = lexer::tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, defines_variables: false, memos: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => {
            let Parser { defines_variables, memos, depth, .. } = parser;
            Ok(Parsed { expr, defines_variables, memos, levels: u32::try_from(depth).unwrap_or(u32::MAX) })
        }
        _ => parser.error("The end of the expression is expected here"),
    }
}

/// Compiles a pattern with FHIRPath's semantics: `.` also matches line ends.
pub(super) fn regex(pattern: &str, whole: bool, flags: &str) -> Option<Regex> {
    let pattern = if whole { format!("^(?:{pattern})$") } else { pattern.to_owned() };
    RegexBuilder::new(&pattern)
        .dot_matches_new_line(true)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .size_limit(REGEX_LIMIT_BYTES)
        .build()
        .ok()
}

struct Parser {
    tokens: Vec<Lexed>,
    at: usize,
    depth: usize,
    defines_variables: bool,
    memos: u16,
}

type Parse<T> = Result<T, SyntaxError>;

/// Operators from the weakest to the strongest.
const LEVELS: [&[&str]; 10] = [
    &["implies"],
    &["or", "xor"],
    &["and"],
    &["in", "contains"],
    &["=", "~", "!=", "!~"],
    &["<=", "<", ">", ">="],
    &["|"],
    &["is", "as"],
    &["+", "-", "&"],
    &["*", "/", "div", "mod"],
];

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |lexed| &lexed.token)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn error<T>(&self, message: &str) -> Parse<T> {
        let offset = self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |lexed| lexed.offset);
        Err(SyntaxError { offset, message: message.to_owned() })
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Parse<()> {
        if self.takes(symbol) { Ok(()) } else { self.error(&format!("{symbol} is missing")) }
    }

    fn deeper(&mut self) -> Parse<()> {
        self.depth += 1;
        match self.depth > DEPTH_LIMIT_LEVELS {
            true => self.error(&format!("The expression is deeper than {DEPTH_LIMIT_LEVELS} levels")),
            false => Ok(()),
        }
    }

    fn expression(&mut self) -> Parse<Expr> {
        self.level(0)
    }

    /// The operator at the cursor and its precedence.
    fn operator(&self) -> Option<(&'static str, usize)> {
        let text: &str = match self.peek() {
            Token::Name(name, false) => name,
            Token::Symbol(symbol) => symbol,
            _ => return None,
        };
        let level = LEVELS.iter().position(|level| level.contains(&text))?;
        let name = LEVELS[level].iter().copied().find(|known| *known == text)?;
        Some((name, level))
    }

    /// Parses operands joined by operators of at least the precedence `weakest`. `depth` becomes that of the deepest
    /// operand.
    fn level(&mut self, weakest: usize) -> Parse<Expr> {
        let outer = self.depth;
        let mut left = self.signed()?;
        while let Some((operator, level)) = self.operator().filter(|found| found.1 >= weakest) {
            self.at += 1;
            if matches!(operator, "is" | "as") {
                self.deeper()?;
                let name = self.type_name()?;
                let of = Box::new(left);
                left = if operator == "is" { Expr::Is(of, name) } else { Expr::As(of, name) };
                continue;
            }
            let reached = std::mem::replace(&mut self.depth, outer);
            let right = self.level(level + 1)?;
            self.depth = self.depth.max(reached);
            left = self.join(operator, left, right)?;
        }
        Ok(left)
    }

    /// A chain of one operator becomes a list, so that it is not deep.
    fn join(&mut self, operator: &str, left: Expr, right: Expr) -> Parse<Expr> {
        let binary = match operator {
            "and" | "or" | "|" => {
                let longer = chain(operator, left, right);
                if matches!(&longer, Expr::And(all) | Expr::Or(all) | Expr::Union(all) if all.len() == 2) {
                    self.deeper()?;
                }
                return Ok(longer);
            }
            "implies" => Operator::Implies,
            "xor" => Operator::Xor,
            "in" => Operator::In { memo: self.memo(&right) },
            "contains" => Operator::Contains,
            "=" => Operator::Equal,
            "~" => Operator::Equivalent,
            "!=" => Operator::NotEqual,
            "!~" => Operator::NotEquivalent,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            "+" => Operator::Plus,
            "-" => Operator::Minus,
            "&" => Operator::Concatenate,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "div" => Operator::Div,
            _ => Operator::Mod,
        };
        self.deeper()?;
        Ok(Expr::Binary(binary, Box::new((left, right))))
    }

    fn memo(&mut self, right: &Expr) -> Option<u16> {
        let is_list = match right {
            Expr::Union(all) => all.iter().all(|one| matches!(one, Expr::Literal(_))),
            other => matches!(other, Expr::Literal(_)),
        };
        if is_list || !right.is_fixed() || self.memos >= 64 {
            return None;
        }
        self.memos += 1;
        Some(self.memos - 1)
    }

    fn signed(&mut self) -> Parse<Expr> {
        let minus = self.is("-");
        if minus || self.is("+") {
            self.at += 1;
            self.deeper()?;
            return Ok(Expr::Sign(minus, Box::new(self.signed()?)));
        }
        self.path()
    }

    fn path(&mut self) -> Parse<Expr> {
        let mut left = self.term()?;
        loop {
            if self.takes(".") {
                self.deeper()?;
                left = match self.next() {
                    Token::Name(name, _) if self.is("(") => self.call(&name, Some(left))?,
                    Token::Name(name, _) => Expr::Member(Box::new(left), name),
                    Token::Dollar(name) => match &*name {
                        // `$this` after a point: the focus is the input, and is ignored.
                        "this" => left,
                        _ => return self.error("A name is missing after the point"),
                    },
                    _ => {
                        self.at -= 1;
                        return self.error("A name is missing after the point");
                    }
                };
            } else if self.takes("[") {
                self.deeper()?;
                let index = self.nested("]")?;
                left = Expr::At(Box::new((left, index)));
            } else {
                return Ok(left);
            }
        }
    }

    /// Parses an expression within brackets, up to the closing one.
    fn nested(&mut self, close: &str) -> Parse<Expr> {
        self.deeper()?;
        let inner = self.expression()?;
        self.expect(close)?;
        Ok(inner)
    }

    fn term(&mut self) -> Parse<Expr> {
        match self.next() {
            Token::Symbol("(") => self.nested(")"),
            Token::Symbol("{") => {
                self.expect("}")?;
                Ok(Expr::Empty)
            }
            Token::Name(name, false) if &*name == "true" || &*name == "false" => {
                Ok(Expr::Literal(Value::Boolean(&*name == "true")))
            }
            Token::Name(name, _) if self.is("(") => self.call(&name, None),
            Token::Name(name, _) => Ok(Expr::Start(name)),
            Token::Text(text) => Ok(Expr::Literal(Value::text(&text))),
            Token::Integer(number) => self.quantity(number.into(), Value::Integer(number)),
            Token::Decimal(number) => self.quantity(number, Value::Decimal(number)),
            Token::Long(number) => Ok(Expr::Literal(Value::Long(number))),
            Token::Moment(value) => Ok(Expr::Literal(value)),
            Token::Dollar(name) => match &*name {
                "this" => Ok(Expr::This),
                "index" => Ok(Expr::Index),
                "total" => Ok(Expr::Total),
                _ => self.error("The only names with $ are $this, $index, and $total"),
            },
            Token::Percent(name) => Ok(constant::named(&name)),
            _ => {
                self.at -= 1;
                self.error("A value or a name is missing")
            }
        }
    }

    /// Parses a number, or a quantity if a unit follows.
    fn quantity(&mut self, number: rust_decimal::Decimal, alone: Value<'static>) -> Parse<Expr> {
        let unit = match self.peek() {
            Token::Text(text) => Some(Unit::code(text)),
            Token::Name(name, false) => Unit::calendar(name),
            _ => None,
        };
        match unit {
            None if matches!(alone, Value::Integer(number) if i32::try_from(number).is_err()) => {
                self.at -= 1;
                self.error("A number is too large for an Integer; a Long ends with L")
            }
            None => Ok(Expr::Literal(alone)),
            Some(unit) => {
                self.at += 1;
                Ok(Expr::Literal(Value::Quantity(Box::new(Quantity { value: number, unit }))))
            }
        }
    }

    fn call(&mut self, name: &str, input: Option<Expr>) -> Parse<Expr> {
        let Some((function, least, most)) = Function::named(name) else {
            self.at -= 1;
            return self.error("There is no function with this name");
        };
        self.defines_variables |= function == Function::DefineVariable;
        self.expect("(")?;
        if function.takes_type() {
            let type_name = Some(self.type_name()?);
            self.expect(")")?;
            return Ok(Expr::Call(Box::new(Call { function, input, arguments: Vec::new(), type_name, regex: None })));
        }
        let arguments = self.arguments()?;
        if arguments.len() < least || arguments.len() > most {
            return self.error("The function has too few or too many arguments");
        }
        let regex = self.pattern(function, &arguments)?;
        Ok(Expr::Call(Box::new(Call { function, input, arguments, type_name: None, regex })))
    }

    fn arguments(&mut self) -> Parse<Vec<Expr>> {
        let mut arguments = Vec::new();
        if self.takes(")") {
            return Ok(arguments);
        }
        let outer = self.depth;
        let mut reached = outer;
        loop {
            self.depth = outer;
            self.deeper()?;
            arguments.push(self.expression()?);
            reached = reached.max(self.depth);
            if !self.takes(",") {
                break;
            }
        }
        self.expect(")")?;
        self.depth = reached;
        Ok(arguments)
    }

    /// Compiles a literal pattern now, so that an invalid one is reported at once and a valid one is compiled only
    /// once.
    fn pattern(&self, function: Function, arguments: &[Expr]) -> Parse<Option<Regex>> {
        let whole = function == Function::MatchesFull;
        if !whole && !matches!(function, Function::Matches | Function::ReplaceMatches) {
            return Ok(None);
        }
        let flags = match arguments.get(if function == Function::ReplaceMatches { 2 } else { 1 }) {
            None => "",
            Some(Expr::Literal(Value::String(flags))) => flags,
            Some(_) => return Ok(None),
        };
        match arguments.first() {
            Some(Expr::Literal(Value::String(pattern))) => match regex(pattern, whole, flags) {
                Some(regex) => Ok(Some(regex)),
                None => self.error("The regular expression is invalid, has look-around, or is too large"),
            },
            _ => Ok(None),
        }
    }

    fn type_name(&mut self) -> Parse<TypeName> {
        let Token::Name(first, _) = self.next() else {
            // Some expressions write the name of the type in quotes.
            self.at -= 1;
            return match self.next() {
                Token::Text(name) => Ok(TypeName { namespace: Namespace::Any, name }),
                _ => self.error("The name of a type is missing"),
            };
        };
        let is_qualified = self.is(".") && matches!(&*first, "System" | "FHIR") || {
            let after = self.tokens.get(self.at + 2).map(|lexed| &lexed.token);
            self.is(".")
                && first.starts_with(|letter: char| letter.is_ascii_uppercase())
                && matches!(after, Some(Token::Symbol(")")))
        };
        if !is_qualified {
            return Ok(TypeName { namespace: Namespace::Any, name: first });
        }
        self.at += 1;
        let Token::Name(name, _) = self.next() else { return self.error("The name of a type is missing") };
        let namespace = match &*first {
            "System" => Namespace::System,
            "FHIR" => Namespace::Fhir,
            _ => Namespace::Other,
        };
        Ok(TypeName { namespace, name })
    }
}

fn chain(operator: &str, left: Expr, right: Expr) -> Expr {
    let wrap = match operator {
        "and" => Expr::And,
        "or" => Expr::Or,
        _ => Expr::Union,
    };
    let mut all = match (operator, left) {
        ("and", Expr::And(all)) | ("or", Expr::Or(all)) | ("|", Expr::Union(all)) => all,
        (_, left) => vec![left],
    };
    all.push(right);
    wrap(all)
}
