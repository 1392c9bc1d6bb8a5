//! Where an element definition belongs in the tree: by its `id`, else by `path`, `sliceName`, and the preceding
//! definitions.

use serde_json::Value;

/// The maximum nesting of slices within slices.
const SLICE_DEPTH_LIMIT: usize = 8;

/// One step of a path: a name and, in a slice, the name of the slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub name: String,
    /// `a/b` is the slice b within the slice a.
    pub slice: Option<String>,
}

impl Segment {
    /// The slices to enter one after the other: `a`, then `a/b`.
    pub fn slices(&self) -> impl Iterator<Item = &str> {
        let whole = self.slice.as_deref().unwrap_or_default();
        let cuts = whole.match_indices('/').map(|(at, _)| at).chain((!whole.is_empty()).then_some(whole.len()));
        cuts.filter_map(move |end| whole.get(..end)).take(SLICE_DEPTH_LIMIT)
    }
}

/// `context` is the position of the preceding element.
pub(super) fn segments(element: &Value, path: &str, context: &[Segment]) -> Vec<Segment> {
    let slice_name = element["sliceName"].as_str().map(str::to_owned);
    let mut found = match element["id"].as_str().and_then(|id| of_id(id, path)) {
        Some(found) => found,
        None => of_path(path, context),
    };
    if let (Some(last), Some(name)) = (found.last_mut(), slice_name)
        && last.slice.is_none()
    {
        last.slice = Some(name);
    }
    found
}

/// None if id and path do not match; early versions allowed any id.
fn of_id(id: &str, path: &str) -> Option<Vec<Segment>> {
    let ids: Vec<&str> = id.split('.').collect();
    let names: Vec<&str> = path.split('.').collect();
    if ids.len() != names.len() {
        return None;
    }
    ids.iter().zip(names).map(|(id, name)| of_step(id, name)).collect()
}

fn of_step(id: &str, name: &str) -> Option<Segment> {
    let (of_id, slice) = id.split_once(':').map_or((id, None), |(of_id, slice)| (of_id, Some(slice.to_owned())));
    let plain = of_id.strip_suffix("[x]").unwrap_or(of_id);
    // `value[x]:valueQuantity` may have the path `valueQuantity`.
    name.starts_with(plain).then(|| Segment { name: of_id.to_owned(), slice })
}

/// Steps that the element shares with the preceding one are in the same slices.
fn of_path(path: &str, context: &[Segment]) -> Vec<Segment> {
    let names: Vec<&str> = path.split('.').collect();
    let mut shares = true;
    let last = names.len().saturating_sub(1);
    let step = |(at, name): (usize, &&str)| {
        let before = context.get(at).filter(|before| shares && at < last && before.name == **name);
        shares &= before.is_some();
        Segment { name: (*name).to_owned(), slice: before.and_then(|before| before.slice.clone()) }
    };
    names.iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(found: Vec<Segment>) -> String {
        let step = |one: Segment| match one.slice {
            Some(slice) => format!("{}:{slice}", one.name),
            None => one.name,
        };
        found.into_iter().map(step).collect::<Vec<_>>().join(".")
    }

    #[test]
    fn an_id_that_fits_its_path_tells_the_slices() {
        let element = json!({ "id": "Bundle.entry:header.resource", "path": "Bundle.entry.resource" });
        assert_eq!(shown(segments(&element, "Bundle.entry.resource", &[])), "Bundle.entry:header.resource");
        let choice = json!({ "id": "Observation.value[x]:valueQuantity", "path": "Observation.valueQuantity" });
        assert_eq!(shown(segments(&choice, "Observation.valueQuantity", &[])), "Observation.value[x]:valueQuantity");
    }

    #[test]
    fn without_ids_children_follow_the_slice_before_them() {
        let elements = [
            json!({ "path": "Patient.identifier", "sliceName": "a" }),
            json!({ "path": "Patient.identifier.system" }),
            json!({ "path": "Patient.identifier", "sliceName": "b" }),
            json!({ "path": "Patient.identifier.system" }),
            json!({ "path": "Patient.name.family" }),
        ];
        let mut context = Vec::new();
        let mut all = Vec::new();
        for element in &elements {
            context = segments(element, element["path"].as_str().expect("a path"), &context);
            all.push(shown(context.clone()));
        }
        let wanted = [
            "Patient.identifier:a",
            "Patient.identifier:a.system",
            "Patient.identifier:b",
            "Patient.identifier:b.system",
            "Patient.name.family",
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_slice_of_a_slice_is_entered_through_it() {
        let one = Segment { name: "identifier".into(), slice: Some("a/b".into()) };
        assert_eq!(one.slices().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
