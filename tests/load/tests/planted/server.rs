//! A server for a handful of clients: accounts, groups, messages; everything in memory, every promise kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Frame;

/// What is known of everybody. One lock over it all makes one order.
#[derive(Default)]
struct World {
    /// The live sockets of each user, by the socket's number.
    sockets: HashMap<String, HashMap<usize, mpsc::UnboundedSender<String>>>,
    /// The members of each conversation.
    conversations: Vec<Vec<String>>,
    messages: u64,
    accepted: usize,
}

/// Starts one on the current runtime and returns where it listens.
pub(crate) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::runtime::Handle::current().spawn(async move {
        let world = Arc::new(Mutex::new(World::default()));
        let mut clients = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("clients can be accepted");
            clients.spawn(serve(stream, Arc::clone(&world)));
        }
    });
    address
}

/// A client that goes away ends this with nothing left behind that matters.
async fn serve(stream: TcpStream, world: Arc<Mutex<World>>) -> Option<()> {
    let (mut sink, mut frames) = tokio_tungstenite::accept_async(stream).await.ok()?.split();
    let (outbox, mut outgoing) = mpsc::unbounded_channel::<String>();
    let number = {
        let mut world = world.lock().expect("nobody panicked");
        world.accepted += 1;
        world.accepted
    };
    let mut client = Client { number, user: None, outbox, world };
    loop {
        tokio::select! {
            frame = frames.next() => match frame?.ok()? {
                Frame::Text(text) => client.handle(&serde_json::from_str(&text).expect("clients send JSON")),
                _ => continue,
            },
            packet = outgoing.recv() => sink.send(Frame::text(packet?)).await.ok()?,
        }
    }
}

struct Client {
    number: usize,
    /// Logins serve as user ids and tokens.
    user: Option<String>,
    outbox: mpsc::UnboundedSender<String>,
    world: Arc<Mutex<World>>,
}

impl Client {
    fn handle(&mut self, packet: &Value) {
        if packet["message"].is_object() {
            return self.take_message(&packet["message"]);
        }
        let request = &packet["request"];
        let mut response = if let login @ Value::String(_) = &request["user_create"]["login"] {
            json!({"user": {"_id": login}})
        } else if let login @ Value::String(_) = &request["user_login"]["login"] {
            json!({"user": {"_id": login}, "token": login})
        } else if let Value::String(token) = &request["connect"]["token"] {
            self.bind(token);
            json!({"success": true})
        } else {
            self.create_conversation(&request["conversation_create"]["participants"])
        };
        response["id"] = request["id"].clone();
        self.reply(&json!({"response": response}));
    }

    fn bind(&mut self, user: &str) {
        self.user = Some(user.to_owned());
        let mut world = self.world.lock().expect("nobody panicked");
        world.sockets.entry(user.to_owned()).or_default().insert(self.number, self.outbox.clone());
    }

    fn create_conversation(&self, participants: &Value) -> Value {
        let mut members: Vec<String> = serde_json::from_value(participants.clone()).expect("ids");
        members.push(self.user.clone().expect("it is logged in"));
        let mut world = self.world.lock().expect("nobody panicked");
        world.conversations.push(members);
        json!({"conversation": {"_id": (world.conversations.len() - 1).to_string()}})
    }

    fn take_message(&self, message: &Value) {
        let mut world = self.world.lock().expect("nobody panicked");
        world.messages += 1;
        let id = world.messages.to_string();
        let ask = json!({"mid": message["id"], "server_mid": id, "t": 1});
        self.reply(&json!({"ask": ask, "ack": ask}));
        let event = json!({"_id": id, "cid": message["cid"], "from": self.user, "body": message["body"]});
        let event = json!({"message": event}).to_string();
        let conversation: usize = message["cid"].as_str().and_then(|id| id.parse().ok()).expect("an id from here");
        for member in &world.conversations[conversation] {
            for (&socket, outbox) in &world.sockets[member] {
                if socket != self.number {
                    // Fails when it has gone away.
                    let _ = outbox.send(event.clone());
                }
            }
        }
    }

    fn reply(&self, packet: &Value) {
        let _ = self.outbox.send(packet.to_string());
    }
}
