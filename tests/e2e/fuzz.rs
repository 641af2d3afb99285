//! Arbitrary and mutated frames at a live server, while others chat on undisturbed.

use e2e::packets::is_message;
use e2e::wire::{RawFrame, RawSocket, opcode};
use e2e::{Closed, Session, TestStack};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::team::Pair;

/// Frames on one socket before it is left, so that the rate limit of a socket does not set the pace.
const FRAMES_PER_SOCKET: usize = 90;

/// Requests that a fuzzing socket may make. Not the logout: the session is needed to come back.
const NAMES: [&str; 14] = [
    "ping",
    "connect",
    "user_create",
    "user_login",
    "user_search",
    "get_users_by_ids",
    "activity_status",
    "conversation_create",
    "conversation_list",
    "get_participants_by_cids",
    "message",
    "message_list",
    "message_read",
    "typing",
];

/// Fields that these requests have, so that arbitrary values reach the code behind the field's name.
const FIELDS: [&str; 22] = [
    "id",
    "cid",
    "cids",
    "ids",
    "body",
    "x",
    "attachments",
    "replied_message_id",
    "forwarded_message_id",
    "deleted_for",
    "encrypted_message_type",
    "limit",
    "updated_at",
    "type",
    "name",
    "participants",
    "image_object",
    "login",
    "token",
    "device_id",
    "keyword",
    "ignore_ids",
];

fn json_value(cid: String) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[0-9a-f]{24}".prop_map(Value::from),
        "[0-9]{1,20}".prop_map(Value::from),
        Just(json!("2024-02-30T25:61:61.9999999999Z")),
        Just(Value::from(cid)),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            object(inner.clone()),
            prop::collection::hash_map(".{0,8}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object of known fields.
fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let field = (prop::sample::select(&FIELDS[..]), inner);
    prop::collection::vec(field, 0..6)
        .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

/// A packet of a known name in one of the forms, with an arbitrary payload.
fn packet(cid: String) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![3 => object(json_value(cid.clone())), 1 => json_value(cid.clone())];
    let id = json_value(cid);
    (prop::sample::select(&NAMES[..]), payload, id, 0..3).prop_map(|(name, payload, id, form)| {
        let packet = match form {
            0 => json!({"request": {name: payload, "id": id}}),
            1 => json!({name: payload, "id": id}),
            _ => json!({name: payload}),
        };
        packet.to_string().into_bytes()
    })
}

/// A packet with bytes changed, doubled, taken out or cut off.
fn mutated(cid: String) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..4, any::<u8>());
    (packet(cid), prop::collection::vec(change, 1..6)).prop_map(|(mut bytes, changes)| {
        for (place, kind, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => drop(bytes.remove(place)),
                _ => bytes.truncate(place),
            }
        }
        bytes
    })
}

fn frame(cid: String) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => packet(cid.clone()),
        3 => mutated(cid.clone()),
        1 => json_value(cid).prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[tokio::test]
async fn the_server_bears_any_frame() {
    bear(TestRunner::deterministic(), 400).await;
}

#[tokio::test]
#[ignore = "long: run by tests/run --long"]
async fn the_server_bears_very_many_frames() {
    bear(TestRunner::new(Config::default()), 30_000).await;
}

async fn bear(mut runner: TestRunner, count: usize) {
    let stack = TestStack::builder().start().await;
    let Pair { org, mut ann, mut bob, cid } = Pair::of(stack.new_organization().await).await;
    let eve = org.client("eve").await;
    let (session, member) = (eve.session().clone(), ann.session().clone());
    let strategy = frame(cid.clone());
    let mut frames: Vec<Vec<u8>> =
        (0..count).map(|_| strategy.new_tree(&mut runner).expect("no filter").current()).collect();
    // A stranger, somebody from outside the conversation, and one of its members.
    let third = count / 3;
    let (third_part, second_part) = (frames.split_off(2 * third), frames.split_off(third));
    let fuzzing = async {
        tokio::join!(
            throw(stack.gateway(), None, frames),
            throw(stack.gateway(), Some(&session), second_part),
            throw(stack.gateway(), Some(&member), third_part),
        );
    };
    let mut chats = 0;
    let chatting = async {
        loop {
            let body = format!("chat {chats}");
            ann.send_message(&cid, &body).await;
            // The member who throws frames may hit on a message; it is no disturbance.
            bob.everything_until("the chat to go on", |packet| is_message(packet, &body)).await;
            ann.drain();
            chats += 1;
        }
    };
    tokio::select! {
        () = fuzzing => {}
        () = chatting => {}
    }
    assert!(chats > 10, "{chats}");
    let panics: Vec<_> = stack.output().lines().into_iter().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
    assert_eq!(stack.terminate().await.0.code(), Some(0));
}

/// Sends frames and waits after each until the server has dealt with it. It may close the socket for abuse only.
async fn throw(gateway: std::net::SocketAddr, session: Option<&Session>, frames: Vec<Vec<u8>>) {
    let open = async || {
        let mut socket = RawSocket::open(gateway).await;
        if let Some(session) = session {
            socket.bind(session).await;
        }
        socket
    };
    let mut socket = open().await;
    for (number, frame) in frames.into_iter().enumerate() {
        if number % FRAMES_PER_SOCKET == FRAMES_PER_SOCKET - 1 {
            socket = open().await;
        }
        let kind = if std::str::from_utf8(&frame).is_ok() { opcode::TEXT } else { opcode::BINARY };
        socket.write(&RawFrame::new(kind, frame.clone())).await;
        let fence = format!("fence {number}");
        socket.write(&RawFrame::new(opcode::TEXT, json!({"ping": {}, "id": fence}).to_string())).await;
        loop {
            match socket.frame().await {
                Ok(Frame::Text(text)) => {
                    let packet: Value = serde_json::from_str(&text).expect("a frame is JSON");
                    assert_ne!(packet["response"]["error"]["status"], 500, "after {}", shown(&frame));
                    assert_ne!(packet["message"]["error"]["status"], 500, "after {}", shown(&frame));
                    if packet["response"]["id"] == fence {
                        break;
                    }
                }
                Ok(other) => panic!("{other:?} after {}", shown(&frame)),
                Err(closed) => {
                    assert_eq!(closed, Closed::Code(1008), "after {}", shown(&frame));
                    socket = open().await;
                    break;
                }
            }
        }
    }
}

fn shown(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}
