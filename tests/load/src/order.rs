//! Whether the sockets of a conversation agree on the order of its messages.
//!
//! No socket sees all: a sender does not get its own messages. So sockets are compared in pairs, on the messages that
//! both got: these must have come in the same order at both. With consistent orders, what becomes common to a pair later
//! lies later at both; so the latest common message is all that has to be remembered of a pair, and of a message only
//! where it came at which socket, until all have it. Losses and doubles (which are the ledger's) disturb nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::ledger::MessageName;

/// Messages remembered while somebody lacks them. What comes later than that many others is not compared any more.
const REMEMBERED: usize = 4_096;
/// Pairs in dispute remembered, so that each counts once.
const DISPUTES: usize = 10_000;

/// Where the messages of one conversation came.
#[derive(Debug)]
pub(crate) struct OrderBook {
    sockets: usize,
    /// How many messages each socket got.
    received: Vec<u64>,
    sightings: HashMap<MessageName, Sighting>,
    /// The keys of `sightings`, oldest first, some of them gone already.
    oldest: VecDeque<MessageName>,
    /// For each pair (one, other), at `one * sockets + other`: of the messages both have, the last one at the other.
    common: Vec<Option<(u64, MessageName)>>,
    disputes: BTreeSet<(MessageName, MessageName)>,
}

/// The places at which the sockets got a message, from 1; 0 where they did not.
#[derive(Debug)]
struct Sighting {
    places: Box<[u64]>,
    missing: usize,
}

impl OrderBook {
    pub(crate) fn new(sockets: usize) -> Self {
        Self {
            sockets,
            received: vec![0; sockets],
            sightings: HashMap::new(),
            oldest: VecDeque::new(),
            common: vec![None; sockets * sockets],
            disputes: BTreeSet::new(),
        }
    }

    /// A socket got a message, for the first time. Returns the message it is in dispute with, if that is news.
    pub(crate) fn saw(&mut self, socket: usize, message: MessageName) -> Option<(MessageName, MessageName)> {
        self.received[socket] += 1;
        let place = self.received[socket];
        let expected = self.sockets - 1;
        let sighting = self.sightings.entry(message).or_insert_with(|| {
            self.oldest.push_back(message);
            Sighting { places: vec![0; expected + 1].into(), missing: expected }
        });
        let mut disputed = None;
        for (other, &there) in sighting.places.iter().enumerate().filter(|&(_, &there)| there != 0) {
            match &mut self.common[socket * self.sockets + other] {
                Some((newest, with)) if there < *newest => disputed = Some((message.min(*with), message.max(*with))),
                newest => *newest = Some((there, message)),
            }
            self.common[other * self.sockets + socket] = Some((place, message));
        }
        sighting.places[socket] = place;
        sighting.missing -= 1;
        if sighting.missing == 0 {
            self.sightings.remove(&message);
        }
        self.forget_oldest();
        disputed.filter(|&pair| self.disputes.len() >= DISPUTES || self.disputes.insert(pair))
    }

    fn forget_oldest(&mut self) {
        while let Some(message) = self.oldest.front() {
            let is_gone = !self.sightings.contains_key(message);
            if !is_gone && self.oldest.len() <= REMEMBERED {
                return;
            }
            self.sightings.remove(message);
            self.oldest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everybody's view of a conversation, in the order in which it was seen: (socket, sender, number).
    fn disputes(sockets: usize, seen: &[(usize, usize, u64)]) -> Vec<(MessageName, MessageName)> {
        let mut book = OrderBook::new(sockets);
        seen.iter().filter_map(|&(socket, from, number)| book.saw(socket, MessageName { from, number })).collect()
    }

    const A: MessageName = MessageName { from: 0, number: 0 };
    const B: MessageName = MessageName { from: 1, number: 0 };

    #[test]
    fn one_order_is_no_dispute_however_late_some_are() {
        assert_eq!(disputes(4, &[(2, 0, 0), (2, 1, 0), (3, 0, 0), (1, 0, 0), (3, 1, 0), (0, 1, 0)]), []);
    }

    #[test]
    fn a_sender_who_lacks_its_own_message_disputes_nothing() {
        // Socket 0 got B before anybody got A, its own, which comes before B.
        assert_eq!(disputes(4, &[(0, 1, 0), (2, 0, 0), (2, 1, 0), (3, 0, 0), (3, 1, 0), (1, 0, 0)]), []);
    }

    #[test]
    fn two_orders_are_one_dispute_whoever_was_first() {
        let right = [(2, 0, 0), (2, 1, 0)];
        let wrong = [(3, 1, 0), (3, 0, 0)];
        let right_too = [(4, 0, 0), (4, 1, 0)];
        for seen in [[right, wrong, right_too], [wrong, right, right_too], [right, right_too, wrong]] {
            assert_eq!(disputes(5, &seen.concat()), [(A, B)]);
        }
        let interleaved = [(2, 0, 0), (3, 1, 0), (2, 1, 0), (3, 0, 0), (4, 0, 0), (4, 1, 0)];
        assert_eq!(disputes(5, &interleaved), [(A, B)]);
    }

    #[test]
    fn what_one_socket_lacks_is_no_dispute() {
        assert_eq!(disputes(3, &[(2, 0, 0), (2, 0, 1), (1, 0, 1), (2, 0, 2), (1, 0, 2)]), []);
    }

    #[test]
    fn memory_is_bounded_when_a_socket_gets_nothing() {
        let mut book = OrderBook::new(3);
        for number in 0..3 * REMEMBERED as u64 {
            book.saw(1, MessageName { from: 0, number });
        }
        assert!(book.sightings.len() <= REMEMBERED && book.oldest.len() <= REMEMBERED);
    }
}
