use proptest::prelude::*;

use super::*;

fn id(number: u64) -> EventId {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    EventId::from_bytes(bytes)
}

/// Event `n` is at sequence `n`.
fn at(sequence: u64) -> Position {
    Position::of_event(sequence, Some(id(sequence)))
}

fn arrival(consumer_sequence: u64, sequence: u64) -> Arrival {
    Arrival { sequence, consumer_sequence, event_id: Some(id(sequence)) }
}

/// Reading above 10 with a consumer that has shown event 10.
fn reading() -> Progress {
    let mut progress = Progress::above(at(10));
    assert_eq!(progress.begin(1, 10), Ok(10));
    assert_eq!(progress.hear_message(arrival(1, 10)), Verdict::Pass);
    progress
}

#[test]
fn events_that_follow_one_another_are_given_out() {
    let mut progress = reading();
    assert_eq!(progress.hear_message(arrival(2, 11)), Verdict::Deliver);
    assert_eq!(progress.hear_message(arrival(3, 12)), Verdict::Deliver);
    assert_eq!(progress.position(), at(12));
    assert_eq!(progress.hear_heartbeat(3), Verdict::Pass);
}

#[test]
fn an_empty_stream_is_read_from_its_first_event_and_one_whose_events_expired_from_the_next() {
    for number in [0, 7] {
        let mut progress = Progress::above(Position::new(number));
        assert_eq!(progress.begin(number + 1, number), Ok(number + 1));
        assert_eq!(progress.hear_heartbeat(0), Verdict::Pass);
        assert_eq!(progress.hear_message(arrival(1, number + 1)), Verdict::Deliver);
    }
}

#[test]
fn a_remembered_event_that_expired_alone_is_not_missed() {
    let mut progress = Progress::above(at(10));
    assert_eq!(progress.begin(11, 12), Ok(11));
    assert_eq!(progress.hear_message(arrival(1, 11)), Verdict::Deliver);
}

#[test]
fn a_stream_that_is_shorter_or_has_lost_the_next_event_is_lost_history() {
    assert_eq!(Progress::above(at(10)).begin(1, 9), Err(Loss::Shorter));
    assert_eq!(Progress::above(at(10)).begin(12, 20), Err(Loss::Expired));
    assert_eq!(Progress::above(Position::new(10)).begin(12, 11), Err(Loss::Expired));
}

#[test]
fn another_event_at_the_position_is_lost_history() {
    for event_id in [Some(id(99)), None] {
        let mut progress = Progress::above(at(10));
        progress.begin(1, 20).unwrap();
        let first = Arrival { event_id, ..arrival(1, 10) };
        assert_eq!(progress.hear_message(first), Verdict::Lost(Loss::Rewritten));
    }
    // Put back after the look at it, and shorter than the position: the server begins at what comes next there.
    let mut progress = Progress::above(at(10));
    progress.begin(1, 10).unwrap();
    assert_eq!(progress.hear_message(arrival(1, 8)), Verdict::Lost(Loss::Shorter));
}

#[test]
fn a_message_that_was_lost_on_its_way_needs_a_new_consumer() {
    let mut progress = reading();
    progress.hear_message(arrival(2, 11));
    assert_eq!(progress.hear_message(arrival(4, 13)), Verdict::Renew(Renewal::Gap));
    assert_eq!(progress.begin(1, 13), Ok(11));
    assert_eq!(progress.hear_message(arrival(1, 11)), Verdict::Pass);
    assert_eq!(progress.hear_message(arrival(2, 12)), Verdict::Deliver);
}

#[test]
fn a_hole_in_the_stream_is_looked_at_twice_and_then_is_lost_history() {
    let mut progress = reading();
    progress.hear_message(arrival(2, 11));
    assert_eq!(progress.hear_message(arrival(3, 13)), Verdict::Renew(Renewal::Gap));
    progress.begin(1, 13).unwrap();
    progress.hear_message(arrival(1, 11));
    assert_eq!(progress.hear_message(arrival(2, 13)), Verdict::Lost(Loss::Hole));
}

#[test]
fn a_heartbeat_that_counts_otherwise_needs_a_new_consumer() {
    let mut progress = reading();
    assert_eq!(progress.hear_heartbeat(2), Verdict::Renew(Renewal::Disagreement));
    let mut expecting = Progress::above(at(10));
    expecting.begin(1, 10).unwrap();
    assert_eq!(expecting.hear_heartbeat(0), Verdict::Renew(Renewal::Disagreement));
}

#[test]
fn two_new_consumers_that_bring_nothing_put_the_connection_in_doubt() {
    let mut progress = reading();
    assert!(!progress.give_up(), "the old one");
    assert!(!progress.give_up(), "the first new one");
    assert!(progress.give_up(), "the second new one");
    assert!(!progress.give_up(), "after the connection was made anew");
    progress.begin(1, 10).unwrap();
    progress.hear_message(arrival(1, 10));
    assert!(!progress.give_up() && !progress.give_up(), "something was heard in between");
}

#[test]
fn an_event_that_the_stream_holds_twice_is_given_out_once() {
    let mut progress = reading();
    let of = |event, consumer_sequence, sequence| Arrival {
        event_id: Some(id(event)),
        ..arrival(consumer_sequence, sequence)
    };
    assert_eq!(progress.hear_message(of(11, 2, 11)), Verdict::Deliver);
    assert_eq!(progress.hear_message(of(11, 3, 12)), Verdict::Pass);
    assert_eq!(progress.position(), Position::of_event(12, Some(id(11))));
    assert_eq!(progress.hear_message(of(10, 4, 13)), Verdict::Pass, "the event at the start counts too");
}

#[test]
fn only_the_newest_ids_are_remembered() {
    let mut recent = RecentIds::default();
    assert!((0..=REMEMBERED_IDS as u64).all(|number| recent.insert(id(number))));
    assert!(!recent.insert(id(1)));
    assert!(recent.insert(id(0)), "the oldest was forgotten");
    assert_eq!((recent.order.len(), recent.known.len()), (REMEMBERED_IDS, REMEMBERED_IDS));
}

/// What happens to the messages of a consumer on their way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    IsLost,
    ConsumerBreaks,
}

proptest! {
    #[test]
    fn whatever_is_lost_on_the_way_every_event_is_given_out_once_in_order(
        fates in prop::collection::vec(
            prop_oneof![8 => Just(Fate::Arrives), 1 => Just(Fate::IsLost), 1 => Just(Fate::ConsumerBreaks)],
            0..200,
        )
    ) {
        let mut progress = Progress::above(at(10));
        let (first, last) = (1, 40);
        let mut given_out = Vec::new();
        let mut next = progress.begin(first, last).unwrap();
        let mut sent = 0;
        for fate in fates {
            let verdict = match fate {
                Fate::ConsumerBreaks => Verdict::Renew(Renewal::Silence),
                Fate::Arrives | Fate::IsLost if next > last => progress.hear_heartbeat(sent),
                Fate::Arrives | Fate::IsLost => {
                    sent += 1;
                    next += 1;
                    let arrives = matches!(fate, Fate::Arrives);
                    if arrives { progress.hear_message(arrival(sent, next - 1)) } else { Verdict::Pass }
                }
            };
            match verdict {
                Verdict::Pass => {}
                Verdict::Deliver => given_out.push(progress.position().number()),
                Verdict::Renew(_) => {
                    next = progress.begin(first, last).unwrap();
                    sent = 0;
                }
                Verdict::Lost(loss) => panic!("{loss}"),
            }
        }
        let expected: Vec<u64> = (11..).take(given_out.len()).collect();
        prop_assert_eq!(given_out, expected);
    }
}
