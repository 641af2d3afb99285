//! Every limit on what a client or an internal service may ask for, in one place.
//!
//! Lengths count Unicode scalar values unless a name says otherwise.

use std::ops::RangeInclusive;

use proto::reason::Reason;

use super::failure::Failure;

/// Login of a new user.
pub const LOGIN: RangeInclusive<usize> = 3..=40;
/// Password of a new user.
pub const PASSWORD: RangeInclusive<usize> = 3..=40;
/// E-mail, any text.
pub const EMAIL: RangeInclusive<usize> = 1..=254;
/// Phone, any characters.
pub const PHONE: RangeInclusive<usize> = 3..=15;
/// First and last name of a user.
pub const PERSON_NAME: RangeInclusive<usize> = 1..=20;
/// Names of organizations and conversations, search keywords, device ids.
pub const NAME: RangeInclusive<usize> = 1..=255;
/// Free texts without a limit of their own: descriptions, file names and ids, client-chosen ids.
pub const TEXT: usize = 255;
/// A message body, in UTF-16 code units: what a JavaScript client counts.
pub const BODY_UTF16_UNITS: usize = 65_536;
/// Attachments of one message.
pub const ATTACHMENTS: usize = 10;
/// The link of an attachment.
pub const FILE_URL: usize = 2_048;
/// The size an attachment may claim, in bytes.
pub const FILE_SIZE: u64 = 104_857_601;
/// The width and height an attachment may claim, in pixels.
pub const FILE_PIXELS: u32 = 10_000;
/// What an attachment's unknown keys may take, as JSON, in bytes.
pub const ATTACHMENT_OTHER_BYTES: usize = 8 * 1024;
/// A message's free object as JSON, in bytes.
pub const X_BYTES: usize = 64 * 1024;
/// The forwarded message's id.
pub const FORWARDED_ID: usize = 64;
/// Users a message can be kept from.
pub const DELETED_FOR: usize = 1_000;
/// The words of a typing notice.
pub const TYPING_STATE: usize = 32;
/// Entries of `participants`.
pub const PARTICIPANTS: usize = 50;
/// Entries of each list of an update.
pub const CHANGED_MEMBERS: usize = 200;
/// Ids in a `message_list`.
pub const LISTED_MESSAGE_IDS: usize = 100;
/// Ids in a `message_read`, and in the event it causes.
pub const READ_IDS: usize = 1_000;
/// Ids in a `conversation_list`.
pub const LISTED_CONVERSATION_IDS: usize = 10;
/// Ids in a `get_participants_by_cids`.
pub const PARTICIPANTS_CIDS: usize = 200;
/// Members that `get_participants_by_cids` shows of a channel.
pub const SHOWN_CHANNEL_MEMBERS: usize = 100;
/// User objects in one answer; further users are shown by id alone.
pub const SHOWN_USERS: usize = 5_000;
/// Ids in a `get_users_by_ids`.
pub const USERS_BY_IDS: RangeInclusive<usize> = 1..=100;
/// Ids a user search leaves out.
pub const IGNORED_IDS: usize = 1_000;
/// What a user search may ask for.
pub const SEARCHED_USERS: RangeInclusive<i64> = 1..=100;
/// A page where none is asked for.
pub const DEFAULT_PAGE: usize = 30;
/// The largest page.
pub const MAX_PAGE: usize = 100;
/// Live sessions of one user on one device; a new one drops the oldest beyond.
pub const SESSIONS_PER_DEVICE: usize = 10;

/// Whether a text has an allowed number of Unicode scalar values.
pub fn has_length(text: &str, allowed: &RangeInclusive<usize>) -> bool {
    // A character has 1 to 4 bytes, so most texts need no counting.
    text.len() >= *allowed.start() && text.len() <= allowed.end() * 4 && allowed.contains(&text.chars().count())
}

/// Fails with this reason unless the text, if there is one, has an allowed length.
///
/// # Errors
/// The reason, of this field.
pub fn check_optional(
    text: Option<&str>,
    allowed: &RangeInclusive<usize>,
    reason: Reason,
    field: &str,
) -> Result<(), Failure> {
    match text {
        Some(text) if !has_length(text, allowed) => Err(Failure::of_field(reason, field)),
        _ => Ok(()),
    }
}

/// The size of a page: the default for none or 0, at most [`MAX_PAGE`].
///
/// # Errors
/// `validation_failed` when negative.
pub fn page_size(limit: Option<i64>, default: usize) -> Result<usize, Failure> {
    match limit.unwrap_or(0) {
        0 => Ok(default),
        limit => match usize::try_from(limit) {
            Ok(limit) => Ok(limit.min(MAX_PAGE)),
            Err(_) => Err(Failure::validation("limit")),
        },
    }
}
