//! Delivery from a scripted source to send queues. Time is paused.

use std::task::{Context, Waker};

use proto::v1::{Attempt, MessagesRead, SessionsRevoked, Step, Typing, notice};
use serde_json::Value;

use super::*;
use crate::connection::send_queue::{Enough, Order, SendQueue};
use crate::events::script::ScriptedEvents;
use crate::registry::{Binding, DeviceKey};

const ANN: UserId = UserId::from_bytes([1; 12]);
const BOB: UserId = UserId::from_bytes([2; 12]);

struct World {
    source: ScriptedEvents,
    registry: Arc<Registry>,
    readiness: Readiness,
    _tasks: tokio::task::JoinSet<Infallible>,
}

impl World {
    /// Delivery that has taken its position.
    async fn start() -> Self {
        let source = ScriptedEvents::default();
        source.push(read(1, &[ANN], None));
        let (registry, readiness) = (Arc::new(Registry::new()), Readiness::default());
        let delivery = Delivery {
            source: Arc::new(source.clone()),
            registry: Arc::clone(&registry),
            readiness: readiness.clone(),
            tracker: TaskTracker::new(),
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(delivery.run());
        while !readiness.is_ready() {
            tokio::task::yield_now().await;
        }
        Self { source, registry, readiness, _tasks: tasks }
    }

    fn socket(&self, number: u8, user_id: UserId) -> Arc<SendQueue> {
        let queue = Arc::new(SendQueue::new(ConnectionId::from_bytes([number; 12])));
        self.registry.add(&queue);
        let binding = Binding { session_id: SessionId::new(user_id, [number; 12]), device: DeviceKey::of("pc") };
        self.registry.bind(&queue, None, binding);
        queue
    }
}

/// An event of one step: these messages were read. The number tells it from others.
fn read(number: u8, recipients: &[UserId], origin: Option<u8>) -> Event {
    let fact = step::Fact::MessagesRead(MessagesRead {
        conversation_id: Bytes::from_static(&[9; 12]),
        message_ids: vec![Bytes::from(vec![number; 12])],
        from_user_id: ANN.to_field(),
    });
    event(recipients, origin, fact)
}

fn event(recipients: &[UserId], origin: Option<u8>, fact: step::Fact) -> Event {
    let recipient_ids = recipients.iter().map(|user_id| user_id.to_field()).collect();
    let connection = |number| Attempt { connection_id: Bytes::from(vec![number; 12]), frame: 1 };
    let step = Step { recipient_ids, fact: Some(fact), ..Step::default() };
    Event { attempt: origin.map(connection), steps: vec![step], ..Event::default() }
}

/// The numbers of the events that wait for a socket.
fn numbers(queue: &SendQueue) -> Vec<u8> {
    let mut numbers = Vec::new();
    queue.take_frames(|frame| {
        let packet: Value = serde_json::from_slice(&frame[2..]).unwrap();
        let id = packet["message_read"]["ids"][0].as_str().unwrap();
        numbers.push(u8::from_str_radix(&id[..2], 16).unwrap());
        Enough::No
    });
    numbers
}

fn order(queue: &SendQueue) -> Option<Order> {
    queue.poll_order(&mut Context::from_waker(Waker::noop()))
}

/// Long enough for everything that is due now, and far too short for anything that is retried.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn recipients_get_events_in_order_and_the_origin_gets_none() {
    let world = World::start().await;
    let (origin, carbon, peer) = (world.socket(1, ANN), world.socket(2, ANN), world.socket(3, BOB));
    for number in 2..30 {
        world.source.push(read(number, &[BOB, ANN], Some(1)));
    }
    settle().await;
    let all: Vec<u8> = (2..30).collect();
    assert_eq!((numbers(&origin), numbers(&carbon), numbers(&peer)), (vec![], all.clone(), all));
}

#[tokio::test(start_paused = true)]
async fn the_origin_gets_the_steps_that_say_so_and_a_step_may_be_for_the_same_as_the_one_before() {
    let world = World::start().await;
    let (origin, carbon, peer) = (world.socket(1, ANN), world.socket(2, ANN), world.socket(3, BOB));
    let mut event = read(2, &[ANN, BOB], Some(1));
    let one_more = |number, same_recipients, to_origin| {
        let step = read(number, &[ANN], None).steps.remove(0);
        let recipient_ids = if same_recipients { Vec::new() } else { step.recipient_ids };
        Step { recipient_ids, same_recipients, to_origin, fact: step.fact }
    };
    event.steps.extend([one_more(3, true, true), one_more(4, true, false), one_more(5, false, true)]);
    world.source.push(event);
    settle().await;
    assert_eq!(numbers(&origin), [3, 5]);
    assert_eq!((numbers(&carbon), numbers(&peer)), (vec![2, 3, 4, 5], vec![2, 3, 4]));
}

#[tokio::test(start_paused = true)]
async fn what_happened_before_the_start_is_not_delivered() {
    let world = World::start().await;
    let socket = world.socket(1, ANN);
    settle().await;
    assert!(numbers(&socket).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_read_on_from_where_it_was() {
    let world = World::start().await;
    let socket = world.socket(1, ANN);
    world.source.push(read(2, &[ANN], None));
    world.source.fail(EventSourceError::Failed("out of order".into()));
    world.source.push(read(3, &[ANN], None));
    settle().await;
    assert_eq!(numbers(&socket), [2]);
    tokio::time::sleep(RETRY_PAUSE).await;
    assert_eq!(numbers(&socket), [3]);
    assert!(world.readiness.is_ready());
}

#[tokio::test(start_paused = true)]
async fn lost_history_closes_the_sockets_of_now_and_later_ones_miss_nothing() {
    let world = World::start().await;
    let early = [world.socket(1, ANN), world.socket(2, BOB)];
    world.source.fail(EventSourceError::HistoryLost);
    settle().await;
    let late = world.socket(3, ANN);
    world.source.push(read(7, &[ANN, BOB], None));
    tokio::time::sleep(HISTORY_LOST_SPREAD).await;
    assert!(early.iter().all(|queue| order(queue) == Some(Order::Close(CloseReason::HistoryLost))));
    assert_eq!((order(&late), numbers(&late)), (None, vec![7]));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_loses_its_sockets() {
    let world = World::start().await;
    let (revoked, other) = (world.socket(1, ANN), world.socket(2, ANN));
    let session_id = SessionId::new(ANN, [1; 12]);
    let fact = step::Fact::SessionsRevoked(SessionsRevoked { session_ids: vec![session_id.to_field()] });
    world.source.push(event(&[], None, fact));
    world.source.push(read(8, &[ANN], None));
    settle().await;
    assert_eq!((order(&revoked), numbers(&revoked)), (Some(Order::Unbind(session_id)), vec![]));
    assert_eq!((order(&other), numbers(&other)), (None, vec![8]));
}

#[tokio::test(start_paused = true)]
async fn notices_reach_their_recipients() {
    let world = World::start().await;
    let socket = world.socket(1, ANN);
    let fact = notice::Fact::Typing(Typing { from_user_id: BOB.to_field(), at: 5, ..Typing::default() });
    world.source.notify(Notice { recipient_ids: vec![ANN.to_field()], fact: Some(fact) });
    settle().await;
    let mut packets = Vec::new();
    socket.take_frames(|frame| {
        packets.push(serde_json::from_slice::<Value>(&frame[2..]).unwrap());
        Enough::No
    });
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0]["typing"]["t"], 5);
}

#[tokio::test(start_paused = true)]
async fn malformed_recipients_are_nobody() {
    let world = World::start().await;
    let socket = world.socket(1, ANN);
    let mut event = read(2, &[ANN], None);
    event.steps[0].recipient_ids.insert(0, Bytes::from_static(b"short"));
    event.steps.insert(0, Step { recipient_ids: vec![ANN.to_field()], ..Step::default() });
    world.source.push(event);
    settle().await;
    assert_eq!(numbers(&socket), [2]);
}
