//! One accepted connection until it is a WebSocket: HTTP requests, and the one that upgrades.
//!
//! A request to upgrade is accepted on every path. hyper then gives the TCP stream back, with what it has read beyond
//! the request, and the socket's task begins; the HTTP side and its buffers are gone by then.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use proto::reason::Reason;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::debug;

use crate::address::ClientAddress;
use crate::connection::room::MessageRoom;
use crate::connection::send_queue::SendQueue;
use crate::connection::{Connection, Handshaken};
use crate::http::{ERROR_CODE, echo_request_id};
use crate::limits::Place;
use crate::metrics;
use crate::packet::error::sentence;
use crate::server::ConnectionIds;
use crate::session::{Services, Session};

/// How long a client may take to send a request's headers, and how long it may leave a connection idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request's headers may take together, in bytes; the buffer for a body, too.
const HEADER_BYTES: usize = 16 * 1024;

/// What every accepted connection needs.
pub(crate) struct Front {
    pub(crate) router: Router,
    pub(crate) services: Arc<Services>,
    pub(crate) connection_ids: ConnectionIds,
    /// What large inbound messages share.
    pub(crate) message_room: Arc<MessageRoom>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) stopping: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

/// A handshake that was accepted.
struct Upgrade {
    stream: OnUpgrade,
    address: ClientAddress,
    place: Place,
}

/// Serves HTTP on a connection until it is closed or becomes a WebSocket, for which a task of its own is spawned.
/// `place` is its place among the connections of its address that are no WebSockets.
pub(crate) async fn serve(
    front: Arc<Front>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    place: Place,
) {
    let upgrade = Arc::new(Mutex::new(None));
    let service = service_fn(|request| answer(&front, peer, &upgrade, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = front.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, %peer, "http connection broke");
    }
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(upgrade) = upgrade {
        front.tracker.spawn(open_socket(Arc::clone(&front), upgrade, permit));
    }
    drop(place);
}

/// The WebSocket's task. The permit is the connection's from its accept to its end.
async fn open_socket(front: Arc<Front>, upgrade: Upgrade, permit: OwnedSemaphorePermit) {
    // Boxed: what it takes to begin should not be kept for as long as the connection lasts.
    if let Some(connection) = Box::pin(begin(front, upgrade)).await {
        connection.run().await;
    }
    drop(permit);
}

async fn begin(front: Arc<Front>, upgrade: Upgrade) -> Option<Box<Connection<TcpStream>>> {
    let Ok(stream) = upgrade.stream.await else {
        debug!("connection broke during its handshake");
        return None;
    };
    let (stream, read_ahead) = bare(stream);
    let queue = Arc::new(SendQueue::new(front.connection_ids.next()));
    debug!(connection.id = %queue.connection_id(), client.address = %upgrade.address.ip, "connection begins");
    metrics::connection_opened();
    let session = Session::new(Arc::clone(&front.services), Arc::clone(&queue), upgrade.address, upgrade.place);
    let handshaken = Handshaken { stream, read_ahead, room: Arc::clone(&front.message_room) };
    Some(Connection::new(handshaken, queue, session).await)
}

/// The TCP stream, and what was read from it beyond the handshake.
fn bare(upgraded: Upgraded) -> (TcpStream, Bytes) {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("hyper was given a TCP stream");
    // Copied: even an empty part would keep the whole of the HTTP side's buffer.
    (parts.io.into_inner(), Bytes::copy_from_slice(&parts.read_buf))
}

async fn answer(
    front: &Front,
    peer: SocketAddr,
    upgrade: &Mutex<Option<Upgrade>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let address = ClientAddress::resolve(peer.ip(), request.headers(), &front.trusted_proxies);
    if wants_websocket(&request) {
        return Ok(accept(front, address, upgrade, request));
    }
    request.extensions_mut().insert(address);
    front.router.clone().oneshot(request.map(Body::new)).await
}

fn wants_websocket(request: &Request<Incoming>) -> bool {
    request.headers().get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Accepts the handshake if it is a sound one and its address may have one more socket without a session.
fn accept(
    front: &Front,
    address: ClientAddress,
    upgrade: &Mutex<Option<Upgrade>>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let Ok(response) = create_response_with_body(&request, Body::empty) else {
        let sentence = "This is not a WebSocket handshake of version 13.";
        let mut refusal = refuse(request.headers(), Reason::MalformedPacket, sentence);
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return refusal;
    };
    let Some(place) = front.services.limits.admit_anonymous(address) else {
        return refuse(request.headers(), Reason::RateLimited, sentence(Reason::RateLimited));
    };
    let stream = hyper::upgrade::on(&mut request);
    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(Upgrade { stream, address, place });
    response
}

fn refuse(request: &HeaderMap, reason: Reason, sentence: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(sentence));
    *response.status_mut() = StatusCode::from_u16(reason.status()).expect("every reason has a status of HTTP");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(reason.code()));
    echo_request_id(request, headers);
    response
}
