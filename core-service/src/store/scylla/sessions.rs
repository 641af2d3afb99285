//! The table `sessions`. Its rows are made, rotated and ended by conditional statements alone.

use async_trait::async_trait;
use proto::ids::{SessionId, Timestamp, UserId};

use super::accounts::organization_id;
use super::database::{Applied, statements};
use super::row::Row;
use super::{Inner, ScyllaStore};
use crate::domain::event::Event;
use crate::domain::session::Session;
use crate::store::{SessionStore, StoreError};

statements! {
    /// The statements of the table `sessions`. Rows are told from each other by their user, since a session's id is half of
    /// what its refresh token is made of.
    pub(super) struct Statements {
        /// add a session
        create_session: "INSERT INTO sessions (
                user_id, random, organization_id, device_id, refresh_counter, rotated_at, expires_at, made
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
        /// look up a session
        lookup_session: "SELECT * FROM sessions WHERE user_id = ? AND random = ?",
        /// list sessions
        list_sessions: "SELECT * FROM sessions WHERE user_id = ?",
        /// rotate a session
        rotate_session: "UPDATE sessions SET device_id = ?, refresh_counter = ?, rotated_at = ?, expires_at = ?, rotation = ?
            WHERE user_id = ? AND random = ? IF refresh_counter = ?",
        /// end a session
        delete_session: "DELETE FROM sessions WHERE user_id = ? AND random = ? IF EXISTS",
    }
}

/// How often the end of a session is asked for until its answer comes.
const DELETE_ATTEMPTS: usize = 2;

#[async_trait]
impl SessionStore for ScyllaStore {
    async fn create_session(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let Inner { database, sessions, stamps, .. } = &*self.inner;
        let user_id = session.user_id();
        let values = (
            user_id.as_bytes(),
            random_of(&session.id),
            session.organization_id.as_str(),
            &session.device_id,
            session.refresh_counter.cast_signed(),
            session.rotated_at.millis(),
            session.expires_at.millis(),
            *proto::ids::EventId::from(stamps.new_id()).as_bytes(),
        );
        match database.compare_and_set(&sessions.create_session, values).await? {
            // Its random bytes are its own: what stands there is this very session.
            Applied::Yes | Applied::No => {}
            Applied::Unknown(error) => {
                self.serial_session(session.id).await?.ok_or(error)?;
            }
        }
        self.forget_past(user_id, now).await
    }

    async fn lookup_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let Inner { database, sessions, .. } = &*self.inner;
        let values = (*id.user_id().as_bytes(), random_of(&id));
        let row = database.read_one(&sessions.lookup_session, values).await?;
        row.map(|row| decode(&row)).transpose()
    }

    async fn list_sessions(&self, user_id: UserId, device_id: &str) -> Result<Vec<Session>, StoreError> {
        let mut rows = self.session_rows(user_id).await?;
        rows.retain(|row| row.optional_text("device_id").is_ok_and(|device| device.is_none_or(|id| id == device_id)));
        rows.sort_by_cached_key(|row| row.blob("made").map(<[u8]>::to_vec).unwrap_or_default());
        rows.iter().map(decode).collect()
    }

    async fn rotate_session(&self, session: &Session, expected_counter: u64) -> Result<bool, StoreError> {
        let Inner { database, sessions, stamps, .. } = &*self.inner;
        let rotation = proto::ids::EventId::from(stamps.new_id());
        let values = (
            &session.device_id,
            session.refresh_counter.cast_signed(),
            session.rotated_at.millis(),
            session.expires_at.millis(),
            rotation.as_bytes(),
            *session.user_id().as_bytes(),
            random_of(&session.id),
            expected_counter.cast_signed(),
        );
        let error = match database.compare_and_set(&sessions.rotate_session, values).await? {
            Applied::Yes => return Ok(true),
            Applied::No => return Ok(false),
            Applied::Unknown(error) => error,
        };
        match self.serial_session(session.id).await? {
            None => Ok(false),
            Some(row) if row.optional_blob("rotation")? == Some(rotation.as_bytes()) => Ok(true),
            Some(row) if row.number("refresh_counter")? != expected_counter => Ok(false),
            Some(_) => Err(error),
        }
    }

    async fn revoke_sessions(&self, ids: &[SessionId], event: Event) -> Result<(), StoreError> {
        self.inner.database.for_each(ids.iter().copied(), |id| self.delete_session(id)).await?;
        self.inner.publisher.publish(event).await
    }
}

impl ScyllaStore {
    async fn session_rows(&self, user_id: UserId) -> Result<Vec<Row>, StoreError> {
        let Inner { database, sessions, .. } = &*self.inner;
        database.read(&sessions.list_sessions, (user_id.as_bytes(),)).await
    }

    /// The row of a session, of all that was answered.
    async fn serial_session(&self, id: SessionId) -> Result<Option<Row>, StoreError> {
        let Inner { database, sessions, .. } = &*self.inner;
        database.read_one_serial(&sessions.lookup_session, (*id.user_id().as_bytes(), random_of(&id))).await
    }

    async fn delete_session(&self, id: SessionId) -> Result<(), StoreError> {
        let Inner { database, sessions, .. } = &*self.inner;
        let mut attempt = 1;
        loop {
            let values = (*id.user_id().as_bytes(), random_of(&id));
            match database.compare_and_set(&sessions.delete_session, values).await? {
                Applied::Yes | Applied::No => return Ok(()),
                Applied::Unknown(error) if attempt == DELETE_ATTEMPTS => return Err(error),
                Applied::Unknown(_) => attempt += 1,
            }
        }
    }

    /// Ends the user's sessions that are past `now`, except where a connection is bound to one.
    async fn forget_past(&self, user_id: UserId, now: Timestamp) -> Result<(), StoreError> {
        let mut past = Vec::new();
        for row in self.session_rows(user_id).await? {
            let session = decode(&row)?;
            if session.expires_at <= now {
                past.push(session.id);
            }
        }
        if past.is_empty() {
            return Ok(());
        }
        let bound = self.bound_sessions(user_id).await?;
        past.retain(|id| !bound.contains(id));
        self.inner.database.for_each(past, |id| self.delete_session(id)).await.map(|_| ())
    }
}

/// The half of a session's id that is not its user's.
pub(super) fn random_of(id: &SessionId) -> &[u8] {
    &id.as_bytes()[12..]
}

/// The session of this user whose random half stands in a column.
pub(super) fn session_id(row: &Row, column: &'static str) -> Result<SessionId, StoreError> {
    let random = row.blob(column)?.try_into().map_err(|_| row.corrupt(column))?;
    Ok(SessionId::new(row.id("user_id")?, random))
}

fn decode(row: &Row) -> Result<Session, StoreError> {
    Ok(Session {
        id: session_id(row, "random")?,
        organization_id: organization_id(row, "organization_id")?,
        device_id: row.text("device_id")?.to_owned(),
        refresh_counter: row.number("refresh_counter")?,
        rotated_at: row.time("rotated_at")?,
        expires_at: row.time("expires_at")?,
    })
}
