//! Makes narrative independent of its context: `<h:div>` becomes `<div xmlns="http://www.w3.org/1999/xhtml">`.

use super::namespace::XHTML;
use super::text;

/// The same XHTML with its root's prefix removed from all elements and its namespace declared on the root. The text
/// must be well-formed and use no other namespace from outside.
pub(super) fn standing_alone(raw: &[u8]) -> Vec<u8> {
    let Ok((root, _)) = text::name(raw, 1) else { return raw.to_vec() };
    let prefix = root.prefix.of(raw);
    let mut done = Vec::with_capacity(raw.len() + 48);
    let mut position = 0;
    while let Some(tag) = raw.get(position..).and_then(|rest| memchr::memchr(b'<', rest)).map(|found| position + found)
    {
        done.extend_from_slice(&raw[position..tag]);
        let rest = &raw[tag..];
        let end = [(&b"<!--"[..], &b"-->"[..]), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")]
            .iter()
            .find(|(start, _)| rest.starts_with(start))
            .map(|(start, end)| memchr::memmem::find(&rest[start.len()..], end).map(|at| start.len() + at + end.len()));
        if let Some(length) = end {
            let length = length.unwrap_or(rest.len());
            done.extend_from_slice(&rest[..length]);
            position = tag + length;
            continue;
        }
        position = tag_name(raw, tag, prefix, &mut done);
        if tag == 0 {
            declare(raw, &mut position, prefix, &mut done);
        }
    }
    done.extend_from_slice(raw.get(position..).unwrap_or_default());
    done
}

/// Writes `<name` or `</name` of the tag without the prefix; returns the offset after it.
fn tag_name(raw: &[u8], tag: usize, prefix: &[u8], done: &mut Vec<u8>) -> usize {
    let from = tag + 1 + usize::from(raw.get(tag + 1) == Some(&b'/'));
    done.extend_from_slice(&raw[tag..from]);
    let Ok((name, end)) = text::name(raw, from) else { return from };
    let is_own = name.prefix.of(raw) == prefix;
    done.extend_from_slice(if is_own { name.local } else { name.whole }.of(raw));
    end
}

/// Declares the namespace on the root, and omits the root's own declaration of the prefix.
fn declare(raw: &[u8], position: &mut usize, prefix: &[u8], done: &mut Vec<u8>) {
    done.extend_from_slice(b" xmlns=\"");
    done.extend_from_slice(XHTML);
    done.push(b'"');
    loop {
        let start = *position;
        let space = raw[start..].iter().take_while(|byte| text::is_space(**byte)).count();
        let Ok((name, end)) = text::name(raw, start + space) else { return };
        let equals = memchr::memchr2(b'"', b'\'', &raw[end..]).map(|at| end + at);
        let Some((_, end)) = equals.and_then(|at| text::value(raw, at).ok()) else { return };
        let is_own = name.prefix.of(raw) == b"xmlns" && name.local.of(raw) == prefix;
        if !is_own && name.whole.of(raw) != b"xmlns" {
            done.extend_from_slice(&raw[start..end]);
        }
        *position = end;
    }
}
