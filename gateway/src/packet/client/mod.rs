//! Frames in: what a client may send, as types.
//!
//! [`decode_envelope`] finds the request's name, its payload and how to reply; [`Envelope::decode`] then reads the
//! payload into the packet of that name. Only JSON types are checked here, and what the contract with the core cannot
//! express; presence, lengths and meaning are the core's to check, for it has other callers too. The order of checks is
//! the protocol's: first failure wins, fields in the order of the request's table.

mod conversation;
pub(crate) mod fields;
mod message;
mod user;

#[cfg(test)]
mod any_frame;
#[cfg(test)]
mod tests;

pub use conversation::{ConversationCreatePacket, ConversationListPacket, GetParticipantsByCidsPacket};
pub use message::{MessageListPacket, MessagePacket, MessageReadPacket, TypingPacket};
use proto::reason::{Failure, Reason};
use serde_json::{Map, Value};
pub use user::{
    ActivityStatusPacket, ConnectPacket, GetUsersByIdsPacket, UserCreatePacket, UserLoginPacket, UserSearchPacket,
};

use self::fields::Fields;
use super::reply_to::{Form, ReplyTo, RequestId};

/// A frame whose request is known, its payload not yet read.
pub struct Envelope {
    /// What is asked.
    pub name: RequestName,
    /// How to reply.
    pub reply_to: ReplyTo,
    payload: Value,
}

impl Envelope {
    /// Reads the payload. Unknown fields are ignored, `null` counts as absent.
    ///
    /// # Errors
    /// `invalid_payload` for a payload that is no object, else the failure of the first field of a wrong type.
    pub fn decode<P: Payload>(&self) -> Result<P, Failure> {
        match &self.payload {
            Value::Object(payload) => P::decode(&Fields::new(payload)),
            Value::Null => P::decode(&Fields::new(&Map::new())),
            _ => Err(Reason::InvalidPayload.into()),
        }
    }
}

/// A frame that cannot be taken for a request.
#[derive(Debug)]
pub struct Rejection {
    /// `malformed_packet` or `unknown_request`.
    pub failure: Failure,
    /// How to reply; always in `response`, with the id if it could be read.
    pub reply_to: ReplyTo,
}

impl Rejection {
    fn new(reason: Reason, request_id: Option<RequestId>) -> Self {
        Self { failure: reason.into(), reply_to: ReplyTo::request(request_id) }
    }
}

/// A payload that can be read from a packet's fields.
pub trait Payload: Sized {
    /// Reads the fields in the order of the request's table.
    ///
    /// # Errors
    /// The failure of the first field of a wrong type.
    fn decode(fields: &Fields<'_>) -> Result<Self, Failure>;
}

/// The payload of a request that has no fields: `ping`, `user_logout`.
pub struct NoFields;

impl Payload for NoFields {
    fn decode(_fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self)
    }
}

macro_rules! request_names {
    ($($name:ident = $text:literal,)*) => {
        /// The requests that are served, under the protocol's names.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum RequestName {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl RequestName {
            /// Every request.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as clients write it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

request_names! {
    Ping = "ping",
    Connect = "connect",
    UserCreate = "user_create",
    UserLogin = "user_login",
    UserLogout = "user_logout",
    UserSearch = "user_search",
    GetUsersByIds = "get_users_by_ids",
    ActivityStatus = "activity_status",
    ConversationCreate = "conversation_create",
    ConversationList = "conversation_list",
    GetParticipantsByCids = "get_participants_by_cids",
    Message = "message",
    MessageList = "message_list",
    MessageRead = "message_read",
    Typing = "typing",
}

impl RequestName {
    /// The request of exactly this name.
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|request| request.as_str() == name)
    }

    /// Whether only a bound socket may send it.
    pub const fn needs_session(self) -> bool {
        !matches!(self, Self::Ping | Self::Connect | Self::UserCreate | Self::UserLogin)
    }
}

/// Reads one frame, text or binary, up to its payload.
///
/// # Errors
/// `malformed_packet` for what is no UTF-8 JSON object with exactly one name and a usable `id`; `unknown_request` for a
/// name that is not served.
pub fn decode_envelope(frame: &[u8]) -> Result<Envelope, Rejection> {
    let Ok(Value::Object(mut packet)) = serde_json::from_slice(frame) else {
        return Err(Rejection::new(Reason::MalformedPacket, None));
    };
    match packet.remove("request") {
        Some(Value::Object(request)) => read_request(request, true),
        Some(_) => Err(Rejection::new(Reason::MalformedPacket, None)),
        None => read_request(packet, false),
    }
}

/// Reads the object that holds the name: what `request` wraps, or the whole packet.
fn read_request(mut object: Map<String, Value>, wrapped: bool) -> Result<Envelope, Rejection> {
    let request_id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(id) => match RequestId::of_request(&id) {
            Some(id) => Some(id),
            None => return Err(Rejection::new(Reason::MalformedPacket, None)),
        },
    };
    let mut names = object.into_iter();
    let (Some((name, payload)), None) = (names.next(), names.next()) else {
        return Err(Rejection::new(Reason::MalformedPacket, request_id));
    };
    let Some(name) = RequestName::parse(&name) else {
        return Err(Rejection::new(Reason::UnknownRequest, request_id));
    };
    let reply_to = match name {
        RequestName::Message => ReplyTo::packet(form(Form::Message, wrapped), request_id, &payload),
        RequestName::Typing => ReplyTo::packet(form(Form::Typing, wrapped), request_id, &payload),
        _ => ReplyTo::request(request_id),
    };
    Ok(Envelope { name, reply_to, payload })
}

/// The form a failure takes: a packet's own only when it was sent at the top level.
fn form(own: Form, wrapped: bool) -> Form {
    if wrapped { Form::Response } else { own }
}
