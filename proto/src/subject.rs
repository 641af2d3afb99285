//! Every NATS subject, built and read in one place.
//!
//! Events lie in one stream per cell, under `<cell>.conversation.<id>` and `<cell>.user.<id>`. Notices go under
//! `<cell>.notice.<id>` of a conversation or a user; no stream keeps them.

use std::fmt;
use std::str::FromStr;

use crate::ids::{ConversationId, UserId};

/// The longest name of a cell, in bytes.
const MAX_CELL_BYTES: usize = 64;

/// A set of organizations that shares one stream and its gateways: the first part of all their subjects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cell(String);

/// Why a text names no cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cell's name is 1 to {MAX_CELL_BYTES} letters, digits, - and _")]
pub struct InvalidCell;

/// What an event or a notice is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum About {
    /// A conversation.
    Conversation(ConversationId),
    /// A user.
    User(UserId),
}

impl Cell {
    /// The stream that keeps the cell's events.
    pub fn stream(&self) -> String {
        format!("{self}_events")
    }

    /// The subjects of all the cell's events: what its stream keeps.
    pub fn all_events(&self) -> [String; 2] {
        [format!("{self}.conversation.*"), format!("{self}.user.*")]
    }

    /// The subject of events about this.
    pub fn event(&self, about: About) -> String {
        match about {
            About::Conversation(id) => format!("{self}.conversation.{id}"),
            About::User(id) => format!("{self}.user.{id}"),
        }
    }

    /// What an event is about, by its subject; `None` for a subject that no event of this cell has.
    pub fn parse_event(&self, subject: &str) -> Option<About> {
        let (kind, id) = subject.strip_prefix(&self.0)?.strip_prefix('.')?.split_once('.')?;
        let about = match kind {
            "conversation" => About::Conversation(ConversationId::parse(id).ok()?),
            "user" => About::User(UserId::parse(id).ok()?),
            _ => return None,
        };
        // Ids are read in either case, but written in one.
        (self.event(about) == subject).then_some(about)
    }

    /// The subjects of all the cell's notices.
    pub fn all_notices(&self) -> String {
        format!("{self}.notice.*")
    }

    /// The subject of notices about this.
    pub fn notice(&self, about: About) -> String {
        match about {
            About::Conversation(id) => format!("{self}.notice.{id}"),
            About::User(id) => format!("{self}.notice.{id}"),
        }
    }
}

impl FromStr for Cell {
    type Err = InvalidCell;

    fn from_str(text: &str) -> Result<Self, InvalidCell> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > MAX_CELL_BYTES || !text.bytes().all(is_allowed) {
            return Err(InvalidCell);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell() -> Cell {
        "sama".parse().unwrap()
    }

    #[test]
    fn subjects_are_what_the_design_says() {
        let conversation = About::Conversation(ConversationId::from_bytes([0xab; 12]));
        let user = About::User(UserId::from_bytes([1; 12]));
        assert_eq!(cell().event(conversation), "sama.conversation.abababababababababababab");
        assert_eq!(cell().event(user), "sama.user.010101010101010101010101");
        assert_eq!(cell().notice(conversation), "sama.notice.abababababababababababab");
        assert_eq!(cell().notice(user), "sama.notice.010101010101010101010101");
        assert_eq!(cell().stream(), "sama_events");
        assert_eq!(cell().all_events(), ["sama.conversation.*", "sama.user.*"]);
        assert_eq!(cell().all_notices(), "sama.notice.*");
    }

    #[test]
    fn a_cell_is_one_word_of_letters_digits_and_dashes() {
        for name in ["sama", "eu-1", "A_b", "7", &"x".repeat(64)] {
            assert_eq!(name.parse::<Cell>().unwrap().to_string(), name);
        }
        for name in ["", "a.b", "*", ">", "a b", "zürich", "a\r\n", &"x".repeat(65)] {
            assert_eq!(name.parse::<Cell>(), Err(InvalidCell), "{name:?}");
        }
    }

    #[test]
    fn other_subjects_are_no_events() {
        let id = "abababababababababababab";
        for subject in [
            String::new(),
            format!("sama.notice.{id}"),
            format!("sama.conversation.{id}.x"),
            format!("sama.conversation.{}", id.to_uppercase()),
            format!("sama2.conversation.{id}"),
            format!("sam.conversation.{id}"),
            format!("conversation.{id}"),
            "sama.conversation.*".to_owned(),
            "sama.user.".to_owned(),
        ] {
            assert_eq!(cell().parse_event(&subject), None, "{subject:?}");
        }
    }

    proptest! {
        #[test]
        fn an_event_reads_what_it_wrote(bytes: [u8; 12], name in "[a-zA-Z0-9_-]{1,64}") {
            let cell: Cell = name.parse().unwrap();
            for about in [About::User(UserId::from_bytes(bytes)), About::Conversation(ConversationId::from_bytes(bytes))] {
                prop_assert_eq!(cell.parse_event(&cell.event(about)), Some(about));
                prop_assert_eq!(cell.parse_event(&cell.notice(about)), None);
            }
        }

        #[test]
        fn any_subject_is_an_event_or_none(subject: String) {
            let _ = cell().parse_event(&subject);
        }
    }
}
