//! The tables `outbox` and `outbox_buckets`: what a core's publisher could not yet hand to the stream.
//!
//! It has a session of its own, since the publisher is there before the store that it publishes for; so a busy store does
//! not keep events from being safe either.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use proto::ids::RunId;

use super::config::CqlConfig;
use super::database::{Database, statements};
use super::open::{self, OpenError};
use super::row::Row;
use crate::domain::clock::Stamps;
use crate::publish::outbox::{Kept, OutboxStore};
use crate::store::StoreError;

statements! {
    /// The statements of the tables `outbox` and `outbox_buckets`.
    struct Statements {
        /// note a bucket of the outbox
        note_bucket: "INSERT INTO outbox_buckets (core_run, bucket) VALUES (?, ?)",
        /// keep an event in the outbox
        keep_event: "INSERT INTO outbox (core_run, bucket, number, event_id, subject, envelope)
            VALUES (?, ?, ?, ?, ?, ?)",
        /// list the buckets of an outbox
        list_buckets: "SELECT core_run, bucket FROM outbox_buckets WHERE core_run = ?",
        /// list what an outbox keeps
        list_events: "SELECT core_run, number, event_id, subject, envelope FROM outbox
            WHERE core_run = ? AND bucket = ? AND number > ? LIMIT 100",
        /// remove a bucket of the outbox
        remove_events: "DELETE FROM outbox WHERE core_run = ? AND bucket = ?",
        /// forget a bucket of the outbox
        forget_bucket: "DELETE FROM outbox_buckets WHERE core_run = ? AND bucket = ?",
    }
}

/// The outbox of the distributed form.
pub struct CqlOutbox {
    database: Database,
    statements: Statements,
    /// The bucket that was noted last.
    noted: Mutex<Option<(RunId, i64)>>,
}

impl CqlOutbox {
    /// Opens the outbox in its keyspace, which [`super::migrate`] has made.
    ///
    /// # Errors
    /// As [`super::ScyllaStore::open`].
    pub async fn open(config: &CqlConfig, stamps: &Stamps) -> Result<Self, OpenError> {
        let database = open::open(config, stamps).await?;
        let statements = Statements::prepare(&database).await?;
        Ok(Self { database, statements, noted: Mutex::new(None) })
    }

    /// Notes a bucket before anything is safe in it.
    async fn note(&self, run: RunId, bucket: i64) -> Result<(), StoreError> {
        let noted = || self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *noted() != Some((run, bucket)) {
            self.database.write(&self.statements.note_bucket, (run.as_bytes(), bucket)).await?;
            *noted() = Some((run, bucket));
        }
        Ok(())
    }
}

#[async_trait]
impl OutboxStore for CqlOutbox {
    async fn put(&self, run: RunId, bucket: i64, event: Kept) -> Result<(), StoreError> {
        let Kept { number, event_id, subject, envelope } = &event;
        let values = (run.as_bytes(), bucket, number.cast_signed(), event_id.as_bytes(), subject, envelope.as_ref());
        let keep = self.database.write(&self.statements.keep_event, values);
        futures_util::try_join!(self.note(run, bucket), keep)?;
        Ok(())
    }

    async fn list_buckets(&self, run: RunId) -> Result<Vec<i64>, StoreError> {
        let rows = self.database.read(&self.statements.list_buckets, (run.as_bytes(),)).await?;
        rows.iter().map(|row| row.integer("bucket")).collect()
    }

    async fn list(&self, run: RunId, bucket: i64, above: Option<u64>) -> Result<Vec<Kept>, StoreError> {
        let above = above.map_or(-1, u64::cast_signed);
        let rows = self.database.read(&self.statements.list_events, (run.as_bytes(), bucket, above)).await?;
        rows.iter().map(kept).collect()
    }

    async fn remove(&self, run: RunId, bucket: i64) -> Result<(), StoreError> {
        self.database.write(&self.statements.remove_events, (run.as_bytes(), bucket)).await?;
        self.database.write(&self.statements.forget_bucket, (run.as_bytes(), bucket)).await
    }
}

fn kept(row: &Row) -> Result<Kept, StoreError> {
    Ok(Kept {
        number: row.number("number")?,
        event_id: row.id("event_id")?,
        subject: row.text("subject")?.to_owned(),
        envelope: Bytes::copy_from_slice(row.blob("envelope")?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::open_store_with;
    use super::*;

    fn event(stamps: &Stamps, number: u64) -> Kept {
        let subject = "test.user.010101010101010101010101".to_owned();
        Kept { number, event_id: stamps.new_id().into(), subject, envelope: Bytes::from(vec![7; 10_000]) }
    }

    #[tokio::test]
    #[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
    async fn what_is_kept_comes_back_in_order_page_by_page_until_its_bucket_is_removed() {
        let stamps = Stamps::of_this_process();
        let mut config = None;
        // Which makes the tables.
        open_store_with(|of_store| config = Some(of_store.clone())).await;
        let outbox = Box::pin(CqlOutbox::open(&config.unwrap(), &stamps)).await.unwrap();
        let (run, other): (RunId, RunId) = (stamps.new_id().into(), stamps.new_id().into());
        let events: Vec<_> = (0..250).map(|number| event(&stamps, number)).collect();
        // Not in order, as concurrent writes go.
        let puts = events.iter().rev().map(|event| outbox.put(run, event.number as i64 / 200, event.clone()));
        futures_util::future::try_join_all(puts).await.unwrap();
        outbox.put(other, 0, event(&stamps, 0)).await.unwrap();

        assert_eq!(outbox.list_buckets(run).await.unwrap(), [0, 1]);
        let mut listed = Vec::new();
        for bucket in [0, 1] {
            let mut above = None;
            loop {
                let page = outbox.list(run, bucket, above).await.unwrap();
                let Some(last) = page.last() else { break };
                above = Some(last.number);
                listed.extend(page);
            }
        }
        assert_eq!(listed, events);

        outbox.remove(run, 0).await.unwrap();
        assert_eq!(outbox.list_buckets(run).await.unwrap(), [1]);
        assert!(outbox.list(run, 0, None).await.unwrap().is_empty());
        assert_eq!(outbox.list(run, 1, None).await.unwrap().len(), 50);
        assert_eq!(outbox.list_buckets(other).await.unwrap(), [0]);
    }
}
