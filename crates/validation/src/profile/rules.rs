//! The compiled requirements of a profile: a tree of element rules in addition to the base specification.
//!
//! Has rules only where the chain of profiles goes beyond the base, which the structure check enforces. Pure data;
//! `compile` creates it, `check` evaluates it.

use super::codes::{Codes, Unlisted};
use super::expression::Expression;
use super::limit::Limit;
use super::pattern::Pattern;
use emberpost_fhir::schema::TypeId;
use std::sync::Arc;

/// Position in the list of compiled profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProfileId(pub u32);

/// What the canonical of a profile refers to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProfileRef {
    /// A type of the base specification, which the structure check enforces.
    Base(TypeId),
    Known(ProfileId),
    /// An extension of the base packages, which the structure check enforces.
    BuiltIn,
    /// Not loaded; the canonical as written.
    Missing(Box<str>),
}

#[derive(Debug)]
pub(super) struct Profile {
    /// `url|version`.
    pub canonical: Box<str>,
    pub type_id: TypeId,
    /// The profiles that it constrains, nearest first.
    pub ancestors: Vec<ProfileId>,
    /// A base that is not loaded, so that its rules are not checked.
    pub missing_base: Option<Box<str>>,
    /// The contexts of an extension; empty: anywhere.
    pub contexts: Vec<Context>,
    pub root: Rules,
}

#[derive(Debug)]
pub(super) enum Context {
    /// An element or type: `Patient.contact`, `Element`.
    Element(Box<str>),
    /// Within the extension with this url.
    Extension(Box<str>),
    /// By an expression, which is not evaluated.
    Expression,
}

impl Context {
    pub fn name(&self) -> &str {
        match self {
            Context::Element(name) | Context::Extension(name) => name,
            Context::Expression => "an expression",
        }
    }
}

/// The rules of one element, or of one of its slices.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The element's name, without `[x]`.
    pub name: Box<str>,
    pub min: u32,
    /// None: as in the base.
    pub max: Option<u32>,
    /// Empty: as in the base.
    pub types: Vec<TypeRule>,
    pub fixed: Option<Pattern>,
    pub pattern: Option<Pattern>,
    pub bindings: Vec<BindingRule>,
    pub constraints: Vec<ConstraintRule>,
    pub max_length: Option<usize>,
    pub min_value: Option<Limit>,
    pub max_value: Option<Limit>,
    pub must_support: bool,
    /// R5: an extension does not replace the value of a primitive.
    pub must_have_value: bool,
    pub slicing: Option<Slicing>,
    pub slices: Vec<Slice>,
    pub children: Vec<Rules>,
}

impl Rules {
    /// Whether there are no rules at all.
    pub fn is_empty(&self) -> bool {
        !self.constrains_value() && self.min == 0 && self.max.is_none() && !self.must_support && self.slicing.is_none()
    }

    /// Whether there are rules for each single value.
    pub fn constrains_value(&self) -> bool {
        !(self.types.is_empty()
            && self.fixed.is_none()
            && self.pattern.is_none()
            && self.bindings.is_empty()
            && self.constraints.is_empty()
            && self.max_length.is_none()
            && !self.must_have_value
            && self.min_value.is_none()
            && self.max_value.is_none()
            && self.children.is_empty()
            && self.slices.is_empty())
    }
}

/// A type that is allowed.
#[derive(Debug)]
pub(super) struct TypeRule {
    pub type_id: TypeId,
    /// The value conforms to one of them; empty: no profile is required.
    pub profiles: Vec<ProfileRef>,
    /// The allowed targets of a reference; empty: any.
    pub targets: Vec<ProfileRef>,
    /// Where the target of a reference may be; empty: anywhere.
    pub aggregation: Vec<Aggregation>,
}

/// Where the target of a reference is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aggregation {
    /// In the resource that has the reference.
    Contained,
    /// In another entry of the Bundle.
    Bundled,
    /// Outside of the resource, in the Bundle or not.
    Referenced,
}

impl Aggregation {
    pub fn name(self) -> &'static str {
        match self {
            Aggregation::Contained => "contained in the resource",
            Aggregation::Bundled => "in the message",
            Aggregation::Referenced => "outside of the resource",
        }
    }
}

#[derive(Debug)]
pub(super) struct BindingRule {
    /// The canonical, as written.
    pub value_set: Box<str>,
    /// The reason why it cannot be checked, if any.
    pub codes: Result<Arc<Codes>, Unlisted>,
}

#[derive(Debug)]
pub(super) struct ConstraintRule {
    pub key: Box<str>,
    pub human: Box<str>,
    pub is_error: bool,
    pub expression: Arc<Expression>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Openness {
    Open,
    OpenAtEnd,
    Closed,
}

#[derive(Debug)]
pub(super) struct Slicing {
    pub openness: Openness,
    pub ordered: bool,
}

#[derive(Debug)]
pub(super) struct Slice {
    pub name: Box<str>,
    /// A value belongs to the slice if all of them match; empty: if it conforms to the slice's rules.
    pub matchers: Vec<Matcher>,
    pub rules: Rules,
}

/// A discriminator as it applies to one slice.
#[derive(Debug)]
pub(super) struct Matcher {
    pub path: Vec<Step>,
    pub test: Test,
}

/// A step of a discriminator's path; an empty path is `$this`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Child(Box<str>),
    Extension(Box<str>),
    Resolve,
    OfType(TypeId),
}

#[derive(Debug)]
pub(super) enum Test {
    /// A value at the path passes one of the tests.
    Value(Vec<ValueTest>),
    /// Whether there must be a value at the path, or must not.
    Exists(bool),
    /// A value at the path has one of the types.
    Type(Vec<TypeId>),
    /// A value at the path conforms to one of the profiles.
    Profile(Vec<ProfileRef>),
    /// A range of positions, from 0, end exclusive.
    Position(u32, u32),
    /// The definition does not define the value, or its base is not loaded: membership is unknown.
    Unknown,
}

#[derive(Debug)]
pub(super) enum ValueTest {
    Fixed(Pattern),
    Pattern(Pattern),
    Binding(BindingRule),
    /// It conforms to what the slice requires at the path.
    Rules(Box<Rules>),
}
