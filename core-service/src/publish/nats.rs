//! The stream that keeps a cell's events: how it must be, that it is so, and whether a given event is in it.
//!
//! A stream is made where there is none, and an existing one is only ever strengthened: what it keeps longer, more of or
//! more often than asked for stays so. What would punch holes into its sequence, by which gateways know that they miss
//! nothing, is turned off, or refused where it cannot be.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::datetime;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode};
use futures_util::TryStreamExt;
use proto::ids::{EventId, Timestamp};
use proto::subject::{About, Cell};
use serde::Deserialize;

use super::split::MAX_MESSAGE_BYTES;
use crate::config::PublishConfig;
use crate::domain::clock::Stamps;

/// How long events are kept for gateways that missed some.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long the stream drops a second event of the same id.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(2 * 60);
/// Core does not start when its clock and that of NATS differ by more.
const MAX_SKEW_MS: i64 = 2_000;
/// Core complains when they differ by more.
const NOTABLE_SKEW_MS: i64 = 200;
/// How many events one request for what the stream holds brings at most.
const LOOK_BATCH: usize = 500;
/// How long NATS keeps a consumer that looks for an event, should we not get to remove it.
const LOOK_ABANDONED: Duration = Duration::from_secs(10);

/// How the stream must be.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// Whose events it keeps.
    pub cell: Cell,
    /// At least so many servers keep each event.
    pub replicas: usize,
    /// At least so many bytes of events are kept.
    pub max_bytes: i64,
    /// For how long a second event of the same id is dropped.
    pub(super) duplicate_window: Duration,
}

impl StreamSettings {
    /// The stream of this cell.
    pub fn new(cell: Cell, config: &PublishConfig) -> Self {
        Self {
            cell,
            replicas: config.nats_stream_replicas.into(),
            max_bytes: i64::try_from(config.nats_stream_max_bytes).unwrap_or(i64::MAX),
            duplicate_window: DUPLICATE_WINDOW,
        }
    }

    /// Whether an event of this age may have lain in the stream for so long that the stream would keep it twice. The
    /// margin is for clocks that differ.
    pub(super) fn is_old(&self, id: EventId, now: Timestamp) -> bool {
        now.millis() - id.timestamp().millis() > (self.duplicate_window - self.margin()).as_millis() as i64
    }

    pub(super) fn margin(&self) -> Duration {
        self.duplicate_window / 8
    }

    fn config(&self) -> Config {
        Config {
            name: self.cell.stream(),
            description: Some(format!("Events of cell {} for its gateways, made by its core", self.cell)),
            subjects: self.cell.all_events().to_vec(),
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: MAX_AGE,
            max_bytes: self.max_bytes,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            max_consumers: -1,
            num_replicas: self.replicas,
            duplicate_window: self.duplicate_window,
            deny_delete: true,
            deny_purge: true,
            ..Config::default()
        }
    }

    /// An existing stream made to keep what it must; `None` where it does already.
    fn strengthened(&self, existing: &Config) -> Result<Option<Config>, StreamError> {
        let wanted = self.config();
        let unusable = |why| Err(StreamError::Unusable { stream: wanted.name.clone(), why });
        if existing.storage != StorageType::File {
            return unusable("it is kept in memory");
        }
        if existing.retention != RetentionPolicy::Limits {
            return unusable("it drops what its consumers have read");
        }
        if existing.sealed {
            return unusable("it is sealed");
        }
        if existing.mirror.is_some() || existing.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
            return unusable("it copies another stream");
        }
        if existing.allow_message_ttl {
            return unusable("its messages may end one by one");
        }
        let mut subjects = existing.subjects.clone();
        subjects.extend(wanted.subjects.iter().filter(|subject| !existing.subjects.contains(subject)).cloned());
        let strengthened = Config {
            subjects,
            discard: wanted.discard,
            max_age: longest(existing.max_age, wanted.max_age),
            max_bytes: most(existing.max_bytes, wanted.max_bytes),
            max_messages: wanted.max_messages,
            max_messages_per_subject: wanted.max_messages_per_subject,
            discard_new_per_subject: false,
            max_message_size: wanted.max_message_size,
            max_consumers: wanted.max_consumers,
            num_replicas: existing.num_replicas.max(wanted.num_replicas),
            duplicate_window: existing.duplicate_window.max(wanted.duplicate_window),
            deny_delete: true,
            deny_purge: true,
            allow_rollup: false,
            no_ack: false,
            ..existing.clone()
        };
        Ok((strengthened != *existing).then_some(strengthened))
    }
}

/// Of two ages the longer; zero is no limit.
fn longest(a: Duration, b: Duration) -> Duration {
    if a.is_zero() || b.is_zero() { Duration::ZERO } else { a.max(b) }
}

/// Of two limits the higher; zero and less is none.
fn most(a: i64, b: i64) -> i64 {
    if a <= 0 || b <= 0 { -1 } else { a.max(b) }
}

/// Why events cannot go to the stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is a stream of the name, but none that could keep the events.
    #[error("the stream {stream} cannot be used, since {why}; remove it, or set another CELL")]
    Unusable {
        /// Its name.
        stream: String,
        /// What is wrong.
        why: &'static str,
    },
    /// NATS takes smaller messages than events can be.
    #[error("NATS takes messages of {max_payload} bytes; set its max_payload to at least {MAX_MESSAGE_BYTES}")]
    SmallMessages {
        /// What it takes.
        max_payload: usize,
    },
    /// The clocks differ too much.
    #[error(
        "the clock of NATS and ours differ by {skew_ms} ms, more than {MAX_SKEW_MS}; set the clocks of both machines"
    )]
    ClockSkew {
        /// How much NATS is ahead.
        skew_ms: i64,
    },
    /// NATS has no JetStream for us, or refuses us.
    #[error("NATS answers to no question about streams; is JetStream on, and may this user administer streams?")]
    NoJetStream,
    /// NATS did not do what it was asked to.
    #[error("failed to {attempted}")]
    Request {
        /// What was asked.
        attempted: &'static str,
        /// What came of it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StreamError {
    /// Whether waiting does not help.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::SmallMessages { .. } | Self::ClockSkew { .. } => true,
            Self::NoJetStream | Self::Request { .. } => false,
        }
    }

    fn request<E>(attempted: &'static str) -> impl Fn(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |error| Self::Request { attempted, source: error.into() }
    }
}

/// The stream, seen through a client that is connected or will be.
#[derive(Clone, Debug)]
pub(super) struct EventStream {
    pub(super) settings: StreamSettings,
    pub(super) context: Context,
}

/// What NATS says of a stream.
#[derive(Deserialize)]
struct StreamInfo {
    config: Config,
    /// Its clock's time, as RFC 3339 has it.
    ts: String,
}

impl EventStream {
    /// Makes sure that the stream is there and as it must be, and that NATS takes events of all sizes. Returns how many
    /// milliseconds the clock of NATS is ahead of ours, at least.
    pub(super) async fn ensure(&self, stamps: &Stamps) -> Result<i64, StreamError> {
        let max_payload = self.context.client().max_payload();
        if max_payload < MAX_MESSAGE_BYTES {
            return Err(StreamError::SmallMessages { max_payload });
        }
        let (existing, skew_ms) = match self.info(stamps).await? {
            Some(found) => found,
            None => {
                self.create().await?;
                // Another core may have made it first, and otherwise.
                self.info(stamps).await?.ok_or(StreamError::NoJetStream)?
            }
        };
        if let Some(config) = self.settings.strengthened(&existing)? {
            tracing::info!(stream = config.name, "changing the stream to keep what it must");
            self.context.update_stream(&config).await.map_err(StreamError::request("change the stream of events"))?;
        }
        Ok(skew_ms)
    }

    async fn create(&self) -> Result<(), StreamError> {
        let config = self.settings.config();
        let name = config.name.clone();
        match self.context.create_stream(config).await {
            Ok(_) => {
                tracing::info!(stream = name, "made the stream of events");
                Ok(())
            }
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
                _ => Err(StreamError::request(
                    "make the stream of events (NATS_STREAM_REPLICAS, NATS_STREAM_MAX_BYTES)",
                )(error)),
            },
        }
    }

    async fn info(&self, stamps: &Stamps) -> Result<Option<(Config, i64)>, StreamError> {
        let asked_at = stamps.now().millis();
        let subject = format!("STREAM.INFO.{}", self.settings.cell.stream());
        let answer = self.context.request::<_, _, Response<StreamInfo>>(subject, &()).await;
        let answered_at = stamps.now().millis();
        match answer {
            Ok(Response::Ok(StreamInfo { config, ts })) => {
                let theirs: jiff::Timestamp = ts.parse().map_err(StreamError::request("read the time of NATS"))?;
                Ok(Some((config, skew_ms(asked_at, theirs.as_millisecond(), answered_at))))
            }
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Ok(Response::Err { error }) => Err(StreamError::request("ask for the stream of events")(error)),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(StreamError::NoJetStream),
            Err(error) => Err(StreamError::request("ask for the stream of events")(error)),
        }
    }

    /// The ids of the events about this that the stream has taken since a time.
    pub(super) async fn ids_since(&self, about: About, since: Timestamp) -> Result<HashSet<EventId>, StreamError> {
        let failed = "look for events in the stream";
        let nanos = i128::from(since.millis()) * 1_000_000;
        let config = pull::Config {
            description: Some("Looks for events that may have been published before".to_owned()),
            deliver_policy: DeliverPolicy::ByStartTime {
                start_time: datetime::from_nanos(nanos).map_err(StreamError::request(failed))?,
            },
            ack_policy: AckPolicy::None,
            filter_subject: self.settings.cell.event(about),
            headers_only: true,
            inactive_threshold: LOOK_ABANDONED,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = self.settings.cell.stream();
        let consumer =
            self.context.create_consumer_on_stream(config, &stream).await.map_err(StreamError::request(failed))?;
        let mut ids = HashSet::new();
        let mut pending = consumer.cached_info().num_pending;
        while pending > 0 {
            let batch =
                consumer.fetch().max_messages(LOOK_BATCH).messages().await.map_err(StreamError::request(failed))?;
            let messages: Vec<jetstream::Message> = batch.try_collect().await.map_err(StreamError::request(failed))?;
            let Some(last) = messages.last() else { break };
            pending = last.info().map_err(StreamError::request(failed))?.pending;
            let id_of = |message: &jetstream::Message| {
                EventId::parse(message.headers.as_ref()?.get(NATS_MESSAGE_ID)?.as_str()).ok()
            };
            ids.extend(messages.iter().filter_map(id_of));
        }
        let name = consumer.cached_info().name.clone();
        if let Err(error) = self.context.delete_consumer_from_stream(&name, &stream).await {
            tracing::debug!(error = %error, "a consumer that has done its work is left to NATS");
        }
        Ok(ids)
    }
}

/// How far a clock is ahead, at least, that showed `theirs` between two moments of ours; negative if it is behind.
fn skew_ms(asked_at: i64, theirs: i64, answered_at: i64) -> i64 {
    if theirs > answered_at { theirs - answered_at } else { (theirs - asked_at).min(0) }
}

/// Whether clocks differ so much that somebody should know.
pub(super) fn is_notable(skew_ms: i64) -> bool {
    skew_ms.abs() > NOTABLE_SKEW_MS
}

/// Whether clocks differ so little that core may start.
pub(super) fn check_skew(skew_ms: i64) -> Result<(), StreamError> {
    if skew_ms.abs() > MAX_SKEW_MS { Err(StreamError::ClockSkew { skew_ms }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StreamSettings {
        StreamSettings {
            cell: "sama".parse().unwrap(),
            replicas: 3,
            max_bytes: 1_000_000,
            duplicate_window: DUPLICATE_WINDOW,
        }
    }

    #[test]
    fn a_stream_as_it_must_be_is_left_alone() {
        assert!(settings().strengthened(&settings().config()).unwrap().is_none());
    }

    #[test]
    fn what_a_stream_keeps_is_never_lessened() {
        let stronger = Config {
            max_age: MAX_AGE * 7,
            max_bytes: 5_000_000,
            num_replicas: 5,
            duplicate_window: DUPLICATE_WINDOW * 2,
            ..settings().config()
        };
        assert!(settings().strengthened(&stronger).unwrap().is_none());
        let unlimited = Config { max_age: Duration::ZERO, max_bytes: -1, ..settings().config() };
        assert!(settings().strengthened(&unlimited).unwrap().is_none());
    }

    #[test]
    fn a_weaker_stream_is_strengthened() {
        let weaker = Config {
            subjects: vec!["sama.user.*".to_owned(), "other".to_owned()],
            discard: DiscardPolicy::New,
            max_age: Duration::from_secs(60),
            max_bytes: 1_000,
            max_messages: 10,
            max_messages_per_subject: 1,
            max_message_size: 100,
            num_replicas: 1,
            duplicate_window: Duration::from_secs(1),
            deny_delete: false,
            deny_purge: false,
            allow_rollup: true,
            no_ack: true,
            ..settings().config()
        };
        let strengthened = settings().strengthened(&weaker).unwrap().expect("it is changed");
        assert_eq!(strengthened.subjects, ["sama.user.*", "other", "sama.conversation.*"]);
        assert_eq!(Config { subjects: settings().config().subjects, ..strengthened }, settings().config());
    }

    #[test]
    fn a_stream_that_cannot_be_made_right_is_refused() {
        for unusable in [
            Config { storage: StorageType::Memory, ..settings().config() },
            Config { retention: RetentionPolicy::Interest, ..settings().config() },
            Config { sealed: true, ..settings().config() },
            Config { allow_message_ttl: true, ..settings().config() },
        ] {
            let refused = settings().strengthened(&unusable).unwrap_err();
            assert!(refused.is_final() && refused.to_string().contains("sama_events"), "{refused}");
        }
    }

    #[test]
    fn only_the_part_of_a_skew_that_is_certain_counts() {
        assert_eq!(skew_ms(100, 150, 200), 0);
        assert_eq!(skew_ms(100, 250, 200), 50);
        assert_eq!(skew_ms(100, 30, 200), -70);
        assert!(check_skew(-2_000).is_ok() && check_skew(2_001).is_err() && check_skew(-2_001).is_err());
        assert!(is_notable(201) && !is_notable(-200));
    }

    #[test]
    fn an_event_is_old_before_the_stream_forgets_it() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let id = EventId::first_of(at);
        assert!(!settings().is_old(id, at.plus_millis(100_000)));
        assert!(settings().is_old(id, at.plus_millis(110_000)));
        assert!(!settings().is_old(id, at.plus_millis(-5_000)));
    }
}
