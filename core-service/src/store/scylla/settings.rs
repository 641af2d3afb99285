//! What all cores of a keyspace agree on, in the table `settings`: the key that signs tokens. What `migrate` keeps there
//! it reads and writes itself.

use std::sync::Arc;

use super::ScyllaStore;
use super::database::{Applied, statements};
use crate::domain::tokens::MIN_KEY_BYTES;
use crate::store::StoreError;

const TOKEN_KEY: &str = "token_key";

statements! {
    /// The statements of the table `settings`.
    pub(super) struct Statements {
        /// look up a setting
        lookup_setting: "SELECT name, value FROM settings WHERE name = ?",
        /// add a setting
        add_setting: "INSERT INTO settings (name, value) VALUES (?, ?) IF NOT EXISTS",
    }
}

/// Why there is no key although one was just added.
#[derive(Debug, thiserror::Error)]
#[error("the key is there and cannot be read; remove it from the table settings to have a new one made")]
struct NoKey;

impl ScyllaStore {
    /// The key that signs tokens; made by whichever core asks first.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn signing_key(&self) -> Result<Vec<u8>, StoreError> {
        let (database, statements) = (&self.inner.database, &self.inner.settings);
        if let Some(key) = self.lookup_key().await? {
            return Ok(key);
        }
        let key = hex::encode(new_key());
        match database.compare_and_set(&statements.add_setting, (TOKEN_KEY, key)).await? {
            Applied::Yes | Applied::No | Applied::Unknown(_) => self.lookup_key().await?.ok_or_else(no_key),
        }
    }

    async fn lookup_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.inner.database.read_one_serial(&self.inner.settings.lookup_setting, (TOKEN_KEY,)).await?;
        let Some(row) = row else { return Ok(None) };
        hex::decode(row.text("value")?).ok().filter(|key| key.len() >= MIN_KEY_BYTES).ok_or_else(no_key).map(Some)
    }

    /// Whether the database answers, with a quorum.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.inner.database.read_one(&self.inner.settings.lookup_setting, (TOKEN_KEY,)).await.map(|_| ())
    }
}

fn no_key() -> StoreError {
    StoreError::Unavailable { attempted: "find the key that signs tokens", source: Arc::new(NoKey) }
}

#[expect(clippy::disallowed_methods, reason = "a key must not be foreseen")]
fn new_key() -> [u8; MIN_KEY_BYTES] {
    rand::random()
}
