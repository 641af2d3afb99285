//! What costs the process memory: idle connections, and frames that are made to cost much.

use std::fs;

use e2e::wire::{RawFrame, RawSocket, opcode};
use e2e::{TestClient, TestStack};
use futures_util::future::join_all;
use serde_json::json;

/// Sockets of one session: as many as a device may have.
const PER_SESSION: usize = 20;
/// Sessions whose sockets are opened before memory is first looked at, so that nothing of the start is counted.
const WARM_UP: usize = 50;
/// Sessions whose sockets are counted.
const COUNTED: usize = 150;
/// What an idle, logged-in connection may cost, in bytes. The library's default buffers alone would be 130,000; the
/// benchmark tells what it costs in a release build, which is less than in the one tested here.
const BYTES_PER_CONNECTION: u64 = 8_000;

#[tokio::test]
async fn an_idle_connection_costs_little() {
    let stack = TestStack::builder().start().await;
    let org = stack.new_organization().await;
    let ann = org.sign_up("ann").await;
    let mut sessions = Vec::new();
    for number in 0..WARM_UP + COUNTED {
        sessions.push(ann.log_in(&stack, &format!("device {number}")).await);
    }
    let mut clients: Vec<TestClient> = Vec::new();
    let mut before = 0;
    for (number, session) in sessions.iter().enumerate() {
        if number == WARM_UP {
            before = resident_bytes(&stack);
        }
        clients.extend(join_all((0..PER_SESSION).map(|_| session.connect(&stack))).await);
    }
    let counted = (COUNTED * PER_SESSION) as u64;
    let each = resident_bytes(&stack).saturating_sub(before) / counted;
    assert!(each > 500, "{each} bytes: the measurement does not see the connections");
    assert!(each < BYTES_PER_CONNECTION, "{each} bytes for each idle connection");
}

/// A list of as many objects as fit into so many bytes: as a tree it would take a hundred times the memory.
fn small_parts(bytes: usize) -> String {
    let part = r#"{"":0}"#;
    format!("[{}]", vec![part; bytes / (part.len() + 1)].join(","))
}

#[tokio::test]
async fn bodies_that_wait_for_a_password_cost_little_more_than_their_text() {
    let stack = TestStack::builder().start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let client = reqwest::Client::new();
    let log_in_often = async |parts: &str| {
        let body = ann.credentials("d").to_string().replacen('{', &format!(r#"{{"p":{parts},"#), 1);
        let logins = (0..100).map(|_| {
            let request = client.post(format!("http://{}/login", stack.gateway())).body(body.clone());
            request.header("content-type", "application/json").send()
        });
        let answers = join_all(logins).await;
        answers.into_iter().filter(|answer| answer.as_ref().unwrap().status() == 200).count()
    };
    // What hashes and connections take is no matter here.
    log_in_often("[]").await;
    let before = peak_bytes(&stack);
    let logged_in = log_in_often(&small_parts(64_000)).await;
    assert!(logged_in > 20, "{logged_in} bodies were read");
    let grown = peak_bytes(&stack).saturating_sub(before);
    assert!(grown < 50_000_000, "{grown} bytes for 6.4 MB of bodies");
}

#[tokio::test]
async fn a_large_frame_costs_little_more_than_its_text() {
    let stack = TestStack::builder().start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let mut socket = RawSocket::open(stack.gateway()).await;
    socket.bind(&ann.log_in(&stack, "d").await).await;
    let before = peak_bytes(&stack);
    let parts = small_parts(4_000_000);
    for frame in [
        format!(r#"{{"ping":{{"a":{parts}}},"id":1}}"#),
        format!(r#"{{"message":{{"x":{{"a":{parts}}}}},"id":1}}"#),
        format!(r#"{{"message":{{"attachments":{parts}}},"id":1}}"#),
        format!(r#"{{"message_read":{{"cid":"c","ids":{parts}}},"id":1}}"#),
    ] {
        socket.write(&RawFrame::new(opcode::TEXT, frame)).await;
        socket.packet().await;
    }
    let grown = peak_bytes(&stack).saturating_sub(before);
    assert!(grown < 50_000_000, "{grown} bytes for frames of 4 MB");
}

#[tokio::test]
async fn claims_of_large_frames_do_not_hold_up_others() {
    let stack = TestStack::builder().start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let mut claiming = Vec::new();
    // A device has 20 sockets at most.
    for number in 0..5 {
        let session = ann.log_in(&stack, &format!("device {number}")).await;
        for _ in 0..20 {
            let mut socket = RawSocket::open(stack.gateway()).await;
            socket.bind(&session).await;
            let claim = RawFrame { claimed_bytes: Some(4_000_000), ..RawFrame::new(opcode::TEXT, "{") };
            socket.write(&claim).await;
            claiming.push(socket);
        }
    }
    let mut socket = ann.log_in(&stack, "another device").await.connect(&stack).await;
    let ping = json!({"p": "x".repeat(3_000_000)});
    let answered = tokio::time::timeout(std::time::Duration::from_secs(10), socket.succeed("ping", ping)).await;
    assert!(answered.is_ok_and(|response| response["pong"].is_object()), "400 MB are claimed, 100 bytes are sent");
}

/// The server's resident memory.
fn resident_bytes(stack: &TestStack) -> u64 {
    status_bytes(stack, "VmRSS:")
}

/// The most that it has been.
fn peak_bytes(stack: &TestStack) -> u64 {
    status_bytes(stack, "VmHWM:")
}

fn status_bytes(stack: &TestStack, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
