//! The closed list of failure reasons: protocol code, protocol status, gRPC code, and their way through a gRPC status.
//!
//! One reason is one condition and has one status. Codes are frozen: clients compare them.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use tonic_types::{ErrorDetails, StatusExt};

use crate::v1::CallStatus;

/// The domain of the `google.rpc.ErrorInfo` in a status made here.
const ERROR_DOMAIN: &str = "chat.v1";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal,)*) => {
        /// Why a request failed.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The protocol's code, for instance `cid_missing`.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The protocol's numeric status; on HTTP routes the status of the response.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }
        }
    };
}

reasons! {
    /// The frame or envelope cannot be read; zero or several names; a bad request id.
    MalformedPacket = 400 "malformed_packet",
    /// The HTTP body is not valid JSON or not an object.
    MalformedBody = 400 "malformed_body",
    /// The payload has the wrong JSON type.
    InvalidPayload = 400 "invalid_payload",
    /// The conversation of a request about a conversation is malformed, unknown or foreign.
    ConversationUnknown = 400 "conversation_unknown",
    /// The conversation's type does not allow this.
    ConversationTypeUnsuitable = 400 "conversation_type_unsuitable",
    /// The request needs a bound socket, or its session is over.
    NotAuthenticated = 401 "not_authenticated",
    /// Admin HTTP without the right key.
    AdminKeyRejected = 401 "admin_key_rejected",
    /// No credentials at all.
    CredentialsMissing = 401 "credentials_missing",
    /// Login unknown or password wrong, indistinguishable.
    WrongCredentials = 401 "wrong_credentials",
    /// The caller lacks the right.
    AccessDenied = 403 "access_denied",
    /// The packet's name is not in the table.
    UnknownRequest = 404 "unknown_request",
    /// The HTTP path or method is not served.
    RouteUnknown = 404 "route_unknown",
    /// The organization does not exist.
    OrganizationUnknown = 404 "organization_unknown",
    /// The conversation of a message-level request is malformed, unknown or foreign.
    ConversationNotFound = 404 "conversation_not_found",
    /// The caller is not in the conversation he wants to leave.
    ParticipantNotFound = 404 "participant_not_found",
    /// The organization's name or chosen id is taken.
    OrganizationExists = 409 "organization_exists",
    /// The HTTP body is over its limit.
    PayloadTooLarge = 413 "payload_too_large",
    /// A field check without a reason of its own; the field is always named.
    ValidationFailed = 422 "validation_failed",
    /// The access or refresh token is absent, unknown, past its time, revoked, of another device, or its user gone.
    SessionTokenExpired = 422 "session_token_expired",
    /// The device id is absent, empty or of a wrong type.
    DeviceIdMissing = 422 "device_id_missing",
    /// The login of a new user is absent or out of limits.
    LoginInvalid = 422 "login_invalid",
    /// The password of a new user is absent or out of limits.
    PasswordInvalid = 422 "password_invalid",
    /// Only one of login and password, or of wrong types.
    LoginFieldsMissing = 422 "login_fields_missing",
    /// The login, e-mail or phone is taken in the organization.
    AccountExists = 422 "account_exists",
    /// The caller's own id where another user is needed.
    UserInvalid = 422 "user_invalid",
    /// The conversation id is absent.
    CidMissing = 422 "cid_missing",
    /// The list of conversation ids is absent.
    CidsMissing = 422 "cids_missing",
    /// `type` is outside its set.
    TypeInvalid = 422 "type_invalid",
    /// A conversation without `type`.
    ConversationTypeMissing = 422 "conversation_type_missing",
    /// A group or channel without a name.
    ConversationNameMissing = 422 "conversation_name_missing",
    /// Participants are absent or empty where required.
    ParticipantsMissing = 422 "participants_missing",
    /// A group whose only valid member is its creator.
    ParticipantsUnresolved = 422 "participants_unresolved",
    /// More than one other user for a private chat.
    TooManyInPrivate = 422 "too_many_in_private",
    /// More than 50 entries in `participants`.
    TooManyInGroup = 422 "too_many_in_group",
    /// The membership would be over the conversation's maximum.
    ParticipantsLimit = 422 "participants_limit",
    /// The partner of a private chat does not exist.
    OpponentNotFound = 422 "opponent_not_found",
    /// The client-chosen message id is empty, not a string or over 255 characters.
    MessageIdInvalid = 422 "message_id_invalid",
    /// Neither a non-empty body nor an attachment.
    MessageEmpty = 422 "message_empty",
    /// The body is over 65 536 UTF-16 units.
    MessageBodyTooLong = 422 "message_body_too_long",
    /// More than 10 attachments.
    TooManyAttachments = 422 "too_many_attachments",
    /// An attachment is not an object, or a known field of it is of a wrong type or over its limit.
    AttachmentInvalid = 422 "attachment_invalid",
    /// `replied_message_id` is not a visible message of the conversation.
    ReplyTargetInvalid = 422 "reply_target_invalid",
    /// A marker in `x` that only the server may set.
    ReservedExtension = 422 "reserved_extension",
    /// Too many failed logins or sign-ups.
    RateLimited = 429 "rate_limited",
    /// An unexpected failure.
    InternalError = 500 "internal_error",
    /// The storage is down, a queue is full, or the deadline passed.
    TemporarilyUnavailable = 503 "temporarily_unavailable",
}

impl Reason {
    fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// The gRPC code that fits the protocol's status.
    fn grpc_code(self) -> tonic::Code {
        match self.status() {
            401 => tonic::Code::Unauthenticated,
            403 => tonic::Code::PermissionDenied,
            404 => tonic::Code::NotFound,
            409 => tonic::Code::AlreadyExists,
            429 => tonic::Code::ResourceExhausted,
            500 => tonic::Code::Internal,
            503 => tonic::Code::Unavailable,
            _ => tonic::Code::InvalidArgument,
        }
    }
}

/// A reason and, where one is at fault, the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What went wrong.
    pub reason: Reason,
    /// The offending payload field, under the protocol's name.
    pub field: Option<String>,
}

impl Failure {
    /// A failure of this field.
    pub fn of_field(reason: Reason, field: &str) -> Self {
        Self { reason, field: Some(field.to_owned()) }
    }

    /// The check of this field failed, and it has no reason of its own.
    pub fn validation(field: &str) -> Self {
        Self::of_field(Reason::ValidationFailed, field)
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, field: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.code())?;
        match &self.field {
            Some(field) => write!(f, " ({field})"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let mut metadata = HashMap::from([("status".to_owned(), failure.reason.status().to_string())]);
        let message = failure.to_string();
        if let Some(field) = failure.field {
            metadata.insert("field".to_owned(), field);
        }
        let details = ErrorDetails::with_error_info(failure.reason.code(), ERROR_DOMAIN, metadata);
        Self::with_error_details(failure.reason.grpc_code(), message, details)
    }
}

impl From<&tonic::Status> for Failure {
    /// The failure a status carries; one made by the transport counts as unavailable where a later try may succeed.
    fn from(status: &tonic::Status) -> Self {
        let carried =
            status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN).and_then(|mut info| {
                let reason = Reason::from_code(&info.reason)?;
                Some(Self { reason, field: info.metadata.remove("field") })
            });
        carried.unwrap_or_else(|| {
            let reason = match status.code() {
                tonic::Code::Unavailable
                | tonic::Code::DeadlineExceeded
                | tonic::Code::Cancelled
                | tonic::Code::ResourceExhausted => Reason::TemporarilyUnavailable,
                _ => Reason::InternalError,
            };
            Self::from(reason)
        })
    }
}

impl From<tonic::Status> for CallStatus {
    fn from(status: tonic::Status) -> Self {
        let details = Bytes::copy_from_slice(status.details());
        Self { code: status.code().into(), message: status.message().to_owned(), details }
    }
}

impl From<CallStatus> for tonic::Status {
    fn from(status: CallStatus) -> Self {
        Self::with_details(status.code.into(), status.message, status.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_survives_the_way_through_a_grpc_status() {
        for &reason in Reason::ALL {
            for failure in [Failure::from(reason), Failure::of_field(reason, "cid")] {
                let status = tonic::Status::from(failure.clone());
                assert_eq!(Failure::from(&status), failure);
                let streamed = tonic::Status::from(CallStatus::from(status));
                assert_eq!(Failure::from(&streamed), failure);
            }
        }
    }

    #[test]
    fn codes_are_distinct() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }

    #[test]
    fn a_status_of_the_transport_says_whether_a_later_try_may_succeed() {
        assert_eq!(Failure::from(&tonic::Status::unavailable("gone")).reason, Reason::TemporarilyUnavailable);
        assert_eq!(Failure::from(&tonic::Status::unknown("odd")).reason, Reason::InternalError);
    }
}
