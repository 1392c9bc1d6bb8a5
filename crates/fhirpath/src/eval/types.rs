//! `is`, `as`, `ofType`: types of FHIR by the schema, System types by their names.

use super::super::Failure;
use super::super::ast::{Call, Expr, Namespace, TypeName};
use super::super::value::{Item, Value};
use super::{Done, Eval, Focus, Sink};
use emberpost_fhir::schema::{TypeId, TypeKind};
use emberpost_fhir::version::FhirVersion;

const SYSTEM: [&str; 10] =
    ["Any", "Boolean", "String", "Integer", "Long", "Decimal", "Date", "DateTime", "Time", "Quantity"];

impl<'t> Eval<'t> {
    /// Whether an item has a type or a specialization of it.
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

    /// The operator `is`. R4 has invariants that name the System type of a FHIR primitive (que-7).
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

    /// `as` and `ofType` match a primitive by its exact type only: a code is not a string.
    fn takes(&self, item: &Item<'t>, wanted: &TypeName, id: Option<TypeId>) -> bool {
        let schema = self.scope.schema;
        let (Item::Element(element), Some(id)) = (item, id) else { return self.is_type(item, wanted) };
        match schema.def(id).kind {
            TypeKind::Primitive(_) => element.type_id == id,
            _ => schema.is_a(element.type_id, id),
        }
    }

    /// A type that no element of this version can have is an error in the expression.
    fn known(&self, wanted: &TypeName) -> Done<Option<TypeId>> {
        let id = match wanted.namespace {
            Namespace::Any | Namespace::Fhir => self.scope.schema.named(&wanted.name),
            Namespace::System | Namespace::Other => return Ok(None),
        };
        let is_system = wanted.namespace == Namespace::Any && SYSTEM.contains(&&*wanted.name);
        if id.is_some() || is_system { Ok(id) } else { Err(Failure::UnknownType) }
    }

    pub(super) fn of_type(&mut self, call: &Call, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let Some(wanted) = &call.type_name else { return Ok(true) };
        let id = self.known(wanted)?;
        self.each_input(call, focus, &mut |eval, item| {
            if eval.takes(&item, wanted, id) { sink(eval, item) } else { Ok(true) }
        })
    }

    /// For several items: an error since R5; before that a filter, which dom-3 relies on.
    pub(super) fn as_type(
        &mut self,
        input: Option<&Expr>,
        wanted: &TypeName,
        focus: Focus<'_, 't>,
        sink: Sink<'_, 't>,
    ) -> Done<bool> {
        let id = self.known(wanted)?;
        if self.scope.schema.version != FhirVersion::R5 {
            return self.each_of(input.unwrap_or(&Expr::This), focus, &mut |eval, item| {
                if eval.takes(&item, wanted, id) { sink(eval, item) } else { Ok(true) }
            });
        }
        let input = self.eval(input.unwrap_or(&Expr::This), focus)?;
        match self.single(input, "as")? {
            Some(item) if self.takes(&item, wanted, id) => sink(self, item),
            _ => Ok(true),
        }
    }

    /// The result of `type()` for an item.
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
