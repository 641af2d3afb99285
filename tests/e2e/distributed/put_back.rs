//! The stream is put back to an older state and written on: what is missing in it is missed by nobody in silence.

use std::time::Duration;

use components::{Nats, Proxy};
use e2e::{Closed, StackHandle, TestStack, eventually};
use tempfile::TempDir;

use super::chat::Chat;
use crate::metrics;

/// A chat on a stack whose gateway reaches NATS over a link of its own, and a copy of the stream from two seconds before.
struct Story {
    nats: Nats,
    link: Proxy,
    stack: StackHandle,
    chat: Chat,
    /// How many messages were acknowledged since the copy.
    since_the_copy: usize,
    copy: TempDir,
}

impl Story {
    async fn begin() -> Self {
        let copy = tempfile::tempdir().unwrap();
        let mut nats = Nats::start().unwrap();
        let link = Proxy::start(nats.address()).await.unwrap();
        let stack = TestStack::builder()
            .environment("NATS_URL", nats.url())
            .gateway_argument(format!("--nats-url={}", link.address()))
            .start()
            .await;
        let chat = Chat::begin(&stack).await;
        nats.kill();
        nats.copy_store(copy.path()).unwrap();
        nats.restart().unwrap();
        let acknowledged = chat.history.acknowledgements();
        chat.go_on_for(Duration::from_secs(2)).await;
        let since_the_copy = chat.history.acknowledgements() - acknowledged;
        let moment = chat.history.moment();
        let all_came = async || (chat.history.undelivered(moment) == 0).then_some(());
        eventually("the gateway to read beyond the copy", all_came).await;
        assert_eq!(histories_lost(&stack).await, 0.0);
        Self { nats, link, stack, chat, since_the_copy, copy }
    }

    fn put_back(&mut self) {
        self.nats.kill();
        self.nats.replace_store(self.copy.path()).unwrap();
        self.nats.restart().unwrap();
    }

    /// Every socket is closed with the warning, and the chat goes on without a fault.
    async fn end(self) {
        let Self { stack, mut chat, .. } = self;
        assert_eq!(chat.ann.closed().await, Closed::Code(1012));
        eventually("a warning to everybody", async || (chat.history.warnings() == Chat::SOCKETS).then_some(())).await;
        assert_eq!(histories_lost(&stack).await, 1.0);
        chat.go_on(100).await;
        assert_eq!(chat.history.sockets(), 2 * Chat::SOCKETS, "everybody connected again once");
        chat.end().await;
    }
}

async fn histories_lost(stack: &StackHandle) -> f64 {
    metrics::sum(&metrics::of(stack.admin()).await, "gateway_history_lost_total")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everybody_is_warned_when_the_stream_is_put_back() {
    let mut story = Story::begin().await;
    story.put_back();
    story.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everybody_is_warned_when_the_stream_is_put_back_and_written_on_beyond_where_it_was() {
    let mut story = Story::begin().await;
    story.link.take_down();
    story.put_back();
    story.chat.go_on(story.since_the_copy + 100).await;
    story.link.release();
    let rewritten = "another event is at the position";
    let lines = async || story.stack.output().lines().iter().any(|line| line.contains(rewritten)).then_some(());
    eventually("the gateway to find another event at its position", lines).await;
    story.end().await;
}
