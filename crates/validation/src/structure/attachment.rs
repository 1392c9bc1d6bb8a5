//! Attachments: `size` is that of `data`, before base64, where both are there.

use super::place::SINGLE;
use super::walk::{Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::Node;

impl<'t> Walker<'t, '_, '_> {
    pub fn attachment(&mut self, object: &Object<'t, '_>) {
        let [data, size] = object.node.pick(["data", "size"]);
        let (Some(data), Some(size)) = (data.and_then(Node::text), size) else { return };
        // A number, and in R5 a string of one.
        let said = size.number().map(str::parse::<u64>).or_else(|| size.text().map(|text| text.parse()));
        let Some(Ok(said)) = said else { return };
        let letters = data.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').count() as u64;
        let actual = letters / 4 * 3 + (letters % 4).saturating_sub(1);
        if said == actual {
            return;
        }
        let member = object.plan.member(self.plan.schema, b"size");
        let place = member.map(|member| object.place.element(member, SINGLE));
        self.fail(place.as_ref().unwrap_or(object.place), size, "attachment-size", IssueCode::Value, || {
            format!("size is {said}, and data holds {actual} bytes; size is the number of bytes before base64")
        });
    }
}
