//! The forms a packet may come in, and what is answered when it has none of them. Conformance points 1 to 4 and 22 of
//! the protocol's part 1.

use e2e::TestStack;
use e2e::packets::{assert_error, text};
use serde_json::{Value, json};

use crate::team::Team;

#[tokio::test]
async fn a_request_is_understood_in_every_form_and_its_id_comes_back_as_it_was() {
    let mut client = TestStack::organization().await.stranger().await;
    for (request, id) in [
        (r#"{"request":{"id":"a","ping":{}}}"#, json!("a")),
        (r#"{"request":{"ping":{},"id":"a"}}"#, json!("a")),
        (r#"{"ping":{},"id":"a"}"#, json!("a")),
        (r#"{"id":17,"ping":null}"#, json!(17)),
        (r#"{"request":{"ping":{},"id":1.5},"other":1}"#, json!(1.5)),
        (r#"{"request":{"ping":{"unknown":[]},"id":"0123456789012345678901"}}"#, json!("0123456789012345678901")),
    ] {
        client.send_text(request).await;
        assert_eq!(client.next().await, json!({"response": {"id": id, "pong": {}}}), "{request}");
    }
    client.send_text(r#"{"request":{"ping":{},"id":12345678901234567890123}}"#).await;
    assert_eq!(client.next().await["response"]["id"].to_string(), "12345678901234567890123");
    for request in [r#"{"ping":{}}"#, r#"{"request":{"ping":{},"id":null}}"#] {
        client.send_text(request).await;
        assert_eq!(client.next().await, json!({"response": {"pong": {}}}), "{request}");
    }
}

#[tokio::test]
async fn requests_may_come_in_binary_frames() {
    let mut client = TestStack::organization().await.stranger().await;
    let frame = tokio_tungstenite::tungstenite::Message::binary(r#"{"ping":{},"id":"b"}"#.as_bytes());
    client.send_frame(frame).await;
    assert_eq!(client.next().await, json!({"response": {"id": "b", "pong": {}}}));
}

#[tokio::test]
async fn what_is_no_packet_is_answered_and_leaves_the_socket_usable() {
    let mut client = TestStack::organization().await.stranger().await;
    for (frame, id) in [
        ("not json", None),
        ("[]", None),
        ("null", None),
        ("{}", None),
        ("", None),
        (r#"{"request":null}"#, None),
        (r#"{"request":[]}"#, None),
        (r#"{"request":{"id":1}}"#, Some(json!(1))),
        (r#"{"ping":{},"user_create":{},"id":2}"#, Some(json!(2))),
        (r#"{"ping":{},"id":{}}"#, None),
        (r#"{"ping":{},"id":true}"#, None),
        (r#"{"ping":{}} {"ping":{}}"#, None),
    ] {
        client.send_text(frame).await;
        let packet = client.next().await;
        assert_error(&packet["response"], 400, "malformed_packet");
        assert_eq!(packet["response"].get("id"), id.as_ref(), "{frame}");
    }
    let long = "i".repeat(255);
    client.send(json!({"ping": {}, "id": long})).await;
    assert_error(&client.next().await["response"], 400, "malformed_packet");
    client.succeed("ping", json!({})).await;
}

#[tokio::test]
async fn two_names_are_none_and_nothing_is_done() {
    let org = TestStack::organization().await;
    let mut client = org.stranger().await;
    let create = json!({"organization_id": org.id, "login": "sneaky", "password": "a password"});
    for other in ["message_list", "no_such"] {
        client.send(json!({"request": {other: {}, "user_create": create, "id": 1}})).await;
        let packet = client.next().await;
        assert_error(&packet["response"], 400, "malformed_packet");
        assert_eq!(packet["response"]["id"], 1);
    }
    // The login is still free.
    client.succeed("user_create", create).await;
}

#[tokio::test]
async fn an_unknown_name_is_404_in_response() {
    let mut client = TestStack::organization().await.stranger().await;
    for request in [
        json!({"request": {"constructor": {}, "id": 1}}),
        json!({"no_such": {}, "id": 1}),
        json!({"Ping": {}, "id": 1}),
        json!({"request": {"": {}, "id": 1}}),
        json!({"toString": "anything", "id": 1}),
    ] {
        client.send(request.clone()).await;
        let packet = client.next().await;
        assert_error(&packet["response"], 404, "unknown_request");
        assert_eq!(packet["response"]["id"], 1, "{request}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_in_the_form_he_used() {
    let mut client = TestStack::organization().await.stranger().await;
    let requests = [
        "conversation_create",
        "conversation_list",
        "get_participants_by_cids",
        "get_users_by_ids",
        "message_list",
        "message_read",
        "user_logout",
        "user_search",
    ];
    for name in requests {
        // The session is looked at before the payload is.
        client.refused(name, json!("nonsense"), 401, "not_authenticated").await;
        client.send(json!({name: {}, "id": 1})).await;
        let packet = client.next().await;
        assert_error(&packet["response"], 401, "not_authenticated");
        assert_eq!(packet["response"]["id"], 1);
    }
    for name in ["message", "typing"] {
        for (packet, id) in [
            (json!({name: {"id": "m", "cid": "abs"}}), json!("m")),
            (json!({name: {"cid": "abs"}, "id": 5}), json!(5)),
            (json!({name: {"cid": "abs"}}), Value::Null),
        ] {
            client.send(packet.clone()).await;
            let answer = client.next().await;
            assert_error(&answer[name], 401, "not_authenticated");
            assert_eq!(answer[name]["id"], id, "{packet}");
        }
        client.refused(name, json!({"id": "m", "cid": "abs"}), 401, "not_authenticated").await;
    }
}

#[tokio::test]
async fn payloads_are_objects_and_null_is_an_empty_one() {
    let Team { mut ann, cid, .. } = Team::new().await;
    ann.send(json!({"ping": null, "id": 1})).await;
    assert_eq!(ann.next().await, json!({"response": {"id": 1, "pong": {}}}));
    for bad in [json!("x"), json!(1), json!([]), json!(true)] {
        ann.send(json!({"ping": bad, "id": 1})).await;
        assert_error(&ann.next().await["response"], 400, "invalid_payload");
        ann.refused("message_list", bad.clone(), 400, "invalid_payload").await;
        ann.message_refused(bad, 400, "invalid_payload").await;
    }
    for number in ["1", "2"] {
        ann.send_message(&cid, number).await;
    }
    let listed = ann.list_messages(json!({"cid": cid, "limit": "1"})).await;
    assert_eq!(text(&listed[0], "body"), "2");
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    let Team { mut ann, cid, .. } = Team::new().await;
    for number in 0..50 {
        let packet = match number % 3 {
            0 => json!({"message": {"id": number.to_string(), "cid": cid, "body": "b"}}),
            1 => json!({"ping": {}, "id": number.to_string()}),
            _ => json!({"request": {"message_list": {"cid": cid}, "id": number.to_string()}}),
        };
        ann.send(packet).await;
    }
    for number in 0..50 {
        let packet = ann.next().await;
        let id = if number % 3 == 0 { &packet["ask"]["mid"] } else { &packet["response"]["id"] };
        assert_eq!(*id, number.to_string(), "{packet}");
    }
}
