//! Messages, read marks and typing.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use proto::ids::{Timestamp, UserId};
use proto::v1;
use proto::v1::messaging_server::Messaging as MessagingContract;
use proto::v1::send_stream_response::Outcome;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument;

use super::actor::Actors;
use super::role::Role;
use super::to_its_end;
use crate::domain::history::{History, ListMessages};
use crate::domain::message::SeenMessage;
use crate::domain::messaging::{Messaging, SendTyping};
use crate::domain::send_message::SendMessage;
use crate::metrics::MethodMetrics;

/// The method's name in metrics and traces, also of a send that comes in a stream.
const SEND: &str = "Messaging/Send";
/// How many sends of one stream may be under way; the next are read when some of them are answered.
const SENDS_AT_ONCE: usize = 1_024;

/// The `Messaging` service.
#[derive(Clone)]
pub struct MessagingService {
    actors: Actors,
    messaging: Messaging,
    history: History,
    streamed: MethodMetrics,
    stopping: CancellationToken,
}

impl MessagingService {
    /// The service over these use cases. Streams end when the token is cancelled, once what they brought is answered.
    pub fn new(actors: Actors, messaging: Messaging, history: History, stopping: CancellationToken) -> Self {
        Self { actors, messaging, history, streamed: MethodMetrics::of(SEND), stopping }
    }

    async fn send_one(&self, role: Role, request: v1::SendMessageRequest) -> Result<v1::SendMessageResponse, Status> {
        let this = self.clone();
        to_its_end(async move {
            let actor = this.actors.resolve(&role, request.caller).await?;
            let command = SendMessage {
                client_id: request.client_id,
                conversation_id: request.conversation_id,
                body: request.body,
                attachments: request.attachments.into_iter().map(Into::into).collect(),
                x_json: request.x_json,
                replied_message_id: request.replied_message_id,
                forwarded_message_id: request.forwarded_message_id,
                deleted_for: request.deleted_for,
                encrypted_message_type: request.encrypted_message_type,
            };
            let id = this.messaging.send(&actor, command).await?;
            Ok::<_, Status>(v1::SendMessageResponse {
                message_id: id.to_field(),
                created_at_ms: id.timestamp().millis(),
            })
        })
        .await
    }

    /// One send of a stream, measured and traced as a call of its own is.
    async fn send_streamed(self, role: Role, send: v1::SendStreamRequest) -> v1::SendStreamResponse {
        let started_at = Instant::now();
        let span = proto::trace::server_span(send.traceparent.as_deref(), SEND);
        let sent = self.send_one(role, send.request.unwrap_or_default()).instrument(span).await;
        self.streamed.answered(sent.as_ref().map_or_else(Status::code, |_| Code::Ok), started_at.elapsed());
        let outcome = sent.map_or_else(|status| Outcome::Failed(status.into()), Outcome::Sent);
        v1::SendStreamResponse { number: send.number, outcome: Some(outcome) }
    }
}

#[tonic::async_trait]
impl MessagingContract for MessagingService {
    async fn send(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let role = Role::of(request.extensions())?;
        self.send_one(role, request.into_inner()).await.map(Response::new)
    }

    type SendStreamStream = BoxStream<'static, Result<v1::SendStreamResponse, Status>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<v1::SendStreamRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let role = Role::of(request.extensions())?;
        let this = self.clone();
        let sends = request.into_inner().take_until(self.stopping.clone().cancelled_owned());
        let answers = sends.map(move |send| {
            let (this, role) = (this.clone(), role.clone());
            async move { Ok(this.send_streamed(role, send?).await) }
        });
        Ok(Response::new(answers.buffer_unordered(SENDS_AT_ONCE).boxed()))
    }

    async fn list(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let bounds = request.updated_at.unwrap_or_default();
        let command = ListMessages {
            conversation_id: request.conversation_id,
            ids: request.ids.map(|ids| ids.ids),
            limit: request.limit,
            after: bounds.after_ms.map(Timestamp::from_millis),
            before: bounds.before_ms.map(Timestamp::from_millis),
        };
        let page = self.history.list(&actor, command).await?;
        let messages = page.into_iter().map(|seen| listed(seen, actor.user_id)).collect();
        Ok(Response::new(v1::ListMessagesResponse { messages }))
    }

    async fn mark_read(&self, request: Request<v1::MarkReadRequest>) -> Result<Response<v1::MarkReadResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let request = request.into_inner();
        let actor = self.actors.resolve(&role, request.caller).await?;
        let history = self.history.clone();
        let ids = request.ids.map(|ids| ids.ids);
        to_its_end(async move { history.mark_read(&actor, request.conversation_id, ids).await }).await?;
        Ok(Response::new(v1::MarkReadResponse {}))
    }

    async fn send_typing(
        &self,
        request: Request<v1::SendTypingRequest>,
    ) -> Result<Response<v1::SendTypingResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let v1::SendTypingRequest { caller, conversation_id, state, client_id, at } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        self.messaging.send_typing(&actor, SendTyping { conversation_id, state, client_id, at }).await?;
        Ok(Response::new(v1::SendTypingResponse {}))
    }
}

/// The message with its status, which only its author is shown.
fn listed(seen: SeenMessage, viewer: UserId) -> v1::ListedMessage {
    let read = (seen.message.from == viewer).then_some(seen.is_read);
    v1::ListedMessage { message: Some(seen.message.into()), read }
}
