//! The contract's services: proto in, a use case, proto out.
//!
//! [`actor`] decides who acts, [`crate::convert`] translates, [`status`] says how a failure travels, [`observe`] what is
//! measured and traced of every call.

pub mod actor;
pub mod observe;
pub mod role;
pub mod status;

mod conversations;
mod identity;
mod messaging;
mod presence;

pub use conversations::ConversationsService;
pub use identity::IdentityService;
pub use messaging::MessagingService;
pub use presence::PresenceService;

use tonic::Status;
use tracing::Instrument;

use crate::domain::failure::Failure;

/// Does the work to its end, also when the caller goes away meanwhile: what it locks or remembers is then let go in
/// order, and the next call finds no half of it.
///
/// # Errors
/// Those of the work.
#[expect(clippy::disallowed_methods, reason = "the call that began it waits for it; if that is gone, nobody needs to")]
async fn to_its_end<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Into<Status> + Send + 'static,
{
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failure::Internal { what: "finish a call that panicked" }.into()),
    }
}
