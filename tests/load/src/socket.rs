//! A client's socket: opened, logged in, asked. What flows on it later is [`crate::wire`]'s.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

use crate::people::Session;

/// A WebSocket over plain TCP.
pub type Stream = WebSocketStream<TcpStream>;

/// Where a server's clients connect.
#[derive(Clone, Debug)]
pub struct Server {
    url: String,
    host: String,
    port: u16,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        if uri.scheme_str() != Some("ws") {
            return Err("must begin with ws:// (for TLS, put a proxy in between)".to_owned());
        }
        let host = uri.host().ok_or("has no host")?.trim_matches(['[', ']']).to_owned();
        Ok(Self { url: url.to_owned(), host, port: uri.port_u16().unwrap_or(80) })
    }
}

/// What a socket keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// For a socket that talks.
    Talking,
    /// For one of many that hardly do.
    Idle,
    /// For one that will stop reading: the kernel soon takes no more for it either.
    Stalling,
}

impl Buffers {
    /// The codec fills its read buffer anew at every read, so a large one costs time as well as room.
    fn read_bytes(self) -> usize {
        match self {
            Self::Talking => 8 * 1024,
            Self::Idle | Self::Stalling => 1024,
        }
    }

    fn kernel_bytes(self) -> Option<u32> {
        match self {
            Self::Talking | Self::Idle => None,
            Self::Stalling => Some(16 * 1024),
        }
    }
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// With a close frame of this code.
    Code(u16),
    /// With a close frame without a code.
    NoCode,
    /// Without a close frame.
    Lost,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::NoCode => f.write_str("closed without a code"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

/// Why a request got no answer that one can use.
#[derive(Debug)]
pub enum RequestError {
    /// The server said no.
    Refused(Refusal),
    /// The socket ended first.
    Ended(Ending),
}

/// The protocol's error object.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Refusal {
    /// The numeric status.
    pub status: u16,
    /// The machine code, where the server has one.
    #[serde(default)]
    pub code: String,
    /// The sentence for people.
    #[serde(default)]
    pub message: String,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Refusal { status, code, message }) => write!(f, "refused with {status} {code}: {message}"),
            Self::Ended(ending) => write!(f, "the socket ended ({ending})"),
        }
    }
}

impl std::error::Error for RequestError {}

/// A socket that is asked one thing at a time.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    requests: u64,
}

impl Socket {
    /// Opens one that is not logged in.
    ///
    /// # Errors
    /// When nobody listens there, or no upgrade comes about.
    pub async fn open(server: &Server, buffers: Buffers) -> anyhow::Result<Self> {
        let attempted = || format!("cannot connect to {}", server.url);
        let stream = connect(server, buffers).await.with_context(attempted)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(buffers.read_bytes())
            .max_frame_size(None)
            .max_message_size(None);
        let opened = tokio_tungstenite::client_async_with_config(&server.url, stream, Some(config)).await;
        let (stream, _) = opened.with_context(attempted)?;
        Ok(Self { stream, requests: 0 })
    }

    /// Opens one and logs it in with `connect`.
    ///
    /// # Errors
    /// As [`Socket::open`], and when the server refuses.
    pub async fn bound(server: &Server, buffers: Buffers, session: &Session) -> anyhow::Result<Self> {
        let mut socket = Self::open(server, buffers).await?;
        let payload = json!({"token": session.token, "device_id": session.device});
        socket.request("connect", payload).await.with_context(|| format!("{} cannot log in", session.login))?;
        Ok(socket)
    }

    /// Sends a wrapped request and waits for its `response`; other packets are skipped.
    ///
    /// # Errors
    /// [`RequestError`] when the server refuses or the socket ends.
    pub async fn request(&mut self, name: &str, payload: Value) -> Result<Value, RequestError> {
        self.requests += 1;
        let id = self.requests;
        let frame = Frame::text(json!({"request": {name: payload, "id": id}}).to_string());
        self.stream.send(frame).await.map_err(|_| RequestError::Ended(Ending::Lost))?;
        loop {
            let text = next_text(&mut self.stream).await.map_err(RequestError::Ended)?;
            let Ok(mut packet) = serde_json::from_str::<Value>(&text) else { continue };
            let Some(response) = packet.get_mut("response").filter(|response| response["id"] == id) else { continue };
            if let Some(error) = response.get_mut("error") {
                let refusal = serde_json::from_value(error.take()).unwrap_or_else(|_| Refusal {
                    status: 0,
                    code: String::new(),
                    message: "an error that is no error object".to_owned(),
                });
                return Err(RequestError::Refused(refusal));
            }
            return Ok(response.take());
        }
    }

    /// The stream below, for packets that are no requests.
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}

/// The next text frame, or how the stream ended.
///
/// # Errors
/// The [`Ending`].
pub(crate) async fn next_text<S>(frames: &mut S) -> Result<tokio_tungstenite::tungstenite::Utf8Bytes, Ending>
where
    S: futures_util::Stream<Item = Result<Frame, Error>> + Unpin,
{
    loop {
        match frames.next().await {
            Some(Ok(Frame::Text(text))) => return Ok(text),
            Some(Ok(Frame::Close(Some(close)))) => return Err(Ending::Code(close.code.into())),
            Some(Ok(Frame::Close(None))) => return Err(Ending::NoCode),
            Some(Ok(Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
            Some(Err(_)) | None => return Err(Ending::Lost),
        }
    }
}

async fn connect(server: &Server, buffers: Buffers) -> anyhow::Result<TcpStream> {
    let mut addresses = lookup_host((server.host.as_str(), server.port)).await?;
    let address = addresses.next().context("the name has no address")?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = buffers.kernel_bytes() {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_ws_url() {
        let server: Server = "ws://127.0.0.1:9001/".parse().unwrap();
        assert_eq!((server.host.as_str(), server.port), ("127.0.0.1", 9001));
        let server: Server = "ws://[::1]:9001".parse().unwrap();
        assert_eq!(server.host, "::1");
        assert!("http://127.0.0.1:9001".parse::<Server>().is_err());
        assert!("127.0.0.1:9001".parse::<Server>().is_err());
    }
}
