//! The table `settings`: what all cores of one keyspace share. The schema's version and the lock of `migrate` stand there too.

use super::database::{Applied, statements};
use super::{Inner, ScyllaStore};
use crate::store::StoreError;

statements! {
    /// The statements of the table `settings`.
    pub(super) struct Statements {
        /// add a setting
        add_setting: "INSERT INTO settings (name, value) VALUES (?, ?) IF NOT EXISTS",
        /// look up a setting
        lookup_setting: "SELECT name, value FROM settings WHERE name = ?",
    }
}

impl ScyllaStore {
    /// What stands under a name; where nothing does, this value, which from then on stands there for everybody.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn shared_setting(&self, name: &str, value: &str) -> Result<String, StoreError> {
        if let Some(found) = self.lookup_setting(name).await? {
            return Ok(found);
        }
        let Inner { database, settings, .. } = &*self.inner;
        match database.compare_and_set(&settings.add_setting, (name, value)).await? {
            Applied::Yes => Ok(value.to_owned()),
            Applied::No => Ok(self.lookup_setting(name).await?.unwrap_or_else(|| value.to_owned())),
            Applied::Unknown(error) => self.lookup_setting(name).await?.ok_or(error),
        }
    }

    /// Whether the database answers, with a quorum.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let Inner { database, settings, .. } = &*self.inner;
        database.read(&settings.lookup_setting, ("any",)).await.map(|_| ())
    }

    async fn lookup_setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let Inner { database, settings, .. } = &*self.inner;
        let row = database.read_one_serial(&settings.lookup_setting, (name,)).await?;
        row.map(|row| row.text("value").map(str::to_owned)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proto::ids::UserId;

    use crate::domain::clock::Stamps;
    use crate::store::scylla::tests::open_store;

    #[tokio::test]
    #[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
    async fn all_share_what_the_first_one_has_set() {
        let (one, _) = open_store().await;
        let (other, _) = open_store().await;
        let name = UserId::from(Stamps::of_this_process().new_id()).to_string();
        let (first, second) = tokio::join!(one.shared_setting(&name, "a"), other.shared_setting(&name, "b"));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first, second);
        assert_eq!(other.shared_setting(&name, "c").await.unwrap(), first);
    }
}
