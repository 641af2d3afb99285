//! What every route has in common, and the admin API.

use super::*;

#[tokio::test]
async fn failures_are_json_only_for_who_names_it() {
    let routes = Routes::new();
    for accept in ["application/json", "text/html, Application/JSON;q=0.9"] {
        let answer = routes.log_in(&[("accept", accept)], json!({})).await;
        assert_eq!(answer.parts.status, 422);
        assert_eq!(answer.header("x-error-code"), Some("device_id_missing"));
        let error = &answer.json()["error"];
        assert_eq!((&error["status"], &error["code"]), (&json!(422), &json!("device_id_missing")));
        assert!(error["message"].is_string());
    }
    for accept in ["*/*", "text/plain", "application/*", "application/json-seq", "application/json;q=0, text/*; Q=0.5"]
    {
        routes.log_in(&[("accept", accept)], json!({})).await.assert_failure(422, "device_id_missing");
    }
}

#[tokio::test]
async fn health_says_where_it_is() {
    let answer = Routes::new().send(Request::get("/health"), Body::empty()).await;
    assert_eq!(answer.parts.status, 200);
    assert_eq!(answer.json()["status"], "ok");
    assert!(!answer.json()["hostname"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_served_is_unknown() {
    let routes = Routes::new();
    for request in [
        Request::get("/nothing"),
        Request::get("/login"),
        Request::delete("/health"),
        post("/login/"),
        Request::put("/admin/organization"),
        post("/admin/nothing").header("admin-api-key", ADMIN_KEY),
    ] {
        routes.send(request, Body::empty()).await.assert_failure(404, "route_unknown");
    }
}

#[tokio::test]
async fn a_request_id_is_echoed() {
    let routes = Routes::new();
    for path in ["/health", "/nothing", "/login"] {
        let request = Request::get(path).header("x-request-id", "abc-1");
        assert_eq!(routes.send(request, Body::empty()).await.header("x-request-id"), Some("abc-1"), "{path}");
    }
    let endless = Request::get("/health").header("x-request-id", "x".repeat(129));
    assert_eq!(routes.send(endless, Body::empty()).await.header("x-request-id"), None);
    assert_eq!(routes.send(Request::get("/health"), Body::empty()).await.header("x-request-id"), None);
}

#[tokio::test]
async fn configured_origins_may_call_with_cookies() {
    let routes = Routes::new();
    let origin = "http://localhost:3000";
    let answer = routes.log_in(&[("origin", origin)], json!({})).await;
    answer.assert_failure(422, "device_id_missing");
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("X-Error-Code, X-Request-Id"));
    assert_eq!(answer.header("access-control-allow-methods"), None);
    assert_eq!(answer.header("vary"), Some("Origin"));

    for other in ["http://localhost:3001", "https://localhost:3000", "null", "*"] {
        let answer = routes.log_in(&[("origin", other)], json!({})).await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{other}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{other}");
    }
    let admin = post("/admin/organization").header("origin", origin);
    assert_eq!(routes.send(admin, "{}").await.header("access-control-allow-origin"), None);
    let own = Routes::with_options(&["--cors-origin=https://a.example, https://b.example"]);
    for (origin, allowed) in [("https://b.example", true), (origin, false), ("", false)] {
        let answer = own.log_in(&[("origin", origin)], json!({})).await;
        assert_eq!(answer.header("access-control-allow-origin").is_some(), allowed, "{origin}");
    }
}

#[tokio::test]
async fn preflights_are_answered_everywhere_and_allowed_where_they_should() {
    let routes = Routes::new();
    let options = |path| Request::options(path).header("access-control-request-method", "POST");
    let origin = "http://localhost:3000";
    for path in ["/login", "/logout", "/health"] {
        let answer = routes.send(options(path).header("origin", origin), Body::empty()).await;
        assert_eq!((answer.parts.status.as_u16(), answer.body.as_str()), (204, ""));
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("Content-Type, Authorization"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    for (path, origin) in [("/login", "http://evil.example"), ("/admin/organization", origin), ("/nothing", origin)] {
        let answer = routes.send(options(path).header("origin", origin), Body::empty()).await;
        assert_eq!(answer.parts.status, 204, "{path}");
        let allows = answer.parts.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
        assert!(!allows, "{path} from {origin}");
    }
}

#[tokio::test]
async fn an_organization_is_created_with_the_admin_key() {
    let routes = Routes::new();
    let admin = || post("/admin/organization").header("Admin-Api-Key", ADMIN_KEY);
    let answer = routes.send(admin(), json!({ "name": "Acme", "_id": "acme" }).to_string()).await;
    assert_eq!(answer.parts.status, 200);
    let expected = json!({ "organization": {
        "_id": "acme", "name": "Acme",
        "created_at": "2024-01-11T19:06:40.870Z", "updated_at": "2024-01-11T19:06:40.870Z",
    } });
    assert_eq!(answer.json(), expected);

    routes.send(admin(), json!({ "name": "taken" }).to_string()).await.assert_failure(409, "organization_exists");
    for body in [json!({}), json!({ "name": 5 }), json!({ "name": "Acme", "_id": [] })] {
        routes.send(admin(), body.to_string()).await.assert_failure(422, "validation_failed");
    }
    for broken in ["", "{", "[]"] {
        routes.send(admin(), broken).await.assert_failure(400, "malformed_body");
    }
    let large = json!({ "name": "x".repeat(1024 * 1024) }).to_string();
    routes.send(admin(), large).await.assert_failure(413, "payload_too_large");
    for key in ["", "wrong"] {
        let request = post("/admin/organization").header("admin-api-key", key);
        routes.send(request, "{").await.assert_failure(401, "admin_key_rejected");
    }
    routes.send(post("/admin/organization"), "{").await.assert_failure(401, "admin_key_rejected");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let routes = Routes::new();
    let stalled = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, Infallible>>());
    routes.send(post("/login"), stalled).await.assert_failure(400, "malformed_body");
}
