//! The one thread that writes.
//!
//! Commands come in through a bounded queue. What waits is done together: a transaction, in it a savepoint for each
//! command, so that a failing one takes back only itself, then one commit, and only then the answers. So many writers
//! share one flush of the disk, an answer means that the data is safe, and the order of the queue is the order in
//! which writes become visible.
//!
//! A command that fails answers so, also when the disk is full, and the thread goes on. When a commit fails for any
//! other reason, nobody knows what the disk holds: the thread ends, every later write is refused, and whoever waits
//! on [`Writer::failed`] should stop the process, so that the database recovers from what is really there.

use std::error::Error;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::journal::{self, End, JournalWriter, Retention};
use super::metrics::StoreMetrics;
use super::row::StatementError;
use crate::store::StoreError;

/// So many commands wait; more are refused.
const QUEUE_LENGTH: usize = 8_192;
/// So many commands share a commit.
const BATCH_LENGTH: usize = 512;
/// So long after one commit began the next one may: what comes meanwhile shares it. Who writes alone and less often
/// never waits. A commit costs as much as some ten messages, and what it makes known leaves each socket in one write, so
/// this is what keeps a busy server's cost per message low. Measured at 4,000 messages a second: a quarter less than
/// with 1 ms; 5 ms would gain little more.
const COMMIT_SPACING: Duration = Duration::from_millis(3);

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const SAVEPOINT: &str = "SAVEPOINT command";
const RELEASE: &str = "RELEASE command";
const ROLLBACK_TO: &str = "ROLLBACK TO command";
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

type Source = Arc<dyn Error + Send + Sync>;

/// Why a command did not get as far as the database.
#[derive(Debug, thiserror::Error)]
enum WriterError {
    #[error("no more writes are taken")]
    Stopped,
    #[error("the transaction was rolled back because of another write")]
    RolledBack,
}

/// The way to the writing thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    failed: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Job {
    Execute(Box<dyn Command>),
    Close,
}

/// What the thread needs.
pub(super) struct WriterParts {
    /// The only connection that writes.
    pub(super) connection: Connection,
    /// Held until the connection is closed.
    pub(super) lock: File,
    /// The newest event.
    pub(super) newest: End,
    /// Told of the events of each commit.
    pub(super) journal: JournalWriter,
    /// How much of the journal is kept.
    pub(super) retention: Retention,
    /// What the thread measures.
    pub(super) metrics: StoreMetrics,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn spawn(parts: WriterParts) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        let failed = CancellationToken::new();
        let trimmed_at = parts.newest;
        let thread = WriterThread { parts, jobs, trimmed_at };
        let guard = failed.clone().drop_guard();
        let thread = std::thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || {
            // The guard also tells of a panic.
            if thread.run().is_ok() {
                guard.disarm();
            }
        })?;
        Ok(Self { queue, failed, thread: Mutex::new(Some(thread)) })
    }

    /// Queues `work` before it returns; the future resolves when it is committed, or has failed and left nothing.
    /// `attempted` completes "failed to".
    pub(super) fn write<T, W>(
        &self,
        attempted: &'static str,
        work: W,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, StatementError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let command = Write { attempted, state: WriteState::Waiting(work), answer };
        let queued = match self.queue.try_send(Job::Execute(Box::new(command))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(StoreError::Overloaded),
            Err(TrySendError::Closed(_)) => Err(stopped(attempted)),
        };
        async move {
            queued?;
            answered.await.unwrap_or_else(|_| Err(stopped(attempted)))
        }
    }

    /// Resolves when the database failed and the process should stop; never after an orderly end.
    pub(super) fn failed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.failed.clone().cancelled_owned()
    }

    /// Takes no more commands, finishes those that wait, closes the database.
    pub(super) async fn close(&self) {
        // Refused where the thread has ended already.
        let _ = self.queue.send(Job::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has been told through `failed`.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }
}

fn stopped(attempted: &'static str) -> StoreError {
    StoreError::Unavailable { attempted, source: Arc::new(WriterError::Stopped) }
}

/// Something to write, and somebody who waits for it.
trait Command: Send {
    /// Does it; whether it may stay.
    fn execute(&mut self, connection: &Connection) -> bool;

    /// Tells how it ended. `lost` is why nothing of the transaction stayed, where that is so.
    fn answer(self: Box<Self>, lost: Option<Source>);
}

struct Write<T, W> {
    attempted: &'static str,
    state: WriteState<T, W>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

enum WriteState<T, W> {
    Waiting(W),
    Done(Result<T, StatementError>),
    Empty,
}

impl<T, W> Command for Write<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, StatementError> + Send,
{
    fn execute(&mut self, connection: &Connection) -> bool {
        if let WriteState::Waiting(work) = std::mem::replace(&mut self.state, WriteState::Empty) {
            self.state = WriteState::Done(work(connection));
        }
        matches!(self.state, WriteState::Done(Ok(_)))
    }

    fn answer(self: Box<Self>, lost: Option<Source>) {
        let attempted = self.attempted;
        let result = match (self.state, lost) {
            (WriteState::Done(Err(error)), _) => Err(error.attempting(attempted)),
            (_, Some(source)) => Err(StoreError::Unavailable { attempted, source }),
            (WriteState::Done(Ok(value)), None) => Ok(value),
            (WriteState::Waiting(_) | WriteState::Empty, None) => Err(stopped(attempted)),
        };
        // Nobody may wait any more; the write stands all the same.
        let _ = self.answer.send(result);
    }
}

struct WriterThread {
    parts: WriterParts,
    jobs: mpsc::Receiver<Job>,
    /// Where the journal ended when it was last trimmed.
    trimmed_at: End,
}

/// The database failed at a commit.
struct Broken;

impl WriterThread {
    fn run(mut self) -> Result<(), Broken> {
        let mut next_commit = Instant::now();
        while let Some(job) = self.jobs.blocking_recv() {
            std::thread::sleep(next_commit.saturating_duration_since(Instant::now()));
            next_commit = Instant::now() + COMMIT_SPACING;
            let batch = self.drain(job);
            if !batch.is_empty() {
                self.write(batch)?;
            }
            self.parts.metrics.waiting(self.jobs.len());
        }
        let WriterParts { connection, lock, .. } = self.parts;
        if let Err(error) = connection.query_row(CHECKPOINT, [], |_| Ok(())) {
            tracing::warn!(error = &error as &dyn Error, "the write-ahead log stays for the next start");
        }
        drop(connection);
        drop(lock);
        Ok(())
    }

    fn drain(&mut self, first: Job) -> Vec<Box<dyn Command>> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Execute(command) => batch.push(command),
                Job::Close => self.jobs.close(),
            }
            next = if batch.len() < BATCH_LENGTH { self.jobs.try_recv().ok() } else { None };
        }
        batch
    }

    fn write(&mut self, batch: Vec<Box<dyn Command>>) -> Result<(), Broken> {
        let started = Instant::now();
        let mut executed = Vec::with_capacity(batch.len() + 1);
        for mut command in batch.into_iter().chain(self.trim_if_due()) {
            let outcome = execute(&self.parts.connection, command.as_mut());
            executed.push(command);
            if let Err(source) = outcome {
                answer_all(&mut executed, Some(&source));
            }
        }
        if executed.is_empty() {
            return Ok(());
        }
        let committed = self.commit();
        self.parts.metrics.committed(executed.len(), started);
        match committed {
            Ok(()) => {
                answer_all(&mut executed, None);
                Ok(())
            }
            Err(error) => {
                let is_full = is_disk_full(&error);
                if !is_full {
                    tracing::error!(
                        error = &error as &dyn Error,
                        "the database failed to commit, so no more is written"
                    );
                }
                answer_all(&mut executed, Some(&(Arc::new(error) as Source)));
                if is_full { Ok(()) } else { Err(Broken) }
            }
        }
    }

    fn commit(&mut self) -> Result<(), StatementError> {
        let WriterParts { connection, newest, journal, .. } = &mut self.parts;
        let appended = journal::appended(connection, *newest);
        let committed = appended.and_then(|appended| Ok(run(connection, COMMIT).map(|()| appended)?));
        let appended = committed.inspect_err(|_| leave_transaction(connection))?;
        *newest = appended.end;
        journal.committed(appended);
        Ok(())
    }

    /// Trimming is a command like others, so that its failure is treated like theirs.
    fn trim_if_due(&mut self) -> Option<Box<dyn Command>> {
        let &WriterParts { newest, retention, ref journal, .. } = &self.parts;
        let step_bytes = retention.due(self.trimmed_at, newest)?;
        self.trimmed_at = newest;
        journal.forget();
        let work = move |connection: &Connection| {
            journal::trim(connection, retention, step_bytes)
                .inspect_err(|error| tracing::warn!(error = error as &dyn Error, "failed to trim the journal"))
        };
        let (answer, _) = oneshot::channel();
        Some(Box::new(Write { attempted: "trim the journal", state: WriteState::Waiting(work), answer }))
    }
}

/// Executes a command in a savepoint of the open transaction, which is begun where there is none.
///
/// # Errors
/// When the transaction is gone, and with it whatever was executed in it.
fn execute(connection: &Connection, command: &mut dyn Command) -> Result<(), Source> {
    let enter = || {
        if connection.is_autocommit() {
            run(connection, BEGIN)?;
        }
        run(connection, SAVEPOINT)
    };
    let leave = |keep: bool| {
        if !keep && !connection.is_autocommit() {
            run(connection, ROLLBACK_TO)?;
        }
        if connection.is_autocommit() { Ok(()) } else { run(connection, RELEASE) }
    };
    let outcome = enter().and_then(|()| leave(command.execute(connection)));
    if let Err(error) = outcome {
        leave_transaction(connection);
        return Err(Arc::new(error));
    }
    // Some failures, a full disk among them, make the database roll back everything by itself.
    if connection.is_autocommit() { Err(Arc::new(WriterError::RolledBack)) } else { Ok(()) }
}

fn leave_transaction(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = run(connection, ROLLBACK)
    {
        tracing::warn!(error = &error as &dyn Error, "failed to roll back");
    }
}

fn answer_all(commands: &mut Vec<Box<dyn Command>>, lost: Option<&Source>) {
    for command in commands.drain(..) {
        command.answer(lost.cloned());
    }
}

fn is_disk_full(error: &StatementError) -> bool {
    match error {
        StatementError::Database(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
        StatementError::Corrupt { .. } => false,
    }
}

fn run(connection: &Connection, statement: &'static str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}
