//! What every HTTP answer has in common: the form of failures, the request id, cross-origin headers, `OPTIONS`.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tracing::debug;

use super::HttpState;
use super::reply::HttpFailure;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is logged and echoed, in bytes; a longer one is ignored.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// The only routes that pages of other origins may call.
const CROSS_ORIGIN_ROUTES: [&str; 3] = ["/login", "/logout", "/health"];

/// Runs one request and dresses its answer.
pub(super) async fn handle(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let is_cross_origin_route = CROSS_ORIGIN_ROUTES.contains(&request.uri().path());
    let origin = allowed_origin(&state.config.cors_origin, request.headers()).filter(|_| is_cross_origin_route);
    let mut echoed = HeaderMap::new();
    echo_request_id(request.headers(), &mut echoed);
    let as_json = accepts_json(request.headers());
    let is_preflight = request.method() == Method::OPTIONS;

    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = if is_preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let response = next.run(request).await;
        match response.extensions().get::<HttpFailure>() {
            Some(failure) => failure.render(as_json),
            None => response,
        }
    };
    debug!(
        http.method = %method,
        http.path = path,
        http.request_id = echoed.get(REQUEST_ID).and_then(|id| id.to_str().ok()),
        http.status = response.status().as_u16(),
        "http request answered"
    );

    let headers = response.headers_mut();
    headers.extend(echoed);
    if is_cross_origin_route {
        // Also for other origins, or a cache would hand one origin's answer to another.
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = origin {
        allow_origin(headers, origin, is_preflight);
    }
    response
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue, is_preflight: bool) {
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    set(ACCESS_CONTROL_EXPOSE_HEADERS, "X-Error-Code, X-Request-Id");
    if is_preflight {
        set(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS");
        set(ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Authorization");
        set(ACCESS_CONTROL_MAX_AGE, "600");
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/// The request's origin if it is one of the configured ones.
fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    allowed.iter().any(|allowed| !allowed.is_empty() && origin == allowed).then(|| origin.clone())
}

/// Gives the request's id, if it has a usable one, to the answer.
pub(crate) fn echo_request_id(request: &HeaderMap, answer: &mut HeaderMap) {
    if let Some(id) = request.get(REQUEST_ID).filter(|id| id.len() <= MAX_REQUEST_ID_BYTES) {
        answer.insert(REQUEST_ID, id.clone());
    }
}

/// Whether JSON is named; a client that accepts anything shows the body to a person.
fn accepts_json(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
            && !parts.any(is_weight_of_zero)
    })
}

/// Whether this parameter says that what it belongs to is not wanted.
fn is_weight_of_zero(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32))
}
