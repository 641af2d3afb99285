//! A gateway's link to NATS is away, and core's is not: its clients' messages are acknowledged meanwhile, and everybody
//! gets everything on the same socket soon after the link's return.

use std::time::Duration;

use components::{Nats, Proxy};
use e2e::{TestStack, eventually};
use tokio::time::Instant;

use super::chat::Chat;

/// How soon after the link's return everything acknowledged until then has arrived.
const SOON: Duration = Duration::from_secs(2);

/// Breaks the link under load and lets it return, after each of these times.
async fn everybody_gets_everything_soon_after(break_link: impl Fn(&Proxy), times: impl IntoIterator<Item = Duration>) {
    let nats = Nats::start().unwrap();
    let link = Proxy::start(nats.address()).await.unwrap();
    let stack = TestStack::builder()
        .environment("NATS_URL", nats.url())
        .gateway_argument(format!("--nats-url={}", link.address()))
        .start()
        .await;
    let chat = Chat::begin(&stack).await;
    let history = &chat.history;
    for time in times {
        break_link(&link);
        let broken = Instant::now();
        chat.go_on(100).await;
        chat.go_on_for(time.saturating_sub(broken.elapsed())).await;
        let moment = history.moment();
        let undelivered = history.undelivered(moment);
        assert!(undelivered > 100, "only {undelivered} to come: the link was not away");
        let returned = Instant::now();
        link.release();
        let all_came = async || (history.undelivered(moment) == 0).then_some(());
        eventually("everything from while the link was away", all_came).await;
        let took = returned.elapsed();
        eprintln!("{undelivered} to come after {time:?}, and all there {took:?} after the link's return");
        assert!(took < SOON, "all there only {took:?} after the return of the link, which was away for {time:?}");
        chat.go_on(50).await;
    }
    assert_eq!(history.sockets(), Chat::SOCKETS, "somebody had to connect again");
    chat.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everybody_gets_everything_soon_after_the_return_of_a_link_that_was_cut() {
    everybody_gets_everything_soon_after(Proxy::take_down, [500, 4_000].map(Duration::from_millis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn everybody_gets_everything_soon_after_the_return_of_a_link_that_swallowed_everything() {
    // Once shorter than the gateway needs to notice, once longer.
    everybody_gets_everything_soon_after(Proxy::hold, [2, 4].map(Duration::from_secs)).await;
}
