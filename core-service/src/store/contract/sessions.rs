//! Promises of [`SessionStore`](crate::store::SessionStore).

use std::sync::Arc;

use proto::ids::{SessionId, UserId};

use super::{UnderTest, at, race};
use crate::domain::event::{Fact, Step, Subject};
use crate::domain::organization::OrganizationId;
use crate::domain::session::{Connection, Session};

fn session(user_id: UserId, number: u8, device_id: &str) -> Session {
    Session {
        id: SessionId::new(user_id, [number; 12]),
        organization_id: OrganizationId::default(),
        device_id: device_id.to_owned(),
        refresh_counter: 0,
        rotated_at: at(1),
        expires_at: at(1_000),
    }
}

async fn listed(test: &UnderTest, user_id: UserId, device_id: &str) -> Vec<SessionId> {
    let mut ids: Vec<_> =
        test.store.list_sessions(user_id, device_id).await.unwrap().into_iter().map(|session| session.id).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn a_session_is_found_also_past_its_time(test: UnderTest) {
    let [ann] = test.users();
    let session = Session { refresh_counter: u64::MAX, expires_at: at(5), ..session(ann, 1, "phone") };
    test.store.create_session(&session, at(2)).await.unwrap();
    assert_eq!(test.store.lookup_session(session.id).await.unwrap(), Some(session));
    assert_eq!(test.store.lookup_session(SessionId::new(ann, [9; 12])).await.unwrap(), None);
}

pub(crate) async fn a_new_session_forgets_those_past_their_time(test: UnderTest) {
    let [ann, bob] = test.users();
    let past = [session(ann, 1, "phone"), session(ann, 2, "desk"), session(bob, 3, "phone")];
    for session in &past {
        test.store.create_session(session, at(2)).await.unwrap();
    }
    let alive = Session { expires_at: at(1_001), ..session(ann, 4, "desk") };
    test.store.create_session(&alive, at(2)).await.unwrap();
    let newest = Session { expires_at: at(2_000), ..session(ann, 5, "phone") };
    test.store.create_session(&newest, at(1_000)).await.unwrap();

    assert_eq!(listed(&test, ann, "phone").await, [newest.id]);
    assert_eq!(listed(&test, ann, "desk").await, [alive.id]);
    assert_eq!(listed(&test, bob, "phone").await, [past[2].id], "another user's sessions are left alone");
}

pub(crate) async fn a_session_past_its_time_stays_while_a_connection_is_bound_to_it(test: UnderTest) {
    let [ann] = test.users();
    let past = [session(ann, 1, "phone"), session(ann, 2, "phone")];
    for session in &past {
        test.store.create_session(session, at(2)).await.unwrap();
    }
    let connection = Connection { id: test.id(at(0)), session_id: past[1].id, device_id: "phone".to_owned() };
    test.store.bind_connection(&connection).await.unwrap();
    let newest = Session { expires_at: at(2_000), ..session(ann, 3, "phone") };
    test.store.create_session(&newest, at(1_000)).await.unwrap();
    assert_eq!(listed(&test, ann, "phone").await, [past[1].id, newest.id]);
}

pub(crate) async fn sessions_of_a_device_are_listed_in_the_order_they_were_made(test: UnderTest) {
    let [ann] = test.users();
    // Their ids sort against that order.
    for number in [5, 4, 3] {
        test.store.create_session(&session(ann, number, "phone"), at(2)).await.unwrap();
        test.store.create_session(&session(ann, number + 10, "desk"), at(2)).await.unwrap();
    }
    let listed = test.store.list_sessions(ann, "phone").await.unwrap();
    let ids: Vec<_> = listed.into_iter().map(|session| session.id).collect();
    assert_eq!(ids, [5, 4, 3].map(|number| SessionId::new(ann, [number; 12])));
}

pub(crate) async fn a_session_is_rotated_only_from_the_expected_counter(test: UnderTest) {
    let [ann] = test.users();
    let first = session(ann, 1, "phone");
    test.store.create_session(&first, at(2)).await.unwrap();
    let second = Session { refresh_counter: 1, rotated_at: at(3), expires_at: at(2_000), ..first.clone() };

    assert!(!test.store.rotate_session(&second, 1).await.unwrap());
    assert_eq!(test.store.lookup_session(first.id).await.unwrap(), Some(first.clone()));
    assert!(test.store.rotate_session(&second, 0).await.unwrap());
    assert_eq!(test.store.lookup_session(first.id).await.unwrap(), Some(second.clone()));
    assert!(!test.store.rotate_session(&second, 0).await.unwrap());

    let unknown = session(ann, 2, "phone");
    assert!(!test.store.rotate_session(&unknown, 0).await.unwrap());
    assert_eq!(test.store.lookup_session(unknown.id).await.unwrap(), None, "a revoked session does not come back");
}

pub(crate) async fn of_racing_rotations_one_succeeds(test: UnderTest) {
    let [ann] = test.users();
    let first = session(ann, 1, "phone");
    test.store.create_session(&first, at(2)).await.unwrap();
    let next = Session { refresh_counter: 1, ..first };
    let outcomes = race(20, |_| {
        let (store, next) = (Arc::clone(&test.store), next.clone());
        async move { store.rotate_session(&next, 0).await }
    })
    .await;
    assert_eq!(outcomes.into_iter().filter(|rotated| *rotated.as_ref().unwrap()).count(), 1);
}

pub(crate) async fn revoked_sessions_are_gone_and_told(test: UnderTest) {
    let [ann] = test.users();
    let sessions = [1, 2, 3].map(|number| session(ann, number, "phone"));
    for session in &sessions {
        test.store.create_session(session, at(2)).await.unwrap();
    }
    let ids = [sessions[0].id, sessions[2].id, SessionId::new(ann, [9; 12])];
    let mut event = test.event(Subject::User(ann));
    event.steps = vec![Step::new(vec![ann], Fact::SessionsRevoked { session_ids: ids.to_vec() })];
    test.store.revoke_sessions(&ids, event.clone()).await.unwrap();

    assert_eq!(listed(&test, ann, "phone").await, [sessions[1].id]);
    let told: Vec<_> = test.events().await.into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [proto::v1::Event::from(event)]);
}
