//! Creating, finding and showing users. Conformance points 5, 16, 17 and 20 of the protocol's part 1. What no packet
//! may leak is looked for in every packet of the suite.

use e2e::packets::{is_id, is_stamp, items, text, texts};
use e2e::{TestClient, TestStack};
use serde_json::{Value, json};

async fn found(client: &mut TestClient, payload: Value) -> Vec<String> {
    let response = client.succeed("user_search", payload).await;
    texts(items(&response, "users"), "login").into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_login_and_a_password_are_enough() {
    let org = TestStack::organization().await;
    let mut client = org.stranger().await;
    let payload = json!({"organization_id": org.id, "login": "  Ann ", "password": "pwd"});
    let response = client.succeed("user_create", payload).await;
    let user = &response["user"];
    let id = text(user, "_id");
    assert!(is_id(id) && is_stamp(text(user, "created_at")), "{user}");
    assert_eq!(
        (&user["login"], &user["native_id"], &user["updated_at"]),
        (&json!("Ann"), &json!(id), &user["created_at"])
    );
    assert!(user["recent_activity"].is_i64());
    for absent in ["email", "phone", "first_name", "last_name", "avatar_url", "token"] {
        assert!(user.get(absent).is_none(), "{user}");
    }
    client.assert_anonymous().await;
}

#[tokio::test]
async fn everything_else_is_optional_and_kept() {
    let org = TestStack::organization().await;
    let mut client = org.stranger().await;
    // The web client sends the login as e-mail.
    let payload = json!({
        "organization_id": org.id, "login": "ann", "password": "p".repeat(40), "email": "ann", "phone": "112",
        "first_name": "Ann", "last_name": "A", "device_id": 4, "unknown": {},
    });
    let response = client.succeed("user_create", payload).await;
    for (key, value) in [("email", "ann"), ("phone", "112"), ("first_name", "Ann"), ("last_name", "A")] {
        assert_eq!(response["user"][key], value);
    }
}

#[tokio::test]
async fn limits_of_a_new_user() {
    let org = TestStack::organization().await;
    let mut client = org.stranger().await;
    let valid = json!({"organization_id": org.id, "login": "ann", "password": "pwd"});
    for (key, value, code) in [
        ("login", Value::Null, "login_invalid"),
        ("login", json!("an"), "login_invalid"),
        ("login", json!(" an "), "login_invalid"),
        ("login", json!("a".repeat(41)), "login_invalid"),
        ("login", json!("a\u{7}nn"), "login_invalid"),
        ("login", json!(1234), "login_invalid"),
        ("password", Value::Null, "password_invalid"),
        ("password", json!("pw"), "password_invalid"),
        ("password", json!("p".repeat(41)), "password_invalid"),
        ("password", json!({"$ne": ""}), "password_invalid"),
        ("email", json!("e".repeat(255)), "validation_failed"),
        ("email", json!(""), "validation_failed"),
        ("phone", json!("12"), "validation_failed"),
        ("first_name", json!("f".repeat(21)), "validation_failed"),
        ("last_name", json!([]), "validation_failed"),
    ] {
        let mut payload = valid.clone();
        payload[key] = value;
        let error = client.refused("user_create", payload, 422, code).await;
        assert!(code != "validation_failed" || error["field"] == key, "{error}");
    }
    let mut elsewhere = valid.clone();
    elsewhere["organization_id"] = json!("no-such");
    client.refused("user_create", elsewhere, 404, "organization_unknown").await;
    client.succeed("user_create", valid).await;
}

#[tokio::test]
async fn a_login_an_email_and_a_phone_are_taken_once_whatever_their_case() {
    let org = TestStack::organization().await;
    let mut client = org.stranger().await;
    let mut create = async |login: &str, email: Value, phone: Value| {
        let payload =
            json!({"organization_id": org.id, "login": login, "password": "pwd", "email": email, "phone": phone});
        client.request("user_create", payload).await["error"]["code"].take()
    };
    assert_eq!(create("Élan", json!("a@b.cd"), json!("112")).await, Value::Null);
    // The same letters, composed of others.
    for (login, email, phone) in [
        ("élan", Value::Null, Value::Null),
        ("E\u{301}LAN", Value::Null, Value::Null),
        ("other", json!("A@B.CD"), Value::Null),
        ("other", Value::Null, json!("112")),
    ] {
        assert_eq!(create(login, email, phone).await, "account_exists", "{login}");
    }
    assert_eq!(create("elan", Value::Null, Value::Null).await, Value::Null);
    assert_eq!(create("other", Value::Null, Value::Null).await, Value::Null);
}

#[tokio::test]
async fn of_racing_creations_one_succeeds() {
    let org = TestStack::organization().await;
    let (mut one, mut two) = (org.stranger().await, org.stranger().await);
    for number in 0..5 {
        let payload = |login: String| json!({"organization_id": org.id, "login": login, "password": "pwd"});
        let (first, second) = tokio::join!(
            one.request("user_create", payload(format!("racer {number}"))),
            two.request("user_create", payload(format!("RACER {number}"))),
        );
        let codes = [&first["error"]["code"], &second["error"]["code"]];
        assert!(codes.contains(&&Value::Null) && codes.contains(&&json!("account_exists")), "{codes:?}");
    }
}

#[tokio::test]
async fn an_organization_that_is_not_named_is_the_default_one() {
    let stack = TestStack::shared().await;
    let mut client = TestClient::open(&stack).await;
    let login = format!("default {}", std::process::id());
    for organization in [Value::Null, json!(""), json!("default")] {
        let payload = json!({"organization_id": organization, "login": login, "password": "pwd"});
        let response = client.request("user_create", payload).await;
        // One of the three creates, the others find it there.
        let code = &response["error"]["code"];
        assert!(code.is_null() || code == "account_exists", "{response}");
    }
    let response = client.succeed("user_login", json!({"login": login, "password": "pwd", "device_id": "d"})).await;
    assert_eq!(response["user"]["login"], login);
}

#[tokio::test]
async fn users_are_shown_by_id() {
    let org = TestStack::organization().await;
    let (mut ann, bob) = tokio::join!(org.client("ann"), org.sign_up("bob"));
    let foreigner = org.stack().new_organization().await.sign_up("eve").await.id;
    for bad in [json!({"ids": []}), json!({}), json!({"ids": vec![bob.id.clone(); 101]}), json!({"ids": "abs"})] {
        ann.refused("get_users_by_ids", bad, 422, "validation_failed").await;
    }
    let garbage = json!({"ids": ["abs", null, "65a000000000000000000001", foreigner]});
    assert_eq!(ann.succeed("get_users_by_ids", garbage).await["users"], json!([]));
    let ids = json!({"ids": [ann.id(), bob.id, ann.id(), bob.id.to_uppercase()]});
    let response = ann.succeed("get_users_by_ids", ids).await;
    let mut descending = [ann.id(), &bob.id];
    descending.sort_unstable();
    descending.reverse();
    assert_eq!(texts(items(&response, "users"), "_id"), descending);
    assert_eq!(texts(items(&response, "users"), "native_id"), descending);
    let (online, offline): (Vec<_>, Vec<_>) =
        items(&response, "users").iter().partition(|user| user["recent_activity"] == 0);
    assert_eq!((online[0]["login"].as_str(), offline[0]["login"].as_str()), (Some("ann"), Some("bob")));
}

#[tokio::test]
async fn a_search_is_for_a_literal_part_of_a_name() {
    let org = TestStack::organization().await;
    let mut ann = org.client("ann").await;
    let mut stranger = org.stranger().await;
    for (login, first, last) in [
        ("bob.*smith", json!("Bob"), json!("Smith")),
        ("bobby", json!("Zed"), json!("Bee")),
        ("carl", json!("Zed"), json!("Abob")),
        ("plain bob", Value::Null, Value::Null),
        ("100%_bob", Value::Null, Value::Null),
    ] {
        let payload = json!({
            "organization_id": org.id, "login": login, "password": "pwd", "first_name": first, "last_name": last,
        });
        stranger.succeed("user_create", payload).await;
    }
    org.stack().new_organization().await.sign_up("foreign bob").await;
    let all = ["carl", "bobby", "bob.*smith", "100%_bob", "plain bob"];
    assert_eq!(found(&mut ann, json!({"keyword": "BOB"})).await, all);
    assert_eq!(found(&mut ann, json!({"keyword": "bob", "limit": 2, "ignore_ids": []})).await, all[..2]);
    assert_eq!(found(&mut ann, json!({"keyword": ".*"})).await, ["bob.*smith"]);
    assert_eq!(found(&mut ann, json!({"keyword": "%_"})).await, ["100%_bob"]);
    assert!(found(&mut ann, json!({"keyword": "ann"})).await.is_empty());
    let response = ann.succeed("user_search", json!({"keyword": "carl"})).await;
    let carl = text(&response["users"][0], "_id");
    let ignoring = json!({"keyword": "bob", "ignore_ids": [carl, "abs"]});
    assert_eq!(found(&mut ann, ignoring).await, all[1..]);
    for bad in [
        json!({}),
        json!({"keyword": ""}),
        json!({"keyword": "k".repeat(256)}),
        json!({"keyword": "k", "limit": 0}),
        json!({"keyword": "k", "limit": 101}),
        json!({"keyword": "k", "ignore_ids": "abs"}),
        json!({"keyword": "k", "updated_at": {"gt": "abc"}}),
    ] {
        ann.refused("user_search", bad, 422, "validation_failed").await;
    }
    let changed = json!({"keyword": "carl", "updated_at": {"gt": response["users"][0]["updated_at"]}});
    assert!(found(&mut ann, changed).await.is_empty());
}
