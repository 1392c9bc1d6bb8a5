//! `is`, `as`, `ofType`: types of FHIR by the schema, System types by their names.

use super::super::Failure;
use super::super::ast::{Call, Namespace, TypeName};
use super::super::collection::Collection;
use super::super::value::{Item, Value};
use super::{Done, Eval, Focus, Sink};
use crate::fhir::schema::TypeKind;
use crate::fhir::version::FhirVersion;

const SYSTEM: [&str; 10] =
    ["Any", "Boolean", "String", "Integer", "Long", "Decimal", "Date", "DateTime", "Time", "Quantity"];

impl<'t> Eval<'t> {
    /// Whether an item is of a type or one that specialises it.
    pub(super) fn is_type(&self, item: &Item<'t>, wanted: &TypeName) -> bool {
        let schema = self.scope.schema;
        match item {
            Item::Value(value) => {
                matches!(wanted.namespace, Namespace::Any | Namespace::System)
                    && (value.type_name() == &*wanted.name || &*wanted.name == "Any")
            }
            Item::Element(element) => {
                matches!(wanted.namespace, Namespace::Any | Namespace::Fhir)
                    && schema.named(&wanted.name).is_some_and(|of| schema.is_a(element.type_id, of))
            }
        }
    }

    /// The operator `is`: R4 has invariants that name the System type of a FHIR primitive (que-7).
    pub(super) fn is_operator(&self, item: &Item<'t>, wanted: &TypeName) -> bool {
        let converts = || {
            let Item::Element(element) = item else { return false };
            wanted.namespace == Namespace::Any
                && matches!(element.def(self.scope.schema).kind, TypeKind::Primitive(_))
                && SYSTEM.contains(&&*wanted.name)
                && item.value(self.scope.schema).is_some_and(|value| value.type_name() == &*wanted.name)
        };
        self.is_type(item, wanted) || converts()
    }

    /// `as` and `ofType` take a primitive by its own type only: a code is not taken as a string.
    fn takes(&self, item: &Item<'t>, wanted: &TypeName) -> bool {
        let schema = self.scope.schema;
        let is_same = match item {
            Item::Element(element) => {
                let def = element.def(schema);
                !matches!(def.kind, TypeKind::Primitive(_)) || *def.name == *wanted.name || self.is_general(wanted)
            }
            Item::Value(_) => true,
        };
        is_same && self.is_type(item, wanted)
    }

    /// A type above the primitives, such as Element.
    fn is_general(&self, wanted: &TypeName) -> bool {
        let schema = self.scope.schema;
        schema.named(&wanted.name).is_some_and(|id| !matches!(schema.def(id).kind, TypeKind::Primitive(_)))
    }

    /// A type that nothing of this version can have is a mistake of the expression.
    fn check_known(&self, wanted: &TypeName) -> Done<()> {
        let is_known = match wanted.namespace {
            Namespace::Any => {
                SYSTEM.contains(&&*wanted.name) || self.scope.schema.named(&wanted.name).is_some()
            }
            Namespace::Fhir => self.scope.schema.named(&wanted.name).is_some(),
            Namespace::System | Namespace::Other => true,
        };
        if is_known { Ok(()) } else { Err(Failure::UnknownType) }
    }

    pub(super) fn of_type(&mut self, call: &Call, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let Some(wanted) = &call.type_name else { return Ok(true) };
        self.check_known(wanted)?;
        self.each_input(call, focus, &mut |eval, item| if eval.takes(&item, wanted) { sink(eval, item) } else { Ok(true) })
    }

    /// Of several items: an error since R5; before that a filter, which dom-3 relies on.
    pub(super) fn as_type(&mut self, input: Collection<'t>, wanted: &TypeName, sink: Sink<'_, 't>) -> Done<bool> {
        self.check_known(wanted)?;
        if input.len() > 1 && self.scope.schema.version == FhirVersion::R5 {
            return Err(Failure::Several("as"));
        }
        for item in input {
            self.spend(1)?;
            if self.takes(&item, wanted) && !sink(self, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What `type()` says of an item.
    pub(super) fn type_of(&self, item: &Item<'t>) -> Value<'t> {
        use super::super::value::Text;
        match item {
            Item::Value(value) => Value::Type { namespace: "System", name: Text::Borrowed(value.type_name()) },
            Item::Element(element) => {
                let code: &'static str = &self.scope.schema.def(element.type_id).code;
                Value::Type { namespace: "FHIR", name: Text::Borrowed(code) }
            }
        }
    }
}
