//! The distributed form's store and publisher, opened together: the publisher keeps in the database what NATS cannot
//! take, and the store hands every event to the publisher.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::Client;
use proto::subject::Cell;

use crate::config::PublishConfig;
use crate::domain::clock::Stamps;
use crate::domain::tokens::MIN_KEY_BYTES;
use crate::publish::nats::StreamSettings;
use crate::publish::{PublisherParts, StreamPublisher};
use crate::store::scylla::{CqlConfig, CqlOutbox, OpenError, ScyllaStore};

/// The setting that all cores share their key under.
const TOKEN_KEY: &str = "token_key";
/// How often a database that is away is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// How long events may take to leave at the end, and then once more to be kept in the outbox.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// What the distributed form is opened with.
pub struct DistributedParts<'a> {
    /// Where the database is.
    pub cql: &'a CqlConfig,
    /// How events leave.
    pub publish: &'a PublishConfig,
    /// A client that is connected to NATS, or will be.
    pub nats: Client,
    /// Whose events these are.
    pub cell: Cell,
    /// Time and ids.
    pub stamps: Arc<Stamps>,
}

/// The store over CQL, and the publisher that takes its events to NATS.
pub struct Distributed {
    /// Where everything is kept.
    pub store: ScyllaStore,
    publisher: StreamPublisher,
}

impl Distributed {
    /// Opens both. Waits for a database that is away, and says so every few seconds; without NATS it opens too.
    ///
    /// # Errors
    /// When waiting would not help; says what to do.
    pub async fn open(parts: DistributedParts<'_>) -> anyhow::Result<Self> {
        let DistributedParts { cql, publish, nats, cell, stamps } = parts;
        let outbox = until_reached(async || Box::pin(CqlOutbox::open(cql, &stamps)).await).await?;
        let parts = PublisherParts {
            client: nats,
            stream: StreamSettings::new(cell, publish),
            outbox: Arc::new(outbox),
            run: stamps.new_id().into(),
            stamps: Arc::clone(&stamps),
            max_unpublished_bytes: usize::try_from(publish.core_unpublished_bytes).unwrap_or(usize::MAX),
        };
        let publisher = StreamPublisher::start(parts).await.context("cannot publish events (NATS_URL, CELL)")?;
        let open = async || Box::pin(ScyllaStore::open(cql, Arc::clone(&stamps), Arc::new(publisher.clone()))).await;
        let store = until_reached(open).await?;
        Ok(Self { store, publisher })
    }

    /// The key that signs tokens, the same for every core of this keyspace: made once, and kept in the database.
    ///
    /// # Errors
    /// Those of the store; or the key in the database cannot be used.
    pub async fn signing_key(&self) -> anyhow::Result<Vec<u8>> {
        let key = hex::decode(self.store.shared_setting(TOKEN_KEY, &hex::encode(new_key())).await?);
        key.ok().filter(|key| key.len() >= MIN_KEY_BYTES).context(
            "the token key in the database, in the table settings, is damaged: restore it, or remove it to have a new one \
             made (everybody then has to log in again)",
        )
    }

    /// Ends both, when nobody calls any more: what was begun is finished, and events that cannot leave are kept.
    pub async fn close(&self) {
        self.store.close().await;
        self.publisher.finish(FINISH_WITHIN).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a key must not be foreseen")]
fn new_key() -> [u8; MIN_KEY_BYTES] {
    rand::random()
}

async fn until_reached<T>(open: impl AsyncFn() -> Result<T, OpenError>) -> anyhow::Result<T> {
    loop {
        match open().await {
            Err(error) if error.is_unreachable() => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "waiting for the database");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            opened => return Ok(opened?),
        }
    }
}
