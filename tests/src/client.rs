//! A client on one socket. It knows the public protocol and nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::packets::{self, assert_error, is_created, text};
use crate::stack::StackHandle;
use crate::user::{Ack, Device, Session, TestUser};
use crate::waiting::PATIENCE;

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

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// With a close frame of this code.
    Code(u16),
    /// With a close frame without a code.
    NoCode,
    /// Without a close frame.
    Lost,
}

/// What came in and was not taken out yet.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct InboxState {
    packets: VecDeque<Value>,
    closed: Option<Closed>,
    /// What was wrong with a packet, whoever waited for it.
    wrong: Option<String>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, how: Closed) {
        self.lock().closed.get_or_insert(how);
        self.changed.notify_one();
    }

    fn receive(&self, frame: &str) {
        let mut state = self.lock();
        match serde_json::from_str::<Value>(frame) {
            Ok(packet) => {
                if let Err(wrong) = packets::check(&packet) {
                    state.wrong.get_or_insert(format!("{wrong}: {packet}"));
                }
                state.packets.push_back(packet);
            }
            Err(error) => {
                state.wrong.get_or_insert(format!("a frame that is no JSON: {error}"));
            }
        }
        drop(state);
        self.changed.notify_one();
    }
}

async fn read(mut frames: SplitStream<Socket>, inbox: Arc<Inbox>) {
    while let Some(Ok(frame)) = frames.next().await {
        match frame {
            Frame::Text(text) => inbox.receive(&text),
            Frame::Binary(_) => {
                inbox.lock().wrong.get_or_insert("a binary frame".to_owned());
            }
            Frame::Close(close) => {
                inbox.close(close.map_or(Closed::NoCode, |close| Closed::Code(close.code.into())));
            }
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
        }
    }
    inbox.close(Closed::Lost);
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
        let reader = tokio::spawn(read(frames, Arc::clone(&inbox))).abort_handle();
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

    /// A page of messages, as it is in the response.
    pub async fn list_messages(&mut self, payload: Value) -> Vec<Value> {
        let mut response = self.succeed("message_list", payload).await;
        match response["messages"].take() {
            Value::Array(messages) => messages,
            other => panic!("messages are an array, not {other}"),
        }
    }

    /// The client's conversations, as they are in the response.
    pub async fn list_conversations(&mut self, payload: Value) -> Vec<Value> {
        let mut response = self.succeed("conversation_list", payload).await;
        match response["conversations"].take() {
            Value::Array(conversations) => conversations,
            other => panic!("conversations are an array, not {other}"),
        }
    }

    /// One conversation as it stands in the client's list.
    pub async fn listed_conversation(&mut self, cid: &str) -> Value {
        let listed = self.list_conversations(json!({"ids": [cid]})).await;
        let [conversation] = <[Value; 1]>::try_from(listed).expect("the conversation is listed");
        conversation
    }

    /// Makes a group and waits until everybody else knows of it. Returns its id.
    pub async fn create_group(&mut self, others: &mut [&mut Self]) -> String {
        let ids: Vec<_> = others.iter().map(|other| other.id().to_owned()).collect();
        self.create_conversation(json!({"type": "g", "name": "Team", "participants": ids}), others).await
    }

    /// Makes a private conversation and waits until the other one knows of it. Returns its id.
    pub async fn create_private(&mut self, other: &mut Self) -> String {
        let participants = [other.id().to_owned()];
        self.create_conversation(json!({"type": "u", "participants": participants}), &mut [other]).await
    }

    /// Makes a channel and waits until everybody else knows of it. Returns its id.
    pub async fn create_channel(&mut self, others: &mut [&mut Self]) -> String {
        let ids: Vec<_> = others.iter().map(|other| other.id().to_owned()).collect();
        self.create_conversation(json!({"type": "c", "name": "News", "participants": ids}), others).await
    }

    async fn create_conversation(&mut self, payload: Value, others: &mut [&mut Self]) -> String {
        let response = self.succeed("conversation_create", payload).await;
        let cid = text(&response["conversation"], "_id").to_owned();
        for other in others {
            other
                .expect("the created packet", |packet| is_created(packet) && packet["system_message"]["cid"] == cid)
                .await;
        }
        cid
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
        let position = self.wait(what, fence).await;
        let mut packets: Vec<_> = self.inbox.lock().packets.drain(..=position).collect();
        packets.pop();
        packets
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
        self.inbox.lock().packets.drain(..).collect()
    }

    /// Waits until the server has closed the socket.
    pub async fn closed(&mut self) -> Closed {
        let inbox = Arc::clone(&self.inbox);
        let wait = async {
            loop {
                if let Some(closed) = inbox.lock().closed.clone() {
                    return closed;
                }
                inbox.changed.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("the socket of {} is still open", self.name))
    }

    /// Closes the socket and waits for the server's close.
    pub async fn close(mut self) {
        // It may be closed already.
        let _ = self.outgoing.send(Frame::Close(None)).await;
        self.closed().await;
    }

    /// Asserts that this socket is alive and nobody is logged in on it.
    pub async fn assert_anonymous(&mut self) {
        self.refused("conversation_list", json!({}), 401, "not_authenticated").await;
    }

    async fn take(&mut self, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        let position = self.wait(what, wanted).await;
        self.inbox.lock().packets.remove(position).expect("only this client takes packets out")
    }

    /// Waits until such a packet is in the inbox, and says where.
    async fn wait(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> usize {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut looked_at = 0;
        loop {
            {
                let state = self.inbox.lock();
                if let Some(wrong) = &state.wrong {
                    panic!("{} got {wrong}", self.name);
                }
                if let Some(found) = state.packets.iter().skip(looked_at).position(&mut wanted) {
                    return looked_at + found;
                }
                looked_at = state.packets.len();
                if let Some(closed) = &state.closed {
                    panic!("{} waits for {what}, but the socket is closed: {closed:?}; {}", self.name, shown(&state));
                }
            }
            if tokio::time::timeout_at(deadline, self.inbox.changed.notified()).await.is_err() {
                panic!("{} waited in vain for {what}; {}", self.name, shown(&self.inbox.lock()));
            }
        }
    }
}

/// What is in the inbox, short enough to read.
fn shown(state: &InboxState) -> String {
    let packets = state.packets.iter().map(|packet| {
        let mut text = packet.to_string();
        text.truncate(text.floor_char_boundary(400));
        text
    });
    format!("the inbox holds {:#?}", packets.collect::<Vec<_>>())
}

impl Drop for TestClient {
    fn drop(&mut self) {
        self.reader.abort();
        let wrong = self.inbox.lock().wrong.take();
        if let Some(wrong) = wrong
            && !std::thread::panicking()
        {
            panic!("{} got {wrong}", self.name);
        }
    }
}
