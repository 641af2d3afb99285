//! The command to send a message: its fields, their limits, and what makes two of them the same.

use proto::ids::{ConversationId, UserId};
use proto::reason::Reason;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::limits::{self, check_optional};
use super::message::{Attachment, Fingerprint, MessageContent};
use super::service_message;

/// The keys of an attachment that have fields of their own.
const ATTACHMENT_FIELDS: [&str; 8] = [
    "file_id",
    "file_name",
    "file_blur_hash",
    "file_content_type",
    "file_url",
    "file_size",
    "file_width",
    "file_height",
];

/// A message to send, unchecked.
#[derive(Clone, Debug, Default)]
pub struct SendMessage {
    /// Chosen by the client.
    pub client_id: Option<String>,
    /// As the client wrote it.
    pub conversation_id: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// At most 10.
    pub attachments: Vec<Attachment>,
    /// The text of a JSON object.
    pub x_json: Option<String>,
    /// As the client wrote it.
    pub replied_message_id: Option<String>,
    /// As the client wrote it.
    pub forwarded_message_id: Option<String>,
    /// Members to keep it from; ids that are none are ignored.
    pub deleted_for: Vec<String>,
    /// 0 or 1.
    pub encrypted_message_type: Option<u32>,
}

/// A message whose fields have all been checked.
pub(super) struct CheckedMessage {
    /// `None`: it names nothing.
    pub(super) conversation_id: Option<ConversationId>,
    /// Without the message it replies to.
    pub(super) content: MessageContent,
    /// Still as the client wrote it.
    pub(super) replied_message_id: Option<String>,
    pub(super) deleted_for: Vec<UserId>,
    pub(super) fingerprint: Option<Fingerprint>,
}

impl SendMessage {
    /// Checks the fields in the order of the protocol's table.
    pub(super) fn check(mut self) -> Result<CheckedMessage, Failure> {
        let client_id = self.client_id.as_deref();
        check_optional(client_id, &(1..=limits::TEXT), Reason::MessageIdInvalid, "id")?;
        let Some(conversation_id) = &self.conversation_id else {
            return Err(Failure::of_field(Reason::CidMissing, "cid"));
        };
        let conversation_id = ConversationId::parse(conversation_id).ok();
        let body = self.body.as_deref().unwrap_or_default();
        // A character takes at least as many bytes as UTF-16 units, so most bodies need no counting.
        if body.len() > limits::BODY_UTF16_UNITS && body.encode_utf16().count() > limits::BODY_UTF16_UNITS {
            return Err(Failure::of_field(Reason::MessageBodyTooLong, "body"));
        }
        if self.attachments.len() > limits::ATTACHMENTS {
            return Err(Failure::of_field(Reason::TooManyAttachments, "attachments"));
        }
        for attachment in &mut self.attachments {
            check_attachment(attachment).ok_or_else(|| Failure::of_field(Reason::AttachmentInvalid, "attachments"))?;
        }
        let x_json = self.x_json.as_deref().map(check_x).transpose()?;
        let validation = Reason::ValidationFailed;
        let forwarded = self.forwarded_message_id.as_deref();
        check_optional(forwarded, &(0..=limits::FORWARDED_ID), validation, "forwarded_message_id")?;
        if self.deleted_for.len() > limits::DELETED_FOR {
            return Err(Failure::validation("deleted_for"));
        }
        let encrypted_message_type = match self.encrypted_message_type {
            None => None,
            Some(0) => Some(0),
            Some(1) => Some(1),
            Some(_) => return Err(Failure::validation("encrypted_message_type")),
        };
        if body.is_empty() && self.attachments.is_empty() {
            return Err(Reason::MessageEmpty.into());
        }
        let fingerprint = self.client_id.is_some().then(|| self.fingerprint(x_json.as_deref()));
        Ok(CheckedMessage {
            conversation_id,
            deleted_for: self.deleted_for.iter().filter_map(|id| UserId::parse(id).ok()).collect(),
            content: MessageContent {
                body: self.body.unwrap_or_default(),
                attachments: self.attachments,
                x_json,
                replied_message_id: None,
                forwarded_message_id: self.forwarded_message_id,
                encrypted_message_type,
            },
            replied_message_id: self.replied_message_id,
            fingerprint,
        })
    }

    /// Compared as parsed: fields in table order, objects with sorted keys, numbers as sent. The conversation is not in
    /// it, since a resend is looked for in one conversation alone.
    fn fingerprint(&self, x_json: Option<&str>) -> Fingerprint {
        let mut digest = Sha256::new();
        let mut add = |field: Option<&str>| {
            // Absent and empty differ, and no field runs into the next.
            digest.update([u8::from(field.is_some())]);
            digest.update(field.map_or(0, str::len).to_be_bytes());
            digest.update(field.unwrap_or_default());
        };
        add(self.client_id.as_deref());
        add(self.body.as_deref());
        for attachment in &self.attachments {
            add(serde_json::to_string(attachment).ok().as_deref());
        }
        add(None);
        add(x_json);
        // Ids are compared without regard to case.
        add(self.replied_message_id.as_deref().map(str::to_ascii_lowercase).as_deref());
        add(self.forwarded_message_id.as_deref());
        for user_id in &self.deleted_for {
            add(Some(&user_id.to_ascii_lowercase()));
        }
        add(None);
        add(self.encrypted_message_type.map(|kind| kind.to_string()).as_deref());
        let digest: [u8; 32] = digest.finalize().into();
        Fingerprint(*digest.first_chunk().expect("16 of 32 bytes"))
    }
}

/// Checks an attachment and sorts its unknown keys; `None` when it is over a limit.
fn check_attachment(attachment: &mut Attachment) -> Option<()> {
    let has_short_texts =
        [&attachment.file_id, &attachment.file_name, &attachment.file_blur_hash, &attachment.file_content_type]
            .into_iter()
            .all(|text| check_text(text.as_deref(), limits::TEXT));
    let is_valid = has_short_texts
        && check_text(attachment.file_url.as_deref(), limits::FILE_URL)
        && attachment.file_size.is_none_or(|bytes| bytes <= limits::FILE_SIZE)
        && attachment.file_width.is_none_or(|pixels| pixels <= limits::FILE_PIXELS)
        && attachment.file_height.is_none_or(|pixels| pixels <= limits::FILE_PIXELS);
    if !is_valid {
        return None;
    }
    if !attachment.other_json.is_empty() {
        let (other, text) = sort_object(&attachment.other_json, limits::ATTACHMENT_OTHER_BYTES)?;
        if ATTACHMENT_FIELDS.iter().any(|&field| other.contains_key(field)) {
            return None;
        }
        attachment.other_json = text;
    }
    Some(())
}

fn check_text(text: Option<&str>, most: usize) -> bool {
    text.is_none_or(|text| limits::has_length(text, &(0..=most)))
}

/// The client's free object with its keys sorted, if it is one and holds nothing that only the server may say.
fn check_x(json: &str) -> Result<String, Failure> {
    let (x, text) = sort_object(json, limits::X_BYTES).ok_or_else(|| Failure::validation("x"))?;
    if x.get("type").and_then(Value::as_str).is_some_and(|kind| service_message::TYPES.contains(&kind)) {
        return Err(Failure::of_field(Reason::ReservedExtension, "x"));
    }
    Ok(text)
}

/// A JSON object and its text with sorted keys and without white space, if that has at most so many bytes.
fn sort_object(json: &str, most_bytes: usize) -> Option<(Map<String, Value>, String)> {
    // White space counts for nothing, but nobody has reason to send this much of it.
    if json.len() > 4 * most_bytes {
        return None;
    }
    let mut value: Value = serde_json::from_str(json).ok()?;
    value.sort_all_objects();
    let text = value.to_string();
    match value {
        Value::Object(object) if text.len() <= most_bytes => Some((object, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(failure: Failure) -> Reason {
        match failure {
            Failure::Refused(refused) => refused.reason,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn limits_are_exact() {
        let check = |change: &dyn Fn(&mut SendMessage)| {
            let mut message = SendMessage {
                conversation_id: Some("abs".to_owned()),
                body: Some("hi".to_owned()),
                ..SendMessage::default()
            };
            change(&mut message);
            message.check().map(|_| ()).map_err(reason)
        };
        let attachment = |other_json: String| Attachment { other_json, ..Attachment::default() };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|m| m.client_id = Some("я".repeat(255))), Ok(()));
        assert_eq!(check(&|m| m.client_id = Some("я".repeat(256))), Err(Reason::MessageIdInvalid));
        assert_eq!(check(&|m| m.client_id = Some(String::new())), Err(Reason::MessageIdInvalid));
        assert_eq!(check(&|m| m.conversation_id = None), Err(Reason::CidMissing));
        assert_eq!(check(&|m| m.body = Some("я".repeat(65_536))), Ok(()));
        assert_eq!(check(&|m| m.body = Some("😿".repeat(32_769))), Err(Reason::MessageBodyTooLong));
        assert_eq!(check(&|m| m.body = None), Err(Reason::MessageEmpty));
        assert_eq!(check(&|m| m.attachments = vec![attachment(String::new()); 11]), Err(Reason::TooManyAttachments));
        assert_eq!(check(&|m| m.attachments = vec![attachment("[]".to_owned())]), Err(Reason::AttachmentInvalid));
        let hidden_field = r#"{"file_id":"x"}"#.to_owned();
        assert_eq!(check(&|m| m.attachments = vec![attachment(hidden_field.clone())]), Err(Reason::AttachmentInvalid));
        assert_eq!(check(&|m| m.x_json = Some(r#"{"type":"my own"}"#.to_owned())), Ok(()));
        let reserved = r#"{"type":"removed_participant"}"#;
        assert_eq!(check(&|m| m.x_json = Some(reserved.to_owned())), Err(Reason::ReservedExtension));
        for invalid in ["", "[]", "1", "{", r#""str""#] {
            assert_eq!(check(&|m| m.x_json = Some(invalid.to_owned())), Err(Reason::ValidationFailed), "{invalid}");
        }
    }

    #[test]
    fn content_is_compared_as_parsed() {
        let fingerprint = |x: &str| {
            let message = SendMessage {
                client_id: Some("m1".to_owned()),
                conversation_id: Some("c".to_owned()),
                body: Some("hi".to_owned()),
                x_json: Some(x.to_owned()),
                ..SendMessage::default()
            };
            message.check().unwrap().fingerprint.unwrap()
        };
        assert_eq!(fingerprint(r#"{"a":1,"b":{"c":2,"d":3}}"#), fingerprint(r#"{ "b": {"d":3, "c":2}, "a":1 }"#));
        assert_ne!(fingerprint(r#"{"a":1}"#), fingerprint(r#"{"a":1.0}"#));
    }

    #[test]
    fn ids_are_compared_without_regard_to_case() {
        let fingerprint = |id: &str| {
            let message = SendMessage {
                client_id: Some("m1".to_owned()),
                conversation_id: Some(id.to_owned()),
                body: Some("hi".to_owned()),
                replied_message_id: Some(id.to_owned()),
                deleted_for: vec![id.to_owned()],
                ..SendMessage::default()
            };
            message.check().unwrap().fingerprint.unwrap()
        };
        assert_eq!(fingerprint("65aa00000000000000000009"), fingerprint("65AA00000000000000000009"));
    }

    #[test]
    fn white_space_in_free_objects_does_not_count() {
        let message = SendMessage {
            conversation_id: Some("c".to_owned()),
            body: Some("hi".to_owned()),
            x_json: Some(format!("{{ {} \"b\": 1, \"a\": 2 }}", " ".repeat(limits::X_BYTES))),
            ..SendMessage::default()
        };
        assert_eq!(message.check().unwrap().content.x_json.as_deref(), Some(r#"{"a":2,"b":1}"#));
    }
}
