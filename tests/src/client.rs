//! A client on one socket. It knows the public protocol and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::inbox::{Closed, Inbox, spawn_reader};
use crate::packets::{self, assert_error};
use crate::stack::StackHandle;
use crate::user::{Ack, Device, Session, TestUser};

/// A WebSocket over plain TCP.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens a WebSocket that takes frames of any size.
///
/// # Errors
/// When nobody listens there, or no upgrade comes about.
pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let unlimited = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(format!("ws://{address}/"), stream, Some(unlimited)).await?;
    Ok(socket)
}

/// A client on one socket, logged in or not. What it receives waits in its inbox until a test takes it.
#[derive(Debug)]
pub struct TestClient {
    name: String,
    /// The server lives at least as long as its clients.
    stack: StackHandle,
    outgoing: SplitSink<Socket, Frame>,
    inbox: Arc<Inbox>,
    reader: AbortHandle,
    requests: u64,
    session: Option<Session>,
}

impl TestClient {
    /// A socket that is not logged in.
    ///
    /// # Panics
    /// When the server is down.
    pub async fn open(stack: &StackHandle) -> Self {
        let socket = open(stack.gateway()).await.unwrap_or_else(|error| panic!("cannot connect: {error:#}"));
        let (outgoing, frames) = socket.split();
        let inbox = Arc::new(Inbox::default());
        let reader = spawn_reader(frames, &inbox);
        Self { name: "somebody".to_owned(), stack: stack.clone(), outgoing, inbox, reader, requests: 0, session: None }
    }

    /// Logs this socket in by `connect`.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn bind(&mut self, session: &Session) {
        self.succeed("connect", json!({"token": session.token, "device_id": session.device})).await;
        self.name = session.user.login.clone();
        self.session = Some(session.clone());
    }

    /// The server it is connected to.
    pub fn stack(&self) -> &StackHandle {
        &self.stack
    }

    /// The session it is logged in with.
    ///
    /// # Panics
    /// When it is not logged in.
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("this client is logged in")
    }

    /// The user it is logged in as.
    pub fn user(&self) -> &TestUser {
        &self.session().user
    }

    /// The id of the user it is logged in as.
    pub fn id(&self) -> &str {
        &self.user().id
    }

    /// One more socket of the same user.
    pub async fn another_socket(&self, device: Device) -> Self {
        let session = match device {
            Device::Same => self.session().clone(),
            Device::Other => self.user().log_in(&self.stack, "another device").await,
        };
        session.connect(&self.stack).await
    }

    /// Sends text that may be anything.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send_frame(Frame::text(text.into())).await;
    }

    /// Sends a packet.
    pub async fn send(&mut self, packet: Value) {
        self.send_text(packet.to_string()).await;
    }

    /// Sends any frame.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn send_frame(&mut self, frame: Frame) {
        let sent = self.outgoing.send(frame).await;
        sent.unwrap_or_else(|error| panic!("{} cannot send: {error}", self.name));
    }

    /// Sends any frame, to a server that may have closed the socket.
    pub async fn try_send_frame(&mut self, frame: Frame) -> bool {
        self.outgoing.send(frame).await.is_ok()
    }

    /// Sends a wrapped request and returns what is in its `response`, be it an error.
    pub async fn request(&mut self, name: &str, payload: Value) -> Value {
        self.requests += 1;
        let id = format!("request {}", self.requests);
        let packet = json!({"request": {name: payload, "id": id}});
        self.send(packet).await;
        let mut packet = self.take(&format!("the response to {name}"), |packet| packet["response"]["id"] == id).await;
        packet["response"].take()
    }

    /// A request that must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn succeed(&mut self, name: &str, payload: Value) -> Value {
        let response = self.request(name, payload).await;
        assert!(response.get("error").is_none(), "{name} of {} failed: {response}", self.name);
        response
    }

    /// A request that must fail with this status and code. Returns the error.
    ///
    /// # Panics
    /// When it does not.
    pub async fn refused(&mut self, name: &str, payload: Value, status: u16, code: &str) -> Value {
        let mut response = self.request(name, payload).await;
        assert_error(&response, status, code);
        response["error"].take()
    }

    /// Sends this top-level `message` and returns its acknowledgement.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn send_message_with(&mut self, message: Value) -> Ack {
        let mid = message["id"].clone();
        self.send(json!({"message": message})).await;
        let packet = self
            .take("an acknowledgement", |packet| {
                let acknowledged = packet["ask"].is_object() && (mid.is_null() || packet["ask"]["mid"] == mid);
                acknowledged || packet["message"]["error"].is_object()
            })
            .await;
        Ack::read(&packet)
    }

    /// Sends a message of this body under an id of its own.
    pub async fn send_message(&mut self, cid: &str, body: &str) -> Ack {
        self.requests += 1;
        let id = format!("{} {}", self.session().device, self.requests);
        self.send_message_with(json!({"id": id, "cid": cid, "body": body})).await
    }

    /// Sends messages one behind the other without waiting, and returns their acknowledgements in that order.
    pub async fn send_messages(&mut self, cid: &str, bodies: impl IntoIterator<Item = String>) -> Vec<Ack> {
        let mut ids = Vec::new();
        for body in bodies {
            self.requests += 1;
            let id = format!("{} {}", self.session().device, self.requests);
            self.send(json!({"message": {"id": id, "cid": cid, "body": body}})).await;
            ids.push(id);
        }
        let mut acks = Vec::new();
        for id in ids {
            let mine = |packet: &Value| packet["ask"]["mid"] == id || packet["message"]["error"].is_object();
            acks.push(Ack::read(&self.take("an acknowledgement", mine).await));
        }
        acks
    }

    /// Sends this top-level `message`, which must be refused. Returns what is under `message`.
    pub async fn message_refused(&mut self, message: Value, status: u16, code: &str) -> Value {
        self.send(json!({"message": message})).await;
        let mut packet =
            self.take("a refusal", |packet| packet["message"]["error"].is_object() || packet["ask"].is_object()).await;
        assert_error(&packet["message"], status, code);
        packet["message"].take()
    }

    /// Waits for a packet and takes it; others stay in the inbox. `what` names it for the failure.
    pub async fn expect(&mut self, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.take(what, wanted).await
    }

    /// Waits for the live message of this body.
    pub async fn expect_message(&mut self, body: &str) -> Value {
        let mut packet = self.take(&format!("the message {body:?}"), |packet| packets::is_message(packet, body)).await;
        packet["message"].take()
    }

    /// Waits for a packet and takes it with all that came before it: this is how absence is shown.
    pub async fn everything_until(&mut self, what: &str, fence: impl FnMut(&Value) -> bool) -> Vec<Value> {
        self.inbox.everything_until(&self.name, what, fence).await
    }

    /// Everything that came before the live message of this body, which is taken too.
    pub async fn everything_until_message(&mut self, body: &str) -> Vec<Value> {
        self.everything_until(&format!("the message {body:?}"), |packet| packets::is_message(packet, body)).await
    }

    /// Asserts that nothing came in before the live message of this body.
    ///
    /// # Panics
    /// When something did.
    pub async fn expect_nothing_until_message(&mut self, body: &str) {
        let before = self.everything_until_message(body).await;
        assert!(before.is_empty(), "{} got {before:?}", self.name);
    }

    /// The next packet, whatever it is.
    pub async fn next(&mut self) -> Value {
        self.take("any packet", |_| true).await
    }

    /// Takes everything that is in the inbox right now.
    pub fn drain(&mut self) -> Vec<Value> {
        self.inbox.drain()
    }

    /// Waits until the server has closed the socket.
    pub async fn closed(&mut self) -> Closed {
        self.inbox.closed(&self.name).await
    }

    /// Closes the socket and waits for the server's close.
    pub async fn close(mut self) {
        // It may be closed already.
        let _ = self.outgoing.send(Frame::Close(None)).await;
        self.closed().await;
    }

    async fn take(&mut self, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.inbox.take(&self.name, what, wanted).await
    }
}

impl Drop for TestClient {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(wrong) = self.inbox.wrong()
            && !std::thread::panicking()
        {
            panic!("{} got {wrong}", self.name);
        }
    }
}
