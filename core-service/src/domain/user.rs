//! Users, as everybody in their organization sees them.

pub use proto::claim_key::claim_key;
use proto::ids::{Timestamp, UserId};

use super::organization::OrganizationId;

/// A user. The password hash is not part of it: see [`Credentials`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Unique; says when the user was made.
    pub id: UserId,
    /// Where the user belongs, for ever.
    pub organization_id: OrganizationId,
    /// Unique in the organization, compared by [`claim_key`].
    pub login: String,
    /// Unique in the organization, compared by [`claim_key`].
    pub email: Option<String>,
    /// Unique in the organization, compared as it is.
    pub phone: Option<String>,
    /// For people to read.
    pub first_name: Option<String>,
    /// For people to read.
    pub last_name: Option<String>,
    /// Unix seconds of the end of the user's last connection (at first: of the user's making); 0 while online.
    pub recent_activity: i64,
    /// When the user last changed.
    pub updated_at: Timestamp,
}

/// What a login is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// Whose they are.
    pub user: User,
    /// In the PHC string format.
    pub password_hash: String,
}
