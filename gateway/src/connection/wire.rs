//! The thin layer between the TCP stream and the WebSocket library.
//!
//! Out: it owns the bytes to be written. Frames that are ready made and what the library itself writes (pongs, the
//! answer to a close frame) go into one queue, whole frame after whole frame, and a flush hands as many as possible to
//! the kernel in one call. So nothing large is copied into the library's buffer, no control frame lands inside another
//! frame, and reading goes on while a write waits.
//!
//! In: it counts the bytes of the message that is being read. One over the limit is refused as soon as its size shows;
//! a large one is read only as far as there is room for it in the memory that all sockets share.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::borders::Borders;
use super::room::{MessageRoom, SMALL_MESSAGE_BYTES, Share};

/// A message above this many bytes leaves the library with a buffer that is not worth keeping.
const KEPT_BUFFER_BYTES: u64 = 4 * 1024;
/// How many frames go to the kernel in one call.
const FRAMES_PER_WRITE: usize = 64;

/// A stream of bytes that carries frames.
pub(super) struct Wire<S> {
    stream: S,
    /// What came together with the request to upgrade.
    read_ahead: Bytes,
    borders: Borders,
    limit: u64,
    too_large: bool,
    incomplete_since: Option<Instant>,
    outgrown: bool,
    /// The common room for large messages, and this socket's share of it.
    room: Arc<MessageRoom>,
    share: Option<Box<Share>>,
    outgoing: VecDeque<Bytes>,
    outgoing_bytes: usize,
    /// Whether the first frame of `outgoing` is partly written.
    begun: bool,
    written_bytes: u64,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, read_ahead: Bytes, room: Arc<MessageRoom>) -> Self {
        Self {
            stream,
            read_ahead,
            borders: Borders::default(),
            limit: SMALL_MESSAGE_BYTES,
            too_large: false,
            incomplete_since: None,
            outgrown: false,
            room,
            share: None,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            begun: false,
            written_bytes: 0,
        }
    }

    /// Puts a whole frame behind those that wait.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.outgoing_bytes += frame.len();
        self.outgoing.push_back(frame);
    }

    /// How many bytes wait to be written.
    pub(super) fn outgoing_bytes(&self) -> usize {
        self.outgoing_bytes
    }

    /// How many bytes were written so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Forgets the frames of which nothing was written yet.
    pub(super) fn discard_unwritten(&mut self) {
        self.outgoing.truncate(usize::from(self.begun));
        self.outgoing_bytes = self.outgoing.iter().map(Bytes::len).sum();
    }

    /// Changes the size of the largest message.
    pub(super) fn set_limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// Whether reading failed because a message is over the limit.
    pub(super) fn too_large(&self) -> bool {
        self.too_large
    }

    /// Since when a message has been incomplete.
    pub(super) fn incomplete_since(&self) -> Option<Instant> {
        self.incomplete_since
    }

    /// Counts an incomplete message's time from now on: nobody read meanwhile.
    pub(super) fn restart_incomplete(&mut self, now: Instant) {
        self.incomplete_since = self.incomplete_since.map(|_| now);
    }

    /// Hands the message's share of the common room to whoever keeps the message.
    pub(super) fn take_share(&mut self) -> Option<Box<Share>> {
        self.share.take()
    }

    /// Whether nothing is read because the common room is full.
    pub(super) fn waits_for_room(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.is_waiting())
    }

    /// Whether the library's read buffer grew, and is empty when it has told of `told` control frames and messages.
    pub(super) fn has_outgrown_buffer(&self, told: u64) -> bool {
        self.outgrown && self.borders.at_border() && self.borders.ended() == told
    }

    /// The library starts afresh with a small buffer.
    pub(super) fn buffer_renewed(&mut self) {
        self.outgrown = false;
    }

    /// The stream itself, past frames and limits.
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Waits until there is room for more of the large message under way.
    fn poll_share(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let arrived = self.borders.arrived_bytes();
        if arrived < SMALL_MESSAGE_BYTES || self.borders.at_border() {
            return Poll::Ready(Ok(()));
        }
        let share = self.share.get_or_insert_default();
        let waited = share.is_waiting();
        ready!(share.poll_next(&self.room, arrived + 1, cx))?;
        if waited {
            self.restart_incomplete(Instant::now());
        }
        Poll::Ready(Ok(()))
    }

    /// Looks at what was read.
    fn note(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.borders.walk(bytes);
        let size = self.borders.message_bytes();
        if size > self.limit {
            self.too_large = true;
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.outgrown |= size > KEPT_BUFFER_BYTES;
        self.incomplete_since = match self.incomplete_since {
            _ if self.borders.at_border() => None,
            None => Some(Instant::now()),
            since => since,
        };
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        ready!(wire.poll_share(cx))?;
        let large = wire.borders.message_bytes() > KEPT_BUFFER_BYTES && !wire.borders.at_border();
        // A large message's last byte is the last in the library's buffer, which then can be given back.
        let most = if large { wire.borders.to_next_border() } else { usize::MAX };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most.min(buffer.remaining())));
        if wire.read_ahead.is_empty() {
            ready!(Pin::new(&mut wire.stream).poll_read(cx, &mut part))?;
        } else {
            let length = wire.read_ahead.len().min(part.remaining());
            part.put_slice(&wire.read_ahead[..length]);
            wire.read_ahead = Bytes::copy_from_slice(&wire.read_ahead[length..]);
        }
        wire.note(part.filled_mut())?;
        let length = part.filled().len();
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    /// Takes everything: the library gives whole frames, and a flush writes them.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().push(Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        while !wire.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&wire.outgoing) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            let written = ready!(Pin::new(&mut wire.stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wire.take_written(written);
        }
        // An empty queue keeps no memory.
        wire.outgoing = VecDeque::new();
        Pin::new(&mut wire.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S> Wire<S> {
    fn take_written(&mut self, mut written: usize) {
        self.written_bytes += written as u64;
        self.outgoing_bytes -= written;
        while let Some(frame) = self.outgoing.front_mut() {
            if written < frame.len() {
                frame.advance(written);
                self.begun |= written > 0;
                return;
            }
            written -= frame.len();
            self.outgoing.pop_front();
            self.begun = false;
        }
    }
}
