//! The chat page and its assets.

use super::*;

#[tokio::test]
async fn the_page_is_at_the_root() {
    let routes = Routes::new();
    for path in ["/", "/?organization=acme"] {
        let answer = routes.send(Request::get(path), Body::empty()).await;
        assert_eq!(answer.parts.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(answer.body.starts_with("<!doctype html>"));
    }
}

#[tokio::test]
async fn assets_have_their_types() {
    let routes = Routes::new();
    for (path, content_type) in [
        ("/app/main.js", "text/javascript; charset=utf-8"),
        ("/app/view/list.js", "text/javascript; charset=utf-8"),
        ("/app/style/base.css", "text/css; charset=utf-8"),
        ("/app/icon.svg", "image/svg+xml"),
    ] {
        let answer = routes.send(Request::get(path), Body::empty()).await;
        assert_eq!((answer.parts.status.as_u16(), answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(!answer.body.is_empty());
    }
}

#[tokio::test]
async fn page_and_assets_carry_the_strict_policies() {
    let routes = Routes::new();
    for path in ["/", "/app/main.js"] {
        let answer = routes.send(Request::get(path), Body::empty()).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let routes = Routes::new();
    let first = routes.send(Request::get("/app/main.js"), Body::empty()).await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let tag = first.header("etag").unwrap();
    let again = routes.send(Request::get("/app/main.js").header("if-none-match", tag), Body::empty()).await;
    assert_eq!((again.parts.status.as_u16(), again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(tag));
    let other = routes.send(Request::get("/app/chat.js").header("if-none-match", tag), Body::empty()).await;
    assert_eq!(other.parts.status, 200);
}

#[tokio::test]
async fn head_tells_the_same_without_the_file() {
    let routes = Routes::new();
    for path in ["/", "/app/main.js"] {
        let whole = routes.send(Request::get(path), Body::empty()).await;
        let head = routes.send(Request::head(path), Body::empty()).await;
        assert_eq!((head.parts.status.as_u16(), head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
        assert_eq!(head.header("etag"), whole.header("etag"));
    }
}

#[tokio::test]
async fn other_names_are_unknown() {
    let routes = Routes::new();
    for path in ["/app", "/app/", "/app/nothing.js", "/app/index.html", "/app/../Cargo.toml", "/app/%2e%2e/Cargo.toml"]
    {
        routes.send(Request::get(path), Body::empty()).await.assert_failure(404, "route_unknown");
    }
    for path in ["/", "/app/main.js"] {
        routes.send(post(path), Body::empty()).await.assert_failure(404, "route_unknown");
    }
}
