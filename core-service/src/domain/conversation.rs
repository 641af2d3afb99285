//! Conversations and who is in them.

use proto::ids::{ConversationId, Timestamp, UserId};

use super::organization::OrganizationId;

/// What kind a conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConversationType {
    /// `u`: two users.
    Private,
    /// `g`
    Group,
    /// `c`: written by its owner and admins, read by its subscribers.
    Channel,
}

impl ConversationType {
    /// The protocol's letter.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Private => "u",
            Self::Group => "g",
            Self::Channel => "c",
        }
    }

    /// The type of the protocol's letter.
    pub fn from_letter(letter: &str) -> Option<Self> {
        [Self::Private, Self::Group, Self::Channel].into_iter().find(|kind| kind.letter() == letter)
    }
}

/// A picture, by the name of its file.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Opaque, at most 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// At most 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// At most 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_blur_hash: Option<String>,
}

/// A conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    /// Unique; says when it was made.
    pub id: ConversationId,
    /// Never changes.
    pub kind: ConversationType,
    /// Never changes.
    pub organization_id: OrganizationId,
    /// The creator of a `u`, for ever; the owner of a `g` or `c`.
    pub owner_id: UserId,
    /// Only in a `u`: the one who is not the owner.
    pub opponent_id: Option<UserId>,
    /// Always in `g` and `c`.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Its picture.
    pub image: Option<Image>,
    /// Only in a `u`: an encrypted one is another conversation than the plain one of the same pair.
    pub is_encrypted: bool,
    /// When it, or who is in it, last changed. A message does not count here: see [`ConversationHead::updated_at`].
    pub changed_at: Timestamp,
}

impl Conversation {
    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.id.timestamp()
    }
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Exactly one in a `g` or `c`.
    Owner,
    /// May write in a channel.
    Admin,
    /// Everybody else; everybody in a `u`.
    Plain,
}

/// A user in a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// What he may do.
    pub role: Role,
    /// When his current membership began.
    pub joined_at: Timestamp,
}

/// A conversation and everybody who is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConversationRecord {
    /// The conversation.
    pub conversation: Conversation,
    /// One more with each change of the conversation or of its members.
    pub version: u64,
    /// In join order.
    pub members: Vec<Member>,
}

impl ConversationRecord {
    /// This user's membership, if he is in it now.
    pub fn member(&self, user_id: UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user_id == user_id)
    }

    /// Everybody, in join order.
    pub fn user_ids(&self) -> Vec<UserId> {
        self.members.iter().map(|member| member.user_id).collect()
    }

    /// The side of a `u` that has left it. Both have not: then it would not exist.
    pub fn missing_side(&self) -> Option<UserId> {
        let opponent_id = self.conversation.opponent_id?;
        [self.conversation.owner_id, opponent_id].into_iter().find(|&side| self.member(side).is_none())
    }

    /// Everybody but this user, in join order.
    pub fn others(&self, user_id: UserId) -> Vec<UserId> {
        self.members.iter().map(|member| member.user_id).filter(|&id| id != user_id).collect()
    }
}

/// A conversation in a user's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConversationHead {
    /// The conversation.
    pub conversation: Conversation,
    /// How many are in it.
    pub member_count: u32,
    /// When the listing user's membership began.
    pub joined_at: Timestamp,
    /// The later of [`Conversation::changed_at`] and the time of its newest message, which may be a deleted one.
    pub updated_at: Timestamp,
}
