//! Packets about sessions and users.

use proto::reason::{Failure, Reason};

use super::Payload;
use super::fields::Fields;

/// `connect`: joins the socket to the session of an access token.
pub struct ConnectPacket {
    /// The access token as sent.
    pub token: String,
    /// The device the token must belong to.
    pub device_id: String,
}

impl Payload for ConnectPacket {
    const FIELDS: &'static [&'static str] = &["token", "device_id"];

    // Presence is checked here: without a device the contract would take the token's own.
    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let token = fields.text_or("token", Reason::SessionTokenExpired)?;
        let token = token.ok_or_else(|| Failure::of_field(Reason::SessionTokenExpired, "token"))?;
        let device_id = fields.device_id("device_id")?;
        let device_id = device_id.ok_or_else(|| Failure::of_field(Reason::DeviceIdMissing, "device_id"))?;
        Ok(Self { token, device_id })
    }
}

/// `user_create`: signs up.
pub struct UserCreatePacket {
    /// The organization to be in.
    pub organization_id: Option<String>,
    /// The name to log in by.
    pub login: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Any text.
    pub email: Option<String>,
    /// Any text.
    pub phone: Option<String>,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
}

impl Payload for UserCreatePacket {
    const FIELDS: &'static [&'static str] =
        &["organization_id", "login", "password", "email", "phone", "first_name", "last_name"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            organization_id: fields.text("organization_id")?,
            login: fields.text_or("login", Reason::LoginInvalid)?,
            password: fields.text_or("password", Reason::PasswordInvalid)?,
            email: fields.text("email")?,
            phone: fields.text("phone")?,
            first_name: fields.text("first_name")?,
            last_name: fields.text("last_name")?,
        })
    }
}

/// `user_login`: joins the socket to a session, in one of two forms.
pub enum UserLoginPacket {
    /// A new session.
    Password {
        /// The organization the user is in.
        organization_id: Option<String>,
        /// The name to log in by.
        login: String,
        /// The password.
        password: String,
        /// The device of the new session.
        device_id: Option<String>,
    },
    /// The session of an access token.
    Token {
        /// The access token as sent.
        token: String,
        /// The device the token must belong to; absent: the token's own.
        device_id: Option<String>,
    },
}

impl Payload for UserLoginPacket {
    const FIELDS: &'static [&'static str] = &["organization_id", "login", "password", "token", "device_id", "deviceId"];

    // Which form it is must be decided here: the contract has a method for each.
    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let organization_id = fields.text("organization_id")?;
        let login = present(fields.text_or("login", Reason::LoginFieldsMissing)?);
        let password = present(fields.text_or("password", Reason::LoginFieldsMissing)?);
        let token = present(fields.text_or("token", Reason::SessionTokenExpired)?);
        let device_id = match fields.device_id("device_id")? {
            Some(device_id) => Some(device_id),
            None => fields.device_id("deviceId")?,
        };
        match (login, password, token) {
            (None, None, None) => Err(Reason::CredentialsMissing.into()),
            (None, None, Some(token)) => Ok(Self::Token { token, device_id }),
            (_, _, Some(_)) => Err(Failure::validation("token")),
            (Some(login), Some(password), None) => Ok(Self::Password { organization_id, login, password, device_id }),
            (None, Some(_), None) => Err(Failure::of_field(Reason::LoginFieldsMissing, "login")),
            (Some(_), None, None) => Err(Failure::of_field(Reason::LoginFieldsMissing, "password")),
        }
    }
}

/// The text unless it is empty.
fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// `user_search`: users whose names contain a keyword.
pub struct UserSearchPacket {
    /// What to look for.
    pub keyword: Option<String>,
    /// How many users at most.
    pub limit: Option<i64>,
    /// Only users changed after it; Unix milliseconds.
    pub updated_after_ms: Option<i64>,
    /// Users to leave out.
    pub ignore_ids: Vec<String>,
}

impl Payload for UserSearchPacket {
    const FIELDS: &'static [&'static str] = &["keyword", "limit", "updated_at", "ignore_ids"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self {
            keyword: fields.text("keyword")?,
            limit: fields.integer("limit")?,
            updated_after_ms: fields.updated_after()?,
            ignore_ids: fields.ids("ignore_ids")?.unwrap_or_default(),
        })
    }
}

/// `get_users_by_ids`: users by their ids.
pub struct GetUsersByIdsPacket {
    /// Whose.
    pub ids: Vec<String>,
}

impl Payload for GetUsersByIdsPacket {
    const FIELDS: &'static [&'static str] = &["ids"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { ids: fields.ids("ids")?.unwrap_or_default() })
    }
}

/// `activity_status`: whether the socket's app is in the background.
pub struct ActivityStatusPacket {
    /// `isInactive`; `false` when absent.
    pub is_inactive: bool,
}

impl Payload for ActivityStatusPacket {
    const FIELDS: &'static [&'static str] = &["isInactive"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { is_inactive: fields.flag("isInactive")?.unwrap_or(false) })
    }
}
