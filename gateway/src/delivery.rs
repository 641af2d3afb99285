//! From the event source to send queues: every event once to every socket of its recipients, in the source's order.
//!
//! One task does it for the whole gateway, so all sockets see one order. A step's packet is rendered and framed once, by
//! the first socket that wants it. The connection that caused an event has its reply and gets only the steps
//! that say so. Delivery never waits for a socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use proto::ids::{ConnectionId, SessionId, UserId};
use proto::v1::{Event, Notice, step};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::connection::close::CloseReason;
use crate::connection::frame;
use crate::events::{EventSource, EventSourceError, Position};
use crate::metrics;
use crate::packet::server;
use crate::readiness::Readiness;
use crate::registry::{Registry, close_spread};

/// How long to wait before a source that failed is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that the source cannot be read.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Over which time sockets are closed when events may be missing.
const HISTORY_LOST_SPREAD: Duration = Duration::from_secs(5);

/// Hands events to local sockets.
pub(crate) struct Delivery {
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) readiness: Readiness,
    pub(crate) tracker: TaskTracker,
}

impl Delivery {
    /// Delivers for ever; may be dropped at any time. The gateway is ready once the position is taken.
    pub(crate) async fn run(self) -> Infallible {
        let mut position = self.newest().await;
        let mut notices = self.source.notices();
        self.readiness.set_ready();
        loop {
            match self.deliver_above(&mut position, &mut notices).await {
                EventSourceError::HistoryLost => position = self.start_over(position).await,
                EventSourceError::Failed(source) => {
                    metrics::event_source_failed();
                    warn!(error = &*source, position = position.number(), "reading events failed, trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Delivers what lies above the position and moves it along, until the source fails.
    async fn deliver_above(
        &self,
        position: &mut Position,
        notices: &mut BoxStream<'static, Notice>,
    ) -> EventSourceError {
        let mut events = self.source.events_above(*position);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok((at, event))) => {
                        let span = proto::trace::event_span(event.traceparent.as_deref(), "deliver");
                        span.in_scope(|| self.deliver(&event));
                        *position = at;
                    }
                    Some(Err(error)) => return error,
                    None => return EventSourceError::Failed("the stream of events ended".into()),
                },
                Some(notice) = notices.next() => self.deliver_notice(&notice),
            }
        }
    }

    /// Has every socket of now closed, since it may miss events, and goes on from the newest event.
    async fn start_over(&self, lost: Position) -> Position {
        metrics::history_lost();
        // Taken before the list of sockets: one that is bound after the list was made misses nothing above it.
        let position = self.newest().await;
        error!(
            position = lost.number(),
            newest = position.number(),
            "events are lost: every socket is closed for its client to ask for what it missed"
        );
        let connections = self.registry.all();
        self.tracker.spawn(async move {
            close_spread(&connections, CloseReason::HistoryLost, HISTORY_LOST_SPREAD).await;
        });
        position
    }

    async fn newest(&self) -> Position {
        let mut said_at: Option<Instant> = None;
        loop {
            match self.source.newest().await {
                Ok(position) => return position,
                Err(error) => {
                    metrics::event_source_failed();
                    if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        said_at = Some(Instant::now());
                        warn!(error = &error as &dyn std::error::Error, "the newest event's position is not known yet");
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn deliver(&self, event: &Event) {
        metrics::event_read();
        let origin = event.attempt.as_ref().and_then(|attempt| ConnectionId::try_from(&attempt.connection_id[..]).ok());
        let mut recipient_ids: &[Bytes] = &[];
        for step in &event.steps {
            if !step.same_recipients {
                recipient_ids = &step.recipient_ids;
            }
            let left_out = origin.filter(|_| !step.to_origin);
            match &step.fact {
                Some(step::Fact::SessionsRevoked(revoked)) => {
                    let sessions = revoked.session_ids.iter().filter_map(|id| SessionId::try_from(&id[..]).ok());
                    sessions.for_each(|session_id| self.registry.revoke(session_id));
                }
                Some(fact) => self.push(recipient_ids, left_out, || server::step(fact)),
                // A step of a newer version.
                None => {}
            }
        }
    }

    fn deliver_notice(&self, notice: &Notice) {
        metrics::notice_read();
        if let Some(fact) = &notice.fact {
            self.push(&notice.recipient_ids, None, || Some(server::notice(fact)));
        }
    }

    fn push(&self, recipient_ids: &[Bytes], origin: Option<ConnectionId>, render: impl Fn() -> Option<String>) {
        let frame = std::cell::OnceCell::new();
        let get = || frame.get_or_init(|| render().map(|text| frame::text(text.into_bytes()))).as_ref();
        let recipients = recipient_ids.iter().filter_map(|id| UserId::try_from(&id[..]).ok());
        metrics::packet_delivered(recipients.map(|user_id| self.registry.push(user_id, origin, get)).sum());
    }
}

#[cfg(test)]
mod tests;
