//! A bare WebSocket server on the server's own library and buffers, for the same clients.
//!
//! It knows no users and stores nothing. Requests are answered with what makes a load generator content; a message is
//! passed on, in as many bytes as the real event has, to all other sockets, and acknowledged to its sender.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use tokio_util::task::TaskTracker;

/// As the server has them: a small read buffer, since the library fills it anew at every read, and room to write many
/// frames at once.
const READ_BUFFER_BYTES: usize = 1024;
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// Frames that wait for one socket; the generator never lets so many be under way.
const INBOX: usize = 4_096;
/// About what the server's acknowledgement has.
const ACKNOWLEDGEMENT_BYTES: usize = 250;

/// How it behaves.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The length of a message's event; without it messages are not passed on at all
    #[arg(long, value_name = "BYTES")]
    event_bytes: Option<usize>,
}

/// Serves until it is killed. Says where on standard output.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
        let tasks = TaskTracker::new();
        let room = options.event_bytes.map(|event_bytes| Arc::new(Room { event_bytes, inboxes: Mutex::default() }));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match &room {
                Some(room) => tasks.spawn(broadcast(stream, Arc::clone(room))),
                None => tasks.spawn(echo(stream)),
            };
        }
    })
}

async fn upgrade(stream: TcpStream) -> Option<WebSocketStream<TcpStream>> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(WRITE_BUFFER_BYTES);
    tokio_tungstenite::accept_async_with_config(stream, Some(config)).await.ok()
}

/// Ends when the client is gone.
async fn echo(stream: TcpStream) -> Option<()> {
    let mut socket = upgrade(stream).await?;
    loop {
        if let Frame::Text(text) = socket.next().await?.ok()? {
            socket.send(Frame::Text(answer(&text)?)).await.ok()?;
        }
    }
}

/// Everybody.
struct Room {
    event_bytes: usize,
    inboxes: Mutex<Vec<mpsc::Sender<Utf8Bytes>>>,
}

/// Ends when the client is gone.
async fn broadcast(stream: TcpStream, room: Arc<Room>) -> Option<()> {
    let mut socket = upgrade(stream).await?;
    let (inbox, mut incoming) = mpsc::channel(INBOX);
    room.lock().push(inbox.clone());
    loop {
        tokio::select! {
            frame = socket.next() => {
                let Frame::Text(text) = frame?.ok()? else { continue };
                if text.starts_with(r#"{"message""#) {
                    socket.feed(Frame::Text(acknowledgement(&text)?)).await.ok()?;
                    room.pass_on(&text, &inbox)?;
                } else {
                    socket.feed(Frame::Text(answer(&text)?)).await.ok()?;
                }
            }
            first = incoming.recv() => socket.feed(Frame::Text(first?)).await.ok()?,
        }
        while let Ok(next) = incoming.try_recv() {
            socket.feed(Frame::Text(next)).await.ok()?;
        }
        socket.flush().await.ok()?;
    }
}

impl Room {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Utf8Bytes>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, message: &str, from: &mpsc::Sender<Utf8Bytes>) -> Option<()> {
        let open = message.strip_suffix("}}")?;
        let padding = self.event_bytes.saturating_sub(open.len() + r#","_":""}}"#.len());
        let event = Utf8Bytes::from(format!(r#"{open},"_":"{:.<padding$}"}}}}"#, ""));
        self.lock().retain(|inbox| {
            // A full inbox loses the message, and the generator tells.
            inbox.same_channel(from)
                || !matches!(inbox.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
        Some(())
    }
}

/// The generator's messages begin with their id.
fn acknowledgement(message: &str) -> Option<Utf8Bytes> {
    let (id, _) = message.strip_prefix(r#"{"message":{"id":""#)?.split_once('"')?;
    let padding = ACKNOWLEDGEMENT_BYTES.saturating_sub(id.len() + r#"{"ask":{"mid":"","_":""}}"#.len());
    Some(format!(r#"{{"ask":{{"mid":"{id}","_":"{:.<padding$}"}}}}"#, "").into())
}

/// Content for any request.
fn answer(request: &str) -> Option<Utf8Bytes> {
    let request: Value = serde_json::from_str(request).ok()?;
    let id = &request["request"]["id"];
    Some(json!({"response": {"id": id, "success": true, "conversation": {"_id": "everybody"}}}).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_acknowledgements_have_the_bytes_asked_for() {
        let message = r#"{"message":{"id":"1 2 3","cid":"c","body":"text"}}"#;
        let room = Room { event_bytes: 500, inboxes: Mutex::default() };
        let ((other, mut others), (own, mut owns)) = (mpsc::channel(1), mpsc::channel(1));
        room.lock().extend([own.clone(), other]);
        room.pass_on(message, &own).unwrap();
        let event = others.try_recv().unwrap();
        assert_eq!(event.len(), 500);
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["message"]["body"], "text");
        assert!(owns.try_recv().is_err(), "not to the sender");

        let acknowledgement = acknowledgement(message).unwrap();
        assert_eq!(acknowledgement.len(), ACKNOWLEDGEMENT_BYTES);
        let acknowledgement: Value = serde_json::from_str(&acknowledgement).unwrap();
        assert_eq!(acknowledgement["ask"]["mid"], "1 2 3");
    }
}
