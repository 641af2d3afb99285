//! Ids and time stamps, parsed once where they enter.
//!
//! An id is 12 bytes, big-endian: 4 bytes Unix seconds, 2 bytes fraction of that second in units of 1/65 536 s,
//! 3 bytes of the process that made it, 3 bytes of a counter. Sorting ids is sorting by time, and the millisecond an
//! id was made for can be read back from it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Unix time in whole milliseconds, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded half up: the protocol's `t`.
    pub const fn rounded_seconds(self) -> i64 {
        (self.0 + 500).div_euclid(1000)
    }

    /// The time `millis` later.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Why bytes or a text are no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an id is 12 bytes, written as 24 hexadecimal digits")]
pub struct InvalidId;

/// 12 bytes that say when they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Oid([u8; 12]);

impl Oid {
    fn new(at: Timestamp, tail: [u8; 6]) -> Self {
        let millis = at.millis().max(0);
        let seconds = u32::try_from(millis / 1000).unwrap_or(u32::MAX);
        // Rounded up, so that rounding down gives the millisecond back.
        let fraction = ((millis % 1000) * 65_536 + 999) / 1000;
        let fraction = u16::try_from(fraction).expect("999 ms is below a second");
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..6].copy_from_slice(&fraction.to_be_bytes());
        bytes[6..].copy_from_slice(&tail);
        Self(bytes)
    }

    fn timestamp(self) -> Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        let seconds = i64::from(u32::from_be_bytes([a, b, c, d]));
        let fraction = i64::from(u16::from_be_bytes([e, f]));
        Timestamp(seconds * 1000 + fraction * 1000 / 65_536)
    }

    fn successor(self) -> Self {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            let (next, carry) = byte.overflowing_add(1);
            *byte = next;
            if !carry {
                return Self(bytes);
            }
        }
        self
    }

    fn parse(text: &str) -> Result<Self, InvalidId> {
        let mut bytes = [0; 12];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidId)?;
        Ok(Self(bytes))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Oid);

        impl $name {
            /// The id of these 12 bytes.
            pub const fn from_bytes(bytes: [u8; 12]) -> Self {
                Self(Oid(bytes))
            }

            /// The smallest id of a millisecond: a bound for ranges, given to nothing.
            pub fn first_of(at: Timestamp) -> Self {
                Self(Oid::new(at, [0; 6]))
            }

            /// Reads 24 hexadecimal digits, in either case.
            ///
            /// # Errors
            /// [`InvalidId`] for anything else.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                Oid::parse(text).map(Self)
            }

            /// The smallest id above this one; of the largest id, that id itself.
            pub fn successor(self) -> Self {
                Self(self.0.successor())
            }

            /// The 12 bytes.
            pub const fn as_bytes(&self) -> &[u8; 12] {
                &self.0.0
            }

            /// The 12 bytes as a gRPC field.
            pub fn to_field(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(self.as_bytes())
            }

            /// When it was made, to the millisecond.
            pub fn timestamp(self) -> Timestamp {
                self.0.timestamp()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                bytes.try_into().map(Self::from_bytes).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 24];
                hex::encode_to_slice(self.as_bytes(), &mut digits).expect("24 digits for 12 bytes");
                f.write_str(std::str::from_utf8(&digits).expect("hexadecimal digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<NewId> for $name {
            fn from(id: NewId) -> Self {
                Self(id.0)
            }
        }
    };
}

id!(
    /// A user.
    UserId
);
id!(
    /// A conversation.
    ConversationId
);
id!(
    /// A message, as the server names it.
    MessageId
);
id!(
    /// An event. A sent message's event has the message's id.
    EventId
);
id!(
    /// A socket, or one call of an internal service or of admin HTTP: unique for ever.
    ConnectionId
);
id!(
    /// One run of a core process, from its start to its end.
    RunId
);

impl From<MessageId> for EventId {
    fn from(id: MessageId) -> Self {
        Self(id.0)
    }
}

/// A session: its user's id and 12 random bytes, so that a token or a cookie finds its row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 24]);

impl SessionId {
    /// The session of `user_id` with these random bytes.
    pub fn new(user_id: UserId, random: [u8; 12]) -> Self {
        let mut bytes = [0; 24];
        bytes[..12].copy_from_slice(user_id.as_bytes());
        bytes[12..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Whose session it is.
    pub fn user_id(self) -> UserId {
        UserId::try_from(&self.0[..12]).expect("the first 12 of 24 bytes")
    }

    /// The 24 bytes.
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    /// The 24 bytes as a gRPC field.
    pub fn to_field(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }
}

impl TryFrom<&[u8]> for SessionId {
    type Error = InvalidId;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
        bytes.try_into().map(Self).map_err(|_| InvalidId)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Half of what a refresh token is made of, so only the user shows.
        write!(f, "session of {}", self.user_id())
    }
}

/// A fresh id, to be turned into an id of any kind.
#[derive(Clone, Copy, Debug)]
pub struct NewId(Oid);

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Makes ids that no other process and no other call makes.
#[derive(Debug)]
pub struct IdGenerator {
    process: [u8; 3],
    counter: AtomicU32,
}

impl IdGenerator {
    /// A generator for the process that these random bytes stand for, counting from `start`.
    pub const fn new(process: [u8; 3], start: u32) -> Self {
        Self { process, counter: AtomicU32::new(start) }
    }

    /// A new id made at `at`.
    pub fn next(&self, at: Timestamp) -> NewId {
        let [_, a, b, c] = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let [p, q, r] = self.process;
        NewId(Oid::new(at, [p, q, r, a, b, c]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_gives_its_millisecond_back(millis in 0..4_294_967_295_000_i64) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(UserId::from(IdGenerator::new([1, 2, 3], 7).next(at)).timestamp(), at);
        }

        #[test]
        fn ids_sort_by_time(a in 0..4_294_967_295_000_i64, b in 0..4_294_967_295_000_i64) {
            let ids = IdGenerator::new([255; 3], 0x00ff_ffff);
            let (x, y) = (MessageId::from(ids.next(Timestamp(a))), MessageId::from(ids.next(Timestamp(b))));
            prop_assert_eq!(a.cmp(&b), if a == b { std::cmp::Ordering::Equal } else { x.cmp(&y) });
        }

        #[test]
        fn an_id_reads_what_it_wrote(bytes: [u8; 12]) {
            let id = MessageId::from_bytes(bytes);
            prop_assert_eq!(MessageId::parse(&id.to_string()), Ok(id));
            prop_assert_eq!(MessageId::parse(&id.to_string().to_uppercase()), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_none(text: String) {
            let _ = UserId::parse(&text);
        }
    }

    #[test]
    fn what_is_not_24_hexadecimal_digits_is_no_id() {
        for text in ["", "abs", "1234567890123456789012345", "zz34567890123456789012ab", "12345678901234567890123"] {
            assert_eq!(UserId::parse(text), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn the_successor_carries_and_ends_at_the_largest_id() {
        let id = |tail: [u8; 2]| MessageId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, tail[0], tail[1]]);
        assert_eq!(id([0, 255]).successor(), id([1, 0]));
        assert_eq!(MessageId::from_bytes([255; 12]).successor(), MessageId::from_bytes([255; 12]));
    }

    #[test]
    fn t_rounds_half_up() {
        assert_eq!(Timestamp::from_millis(1_499).rounded_seconds(), 1);
        assert_eq!(Timestamp::from_millis(1_500).rounded_seconds(), 2);
    }
}
