//! Paths: items are passed from step to step.

use super::super::Failure;
use super::super::ast::{Call, Expr};
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::value::{Item, Text, Value};
use super::{Done, Eval, Focus, Sink};
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::TypeKind;

/// Functions that pass items on without collecting them.
pub(super) fn streams(function: Function) -> bool {
    matches!(
        function,
        Function::Where
            | Function::Select
            | Function::OfType
            | Function::As
            | Function::Extension
            | Function::Children
            | Function::Descendants
            | Function::Resolve
            | Function::First
            | Function::Tail
            | Function::Skip
            | Function::Take
            | Function::Trace
            | Function::Combine
            | Function::GetValue
    )
}

impl<'t> Eval<'t> {
    /// Passes every item of an expression to `sink`; returns false if that has enough.
    pub(super) fn each(&mut self, expr: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        match expr {
            Expr::This => self.hand_on(focus.this, sink),
            Expr::Total => focus.total.map_or(Ok(true), |total| self.hand_on(total, sink)),
            Expr::Start(name) => match focus.this {
                Collection::One(Item::Element(element)) => self.start(*element, name, sink),
                many => {
                    for item in many.items() {
                        let Item::Element(element) = item else { continue };
                        if !self.start(*element, name, sink)? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
            },
            Expr::Member(of, name) => self.each_of(of, focus, &mut |eval, item| eval.step(&item, name, sink)),
            Expr::Resource | Expr::RootResource => {
                self.spend(1)?;
                let is_root = matches!(expr, Expr::RootResource);
                sink(self, Item::Element(if is_root { self.scope.root } else { self.scope.resource }))
            }
            Expr::As(of, name) => self.as_type(Some(of), name, focus, sink),
            Expr::Call(call) if streams(call.function) => self.stream(call, focus, sink),
            _ => {
                let items = self.eval(expr, focus)?;
                for item in items {
                    if !sink(self, item)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// The same for the input of a step. If it may define variables, it is evaluated completely before the rest.
    pub(super) fn each_of(&mut self, expr: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        if !self.collects {
            return self.each(expr, focus, sink);
        }
        let items = self.eval(expr, focus)?;
        for item in items {
            if !sink(self, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same for the input of a call.
    pub(super) fn each_input(&mut self, call: &Call, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        match &call.input {
            Some(input) => self.each_of(input, focus, sink),
            None => self.hand_on(focus.this, sink),
        }
    }

    /// The same for an argument that is evaluated for each item.
    pub(super) fn each_argument(&mut self, expr: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        if !self.collects {
            return self.each(expr, focus, sink);
        }
        let items = self.scoped(expr, focus)?;
        for item in items {
            if !sink(self, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn hand_on(&mut self, items: &Collection<'t>, sink: Sink<'_, 't>) -> Done<bool> {
        for item in items.items() {
            // Also charges for items that are passed on without being stored: `combine` doubles them at each level.
            self.spend(1)?;
            if !sink(self, item.clone())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first name of a path: the focus itself if the name is its type, else a child.
    fn start(&mut self, element: Element<'t>, name: &str, sink: Sink<'_, 't>) -> Done<bool> {
        if name.as_bytes().first().is_some_and(u8::is_ascii_uppercase) {
            self.spend(1)?;
            let schema = self.scope.schema;
            let is_type = schema.named(name).is_some_and(|of| schema.is_a(element.type_id, of));
            return if is_type { sink(self, Item::Element(element)) } else { Ok(true) };
        }
        self.children_named(element, name, sink)
    }

    #[inline]
    fn children_named(&mut self, element: Element<'t>, name: &str, sink: Sink<'_, 't>) -> Done<bool> {
        if name == "value" && matches!(element.def(self.scope.schema).kind, TypeKind::Primitive(_)) {
            // The value of a primitive, as a value of FHIRPath.
            self.spend(1)?;
            self.spend_read(&Item::Element(element))?;
            return match Item::Element(element).value(self.scope.schema) {
                Some(value) => sink(self, Item::Value(value)),
                None => Ok(true),
            };
        }
        let children = element.step(self.scope.schema, name);
        // The object may have many members to search.
        self.spend(1 + children.passed as usize / 16)?;
        for child in children {
            self.spend(1)?;
            if !sink(self, Item::Element(child))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, item: &Item<'t>, name: &str, sink: Sink<'_, 't>) -> Done<bool> {
        let value = match item {
            Item::Element(element) => return self.children_named(*element, name, sink),
            Item::Value(Value::Type { namespace, name: of_type }) => match name {
                "namespace" => Value::String(Text::Borrowed(namespace)),
                "name" => Value::String(of_type.clone()),
                _ => return Ok(true),
            },
            Item::Value(Value::Quantity(quantity)) => match name {
                "value" => Value::Decimal(quantity.value),
                "unit" | "code" => {
                    let unit = quantity.unit.to_string();
                    self.spend_text(unit.len())?;
                    Value::text(unit.trim_matches('\''))
                }
                _ => return Ok(true),
            },
            Item::Value(_) => return Ok(true),
        };
        self.spend(1)?;
        sink(self, Item::Value(value))
    }

    fn stream(&mut self, call: &Call, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        match (call.function, call.arguments.as_slice()) {
            (Function::Where, [criteria]) => self.each_where(call, criteria, focus, sink),
            (Function::Select, [of]) => self.each_selected(call, of, focus, sink),
            (Function::OfType, _) => self.of_type(call, focus, sink),
            (Function::As, _) => match &call.type_name {
                Some(name) => self.as_type(call.input.as_ref(), name, focus, sink),
                None => Ok(true),
            },
            (Function::Extension, [url]) => self.each_extension(call, url, focus, sink),
            (Function::Children, _) => self.each_input(call, focus, &mut |eval, item| eval.each_child(&item, sink)),
            (Function::Descendants, _) if matches!(call.input, Some(Expr::Resource)) => self.each_of_resource(sink),
            (Function::Descendants, _) => {
                self.each_input(call, focus, &mut |eval, item| eval.each_descendant(&item, sink))
            }
            (Function::Resolve, _) => self.each_input(call, focus, &mut |eval, item| {
                eval.spend(1)?;
                eval.spend_read(&item)?;
                match eval.resolved(&item) {
                    Some(found) => sink(eval, Item::Element(found)),
                    None => Ok(true),
                }
            }),
            (Function::First, _) => self.each_from(call, 0, 1, focus, sink),
            (Function::Tail, _) => self.each_from(call, 1, i64::MAX, focus, sink),
            (Function::Skip | Function::Take, [count]) => {
                let count = self.scoped(count, focus)?;
                match (self.integer(&count, call.function.name())?, call.function) {
                    (None, _) => Ok(true),
                    (Some(count), Function::Skip) => self.each_from(call, count, i64::MAX, focus, sink),
                    (Some(count), _) => self.each_from(call, 0, count, focus, sink),
                }
            }
            (Function::Combine, [other]) => {
                let on = self.each_input(call, focus, sink)?;
                if on { self.each_argument(other, focus, sink) } else { Ok(false) }
            }
            (Function::GetValue, _) => self.each_value(call, focus, sink),
            // `trace` writes nothing, because its output would be patient data.
            _ => self.each_input(call, focus, sink),
        }
    }

    fn each_selected(&mut self, call: &Call, of: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let mut index = -1;
        self.each_input(call, focus, &mut |eval, item| {
            index += 1;
            let this = Collection::One(item);
            eval.loops += 1;
            let on = eval.each_argument(of, focus.with(&this, index), sink);
            eval.loops -= 1;
            on
        })
    }

    /// `getValue()`: the System values of primitives.
    fn each_value(&mut self, call: &Call, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        self.each_input(call, focus, &mut |eval, item| {
            let is_primitive = match &item {
                Item::Element(element) => matches!(element.def(eval.scope.schema).kind, TypeKind::Primitive(_)),
                Item::Value(_) => true,
            };
            eval.spend_read(&item)?;
            match item.value(eval.scope.schema).filter(|_| is_primitive) {
                Some(value) => sink(eval, Item::Value(value)),
                None => Ok(true),
            }
        })
    }

    fn each_where(&mut self, call: &Call, criteria: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let mut index = -1;
        self.each_input(call, focus, &mut |eval, item| {
            index += 1;
            let this = Collection::One(item);
            match eval.criteria(criteria, focus.with(&this, index))? {
                Some(true) => match this {
                    Collection::One(item) => sink(eval, item),
                    _ => Ok(true),
                },
                _ => Ok(true),
            }
        })
    }

    /// A condition for one item of several.
    pub(super) fn criteria(&mut self, criteria: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let known = self.variables.len();
        self.loops += 1;
        let truth = self.truth(criteria, focus);
        self.loops -= 1;
        self.variables.truncate(known);
        truth
    }

    /// The items from one position up to another.
    fn each_from(&mut self, call: &Call, from: i64, to: i64, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let mut at = -1;
        let mut on = true;
        if to <= 0 {
            return Ok(true);
        }
        self.each_input(call, focus, &mut |eval, item| {
            at += 1;
            if at >= from {
                on = sink(eval, item)?;
            }
            Ok(on && at + 1 < to)
        })?;
        Ok(on)
    }

    fn each_extension(&mut self, call: &Call, url: &Expr, focus: Focus<'_, 't>, sink: Sink<'_, 't>) -> Done<bool> {
        let url = self.scoped(url, focus)?;
        let Some(url) = self.text(url, "extension")? else { return Ok(true) };
        self.each_input(call, focus, &mut |eval, item| {
            let Item::Element(element) = item else { return Ok(true) };
            eval.children_named(element, "extension", &mut |eval, found| {
                let Item::Element(extension) = &found else { return Ok(true) };
                let is_it = extension.value.and_then(|node| node.get("url")).and_then(|node| node.text());
                if is_it.is_some_and(|text| *text == *url) { sink(eval, found) } else { Ok(true) }
            })
        })
    }

    /// Errs if there is more than one item, or one that is not a text.
    pub(super) fn text(&mut self, items: Collection<'t>, operation: &'static str) -> Done<Option<Text<'t>>> {
        let Some(item) = self.single(items, operation)? else { return Ok(None) };
        self.spend_read(&item)?;
        match item.text(self.scope.schema) {
            Some(text) => Ok(Some(text)),
            // A primitive with extensions only.
            None if item.is_valueless(self.scope.schema) => Ok(None),
            None => Err(Failure::Type(operation)),
        }
    }

    /// The input of a call, collected.
    pub(super) fn input(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        match &call.input {
            Some(input) => self.eval(input, focus),
            None => self.copied(focus.this),
        }
    }
}

impl<'t> Item<'t> {
    /// Whether it is a primitive of FHIR without a value.
    pub(in super::super) fn is_valueless(&self, schema: &emberpost_fhir::schema::Schema) -> bool {
        match self {
            Item::Element(element) => {
                element.value.is_none() && matches!(element.def(schema).kind, TypeKind::Primitive(_))
            }
            Item::Value(_) => false,
        }
    }
}
