//! What an idle, logged-in connection costs the process.

use std::fs;

use e2e::{TestClient, TestStack};
use futures_util::future::join_all;

/// Sockets of one session: as many as a device may have.
const PER_SESSION: usize = 20;
/// Sessions whose sockets are opened before memory is first looked at, so that nothing of the start is counted.
const WARM_UP: usize = 15;
/// Sessions whose sockets are counted.
const COUNTED: usize = 45;
/// What an idle, logged-in connection may cost, in bytes. The library's default buffers alone would be 130,000.
const BYTES_PER_CONNECTION: u64 = 6_000;

#[tokio::test]
async fn an_idle_connection_costs_less_than_6_kb() {
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

/// The server's resident memory.
fn resident_bytes(stack: &TestStack) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", stack.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
