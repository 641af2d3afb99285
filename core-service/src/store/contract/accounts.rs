//! Promises of [`AccountStore`](crate::store::AccountStore).

use std::sync::Arc;

use super::{UnderTest, at, race};
use crate::domain::organization::Organization;
use crate::domain::user::User;
use crate::store::{ClaimError, UserSearch};

fn is_taken<T>(result: Result<T, ClaimError>) -> bool {
    matches!(result, Err(ClaimError::Taken))
}

pub(crate) async fn an_organization_is_unique_by_id_and_by_name(test: UnderTest) {
    let name = format!("Acme {}", test.organization_id);
    let acme = Organization { id: test.other_organization("acme"), name, created_at: at(5) };
    test.store.create_organization(&acme).await.unwrap();

    let same_id = Organization { name: format!("Other {}", acme.name), ..acme.clone() };
    assert!(is_taken(test.store.create_organization(&same_id).await));
    let same_name = Organization { id: test.other_organization("other"), ..acme.clone() };
    assert!(is_taken(test.store.create_organization(&same_name).await));

    assert_eq!(test.store.lookup_organization(&acme.id).await.unwrap(), Some(acme));
    assert_eq!(test.store.lookup_organization(&same_name.id).await.unwrap(), None);
}

pub(crate) async fn a_login_is_taken_whatever_its_case_and_composition(test: UnderTest) {
    test.add_user("Zoé").await;
    for same in ["Zoé", "zoé", "ZOÉ", "zoe\u{301}"] {
        let user = test.user(same);
        assert!(is_taken(test.store.create_user(&user, "hash").await), "{same}");
        assert_eq!(test.store.lookup_user(user.id).await.unwrap(), None, "nothing of a refused user stays");
    }
    test.add_user("zoe").await;
}

pub(crate) async fn an_email_is_taken_whatever_its_case_and_a_phone_as_it_is(test: UnderTest) {
    let user = User { email: Some("Ann@example.org".to_owned()), phone: Some("+1 555".to_owned()), ..test.user("ann") };
    test.store.create_user(&user, "hash").await.unwrap();

    let same_email = User { email: Some("aNN@EXAMPLE.org".to_owned()), ..test.user("bob") };
    assert!(is_taken(test.store.create_user(&same_email, "hash").await));
    let same_phone = User { phone: Some("+1 555".to_owned()), ..test.user("bob") };
    assert!(is_taken(test.store.create_user(&same_phone, "hash").await));

    let other_phone = User { phone: Some("+1555".to_owned()), ..test.user("bob") };
    test.store.create_user(&other_phone, "hash").await.unwrap();
    // Having none is not unique.
    test.add_user("cid").await;
    test.add_user("dan").await;
}

pub(crate) async fn what_is_taken_in_one_organization_is_free_in_another(test: UnderTest) {
    let user = User { email: Some("ann@example.org".to_owned()), phone: Some("+1 555".to_owned()), ..test.user("ann") };
    test.store.create_user(&user, "hash").await.unwrap();
    let twin = User { id: test.id(at(0)), organization_id: test.other_organization("acme"), ..user };
    test.store.create_user(&twin, "hash").await.unwrap();
}

pub(crate) async fn of_racing_sign_ups_one_succeeds(test: UnderTest) {
    let test = Arc::new(test);
    let outcomes = race(20, |number| {
        let test = Arc::clone(&test);
        async move {
            let user = User { email: Some(format!("{number}@example.org")), ..test.user("ann") };
            test.store.create_user(&user, "hash").await
        }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.into_iter().filter(|outcome| is_taken(outcome.clone())).count(), 19);
}

pub(crate) async fn a_user_reads_as_it_was_written(test: UnderTest) {
    let user = User {
        id: test.id(at(17)),
        organization_id: test.other_organization("acme"),
        login: "Ann_1".to_owned(),
        email: Some("Ann@Example.org".to_owned()),
        phone: Some("+1 555".to_owned()),
        first_name: Some("Ann".to_owned()),
        last_name: Some("O'Neil \u{1f600}".to_owned()),
        recent_activity: 1_700_000_017,
        updated_at: at(18),
    };
    test.store.create_user(&user, "hash").await.unwrap();
    assert_eq!(test.store.lookup_user(user.id).await.unwrap(), Some(user));
    assert_eq!(test.store.lookup_user(test.id(at(0))).await.unwrap(), None);
}

pub(crate) async fn credentials_are_found_by_the_login_in_any_case(test: UnderTest) {
    let user = test.user("Ann");
    test.store.create_user(&user, "a hash").await.unwrap();
    let organization_id = test.organization_id.clone();
    let found = test.store.lookup_credentials(&organization_id, "aNN").await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_str()), (user, "a hash"));

    assert!(test.store.lookup_credentials(&organization_id, "an").await.unwrap().is_none());
    assert!(test.store.lookup_credentials(&test.other_organization("acme"), "Ann").await.unwrap().is_none());
}

pub(crate) async fn listed_users_are_of_the_organization_and_newest_first(test: UnderTest) {
    let ann = test.add_user("ann").await;
    let bob = test.add_user("bob").await;
    let stranger = User { organization_id: test.other_organization("acme"), ..test.user("cid") };
    test.store.create_user(&stranger, "hash").await.unwrap();

    let asked = [ann, stranger.id, test.id(at(0)), bob, ann];
    let listed = test.store.list_users(&test.organization_id, &asked).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|user| user.id).collect();
    assert_eq!(ids, [bob, ann]);
}

fn search(test: &UnderTest, keyword: &str) -> UserSearch {
    UserSearch {
        organization_id: test.organization_id.clone(),
        keyword: keyword.to_owned(),
        without: Vec::new(),
        updated_after: None,
        limit: 100,
    }
}

async fn found(test: &UnderTest, search: &UserSearch) -> Vec<String> {
    let found = test.store.search_users(search).await.unwrap();
    found.into_iter().map(|user| user.login).collect()
}

pub(crate) async fn a_search_finds_a_literal_part_of_any_name(test: UnderTest) {
    let named = |login: &str, first: &str, last: &str| User {
        first_name: Some(first.to_owned()),
        last_name: Some(last.to_owned()),
        ..test.user(login)
    };
    for user in [named("one", "Zoé", "Grün"), named("two", "100%", "a_b"), named("three", "x", "y")] {
        test.store.create_user(&user, "hash").await.unwrap();
    }
    let stranger = User { organization_id: test.other_organization("acme"), ..test.user("oner") };
    test.store.create_user(&stranger, "hash").await.unwrap();

    assert_eq!(found(&test, &search(&test, "NE")).await, ["one"]);
    assert_eq!(found(&test, &search(&test, "OÉ")).await, ["one"]);
    assert_eq!(found(&test, &search(&test, "rÜ")).await, ["one"]);
    assert_eq!(found(&test, &search(&test, "%")).await, ["two"]);
    assert_eq!(found(&test, &search(&test, "_")).await, ["two"]);
    assert_eq!(found(&test, &search(&test, "a_B")).await, ["two"]);
    assert!(found(&test, &search(&test, "*")).await.is_empty());
    // The end of one name and the beginning of the next, whatever a store keeps between them.
    for between in ["", "X", "x", " ", "\n", "\0"] {
        assert!(found(&test, &search(&test, &format!("ree{between}x"))).await.is_empty(), "{between:?}");
        assert!(found(&test, &search(&test, &format!("oé{between}grün"))).await.is_empty(), "{between:?}");
    }
}

pub(crate) async fn a_search_leaves_out_whom_it_is_told_to_and_stops_at_its_limit(test: UnderTest) {
    let ann = test.add_user("user ann").await;
    test.add_user("user bob").await;
    let late = User { updated_at: at(10), ..test.user("user cid") };
    test.store.create_user(&late, "hash").await.unwrap();

    let without_ann = UserSearch { without: vec![ann], ..search(&test, "user") };
    assert_eq!(found(&test, &without_ann).await, ["user bob", "user cid"]);
    // Whoever is left out takes no place of the limit.
    assert_eq!(found(&test, &UserSearch { limit: 1, ..without_ann }).await, ["user bob"]);
    assert_eq!(found(&test, &UserSearch { updated_after: Some(at(9)), ..search(&test, "user") }).await, ["user cid"]);
    assert!(found(&test, &UserSearch { updated_after: Some(at(10)), ..search(&test, "user") }).await.is_empty());
}

pub(crate) async fn found_users_come_in_the_order_of_the_protocol(test: UnderTest) {
    let names = [("u1", None, None), ("u2", Some("a"), Some("z")), ("u3", Some("b"), Some("z"))];
    let more = [("u4", Some("b"), Some("y")), ("u5", Some("b"), Some("y"))];
    for (login, first, last) in names.into_iter().chain(more).rev() {
        let user =
            User { first_name: first.map(str::to_owned), last_name: last.map(str::to_owned), ..test.user(login) };
        test.store.create_user(&user, "hash").await.unwrap();
    }
    assert_eq!(found(&test, &search(&test, "u")).await, ["u4", "u5", "u3", "u2", "u1"]);
}
