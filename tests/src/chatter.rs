//! A client that chats without a pause while servers die under it, as a real one would: it reconnects, logs in again
//! and sends what was not acknowledged once more, under the same id. All it does and sees goes into a history log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::client::{Socket, open};
use crate::history::{HistoryLog, Seen, SocketNumber};
use crate::packets;
use crate::stack::StackHandle;
use crate::user::Session;
use crate::waiting::PATIENCE;

/// How many messages a chatter has on their way at once.
const WINDOW: usize = 8;

/// The body that ends a chatter: whoever gets it has got everything that was sent before.
pub(crate) const END: &str = "the end";

/// The close code with which the server warns that events may be missing.
const EVENTS_MAY_BE_MISSING: u16 = 1012;

/// How long to wait before connecting or sending again after a failure.
const PAUSE: Duration = Duration::from_millis(20);

/// A chatting client.
#[derive(Debug)]
pub struct Chatter {
    quiet: watch::Sender<bool>,
    settled: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Chatter {
    /// Starts to chat in a conversation.
    #[expect(clippy::disallowed_methods, reason = "the test waits for its end")]
    pub fn spawn(stack: StackHandle, session: Session, cid: &str, history: Arc<HistoryLog>) -> Self {
        let (quiet, be_quiet) = watch::channel(false);
        let (tell_settled, settled) = watch::channel(false);
        let talk = Talk {
            stack,
            client: format!("{} on {}", session.user.login, session.device),
            session,
            cid: cid.to_owned(),
            history,
            be_quiet,
            tell_settled,
            waiting: VecDeque::new(),
            numbers: 0..,
        };
        Self { quiet, settled, task: tokio::spawn(talk.run()) }
    }

    /// Sends nothing new any more, and waits until all that was sent is acknowledged.
    ///
    /// # Panics
    /// When that does not come about in time, or something was refused.
    pub async fn settle(&mut self) {
        self.quiet.send_replace(true);
        let settled = tokio::time::timeout(PATIENCE, self.settled.wait_for(|settled| *settled)).await;
        match settled {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => panic!("a chatter gave up before all it sent was acknowledged"),
            Err(_) => panic!("a chatter has messages that nobody acknowledges"),
        }
    }

    /// The body of the message that [`Chatter::end`] waits for; somebody else sends it, after all are settled.
    pub fn end_body() -> &'static str {
        END
    }

    /// Waits until the end has arrived.
    ///
    /// # Panics
    /// When it does not in time, or something went wrong before.
    pub async fn end(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the end does not arrive").expect("a chatter found something wrong");
    }
}

struct Talk {
    stack: StackHandle,
    client: String,
    session: Session,
    cid: String,
    history: Arc<HistoryLog>,
    be_quiet: watch::Receiver<bool>,
    tell_settled: watch::Sender<bool>,
    /// Sent and not acknowledged, oldest first.
    waiting: VecDeque<String>,
    numbers: std::ops::RangeFrom<u64>,
}

impl Talk {
    async fn run(mut self) {
        loop {
            if let Some(mut socket) = self.log_in().await {
                let number = self.history.bound(&self.client, &self.session.user.id);
                // An error is the server's death; the next round is the recovery.
                match self.talk(&mut socket, number).await {
                    Ok(Over) => return,
                    Err(Dead { code: Some(EVENTS_MAY_BE_MISSING) }) => self.history.warned(number),
                    Err(Dead { .. }) => {}
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A logged-in socket, if there is a server.
    async fn log_in(&self) -> Option<Socket> {
        let mut socket = open(self.stack.gateway_if_up()?).await.ok()?;
        let connect = json!({"token": self.session.token, "device_id": self.session.device});
        socket.send(packet(&json!({"request": {"connect": connect, "id": 1}}))).await.ok()?;
        let reply = receive(&mut socket).await.ok()?;
        assert_eq!(reply["response"]["success"], true, "a session outlives its server: {reply}");
        Some(socket)
    }

    async fn talk(&mut self, socket: &mut Socket, number: SocketNumber) -> Result<Over, Dead> {
        for body in self.waiting.clone() {
            self.send(socket, number, &body).await?;
        }
        loop {
            let quiet = *self.be_quiet.borrow();
            if quiet && self.waiting.is_empty() {
                self.tell_settled.send_replace(true);
            }
            if !quiet && self.waiting.len() < WINDOW {
                let next = self.numbers.next().expect("numbers do not end");
                let body = format!("{} {next}", self.client);
                self.waiting.push_back(body.clone());
                self.send(socket, number, &body).await?;
                continue;
            }
            tokio::select! {
                received = receive(socket) => {
                    if let Some(Over) = self.handle(socket, number, received?).await? {
                        return Ok(Over);
                    }
                }
                changed = self.be_quiet.changed(), if !quiet => {
                    changed.expect("whoever spawned this chatter holds the other end");
                }
            }
        }
    }

    async fn handle(&mut self, socket: &mut Socket, number: SocketNumber, packet: Value) -> Result<Option<Over>, Dead> {
        if let Err(wrong) = packets::check(&packet) {
            panic!("{} got {wrong}: {packet}", self.client);
        }
        if packet["ask"].is_object() {
            let body = packets::text(&packet["ask"], "mid");
            self.history.acknowledged(body, packets::text(&packet["ask"], "server_mid"));
            self.waiting.retain(|waiting| waiting != body);
            return Ok(None);
        }
        let message = &packet["message"];
        if message["error"].is_object() {
            assert_eq!(message["error"]["status"], 503, "{} was refused: {packet}", self.client);
            let body = packets::text(message, "id").to_owned();
            self.history.refused(&body);
            tokio::time::sleep(PAUSE).await;
            self.send(socket, number, &body).await?;
            return Ok(None);
        }
        assert!(message.is_object(), "{} got {packet}", self.client);
        if message["body"] == END {
            self.history.stayed(number);
            return Ok(Some(Over));
        }
        self.history.delivered(number, seen(message));
        Ok(None)
    }

    async fn send(&self, socket: &mut Socket, number: SocketNumber, body: &str) -> Result<(), Dead> {
        self.history.sent(number, body);
        let message = json!({"id": body, "cid": self.cid, "body": body});
        socket.send(packet(&json!({"message": message}))).await.map_err(|_| Dead { code: None })
    }
}

/// The end has arrived.
struct Over;

/// The socket is gone, with this close code if it had one.
struct Dead {
    code: Option<u16>,
}

/// A message as the history log wants it.
pub(crate) fn seen(message: &Value) -> Seen {
    Seen {
        body: packets::text(message, "body").to_owned(),
        from: packets::text(message, "from").to_owned(),
        id: packets::text(message, "_id").to_owned(),
    }
}

fn packet(packet: &Value) -> Frame {
    Frame::text(packet.to_string())
}

async fn receive(socket: &mut Socket) -> Result<Value, Dead> {
    loop {
        match socket.next().await {
            Some(Ok(Frame::Text(text))) => return Ok(serde_json::from_str(&text).expect("a frame is JSON")),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
            Some(Ok(Frame::Close(close))) => return Err(Dead { code: close.map(|close| close.code.into()) }),
            _ => return Err(Dead { code: None }),
        }
    }
}

impl HistoryLog {
    /// Reads the whole history of a conversation page by page, as a client scrolls up, and logs it.
    pub async fn read_all(&self, client: &mut crate::TestClient, cid: &str) {
        let mut newest_first: Vec<Value> = Vec::new();
        loop {
            let before = newest_first.last().map(|message| message["created_at"].clone());
            let page = client.list_messages(json!({"cid": cid, "limit": 100, "updated_at": {"lt": before}})).await;
            if page.is_empty() {
                break;
            }
            newest_first.extend(page);
        }
        let oldest_first = newest_first.iter().rev().filter(|message| message["body"] != END).map(seen).collect();
        self.page(&client.user().login, oldest_first);
    }
}
