//! Frames as clients send them, right and wrong.

use proto::reason::{Failure, Reason};
use serde_json::{Value, json};

use super::*;
use crate::packet::server;

fn envelope(frame: Value) -> Envelope<'static> {
    decode_envelope(frame.to_string().leak().as_bytes()).map_err(|rejection| rejection.failure).unwrap()
}

/// The failure frame that a rejected frame is answered with.
fn rejected(frame: &[u8]) -> Value {
    let rejection = decode_envelope(frame).err().expect("a frame that is rejected");
    serde_json::from_str(&server::failure(&rejection.reply_to, &rejection.failure)).unwrap()
}

fn decode<P: Payload>(name: &str, payload: Value) -> Result<P, Failure> {
    envelope(json!({ "request": { name: payload } })).decode()
}

fn refused<P: Payload>(name: &str, payload: Value) -> Failure {
    let shown = payload.to_string();
    decode::<P>(name, payload).err().unwrap_or_else(|| panic!("{shown} is refused"))
}

#[test]
fn all_four_forms_are_understood() {
    let forms = [
        json!({ "request": { "message": { "id": "m", "cid": "c" }, "id": 7 } }),
        json!({ "request": { "id": 7, "message": { "id": "m", "cid": "c" } } }),
        json!({ "message": { "id": "m", "cid": "c" } }),
        json!({ "message": { "id": "m", "cid": "c" }, "id": 7 }),
        json!({ "request": { "message": { "id": "m", "cid": "c" } }, "typing": {}, "id": [] }),
    ];
    for form in forms {
        let envelope = envelope(form);
        assert_eq!(envelope.name, RequestName::Message);
        assert_eq!(envelope.decode::<MessagePacket>().map(|packet| packet.id), Ok(Some("m".to_owned())));
    }
    assert_eq!(envelope(json!({ "ping": null, "id": 1 })).name, RequestName::Ping);
}

#[test]
fn what_is_no_packet_is_malformed() {
    let frames: [&[u8]; 12] = [
        b"not json",
        b"",
        b"[]",
        b"null",
        b"7",
        b"{}",
        br#"{"request":null}"#,
        br#"{"request":[],"id":1}"#,
        br#"{"request":{}}"#,
        b"{\"ping\":\"\xff\"}",
        br#"{"ping":{}} {"ping":{}}"#,
        br#"{"ping":{},"id":[]}"#,
    ];
    for frame in frames {
        let answer = rejected(frame);
        let shown = String::from_utf8_lossy(frame);
        assert_eq!(answer["response"]["error"]["code"], "malformed_packet", "{shown}");
        assert_eq!(answer["response"].get("id"), None, "{shown}");
        assert_eq!(answer.as_object().unwrap().len(), 1, "{shown}");
    }
}

#[test]
fn zero_or_several_names_are_malformed_and_answered_with_the_id() {
    for frame in [
        json!({ "request": { "id": 1 } }),
        json!({ "id": 1 }),
        json!({ "request": { "message_list": {}, "user_create": {}, "id": 1 } }),
        json!({ "request": { "message_list": {}, "no_such": {}, "id": 1 } }),
        json!({ "message": {}, "typing": {}, "id": 1 }),
    ] {
        let answer = rejected(frame.to_string().as_bytes());
        assert_eq!(answer["response"]["error"]["code"], "malformed_packet", "{frame}");
        assert_eq!(answer["response"]["id"], 1, "{frame}");
    }
}

#[test]
fn names_are_those_of_the_table_and_nothing_else() {
    for name in ["constructor", "toString", "__proto__", "Ping", "ping ", "request", "user_edit", ""] {
        for frame in [json!({ "request": { name: {}, "id": "a" } }), json!({ name: {}, "id": "a" })] {
            if frame.get("request").is_some_and(|request| request.get("id").is_none()) {
                continue;
            }
            let answer = rejected(frame.to_string().as_bytes());
            assert_eq!(answer["response"]["error"]["code"], "unknown_request", "{frame}");
            assert_eq!(answer["response"]["id"], "a", "{frame}");
        }
    }
    for &name in RequestName::ALL {
        assert_eq!(envelope(json!({ name.as_str(): {} })).name, name);
    }
}

#[test]
fn a_request_id_is_a_string_or_a_number_of_at_most_256_bytes() {
    let longest = "x".repeat(254);
    for id in [json!("a"), json!(""), json!(0), json!(-1.5), json!(longest)] {
        assert!(envelope(json!({ "ping": {}, "id": id })).reply_to.request_id.is_some(), "{id}");
    }
    assert_eq!(envelope(json!({ "ping": {}, "id": null })).reply_to.request_id, None);
    for id in [json!(true), json!([]), json!({}), json!("x".repeat(255)), json!("я".repeat(128))] {
        let answer = rejected(json!({ "ping": {}, "id": id }).to_string().as_bytes());
        assert_eq!(answer["response"]["error"]["code"], "malformed_packet", "{id}");
    }
}

#[test]
fn an_id_goes_back_as_it_came() {
    for id in ["\"a\"", "7", "1.50", "12345678901234567890123", "1e2", "-0"] {
        let frame = format!(r#"{{"ping":{{}},"id":{id}}}"#);
        let reply_to = decode_envelope(frame.as_bytes()).map_err(|rejection| rejection.failure).unwrap().reply_to;
        let reply = server::response(&reply_to, &server::Reply::PONG);
        let id = if id == "1e2" { "1e+2" } else { id };
        assert_eq!(reply, format!(r#"{{"response":{{"id":{id},"pong":{{}}}}}}"#));
    }
}

#[test]
fn only_the_first_requests_of_a_socket_go_without_a_session() {
    let free: Vec<_> = RequestName::ALL.iter().filter(|name| !name.needs_session()).map(|name| name.as_str()).collect();
    assert_eq!(free, ["ping", "connect", "user_create", "user_login"]);
}

#[test]
fn a_payload_is_an_object_or_null() {
    for payload in [json!("x"), json!(1), json!(true), json!([])] {
        assert_eq!(refused::<NoFields>("ping", payload), Reason::InvalidPayload.into());
    }
    assert!(decode::<NoFields>("ping", json!(null)).is_ok());
    assert!(decode::<NoFields>("ping", json!({ "whatever": [] })).is_ok());
}

#[test]
fn connect_needs_a_token_and_a_device() {
    let packet = decode::<ConnectPacket>("connect", json!({ "token": "t", "device_id": 42 })).ok().unwrap();
    assert_eq!((packet.token.as_str(), packet.device_id.as_str()), ("t", "42"));
    for device_id in [json!(null), json!(""), json!([]), json!(true)] {
        let failure = refused::<ConnectPacket>("connect", json!({ "token": "t", "device_id": device_id }));
        assert_eq!(failure.reason, Reason::DeviceIdMissing);
    }
    for token in [json!(null), json!(7)] {
        let failure = refused::<ConnectPacket>("connect", json!({ "token": token, "device_id": "d" }));
        assert_eq!(failure.reason, Reason::SessionTokenExpired);
    }
}

#[test]
fn user_login_has_two_forms_which_do_not_mix() {
    let login = |payload| decode::<UserLoginPacket>("user_login", payload);
    assert!(matches!(
        login(json!({ "login": "ann", "password": "pw", "deviceId": 5, "organization_id": null })),
        Ok(UserLoginPacket::Password { organization_id: None, device_id: Some(device), .. }) if device == "5"
    ));
    assert!(matches!(
        login(json!({ "token": "t", "device_id": "a", "deviceId": "b" })),
        Ok(UserLoginPacket::Token { device_id: Some(device), .. }) if device == "a"
    ));
    assert!(matches!(login(json!({ "token": "t" })), Ok(UserLoginPacket::Token { device_id: None, .. })));

    let refused = |payload| refused::<UserLoginPacket>("user_login", payload).reason;
    assert_eq!(refused(json!({})), Reason::CredentialsMissing);
    assert_eq!(refused(json!({ "device_id": "d" })), Reason::CredentialsMissing);
    assert_eq!(refused(json!({ "login": "ann" })), Reason::LoginFieldsMissing);
    assert_eq!(refused(json!({ "login": "ann", "password": "" })), Reason::LoginFieldsMissing);
    assert_eq!(refused(json!({ "login": { "$ne": "" }, "password": "pw" })), Reason::LoginFieldsMissing);
    assert_eq!(refused(json!({ "login": "ann", "password": "pw", "token": "t" })), Reason::ValidationFailed);
    assert_eq!(refused(json!({ "token": "t", "device_id": [] })), Reason::DeviceIdMissing);
}

#[test]
fn user_create_takes_only_texts() {
    let refused = |payload| refused::<UserCreatePacket>("user_create", payload);
    assert_eq!(refused(json!({ "login": 1 })).reason, Reason::LoginInvalid);
    assert_eq!(refused(json!({ "password": 1 })).reason, Reason::PasswordInvalid);
    for field in ["organization_id", "email", "phone", "first_name", "last_name"] {
        assert_eq!(refused(json!({ field: {} })), Failure::validation(field));
    }
    let packet = decode::<UserCreatePacket>("user_create", json!({ "login": "ann", "email": null, "device_id": [] }));
    assert!(matches!(packet, Ok(UserCreatePacket { login: Some(_), password: None, email: None, .. })));
}

#[test]
fn lists_of_users_skip_what_is_no_id() {
    let packet = decode::<GetUsersByIdsPacket>("get_users_by_ids", json!({ "ids": [null, "a", 1] })).ok().unwrap();
    assert_eq!(packet.ids, ["", "a", ""]);
    assert_eq!(refused::<GetUsersByIdsPacket>("get_users_by_ids", json!({ "ids": "a" })), Failure::validation("ids"));

    let search = json!({ "keyword": "an", "limit": "5", "updated_at": { "gt": 1_705_000_000, "lt": "ignored" } });
    let packet = decode::<UserSearchPacket>("user_search", search).ok().unwrap();
    assert_eq!((packet.limit, packet.updated_after_ms), (Some(5), Some(1_705_000_000_000)));
    assert!(packet.ignore_ids.is_empty());
    let refused = |payload| refused::<UserSearchPacket>("user_search", payload);
    assert_eq!(refused(json!({ "ignore_ids": "a" })), Failure::validation("ignore_ids"));
    assert_eq!(refused(json!({ "limit": "many" })), Failure::validation("limit"));
    assert_eq!(refused(json!({ "updated_at": { "gt": "abc" } })), Failure::validation("updated_at.gt"));
}

#[test]
fn a_socket_in_the_background_says_so_with_a_boolean() {
    let status = |payload| decode::<ActivityStatusPacket>("activity_status", payload).map(|packet| packet.is_inactive);
    assert_eq!(status(json!({})), Ok(false));
    assert_eq!(status(json!({ "isInactive": true })), Ok(true));
    assert_eq!(status(json!({ "isInactive": "true" })), Err(Failure::validation("isInactive")));
}

#[test]
fn a_conversation_takes_the_fields_of_its_type() {
    let create = |payload| decode::<ConversationCreatePacket>("conversation_create", payload);
    let private = json!({
        "type": "u", "opponent_id": 5, "participants": ["a", {}], "is_encrypted": true, "image_object": "ignored",
    });
    let packet = create(private).ok().unwrap();
    assert_eq!(packet.participants, Some(vec!["a".to_owned(), String::new()]));
    assert_eq!((packet.opponent_id, packet.is_encrypted, packet.image), (Some(String::new()), true, None));

    let group = json!({
        "type": "g", "name": "n", "opponent_id": "x", "is_encrypted": "ignored", "owner_id": [],
        "image_object": { "file_id": "f", "file_name": null },
    });
    let packet = create(group).ok().unwrap();
    assert_eq!((packet.opponent_id, packet.is_encrypted, packet.participants), (None, false, None));
    assert_eq!(packet.image.map(|image| (image.file_id, image.file_name)), Some((Some("f".to_owned()), None)));

    let refused = |payload| refused::<ConversationCreatePacket>("conversation_create", payload);
    assert_eq!(refused(json!({ "type": 1 })).reason, Reason::TypeInvalid);
    assert_eq!(refused(json!({ "type": "g", "participants": {} })), Failure::validation("participants"));
    assert_eq!(refused(json!({ "type": "c", "image_object": { "file_id": 1 } })), Failure::validation("image_object"));
    assert_eq!(refused(json!({ "type": "u", "is_encrypted": 1 })), Failure::validation("is_encrypted"));
}

#[test]
fn participants_may_be_asked_for_as_ids() {
    let ids_only = |includes| {
        let payload = json!({ "cids": [], "includes": includes });
        decode::<GetParticipantsByCidsPacket>("get_participants_by_cids", payload).map(|packet| packet.ids_only)
    };
    assert_eq!(ids_only(json!(["id"])), Ok(true));
    assert_eq!(ids_only(json!([7, "_id"])), Ok(true));
    assert_eq!(ids_only(json!(["login"])), Ok(false));
    assert_eq!(ids_only(json!(null)), Ok(false));
    assert_eq!(ids_only(json!("id")), Err(Failure::validation("includes")));
}

#[test]
fn a_message_keeps_what_is_free_in_it() {
    let frame = br#"{"message":{"id":"m","cid":"c","body":"","x":{"b":1.10,"a":{"z":null,"y":[1e400]}},
        "attachments":[{"file_id":"1","file_blur_hash":null,"file_width":369.6,"file_height":"754","zoom":1.0,"alt":null},{}],
        "deleted_for":["a",1],"encrypted_message_type":"1","organization_id":5}}"#;
    let packet: MessagePacket = decode_envelope(frame).ok().unwrap().decode().ok().unwrap();
    // The order of keys is the core's to set.
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parsed(&packet.x_json.unwrap()), parsed(r#"{"a":{"y":[1e+400],"z":null},"b":1.10}"#));
    let [full, empty] = packet.attachments.as_slice() else { panic!("two attachments") };
    assert_eq!((full.file_id.as_deref(), full.file_blur_hash.as_deref()), (Some("1"), None));
    assert_eq!((full.file_width, full.file_height, full.file_size), (Some(370), Some(754), None));
    assert_eq!(parsed(&full.other_json), parsed(r#"{"alt":null,"zoom":1.0}"#));
    assert_eq!(*empty, proto::v1::Attachment::default());
    assert_eq!(packet.deleted_for, ["a", ""]);
    assert_eq!(packet.encrypted_message_type, Some(1));
}

/// The payload, in a conversation unless it says which.
fn with_cid(mut payload: Value) -> Value {
    payload.as_object_mut().unwrap().entry("cid").or_insert(json!("c"));
    payload
}

#[test]
fn what_must_be_there_is_missed_before_later_fields_are_looked_at() {
    for payload in [json!({ "attachments": "x" }), json!({ "body": 5 }), json!({ "x": "s" })] {
        assert_eq!(refused::<MessagePacket>("message", payload).reason, Reason::CidMissing);
    }
    assert_eq!(refused::<MessageListPacket>("message_list", json!({ "limit": "x" })).reason, Reason::CidMissing);
    assert_eq!(refused::<MessageReadPacket>("message_read", json!({ "ids": "x" })).reason, Reason::CidMissing);
    assert_eq!(refused::<TypingPacket>("typing", json!({ "type": 1 })).reason, Reason::CidMissing);
    let untyped = refused::<ConversationCreatePacket>("conversation_create", json!({ "participants": 5 }));
    assert_eq!(untyped.reason, Reason::ConversationTypeMissing);
}

#[test]
fn a_message_of_wrong_types_is_refused() {
    let refused = |payload| refused::<MessagePacket>("message", with_cid(payload));
    assert_eq!(refused(json!({ "id": 12312 })).reason, Reason::MessageIdInvalid);
    assert_eq!(refused(json!({ "id": 12312, "cid": 5 })).reason, Reason::MessageIdInvalid, "in the table's order");
    for field in ["cid", "body", "x", "forwarded_message_id", "deleted_for", "encrypted_message_type"] {
        assert_eq!(refused(json!({ field: true })), Failure::validation(field));
    }
    assert_eq!(refused(json!({ "x": [] })), Failure::validation("x"));
    assert_eq!(refused(json!({ "encrypted_message_type": -1 })), Failure::validation("encrypted_message_type"));
    let replied = decode::<MessagePacket>("message", with_cid(json!({ "replied_message_id": 1 }))).ok().unwrap();
    assert_eq!(replied.replied_message_id.as_deref(), Some(""), "it names nothing, which the core finds in its turn");
    for attachments in [
        json!("x"),
        json!({}),
        json!([null]),
        json!(["x"]),
        json!([{}, { "file_name": 1 }]),
        json!([{ "file_width": -1 }]),
        json!([{ "file_size": "big" }]),
    ] {
        assert_eq!(refused(json!({ "attachments": attachments })).reason, Reason::AttachmentInvalid);
    }
}

#[test]
fn what_is_free_in_a_message_is_parsed_only_up_to_a_size() {
    let refused = |payload| refused::<MessagePacket>("message", with_cid(payload));
    let large = |bytes: usize| json!({ "a": "x".repeat(bytes) });
    assert!(
        decode::<MessagePacket>("message", with_cid(json!({ "x": large(200_000), "attachments": [large(100_000)] })))
            .is_ok()
    );
    assert_eq!(refused(json!({ "x": large(300_000) })), Failure::validation("x"));
    assert_eq!(refused(json!({ "attachments": [large(200_000)] })).reason, Reason::AttachmentInvalid);
    // That there are too many is for the core to say, which has to see more than it takes, but not all of them.
    let attachments = json!({ "attachments": vec![json!({}); 1_000] });
    let packet = decode::<MessagePacket>("message", with_cid(attachments)).ok().unwrap();
    assert_eq!(packet.attachments.len(), 100);
}

#[test]
fn a_text_cut_inside_a_character_is_taken() {
    let frame = br#"{"message":{"id":"m","cid":"c","body":"cut \ud83d","x":{"a":"\ude00"},"attachments":[{"alt":"\ud83d"}]},"id":"\ud83d"}"#;
    let envelope = decode_envelope(frame).ok().unwrap();
    let packet: MessagePacket = envelope.decode().ok().unwrap();
    assert_eq!(packet.body.as_deref(), Some("cut \u{fffd}"));
    assert_eq!(packet.x_json.as_deref(), Some("{\"a\":\"\u{fffd}\"}"));
    assert_eq!(packet.attachments[0].other_json, "{\"alt\":\"\u{fffd}\"}");
    assert_eq!(envelope.reply_to.request_id, Some(RequestId::Text("\u{fffd}".to_owned())));
}

#[test]
fn lists_read_their_bounds() {
    let payload = json!({ "cid": "c", "limit": "30", "updated_at": { "lt": "2024-01-11T19:06:40.870Z" } });
    let packet = decode::<MessageListPacket>("message_list", with_cid(payload)).ok().unwrap();
    assert_eq!((packet.limit, packet.ids), (Some(30), None));
    let bounds = packet.updated_at.unwrap();
    assert_eq!((bounds.after_ms, bounds.before_ms), (None, Some(1_705_000_000_870)));

    let refused_list = |payload| refused::<MessageListPacket>("message_list", with_cid(payload));
    assert_eq!(refused_list(json!({ "ids": "a" })), Failure::validation("ids"));
    assert_eq!(refused_list(json!({ "limit": {} })), Failure::validation("limit"));
    assert_eq!(refused_list(json!({ "updated_at": { "lt": "x" } })), Failure::validation("updated_at.lt"));
    let payload = json!({ "limit": null, "updated_at": {}, "ids": ["a"] });
    let packet = decode::<ConversationListPacket>("conversation_list", payload).ok().unwrap();
    assert_eq!((packet.limit, packet.updated_at, packet.ids), (None, None, Some(vec!["a".to_owned()])));
}

#[test]
fn reading_nothing_differs_from_reading_all() {
    let ids = |payload| decode::<MessageReadPacket>("message_read", with_cid(payload)).map(|packet| packet.ids);
    assert_eq!(ids(json!({ "cid": "c" })), Ok(None));
    assert_eq!(ids(json!({ "cid": "c", "ids": null })), Ok(None));
    assert_eq!(ids(json!({ "cid": "c", "ids": [] })), Ok(Some(vec![])));
    assert_eq!(ids(json!({ "cid": "c", "ids": {} })), Err(Failure::validation("ids")));
}

#[test]
fn typing_has_two_names_for_its_state() {
    let typing = |payload| decode::<TypingPacket>("typing", with_cid(payload));
    let packet = typing(json!({ "id": "i", "t": "17", "type": "start", "cid": "c" })).ok().unwrap();
    assert_eq!((packet.id.as_deref(), packet.t, packet.state.as_deref()), (Some("i"), Some(17), Some("start")));
    assert_eq!(typing(json!({ "status": "stop" })).map(|packet| packet.state), Ok(Some("stop".to_owned())));
    assert_eq!(typing(json!({ "cid": "c" })).map(|packet| packet.state), Ok(None));
    for field in ["cid", "type", "status", "id", "t"] {
        assert_eq!(typing(json!({ field: [] })).err(), Some(Failure::validation(field)));
    }
}

#[test]
fn nesting_without_end_is_malformed() {
    let frame = format!("{}{}", r#"{"message":{"x":"#, r#"{"a":"#.repeat(100_000));
    assert_eq!(rejected(frame.as_bytes())["response"]["error"]["code"], "malformed_packet");
    let frame = format!(r#"{{"message":{{"x":{}1{}}}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(rejected(frame.as_bytes())["response"]["error"]["code"], "malformed_packet");
}

#[test]
fn lists_of_an_update_are_objects_of_lists() {
    let packet: ConversationUpdatePacket = decode(
        "conversation_update",
        json!({ "id": "c", "participants": { "add": ["a", 7], "to": [] }, "admins": {}, "image_object": null }),
    )
    .unwrap();
    let change = packet.participants.unwrap();
    assert_eq!((change.add, change.remove), (vec!["a".to_owned(), String::new()], vec![]));
    assert!(packet.admins.is_some_and(|admins| admins.add.is_empty() && admins.remove.is_empty()));
    assert!(packet.image.is_none());
    for (name, odd) in [
        ("participants", json!(["a"])),
        ("participants", json!({ "add": "a" })),
        ("admins", json!({ "remove": {} })),
        ("admins", json!(true)),
    ] {
        let refusal = refused::<ConversationUpdatePacket>("conversation_update", json!({ "id": "c", name: odd }));
        assert_eq!(refusal, Failure::validation(name));
    }
    let missing = Failure::of_field(Reason::CidMissing, "id");
    assert_eq!(refused::<ConversationUpdatePacket>("conversation_update", json!({ "name": 7 })), missing);
    assert_eq!(refused::<ConversationDeletePacket>("conversation_delete", json!({ "id": null })), missing);
}
