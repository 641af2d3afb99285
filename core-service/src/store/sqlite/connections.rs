//! The table `connections`, and with it the users' recent activity: 0 from the first connection to the end of the last.
//!
//! One process owns the database, so whatever stands here when it starts is over.

use async_trait::async_trait;
use proto::ids::{ConnectionId, Timestamp, UserId};
use rusqlite::{Connection as Database, params};

use super::SqliteStore;
use super::row::StatementError;
use crate::domain::session::Connection;
use crate::store::{ConnectionStore, StoreError};

const BIND: &str = "
    INSERT OR REPLACE INTO connections (id, user_id, session_id, device_id, is_inactive) VALUES (?1, ?2, ?3, ?4, 0)";
const UNBIND: &str = "DELETE FROM connections WHERE id = ?1 AND user_id = ?2";
const SET_INACTIVE: &str = "UPDATE connections SET is_inactive = ?3 WHERE id = ?1 AND user_id = ?2";
const COME_ONLINE: &str = "UPDATE users SET recent_activity = 0 WHERE id = ?1";
/// Only from online, so that a second call does not move the time.
const GO_OFFLINE: &str = "
    UPDATE users SET recent_activity = ?2
    WHERE id = ?1 AND recent_activity = 0 AND NOT EXISTS (SELECT 1 FROM connections WHERE user_id = ?1)";
const ALL_GO_OFFLINE: &str = "UPDATE users SET recent_activity = ?1 WHERE recent_activity = 0";
const FORGET_ALL: &str = "DELETE FROM connections";

#[async_trait]
impl ConnectionStore for SqliteStore {
    async fn bind_connection(&self, connection: &Connection) -> Result<(), StoreError> {
        let Connection { id, session_id, device_id } = connection.clone();
        let work = move |database: &Database| -> Result<(), StatementError> {
            let user_id = session_id.user_id();
            let parameters = params![id.as_bytes(), user_id.as_bytes(), session_id.as_bytes(), device_id];
            database.prepare_cached(BIND)?.execute(parameters)?;
            database.prepare_cached(COME_ONLINE)?.execute([user_id.as_bytes()])?;
            Ok(())
        };
        self.write("bind a connection", work).await
    }

    async fn unbind_connection(&self, user_id: UserId, id: ConnectionId, now: Timestamp) -> Result<(), StoreError> {
        let work = move |database: &Database| -> Result<(), StatementError> {
            database.prepare_cached(UNBIND)?.execute([id.as_bytes(), user_id.as_bytes()])?;
            database.prepare_cached(GO_OFFLINE)?.execute(params![user_id.as_bytes(), now.rounded_seconds()])?;
            Ok(())
        };
        self.write("unbind a connection", work).await
    }

    async fn set_inactive(&self, user_id: UserId, id: ConnectionId, is_inactive: bool) -> Result<(), StoreError> {
        let work = move |database: &Database| -> Result<(), StatementError> {
            let parameters = params![id.as_bytes(), user_id.as_bytes(), is_inactive];
            database.prepare_cached(SET_INACTIVE)?.execute(parameters)?;
            Ok(())
        };
        self.write("note the activity of a connection", work).await
    }
}

/// Ends all connections.
pub(super) fn forget_all(database: &mut Database, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    transaction.execute(ALL_GO_OFFLINE, [now.rounded_seconds()])?;
    transaction.execute(FORGET_ALL, [])?;
    transaction.commit()
}
