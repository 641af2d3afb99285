//! The tables `organizations` and `users`.
//!
//! What must be unique is claimed first (`claims`), in one order for all; then the row itself is made by a conditional
//! statement, and with it everything. Of whoever stops before that, the claims do not count: the next one who wants them
//! waits a little, then makes a row that says "given up" in place of the missing one, so that the former cannot go on any
//! more, and takes them over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proto::ids::UserId;

use super::claims::{Claim, Holder};
use super::database::{Applied, statements};
use super::row::Row;
use super::{Inner, ScyllaStore};
use crate::domain::organization::{Organization, OrganizationId};
use crate::domain::user::{Credentials, User, claim_key};
use crate::store::{AccountStore, ClaimError, StoreError, UserSearch};

statements! {
    /// The statements of the tables `organizations` and `users`.
    pub(super) struct Statements {
        /// add an organization
        create_organization: "INSERT INTO organizations (id, name, created_at) VALUES (?, ?, ?) IF NOT EXISTS",
        /// give up an organization that was not made to the end
        give_up_organization: "INSERT INTO organizations (id, is_given_up) VALUES (?, true) IF NOT EXISTS USING TTL 60",
        /// look up an organization
        lookup_organization: "SELECT id, name, created_at, is_given_up FROM organizations WHERE id = ?",
        /// add a user
        create_user: "INSERT INTO users (
                id, organization_id, login, email, phone, first_name, last_name, password_hash, updated_at, first_activity
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
        /// give up a user that was not made to the end
        give_up_user: "INSERT INTO users (id, is_given_up) VALUES (?, true) IF NOT EXISTS",
        /// look up a user
        lookup_user: "SELECT id, organization_id, login, email, phone, first_name, last_name, password_hash, updated_at,
            first_activity, recent_activity, is_given_up FROM users WHERE id = ?",
    }
}

/// How long somebody has to make his row after he has taken a claim, before another may take it over.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether he has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The organization of claims that are unique everywhere. No organization has this id.
const EVERYWHERE: &str = "*";

/// What a claim's holder is to the claim.
enum Standing {
    /// His row exists and agrees with the claim.
    Counts,
    /// He never will be, or what he is does not agree with the claim.
    Void,
    /// His row may still come.
    Open,
}

#[async_trait]
impl AccountStore for ScyllaStore {
    async fn create_organization(&self, organization: &Organization) -> Result<(), ClaimError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let Organization { id, name, created_at } = organization;
        let claim = name_claim(name);
        let holder = id.as_str().as_bytes();
        if !self.claim(&claim, holder).await? {
            return Err(ClaimError::Taken);
        }
        let values = (id.as_str(), name, created_at.millis());
        let unknown = match database.compare_and_set(&accounts.create_organization, values).await? {
            Applied::Yes => return Ok(()),
            Applied::No => None,
            Applied::Unknown(error) => Some(error),
        };
        match self.organization_made(id).await? {
            // Whoever made it, it is what was asked for.
            Made::Whole(found) if unknown.is_some() && found == *organization => Ok(()),
            Made::Whole(found) => {
                // The id is taken. Where it is by one of the same name, the claim is that one's.
                if found.name != *name {
                    self.release_claim(&claim, holder).await?;
                }
                Err(ClaimError::Taken)
            }
            Made::GivenUp => Err(given_up("add an organization").into()),
            Made::Not => Err(unknown.unwrap_or_else(|| given_up("add an organization")).into()),
        }
    }

    async fn lookup_organization(&self, id: &OrganizationId) -> Result<Option<Organization>, StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let row = database.read_one(&accounts.lookup_organization, (id.as_str(),)).await?;
        Ok(made_of(row.as_ref(), "name", decode_organization)?.whole())
    }

    async fn create_user(&self, user: &User, password_hash: &str) -> Result<(), ClaimError> {
        let claims = claims_of(user);
        let mut taken = Vec::new();
        for claim in &claims {
            if !self.claim(claim, user.id.as_bytes()).await? {
                for claim in taken {
                    self.release_claim(claim, user.id.as_bytes()).await?;
                }
                return Err(ClaimError::Taken);
            }
            taken.push(claim);
        }
        // Before the user is there, so that whoever is there can be found.
        self.write_names(user).await?;
        Ok(self.make_user(user, password_hash).await?)
    }

    async fn lookup_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let row = database.read_one(&accounts.lookup_user, (id.as_bytes(),)).await?;
        Ok(made_of(row.as_ref(), "login", decode_user)?.whole())
    }

    async fn lookup_credentials(
        &self,
        organization_id: &OrganizationId,
        login: &str,
    ) -> Result<Option<Credentials>, StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let claim = claim_in(organization_id, LOGIN, claim_key(login));
        let Some(holder) = self.glance_at_claim(&claim).await? else { return Ok(None) };
        let row = database.read_one(&accounts.lookup_user, (holder.id,)).await?;
        let found = made_of(row.as_ref(), "login", |row| {
            Ok(Credentials { user: decode_user(row)?, password_hash: row.text("password_hash")?.to_owned() })
        })?;
        Ok(found.whole().filter(|found| claims_of(&found.user).contains(&claim)))
    }

    async fn list_users(&self, organization_id: &OrganizationId, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        let found = self.inner.database.for_each(ids, |id| self.lookup_user(id)).await?;
        Ok(found.into_iter().flatten().filter(|user| user.organization_id == *organization_id).collect())
    }

    async fn search_users(&self, search: &UserSearch) -> Result<Vec<User>, StoreError> {
        self.search(search).await
    }
}

impl ScyllaStore {
    /// Takes a claim, also one that does not count. False when it is another's.
    async fn claim(&self, claim: &Claim, holder: &[u8]) -> Result<bool, StoreError> {
        let Some(mut other) = self.take_claim(claim, holder, None).await? else { return Ok(true) };
        loop {
            match self.standing(claim, &other).await? {
                Standing::Counts => return Ok(false),
                Standing::Void => {
                    if self.take_over_claim(claim, &other, holder).await? {
                        return Ok(true);
                    }
                }
                Standing::Open if self.has_had_time(&other) => self.give_up(claim, &other).await?,
                Standing::Open => tokio::time::sleep(LOOK_INTERVAL).await,
            }
            match self.take_claim(claim, holder, None).await? {
                None => return Ok(true),
                Some(found) => other = found,
            }
        }
    }

    fn has_had_time(&self, holder: &Holder) -> bool {
        let waited = self.inner.stamps.now().millis() - holder.since.millis();
        u128::try_from(waited).is_ok_and(|waited| waited >= PATIENCE.as_millis())
    }

    /// What the holder of a claim is to it.
    async fn standing(&self, claim: &Claim, holder: &Holder) -> Result<Standing, StoreError> {
        let counts = if claim.kind == ORGANIZATION_NAME {
            let Some(id) = organization_of(holder) else { return Ok(Standing::Void) };
            self.organization_made(&id).await?.map(|found| name_claim(&found.name) == *claim)
        } else {
            let Ok(id) = UserId::try_from(&holder.id[..]) else { return Ok(Standing::Void) };
            self.user_made(id).await?.map(|found| claims_of(&found).contains(claim))
        };
        Ok(match counts {
            Made::Whole(true) => Standing::Counts,
            Made::Whole(false) | Made::GivenUp => Standing::Void,
            Made::Not => Standing::Open,
        })
    }

    /// Makes sure that a holder who has not made his row yet does not make it any more, unless he just has.
    async fn give_up(&self, claim: &Claim, holder: &Holder) -> Result<(), StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let applied = if claim.kind == ORGANIZATION_NAME {
            let id = String::from_utf8_lossy(&holder.id);
            database.compare_and_set(&accounts.give_up_organization, (id,)).await?
        } else {
            database.compare_and_set(&accounts.give_up_user, (&holder.id,)).await?
        };
        match applied {
            Applied::Yes | Applied::No => Ok(()),
            Applied::Unknown(error) => Err(error),
        }
    }

    /// Makes the row of a user whose claims are taken: from then on he exists.
    async fn make_user(&self, user: &User, password_hash: &str) -> Result<(), StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let values = (
            user.id.as_bytes(),
            user.organization_id.as_str(),
            &user.login,
            &user.email,
            &user.phone,
            &user.first_name,
            &user.last_name,
            password_hash,
            user.updated_at.millis(),
            user.recent_activity,
        );
        let unknown = match database.compare_and_set(&accounts.create_user, values).await? {
            Applied::Yes => return Ok(()),
            Applied::No => None,
            Applied::Unknown(error) => Some(error),
        };
        match (self.user_made(user.id).await?, unknown) {
            (Made::Whole(_), Some(_)) => Ok(()),
            (Made::Not, Some(error)) => Err(error),
            (Made::Whole(_) | Made::Not | Made::GivenUp, _) => Err(given_up("add a user")),
        }
    }

    async fn organization_made(&self, id: &OrganizationId) -> Result<Made<Organization>, StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let row = database.read_one_serial(&accounts.lookup_organization, (id.as_str(),)).await?;
        made_of(row.as_ref(), "name", decode_organization)
    }

    async fn user_made(&self, id: UserId) -> Result<Made<User>, StoreError> {
        let Inner { database, accounts, .. } = &*self.inner;
        let row = database.read_one_serial(&accounts.lookup_user, (id.as_bytes(),)).await?;
        made_of(row.as_ref(), "login", decode_user)
    }
}

/// How far the making of a row has come.
enum Made<T> {
    /// It is there.
    Whole(T),
    /// It will not be made any more.
    GivenUp,
    /// It is not there.
    Not,
}

impl<T> Made<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Made<U> {
        match self {
            Self::Whole(value) => Made::Whole(map(value)),
            Self::GivenUp => Made::GivenUp,
            Self::Not => Made::Not,
        }
    }

    fn whole(self) -> Option<T> {
        match self {
            Self::Whole(value) => Some(value),
            Self::GivenUp | Self::Not => None,
        }
    }
}

/// What a row says, if `column`, which every whole one has, stands in it.
fn made_of<T>(
    row: Option<&Row>,
    column: &'static str,
    decode: impl FnOnce(&Row) -> Result<T, StoreError>,
) -> Result<Made<T>, StoreError> {
    match row {
        Some(row) if !row.is_null(column) => decode(row).map(Made::Whole),
        Some(row) if row.flag("is_given_up")? => Ok(Made::GivenUp),
        Some(_) | None => Ok(Made::Not),
    }
}

/// Somebody else has ended what was attempted.
#[derive(Debug, thiserror::Error)]
#[error("somebody else wanted the same and ended this attempt, which took too long")]
struct GivenUp;

fn given_up(attempted: &'static str) -> StoreError {
    StoreError::Unavailable { attempted, source: Arc::new(GivenUp) }
}

const ORGANIZATION_NAME: &str = "organization_name";
const LOGIN: &str = "login";
const EMAIL: &str = "email";
const PHONE: &str = "phone";

fn name_claim(name: &str) -> Claim {
    Claim { organization_id: EVERYWHERE.to_owned(), kind: ORGANIZATION_NAME, value: name.to_owned() }
}

fn organization_of(holder: &Holder) -> Option<OrganizationId> {
    OrganizationId::parse(std::str::from_utf8(&holder.id).ok()?)
}

fn claim_in(organization_id: &OrganizationId, kind: &'static str, value: String) -> Claim {
    Claim { organization_id: organization_id.as_str().to_owned(), kind, value }
}

/// What a user claims, in the order in which everybody claims it.
fn claims_of(user: &User) -> Vec<Claim> {
    let login = claim_in(&user.organization_id, LOGIN, claim_key(&user.login));
    let email = user.email.as_deref().map(|email| claim_in(&user.organization_id, EMAIL, claim_key(email)));
    let phone = user.phone.as_ref().map(|phone| claim_in(&user.organization_id, PHONE, phone.clone()));
    [Some(login), email, phone].into_iter().flatten().collect()
}

fn decode_organization(row: &Row) -> Result<Organization, StoreError> {
    Ok(Organization {
        id: organization_id(row, "id")?,
        name: row.text("name")?.to_owned(),
        created_at: row.time("created_at")?,
    })
}

fn decode_user(row: &Row) -> Result<User, StoreError> {
    let text = |column| Ok::<_, StoreError>(row.optional_text(column)?.map(str::to_owned));
    Ok(User {
        id: row.id("id")?,
        organization_id: organization_id(row, "organization_id")?,
        login: row.text("login")?.to_owned(),
        email: text("email")?,
        phone: text("phone")?,
        first_name: text("first_name")?,
        last_name: text("last_name")?,
        recent_activity: match row.optional_integer("recent_activity")? {
            Some(seconds) => seconds,
            None => row.integer("first_activity")?,
        },
        updated_at: row.time("updated_at")?,
    })
}

/// The organization id in a column of any table.
pub(super) fn organization_id(row: &Row, column: &'static str) -> Result<OrganizationId, StoreError> {
    OrganizationId::parse(row.text(column)?).ok_or_else(|| row.corrupt(column))
}

#[cfg(test)]
mod tests;
