//! A statement with its values, which can be sent again: after a lost connection, or when a transaction is repeated.

use super::connect::within_limit;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Error, Row};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub(in crate::store) enum Value {
    Boolean(bool),
    Integer(i64),
    OptionalInteger(Option<i64>),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
    Integers(Arc<[i64]>),
    OptionalIntegers(Vec<Option<i64>>),
    SmallIntegers(Arc<[i16]>),
    OptionalText(Option<String>),
    Texts(Vec<String>),
    ManyBytes(Vec<Vec<u8>>),
    Ids(Arc<[Uuid]>),
}

macro_rules! value {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value)
            }
        })*
    };
}

value!(
    bool => Boolean, i64 => Integer, Option<i64> => OptionalInteger, String => Text, Option<String> => OptionalText, Vec<u8> => Bytes, Uuid => Id, Arc<[i64]> => Integers,
    Vec<Option<i64>> => OptionalIntegers, Arc<[i16]> => SmallIntegers, Vec<String> => Texts, Vec<Vec<u8>> => ManyBytes, Arc<[Uuid]> => Ids,
);

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Integer(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(text(value).into_owned())
    }
}

impl From<Vec<i64>> for Value {
    fn from(value: Vec<i64>) -> Value {
        Value::Integers(value.into())
    }
}

impl From<&[i64]> for Value {
    fn from(value: &[i64]) -> Value {
        Value::Integers(value.into())
    }
}

/// The SQL text is written here; values that callers gave are bound.
#[derive(Clone, Debug)]
pub(in crate::store) struct Sql {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(text: impl Into<Cow<'static, str>>) -> Sql {
        Sql { text: text.into(), values: Vec::new() }
    }

    /// Binds the value of the next parameter: `$1`, `$2`, and so on.
    pub fn bind(mut self, value: impl Into<Value>) -> Sql {
        self.values.push(value.into());
        self
    }

    pub fn bind_all(mut self, values: impl IntoIterator<Item = Value>) -> Sql {
        self.values.extend(values);
        self
    }

    fn query(&self) -> Result<sqlx::query::Query<'static, sqlx::Postgres, PgArguments>, Error> {
        let mut arguments = PgArguments::default();
        for value in &self.values {
            let added = match value {
                Value::Boolean(value) => arguments.add(value),
                Value::Integer(value) => arguments.add(value),
                Value::OptionalInteger(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
                Value::Id(value) => arguments.add(value),
                Value::Integers(value) => arguments.add(&**value),
                Value::OptionalIntegers(value) => arguments.add(value),
                Value::SmallIntegers(value) => arguments.add(&**value),
                Value::OptionalText(value) => arguments.add(value),
                Value::Texts(value) => arguments.add(value),
                Value::ManyBytes(value) => arguments.add(value),
                Value::Ids(value) => arguments.add(&**value),
            };
            added.map_err(Error::Encode)?;
        }
        let text: Arc<str> = Arc::from(&*self.text);
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments))
    }

    pub async fn all(&self, conn: &mut PgConnection) -> Result<Vec<PgRow>, Error> {
        self.page(conn, usize::MAX).await
    }

    /// The first rows, until they have `limit_bytes`, and the one after them.
    pub async fn page(&self, conn: &mut PgConnection, limit_bytes: usize) -> Result<Vec<PgRow>, Error> {
        let rows = async {
            let mut stream = self.query()?.fetch(conn);
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while let Some(row) = stream.try_next().await? {
                let size = if limit_bytes < usize::MAX { size_bytes(&row) } else { 0 };
                rows.push(row);
                if bytes >= limit_bytes {
                    break;
                }
                bytes += size;
            }
            Ok(rows)
        };
        within_limit(rows).await
    }

    pub async fn one(&self, conn: &mut PgConnection) -> Result<PgRow, Error> {
        self.all(conn).await?.into_iter().next().ok_or(Error::RowNotFound)
    }

    pub async fn optional(&self, conn: &mut PgConnection) -> Result<Option<PgRow>, Error> {
        Ok(self.all(conn).await?.into_iter().next())
    }

    /// Whether a row changed.
    pub async fn changes(self, conn: &mut PgConnection) -> Result<bool, Error> {
        Ok(self.execute(conn).await? > 0)
    }

    /// The number of rows that changed.
    pub async fn execute(&self, conn: &mut PgConnection) -> Result<u64, Error> {
        Ok(within_limit(self.query()?.execute(conn)).await?.rows_affected())
    }
}

/// Size of a row as the server sent it.
pub(in crate::store) fn size_bytes(row: &PgRow) -> usize {
    let size = |column| row.try_get_raw(column).ok().and_then(|value| value.as_bytes().ok()).map_or(0, <[u8]>::len);
    (0..row.len()).map(size).sum()
}

/// A text without U+0000, which PostgreSQL cannot store.
pub(in crate::store) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
