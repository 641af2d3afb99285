//! The session with the database: every request goes through here, with its deadline, its consistency and its measures.
//!
//! A request must be answered within [`DEADLINE`], the driver's repeats included. Reads and plain writes are idempotent,
//! so the driver may repeat them on another node; a conditional statement is sent once, and when its outcome is not known
//! that is said as [`Applied::Unknown`], never as "not applied".

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row as Values};
use tokio::sync::Semaphore;
use tracing::Instrument;

use super::metrics::StatementMetrics;
use super::row::Row;
use crate::store::{StoreError, span};

/// How long one request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// Requests that lists of requests may have under way at once, in all.
const FAN_OUT: usize = 256;
/// Requests that one list of requests may have under way at once.
const FAN_OUT_OF_ONE: usize = 64;

/// The column of a conditional statement's result that says whether it was applied.
const APPLIED: &str = "[applied]";

/// A prepared statement, what it does, and what it is measured under.
pub(super) struct Statement {
    /// Completes "failed to".
    attempted: &'static str,
    /// The table it is about.
    table: &'static str,
    prepared: PreparedStatement,
    /// The same read at `LOCAL_SERIAL`.
    serial: PreparedStatement,
    metrics: StatementMetrics,
}

impl Statement {
    /// This statement with these values, for a batch.
    pub(super) fn with<'a>(&'a self, values: impl SerializeRow + Send + Sync + 'a) -> Bound<'a> {
        Bound { statement: self, values: Box::new(values) }
    }

    /// Asks for so many rows at once, where they may be large: a request has its deadline however much it brings.
    pub(super) fn in_pages_of(&mut self, rows: i32) {
        self.prepared.set_page_size(rows);
        self.serial.set_page_size(rows);
    }

    /// The store's error for a failed request of this statement.
    pub(super) fn failed(&self, error: ExecutionError) -> StoreError {
        StoreError::Unavailable { attempted: self.attempted, source: Arc::new(error) }
    }
}

/// A statement with its values.
pub(super) struct Bound<'a> {
    statement: &'a Statement,
    values: Box<dyn SerializeRow + Send + Sync + 'a>,
}

/// What became of a conditional statement.
#[derive(Clone, Debug)]
pub(super) enum Applied {
    /// Its condition held, and it was applied.
    Yes,
    /// Its condition did not hold, and nothing was written.
    No,
    /// Nobody knows: it may have been applied, or may yet be. Whoever needs to know reads at serial consistency, or
    /// answers with this error.
    Unknown(StoreError),
}

/// Makes a struct of prepared statements, and the function that prepares them all.
///
/// The one line of doc of each completes the sentence "failed to"; its name is the one it is measured under.
macro_rules! statements {
    ($(#[$outer:meta])* $visibility:vis struct $name:ident {
        $(#[doc = $attempted:literal] $statement:ident: $text:expr,)*
    }) => {
        $(#[$outer])*
        $visibility struct $name {
            $(#[doc = $attempted] $visibility $statement: $crate::store::scylla::database::Statement,)*
        }

        impl $name {
            /// Prepares them.
            $visibility async fn prepare(
                database: &$crate::store::scylla::database::Database,
            ) -> Result<Self, $crate::store::scylla::open::OpenError> {
                Ok(Self { $($statement: database.prepare(stringify!($statement), $attempted.trim_ascii(), $text).await?,)* })
            }
        }
    };
}
pub(super) use statements;

/// The session, and what all requests share.
pub(super) struct Database {
    session: Session,
    keyspace: String,
    fan_out: Semaphore,
    /// Where tests end this store's requests in the middle.
    #[cfg(test)]
    pub(super) cuts: Arc<super::tests::cuts::Cuts>,
}

impl Database {
    /// Over this session, for the tables of this keyspace.
    pub(super) fn new(session: Session, keyspace: &str) -> Self {
        Self {
            session,
            keyspace: keyspace.to_owned(),
            fan_out: Semaphore::new(FAN_OUT),
            #[cfg(test)]
            cuts: Arc::default(),
        }
    }

    /// Prepares a statement; `attempted` completes "failed to".
    pub(super) async fn prepare(
        &self,
        name: &'static str,
        attempted: &'static str,
        text: &'static str,
    ) -> Result<Statement, super::open::OpenError> {
        let (before, table, after) = around_table(text);
        let failed = |source: PrepareError| super::open::OpenError::Statement { name, table, source: source.into() };
        let qualified = format!("{before}{}.{table}{after}", self.keyspace);
        let mut prepared = self.session.prepare(qualified).await.map_err(failed)?;
        let is_conditional = is_conditional(text);
        prepared.set_is_idempotent(!is_conditional);
        if is_conditional {
            prepared.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
        }
        let mut serial = prepared.clone();
        serial.set_consistency(Consistency::LocalSerial);
        Ok(Statement { attempted, table, prepared, serial, metrics: StatementMetrics::new(name) })
    }

    /// All rows of a query, read page by page, since a short or empty page is not the end.
    pub(super) async fn read(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Vec<Row>, StoreError> {
        self.read_pages(statement, &statement.prepared, &values).await
    }

    /// The first row of a query.
    pub(super) async fn read_one(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.read(statement, values).await?.into_iter().next())
    }

    /// All rows of a query, after every conditional statement on the partition that was answered or can still be.
    pub(super) async fn read_serial(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Vec<Row>, StoreError> {
        self.read_pages(statement, &statement.serial, &values).await
    }

    /// The first row of a query, read as by [`Self::read_serial`].
    pub(super) async fn read_one_serial(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.read_serial(statement, values).await?.into_iter().next())
    }

    async fn read_pages(
        &self,
        statement: &Statement,
        prepared: &PreparedStatement,
        values: &(impl SerializeRow + Send + Sync),
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let mut state = PagingState::start();
        loop {
            let request = self.session.execute_single_page(prepared, values, state).boxed();
            let (page, next) = self.send(statement, request).await.map_err(|error| statement.failed(error))?;
            decode(statement, page, &mut rows)?;
            match next {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => return Ok(rows),
            }
        }
    }

    /// A plain write.
    pub(super) async fn write(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<(), StoreError> {
        debug_assert!(!is_conditional(statement.prepared.get_statement()), "a conditional statement is no plain write");
        let request = self.session.execute_unpaged(&statement.prepared, values).boxed();
        self.send(statement, request).await.map(|_| ()).map_err(|error| statement.failed(error))
    }

    /// Plain writes of **one partition**, as a whole or not at all. It counts as one request, under its first statement.
    pub(super) async fn write_batch(&self, writes: &[Bound<'_>]) -> Result<(), StoreError> {
        let Some(first) = writes.first() else { return Ok(()) };
        let statement = first.statement;
        self.send_batch(statement, writes, false).await.map(|_| ()).map_err(|error| statement.failed(error))
    }

    /// A conditional statement.
    pub(super) async fn compare_and_set(
        &self,
        statement: &Statement,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<Applied, StoreError> {
        debug_assert!(is_conditional(statement.prepared.get_statement()), "a plain write is no conditional statement");
        let request = self.session.execute_unpaged(&statement.prepared, values).boxed();
        applied(statement, self.send(statement, request).await)
    }

    /// Conditional and other statements of **one partition**, all or none of which are applied. It counts as one request,
    /// under its first statement.
    pub(super) async fn compare_and_set_batch(&self, statements: &[Bound<'_>]) -> Result<Applied, StoreError> {
        let Some(first) = statements.first() else { return Ok(Applied::Yes) };
        applied(first.statement, self.send_batch(first.statement, statements, true).await)
    }

    async fn send_batch(
        &self,
        statement: &Statement,
        bound: &[Bound<'_>],
        is_conditional: bool,
    ) -> Result<QueryResult, ExecutionError> {
        let statements = bound.iter().map(|bound| BatchStatement::PreparedStatement(bound.statement.prepared.clone()));
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements.collect());
        batch.set_is_idempotent(!is_conditional);
        if is_conditional {
            batch.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
        }
        let values: Vec<_> = bound.iter().map(|bound| &bound.values).collect();
        let request = self.session.batch(&batch, values).boxed();
        self.send(statement, request).await
    }

    /// Sends one request: the one place through which all go.
    async fn send<T>(
        &self,
        statement: &Statement,
        request: BoxFuture<'_, Result<T, ExecutionError>>,
    ) -> Result<T, ExecutionError> {
        let started = Instant::now();
        #[cfg(test)]
        let request = self.cuts.request(request, || ExecutionError::RequestTimeout(DEADLINE)).boxed();
        let outcome = request.instrument(span(statement.attempted)).await;
        statement.metrics.answered(started, outcome.is_ok());
        outcome
    }

    /// Does `request` for each item, many at once, and gives the results in order; the first failure ends it.
    ///
    /// It must not be called within itself: then all could wait for each other.
    pub(super) fn for_each<'a, T, R, F>(
        &'a self,
        items: impl IntoIterator<Item = T>,
        request: impl Fn(T) -> F,
    ) -> BoxFuture<'a, Result<Vec<R>, StoreError>>
    where
        R: Send + 'a,
        F: Future<Output = Result<R, StoreError>> + Send + 'a,
    {
        let requests = items.into_iter().map(|item| {
            let request = request(item);
            let in_its_turn = async move {
                let _place = self.fan_out.acquire().await.expect("the semaphore is never closed");
                request.await
            };
            in_its_turn.boxed()
        });
        stream::iter(requests.collect::<Vec<_>>()).buffered(FAN_OUT_OF_ONE).try_collect().boxed()
    }
}

/// Appends the rows of a page.
fn decode(statement: &Statement, page: QueryResult, rows: &mut Vec<Row>) -> Result<(), StoreError> {
    let failed = |source| StoreError::Unavailable { attempted: statement.attempted, source };
    let page = page.into_rows_result().map_err(|error| failed(Arc::new(error)))?;
    let names: Arc<[String]> = page.column_specs().iter().map(|spec| spec.name().to_owned()).collect();
    rows.reserve(page.rows_num());
    for row in page.rows::<Values>().map_err(|error| failed(Arc::new(error)))? {
        let Values { columns } = row.map_err(|error| failed(Arc::new(error)))?;
        rows.push(Row::new(statement.table, Arc::clone(&names), columns));
    }
    Ok(())
}

/// What the answer to a conditional statement says. Only `[applied]` is looked at: the other columns differ between
/// databases, and from one time to the next.
fn applied(statement: &Statement, answer: Result<QueryResult, ExecutionError>) -> Result<Applied, StoreError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if never_happened(&error) => return Err(statement.failed(error)),
        Err(error) => return Ok(Applied::Unknown(statement.failed(error))),
    };
    let unreadable = |source| Ok(Applied::Unknown(StoreError::Unavailable { attempted: statement.attempted, source }));
    let rows = match answer.into_rows_result() {
        Ok(rows) => rows,
        Err(error) => return unreadable(Arc::new(error)),
    };
    let column = rows.column_specs().get_by_name(APPLIED).map(|(place, _)| place);
    let first = match rows.first_row::<Values>() {
        Ok(first) => first,
        Err(error) => return unreadable(Arc::new(error)),
    };
    let value = column.and_then(|place| first.columns.into_iter().nth(place)).flatten();
    Ok(if value == Some(CqlValue::Boolean(true)) { Applied::Yes } else { Applied::No })
}

/// Whether a request that failed so cannot have been carried out.
fn never_happened(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(attempt) => matches!(
            attempt,
            RequestAttemptError::SerializationError(_)
                | RequestAttemptError::CqlRequestSerialization(_)
                | RequestAttemptError::UnableToAllocStreamId
                | RequestAttemptError::DbError(
                    DbError::SyntaxError
                        | DbError::Invalid
                        | DbError::AuthenticationError
                        | DbError::Unauthorized
                        | DbError::ConfigError
                        | DbError::IsBootstrapping,
                    _
                )
        ),
        _ => false,
    }
}

/// Whether a statement is a lightweight transaction.
fn is_conditional(text: &str) -> bool {
    !text.trim_ascii_start().starts_with("SELECT") && text.split_ascii_whitespace().any(|word| word == "IF")
}

/// The table that a statement is about, and what stands before and after its name.
fn around_table(text: &'static str) -> (&'static str, &'static str, &'static str) {
    let places = ["FROM ", "INTO ", "UPDATE "].into_iter().filter_map(|word| Some(text.find(word)? + word.len()));
    let (before, rest) = text.split_at(places.min().expect("every statement names its table"));
    let (table, after) = rest.split_at(rest.find(|letter: char| letter.is_ascii_whitespace()).unwrap_or(rest.len()));
    (before, table, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_statement_is_found() {
        assert_eq!(around_table("SELECT a, b FROM users"), ("SELECT a, b FROM ", "users", ""));
        let around = around_table("\n    INSERT INTO users\n(id) VALUES (?) IF NOT EXISTS");
        assert_eq!(around, ("\n    INSERT INTO ", "users", "\n(id) VALUES (?) IF NOT EXISTS"));
        assert_eq!(around_table("UPDATE users SET a = ? WHERE id = ? IF a = ?").1, "users");
        assert_eq!(around_table("DELETE FROM users WHERE id = ?").1, "users");
    }

    #[test]
    fn conditional_statements_are_told_from_plain_ones() {
        assert!(is_conditional("INSERT INTO users (id) VALUES (?) IF NOT EXISTS"));
        assert!(is_conditional("UPDATE users SET a = ? WHERE id = ?\n    IF a = ?"));
        assert!(!is_conditional("INSERT INTO users (id) VALUES (?) USING TTL ?"));
        assert!(!is_conditional("SELECT IF FROM users WHERE id = ?"));
    }
}
