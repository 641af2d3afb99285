//! From rows to values: the one place that knows how a stored value can be wrong, and says where it stands.
//!
//! Columns are read by name. **The first column that a query selects is the key** that tells an operator which row does
//! not decode, so it must not be a secret.

use std::sync::Arc;

use proto::ids::{InvalidId, Timestamp};
use scylla::value::CqlValue;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    table: &'static str,
    names: Arc<[String]>,
    values: Vec<Option<CqlValue>>,
}

impl Row {
    /// A row of these columns.
    pub(super) fn new(table: &'static str, names: Arc<[String]>, values: Vec<Option<CqlValue>>) -> Self {
        Self { table, names, values }
    }

    /// What stands in a column; `None` for null, and for a column that the query has not selected.
    fn value(&self, column: &'static str) -> Option<&CqlValue> {
        let place = self.names.iter().position(|name| name == column)?;
        self.values.get(place)?.as_ref()
    }

    /// Whether a column holds nothing.
    pub(super) fn is_null(&self, column: &'static str) -> bool {
        self.value(column).is_none()
    }

    fn decoded<'a, T>(
        &'a self,
        column: &'static str,
        decode: impl FnOnce(&'a CqlValue) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.value(column).map(|value| decode(value).ok_or_else(|| self.corrupt(column))).transpose()
    }

    fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| self.corrupt(column))
    }

    /// A `text`.
    pub(super) fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        self.required(column, self.optional_text(column)?)
    }

    /// A `text` or nothing.
    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        self.decoded(column, |value| value.as_text().map(String::as_str))
    }

    /// A `blob`.
    pub(super) fn blob(&self, column: &'static str) -> Result<&[u8], StoreError> {
        self.required(column, self.optional_blob(column)?)
    }

    /// A `blob` or nothing.
    pub(super) fn optional_blob(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
        self.decoded(column, |value| value.as_blob().map(Vec::as_slice))
    }

    /// An id in a `blob`.
    pub(super) fn id<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: for<'a> TryFrom<&'a [u8], Error = InvalidId>,
    {
        self.required(column, self.optional_id(column)?)
    }

    /// An id in a `blob`, or nothing.
    pub(super) fn optional_id<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: for<'a> TryFrom<&'a [u8], Error = InvalidId>,
    {
        self.decoded(column, as_id)
    }

    /// The ids in a `list<blob>` or `set<blob>`; none where it is null, as an empty one reads.
    pub(super) fn ids<T>(&self, column: &'static str) -> Result<Vec<T>, StoreError>
    where
        T: for<'a> TryFrom<&'a [u8], Error = InvalidId>,
    {
        let ids = self.decoded(column, |value| match value {
            CqlValue::List(values) | CqlValue::Set(values) => values.iter().map(as_id).collect(),
            _ => None,
        })?;
        Ok(ids.unwrap_or_default())
    }

    /// The entries of a `map`; none where it is null, as an empty one reads.
    pub(super) fn map(&self, column: &'static str) -> Result<&[(CqlValue, CqlValue)], StoreError> {
        Ok(self.decoded(column, |value| value.as_map().map(Vec::as_slice))?.unwrap_or_default())
    }

    /// A `bigint`.
    pub(super) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.required(column, self.optional_integer(column)?)
    }

    /// A `bigint`, or nothing.
    pub(super) fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.decoded(column, CqlValue::as_bigint)
    }

    /// A number without a sign, which a `bigint` keeps with the same bits.
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        self.integer(column).map(i64::cast_unsigned)
    }

    /// An `int`.
    pub(super) fn small(&self, column: &'static str) -> Result<i32, StoreError> {
        self.required(column, self.optional_small(column)?)
    }

    /// An `int`, or nothing.
    pub(super) fn optional_small(&self, column: &'static str) -> Result<Option<i32>, StoreError> {
        self.decoded(column, CqlValue::as_int)
    }

    /// A `boolean`, false where it is null.
    pub(super) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.decoded(column, CqlValue::as_boolean)?.unwrap_or_default())
    }

    /// Milliseconds in a `bigint`.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.integer(column).map(Timestamp::from_millis)
    }

    /// JSON in a `text`, or nothing.
    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        self.decoded(column, |value| serde_json::from_str(value.as_text()?).ok())
    }

    /// The error for a value of this column that does not decode.
    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        let key = match self.values.first() {
            Some(Some(CqlValue::Blob(bytes))) => hex::encode(bytes),
            Some(Some(CqlValue::Text(text))) => text.clone(),
            Some(Some(CqlValue::BigInt(number))) => number.to_string(),
            _ => "unknown".to_owned(),
        };
        StoreError::Corrupt { table: self.table, column, key }
    }
}

fn as_id<T>(value: &CqlValue) -> Option<T>
where
    T: for<'a> TryFrom<&'a [u8], Error = InvalidId>,
{
    T::try_from(value.as_blob()?.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use proto::ids::UserId;

    use super::*;

    fn row(values: Vec<Option<CqlValue>>) -> Row {
        Row::new("users", ["id", "owner_id", "name"].map(str::to_owned).into(), values)
    }

    #[test]
    fn a_value_that_does_not_decode_is_named_with_its_table_and_row() {
        let id = Some(CqlValue::Blob(vec![0xab; 12]));
        let row = row(vec![id.clone(), Some(CqlValue::Blob(vec![1; 11])), None]);
        assert_eq!(row.id::<UserId>("id").unwrap(), UserId::from_bytes([0xab; 12]));
        for error in [row.id::<UserId>("owner_id").unwrap_err(), row.optional_id::<UserId>("owner_id").unwrap_err()] {
            let text = "column owner_id of table users, row abababababababababababab, does not decode";
            assert_eq!(error.to_string(), text);
        }
        assert!(row.text("name").is_err(), "nothing where something must be");
        assert_eq!(row.optional_text("name").unwrap(), None);
        assert!(row.text("id").is_err(), "another type");
    }

    #[test]
    fn an_empty_collection_is_one_that_is_not_there() {
        let row = row(vec![None, None, None]);
        assert_eq!(row.ids::<UserId>("owner_id").unwrap(), []);
        assert!(row.map("owner_id").unwrap().is_empty());
    }
}
