//! Reading a request's body: bounded in size and time, and a JSON object, of which only the asked fields are kept.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::LengthLimitError;
use proto::reason::{Failure, Reason};

use crate::packet::client::Payload;

/// The largest body of a login or logout, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// The largest body of an admin request, in bytes.
pub(super) const MAX_ADMIN_BYTES: usize = 1024 * 1024;
/// How long a client may take to send its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a login or logout, where what is empty or not declared as JSON counts as an empty object.
pub(super) async fn read_optional<P: Payload>(headers: &HeaderMap, body: Body) -> Result<P, Failure> {
    let bytes = read(body, MAX_BYTES).await?;
    parse(if bytes.is_empty() || !is_json(headers) { b"{}" } else { &bytes })
}

/// The body of an admin request.
pub(super) async fn read_admin<P: Payload>(body: Body) -> Result<P, Failure> {
    parse(&read(body, MAX_ADMIN_BYTES).await?)
}

async fn read(body: Body, max_bytes: usize) -> Result<Bytes, Failure> {
    let read = tokio::time::timeout(READ_TIMEOUT, axum::body::to_bytes(body, max_bytes)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
            Err(Reason::PayloadTooLarge.into())
        }
        // Cut off or too slow: there is hardly anybody left to read the answer.
        Ok(Err(_)) | Err(_) => Err(Reason::MalformedBody.into()),
    }
}

fn parse<P: Payload>(bytes: &[u8]) -> Result<P, Failure> {
    str::from_utf8(bytes).ok().and_then(P::read).unwrap_or_else(|| Err(Reason::MalformedBody.into()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|content_type| content_type.to_str().ok());
    content_type.is_some_and(|content_type| content_type.to_ascii_lowercase().contains("application/json"))
}
