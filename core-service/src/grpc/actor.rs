//! Whom a call acts for, and whether the calling process may act so.

use std::sync::Arc;

use proto::ids::{ConnectionId, SessionId, UserId};
use proto::reason::Reason;
use proto::v1;
use proto::v1::caller;
use tonic::Status;

use super::role::Role;
use crate::domain::clock::Stamps;
use crate::domain::failure::Failure;
use crate::domain::login::Logins;
use crate::domain::session::{Actor, Attempt};
use crate::store::Store;

/// Turns the `Caller` of a request into an actor.
#[derive(Clone)]
pub struct Actors {
    logins: Logins,
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
}

impl Actors {
    /// Actors whose sessions these are.
    pub fn new(logins: Logins, store: Arc<dyn Store>, stamps: Arc<Stamps>) -> Self {
        Self { logins, store, stamps }
    }

    /// The actor, if the process in this role may act for him.
    ///
    /// # Errors
    /// `not_authenticated` when his session is over, `access_denied` when he is unknown, PERMISSION_DENIED when the
    /// role may not act so, INVALID_ARGUMENT when the caller cannot be read.
    pub async fn resolve(&self, role: &Role, caller: Option<v1::Caller>) -> Result<Actor, Status> {
        let caller = caller.ok_or_else(|| Status::invalid_argument("caller is missing"))?;
        let attempt = self.attempt(caller.attempt)?;
        let is_repeat = caller.hop > 0;
        match (role, caller.actor) {
            (Role::Gateway, Some(caller::Actor::Session(session))) => {
                let session_id = session_id(&session.session_id)?;
                let session = self.logins.authorize(session_id).await?;
                Ok(Actor {
                    user_id: session.user_id(),
                    organization_id: session.organization_id,
                    session: Some((session_id, session.device_id)),
                    attempt,
                    is_repeat,
                })
            }
            (Role::Service(name), Some(caller::Actor::ActingUser(acting))) => {
                let user_id = UserId::try_from(&acting.user_id[..])
                    .map_err(|error| Status::invalid_argument(format!("caller.acting_user.user_id: {error}")))?;
                let user = self.store.lookup_user(user_id).await.map_err(Failure::from)?;
                let user = user.ok_or_else(|| Failure::from(Reason::AccessDenied))?;
                tracing::info!(service.name = &**name, user.id = %user_id, "an internal service acts for a user");
                Ok(Actor { user_id, organization_id: user.organization_id, session: None, attempt, is_repeat })
            }
            (Role::Gateway, Some(caller::Actor::ActingUser(_))) => {
                Err(Status::permission_denied("a gateway acts through sessions alone"))
            }
            (Role::Service(_), Some(caller::Actor::Session(_))) => {
                Err(Status::permission_denied("a service acts for a user it names, never through a session"))
            }
            (_, None) => Err(Status::invalid_argument("caller.actor is missing")),
        }
    }

    /// The attempt of a request; one of its own where it has none.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when its connection id is none.
    pub fn attempt(&self, attempt: Option<v1::Attempt>) -> Result<Attempt, Status> {
        let Some(v1::Attempt { connection_id, frame }) = attempt else {
            return Ok(self.stamps.new_attempt());
        };
        let connection_id = ConnectionId::try_from(&connection_id[..])
            .map_err(|error| Status::invalid_argument(format!("caller.attempt.connection_id: {error}")))?;
        Ok(Attempt { connection_id, frame })
    }
}

/// The session of this field.
///
/// # Errors
/// INVALID_ARGUMENT when it is none.
pub fn session_id(bytes: &[u8]) -> Result<SessionId, Status> {
    SessionId::try_from(bytes).map_err(|_| Status::invalid_argument("caller.session.session_id has not 24 bytes"))
}
