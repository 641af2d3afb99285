//! Logging in on a socket. Conformance points 6 and 9 of the protocol's part 1.

use e2e::TestStack;
use e2e::packets::{integer, text};
use serde_json::{Value, json};

use crate::team::Pair;

#[tokio::test]
async fn a_password_logs_a_socket_in_and_binds_it() {
    let Pair { org, ann, mut bob, cid } = Pair::new().await;
    let mut socket = org.stranger().await;
    for device in [json!("a phone"), json!(42), json!(42.5), json!("d".repeat(255))] {
        let mut credentials = ann.user().credentials("");
        credentials["device_id"] = device;
        let response = socket.succeed("user_login", credentials).await;
        assert_eq!(response["user"]["_id"], ann.id());
        assert_eq!(response["user"]["recent_activity"], 0, "who has logged in is online");
        assert!(integer(&response, "expired_at") > 1_700_000_000_000);
        assert_eq!(text(&response, "token").split('.').count(), 3);
    }
    bob.send_message(&cid, "hello").await;
    socket.expect_message("hello").await;
    socket.send_message_with(json!({"cid": cid, "body": "hello yourself"})).await;
    bob.expect_message("hello yourself").await;
}

#[tokio::test]
async fn the_echo_bots_name_of_the_device_is_accepted_and_a_number_is_its_decimal_text() {
    let org = TestStack::organization().await;
    let ann = org.sign_up("ann").await;
    let mut socket = org.stranger().await;
    let mut credentials = ann.credentials("");
    credentials.as_object_mut().unwrap().remove("device_id");
    credentials["deviceId"] = json!(42);
    let response = socket.succeed("user_login", credentials).await;
    for same in [json!("42"), json!(42.0)] {
        socket.succeed("connect", json!({"token": response["token"], "device_id": same})).await;
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_login_look_the_same() {
    let org = TestStack::organization().await;
    let ann = org.sign_up("ann").await;
    let mut socket = org.stranger().await;
    let mut answers = Vec::new();
    for (key, value) in [("password", "wrong"), ("login", "nobody"), ("organization_id", "no-such")] {
        let mut credentials = ann.credentials("d");
        credentials[key] = json!(value);
        answers.push(socket.refused("user_login", credentials, 401, "wrong_credentials").await);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    socket.assert_anonymous().await;
}

#[tokio::test]
async fn what_a_login_lacks_is_said() {
    let org = TestStack::organization().await;
    let ann = org.sign_up("ann").await;
    let session = ann.log_in(org.stack(), "d").await;
    let mut socket = org.stranger().await;
    for (payload, status, code) in [
        (json!({}), 401, "credentials_missing"),
        (json!({"device_id": "d"}), 401, "credentials_missing"),
        (json!({"login": "ann", "device_id": "d"}), 422, "login_fields_missing"),
        (json!({"password": "pwd", "device_id": "d"}), 422, "login_fields_missing"),
        (json!({"login": 1, "password": "pwd", "device_id": "d"}), 422, "login_fields_missing"),
        (json!({"login": "ann", "password": {"$ne": 1}, "device_id": "d"}), 422, "login_fields_missing"),
        (json!({"login": "ann", "password": "pwd"}), 422, "device_id_missing"),
        (json!({"login": "ann", "password": "pwd", "device_id": ""}), 422, "device_id_missing"),
        (json!({"login": "ann", "password": "pwd", "device_id": {}}), 422, "device_id_missing"),
        (json!({"token": session.token, "login": "ann", "password": "pwd"}), 422, "validation_failed"),
    ] {
        socket.refused("user_login", payload, status, code).await;
    }
    socket.assert_anonymous().await;
}

#[tokio::test]
async fn a_token_logs_in_alone_or_with_its_own_device() {
    let org = TestStack::organization().await;
    let session = org.sign_up("ann").await.log_in(org.stack(), "d").await;
    let mut socket = org.stranger().await;
    for payload in [json!({"token": session.token}), json!({"token": session.token, "device_id": "d"})] {
        let response = socket.succeed("user_login", payload).await;
        assert_eq!(response["user"]["_id"], session.user.id.as_str());
        assert_eq!(response["user"]["recent_activity"], 0, "who has logged in is online");
        assert!(response["token"].is_string() && response["expired_at"].is_i64(), "{response}");
    }
    let wrong_device = json!({"token": session.token, "device_id": "e"});
    socket.refused("user_login", wrong_device, 422, "session_token_expired").await;
    socket.refused("user_login", json!({"token": "garbage"}), 422, "session_token_expired").await;
}

#[tokio::test]
async fn a_dead_token_is_said_to_be_expired_and_nothing_else_is() {
    let org = TestStack::organization().await;
    let session = org.sign_up("ann").await.log_in(org.stack(), "d").await;
    let mut socket = org.stranger().await;
    let [head, body, signature] = <[&str; 3]>::try_from(session.token.split('.').collect::<Vec<_>>()).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{body}.");
    let swapped = format!("{head}.{body}.{}", signature.chars().rev().collect::<String>());
    for token in ["", "garbage", "a.b.c", &unsigned, &swapped, &format!("{} ", session.token)] {
        let response = socket.connect_refused(token, "d").await;
        assert!(text(&response["error"], "message").contains("expired"), "{response}");
    }
    let response = socket.connect_refused(&session.token, "another").await;
    assert!(text(&response["error"], "message").contains("expired"), "{response}");
    for (payload, code) in [
        (json!({"device_id": "d"}), "session_token_expired"),
        (json!({"token": {"a": 1}, "device_id": "d"}), "session_token_expired"),
        (json!({"token": session.token}), "device_id_missing"),
        (json!({"token": session.token, "device_id": Value::Null}), "device_id_missing"),
        (json!({"token": session.token, "device_id": []}), "device_id_missing"),
    ] {
        let error = socket.refused("connect", payload, 422, code).await;
        assert_eq!(text(&error, "message").contains("expired"), code == "session_token_expired", "{error}");
    }
    socket.assert_anonymous().await;
    socket.bind(&session).await;
}

#[tokio::test]
async fn failed_logins_are_not_counted_for_the_machine_itself() {
    let org = TestStack::organization().await;
    let ann = org.sign_up("ann").await;
    let mut socket = org.stranger().await;
    let mut wrong = ann.credentials("d");
    wrong["password"] = json!("wrong");
    for _ in 0..25 {
        socket.refused("user_login", wrong.clone(), 401, "wrong_credentials").await;
    }
    socket.succeed("user_login", ann.credentials("d")).await;
}
