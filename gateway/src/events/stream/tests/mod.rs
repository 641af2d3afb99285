//! The stream of a real nats-server, read while everything that can break does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Config;
use bytes::Bytes;
use clap::Parser;
use components::{Nats, Proxy};
use futures_util::TryStreamExt;
use proto::ids::ConversationId;
use proto::subject::About;
use proto::v1::Typing;
use runtime::nats::NatsConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the stream's events are about.
const ABOUT: About = About::Conversation(ConversationId::from_bytes([7; 12]));

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    nats: NatsConfig,
}

fn cell() -> Cell {
    "test".parse().unwrap()
}

async fn connect(address: SocketAddr) -> Client {
    let client = Cli::parse_from(["test", "--nats-url", &address.to_string()]).nats.connect("test").await.unwrap();
    timeout(PATIENCE, wait_until_connected(&client)).await.expect("the server takes connections");
    client
}

async fn make_stream(client: &Client, duplicate_window: Duration) {
    let config =
        Config { name: cell().stream(), subjects: cell().all_events().into(), duplicate_window, ..Config::default() };
    jetstream::new(client.clone()).create_stream(config).await.unwrap();
}

fn number_of(event_id: &[u8]) -> u64 {
    u64::from_be_bytes(event_id[4..].try_into().unwrap())
}

fn event(number: u64) -> (EventId, Bytes) {
    let id = EventId::from_bytes([&[0; 4][..], &number.to_be_bytes()].concat().try_into().unwrap());
    // As large as a message's usually is.
    let user_id = Bytes::from_static(&[1; 12]);
    let recipients = vec![user_id.clone(); 15];
    let step = proto::v1::Step { recipient_ids: recipients, ..Default::default() };
    let subject = Some(proto::v1::event::Subject::UserId(user_id));
    let event = Event { id: id.to_field(), subject, steps: vec![step], ..Event::default() };
    (id, event.encode_to_vec().into())
}

/// Publishes until the stream has it.
async fn publish(client: &Client, number: u64) {
    let context = jetstream::new(client.clone());
    let (id, payload) = event(number);
    loop {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string());
        let published = context.publish_with_headers(cell().event(ABOUT), headers, payload.clone());
        let acknowledged = async { published.await.ok()?.await.ok() };
        if timeout(Duration::from_millis(500), acknowledged).await.is_ok_and(|acknowledged| acknowledged.is_some()) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes one event after the other until it is dropped.
struct Load {
    published: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<u64>,
}

impl Load {
    fn start(client: Client, first: u64) -> Self {
        let (count, published) = watch::channel(first - 1);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut number = first;
            while !*stopped.borrow() {
                publish(&client, number).await;
                count.send_replace(number);
                number += 1;
            }
            number - 1
        });
        Self { published, stop, tasks }
    }

    /// Waits until so many more are published.
    async fn advance(&mut self, count: u64) {
        let target = *self.published.borrow() + count;
        timeout(PATIENCE, self.published.wait_for(|number| *number >= target)).await.unwrap().unwrap();
    }

    /// Stops it; the number of the last event.
    async fn stop(mut self) -> u64 {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }
}

/// What a reader got.
#[derive(Default)]
struct Reading {
    numbers: Vec<u64>,
    positions: Vec<Position>,
    error: Option<EventSourceError>,
}

struct Gateway {
    reading: Arc<Mutex<Reading>>,
    newest: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Gateway {
    /// Reads from the newest event on, over a connection of its own.
    async fn start(address: SocketAddr) -> Self {
        let source = StreamEvents::new(connect(address).await, cell());
        let position = source.newest().await.unwrap();
        Self::read_above(source, position)
    }

    fn read_above(source: StreamEvents, position: Position) -> Self {
        let (reading, newest) = (Arc::<Mutex<Reading>>::default(), Arc::new(AtomicU64::new(0)));
        let (log, count) = (Arc::clone(&reading), Arc::clone(&newest));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut events = source.events_above(position);
            while let Some(event) = events.next().await {
                let mut log = log.lock().unwrap();
                match event {
                    Ok((position, event)) => {
                        log.numbers.push(number_of(&event.id));
                        log.positions.push(position);
                        count.store(number_of(&event.id), Ordering::Relaxed);
                    }
                    Err(error) => log.error = Some(error),
                }
            }
        });
        Self { reading, newest, _tasks: tasks }
    }

    /// Waits until it has read the event with this number.
    async fn reaches(&self, number: u64) {
        let reached = async {
            while self.newest.load(Ordering::Relaxed) < number {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!(
                "reached {} of {number}: {:?}",
                self.newest.load(Ordering::Relaxed),
                self.reading.lock().unwrap().error
            );
        }
    }

    async fn fails(&self) -> EventSourceError {
        let failed = async {
            loop {
                if let Some(error) = self.reading.lock().unwrap().error.take() {
                    return error;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, failed).await.expect("reading fails")
    }

    fn numbers(&self) -> Vec<u64> {
        self.reading.lock().unwrap().numbers.clone()
    }
}

/// The numbers of the events in the stream, in its order.
async fn stored(client: &Client) -> Vec<u64> {
    let stream = jetstream::new(client.clone()).get_stream(cell().stream()).await.unwrap();
    let count = stream.cached_info().state.messages;
    let config =
        pull::Config { deliver_policy: DeliverPolicy::All, ack_policy: AckPolicy::None, ..pull::Config::default() };
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let numbers = messages
        .take(usize::try_from(count).unwrap())
        .map_ok(|message| number_of(event_id(message.headers.as_ref().unwrap()).unwrap().as_bytes()));
    timeout(PATIENCE, numbers.try_collect()).await.unwrap().unwrap()
}

/// That a reader from the first event on got every event of the stream once, in its order, up to the last one published.
async fn assert_all_once_in_order(client: &Client, gateway: &Gateway, last: u64) {
    gateway.reaches(last).await;
    let stored = stored(client).await;
    assert_eq!(stored.last(), Some(&last));
    let read = gateway.numbers();
    let difference = read.iter().zip(&stored).position(|(read, stored)| read != stored);
    assert_eq!((read.len(), difference), (stored.len(), None), "read and stored differ");
}

/// A server with a stream, and a client that publishes to it.
async fn start() -> (Nats, Client) {
    let server = Nats::start().unwrap();
    let client = connect(server.address()).await;
    make_stream(&client, Duration::from_secs(120)).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn reading_begins_above_the_newest_event_and_a_position_leads_back_to_its_place() {
    let server = Nats::start().unwrap();
    let client = connect(server.address()).await;
    let source = StreamEvents::new(client.clone(), cell());
    let absent = source.newest().await.unwrap_err();
    assert!(std::error::Error::source(&absent).unwrap().to_string().contains("no stream test_events"), "{absent:?}");

    make_stream(&client, Duration::from_secs(120)).await;
    assert_eq!(source.newest().await.unwrap(), Position::new(0));
    publish(&client, 1).await;
    publish(&client, 2).await;
    let position = source.newest().await.unwrap();
    assert_eq!(position, Position::of_event(2, Some(event(2).0)));
    let gateway = Gateway::read_above(source.clone(), position);
    for number in 3..=10 {
        publish(&client, number).await;
    }
    gateway.reaches(10).await;
    assert_eq!(gateway.numbers(), (3..=10).collect::<Vec<_>>());
    let fifth = gateway.reading.lock().unwrap().positions[2];
    let again = Gateway::read_above(source, fifth);
    again.reaches(10).await;
    assert_eq!(again.numbers(), (6..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn what_the_stream_holds_twice_is_read_once() {
    let server = Nats::start().unwrap();
    let client = connect(server.address()).await;
    make_stream(&client, Duration::from_millis(100)).await;
    let gateway = Gateway::start(server.address()).await;
    publish(&client, 1).await;
    publish(&client, 2).await;
    while stored(&client).await.len() < 3 {
        publish(&client, 1).await;
    }
    publish(&client, 3).await;
    gateway.reaches(3).await;
    assert_eq!(gateway.numbers(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_killed_server_costs_nothing() {
    let (mut server, client) = start().await;
    let gateway = Gateway::start(server.address()).await;
    let mut load = Load::start(client.clone(), 1);
    for _ in 0..5 {
        load.advance(500).await;
        server.kill();
        server.restart().unwrap();
    }
    load.advance(500).await;
    let last = load.stop().await;
    assert_all_once_in_order(&client, &gateway, last).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_restart_while_nothing_happens_replays_nothing() {
    let (mut server, client) = start().await;
    for number in 1..=20 {
        publish(&client, number).await;
    }
    let gateway = Gateway::start(server.address()).await;
    for number in 21..=23 {
        server.kill();
        server.restart().unwrap();
        publish(&client, number).await;
        gateway.reaches(number).await;
    }
    assert_eq!(gateway.numbers(), [21, 22, 23]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn cut_connections_cost_nothing() {
    let (server, client) = start().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let gateway = Gateway::start(proxy.address()).await;
    let mut load = Load::start(client.clone(), 1);
    for _ in 0..20 {
        load.advance(200).await;
        proxy.cut();
    }
    load.advance(200).await;
    let last = load.stop().await;
    assert_all_once_in_order(&client, &gateway, last).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_link_that_swallows_everything_is_noticed_and_reading_goes_on_soon_after_it_is_back() {
    let (server, client) = start().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let gateway = Gateway::start(proxy.address()).await;
    let mut load = Load::start(client.clone(), 1);
    for seconds in [1, 3, 5, 10] {
        load.advance(200).await;
        proxy.hold();
        sleep(Duration::from_secs(seconds)).await;
        let returned = Instant::now();
        proxy.release();
        let newest = *load.published.borrow();
        gateway.reaches(newest).await;
        let took = returned.elapsed();
        println!("{seconds} s away, back after {took:?}");
        assert!(took < Duration::from_secs(2), "back only {took:?} after the link, which was away for {seconds} s");
    }
    let last = load.stop().await;
    assert_all_once_in_order(&client, &gateway, last).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_connection_that_is_dead_without_a_word_is_given_up() {
    let (server, client) = start().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let gateway = Gateway::start(proxy.address()).await;
    let mut load = Load::start(client.clone(), 1);
    load.advance(200).await;
    let died = Instant::now();
    proxy.forget();
    load.advance(200).await;
    // Copied first: what is borrowed across a wait would stop the load.
    let newest = *load.published.borrow();
    gateway.reaches(newest).await;
    let took = died.elapsed();
    println!("given up after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let last = load.stop().await;
    assert_all_once_in_order(&client, &gateway, last).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_stream_that_was_put_back_and_written_on_is_lost_history() {
    for written_on in [0, 1, 300, 5_000] {
        let (mut server, client) = start().await;
        let gateway = Gateway::start(server.address()).await;
        for number in 1..=100 {
            publish(&client, number).await;
        }
        server.kill();
        let older = tempfile::tempdir().unwrap();
        server.copy_store(older.path()).unwrap();
        server.restart().unwrap();
        for number in 101..=400 {
            publish(&client, number).await;
        }
        gateway.reaches(400).await;
        server.kill();
        server.replace_store(older.path()).unwrap();
        server.restart().unwrap();
        for number in 1_001..1_001 + written_on {
            publish(&client, number).await;
        }
        assert!(matches!(gateway.fails().await, EventSourceError::HistoryLost), "after {written_on}");
        assert_eq!(gateway.numbers(), (1..=400).collect::<Vec<_>>(), "nothing of the other stream was given out");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_reader_that_is_held_up_misses_nothing() {
    let (server, client) = start().await;
    let source = StreamEvents::new(connect(server.address()).await, cell());
    let mut events = source.events_above(source.newest().await.unwrap());
    publish(&client, 1).await;
    assert_eq!(number_of(&events.next().await.unwrap().unwrap().1.id), 1);
    // More than flow control lets through at once, and longer than a silent consumer is waited for.
    let count = 120_000;
    let begun = Instant::now();
    let context = jetstream::new(client.clone());
    let mut acknowledgements = JoinSet::new();
    for number in 2..=count {
        let (id, payload) = event(number);
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string());
        let acknowledgement = context.publish_with_headers(cell().event(ABOUT), headers, payload).await.unwrap();
        acknowledgements.spawn(async move { acknowledgement.await.unwrap() });
        if acknowledgements.len() >= 256 {
            acknowledgements.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(acknowledged) = acknowledgements.join_next().await {
        acknowledged.unwrap();
    }
    sleep(Duration::from_secs(5).saturating_sub(begun.elapsed())).await;
    for number in 2..=count {
        let (_, event) = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(number_of(&event.id), number);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn notices_come_also_after_a_restart() {
    let (mut server, client) = start().await;
    let mut notices = StreamEvents::new(connect(server.address()).await, cell()).notices();
    let fact = |at| Some(proto::v1::notice::Fact::Typing(Typing { at, ..Typing::default() }));
    for at in 1..=2 {
        let notice = Notice { recipient_ids: Vec::new(), fact: fact(at) };
        // It may be missed until the subscription has come back.
        let received = loop {
            client.publish(cell().notice(ABOUT), notice.encode_to_vec().into()).await.unwrap();
            if let Ok(received) = timeout(Duration::from_millis(100), notices.next()).await {
                break received.unwrap();
            }
        };
        assert_eq!(received.fact, fact(at));
        server.kill();
        server.restart().unwrap();
        while timeout(Duration::from_millis(100), notices.next()).await.is_ok() {}
    }
}
