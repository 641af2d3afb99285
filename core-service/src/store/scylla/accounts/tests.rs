//! What is claimed takes effect as a whole with its row, wherever its making is cut.

use std::sync::Arc;

use proto::ids::{IdGenerator, Timestamp};

use super::*;
use crate::domain::clock::{Clock, Stamps, SystemClock};
use crate::store::scylla::tests::cuts::Cut;
use crate::store::scylla::tests::open_store;

/// The machine's clock and some more.
#[derive(Debug)]
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0)
    }
}

/// A store to which everybody has had his time.
async fn open_impatient_store() -> ScyllaStore {
    let (mut store, _) = open_store().await;
    let inner = Arc::get_mut(&mut store.inner).expect("nobody else has it yet");
    inner.stamps = Arc::new(Stamps::new(Ahead(2_000), IdGenerator::new([9; 3], 0)));
    store
}

/// A user of an organization of his own, with all that can be unique.
fn user(stamps: &Stamps) -> User {
    let id: UserId = stamps.new_id().into();
    User {
        id,
        organization_id: id.into(),
        login: "Zo".to_owned(),
        email: Some("zo@example.org".to_owned()),
        phone: Some("+1 555".to_owned()),
        first_name: None,
        last_name: None,
        recent_activity: 17,
        updated_at: Timestamp::from_millis(18),
    }
}

async fn searched(store: &ScyllaStore, organization_id: &OrganizationId) -> Vec<UserId> {
    let search = UserSearch {
        organization_id: organization_id.clone(),
        keyword: "z".to_owned(),
        without: Vec::new(),
        updated_after: None,
        limit: 10,
    };
    store.search_users(&search).await.unwrap().into_iter().map(|user| user.id).collect()
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_sign_up_cut_anywhere_leaves_a_whole_user_or_none_and_all_that_he_claimed_free() {
    let (cut_store, _) = open_store().await;
    let other = open_impatient_store().await;
    let stamps = Stamps::of_this_process();
    for cut in Cut::ALL {
        for passing in 0.. {
            let first = user(&stamps);
            let cuts = &cut_store.inner.database.cuts;
            cuts.plan(passing, cut);
            let outcome = cuts.until_death(cut_store.create_user(&first, "first")).await;
            let was_cut = cuts.clear();
            let is_whole = other.lookup_user(first.id).await.unwrap() == Some(first.clone());
            if matches!(outcome, Some(Ok(()))) {
                assert!(is_whole, "{cut:?} after {passing}");
            }
            assert!(!matches!(outcome, Some(Err(ClaimError::Taken))), "{cut:?} after {passing}");

            // Each of what the first one wanted is wanted by one after him, the last of whom wants all.
            let second = User { id: stamps.new_id().into(), phone: None, ..first.clone() };
            let third = User { id: stamps.new_id().into(), login: "Zoe".to_owned(), email: None, ..first.clone() };
            let taken = [other.create_user(&second, "second").await, other.create_user(&third, "third").await];
            let are_taken = taken.each_ref().map(|outcome| matches!(outcome, Err(ClaimError::Taken)));
            assert_eq!(are_taken, [is_whole; 2], "{cut:?} after {passing}: {taken:?}");

            let found = other.lookup_credentials(&first.organization_id, "zO").await.unwrap().unwrap();
            let (winner, hash) = if is_whole { (&first, "first") } else { (&second, "second") };
            assert_eq!((&found.user, found.password_hash.as_str()), (winner, hash));
            let expected = if is_whole { vec![first.id] } else { vec![second.id, third.id] };
            assert_eq!(searched(&other, &first.organization_id).await, expected, "{cut:?} after {passing}");
            assert_eq!(other.lookup_user(first.id).await.unwrap().is_some(), is_whole, "for ever");
            if !was_cut {
                assert!(passing >= 6, "it ended after {passing} requests");
                break;
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn a_sign_up_that_was_overtaken_does_not_come_to_its_end() {
    let (slow, _) = open_store().await;
    let other = open_impatient_store().await;
    let stamps = Stamps::of_this_process();
    let first = user(&stamps);
    for claim in claims_of(&first) {
        assert!(slow.claim(&claim, first.id.as_bytes()).await.unwrap());
    }
    let second = User { id: stamps.new_id().into(), ..first.clone() };
    other.create_user(&second, "hash").await.unwrap();

    let error = slow.make_user(&first, "hash").await.unwrap_err();
    assert_eq!(error.to_string(), "failed to add a user");
    assert_eq!(slow.lookup_user(first.id).await.unwrap(), None);
    assert_eq!(slow.lookup_user(second.id).await.unwrap(), Some(second));
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn somebody_who_is_about_to_sign_up_is_waited_for() {
    let (one, _) = open_store().await;
    let (other, _) = open_store().await;
    let stamps = Stamps::of_this_process();
    let first = user(&stamps);
    for claim in claims_of(&first) {
        assert!(one.claim(&claim, first.id.as_bytes()).await.unwrap());
    }
    let second = User { id: stamps.new_id().into(), ..first.clone() };
    let (made, refused) = tokio::join!(one.make_user(&first, "hash"), other.create_user(&second, "hash"));
    made.unwrap();
    assert!(matches!(refused, Err(ClaimError::Taken)), "{refused:?}");
}

#[tokio::test]
#[ignore = "needs TEST_CQL_ADDRESS, the host:port of a CQL database for tests"]
async fn an_organization_cut_anywhere_is_whole_or_not_there_and_its_name_free() {
    let (cut_store, _) = open_store().await;
    let other = open_impatient_store().await;
    let stamps = Stamps::of_this_process();
    for cut in Cut::ALL {
        for passing in 0.. {
            let organization = |name: &str| Organization {
                id: UserId::from(stamps.new_id()).into(),
                name: name.to_owned(),
                created_at: Timestamp::from_millis(17),
            };
            let first = organization(&UserId::from(stamps.new_id()).to_string());
            let cuts = &cut_store.inner.database.cuts;
            cuts.plan(passing, cut);
            let outcome = cuts.until_death(cut_store.create_organization(&first)).await;
            let was_cut = cuts.clear();
            let is_whole = other.lookup_organization(&first.id).await.unwrap() == Some(first.clone());
            assert!(is_whole || !matches!(outcome, Some(Ok(()))), "{cut:?} after {passing}");

            if !is_whole && passing.is_multiple_of(2) {
                // The same again, as every core does at its start.
                other.create_organization(&first).await.unwrap();
                assert_eq!(other.lookup_organization(&first.id).await.unwrap(), Some(first));
            } else {
                let second = organization(&first.name);
                let made = other.create_organization(&second).await;
                assert_eq!(matches!(made, Err(ClaimError::Taken)), is_whole, "{cut:?} after {passing}: {made:?}");
                assert_eq!(made.is_ok(), !is_whole);
            }
            if !was_cut {
                break;
            }
        }
    }
}
