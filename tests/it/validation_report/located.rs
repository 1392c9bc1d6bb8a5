//! Whether an issue names the element that was changed: the same, one below it, or the one directly above. An element that
//! repeats and one of its items are the same.

/// Without what names a choice: validators write it differently.
fn plain(path: &str) -> String {
    let mut text = path.replace("[x]", "");
    while let Some(from) = text.find(".ofType(") {
        let length = text[from..].find(')').map_or(text.len() - from, |end| end + 1);
        text.replace_range(from..from + length, "");
    }
    text
}

fn above(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(above, _)| above)
}

/// Without the index at its end.
fn repeating(path: &str) -> &str {
    path.strip_suffix(']').and_then(|path| path.rsplit_once('[')).map_or(path, |(path, _)| path)
}

pub fn is_located(at: &str, expression: &str) -> bool {
    let (at, found) = (plain(at), plain(expression));
    let is_item = repeating(&at) == found || repeating(&found) == at;
    found == at || is_item || above(&found) == Some(&at) || above(&at) == Some(&found)
}

#[test]
fn the_element_itself_its_children_and_its_parent_count() {
    assert!(is_located("Patient.name", "Patient.name[0]") && !is_located("Patient.name[1]", "Patient.name[0]"));
    let at = "Bundle.entry[1].resource.value.ofType(Quantity)";
    for (found, wanted) in [
        ("Bundle.entry[1].resource.value[x]", true),
        ("Bundle.entry[1].resource.value.ofType(Quantity).code", true),
        ("Bundle.entry[1].resource", true),
        ("Bundle.entry[1]", false),
        ("Bundle.entry[1].resource.value.ofType(Quantity).code.id", false),
        ("Bundle.entry[2].resource", false),
    ] {
        assert_eq!(is_located(at, found), wanted, "{found}");
    }
}
