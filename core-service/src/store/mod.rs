//! The ports to the data: one trait per aggregate, and what each promises.
//!
//! Rules stay in [`crate::domain`]; a store only keeps and finds. **A writing method that causes an event takes data
//! and event in one call and returns when both are safe**: whoever reads events above a position sees every event
//! whose call returned, and events of one subject in the order in which they were handed over.
//!
//! `contract` is the suite that every store passes.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use proto::ids::{ConnectionId, ConversationId, MessageId, SessionId, Timestamp, UserId};

use crate::domain::conversation::{Conversation, ConversationHead, ConversationRecord, Member, Role};
use crate::domain::event::Event;
use crate::domain::message::{IdRange, MessageMark, NewMessage, RecentMessage, SeenMessage};
use crate::domain::organization::{Organization, OrganizationId};
use crate::domain::read_ranges::{ReadRanges, ReadRangesChange};
use crate::domain::session::{Attempt, Connection, Session};
use crate::domain::user::{Credentials, User};

#[cfg(test)]
pub mod contract;
pub mod error;
pub mod scylla;
pub mod sqlite;

pub use error::{ClaimError, StoreError};

/// Everything core keeps.
pub trait Store: AccountStore + SessionStore + ConnectionStore + ConversationStore + MessageStore {}

impl<T: AccountStore + SessionStore + ConnectionStore + ConversationStore + MessageStore> Store for T {}

/// Organizations and users.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Adds an organization. [`ClaimError::Taken`] when its id or its name is.
    async fn create_organization(&self, organization: &Organization) -> Result<(), ClaimError>;

    /// The organization of this id.
    async fn lookup_organization(&self, id: &OrganizationId) -> Result<Option<Organization>, StoreError>;

    /// Adds a user. [`ClaimError::Taken`] when login, e-mail or phone is, within the organization; of two racing
    /// calls one succeeds.
    async fn create_user(&self, user: &User, password_hash: &str) -> Result<(), ClaimError>;

    /// The user of this id.
    async fn lookup_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user of this login, compared by [`crate::domain::user::claim_key`].
    async fn lookup_credentials(
        &self,
        organization_id: &OrganizationId,
        login: &str,
    ) -> Result<Option<Credentials>, StoreError>;

    /// Those of these users that exist in the organization, by id descending.
    async fn list_users(&self, organization_id: &OrganizationId, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// Users by a part of their names.
    async fn search_users(&self, search: &UserSearch) -> Result<Vec<User>, StoreError>;
}

/// Which users to find.
///
/// The order is: first name descending and those without one last, last name ascending, login ascending.
#[derive(Clone, Debug)]
pub struct UserSearch {
    /// Where.
    pub organization_id: OrganizationId,
    /// A part, taken literally and compared by [`crate::domain::user::claim_key`], of the login, first or last name.
    pub keyword: String,
    /// These are left out.
    pub without: Vec<UserId>,
    /// Only users changed after it.
    pub updated_after: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// Device sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Adds a session and forgets those of the same user that are past `now`, except where a connection is bound to one.
    async fn create_session(&self, session: &Session, now: Timestamp) -> Result<(), StoreError>;

    /// The session of this id, also one past its time.
    async fn lookup_session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// The user's sessions on this device, in the order in which they were made.
    async fn list_sessions(&self, user_id: UserId, device_id: &str) -> Result<Vec<Session>, StoreError>;

    /// Replaces the session if its refresh counter still is `expected_counter`; whether it was.
    async fn rotate_session(&self, session: &Session, expected_counter: u64) -> Result<bool, StoreError>;

    /// Ends these sessions.
    async fn revoke_sessions(&self, ids: &[SessionId], event: Event) -> Result<(), StoreError>;
}

/// Who is online.
#[async_trait]
pub trait ConnectionStore: Send + Sync {
    /// Notes a bound connection, in place of what was noted under its id, and that its user is online.
    async fn bind_connection(&self, connection: &Connection) -> Result<(), StoreError>;

    /// Forgets a connection. With the user's last one `now` becomes his recent activity.
    async fn unbind_connection(&self, user_id: UserId, id: ConnectionId, now: Timestamp) -> Result<(), StoreError>;

    /// Notes whether a bound connection is in the background.
    async fn set_inactive(&self, user_id: UserId, id: ConnectionId, is_inactive: bool) -> Result<(), StoreError>;
}

/// Conversations and their members.
#[async_trait]
pub trait ConversationStore: Send + Sync {
    /// Adds a conversation with its members, in join order.
    ///
    /// A `u` is the only one of its pair and encryption flag: where there is one already, it comes back instead and
    /// nothing is written. So does the one that this very attempt made before.
    async fn create_conversation(
        &self,
        conversation: &Conversation,
        members: &[Member],
        attempt: Attempt,
        event: Event,
    ) -> Result<Option<ConversationRecord>, StoreError>;

    /// The conversation of this id, with all its members.
    async fn lookup_conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>, StoreError>;

    /// Changes a conversation, who is in it, and what is said in it with that, if its version still is the expected one;
    /// whether it was. Else nothing is written, and no event leaves.
    ///
    /// Who is added comes last in join order. The attempt is remembered for [`REPEATED_MS`].
    async fn change_conversation(&self, change: ConversationChange, event: Event) -> Result<bool, StoreError>;

    /// Removes a conversation, its members, and everything said, read and hidden in it, if its version still is the
    /// expected one; whether it was. The conversation and its members are gone at once; of much content a rest is left for
    /// [`Self::erase_content`]. The attempt is remembered for [`REPEATED_MS`].
    async fn erase_conversation(&self, erasure: Erasure, event: Event) -> Result<bool, StoreError>;

    /// What an attempt that changed or erased this conversation has left.
    async fn lookup_change(&self, id: ConversationId, attempt: Attempt) -> Result<Option<PastChange>, StoreError>;

    /// Removes what erased conversations have left, in steps that others can write between, and forgets conversations
    /// that were erased [`REPEATED_MS`] before `now`. To be called every now and then.
    async fn erase_content(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Those of these conversations that exist, in no order, each with all its members.
    async fn list_conversations(&self, ids: &[ConversationId]) -> Result<Vec<ConversationRecord>, StoreError>;

    /// The conversations a user is in, most recently updated first, ties by id descending.
    ///
    /// Never cut inside a run of equal `updated_at`: the list exceeds the limit by that run.
    async fn list_heads(&self, query: &HeadsQuery) -> Result<Vec<ConversationHead>, StoreError>;
}

/// One change of a conversation.
#[derive(Clone, Debug)]
pub struct ConversationChange {
    /// The conversation as it is afterwards.
    pub conversation: Conversation,
    /// The version that this was decided on.
    pub expected_version: u64,
    /// Who comes, in join order; nobody who is in it, unless he is also removed.
    pub added: Vec<Member>,
    /// Who goes.
    pub removed: Vec<UserId>,
    /// Who of those that stay gets which role.
    pub roles: Vec<(UserId, Role)>,
    /// What is said with it, in order.
    pub messages: Vec<NewMessage>,
    /// The frame that asked for it.
    pub attempt: Attempt,
}

impl ConversationChange {
    /// What the change makes of a conversation of the expected version.
    pub fn applied_to(&self, record: &ConversationRecord) -> ConversationRecord {
        let mut members = record.members.clone();
        members.retain(|member| !self.removed.contains(&member.user_id));
        for member in &mut members {
            if let Some((_, role)) = self.roles.iter().find(|(user_id, _)| *user_id == member.user_id) {
                member.role = *role;
            }
        }
        members.extend_from_slice(&self.added);
        ConversationRecord { conversation: self.conversation.clone(), version: record.version + 1, members }
    }
}

/// The end of a conversation that nobody is in any more.
#[derive(Clone, Copy, Debug)]
pub struct Erasure {
    /// Which.
    pub id: ConversationId,
    /// The version that this was decided on.
    pub expected_version: u64,
    /// The frame that asked for it.
    pub attempt: Attempt,
}

/// What a former change has left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PastChange {
    /// The conversation, as it is now.
    Standing(ConversationRecord),
    /// Nothing; this is what the conversation was at last.
    Erased(Conversation),
}

/// A change is known again for so long, in milliseconds.
pub const REPEATED_MS: i64 = 15 * 60 * 1000;

/// Which conversations to list.
#[derive(Clone, Debug)]
pub struct HeadsQuery {
    /// Whose.
    pub user_id: UserId,
    /// Only those updated after it, or joined after it.
    pub updated_after: Option<Timestamp>,
    /// Only those updated before it.
    pub updated_before: Option<Timestamp>,
    /// Only these.
    pub ids: Option<Vec<ConversationId>>,
    /// So many, and the rest of a run of equal time.
    pub limit: usize,
}

/// Resolves when a write and its event are safe, or have failed. Dropping it does not undo the write.
pub type Written = BoxFuture<'static, Result<(), StoreError>>;

/// Makes the event that tells of a message.
pub type EventOfMessage<'a> = dyn Fn(&NewMessage) -> Event + Send + Sync + 'a;

/// Messages and read marks.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Queues a message with its event, before it returns. Messages of one conversation become visible, and their
    /// events leave, in the order of these calls; a failed one is left out.
    fn append_message(&self, message: NewMessage, event: Event) -> Written;

    /// Makes sure that the event of a stored message has left, for whoever repeats its call: of a store that does not keep
    /// data and events in one transaction the write may have been cut in between. `event_of` makes the event that
    /// [`Self::append_message`] was given. A message said with a change of the conversation left with that.
    async fn tell_again(
        &self,
        conversation_id: ConversationId,
        id: MessageId,
        event_of: &EventOfMessage<'_>,
    ) -> Result<(), StoreError>;

    /// The newest message's id, deleted ones included.
    async fn newest_message_id(&self, conversation_id: ConversationId) -> Result<Option<MessageId>, StoreError>;

    /// What is needed to tell a resend: the messages at or above `from`, oldest first, of more than `limit` the
    /// newest.
    async fn list_recent(
        &self,
        conversation_id: ConversationId,
        from: MessageId,
        limit: usize,
    ) -> Result<Vec<RecentMessage>, StoreError>;

    /// A user's view of a part of a conversation, without what is hidden from him. Of his own messages alone it says
    /// whether they are read.
    async fn list_messages(&self, query: &MessagesQuery) -> Result<Vec<SeenMessage>, StoreError>;

    /// A user's view, as in [`Self::list_messages`], of those of these messages that are in the conversation and not
    /// hidden from him, newest first.
    async fn lookup_messages(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<SeenMessage>, StoreError>;

    /// The marks of those of these messages that are in the conversation, newest first, hidden ones included.
    async fn lookup_marks(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        ids: &[MessageId],
    ) -> Result<Vec<MessageMark>, StoreError>;

    /// How many messages at or above `unread_from` would be unread for a user who had read `ranges`: not his own, not
    /// hidden from him; at most [`MAX_UNREAD`], and exact as far as the newest [`MAX_UNREAD_LOOKED_AT`] messages outside
    /// of the ranges reach.
    async fn count_unread(
        &self,
        conversation_id: ConversationId,
        viewer: UserId,
        unread_from: MessageId,
        ranges: &ReadRanges,
    ) -> Result<u32, StoreError>;

    /// For each conversation the newest message visible to the user and the number of unread ones, in order.
    async fn list_previews(&self, viewer: UserId, of: &[PreviewOf]) -> Result<Vec<Preview>, StoreError>;

    /// What a user has read.
    async fn lookup_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
    ) -> Result<ReadRanges, StoreError>;

    /// The marks of a part of a conversation, hidden messages included; `Order::OldestFirst` or newest first.
    async fn list_marks(&self, query: &MessagesQuery) -> Result<Vec<MessageMark>, StoreError>;

    /// Changes what a user has read; without an event where nobody needs to know.
    async fn change_read_ranges(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        change: &ReadRangesChange,
        event: Option<Event>,
    ) -> Result<(), StoreError>;
}

/// Which messages, and from which end.
#[derive(Clone, Copy, Debug)]
pub struct MessagesQuery {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who looks.
    pub viewer: UserId,
    /// Which part.
    pub range: IdRange,
    /// From which end of it, and so in which order.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
}

/// The order of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// From the newest on.
    NewestFirst,
    /// From the oldest on.
    OldestFirst,
}

/// What a preview is made of.
#[derive(Clone, Copy, Debug)]
pub struct PreviewOf {
    /// Which conversation.
    pub conversation_id: ConversationId,
    /// From where on messages can be unread: the first id of the membership. `None` where nothing is ever unread.
    pub unread_from: Option<MessageId>,
}

/// What a list shows of a conversation's messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preview {
    /// The newest visible one; whoever wrote it, it says whether it is read.
    pub last_message: Option<SeenMessage>,
    /// Not the user's own, not hidden, not read; as exact as [`MessageStore::count_unread`].
    pub unread_count: u32,
}

/// Unread messages are counted up to here.
pub const MAX_UNREAD: u32 = 1_000;

/// Counting unread messages looks at no more messages than these, the user's own and hidden ones included. Where nothing
/// lies between two ranges, that counts as one.
pub const MAX_UNREAD_LOOKED_AT: usize = 10_000;

/// A span below the current one; none outside a trace, where it would cost more than it tells.
pub(crate) fn span(operation: &'static str) -> tracing::Span {
    if tracing::Span::current().is_disabled() {
        return tracing::Span::none();
    }
    tracing::info_span!("store", operation)
}
