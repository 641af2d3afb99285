//! An event source that does what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use proto::v1::{Event, Notice};
use tokio::sync::Notify;

use super::{EventSource, EventSourceError, Position};

/// Events by their places, and failures among them. A failure happens once.
#[derive(Clone, Default)]
pub(crate) struct ScriptedEvents(Arc<Script>);

#[derive(Default)]
struct Script {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: Vec<(Position, Event)>,
    failures: Vec<(Position, EventSourceError)>,
    notices: VecDeque<Notice>,
    is_out_of_reach: bool,
}

impl ScriptedEvents {
    /// Adds an event at the end.
    pub(crate) fn push(&self, event: Event) {
        let mut state = self.0.state.lock().unwrap();
        let next = Position::new(state.newest().number() + 1);
        state.events.push((next, event));
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Whoever reads on from the newest event now gets this failure first.
    pub(crate) fn fail(&self, error: EventSourceError) {
        let mut state = self.0.state.lock().unwrap();
        let newest = state.newest();
        state.failures.push((newest, error));
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Whether the newest event's position cannot be found out.
    pub(crate) fn set_out_of_reach(&self, is_out_of_reach: bool) {
        self.0.state.lock().unwrap().is_out_of_reach = is_out_of_reach;
    }

    /// Adds a notice.
    pub(crate) fn notify(&self, notice: Notice) {
        self.0.state.lock().unwrap().notices.push_back(notice);
        self.0.changed.notify_waiters();
    }
}

impl State {
    fn newest(&self) -> Position {
        self.events.last().map_or(Position::default(), |(position, _)| *position)
    }

    fn next_above(&mut self, position: Position) -> Option<Result<(Position, Event), EventSourceError>> {
        if let Some(index) = self.failures.iter().position(|(at, _)| *at == position) {
            return Some(Err(self.failures.remove(index).1));
        }
        self.events.iter().find(|(at, _)| *at > position).cloned().map(Ok)
    }
}

impl Script {
    /// What `look` finds, once it finds something.
    async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.state.lock().unwrap()) {
                return found;
            }
            changed.await;
        }
    }
}

impl EventSource for ScriptedEvents {
    fn newest(&self) -> BoxFuture<'_, Result<Position, EventSourceError>> {
        let state = self.0.state.lock().unwrap();
        let newest = match state.is_out_of_reach {
            true => Err(EventSourceError::Failed("out of reach".into())),
            false => Ok(state.newest()),
        };
        async move { newest }.boxed()
    }

    fn events_above(&self, position: Position) -> BoxStream<'static, Result<(Position, Event), EventSourceError>> {
        let script = Arc::clone(&self.0);
        stream::unfold((script, position), |(script, position)| async move {
            let next = script.wait(|state| state.next_above(position)).await;
            let position = next.as_ref().map_or(position, |(position, _)| *position);
            Some((next, (script, position)))
        })
        .boxed()
    }

    fn notices(&self) -> BoxStream<'static, Notice> {
        let script = Arc::clone(&self.0);
        stream::unfold(script, |script| async move {
            let notice = script.wait(|state| state.notices.pop_front()).await;
            Some((notice, script))
        })
        .boxed()
    }
}
