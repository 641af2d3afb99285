//! From rows to values: the one place that knows how a stored value can be wrong, and says where it stands.

use std::sync::Arc;

use proto::ids::{InvalidId, Timestamp};
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Params, Row};
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// How statements fail, before the caller has said what was attempted.
#[derive(Debug, thiserror::Error)]
pub(super) enum StatementError {
    /// The database said no.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// A stored value does not decode.
    #[error("column {column} of table {table}, row {key}, does not decode")]
    Corrupt { table: &'static str, column: &'static str, key: String },
}

impl StatementError {
    /// The store's error for it; `attempted` completes the sentence "failed to".
    pub(super) fn attempting(self, attempted: &'static str) -> StoreError {
        match self {
            Self::Database(source) => StoreError::Unavailable { attempted, source: Arc::new(source) },
            Self::Corrupt { table, column, key } => StoreError::Corrupt { table, column, key },
        }
    }
}

/// Where rows come from, for the message about one that does not decode.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// The column that tells an operator which row it is. Every query of the table's rows selects it.
    pub(super) key: &'static str,
}

impl Table {
    /// All rows of a query, decoded.
    pub(super) fn list<T>(
        self,
        connection: &Connection,
        query: &'static str,
        parameters: impl Params,
        decode: impl FnMut(&Columns<'_>) -> Result<T, StatementError>,
    ) -> Result<Vec<T>, StatementError> {
        self.list_while(connection, query, parameters, usize::MAX, decode, |_| true)
    }

    /// The first `limit` rows of a query that `wanted` lets through, read no further than needed.
    pub(super) fn list_while<T>(
        self,
        connection: &Connection,
        query: &'static str,
        parameters: impl Params,
        limit: usize,
        mut decode: impl FnMut(&Columns<'_>) -> Result<T, StatementError>,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Vec<T>, StatementError> {
        let mut statement = connection.prepare_cached(query)?;
        let mut rows = statement.query(parameters)?;
        let mut values = Vec::new();
        while values.len() < limit
            && let Some(row) = rows.next()?
        {
            let value = decode(&Columns { row, table: self })?;
            if wanted(&value) {
                values.push(value);
            }
        }
        Ok(values)
    }

    /// The first row of a query, decoded.
    pub(super) fn lookup<T>(
        self,
        connection: &Connection,
        query: &'static str,
        parameters: impl Params,
        decode: impl FnOnce(&Columns<'_>) -> Result<T, StatementError>,
    ) -> Result<Option<T>, StatementError> {
        let mut statement = connection.prepare_cached(query)?;
        let mut rows = statement.query(parameters)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        decode(&Columns { row, table: self }).map(Some)
    }
}

/// One row, whose columns are read by name.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    table: Table,
}

impl Columns<'_> {
    pub(super) fn get<T: FromSql>(&self, column: &'static str) -> Result<T, StatementError> {
        self.row.get(column).map_err(|_| self.corrupt(column))
    }

    pub(super) fn id<T>(&self, column: &'static str) -> Result<T, StatementError>
    where
        T: for<'b> TryFrom<&'b [u8], Error = InvalidId>,
    {
        self.optional_id(column)?.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn optional_id<T>(&self, column: &'static str) -> Result<Option<T>, StatementError>
    where
        T: for<'b> TryFrom<&'b [u8], Error = InvalidId>,
    {
        let value = self.row.get_ref(column)?;
        let bytes = value.as_blob_or_null().map_err(|_| self.corrupt(column))?;
        bytes.map(T::try_from).transpose().map_err(|_| self.corrupt(column))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StatementError> {
        self.get(column).map(Timestamp::from_millis)
    }

    /// A number that the database, which has no unsigned ones, keeps with the same bits.
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StatementError> {
        self.get(column).map(i64::cast_unsigned)
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StatementError> {
        let value = self.row.get_ref(column)?;
        let text = value.as_str_or_null().map_err(|_| self.corrupt(column))?;
        text.map(serde_json::from_str).transpose().map_err(|_| self.corrupt(column))
    }

    /// The error for a value of this column that does not decode.
    pub(super) fn corrupt(&self, column: &'static str) -> StatementError {
        let key = match self.row.get_ref(self.table.key) {
            Ok(ValueRef::Blob(bytes)) => hex::encode(bytes),
            Ok(ValueRef::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(ValueRef::Null | ValueRef::Real(_)) | Err(_) => "unknown".to_owned(),
        };
        StatementError::Corrupt { table: self.table.name, column, key }
    }
}

/// A limit as SQL takes it.
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
