//! `minValue[x]` and `maxValue[x]`: numbers, dates and times, quantities.
//!
//! UCUM quantities are compared across units. Values that cannot be compared (different dimensions, or insufficient
//! precision) count as within the limit.

use super::pattern::decimal;
use emberpost_fhir::element::Element;
use emberpost_fhir::tree::Node;
use emberpost_fhirpath::{Quantity, Unit};
use rust_decimal::Decimal;
use serde_json::Value;
use std::cmp::Ordering;

const UCUM: &str = "http://unitsofmeasure.org";

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Limit {
    Number(Decimal),
    /// A date, dateTime, instant, or time as written.
    Time(Box<str>),
    Quantity {
        value: Decimal,
        system: Option<Box<str>>,
        code: Option<Box<str>>,
    },
}

impl Limit {
    pub fn read(value: &Value) -> Option<Limit> {
        match value {
            Value::Number(number) => decimal(&number.to_string()).map(Limit::Number),
            Value::String(text) => Some(match decimal(text) {
                // An integer64 is a string, and so is a year.
                Some(number) if text.len() != 4 => Limit::Number(number),
                _ => Limit::Time(text.as_str().into()),
            }),
            Value::Object(quantity) => {
                let text = |name: &str| quantity.get(name).and_then(Value::as_str).map(Into::into);
                let value = decimal(&quantity.get("value")?.to_string())?;
                Some(Limit::Quantity { value, system: text("system"), code: text("code") })
            }
            _ => None,
        }
    }

    /// Compares a value with the limit; None if they cannot be compared.
    pub fn compare(&self, element: Element) -> Option<Ordering> {
        let node = element.value?;
        match self {
            Limit::Number(limit) => Some(number(node)?.cmp(limit)),
            Limit::Time(limit) => time(&node.text()?, limit),
            Limit::Quantity { value, system, code } => {
                let found = number(node.get("value")?)?;
                let [own_system, own_code] = node.pick(["system", "code"]).map(|member| member.and_then(Node::text));
                if own_system.as_deref() == system.as_deref() && own_code.as_deref() == code.as_deref() {
                    return Some(found.cmp(value));
                }
                let is_ucum = [own_system.as_deref(), system.as_deref()].iter().all(|one| *one == Some(UCUM));
                let (own_code, code) = own_code.zip(code.as_deref()).filter(|_| is_ucum)?;
                let own = Quantity { value: found, unit: Unit::code(&own_code) };
                own.compare(&Quantity { value: *value, unit: Unit::code(code) })
            }
        }
    }

    pub fn shown(&self) -> String {
        match self {
            Limit::Number(value) => value.to_string(),
            Limit::Time(text) => text.to_string(),
            Limit::Quantity { value, code, .. } => format!("{value} {}", code.as_deref().unwrap_or_default()),
        }
    }
}

fn number(node: Node) -> Option<Decimal> {
    match node.number() {
        Some(written) => decimal(written),
        None => decimal(&node.text()?),
    }
}

/// Compares as instants if both have a zone; otherwise by the parts that both have.
fn time(found: &str, limit: &str) -> Option<Ordering> {
    if let (Ok(found), Ok(limit)) = (found.parse::<jiff::Timestamp>(), limit.parse::<jiff::Timestamp>()) {
        return Some(found.cmp(&limit));
    }
    let said = |text: &str| text.split(['+', 'Z']).next().unwrap_or_default().len();
    let shared = said(found).min(said(limit));
    match found.get(..shared)?.cmp(limit.get(..shared)?) {
        // What the shorter one leaves open may be on either side.
        Ordering::Equal if found.len() != limit.len() => None,
        order => Some(order),
    }
}
