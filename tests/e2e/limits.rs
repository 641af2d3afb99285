//! Limits per address. A client on the machine itself has none, so these come through a trusted proxy.

use std::net::SocketAddr;

use e2e::TestStack;
use e2e::wire::RawSocket;
use reqwest::Client;
use serde_json::{Value, json};

async fn status_of_login(gateway: SocketAddr, address: &str, credentials: &Value) -> u16 {
    let request = Client::new().post(format!("http://{gateway}/login")).header("x-forwarded-for", address);
    request.json(credentials).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn twenty_failed_logins_of_an_address_and_a_login_are_enough() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let (right, mut wrong, gateway) = (ann.credentials("d"), ann.credentials("d"), stack.gateway());
    wrong["password"] = json!("wrong");
    for _ in 0..20 {
        assert_eq!(status_of_login(gateway, "203.0.113.5", &wrong).await, 401);
    }
    assert_eq!(status_of_login(gateway, "203.0.113.5", &wrong).await, 429);
    assert_eq!(status_of_login(gateway, "203.0.113.5", &right).await, 429);
    // On a socket it is the same count, with the same answer; elsewhere and for others it is not.
    let mut socket = RawSocket::open_from(gateway, "203.0.113.5").await;
    socket.send(&json!({"user_login": right, "id": 1})).await;
    assert_eq!(socket.packet().await["response"]["error"]["code"], "rate_limited");
    assert_eq!(status_of_login(gateway, "203.0.113.6", &right).await, 200);
    wrong["login"] = json!("bob");
    assert_eq!(status_of_login(gateway, "203.0.113.5", &wrong).await, 401);
}

#[tokio::test]
async fn an_address_creates_users_at_a_bounded_pace() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let create = async |address: &str, login: String| {
        let mut socket = RawSocket::open_from(stack.gateway(), address).await;
        socket.send(&json!({"user_create": {"login": login, "password": "pwd"}, "id": 1})).await;
        socket.packet().await["response"]["error"]["code"].take()
    };
    let mut refused = 0;
    // Thirty at once, and one more every six seconds.
    for number in 0..40 {
        let code = create("203.0.113.5", format!("user {number}")).await;
        assert!(code.is_null() || code == "rate_limited", "{code}");
        assert!(number >= 30 || code.is_null(), "refused after {number}");
        refused += usize::from(!code.is_null());
    }
    assert!(refused > 0);
    assert_eq!(create("203.0.113.6", "another user".to_owned()).await, Value::Null);
}

#[tokio::test]
async fn sign_ups_that_are_wrong_in_themselves_do_not_count() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.0/8").start().await;
    let mut socket = RawSocket::open_from(stack.gateway(), "203.0.113.5").await;
    let mut create = async |payload: Value| {
        socket.send(&json!({"user_create": payload, "id": 1})).await;
        socket.packet().await["response"]["error"]["code"].take()
    };
    for _ in 0..40 {
        assert_eq!(create(json!({"login": "x", "password": "pwd"})).await, "login_invalid");
        assert_eq!(create(json!({"login": "xyz", "password": "pwd", "email": ""})).await, "validation_failed");
    }
    assert_eq!(create(json!({"login": "xyz", "password": "pwd"})).await, Value::Null);
}

#[tokio::test]
async fn logins_that_succeed_side_by_side_are_no_failures() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let (credentials, gateway) = (ann.credentials("d"), stack.gateway());
    let logins = (0..30).map(|_| status_of_login(gateway, "203.0.113.5", &credentials));
    let statuses = futures_util::future::join_all(logins).await;
    assert_eq!(statuses, [200; 30], "more than failures would be let through");
}

#[tokio::test]
async fn a_login_in_another_unicode_form_is_the_same_to_the_limit() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let eva = stack.new_organization().await.sign_up("\u{e9}va").await;
    let (mut wrong, gateway) = (eva.credentials("d"), stack.gateway());
    wrong["password"] = json!("wrong");
    for number in 0..20 {
        wrong["login"] = json!(["\u{e9}va", "e\u{301}va", "\u{c9}VA"][number % 3]);
        assert_eq!(status_of_login(gateway, "203.0.113.5", &wrong).await, 401);
    }
    for login in ["\u{e9}va", "e\u{301}va"] {
        wrong["login"] = json!(login);
        assert_eq!(status_of_login(gateway, "203.0.113.5", &wrong).await, 429);
    }
}

#[tokio::test]
async fn a_proxy_that_names_no_address_does_not_make_its_clients_exempt() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let mut wrong = ann.credentials("d");
    wrong["password"] = json!("wrong");
    for _ in 0..20 {
        assert_eq!(status_of_login(stack.gateway(), "203.0.113.5, unknown", &wrong).await, 401);
    }
    assert_eq!(status_of_login(stack.gateway(), "203.0.113.5, unknown", &wrong).await, 429);
}

#[tokio::test]
async fn what_a_stranger_says_about_his_address_is_not_believed() {
    let stack = TestStack::builder().environment("TRUSTED_PROXIES", "10.0.0.1").start().await;
    let ann = stack.new_organization().await.sign_up("ann").await;
    let mut wrong = ann.credentials("d");
    wrong["password"] = json!("wrong");
    for _ in 0..25 {
        assert_eq!(status_of_login(stack.gateway(), "203.0.113.5", &wrong).await, 401);
    }
}
