//! What the ledger finds, and what it does not.

use super::*;

fn name(from: usize, number: u64) -> MessageName {
    MessageName { from, number }
}

/// Two conversations: sockets 0 to 2, and 3 and 4. Socket 0 has sent three messages, which are acknowledged.
fn ledger() -> Ledger {
    let ledger = Ledger::new(&[3, 2]);
    for number in 0..3 {
        assert_eq!(ledger.sending(0), number);
        ledger.acknowledged(name(0, number));
    }
    ledger
}

fn deliver(ledger: &Ledger, socket: usize, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        ledger.delivered(socket, name(0, number));
    }
}

#[test]
fn all_delivered_once_in_order_is_clean() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    assert!(!ledger.is_settled());
    deliver(&ledger, 2, 0..3);
    assert!(ledger.is_settled());
    let verdict = ledger.verdict();
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.acknowledged, verdict.unanswered), (3, 3, 0));
    assert_eq!((verdict.deliveries_expected, verdict.deliveries), (6, 6));
}

#[test]
fn what_never_comes_is_lost() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    deliver(&ledger, 2, [0, 2]);
    assert!(!ledger.is_settled());
    let verdict = ledger.verdict();
    assert_eq!(verdict.findings, [Finding::Lost { socket: 2, message: name(0, 1) }]);
    assert_eq!(verdict.broken, Broken { lost: 1, ..Broken::default() });
}

#[test]
fn what_comes_again_is_doubled() {
    let ledger = ledger();
    deliver(&ledger, 1, [0, 0, 1, 2]);
    deliver(&ledger, 2, 0..3);
    assert_eq!(ledger.verdict().findings, [Finding::Doubled { socket: 1, message: name(0, 0) }]);
}

#[test]
fn what_comes_after_a_later_one_is_out_of_order() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    deliver(&ledger, 2, [0, 2, 1]);
    let late = Finding::SenderOrder { socket: 2, message: name(0, 1), after: name(0, 2) };
    let disputed = Finding::Disputed { one: name(0, 1), other: name(0, 2) };
    assert_eq!(ledger.verdict().findings, [late, disputed]);
}

#[test]
fn a_message_of_another_conversation_or_ones_own_is_misdelivered() {
    let ledger = ledger();
    deliver(&ledger, 0, [0]);
    deliver(&ledger, 3, [1]);
    let misdelivered = |socket, number| Finding::Misdelivered { socket, message: name(0, number) };
    assert_eq!(ledger.verdict().findings[6..], [misdelivered(0, 0), misdelivered(3, 1)]);
}

#[test]
fn a_message_that_nobody_sent_is_told() {
    let ledger = ledger();
    deliver(&ledger, 1, [0, 1, 2, 3]);
    deliver(&ledger, 2, 0..3);
    ledger.delivered(3, name(99, 0));
    let never_sent = |socket, message| Finding::NeverSent { socket, message };
    assert_eq!(ledger.verdict().findings, [never_sent(1, name(0, 3)), never_sent(3, name(99, 0))]);
}

#[test]
fn an_answer_too_many_is_told() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    deliver(&ledger, 2, 0..3);
    ledger.acknowledged(name(0, 1));
    ledger.refused(name(0, 2));
    ledger.acknowledged(name(1, 0));
    assert_eq!(ledger.verdict().broken, Broken { acknowledged_wrongly: 3, ..Broken::default() });
}

#[test]
fn what_was_not_acknowledged_may_come_or_not() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    deliver(&ledger, 2, 0..3);
    ledger.sending(0);
    ledger.sending(0);
    deliver(&ledger, 1, [3]);
    ledger.refused(name(0, 4));
    assert!(!ledger.is_settled());
    let verdict = ledger.verdict();
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.refused, verdict.unanswered), (1, 1));
}

#[test]
fn nothing_is_expected_at_a_closed_socket() {
    let ledger = ledger();
    deliver(&ledger, 1, 0..3);
    deliver(&ledger, 2, 0..1);
    ledger.closed(2);
    assert!(ledger.is_settled());
    let verdict = ledger.verdict();
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.deliveries_expected, verdict.deliveries), (3, 4));
}

#[test]
fn losses_are_counted_beyond_those_that_are_kept() {
    let ledger = Ledger::new(&[2]);
    for number in 0..1_000 {
        ledger.sending(0);
        ledger.acknowledged(name(0, number));
    }
    let verdict = ledger.verdict();
    assert_eq!((verdict.broken.lost, verdict.findings.len()), (1_000, FINDINGS_KEPT));
}
