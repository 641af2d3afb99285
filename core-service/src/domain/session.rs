//! Device sessions: what a login makes and a logout ends.

use proto::ids::{ConnectionId, SessionId, Timestamp, UserId};

use super::organization::OrganizationId;

/// A live session. One that was revoked has no row any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Says whose it is.
    pub id: SessionId,
    /// The user's organization.
    pub organization_id: OrganizationId,
    /// Chosen by the client, 1 to 255 characters; means something only together with the user.
    pub device_id: String,
    /// Which refresh token is current.
    pub refresh_counter: u64,
    /// When the counter last grew; for a minute the token before it is accepted too.
    pub rotated_at: Timestamp,
    /// From then on nothing of it is valid.
    pub expires_at: Timestamp,
}

impl Session {
    /// Whose session it is.
    pub fn user_id(&self) -> UserId {
        self.id.user_id()
    }
}

/// One frame that changes something, however often a gateway or a client repeats it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// The socket, or one call of an internal service.
    pub connection_id: ConnectionId,
    /// The frame's number on that socket.
    pub frame: u64,
}

/// A socket that is bound to a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The socket.
    pub id: ConnectionId,
    /// What it is bound to.
    pub session_id: SessionId,
    /// The session's device.
    pub device_id: String,
}

/// Whom a request acts for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The user.
    pub user_id: UserId,
    /// The user's organization, taken from the record, never from a request.
    pub organization_id: OrganizationId,
    /// The session it acts through; a service that acts for a user has none.
    pub session: Option<(SessionId, String)>,
    /// The attempt, where the request changes something.
    pub attempt: Attempt,
    /// Whether another replica may have seen the same attempt.
    pub is_repeat: bool,
}
