//! The error object, and the one table of what each failure says to a person.

use proto::reason::{Failure, Reason};
use serde::Serialize;

/// The `error` of every failed request, on sockets and, where JSON is asked for, on HTTP.
#[derive(Serialize)]
pub struct ErrorObject<'a> {
    status: u16,
    code: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl<'a> From<&'a Failure> for ErrorObject<'a> {
    fn from(failure: &'a Failure) -> Self {
        let reason = failure.reason;
        Self {
            status: reason.status(),
            code: reason.code(),
            message: sentence(reason),
            field: failure.field.as_deref(),
        }
    }
}

/// What went wrong, in one sentence that clients show as it is.
///
/// The word `expired` stands in the sentence of [`Reason::SessionTokenExpired`] and in no other: a client that reads it
/// in the answer to a login forgets its user.
pub const fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::MalformedPacket => "The packet could not be read.",
        Reason::MalformedBody => "The request body is not a JSON object.",
        Reason::InvalidPayload => "The content of the request has the wrong form.",
        Reason::ConversationUnknown => "There is no such conversation.",
        Reason::ConversationTypeUnsuitable => "This kind of conversation does not allow that.",
        Reason::NotAuthenticated => "Log in first.",
        Reason::AdminKeyRejected => "The admin key is missing or wrong.",
        Reason::CredentialsMissing => "A login with a password, or a token, is needed.",
        Reason::WrongCredentials => "The login or the password is wrong.",
        Reason::AccessDenied => "You do not have the right to do this.",
        Reason::UnknownRequest => "This request is not known here.",
        Reason::RouteUnknown => "There is nothing at this address.",
        Reason::OrganizationUnknown => "This organization does not exist.",
        Reason::ConversationNotFound => "This conversation does not exist.",
        Reason::ParticipantNotFound => "You are not in this conversation.",
        Reason::OrganizationExists => "An organization of this name or id exists already.",
        Reason::PayloadTooLarge => "The request body is too large.",
        Reason::ValidationFailed => "One of the values is missing or not allowed.",
        Reason::SessionTokenExpired => "Your session has expired, please log in again.",
        Reason::DeviceIdMissing => "A device identifier is needed.",
        Reason::LoginInvalid => "The login must have 3 to 40 characters.",
        Reason::PasswordInvalid => "The password must have 3 to 40 characters.",
        Reason::LoginFieldsMissing => "Login and password are needed together.",
        Reason::AccountExists => "This login, e-mail address or phone number is taken.",
        Reason::UserInvalid => "Another user is needed here.",
        Reason::CidMissing => "Say which conversation is meant.",
        Reason::CidsMissing => "Say which conversations are meant.",
        Reason::TypeInvalid => "This type does not exist.",
        Reason::ConversationTypeMissing => "A conversation needs a type.",
        Reason::ConversationNameMissing => "A group or channel needs a name.",
        Reason::ParticipantsMissing => "Choose at least one participant.",
        Reason::ParticipantsUnresolved => "None of the chosen participants exists.",
        Reason::TooManyInPrivate => "A private chat is between two people.",
        Reason::TooManyInGroup => "At most 50 participants can be named at once.",
        Reason::ParticipantsLimit => "The conversation would have too many participants.",
        Reason::OpponentNotFound => "The other user does not exist.",
        Reason::MessageIdInvalid => "The message's own id must be a text of 1 to 255 characters.",
        Reason::MessageEmpty => "A message needs a text or an attachment.",
        Reason::MessageBodyTooLong => "The text is too long for one message.",
        Reason::TooManyAttachments => "A message can have at most 10 attachments.",
        Reason::AttachmentInvalid => "One of the attachments is not in order.",
        Reason::ReplyTargetInvalid => "The message replied to is not in this conversation.",
        Reason::ReservedExtension => "Only the server may send this kind of message.",
        Reason::RateLimited => "Too many attempts, please wait a while.",
        Reason::InternalError => "Something went wrong on our side.",
        Reason::TemporarilyUnavailable => "The service is not available right now, please try again.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ended_session_says_expired() {
        for &reason in Reason::ALL {
            let says_so = sentence(reason).to_lowercase().contains("expired");
            assert_eq!(says_so, reason == Reason::SessionTokenExpired, "{}", reason.code());
        }
        assert!(sentence(Reason::SessionTokenExpired).contains("expired"), "in lower case");
    }

    #[test]
    fn every_sentence_is_one_and_says_something() {
        for &reason in Reason::ALL {
            let sentence = sentence(reason);
            assert!(sentence.ends_with('.') && sentence.len() > 10, "{sentence:?}");
            assert_eq!(sentence.matches('.').count(), 1, "{sentence:?}");
        }
    }

    #[test]
    fn the_object_names_the_field_where_there_is_one() {
        let with = serde_json::to_string(&ErrorObject::from(&Failure::validation("limit"))).unwrap();
        assert_eq!(
            with,
            r#"{"status":422,"code":"validation_failed","message":"One of the values is missing or not allowed.","field":"limit"}"#
        );
        let without = serde_json::to_string(&ErrorObject::from(&Failure::from(Reason::NotAuthenticated))).unwrap();
        assert_eq!(without, r#"{"status":401,"code":"not_authenticated","message":"Log in first."}"#);
    }
}
