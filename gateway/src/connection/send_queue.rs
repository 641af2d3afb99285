//! What the rest of the gateway has for one connection: frames to write, in order, and orders to close.
//!
//! Whoever puts something in never waits. Events are bounded, and "full" means that the socket is closed: its client
//! reconnects and asks for what it missed, and nobody else waits for it. Replies are not counted, since a connection
//! handles one request after another and reads none while much waits to be written.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use proto::ids::{ConnectionId, SessionId};

use super::close::CloseReason;
use crate::metrics;

/// Most events that wait for one socket.
const MAX_EVENTS: usize = 1024;
/// Most bytes of events that wait for one socket.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// The queue of one connection. One task takes out, any may put in.
#[derive(Debug)]
pub(crate) struct SendQueue {
    connection_id: ConnectionId,
    state: Mutex<State>,
    owner: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Queued>,
    events: usize,
    event_bytes: usize,
    /// Where the awaited reply goes; until then nothing is taken out.
    reply_at: Option<usize>,
    close: Option<CloseReason>,
    revoked: Option<SessionId>,
}

#[derive(Debug)]
enum Queued {
    Event(Bytes),
    Reply(Bytes),
}

/// What the connection has to do besides writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Close the socket.
    Close(CloseReason),
    /// Forget this session if the socket is bound to it: it is over.
    Unbind(SessionId),
}

impl SendQueue {
    pub(crate) fn new(connection_id: ConnectionId) -> Self {
        Self { connection_id, state: Mutex::default(), owner: AtomicWaker::new() }
    }

    /// Whose queue it is.
    pub(crate) fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    /// Puts an event's frame last. When the queue is full, everything in it is dropped and the socket will be closed.
    pub(crate) fn push_event(&self, frame: &Bytes) {
        let mut state = self.state();
        if state.close.is_some() {
            return;
        }
        if state.events == MAX_EVENTS || state.event_bytes + frame.len() > MAX_EVENT_BYTES {
            metrics::send_queue_overflowed();
            *state = State { close: Some(CloseReason::Overflow), revoked: state.revoked, ..State::default() };
        } else {
            state.events += 1;
            state.event_bytes += frame.len();
            state.frames.push_back(Queued::Event(frame.clone()));
        }
        drop(state);
        self.owner.wake();
    }

    /// Lets the next reply go before every event that is put in from now on: a client that binds its socket has the
    /// reply first.
    pub(crate) fn await_reply(&self) {
        let mut state = self.state();
        state.reply_at = Some(state.frames.len());
    }

    /// Puts a reply's frame last, or where it is awaited. For the connection's own task alone: it looks here next, and
    /// is not woken.
    pub(crate) fn push_reply(&self, frame: Bytes) {
        let mut state = self.state();
        let at = state.reply_at.take().unwrap_or(state.frames.len());
        state.frames.insert(at, Queued::Reply(frame));
    }

    /// Has the socket closed. The first reason counts, except that dropping it overrides every other.
    pub(crate) fn order_close(&self, reason: CloseReason) {
        let mut state = self.state();
        if state.close.is_none() || reason == CloseReason::Dropped {
            state.close = Some(reason);
        }
        drop(state);
        self.owner.wake();
    }

    /// Has the connection forget its session if it is this one.
    pub(crate) fn order_unbind(&self, session_id: SessionId) {
        self.state().revoked = Some(session_id);
        self.owner.wake();
    }

    /// The next order, if any; an order to close stays. The task is woken when something is put in later.
    pub(crate) fn poll_order(&self, cx: &mut Context<'_>) -> Option<Order> {
        // Registered first: what is put in after the look wakes.
        self.owner.register(cx.waker());
        let mut state = self.state();
        state.revoked.take().map(Order::Unbind).or(state.close.map(Order::Close))
    }

    /// The order to close, if there is one. The task is woken when something is put in later.
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Option<CloseReason> {
        self.owner.register(cx.waker());
        self.state().close
    }

    /// Takes frames from the front until `taken` says that it has enough.
    pub(crate) fn take_frames(&self, mut take: impl FnMut(Bytes) -> Enough) {
        let mut state = self.state();
        if state.reply_at.is_some() {
            return;
        }
        while let Some(queued) = state.frames.pop_front() {
            let frame = match queued {
                Queued::Event(frame) => {
                    state.events -= 1;
                    state.event_bytes -= frame.len();
                    frame
                }
                Queued::Reply(frame) => frame,
            };
            if take(frame) == Enough::Yes {
                break;
            }
        }
        if state.frames.is_empty() {
            // An empty queue keeps no memory.
            state.frames = VecDeque::new();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the state is whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the taker of frames has enough for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Enough {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn queue() -> SendQueue {
        SendQueue::new(ConnectionId::from_bytes([0; 12]))
    }

    #[test]
    fn an_awaited_reply_goes_before_what_came_meanwhile() {
        let queue = queue();
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        queue.push_event(&frame("before"));
        queue.await_reply();
        queue.push_event(&frame("meanwhile"));
        assert!(take_all(&queue).is_empty());
        queue.push_reply(frame("reply"));
        queue.push_event(&frame("after"));
        assert_eq!(take_all(&queue), ["before", "reply", "meanwhile", "after"]);
    }

    fn order(queue: &SendQueue) -> Option<Order> {
        queue.poll_order(&mut Context::from_waker(Waker::noop()))
    }

    fn take_all(queue: &SendQueue) -> Vec<Bytes> {
        let mut frames = Vec::new();
        queue.take_frames(|frame| {
            frames.push(frame);
            Enough::No
        });
        frames
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let queue = queue();
        queue.push_event(&Bytes::from_static(b"1"));
        queue.push_reply(Bytes::from_static(b"2"));
        queue.push_event(&Bytes::from_static(b"3"));
        assert_eq!(take_all(&queue), ["1", "2", "3"]);
        assert_eq!(order(&queue), None);
    }

    #[test]
    fn one_event_too_many_closes_the_socket_and_empties_the_queue() {
        let queue = queue();
        let frame = Bytes::from_static(b"event");
        (0..MAX_EVENTS).for_each(|_| queue.push_event(&frame));
        assert_eq!(order(&queue), None);
        queue.push_event(&frame);
        assert_eq!(order(&queue), Some(Order::Close(CloseReason::Overflow)));
        queue.push_event(&frame);
        assert_eq!(take_all(&queue), [] as [Bytes; 0]);
    }

    #[test]
    fn events_of_too_many_bytes_close_the_socket() {
        let queue = queue();
        let frame = Bytes::from(vec![0; MAX_EVENT_BYTES / 2]);
        queue.push_event(&frame);
        queue.push_event(&frame);
        assert_eq!(order(&queue), None);
        queue.push_event(&Bytes::from_static(b"x"));
        assert_eq!(order(&queue), Some(Order::Close(CloseReason::Overflow)));
    }

    #[test]
    fn replies_are_not_counted() {
        let queue = queue();
        (0..=MAX_EVENTS).for_each(|_| queue.push_reply(Bytes::from_static(b"reply")));
        assert_eq!(order(&queue), None);
        assert_eq!(take_all(&queue).len(), MAX_EVENTS + 1);
    }

    #[test]
    fn room_is_free_again_when_frames_were_taken() {
        let queue = queue();
        let frame = Bytes::from_static(b"event");
        for _ in 0..3 {
            (0..MAX_EVENTS).for_each(|_| queue.push_event(&frame));
            assert_eq!(take_all(&queue).len(), MAX_EVENTS);
        }
        assert_eq!(order(&queue), None);
    }

    #[test]
    fn the_first_reason_to_close_counts_but_dropping_overrides() {
        let queue = queue();
        queue.order_close(CloseReason::GoingAway);
        queue.order_close(CloseReason::HistoryLost);
        assert_eq!(order(&queue), Some(Order::Close(CloseReason::GoingAway)));
        queue.order_close(CloseReason::Dropped);
        assert_eq!(order(&queue), Some(Order::Close(CloseReason::Dropped)));
    }
}
