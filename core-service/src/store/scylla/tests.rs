//! The CQL store keeps the promises of every store. These tests need a database.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use prost::Message as _;
use proto::v1;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::append::Appends;
use super::{CqlConfig, KeyspaceConfig, ScyllaStore, migrate};
use crate::domain::clock::Stamps;
use crate::domain::event::Event;
use crate::publish::{Envelope, Publisher};
use crate::store::Written;
use crate::store::contract::{EventLog, UnderTest};

pub(super) mod cuts;
mod large;
mod lists;
mod wholeness;

mod contract {
    crate::store::contract::store_contract_suite!(
        super::super::open_for_contract;
        ignored = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"
    );
}

/// Remembers every event, in the order in which they were handed over.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<v1::Event>>);

impl Recorder {
    /// The events, each once: what was published again under its id is not told twice.
    pub(super) fn events(&self) -> Vec<v1::Event> {
        let mut events: Vec<v1::Event> = Vec::new();
        for event in self.0.lock().unwrap().iter() {
            if events.iter().all(|told| told.id != event.id) {
                events.push(event.clone());
            }
        }
        events
    }
}

impl Publisher for Recorder {
    fn publish(&self, event: Event) -> Written {
        self.0.lock().unwrap().push(event.into());
        async { Ok(()) }.boxed()
    }

    fn publish_envelope(&self, envelope: Envelope) -> Written {
        let event = v1::Event::decode(envelope.bytes).unwrap();
        assert_eq!(event.id, envelope.id.to_field());
        self.0.lock().unwrap().push(event);
        async { Ok(()) }.boxed()
    }
}

#[async_trait]
impl EventLog for Arc<Recorder> {
    async fn read(&self) -> Vec<(u64, v1::Event)> {
        (1..).zip(self.events()).collect()
    }
}

async fn open_for_contract() -> UnderTest {
    let (store, recorder) = open_store().await;
    UnderTest::new(Arc::new(store), Box::new(recorder), Box::new(()))
}

/// A store in the keyspace of this schema, and what it tells.
pub(super) async fn open_store() -> (ScyllaStore, Arc<Recorder>) {
    open_store_with(|_| ()).await
}

/// The same with other settings.
pub(super) async fn open_store_with(change: impl FnOnce(&mut CqlConfig)) -> (ScyllaStore, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (open_store_telling(Arc::clone(&recorder) as _, change).await, recorder)
}

/// A store with other settings, which tells this publisher.
async fn open_store_telling(publisher: Arc<dyn Publisher>, change: impl FnOnce(&mut CqlConfig)) -> ScyllaStore {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let mut config = config(&keyspace_of_schema());
    let stamps = Arc::new(Stamps::of_this_process());
    MIGRATED
        .get_or_init(async || {
            Box::pin(migrate(&config, &keyspace_config(), &stamps)).await.unwrap();
        })
        .await;
    change(&mut config);
    let mut store = Box::pin(ScyllaStore::open(&config, stamps, publisher)).await.unwrap();
    // A machine that is busy with other tests takes its time for a burst.
    let inner = Arc::get_mut(&mut store.inner).expect("nobody else has it yet");
    inner.appends = Appends::with_longest_wait(Duration::from_secs(60));
    store
}

/// One keyspace for each state of the schema, since making tables is slow; tests do not meet, for their ids are random.
fn keyspace_of_schema() -> String {
    let mut digest = Sha256::new();
    for version in super::migrate::SCHEMA {
        digest.update(version.text);
    }
    format!("test_{}", hex::encode(&digest.finalize()[..8]))
}

/// The settings for this keyspace on the test's database.
pub(super) fn config(keyspace: &str) -> CqlConfig {
    CqlConfig {
        cql_addresses: vec![database_address()],
        cql_keyspace: keyspace.to_owned(),
        cql_datacenter: "datacenter1".to_owned(),
        cql_username: None,
        cql_password: None,
        cql_tls_ca: None,
        cql_pool: "per-host:1".parse().unwrap(),
        core_bucket_messages: 20_000,
    }
}

/// A keyspace on one node.
pub(super) fn keyspace_config() -> KeyspaceConfig {
    KeyspaceConfig {
        cql_replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}".to_owned(),
        cql_keyspace_options: String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take it from")]
fn database_address() -> String {
    std::env::var("TEST_CQL_ADDRESS")
        .expect("TEST_CQL_ADDRESS is not set: it names the host:port of a CQL database that these tests may use")
}
