//! One reader of the stream: makes consumers, listens to them, and makes new ones when it has to.
//!
//! A consumer is an ephemeral push consumer of this reader alone: no filter, so that sequences follow one another; no
//! acknowledgements; flow control, so that what waits here stays bounded; a heartbeat every second. Its inbox is fresh,
//! and subscribed before it is made. What to make of its messages, [`super::progress`] decides.

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use prost::Message as _;
use proto::v1::Event;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use super::progress::{Arrival, Loss, Progress, Renewal, Verdict};
use super::{StreamError, event_id, stream_state};
use crate::events::{EventSourceError, Position};
use crate::metrics;

/// How often a consumer says that it is there when it has nothing to send.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After how long without a word a consumer counts as gone.
const SILENCE: Duration = Duration::from_millis(2_500);
/// How long the server keeps a consumer that nobody listens to.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(10);
/// How often the connection is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long to wait before a server that refused is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often it is said that the stream cannot be read.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Tells on a heartbeat where to answer a flow control request that got lost.
const CONSUMER_STALLED: &str = "Nats-Consumer-Stalled";

/// Reads the stream above a position.
pub(super) struct Reader {
    client: Client,
    context: Context,
    stream: String,
    progress: Progress,
    consumer: Option<Consumer>,
}

/// A consumer and our end of it.
struct Consumer {
    name: String,
    subscriber: Subscriber,
    /// Which of the client's connections it was made on.
    connection: u64,
    heard_at: Instant,
    look: Interval,
}

/// What came of a consumer.
enum Heard {
    Message(Message),
    Nothing(Renewal),
    Closed,
}

/// Why there is no consumer.
enum OpenError {
    Lost(Loss),
    ConnectionLost,
    Stream(StreamError),
}

impl Reader {
    pub(super) fn new(context: Context, stream: String, position: Position) -> Self {
        let (client, progress) = (context.client(), Progress::above(position));
        Self { client, context, stream, progress, consumer: None }
    }

    /// Whether events can be read from here on: the right to make consumers may be missing, and nothing else would show it
    /// before the first event.
    pub(super) async fn try_reading(mut self) -> Result<(), StreamError> {
        match self.try_open(connection_of(&self.client)).await {
            Ok(consumer) => {
                self.delete(&consumer.name);
                Ok(())
            }
            Err(OpenError::Stream(error)) => Err(error),
            // Whoever reads sees to that.
            Err(OpenError::Lost(_) | OpenError::ConnectionLost) => Ok(()),
        }
    }

    /// The next event, once there is one.
    pub(super) async fn next(&mut self) -> Result<(Position, Event), EventSourceError> {
        loop {
            let Some(consumer) = &mut self.consumer else {
                self.consumer = Some(Box::pin(self.open()).await?);
                continue;
            };
            match consumer.hear(&self.client).await {
                Heard::Message(message) => {
                    if let Some(event) = self.handle_message(message).await? {
                        return Ok((self.progress.position(), event));
                    }
                }
                Heard::Nothing(renewal) => self.renew(renewal).await,
                Heard::Closed => return Err(failed(StreamError::Closed)),
            }
        }
    }

    /// The event of a message, if it is one to give out.
    async fn handle_message(&mut self, message: Message) -> Result<Option<Event>, EventSourceError> {
        let (verdict, payload) = match message.status {
            None => self.judge(message),
            Some(StatusCode::IDLE_HEARTBEAT) => (self.handle_control(&message), Bytes::new()),
            Some(status) => {
                debug!(%status, description = message.description, "an odd message on a consumer");
                (Verdict::Renew(Renewal::Odd), Bytes::new())
            }
        };
        match verdict {
            Verdict::Pass => Ok(None),
            Verdict::Deliver => match Event::decode(payload) {
                Ok(event) => Ok(Some(event)),
                Err(source) => {
                    warn!(error = &source as &dyn Error, "an event of the stream cannot be decoded");
                    Err(self.lose(Loss::Damaged))
                }
            },
            Verdict::Lost(loss) => Err(self.lose(loss)),
            Verdict::Renew(renewal) => {
                self.renew(renewal).await;
                Ok(None)
            }
        }
    }

    fn judge(&mut self, message: Message) -> (Verdict, Bytes) {
        let message = jetstream::Message { message, context: self.context.clone() };
        let Ok(info) = message.info() else {
            return (Verdict::Renew(Renewal::Odd), Bytes::new());
        };
        metrics::events_pending(info.pending);
        let arrival = Arrival {
            sequence: info.stream_sequence,
            consumer_sequence: info.consumer_sequence,
            event_id: message.headers.as_ref().and_then(event_id),
        };
        (self.progress.hear_message(arrival), message.message.payload)
    }

    /// Flow control has a subject to answer to; a heartbeat may have one for an answer that got lost.
    fn handle_control(&mut self, message: &Message) -> Verdict {
        if let Some(reply) = &message.reply {
            self.answer(reply.as_str());
            return Verdict::Pass;
        }
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        if let Some(reply) = header(CONSUMER_STALLED) {
            self.answer(reply);
        }
        match header("Nats-Last-Consumer").and_then(|sent| sent.parse().ok()) {
            Some(sent) => self.progress.hear_heartbeat(sent),
            None => Verdict::Pass,
        }
    }

    /// Tells the server to send more. Does not wait: where the client's queue is full, the server asks again on a heartbeat.
    fn answer(&self, reply: &str) {
        let answer = self.client.publish(reply.to_owned(), Bytes::new());
        if !matches!(tokio::task::unconstrained(answer).now_or_never(), Some(Ok(()))) {
            debug!("a flow control request could not be answered at once");
        }
    }

    /// Gives the present consumer up; the next one is made when something is asked for again.
    async fn renew(&mut self, renewal: Renewal) {
        metrics::event_consumer_renewed(renewal.as_str());
        let position = self.progress.position().number();
        info!(reason = renewal.as_str(), position, "reading the stream with a new consumer");
        if let Some(consumer) = self.consumer.take() {
            self.delete(&consumer.name);
        }
        if renewal != Renewal::Reconnected {
            self.doubt_connection_after_several().await;
        }
    }

    /// Has the server forget a consumer, if it is there to hear it. It would do so by itself a little later.
    fn delete(&self, name: &str) {
        if !is_connected(&self.client) {
            return;
        }
        let subject = format!("CONSUMER.DELETE.{}.{name}", self.stream);
        let request = self.context.send_request(subject, async_nats::Request::new());
        let _ = tokio::task::unconstrained(request).now_or_never();
    }

    async fn doubt_connection_after_several(&mut self) {
        if self.progress.give_up() {
            warn!("NATS is connected but does not serve the stream, connecting again");
            // Fails only where the connection is closed for good.
            let _ = self.client.force_reconnect().await;
        }
    }

    fn lose(&mut self, loss: Loss) -> EventSourceError {
        error!(reason = %loss, stream = self.stream, position = self.progress.position().number(), "history is lost");
        if let Some(consumer) = self.consumer.take() {
            self.delete(&consumer.name);
        }
        EventSourceError::HistoryLost
    }

    /// A consumer at the position, as soon as there can be one.
    async fn open(&mut self) -> Result<Consumer, EventSourceError> {
        let mut said_at: Option<Instant> = None;
        loop {
            wait_until_connected(&self.client).await;
            let (client, connection) = (self.client.clone(), connection_of(&self.client));
            let opened = tokio::select! {
                opened = self.try_open(connection) => opened,
                () = wait_until_lost(&client, connection) => Err(OpenError::ConnectionLost),
            };
            match opened {
                Ok(consumer) => return Ok(consumer),
                Err(OpenError::Lost(loss)) => return Err(self.lose(loss)),
                Err(OpenError::ConnectionLost) => self.progress.connected_anew(),
                Err(OpenError::Stream(source)) => {
                    if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        said_at = Some(Instant::now());
                        warn!(error = &source as &dyn Error, "the stream of events cannot be read, trying on");
                    }
                    if matches!(source, StreamError::Unanswered { .. }) {
                        self.doubt_connection_after_several().await;
                    }
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn try_open(&mut self, connection: u64) -> Result<Consumer, OpenError> {
        let state = stream_state(&self.context, &self.stream).await.map_err(OpenError::Stream)?;
        let start = self.progress.begin(state.first_sequence, state.last_sequence).map_err(OpenError::Lost)?;
        let inbox = self.client.new_inbox();
        let subscriber = self.client.subscribe(inbox.clone()).await.map_err(StreamError::failed)?;
        let config = push::Config {
            deliver_subject: inbox,
            description: Some("a gateway".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::None,
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: INACTIVE_THRESHOLD,
            num_replicas: 1,
            memory_storage: true,
            ..push::Config::default()
        };
        let made =
            self.context.create_consumer_on_stream(config, &self.stream).await.map_err(StreamError::of_consumer)?;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let name = made.cached_info().name.clone();
        debug!(consumer = name, start, "listening to a new consumer");
        Ok(Consumer { name, subscriber, connection, heard_at: Instant::now(), look })
    }
}

impl Consumer {
    /// The next message, or that none is to be expected. May be dropped at any time.
    async fn hear(&mut self, client: &Client) -> Heard {
        loop {
            tokio::select! {
                // What has arrived comes first: a reader that was held up must not take its own delay for silence.
                biased;
                message = self.subscriber.next() => {
                    self.heard_at = Instant::now();
                    return message.map_or(Heard::Closed, Heard::Message);
                }
                _ = self.look.tick() => {
                    if !is_connected(client) || connection_of(client) != self.connection {
                        return Heard::Nothing(Renewal::Reconnected);
                    }
                    if self.heard_at.elapsed() >= SILENCE {
                        return Heard::Nothing(Renewal::Silence);
                    }
                }
            }
        }
    }
}

impl From<StreamError> for OpenError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

pub(super) fn failed(error: StreamError) -> EventSourceError {
    EventSourceError::Failed(Box::new(error))
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}

/// The number of the client's present connection. The client tells of a new one in no other way.
fn connection_of(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

pub(super) async fn wait_until_connected(client: &Client) {
    while !is_connected(client) {
        sleep(LOOK_INTERVAL).await;
    }
}

async fn wait_until_lost(client: &Client, connection: u64) {
    while is_connected(client) && connection_of(client) == connection {
        sleep(LOOK_INTERVAL).await;
    }
}
