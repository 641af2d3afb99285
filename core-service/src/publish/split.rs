//! Events too large for one NATS message, cut between their steps.
//!
//! The first part has the event's own id, each further one an id made from that; so whoever cuts the same event again
//! gets the same parts under the same ids. All parts have the same subject and leave in order.

use bytes::Bytes;
use prost::Message as _;
use proto::ids::EventId;
use proto::v1;
use sha2::{Digest, Sha256};

use crate::domain::event::Event;

/// Above this an event is cut, where it can be.
const CUT_ABOVE_BYTES: usize = 512 * 1024;

/// The largest part: what fits a NATS message, with room for its headers. No step that the limits of
/// [`crate::domain::limits`] allow is larger.
pub(super) const MAX_PART_BYTES: usize = MAX_MESSAGE_BYTES - 4 * 1024;

/// The largest message that a NATS server must take; it is the default of its `max_payload`.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// A step is larger than a NATS message can be.
#[derive(Debug, thiserror::Error)]
#[error("event {id} has {bytes} bytes in one step, more than the {MAX_PART_BYTES} that fit a message")]
pub(super) struct TooLarge {
    id: EventId,
    bytes: usize,
}

/// One NATS message of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Its `Nats-Msg-Id`.
    pub(super) id: EventId,
    /// A [`v1::Event`].
    pub(super) bytes: Bytes,
}

/// The parts of an event: most have one.
pub(super) fn parts(event: Event) -> Result<Vec<Part>, TooLarge> {
    let id = event.id;
    cut(id, event.into())
}

/// The parts of an event that is encoded already.
pub(super) fn parts_of_envelope(id: EventId, bytes: Bytes) -> Result<Vec<Part>, TooLarge> {
    if bytes.len() > CUT_ABOVE_BYTES
        && let Ok(event) = v1::Event::decode(bytes.clone())
    {
        return cut(id, event);
    }
    // As it came: it may be of a newer version and hold what this one does not know.
    if bytes.len() > MAX_PART_BYTES {
        return Err(TooLarge { id, bytes: bytes.len() });
    }
    Ok(vec![Part { id, bytes }])
}

fn cut(id: EventId, event: v1::Event) -> Result<Vec<Part>, TooLarge> {
    if event.encoded_len() <= CUT_ABOVE_BYTES {
        return Ok(vec![Part { id, bytes: event.encode_to_vec().into() }]);
    }
    let v1::Event { id: _, attempt, steps, subject, traceparent } = event;
    let frame = v1::Event { id: id.to_field(), attempt, steps: Vec::new(), subject, traceparent };
    let mut parts = Vec::new();
    let mut part = frame.clone();
    let mut recipients = Vec::new();
    for mut step in steps {
        if !step.same_recipients {
            recipients.clone_from(&step.recipient_ids);
        }
        let fits = part.encoded_len() + step.encoded_len() <= CUT_ABOVE_BYTES;
        if !fits && !part.steps.is_empty() {
            let next = v1::Event { id: part_id(id, parts.len() + 1).to_field(), ..frame.clone() };
            parts.push(std::mem::replace(&mut part, next));
        }
        if part.steps.is_empty() {
            step.same_recipients = false;
            step.recipient_ids.clone_from(&recipients);
        }
        part.steps.push(step);
    }
    parts.push(part);
    parts.into_iter().enumerate().map(|(number, part)| encode(part_id(id, number), &part)).collect()
}

fn encode(id: EventId, part: &v1::Event) -> Result<Part, TooLarge> {
    let bytes = part.encode_to_vec();
    if bytes.len() > MAX_PART_BYTES {
        return Err(TooLarge { id, bytes: bytes.len() });
    }
    Ok(Part { id, bytes: bytes.into() })
}

/// The id of a part: as old as the event, and like no other id.
fn part_id(event: EventId, number: usize) -> EventId {
    if number == 0 {
        return event;
    }
    let digest = Sha256::new().chain_update(event.as_bytes()).chain_update(number.to_be_bytes()).finalize();
    let mut bytes = *event.as_bytes();
    bytes[6..].copy_from_slice(&digest[..6]);
    EventId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proto::ids::{ConnectionId, ConversationId, IdGenerator, Timestamp, UserId};

    use super::*;
    use crate::config::MAX_CHANNEL_MEMBERS;
    use crate::domain::conversation::ConversationType;
    use crate::domain::event::{Fact, Step, Subject};
    use crate::domain::limits;
    use crate::domain::message::{Attachment, Message, MessageContent};
    use crate::domain::session::Attempt;
    use crate::publish::envelope::encode_event;

    const CONVERSATION: ConversationId = ConversationId::from_bytes([3; 12]);

    fn users(count: u32) -> Vec<UserId> {
        let ids = IdGenerator::new([1, 2, 3], 0);
        (0..count).map(|_| ids.next(Timestamp::from_millis(1_700_000_000_000)).into()).collect()
    }

    fn sent(recipients: &[UserId], content: MessageContent) -> Step {
        let message = Message {
            id: IdGenerator::new([0; 3], 0).next(Timestamp::from_millis(1_700_000_000_000)).into(),
            conversation_id: CONVERSATION,
            from: UserId::from_bytes([1; 12]),
            content,
        };
        Step::new(recipients.to_vec(), Fact::MessageSent { message, conversation_type: ConversationType::Channel })
    }

    fn text(recipients: &[UserId], letter: &str, bytes: usize) -> Step {
        sent(recipients, MessageContent { body: letter.repeat(bytes), ..MessageContent::default() })
    }

    fn event(steps: Vec<Step>) -> Event {
        Event {
            id: EventId::from(IdGenerator::new([7; 3], 9).next(Timestamp::from_millis(1_700_000_000_123))),
            subject: Subject::Conversation(CONVERSATION),
            attempt: Attempt { connection_id: ConnectionId::from_bytes([8; 12]), frame: 5 },
            steps,
        }
    }

    /// The steps that a gateway makes of these parts, each with its recipients.
    fn told(parts: &[Part]) -> Vec<(Vec<Bytes>, v1::Step)> {
        let mut steps = Vec::new();
        for part in parts {
            let event = v1::Event::decode(part.bytes.clone()).unwrap();
            assert_eq!(event.id, part.id.to_field());
            let mut recipients = None;
            for mut step in event.steps {
                if !std::mem::take(&mut step.same_recipients) {
                    recipients = Some(std::mem::take(&mut step.recipient_ids));
                }
                steps.push((recipients.clone().expect("the first step of a part names its recipients"), step));
            }
        }
        steps
    }

    #[test]
    fn an_event_of_usual_size_is_one_message() {
        let event = event(vec![text(&users(3), "a", 1_000)]);
        let expected = Part { id: event.id, bytes: encode_event(event.clone()).into() };
        assert_eq!(parts(event).unwrap(), [expected]);
    }

    #[test]
    fn a_large_event_is_cut_between_steps_and_tells_the_same_in_the_same_order() {
        let (few, many) = (users(3), users(200));
        let steps: Vec<_> =
            (0..20).map(|n| text(if n % 7 == 0 { &many } else { &few }, "x", 10_000 + n * 5_000)).collect();
        let event = event(steps);
        let whole = Part { id: event.id, bytes: encode_event(event.clone()).into() };
        let parts = parts(event.clone()).unwrap();
        assert!(parts.len() > 1, "{} parts", parts.len());
        assert!(parts.iter().all(|part| part.bytes.len() <= CUT_ABOVE_BYTES));
        assert_eq!(told(&parts), told(&[whole]));
        assert_eq!(parts[0].id, event.id);
        assert!(parts.iter().all(|part| part.id.timestamp() == event.id.timestamp()));
        let mut ids: Vec<_> = parts.iter().map(|part| part.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), parts.len());
    }

    #[test]
    fn what_is_cut_again_is_cut_alike() {
        let event = event((0..10).map(|_| text(&users(2), "y", 100_000)).collect());
        let first = parts(event.clone()).unwrap();
        assert_eq!(parts(event.clone()).unwrap(), first);
        assert_eq!(parts_of_envelope(event.id, encode_event(event).into()).unwrap(), first);
    }

    #[test]
    fn the_largest_step_that_the_limits_allow_fits_one_message() {
        // Three bytes for one UTF-16 unit, four for one character, are the most.
        let text = |characters: usize| Some("\u{1f980}".repeat(characters));
        let attachment = Attachment {
            file_id: text(limits::TEXT),
            file_name: text(limits::TEXT),
            file_blur_hash: text(limits::TEXT),
            file_content_type: text(limits::TEXT),
            file_url: text(limits::FILE_URL),
            file_size: Some(limits::FILE_SIZE),
            file_width: Some(limits::FILE_PIXELS),
            file_height: Some(limits::FILE_PIXELS),
            other_json: "x".repeat(limits::ATTACHMENT_OTHER_BYTES),
        };
        let content = MessageContent {
            body: "\u{ffff}".repeat(limits::BODY_UTF16_UNITS),
            attachments: vec![attachment; limits::ATTACHMENTS],
            x_json: Some("x".repeat(limits::X_BYTES)),
            forwarded_message_id: text(limits::FORWARDED_ID),
            ..MessageContent::default()
        };
        let event = event(vec![sent(&users(MAX_CHANNEL_MEMBERS), content)]);
        let parts = parts(event).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(parts[0].bytes.len() > CUT_ABOVE_BYTES);
    }

    #[test]
    fn a_step_that_fits_no_message_is_refused() {
        let refused = parts(event(vec![text(&users(1), "z", MAX_MESSAGE_BYTES)])).unwrap_err();
        assert!(refused.bytes > MAX_PART_BYTES);
    }
}
