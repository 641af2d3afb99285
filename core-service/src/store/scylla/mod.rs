//! The store of the distributed form: ScyllaDB, or any other database that speaks CQL as Apache Cassandra does.
//!
//! `database` sends every request, `row` reads what comes back, `open` and `migrate` make sure of the schema. The other
//! files hold the statements, each with the tables they are about.
//!
//! Rules that hold everywhere: a query reads a known partition; conditional statements stand where a rule is "compare and
//! set", never on a message's way, and never write a column that plain ones write; a method writes its data and then hands
//! its event to the publisher.

mod accounts;
mod activity;
mod append;
mod buckets;
mod changes;
mod claims;
pub mod config;
mod connections;
mod conversation_store;
mod conversations;
mod creating;
mod database;
mod erasing;
mod heads;
mod marks;
mod message_store;
mod messages;
mod metrics;
mod migrate;
mod open;
mod outbox;
mod previews;
mod read_marks;
mod row;
mod search;
mod sessions;
mod settings;
mod slices;
#[cfg(test)]
mod tests;
mod unfinished;
mod views;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

pub use self::config::{CqlConfig, KeyspaceConfig};
use self::database::Database;
pub use self::migrate::{MigrateError, migrate};
pub use self::open::OpenError;
pub use self::outbox::CqlOutbox;
use crate::domain::clock::Stamps;
use crate::publish::Publisher;

/// The store of a core that shares its data with others. Clones are the same store.
#[derive(Clone)]
pub struct ScyllaStore {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    database: Database,
    publisher: Arc<dyn Publisher>,
    stamps: Arc<Stamps>,
    /// What goes on after the call that began it.
    tasks: TaskTracker,
    bucket_messages: u32,
    accounts: accounts::Statements,
    claims: claims::Statements,
    search: search::Statements,
    sessions: sessions::Statements,
    settings: settings::Statements,
    connections: connections::Statements,
    presence: connections::Turns,
    conversations: conversations::Statements,
    activity: activity::Statements,
    erasing: erasing::Statements,
    works: unfinished::Works,
    first_erasing_shard: i32,
    messages: messages::Statements,
    buckets: buckets::Statements,
    read_marks: read_marks::Statements,
    appends: append::Appends,
}

impl std::fmt::Debug for ScyllaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScyllaStore").finish_non_exhaustive()
    }
}

impl ScyllaStore {
    /// Opens the store in its keyspace, which [`migrate`] has made.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do; [`OpenError::is_unreachable`] when trying again may help.
    pub async fn open(
        config: &CqlConfig,
        stamps: Arc<Stamps>,
        publisher: Arc<dyn Publisher>,
    ) -> Result<Self, OpenError> {
        let database = open::open(config, &stamps).await?;
        let inner = Inner {
            accounts: accounts::Statements::prepare(&database).await?,
            claims: claims::Statements::prepare(&database).await?,
            search: search::Statements::prepare(&database).await?,
            sessions: sessions::Statements::prepare(&database).await?,
            settings: settings::Statements::prepare(&database).await?,
            connections: connections::Statements::prepare(&database).await?,
            presence: connections::Turns::default(),
            conversations: conversations::Statements::prepare(&database).await?,
            activity: activity::Statements::prepare(&database).await?,
            erasing: erasing::Statements::prepare(&database).await?,
            works: unfinished::Works::default(),
            first_erasing_shard: erasing::first_shard(&stamps),
            messages: messages::Statements::prepare(&database).await?.in_small_pages(),
            buckets: buckets::Statements::prepare(&database).await?,
            read_marks: read_marks::Statements::prepare(&database).await?,
            appends: append::Appends::new(),
            database,
            publisher,
            stamps,
            tasks: TaskTracker::new(),
            bucket_messages: config.core_bucket_messages,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until what was begun here is done. To be called when nobody calls any more.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
