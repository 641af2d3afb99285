//! Frames in: what a client may send, as types.
//!
//! [`decode_envelope`] finds the request's name, its payload and how to reply; [`Envelope::decode`] then reads the
//! payload into the packet of that name. Only JSON types are checked here, and what the contract with the core cannot
//! express; presence, lengths and meaning are the core's to check, for it has other callers too. The order of checks is
//! the protocol's: first failure wins, fields in the order of the request's table.

mod conversation;
pub(crate) mod fields;
mod json;
mod message;
mod user;

#[cfg(test)]
mod any_frame;
#[cfg(test)]
mod tests;

pub use conversation::{
    ConversationCreatePacket, ConversationDeletePacket, ConversationListPacket, ConversationUpdatePacket,
    GetParticipantsByCidsPacket,
};
pub use message::{MessageListPacket, MessagePacket, MessageReadPacket, TypingPacket};
use proto::reason::{Failure, Reason};
use serde_json::value::RawValue;
pub use user::{
    ActivityStatusPacket, ConnectPacket, GetUsersByIdsPacket, UserCreatePacket, UserLoginPacket, UserSearchPacket,
};

use self::fields::Fields;
use self::json::{for_each_entry, is_too_deep, shallow};
use super::reply_to::{Form, ReplyTo, RequestId};

/// A frame whose request is known, its payload not yet parsed: it takes no memory beyond the frame's own.
pub struct Envelope<'a> {
    /// What is asked.
    pub name: RequestName,
    /// How to reply.
    pub reply_to: ReplyTo,
    payload: &'a RawValue,
}

impl Envelope<'_> {
    /// The size of the payload's text.
    pub fn payload_bytes(&self) -> usize {
        self.payload.get().len()
    }

    /// Reads the payload. Unknown fields are ignored, `null` counts as absent.
    ///
    /// # Errors
    /// `invalid_payload` for a payload that is no object, else the failure of the first field of a wrong type.
    pub fn decode<P: Payload>(&self) -> Result<P, Failure> {
        let payload = self.payload.get();
        P::read(if payload == "null" { "{}" } else { payload }).unwrap_or_else(|| Err(Reason::InvalidPayload.into()))
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
    /// The names of the fields that are read.
    const FIELDS: &'static [&'static str];

    /// Reads the fields in the order of the request's table.
    ///
    /// # Errors
    /// The failure of the first field of a wrong type.
    fn decode(fields: &Fields<'_>) -> Result<Self, Failure>;

    /// Reads them from this JSON; none if it is no object.
    fn read(json: &str) -> Option<Result<Self, Failure>> {
        Fields::of(json, Self::FIELDS).map(|fields| Self::decode(&fields))
    }
}

/// The payload of a request that has no fields: `ping`, `user_logout`.
pub struct NoFields;

impl Payload for NoFields {
    const FIELDS: &'static [&'static str] = &[];

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
    ConversationUpdate = "conversation_update",
    ConversationDelete = "conversation_delete",
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
pub fn decode_envelope(frame: &[u8]) -> Result<Envelope<'_>, Rejection> {
    let Some(text) = str::from_utf8(frame).ok().filter(|text| !is_too_deep(text)) else {
        return Err(Rejection::new(Reason::MalformedPacket, None));
    };
    read_request(text, false)
}

/// Reads the object that holds the name: the whole packet, or what `request` wraps in it.
fn read_request(object: &str, wrapped: bool) -> Result<Envelope<'_>, Rejection> {
    let (mut request, mut id, mut named, mut several_names) = (None, None, None, false);
    let read = for_each_entry(object, |key, value| match key {
        "request" if !wrapped => request = Some(value),
        "id" => id = Some(value),
        _ if several_names => {}
        // The last one counts of those that are called the same.
        name => match &mut named {
            None => named = Some((name.to_owned(), value)),
            Some((known, payload)) if known == name => *payload = value,
            Some(_) => several_names = true,
        },
    });
    if read.is_err() {
        return Err(Rejection::new(Reason::MalformedPacket, None));
    }
    if let Some(request) = request {
        return read_request(request.get(), true);
    }
    let request_id = match id.map(shallow).filter(|id| !id.is_null()) {
        None => None,
        Some(id) => match RequestId::of_request(&id) {
            Some(id) => Some(id),
            None => return Err(Rejection::new(Reason::MalformedPacket, None)),
        },
    };
    let Some((name, payload)) = named.filter(|_| !several_names) else {
        return Err(Rejection::new(Reason::MalformedPacket, request_id));
    };
    let Some(name) = RequestName::parse(&name) else {
        return Err(Rejection::new(Reason::UnknownRequest, request_id));
    };
    let reply_to = match name {
        RequestName::Message => ReplyTo::packet(form(Form::Message, wrapped), request_id, payload),
        RequestName::Typing => ReplyTo::packet(form(Form::Typing, wrapped), request_id, payload),
        _ => ReplyTo::request(request_id),
    };
    Ok(Envelope { name, reply_to, payload })
}

/// The form a failure takes: a packet's own only when it was sent at the top level.
fn form(own: Form, wrapped: bool) -> Form {
    if wrapped { Form::Response } else { own }
}
