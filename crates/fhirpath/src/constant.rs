//! Environment variables (`%` names): those that FHIR defines, and possible variables of the expression.

use super::ast::Expr;
use super::value::{Text, Value};

pub(super) const RESERVED: [&str; 8] =
    ["context", "resource", "rootResource", "ucum", "sct", "loinc", "terminologies", "factory"];

/// The meaning of a `%` name.
pub(super) fn named(name: &str) -> Expr {
    let fixed = |text: &'static str| Expr::Literal(Value::String(Text::Borrowed(text)));
    match name {
        "resource" => Expr::Resource,
        "rootResource" => Expr::RootResource,
        "context" => Expr::Context,
        "ucum" => fixed("http://unitsofmeasure.org"),
        "sct" => fixed("http://snomed.info/sct"),
        "loinc" => fixed("http://loinc.org"),
        _ => match (name.strip_prefix("vs-"), name.strip_prefix("ext-")) {
            (Some(id), _) => Expr::Literal(Value::text(&format!("http://hl7.org/fhir/ValueSet/{id}"))),
            (_, Some(id)) => Expr::Literal(Value::text(&format!("http://hl7.org/fhir/StructureDefinition/{id}"))),
            _ => Expr::Variable(name.into()),
        },
    }
}
