//! Which sockets are bound, and so who is online.

use std::sync::Arc;

use proto::ids::{ConnectionId, UserId};
use proto::reason::Reason;

use super::clock::Stamps;
use super::failure::Failure;
use super::session::{Actor, Connection};
use crate::store::Store;

/// The use cases around presence.
#[derive(Clone)]
pub struct Presence {
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
}

impl Presence {
    /// The use cases over this store.
    pub fn new(store: Arc<dyn Store>, stamps: Arc<Stamps>) -> Self {
        Self { store, stamps }
    }

    /// The attempt's connection is bound to the actor's session, and its user online.
    ///
    /// # Errors
    /// `access_denied` for an actor without a session
    pub async fn bind(&self, actor: &Actor) -> Result<(), Failure> {
        let Some((session_id, device_id)) = actor.session.clone() else {
            return Err(Reason::AccessDenied.into());
        };
        let connection = Connection { id: actor.attempt.connection_id, session_id, device_id };
        Ok(self.store.bind_connection(&connection).await?)
    }

    /// The connection is bound no longer; with his last one the user is offline.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unbind(&self, user_id: UserId, connection_id: ConnectionId) -> Result<(), Failure> {
        Ok(self.store.unbind_connection(user_id, connection_id, self.stamps.now()).await?)
    }

    /// Whether the attempt's connection is in the background.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn set_inactive(&self, actor: &Actor, is_inactive: bool) -> Result<(), Failure> {
        Ok(self.store.set_inactive(actor.user_id, actor.attempt.connection_id, is_inactive).await?)
    }
}
