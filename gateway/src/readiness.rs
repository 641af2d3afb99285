//! Whether the gateway wants traffic: what its owner's readiness probe answers.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Starting,
    Ready,
    Stopping,
}

/// A view of one gateway's readiness. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<State>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(State::Starting))
    }
}

impl Readiness {
    /// Whether it is ready: its place in the events is known, and it is not stopping.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow() == State::Ready
    }

    /// Waits until the start is over.
    pub async fn started(&self) {
        // Never fails: this keeps the sender.
        let _ = self.0.subscribe().wait_for(|&state| state != State::Starting).await;
    }

    /// The start is over. A gateway that is stopping stays so.
    pub(crate) fn set_ready(&self) {
        self.0.send_if_modified(|state| {
            let is_starting = *state == State::Starting;
            if is_starting {
                *state = State::Ready;
            }
            is_starting
        });
    }

    /// The stop has begun.
    pub(crate) fn set_stopping(&self) {
        self.0.send_replace(State::Stopping);
    }
}
