//! The generator against a server with faults that are known: it has to find these, all of them, and nothing else.
//!
//! A small server that speaks just enough of the protocol keeps its promises; a proxy before it breaks them, and writes
//! down which.

mod proxy;
mod server;

use std::collections::BTreeSet;

use clap::Parser;
use load::Arguments;
use load::chat::ChatReport;
use load::ledger::{Broken, Finding};
use load::report::Report;
use tokio::runtime::Runtime;

use crate::proxy::{Fault, Faults, Planted, Proxy};

/// Four groups of four, each with one thing that goes wrong at one of its sockets.
const FAULTS: [(usize, Fault); 4] =
    [(1, Fault::Drop), (6, Fault::Double), (11, Fault::Swap), (12, Fault::DoubleAcknowledgement)];

fn chat(faults: Faults, options: &[&str]) -> (ChatReport, Vec<Planted>) {
    let runtime = Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(async {
        let server = server::start().await;
        Proxy::start(server, faults).await
    });
    let url = format!("ws://{}", proxy.address);
    let fixed = ["load", &url, "chat", "--users", "16", "--seconds", "1", "--warm-up", "0.1"];
    let report = Arguments::parse_from(fixed.iter().chain(options)).run().expect("the server is there");
    let Report::Chat(report) = report else { panic!("a chat's report") };
    (report, proxy.planted())
}

/// What the generator has to say about what the proxy did.
fn findings(planted: &[Planted]) -> BTreeSet<Finding> {
    let mut findings = BTreeSet::new();
    for &planted in planted {
        match planted {
            Planted::Dropped { socket, message } => {
                findings.insert(Finding::Lost { socket, message });
            }
            Planted::Doubled { socket, message } => {
                findings.insert(Finding::Doubled { socket, message });
            }
            Planted::Swapped { socket, first, second } => {
                if first.from == second.from {
                    findings.insert(Finding::SenderOrder { socket, message: first, after: second });
                }
                // There is always another socket that gets both: at most two of the four sent them.
                findings.insert(Finding::Disputed { one: first.min(second), other: first.max(second) });
            }
            Planted::DoubledAcknowledgement { message } => {
                findings.insert(Finding::AcknowledgedWrongly { message });
            }
        }
    }
    findings
}

#[test]
fn a_server_that_keeps_its_promises_gets_a_clean_report() {
    for options in [&[][..], &["--window", "8"], &["--rate", "2000"], &["--sockets-per-user", "2"]] {
        let (report, planted) = chat(Faults::none(), options);
        assert_eq!(planted, []);
        assert!(report.is_clean(), "{report}");
        assert!(report.verdict.acknowledged > 100, "{report}");
        assert_eq!(report.verdict.deliveries, report.verdict.deliveries_expected, "{report}");
        assert_eq!(report.verdict.unanswered, 0, "{report}");
    }
}

#[test]
fn planted_faults_are_found_and_nothing_else() {
    for options in [&["--patience", "1"][..], &["--patience", "1", "--window", "8"]] {
        let (report, planted) = chat(Faults::at(&FAULTS), options);
        assert_eq!(planted.len(), FAULTS.len() * proxy::TIMES.len(), "each fault each time: {planted:?}");
        let found: BTreeSet<_> = report.verdict.findings.iter().copied().collect();
        assert_eq!(found, findings(&planted), "{report}");
        assert_eq!(found.len(), report.verdict.findings.len(), "each of them once");

        let Broken { lost, doubled, sender_order: _, disputed, misdelivered, never_sent, acknowledged_wrongly } =
            report.verdict.broken;
        let times = proxy::TIMES.len() as u64;
        assert_eq!([lost, doubled, disputed, acknowledged_wrongly], [times; 4], "{report}");
        assert_eq!([misdelivered, never_sent], [0; 2], "{report}");

        let kept = serde_json::to_string(&Report::Chat(report.clone())).unwrap();
        let Report::Chat(read) = serde_json::from_str(&kept).unwrap() else { panic!("a chat's report: {kept}") };
        assert_eq!(read.verdict, report.verdict);
    }
}

#[test]
fn a_lost_acknowledgement_is_a_message_without_an_answer() {
    let (report, _) = chat(Faults::at(&[(5, Fault::DropAcknowledgement)]), &["--patience", "1"]);
    assert_eq!(report.verdict.unanswered, 1, "{report}");
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_socket_that_is_cut_is_told_and_loses_nothing() {
    let (report, _) = chat(Faults::at(&[(5, Fault::Cut)]), &[]);
    assert_eq!(report.endings.values().sum::<u64>(), 1, "{report}");
    assert!(report.verdict.is_clean(), "{report}");
    assert!(!report.is_clean(), "{report}");
}
