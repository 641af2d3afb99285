//! Who is on a connection and what he may send: packets in, requests to the core, replies out. Never a socket.
//!
//! A connection is anonymous until it is bound to a user's session at the core. It may be bound again to another; a
//! failure to do so leaves it as it was. The caller of every request is the bound session, never what a packet says.
//! Each frame has a number, which with the connection's id names the attempt.

mod conversation;
mod identity;
mod message;
mod presence;
#[cfg(test)]
pub(crate) mod tests;
mod unanswered;

use std::sync::Arc;
use std::time::Duration;

use proto::ids::{SessionId, UserId};
use proto::reason::{Failure, Reason};
use proto::v1;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use self::unanswered::Unanswered;
use crate::address::ClientAddress;
use crate::connection::close::CloseReason;
use crate::connection::room::SMALL_MESSAGE_BYTES;
use crate::connection::send_queue::SendQueue;
use crate::core_client::{CoreClient, DEADLINE};
use crate::limits::{Limits, Place};
use crate::metrics;
use crate::packet::ReplyTo;
use crate::packet::client::{Envelope, NoFields, Payload, RequestName, decode_envelope};
use crate::packet::server::{self, Reply as ReplyPacket};
use crate::registry::{Binding, Registry};

/// How long a large reply may wait for its share of the common room, after the deadline for calls.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// What the sessions of a gateway share.
pub(crate) struct Services {
    pub(crate) core: CoreClient,
    pub(crate) registry: Arc<Registry>,
    pub(crate) limits: Arc<Limits>,
    /// The memory that all large replies may fill together, in bytes.
    pub(crate) reply_room: Arc<Semaphore>,
    /// The share of packets that are traced.
    pub(crate) trace_ratio: f64,
}

/// One connection's session.
pub(crate) struct Session {
    services: Arc<Services>,
    queue: Arc<SendQueue>,
    address: ClientAddress,
    frame: u64,
    state: State,
    /// A user whose connection the core may take this one for, though it is not bound to him; the latest, if there are
    /// more.
    doubtful: Option<UserId>,
    unanswered: Unanswered,
}

enum State {
    /// It may ping, sign up, connect and log in. It needs a place among the anonymous connections of its address.
    Anonymous { place: Option<Place> },
    /// It may send every request.
    Authenticated(Binding),
}

/// What became of a frame.
pub(crate) enum Handled {
    /// No reply.
    Silent,
    /// The reply to a request.
    Reply(Reply),
    /// The reply to a frame that is no packet.
    Malformed(Reply),
    /// The connection has to end, after the reply if there is one.
    End(Option<Reply>, CloseReason),
}

/// A packet to be sent.
pub(crate) struct Reply {
    pub(crate) text: String,
    /// A large one's share of the common room.
    pub(crate) share: Option<OwnedSemaphorePermit>,
}

/// The packet that answers a request, if it has one, or its failure.
type Answer = Result<Option<String>, Failure>;

impl Session {
    /// The session of a new connection from this address. `place` is its place among those without a session.
    pub(crate) fn new(services: Arc<Services>, queue: Arc<SendQueue>, address: ClientAddress, place: Place) -> Self {
        services.registry.add(&queue);
        let state = State::Anonymous { place: Some(place) };
        Self { services, queue, address, frame: 0, state, doubtful: None, unanswered: Unanswered::default() }
    }

    /// Whether it is bound.
    pub(crate) fn is_authenticated(&self) -> bool {
        matches!(self.state, State::Authenticated(_))
    }

    /// Handles one frame to its end, within about 4 s. Must not be dropped halfway unless the connection ends.
    pub(crate) async fn handle(&mut self, frame: &[u8]) -> Handled {
        self.frame += 1;
        let envelope = match beside_workers(frame.len(), || decode_envelope(frame)) {
            Ok(envelope) => envelope,
            Err(rejection) => {
                let reply = Reply::small(server::failure(&rejection.reply_to, &rejection.failure));
                return match rejection.failure.reason {
                    Reason::MalformedPacket => Handled::Malformed(reply),
                    _ => Handled::Reply(reply),
                };
            }
        };
        let started = Instant::now();
        let answer = match self.sampled_span(envelope.name) {
            Some(span) => self.answer(&envelope, started + DEADLINE).instrument(span).await,
            None => self.answer(&envelope, started + DEADLINE).await,
        };
        let reason = answer.as_ref().err().map(|failure| failure.reason);
        metrics::request_answered(envelope.name, reason, started.elapsed());
        let reply = match answer {
            Ok(None) => None,
            Ok(Some(text)) => Some(self.with_room(text, &envelope.reply_to, started + DEADLINE).await),
            Err(failure) => {
                if failure.reason == Reason::NotAuthenticated {
                    let core = self.services.core.by(started + DEADLINE);
                    self.unbind(&core).await;
                }
                Some(Reply::small(server::failure(&envelope.reply_to, &failure)))
            }
        };
        match reply {
            reply if self.has_no_place() => Handled::End(reply, CloseReason::Unauthenticated),
            Some(reply) => Handled::Reply(reply),
            None => Handled::Silent,
        }
    }

    /// Ends the binding to a session that is over, if it is this one.
    pub(crate) async fn forget(&mut self, session_id: SessionId) -> Handled {
        if self.binding().is_ok_and(|binding| binding.session_id == session_id) {
            let core = self.services.core.clone();
            self.unbind(&core).await;
        }
        if self.has_no_place() { Handled::End(None, CloseReason::Unauthenticated) } else { Handled::Silent }
    }

    /// The connection ended. It gets no events from the first poll on.
    pub(crate) async fn end(mut self) {
        self.services.registry.remove(self.queue.connection_id());
        let core = self.services.core.clone();
        let before = self.doubtful;
        self.unbind(&core).await;
        if let Some(user_id) = before {
            self.retract(&core, user_id).await;
        }
    }

    async fn answer(&mut self, envelope: &Envelope<'_>, deadline: Instant) -> Answer {
        if envelope.name.needs_session() {
            self.binding()?;
        }
        let core = self.services.core.by(deadline);
        let reply_to = &envelope.reply_to;
        match envelope.name {
            RequestName::Ping => {
                decode::<NoFields>(envelope)?;
                Ok(Some(server::response(reply_to, &ReplyPacket::PONG)))
            }
            RequestName::Connect => self.connect(&core, envelope).await,
            RequestName::UserCreate => self.create_user(&core, envelope).await,
            RequestName::UserLogin => self.log_in(&core, envelope).await,
            RequestName::UserLogout => self.log_out(&core, envelope).await,
            RequestName::UserSearch => self.search_users(&core, envelope).await,
            RequestName::GetUsersByIds => self.get_users(&core, envelope).await,
            RequestName::ActivityStatus => self.set_activity(&core, envelope).await,
            RequestName::ConversationCreate => self.create_conversation(&core, envelope).await,
            RequestName::ConversationUpdate => self.update_conversation(&core, envelope).await,
            RequestName::ConversationDelete => self.leave_conversation(&core, envelope).await,
            RequestName::ConversationList => self.list_conversations(&core, envelope).await,
            RequestName::GetParticipantsByCids => self.list_participants(&core, envelope).await,
            RequestName::Message => self.send_message(&core, envelope).await,
            RequestName::MessageList => self.list_messages(&core, envelope).await,
            RequestName::MessageRead => self.mark_read(&core, envelope).await,
            RequestName::Typing => self.send_typing(&core, envelope).await,
        }
    }

    /// What the connection is bound to.
    fn binding(&self) -> Result<Binding, Failure> {
        match &self.state {
            State::Authenticated(binding) => Ok(*binding),
            State::Anonymous { .. } => Err(Reason::NotAuthenticated.into()),
        }
    }

    /// Whether it lost its session, and its address has too many connections without one already.
    fn has_no_place(&self) -> bool {
        matches!(self.state, State::Anonymous { place: None })
    }

    /// The caller of a request that changes nothing.
    fn caller(&self) -> Result<v1::Caller, Failure> {
        Ok(caller(self.binding()?.session_id, None))
    }

    /// The caller of a request that changes something, with this frame as the attempt.
    fn attempting_caller(&self) -> Result<v1::Caller, Failure> {
        Ok(caller(self.binding()?.session_id, Some(self.attempt(self.frame))))
    }

    fn attempt(&self, frame: u64) -> v1::Attempt {
        v1::Attempt { connection_id: self.queue.connection_id().to_field(), frame }
    }

    /// A span for this packet if it is one of those that are traced.
    #[expect(clippy::disallowed_methods, reason = "any packet may be the one that is traced")]
    fn sampled_span(&self, name: RequestName) -> Option<Span> {
        let ratio = self.services.trace_ratio;
        // No span is made for the others: it would cost a microsecond even when it is thrown away.
        (ratio > 0.0 && rand::random::<f64>() < ratio).then(|| {
            tracing::info_span!(
                "packet",
                otel.name = name.as_str(),
                otel.kind = "server",
                connection.id = %self.queue.connection_id()
            )
        })
    }

    /// A reply with its share of the common room, or a failure when there is no room for it in time.
    async fn with_room(&self, text: String, reply_to: &ReplyTo, deadline: Instant) -> Reply {
        if text.len() as u64 <= SMALL_MESSAGE_BYTES {
            return Reply::small(text);
        }
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.services.reply_room);
        match timeout_at(deadline + ROOM_PATIENCE, room.acquire_many_owned(bytes)).await {
            Ok(Ok(share)) => Reply { text, share: Some(share) },
            Ok(Err(_)) | Err(_) => Reply::small(server::failure(reply_to, &Reason::TemporarilyUnavailable.into())),
        }
    }
}

impl Reply {
    fn small(text: String) -> Self {
        Self { text, share: None }
    }
}

/// Reads a request's payload.
fn decode<P: Payload>(envelope: &Envelope<'_>) -> Result<P, Failure> {
    beside_workers(envelope.payload_bytes(), || envelope.decode())
}

/// Parses so many bytes. Megabytes take tens of milliseconds, which other connections should not wait for.
fn beside_workers<T>(bytes: usize, parse: impl FnOnce() -> T) -> T {
    let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if bytes as u64 > SMALL_MESSAGE_BYTES && has_others { block_in_place(parse) } else { parse() }
}

fn caller(session_id: SessionId, attempt: Option<v1::Attempt>) -> v1::Caller {
    let session = v1::BoundSession { session_id: session_id.to_field() };
    v1::Caller { actor: Some(v1::caller::Actor::Session(session)), attempt, hop: 0 }
}
