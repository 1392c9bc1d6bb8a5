//! Attachments: `size` is the number of bytes of `data` before base64, if both are present.

use super::element_path::SINGLE;
use super::walker::{Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::Node;

impl<'t> Walker<'t, '_, '_> {
    pub fn attachment(&mut self, object: &Object<'t, '_>) {
        let [data, size] = object.node.pick(["data", "size"]);
        let (Some(data), Some(size)) = (data.and_then(Node::text), size) else { return };
        // A number; R5 writes it as a string.
        let declared = size.number().map(str::parse::<u64>).or_else(|| size.text().map(|text| text.parse()));
        let Some(Ok(declared)) = declared else { return };
        let letters = data.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').count() as u64;
        let actual = letters / 4 * 3 + (letters % 4).saturating_sub(1);
        if declared == actual {
            return;
        }
        let member = object.plan.member(self.plan.schema, b"size");
        let path = member.map(|member| object.path.element(member, SINGLE));
        self.fail(path.as_ref().unwrap_or(object.path), size, "attachment-size", IssueCode::Value, || {
            format!("size is {declared}, and data holds {actual} bytes; size is the number of bytes before base64")
        });
    }
}
