//! Rows as JSON objects: a member for each column. JSON that a column holds as text is an object, ids are texts, and hashes are
//! base64.

use crate::store::transfer::row::{Cell, Row};
use crate::store::transfer::table::{Kind, Table};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use uuid::Uuid;

pub(in crate::store) type Columns = Map<String, Value>;

/// Columns whose texts are JSON.
const JSON: [&str; 4] = ["metadata", "outcome", "kind_json", "issues"];

/// The columns of a row but for some.
pub(super) fn to_json(table: &Table, row: &[Cell], without: &[&str]) -> Columns {
    let columns = table.columns.iter().zip(row).filter(|((name, _), _)| !without.contains(name));
    columns.map(|((name, kind), cell)| ((*name).to_owned(), value(name, *kind, cell))).collect()
}

fn value(name: &str, kind: Kind, cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(value) if kind == Kind::Flag => Value::Bool(*value != 0),
        Cell::Integer(value) => (*value).into(),
        Cell::Text(text) if JSON.contains(&name) => json(text),
        Cell::Text(text) => text.clone().into(),
        Cell::Bytes(bytes) if kind == Kind::Id => {
            Uuid::from_slice(bytes).map_or(Value::Null, |id| id.to_string().into())
        }
        Cell::Bytes(bytes) => STANDARD.encode(bytes).into(),
    }
}

/// A text that a column holds as JSON; as a text if it is not JSON.
pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// The text of a column that holds JSON.
pub(in crate::store) fn json_text(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::String(text) => Cell::text(text.clone()),
        value => Cell::text(value.to_string()),
    }
}

/// The row of these columns; `given` are the values of the others. None if a member has another type than its column.
pub(in crate::store) fn from_json(table: &Table, columns: &Columns, given: &[(&str, Cell)]) -> Option<Row> {
    let cell = |(name, kind): &(&str, Kind)| match given.iter().find(|(known, _)| known == name) {
        Some((_, cell)) => Some(cell.clone()),
        None => cell(name, *kind, columns.get(*name).unwrap_or(&Value::Null)),
    };
    table.columns.iter().map(cell).collect()
}

fn cell(name: &str, kind: Kind, value: &Value) -> Option<Cell> {
    Some(match (kind, value) {
        (_, Value::Null) => Cell::Null,
        (Kind::Flag, Value::Bool(value)) => Cell::Integer((*value).into()),
        (Kind::Integer | Kind::Small | Kind::Count, Value::Number(number)) => Cell::Integer(number.as_i64()?),
        (Kind::Text, value) if JSON.contains(&name) => json_text(value),
        (Kind::Text, Value::String(text)) => Cell::text(text.clone()),
        (Kind::Id, Value::String(text)) => Cell::Bytes(Uuid::parse_str(text).ok()?.as_bytes().to_vec()),
        (Kind::Bytes, Value::String(text)) => Cell::Bytes(STANDARD.decode(text).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_after_it_was_json() {
        let table = Table::named("message");
        let cell = |(at, (name, kind)): (usize, &(&str, Kind))| match kind {
            Kind::Flag => Cell::Integer(1),
            Kind::Integer | Kind::Small | Kind::Count => Cell::Integer(-(at as i64)),
            Kind::Text if JSON.contains(name) => Cell::Text("{\"b\":1,\"a\":[]}".into()),
            Kind::Text => Cell::Text("{\n\"ä".into()),
            Kind::Id | Kind::Bytes => Cell::Bytes(vec![at as u8; 16]),
        };
        let mut row: Row = table.columns.iter().enumerate().map(cell).collect();
        row[7] = Cell::Null;
        let columns = to_json(table, &row, &["k"]);
        assert!(columns["metadata"].is_object() && !columns.contains_key("k"));
        assert_eq!(from_json(table, &columns, &[("k", row[0].clone())]), Some(row));
        let mut wrong = columns;
        wrong.insert("state".into(), "accepted".into());
        assert_eq!(from_json(table, &wrong, &[]), None);
    }
}
