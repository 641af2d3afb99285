//! What one socket received: kept in order until a test takes it out, and checked as it comes in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::client::Socket;
use crate::packets;
use crate::waiting::PATIENCE;

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

/// What came in and was not taken out yet. One task puts in, one takes out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Value>,
    closed: Option<Closed>,
    /// What was wrong with a packet, whoever waited for it.
    wrong: Option<String>,
}

/// Reads a socket into an inbox until it ends, or the handle ends it.
#[expect(clippy::disallowed_methods, reason = "ended through its handle when the client goes")]
pub(crate) fn spawn_reader(frames: SplitStream<Socket>, inbox: &Arc<Inbox>) -> AbortHandle {
    tokio::spawn(read(frames, Arc::clone(inbox))).abort_handle()
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

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
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

    /// What was wrong with a packet so far.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// Takes everything out that is there.
    pub(crate) fn drain(&self) -> Vec<Value> {
        self.lock().packets.drain(..).collect()
    }

    /// Waits for such a packet and takes it out.
    pub(crate) async fn take(&self, name: &str, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        let position = self.wait(name, what, wanted).await;
        self.lock().packets.remove(position).expect("nobody else takes packets out")
    }

    /// Waits for such a packet and takes it out with all before it, which is returned.
    pub(crate) async fn everything_until(
        &self,
        name: &str,
        what: &str,
        fence: impl FnMut(&Value) -> bool,
    ) -> Vec<Value> {
        let position = self.wait(name, what, fence).await;
        let mut packets: Vec<_> = self.lock().packets.drain(..=position).collect();
        packets.pop();
        packets
    }

    /// Waits until the socket has ended.
    pub(crate) async fn closed(&self, name: &str) -> Closed {
        let wait = async {
            loop {
                if let Some(closed) = self.lock().closed.clone() {
                    return closed;
                }
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("the socket of {name} is still open; {}", shown(&self.lock())))
    }

    /// Waits until such a packet is there, and says where.
    async fn wait(&self, name: &str, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> usize {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut looked_at = 0;
        loop {
            {
                let state = self.lock();
                if let Some(wrong) = &state.wrong {
                    panic!("{name} got {wrong}");
                }
                if let Some(found) = state.packets.iter().skip(looked_at).position(&mut wanted) {
                    return looked_at + found;
                }
                looked_at = state.packets.len();
                if let Some(closed) = &state.closed {
                    panic!("{name} waits for {what}, but the socket is closed: {closed:?}; {}", shown(&state));
                }
            }
            if tokio::time::timeout_at(deadline, self.changed.notified()).await.is_err() {
                panic!("{name} waited in vain for {what}; {}", shown(&self.lock()));
            }
        }
    }
}

/// What is there, short enough to read.
fn shown(state: &State) -> String {
    let packets = state.packets.iter().map(|packet| {
        let mut text = packet.to_string();
        text.truncate(text.floor_char_boundary(400));
        text
    });
    format!("the inbox holds {:#?}", packets.collect::<Vec<_>>())
}
