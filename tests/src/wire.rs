//! A socket whose bytes a test writes itself: frames that no library would make, and a reader that may stand still.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::inbox::Closed;
use crate::user::Session;
use crate::waiting::PATIENCE;

/// Opcodes of frames.
pub mod opcode {
    /// A further part of a message.
    pub const CONTINUATION: u8 = 0x0;
    /// A text message, or its first part.
    pub const TEXT: u8 = 0x1;
    /// A binary message, or its first part.
    pub const BINARY: u8 = 0x2;
    /// The end.
    pub const CLOSE: u8 = 0x8;
    /// Are you there?
    pub const PING: u8 = 0x9;
}

/// The bytes of one frame, as a client sends it. Its fields may be set to what is forbidden.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// What kind of frame: four bits.
    pub opcode: u8,
    /// Whether no further part follows.
    pub is_final: bool,
    /// The three reserved bits, which mean nothing here.
    pub reserved: u8,
    /// Whether it is masked, as a client's must be.
    pub is_masked: bool,
    /// The length it claims, in bytes; that of its payload when absent.
    pub claimed_bytes: Option<u64>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// A proper frame.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self { opcode, is_final: true, reserved: 0, is_masked: true, claimed_bytes: None, payload }
    }

    /// The same, with further parts to follow.
    #[must_use]
    pub fn unfinished(self) -> Self {
        Self { is_final: false, ..self }
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mask_bit = u8::from(self.is_masked) << 7;
        let bytes = self.claimed_bytes.unwrap_or(self.payload.len() as u64);
        let mut frame = vec![u8::from(self.is_final) << 7 | (self.reserved & 7) << 4 | self.opcode & 15];
        match bytes {
            0..=125 => frame.push(mask_bit | bytes.to_be_bytes()[7]),
            126..=0xffff => {
                frame.push(mask_bit | 126);
                frame.extend(&bytes.to_be_bytes()[6..]);
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend(bytes.to_be_bytes());
            }
        }
        if self.is_masked {
            frame.extend(MASK);
            frame.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            frame.extend(&self.payload);
        }
        frame
    }
}

/// A WebSocket that is read only when the test reads it.
#[derive(Debug)]
pub struct RawSocket {
    socket: WebSocketStream<TcpStream>,
}

impl RawSocket {
    /// Opens one.
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn open(address: SocketAddr) -> Self {
        Self::upgrade(TcpSocket::new_v4().expect("a socket"), address, None).await
    }

    /// Opens one whose operating system holds about this many bytes that the test has not read.
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn open_with_buffer(address: SocketAddr, receive_buffer_bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(receive_buffer_bytes).expect("a size the system takes");
        Self::upgrade(socket, address, None).await
    }

    /// Opens one as a proxy would for a client at `forwarded_for`.
    ///
    /// # Panics
    /// When there is no such server.
    pub async fn open_from(address: SocketAddr, forwarded_for: &str) -> Self {
        Self::upgrade(TcpSocket::new_v4().expect("a socket"), address, Some(forwarded_for)).await
    }

    async fn upgrade(socket: TcpSocket, address: SocketAddr, forwarded_for: Option<&str>) -> Self {
        let stream = socket.connect(address).await.expect("the server listens");
        let mut request = format!("ws://{address}/").into_client_request().expect("a URL");
        if let Some(client) = forwarded_for {
            request.headers_mut().insert("x-forwarded-for", client.parse().expect("an address"));
        }
        let unlimited = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let upgraded = tokio_tungstenite::client_async_with_config(request, stream, Some(unlimited)).await;
        Self { socket: upgraded.expect("an upgrade").0 }
    }

    /// Logs in by `connect`.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn bind(&mut self, session: &Session) {
        let connect = json!({"token": session.token, "device_id": session.device});
        self.send(&json!({"request": {"connect": connect, "id": "connect"}})).await;
        let reply = self.packet().await;
        assert_eq!(reply, json!({"response": {"id": "connect", "success": true}}));
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// When the socket is closed.
    pub async fn send(&mut self, packet: &Value) {
        self.socket.send(Frame::text(packet.to_string())).await.expect("the socket is open");
    }

    /// Writes a frame, to a server that may have closed the socket already.
    pub async fn write(&mut self, frame: &RawFrame) {
        self.write_bytes(&frame.bytes()).await;
    }

    /// Writes bytes, to a server that may have closed the socket already.
    pub async fn write_bytes(&mut self, bytes: &[u8]) {
        // What counts is what the server says afterwards.
        let _ = self.socket.get_mut().write_all(bytes).await;
    }

    /// The next frame that is no ping, or how the socket ended.
    ///
    /// # Errors
    /// How it ended.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn frame(&mut self) -> Result<Frame, Closed> {
        let read = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Frame::Ping(_))) => {}
                    Some(Ok(Frame::Close(close))) => {
                        return Err(close.map_or(Closed::NoCode, |close| Closed::Code(close.code.into())));
                    }
                    Some(Ok(frame)) => return Ok(frame),
                    Some(Err(_)) | None => return Err(Closed::Lost),
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame or an end")
    }

    /// The next text frame.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn text(&mut self) -> String {
        match self.frame().await {
            Ok(Frame::Text(text)) => text.to_string(),
            other => panic!("no text frame but {other:?}"),
        }
    }

    /// The next packet.
    ///
    /// # Panics
    /// When something else comes, or a packet that no packet may be.
    pub async fn packet(&mut self) -> Value {
        let packet = serde_json::from_str(&self.text().await).expect("a frame is JSON");
        crate::packets::check(&packet).unwrap_or_else(|wrong| panic!("{wrong}: {packet}"));
        packet
    }

    /// Reads until the socket ends and says how, and how many text frames came before.
    pub async fn end(&mut self) -> (usize, Closed) {
        let mut texts = 0;
        loop {
            match self.frame().await {
                Ok(_) => texts += 1,
                Err(closed) => return (texts, closed),
            }
        }
    }
}
