//! A whole gateway on real sockets, around a scripted core and a scripted event source.

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use proto::v1::{Event, MessagesRead, Step, step};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::events::script::ScriptedEvents;
use crate::session::tests::{ANN, World};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: GatewayConfig,
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    events: ScriptedEvents,
    world: World,
    soft: CancellationToken,
    hard: CancellationToken,
    task: JoinHandle<Result<(), GatewayError>>,
}

async fn start(arguments: &[&str]) -> Running {
    start_on(ScriptedEvents::default(), arguments).await
}

#[expect(clippy::disallowed_methods, reason = "the test waits for the task")]
async fn start_on(events: ScriptedEvents, arguments: &[&str]) -> Running {
    let arguments = [&["gateway", "--gateway-listen=127.0.0.1:0"], arguments].concat();
    let config = Cli::parse_from(arguments).gateway;
    let world = World::new();
    let dependencies = Dependencies { core: world.services.core.clone(), events: Arc::new(events.clone()) };
    let gateway = Gateway::bind(config, dependencies).await.unwrap();
    let (address, readiness) = (gateway.local_address(), gateway.readiness());
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let task = tokio::spawn(gateway.run(soft.clone(), hard.clone()));
    Running { address, readiness, events, world, soft, hard, task }
}

impl Running {
    async fn connect(&self, path: &str) -> Client {
        connect_async(format!("ws://{}{path}", self.address)).await.unwrap().0
    }

    /// The whole answer to these bytes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn ask(client: &mut Client, packet: Value) -> Value {
    client.send(Message::text(packet.to_string())).await.unwrap();
    packet_of(client.next().await)
}

fn packet_of(message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> Value {
    match message {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("no packet but {other:?}"),
    }
}

async fn close_code(client: &mut Client) -> u16 {
    match client.next().await {
        Some(Ok(Message::Close(Some(close)))) => close.code.into(),
        other => panic!("no close frame but {other:?}"),
    }
}

fn ping() -> Value {
    json!({"ping": {}})
}

fn login() -> Value {
    json!({"user_login": {"login": "ann", "password": "right", "device_id": "pc"}})
}

#[tokio::test]
async fn a_websocket_is_accepted_on_every_path_and_http_is_served_beside_it() {
    let running = start(&[]).await;
    for path in ["/", "/any/path?with=query", "/login"] {
        let mut client = running.connect(path).await;
        assert_eq!(ask(&mut client, ping()).await, json!({"response": {"pong": {}}}));
    }
    let answer = running.exchange("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn an_offered_subprotocol_is_not_selected_and_a_handshake_of_another_version_is_refused() {
    let running = start(&[]).await;
    let handshake = |version: u8| {
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
             sec-websocket-version: {version}\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: chat\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // A ping packet right behind the handshake is not lost.
    let with_packet = [handshake(13).as_bytes(), &[0x81, 0x8b, 0, 0, 0, 0], br#"{"ping":{}}"#].concat();
    stream.write_all(&with_packet).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"response":{"pong":{}}}"#) {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await;
        assert!(!matches!(read, Err(_) | Ok(Ok(0))), "{}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");

    let old = handshake(8).replace("keep-alive", "close").replace("host: x", "host: x\r\nx-request-id: r-1");
    let refusal = running.exchange(&old).await.to_lowercase();
    assert!(refusal.starts_with("http/1.1 400"), "{refusal}");
    for header in ["sec-websocket-version: 13", "x-error-code: malformed_packet", "x-request-id: r-1"] {
        assert!(refusal.contains(header), "{refusal}");
    }
}

#[tokio::test]
async fn headers_may_take_16_kib() {
    let running = start(&[]).await;
    for (bytes, status) in [(12 * 1024, "404"), (20 * 1024, "431")] {
        let cookie = "c".repeat(bytes);
        let request = format!("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n");
        let answer = running.exchange(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn an_address_with_too_many_connections_gets_no_more() {
    let world = World::new();
    let front = Arc::new(Front {
        router: axum::Router::new(),
        services: world.services,
        connection_ids: ConnectionIds::new(),
        message_room: Arc::new(MessageRoom::new(0)),
        trusted_proxies: vec!["203.0.113.6/32".parse().unwrap()],
        stopping: CancellationToken::new(),
        tracker: TaskTracker::new(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let permits = Arc::new(Semaphore::new(10_000));
    for (ip, served) in [("203.0.113.5", false), ("203.0.113.6", true), ("127.0.0.1", true)] {
        let mut clients = Vec::new();
        for _ in 0..201 {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            begin(&front, stream, SocketAddr::new(ip.parse().unwrap(), 1), permit);
        }
        let mut last = clients.pop().unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        let _ = last.write_all(request).await;
        let _ = last.read_to_string(&mut answer).await;
        assert_eq!(answer.starts_with("HTTP/1.1 404"), served, "{ip}: {answer}");
    }
}

#[tokio::test]
async fn nobody_is_served_before_the_place_in_the_events_is_known() {
    let events = ScriptedEvents::default();
    events.set_out_of_reach(true);
    let running = start_on(events, &[]).await;
    let client = running.connect("/");
    let mut client = std::pin::pin!(client);
    let waits = tokio::time::timeout(Duration::from_millis(50), client.as_mut()).await;
    assert!(waits.is_err() && !running.readiness.is_ready());
    running.events.set_out_of_reach(false);
    ask(&mut client.await, ping()).await;
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn events_of_the_source_reach_a_bound_socket() {
    let running = start(&[]).await;
    let mut client = running.connect("/").await;
    ask(&mut client, login()).await;
    let fact = step::Fact::MessagesRead(MessagesRead { from_user_id: ANN.to_field(), ..MessagesRead::default() });
    let step = Step { recipient_ids: vec![ANN.to_field()], fact: Some(fact), ..Step::default() };
    running.events.push(Event { steps: vec![step], ..Event::default() });
    assert_eq!(packet_of(client.next().await)["message_read"]["from"], ANN.to_string());
}

#[tokio::test]
async fn a_soft_stop_closes_sockets_with_1001_and_then_ends() {
    let running = start(&[]).await;
    let mut clients = [running.connect("/").await, running.connect("/").await];
    for client in &mut clients {
        ask(client, login()).await;
    }
    assert!(running.readiness.is_ready());
    running.soft.cancel();
    for client in &mut clients {
        assert_eq!(close_code(client).await, 1001);
    }
    running.task.await.unwrap().unwrap();
    assert!(!running.readiness.is_ready());
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_hard_stop_does_not_wait_for_the_packet_in_hand() {
    let running = start(&[]).await;
    let mut client = running.connect("/").await;
    ask(&mut client, login()).await;
    client.send(Message::text(json!({"message": {"cid": "c", "body": "wait"}}).to_string())).await.unwrap();
    while running.world.core.calls().iter().all(|call| !call.starts_with("send")) {
        tokio::task::yield_now().await;
    }
    running.soft.cancel();
    running.hard.cancel();
    let stop = std::time::Instant::now();
    running.task.await.unwrap().unwrap();
    assert!(stop.elapsed() < DROP_PATIENCE);
}

#[tokio::test]
async fn connections_beyond_the_most_wait_until_one_ends() {
    let running = start(&["--gateway-max-connections=1"]).await;
    let mut first = running.connect("/").await;
    ask(&mut first, ping()).await;
    let second = running.connect("/");
    let mut second = std::pin::pin!(second);
    let waits = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(waits.is_err(), "the only permit is taken");
    drop(first);
    ask(&mut second.await, ping()).await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let config = Cli::parse_from(["gateway", &format!("--gateway-listen={address}")]).gateway;
    let world = World::new();
    let events = Arc::new(ScriptedEvents::default());
    let dependencies = Dependencies { core: world.services.core.clone(), events };
    let error = Gateway::bind(config, dependencies).await.err().unwrap();
    assert_eq!(error.to_string(), format!("could not listen on {address}"));
}
