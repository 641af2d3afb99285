//! Answers: JSON for success; for failure one sentence, which clients show to people, or JSON where it is asked for.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use proto::reason::{Failure, Reason};
use serde::Serialize;

use crate::packet::error::{ErrorObject, sentence};

/// Carries the code of a failure whose body is a sentence.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// A successful answer.
pub(super) fn json(status: StatusCode, content: &impl Serialize) -> Response {
    let body = serde_json::to_vec(content).expect("answers have string keys only");
    with_body(status, "application/json", body)
}

/// What a route answers when it fails. It becomes a whole response only at the edge, which knows the form asked for.
#[derive(Clone, Debug)]
pub(super) struct HttpFailure(Failure);

impl HttpFailure {
    /// The whole response.
    pub(super) fn render(&self, as_json: bool) -> Response {
        #[derive(Serialize)]
        struct Failed<'a> {
            error: ErrorObject<'a>,
        }
        let reason = self.0.reason;
        let status = StatusCode::from_u16(reason.status()).expect("every reason has a status of HTTP");
        let mut response = if as_json {
            json(status, &Failed { error: ErrorObject::from(&self.0) })
        } else {
            with_body(status, "text/plain; charset=utf-8", sentence(reason).into())
        };
        response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(reason.code()));
        response
    }
}

impl From<Failure> for HttpFailure {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<Reason> for HttpFailure {
    fn from(reason: Reason) -> Self {
        Self(reason.into())
    }
}

impl IntoResponse for HttpFailure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

fn with_body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
