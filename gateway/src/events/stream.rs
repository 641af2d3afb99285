//! The cell's JetStream stream as the gateway's source of events, and notices from plain NATS.
//!
//! A position is a sequence of the stream and the event that is there. `progress` decides what to make of the stream,
//! `reader` talks to the server. Of NATS the gateway needs: to subscribe to its inbox and to the notices, and to publish
//! to `$JS.API.STREAM.INFO`, `$JS.API.STREAM.MSG.GET`, `$JS.API.CONSUMER.CREATE` and `$JS.API.CONSUMER.DELETE` of this
//! stream, and to `$JS.FC` of it.

mod progress;
mod reader;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, Info, RawMessageErrorKind, State as StreamState,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use prost::Message;
use proto::ids::EventId;
use proto::subject::Cell;
use proto::v1::{Event, Notice};
use tokio::time::timeout;

use self::reader::{Reader, failed, wait_until_connected};
use super::{EventSource, EventSourceError, Position};

/// How long the newest event waits for a connection that is just being made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// The events of a cell out of its stream.
#[derive(Clone, Debug)]
pub struct StreamEvents {
    context: Context,
    cell: Cell,
}

/// Why the stream cannot be read at the moment.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("NATS is not connected (NATS_URL)")]
    NotConnected,
    #[error("the connection to NATS is closed")]
    Closed,
    #[error("there is no stream {stream} yet: a core service with the same NATS_URL and CELL makes it")]
    NoStream { stream: String },
    #[error("NATS does not answer")]
    Unanswered { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("NATS refused")]
    Refused { source: Box<dyn std::error::Error + Send + Sync> },
}

impl StreamEvents {
    /// The events of this cell, read over this client.
    pub fn new(client: Client, cell: Cell) -> Self {
        Self { context: jetstream::new(client), cell }
    }

    async fn find_newest(&self) -> Result<Position, StreamError> {
        let client = self.context.client();
        timeout(CONNECT_PATIENCE, wait_until_connected(&client)).await.map_err(|_| StreamError::NotConnected)?;
        let name = self.cell.stream();
        let state = stream_state(&self.context, &name).await?;
        let sequence = state.last_sequence;
        if state.messages == 0 {
            return Ok(Position::new(sequence));
        }
        let stream = self.context.get_stream_no_info(&name).await.map_err(StreamError::failed)?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Position::of_event(sequence, event_id(&message.headers))),
            // It expired just now.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(Position::new(sequence)),
            Err(error) => Err(StreamError::failed(error)),
        }
    }
}

impl EventSource for StreamEvents {
    fn newest(&self) -> BoxFuture<'_, Result<Position, EventSourceError>> {
        Box::pin(async {
            let newest = self.find_newest().await.map_err(failed)?;
            let reader = Reader::new(self.context.clone(), self.cell.stream(), newest);
            reader.try_reading().await.map_err(failed)?;
            Ok(newest)
        })
    }

    fn events_above(&self, position: Position) -> BoxStream<'static, Result<(Position, Event), EventSourceError>> {
        let reader = Reader::new(self.context.clone(), self.cell.stream(), position);
        Box::pin(stream::try_unfold(reader, async |mut reader| Ok(Some((reader.next().await?, reader)))))
    }

    fn notices(&self) -> BoxStream<'static, Notice> {
        let (client, subject) = (self.context.client(), self.cell.all_notices());
        let notices = stream::once(async move { client.subscribe(subject).await }).filter_map(async |subscribed| {
            subscribed.inspect_err(|error| tracing::warn!(%error, "notices cannot be received")).ok()
        });
        let decoded = |notices: Subscriber| notices.filter_map(async |message| Notice::decode(message.payload).ok());
        Box::pin(notices.flat_map(decoded))
    }
}

impl StreamError {
    fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Refused { source: error.into() }
    }

    fn of_request(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::TimedOut => Self::Unanswered { source: error.into() },
            RequestErrorKind::NoResponders | RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                Self::failed(error)
            }
        }
    }

    fn of_consumer(error: ConsumerError) -> Self {
        match error.kind() {
            ConsumerErrorKind::TimedOut => Self::Unanswered { source: error.into() },
            _ => Self::failed(error),
        }
    }
}

/// What the stream holds.
async fn stream_state(context: &Context, stream: &str) -> Result<StreamState, StreamError> {
    let answer: Response<Info> = context
        .request(format!("STREAM.INFO.{stream}"), &serde_json::json!({}))
        .await
        .map_err(StreamError::of_request)?;
    match answer {
        Response::Ok(info) => Ok(info.state),
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Err(StreamError::NoStream { stream: stream.to_owned() })
        }
        Response::Err { error } => Err(StreamError::failed(error)),
    }
}

/// The event that a message of the stream carries.
fn event_id(headers: &HeaderMap) -> Option<EventId> {
    EventId::parse(headers.get(async_nats::header::NATS_MESSAGE_ID)?.as_str()).ok()
}
