//! Pages of messages. Acceptance cases 38 to 40 and 42 to 45 of the protocol's part 2.

use e2e::packets::{text, texts};
use e2e::{Ack, TestClient};
use proto::ids::MessageId;
use serde_json::{Value, json};

use crate::team::Team;

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|number| number.to_string())
}

async fn bodies(client: &mut TestClient, payload: Value) -> Vec<String> {
    let listed = client.list_messages(payload).await;
    texts(&listed, "body").into_iter().map(str::to_owned).collect()
}

fn millis(ack: &Ack) -> i64 {
    MessageId::parse(&ack.server_mid).expect("an id").timestamp().millis()
}

#[tokio::test]
async fn the_newest_come_first_and_limit_counts() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    assert_eq!(bob.succeed("message_list", json!({"cid": cid})).await["messages"], json!([]));
    ann.send_messages(&cid, numbered(150)).await;
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "limit": 5})).await, ["150", "149", "148", "147", "146"]);
    let counts = [(json!(null), 30), (json!(0), 30), (json!(500), 100), (json!("5"), 5), (json!(1), 1)];
    for (limit, count) in counts {
        let page = bodies(&mut bob, json!({"cid": cid, "limit": limit})).await;
        let wanted: Vec<_> = (0..count).map(|number| (150 - number).to_string()).collect();
        assert_eq!(page, wanted, "limit {limit}");
    }
    assert_eq!(bodies(&mut bob, json!({"cid": cid})).await.len(), 30);
    for bad in [json!(-1), json!("many"), json!([5]), json!(true)] {
        let error = bob.refused("message_list", json!({"cid": cid, "limit": bad}), 422, "validation_failed").await;
        assert_eq!(error["field"], "limit");
    }
}

#[tokio::test]
async fn gt_pages_forward_from_the_oldest_after_it() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let acks = ann.send_messages(&cid, numbered(8)).await;
    let after = json!({"gt": acks[3].created_at});
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "updated_at": after})).await, ["8", "7", "6", "5"]);
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "updated_at": after, "limit": 3})).await, ["7", "6", "5"]);
    let between = json!({"gt": acks[1].created_at, "lt": acks[4].created_at});
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "updated_at": between})).await, ["4", "3"]);
}

#[tokio::test]
async fn lt_pages_backwards_without_a_gap_or_a_repeat() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    ann.send_messages(&cid, numbered(70)).await;
    let mut seen = Vec::new();
    let mut bounds = json!({});
    loop {
        let page = bob.list_messages(json!({"cid": cid, "updated_at": bounds, "limit": 30})).await;
        let Some(oldest) = page.last() else { break };
        bounds = json!({"lt": oldest["created_at"]});
        seen.extend(texts(&page, "body").into_iter().map(str::to_owned));
    }
    assert_eq!(seen, numbered(70).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn dates_may_be_written_in_many_ways() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let acks = ann.send_messages(&cid, numbered(5)).await;
    let (stamp, at) = (acks[2].created_at.as_str(), millis(&acks[2]));
    let without_zone = stamp.trim_end_matches('Z');
    let same = [
        json!(stamp),
        json!(at),
        json!(at.to_string()),
        json!(format!("{without_zone}456Z")),
        json!(format!("{without_zone}000000Z")),
        json!(without_zone),
        json!(format!("{without_zone}+00:00")),
    ];
    for gt in same {
        let page = bodies(&mut bob, json!({"cid": cid, "updated_at": {"gt": gt}})).await;
        assert_eq!(page, ["5", "4"], "{gt}");
    }
    // Finer than a millisecond, an upper bound is rounded up.
    let lt = json!({"lt": format!("{without_zone}456Z")});
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "updated_at": lt})).await, ["3", "2", "1"]);
    let (before, after) = (at / 1000 - 5, at / 1000 + 60);
    let all = [json!({"gt": before}), json!({"lt": after}), json!({}), json!(null), json!({"gt": null, "lt": null})];
    for bounds in all {
        let page = bodies(&mut bob, json!({"cid": cid, "updated_at": bounds})).await;
        assert_eq!(page.len(), 5, "{bounds}");
    }
    for none in [json!({"lt": before}), json!({"gt": after}), json!({"gt": after * 1000})] {
        assert!(bodies(&mut bob, json!({"cid": cid, "updated_at": none})).await.is_empty(), "{none}");
    }
    for bad in
        [json!({"gt": "abc"}), json!({"lt": {}}), json!({"gt": true}), json!("2024"), json!({"gt": "2024-13-01"})]
    {
        bob.refused("message_list", json!({"cid": cid, "updated_at": bad}), 422, "validation_failed").await;
    }
}

#[tokio::test]
async fn ids_choose_visible_messages_of_this_conversation() {
    let Team { mut ann, mut bob, mut carl, cid, .. } = Team::new().await;
    let private = ann.create_private(&mut carl).await;
    let shown = ann.send_message(&cid, "shown").await.server_mid;
    let hidden = json!({"cid": cid, "body": "hidden", "deleted_for": [bob.id()]});
    let hidden = ann.send_message_with(hidden).await.server_mid;
    let foreign = ann.send_message(&private, "foreign").await.server_mid;
    ann.send_message(&cid, "not asked for").await;
    let ids = json!([hidden, foreign, "abs", "65a000000000000000000001", shown.to_uppercase()]);
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "ids": ids})).await, ["shown"]);
    assert_eq!(bodies(&mut carl, json!({"cid": cid, "ids": ids})).await, ["hidden", "shown"]);
    bob.refused("message_list", json!({"cid": cid, "ids": vec![shown; 101]}), 422, "validation_failed").await;
    bob.refused("message_list", json!({"cid": cid, "ids": "abs"}), 422, "validation_failed").await;
}

#[tokio::test]
async fn a_page_asked_for_by_ids_is_as_long_as_the_ids() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let acks = ann.send_messages(&cid, numbered(40)).await;
    let ids: Vec<_> = acks.iter().map(|ack| ack.server_mid.as_str()).collect();
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "ids": ids})).await.len(), 40);
    assert_eq!(bodies(&mut bob, json!({"cid": cid, "ids": ids, "limit": 2})).await, ["40", "39"]);
}

#[tokio::test]
async fn listed_messages_carry_what_clients_read_and_a_status_only_where_they_are_ones_own() {
    let Team { mut ann, mut bob, cid, .. } = Team::new().await;
    let ack = ann.send_message(&cid, "ann's").await;
    bob.send_message(&cid, "bob's").await;
    let hidden = json!({"cid": cid, "body": "hidden", "deleted_for": [ann.id()]});
    bob.send_message_with(hidden).await;
    let listed = ann.list_messages(json!({"cid": cid})).await;
    assert_eq!(texts(&listed, "body"), ["bob's", "ann's"]);
    let wanted = json!({
        "_id": ack.server_mid, "cid": cid, "from": ann.id(), "t": ack.t, "body": "ann's", "status": "sent",
        "reactions": {}, "created_at": ack.created_at, "updated_at": ack.created_at,
    });
    assert_eq!(listed[1], wanted);
    assert!(listed[0].get("status").is_none());
    assert_eq!(listed[0]["reactions"], json!({}));
    assert_eq!(text(&listed[0], "from"), bob.id());
}

#[tokio::test]
async fn a_list_is_for_members() {
    let team = Team::new().await;
    let (mut dora, Team { mut ann, cid, .. }) = (team.dora().await, team);
    dora.refused("message_list", json!({"cid": cid}), 403, "access_denied").await;
    ann.refused("message_list", json!({"cid": "abs"}), 404, "conversation_not_found").await;
    ann.refused("message_list", json!({"cid": "65a000000000000000000001"}), 404, "conversation_not_found").await;
    ann.refused("message_list", json!({}), 422, "cid_missing").await;
}
