//! The publisher against a real nats-server, which each test starts for itself and may kill.

mod faults;
mod order;
mod permissions;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use async_nats::header::NATS_MESSAGE_ID;
use async_trait::async_trait;
use clap::Parser;
use components::Nats;
use prost::Message as _;
use proto::ids::{ConnectionId, ConversationId, EventId, RunId, Timestamp};
use proto::subject::Cell;
use proto::v1;
use runtime::nats::NatsConfig;

use super::nats::StreamSettings;
use super::outbox::{Kept, OutboxStore};
use super::{PublisherParts, StreamPublisher};
use crate::domain::clock::Stamps;
use crate::domain::event::{Event, Fact, Step, Subject};
use crate::domain::session::Attempt;
use crate::store::StoreError;

/// How long anything that must happen may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that does not tell when it happens.
async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !look().await {
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    nats: NatsConfig,
}

/// A client as core has it, which may still be connecting.
async fn connect(server: &Nats) -> Client {
    connect_with(server, &[]).await
}

/// With these settings beside the address.
async fn connect_with(server: &Nats, settings: &[&str]) -> Client {
    let (url, settings) = (server.url(), settings.iter().copied());
    Cli::parse_from(["test", "--nats-url", &url].into_iter().chain(settings)).nats.connect("test").await.unwrap()
}

/// An outbox in memory.
#[derive(Default)]
struct MemoryOutbox {
    kept: Mutex<BTreeMap<(RunId, i64, u64), Kept>>,
    puts: AtomicU64,
    fails: AtomicBool,
}

impl MemoryOutbox {
    fn len(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    fn failure(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            let source = Arc::new(std::io::Error::other("the database is away"));
            return Err(StoreError::Unavailable { attempted: "write to the outbox", source });
        }
        Ok(())
    }
}

#[async_trait]
impl OutboxStore for MemoryOutbox {
    async fn put(&self, run: RunId, bucket: i64, event: Kept) -> Result<(), StoreError> {
        self.failure()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.kept.lock().unwrap().insert((run, bucket, event.number), event);
        Ok(())
    }

    async fn list_buckets(&self, run: RunId) -> Result<Vec<i64>, StoreError> {
        self.failure()?;
        let mut buckets: Vec<_> =
            self.kept.lock().unwrap().keys().filter(|key| key.0 == run).map(|key| key.1).collect();
        buckets.dedup();
        Ok(buckets)
    }

    async fn list(&self, run: RunId, bucket: i64, above: Option<u64>) -> Result<Vec<Kept>, StoreError> {
        self.failure()?;
        let first = above.map_or(0, |above| above + 1);
        let kept = self.kept.lock().unwrap();
        let page = kept.range((run, bucket, first)..=(run, bucket, u64::MAX)).take(3);
        Ok(page.map(|(_, event)| event.clone()).collect())
    }

    async fn remove(&self, run: RunId, bucket: i64) -> Result<(), StoreError> {
        self.failure()?;
        self.kept.lock().unwrap().retain(|key, _| (key.0, key.1) != (run, bucket));
        Ok(())
    }
}

/// A publisher and what it stands between.
struct Stage {
    server: Nats,
    client: Client,
    outbox: Arc<MemoryOutbox>,
    publisher: StreamPublisher,
    stamps: Arc<Stamps>,
    run: RunId,
}

fn settings() -> StreamSettings {
    StreamSettings {
        cell: cell(),
        replicas: 1,
        max_bytes: 64 * 1024 * 1024,
        duplicate_window: Duration::from_secs(120),
    }
}

fn cell() -> Cell {
    "test".parse().unwrap()
}

impl Stage {
    async fn set() -> Self {
        Self::with(settings(), 64 * 1024 * 1024).await
    }

    async fn with(stream: StreamSettings, max_unpublished_bytes: usize) -> Self {
        let server = Nats::start().unwrap();
        let client = connect(&server).await;
        Self::on(server, client, stream, max_unpublished_bytes).await
    }

    async fn on(server: Nats, client: Client, stream: StreamSettings, max_unpublished_bytes: usize) -> Self {
        let stamps = Arc::new(Stamps::of_this_process());
        let outbox = Arc::new(MemoryOutbox::default());
        let run = stamps.new_id().into();
        let publisher = StreamPublisher::start(PublisherParts {
            client: client.clone(),
            stream,
            outbox: Arc::clone(&outbox) as _,
            run,
            stamps: Arc::clone(&stamps),
            max_unpublished_bytes,
        })
        .await
        .unwrap();
        Self { server, client, outbox, publisher, stamps, run }
    }

    fn conversation(&self) -> ConversationId {
        self.stamps.new_id().into()
    }

    /// The next event about a conversation, as told by its frame number.
    fn event(&self, about: ConversationId, frame: u64) -> Event {
        event(self.stamps.new_id().into(), about, frame)
    }

    /// Everything in the stream, in its order: conversation and frame number.
    async fn in_stream(&self) -> Vec<(ConversationId, u64)> {
        let context = async_nats::jetstream::new(self.client.clone());
        let stream = context.get_stream(cell().stream()).await.unwrap();
        let mut events = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let event = v1::Event::decode(message.payload).unwrap();
            let id = EventId::try_from(&event.id[..]).unwrap();
            assert_eq!(message.headers.get(NATS_MESSAGE_ID).unwrap().as_str(), id.to_string());
            let Some(v1::event::Subject::ConversationId(about)) = event.subject else { panic!("of a conversation") };
            let about = ConversationId::try_from(&about[..]).unwrap();
            assert_eq!(message.subject.as_str(), format!("test.conversation.{about}"));
            events.push((about, event.attempt.unwrap().frame));
        }
        events
    }

    /// The frame numbers of a conversation's events in the stream, in its order.
    async fn frames_in_stream(&self, of: ConversationId) -> Vec<u64> {
        self.in_stream().await.into_iter().filter(|(about, _)| *about == of).map(|(_, frame)| frame).collect()
    }

    async fn until_the_outbox_is_empty(&self) {
        eventually("the outbox to be empty", async || self.outbox.len() == 0).await;
    }
}

fn event(id: EventId, about: ConversationId, frame: u64) -> Event {
    let fact = Fact::MessagesRead { conversation_id: about, message_ids: Vec::new(), from: id_of_someone() };
    Event {
        id,
        subject: Subject::Conversation(about),
        attempt: Attempt { connection_id: ConnectionId::from_bytes([8; 12]), frame },
        steps: vec![Step::new(vec![id_of_someone()], fact)],
    }
}

fn id_of_someone() -> proto::ids::UserId {
    proto::ids::UserId::from_bytes([7; 12])
}

/// A time so long before now.
fn ago(stamps: &Stamps, time: Duration) -> Timestamp {
    stamps.now().plus_millis(-i64::try_from(time.as_millis()).unwrap())
}
