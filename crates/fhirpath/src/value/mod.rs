//! Values of FHIRPath's System types, and items of collections: elements of the document, or such values.

mod boundary;
mod date_time;
mod quantity;
mod unit;

pub use date_time::{DateTime, Precision};
pub use quantity::Quantity;
pub use unit::Unit;

use emberpost_fhir::element::Element;
use rust_decimal::Decimal;
use std::fmt::{self, Display};
use std::ops::Deref;
use std::sync::Arc;

/// Text of the document or of the expression; cloning copies no characters.
#[derive(Clone, Debug)]
pub enum Text<'t> {
    /// A part of the document or of the expression.
    Borrowed(&'t str),
    /// A text that an evaluation made.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text::Shared(text.into())
    }
}

/// A value of a System type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'t> {
    /// `System.Boolean`.
    Boolean(bool),
    /// `System.String`.
    String(Text<'t>),
    /// The specification defines 32 bits; the operations enforce that.
    Integer(i64),
    /// `System.Long`.
    Long(i64),
    /// `System.Decimal`.
    Decimal(Decimal),
    /// `System.Date`.
    Date(DateTime),
    /// `System.DateTime`.
    DateTime(DateTime),
    /// The date part is January 1, 1970.
    Time(DateTime),
    /// `System.Quantity`.
    Quantity(Box<Quantity<'t>>),
    /// The result of `type()`.
    Type {
        /// `System` or `FHIR`.
        namespace: &'static str,
        /// The name of the type within the namespace.
        name: Text<'t>,
    },
}

/// One item of a collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'t> {
    /// An element of a document.
    Element(Element<'t>),
    /// A value that is not part of a document.
    Value(Value<'t>),
}

impl<'t> Value<'t> {
    /// A copy of this text.
    pub fn text(text: &str) -> Value<'t> {
        Value::String(Text::Shared(text.into()))
    }

    /// The name of its type, without the namespace.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Boolean(_) => "Boolean",
            Value::String(_) => "String",
            Value::Integer(_) => "Integer",
            Value::Long(_) => "Long",
            Value::Decimal(_) => "Decimal",
            Value::Date(_) => "Date",
            Value::DateTime(_) => "DateTime",
            Value::Time(_) => "Time",
            Value::Quantity(_) => "Quantity",
            Value::Type { .. } => "TypeInfo",
        }
    }

    /// Integer, Long and Decimal as a decimal.
    pub fn number(&self) -> Option<Decimal> {
        match self {
            Value::Integer(number) | Value::Long(number) => Some(Decimal::from(*number)),
            Value::Decimal(number) => Some(*number),
            _ => None,
        }
    }
}

impl Display for Value<'_> {
    /// As `toString()` writes it.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(truth) => truth.fmt(to),
            Value::String(text) => to.write_str(text),
            Value::Integer(number) | Value::Long(number) => number.fmt(to),
            Value::Decimal(number) => number.fmt(to),
            Value::Date(date) | Value::DateTime(date) => date.fmt(to),
            Value::Time(time) => time.fmt_time(to),
            Value::Quantity(quantity) => quantity.fmt(to),
            Value::Type { namespace, name } => write!(to, "{namespace}.{}", &**name),
        }
    }
}

impl<'t> From<Value<'t>> for Item<'t> {
    fn from(value: Value<'t>) -> Self {
        Item::Value(value)
    }
}

impl<'t> From<bool> for Item<'t> {
    fn from(truth: bool) -> Self {
        Item::Value(Value::Boolean(truth))
    }
}
