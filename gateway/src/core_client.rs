//! Typed calls to the core: one method per call the gateway makes.
//!
//! In: a request of the contract. Out: its response, or the [`Failure`] to tell the client. Every call has a deadline,
//! carries the trace it is part of, and reports a failure of the transport to the log, at most one a second.
//!
//! In standalone the core is in this process, and a call is one call. Otherwise it has [`replicas`]: a call goes to the
//! one that its conversation or user prefers, and what `proto` says of its method decides whether it is made once more
//! when it fails on its way. The sends to one replica share a stream.

pub mod replicas;
mod request;
mod sends;

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use proto::reason::{Failure, Reason};
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;
use proto::v1::identity_client::IdentityClient;
use proto::v1::messaging_client::MessagingClient;
use proto::v1::presence_client::PresenceClient;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tracing::warn;

use self::replicas::{Replicas, Route};
use self::request::CoreRequest;
use crate::metrics;

/// How long the core has for one call, on however many replicas. A client waits 5 s at most; a frame takes less than 4 s
/// in all.
pub const DEADLINE: Duration = Duration::from_millis(3_800);

/// How many replicas a call may reach: after the second its time is over anyway.
const MAX_REACHED: u32 = 2;

/// Lines about failed calls per second: strangers can make calls fail by the thousand, when they fill the core's queues.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// What carries the calls within this process: the core's own service.
pub type CoreService = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    Box<dyn Error + Send + Sync>,
>;

/// What carries one call.
type Carrier = BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, CallError>;

/// The core, as the gateway sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoreClient {
    core: Core,
    /// By when every call has to be over; none: within [`DEADLINE`].
    deadline: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Core {
    InProcess(Carrier),
    Remote(Arc<Replicas>),
}

/// What the service failed with. A type of its own: with the bare box, the compiler cannot see that calls are `Send`.
#[derive(Debug, thiserror::Error)]
#[error("the core could not be reached")]
struct CallError(#[source] Box<dyn Error + Send + Sync>);

/// A call of the contract.
#[derive(Clone, Copy)]
struct Call {
    name: &'static str,
    repeat: Repeat,
}

/// When `proto` allows to make a call once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    /// Also when it may have taken effect.
    Always,
    /// Only if the request never left.
    IfNeverLeft,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $visibility:vis $repeat:ident $name:ident: $client:ident.$method:ident($request:ident) -> $response:ident;)*) => {
        impl CoreClient {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the core answers, or `temporarily_unavailable` when it did not answer in time.
                $visibility async fn $name(&self, request: v1::$request) -> Result<v1::$response, Failure> {
                    let call = Call { name: stringify!($name), repeat: Repeat::$repeat };
                    self.call(call, request, |carrier, request| {
                        let mut client = $client::new(carrier)
                            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
                            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
                        // Boxed: a call's state is a kilobyte and more, and would sit in every caller's future.
                        Box::pin(async move { client.$method(request).await.map(Response::into_inner) })
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    /// Fails with `admin_key_rejected` unless the key is the configured one.
    pub Always check_admin_key: IdentityClient.check_admin_key(CheckAdminKeyRequest) -> CheckAdminKeyResponse;
    /// Creates an organization.
    pub IfNeverLeft create_organization:
        IdentityClient.create_organization(CreateOrganizationRequest) -> CreateOrganizationResponse;
    /// Creates a user.
    pub IfNeverLeft create_user: IdentityClient.create_user(CreateUserRequest) -> CreateUserResponse;
    /// Opens a session for a login and a password.
    pub IfNeverLeft log_in: IdentityClient.log_in(LogInRequest) -> LogInResponse;
    /// Gives a new access token for an older token.
    pub IfNeverLeft renew_session: IdentityClient.renew_session(RenewSessionRequest) -> RenewSessionResponse;
    /// Says which session an access token belongs to.
    pub Always verify_access: IdentityClient.verify_access(VerifyAccessRequest) -> VerifyAccessResponse;
    /// Ends every session of the caller's device.
    pub Always log_out: IdentityClient.log_out(LogOutRequest) -> LogOutResponse;
    /// Searches users by a part of their names.
    pub Always search_users: IdentityClient.search_users(SearchUsersRequest) -> SearchUsersResponse;
    /// Looks users up by id.
    pub Always get_users: IdentityClient.get_users(GetUsersRequest) -> GetUsersResponse;
    /// Creates a conversation.
    pub Always create_conversation: ConversationsClient.create(CreateConversationRequest) -> CreateConversationResponse;
    /// Updates a conversation.
    pub Always update_conversation: ConversationsClient.update(UpdateConversationRequest) -> UpdateConversationResponse;
    /// Takes the caller out of a conversation.
    pub Always leave_conversation: ConversationsClient.leave(LeaveConversationRequest) -> LeaveConversationResponse;
    /// Lists the caller's conversations.
    pub Always list_conversations: ConversationsClient.list(ListConversationsRequest) -> ListConversationsResponse;
    /// Lists who is in conversations.
    pub Always list_participants:
        ConversationsClient.list_participants(ListParticipantsRequest) -> ListParticipantsResponse;
    /// Sends a message in a call of its own.
    Always send_alone: MessagingClient.send(SendMessageRequest) -> SendMessageResponse;
    /// Lists messages.
    pub Always list_messages: MessagingClient.list(ListMessagesRequest) -> ListMessagesResponse;
    /// Marks messages as read.
    pub Always mark_read: MessagingClient.mark_read(MarkReadRequest) -> MarkReadResponse;
    /// Tells the other members that the caller types.
    pub IfNeverLeft send_typing: MessagingClient.send_typing(SendTypingRequest) -> SendTypingResponse;
    /// Says that a connection is bound to a session.
    pub Always bind: PresenceClient.bind(BindRequest) -> BindResponse;
    /// Says that a connection is bound no longer.
    pub Always unbind: PresenceClient.unbind(UnbindRequest) -> UnbindResponse;
    /// Marks a bound connection as one in the background.
    pub Always set_inactive: PresenceClient.set_inactive(SetInactiveRequest) -> SetInactiveResponse;
}

impl CoreClient {
    /// Calls through this service, which is in the same process.
    pub fn new(service: CoreService) -> Self {
        Self { core: Core::InProcess(Carrier::new(service.map_err(CallError))), deadline: None }
    }

    /// Calls these replicas, which somebody has to [watch](Replicas::watch).
    pub fn remote(replicas: Arc<Replicas>) -> Self {
        Self { core: Core::Remote(replicas), deadline: None }
    }

    /// The same core, for calls that all have to be over by a deadline.
    pub fn by(&self, deadline: Instant) -> Self {
        Self { core: self.core.clone(), deadline: Some(deadline) }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// What the core answers, or `temporarily_unavailable` when it did not answer in time.
    pub async fn send_message(&self, request: v1::SendMessageRequest) -> Result<v1::SendMessageResponse, Failure> {
        let Core::Remote(replicas) = &self.core else { return self.send_alone(request).await };
        let call = Call { name: "send_message", repeat: Repeat::Always };
        let send =
            |route: Route, request, _| -> BoxFuture<'static, _> { Box::pin(route.sends.send(route.channel, request)) };
        let outcome = call_replicas(replicas, call, self.call_deadline(), request, send).await;
        outcome.map_err(|error| error.report(call.name))
    }

    /// When a call that begins now has to be over.
    fn call_deadline(&self) -> Instant {
        let latest = Instant::now() + DEADLINE;
        self.deadline.map_or(latest, |deadline| deadline.min(latest))
    }

    async fn call<Q: CoreRequest, A>(
        &self,
        call: Call,
        request: Q,
        send: impl Fn(Carrier, Request<Q>) -> BoxFuture<'static, Result<A, Status>>,
    ) -> Result<A, Failure> {
        let deadline = self.call_deadline();
        let outcome = match &self.core {
            Core::InProcess(carrier) => {
                let patience = deadline.saturating_duration_since(Instant::now());
                in_time(patience, send(carrier.clone(), prepare(request, patience))).await
            }
            Core::Remote(replicas) => {
                let send = |route: Route, request, patience| {
                    let mut request = prepare(request, patience);
                    request.metadata_mut().insert("authorization", replicas.token().authorization().clone());
                    let carrier = Carrier::new(route.channel.map_err(|error| CallError(error.into())));
                    send(carrier, request)
                };
                call_replicas(replicas, call, deadline, request, send).await
            }
        };
        outcome.map_err(|error| error.report(call.name))
    }
}

/// Makes a call on the replica it prefers, and where that is allowed and of use, on the next.
async fn call_replicas<Q: CoreRequest, A>(
    replicas: &Replicas,
    call: Call,
    deadline: Instant,
    mut request: Q,
    send: impl Fn(Route, Q, Duration) -> BoxFuture<'static, Result<A, Status>>,
) -> Result<A, Unanswered> {
    let key = request.key();
    let (mut hop, mut reached) = (0, 0);
    let mut route = timeout_at(deadline, replicas.route(key, None)).await.map_err(|_| Unanswered::NoReplica)?;
    loop {
        request.set_hop(hop);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let is_last = call.repeat == Repeat::IfNeverLeft || reached + 1 == MAX_REACHED;
        let patience = if is_last { remaining } else { remaining.min(replicas.deadline()) };
        let failed = route.replica;
        let error = match in_time(patience, send(route, request.clone(), patience)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let trouble = error.trouble();
        match trouble {
            Trouble::Answered => return Err(error),
            Trouble::NeverLeft | Trouble::Broken => replicas.found_broken(failed),
            Trouble::Slow => replicas.found_slow(failed),
            Trouble::Unavailable => {}
        }
        if trouble != Trouble::NeverLeft {
            reached += 1;
            if call.repeat == Repeat::IfNeverLeft || reached == MAX_REACHED {
                return Err(error);
            }
        }
        let next = match trouble {
            // It has said that it cannot: there is no sense in asking it again.
            Trouble::Unavailable => replicas.route_elsewhere(key, Some(failed)),
            _ => timeout_at(deadline, replicas.route(key, Some(failed))).await.ok(),
        };
        let Some(next) = next else { return Err(error) };
        route = next;
        hop += 1;
        metrics::core_call_repeated(call.name);
    }
}

fn prepare<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    proto::trace::inject(request.metadata_mut());
    request
}

/// Why a call has no answer, or only a bad one.
enum Unanswered {
    Status(Status),
    TookTooLong,
    NoReplica,
}

/// What a failed call says about the replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// None: it has answered, and another would answer the same.
    Answered,
    /// It answered that it cannot serve at the moment.
    Unavailable,
    /// The request was not even sent.
    NeverLeft,
    /// The connection broke before the answer.
    Broken,
    /// It did not answer in time.
    Slow,
}

async fn in_time<A>(patience: Duration, answer: BoxFuture<'static, Result<A, Status>>) -> Result<A, Unanswered> {
    match timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(Unanswered::Status(status)),
        Err(_) => Err(Unanswered::TookTooLong),
    }
}

impl Unanswered {
    fn trouble(&self) -> Trouble {
        match self {
            Self::NoReplica => Trouble::NeverLeft,
            Self::TookTooLong => Trouble::Slow,
            Self::Status(status) => match (status.source(), status.code()) {
                (Some(source), _) if never_left(source) => Trouble::NeverLeft,
                (Some(_), _) => Trouble::Broken,
                (None, Code::Unavailable) => Trouble::Unavailable,
                // With no word of the core's own: its server cut the call off at the deadline it was given.
                (None, Code::Cancelled | Code::DeadlineExceeded) if status.get_details_error_info().is_none() => {
                    Trouble::Slow
                }
                (None, _) => Trouble::Answered,
            },
        }
    }

    /// Says in metrics and log what went wrong on the way; what the client is told.
    fn report(self, call: &'static str) -> Failure {
        let failure = match &self {
            Self::Status(status) => {
                // One with details is the core's answer, and the core's to log.
                if status.get_details_error_info().is_some() {
                    return Failure::from(status);
                }
                if is_worth_a_line() {
                    warn!(call, code = ?status.code(), error = status.message(), "call to the core failed");
                }
                // Whatever code a broken connection is given: a later try may succeed.
                if status.source().is_some() { Reason::TemporarilyUnavailable.into() } else { Failure::from(status) }
            }
            Self::TookTooLong => {
                if is_worth_a_line() {
                    warn!(call, "call to the core took too long");
                }
                Reason::TemporarilyUnavailable.into()
            }
            Self::NoReplica => {
                if is_worth_a_line() {
                    warn!(call, "no core service answers (CORE_ADDRESSES)");
                }
                Reason::TemporarilyUnavailable.into()
            }
        };
        metrics::core_call_failed(call);
        failure
    }
}

/// Whether an error of the transport says that the request was not sent.
fn never_left(error: &(dyn Error + 'static)) -> bool {
    // A canceled request is one that the connection had not taken when it ended.
    let is_canceled = |error: &hyper::Error| error.is_canceled();
    error.is::<tonic::ConnectError>()
        || error.downcast_ref().is_some_and(is_canceled)
        || error.source().is_some_and(never_left)
}

/// Whether a failed call shall be logged; all of them are counted.
fn is_worth_a_line() -> bool {
    static LINES: LazyLock<DefaultDirectRateLimiter> =
        LazyLock::new(|| RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)));
    LINES.check().is_ok()
}

#[cfg(test)]
mod tests;
