//! The load of these stories.

use std::sync::Arc;
use std::time::Duration;

use e2e::history::HistoryLog;
use e2e::{Chatter, Organization, StackHandle, TestClient, eventually};
use tokio::time::Instant;

use crate::team::Team;

/// A chat that goes on whatever dies.
pub(crate) struct Chat {
    pub(crate) org: Organization,
    pub(crate) history: Arc<HistoryLog>,
    chatters: Vec<Chatter>,
    pub(crate) ann: TestClient,
    cid: String,
}

impl Chat {
    /// How many sockets chat.
    pub(crate) const SOCKETS: usize = 3;

    /// Three devices of two users chat, and ann looks on.
    pub(crate) async fn begin(stack: &StackHandle) -> Self {
        let Team { org, ann, bob, carl, cid } = Team::of(stack.new_organization().await).await;
        let history = Arc::new(HistoryLog::default());
        let second = bob.user().log_in(stack, "another device").await;
        let sessions: [_; Self::SOCKETS] = [bob.session().clone(), second, carl.session().clone()];
        let chatters = sessions.map(|session| Chatter::spawn(stack.clone(), session, &cid, Arc::clone(&history)));
        let chat = Self { org, history, chatters: chatters.into(), ann, cid };
        chat.go_on(100).await;
        chat
    }

    /// Until so many more messages are acknowledged.
    pub(crate) async fn go_on(&self, messages: usize) {
        let wanted = self.history.acknowledgements() + messages;
        eventually("the chat to go on", async || (self.history.acknowledgements() >= wanted).then_some(())).await;
    }

    /// For so long, or until something is acknowledged after it.
    pub(crate) async fn go_on_for(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.go_on(20).await;
        }
    }

    /// Ends the chat, and judges it.
    pub(crate) async fn end(mut self) {
        for chatter in &mut self.chatters {
            chatter.settle().await;
        }
        let mut ann = self.ann.session().connect(self.org.stack()).await;
        ann.send_message(&self.cid, Chatter::end_body()).await;
        for chatter in self.chatters {
            chatter.end().await;
        }
        self.history.read_all(&mut ann, &self.cid).await;
        let violations = self.history.check();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}
