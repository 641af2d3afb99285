//! Deaths under load: of core, of nats-server and of the database. Everything acknowledged is there once, and came once
//! and in one order to everybody who stayed.

use std::sync::Arc;
use std::time::Duration;

use components::cassandra::Cassandra;
use components::nats::Nats;
use components::ready::is_ready;
use e2e::history::HistoryLog;
use e2e::{Chatter, Deployment, Organization, StackHandle, TestClient, TestStack, eventually};
use serde_json::json;

use crate::team::Team;

/// A chat that goes on whatever dies.
struct Chat {
    org: Organization,
    history: Arc<HistoryLog>,
    chatters: Vec<Chatter>,
    ann: TestClient,
    cid: String,
}

impl Chat {
    /// Three devices of two users chat, and ann looks on.
    async fn begin(stack: &StackHandle) -> Self {
        let Team { org, ann, bob, carl, cid } = Team::of(stack.new_organization().await).await;
        let history = Arc::new(HistoryLog::default());
        let second = bob.user().log_in(stack, "another device").await;
        let sessions = [bob.session().clone(), second, carl.session().clone()];
        let chatters = sessions.map(|session| Chatter::spawn(stack.clone(), session, &cid, Arc::clone(&history)));
        let chat = Self { org, history, chatters: chatters.into(), ann, cid };
        chat.go_on(100).await;
        chat
    }

    /// Until so many more messages are acknowledged.
    async fn go_on(&self, messages: usize) {
        let wanted = self.history.acknowledgements() + messages;
        eventually("the chat to go on", async || (self.history.acknowledgements() >= wanted).then_some(())).await;
    }

    /// Ends the chat, and judges it.
    async fn end(mut self) {
        for chatter in &mut self.chatters {
            chatter.settle().await;
        }
        let mut ann = self.ann.session().connect(self.org.stack()).await;
        ann.send_message(&self.cid, Chatter::end_body()).await;
        for chatter in self.chatters {
            chatter.end().await;
        }
        self.history.read_all(&mut ann, &self.cid).await;
        let violations = self.history.check();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everything_acknowledged_is_there_once_after_core_dies_under_load() {
    let stack = TestStack::builder().start().await;
    let chat = Chat::begin(&stack).await;
    for more in [40, 130, 75] {
        stack.kill_core(0).await;
        stack.restart().await;
        chat.go_on(more).await;
    }
    chat.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everything_acknowledged_is_there_once_after_nats_dies_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(directory.path(), 0).unwrap();
    let stack = TestStack::builder().environment("NATS_URL", nats.url()).start().await;
    let chat = Chat::begin(&stack).await;
    for more in [40, 130, 75] {
        nats.kill();
        nats.restart().unwrap();
        chat.go_on(more).await;
    }
    chat.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn without_nats_messages_are_acknowledged_all_the_while_and_delivered_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut nats = Nats::start(directory.path(), 0).unwrap();
    let stack = TestStack::builder().environment("NATS_URL", nats.url()).start().await;
    let chat = Chat::begin(&stack).await;
    nats.kill();
    let killed = tokio::time::Instant::now();
    while killed.elapsed() < Duration::from_secs(20) {
        chat.go_on(20).await;
    }
    nats.restart().unwrap();
    chat.go_on(100).await;
    chat.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everything_acknowledged_is_there_once_after_the_database_dies_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = Cassandra::start(directory.path()).unwrap();
    let address = database.address().to_string();
    Deployment::of_this_process().migrate_at(&address);
    let stack = TestStack::builder().environment("CQL_ADDRESSES", &address).start().await;
    let chat = Chat::begin(&stack).await;
    let (mut dora, mut erik) = (chat.org.client("dora").await, chat.org.client("erik").await);
    let elsewhere = dora.create_private(&mut erik).await;

    database.kill();
    let core = stack.core_admin(0);
    eventually("core to say that it is not ready", async || (!is_ready(core)).then_some(())).await;
    let asked = tokio::time::Instant::now();
    let message = json!({"id": "m", "cid": elsewhere, "body": "meanwhile"});
    dora.message_refused(message.clone(), 503, "temporarily_unavailable").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "a client waits no longer than 5 s");
    database.restart().unwrap();
    eventually("core to be ready again", async || is_ready(core).then_some(())).await;
    dora.send_message_with(message).await;
    erik.expect_message("meanwhile").await;
    chat.go_on(100).await;
    chat.end().await;
}
