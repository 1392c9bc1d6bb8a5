//! Conversions: from primitives of FHIR to System types, and `toInteger()` and similar functions.

use super::value::{DateTime, Item, Precision, Quantity, Text, Unit, Value};
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Primitive, Schema, TypeKind};
use emberpost_fhir::tree::{Kind, Node};
use rust_decimal::Decimal;
use std::borrow::Cow;
use std::str::FromStr;

/// A number as written in JSON or FHIRPath; None if it is not a number or has more than 28 digits.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.starts_with(|letter: char| letter.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => Decimal::from_str(text).ok(),
    }
}

fn text_of<'t>(node: Node<'t>) -> Option<Text<'t>> {
    Some(match node.kind() {
        Kind::String => match node.text()? {
            Cow::Borrowed(text) => Text::Borrowed(text),
            Cow::Owned(text) => Text::from(text),
        },
        Kind::Number | Kind::Boolean => Text::Borrowed(node.raw()),
        _ => return None,
    })
}

impl<'t> Item<'t> {
    /// The System value that this is or converts to implicitly; None for other types and for elements without a
    /// value.
    pub(super) fn value(&self, schema: &Schema) -> Option<Value<'t>> {
        match self {
            Item::Value(value) => Some(value.clone()),
            Item::Element(element) => element_value(*element, schema),
        }
    }

    /// The text of a string, or of a primitive of FHIR as it is written; None for anything else.
    pub(super) fn text(&self, schema: &Schema) -> Option<Text<'t>> {
        match self {
            Item::Value(Value::String(text)) => Some(text.clone()),
            Item::Value(_) => None,
            Item::Element(element) => match element.def(schema).kind {
                TypeKind::Primitive(_) => text_of(element.value?),
                _ => None,
            },
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Item::Value(Value::Boolean(truth)) => Some(*truth),
            Item::Value(_) => None,
            Item::Element(element) => element.value?.boolean(),
        }
    }
}

fn element_value<'t>(element: Element<'t>, schema: &Schema) -> Option<Value<'t>> {
    let TypeKind::Primitive(primitive) = element.def(schema).kind else {
        return quantity(element, schema).map(|quantity| Value::Quantity(Box::new(quantity)));
    };
    let node = element.value?;
    Some(match primitive {
        Primitive::Boolean => Value::Boolean(node.boolean()?),
        Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt => {
            Value::Integer(text_of(node)?.parse().ok()?)
        }
        Primitive::Integer64 => Value::Long(text_of(node)?.parse().ok()?),
        Primitive::Decimal => Value::Decimal(decimal(&text_of(node)?)?),
        Primitive::Date => Value::Date(DateTime::parse(&text_of(node)?)?),
        Primitive::DateTime | Primitive::Instant => Value::DateTime(DateTime::parse(&text_of(node)?)?),
        Primitive::Time => Value::Time(DateTime::parse_time(&text_of(node)?)?),
        _ => Value::String(text_of(node)?),
    })
}

/// A FHIR Quantity with a value, with a UCUM unit or any other.
fn quantity<'t>(element: Element<'t>, schema: &Schema) -> Option<Quantity<'t>> {
    let of_quantity = schema.named("Quantity")?;
    if !schema.is_a(element.type_id, of_quantity) {
        return None;
    }
    let node = element.value?;
    let value = decimal(node.get("value")?.number()?)?;
    let unit = node.get("code").or_else(|| node.get("unit")).and_then(text_of);
    let unit = match unit {
        None => Unit::One,
        Some(code) if &*code == "1" => Unit::One,
        Some(code) => Unit::Code(code),
    };
    Some(Quantity { value, unit })
}

/// `toX()` of a value: None if it does not convert.
pub(super) fn to_boolean<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    let truth = match value {
        Value::Boolean(truth) => *truth,
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => true,
            "false" | "f" | "no" | "n" | "0" | "0.0" => false,
            _ => return None,
        },
        other => match other.number()? {
            number if number == Decimal::ONE => true,
            number if number.is_zero() => false,
            _ => return None,
        },
    };
    Some(Value::Boolean(truth))
}

pub(super) fn to_integer<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    let number = long(value)?;
    i32::try_from(number).ok().map(|number| Value::Integer(number.into()))
}

pub(super) fn to_long<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    long(value).map(Value::Long)
}

fn long(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) | Value::Long(number) => Some(*number),
        Value::Boolean(truth) => Some(i64::from(*truth)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn to_decimal<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    Some(Value::Decimal(match value {
        Value::Boolean(truth) => Decimal::from(i64::from(*truth)),
        Value::String(text) => decimal(text).filter(|_| !text.contains(['e', 'E']))?,
        other => other.number()?,
    }))
}

pub(super) fn to_date<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    Some(Value::Date(match value {
        Value::Date(date) => *date,
        Value::DateTime(date) => date.cut(Precision::Day),
        Value::String(text) => DateTime::parse(text)?.cut(Precision::Day),
        _ => return None,
    }))
}

pub(super) fn to_date_time<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    Some(Value::DateTime(match value {
        Value::Date(date) | Value::DateTime(date) => *date,
        Value::String(text) => DateTime::parse(text)?,
        _ => return None,
    }))
}

pub(super) fn to_time<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    Some(Value::Time(match value {
        Value::Time(time) => *time,
        Value::String(text) => DateTime::parse_time(text.strip_prefix('T').unwrap_or(text))?,
        _ => return None,
    }))
}

pub(super) fn to_quantity<'t>(value: &Value<'t>) -> Option<Value<'t>> {
    let quantity = match value {
        Value::Quantity(_) => return Some(value.clone()),
        Value::Boolean(truth) => Quantity { value: Decimal::from(i64::from(*truth)), unit: Unit::One },
        Value::String(text) => Quantity::parse(text)?,
        other => Quantity { value: other.number()?, unit: Unit::One },
    };
    Some(Value::Quantity(Box::new(quantity)))
}
