//! The generator against the real server, which has to come out clean.

use clap::Parser;
use e2e::{StackHandle, TestStack};
use load::Arguments;
use load::report::Report;

/// Runs the generator where it may block.
async fn run(stack: &StackHandle, mode: &[&str]) -> Report {
    let (server, pid) = (format!("ws://{}", stack.gateway()), stack.pid().as_raw_pid().to_string());
    let arguments = Arguments::parse_from(["load", &server, "--pid", &pid].iter().chain(mode));
    let run = tokio::task::spawn_blocking(|| arguments.run());
    run.await.expect("the generator does not panic").expect("the generator can do its work")
}

#[tokio::test]
async fn talking_groups_get_everything_once_and_in_order() {
    let stack = TestStack::builder().start().await;
    let options = ["--users", "8", "--sockets-per-user", "2", "--seconds", "1", "--warm-up", "0.2"];
    for pace in [&["--window", "4"], &["--rate", "300"]] {
        let report = run(&stack, &[&["chat"][..], &options, pace].concat()).await;
        let Report::Chat(chat) = &report else { panic!("a chat's report") };
        assert!(report.is_clean(), "{report}");
        assert!(chat.measured_messages > 0 && chat.acknowledgement.count > 0 && chat.delivery.count > 0, "{report}");
        assert_eq!((chat.verdict.refused, chat.verdict.unanswered), (0, 0), "{report}");
        assert!(chat.server.is_some(), "{report}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_the_others_get_everything() {
    let stack = TestStack::builder().start().await;
    let options = ["--users", "4", "--body-bytes", "60000", "--seconds", "3", "--warm-up", "0.2", "--window", "8"];
    let report = run(&stack, &[&["stall"][..], &options].concat()).await;
    let Report::Stall(stall) = &report else { panic!("a report of a stall") };
    assert_eq!(stall.stalled.iter().collect::<Vec<_>>(), [(&"4008".to_owned(), &1)], "{report}");
    assert!(report.is_clean(), "{report}");
}
