//! Connections over an in-memory stream: what a client sends and sees. Time is paused.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::close::CloseReason;
use super::room::{LARGE_MESSAGE_BYTES, MessageRoom, SMALL_MESSAGE_BYTES};
use super::send_queue::SendQueue;
use super::socket::{Inbound, Socket};
use super::{Connection, Handshaken};
use crate::session::tests::{ANN, FakeCore, World};

/// What the stream holds on its way, in bytes.
const STREAM_BYTES: usize = 16 * 1024;
/// What large messages share, in bytes.
const ROOM_BYTES: usize = 16 * 1024 * 1024;
const FREE_ROOM: (usize, usize) = (ROOM_BYTES / 2, ROOM_BYTES / 2);

/// A served connection and its client's end.
struct Served<C> {
    client: C,
    queue: Arc<SendQueue>,
    world: World,
    room: Arc<MessageRoom>,
    task: JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test waits for the task")]
fn serve_raw() -> Served<DuplexStream> {
    let world = World::new();
    let (client, stream) = duplex(STREAM_BYTES);
    let (session, queue) = world.session(1, "127.0.0.1");
    let room = Arc::new(MessageRoom::new(ROOM_BYTES));
    let handshaken = Handshaken { stream, read_ahead: Bytes::new(), room: Arc::clone(&room) };
    let task = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { Connection::new(handshaken, queue, session).await.run().await }
    });
    Served { client, queue, world, room, task }
}

async fn serve() -> Served<WebSocketStream<DuplexStream>> {
    let Served { client, queue, world, room, task } = serve_raw();
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    Served { client, queue, world, room, task }
}

async fn serve_connected() -> Served<WebSocketStream<DuplexStream>> {
    let mut served = serve().await;
    served.send(json!({"connect": {"token": "ann", "device_id": "pc"}})).await;
    assert_eq!(served.receive().await, json!({"response": {"success": true}}));
    served
}

impl Served<WebSocketStream<DuplexStream>> {
    async fn send(&mut self, packet: Value) {
        self.send_message(Message::text(packet.to_string())).await;
    }

    async fn send_message(&mut self, message: Message) {
        self.client.send(message).await.unwrap();
    }

    /// The next packet; pings are answered on the way.
    async fn receive(&mut self) -> Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no packet but {other:?}"),
        }
    }

    async fn next(&mut self) -> Option<Message> {
        self.client.next_packet().await
    }

    /// The close code, after which nothing comes and the connection's task is over.
    async fn closed(mut self) -> u16 {
        let code = match self.next().await {
            Some(Message::Close(Some(close))) => close.code.into(),
            other => panic!("no close frame but {other:?}"),
        };
        assert_eq!(self.next().await, None);
        self.ended().await;
        code
    }

    async fn ended(self) {
        drop(self.client);
        self.task.await.unwrap();
        assert_eq!(self.world.services.registry.count(), 0, "nothing is left behind");
    }
}

fn ping(id: u64) -> Value {
    json!({"request": {"ping": {}, "id": id}})
}

fn pong(id: u64) -> Value {
    json!({"response": {"id": id, "pong": {}}})
}

fn event(text: &str) -> Bytes {
    super::frame::text(json!({ "event": text }).to_string().into_bytes())
}

/// A bare ping packet of about this size.
fn padded(bytes: u64) -> Message {
    let padding = "x".repeat(usize::try_from(bytes).unwrap() - json!({"ping": {"p": ""}}).to_string().len());
    Message::text(json!({"ping": {"p": padding}}).to_string())
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_in_the_order_sent() {
    let mut served = serve().await;
    for id in 0..100 {
        served.client.feed(Message::text(ping(id).to_string())).await.unwrap();
    }
    served.client.flush().await.unwrap();
    for id in 0..100 {
        assert_eq!(served.receive().await, pong(id));
    }
    served.ended().await;
}

#[tokio::test(start_paused = true)]
async fn binary_frames_are_packets_too_and_invalid_utf8_is_a_malformed_one() {
    let mut served = serve().await;
    served.send_message(Message::binary(ping(1).to_string())).await;
    assert_eq!(served.receive().await, pong(1));

    let mut served = serve_raw();
    // A text frame, masked with zeros, whose payload is no UTF-8; then the same in two fragments; then a ping packet.
    served.client.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'"', 0xff]).await.unwrap();
    served.client.write_all(&[0x01, 0x81, 0, 0, 0, 0, 0xff, 0x80, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    let client = WebSocketStream::from_raw_socket(served.client, Role::Client, None).await;
    let mut served = Served { client, queue: served.queue, world: served.world, room: served.room, task: served.task };
    for _ in 0..2 {
        assert_eq!(served.receive().await["response"]["error"]["code"], "malformed_packet");
    }
    served.send(ping(2)).await;
    assert_eq!(served.receive().await, pong(2));
}

#[tokio::test(start_paused = true)]
async fn the_twentieth_malformed_frame_in_a_minute_is_answered_and_the_last() {
    let mut served = serve().await;
    for number in 0..38 {
        // Never 20 in a minute: the first 19 are forgotten when the others come.
        if number == 19 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for _ in 0..60 {
                served.send(ping(0)).await;
                served.receive().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        served.send_message(Message::text("not json")).await;
        assert_eq!(served.receive().await["response"]["error"]["status"], 400);
    }
    served.send_message(Message::text("[]")).await;
    assert_eq!(served.receive().await["response"]["error"]["status"], 400, "frame 20 of this minute is answered");
    assert_eq!(served.closed().await, 1008);
}

#[tokio::test(start_paused = true)]
async fn messages_may_be_64_kib_before_login() {
    let mut served = serve().await;
    served.send_message(padded(SMALL_MESSAGE_BYTES)).await;
    assert_eq!(served.receive().await, json!({"response": {"pong": {}}}));
    let _ = served.client.feed(padded(SMALL_MESSAGE_BYTES + 1)).await;
    assert_eq!(served.closed().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn messages_may_be_4_mib_after_login() {
    let mut served = serve_connected().await;
    served.send_message(padded(LARGE_MESSAGE_BYTES.into())).await;
    // Right behind the large one, into the fresh codec.
    served.send(ping(1)).await;
    assert_eq!(served.receive().await, json!({"response": {"pong": {}}}));
    assert_eq!(served.receive().await, pong(1));
    assert_eq!(served.room.free_bytes(), FREE_ROOM, "its share of the room is free again");
    let _ = served.client.feed(padded(u64::from(LARGE_MESSAGE_BYTES) + 1)).await;
    assert_eq!(served.closed().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_that_grew_with_a_message_is_not_kept() {
    let (client, stream) = duplex(STREAM_BYTES);
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let mut socket = Socket::new(stream, Bytes::new(), Arc::new(MessageRoom::new(0))).await;
    for (bytes, outgrown) in [(100, false), (5_000, true), (100, false)] {
        let sent = client.send(padded(bytes));
        let (sent, inbound) = tokio::join!(sent, poll_fn(|cx| socket.poll_inbound(cx)));
        sent.unwrap();
        let Ok(Inbound::Message(message)) = inbound else { panic!("no message") };
        assert_eq!((message.payload.len() as u64, socket.is_outgrown()), (bytes, outgrown));
        socket = socket.renewed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_takes_room_for_what_has_come_of_it() {
    let mut served = serve_connected().await;
    // A binary frame that claims 4 MiB, masked with zeros.
    let header = [0x82, 0xff, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0];
    served.client.get_mut().write_all(&[&header[..], b"{"].concat()).await.unwrap();
    served.client.get_mut().write_all(&vec![b' '; 60_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.room.free_bytes(), FREE_ROOM, "a claim takes nothing");
    served.client.get_mut().write_all(&vec![b' '; 100_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.room.free_bytes(), (ROOM_BYTES / 2 - 192 * 1024, ROOM_BYTES / 2));
    let room = Arc::clone(&served.room);
    assert_eq!(served.closed().await, 1008);
    assert_eq!(room.free_bytes(), FREE_ROOM);
}

#[tokio::test(start_paused = true)]
async fn a_large_message_waits_for_room_as_long_as_it_takes() {
    let mut served = serve_connected().await;
    let steps = served.room.take_all_steps();
    let mut wholes: Vec<_> = std::iter::repeat_with(|| served.room.take_whole()).take(2).collect();
    let sent = served.client.send(padded(200_000));
    let waited = timeout(Duration::from_secs(600), sent).await;
    assert!(waited.is_err(), "nobody reads what there is no room for, nor counts the client's time");
    drop(wholes.pop());
    served.client.flush().await.unwrap();
    assert_eq!(served.receive().await, json!({"response": {"pong": {}}}));
    drop((steps, wholes));
    assert_eq!(served.room.free_bytes(), FREE_ROOM);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_answers_pings_stays_and_a_silent_one_is_dropped() {
    let mut served = serve_connected().await;
    assert!(timeout(Duration::from_secs(3_600), served.client.next_packet()).await.is_err());
    served.send(ping(1)).await;
    assert_eq!(served.receive().await, pong(1));

    let start = Instant::now();
    let Served { mut client, task, .. } = serve_raw();
    let mut pings = Vec::new();
    client.read_to_end(&mut pings).await.unwrap();
    assert_eq!(pings, [0x89, 0, 0x89, 0], "after 20 and 40 s");
    task.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_socket_may_go_ten_minutes_without_a_session() {
    let start = Instant::now();
    let served = serve().await;
    assert_eq!(served.closed().await, 1008);
    assert_eq!(start.elapsed().as_secs(), 600);

    let mut served = serve_connected().await;
    assert!(timeout(Duration::from_secs(3_600), served.client.next_packet()).await.is_err());
    served.send(json!({"user_logout": {}})).await;
    served.receive().await;
    let logout = Instant::now();
    assert_eq!(served.closed().await, 1008);
    assert_eq!(logout.elapsed().as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn a_message_has_to_be_complete_within_half_a_minute() {
    let start = Instant::now();
    let mut served = serve_raw();
    served.client.write_all(&[0x81]).await.unwrap();
    let mut bytes = Vec::new();
    served.client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes[..6], [0x89, 0, 0x88, bytes[3], 0x03, 0xf0], "a ping, then 1008");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn frames_above_the_rate_wait() {
    let mut served = serve().await;
    let start = Instant::now();
    for id in 0..200 {
        served.send(ping(id)).await;
        served.receive().await;
    }
    assert!(start.elapsed() < Duration::from_millis(100), "200 at once");
    for id in 0..100 {
        served.send(ping(id)).await;
        served.receive().await;
    }
    let took = start.elapsed();
    assert!((900..1_100).contains(&took.as_millis()), "100 a second, but {took:?}");
}

#[tokio::test(start_paused = true)]
async fn events_are_written_while_a_request_is_handled() {
    let mut served = serve_connected().await;
    served.send(json!({"message": {"id": "m", "cid": "c", "body": "wait"}})).await;
    served.send(ping(1)).await;
    served.queue.push_event(&event("meanwhile"));
    assert_eq!(served.receive().await, json!({"event": "meanwhile"}));
    served.world.core.release();
    assert_eq!(served.receive().await["ask"]["mid"], "m");
    assert_eq!(served.receive().await, pong(1), "handled after it");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_closed_with_4008_and_reads_the_code_when_it_reads_again() {
    let mut served = serve_connected().await;
    let frame = event(&"x".repeat(1_000));
    for _ in 0..1_200 {
        served.queue.push_event(&frame);
        tokio::task::yield_now().await;
    }
    let mut events = 0;
    let code = loop {
        match served.next().await {
            Some(Message::Text(_)) => events += 1,
            Some(Message::Close(Some(close))) => break u16::from(close.code),
            other => panic!("neither an event nor a close frame but {other:?}"),
        }
    };
    assert_eq!(code, 4008);
    assert!(events <= STREAM_BYTES / 1_000 + 1, "what waited is dropped, but {events} events came");
    served.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_again_does_not_hold_its_connection() {
    let served = serve_connected().await;
    let frame = event(&"x".repeat(1_000));
    for _ in 0..1_200 {
        served.queue.push_event(&frame);
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    served.task.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(served.world.services.registry.count(), 0);
    drop(served.client);
}

#[tokio::test(start_paused = true)]
async fn a_large_page_reaches_a_slow_client_and_holds_its_room_until_it_is_written() {
    let mut served = serve_connected().await;
    let room = served.world.services.reply_room.available_permits();
    served.send(json!({"request": {"message_list": {"cid": "c", "limit": 100}, "id": 1}})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(served.world.services.reply_room.available_permits() < room - 10_000_000);
    // Slower than the limit for silence, but never standing still.
    let stream = served.client.get_mut();
    let mut bytes = vec![0; STREAM_BYTES];
    let mut page = Vec::new();
    while page.len() < 10_000_000 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let length = stream.read(&mut bytes).await.unwrap();
        page.extend_from_slice(&bytes[..length]);
    }
    let _all = served.world.services.reply_room.acquire_many(u32::try_from(room).unwrap()).await.unwrap();
    assert_eq!(page[..2], [0x81, 127]);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_gateway_finishes_the_packet_in_hand_and_empties_the_queue() {
    let mut served = serve_connected().await;
    served.send(json!({"message": {"id": "m", "cid": "c", "body": "wait"}})).await;
    while served.world.core.calls().iter().all(|call| !call.starts_with("send")) {
        tokio::task::yield_now().await;
    }
    served.queue.push_event(&event("last"));
    served.queue.order_close(CloseReason::GoingAway);
    tokio::time::sleep(Duration::from_secs(1)).await;
    served.world.core.release();
    assert_eq!(served.receive().await, json!({"event": "last"}));
    assert_eq!(served.receive().await["ask"]["mid"], "m");
    assert_eq!(served.closed().await, 1001);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_cannot_wait_drops_even_the_packet_in_hand() {
    let mut served = serve_connected().await;
    served.send(json!({"message": {"id": "m", "cid": "c", "body": "wait"}})).await;
    while served.world.core.calls().iter().all(|call| !call.starts_with("send")) {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    served.queue.order_close(CloseReason::Dropped);
    served.task.await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_socket_stays_open_and_answers_401() {
    let mut served = serve_connected().await;
    served.world.services.registry.revoke(FakeCore::session_of(ANN));
    served.send(json!({"request": {"message_list": {"cid": "c"}, "id": 1}})).await;
    assert_eq!(served.receive().await["response"]["error"]["status"], 401);
    served.send(ping(2)).await;
    assert_eq!(served.receive().await, pong(2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_gets_its_code_back() {
    let mut served = serve_connected().await;
    served.client.close(None).await.unwrap();
    assert!(matches!(served.next().await, Some(Message::Close(None))));
    served.world.core.calls();
    let core = Arc::clone(&served.world.core);
    served.ended().await;
    assert!(core.calls().is_empty() || core.calls() == ["unbind ann"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_websocket_is_closed_with_1002() {
    let mut served = serve_raw();
    // An unmasked frame.
    served.client.write_all(&[0x81, 2, b'{', b'}']).await.unwrap();
    let mut bytes = Vec::new();
    served.client.read_to_end(&mut bytes).await.unwrap();
    assert_eq!((bytes[0], &bytes[2..4]), (0x88, &[0x03, 0xea][..]));
}

/// What an idle connection keeps in memory beyond its task: nothing here may grow unnoticed.
#[tokio::test]
async fn an_idle_connection_is_small() {
    let world = World::new();
    let (_client, stream) = duplex(1_024);
    let (session, queue) = world.session(1, "127.0.0.1");
    let handshaken = Handshaken { stream, read_ahead: Bytes::new(), room: Arc::new(MessageRoom::new(0)) };
    let connection = Connection::new(handshaken, queue, session).await;
    assert_eq!(connection.line.socket.buffer_bytes(), (1_024, 0));
    assert!(size_of_val(&*connection) <= 800, "its state takes {} bytes", size_of_val(&*connection));
    let task = size_of_val(&connection.run());
    assert!(task <= 300, "the task's future takes {task} bytes");
}

trait NextPacket {
    /// The next packet or close; pings are answered on the way.
    async fn next_packet(&mut self) -> Option<Message>;
}

impl NextPacket for WebSocketStream<DuplexStream> {
    async fn next_packet(&mut self) -> Option<Message> {
        loop {
            match self.next().await {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }
}
