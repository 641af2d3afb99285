//! Login and logout.

use super::*;

#[tokio::test]
async fn a_password_login_gives_an_access_token_and_one_cookie() {
    let routes = Routes::new();
    let answer = routes.log_in(&[], password_body()).await;
    assert_eq!(answer.parts.status, 200);
    let body = answer.json();
    assert_eq!(body["access_token"], ACCESS);
    assert_eq!(body["expired_at"], 1_767_225_600_000_i64);
    assert_eq!(body["user"]["native_id"], body["user"]["_id"]);
    let keys: std::collections::BTreeSet<_> = body.as_object().unwrap().keys().collect();
    assert!(keys.into_iter().eq(["access_token", "expired_at", "user"]));
    let cookie = answer.header("set-cookie").unwrap();
    assert_eq!(cookie, "refresh_token=refresh-1; HttpOnly; SameSite=Lax; Path=/; Max-Age=1209600");
    assert!(routes.core.asked.lock().unwrap()[0].contains(r#"device_id: Some("42")"#));
}

#[tokio::test]
async fn the_cookie_is_secure_where_clients_can_take_it_so() {
    let secure = |answer: &Answer| answer.header("set-cookie").unwrap().contains("; Secure");
    let mut routes = Routes::new();
    assert!(!secure(&routes.log_in(&[], password_body()).await));
    assert!(!secure(&routes.log_in(&[("host", "chat.example:9001")], password_body()).await));
    assert!(secure(&routes.log_in(&[("host", "localhost:9001")], password_body()).await));
    routes.client.is_https = true;
    assert!(secure(&routes.log_in(&[], password_body()).await));

    let never = Routes::with_options(&["--gateway-cookie-secure=never", "--gateway-cookie-same-site=strict"]);
    let answer = never.log_in(&[("host", "localhost")], password_body()).await;
    assert!(!secure(&answer) && answer.header("set-cookie").unwrap().contains("SameSite=Strict"));
    let always = Routes::with_options(&["--gateway-cookie-secure=always", "--gateway-cookie-same-site=none"]);
    let answer = always.log_in(&[], password_body()).await;
    assert!(secure(&answer) && answer.header("set-cookie").unwrap().contains("SameSite=None"));
}

#[tokio::test]
async fn a_session_is_renewed_by_cookie_or_access_token() {
    let routes = Routes::new();
    let device = json!({ "device_id": "pc-1" });

    let answer = routes.log_in(&[("cookie", "a=b; refresh_token=refresh-1")], device.clone()).await;
    assert_eq!((answer.parts.status.as_u16(), &answer.json()["access_token"]), (200, &json!("access-2")));
    assert!(answer.header("set-cookie").unwrap().starts_with("refresh_token=refresh-2; "));
    assert!(answer.header("set-cookie").unwrap().ends_with("Max-Age=600"));

    let answer = routes.log_in(&[("authorization", "bearer access-1")], device.clone()).await;
    assert_eq!(answer.parts.status, 200);
    assert_eq!(answer.header("set-cookie"), None, "an access token gives no refresh token");

    let both = [("cookie", "refresh_token=old"), ("authorization", "Bearer access-1")];
    assert_eq!(routes.log_in(&both, device.clone()).await.parts.status, 200);

    let half = json!({ "device_id": "pc-1", "login": "ann", "password": "" });
    assert_eq!(routes.log_in(&[("authorization", "Bearer access-1")], half).await.parts.status, 200);

    let old = routes.log_in(&[("cookie", "refresh_token=old")], device.clone()).await;
    old.assert_failure(422, "session_token_expired");
    for nothing in [("cookie", "refresh_token="), ("cookie", "other=refresh-1"), ("authorization", "Basic access-1")] {
        routes.log_in(&[nothing], device.clone()).await.assert_failure(401, "credentials_missing");
    }
}

#[tokio::test]
async fn a_wrong_password_is_not_made_good_by_tokens() {
    let routes = Routes::new();
    let wrong = json!({ "login": "ann", "password": "no", "device_id": "pc-1" });
    let answer = routes.log_in(&[("cookie", "refresh_token=refresh-1")], wrong).await;
    answer.assert_failure(401, "wrong_credentials");
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test]
async fn too_many_wrong_passwords_are_not_tried_any_more() {
    let mut routes = Routes::new();
    let wrong = json!({ "login": "ann", "password": "no", "device_id": "pc-1" });
    for _ in 0..20 {
        routes.log_in(&[], wrong.clone()).await.assert_failure(401, "wrong_credentials");
    }
    routes.log_in(&[], wrong.clone()).await.assert_failure(429, "rate_limited");
    routes.log_in(&[], password_body()).await.assert_failure(429, "rate_limited");
    assert_eq!(routes.asked(), 20, "the core is not asked");
    routes.client.ip = "127.0.0.1".parse().unwrap();
    routes.log_in(&[], wrong).await.assert_failure(401, "wrong_credentials");
}

#[tokio::test]
async fn the_body_of_a_login_is_checked_device_first() {
    let routes = Routes::new();
    for device_id in [json!(null), json!(""), json!({}), json!(true)] {
        let body = json!({ "device_id": device_id, "login": {}, "password": PASSWORD });
        routes.log_in(&[], body).await.assert_failure(422, "device_id_missing");
    }
    for field in ["login", "password", "organization_id"] {
        let body = json!({ "device_id": "pc-1", field: { "$ne": "" } });
        routes.log_in(&[], body).await.assert_failure(422, "validation_failed");
    }
    let json_type = || post("/login").header("content-type", "application/json");
    for broken in ["{", "[]", "null", "\"x\"", " "] {
        routes.send(json_type(), broken).await.assert_failure(400, "malformed_body");
    }
    routes.send(json_type(), "").await.assert_failure(422, "device_id_missing");
    let untyped = routes.send(post("/login"), password_body().to_string()).await;
    untyped.assert_failure(422, "device_id_missing");
    let large = json!({ "device_id": "x".repeat(64 * 1024) }).to_string();
    routes.send(json_type(), large).await.assert_failure(413, "payload_too_large");
    assert_eq!(routes.asked(), 0);
}

#[tokio::test]
async fn either_token_logs_out_and_the_cookie_is_cleared() {
    let routes = Routes::new();
    for (name, value) in [("authorization", "Bearer access-1"), ("cookie", "refresh_token=refresh-1")] {
        let answer = routes.send(post("/logout").header(name, value), Body::empty()).await;
        assert_eq!((answer.parts.status.as_u16(), answer.json()), (200, json!({ "success": true })));
        let cookie = answer.header("set-cookie").unwrap();
        assert_eq!(cookie, "refresh_token=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
    let answer = routes.send(post("/logout"), Body::empty()).await;
    answer.assert_failure(401, "credentials_missing");
    assert_eq!(answer.header("set-cookie"), None);
}
