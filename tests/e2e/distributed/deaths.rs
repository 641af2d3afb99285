//! Deaths under load: of core, of nats-server and of the database. Everything acknowledged is there once, and came once
//! and in one order to everybody who stayed.

use std::time::Duration;

use components::Nats;
use components::cassandra::Cassandra;
use components::ready::is_ready;
use e2e::{Deployment, TestStack, eventually};
use serde_json::json;

use super::chat::Chat;

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
    let mut nats = Nats::start().unwrap();
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
    let mut nats = Nats::start().unwrap();
    let stack = TestStack::builder().environment("NATS_URL", nats.url()).start().await;
    let chat = Chat::begin(&stack).await;
    nats.kill();
    chat.go_on_for(Duration::from_secs(20)).await;
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
    Deployment::of_this_process().migrate_own(&[("CQL_ADDRESSES", &address)]);
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
