//! Messages that the server itself writes into a conversation: who came, who went, that the picture changed.
//!
//! Clients act on `x.type`; the body is for people. Users cannot send these: see [`super::send_message`].

use proto::ids::{MessageId, Timestamp, UserId};
use serde_json::{Value, json};

use super::conversation::{Conversation, ConversationType};
use super::message::{Message, MessageContent, NewMessage};
use super::session::Attempt;
use super::user::User;

/// What is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServiceMessage<'a> {
    /// This user was added.
    Added(Person<'a>),
    /// This user was removed.
    Removed(Person<'a>),
    /// The author has left.
    Left,
    /// The picture was changed.
    ImageChanged(&'a ConversationState<'a>),
}

/// A user, or as much as is known of one who is no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person<'a> {
    /// His id.
    pub(super) id: UserId,
    /// The rest of him.
    pub(super) user: Option<&'a User>,
}

/// A conversation as the message about its picture shows it.
#[derive(Debug)]
pub(super) struct ConversationState<'a> {
    /// The conversation.
    pub(super) conversation: &'a Conversation,
    /// How many are in it.
    pub(super) member_count: usize,
    /// When it last changed.
    pub(super) updated_at: Timestamp,
}

/// The words of a service message: `x.type`.
pub(super) const TYPES: [&str; 4] = ["added_participant", "removed_participant", "left_participants", "update_image"];

impl ServiceMessage<'_> {
    /// The message by this author.
    pub(super) fn write(self, id: MessageId, of: &Conversation, author: Person<'_>, attempt: Attempt) -> NewMessage {
        let content = MessageContent {
            body: self.body(author),
            x_json: Some(self.x(author).to_string()),
            ..MessageContent::default()
        };
        let message = Message { id, conversation_id: of.id, from: author.id, content };
        NewMessage { message, attempt, fingerprint: None, hidden_for: Vec::new() }
    }

    fn body(self, author: Person<'_>) -> String {
        let by = author.display_name();
        match self {
            Self::Added(person) => format!("{by} added {}", person.display_name()),
            Self::Removed(person) if person.id != author.id => format!("{by} removed {}", person.display_name()),
            Self::Removed(_) | Self::Left => format!("{by} left"),
            Self::ImageChanged(_) => format!("{by} changed the picture"),
        }
    }

    fn x(self, author: Person<'_>) -> Value {
        let [added, removed, left, image] = TYPES;
        match self {
            Self::Added(person) => json!({ "type": added, "user": person.object() }),
            Self::Removed(person) => json!({ "type": removed, "user": person.object() }),
            Self::Left => json!({ "type": left, "user": author.object() }),
            Self::ImageChanged(state) => json!({ "type": image, "conversation": state.object() }),
        }
    }
}

impl Person<'_> {
    /// First and last name, else the login.
    fn display_name(self) -> String {
        let Some(user) = self.user else { return "Somebody".to_owned() };
        let names = [user.first_name.as_deref(), user.last_name.as_deref()];
        let name = names.into_iter().flatten().map(str::trim).filter(|name| !name.is_empty());
        let name = name.collect::<Vec<_>>().join(" ");
        if name.is_empty() { user.login.clone() } else { name }
    }

    /// As everybody in the organization sees him.
    fn object(self) -> Value {
        let id = self.id.to_string();
        let Some(user) = self.user else { return json!({ "_id": id, "native_id": id }) };
        present(json!({
            "_id": id,
            "native_id": id,
            "login": user.login,
            "email": user.email,
            "phone": user.phone,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "recent_activity": user.recent_activity,
            "created_at": iso(user.id.timestamp()),
            "updated_at": iso(user.updated_at),
        }))
    }
}

impl ConversationState<'_> {
    fn object(&self) -> Value {
        let Conversation { id, kind, organization_id, owner_id, opponent_id, name, description, image, .. } =
            self.conversation;
        let is_channel = *kind == ConversationType::Channel;
        present(json!({
            "_id": id.to_string(),
            "type": kind.letter(),
            "organization_id": organization_id.as_str(),
            "owner_id": owner_id.to_string(),
            "opponent_id": opponent_id.map(|id| id.to_string()),
            "name": name,
            "description": description,
            "image_object": image,
            "subscribers_count": is_channel.then_some(self.member_count),
            "created_at": iso(self.conversation.created_at()),
            "updated_at": iso(self.updated_at),
        }))
    }
}

/// The object without the fields that have no value.
fn present(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// ISO 8601 in UTC with three decimals, as every date in a packet.
fn iso(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::organization::OrganizationId;

    fn user(first_name: Option<&str>, last_name: Option<&str>) -> User {
        User {
            id: UserId::first_of(Timestamp::from_millis(1_705_000_000_870)),
            organization_id: OrganizationId::default(),
            login: "ann".to_owned(),
            email: None,
            phone: None,
            first_name: first_name.map(str::to_owned),
            last_name: last_name.map(str::to_owned),
            recent_activity: 5,
            updated_at: Timestamp::from_millis(1_705_000_001_000),
        }
    }

    #[test]
    fn people_are_called_by_their_names_or_their_login() {
        let name = |user: User| Person { id: user.id, user: Some(&user) }.display_name();
        assert_eq!(name(user(Some("Ann"), Some(" Lee "))), "Ann Lee");
        assert_eq!(name(user(None, Some("Lee"))), "Lee");
        assert_eq!(name(user(Some(" "), None)), "ann");
        assert_eq!(Person { id: user(None, None).id, user: None }.display_name(), "Somebody");
    }

    #[test]
    fn a_user_is_shown_as_in_every_other_packet() {
        let user = user(Some("Ann"), None);
        let id = user.id.to_string();
        let wanted = json!({
            "_id": id, "native_id": id, "login": "ann", "first_name": "Ann", "recent_activity": 5,
            "created_at": "2024-01-11T19:06:40.870Z", "updated_at": "2024-01-11T19:06:41.000Z",
        });
        assert_eq!(Person { id: user.id, user: Some(&user) }.object(), wanted);
        let stub = Person { id: user.id, user: None };
        assert_eq!(stub.object(), json!({ "_id": id, "native_id": id }));
    }
}
