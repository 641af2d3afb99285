//! What a frame said about itself that its reply has to repeat: the form it came in and its ids.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::client::fields::Fields;

/// The longest request id, in bytes as JSON text.
const MAX_REQUEST_ID_BYTES: usize = 256;

/// An id that a client chose; it goes back with the JSON type it came with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A JSON string.
    Text(String),
    /// A JSON number, digit for digit as it was sent.
    Number(Number),
}

impl RequestId {
    /// The id in `value` if it is a string or a number.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => Some(Self::Number(number.clone())),
            _ => None,
        }
    }

    /// The id of a request: a string or a number of bounded size.
    pub(super) fn of_request(value: &Value) -> Option<Self> {
        Self::of(value).filter(|_| value.to_string().len() <= MAX_REQUEST_ID_BYTES)
    }

    /// The id as text.
    fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.as_str(),
        }
    }
}

/// Which packet a failure comes back as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// `response`: every wrapped request and every bare one that is no packet of its own.
    Response,
    /// A `message` at the top level.
    Message,
    /// A `typing` at the top level.
    Typing,
}

/// How to address the reply to one frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    pub(super) form: Form,
    /// `id` beside the name.
    pub(super) request_id: Option<RequestId>,
    /// `id` inside a `message` or `typing`.
    packet_id: Option<RequestId>,
}

impl ReplyTo {
    /// For a reply in `response`.
    pub(super) fn request(request_id: Option<RequestId>) -> Self {
        Self { form: Form::Response, request_id, packet_id: None }
    }

    /// For a `message` or `typing`, in any form.
    pub(super) fn packet(form: Form, request_id: Option<RequestId>, payload: &RawValue) -> Self {
        let packet_id = Fields::of(payload.get(), &["id"]).and_then(|fields| fields.value("id"));
        Self { form, request_id, packet_id: packet_id.as_ref().and_then(RequestId::of) }
    }

    /// What names a `message` or `typing`: its own id, else the request's.
    pub(super) fn packet_id_or_request_id(&self) -> Option<&RequestId> {
        self.packet_id.as_ref().or(self.request_id.as_ref())
    }

    /// The same as text, for an acknowledgement.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.packet_id_or_request_id().map(RequestId::as_text)
    }
}
