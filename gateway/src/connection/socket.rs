//! Messages from a WebSocket, frames to it: the library's codec around a [`Wire`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{SinkExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::close::CloseReason;
use super::room::{LARGE_MESSAGE_BYTES, MessageRoom, Share};
use super::wire::Wire;

/// The library reads this much at once into a buffer that every connection keeps. Its default would cost each
/// connection 128 KiB.
const READ_BUFFER_BYTES: usize = 1024;

/// One client's end, with frames instead of bytes.
pub(super) struct Socket<S> {
    codec: WebSocketStream<Wire<S>>,
    /// How many control frames and messages the codec has given.
    told: u64,
}

/// What came in.
pub(super) enum Inbound {
    Message(InboundMessage),
    /// A ping or a pong: a sign of life, answered already where it needs an answer.
    Control,
}

/// A text or binary message, complete.
pub(super) struct InboundMessage {
    pub(super) payload: Bytes,
    /// A large one's share of the common room, free again when this is dropped.
    _share: Option<Box<Share>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A server's end of `stream`, whose handshake is over. `read_ahead` came with the handshake; `room` is what large
    /// messages share.
    pub(super) async fn new(stream: S, read_ahead: Bytes, room: Arc<MessageRoom>) -> Self {
        Self { codec: codec(Wire::new(stream, read_ahead, room)).await, told: 0 }
    }

    /// The layer that counts and queues.
    pub(super) fn wire(&mut self) -> &mut Wire<S> {
        self.codec.get_mut()
    }

    /// The next thing that comes in, or why nothing more will.
    pub(super) fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<Inbound, CloseReason>> {
        let message = match ready!(Pin::new(&mut self.codec).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Err(self.reason(&error))),
            None => return Poll::Ready(Err(CloseReason::ClosedByClient)),
        };
        self.told += 1;
        Poll::Ready(match message {
            // The wire makes every text frame a binary one.
            Message::Binary(payload) => {
                Ok(Inbound::Message(InboundMessage { payload, _share: self.wire().take_share() }))
            }
            Message::Text(text) => {
                Ok(Inbound::Message(InboundMessage { payload: text.into(), _share: self.wire().take_share() }))
            }
            Message::Ping(_) | Message::Pong(_) => Ok(Inbound::Control),
            Message::Close(_) | Message::Frame(_) => Err(CloseReason::ClosedByClient),
        })
    }

    /// Whether the codec's buffer grew with a large message and could be exchanged for a small one.
    pub(super) fn is_outgrown(&mut self) -> bool {
        let told = self.told;
        self.wire().has_outgrown_buffer(told)
    }

    /// The same socket with a fresh codec, whose buffer is small again.
    pub(super) async fn renewed(self) -> Self {
        let mut wire = self.codec.into_inner();
        wire.buffer_renewed();
        Self { codec: codec(wire).await, told: self.told }
    }

    /// Writes what is queued, as far as the kernel takes it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.wire()).poll_flush(cx)
    }

    /// Writes everything, the answer to the client's close frame included, and ends the stream. May be dropped halfway.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        // The codec fails when it has nothing to say any more; what it had to say is queued all the same.
        let _ = self.codec.flush().await;
        self.wire().flush().await?;
        self.wire().shutdown().await
    }

    /// The sizes of the codec's buffers for reading and writing.
    #[cfg(test)]
    pub(super) fn buffer_bytes(&self) -> (usize, usize) {
        let config = self.codec.get_config();
        (config.read_buffer_size, config.write_buffer_size)
    }

    fn reason(&mut self, error: &Error) -> CloseReason {
        match error {
            Error::Io(_) if self.wire().too_large() => CloseReason::TooLarge,
            Error::Capacity(_) => CloseReason::TooLarge,
            Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
            | Error::Io(_)
            | Error::ConnectionClosed
            | Error::AlreadyClosed => CloseReason::Lost,
            _ => CloseReason::Protocol,
        }
    }
}

async fn codec<S: AsyncRead + AsyncWrite + Unpin>(wire: Wire<S>) -> WebSocketStream<Wire<S>> {
    let limit = usize::try_from(LARGE_MESSAGE_BYTES).ok();
    // No write buffer: the wire queues, and no most for it: a frame above it would fail for ever.
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(limit)
        .max_frame_size(limit);
    WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await
}
