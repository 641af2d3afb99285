//! Organizations and users: making and finding them.

use std::sync::Arc;

use proto::ids::UserId;
use proto::reason::Reason;
use subtle::ConstantTimeEq;

use super::clock::Stamps;
use super::failure::Failure;
use super::limits::{self, check_optional, has_length};
use super::organization::{Organization, OrganizationId};
use super::password::Passwords;
use super::session::Actor;
use super::user::User;
use crate::store::{ClaimError, Store, UserSearch};

/// The use cases around accounts.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
    passwords: Arc<Passwords>,
    /// Empty: the admin API is closed.
    admin_key: Arc<str>,
    default_search_limit: usize,
}

/// What a sign-up says, unchecked.
#[derive(Clone, Default)]
pub struct SignUp {
    /// Absent or empty: the default organization.
    pub organization_id: Option<String>,
    /// 3 to 40 characters without the white space around them; no control characters.
    pub login: Option<String>,
    /// 3 to 40 characters.
    pub password: Option<String>,
    /// 1 to 254 characters, any text.
    pub email: Option<String>,
    /// 3 to 15 characters.
    pub phone: Option<String>,
    /// 1 to 20 characters.
    pub first_name: Option<String>,
    /// 1 to 20 characters.
    pub last_name: Option<String>,
}

/// What a search asks for, unchecked.
#[derive(Clone, Default)]
pub struct SearchUsers {
    /// 1 to 255 characters.
    pub keyword: Option<String>,
    /// 1 to 100.
    pub limit: Option<i64>,
    /// Only users changed after it.
    pub updated_after: Option<proto::ids::Timestamp>,
    /// At most 1,000; malformed ones are ignored.
    pub ignore_ids: Vec<String>,
}

impl Accounts {
    /// The use cases over this store; `admin_key` empty closes the admin API.
    pub fn new(
        store: Arc<dyn Store>,
        stamps: Arc<Stamps>,
        passwords: Arc<Passwords>,
        admin_key: &str,
        default_search_limit: usize,
    ) -> Self {
        Self { store, stamps, passwords, admin_key: admin_key.into(), default_search_limit }
    }

    /// Whether an HTTP client of a gateway may use the admin API.
    ///
    /// # Errors
    /// `admin_key_rejected`
    pub fn check_admin_key(&self, presented: &str) -> Result<(), Failure> {
        let is_right = bool::from(presented.as_bytes().ct_eq(self.admin_key.as_bytes()));
        if self.admin_key.is_empty() || !is_right { Err(Reason::AdminKeyRejected.into()) } else { Ok(()) }
    }

    /// Makes an organization, under a chosen id or a new one.
    ///
    /// # Errors
    /// `validation_failed` (`name`, `_id`), `organization_exists`
    pub async fn create_organization(&self, name: Option<String>, id: Option<String>) -> Result<Organization, Failure> {
        let name = name.filter(|name| has_length(name, &limits::NAME)).ok_or_else(|| Failure::validation("name"))?;
        let now = self.stamps.now();
        let id = match id {
            Some(id) => OrganizationId::parse(&id).ok_or_else(|| Failure::validation("_id"))?,
            None => UserId::from(self.stamps.new_id_at(now)).into(),
        };
        let organization = Organization { id, name, created_at: now };
        match self.store.create_organization(&organization).await {
            Ok(()) => Ok(organization),
            Err(ClaimError::Taken) => Err(Reason::OrganizationExists.into()),
            Err(ClaimError::Store(error)) => Err(error.into()),
        }
    }

    /// Makes sure that these organizations exist, each named as its id.
    ///
    /// # Errors
    /// Those of the store. One that exists already is fine.
    pub async fn ensure_organizations(&self, ids: impl IntoIterator<Item = OrganizationId>) -> Result<(), Failure> {
        for id in ids {
            let name = id.to_string();
            match self.store.create_organization(&Organization { id, name, created_at: self.stamps.now() }).await {
                Ok(()) | Err(ClaimError::Taken) => {}
                Err(ClaimError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes a user. Nobody is told, and no session begins.
    ///
    /// # Errors
    /// `login_invalid`, `password_invalid`, `validation_failed`, `organization_unknown`, `account_exists`,
    /// `temporarily_unavailable`
    pub async fn sign_up(&self, sign_up: SignUp) -> Result<User, Failure> {
        let login = sign_up.login.as_deref().map(str::trim).unwrap_or_default();
        if !has_length(login, &limits::LOGIN) || login.chars().any(char::is_control) {
            return Err(Failure::of_field(Reason::LoginInvalid, "login"));
        }
        let password = sign_up.password.unwrap_or_default();
        if !has_length(&password, &limits::PASSWORD) {
            return Err(Failure::of_field(Reason::PasswordInvalid, "password"));
        }
        let validation = Reason::ValidationFailed;
        check_optional(sign_up.email.as_deref(), &limits::EMAIL, validation, "email")?;
        check_optional(sign_up.phone.as_deref(), &limits::PHONE, validation, "phone")?;
        check_optional(sign_up.first_name.as_deref(), &limits::PERSON_NAME, validation, "first_name")?;
        check_optional(sign_up.last_name.as_deref(), &limits::PERSON_NAME, validation, "last_name")?;

        let organization_id = organization_or_default(sign_up.organization_id);
        let organization = match organization_id {
            Some(id) => self.store.lookup_organization(&id).await?,
            None => None,
        };
        let Some(organization) = organization else {
            return Err(Failure::of_field(Reason::OrganizationUnknown, "organization_id"));
        };

        let login = login.to_owned();
        let password_hash = self.passwords.hash_for_sign_up(password).await?;
        let now = self.stamps.now();
        let user = User {
            id: self.stamps.new_id_at(now).into(),
            organization_id: organization.id,
            login,
            email: sign_up.email,
            phone: sign_up.phone,
            first_name: sign_up.first_name,
            last_name: sign_up.last_name,
            recent_activity: now.millis() / 1000,
            updated_at: now,
        };
        match self.store.create_user(&user, &password_hash).await {
            Ok(()) => Ok(user),
            Err(ClaimError::Taken) => Err(Reason::AccountExists.into()),
            Err(ClaimError::Store(error)) => Err(error.into()),
        }
    }

    /// Users of the caller's organization by a part of their names, without the caller.
    ///
    /// # Errors
    /// `validation_failed`
    pub async fn search(&self, actor: &Actor, search: SearchUsers) -> Result<Vec<User>, Failure> {
        let keyword = search
            .keyword
            .filter(|keyword| has_length(keyword, &limits::NAME))
            .ok_or_else(|| Failure::validation("keyword"))?;
        let limit = match search.limit {
            None => self.default_search_limit,
            Some(limit) if limits::SEARCHED_USERS.contains(&limit) => usize::try_from(limit).unwrap_or_default(),
            Some(_) => return Err(Failure::validation("limit")),
        };
        if search.ignore_ids.len() > limits::IGNORED_IDS {
            return Err(Failure::validation("ignore_ids"));
        }
        let mut without: Vec<_> = search.ignore_ids.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        without.push(actor.user_id);
        let search = UserSearch {
            organization_id: actor.organization_id.clone(),
            keyword,
            without,
            updated_after: search.updated_after,
            limit,
        };
        Ok(self.store.search_users(&search).await?)
    }

    /// Those of these users that exist in the caller's organization, by id descending.
    ///
    /// # Errors
    /// `validation_failed` unless 1 to 100 ids are given
    pub async fn get(&self, actor: &Actor, ids: &[String]) -> Result<Vec<User>, Failure> {
        if !limits::USERS_BY_IDS.contains(&ids.len()) {
            return Err(Failure::validation("ids"));
        }
        let ids: Vec<_> = ids.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        Ok(self.store.list_users(&actor.organization_id, &ids).await?)
    }
}

/// The organization a request names: the default one when it names none, none when it names nothing that can be one.
pub(super) fn organization_or_default(id: Option<String>) -> Option<OrganizationId> {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => OrganizationId::parse(&id),
        None => Some(OrganizationId::default()),
    }
}
