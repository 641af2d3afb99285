//! Who most stories are about: Ann, Bob and Carl in a group, and Dora outside it.

use e2e::{Organization, TestClient, TestStack};

/// Three members of a group, a socket each, with nothing in their inboxes.
pub(crate) struct Team {
    pub(crate) org: Organization,
    pub(crate) ann: TestClient,
    pub(crate) bob: TestClient,
    pub(crate) carl: TestClient,
    /// The group.
    pub(crate) cid: String,
}

impl Team {
    /// In an organization of its own on the shared server.
    pub(crate) async fn new() -> Self {
        Self::of(TestStack::organization().await).await
    }

    /// In this organization.
    pub(crate) async fn of(org: Organization) -> Self {
        let (mut ann, mut bob, mut carl) = tokio::join!(org.client("ann"), org.client("bob"), org.client("carl"));
        let cid = ann.create_group(&mut [&mut bob, &mut carl]).await;
        Self { org, ann, bob, carl, cid }
    }

    /// Somebody who is not in the group.
    pub(crate) async fn dora(&self) -> TestClient {
        self.org.client("dora").await
    }
}

/// Two users in a private conversation.
pub(crate) struct Pair {
    pub(crate) org: Organization,
    pub(crate) ann: TestClient,
    pub(crate) bob: TestClient,
    /// The conversation.
    pub(crate) cid: String,
}

impl Pair {
    /// In an organization of their own on the shared server.
    pub(crate) async fn new() -> Self {
        Self::of(TestStack::organization().await).await
    }

    /// In this organization.
    pub(crate) async fn of(org: Organization) -> Self {
        let (mut ann, mut bob) = tokio::join!(org.client("ann"), org.client("bob"));
        let cid = ann.create_private(&mut bob).await;
        Self { org, ann, bob, cid }
    }
}
