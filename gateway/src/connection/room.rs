//! The memory that the large messages of all sockets may fill together.
//!
//! A message takes its share in steps, as its bytes arrive: a socket holds what it has really sent, and no claim of a
//! size keeps others waiting. When no step is left, a message waits in turn for all that it may ever need, out of the
//! other half of the room. Who has that never waits again, so it ends, or its time does; that is why messages that
//! each hold a part cannot wait for each other for ever.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What a message may take without a share of the room, in bytes; also the largest one of a socket without a session.
pub(crate) const SMALL_MESSAGE_BYTES: u64 = 64 * 1024;
/// The largest message of a socket with a session, in bytes.
pub(crate) const LARGE_MESSAGE_BYTES: u32 = 4 * 1024 * 1024;
/// What a message takes at a time, in bytes.
const STEP_BYTES: u64 = 64 * 1024;

/// The whole room.
pub(crate) struct MessageRoom {
    steps: Arc<Semaphore>,
    wholes: Arc<Semaphore>,
}

impl MessageRoom {
    /// A room of so many bytes, half of them for steps.
    pub(crate) fn new(bytes: usize) -> Self {
        let steps = bytes / 2;
        Self { steps: Arc::new(Semaphore::new(steps)), wholes: Arc::new(Semaphore::new(bytes - steps)) }
    }
}

#[cfg(test)]
impl MessageRoom {
    /// How many bytes are free for steps, and for whole messages.
    pub(super) fn free_bytes(&self) -> (usize, usize) {
        (self.steps.available_permits(), self.wholes.available_permits())
    }

    /// Takes all that is left for steps.
    pub(super) fn take_all_steps(&self) -> OwnedSemaphorePermit {
        let left = u32::try_from(self.steps.available_permits()).unwrap();
        Arc::clone(&self.steps).try_acquire_many_owned(left).unwrap()
    }

    /// Takes the room of a whole message.
    pub(super) fn take_whole(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.wholes).try_acquire_many_owned(LARGE_MESSAGE_BYTES).unwrap()
    }
}

/// One message's share, free again when this is dropped.
#[derive(Default)]
pub(super) struct Share {
    steps: Option<OwnedSemaphorePermit>,
    whole: Option<OwnedSemaphorePermit>,
    asking: Option<PollSemaphore>,
}

impl Share {
    /// Ready when there is room for one more part of a message of which `arrived` bytes have come.
    pub(super) fn poll_next(&mut self, room: &MessageRoom, arrived: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = self.steps.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = usize::try_from(arrived.next_multiple_of(STEP_BYTES)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if self.whole.is_some() || wanted <= held {
            return Poll::Ready(Ok(()));
        }
        let step = u32::try_from(wanted - held).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if self.asking.is_none()
            && let Ok(step) = Arc::clone(&room.steps).try_acquire_many_owned(step)
        {
            match &mut self.steps {
                Some(steps) => steps.merge(step),
                none => *none = Some(step),
            }
            return Poll::Ready(Ok(()));
        }
        let asking = self.asking.get_or_insert_with(|| PollSemaphore::new(Arc::clone(&room.wholes)));
        let whole = ready!(asking.poll_acquire_many(cx, LARGE_MESSAGE_BYTES)).ok_or(io::ErrorKind::BrokenPipe)?;
        *self = Self { whole: Some(whole), ..Self::default() };
        Poll::Ready(Ok(()))
    }

    /// Whether it waits until others have gone.
    pub(super) fn is_waiting(&self) -> bool {
        self.asking.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn grow(share: &mut Share, room: &MessageRoom, arrived: u64) -> bool {
        share.poll_next(room, arrived, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_message_holds_what_has_come_of_it() {
        let room = MessageRoom::new(16 * MIB);
        let mut share = Share::default();
        for (arrived, held) in [(0, 0), (1, 64), (65_536, 64), (65_537, 128), (1_000_000, 1_024)] {
            assert!(grow(&mut share, &room, arrived));
            assert_eq!(room.free_bytes(), (8 * MIB - held * 1024, 8 * MIB), "{arrived}");
        }
        drop(share);
        assert_eq!(room.free_bytes(), (8 * MIB, 8 * MIB));
    }

    #[test]
    fn messages_that_hold_a_part_of_a_full_room_go_on_one_after_another() {
        let room = MessageRoom::new(8 * MIB);
        let mut shares: Vec<_> = (0..8).map(|_| Share::default()).collect();
        for share in &mut shares {
            assert!(grow(share, &room, MIB as u64 / 2));
        }
        assert_eq!(room.free_bytes(), (0, 4 * MIB));
        let (first, others) = shares.split_first_mut().unwrap();
        assert!(grow(first, &room, MIB as u64) && !first.is_waiting());
        assert_eq!(room.free_bytes(), (MIB / 2, 0), "who has all it may need gives its steps back");
        assert!(grow(first, &room, 4 * MIB as u64));
        let _taken = room.take_all_steps();
        assert!(!grow(&mut others[0], &room, MIB as u64) && others[0].is_waiting());
        drop(shares.remove(0));
        assert!(grow(&mut shares[0], &room, MIB as u64) && !shares[0].is_waiting());
    }
}
