//! What waits for the stream: a queue for each subject, and which of it the outbox must take.
//!
//! An event stays in its queue until the stream has it, and its queue's order is the order in which it is sent, whatever
//! happens. Its caller need not wait for that: once the outbox has the event too, it is safe. So an event is *due* for the
//! outbox when the stream has not taken it within [`KEEP_AFTER`]; at once while the stream cannot be reached, or while
//! its subject is stuck behind an event that was sent in vain.
//!
//! No I/O and no clock: whoever uses this does both.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::ids::EventId;
use proto::subject::About;
use tokio::sync::oneshot;

use super::split::Part;
use crate::store::StoreError;

/// How long an event may wait for the stream before the outbox takes it.
pub(super) const KEEP_AFTER: Duration = Duration::from_millis(500);

/// What an event takes in memory besides its bytes, about.
const OVERHEAD_BYTES: usize = 512;

/// An event that waits.
#[derive(Debug)]
pub(super) struct Letter {
    /// What it is about, and so in which queue it is.
    pub(super) about: About,
    /// Rises with every event of this process.
    pub(super) number: u64,
    /// The part of the outbox that it is kept in, if it is kept.
    pub(super) bucket: i64,
    /// Its `Nats-Msg-Id`.
    pub(super) id: EventId,
    /// As it leaves.
    pub(super) envelope: Bytes,
}

/// Resolves once the event is safe, or could not be made so.
pub(super) type Safe = oneshot::Receiver<Result<(), StoreError>>;

/// Too many bytes wait.
#[derive(Debug)]
pub(super) struct Full;

/// All queues.
pub(super) struct Queues {
    queues: HashMap<About, Queue>,
    /// What is due later, in that order.
    due: VecDeque<(Instant, About, u64)>,
    /// Whether somebody will look at what is due, soon enough for everything that is queued from now on.
    is_keeper_armed: bool,
    /// What is due now.
    due_now: VecDeque<(About, u64)>,
    buckets: BTreeMap<i64, Bucket>,
    last_bucket: i64,
    next_number: u64,
    waiting: usize,
    waiting_bytes: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Queue {
    letters: VecDeque<Waiting>,
    /// Its first event was sent in vain, or could not be sent in time.
    is_stuck: bool,
}

struct Waiting {
    letter: Arc<Letter>,
    /// Whoever waits for it to be safe; nobody once it is.
    caller: Option<oneshot::Sender<Result<(), StoreError>>>,
    /// The outbox has it or was told to take it.
    is_taken: bool,
}

/// What is known of a part of the outbox.
#[derive(Default)]
struct Bucket {
    /// Events that wait, and writes that are under way.
    open: usize,
    /// Whether anything was ever put there.
    is_used: bool,
}

/// Events that were queued.
pub(super) struct Queued {
    /// For each of them, when it is safe.
    pub(super) safe: Vec<Safe>,
    /// Nobody works on their queue yet.
    pub(super) needs_worker: bool,
    /// Whoever puts what is due into the outbox must look again.
    pub(super) wakes_keeper: bool,
}

impl Queues {
    /// Empty queues that hold at most so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            queues: HashMap::new(),
            due: VecDeque::new(),
            is_keeper_armed: false,
            due_now: VecDeque::new(),
            buckets: BTreeMap::new(),
            last_bucket: i64::MIN,
            next_number: 0,
            waiting: 0,
            waiting_bytes: 0,
            max_bytes,
        }
    }

    /// Queues events about one subject, all or none.
    pub(super) fn push(&mut self, about: About, events: Vec<Part>, moment: &Moment) -> Result<Queued, Full> {
        let bytes: usize = events.iter().map(|event| event.bytes.len() + OVERHEAD_BYTES).sum();
        if self.waiting_bytes + bytes > self.max_bytes {
            return Err(Full);
        }
        self.waiting += events.len();
        self.waiting_bytes += bytes;
        let (queue, needs_worker) = match self.queues.entry(about) {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(entry) => (entry.insert(Queue::default()), true),
        };
        let is_due = !moment.is_open || queue.is_stuck;
        // Also where the clock is set back, so that order of buckets and numbers is order of sending.
        self.last_bucket = self.last_bucket.max(moment.bucket);
        let bucket = self.last_bucket;
        self.buckets.entry(bucket).or_default().open += events.len();
        let mut safe = Vec::with_capacity(events.len());
        for Part { id, bytes: envelope } in events {
            let number = self.next_number;
            self.next_number += 1;
            let letter = Arc::new(Letter { about, number, bucket, id, envelope });
            let (caller, receiver) = oneshot::channel();
            queue.letters.push_back(Waiting { letter, caller: Some(caller), is_taken: false });
            safe.push(receiver);
            if is_due {
                self.due_now.push_back((about, number));
            } else {
                self.due.push_back((moment.now + KEEP_AFTER, about, number));
            }
        }
        let wakes_keeper = is_due || !self.is_keeper_armed;
        Ok(Queued { safe, needs_worker, wakes_keeper })
    }

    /// The event that is to be sent next; `None` ends the queue, and the work on it.
    pub(super) fn front(&mut self, about: About) -> Option<Arc<Letter>> {
        let front = self.queues.get(&about).and_then(|queue| queue.letters.front());
        match front {
            Some(waiting) => Some(Arc::clone(&waiting.letter)),
            None => {
                self.queues.remove(&about);
                None
            }
        }
    }

    /// The stream has the queue's first event.
    pub(super) fn left(&mut self, about: About) {
        let Some(queue) = self.queues.get_mut(&about) else { return };
        queue.is_stuck = false;
        let Some(waiting) = queue.letters.pop_front() else { return };
        self.waiting -= 1;
        self.waiting_bytes -= waiting.letter.envelope.len() + OVERHEAD_BYTES;
        self.close(waiting.letter.bucket);
        if let Some(caller) = waiting.caller {
            // Nobody may be waiting any more.
            let _ = caller.send(Ok(()));
        }
        // What was due for the outbox and has left is passed over there; this keeps the list short.
        while self.due.front().is_some_and(|(_, about, number)| !self.is_waiting(*about, *number)) {
            self.due.pop_front();
        }
    }

    /// The queue's first event was sent in vain: the outbox takes it and those behind it now.
    pub(super) fn stuck(&mut self, about: About) {
        let Some(queue) = self.queues.get_mut(&about) else { return };
        queue.is_stuck = true;
        let due = queue.letters.iter().filter(|waiting| !waiting.is_taken);
        self.due_now.extend(due.map(|waiting| (about, waiting.letter.number)));
    }

    /// When the caller must look again at the latest, if nothing wakes it.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let next = self.due.front().map(|(at, ..)| *at);
        self.is_keeper_armed = next.is_some();
        next
    }

    /// Nothing more will become of what waits: nobody is to wait for it.
    pub(super) fn end(&mut self) {
        for queue in self.queues.values_mut() {
            for waiting in &mut queue.letters {
                waiting.caller = None;
            }
        }
    }

    /// At most so many events that the outbox must take now; each must be answered with [`Self::kept`].
    pub(super) fn take_due(&mut self, moment: &Moment, limit: usize) -> Vec<Arc<Letter>> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let is_due = |at: &Instant| !moment.is_open || *at <= moment.now;
            let (about, number) = match (self.due_now.pop_front(), self.due.front()) {
                (Some(due), _) => due,
                (None, Some((at, about, number))) if is_due(at) => {
                    let due = (*about, *number);
                    self.due.pop_front();
                    due
                }
                _ => break,
            };
            let Some(waiting) = self.find(about, number) else { continue };
            if std::mem::replace(&mut waiting.is_taken, true) {
                continue;
            }
            let letter = Arc::clone(&waiting.letter);
            let bucket = self.buckets.entry(letter.bucket).or_default();
            bucket.open += 1;
            bucket.is_used = true;
            taken.push(letter);
        }
        taken
    }

    /// Whether the outbox has an event that it was to take. If it failed to, the event still waits for the stream, but
    /// its caller need not.
    pub(super) fn kept(&mut self, letter: &Letter, outcome: Result<(), StoreError>) {
        self.close(letter.bucket);
        if let Some(caller) = self.find(letter.about, letter.number).and_then(|waiting| waiting.caller.take()) {
            let _ = caller.send(outcome);
        }
    }

    /// Parts of the outbox before this one that hold nothing any more that is still to leave.
    pub(super) fn take_done_buckets(&mut self, before: i64) -> Vec<i64> {
        let done: Vec<_> =
            self.buckets.range(..before).filter(|(_, bucket)| bucket.open == 0).map(|(n, _)| *n).collect();
        for bucket in &done {
            self.buckets.remove(bucket);
        }
        done
    }

    /// How many events wait, and how many bytes they take.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting, self.waiting_bytes)
    }

    fn close(&mut self, number: i64) {
        if let Some(bucket) = self.buckets.get_mut(&number) {
            bucket.open -= 1;
            if bucket.open == 0 && !bucket.is_used {
                self.buckets.remove(&number);
            }
        }
    }

    fn position(&self, about: About, number: u64) -> Option<usize> {
        self.queues.get(&about)?.letters.binary_search_by_key(&number, |waiting| waiting.letter.number).ok()
    }

    fn is_waiting(&self, about: About, number: u64) -> bool {
        self.position(about, number).is_some()
    }

    fn find(&mut self, about: About, number: u64) -> Option<&mut Waiting> {
        let position = self.position(about, number)?;
        self.queues.get_mut(&about)?.letters.get_mut(position)
    }
}

/// What is so at the moment.
pub(super) struct Moment {
    /// The time.
    pub(super) now: Instant,
    /// The part of the outbox that this time belongs to.
    pub(super) bucket: i64,
    /// Whether the stream can be reached.
    pub(super) is_open: bool,
}

#[cfg(test)]
mod tests {
    use proto::ids::UserId;

    use super::*;

    const ANN: About = About::User(UserId::from_bytes([1; 12]));
    const BOB: About = About::User(UserId::from_bytes([2; 12]));

    struct Harness {
        queues: Queues,
        start: Instant,
        now: Duration,
        is_open: bool,
    }

    impl Harness {
        fn new(max_bytes: usize) -> Self {
            Self { queues: Queues::new(max_bytes), start: Instant::now(), now: Duration::ZERO, is_open: true }
        }

        fn moment(&self) -> Moment {
            let bucket = i64::try_from(self.now.as_secs()).unwrap() / 10;
            Moment { now: self.start + self.now, bucket, is_open: self.is_open }
        }

        fn push(&mut self, about: About, id: u8) -> Queued {
            let event = Part { id: EventId::from_bytes([id; 12]), bytes: Bytes::from_static(b"event") };
            let moment = self.moment();
            self.queues.push(about, vec![event], &moment).expect("there is room")
        }

        fn due(&mut self) -> Vec<u8> {
            let moment = self.moment();
            self.queues.take_due(&moment, 100).iter().map(|letter| letter.id.as_bytes()[0]).collect()
        }

        fn front(&mut self, about: About) -> Option<u8> {
            self.queues.front(about).map(|letter| letter.id.as_bytes()[0])
        }
    }

    fn outcome(queued: &mut Queued) -> Option<Result<(), StoreError>> {
        queued.safe[0].try_recv().ok()
    }

    #[test]
    fn events_of_a_subject_leave_in_the_order_of_queueing() {
        let mut test = Harness::new(10_000);
        let mut first = test.push(ANN, 1);
        let mut second = test.push(ANN, 2);
        assert!(first.needs_worker && !second.needs_worker && test.push(BOB, 3).needs_worker);
        assert_eq!(test.front(ANN), Some(1));
        test.queues.left(ANN);
        assert!(matches!(outcome(&mut first), Some(Ok(()))));
        assert!(outcome(&mut second).is_none());
        assert_eq!(test.front(ANN), Some(2));
        test.queues.left(ANN);
        assert_eq!(test.front(ANN), None);
        assert!(test.push(ANN, 4).needs_worker, "the work on the queue had ended");
    }

    #[test]
    fn what_the_stream_takes_in_time_never_touches_the_outbox() {
        let mut test = Harness::new(10_000);
        test.push(ANN, 1);
        test.now = KEEP_AFTER - Duration::from_millis(1);
        assert!(test.due().is_empty());
        test.queues.left(ANN);
        test.now = Duration::from_secs(60);
        assert!(test.due().is_empty());
        assert!(test.queues.take_done_buckets(i64::MAX).is_empty());
    }

    #[test]
    fn what_the_stream_does_not_take_in_time_is_safe_once_the_outbox_has_it_and_stays_in_its_place() {
        let mut test = Harness::new(10_000);
        let mut first = test.push(ANN, 1);
        test.now = KEEP_AFTER;
        let moment = test.moment();
        let taken = test.queues.take_due(&moment, 100);
        assert!(test.due().is_empty(), "it is taken once");
        test.queues.kept(&taken[0], Ok(()));
        assert!(matches!(outcome(&mut first), Some(Ok(()))));
        test.push(ANN, 2);
        assert_eq!(test.front(ANN), Some(1));
        assert_eq!(test.queues.waiting().0, 2);
    }

    #[test]
    fn while_the_stream_is_away_everything_is_due_at_once() {
        let mut test = Harness::new(10_000);
        assert!(test.push(ANN, 1).wakes_keeper, "nobody looks yet");
        test.queues.next_due();
        assert!(!test.push(BOB, 2).wakes_keeper, "somebody will look soon enough");
        test.is_open = false;
        assert!(test.push(ANN, 3).wakes_keeper);
        let mut due = test.due();
        due.sort_unstable();
        assert_eq!(due, [1, 2, 3]);
    }

    #[test]
    fn behind_an_event_that_was_sent_in_vain_everything_is_due_until_one_leaves() {
        let mut test = Harness::new(10_000);
        test.push(ANN, 1);
        test.push(ANN, 2);
        test.push(BOB, 3);
        test.queues.stuck(ANN);
        assert_eq!(test.due(), [1, 2]);
        assert!(test.push(ANN, 4).wakes_keeper);
        assert_eq!(test.due(), [4]);
        test.queues.left(ANN);
        test.queues.next_due();
        test.push(ANN, 5);
        assert!(test.due().is_empty());
    }

    #[test]
    fn a_caller_learns_that_the_outbox_failed_and_the_event_still_waits() {
        let mut test = Harness::new(10_000);
        test.is_open = false;
        let mut queued = test.push(ANN, 1);
        let moment = test.moment();
        let taken = test.queues.take_due(&moment, 100);
        test.queues.kept(&taken[0], Err(StoreError::Overloaded));
        assert!(matches!(outcome(&mut queued), Some(Err(StoreError::Overloaded))));
        assert_eq!(test.front(ANN), Some(1));
    }

    #[test]
    fn a_bucket_is_done_when_its_time_is_over_and_all_in_it_has_left_and_no_write_is_under_way() {
        let mut test = Harness::new(10_000);
        test.is_open = false;
        test.push(ANN, 1);
        let moment = test.moment();
        let taken = test.queues.take_due(&moment, 100);
        test.now = Duration::from_secs(10);
        test.push(ANN, 2);
        assert!(test.queues.take_done_buckets(1).is_empty(), "it has not left");
        test.queues.left(ANN);
        assert!(test.queues.take_done_buckets(1).is_empty(), "a write is under way");
        test.queues.kept(&taken[0], Ok(()));
        assert!(test.queues.take_done_buckets(0).is_empty(), "its time is not over");
        assert_eq!(test.queues.take_done_buckets(1), [0]);
        assert!(test.queues.take_done_buckets(i64::MAX).is_empty(), "the other still waits");
    }

    #[test]
    fn a_clock_that_is_set_back_disturbs_no_order() {
        let mut test = Harness::new(10_000);
        test.is_open = false;
        test.now = Duration::from_secs(100);
        test.push(ANN, 1);
        test.now = Duration::from_secs(20);
        test.push(ANN, 2);
        let moment = test.moment();
        let places: Vec<_> =
            test.queues.take_due(&moment, 100).iter().map(|letter| (letter.bucket, letter.number)).collect();
        assert_eq!(places, [(10, 0), (10, 1)]);
    }

    #[test]
    fn more_than_the_allowed_bytes_are_refused_and_room_comes_back() {
        let mut test = Harness::new(2 * (OVERHEAD_BYTES + 5));
        test.push(ANN, 1);
        test.push(BOB, 2);
        let moment = test.moment();
        let event = Part { id: EventId::from_bytes([3; 12]), bytes: Bytes::from_static(b"event") };
        assert!(test.queues.push(ANN, vec![event], &moment).is_err());
        test.queues.left(ANN);
        test.push(ANN, 3);
    }
}
