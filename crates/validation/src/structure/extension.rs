//! Extensions that the base packages define: type of the value, nested extensions, context. Other extensions are
//! accepted.

use super::element_path::ElementPath;
use super::plan::ExtensionPlan;
use super::walker::{Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Context, ExtensionDef, Schema, TypeId, TypeKind};
use emberpost_fhir::tree::Node;

impl<'t> Walker<'t, '_, '_> {
    pub fn extension(&mut self, object: &Object<'t, '_>, present: u128) {
        let Some(url) = object.node.get("url").and_then(Node::text) else { return };
        let parent = object.path.parent;
        let is_nested = parent.is_some_and(|parent| parent.type_id.is_some() && parent.type_id == self.plan.extension);
        let Some(plan) = self.plan.extensions.get(&*url) else { return };
        if self.options.replaced.is_some_and(|replaced| replaced.contains(&*url)) {
            return;
        }
        self.content(plan.def, object.node, object.path);
        self.extension_constraints(plan, object, present);
        if !is_nested {
            self.extension_place(plan.def, object);
            self.invariants(plan, object);
        }
    }

    /// Context invariants. Those that cannot be evaluated, such as those that use `%extension`, are skipped; those
    /// that take too long are reported.
    fn invariants(&mut self, plan: &'static ExtensionPlan, object: &Object<'t, '_>) {
        for expression in &plan.invariants {
            let type_id = object.path.parent.and_then(|parent| parent.type_id);
            let Some((node, type_id)) = object.holder.zip(type_id) else { return };
            let element = Element { value: Some(node), extra: None, type_id };
            match self.evaluate(expression, element, (object.node, object.path)) {
                None => return,
                Some(Ok(truth)) if truth.is_met("") => {}
                Some(Ok(_)) => {
                    let (url, wanted) = (&plan.def.url, plan.def.context_invariants.join("; "));
                    self.fail(object.path, object.node, "extension", IssueCode::Structure, || {
                        format!("the extension {url} is only allowed where this is true: {wanted}")
                    });
                }
                Some(Err(failure)) if failure.is_limit() => {
                    self.not_checked("extension", &failure, object.node, object.path);
                }
                Some(Err(_)) => {}
            }
        }
    }

    /// Checks which elements may contain the extension, and whether it belongs in `modifierExtension`.
    fn extension_place(&mut self, def: &'static ExtensionDef, object: &Object<'t, '_>) {
        let holder = object.path.parent.unwrap_or(object.path);
        if !def.contexts.is_empty()
            && !def.contexts.iter().any(|context| is_in_context(self.plan.schema, context, holder))
        {
            self.fail(object.path, object.node, "extension", IssueCode::Structure, || {
                format!("the extension {} is not allowed here; it belongs to {}", def.url, places(&def.contexts))
            });
        }
        if def.is_modifier != (object.path.name() == Some("modifierExtension")) {
            let right = if def.is_modifier { "modifierExtension" } else { "extension" };
            self.fail(object.path, object.node, "extension", IssueCode::Structure, || {
                format!("the extension {} belongs in {right}", def.url)
            });
        }
    }

    /// Checks value and nested extensions against the definition. `path` is that of the outermost extension.
    fn content(&mut self, def: &ExtensionDef, node: Node<'t>, path: &ElementPath) {
        let schema = self.plan.schema;
        let extension = self.plan.extension.map(|id| schema.def(id));
        let value = node.children().find_map(|child| {
            let key = child.key()?;
            let (element, of_type) = schema.member(extension?, key.strip_prefix('_').unwrap_or(&key))?;
            (&*element.name == "value").then_some((child, of_type.type_id))
        });
        if let Some((child, type_id)) = value
            && !def.values.iter().any(|allowed| schema.def(allowed.type_id).code == schema.def(type_id).code)
        {
            self.fail(path, child, "extension", IssueCode::Structure, || {
                let names: Vec<&str> =
                    def.values.iter().take(8).map(|of_type| &*schema.def(of_type.type_id).code).collect();
                match names.is_empty() {
                    true => format!("the extension {} must have nested extensions and no value", def.url),
                    false => format!("the value of extension {} must be of type {}", def.url, names.join(", ")),
                }
            });
        } else if value.is_none() && def.is_value_required {
            self.fail(path, node, "min", IssueCode::Required, || {
                format!("the extension {} must have a value", def.url)
            });
        } else if let (Some((child, _)), Some(set)) = (value, def.binding) {
            self.extension_binding(set, child, path);
        }
        if !def.nested.is_empty() {
            self.nested(def, node, path);
            self.unknown_nested(def, node, path);
        }
    }

    fn nested(&mut self, def: &ExtensionDef, node: Node<'t>, path: &ElementPath) {
        for nested in &def.nested {
            let items = node.get("extension").into_iter().flat_map(Node::items);
            let mut count = 0u32;
            for item in items.filter(|item| item.get("url").and_then(Node::text).as_deref() == Some(&*nested.url)) {
                count += 1;
                self.content(nested, item, path);
            }
            if count < u32::from(nested.min) || (nested.max != u16::MAX && count > u32::from(nested.max)) {
                let rule = if count < u32::from(nested.min) { "min" } else { "max" };
                self.fail(path, node, rule, IssueCode::Structure, || {
                    format!(
                        "{} occurs {count} times in the extension {}; it must occur from {} to {} times",
                        nested.url,
                        def.url,
                        nested.min,
                        most(nested.max)
                    )
                });
            }
        }
    }

    /// Reports a nested extension with a relative url that the definition does not define.
    fn unknown_nested(&mut self, def: &ExtensionDef, node: Node<'t>, path: &ElementPath) {
        for item in node.get("extension").into_iter().flat_map(Node::items) {
            let url = item.get("url").and_then(Node::text).filter(|url| !url.contains(':'));
            if url.is_some_and(|url| !def.nested.iter().any(|nested| *nested.url == *url)) {
                self.fail(path, item, "extension", IssueCode::Structure, || {
                    format!("the extension {} does not define a nested extension with this url", def.url)
                });
            }
        }
    }

    fn extension_binding(&mut self, set: emberpost_fhir::schema::ValueSetId, value: Node<'t>, path: &ElementPath) {
        if let Some(bound) = self.plan.bound(set) {
            self.bound_value(bound, value, path);
        }
    }
}

fn most(max: u16) -> String {
    if max == u16::MAX { "any number of".to_owned() } else { max.to_string() }
}

fn places(contexts: &[Context]) -> String {
    let names = contexts.iter().take(8).map(|context| match context {
        Context::Element(path) | Context::Fhirpath(path) => &**path,
        Context::Extension(url) => &**url,
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Whether the element that contains the extension matches this context. Contexts given by an expression are not
/// evaluated.
fn is_in_context(schema: &Schema, context: &Context, holder: &ElementPath) -> bool {
    match context {
        Context::Element(path) => is_element(schema, path, holder),
        // A nested extension is checked with the extension that contains it.
        Context::Extension(_) => false,
        Context::Fhirpath(_) => true,
    }
}

/// Matches `Patient.birthDate`, `HumanName`, `Element`, or `DomainResource` against the last steps of the path,
/// below a type.
fn is_element(schema: &Schema, path: &str, holder: &ElementPath) -> bool {
    if holder.type_id.is_some_and(|id| is_type(schema, id, path)) {
        return true;
    }
    let Some((head, _)) = path.split_once('.') else { return false };
    let mut element = holder;
    for step in path[head.len()..].rsplit('.') {
        if step.is_empty() {
            return element.type_id.is_some_and(|id| is_type(schema, id, head));
        }
        let (Some(name), Some(parent)) = (element.name(), element.parent) else { return false };
        if step.strip_suffix("[x]").unwrap_or(step) != name {
            return false;
        }
        element = parent;
    }
    false
}

/// Whether a type has this name or specializes the named type. `Element` also matches resources, because published
/// extensions use it that way. A name that this version does not define matches anything.
pub(crate) fn is_type(schema: &Schema, id: TypeId, name: &str) -> bool {
    let def = schema.def(id);
    match schema.named(name) {
        _ if matches!(name, "Element" | "Base" | "Any") => true,
        // Interfaces, which no resource names as its base: resources with a canonical URL.
        _ if matches!(name, "CanonicalResource" | "MetadataResource") => {
            def.kind == TypeKind::Resource && schema.member(def, "url").is_some()
        }
        Some(of) => schema.is_a(id, of) || *def.code == *name,
        None if name == "BackboneElement" => *def.code == *name,
        None if name == "Resource" => def.kind == TypeKind::Resource,
        None => !name.contains('.'),
    }
}
