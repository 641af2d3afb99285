//! How a store fails.

use std::error::Error;
use std::sync::Arc;

/// Why the store did not do what was asked. "Not found" is no error but `None`.
///
/// It can be cloned, since several requests may wait for one write.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed or is out of space. A write may or may not have happened.
    #[error("failed to {attempted}")]
    Unavailable {
        /// What was attempted.
        attempted: &'static str,
        /// What the database said.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Too many writes wait already. This one did not happen.
    #[error("the write queue is full")]
    Overloaded,
    /// A stored value cannot be read.
    #[error("column {column} of table {table}, row {key}, does not decode")]
    Corrupt {
        /// Where it stands.
        table: &'static str,
        /// Which value.
        column: &'static str,
        /// Whose, as text.
        key: String,
    },
}

/// Why something that must be unique was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClaimError {
    /// It exists already; nothing was written.
    #[error("taken already")]
    Taken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
