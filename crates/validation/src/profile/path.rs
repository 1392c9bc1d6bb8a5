//! Paths of discriminators: names, `$this`, `extension(url)`, `resolve()`, `ofType(type)`.

use super::rules::Step;
use emberpost_fhir::schema::Schema;

/// The steps of a path; an empty list is `$this`. None: the path is not allowed in a discriminator.
pub(super) fn steps(schema: &Schema, path: &str) -> Option<Vec<Step>> {
    let mut found = Vec::new();
    for part in parts(path) {
        let argument = |name: &str| part.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').map(str::trim);
        let unquoted = |text: &str| text.trim_matches(['\'', '"']).to_owned();
        let step = match part {
            "$this" | "" => continue,
            "resolve()" => Step::Resolve,
            _ => match (argument("extension"), argument("ofType").or_else(|| argument("as"))) {
                (Some(url), _) => Step::Extension(unquoted(url).into()),
                (_, Some(name)) => Step::OfType(schema.named(name.rsplit('.').next()?)?),
                _ if part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => Step::Child(part.into()),
                _ => Step::Child(part.strip_suffix("[x]")?.into()),
            },
        };
        found.push(step);
    }
    Some(found)
}

/// Splits at dots outside of parentheses.
fn parts(path: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_u32, 0, Vec::new());
    for (at, letter) in path.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                found.push(&path[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&path[from..]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_dots_outside_of_parentheses() {
        let path = "$this.extension('http://x.example/a.b').value.ofType(Coding).resolve()";
        assert_eq!(parts(path), ["$this", "extension('http://x.example/a.b')", "value", "ofType(Coding)", "resolve()"]);
    }
}
