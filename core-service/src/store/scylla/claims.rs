//! The table `claims`: who has what only one may have.
//!
//! A claim is taken before the row that it is for is made, so its holder may never come to be. **A claim counts only as long
//! as its holder's row exists and agrees with it**; who meets one that does not count takes it over.

use proto::ids::Timestamp;

use super::database::{Applied, statements};
use super::row::Row;
use super::{Inner, ScyllaStore};
use crate::store::StoreError;

statements! {
    /// The statements of the table `claims`.
    pub(super) struct Statements {
        /// take a claim
        take_claim: "INSERT INTO claims (organization_id, kind, value, holder, claimed_at) VALUES (?, ?, ?, ?, ?)
            IF NOT EXISTS",
        /// take a claim for a while
        take_claim_for: "INSERT INTO claims (organization_id, kind, value, holder, claimed_at) VALUES (?, ?, ?, ?, ?)
            IF NOT EXISTS USING TTL ?",
        /// take a claim over
        take_over_claim: "UPDATE claims SET holder = ?, claimed_at = ? WHERE organization_id = ? AND kind = ? AND value = ?
            IF holder = ?",
        /// release a claim
        release_claim: "DELETE FROM claims WHERE organization_id = ? AND kind = ? AND value = ? IF holder = ?",
        /// look up a claim
        lookup_claim: "SELECT value, holder, claimed_at FROM claims WHERE organization_id = ? AND kind = ? AND value = ?",
    }
}

/// What only one may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    /// Where it is unique.
    pub(super) organization_id: String,
    /// Of what kind it is.
    pub(super) kind: &'static str,
    /// What it is.
    pub(super) value: String,
}

impl Claim {
    fn key(&self) -> (&str, &str, &str) {
        (&self.organization_id, self.kind, &self.value)
    }
}

/// Who has a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holder {
    /// Whose it is.
    pub(super) id: Vec<u8>,
    /// Since when.
    pub(super) since: Timestamp,
}

impl ScyllaStore {
    /// Takes a claim for this holder, for so many seconds where given; `None` when it is his now, or was before, else who
    /// has it.
    pub(super) async fn take_claim(
        &self,
        claim: &Claim,
        holder: &[u8],
        seconds: Option<i32>,
    ) -> Result<Option<Holder>, StoreError> {
        let Inner { database, claims, stamps, .. } = &*self.inner;
        let Claim { organization_id, kind, value } = claim;
        loop {
            let now = stamps.now().millis();
            let applied = match seconds {
                None => {
                    database.compare_and_set(&claims.take_claim, (organization_id, kind, value, holder, now)).await?
                }
                Some(seconds) => {
                    let values = (organization_id, kind, value, holder, now, seconds);
                    database.compare_and_set(&claims.take_claim_for, values).await?
                }
            };
            if let Applied::Yes = applied {
                return Ok(None);
            }
            match (applied, self.lookup_claim(claim).await?) {
                (_, Some(found)) if found.id == holder => return Ok(None),
                (_, Some(found)) => return Ok(Some(found)),
                // It was another's a moment ago and has just been released.
                (Applied::Yes | Applied::No, None) => {}
                (Applied::Unknown(error), None) => return Err(error),
            }
        }
    }

    /// Takes a claim from a holder for whom it does not count; whether he still had it.
    pub(super) async fn take_over_claim(
        &self,
        claim: &Claim,
        from: &Holder,
        holder: &[u8],
    ) -> Result<bool, StoreError> {
        let Inner { database, claims, stamps, .. } = &*self.inner;
        let Claim { organization_id, kind, value } = claim;
        let values = (holder, stamps.now().millis(), organization_id, kind, value, &from.id);
        match database.compare_and_set(&claims.take_over_claim, values).await? {
            Applied::Yes => Ok(true),
            Applied::No => Ok(false),
            Applied::Unknown(error) => match self.lookup_claim(claim).await? {
                Some(found) if found.id == holder => Ok(true),
                Some(found) if found.id != from.id => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Gives a claim back, if this holder has it. When the answer is lost it may stay, and does not count.
    pub(super) async fn release_claim(&self, claim: &Claim, holder: &[u8]) -> Result<(), StoreError> {
        let Inner { database, claims, .. } = &*self.inner;
        let Claim { organization_id, kind, value } = claim;
        let values = (organization_id, kind, value, holder);
        match database.compare_and_set(&claims.release_claim, values).await? {
            Applied::Yes | Applied::No => Ok(()),
            Applied::Unknown(error) => Err(error),
        }
    }

    /// Who has a claim, also one that was taken by a call whose answer was lost.
    pub(super) async fn lookup_claim(&self, claim: &Claim) -> Result<Option<Holder>, StoreError> {
        let Inner { database, claims, .. } = &*self.inner;
        let row = database.read_one_serial(&claims.lookup_claim, claim.key()).await?;
        row.as_ref().map(decode).transpose()
    }

    /// Who has a claim, of those whose taking was answered: cheaper.
    pub(super) async fn glance_at_claim(&self, claim: &Claim) -> Result<Option<Holder>, StoreError> {
        let Inner { database, claims, .. } = &*self.inner;
        let row = database.read_one(&claims.lookup_claim, claim.key()).await?;
        row.as_ref().map(decode).transpose()
    }
}

fn decode(row: &Row) -> Result<Holder, StoreError> {
    Ok(Holder { id: row.blob("holder")?.to_vec(), since: row.time("claimed_at")? })
}
