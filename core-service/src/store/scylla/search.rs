//! The table `name_grams`: users by a part of their names.
//!
//! Every one, two and three letters that follow each other in a name are a gram, under which the user stands, spread over a
//! few partitions. A search reads the rarest gram of its keyword, checks what stands there against the keyword, sorts it, and
//! then reads the users themselves. Of a gram that very many share only the newest users are seen: see [`ROWS_OF_SPREAD`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use futures_util::future::try_join_all;
use proto::ids::{Timestamp, UserId};

use super::database::statements;
use super::row::Row;
use super::{Inner, ScyllaStore};
use crate::domain::organization::OrganizationId;
use crate::domain::user::{User, claim_key};
use crate::store::{StoreError, UserSearch};

statements! {
    /// The statements of the table `name_grams`.
    pub(super) struct Statements {
        /// note a part of a name
        add_gram: "INSERT INTO name_grams (
                organization_id, gram, spread, user_id, login, first_name, last_name, updated_at
            ) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        /// search a part of names
        search_gram: "SELECT user_id, login, first_name, last_name, updated_at FROM name_grams
            WHERE organization_id = ? AND gram = ? AND spread = ? LIMIT ?",
    }
}

/// Letters of the longest gram.
const GRAM: usize = 3;
/// Partitions of one gram.
const SPREAD: i32 = 4;
/// Rows read of one partition at most.
const ROWS_OF_SPREAD: i32 = 1_500;
/// Rows read to see which gram is the rarest.
const ROWS_TO_COMPARE: i32 = 30;
/// Grams of one keyword that are compared.
const GRAMS_COMPARED: usize = 8;

/// A user as he stands under a gram.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    id: UserId,
    login: String,
    first_name: Option<String>,
    last_name: Option<String>,
    updated_at: Timestamp,
}

impl From<&User> for Entry {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            login: user.login.clone(),
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            updated_at: user.updated_at,
        }
    }
}

impl Entry {
    /// The names as they are compared.
    fn names(&self) -> impl Iterator<Item = String> {
        [Some(&self.login), self.first_name.as_ref(), self.last_name.as_ref()]
            .into_iter()
            .flatten()
            .map(|name| claim_key(name))
    }

    /// What results are sorted by: the order that [`UserSearch`] says.
    fn order(&self) -> impl Ord + use<> {
        (Reverse(self.first_name.clone()), self.last_name.clone(), self.login.clone())
    }
}

impl ScyllaStore {
    /// Notes where a user is found.
    pub(super) async fn write_names(&self, user: &User) -> Result<(), StoreError> {
        let Inner { database, search, .. } = &*self.inner;
        let entry = Entry::from(user);
        let grams: BTreeSet<_> = entry.names().flat_map(|name| grams_of_name(&name)).collect();
        let write = async |gram: String| {
            let values = (
                user.organization_id.as_str(),
                gram,
                spread_of(user.id),
                user.id.as_bytes(),
                &entry.login,
                &entry.first_name,
                &entry.last_name,
                entry.updated_at.millis(),
            );
            database.write(&search.add_gram, values).await
        };
        database.for_each(grams, write).await.map(|_| ())
    }

    /// Users by a part of their names.
    pub(super) async fn search(&self, search: &UserSearch) -> Result<Vec<User>, StoreError> {
        let UserSearch { organization_id, keyword, without, updated_after, limit } = search;
        let keyword = claim_key(keyword);
        let Some(gram) = self.rarest_gram(organization_id, &keyword).await? else { return Ok(Vec::new()) };
        let without: HashSet<_> = without.iter().collect();
        let is_wanted = |entry: &Entry| {
            entry.names().any(|name| name.contains(&keyword))
                && updated_after.is_none_or(|after| entry.updated_at > after)
                && !without.contains(&entry.id)
        };
        let mut found = self.entries(organization_id, &gram, ROWS_OF_SPREAD).await?.concat();
        found.retain(is_wanted);
        found.sort_by_cached_key(Entry::order);

        // What stands under a gram was written before the user, who may never have come to be.
        let mut users = Vec::new();
        let mut rest = found.into_iter();
        while users.len() < *limit {
            let next: Vec<_> = rest.by_ref().take(limit - users.len()).map(|entry| entry.id).collect();
            if next.is_empty() {
                break;
            }
            let read =
                self.inner.database.for_each(next, |id| crate::store::AccountStore::lookup_user(self, id)).await?;
            let read = read.into_iter().flatten();
            users.extend(read.filter(|user| user.organization_id == *organization_id && is_wanted(&Entry::from(user))));
        }
        Ok(users)
    }

    /// The gram of a keyword that the fewest users have; `None` of an empty keyword.
    async fn rarest_gram(&self, organization_id: &OrganizationId, keyword: &str) -> Result<Option<String>, StoreError> {
        let mut grams = grams_of_keyword(keyword);
        if grams.len() < 2 {
            return Ok(grams.pop());
        }
        let compared = grams.into_iter().map(async |gram| {
            let parts = self.entries(organization_id, &gram, ROWS_TO_COMPARE).await?;
            let count: usize = parts.iter().map(Vec::len).sum();
            // Of those that fill their parts, the rarer one reaches further back.
            let oldest = parts.iter().filter_map(|part| part.last()).map(|entry| entry.id).min();
            Ok::<_, StoreError>((count, oldest, gram))
        });
        let rarest = try_join_all(compared).await?.into_iter().min();
        Ok(rarest.map(|(_, _, gram)| gram))
    }

    /// The newest users under a gram, by part.
    async fn entries(
        &self,
        organization_id: &OrganizationId,
        gram: &str,
        limit: i32,
    ) -> Result<Vec<Vec<Entry>>, StoreError> {
        let Inner { database, search, .. } = &*self.inner;
        let read = async |spread: i32| {
            let rows = database.read(&search.search_gram, (organization_id.as_str(), gram, spread, limit)).await?;
            rows.iter().map(decode).collect()
        };
        database.for_each(0..SPREAD, read).await
    }
}

/// In which part of a gram a user stands.
fn spread_of(id: UserId) -> i32 {
    // The last byte counts the ids that are made.
    i32::from(id.as_bytes()[11]) % SPREAD
}

/// Everything of one to three letters in a name.
fn grams_of_name(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    (1..=GRAM).flat_map(|length| letters.windows(length).map(|gram| gram.iter().collect())).collect()
}

/// Grams that stand in every name that the keyword is a part of.
fn grams_of_keyword(keyword: &str) -> Vec<String> {
    let letters: Vec<char> = keyword.chars().collect();
    let length = letters.len().min(GRAM);
    if length == 0 {
        return Vec::new();
    }
    let grams: BTreeSet<String> = letters.windows(length).map(|gram| gram.iter().collect()).collect();
    grams.into_iter().take(GRAMS_COMPARED).collect()
}

fn decode(row: &Row) -> Result<Entry, StoreError> {
    let text = |column| Ok::<_, StoreError>(row.optional_text(column)?.map(str::to_owned));
    Ok(Entry {
        id: row.id("user_id")?,
        login: row.text("login")?.to_owned(),
        first_name: text("first_name")?,
        last_name: text("last_name")?,
        updated_at: row.time("updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_a_part_of_a_name_has_its_grams(name: String, from in 0..40_usize, length in 1..40_usize) {
            let letters: Vec<char> = name.chars().collect();
            let part: String = letters.iter().skip(from).take(length).collect();
            let grams = grams_of_name(&name);
            prop_assert!(grams_of_keyword(&part).iter().all(|gram| grams.contains(gram)));
        }
    }

    #[test]
    fn results_are_sorted_by_first_name_from_the_end_those_without_one_last() {
        let entry = |first: Option<&str>, last: Option<&str>, login: &str| Entry {
            id: UserId::from_bytes([0; 12]),
            login: login.to_owned(),
            first_name: first.map(str::to_owned),
            last_name: last.map(str::to_owned),
            updated_at: Timestamp::default(),
        };
        let sorted = [
            entry(Some("b"), None, "u3"),
            entry(Some("b"), Some("y"), "u4"),
            entry(Some("b"), Some("y"), "u5"),
            entry(Some("b"), Some("z"), "u1"),
            entry(Some("a"), Some("a"), "u0"),
            entry(None, Some("a"), "u2"),
        ];
        let mut entries = sorted.to_vec();
        entries.reverse();
        entries.sort_by_cached_key(Entry::order);
        assert_eq!(entries, sorted);
    }
}
