//! Bad histories, each spoiled in one way, must be found out.

use super::*;

fn seen(from: &str, body: &str) -> Seen {
    Seen { body: body.to_owned(), from: from.to_owned(), id: format!("id of {body}") }
}

/// Two users, a socket each, and three messages that went as they should. Each test spoils one thing.
struct Story {
    log: HistoryLog,
    ann: SocketNumber,
    bob: SocketNumber,
}

impl Story {
    fn new() -> Self {
        let log = HistoryLog::default();
        let (ann, bob) = (log.bound("ann's", "ann"), log.bound("bob's", "bob"));
        for (socket, body) in [(ann, "a1"), (ann, "a2"), (bob, "b1")] {
            log.sent(socket, body);
            log.acknowledged(body, &format!("id of {body}"));
        }
        Self { log, ann, bob }
    }

    fn delivered(self, to_ann: &[&str], to_bob: &[&str]) -> Self {
        for (socket, bodies) in [(self.ann, to_ann), (self.bob, to_bob)] {
            for body in bodies {
                self.log.delivered(socket, seen(sender(body), body));
            }
            self.log.stayed(socket);
        }
        self
    }

    fn listed(self, bodies: &[&str]) -> Self {
        self.log.page("bob", bodies.iter().map(|body| seen(sender(body), body)).collect());
        self
    }

    fn kinds(&self) -> Vec<Kind> {
        self.log.check_one_instance().into_iter().map(|violation| violation.kind).collect()
    }
}

fn sender(body: &str) -> &'static str {
    if body.starts_with('a') { "ann" } else { "bob" }
}

#[test]
fn a_good_history_passes() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]).listed(&["a1", "a2", "b1"]);
    assert_eq!(story.log.check_one_instance(), []);
}

#[test]
fn an_acknowledged_message_missing_in_history_is_lost() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]).listed(&["a1", "b1"]);
    assert_eq!(story.kinds(), [Kind::Lost]);
}

#[test]
fn a_message_that_a_socket_missed_is_lost() {
    let story = Story::new().delivered(&["b1"], &["a1"]).listed(&["a1", "a2", "b1"]);
    assert_eq!(story.kinds(), [Kind::Lost]);
}

#[test]
fn a_hole_before_a_socket_died_is_a_loss_and_what_follows_its_death_is_none() {
    let Story { log, bob, .. } = Story::new();
    log.delivered(bob, seen("ann", "a2"));
    log.page("bob", ["a1", "a2", "b1"].map(|body| seen(sender(body), body)).to_vec());
    let details: Vec<_> = log.check().into_iter().map(|violation| violation.detail).collect();
    assert_eq!(details, [r#"socket 1 of bob's never got "a1""#]);
}

#[test]
fn what_was_sent_before_the_login_is_not_missed() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    let late = story.log.bound("late", "bob");
    story.log.stayed(late);
    assert_eq!(story.listed(&["a1", "a2", "b1"]).kinds(), []);
}

#[test]
fn a_double_in_history_is_found() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]).listed(&["a1", "a2", "b1", "b1"]);
    assert_eq!(story.kinds(), [Kind::Doubled]);
}

#[test]
fn a_double_on_a_socket_is_found() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2", "a2"]).listed(&["a1", "a2", "b1"]);
    assert_eq!(story.kinds(), [Kind::Doubled]);
}

#[test]
fn a_double_on_the_next_socket_of_a_client_is_found() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    let next = story.log.bound("bob's", "bob");
    story.log.delivered(next, seen("ann", "a2"));
    assert_eq!(story.listed(&["a1", "a2", "b1"]).kinds(), [Kind::Doubled]);
}

#[test]
fn an_event_to_the_socket_that_sent_is_a_double() {
    let story = Story::new().delivered(&["b1", "a1"], &["a1", "a2"]).listed(&["a1", "a2", "b1"]);
    assert!(story.kinds().contains(&Kind::Doubled));
}

#[test]
fn two_ids_for_one_message_are_a_double() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    story.log.acknowledged("a1", "another id");
    assert_eq!(story.listed(&["a1", "a2", "b1"]).kinds(), [Kind::Doubled]);
}

#[test]
fn a_swap_of_one_senders_messages_is_found() {
    let story = Story::new().delivered(&["b1"], &["a2", "a1"]).listed(&["a2", "a1", "b1"]);
    assert_eq!(story.kinds(), [Kind::Order, Kind::Order]);
}

#[test]
fn two_sockets_that_disagree_are_found() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    for (client, bodies) in [("carl's", ["a1", "b1"]), ("dora's", ["b1", "a1"])] {
        let socket = story.log.bound(client, client);
        for body in bodies {
            story.log.delivered(socket, seen(sender(body), body));
        }
    }
    assert!(story.log.check().iter().any(|violation| violation.kind == Kind::Order));
}

#[test]
fn a_live_order_other_than_the_historys_is_found() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    let carl = story.log.bound("carl's", "carl");
    for body in ["b1", "a2"] {
        story.log.delivered(carl, seen(sender(body), body));
    }
    let story = story.listed(&["a1", "a2", "b1"]);
    assert!(story.log.check().iter().all(|violation| violation.kind != Kind::Order));
    assert!(story.kinds().contains(&Kind::Order));
}

#[test]
fn a_message_that_nobody_sent_is_a_phantom() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2", "a9"]).listed(&["a1", "a2", "b1"]);
    assert_eq!(story.kinds(), [Kind::Phantom]);
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]).listed(&["a1", "a2", "b1", "b9"]);
    assert_eq!(story.kinds(), [Kind::Phantom]);
}

#[test]
fn a_message_under_another_name_is_a_phantom() {
    let story = Story::new().delivered(&["b1"], &["a1", "a2"]);
    story.log.page("ann", vec![seen("bob", "a1"), seen("ann", "a2"), seen("bob", "b1")]);
    assert!(story.kinds().contains(&Kind::Phantom));
}

#[test]
fn a_message_that_was_refused_first_has_no_place_among_its_clients_others() {
    let spoiled = |is_refused: bool| {
        let story = Story::new();
        if is_refused {
            story.log.refused("a1");
        }
        let story = story.delivered(&["b1"], &["a2", "a1"]).listed(&["a2", "a1", "b1"]);
        story.kinds()
    };
    assert_eq!(spoiled(true), []);
    assert!(spoiled(false).contains(&Kind::Order));
}

#[test]
fn what_a_socket_missed_that_was_warned_is_no_loss() {
    let log = HistoryLog::default();
    let (ann, bob) = (log.bound("ann's", "ann"), log.bound("bob's", "bob"));
    for body in ["a1", "a2", "a3"] {
        log.sent(ann, body);
        log.acknowledged(body, &format!("id of {body}"));
    }
    log.delivered(bob, seen("ann", "a1"));
    log.delivered(bob, seen("ann", "a3"));
    log.page("bob", ["a1", "a2", "a3"].map(|body| seen("ann", body)).into());
    assert_eq!(log.check().len(), 1);
    log.warned(bob);
    assert_eq!((log.check(), log.warnings()), (vec![], 1));
}

#[test]
fn undelivered_is_what_is_acknowledged_and_has_not_come_to_everybody_else() {
    let story = Story::new();
    let moment = story.log.moment();
    story.log.sent(story.ann, "a3");
    story.log.acknowledged("a3", "id of a3");
    assert_eq!(story.log.undelivered(moment), 3);
    assert_eq!(story.log.undelivered(story.log.moment()), 4);
    let story = story.delivered(&[], &["a1", "a2"]);
    assert_eq!(story.log.undelivered(moment), 1);
}
