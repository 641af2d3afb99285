//! Promises of [`ConnectionStore`](crate::store::ConnectionStore).

use proto::ids::{ConnectionId, SessionId, UserId};

use super::{UnderTest, at};
use crate::domain::session::Connection;

fn connection(user_id: UserId, number: u8) -> Connection {
    Connection {
        id: ConnectionId::from_bytes([number; 12]),
        session_id: SessionId::new(user_id, [1; 12]),
        device_id: "phone".to_owned(),
    }
}

async fn recent_activity(test: &UnderTest, user_id: UserId) -> i64 {
    test.store.lookup_user(user_id).await.unwrap().unwrap().recent_activity
}

async fn bind(test: &UnderTest, user_id: UserId, number: u8) {
    test.store.bind_connection(&connection(user_id, number)).await.unwrap();
}

/// Ends a connection at a second after the beginning of the test.
async fn unbind(test: &UnderTest, user_id: UserId, number: u8, second: i64) {
    let id = ConnectionId::from_bytes([number; 12]);
    test.store.unbind_connection(user_id, id, at(second * 1_000)).await.unwrap();
}

pub(crate) async fn a_user_is_online_from_the_first_connection_to_the_end_of_the_last(test: UnderTest) {
    let ann = test.add_user("ann").await;
    let bob = test.add_user("bob").await;
    bind(&test, bob, 9).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_000);
    bind(&test, ann, 1).await;
    assert_eq!(recent_activity(&test, ann).await, 0);
    bind(&test, ann, 2).await;
    unbind(&test, ann, 1, 10).await;
    assert_eq!(recent_activity(&test, ann).await, 0);
    unbind(&test, ann, 2, 11).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_011);
    assert_eq!(recent_activity(&test, bob).await, 0);
}

pub(crate) async fn a_connection_bound_twice_ends_once(test: UnderTest) {
    let ann = test.add_user("ann").await;
    bind(&test, ann, 1).await;
    bind(&test, ann, 1).await;
    unbind(&test, ann, 1, 10).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_010);
}

pub(crate) async fn a_connection_that_changes_its_user_leaves_the_first_one_offline(test: UnderTest) {
    let ann = test.add_user("ann").await;
    let bob = test.add_user("bob").await;
    bind(&test, ann, 1).await;
    bind(&test, bob, 1).await;
    unbind(&test, ann, 1, 10).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_010);
    assert_eq!(recent_activity(&test, bob).await, 0, "the connection is the second user's now");
    unbind(&test, bob, 1, 11).await;
    assert_eq!(recent_activity(&test, bob).await, 1_700_000_011);
}

pub(crate) async fn an_end_told_twice_does_not_move_the_time(test: UnderTest) {
    let ann = test.add_user("ann").await;
    bind(&test, ann, 1).await;
    unbind(&test, ann, 1, 10).await;
    unbind(&test, ann, 1, 20).await;
    unbind(&test, ann, 5, 30).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_010);
}

pub(crate) async fn activity_of_a_connection_can_be_noted(test: UnderTest) {
    let ann = test.add_user("ann").await;
    bind(&test, ann, 1).await;
    let connection = connection(ann, 1);
    test.store.set_inactive(ann, connection.id, true).await.unwrap();
    assert_eq!(recent_activity(&test, ann).await, 0, "in the background is online");
    test.store.set_inactive(ann, ConnectionId::from_bytes([5; 12]), true).await.unwrap();
    unbind(&test, ann, 1, 10).await;
    assert_eq!(recent_activity(&test, ann).await, 1_700_000_010, "a connection that is not bound does not become so");
}
