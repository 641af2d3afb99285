//! Ann and Bob in front of their browsers, which most stories begin with.

use std::net::SocketAddr;

use e2e::packets::texts;
use e2e::{Organization, StackHandle, TestClient, TestUser};
use serde_json::json;

use super::relay::Relay;
use super::window::{Browsers, Window};

/// The page of this organization.
pub(super) fn page(address: SocketAddr, org: &Organization) -> String {
    format!("http://{address}/?organization={}", org.id)
}

/// Ann and Bob, each with a browser of their own, signed up and in a private conversation that both have open.
pub(super) struct Couple {
    pub(super) ann: Window,
    pub(super) bob: Window,
    pub(super) page: String,
    pub(super) relay: Relay,
    // After the windows, which need it to close.
    pub(super) browsers: Browsers,
    pub(super) org: Organization,
}

impl Couple {
    pub(super) async fn on(stack: &StackHandle) -> Self {
        let org = stack.new_organization().await;
        let relay = Relay::to(stack).await;
        let page = page(relay.address, &org);
        let browsers = Browsers::start().await;
        let (ann, bob) = tokio::join!(browsers.open("Ann"), browsers.open("Bob"));
        tokio::join!(arrive(&ann, &page, "ann", "Ann Arbor"), arrive(&bob, &page, "bob", "Bob Bow"));
        ann.start_private("bob").await;
        bob.open_conversation("Ann Arbor").await;
        Self { ann, bob, page, relay, browsers, org }
    }

    /// The end of a story that went well.
    pub(super) async fn part(self) {
        tokio::join!(self.ann.close(), self.bob.close());
    }
}

pub(super) async fn arrive(window: &Window, page: &str, login: &str, name: &str) {
    window.visit(page).await;
    window.sign_up(login, name).await;
}

/// The bodies that the server has in this user's newest conversation, the oldest first.
pub(super) async fn history(org: &Organization, login: &str) -> Vec<String> {
    let mut client = protocol_client(org, login).await;
    let conversations = client.list_conversations(json!({})).await;
    let mut messages = client.list_messages(json!({"cid": conversations[0]["_id"], "limit": 100})).await;
    messages.reverse();
    texts(&messages, "body").into_iter().map(str::to_owned).collect()
}

/// A client without a page, for somebody who signed up with one.
pub(super) async fn protocol_client(org: &Organization, login: &str) -> TestClient {
    let user = TestUser { id: String::new(), login: login.to_owned(), organization: org.id.clone() };
    let session = user.log_in(org.stack(), "no browser").await;
    session.connect(org.stack()).await
}
