//! The contract's services: proto in, a use case, proto out.
//!
//! [`actor`] decides who acts, [`convert`] translates, [`status`] says how a failure travels, [`observe`] what is
//! measured and traced of every call.

pub mod actor;
pub mod convert;
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
