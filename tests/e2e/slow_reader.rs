//! A client that stops reading loses its socket, and nobody else loses anything.

use e2e::Closed;
use e2e::packets::{is_message, text};
use e2e::wire::RawSocket;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::team::Team;

/// More events than the queue of a socket holds, and more bytes than it and the operating system hold together.
const MESSAGES: usize = 150;

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_with_4008_and_the_others_get_everything() {
    let Team { org, mut ann, mut bob, mut carl, cid } = Team::new().await;
    let mut slow = RawSocket::open_with_buffer(org.stack().gateway(), 4096).await;
    slow.bind(carl.session()).await;
    // 192 KiB each, 28 MiB in all.
    let body = |number: usize| format!("{number:05}{}", "\u{20AC}".repeat(65_531));
    for number in 0..MESSAGES {
        ann.send_message(&cid, &body(number)).await;
    }
    for client in [&mut bob, &mut carl] {
        for number in 0..MESSAGES {
            let packet = client.next().await;
            assert!(is_message(&packet, &body(number)), "message {number} is not next");
        }
    }
    // The slow one, reading again, finds what was on its way, without a hole, and then why it was closed.
    let mut got = 0;
    let closed = loop {
        match slow.frame().await {
            Ok(Frame::Text(frame)) => {
                let packet: Value = serde_json::from_str(&frame).unwrap();
                assert!(text(&packet["message"], "body").starts_with(&format!("{got:05}")), "a hole at {got}");
                got += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(closed) => break closed,
        }
    };
    assert_eq!(closed, Closed::Code(4008));
    assert!(got < MESSAGES, "nothing was held back");
}
