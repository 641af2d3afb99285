//! The socket's side of a connection: everything that can wake its task, in one place.
//!
//! Inputs, in the order they are looked at: orders from the send queue; the kernel's readiness to take what waits to be
//! written; the client's frames, unless reading is paused; time. Reading pauses while a request is handled, while much
//! waits to be written, and while the client has sent more than its rate allows.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use proto::ids::SessionId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::close::CloseReason;
use super::frame;
use super::heartbeat::{Beat, Heartbeat};
use super::room::{LARGE_MESSAGE_BYTES, SMALL_MESSAGE_BYTES};
use super::send_queue::{Enough, Order, SendQueue};
use super::socket::{Inbound, InboundMessage, Socket};
use crate::metrics;

/// Frames a client may send per second, and how many at once.
const FRAMES_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const FRAME_BURST: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
/// How long a message may be incomplete.
const INCOMPLETE_LIMIT: Duration = Duration::from_secs(30);
/// How long a socket may go without a session.
const UNAUTHENTICATED_LIMIT: Duration = Duration::from_secs(600);
/// While this many bytes wait to be written, no more are taken from the send queue and nothing is read.
const WRITE_AHEAD_BYTES: usize = 64 * 1024;

/// One client's socket with its clocks and limits.
pub(super) struct Line<S> {
    pub(super) socket: Socket<S>,
    queue: Arc<SendQueue>,
    heartbeat: Heartbeat,
    rate: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>,
    /// Whether the next frame is paid for; if not, when it can be.
    paid: bool,
    throttled_until: Option<Instant>,
    paused: bool,
    blocked: bool,
    unauthenticated_since: Option<Instant>,
    /// Armed for the earliest of what is due, or for something that has moved on since.
    timer: Pin<Box<Sleep>>,
}

/// What an idle connection wakes up for.
pub(super) enum Wake {
    /// A message to be handled.
    Message(InboundMessage),
    /// A session is over.
    Unbind(SessionId),
    /// The end.
    Close(CloseReason),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) fn new(socket: Socket<S>, queue: Arc<SendQueue>) -> Self {
        let now = Instant::now();
        let heartbeat = Heartbeat::new(now);
        let timer = Box::pin(sleep_until(heartbeat.next()));
        let quota = Quota::per_second(FRAMES_PER_SECOND).allow_burst(FRAME_BURST);
        Self {
            socket,
            queue,
            heartbeat,
            rate: RateLimiter::direct_with_clock(quota, TokioClock),
            paid: false,
            throttled_until: None,
            paused: false,
            blocked: false,
            unauthenticated_since: Some(now),
            timer,
        }
    }

    /// Whether the socket has a session now: sessions may send larger messages, and stay.
    pub(super) fn set_authenticated(&mut self, authenticated: bool) {
        if authenticated == self.unauthenticated_since.is_none() {
            return;
        }
        self.unauthenticated_since = if authenticated { None } else { Some(Instant::now()) };
        self.socket.wire().set_limit(if authenticated { LARGE_MESSAGE_BYTES.into() } else { SMALL_MESSAGE_BYTES });
    }

    /// The next thing to wake up for while no request is handled.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        loop {
            match self.queue.poll_order(cx) {
                Some(Order::Close(reason)) => return Poll::Ready(Wake::Close(reason)),
                Some(Order::Unbind(session_id)) => return Poll::Ready(Wake::Unbind(session_id)),
                None => {}
            }
            if self.write(cx).is_err() {
                return Poll::Ready(Wake::Close(CloseReason::Lost));
            }
            if self.may_read() {
                match self.poll_read(cx) {
                    Poll::Ready(Ok(Inbound::Message(message))) => return Poll::Ready(Wake::Message(message)),
                    Poll::Ready(Ok(Inbound::Control)) => continue,
                    Poll::Ready(Err(reason)) => return Poll::Ready(Wake::Close(reason)),
                    Poll::Pending => {}
                }
            }
            if let Err(reason) = ready!(self.poll_timer(cx)) {
                return Poll::Ready(Wake::Close(reason));
            }
        }
    }

    /// Goes on writing while a request is handled, and is ready when the connection has to end after it.
    pub(super) fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.paused = true;
        loop {
            if let Some(reason) = self.queue.poll_close(cx) {
                return Poll::Ready(reason);
            }
            if self.write(cx).is_err() {
                return Poll::Ready(CloseReason::Lost);
            }
            if let Err(reason) = ready!(self.poll_timer(cx)) {
                return Poll::Ready(reason);
            }
        }
    }

    /// Writes until nothing waits any more.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.write(cx)?;
        if self.socket.wire().outgoing_bytes() == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Inbound, CloseReason>> {
        let inbound = ready!(self.socket.poll_inbound(cx))?;
        self.paid = false;
        self.heartbeat.sign_of_life(Instant::now());
        metrics::frame_received();
        Poll::Ready(Ok(inbound))
    }

    /// Moves frames to the wire and writes them until the kernel takes no more, or none is left.
    fn write(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        loop {
            let wire = self.socket.wire();
            if wire.outgoing_bytes() < WRITE_AHEAD_BYTES {
                self.queue.take_frames(|frame| {
                    wire.push(frame);
                    if wire.outgoing_bytes() < WRITE_AHEAD_BYTES { Enough::No } else { Enough::Yes }
                });
            }
            if wire.outgoing_bytes() == 0 {
                return Ok(());
            }
            let before = wire.written_bytes();
            let flushed = self.socket.poll_flush(cx);
            if self.blocked && self.socket.wire().written_bytes() > before {
                // The kernel takes more than before only because the client has taken some.
                self.heartbeat.sign_of_life(Instant::now());
            }
            self.blocked = flushed.is_pending();
            match flushed {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn may_read(&mut self) -> bool {
        let may = self.socket.wire().outgoing_bytes() < WRITE_AHEAD_BYTES && self.pay();
        if may && self.paused {
            self.socket.wire().restart_incomplete(Instant::now());
        }
        self.paused = !may;
        may
    }

    /// Takes the next frame from the client's rate, if there is one to take.
    fn pay(&mut self) -> bool {
        if !self.paid {
            match self.rate.check() {
                Ok(()) => {
                    self.paid = true;
                    self.throttled_until = None;
                }
                Err(until) => {
                    let now = Instant::now();
                    self.throttled_until = Some(now + until.wait_time_from(now.into_std()));
                }
            }
        }
        self.paid
    }

    /// Does what is due. Ready when something was; the caller then looks at everything again.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let next = self.next_deadline();
        // A deadline that moved on is found out when the timer fires: most move with every frame.
        if next < self.timer.deadline() {
            self.timer.as_mut().reset(next);
        }
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        if passed(self.unauthenticated_since, UNAUTHENTICATED_LIMIT) {
            return Poll::Ready(Err(CloseReason::Unauthenticated));
        }
        if passed(self.incomplete_since(), INCOMPLETE_LIMIT) {
            return Poll::Ready(Err(CloseReason::Incomplete));
        }
        if self.socket.wire().waits_for_room() {
            // That nothing is read is not the client's silence.
            self.heartbeat.sign_of_life(now);
        }
        if passed(self.throttled_until, Duration::ZERO) {
            self.throttled_until = None;
        }
        match self.heartbeat.beat(now) {
            Beat::Rest => {}
            Beat::Ping => self.socket.wire().push(frame::PING),
            Beat::Dead => return Poll::Ready(Err(CloseReason::Silent)),
        }
        let next = self.next_deadline();
        self.timer.as_mut().reset(next);
        Poll::Ready(Ok(()))
    }

    /// Since when the client has owed the rest of a message, unless it is the server that does not read.
    fn incomplete_since(&mut self) -> Option<Instant> {
        let wire = self.socket.wire();
        wire.incomplete_since().filter(|_| !self.paused && !wire.waits_for_room())
    }

    fn next_deadline(&mut self) -> Instant {
        let incomplete = self.incomplete_since();
        [
            Some(self.heartbeat.next()),
            incomplete.map(|since| since + INCOMPLETE_LIMIT),
            self.unauthenticated_since.map(|since| since + UNAUTHENTICATED_LIMIT),
            self.throttled_until,
        ]
        .into_iter()
        .flatten()
        .min()
        .expect("the heartbeat always has a next time")
    }
}

/// The runtime's clock, so that tests own time.
#[derive(Clone, Debug)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}
