//! What is absent when the server starts: it is named in the log, and the server is ready when it appears.

use components::Nats;
use components::cassandra::Cassandra;
use e2e::{Deployment, TestStack, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn what_is_absent_at_the_start_is_named_and_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut nats = Nats::start().unwrap();
    let mut database = Cassandra::start(directory.path()).unwrap();
    let address = database.address().to_string();
    Deployment::of_this_process().migrate_own(&[("CQL_ADDRESSES", &address)]);
    database.kill();
    nats.kill();

    let starting = TestStack::builder().environment("NATS_URL", nats.url()).environment("CQL_ADDRESSES", &address);
    let output = starting.output();
    let says = async |part: &str| {
        let found = async || output.lines().iter().any(|line| line.contains(part)).then_some(());
        eventually(part, found).await;
    };
    let come = async {
        says("waiting for the database").await;
        database.restart().unwrap();
        says("starting without NATS").await;
        says("NATS is not connected (NATS_URL)").await;
        nats.restart().unwrap();
    };
    let (stack, ()) = tokio::join!(starting.start(), come);
    let org = stack.new_organization().await;
    let (mut ann, mut bob) = (org.client("ann").await, org.client("bob").await);
    let cid = ann.create_private(&mut bob).await;
    ann.send_message(&cid, "all here").await;
    bob.expect_message("all here").await;
}
