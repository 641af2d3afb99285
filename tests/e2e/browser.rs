//! The chat page as people use it: real Chromium windows on the real server.

mod couple;
mod pictures;
mod relay;
mod window;

use e2e::TestStack;
use serde_json::{Value, json};
use thirtyfour::Key;

use self::couple::{Couple, history, protocol_client};
use self::window::Window;

/// How many messages a browser keeps to be sent.
const UNSENT: &str = "Object.keys(localStorage).filter((key) => key.startsWith('sama.outbox.')).length";

#[tokio::test]
async fn two_people_meet_and_chat() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, .. } = &couple;
    ann.say("Hello Bob").await;
    bob.until_bodies(&["Hello Bob"]).await;
    // He is looking at it.
    ann.until_newest_is("read").await;

    ann.write("#composer-text", "Are you th").await;
    bob.until_is("document.getElementById('typing').textContent", json!("Ann Arbor is typing…")).await;
    bob.until_list(json!([["Ann Arbor", "typing…", 0]])).await;
    ann.write("#composer-text", "ere?").await;
    ann.press(Key::Enter).await;
    bob.until_bodies(&["Hello Bob", "Are you there?"]).await;
    bob.until_is("document.getElementById('typing').textContent", json!("")).await;

    // A reply, with what it answers above it.
    bob.eval("document.querySelector('#messages .message .reply').click()").await;
    bob.say("Hello yourself").await;
    let quote = "document.querySelector('#messages .message:last-child .quote')?.textContent";
    for window in [ann, bob] {
        window.until_is(quote, json!("Ann ArborHello Bob")).await;
    }
    couple.part().await;
}

#[tokio::test]
async fn messages_wait_unread_until_somebody_looks() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, page, .. } = &couple;
    bob.eval("location.hash = ''").await;
    bob.until("document.getElementById('conversation').hidden").await;
    ann.say("One").await;
    ann.say("Two").await;
    bob.until_list(json!([["Ann Arbor", "Two", 2]])).await;
    bob.until_is("document.title", json!("(2) SAMA chat")).await;
    ann.until_newest_is("sent").await;

    // The cookie brings him back, and he finds everything as it was.
    bob.reload().await;
    bob.until_list(json!([["Ann Arbor", "Two", 2]])).await;
    bob.open_conversation("Ann Arbor").await;
    bob.until_list(json!([["Ann Arbor", "Two", 0]])).await;
    ann.until_newest_is("read").await;
    ann.until_list(json!([["Bob Bow", "You: Two", 0]])).await;

    bob.click("#log-out").await;
    bob.until("!document.getElementById('sign-in').hidden").await;
    bob.reload().await;
    bob.until("!document.getElementById('sign-in').hidden").await;
    bob.write("[name=login]", "bob").await;
    bob.write("[name=password]", "wrong").await;
    bob.click("#sign-in-submit").await;
    bob.until("document.getElementById('sign-in-error').textContent.length > 10").await;
    bob.visit(page).await;
    bob.log_in("bob").await;
    bob.until_list(json!([["Ann Arbor", "Two", 0]])).await;
    couple.part().await;
}

#[tokio::test]
async fn a_group_talks() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, org, .. } = &couple;
    let mut carl = org.client("carl").await;
    ann.start_group("The three", &["bob", "carl"]).await;
    let cid = ann.eval("location.hash.slice(1)").await;
    let cid = cid.as_str().unwrap();
    carl.expect("the group", |packet| packet["system_message"]["cid"] == cid).await;
    bob.open_conversation("The three").await;
    ann.say("Welcome").await;
    bob.until_bodies(&["Welcome"]).await;
    bob.say("Thanks").await;
    carl.expect_message("Thanks").await;
    carl.send_message(cid, "Me too").await;
    for window in [ann, bob] {
        window.until_bodies(&["Welcome", "Thanks", "Me too"]).await;
        let author = "document.querySelector('#messages .message:last-child .author').textContent";
        window.until_is(author, json!("carl: ")).await;
        window.until_is("document.querySelector('#list .row-title').textContent", json!("The three")).await;
    }
    carl.send(json!({"typing": {"cid": cid}})).await;
    ann.until_is("document.getElementById('typing').textContent", json!("carl is typing…")).await;
    let members = "document.getElementById('conversation-subtitle').textContent";
    ann.until_is(members, json!("You, Bob Bow and carl")).await;

    carl.succeed("conversation_delete", json!({"id": cid})).await;
    ann.until_is(members, json!("You and Bob Bow")).await;
    ann.click("#leave").await;
    ann.click("#confirm-yes").await;
    ann.until_list(json!([["Bob Bow", "", 0]])).await;
    bob.until_is(members, json!("You")).await;
    let notices = "[...document.querySelectorAll('#messages .notice')].map((notice) => notice.textContent)";
    bob.until_is(notices, json!(["carl left", "Ann Arbor left"])).await;
    couple.part().await;
}

#[tokio::test]
async fn what_somebody_typed_never_runs() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, .. } = &couple;
    let evil = [
        "<script>window.ran = 1; alert(1)</script>",
        "<img src=x onerror=\"window.ran = 1; alert(2)\">",
        "<a href=\"javascript:window.ran = 1\">x</a> javascript:window.ran=1",
        "\"><svg onload=window.ran=1>",
    ];
    for body in evil {
        ann.say(body).await;
    }
    // The title of a group, and a name, are just as much somebody else's words.
    ann.start_group("<img src=x onerror=window.ran=1>", &["bob"]).await;
    ann.say("<b>bold</b>").await;
    bob.until_bodies(&evil).await;
    bob.open_conversation("<img src=x onerror=window.ran=1>").await;
    bob.until_bodies(&["<b>bold</b>"]).await;
    for window in [ann, bob] {
        window.open_conversation(if std::ptr::eq(window, ann) { "Bob Bow" } else { "Ann Arbor" }).await;
        window.until_bodies(&evil).await;
        assert_eq!(window.eval("window.ran ?? null").await, Value::Null);
        let made =
            "document.querySelectorAll('#app script, #list img, #messages img, #messages b, #messages a').length";
        assert_eq!(window.eval(made).await, 0, "text became markup");
    }
    ann.say("See https://example.org/a?b=<c> and http://example.org.").await;
    let links = "[...document.querySelectorAll('#messages a')].map((link) => [link.href, link.rel])";
    let rel = "noopener noreferrer";
    bob.until_is(links, json!([["https://example.org/a?b=", rel], ["http://example.org/", rel]])).await;
    couple.part().await;
}

#[tokio::test]
async fn a_restart_of_the_server_loses_and_doubles_nothing() {
    let stack = TestStack::builder().start().await;
    let couple = Couple::on(&stack).await;
    let Couple { ann, bob, page, org, .. } = &couple;
    ann.say("before").await;
    bob.until_bodies(&["before"]).await;
    stack.kill().await;
    for window in [ann, bob] {
        window.until_offline().await;
    }
    ann.say("away 1").await;
    ann.say("away 2").await;
    ann.until_newest_is("sending").await;
    // Bob leaves the page; what he has written waits for him to come back.
    bob.say("from bob").await;
    bob.visit("about:blank").await;
    stack.restart().await;
    ann.until_online().await;
    ann.until_newest_is("sent").await;
    bob.visit(page).await;
    bob.until_online().await;
    bob.open_conversation("Ann Arbor").await;
    let all = ["before", "away 1", "away 2", "from bob"];
    for window in [ann, bob] {
        window.until_bodies(&all).await;
    }
    bob.until_newest_is("read").await;
    ann.say("after").await;
    bob.until_bodies(&["before", "away 1", "away 2", "from bob", "after"]).await;
    assert_eq!(history(org, "ann").await, ["before", "away 1", "away 2", "from bob", "after"]);
    for window in [ann, bob] {
        assert_eq!(window.eval(UNSENT).await, 0, "nothing is left to send");
    }
    couple.part().await;
}

#[tokio::test]
async fn a_message_whose_acknowledgement_is_lost_is_sent_again_and_there_once() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, org, page, relay, .. } = &couple;
    let mut witness = protocol_client(org, "bob").await;
    ann.say("one").await;
    bob.until_bodies(&["one"]).await;
    relay.mute_server();
    ann.say("two").await;
    // The server has it, and its word to Ann is lost.
    witness.expect_message("two").await;
    assert_eq!(ann.bodies().await, json!(["one", "two"]));
    ann.until_newest_is("sending").await;
    relay.cut();
    ann.until_newest_is("read").await;
    ann.say("three").await;
    for window in [ann, bob] {
        window.until_bodies(&["one", "two", "three"]).await;
    }
    assert_eq!(history(org, "ann").await, ["one", "two", "three"]);

    // The same when she has left the page meanwhile. It comes back without the history, and only the message's id can
    // tell the server that it has it.
    relay.mute_server();
    ann.say("four").await;
    witness.expect_message("four").await;
    ann.visit("about:blank").await;
    relay.cut();
    ann.visit(page).await;
    ann.until_online().await;
    ann.until_is(UNSENT, json!(0)).await;
    bob.until_bodies(&["one", "two", "three", "four"]).await;
    assert_eq!(history(org, "ann").await, ["one", "two", "three", "four"]);
    couple.part().await;
}

#[tokio::test]
async fn a_refused_message_says_why_and_can_be_discarded() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, page, .. } = &couple;
    ann.say("fine").await;
    bob.until_bodies(&["fine"]).await;
    ann.until_newest_is("read").await;
    // Longer than the server takes, which the field itself would not let anybody type.
    let user = "localStorage.getItem('sama.user')";
    let entry = "JSON.stringify({ cid: location.hash.slice(1), body: 'x'.repeat(65537), written_at: Date.now() })";
    ann.eval(&format!("localStorage.setItem('sama.outbox.' + {user} + '.e', {entry})")).await;
    ann.visit("about:blank").await;
    ann.visit(page).await;
    ann.open_conversation("Bob Bow").await;
    ann.until_newest_is("failed").await;
    ann.until("document.querySelector('#messages .failure').textContent.startsWith('Not sent. ')").await;
    ann.click("#messages .failure .link:first-of-type").await;
    ann.until_newest_is("failed").await;
    ann.click("#messages .failure .link:last-of-type").await;
    ann.until_bodies(&["fine"]).await;
    ann.say("still fine").await;
    bob.until_bodies(&["fine", "still fine"]).await;
    couple.part().await;
}

#[tokio::test]
async fn tabs_of_one_person_stay_in_step() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, page, .. } = &couple;
    let first = ann.tab().await;
    let second = ann.new_tab().await;
    ann.visit(page).await;
    ann.until_list(json!([["Bob Bow", "", 0]])).await;
    // It is not open here, so it is unread here, until the other tab shows it.
    bob.say("for any tab").await;
    ann.until_list(json!([["Bob Bow", "for any tab", 1]])).await;
    ann.to_tab(&first).await;
    ann.until_bodies(&["for any tab"]).await;
    bob.until_newest_is("read").await;
    ann.say("from the first").await;
    ann.to_tab(&second).await;
    ann.until_list(json!([["Bob Bow", "You: from the first", 0]])).await;
    ann.open_conversation("Bob Bow").await;
    ann.say("from the second").await;
    for tab in [&second, &first] {
        ann.to_tab(tab).await;
        ann.until_bodies(&["for any tab", "from the first", "from the second"]).await;
    }
    bob.until_bodies(&["for any tab", "from the first", "from the second"]).await;
    assert_eq!(history(&couple.org, "ann").await, ["for any tab", "from the first", "from the second"]);

    ann.click("#log-out").await;
    for tab in [&first, &second] {
        ann.to_tab(tab).await;
        ann.until("!document.getElementById('sign-in').hidden").await;
    }
    couple.part().await;
}

#[tokio::test]
async fn a_long_history_is_paged_back_without_gaps() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, org, .. } = &couple;
    let mut client = protocol_client(org, "bob").await;
    let conversations = client.list_conversations(json!({})).await;
    let cid = conversations[0]["_id"].as_str().unwrap().to_owned();
    let bodies: Vec<String> = (0..130).map(|number| format!("message {number}")).collect();
    client.send_messages(&cid, bodies.clone()).await;
    ann.reload().await;
    ann.until("document.querySelectorAll('#messages .message').length >= 40").await;
    assert_eq!(ann.eval("document.querySelectorAll('#messages .message').length").await, 40, "one page");
    // What is read stays where it is while older messages come in above.
    let place = "(() => { const top = document.getElementById('log').getBoundingClientRect().top; \
                 const shown = [...document.querySelectorAll('#messages .message')].find((message) => \
                 message.getBoundingClientRect().top >= top); \
                 return [shown.dataset.id, Math.round(shown.getBoundingClientRect().top - top)]; })()";
    ann.eval("document.getElementById('log').scrollTop = 250").await;
    let before = ann.eval(place).await;
    ann.until("document.querySelectorAll('#messages .message').length === 80").await;
    let after = ann.eval(place).await;
    assert_eq!(before[0], after[0], "the same message is on top");
    assert!((before[1].as_i64().unwrap() - after[1].as_i64().unwrap()).abs() <= 2, "{before} {after}");
    // A new one does not tear her away.
    bob.say("news").await;
    ann.until("document.getElementById('to-latest').textContent === '1 new'").await;
    for count in [121, 131] {
        ann.eval("document.getElementById('log').scrollTop = 0").await;
        ann.until(&format!("document.querySelectorAll('#messages .message').length === {count}")).await;
    }
    let all: Vec<&str> = bodies.iter().map(String::as_str).chain(["news"]).collect();
    assert_eq!(ann.bodies().await, json!(all));
    ann.click("#to-latest").await;
    bob.until_newest_is("read").await;
    couple.part().await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, browsers, page, .. } = &couple;
    let carl = browsers.open("Carl").await;
    carl.visit(page).await;
    carl.until("document.activeElement.name === 'login'").await;
    // Log in, Create an account, Enter; then back up to the name.
    carl.press(Key::Tab + Key::Tab + Key::Tab + Key::Enter).await;
    carl.until("document.activeElement.name === 'login' && !document.getElementById('name-field').hidden").await;
    carl.press("carl").await;
    carl.press(Key::Tab + "a password" + Key::Enter).await;
    carl.until_online().await;
    carl.until("!document.getElementById('list-empty').hidden").await;
    // Avatar and name are no stops: log out, new conversation.
    carl.press(Key::Tab + Key::Tab + Key::Enter).await;
    carl.until("document.activeElement.name === 'keyword'").await;
    carl.press("bob").await;
    carl.until("document.querySelectorAll('#found button').length === 1").await;
    carl.press(Key::Escape + "").await;
    carl.until("!document.querySelector('dialog[open]')").await;
    carl.until("document.activeElement.id === 'new-chat-open'").await;
    carl.press(Key::Enter + "bob").await;
    carl.until("document.querySelectorAll('#found button').length === 1").await;
    carl.press(Key::Tab + Key::Enter).await;
    carl.until("document.activeElement.id === 'composer-text'").await;
    carl.press("first line").await;
    carl.write("#composer-text", Key::Shift + Key::Enter).await;
    carl.press("second line").await;
    carl.press(Key::Enter + "").await;
    carl.until_bodies(&["first line\nsecond line"]).await;
    bob.open_conversation("carl").await;
    bob.until_bodies(&["first line\nsecond line"]).await;
    bob.say("got it").await;
    carl.until_bodies(&["first line\nsecond line", "got it"]).await;
    // Up into the messages, Enter to reply, Escape to think better of it.
    carl.press(Key::Up + "").await;
    carl.until("document.activeElement.closest('.message')?.textContent.includes('got it')").await;
    carl.press(Key::Up + Key::Enter).await;
    carl.until("document.getElementById('quoting-text').textContent === 'carlfirst line second line'").await;
    carl.press(Key::Escape + "").await;
    carl.until("document.getElementById('quoting').hidden && document.activeElement.id === 'composer-text'").await;
    ann.until_list(json!([["Bob Bow", "", 0]])).await;
    carl.close().await;
    couple.part().await;
}

/// Wider than the screen is what makes a phone scroll sideways, or show everything smaller.
async fn assert_fits(window: &Window, width: u32, what: &str) {
    let needed = window.eval("document.documentElement.scrollWidth").await;
    assert!(needed.as_u64().unwrap() <= u64::from(width), "{what} needs {needed} pixels");
}

#[tokio::test]
async fn a_phone_shows_one_thing_at_a_time() {
    let couple = Couple::on(&TestStack::shared().await).await;
    let Couple { ann, bob, page, .. } = &couple;
    let is_shown = |selector: &str| format!("document.querySelector('{selector}').checkVisibility()");
    ann.resize(360, 740).await;
    assert_fits(ann, 360, "a conversation without messages").await;
    ann.say("https://example.org/an-address-without-a-single-place-to-break-it-in-two-parts").await;
    bob.until("document.querySelector('#messages .message')").await;
    assert_fits(ann, 360, "the conversation").await;
    assert_eq!(ann.eval(&is_shown(".sidebar")).await, false);
    ann.click("#back").await;
    ann.until(&is_shown(".sidebar")).await;
    assert_eq!(ann.eval(&is_shown(".pane")).await, false);
    assert_fits(ann, 360, "the list").await;
    ann.start_group(&"A group with quite a long name ".repeat(5), &["bob"]).await;
    ann.say("Words").await;
    assert_fits(ann, 360, "a group").await;
    ann.click("#back").await;
    assert_fits(ann, 360, "the list with the group").await;
    // Off the list again by the browser's own way back.
    ann.eval("history.back()").await;
    ann.until(&is_shown("#conversation")).await;
    ann.click("#back").await;
    ann.click("#new-chat-open").await;
    ann.click(".segments label:last-child").await;
    assert_fits(ann, 360, "the dialog").await;
    ann.press(Key::Escape + "").await;
    ann.click("#log-out").await;
    ann.until("!document.getElementById('sign-in').hidden").await;
    assert_fits(ann, 360, "the sign-in form").await;
    ann.visit(page).await;
    couple.part().await;
}
