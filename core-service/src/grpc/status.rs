//! How a use case's failure becomes a gRPC status, and where it is logged.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use proto::reason::{self, Reason};
use tonic::Status;

use crate::domain::failure::Failure;
use crate::store::StoreError;

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let reason = match &failure {
            Failure::Refused(refused) => return refused.clone().into(),
            Failure::Store(StoreError::Unavailable { .. } | StoreError::Overloaded) => {
                if is_worth_a_line() {
                    tracing::warn!(error = chain(&failure), "a request was answered with temporarily_unavailable");
                }
                Reason::TemporarilyUnavailable
            }
            Failure::Store(StoreError::Corrupt { .. }) | Failure::Internal { .. } => {
                tracing::error!(error = chain(&failure), "a request was answered with internal_error");
                Reason::InternalError
            }
        };
        reason::Failure::from(reason).into()
    }
}

/// Whether a request that the store failed shall be logged: while a database is away, all of them are such.
fn is_worth_a_line() -> bool {
    static LINES: LazyLock<DefaultDirectRateLimiter> =
        LazyLock::new(|| RateLimiter::direct(Quota::per_second(NonZeroU32::MIN)));
    LINES.check().is_ok()
}

/// The error and everything below it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
