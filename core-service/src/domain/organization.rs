//! Organizations: every user belongs to one, and no request reaches beyond the caller's.

use std::fmt;

use proto::ids::{Timestamp, UserId};

/// The id of an organization: 1 to 64 of `a-z 0-9 - _`, which includes the 24 hexadecimal digits of a made id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OrganizationId(String);

impl OrganizationId {
    /// The organization that always exists.
    pub const DEFAULT: &str = "default";

    /// Reads an id that an operator chose or a client wrote; `None` when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        valid.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for OrganizationId {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl From<UserId> for OrganizationId {
    /// An id made by the server. Organizations have no id type of their own, since an operator may choose any.
    fn from(id: UserId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An organization.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Organization {
    /// Unique.
    pub id: OrganizationId,
    /// Unique, 1 to 255 characters.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}
