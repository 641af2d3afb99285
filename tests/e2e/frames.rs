//! What a stranger's frames may be: every kind of bad one gets its answer or its close code, and good ones of unusual
//! form work.

use std::net::SocketAddr;

use e2e::packets::assert_error;
use e2e::wire::{RawFrame, RawSocket, opcode};
use e2e::{Closed, TestStack};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;

/// The largest frame before login.
const STRANGER_BYTES: usize = 64 * 1024;
/// The largest frame after login.
const MEMBER_BYTES: usize = 4 * 1024 * 1024;

const PING: &[u8] = br#"{"ping":{},"id":1}"#;

async fn gateway() -> (e2e::StackHandle, SocketAddr) {
    let stack = TestStack::shared().await;
    let address = stack.gateway();
    (stack, address)
}

/// A ping of exactly this many bytes.
fn ping_of(bytes: usize) -> Vec<u8> {
    let around = json!({"ping": {"fill": ""}, "id": 1}).to_string();
    json!({"ping": {"fill": "f".repeat(bytes - around.len())}, "id": 1}).to_string().into_bytes()
}

async fn expect_pong(socket: &mut RawSocket) {
    assert_eq!(socket.packet().await, json!({"response": {"id": 1, "pong": {}}}));
}

#[tokio::test]
async fn breaches_of_the_websocket_protocol_close_with_1002() {
    let (_stack, address) = gateway().await;
    let ping = RawFrame::new(opcode::TEXT, PING);
    let long_control = RawFrame::new(opcode::PING, vec![0; 126]);
    let breaches: [(&str, Vec<RawFrame>); 8] = [
        ("an unmasked frame", vec![RawFrame { is_masked: false, ..ping.clone() }]),
        ("a reserved bit", vec![RawFrame { reserved: 4, ..ping.clone() }]),
        ("an unknown opcode", vec![RawFrame::new(0x3, PING)]),
        ("an unknown control opcode", vec![RawFrame::new(0xb, PING)]),
        ("a further part of nothing", vec![RawFrame::new(opcode::CONTINUATION, PING)]),
        ("a message inside a message", vec![ping.clone().unfinished(), ping.clone()]),
        ("a control frame over 125 bytes", vec![long_control]),
        ("a control frame in parts", vec![RawFrame::new(opcode::PING, "p").unfinished()]),
    ];
    for (what, frames) in breaches {
        let mut socket = RawSocket::open(address).await;
        for frame in &frames {
            socket.write(frame).await;
        }
        assert_eq!(socket.end().await, (0, Closed::Code(1002)), "{what}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_malformed_and_leaves_the_socket_open() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    for kind in [opcode::TEXT, opcode::BINARY] {
        for bytes in [&b"{\"ping\":{},\"id\":\"\xff\"}"[..], b"\xc3\x28", b"{\"ping\":{}} \xe2\x82"] {
            socket.write(&RawFrame::new(kind, bytes)).await;
            assert_error(&socket.packet().await["response"], 400, "malformed_packet");
        }
        socket.write(&RawFrame::new(kind, PING)).await;
        expect_pong(&mut socket).await;
    }
}

#[tokio::test]
async fn a_message_may_come_in_parts_with_control_frames_between() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    let text = "{\"ping\":{\"x\":\"\u{1F600}\"},\"id\":1}".as_bytes();
    // Cut in the middle of a character.
    let cut = text.iter().position(|&byte| byte == 0xf0).unwrap() + 2;
    socket.write(&RawFrame::new(opcode::TEXT, &text[..cut]).unfinished()).await;
    socket.write(&RawFrame::new(opcode::PING, "between")).await;
    assert_eq!(socket.frame().await, Ok(Frame::Pong("between".into())));
    for byte in &text[cut..] {
        socket.write(&RawFrame::new(opcode::CONTINUATION, [*byte]).unfinished()).await;
    }
    socket.write(&RawFrame::new(opcode::CONTINUATION, "")).await;
    expect_pong(&mut socket).await;
}

#[tokio::test]
async fn frames_may_be_cut_and_glued_anywhere_on_their_way() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    let mut bytes = Vec::new();
    for _ in 0..3 {
        bytes.extend(RawFrame::new(opcode::TEXT, PING).bytes());
    }
    for byte in &bytes {
        socket.write_bytes(&[*byte]).await;
    }
    socket.write_bytes(&bytes).await;
    for _ in 0..6 {
        expect_pong(&mut socket).await;
    }
}

#[tokio::test]
async fn a_stranger_may_send_64_kib_and_not_more() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    socket.write(&RawFrame::new(opcode::TEXT, ping_of(STRANGER_BYTES))).await;
    expect_pong(&mut socket).await;
    let half = || vec![b' '; STRANGER_BYTES / 2 + 1];
    let too_big = [
        vec![RawFrame::new(opcode::TEXT, ping_of(STRANGER_BYTES + 1))],
        vec![RawFrame::new(opcode::BINARY, ping_of(STRANGER_BYTES + 1))],
        vec![RawFrame::new(opcode::TEXT, half()).unfinished(), RawFrame::new(opcode::CONTINUATION, half())],
        // Claimed only: nobody must wait for the bytes.
        vec![RawFrame { claimed_bytes: Some(1 << 62), ..RawFrame::new(opcode::TEXT, "") }],
    ];
    for frames in too_big {
        let mut socket = RawSocket::open(address).await;
        for frame in &frames {
            socket.write(frame).await;
        }
        assert_eq!(socket.end().await, (0, Closed::Code(1009)));
    }
}

#[tokio::test]
async fn a_member_may_send_4_mib_and_not_more() {
    let org = TestStack::organization().await;
    let session = org.sign_up("ann").await.log_in(org.stack(), "d").await;
    let mut socket = RawSocket::open(org.stack().gateway()).await;
    socket.bind(&session).await;
    socket.write(&RawFrame::new(opcode::TEXT, ping_of(MEMBER_BYTES))).await;
    expect_pong(&mut socket).await;
    socket.write(&RawFrame::new(opcode::TEXT, ping_of(MEMBER_BYTES + 1))).await;
    assert_eq!(socket.end().await, (0, Closed::Code(1009)));
}

#[tokio::test]
async fn twenty_malformed_frames_are_abuse() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    for _ in 0..19 {
        socket.write(&RawFrame::new(opcode::TEXT, "not json")).await;
        assert_error(&socket.packet().await["response"], 400, "malformed_packet");
        // What is merely unknown or refused is no abuse.
        socket.write(&RawFrame::new(opcode::TEXT, r#"{"no_such":{},"id":1}"#)).await;
        assert_error(&socket.packet().await["response"], 404, "unknown_request");
    }
    socket.write(&RawFrame::new(opcode::TEXT, "not json")).await;
    let (answers, closed) = socket.end().await;
    assert_eq!(closed, Closed::Code(1008));
    assert!(answers <= 1, "{answers}");
}

#[tokio::test]
async fn nesting_without_end_is_malformed() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    for (open, close) in [("[", "]"), (r#"{"ping":"#, "}")] {
        let depth = 60_000 / (open.len() + close.len());
        for text in [open.repeat(depth), format!("{}1{}", open.repeat(depth), close.repeat(depth))] {
            socket.write(&RawFrame::new(opcode::TEXT, text)).await;
            assert_error(&socket.packet().await["response"], 400, "malformed_packet");
        }
    }
}

#[tokio::test]
async fn a_close_is_answered() {
    let (_stack, address) = gateway().await;
    let mut socket = RawSocket::open(address).await;
    socket.write(&RawFrame::new(opcode::CLOSE, 1000_u16.to_be_bytes())).await;
    assert_eq!(socket.end().await, (0, Closed::Code(1000)));
    let mut socket = RawSocket::open(address).await;
    socket.write(&RawFrame::new(opcode::CLOSE, "")).await;
    assert!(matches!(socket.end().await, (0, Closed::NoCode | Closed::Code(1000))));
}

/// Writes bytes to a new connection and returns the head of the answer, or nothing when there is none.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut answer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_upgrade_works_on_every_path_and_chooses_no_subprotocol() {
    let (_stack, address) = gateway().await;
    let upgrade = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    };
    for path in ["/", "/socket?token=x", "/admin/organization", "/health"] {
        let more = "Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://evil.example\r\n";
        let answer = answer_to(address, upgrade(path, more).as_bytes()).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{path}: {answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
    }
    let answer = answer_to(address, upgrade("/", "").replace("Version: 13", "Version: 12").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 426 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer =
        answer_to(address, upgrade("/", "").replace("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_disturbs_nobody() {
    let (_stack, address) = gateway().await;
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\r\n\r\n\r\n\r\n", b"NONSENSE\r\n\r\n", &[0; 64]]
    {
        let answer = answer_to(address, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "p".repeat(1_000_000));
    let answer = answer_to(address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let mut socket = RawSocket::open(address).await;
    socket.write(&RawFrame::new(opcode::TEXT, PING)).await;
    expect_pong(&mut socket).await;
}
