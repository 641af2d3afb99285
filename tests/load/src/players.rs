//! The sockets while a play is on: each has a task that reads and one that sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;

use crate::latency::Latency;
use crate::ledger::{Ledger, MessageName};
use crate::pace::Turns;
use crate::socket::{Socket, Stream, next_text};
use crate::wire::{Packet, RunId, Told};

/// What all sockets of a play share.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) run: RunId,
    pub(crate) ledger: Ledger,
    pub(crate) begun: Instant,
    pub(crate) body_bytes: usize,
    /// Ends the sending.
    pub(crate) stop: CancellationToken,
    /// Latency counts for messages that were due from then on, in microseconds since the beginning.
    pub(crate) measured_from: AtomicU64,
    pub(crate) acknowledgement: Latency,
    pub(crate) delivery: Latency,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) delivered_bytes: AtomicU64,
    /// Refused messages by status and code.
    pub(crate) refusals: Mutex<BTreeMap<String, u64>>,
    /// Sockets that ended, by how.
    pub(crate) endings: Mutex<BTreeMap<String, u64>>,
}

/// One socket of a play.
pub(crate) struct Player {
    /// Its number.
    pub(crate) number: usize,
    pub(crate) socket: Socket,
    /// The conversation it sends to.
    pub(crate) conversation: String,
    /// Messages that may wait for an answer.
    pub(crate) window: usize,
    /// When to send, in an open loop.
    pub(crate) turns: Option<Turns>,
}

/// A socket's messages that wait for an answer.
#[derive(Debug)]
struct Unanswered {
    /// Number and time due, oldest first.
    messages: Mutex<VecDeque<(u64, u64)>>,
    room: Semaphore,
}

impl Play {
    pub(crate) fn new(run: RunId, ledger: Ledger, body_bytes: usize) -> Self {
        Self {
            run,
            ledger,
            begun: Instant::now(),
            body_bytes,
            stop: CancellationToken::new(),
            measured_from: AtomicU64::new(u64::MAX),
            acknowledgement: Latency::new(),
            delivery: Latency::new(),
            acknowledged: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            refusals: Mutex::default(),
            endings: Mutex::default(),
        }
    }

    /// Microseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn measure(&self, latency: &Latency, due: u64) {
        if due >= self.measured_from.load(Ordering::Relaxed) {
            latency.record(Duration::from_micros(self.now().saturating_sub(due)));
        }
    }
}

/// One more of what a key counts.
pub(crate) fn count(counts: &Mutex<BTreeMap<String, u64>>, key: String) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
}

impl Player {
    /// Lets the socket read, and send until the play is stopped.
    pub(crate) fn spawn(self, play: &Arc<Play>, tasks: &mut JoinSet<()>) {
        let Self { number, socket, conversation, window, turns } = self;
        let (sink, frames) = socket.into_stream().split();
        let unanswered = Arc::new(Unanswered { messages: Mutex::default(), room: Semaphore::new(window) });
        tasks.spawn(read(Arc::clone(play), number, frames, Arc::clone(&unanswered)));
        let writer = Writer { play: Arc::clone(play), number, conversation, turns, unanswered };
        tasks.spawn(writer.run(sink));
    }
}

async fn read(play: Arc<Play>, socket: usize, mut frames: SplitStream<Stream>, unanswered: Arc<Unanswered>) {
    let ending = loop {
        let text = match next_text(&mut frames).await {
            Ok(text) => text,
            Err(ending) => break ending,
        };
        match play.run.read(&text) {
            Packet::Delivered(Told { message, due_micros }) => {
                play.ledger.delivered(socket, message);
                play.deliveries.fetch_add(1, Ordering::Relaxed);
                play.delivered_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                play.measure(&play.delivery, due_micros);
            }
            Packet::Acknowledged(message) => {
                play.ledger.acknowledged(message);
                play.acknowledged.fetch_add(1, Ordering::Relaxed);
                if let Some(due) = unanswered.answered(message.number) {
                    play.measure(&play.acknowledgement, due);
                }
            }
            Packet::Refused(message, refusal) => {
                count(&play.refusals, format!("{} {}", refusal.status, refusal.code));
                let oldest = || unanswered.oldest().map(|number| MessageName { from: socket, number });
                if let Some(message) = message.or_else(oldest) {
                    play.ledger.refused(message);
                    unanswered.answered(message.number);
                }
            }
            Packet::Other => {}
        }
    };
    play.ledger.closed(socket);
    count(&play.endings, ending.to_string());
}

struct Writer {
    play: Arc<Play>,
    number: usize,
    conversation: String,
    turns: Option<Turns>,
    unanswered: Arc<Unanswered>,
}

impl Writer {
    async fn run(mut self, mut sink: SplitSink<Stream, Frame>) {
        let play = Arc::clone(&self.play);
        for number in 0.. {
            let due_micros = tokio::select! {
                biased;
                () = play.stop.cancelled() => return,
                due = self.next(number) => due,
            };
            let number = play.ledger.sending(self.number);
            self.unanswered.sent(number, due_micros);
            let told = Told { message: MessageName { from: self.number, number }, due_micros };
            let packet = play.run.packet(told, &self.conversation, play.body_bytes);
            if sink.send(Frame::text(packet)).await.is_err() {
                // The reader tells how the socket ended.
                return;
            }
        }
    }

    /// Waits until the message of this number may be sent, and returns when it was due.
    async fn next(&mut self, number: u64) -> u64 {
        let due = match &mut self.turns {
            Some(turns) => Some(turns.wait(number).await),
            None => None,
        };
        let room = self.unanswered.room.acquire().await;
        room.expect("the semaphore is never closed").forget();
        due.unwrap_or_else(|| self.play.now())
    }
}

impl Unanswered {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, number: u64, due: u64) {
        self.lock().push_back((number, due));
    }

    fn oldest(&self) -> Option<u64> {
        self.lock().front().map(|&(number, _)| number)
    }

    /// Makes room for another message. Returns when this one was due.
    fn answered(&self, number: u64) -> Option<u64> {
        let mut messages = self.lock();
        let place = messages.iter().position(|&(waiting, _)| waiting == number)?;
        let (_, due) = messages.remove(place)?;
        drop(messages);
        self.room.add_permits(1);
        Some(due)
    }
}
