//! Who is in which conversation. Acceptance cases 91 and 92 of the protocol's part 2.

use e2e::packets::{items, texts};
use serde_json::json;

use crate::team::Team;

#[tokio::test]
async fn participants_of_ones_own_conversations_are_listed_with_their_users() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, mut bob, carl, cid, .. }) = (team.dora().await, team);
    let foreign = bob.create_private(&mut dora).await;
    let private = ann.create_private(&mut bob).await;
    let response = ann.succeed("get_participants_by_cids", json!({"cids": [cid, foreign, "abs", private]})).await;
    let wanted = json!({cid: [ann.id(), bob.id(), carl.id()], private: [ann.id(), bob.id()]});
    assert_eq!(response["conversations"], wanted);
    let mut descending = [ann.id(), bob.id(), carl.id()];
    descending.sort_unstable();
    descending.reverse();
    let users = items(&response, "users");
    assert_eq!(texts(users, "_id"), descending);
    assert_eq!(texts(users, "native_id"), descending);
    let mut logins = texts(users, "login");
    logins.sort_unstable();
    assert_eq!(logins, ["ann", "bob", "carl"]);
    assert!(users.iter().all(|user| user["recent_activity"] == 0 && user["created_at"].is_string()), "{response}");
}

#[tokio::test]
async fn ids_alone_are_shown_when_asked_for() {
    let Team { mut ann, bob, carl, cid, .. } = Team::new().await;
    for includes in [json!(["id"]), json!(["_id", "shoe size"])] {
        let payload = json!({"cids": [cid], "includes": includes});
        let response = ann.succeed("get_participants_by_cids", payload).await;
        for user in items(&response, "users") {
            assert_eq!(*user, json!({"_id": user["_id"]}));
        }
        assert_eq!(items(&response, "users").len(), 3);
        assert_eq!(response["conversations"][&cid], json!([ann.id(), bob.id(), carl.id()]));
    }
}

#[tokio::test]
async fn no_conversations_are_an_empty_answer_and_too_many_are_refused() {
    let Team { mut ann, cid, .. } = Team::new().await;
    for cids in [json!([]), json!(["abs", null])] {
        let response = ann.succeed("get_participants_by_cids", json!({"cids": cids})).await;
        assert_eq!((&response["users"], &response["conversations"]), (&json!([]), &json!({})));
    }
    for missing in [json!({}), json!({"cids": null})] {
        ann.refused("get_participants_by_cids", missing, 422, "cids_missing").await;
    }
    ann.refused("get_participants_by_cids", json!({"cids": vec![cid; 201]}), 422, "validation_failed").await;
}

#[tokio::test]
async fn a_channel_shows_its_owner_and_the_caller() {
    let Team { mut ann, mut bob, mut carl, .. } = Team::new().await;
    let channel = ann.create_channel(&mut [&mut bob, &mut carl]).await;
    let response = bob.succeed("get_participants_by_cids", json!({"cids": [channel]})).await;
    assert_eq!(response["conversations"][&channel], json!([ann.id(), bob.id()]));
    assert_eq!(items(&response, "users").len(), 2);
}
