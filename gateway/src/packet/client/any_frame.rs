//! Whatever a stranger sends can be answered: arbitrary bytes, arbitrary JSON, frames cut and changed.

use proptest::prelude::*;
use proto::reason::{Failure, Reason};
use serde_json::{Value, json};

use super::*;
use crate::packet::server;

/// Reads the payload as every packet there is, so that no reader is left out.
fn decode_as_everything(envelope: &Envelope<'_>) {
    let _ = envelope.decode::<NoFields>();
    let _ = envelope.decode::<ConnectPacket>();
    let _ = envelope.decode::<UserCreatePacket>();
    let _ = envelope.decode::<UserLoginPacket>();
    let _ = envelope.decode::<UserSearchPacket>();
    let _ = envelope.decode::<GetUsersByIdsPacket>();
    let _ = envelope.decode::<ActivityStatusPacket>();
    let _ = envelope.decode::<ConversationCreatePacket>();
    let _ = envelope.decode::<ConversationUpdatePacket>();
    let _ = envelope.decode::<ConversationDeletePacket>();
    let _ = envelope.decode::<ConversationListPacket>();
    let _ = envelope.decode::<GetParticipantsByCidsPacket>();
    let _ = envelope.decode::<MessagePacket>();
    let _ = envelope.decode::<MessageListPacket>();
    let _ = envelope.decode::<MessageReadPacket>();
    let _ = envelope.decode::<TypingPacket>();
}

/// Decodes a frame wholly; whatever comes of it, it can be answered with one packet of one key.
fn swallow(frame: &[u8]) {
    let (reply_to, failure) = match decode_envelope(frame) {
        Ok(envelope) => {
            decode_as_everything(&envelope);
            (envelope.reply_to, Failure::from(Reason::NotAuthenticated))
        }
        Err(rejection) => (rejection.reply_to, rejection.failure),
    };
    let answer: Value = serde_json::from_str(&server::failure(&reply_to, &failure)).unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1);
}

/// Any JSON, with a liking for the keys and values that readers look at.
fn arbitrary_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,40}([.][0-9]{1,9})?(e[0-9]{1,4})?".prop_map(|text| serde_json::from_str(&text).unwrap()),
    ];
    let text = prop_oneof![
        any::<String>(),
        "[0-9]{1,30}",
        "[-+0-9]{1,7}-[0-9]{1,2}-[0-9]{1,2}T[0-9:.]{1,20}(Z|[+]0[0-9]:00|)",
        prop::sample::select(vec!["u", "g", "c", "id", "start", "65a03f8e0000000000000001"]).prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text.prop_map(Value::from)];
    let keys = prop::sample::select(vec![
        "request",
        "id",
        "message",
        "typing",
        "ping",
        "connect",
        "user_login",
        "conversation_create",
        "message_list",
        "cid",
        "cids",
        "ids",
        "body",
        "attachments",
        "x",
        "updated_at",
        "gt",
        "lt",
        "limit",
        "token",
        "login",
        "password",
        "device_id",
        "deviceId",
        "type",
        "status",
        "t",
        "name",
        "participants",
        "admins",
        "add",
        "remove",
        "opponent_id",
        "image_object",
        "file_id",
        "file_width",
        "file_size",
        "includes",
        "isInactive",
        "deleted_for",
        "is_encrypted",
        "encrypted_message_type",
        "replied_message_id",
        "keyword",
        "ignore_ids",
        "__proto__",
    ]);
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// A frame a client might send, as bytes.
fn valid_frame() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(RequestName::ALL), arbitrary_json(), any::<bool>(), any::<Option<u8>>()).prop_map(
        |(name, payload, wrapped, id)| {
            let request = json!({ name.as_str(): payload, "id": id });
            let frame = if wrapped { json!({ "request": request }) } else { request };
            frame.to_string().into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_answered(frame: Vec<u8>) {
        swallow(&frame);
    }

    #[test]
    fn any_json_is_answered(frame in arbitrary_json()) {
        swallow(frame.to_string().as_bytes());
    }

    #[test]
    fn any_payload_is_answered(frame in valid_frame()) {
        prop_assert!(decode_envelope(&frame).is_ok());
        swallow(&frame);
    }

    #[test]
    fn a_frame_changed_anywhere_is_answered(
        mut frame in valid_frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (index, byte) in changes {
            let at = index.index(frame.len());
            frame[at] = byte;
        }
        swallow(&frame);
    }

    #[test]
    fn a_frame_cut_anywhere_is_malformed(frame in valid_frame(), cut: prop::sample::Index) {
        let frame = &frame[..cut.index(frame.len())];
        let rejection = decode_envelope(frame).err().map(|rejection| rejection.failure);
        prop_assert_eq!(rejection, Some(Reason::MalformedPacket.into()));
        swallow(frame);
    }

    #[test]
    fn free_json_is_kept_as_it_was_sent(x in arbitrary_json()) {
        prop_assume!(x.is_object());
        let text = x.to_string();
        let frame = json!({ "message": { "cid": "c", "x": x } }).to_string();
        let packet: MessagePacket = decode_envelope(frame.as_bytes()).ok().unwrap().decode().ok().unwrap();
        prop_assert_eq!(packet.x_json, Some(text));
    }
}
