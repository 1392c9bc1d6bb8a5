//! The syntax tree of an expression: of limited depth, with chains of `and`, `or`, and `|` as lists.

use super::function::Function;
use super::value::Value;
use regex::Regex;

#[derive(Clone, Debug)]
pub(super) enum Expr {
    /// `{}`
    Empty,
    Literal(Value<'static>),
    This,
    Index,
    Total,
    Resource,
    RootResource,
    Context,
    /// A variable that `defineVariable` defines.
    Variable(Box<str>),
    /// A name at the start of a path: a type of the focus, or a child.
    Start(Box<str>),
    Member(Box<Expr>, Box<str>),
    Call(Box<Call>),
    At(Box<(Expr, Expr)>),
    /// `+` or `-` before a term.
    Sign(bool, Box<Expr>),
    Binary(Operator, Box<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Union(Vec<Expr>),
    Is(Box<Expr>, TypeName),
    As(Box<Expr>, TypeName),
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub function: Function,
    /// None at the start of a path: `$this`.
    pub input: Option<Expr>,
    pub arguments: Vec<Expr>,
    /// The type argument of `is`, `as`, `ofType`.
    pub type_name: Option<TypeName>,
    /// The compiled literal pattern of `matches` and similar functions.
    pub regex: Option<Regex>,
}

#[derive(Clone, Debug)]
pub(super) struct TypeName {
    pub namespace: Namespace,
    pub name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    Any,
    System,
    Fhir,
    /// Any other namespace; no item has a type of it.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Multiply,
    Divide,
    Div,
    Mod,
    Plus,
    Minus,
    Concatenate,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    In { memo: Option<u16> },
    Contains,
    Xor,
    Implies,
}

impl Expr {
    /// Whether its result is the same for every focus within one evaluation.
    pub fn is_fixed(&self) -> bool {
        match self {
            Expr::Empty | Expr::Literal(_) | Expr::Resource | Expr::RootResource | Expr::Context => true,
            Expr::This | Expr::Index | Expr::Total | Expr::Variable(_) | Expr::Start(_) => false,
            Expr::Member(of, _) | Expr::Sign(_, of) | Expr::Is(of, _) | Expr::As(of, _) => of.is_fixed(),
            // Arguments with a focus of their own are assumed to depend on it.
            Expr::Call(call) => {
                call.input.as_ref().is_some_and(Expr::is_fixed)
                    && call.arguments.iter().all(Expr::is_fixed)
                    && call.function != Function::DefineVariable
            }
            Expr::At(pair) | Expr::Binary(_, pair) => pair.0.is_fixed() && pair.1.is_fixed(),
            Expr::And(all) | Expr::Or(all) | Expr::Union(all) => all.iter().all(Expr::is_fixed),
        }
    }
}
