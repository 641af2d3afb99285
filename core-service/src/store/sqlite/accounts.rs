//! The tables `organizations` and `users`. What must be unique is a unique index, so a race has one winner.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use proto::ids::UserId;

use super::SqliteStore;
use super::row::{Columns, StatementError, Table};
use crate::domain::organization::{Organization, OrganizationId};
use crate::domain::user::{Credentials, User, claim_key};
use crate::store::{AccountStore, ClaimError, StoreError, UserSearch};

const ORGANIZATIONS: Table = Table { name: "organizations", key: "id" };
const USERS: Table = Table { name: "users", key: "id" };

const INSERT_ORGANIZATION: &str =
    "INSERT INTO organizations (id, name, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const LOOKUP_ORGANIZATION: &str = "SELECT id, name, created_at FROM organizations WHERE id = ?1";
const INSERT_USER: &str = "
    INSERT INTO users (
        id, organization_id, login, login_key, email, email_key, phone, first_name, last_name, search_text,
        password_hash, recent_activity, updated_at
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING";
const LOOKUP_USER: &str = "SELECT * FROM users WHERE id = ?1";
const LOOKUP_CREDENTIALS: &str = "SELECT * FROM users WHERE organization_id = ?1 AND login_key = ?2";
const SEARCH_USERS: &str = "
    SELECT * FROM users
    WHERE organization_id = ?1 AND updated_at > ?2 AND instr(search_text, ?3)
    ORDER BY first_name DESC NULLS LAST, last_name, login";

#[async_trait]
impl AccountStore for SqliteStore {
    async fn create_organization(&self, organization: &Organization) -> Result<(), ClaimError> {
        let Organization { id, name, created_at } = organization.clone();
        let work = move |connection: &Connection| {
            let mut insert = connection.prepare_cached(INSERT_ORGANIZATION)?;
            Ok(insert.execute(params![id.as_str(), name, created_at.millis()])?)
        };
        claimed(self.write("add an organization", work).await?)
    }

    async fn lookup_organization(&self, id: &OrganizationId) -> Result<Option<Organization>, StoreError> {
        let id = id.clone();
        let work = move |connection: &Connection| {
            ORGANIZATIONS.lookup(connection, LOOKUP_ORGANIZATION, [id.as_str()], decode_organization)
        };
        self.lookups.read("look up an organization", work).await
    }

    async fn create_user(&self, user: &User, password_hash: &str) -> Result<(), ClaimError> {
        let user = user.clone();
        let password_hash = password_hash.to_owned();
        let work = move |connection: &Connection| {
            let mut insert = connection.prepare_cached(INSERT_USER)?;
            Ok(insert.execute(params![
                user.id.as_bytes(),
                user.organization_id.as_str(),
                user.login,
                claim_key(&user.login),
                user.email,
                user.email.as_deref().map(claim_key),
                user.phone,
                user.first_name,
                user.last_name,
                search_text(&user),
                password_hash,
                user.recent_activity,
                user.updated_at.millis(),
            ])?)
        };
        claimed(self.write("add a user", work).await?)
    }

    async fn lookup_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.lookups.read("look up a user", move |connection| lookup_user(connection, id)).await
    }

    async fn lookup_credentials(
        &self,
        organization_id: &OrganizationId,
        login: &str,
    ) -> Result<Option<Credentials>, StoreError> {
        let organization_id = organization_id.clone();
        let login_key = claim_key(login);
        let work = move |connection: &Connection| {
            let parameters = params![organization_id.as_str(), login_key];
            USERS.lookup(connection, LOOKUP_CREDENTIALS, parameters, |columns| {
                Ok(Credentials { user: decode_user(columns)?, password_hash: columns.get("password_hash")? })
            })
        };
        self.lookups.read("look up credentials", work).await
    }

    async fn list_users(&self, organization_id: &OrganizationId, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let organization_id = organization_id.clone();
        let mut ids = ids.to_vec();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        let work = move |connection: &Connection| {
            let mut users = Vec::new();
            for id in ids {
                users.extend(lookup_user(connection, id)?.filter(|user| user.organization_id == organization_id));
            }
            Ok(users)
        };
        self.lists.read("list users", work).await
    }

    async fn search_users(&self, search: &UserSearch) -> Result<Vec<User>, StoreError> {
        let UserSearch { organization_id, keyword, without, updated_after, limit } = search.clone();
        let work = move |connection: &Connection| {
            let without: HashSet<_> = without.into_iter().collect();
            let updated_after = updated_after.map_or(i64::MIN, |after| after.millis());
            let parameters = params![organization_id.as_str(), updated_after, claim_key(&keyword)];
            USERS.list_while(connection, SEARCH_USERS, parameters, limit, decode_user, |user| {
                !without.contains(&user.id)
            })
        };
        self.lists.read("search users", work).await
    }
}

fn claimed(inserted_rows: usize) -> Result<(), ClaimError> {
    if inserted_rows == 0 { Err(ClaimError::Taken) } else { Ok(()) }
}

/// What a user is searched in: the names one after another, as they are compared. An upper-case letter between them
/// keeps a keyword from being found across two, since no text that is compared has one.
fn search_text(user: &User) -> String {
    let names = [Some(&user.login), user.first_name.as_ref(), user.last_name.as_ref()];
    names.map(|name| name.map_or_else(String::new, |name| claim_key(name))).join("X")
}

fn lookup_user(connection: &Connection, id: UserId) -> Result<Option<User>, StatementError> {
    USERS.lookup(connection, LOOKUP_USER, [id.as_bytes()], decode_user)
}

fn decode_organization(columns: &Columns<'_>) -> Result<Organization, StatementError> {
    Ok(Organization {
        id: organization_id(columns, "id")?,
        name: columns.get("name")?,
        created_at: columns.time("created_at")?,
    })
}

fn decode_user(columns: &Columns<'_>) -> Result<User, StatementError> {
    Ok(User {
        id: columns.id("id")?,
        organization_id: organization_id(columns, "organization_id")?,
        login: columns.get("login")?,
        email: columns.get("email")?,
        phone: columns.get("phone")?,
        first_name: columns.get("first_name")?,
        last_name: columns.get("last_name")?,
        recent_activity: columns.get("recent_activity")?,
        updated_at: columns.time("updated_at")?,
    })
}

/// The organization id in a column of any table.
pub(super) fn organization_id(columns: &Columns<'_>, column: &'static str) -> Result<OrganizationId, StatementError> {
    OrganizationId::parse(&columns.get::<String>(column)?).ok_or_else(|| columns.corrupt(column))
}
