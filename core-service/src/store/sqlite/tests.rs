//! The embedded store keeps the promises of every store, and those of its files.

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message as _;
use proto::v1;
use tempfile::TempDir;

use super::{Journal, SqliteStore};
use crate::store::contract::{EventLog, UnderTest, at, store_contract_suite};

mod contract {
    super::store_contract_suite!(super::super::open_for_contract);
}

#[async_trait]
impl EventLog for Journal {
    async fn read(&self) -> Vec<(u64, v1::Event)> {
        let events = self.read_above(0, usize::MAX).await.unwrap();
        events.into_iter().map(|(position, envelope)| (position, v1::Event::decode(envelope).unwrap())).collect()
    }
}

async fn open_for_contract() -> UnderTest {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(directory.path(), at(0)).unwrap();
    let events = Box::new(store.journal());
    UnderTest::new(Arc::new(store), events, Box::new(directory))
}
