//! Packets about messages and typing.

use proto::reason::{Failure, Reason};
use proto::v1;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Payload;
use super::fields::{Fields, number};
use super::json::{elements, tree};

/// The longest text of an `x` that is looked at, in bytes. Several times what the core takes: the text may hold spaces
/// and escapes, which it does not count.
const MAX_X_TEXT: usize = 256 * 1024;
/// The same for one attachment.
const MAX_ATTACHMENT_TEXT: usize = 128 * 1024;
/// How many attachments are looked at. The core takes fewer, so more of them still are too many.
const MAX_ATTACHMENTS: usize = 100;

/// `message`: sends one.
pub struct MessagePacket {
    /// Chosen by the client.
    pub id: Option<String>,
    /// The conversation.
    pub cid: String,
    /// The text.
    pub body: Option<String>,
    /// In the order sent; empty when the field was absent.
    pub attachments: Vec<v1::Attachment>,
    /// The free object as JSON text, with numbers as sent.
    pub x_json: Option<String>,
    /// The message answered.
    pub replied_message_id: Option<String>,
    /// The message passed on.
    pub forwarded_message_id: Option<String>,
    /// Members who shall never see it.
    pub deleted_for: Vec<String>,
    /// How the body is encrypted.
    pub encrypted_message_type: Option<u32>,
}

impl Payload for MessagePacket {
    const FIELDS: &'static [&'static str] = &[
        "id",
        "cid",
        "body",
        "attachments",
        "x",
        "replied_message_id",
        "forwarded_message_id",
        "deleted_for",
        "encrypted_message_type",
    ];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            id: fields.text_or("id", Reason::MessageIdInvalid)?,
            cid: fields.required_text("cid", Reason::CidMissing)?,
            body: fields.text("body")?,
            attachments: attachments(fields)?,
            x_json: match fields.raw("x") {
                None => None,
                Some(x) => {
                    let x = tree(x, MAX_X_TEXT).ok_or_else(|| Failure::validation("x"))?;
                    Some(Value::Object(x).to_string())
                }
            },
            replied_message_id: fields.lenient_id("replied_message_id"),
            forwarded_message_id: fields.text("forwarded_message_id")?,
            deleted_for: fields.ids("deleted_for")?.unwrap_or_default(),
            encrypted_message_type: match fields.integer("encrypted_message_type")? {
                None => None,
                Some(number) => Some(u32::try_from(number).map_err(|_| Failure::validation("encrypted_message_type"))?),
            },
        })
    }
}

fn attachments(fields: &Fields<'_>) -> Result<Vec<v1::Attachment>, Failure> {
    let invalid = || Failure::of_field(Reason::AttachmentInvalid, "attachments");
    let Some(list) = fields.raw("attachments") else { return Ok(Vec::new()) };
    let attachments = elements(list, MAX_ATTACHMENTS).ok_or_else(invalid)?;
    attachments.into_iter().map(|attachment| read_attachment(attachment).ok_or_else(invalid)).collect()
}

/// The attachment if it is an object whose known fields have their types. Other keys are kept.
fn read_attachment(attachment: &RawValue) -> Option<v1::Attachment> {
    let fields = tree(attachment, MAX_ATTACHMENT_TEXT)?;
    let mut attachment = v1::Attachment::default();
    let mut other = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "file_id" => attachment.file_id = text(value)?,
            "file_name" => attachment.file_name = text(value)?,
            "file_blur_hash" => attachment.file_blur_hash = text(value)?,
            "file_content_type" => attachment.file_content_type = text(value)?,
            "file_url" => attachment.file_url = text(value)?,
            "file_size" => attachment.file_size = rounded(&value)?,
            "file_width" => attachment.file_width = rounded(&value)?.map(saturated),
            "file_height" => attachment.file_height = rounded(&value)?.map(saturated),
            _ => drop(other.insert(key, value)),
        }
    }
    if !other.is_empty() {
        attachment.other_json = Value::Object(other).to_string();
    }
    Some(attachment)
}

/// A string or nothing; no value for another type.
fn text(value: Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text)),
        _ => None,
    }
}

/// A number, rounded, or nothing; no value for another type or a negative one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative; a larger one is refused later"
)]
fn rounded(value: &Value) -> Option<Option<u64>> {
    if value.is_null() {
        return Some(None);
    }
    let number = number(value)?.round();
    (number >= 0.0).then_some(Some(number as u64))
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `message_list`: a page of history.
pub struct MessageListPacket {
    /// The conversation.
    pub cid: String,
    /// Only these.
    pub ids: Option<Vec<String>>,
    /// How many at most.
    pub limit: Option<i64>,
    /// Only those within.
    pub updated_at: Option<v1::TimeBounds>,
}

impl Payload for MessageListPacket {
    const FIELDS: &'static [&'static str] = &["cid", "ids", "limit", "updated_at"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            cid: fields.required_text("cid", Reason::CidMissing)?,
            ids: fields.ids("ids")?,
            limit: fields.integer("limit")?,
            updated_at: fields.updated_at()?,
        })
    }
}

/// `message_read`: the caller has read messages.
pub struct MessageReadPacket {
    /// The conversation.
    pub cid: String,
    /// Which; absent: all.
    pub ids: Option<Vec<String>>,
}

impl Payload for MessageReadPacket {
    const FIELDS: &'static [&'static str] = &["cid", "ids"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { cid: fields.required_text("cid", Reason::CidMissing)?, ids: fields.ids("ids")? })
    }
}

/// `typing`: the caller types, or has stopped.
pub struct TypingPacket {
    /// The conversation.
    pub cid: String,
    /// `type`, or else `status`: two names for the same.
    pub state: Option<String>,
    /// Chosen by the client.
    pub id: Option<String>,
    /// Unix seconds as the client gave them.
    pub t: Option<i64>,
}

impl Payload for TypingPacket {
    const FIELDS: &'static [&'static str] = &["cid", "type", "status", "id", "t"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let cid = fields.required_text("cid", Reason::CidMissing)?;
        let kind = fields.text("type")?;
        let status = fields.text("status")?;
        Ok(Self { cid, state: kind.or(status), id: fields.text("id")?, t: fields.integer("t")? })
    }
}
