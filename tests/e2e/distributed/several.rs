//! Several gateways and core services.

use e2e::packets::texts;
use e2e::{Closed, TestStack};
use serde_json::json;

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn clients_of_two_gateways_hear_each_other_and_the_other_goes_on_when_one_dies() {
    let stack = TestStack::builder().gateways(2).cores(2).start().await;
    let org = stack.new_organization().await;
    let mut ann = org.client("ann").await;
    let bob = org.sign_up("bob").await.log_in(&stack, "device").await;
    let mut bob_there = bob.connect(&stack.at_gateway(1)).await;
    let cid = ann.create_private(&mut bob_there).await;
    ann.send_message(&cid, "from the first").await;
    bob_there.expect_message("from the first").await;
    bob_there.send_message(&cid, "from the second").await;
    ann.expect_message("from the second").await;

    stack.kill_gateway(1).await;
    assert_eq!(bob_there.closed().await, Closed::Lost);
    let mut bob_here = bob.connect(&stack).await;
    ann.send_message(&cid, "after the death").await;
    bob_here.expect_message("after the death").await;
    stack.restart().await;
    let listed = bob.connect(&stack.at_gateway(1)).await.list_messages(json!({"cid": cid})).await;
    assert_eq!(texts(&listed, "body"), ["after the death", "from the second", "from the first"]);
}
