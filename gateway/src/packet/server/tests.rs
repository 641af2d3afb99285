//! Golden frames: what goes out, to the letter.

mod changes;

use bytes::Bytes;
use proto::reason::Reason;

use super::*;
use crate::packet::client::decode_envelope;

fn id(last: u8) -> Bytes {
    Bytes::from(vec![0x65, 0xa0, 0x3f, 0x90, 0, 0, 0, 0, 0, 0, 0, last])
}

fn reply_to(frame: &str) -> ReplyTo {
    match decode_envelope(frame.as_bytes()) {
        Ok(envelope) => envelope.reply_to,
        Err(rejection) => rejection.reply_to,
    }
}

fn user() -> v1::User {
    v1::User {
        id: id(1),
        login: "ann".to_owned(),
        recent_activity: 0,
        created_at_ms: 1_705_000_000_870,
        updated_at_ms: 1_705_000_001_000,
        ..Default::default()
    }
}

const USER: &str = concat!(
    r#"{"_id":"65a03f900000000000000001","native_id":"65a03f900000000000000001","login":"ann","recent_activity":0,"#,
    r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:41.000Z"}"#
);

fn group() -> v1::Conversation {
    v1::Conversation {
        id: id(9),
        r#type: v1::ConversationType::Group.into(),
        organization_id: "default".to_owned(),
        owner_id: id(1),
        name: Some("Team".to_owned()),
        image: Some(v1::Image { file_id: Some("f".to_owned()), ..Default::default() }),
        created_at_ms: 1_705_000_000_870,
        updated_at_ms: 1_705_000_000_870,
        participant_ids: vec![id(1), id(2)],
        ..Default::default()
    }
}

const GROUP: &str = concat!(
    r#"{"_id":"65a03f900000000000000009","type":"g","organization_id":"default","owner_id":"65a03f900000000000000001","#,
    r#""name":"Team","image_object":{"file_id":"f"},"#,
    r#""participants":["65a03f900000000000000001","65a03f900000000000000002"],"#,
    r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z"}"#
);

fn message() -> v1::Message {
    v1::Message {
        id: id(7),
        conversation_id: id(9),
        from_user_id: id(1),
        body: "hi".to_owned(),
        created_at_ms: 1_705_000_000_870,
        updated_at_ms: 1_705_000_000_870,
        ..Default::default()
    }
}

fn rich_message() -> v1::Message {
    v1::Message {
        body: String::new(),
        attachments: vec![v1::Attachment {
            file_id: Some("f".to_owned()),
            file_size: Some(10),
            file_width: Some(370),
            other_json: r#"{"alt":null,"zoom":1.10}"#.to_owned(),
            ..Default::default()
        }],
        x_json: r#"{"a":1.10}"#.to_owned(),
        replied_message_id: Some(id(5)),
        forwarded_message_id: Some("local".to_owned()),
        encrypted_message_type: Some(0),
        ..message()
    }
}

#[test]
fn replies() {
    let to = reply_to(r#"{"request":{"ping":{},"id":"r"}}"#);
    let (user, group) = (user(), group());
    let full = v1::User {
        email: Some("ann@example".to_owned()),
        phone: Some("123".to_owned()),
        first_name: Some("Ann".to_owned()),
        last_name: Some("Lee".to_owned()),
        recent_activity: 1_705_000_002,
        ..user.clone()
    };
    let full_text = USER.replace(
        r#""recent_activity":0"#,
        r#""email":"ann@example","phone":"123","first_name":"Ann","last_name":"Lee","recent_activity":1705000002"#,
    );
    let replies = [
        (Reply::PONG, r#""pong":{}"#.to_owned()),
        (Reply::SUCCESS, r#""success":true"#.to_owned()),
        (Reply::from(&user), format!(r#""user":{USER}"#)),
        (Reply::from(&full), format!(r#""user":{full_text}"#)),
        (
            Reply::logged_in(&user, "tok", 1_767_225_600_000),
            format!(r#""user":{USER},"token":"tok","expired_at":1767225600000"#),
        ),
        (Reply::users(&[]), r#""users":[]"#.to_owned()),
        (Reply::users(std::slice::from_ref(&user)), format!(r#""users":[{USER}]"#)),
        (Reply::from(&group), format!(r#""conversation":{GROUP}"#)),
        (Reply::conversations(&[]), r#""conversations":[]"#.to_owned()),
        (Reply::messages(&[]), r#""messages":[]"#.to_owned()),
    ];
    for (reply, content) in replies {
        assert_eq!(response(&to, &reply), format!(r#"{{"response":{{"id":"r",{content}}}}}"#));
    }
    let nameless = reply_to(r#"{"ping":{}}"#);
    assert_eq!(response(&nameless, &Reply::SUCCESS), r#"{"response":{"success":true}}"#);
}

#[test]
fn conversations_of_every_type() {
    let to = reply_to(r#"{"conversation_create":{}}"#);
    let private = v1::Conversation {
        r#type: v1::ConversationType::Private.into(),
        opponent_id: Some(id(2)),
        is_encrypted: true,
        name: None,
        image: None,
        participant_ids: vec![],
        ..group()
    };
    assert_eq!(
        response(&to, &Reply::from(&private)),
        concat!(
            r#"{"response":{"conversation":{"_id":"65a03f900000000000000009","type":"u","organization_id":"default","#,
            r#""owner_id":"65a03f900000000000000001","opponent_id":"65a03f900000000000000002","is_encrypted":true,"#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z"}}}"#
        )
    );
    let channel = v1::Conversation {
        r#type: v1::ConversationType::Channel.into(),
        description: Some("news".to_owned()),
        subscribers_count: Some(1),
        image: None,
        participant_ids: vec![],
        ..group()
    };
    assert_eq!(
        response(&to, &Reply::from(&channel)),
        concat!(
            r#"{"response":{"conversation":{"_id":"65a03f900000000000000009","type":"c","organization_id":"default","#,
            r#""owner_id":"65a03f900000000000000001","name":"Team","description":"news","subscribers_count":1,"#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z"}}}"#
        )
    );
}

#[test]
fn a_listed_conversation_shows_its_last_message_in_short() {
    let to = reply_to(r#"{"conversation_list":{}}"#);
    let listed = [
        v1::ListedConversation {
            conversation: Some(group()),
            last_message: Some(rich_message()),
            last_message_read: true,
            unread_messages_count: 3,
        },
        v1::ListedConversation { conversation: Some(group()), ..Default::default() },
    ];
    let group = GROUP.strip_suffix('}').unwrap();
    assert_eq!(
        response(&to, &Reply::conversations(&listed)),
        format!(
            concat!(
                r#"{{"response":{{"conversations":["#,
                r#"{group},"last_message":{{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","#,
                r#""from":"65a03f900000000000000001","t":1705000001,"body":"","#,
                r#""attachments":[{{"file_id":"f","file_size":10,"file_width":370,"alt":null,"zoom":1.10}}],"#,
                r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z","#,
                r#""status":"read","reactions":{{}}}},"unread_messages_count":3}},"#,
                r#"{group},"unread_messages_count":0}}]}}}}"#
            ),
            group = group
        )
    );
}

#[test]
fn listed_messages_carry_a_status_only_when_they_are_the_callers() {
    let to = reply_to(r#"{"message_list":{},"id":1}"#);
    let messages = [
        v1::ListedMessage { message: Some(rich_message()), read: Some(false) },
        v1::ListedMessage { message: Some(message()), read: Some(true) },
        v1::ListedMessage { message: Some(message()), read: None },
    ];
    assert_eq!(
        response(&to, &Reply::messages(&messages)),
        concat!(
            r#"{"response":{"id":1,"messages":["#,
            r#"{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","from":"65a03f900000000000000001","#,
            r#""t":1705000001,"body":"","#,
            r#""attachments":[{"file_id":"f","file_size":10,"file_width":370,"alt":null,"zoom":1.10}],"x":{"a":1.10},"#,
            r#""replied_message_id":"65a03f900000000000000005","forwarded_message_id":"local","encrypted_message_type":0,"#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z","#,
            r#""status":"sent","reactions":{}},"#,
            r#"{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","from":"65a03f900000000000000001","#,
            r#""t":1705000001,"body":"hi","#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z","#,
            r#""status":"read","reactions":{}},"#,
            r#"{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","from":"65a03f900000000000000001","#,
            r#""t":1705000001,"body":"hi","#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z","reactions":{}}]}}"#
        )
    );
}

#[test]
fn participants_are_whole_or_ids() {
    let to = reply_to(r#"{"get_participants_by_cids":{}}"#);
    let participants = v1::ListParticipantsResponse {
        conversations: vec![v1::ConversationMembers { conversation_id: id(9), user_ids: vec![id(1), id(2)] }],
        users: vec![v1::Participant { id: id(2), user: None }, v1::Participant { id: id(1), user: Some(user()) }],
    };
    let conversations =
        r#""conversations":{"65a03f900000000000000009":["65a03f900000000000000001","65a03f900000000000000002"]}"#;
    assert_eq!(
        response(&to, &Reply::participants(&participants, false)),
        format!(
            concat!(
                r#"{{"response":{{"users":[{{"_id":"65a03f900000000000000002","native_id":"65a03f900000000000000002"}},"#,
                r#"{}],{}}}}}"#
            ),
            USER, conversations
        )
    );
    assert_eq!(
        response(&to, &Reply::participants(&participants, true)),
        format!(
            r#"{{"response":{{"users":[{{"_id":"65a03f900000000000000002"}},{{"_id":"65a03f900000000000000001"}}],{conversations}}}}}"#
        )
    );
    assert_eq!(
        response(&to, &Reply::participants(&v1::ListParticipantsResponse::default(), false)),
        r#"{"response":{"users":[],"conversations":{}}}"#
    );
}

#[test]
fn a_failure_comes_back_in_the_form_of_the_request() {
    let error = r#""error":{"status":401,"code":"not_authenticated","message":"Log in first."}"#;
    let cases = [
        (r#"{"request":{"message_list":{},"id":7}}"#, format!(r#"{{"response":{{"id":7,{error}}}}}"#)),
        (r#"{"request":{"message_list":{}}}"#, format!(r#"{{"response":{{{error}}}}}"#)),
        (r#"{"message_read":{"id":"x"},"id":"123"}"#, format!(r#"{{"response":{{"id":"123",{error}}}}}"#)),
        (r#"{"request":{"message":{"id":"m"},"id":7}}"#, format!(r#"{{"response":{{"id":7,{error}}}}}"#)),
        (r#"{"request":{"message":{"id":"m"}}}"#, format!(r#"{{"response":{{{error}}}}}"#)),
        (r#"{"request":{"typing":{},"id":7}}"#, format!(r#"{{"response":{{"id":7,{error}}}}}"#)),
        (r#"{"message":{"id":"m"}}"#, format!(r#"{{"message":{{"id":"m",{error}}}}}"#)),
        (r#"{"message":{"id":"m"},"id":7}"#, format!(r#"{{"message":{{"id":"m",{error}}}}}"#)),
        (r#"{"message":{"id":12312},"id":"r"}"#, format!(r#"{{"message":{{"id":12312,{error}}}}}"#)),
        (r#"{"message":{"id":[]},"id":7}"#, format!(r#"{{"message":{{"id":7,{error}}}}}"#)),
        (r#"{"message":"odd"}"#, format!(r#"{{"message":{{{error}}}}}"#)),
        (r#"{"typing":{"cid":"c","from":"f"}}"#, format!(r#"{{"typing":{{{error}}}}}"#)),
        (r#"{"typing":{"id":"t","cid":"c"}}"#, format!(r#"{{"typing":{{"id":"t",{error}}}}}"#)),
        (r#"{"no_such":{},"id":1}"#, format!(r#"{{"response":{{"id":1,{error}}}}}"#)),
    ];
    for (frame, expected) in cases {
        assert_eq!(failure(&reply_to(frame), &Reason::NotAuthenticated.into()), expected, "{frame}");
    }
}

#[test]
fn an_acknowledgement_names_the_message_as_its_sender_does() {
    let sent = v1::SendMessageResponse { message_id: id(7), created_at_ms: 1_705_000_000_870 };
    let cases = [
        (r#"{"message":{"id":"62180е68"}}"#, "62180е68"),
        (r#"{"message":{"id":"m"},"id":"r"}"#, "m"),
        (r#"{"message":{},"id":"r"}"#, "r"),
        (r#"{"message":{"id":null},"id":"r"}"#, "r"),
        (r#"{"request":{"message":{"id":"u-1"},"id":"u-1"}}"#, "u-1"),
        (r#"{"request":{"message":{},"id":17}}"#, "17"),
        (r#"{"message":{}}"#, "65a03f900000000000000007"),
    ];
    for (frame, mid) in cases {
        let accepted = format!(
            r#"{{"mid":"{mid}","server_mid":"65a03f900000000000000007","t":1705000001,"created_at":"2024-01-11T19:06:40.870Z"}}"#
        );
        let expected = format!(r#"{{"ask":{accepted},"ack":{accepted}}}"#);
        assert_eq!(ask_ack(&reply_to(frame), &sent), expected, "{frame}");
    }
}

#[test]
fn events() {
    let sent =
        |message| v1::MessageSent { message: Some(message), conversation_type: v1::ConversationType::Group.into() };
    assert_eq!(
        step(&v1::step::Fact::MessageSent(sent(message()))).unwrap(),
        concat!(
            r#"{"message":{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","c_type":"g","#,
            r#""from":"65a03f900000000000000001","t":1705000001,"body":"hi","#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z"}}"#
        )
    );
    assert_eq!(
        step(&v1::step::Fact::MessageSent(sent(rich_message()))).unwrap(),
        concat!(
            r#"{"message":{"_id":"65a03f900000000000000007","cid":"65a03f900000000000000009","c_type":"g","#,
            r#""from":"65a03f900000000000000001","t":1705000001,"body":"","#,
            r#""attachments":[{"file_id":"f","file_size":10,"file_width":370,"alt":null,"zoom":1.10}],"x":{"a":1.10},"#,
            r#""replied_message_id":"65a03f900000000000000005","forwarded_message_id":"local","encrypted_message_type":0,"#,
            r#""created_at":"2024-01-11T19:06:40.870Z","updated_at":"2024-01-11T19:06:40.870Z"}}"#
        )
    );
    let created =
        v1::ConversationCreated { conversation: Some(group()), from_user_id: id(1), at_ms: 1_705_000_002_500 };
    assert_eq!(
        step(&v1::step::Fact::ConversationCreated(created)).unwrap(),
        format!(
            concat!(
                r#"{{"event":{{"conversation_created":{group}}},"#,
                r#""system_message":{{"_id":"65a03f900000000000000009","cid":"65a03f900000000000000009","#,
                r#""from":"65a03f900000000000000001","t":1705000003,"x":{{"conversation_created":{group}}}}}}}"#
            ),
            group = GROUP
        )
    );
    let read = v1::MessagesRead { conversation_id: id(9), message_ids: vec![id(8), id(7)], from_user_id: id(2) };
    assert_eq!(
        step(&v1::step::Fact::MessagesRead(read)).unwrap(),
        concat!(
            r#"{"message_read":{"cid":"65a03f900000000000000009","#,
            r#""ids":["65a03f900000000000000008","65a03f900000000000000007"],"from":"65a03f900000000000000002"}}"#
        )
    );
    let read = v1::OwnMessagesRead {
        conversation_id: id(9),
        message_ids: vec![id(8)],
        from_user_id: id(2),
        unread_messages_count: 0,
    };
    assert_eq!(
        step(&v1::step::Fact::OwnMessagesRead(read)).unwrap(),
        concat!(
            r#"{"event":{"message_read":{"cid":"65a03f900000000000000009","ids":["65a03f900000000000000008"],"#,
            r#""from":"65a03f900000000000000002","unread_messages_count":0}}}"#
        )
    );
    assert_eq!(step(&v1::step::Fact::SessionsRevoked(v1::SessionsRevoked::default())), None);
}

#[test]
fn typing_goes_out_under_both_names() {
    let typing = v1::Typing {
        conversation_id: id(9),
        conversation_type: v1::ConversationType::Group.into(),
        from_user_id: id(1),
        at: 1_705_000_002,
        client_id: Some("62180e68f4794709f802a3vb".to_owned()),
        state: Some("start".to_owned()),
    };
    assert_eq!(
        notice(&v1::notice::Fact::Typing(typing.clone())),
        concat!(
            r#"{"typing":{"cid":"65a03f900000000000000009","c_type":"g","from":"65a03f900000000000000001","#,
            r#""t":1705000002,"id":"62180e68f4794709f802a3vb","type":"start","status":"start"}}"#
        )
    );
    let bare = v1::Typing { client_id: None, state: None, ..typing };
    assert_eq!(
        notice(&v1::notice::Fact::Typing(bare)),
        concat!(
            r#"{"typing":{"cid":"65a03f900000000000000009","c_type":"g","from":"65a03f900000000000000001","#,
            r#""t":1705000002}}"#
        )
    );
}

#[test]
fn a_frame_has_one_key_that_clients_dispatch_on() {
    let dispatched = ["typing", "system_message", "last_activity", "message_read", "message_edit", "message_delete"]
        .into_iter()
        .chain(["message", "ask", "response"]);
    let dispatched: Vec<_> = dispatched.collect();
    let to = reply_to(r#"{"message":{"id":"m"}}"#);
    let facts = [
        v1::step::Fact::MessageSent(v1::MessageSent { message: Some(message()), conversation_type: 1 }),
        v1::step::Fact::ConversationCreated(v1::ConversationCreated {
            conversation: Some(group()),
            ..Default::default()
        }),
        v1::step::Fact::MessagesRead(v1::MessagesRead::default()),
        v1::step::Fact::OwnMessagesRead(v1::OwnMessagesRead::default()),
    ];
    let mut frames: Vec<String> = facts.iter().filter_map(step).collect();
    assert_eq!(frames.len(), 4);
    frames.push(notice(&v1::notice::Fact::Typing(v1::Typing::default())));
    frames.push(ask_ack(&to, &v1::SendMessageResponse::default()));
    frames.push(failure(&to, &Reason::InternalError.into()));
    frames.push(response(&to, &Reply::SUCCESS));
    for frame in frames {
        let packet: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&frame).unwrap();
        let keys = packet.keys().filter(|key| dispatched.contains(&key.as_str())).count();
        let event_only = packet.len() == 1 && packet.contains_key("event");
        assert!(keys == 1 || event_only, "{frame}");
    }
}

#[test]
fn what_a_newer_core_might_send_does_not_disturb() {
    let odd = v1::Message { x_json: "not json".to_owned(), ..message() };
    let sent = v1::MessageSent { message: Some(odd), conversation_type: 77 };
    let frame = step(&v1::step::Fact::MessageSent(sent)).unwrap();
    assert!(!frame.contains("\"x\"") && !frame.contains("c_type"), "{frame}");
    assert_eq!(step(&v1::step::Fact::MessageSent(v1::MessageSent::default())), None);
}
