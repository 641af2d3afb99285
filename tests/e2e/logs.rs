//! No secret gets into the log, at any level, and no error that is none.

use e2e::{ADMIN_KEY, GATEWAY_TOKEN, TestStack};
use serde_json::json;

use crate::team::Pair;

const BODY: &str = "a body nobody else may read";

#[tokio::test]
async fn the_most_talkative_log_holds_no_secret_and_no_message() {
    let stack = TestStack::builder().environment("RUST_LOG", "trace,tungstenite=trace,hyper=trace").start().await;
    let org = stack.new_organization().await;
    let (mut ann, bob) = (org.client("ann").await, org.client("bob").await);
    let chat = ann.succeed("conversation_create", json!({"type": "u", "participants": [bob.id()]})).await;
    let cid = chat["conversation"]["_id"].as_str().unwrap().to_owned();
    ann.send_message(&cid, BODY).await;
    let login = reqwest::Client::new().post(format!("http://{}/login", stack.gateway()));
    let login = login.json(&ann.user().credentials("another device")).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().to_owned();
    let refresh_token = cookie.split_once('=').unwrap().1.split(';').next().unwrap().to_owned();
    stack.terminate().await;

    let lines = stack.output().lines();
    assert!(lines.iter().any(|line| line.contains("DEBUG")), "the log is not talkative");
    let secrets = [ann.user().password(), &ann.session().token, &refresh_token, BODY, ADMIN_KEY, GATEWAY_TOKEN];
    for line in lines {
        for secret in secrets {
            assert!(!line.contains(secret), "a secret is in the log");
        }
    }
}

#[tokio::test]
async fn nothing_that_goes_well_or_is_refused_is_an_error_in_the_log() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "well").await;
    bob.expect_message("well").await;
    bob.succeed("message_read", json!({"cid": cid})).await;
    ann.message_refused(json!({"id": "m", "body": "to nowhere"}), 422, "cid_missing").await;
    stack.terminate().await;

    let lines = stack.output().lines();
    assert!(lines.iter().any(|line| line.contains("INFO")), "there is no log");
    let errors: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
