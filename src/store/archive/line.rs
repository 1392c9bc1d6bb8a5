//! A line of the archive: `{"sha256":"…","record":{…}}`, with the hash of the bytes of the record.
//!
//! The members of a record are named after the columns of the tables (`transfer::table`), without keys: participants are named by their
//! ids, and messages by their public ids.

pub(in crate::store) use super::columns::{Columns, from_json, json_text};
use super::content::{Content, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The format that is written; an import reads it and no other.
pub(super) const FORMAT: u32 = 1;

/// A message as it was when it was archived.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct Record {
    pub format: u32,
    /// `sender` is the participant's id, and `router_answer` the id of the answer that the router gave itself.
    pub message: Columns,
    /// None if it was dropped before.
    pub content: Option<Content>,
    pub deliveries: Vec<ArchivedDelivery>,
}

/// `participant` is the participant's id, and `answer` the id of the first answer.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct ArchivedDelivery {
    #[serde(flatten)]
    pub columns: Columns,
    /// `attempts` is a column: their number.
    pub attempt_list: Vec<Columns>,
    /// What the receiver reported about a message that it accepted.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub issues: Value,
}

const BEFORE_HASH: &str = "{\"sha256\":\"";
const BEFORE_RECORD: &str = "\",\"record\":";
const HASH_LETTERS: usize = 64;

impl Record {
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let record = serde_json::to_string(self)?;
        let hash = sha256_hex(record.as_bytes());
        Ok(format!("{BEFORE_HASH}{hash}{BEFORE_RECORD}{record}}}\n").into_bytes())
    }

    /// Reads a line without its line feed. Errs with what is wrong, without anything of the message.
    pub fn from_line(line: &[u8]) -> Result<Record, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let (hash, record) = split(text).ok_or("it is not a line of an archive, or it is cut off")?;
        if sha256_hex(record.as_bytes()) != hash {
            return Err("it does not have the hash that was stored with it".into());
        }
        let format = serde_json::from_str::<Format>(record).map_err(|_| "its record is not valid")?.format;
        if format != FORMAT {
            return Err(format!("it has format {format}, and this emberpost reads format {FORMAT}"));
        }
        serde_json::from_str(record).map_err(|_| "its record is not valid".into())
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The hash and the record.
fn split(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix(BEFORE_HASH)?;
    let (hash, rest) = (rest.get(..HASH_LETTERS)?, rest.get(HASH_LETTERS..)?);
    Some((hash, rest.strip_prefix(BEFORE_RECORD)?.strip_suffix('}')?))
}

/// A column that holds an id.
pub(in crate::store) fn id(columns: &Columns, name: &str) -> Option<Uuid> {
    columns.get(name)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_changed_is_refused_without_a_word_of_its_content() {
        let mut message = Columns::new();
        message.insert("id".into(), Uuid::max().to_string().into());
        let delivery =
            ArchivedDelivery { columns: message.clone(), attempt_list: vec![Columns::new()], issues: Value::Null };
        let content = Some(Content::new(b"secret", Value::Null));
        let record = Record { format: FORMAT, message, content, deliveries: vec![delivery] };
        let line = String::from_utf8(record.to_line().unwrap()).unwrap();
        let read = Record::from_line(line.trim_end().as_bytes()).unwrap();
        assert_eq!(
            (id(&read.message, "id"), read.content.unwrap().into_bytes().unwrap()),
            (Some(Uuid::max()), b"secret".to_vec())
        );
        let newer = String::from_utf8(Record { format: 2, ..record_of(&line) }.to_line().unwrap()).unwrap();
        for (wrong, text) in [
            (line.replace("secret", "secreT"), "does not have the hash"),
            (line[..line.len() - 9].to_owned(), "cut off"),
            (newer, "it has format 2"),
            ("{}".to_owned(), "not a line of an archive"),
        ] {
            let error = Record::from_line(wrong.trim_end().as_bytes()).unwrap_err();
            assert!(error.contains(text) && !error.contains("secre"), "{error}");
        }
    }

    fn record_of(line: &str) -> Record {
        Record::from_line(line.trim_end().as_bytes()).unwrap()
    }
}
