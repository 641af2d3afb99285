//! What core may do at NATS, by what the README grants it.

use std::time::Duration;

use components::nats::{Nats, Options};
use proto::ids::IdGenerator;

use super::{Stage, ago, connect_with, event, settings};
use crate::publish::Publisher;
use crate::publish::nats::StreamSettings;

const README: &str = include_str!("../../../../README.md");

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER"]
async fn core_may_look_whether_an_old_event_is_in_the_stream() {
    let start = README.find("authorization { users = [").expect("the README says what users need");
    let (users, _) = README[start..].split_once("```").unwrap();
    let server = Nats::start_with(&Options { configuration: users.to_owned(), ..Options::default() }).unwrap();
    let client = connect_with(&server, &["--nats-username=core", "--nats-password=..."]).await;
    let stream =
        StreamSettings { cell: "sama".parse().unwrap(), duplicate_window: Duration::from_secs(1), ..settings() };
    let stage = Stage::on(server, client, stream, 1 << 20).await;
    let long_ago = ago(&stage.stamps, Duration::from_secs(5));
    let old = event(IdGenerator::new([9; 3], 0).next(long_ago).into(), stage.conversation(), 1);
    stage.publisher.publish(old.clone()).await.unwrap();
    // It is looked for, found among others and not sent again.
    stage.publisher.publish(old).await.unwrap();
    let log = stage.server.log().unwrap();
    let violations: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(violations.is_empty(), "the permissions in the README are too few: {violations:#?}");
}
