//! One task per socket: frames in, one after another; replies and events out.
//!
//! Inputs of the loop, all in [`line`]: the client's messages, read only while no request is handled; the send queue,
//! with events, replies and orders; time (heartbeat, limits); and, while a request is handled, its end. Outputs: frames
//! on the socket, requests to the session.
//!
//! What must stay true: a client's requests take effect in the order sent; the reply to one is queued before the next is
//! read; the request in hand is finished whatever happens to the socket, unless the process cannot wait; a socket that
//! ends tells its client why, within a bounded time, and leaves nothing behind. An idle connection costs little: its
//! state is small, and what a request needs exists while it runs.

mod borders;
pub(crate) mod close;
pub(crate) mod frame;
mod heartbeat;
mod line;
pub(crate) mod room;
pub(crate) mod send_queue;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};
use tracing::debug;

use self::close::CloseReason;
use self::line::{Line, Wake};
use self::room::MessageRoom;
use self::send_queue::SendQueue;
use self::socket::Socket;
use crate::metrics;
use crate::session::{Handled, Reply, Session};

/// So many malformed frames within [`ABUSE_WINDOW`] end a connection.
const ABUSE_FRAMES: usize = 20;
const ABUSE_WINDOW: Duration = Duration::from_secs(60);
/// How long a client may take to receive what was queued for it, and the close frame after it.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a client may take to close its end after the close frame. What it still sends is discarded: closing a socket
/// with unread bytes would reset it, and the client might never see the close frame.
const LINGER: Duration = Duration::from_secs(2);

/// A connection after its handshake.
pub(crate) struct Connection<S> {
    line: Line<S>,
    queue: Arc<SendQueue>,
    session: Session,
    malformed: VecDeque<Instant>,
}

/// What a new connection is made of.
pub(crate) struct Handshaken<S> {
    /// The bare stream.
    pub(crate) stream: S,
    /// What arrived together with the handshake.
    pub(crate) read_ahead: Bytes,
    /// What all connections' large messages share.
    pub(crate) room: Arc<MessageRoom>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Boxed, as is what it waits for later: a future holds what it is given several times over, and an idle
    /// connection's should be next to nothing.
    pub(crate) async fn new(handshaken: Handshaken<S>, queue: Arc<SendQueue>, session: Session) -> Box<Self> {
        let socket = Socket::new(handshaken.stream, handshaken.read_ahead, handshaken.room).await;
        let line = Line::new(socket, Arc::clone(&queue));
        Box::new(Self { line, queue, session, malformed: VecDeque::new() })
    }

    /// Serves the client until one side ends it.
    pub(crate) async fn run(mut self: Box<Self>) {
        let reason = loop {
            let finished = match poll_fn(|cx| self.line.poll_idle(cx)).await {
                Wake::Close(reason) => Err(reason),
                Wake::Unbind(session_id) => {
                    let request = Box::pin(self.session.forget(session_id));
                    finish_request(&mut self.line, &self.queue, request).await
                }
                Wake::Message(message) => {
                    if self.line.socket.is_outgrown() {
                        self.line.socket = Box::pin(self.line.socket.renewed()).await;
                    }
                    let request = Box::pin(self.session.handle(&message.payload));
                    finish_request(&mut self.line, &self.queue, request).await
                }
            };
            let ended = match finished {
                Ok((handled, ended)) => {
                    let asked = self.conclude(handled);
                    ended.or(asked)
                }
                Err(reason) => Some(reason),
            };
            self.line.set_authenticated(self.session.is_authenticated());
            if let Some(reason) = ended {
                break reason;
            }
        };
        debug!(connection.id = %self.queue.connection_id(), reason = reason.name(), "connection ends");
        metrics::connection_closed(reason.name());
        Box::pin(self.end(reason)).await;
    }

    /// Queues the reply, and says if the connection has to end after it.
    fn conclude(&mut self, handled: Handled) -> Option<CloseReason> {
        let (reply, ended) = match handled {
            Handled::Silent => (None, None),
            Handled::Reply(reply) => (Some(reply), None),
            Handled::Malformed(reply) => (Some(reply), self.is_abuse().then_some(CloseReason::Abuse)),
            Handled::End(reply, reason) => (reply, Some(reason)),
        };
        if let Some(reply) = reply {
            self.queue.push_reply(frame_of(reply));
        }
        ended
    }

    /// Whether this malformed frame is one too many.
    fn is_abuse(&mut self) -> bool {
        let now = Instant::now();
        self.malformed.push_back(now);
        while self.malformed.front().is_some_and(|&first| first + ABUSE_WINDOW <= now) {
            self.malformed.pop_front();
        }
        self.malformed.len() >= ABUSE_FRAMES
    }

    /// Ends the session and tells the client why, side by side.
    async fn end(self: Box<Self>, reason: CloseReason) {
        let Self { mut line, queue, session, .. } = *self;
        let dropped = poll_fn(|cx| match queue.poll_close(cx) {
            Some(CloseReason::Dropped) => Poll::Ready(()),
            _ => Poll::Pending,
        });
        let ending = async { tokio::join!(session.end(), say_farewell(&mut line, reason)) };
        tokio::select! {
            biased;
            _ = ending => {}
            () = dropped => {}
        }
    }
}

/// Runs a request to its end while the line goes on writing. With it comes why the connection has to end, if it has.
///
/// # Errors
/// [`CloseReason::Dropped`] when the process cannot wait; the request is dropped then.
async fn finish_request<S: AsyncRead + AsyncWrite + Unpin, T>(
    line: &mut Line<S>,
    queue: &SendQueue,
    mut request: Pin<Box<impl Future<Output = T>>>,
) -> Result<(T, Option<CloseReason>), CloseReason> {
    let mut ended = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = request.as_mut().poll(cx) {
            return Poll::Ready(Ok((done, ended)));
        }
        if ended.is_none()
            && let Poll::Ready(reason) = line.poll_busy(cx)
        {
            ended = Some(reason);
        }
        match queue.poll_close(cx) {
            Some(CloseReason::Dropped) => Poll::Ready(Err(CloseReason::Dropped)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Writes what is queued and the close frame, and waits a little for the client to close its end.
async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<S>, reason: CloseReason) {
    let Some((code, text)) = reason.code() else {
        if reason == CloseReason::ClosedByClient {
            let _ = timeout(FAREWELL, line.socket.finish()).await;
        }
        return;
    };
    if reason == CloseReason::Overflow {
        line.socket.wire().discard_unwritten();
    }
    let said = timeout(FAREWELL, async {
        poll_fn(|cx| line.poll_drained(cx)).await?;
        line.socket.wire().push(frame::close(code, text));
        line.socket.finish().await
    })
    .await;
    if matches!(said, Ok(Ok(()))) {
        let _ = timeout(LINGER, discard_input(line.socket.wire().stream_mut())).await;
    }
}

async fn discard_input<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// A reply as a frame; a large one's share of the common room is free again when the frame is written.
fn frame_of(reply: Reply) -> Bytes {
    struct Held {
        frame: Bytes,
        _share: tokio::sync::OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.frame
        }
    }

    let frame = frame::text(reply.text.into_bytes());
    match reply.share {
        Some(share) => Bytes::from_owner(Held { frame, _share: share }),
        None => frame,
    }
}
