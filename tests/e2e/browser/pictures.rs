//! Pictures of the page with life in it, kept under `target/screenshots` for people to look at.

use std::fs;
use std::path::PathBuf;

use e2e::packets::text;
use e2e::{Organization, TestStack};
use serde_json::{Value, json};
use thirtyfour::Key;

use super::couple::{arrive, page, protocol_client};
use super::relay::Relay;
use super::window::{Browsers, Window};

#[tokio::test]
#[ignore = "long: run by tests/run --long"]
async fn it_looks_as_in_the_pictures() {
    let stack = TestStack::builder().start().await;
    let org = stack.new_organization().await;
    let relay = Relay::to(&stack).await;
    let page = page(relay.address, &org);
    let browsers = Browsers::start().await;
    let (mira, jonas) = tokio::join!(browsers.open("Mira"), browsers.open("Jonas"));
    mira.visit(&page).await;
    in_every_light(&mira, "sign-in").await;
    tokio::join!(arrive(&mira, &page, "mira", "Mira Solberg"), arrive(&jonas, &page, "jonas", "Jonas Weber"));
    in_every_light(&mira, "nobody-yet").await;
    let ids = [&mira, &jonas].map(|window| async { window.eval("localStorage.getItem('sama.user')").await });
    let [mira_id, jonas_id] = futures_util::future::join_all(ids).await.try_into().unwrap();
    people_around(&org, &mira_id, &jonas_id).await;
    mira.start_private("jonas").await;
    jonas.open_conversation("Mira Solberg").await;
    talk(&mira, &jonas).await;
    in_every_light(&mira, "conversation").await;

    mira.click("#new-chat-open").await;
    mira.click(".segments label:last-child").await;
    mira.write("[name=group-name]", "Lunch on Friday").await;
    mira.write("[name=keyword]", "a").await;
    mira.until("document.querySelectorAll('#found button').length > 2").await;
    mira.click("#found button").await;
    in_every_light(&mira, "new-group").await;
    mira.press(Key::Escape + "").await;
    mira.eval("location.hash = ''").await;
    mira.until("document.getElementById('conversation').hidden").await;
    in_every_light(&mira, "list").await;
    mira.open_conversation("Book launch").await;
    mira.until("document.querySelector('#messages .message')").await;
    in_every_light(&mira, "group").await;

    stack.kill().await;
    mira.until_offline().await;
    mira.say("I will bring the samples").await;
    mira.until_newest_is("sending").await;
    in_every_light(&mira, "offline").await;
    tokio::join!(mira.close(), jonas.close());
}

/// Wide and on a phone, light and dark.
async fn in_every_light(window: &Window, scene: &str) {
    for (screen, width, height) in [("phone", 390, 844), ("wide", 1280, 800)] {
        window.resize(width, height).await;
        for scheme in ["dark", "light"] {
            window.prefer(scheme).await;
            window.picture(&directory().join(format!("{scene}-{screen}-{scheme}.png"))).await;
        }
    }
}

fn directory() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(3).unwrap().join("screenshots");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Who else there is, and what they have said to Mira.
async fn people_around(org: &Organization, mira: &Value, jonas: &Value) {
    let mut clients = Vec::new();
    for (login, first_name, last_name) in
        [("amara", "Amara", "Okafor"), ("tomas", "Tom\u{e1}s", "Ribeiro"), ("noor", "Noor", "Haddad")]
    {
        let payload = json!({
            "organization_id": org.id, "login": login, "password": "a password",
            "first_name": first_name, "last_name": last_name,
        });
        let created = org.stranger().await.succeed("user_create", payload).await;
        clients.push((created["user"]["_id"].clone(), protocol_client(org, login).await));
    }
    let [(amara_id, mut amara), (tomas_id, mut tomas), (_, mut noor)] =
        <[_; 3]>::try_from(clients).unwrap_or_else(|_| panic!("three people"));

    for (client, name, members, words) in [
        (&mut tomas, "Climbing on Thursdays", vec![mira, &amara_id], "Hall or rocks this week?"),
        (&mut noor, "", vec![mira], "The train is at nine, see you at the station"),
    ] {
        let kind = if name.is_empty() { "u" } else { "g" };
        let payload = json!({"type": kind, "name": name, "participants": members});
        let payload = if name.is_empty() { json!({"type": kind, "participants": members}) } else { payload };
        let created = client.succeed("conversation_create", payload).await;
        client.send_message(text(&created["conversation"], "_id"), words).await;
    }
    let group = json!({"type": "g", "name": "Book launch", "participants": [mira, jonas, tomas_id]});
    let group = amara.succeed("conversation_create", group).await;
    let cid = text(&group["conversation"], "_id").to_owned();
    amara.send_message(&cid, "Welcome! This is for everything around the launch on the 12th.").await;
    amara.send_message(&cid, "The small hall is ours from 17:00, 60 seats.").await;
    let question = tomas.send_message(&cid, "Lovely. Who takes care of the food?").await;
    let answer = json!({
        "id": "food", "cid": cid, "body": "My sister does, there will be far too much",
        "replied_message_id": question.server_mid,
    });
    amara.send_message_with(answer).await;
}

async fn talk(mira: &Window, jonas: &Window) {
    let lines = [
        (mira, "Morning! Did the print proofs arrive?"),
        (jonas, "They did, an hour ago. The cover is gorgeous, the blue came out exactly right."),
        (jonas, "Only page 12 looks a little dark to me"),
        (mira, "I thought so on screen, too. Can you send me a photo by daylight?"),
        (jonas, "Sure, as soon as the sun is round the corner."),
        (mira, "No hurry, the printer waits until Thursday."),
    ];
    let mut said = Vec::new();
    for (who, words) in lines {
        who.say(words).await;
        said.push(words);
        for window in [mira, jonas] {
            window.until_bodies(&said).await;
        }
    }
    jonas.eval("[...document.querySelectorAll('#messages .message')].at(-1).querySelector('.reply').click()").await;
    jonas.say("Then I would even have time to compare it with the first edition").await;
    mira.until("document.querySelector('#messages .message:last-child .quote')").await;
    mira.say("Do that. I owe you a coffee").await;
    mira.until_newest_is("read").await;
    jonas.write("#composer-text", "With").await;
    mira.until("document.getElementById('typing').textContent").await;
}
