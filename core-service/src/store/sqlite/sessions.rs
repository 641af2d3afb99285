//! The table `sessions`.

use async_trait::async_trait;
use proto::ids::{SessionId, Timestamp, UserId};
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::accounts::organization_id;
use super::journal::Entry;
use super::row::{Columns, StatementError, Table};
use crate::domain::event::Event;
use crate::domain::session::Session;
use crate::store::{SessionStore, StoreError};

/// The key is the user, since a session's id is half of what its refresh token is made of.
const SESSIONS: Table = Table { name: "sessions", key: "user_id" };

const INSERT: &str = "
    INSERT INTO sessions (id, user_id, organization_id, device_id, refresh_counter, rotated_at, expires_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const DELETE_PAST: &str = "
    DELETE FROM sessions WHERE user_id = ?1 AND expires_at <= ?2
        AND id NOT IN (SELECT session_id FROM connections WHERE user_id = ?1)";
const LOOKUP: &str = "SELECT * FROM sessions WHERE id = ?1";
const LIST: &str = "SELECT * FROM sessions WHERE user_id = ?1 AND device_id = ?2 ORDER BY rowid";
const ROTATE: &str = "
    UPDATE sessions SET device_id = ?3, refresh_counter = ?4, rotated_at = ?5, expires_at = ?6
    WHERE id = ?1 AND refresh_counter = ?2";
const DELETE: &str = "DELETE FROM sessions WHERE id = ?1";

#[async_trait]
impl SessionStore for SqliteStore {
    async fn create_session(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let session = session.clone();
        let work = move |connection: &Connection| {
            let user_id = session.user_id();
            connection.prepare_cached(INSERT)?.execute(params![
                session.id.as_bytes(),
                user_id.as_bytes(),
                session.organization_id.as_str(),
                session.device_id,
                session.refresh_counter.cast_signed(),
                session.rotated_at.millis(),
                session.expires_at.millis(),
            ])?;
            connection.prepare_cached(DELETE_PAST)?.execute(params![user_id.as_bytes(), now.millis()])?;
            Ok(())
        };
        self.write("add a session", work).await
    }

    async fn lookup_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let work = move |connection: &Connection| SESSIONS.lookup(connection, LOOKUP, [id.as_bytes()], decode);
        self.lookups.read("look up a session", work).await
    }

    async fn list_sessions(&self, user_id: UserId, device_id: &str) -> Result<Vec<Session>, StoreError> {
        let device_id = device_id.to_owned();
        let work = move |connection: &Connection| {
            SESSIONS.list(connection, LIST, params![user_id.as_bytes(), device_id], decode)
        };
        self.lookups.read("list sessions", work).await
    }

    async fn rotate_session(&self, session: &Session, expected_counter: u64) -> Result<bool, StoreError> {
        let session = session.clone();
        let work = move |connection: &Connection| {
            let changed = connection.prepare_cached(ROTATE)?.execute(params![
                session.id.as_bytes(),
                expected_counter.cast_signed(),
                session.device_id,
                session.refresh_counter.cast_signed(),
                session.rotated_at.millis(),
                session.expires_at.millis(),
            ])?;
            Ok(changed == 1)
        };
        self.write("rotate a session", work).await
    }

    async fn revoke_sessions(&self, ids: &[SessionId], event: Event) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        let entry = Entry::new(event);
        let work = move |connection: &Connection| {
            for id in &ids {
                connection.prepare_cached(DELETE)?.execute([id.as_bytes()])?;
            }
            entry.append(connection)
        };
        self.write("revoke sessions", work).await
    }
}

fn decode(columns: &Columns<'_>) -> Result<Session, StatementError> {
    Ok(Session {
        id: columns.id("id")?,
        organization_id: organization_id(columns, "organization_id")?,
        device_id: columns.get("device_id")?,
        refresh_counter: columns.number("refresh_counter")?,
        rotated_at: columns.time("rotated_at")?,
        expires_at: columns.time("expires_at")?,
    })
}
