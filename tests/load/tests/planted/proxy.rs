//! Stands between clients and a server, and breaks promises on the way to the client: at sockets and moments that are
//! chosen beforehand. It writes down what it did.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use load::ledger::MessageName;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Frame;

/// At which of the frames in question a fault strikes.
pub(crate) const TIMES: [usize; 3] = [3, 10, 17];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A message never comes.
    Drop,
    /// A message comes twice.
    Double,
    /// A message comes after the next one.
    Swap,
    /// An acknowledgement comes twice.
    DoubleAcknowledgement,
    /// An acknowledgement never comes; only once, for its sender may wait for it for ever.
    DropAcknowledgement,
    /// The socket breaks.
    Cut,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Planted {
    Dropped { socket: usize, message: MessageName },
    Doubled { socket: usize, message: MessageName },
    Swapped { socket: usize, first: MessageName, second: MessageName },
    DoubledAcknowledgement { message: MessageName },
}

/// What goes wrong at which of the generator's sockets.
#[derive(Clone, Default)]
pub(crate) struct Faults(HashMap<usize, Fault>);

impl Faults {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn at(sockets: &[(usize, Fault)]) -> Self {
        Self(sockets.iter().copied().collect())
    }
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    planted: Arc<Mutex<Vec<Planted>>>,
}

impl Proxy {
    /// Starts one on the current runtime.
    pub(crate) async fn start(server: SocketAddr, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it listens");
        let planted = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&planted);
        tokio::runtime::Handle::current().spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("clients can be accepted");
                clients.spawn(relay(stream, server, faults.clone(), Arc::clone(&log)));
            }
        });
        Self { address, planted }
    }

    pub(crate) fn planted(&self) -> Vec<Planted> {
        self.planted.lock().expect("nobody panicked").clone()
    }
}

async fn relay(client: TcpStream, server: SocketAddr, faults: Faults, log: Arc<Mutex<Vec<Planted>>>) -> Option<()> {
    let (mut to_client, mut from_client) = tokio_tungstenite::accept_async(client).await.ok()?.split();
    let server = TcpStream::connect(server).await.ok()?;
    let (server, _) = tokio_tungstenite::client_async("ws://server/", server).await.ok()?;
    let (mut to_server, mut from_server) = server.split();
    let mut saboteur = Saboteur { faults, socket: None, seen: 0, held: None, log };
    loop {
        tokio::select! {
            frame = from_client.next() => {
                let frame = frame?.ok()?;
                saboteur.learn(&frame);
                to_server.send(frame).await.ok()?;
            }
            frame = from_server.next() => {
                for frame in saboteur.sabotage(frame?.ok()?)? {
                    to_client.send(frame).await.ok()?;
                }
            }
        }
    }
}

/// What is done to one socket's frames.
struct Saboteur {
    faults: Faults,
    /// The generator's number of the socket, once it has sent a message.
    socket: Option<usize>,
    /// The frames in question so far.
    seen: usize,
    held: Option<(Frame, MessageName)>,
    log: Arc<Mutex<Vec<Planted>>>,
}

impl Saboteur {
    fn learn(&mut self, frame: &Frame) {
        if let Some(message) = packet(frame).and_then(|packet| name(&packet["message"]["id"])) {
            self.socket = Some(message.from);
        }
    }

    /// What the client gets instead of a frame; nothing at all when the socket is to break.
    fn sabotage(&mut self, frame: Frame) -> Option<Vec<Frame>> {
        let fault = self.socket.and_then(|socket| Some((socket, *self.faults.0.get(&socket)?)));
        let (Some((socket, fault)), Some(packet)) = (fault, packet(&frame)) else { return Some(vec![frame]) };
        let message = match fault {
            Fault::DoubleAcknowledgement | Fault::DropAcknowledgement => name(&packet["ask"]["mid"]),
            Fault::Drop | Fault::Double | Fault::Swap | Fault::Cut => name(&packet["message"]["body"]),
        };
        let Some(message) = message else { return Some(vec![frame]) };
        if let Some((held, first)) = self.held.take() {
            self.plant(Planted::Swapped { socket, first, second: message });
            return Some(vec![frame, held]);
        }
        self.seen += 1;
        if !TIMES.contains(&self.seen) {
            return Some(vec![frame]);
        }
        match fault {
            Fault::Drop => {
                self.plant(Planted::Dropped { socket, message });
                Some(vec![])
            }
            Fault::Double => {
                self.plant(Planted::Doubled { socket, message });
                Some(vec![frame.clone(), frame])
            }
            Fault::Swap => {
                self.held = Some((frame, message));
                Some(vec![])
            }
            Fault::DoubleAcknowledgement => {
                self.plant(Planted::DoubledAcknowledgement { message });
                Some(vec![frame.clone(), frame])
            }
            Fault::DropAcknowledgement => Some(vec![]),
            Fault::Cut => None,
        }
    }

    fn plant(&self, planted: Planted) {
        self.log.lock().expect("nobody panicked").push(planted);
    }
}

fn packet(frame: &Frame) -> Option<Value> {
    serde_json::from_str(frame.to_text().ok()?).ok()
}

/// A message's ids and texts begin with the run, the socket and the number.
fn name(text: &Value) -> Option<MessageName> {
    let mut words = text.as_str()?.split(' ').skip(1);
    Some(MessageName { from: words.next()?.parse().ok()?, number: words.next()?.parse().ok()? })
}
