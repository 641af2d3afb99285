//! Sessions against a scripted core: frames in, packets out.

mod fake_core;

use std::sync::Arc;

use proto::ids::{ConnectionId, UserId};
use proto::reason::Reason;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) use self::fake_core::FakeCore;
use super::{Handled, Reply, Services, Session};
use crate::address::ClientAddress;
use crate::connection::send_queue::{Enough, SendQueue};
use crate::core_client::CoreClient;
use crate::limits::Limits;
use crate::registry::Registry;

pub(crate) const ANN: UserId = UserId::from_bytes([1; 12]);
pub(crate) const BOB: UserId = UserId::from_bytes([2; 12]);

/// A gateway's shared parts around a scripted core.
pub(crate) struct World {
    pub(crate) core: Arc<FakeCore>,
    pub(crate) services: Arc<Services>,
}

impl World {
    pub(crate) fn new() -> Self {
        let core = Arc::new(FakeCore::default());
        let services = Arc::new(Services {
            core: CoreClient::new(core.service()),
            registry: Arc::new(Registry::new()),
            limits: Arc::new(Limits::new(10)),
            reply_room: Arc::new(Semaphore::new(64 * 1024 * 1024)),
            trace_ratio: 0.0,
        });
        Self { core, services }
    }

    /// A connection's session and its queue; connections of tests have numbers for ids.
    pub(crate) fn session(&self, number: u8, ip: &str) -> (Session, Arc<SendQueue>) {
        let queue = Arc::new(SendQueue::new(ConnectionId::from_bytes([number; 12])));
        let address = ClientAddress { ip: ip.parse().unwrap(), is_https: false };
        let place = self.services.limits.admit_anonymous(address).unwrap();
        (Session::new(Arc::clone(&self.services), Arc::clone(&queue), address, place), queue)
    }

    fn local_session(&self) -> Session {
        self.session(7, "127.0.0.1").0
    }

    /// How many sockets get an event of this user.
    fn reached(&self, user_id: UserId) -> u64 {
        let frame = bytes::Bytes::from_static(b"event");
        self.services.registry.push(user_id, None, || Some(&frame))
    }
}

async fn ask(session: &mut Session, packet: Value) -> Value {
    match session.handle(packet.to_string().as_bytes()).await {
        Handled::Reply(Reply { text, .. }) | Handled::Malformed(Reply { text, .. }) => {
            serde_json::from_str(&text).unwrap()
        }
        Handled::Silent => json!("silent"),
        Handled::End(..) => json!("end"),
    }
}

async fn connect(session: &mut Session, token: &str) -> Value {
    ask(session, json!({"request": {"connect": {"token": token, "device_id": "pc"}, "id": "c"}})).await
}

fn code(reply: &Value) -> &str {
    reply["response"]["error"]["code"].as_str().unwrap_or_else(|| panic!("no failure: {reply}"))
}

#[tokio::test]
async fn a_socket_gets_its_users_events_once_connect_is_answered() {
    let world = World::new();
    let mut session = world.local_session();
    assert_eq!(world.reached(ANN), 0);
    assert_eq!(connect(&mut session, "ann").await, json!({"response": {"id": "c", "success": true}}));
    assert_eq!(world.reached(ANN), 1);
    assert_eq!(world.core.calls(), ["verify_access ann", "bind ann frame 1"]);
    session.end().await;
    assert_eq!((world.reached(ANN), world.services.registry.count()), (0, 0));
    assert_eq!(world.core.calls(), ["unbind ann"]);
}

#[tokio::test]
async fn a_request_that_needs_a_session_is_refused_before_its_payload_is_read() {
    let world = World::new();
    let mut session = world.local_session();
    for name in ["message_list", "user_logout", "typing", "message"] {
        assert_eq!(code(&ask(&mut session, json!({"request": {name: "x", "id": 1}})).await), "not_authenticated");
    }
    assert_eq!(code(&ask(&mut session, json!({"request": {"ping": "x"}})).await), "invalid_payload");
    assert_eq!(world.core.calls(), [""; 0]);
}

#[tokio::test]
async fn a_failed_connect_leaves_the_binding_as_it_was() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    assert_eq!(code(&connect(&mut session, "nonsense").await), "session_token_expired");
    world.core.fail_next(Reason::TemporarilyUnavailable);
    assert_eq!(code(&connect(&mut session, "bob").await), "temporarily_unavailable");
    assert_eq!((world.reached(ANN), world.reached(BOB)), (1, 0));
    assert!(session.is_authenticated());
}

#[tokio::test]
async fn a_connect_as_another_user_ends_the_former_users_events() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    connect(&mut session, "bob").await;
    assert_eq!((world.reached(ANN), world.reached(BOB)), (0, 1));
    assert_eq!(world.core.calls()[2..], ["verify_access bob", "bind bob frame 2", "unbind ann"]);
}

#[tokio::test]
async fn a_bind_whose_fate_is_open_is_taken_back_at_the_end() {
    let world = World::new();
    let mut session = world.local_session();
    world.core.fail_next_bind(Reason::TemporarilyUnavailable);
    assert_eq!(code(&connect(&mut session, "ann").await), "temporarily_unavailable");
    assert_eq!(world.reached(ANN), 0);
    world.core.calls();
    session.end().await;
    assert_eq!(world.core.calls(), ["unbind ann"]);
}

#[tokio::test]
async fn user_login_binds_and_hands_out_the_access_token() {
    let world = World::new();
    let mut session = world.local_session();
    let login = |password: &str| json!({"user_login": {"login": "ann", "password": password, "device_id": 1}, "id": 1});
    assert_eq!(code(&ask(&mut session, login("wrong")).await), "wrong_credentials");
    assert!(!session.is_authenticated());
    let reply = ask(&mut session, login("right")).await;
    assert_eq!(reply["response"]["token"], "ann");
    assert_eq!(reply["response"]["user"]["_id"], ANN.to_string());
    assert_eq!(world.reached(ANN), 1);
}

#[tokio::test]
async fn who_logs_in_on_a_socket_is_online_in_the_reply() {
    let world = World::new();
    for form in [json!({"login": "ann", "password": "right", "device_id": 1}), json!({"token": "ann"})] {
        let reply = ask(&mut world.local_session(), json!({"user_login": form})).await;
        assert_eq!(reply["response"]["user"]["recent_activity"], 0, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::disallowed_methods, reason = "the test waits for its tasks")]
async fn parsing_what_is_large_holds_nobody_up() {
    let (done, other_is_done) = std::sync::mpsc::channel();
    let parsing = tokio::spawn(async move {
        let other = tokio::spawn(async move { done.send(()) });
        let large = usize::try_from(super::SMALL_MESSAGE_BYTES).unwrap() + 1;
        let outcome = super::beside_workers(large, || other_is_done.recv_timeout(std::time::Duration::from_secs(10)));
        (outcome, other.await.unwrap())
    });
    assert_eq!(parsing.await.unwrap(), (Ok(()), Ok(())), "the only worker was free for the other task");
}

#[tokio::test]
async fn logout_makes_the_socket_anonymous_at_once() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    let logout = json!({"request": {"user_logout": {}, "id": 2}});
    assert_eq!(ask(&mut session, logout.clone()).await, json!({"response": {"id": 2, "success": true}}));
    assert_eq!(world.reached(ANN), 0);
    assert_eq!(code(&ask(&mut session, logout).await), "not_authenticated");
    assert_eq!(connect(&mut session, "bob").await["response"]["success"], true);
}

#[tokio::test]
async fn a_session_that_the_core_calls_over_is_unbound() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    world.core.fail_next(Reason::NotAuthenticated);
    assert_eq!(code(&ask(&mut session, json!({"message_list": {"cid": "x"}})).await), "not_authenticated");
    assert!(!session.is_authenticated());
    assert_eq!(world.reached(ANN), 0);
}

#[tokio::test]
async fn a_session_revoked_during_its_bind_is_not_bound() {
    let world = World::new();
    let mut session = world.local_session();
    world.services.registry.revoke(FakeCore::session_of(ANN));
    assert_eq!(code(&connect(&mut session, "ann").await), "session_token_expired");
    assert_eq!(world.reached(ANN), 0);
    assert!(!session.is_authenticated());
}

#[tokio::test]
async fn only_the_session_it_is_bound_to_can_be_taken_from_a_socket() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    session.forget(FakeCore::session_of(BOB)).await;
    assert!(session.is_authenticated());
    session.forget(FakeCore::session_of(ANN)).await;
    assert!(!session.is_authenticated());
}

#[tokio::test]
async fn a_socket_without_a_place_after_logout_has_to_end() {
    let world = World::new();
    let (mut session, _) = world.session(1, "203.0.113.5");
    connect(&mut session, "ann").await;
    let address = ClientAddress { ip: "203.0.113.5".parse().unwrap(), is_https: false };
    let places: Vec<_> = std::iter::from_fn(|| world.services.limits.admit_anonymous(address)).collect();
    assert_eq!(places.len(), 100);
    assert_eq!(ask(&mut session, json!({"user_logout": {}})).await, "end");
}

#[tokio::test]
async fn the_caller_is_the_session_and_each_frame_is_an_attempt() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    world.core.calls();
    let message = json!({"message": {"id": "m", "cid": "c", "body": "hi", "from": "bob"}});
    let reply = ask(&mut session, message.clone()).await;
    assert_eq!((&reply["ask"], &reply["ask"]["mid"]), (&reply["ack"], &json!("m")));
    ask(&mut session, message).await;
    assert_eq!(world.core.calls(), ["send ann frame 2", "send ann frame 3"], "accepted, so the next is another one");
}

#[tokio::test]
async fn what_an_update_causes_on_its_own_socket_waits_for_the_reply() {
    let world = World::new();
    let (mut session, queue) = world.session(7, "127.0.0.1");
    connect(&mut session, "ann").await;
    queue.push_reply(bytes::Bytes::from_static(b"reply"));
    let taken = || {
        let mut frames = 0;
        queue.take_frames(|_| {
            frames += 1;
            Enough::No
        });
        frames
    };
    taken();
    for outcome in [None, Some(Reason::AccessDenied)] {
        if let Some(reason) = outcome {
            world.core.fail_next(reason);
        }
        ask(&mut session, json!({"request": {"conversation_update": {"id": "c"}, "id": 1}})).await;
        world.reached(ANN);
        assert_eq!(taken(), 0, "before the reply");
        queue.push_reply(bytes::Bytes::from_static(b"reply"));
        assert_eq!(taken(), 2, "the reply and what came meanwhile");
    }
    ask(&mut session, json!({"request": {"conversation_delete": {"id": "c"}, "id": 1}})).await;
    world.reached(ANN);
    assert_eq!(taken(), 1, "nobody waits for the reply to another request");
}

#[tokio::test]
async fn a_message_whose_fate_is_open_is_resent_under_its_first_attempt() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    world.core.calls();
    let message = json!({"message": {"id": "m", "cid": "c", "body": "hi"}});
    for _ in 0..2 {
        world.core.fail_next(Reason::TemporarilyUnavailable);
        let failed = ask(&mut session, message.clone()).await;
        assert_eq!(failed["message"]["error"]["code"], "temporarily_unavailable");
    }
    ask(&mut session, json!({"message": {"id": "m", "cid": "c", "body": "other"}})).await;
    ask(&mut session, json!({"message": {"cid": "c", "body": "hi"}})).await;
    ask(&mut session, message.clone()).await;
    ask(&mut session, message).await;
    assert_eq!(
        world.core.calls(),
        [
            "send ann frame 2",
            "send ann frame 2",
            "send ann frame 4",
            "send ann frame 5",
            "send ann frame 2",
            "send ann frame 7"
        ]
    );
}

#[tokio::test]
async fn typing_succeeds_silently_and_fails_in_its_own_form() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    assert_eq!(ask(&mut session, json!({"typing": {"cid": "c"}})).await, "silent");
    world.core.fail_next(Reason::AccessDenied);
    let failed = ask(&mut session, json!({"typing": {"cid": "c", "id": "t"}})).await;
    assert_eq!((&failed["typing"]["id"], &failed["typing"]["error"]["status"]), (&json!("t"), &json!(403)));
}

#[tokio::test(start_paused = true)]
async fn a_core_that_does_not_answer_costs_less_than_four_seconds() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    let start = tokio::time::Instant::now();
    let failed = ask(&mut session, json!({"message": {"cid": "c", "body": "wait"}})).await;
    assert_eq!(failed["message"]["error"]["code"], "temporarily_unavailable");
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_large_reply_waits_for_room_and_fails_when_there_is_none_in_time() {
    let world = World::new();
    let mut session = world.local_session();
    connect(&mut session, "ann").await;
    let list = json!({"request": {"message_list": {"cid": "c", "limit": 100}, "id": 1}});
    let room = world.services.reply_room.available_permits();
    let Handled::Reply(reply) = session.handle(list.to_string().as_bytes()).await else { panic!("no reply") };
    assert_eq!(world.services.reply_room.available_permits(), room - reply.text.len());
    drop(reply);
    assert_eq!(world.services.reply_room.available_permits(), room);
    let _all = world.services.reply_room.try_acquire_many(u32::try_from(room).unwrap()).unwrap();
    assert_eq!(code(&ask(&mut session, list).await), "temporarily_unavailable");
}
