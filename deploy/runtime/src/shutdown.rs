//! From "please stop" to "all done".
//!
//! Two tokens and a tracker. *Soft*: finish what is in hand, take nothing new. *Hard*: drop everything. The first
//! SIGTERM or Ctrl-C is soft; a second one, or the end of the grace period, is hard; and whatever has not ended a
//! second after that is abandoned, so that the process always exits. A task that ends before anybody asked it to
//! starts the same stop, and makes it a failure.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to see the hard token before they are abandoned.
const AFTER_HARD: Duration = Duration::from_secs(1);

/// The stop of one process. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    attendants: TaskTracker,
    task_died: Arc<AtomicBool>,
}

/// Why a process that has stopped did not stop well.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StopError {
    /// A task ended, failed or panicked before the stop began; the log names it.
    #[error("a task died on its own")]
    TaskDied,
    /// Tasks ignored even the hard token.
    #[error("{0} tasks did not end and were abandoned")]
    Abandoned(usize),
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tasks: TaskTracker::new(),
            attendants: TaskTracker::new(),
            task_died: Arc::default(),
        }
    }

    /// Cancelled when work in hand should be finished and nothing new begun. Cancelling it starts the stop.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when everything should be dropped; at the latest when all tasks have ended.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a task that should live until the stop. Its end before that, its error or its panic stops the process
    /// with a failure; the name says in the log who it was.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.spawn_until(self.soft(), &self.tasks, name, task);
    }

    /// Runs a task that serves to the very end of a stop, which does not wait for it: it should live until the hard
    /// token is cancelled. Otherwise as [`Shutdown::spawn`].
    pub fn spawn_attendant(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.spawn_until(self.hard(), &self.attendants, name, task);
    }

    fn spawn_until(
        &self,
        end: CancellationToken,
        tracker: &TaskTracker,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let shutdown = self.clone();
        tracker.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            let stopping = end.is_cancelled();
            match ended {
                Ok(Ok(())) if stopping => return,
                Ok(Ok(())) => tracing::error!(task = name, "a task ended on its own; stopping"),
                Ok(Err(error)) => tracing::error!(task = name, error = format!("{error:#}"), "a task failed; stopping"),
                // The panic hook has printed what it was.
                Err(_) => tracing::error!(task = name, "a task panicked; stopping"),
            }
            shutdown.task_died.store(true, Ordering::Release);
            shutdown.soft.cancel();
        });
    }

    /// Waits for a signal or for the soft token, then for all tasks but the attendants, then for those; returns at the
    /// latest `grace` and one second after the first.
    pub async fn finish(self, mut signals: impl AsyncFnMut(), grace: Duration) -> Result<(), StopError> {
        tokio::select! {
            () = self.soft.cancelled() => {}
            () = signals() => tracing::info!(grace_seconds = grace.as_secs(), "stopping; a second signal stops at once"),
        }
        self.soft.cancel();
        self.tasks.close();
        self.attendants.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = signals() => tracing::warn!("second signal; dropping what is left"),
            () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over; dropping what is left"),
        }
        self.hard.cancel();
        let everything = async { tokio::join!(self.tasks.wait(), self.attendants.wait()) };
        let all_ended = tokio::time::timeout(AFTER_HARD, everything).await.is_ok();
        if self.task_died.load(Ordering::Acquire) {
            return Err(StopError::TaskDied);
        }
        if !all_ended {
            return Err(StopError::Abandoned(self.tasks.len() + self.attendants.len()));
        }
        Ok(())
    }
}

/// SIGTERM and Ctrl-C, caught from the moment this exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both signals, which from now on no longer end the process by themselves. Must be called within a tokio
    /// runtime; fails when the system refuses.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of either. May be dropped halfway; no signal is lost by that.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    /// A sender of signals, and the receiving end in the form `finish` takes.
    fn signals() -> (mpsc::UnboundedSender<()>, impl AsyncFnMut()) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (sender, async move || {
            if receiver.recv().await.is_none() {
                pending::<()>().await;
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_lets_tasks_finish() {
        let (sender, next) = signals();
        let shutdown = Shutdown::new();
        let (soft, hard) = (shutdown.soft(), shutdown.hard());
        shutdown.spawn("worker", async move {
            soft.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(!hard.is_cancelled(), "dropped within the grace period");
            Ok(())
        });
        sender.send(()).unwrap();
        assert_eq!(shutdown.finish(next, GRACE).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_grace_period_is_hard() {
        let (sender, next) = signals();
        let shutdown = Shutdown::new();
        let hard = shutdown.hard();
        shutdown.spawn("slow", async move {
            hard.cancelled().await;
            Ok(())
        });
        sender.send(()).unwrap();
        let begun = Instant::now();
        assert_eq!(shutdown.finish(next, GRACE).await, Ok(()));
        assert_eq!(begun.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_is_hard_at_once() {
        let (sender, next) = signals();
        let shutdown = Shutdown::new();
        let hard = shutdown.hard();
        shutdown.spawn("slow", async move {
            hard.cancelled().await;
            Ok(())
        });
        sender.send(()).unwrap();
        sender.send(()).unwrap();
        let begun = Instant::now();
        assert_eq!(shutdown.finish(next, GRACE).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attendant_serves_until_the_tasks_have_ended_and_keeps_nobody_waiting() {
        let (sender, next) = signals();
        let shutdown = Shutdown::new();
        let (soft, hard) = (shutdown.soft(), shutdown.hard());
        let (tell, mut told) = mpsc::unbounded_channel();
        let tell_too = tell.clone();
        shutdown.spawn("worker", async move {
            soft.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(tell_too.send("the task ended")?)
        });
        shutdown.spawn_attendant("probe", async move {
            hard.cancelled().await;
            Ok(tell.send("the attendant ended")?)
        });
        sender.send(()).unwrap();
        let begun = Instant::now();
        assert_eq!(shutdown.finish(next, GRACE).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
        assert_eq!((told.recv().await, told.recv().await), (Some("the task ended"), Some("the attendant ended")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attendant_that_ends_early_stops_the_process_with_a_failure() {
        let (_sender, next) = signals();
        let shutdown = Shutdown::new();
        shutdown.spawn_attendant("probe", async { Ok(()) });
        assert_eq!(shutdown.finish(next, GRACE).await, Err(StopError::TaskDied));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_does_not_keep_the_process() {
        let (sender, next) = signals();
        let shutdown = Shutdown::new();
        shutdown.spawn("stuck", pending());
        sender.send(()).unwrap();
        let begun = Instant::now();
        assert_eq!(shutdown.finish(next, GRACE).await, Err(StopError::Abandoned(1)));
        assert_eq!(begun.elapsed(), GRACE + AFTER_HARD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_fails_or_panics_on_its_own_stops_the_process_with_a_failure() {
        type Task = fn() -> anyhow::Result<()>;
        let deaths: [Task; 3] = [|| Ok(()), || anyhow::bail!("the disk is gone"), || panic!("a broken invariant")];
        for death in deaths {
            let (_sender, next) = signals();
            let shutdown = Shutdown::new();
            let soft = shutdown.soft();
            shutdown.spawn("other", async move {
                soft.cancelled().await;
                Ok(())
            });
            shutdown.spawn("dying", async move { death() });
            assert_eq!(shutdown.finish(next, GRACE).await, Err(StopError::TaskDied));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_while_stopping_is_a_failure_too() {
        let (_sender, next) = signals();
        let shutdown = Shutdown::new();
        let soft = shutdown.soft();
        shutdown.spawn("store", async move {
            soft.cancelled().await;
            anyhow::bail!("the last commit failed")
        });
        shutdown.soft().cancel();
        assert_eq!(shutdown.finish(next, GRACE).await, Err(StopError::TaskDied));
    }
}
