//! Messages of one connection that were sent and neither accepted nor refused: what a resend is told by.
//!
//! A client repeats such a message under its own id. It then goes to the core under its first attempt, for which the core
//! stores one message at most. Once a message was accepted, the same id on the same connection is another message.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use prost::Message;
use proto::ids::UserId;
use proto::v1::SendMessageRequest;

/// Most messages remembered; beyond them the oldest is forgotten.
const MAX_REMEMBERED: usize = 100;

/// Keyed anew in every process, so that nobody can make two contents that count as one.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Stands for a message's whole content and its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Content(u64);

/// The messages whose fate is open, oldest first.
#[derive(Default)]
pub(super) struct Unanswered {
    attempts: VecDeque<(Content, u64)>,
}

impl Unanswered {
    /// What a message consists of, whoever calls and under whichever attempt.
    pub(super) fn content_of(&self, sender: UserId, request: &SendMessageRequest) -> Content {
        debug_assert!(request.caller.is_none(), "the attempt is no part of the content");
        Content(HASHER.hash_one((sender, request.encode_to_vec())))
    }

    /// The frame in which this message came first, if its fate is open.
    pub(super) fn first_frame(&self, content: Content) -> Option<u64> {
        self.attempts.iter().find(|(known, _)| *known == content).map(|(_, frame)| *frame)
    }

    /// The message that came first in this frame got no answer, or one that leaves its fate open.
    pub(super) fn remember(&mut self, content: Content, frame: u64) {
        if self.first_frame(content).is_some() {
            return;
        }
        if self.attempts.len() == MAX_REMEMBERED {
            self.attempts.pop_front();
        }
        self.attempts.push_back((content, frame));
    }

    /// The message was accepted or refused.
    pub(super) fn forget(&mut self, content: Content) {
        self.attempts.retain(|(known, _)| *known != content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(unanswered: &Unanswered, client_id: usize, body: &str) -> Content {
        let client_id = Some(client_id.to_string());
        let request = SendMessageRequest { client_id, body: Some(body.to_owned()), ..Default::default() };
        unanswered.content_of(UserId::from_bytes([1; 12]), &request)
    }

    #[test]
    fn a_message_keeps_its_first_frame_until_its_fate_is_known() {
        let mut unanswered = Unanswered::default();
        let message = content(&unanswered, 1, "hi");
        unanswered.remember(message, 7);
        unanswered.remember(message, 9);
        assert_eq!(unanswered.first_frame(message), Some(7));
        assert_eq!(unanswered.first_frame(content(&unanswered, 1, "hello")), None);
        unanswered.forget(message);
        assert_eq!(unanswered.first_frame(message), None);
    }

    #[test]
    fn the_oldest_of_more_than_a_hundred_is_forgotten() {
        let mut unanswered = Unanswered::default();
        for number in 0..=MAX_REMEMBERED {
            let message = content(&unanswered, number, "hi");
            unanswered.remember(message, number as u64);
        }
        assert_eq!(unanswered.first_frame(content(&unanswered, 0, "hi")), None);
        assert_eq!(unanswered.first_frame(content(&unanswered, 1, "hi")), Some(1));
        assert_eq!(unanswered.attempts.len(), MAX_REMEMBERED);
    }
}
