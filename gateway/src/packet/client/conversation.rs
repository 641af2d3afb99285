//! Packets about conversations.

use proto::reason::{Failure, Reason};
use proto::v1;

use super::Payload;
use super::fields::Fields;

/// `conversation_create`: opens a private chat, a group or a channel.
pub struct ConversationCreatePacket {
    /// `u`, `g` or `c`.
    pub conversation_type: String,
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The members to be; absent when the field was.
    pub participants: Option<Vec<String>>,
    /// The other member of a private chat.
    pub opponent_id: Option<String>,
    /// The picture of a group or channel.
    pub image: Option<v1::Image>,
    /// Whether a private chat is an encrypted one.
    pub is_encrypted: bool,
}

impl Payload for ConversationCreatePacket {
    const FIELDS: &'static [&'static str] =
        &["type", "name", "description", "participants", "opponent_id", "image_object", "is_encrypted"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let conversation_type = fields.text_or("type", Reason::TypeInvalid)?;
        let missing = || Failure::of_field(Reason::ConversationTypeMissing, "type");
        let conversation_type = conversation_type.ok_or_else(missing)?;
        // What a type has no use for is ignored, whatever it holds; a type that does not exist has use for nothing.
        let is_private = conversation_type == "u";
        Ok(Self {
            conversation_type,
            name: fields.text("name")?,
            description: fields.text("description")?,
            participants: fields.ids("participants")?,
            opponent_id: fields.lenient_id("opponent_id").filter(|_| is_private),
            image: if is_private { None } else { image(fields)? },
            is_encrypted: is_private && fields.flag("is_encrypted")?.unwrap_or(false),
        })
    }
}

fn image(fields: &Fields<'_>) -> Result<Option<v1::Image>, Failure> {
    let Some(image) = fields.object("image_object", &["file_id", "file_name", "file_blur_hash"])? else {
        return Ok(None);
    };
    let text = |name| image.text(name).map_err(|_| Failure::validation("image_object"));
    Ok(Some(v1::Image {
        file_id: text("file_id")?,
        file_name: text("file_name")?,
        file_blur_hash: text("file_blur_hash")?,
    }))
}

/// `conversation_update`: changes a conversation, its members or its admins.
pub struct ConversationUpdatePacket {
    /// The conversation.
    pub id: String,
    /// The new name.
    pub name: Option<String>,
    /// The new description.
    pub description: Option<String>,
    /// The new picture.
    pub image: Option<v1::Image>,
    /// Who comes and who goes.
    pub participants: Option<v1::UsersChange>,
    /// Who becomes an admin and who is one no longer.
    pub admins: Option<v1::UsersChange>,
}

impl Payload for ConversationUpdatePacket {
    const FIELDS: &'static [&'static str] = &["id", "name", "description", "image_object", "participants", "admins"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            id: fields.required_text("id", Reason::CidMissing)?,
            name: fields.text("name")?,
            description: fields.text("description")?,
            image: image(fields)?,
            participants: users_change(fields, "participants")?,
            admins: users_change(fields, "admins")?,
        })
    }
}

fn users_change(fields: &Fields<'_>, name: &str) -> Result<Option<v1::UsersChange>, Failure> {
    let Some(change) = fields.object(name, &["add", "remove"])? else { return Ok(None) };
    let ids = |list| change.ids(list).map(Option::unwrap_or_default).map_err(|_| Failure::validation(name));
    Ok(Some(v1::UsersChange { add: ids("add")?, remove: ids("remove")? }))
}

/// `conversation_delete`: the caller leaves a conversation.
pub struct ConversationDeletePacket {
    /// The conversation.
    pub id: String,
}

impl Payload for ConversationDeletePacket {
    const FIELDS: &'static [&'static str] = &["id"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { id: fields.required_text("id", Reason::CidMissing)? })
    }
}

/// `conversation_list`: the caller's conversations.
pub struct ConversationListPacket {
    /// How many at most.
    pub limit: Option<i64>,
    /// Only those changed within.
    pub updated_at: Option<v1::TimeBounds>,
    /// Only these.
    pub ids: Option<Vec<String>>,
}

impl Payload for ConversationListPacket {
    const FIELDS: &'static [&'static str] = &["limit", "updated_at", "ids"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { limit: fields.integer("limit")?, updated_at: fields.updated_at()?, ids: fields.ids("ids")? })
    }
}

/// `get_participants_by_cids`: who is in which conversation.
pub struct GetParticipantsByCidsPacket {
    /// Of which conversations; absent when the field was.
    pub cids: Option<Vec<String>>,
    /// Whether `users` shall hold ids alone.
    pub ids_only: bool,
}

impl Payload for GetParticipantsByCidsPacket {
    const FIELDS: &'static [&'static str] = &["cids", "includes"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let cids = fields.ids("cids")?;
        let includes = fields.ids("includes")?.unwrap_or_default();
        let ids_only = includes.iter().any(|include| include == "id" || include == "_id");
        Ok(Self { cids, ids_only })
    }
}
