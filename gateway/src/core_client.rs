//! Typed calls to the core: one method per call the gateway makes.
//!
//! In: a request of the contract. Out: its response, or the [`Failure`] to tell the client. Every call has a deadline,
//! carries the trace it is part of, and reports a failure of the transport to the log, at most one a second.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use proto::reason::{Failure, Reason};
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;
use proto::v1::identity_client::IdentityClient;
use proto::v1::messaging_client::MessagingClient;
use proto::v1::presence_client::PresenceClient;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tracing::warn;

use crate::metrics;

/// How long the core has for one call. A client waits 5 s at most; a frame takes less than 4 s in all.
pub const DEADLINE: Duration = Duration::from_millis(3_800);

/// Lines about failed calls per second: strangers can make calls fail by the thousand, when they fill the core's queues.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// What carries the calls: a channel to another process, or the core's own service in this one.
pub type CoreService = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    Box<dyn std::error::Error + Send + Sync>,
>;

/// The core, as the gateway sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoreClient {
    service: BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, CallError>,
    /// By when every call has to be over; none: within [`DEADLINE`].
    deadline: Option<Instant>,
}

/// What the service failed with. A type of its own: with the bare box, the compiler cannot see that calls are `Send`.
#[derive(Debug, thiserror::Error)]
#[error("the core could not be reached")]
struct CallError(#[source] Box<dyn std::error::Error + Send + Sync>);

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $client:ident.$method:ident($request:ident) -> $response:ident;)*) => {
        impl CoreClient {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the core answers, or `temporarily_unavailable` when it did not answer in time.
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response, Failure> {
                    let mut client = $client::new(self.service.clone())
                        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
                    // Boxed: a call's state is a kilobyte and more, and would sit in every caller's future.
                    let patience = self.patience();
                    let request = prepare(request, patience);
                    answer(stringify!($name), patience, Box::pin(async move { client.$method(request).await })).await
                }
            )*
        }
    };
}

calls! {
    /// Fails with `admin_key_rejected` unless the key is the configured one.
    check_admin_key: IdentityClient.check_admin_key(CheckAdminKeyRequest) -> CheckAdminKeyResponse;
    /// Creates an organization.
    create_organization: IdentityClient.create_organization(CreateOrganizationRequest) -> CreateOrganizationResponse;
    /// Creates a user.
    create_user: IdentityClient.create_user(CreateUserRequest) -> CreateUserResponse;
    /// Opens a session for a login and a password.
    log_in: IdentityClient.log_in(LogInRequest) -> LogInResponse;
    /// Gives a new access token for an older token.
    renew_session: IdentityClient.renew_session(RenewSessionRequest) -> RenewSessionResponse;
    /// Says which session an access token belongs to.
    verify_access: IdentityClient.verify_access(VerifyAccessRequest) -> VerifyAccessResponse;
    /// Ends every session of the caller's device.
    log_out: IdentityClient.log_out(LogOutRequest) -> LogOutResponse;
    /// Searches users by a part of their names.
    search_users: IdentityClient.search_users(SearchUsersRequest) -> SearchUsersResponse;
    /// Looks users up by id.
    get_users: IdentityClient.get_users(GetUsersRequest) -> GetUsersResponse;
    /// Creates a conversation.
    create_conversation: ConversationsClient.create(CreateConversationRequest) -> CreateConversationResponse;
    /// Updates a conversation.
    update_conversation: ConversationsClient.update(UpdateConversationRequest) -> UpdateConversationResponse;
    /// Takes the caller out of a conversation.
    leave_conversation: ConversationsClient.leave(LeaveConversationRequest) -> LeaveConversationResponse;
    /// Lists the caller's conversations.
    list_conversations: ConversationsClient.list(ListConversationsRequest) -> ListConversationsResponse;
    /// Lists who is in conversations.
    list_participants: ConversationsClient.list_participants(ListParticipantsRequest) -> ListParticipantsResponse;
    /// Sends a message.
    send_message: MessagingClient.send(SendMessageRequest) -> SendMessageResponse;
    /// Lists messages.
    list_messages: MessagingClient.list(ListMessagesRequest) -> ListMessagesResponse;
    /// Marks messages as read.
    mark_read: MessagingClient.mark_read(MarkReadRequest) -> MarkReadResponse;
    /// Tells the other members that the caller types.
    send_typing: MessagingClient.send_typing(SendTypingRequest) -> SendTypingResponse;
    /// Says that a connection is bound to a session.
    bind: PresenceClient.bind(BindRequest) -> BindResponse;
    /// Says that a connection is bound no longer.
    unbind: PresenceClient.unbind(UnbindRequest) -> UnbindResponse;
    /// Marks a bound connection as one in the background.
    set_inactive: PresenceClient.set_inactive(SetInactiveRequest) -> SetInactiveResponse;
}

impl CoreClient {
    /// Calls through this service.
    pub fn new(service: CoreService) -> Self {
        Self { service: BoxCloneSyncService::new(service.map_err(CallError)), deadline: None }
    }

    /// The same core, for calls that all have to be over by a deadline.
    pub fn by(&self, deadline: Instant) -> Self {
        Self { service: self.service.clone(), deadline: Some(deadline) }
    }

    /// How long a call that begins now may take.
    fn patience(&self) -> Duration {
        self.deadline.map_or(DEADLINE, |deadline| DEADLINE.min(deadline.saturating_duration_since(Instant::now())))
    }
}

fn prepare<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    proto::trace::inject(request.metadata_mut());
    request
}

async fn answer<T>(
    call: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match timeout(patience, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            // One with details is the core's answer, and the core's to log.
            if status.get_details_error_info().is_none() {
                metrics::core_call_failed(call);
                if is_worth_a_line() {
                    warn!(call, code = ?status.code(), error = status.message(), "call to the core failed");
                }
            }
            Err(Failure::from(&status))
        }
        Err(_) => {
            metrics::core_call_failed(call);
            if is_worth_a_line() {
                warn!(call, "call to the core took too long");
            }
            Err(Reason::TemporarilyUnavailable.into())
        }
    }
}

/// Whether a failed call shall be logged; all of them are counted.
fn is_worth_a_line() -> bool {
    static LINES: LazyLock<DefaultDirectRateLimiter> =
        LazyLock::new(|| RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)));
    LINES.check().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failed_calls_are_few_lines() {
        let lines = (0..10_000).filter(|_| is_worth_a_line()).count();
        assert!(lines < 100, "{lines}");
    }
}
