//! The table `connections`, and with it the users' recent activity: 0 from the first connection to the end of the last.
//!
//! All of it is written plainly. What is done for one user is done by the core that his id chooses, one after another;
//! where two cores do so at once after all, the one that goes offline looks again after it has said so.

use async_trait::async_trait;
use proto::ids::{ConnectionId, SessionId, Timestamp, UserId};
use tokio::sync::{Mutex, MutexGuard};

use super::database::statements;
use super::row::Row;
use super::sessions::{random_of, session_id};
use super::{Inner, ScyllaStore};
use crate::domain::session::Connection;
use crate::store::{ConnectionStore, StoreError};

statements! {
    /// The statements of the table `connections`.
    pub(super) struct Statements {
        /// bind a connection
        bind_connection: "INSERT INTO connections (user_id, connection_id, session_random, device_id, is_inactive)
            VALUES (?, ?, ?, ?, false)",
        /// unbind a connection
        unbind_connection: "DELETE FROM connections WHERE user_id = ? AND connection_id = ?",
        /// note the activity of a connection
        set_inactive: "UPDATE connections SET is_inactive = ? WHERE user_id = ? AND connection_id = ?",
        /// list connections
        list_connections: "SELECT user_id, connection_id, session_random FROM connections WHERE user_id = ?",
        /// look up a connection
        lookup_connection: "SELECT user_id, connection_id, session_random FROM connections
            WHERE user_id = ? AND connection_id = ?",
        /// note a user's activity
        set_activity: "UPDATE users SET recent_activity = ? WHERE id = ?",
        /// look up a user's activity
        lookup_activity: "SELECT id, recent_activity FROM users WHERE id = ?",
    }
}

/// How many users can be served at once; those of one number wait for each other.
const TURNS: usize = 256;

/// Whose turn it is: what is done for one user is done one after another.
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn of(&self, user_id: UserId) -> MutexGuard<'_, ()> {
        // The last byte counts the ids that are made.
        self.0[usize::from(user_id.as_bytes()[11])].lock().await
    }
}

#[async_trait]
impl ConnectionStore for ScyllaStore {
    async fn bind_connection(&self, connection: &Connection) -> Result<(), StoreError> {
        let Inner { database, connections, presence, .. } = &*self.inner;
        let Connection { id, session_id, device_id } = connection;
        let user_id = session_id.user_id();
        let _turn = presence.of(user_id).await;
        let values = (user_id.as_bytes(), id.as_bytes(), random_of(session_id), device_id);
        database.write(&connections.bind_connection, values).await?;
        self.set_activity(user_id, 0).await
    }

    async fn unbind_connection(&self, user_id: UserId, id: ConnectionId, now: Timestamp) -> Result<(), StoreError> {
        let Inner { database, connections, presence, .. } = &*self.inner;
        let _turn = presence.of(user_id).await;
        database.write(&connections.unbind_connection, (user_id.as_bytes(), id.as_bytes())).await?;
        if !self.bound_sessions(user_id).await?.is_empty() {
            return Ok(());
        }
        // Only from online, so that a second call does not move the time.
        let activity = database.read_one(&connections.lookup_activity, (user_id.as_bytes(),)).await?;
        if activity.map(|row| row.optional_integer("recent_activity")).transpose()?.flatten() != Some(0) {
            return Ok(());
        }
        self.set_activity(user_id, now.rounded_seconds()).await?;
        if !self.bound_sessions(user_id).await?.is_empty() {
            self.set_activity(user_id, 0).await?;
        }
        Ok(())
    }

    async fn set_inactive(&self, user_id: UserId, id: ConnectionId, is_inactive: bool) -> Result<(), StoreError> {
        let Inner { database, connections, presence, .. } = &*self.inner;
        let _turn = presence.of(user_id).await;
        let found = database.read_one(&connections.lookup_connection, (user_id.as_bytes(), id.as_bytes())).await?;
        if found.as_ref().is_some_and(is_bound) {
            let values = (is_inactive, user_id.as_bytes(), id.as_bytes());
            database.write(&connections.set_inactive, values).await?;
        }
        Ok(())
    }
}

impl ScyllaStore {
    async fn set_activity(&self, user_id: UserId, seconds: i64) -> Result<(), StoreError> {
        let Inner { database, connections, .. } = &*self.inner;
        database.write(&connections.set_activity, (seconds, user_id.as_bytes())).await
    }

    /// The sessions that a user's connections are bound to.
    pub(super) async fn bound_sessions(&self, user_id: UserId) -> Result<Vec<SessionId>, StoreError> {
        let Inner { database, connections, .. } = &*self.inner;
        let rows = database.read(&connections.list_connections, (user_id.as_bytes(),)).await?;
        rows.iter().filter(|row| is_bound(row)).map(|row| session_id(row, "session_random")).collect()
    }
}

/// Whether a row is more than what a late note of activity has left of one that ended.
fn is_bound(row: &Row) -> bool {
    !row.is_null("session_random")
}
