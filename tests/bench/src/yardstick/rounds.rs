//! What a message cannot do without in the distributed form, and nothing around it: its row and its location written
//! side by side, then its event published and acknowledged. One thread on the libraries that the core uses, at a rate.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::jetstream;
use bytes::Bytes;
use clap::Args;
use load::latency::Latency;
use load::pace::Metronome;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Of a row, what the core sets for a plain message.
const MESSAGE: &str = "messages (
        conversation_id, bucket, id, from_user_id, attempt_connection_id, attempt_frame, fingerprint, body
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const LOCATION: &str = "locations (message_id, conversation_id, bucket) VALUES (?, ?, ?)";
/// The stream that is published to, and its subject: one that no gateway reads.
const STREAM: &str = "yardstick";
/// As the servers' own stream has it.
const STREAM_BYTES: i64 = 256 * 1024 * 1024;
/// The length of ids.
const ID_BYTES: usize = 12;
/// As long as the core's.
const FINGERPRINT: [u8; 16] = [0; 16];

/// What is written, where and how fast.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The database
    #[arg(long, value_name = "HOST:PORT")]
    cql_address: String,

    /// The keyspace with the core's tables
    #[arg(long, value_name = "NAME")]
    keyspace: String,

    /// The NATS server
    #[arg(long, value_name = "URL")]
    nats_url: String,

    /// The core's stream: events are as long as those in it are
    #[arg(long, value_name = "NAME")]
    like_stream: String,

    /// How many conversations the rows belong to
    #[arg(long, value_name = "COUNT")]
    conversations: u64,

    /// Length of a message's text, in bytes
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    body_bytes: usize,

    /// Messages a second
    #[arg(long, value_name = "MESSAGES")]
    rate: f64,

    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: f64,

    /// How long to go on before that, in seconds
    #[arg(long, value_name = "SECONDS")]
    warm_up: f64,
}

/// Does the rounds, and tells how long each took from when it was due, on standard output, as JSON.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let latency = runtime.block_on(measure(options))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&latency.percentiles())?)?;
    Ok(())
}

async fn measure(options: &Options) -> anyhow::Result<Latency> {
    let round = Arc::new(Round::prepare(options).await?);
    let latency = Latency::new();
    let (metronome, turns) = Metronome::new(options.rate, 1);
    let mut turns = turns.into_iter().next().context("the metronome has one part")?;
    let (begun, stop) = (Instant::now(), CancellationToken::new());
    metronome.spawn(begun, stop.clone())?;
    let unmeasured = (options.warm_up * options.rate) as u64;
    let all = unmeasured + (options.seconds * options.rate) as u64;
    let mut under_way = JoinSet::new();
    for number in 0..all {
        let due = begun + Duration::from_micros(turns.wait(number).await);
        let round = Arc::clone(&round);
        under_way
            .spawn(async move { round.perform(number).await.map(|()| (number >= unmeasured).then(|| due.elapsed())) });
        while let Some(done) = under_way.try_join_next() {
            done??.into_iter().for_each(|time| latency.record(time));
        }
    }
    stop.cancel();
    while let Some(done) = under_way.join_next().await {
        done??.into_iter().for_each(|time| latency.record(time));
    }
    Ok(latency)
}

/// What a message cannot do without.
struct Round {
    session: Session,
    message: PreparedStatement,
    location: PreparedStatement,
    stream: jetstream::Context,
    event: Bytes,
    body: String,
    conversations: u64,
}

impl Round {
    async fn prepare(options: &Options) -> anyhow::Result<Self> {
        let profile = ExecutionProfile::builder().consistency(Consistency::LocalQuorum).build();
        let session = SessionBuilder::new().known_node(&options.cql_address);
        let session = session.default_execution_profile_handle(profile.into_handle()).build().await;
        let session = session.context("cannot reach the database")?;
        let insert = |into: &str| session.prepare(format!("INSERT INTO {}.{into}", options.keyspace));
        let (message, location) = (insert(MESSAGE).await?, insert(LOCATION).await?);

        let client = async_nats::connect(&options.nats_url).await.context("cannot reach NATS")?;
        let stream = jetstream::new(client);
        let servers = stream.get_stream(&options.like_stream).await.context("cannot read the servers' stream")?;
        let state = &servers.cached_info().state;
        let Some(event_bytes) = state.bytes.checked_div(state.messages) else {
            bail!("{} holds no events", options.like_stream)
        };
        let config =
            jetstream::stream::Config { name: STREAM.to_owned(), max_bytes: STREAM_BYTES, ..Default::default() };
        stream.get_or_create_stream(config).await.context("cannot make a stream")?;
        let event = vec![0; usize::try_from(event_bytes)?].into();
        let body = "x".repeat(options.body_bytes);
        Ok(Self { session, message, location, stream, event, body, conversations: options.conversations })
    }

    async fn perform(&self, number: u64) -> anyhow::Result<()> {
        let conversation = id(number % self.conversations);
        let (message, bucket) = (id(number), [0; ID_BYTES]);
        let [message, conversation, bucket] = [&message, &conversation, &bucket].map(|id| id.as_slice());
        let (from, frame) = (conversation, number.cast_signed());
        let row = (conversation, bucket, message, from, from, frame, FINGERPRINT.as_slice(), &self.body);
        let row = self.session.execute_unpaged(&self.message, row);
        let location = self.session.execute_unpaged(&self.location, (message, conversation, bucket));
        futures_util::try_join!(row, location)?;
        self.stream.publish(STREAM, self.event.clone()).await?.await?;
        Ok(())
    }
}

/// An id of this run.
fn id(number: u64) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    let (run, own) = id.split_at_mut(4);
    run.copy_from_slice(&std::process::id().to_be_bytes());
    own.copy_from_slice(&number.to_be_bytes());
    id
}
