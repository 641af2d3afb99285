//! Ends what a store does in the middle: at its n-th request from now on, as when its process dies there or the answer is
//! lost. Every request counts, and every event that a [`CutPublisher`] takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::Recorder;
use crate::domain::event::Event;
use crate::publish::{Envelope, Publisher};
use crate::store::{StoreError, Written};

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// It is not sent, and fails as if it had not been answered in time.
    FailsUnsent,
    /// It is carried out, but its answer is lost.
    FailsAnswered,
    /// It is not sent, and neither is any later one: the process has died.
    Dies,
    /// It is carried out and no later one is: the process has died while it waited for the answer.
    DiesAnswered,
}

impl Cut {
    pub(crate) const ALL: [Self; 4] = [Self::FailsUnsent, Self::FailsAnswered, Self::Dies, Self::DiesAnswered];

    fn is_deadly(self) -> bool {
        matches!(self, Self::Dies | Self::DiesAnswered)
    }
}

/// Where the requests of one store are cut.
#[derive(Default)]
pub(crate) struct Cuts {
    planned: Mutex<Option<Plan>>,
    died: Notify,
    /// All requests, cut or not.
    requests: AtomicUsize,
}

struct Plan {
    cut: Cut,
    /// So many requests pass before it.
    passing: usize,
    is_cut: bool,
}

impl Cuts {
    /// Lets so many requests pass and cuts the next one.
    pub(crate) fn plan(&self, passing: usize, cut: Cut) {
        *self.planned.lock().unwrap() = Some(Plan { cut, passing, is_cut: false });
    }

    /// Lets every request pass again; whether one was cut.
    pub(crate) fn clear(&self) -> bool {
        self.planned.lock().unwrap().take().is_some_and(|plan| plan.is_cut)
    }

    /// How many requests there have been.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Does what belongs to the call until it ends; `None` when it died in the middle.
    pub(crate) async fn until_death<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.died.notified() => None,
            outcome = call => Some(outcome),
        }
    }

    /// The cut that the next request gets, if any.
    fn next(&self) -> Option<Cut> {
        let mut planned = self.planned.lock().unwrap();
        let plan = planned.as_mut()?;
        if plan.is_cut {
            return plan.cut.is_deadly().then_some(Cut::Dies);
        }
        if plan.passing > 0 {
            plan.passing -= 1;
            return None;
        }
        plan.is_cut = true;
        Some(plan.cut)
    }

    async fn die<T>(&self) -> T {
        self.died.notify_waiters();
        std::future::pending().await
    }

    /// Sends the request, or ends it as planned.
    pub(crate) async fn request<T, E>(
        &self,
        request: impl Future<Output = Result<T, E>>,
        lost: impl FnOnce() -> E,
    ) -> Result<T, E> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match self.next() {
            None => request.await,
            Some(Cut::FailsUnsent) => Err(lost()),
            Some(Cut::FailsAnswered) => request.await.and_then(|_| Err(lost())),
            Some(Cut::Dies) => self.die().await,
            Some(Cut::DiesAnswered) => {
                let _ = request.await;
                self.die().await
            }
        }
    }
}

/// Takes events as a [`Recorder`] does, unless it is cut.
#[derive(Default)]
pub(crate) struct CutPublisher {
    recorder: Arc<Recorder>,
    cuts: OnceLock<Arc<Cuts>>,
}

impl CutPublisher {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder, cuts: OnceLock::new() }
    }

    /// Counts with the requests of this store from now on.
    pub(crate) fn join(&self, cuts: Arc<Cuts>) {
        assert!(self.cuts.set(cuts).is_ok(), "it belongs to one store");
    }

    fn publish_with(&self, publish: impl FnOnce(&Recorder) -> Written + Send + 'static) -> Written {
        let (recorder, cuts) = (Arc::clone(&self.recorder), self.cuts.get().cloned());
        let lost = || StoreError::Unavailable { attempted: "publish", source: Arc::new(std::io::Error::other("cut")) };
        async move {
            let told = async { publish(&recorder).await };
            match cuts {
                Some(cuts) => cuts.request(told, lost).await,
                None => told.await,
            }
        }
        .boxed()
    }
}

impl Publisher for CutPublisher {
    fn publish(&self, event: Event) -> Written {
        self.publish_with(move |recorder| recorder.publish(event))
    }

    fn publish_envelope(&self, envelope: Envelope) -> Written {
        self.publish_with(move |recorder| recorder.publish_envelope(envelope))
    }
}
