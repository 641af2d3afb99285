//! How a use case fails.

use proto::reason::{self, Reason};

use crate::store::StoreError;

/// Why a use case did nothing.
///
/// The reasons are the protocol's own closed list; each use case says in its doc which of them it gives.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A rule refused it.
    #[error("refused: {0}")]
    Refused(reason::Failure),
    /// The store failed, so the fate of a write is open.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Something that cannot happen did; `what` says what was attempted.
    #[error("failed to {what}")]
    Internal {
        /// What was attempted.
        what: &'static str,
    },
}

impl Failure {
    /// This field failed its check and has no reason of its own.
    pub fn validation(field: &str) -> Self {
        Self::Refused(reason::Failure::validation(field))
    }

    /// This reason, of this field.
    pub fn of_field(reason: Reason, field: &str) -> Self {
        Self::Refused(reason::Failure::of_field(reason, field))
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}
