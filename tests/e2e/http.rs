//! The HTTP routes. Conformance points 7, 8 and 10 of the protocol's part 1, and what belongs to them.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use e2e::packets::{integer, text};
use e2e::{ADMIN_KEY, Organization, TestStack, TestUser};
use proto::ids::UserId;
use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

/// Posts JSON to a route of the gateway.
async fn post(gateway: SocketAddr, path: &str, body: &Value, headers: &[(&str, &str)]) -> Response {
    let mut request = Client::new().post(format!("http://{gateway}{path}")).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

/// The refresh cookie's `name=value`, of exactly one `Set-Cookie`.
fn cookie(answer: &Response) -> String {
    let cookies: Vec<_> = answer.headers().get_all(SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = cookies[0].to_str().unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    for wanted in ["Max-Age=1209600", "Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(attributes.split("; ").any(|attribute| attribute == wanted), "{cookie}");
    }
    assert!(!attributes.contains("Expires"), "{cookie}");
    assert!(pair.starts_with("refresh_token="), "{cookie}");
    pair.to_owned()
}

async fn refused(answer: Response, status: u16, code: &str) -> String {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["x-error-code"], code);
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    let sentence = answer.text().await.unwrap();
    assert!(!sentence.is_empty() && !sentence.starts_with('{'), "{sentence}");
    sentence
}

async fn ann() -> (Organization, TestUser, SocketAddr) {
    let org = TestStack::organization().await;
    let ann = org.sign_up("ann").await;
    let gateway = org.stack().gateway();
    (org, ann, gateway)
}

fn device(id: &str) -> Value {
    json!({"device_id": id})
}

/// What a token says, without asking whether it is true.
fn payload(token: &str) -> Value {
    let encoded = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
}

#[tokio::test]
async fn a_login_gives_a_token_and_one_cookie() {
    let (org, ann, gateway) = ann().await;
    for _ in 0..2 {
        let answer = post(gateway, "/login", &ann.credentials("d"), &[]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/json");
        cookie(&answer);
        let answer: Value = answer.json().await.unwrap();
        let mut keys: Vec<_> = answer.as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["access_token", "expired_at", "user"]);
        let user = &answer["user"];
        assert_eq!((&user["_id"], &user["native_id"]), (&json!(ann.id), &json!(ann.id)));
        let claims = payload(text(&answer, "access_token"));
        assert_eq!(
            (&claims["_id"], &claims["native_id"], &claims["login"]),
            (&json!(ann.id), &json!(ann.id), &json!("ann"))
        );
        assert_eq!(
            (&claims["type"], &claims["org"], &claims["device_id"]),
            (&json!("access"), &json!(org.id), &json!("d"))
        );
        let made = UserId::parse(&ann.id).unwrap().timestamp().millis();
        assert!(integer(&answer, "expired_at") > made + 10_000_000, "{answer}");
        assert_eq!(integer(&answer, "expired_at") / 1000, integer(&claims, "exp"));
    }
}

#[tokio::test]
async fn a_refresh_cookie_renews_the_session_even_twice_at_once() {
    let (_org, ann, gateway) = ann().await;
    let first = cookie(&post(gateway, "/login", &ann.credentials("d"), &[]).await);
    let (headers, body) = ([("cookie", first.as_str())], device("d"));
    let (one, two) = tokio::join!(post(gateway, "/login", &body, &headers), post(gateway, "/login", &body, &headers));
    assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
    let (new, same) = (cookie(&one), cookie(&two));
    assert_eq!(new, same);
    assert_ne!(new, first);
    let answer: Value = one.json().await.unwrap();
    assert_eq!(answer["user"]["_id"], ann.id.as_str());
    // The value before is good for a minute still; the new one goes on.
    assert_eq!(cookie(&post(gateway, "/login", &body, &[("cookie", &first)]).await), new);
    let next = cookie(&post(gateway, "/login", &body, &[("cookie", &new)]).await);
    assert_ne!(next, new);
    // The one before the last one is not good any more.
    let sentence = refused(post(gateway, "/login", &body, &[("cookie", &first)]).await, 422, "session_token_expired");
    assert!(sentence.await.contains("expired"));
}

#[tokio::test]
#[ignore = "long: run by tests/run --long (waits a minute, which is what it is about)"]
async fn a_superseded_cookie_fails_after_a_minute() {
    let (_org, ann, gateway) = ann().await;
    let first = cookie(&post(gateway, "/login", &ann.credentials("d"), &[]).await);
    let new = cookie(&post(gateway, "/login", &device("d"), &[("cookie", &first)]).await);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let answer = post(gateway, "/login", &device("d"), &[("cookie", &first)]).await;
    assert!(refused(answer, 422, "session_token_expired").await.contains("expired"));
    let answer = post(gateway, "/login", &device("d"), &[("cookie", &new)]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_access_token_gives_another_and_no_cookie() {
    let (org, ann, gateway) = ann().await;
    let session = ann.log_in(org.stack(), "d").await;
    let bearer = format!("Bearer {}", session.token);
    let answer = post(gateway, "/login", &device("d"), &[("authorization", &bearer)]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().get(SET_COOKIE).is_none());
    let answer: Value = answer.json().await.unwrap();
    org.stranger().await.succeed("connect", json!({"token": answer["access_token"], "device_id": "d"})).await;
    // A bad cookie falls back to it, and a bad bearer does not spoil a good cookie.
    let headers = [("authorization", bearer.as_str()), ("cookie", "refresh_token=garbage")];
    assert_eq!(post(gateway, "/login", &device("d"), &headers).await.status(), StatusCode::OK);
    let good = cookie(&post(gateway, "/login", &ann.credentials("d"), &[]).await);
    let headers = [("authorization", "Bearer garbage"), ("cookie", good.as_str())];
    assert_eq!(post(gateway, "/login", &device("d"), &headers).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_refused_login_says_why_in_one_sentence() {
    let (_org, ann, gateway) = ann().await;
    let good = cookie(&post(gateway, "/login", &ann.credentials("d"), &[]).await);
    let with = |key: &str, value: Value| {
        let mut credentials = ann.credentials("d");
        credentials[key] = value;
        credentials
    };
    for (body, headers, status, code) in [
        (json!({}), vec![], 422, "device_id_missing"),
        (with("device_id", json!({"$gt": ""})), vec![], 422, "device_id_missing"),
        (with("login", json!({"$gt": ""})), vec![], 422, "validation_failed"),
        (with("password", json!("wrong")), vec![], 401, "wrong_credentials"),
        (with("login", json!("nobody")), vec![], 401, "wrong_credentials"),
        (with("organization_id", json!("no-such")), vec![], 401, "wrong_credentials"),
        (with("password", json!("wrong")), vec![("cookie", good.as_str())], 401, "wrong_credentials"),
        (device("d"), vec![], 401, "credentials_missing"),
        (device("e"), vec![("cookie", good.as_str())], 422, "session_token_expired"),
        (device("d"), vec![("cookie", "refresh_token=garbage")], 422, "session_token_expired"),
        (device("d"), vec![("authorization", "Bearer garbage")], 422, "session_token_expired"),
    ] {
        let answer = post(gateway, "/login", &body, &headers).await;
        assert!(answer.headers().get(SET_COOKIE).is_none());
        let sentence = refused(answer, status, code).await;
        assert_eq!(sentence.contains("expired"), code == "session_token_expired", "{sentence}");
    }
    let json = [("accept", "application/json")];
    let answer = post(gateway, "/login", &device("d"), &json).await;
    assert_eq!(answer.headers()["x-error-code"], "credentials_missing");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["status"], 401);
    assert_eq!(answer["error"]["code"], "credentials_missing");
}

#[tokio::test]
async fn bodies_are_json_objects_of_a_bounded_size() {
    let (_org, _ann, gateway) = ann().await;
    let send = async |path: &str, body: String, kind: &str| {
        let request = Client::new().post(format!("http://{gateway}{path}")).body(body).header("content-type", kind);
        request.header("admin-api-key", ADMIN_KEY).send().await.unwrap()
    };
    for broken in ["{", "[]", "null", "\"text\""] {
        let answer = send("/login", broken.to_owned(), "application/json; charset=utf-8").await;
        refused(answer, 400, "malformed_body").await;
    }
    // Without the content type, and without a body, it is as if nothing was said.
    refused(send("/login", "{".to_owned(), "text/plain").await, 422, "device_id_missing").await;
    refused(send("/login", String::new(), "application/json").await, 422, "device_id_missing").await;
    let long = |bytes: usize| json!({"long": "l".repeat(bytes)}).to_string();
    refused(send("/login", long(64 * 1024), "application/json").await, 413, "payload_too_large").await;
    let answer = send("/admin/organization", long(1024 * 1024), "application/json").await;
    refused(answer, 413, "payload_too_large").await;
    let answer = send("/admin/organization", long(512 * 1024), "application/json").await;
    refused(answer, 422, "validation_failed").await;
}

#[tokio::test]
async fn either_credential_logs_out_and_the_cookie_is_cleared() {
    let (_org, ann, gateway) = ann().await;
    refused(post(gateway, "/logout", &json!({}), &[]).await, 401, "credentials_missing").await;
    refused(post(gateway, "/logout", &json!({}), &[("cookie", "refresh_token=no")]).await, 401, "credentials_missing")
        .await;
    for by_cookie in [true, false] {
        let answer = post(gateway, "/login", &ann.credentials("d"), &[]).await;
        let (pair, body) = (cookie(&answer), answer.json::<Value>().await.unwrap());
        let bearer = format!("Bearer {}", text(&body, "access_token"));
        let header = if by_cookie { ("cookie", pair.as_str()) } else { ("authorization", bearer.as_str()) };
        // As the clients send it: without a body.
        let request = Client::new().post(format!("http://{gateway}/logout")).header(header.0, header.1);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let cleared = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(cleared.starts_with("refresh_token=; ") && cleared.contains("Max-Age=0"), "{cleared}");
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"success": true}));
        for dead in [("cookie", pair.as_str()), ("authorization", bearer.as_str())] {
            let answer = post(gateway, "/login", &device("d"), &[dead]).await;
            refused(answer, 422, "session_token_expired").await;
        }
    }
}

fn allows(headers: &HeaderMap) -> Option<&str> {
    headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn browsers_of_listed_origins_may_ask() {
    let (_org, ann, gateway) = ann().await;
    let preflight = async |path: &str, origin: &str| {
        let request = Client::new().request(Method::OPTIONS, format!("http://{gateway}{path}"));
        request.header("origin", origin).header("access-control-request-method", "POST").send().await.unwrap()
    };
    let answer = preflight("/login", "http://localhost:3000").await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(allows(answer.headers()), Some("http://localhost:3000"));
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers()["access-control-allow-methods"], "GET, POST, OPTIONS");
    assert_eq!(answer.headers()["access-control-allow-headers"], "Content-Type, Authorization");
    for (path, origin) in [("/login", "http://evil.example"), ("/admin/organization", "http://localhost:3000")] {
        let answer = preflight(path, origin).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(allows(answer.headers()), None, "{path} {origin}");
    }
    for (origin, allowed) in [("http://localhost:10000", true), ("http://localhost:1", false)] {
        for body in [ann.credentials("d"), json!({})] {
            let answer = post(gateway, "/login", &body, &[("origin", origin)]).await;
            assert_eq!(allows(answer.headers()), allowed.then_some(origin));
            assert!(!allowed || answer.headers()["vary"].to_str().unwrap().to_lowercase().contains("origin"));
        }
    }
    let answer = post(gateway, "/admin/organization", &json!({}), &[("origin", "http://localhost:3000")]).await;
    assert_eq!(allows(answer.headers()), None);
}

#[tokio::test]
async fn health_is_open_and_unknown_routes_are_404() {
    let stack = TestStack::shared().await;
    let gateway = stack.gateway();
    let get = async |path: &str| {
        Client::new().get(format!("http://{gateway}{path}")).header("x-request-id", "r-1").send().await.unwrap()
    };
    let answer = get("/health").await;
    assert_eq!((answer.status(), &answer.headers()["x-request-id"]), (StatusCode::OK, &"r-1".parse().unwrap()));
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["status"], "ok");
    assert!(answer["hostname"].is_string());
    for path in ["/login", "/nowhere", "/metrics", "/admin/organization"] {
        refused(get(path).await, 404, "route_unknown").await;
    }
    refused(post(gateway, "/health", &json!({}), &[]).await, 404, "route_unknown").await;
}

#[tokio::test]
async fn an_organization_needs_the_key_and_a_name_of_its_own() {
    let stack = TestStack::shared().await;
    let gateway = stack.gateway();
    let key = [("Admin-Api-Key", ADMIN_KEY)];
    let name = format!("Acme of {}", std::process::id());
    for headers in [vec![], vec![("admin-api-key", "wrong")], vec![("admin-api-key", "")]] {
        let answer = post(gateway, "/admin/organization", &json!({"name": name}), &headers).await;
        refused(answer, 401, "admin_key_rejected").await;
    }
    for bad in [json!({}), json!({"name": ""}), json!({"name": "n".repeat(256)}), json!({"name": 1})] {
        refused(post(gateway, "/admin/organization", &bad, &key).await, 422, "validation_failed").await;
    }
    let id = format!("acme-{}", std::process::id());
    let body = json!({"name": name, "_id": id});
    let answer = post(gateway, "/admin/organization", &body, &key).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let organization = answer.json::<Value>().await.unwrap()["organization"].take();
    assert_eq!((&organization["_id"], &organization["name"]), (&json!(id), &json!(name)));
    assert_eq!(organization["created_at"], organization["updated_at"]);
    for taken in [json!({"name": name}), json!({"name": "another", "_id": id})] {
        refused(post(gateway, "/admin/organization", &taken, &key).await, 409, "organization_exists").await;
    }
    let bad_id = json!({"name": "yet another", "_id": "Not A Slug"});
    refused(post(gateway, "/admin/organization", &bad_id, &key).await, 422, "validation_failed").await;
}

#[tokio::test]
async fn without_a_configured_key_admin_is_closed() {
    let stack = TestStack::builder().environment("HTTP_ADMIN_API_KEY", "").start().await;
    for headers in [vec![], vec![("admin-api-key", "")], vec![("admin-api-key", ADMIN_KEY)]] {
        let answer = post(stack.gateway(), "/admin/organization", &json!({"name": "Acme"}), &headers).await;
        refused(answer, 401, "admin_key_rejected").await;
    }
}
