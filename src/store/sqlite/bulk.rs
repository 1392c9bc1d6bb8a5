//! Calls to SQLite that write many rows, or run several statements: each call is a switch to SQLite's thread and back.
//!
//! The SQL text is made once per number of rows, so that SQLite reuses its prepared statements. Rows are bound one by one:
//! passing them as JSON arrays cost SQLite more than the calls to its thread that they saved.

use sqlx::error::BoxDynError;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Encode, Error, Type};
use std::sync::{Arc, OnceLock};

pub(super) const ROWS_PER_CALL: usize = 64;
/// Where so many rows are left, a call writes so many. What is written later than messages comes in such numbers.
pub(super) const MANY_ROWS: usize = 256;

/// The arguments of a call, up to 1,500 of them: `Query::bind` would move the whole query for each.
#[derive(Default)]
pub(super) struct Bound {
    arguments: SqliteArguments,
    failure: Option<BoxDynError>,
}

impl Bound {
    fn with_capacity(values: usize) -> Bound {
        let mut bound = Bound::default();
        bound.arguments.reserve(values, 0);
        bound
    }

    pub fn bind<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Bound {
        if let Err(failure) = self.arguments.add(value) {
            self.failure.get_or_insert(failure);
        }
        self
    }

    pub fn bind_rows<R>(&mut self, rows: &mut [R], binds: &[fn(&mut Bound, &mut R)]) {
        for bind in binds {
            rows.iter_mut().for_each(|row| bind(self, row));
        }
    }

    pub async fn execute(self, text: Arc<str>, conn: &mut SqliteConnection) -> Result<(), Error> {
        match self.failure {
            Some(failure) => Err(Error::Encode(failure)),
            None => sqlx::query_with(AssertSqlSafe(text), self.arguments).execute(conn).await.map(drop),
        }
    }
}

/// The SQL before the rows of a statement, their number of columns, and the SQL after them.
pub(super) type Statement = (&'static str, usize, &'static str);

/// A call that writes up to 64 rows, or 256. Its SQL text is made once per number of rows.
pub(super) struct BulkStatement {
    statements: &'static [Statement],
    /// A last statement, once; empty: none.
    last: &'static str,
    texts: [OnceLock<Arc<str>>; ROWS_PER_CALL],
    many: OnceLock<Arc<str>>,
}

impl BulkStatement {
    pub const fn new(statements: &'static [Statement], last: &'static str) -> Self {
        let texts = [const { OnceLock::new() }; ROWS_PER_CALL];
        BulkStatement { statements, last, texts, many: OnceLock::new() }
    }

    /// `rows` is 1 to 64, or 256.
    pub fn text(&self, rows: usize) -> Arc<str> {
        let statement = |(head, columns, tail): &Statement| {
            let row = format!("({})", vec!["?"; *columns].join(","));
            format!("{head}{}{tail}", vec![row; rows].join(","))
        };
        let last = (!self.last.is_empty()).then(|| self.last.to_owned());
        let make = || Arc::from(self.statements.iter().map(statement).chain(last).collect::<Vec<_>>().join("; "));
        self.texts.get(rows - 1).unwrap_or(&self.many).get_or_init(make).clone()
    }

    /// Room for the values of so many rows.
    pub fn bound(&self, rows: usize) -> Bound {
        Bound::with_capacity(self.statements.iter().map(|(_, columns, _)| columns * rows).sum())
    }

    /// `binds`: for each statement the function that binds a row; it may take the contents of the row.
    pub async fn run<R>(
        &self,
        conn: &mut SqliteConnection,
        rows: &mut [R],
        binds: &[fn(&mut Bound, &mut R)],
    ) -> Result<(), Error> {
        let mut rest = rows;
        while !rest.is_empty() {
            let count = if rest.len() >= MANY_ROWS { MANY_ROWS } else { rest.len().min(ROWS_PER_CALL) };
            let (chunk, others) = rest.split_at_mut(count);
            let mut bound = self.bound(count);
            bound.bind_rows(chunk, binds);
            bound.execute(self.text(count), &mut *conn).await?;
            rest = others;
        }
        Ok(())
    }
}

/// Several statements in one call, for few rows: waiting for SQLite's thread takes longer than their work.
#[derive(Default)]
pub(super) struct Series {
    text: String,
    bound: Bound,
}

impl Series {
    /// As `BulkStatement::run`, for up to 64 rows.
    pub fn add<R>(&mut self, statement: &BulkStatement, rows: &mut [R], binds: &[fn(&mut Bound, &mut R)]) {
        if !rows.is_empty() {
            self.then(&statement.text(rows.len())).bind_rows(rows, binds);
        }
    }

    /// One more statement, whose values are to be bound.
    pub fn then(&mut self, text: &str) -> &mut Bound {
        self.text.push_str(text);
        self.text.push_str("; ");
        &mut self.bound
    }

    pub async fn execute(self, conn: &mut SqliteConnection) -> Result<(), Error> {
        self.bound.execute(self.text.into(), conn).await
    }
}
