//! Organizations, users and their sessions, made through the public API.

use serde_json::{Value, json};

use crate::client::TestClient;
use crate::packets::{integer, is_id, is_stamp, text};
use crate::stack::{ADMIN_KEY, StackHandle};

/// The password of every user made here.
const PASSWORD: &str = "a password";

/// Which device a second socket of a user is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first socket's.
    Same,
    /// One of its own.
    Other,
}

impl Device {
    /// Both: what a user's second socket sees must not depend on it.
    pub const BOTH: [Self; 2] = [Self::Same, Self::Other];
}

/// An organization that one test has to itself. It holds the server.
#[derive(Clone, Debug)]
pub struct Organization {
    stack: StackHandle,
    /// The organization's id.
    pub id: String,
}

impl Organization {
    /// Creates one over admin HTTP.
    pub(crate) async fn create(stack: StackHandle) -> Self {
        static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("organization {number} of {}", std::process::id());
        let answer = reqwest::Client::new()
            .post(format!("http://{}/admin/organization", stack.gateway()))
            .header("admin-api-key", ADMIN_KEY)
            .json(&json!({"name": name}))
            .send()
            .await
            .expect("the server answers");
        assert_eq!(answer.status(), 200, "an organization is created");
        let answer: Value = answer.json().await.expect("a JSON body");
        Self { stack, id: text(&answer["organization"], "_id").to_owned() }
    }

    /// The server it is on.
    pub fn stack(&self) -> &StackHandle {
        &self.stack
    }

    /// A socket that is not logged in.
    pub async fn stranger(&self) -> TestClient {
        TestClient::open(&self.stack).await
    }

    /// Creates a user, who logs in nowhere yet.
    pub async fn sign_up(&self, login: &str) -> TestUser {
        let payload = json!({"organization_id": self.id, "login": login, "password": PASSWORD});
        let response = self.stranger().await.succeed("user_create", payload).await;
        let id = text(&response["user"], "_id").to_owned();
        TestUser { id, login: login.to_owned(), organization: self.id.clone() }
    }

    /// Creates a user, and logs a socket in.
    pub async fn client(&self, login: &str) -> TestClient {
        let session = self.sign_up(login).await.log_in(&self.stack, "first device").await;
        session.connect(&self.stack).await
    }
}

/// A user.
#[derive(Clone, Debug)]
pub struct TestUser {
    /// The user's id.
    pub id: String,
    /// What the user logs in as.
    pub login: String,
    /// The id of the organization.
    pub organization: String,
}

impl TestUser {
    /// The user's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// What `user_login` and `POST /login` take.
    pub fn credentials(&self, device: &str) -> Value {
        json!({"organization_id": self.organization, "login": self.login, "password": PASSWORD, "device_id": device})
    }

    /// A new session by `POST /login`.
    pub async fn log_in(&self, stack: &StackHandle, device: &str) -> Session {
        let answer = reqwest::Client::new()
            .post(format!("http://{}/login", stack.gateway()))
            .json(&self.credentials(device))
            .send()
            .await
            .expect("the server answers");
        assert_eq!(answer.status(), 200, "{} logs in", self.login);
        let answer: Value = answer.json().await.expect("a JSON body");
        let token = text(&answer, "access_token").to_owned();
        Session { user: self.clone(), device: device.to_owned(), token }
    }
}

/// A user's session on a device.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub user: TestUser,
    /// The device's id.
    pub device: String,
    /// The access token.
    pub token: String,
}

impl Session {
    /// A socket bound to this session.
    pub async fn connect(&self, stack: &StackHandle) -> TestClient {
        let mut client = TestClient::open(stack).await;
        client.bind(self).await;
        client
    }
}

/// The server's word that it has a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// The message's id, as the client calls it.
    pub mid: String,
    /// The message's id, as the server calls it.
    pub server_mid: String,
    /// When it was stored, in Unix seconds.
    pub t: i64,
    /// When it was stored, to the millisecond.
    pub created_at: String,
}

impl Ack {
    /// Reads a packet that must be an acknowledgement.
    ///
    /// # Panics
    /// When it is not, or not in the one form there is.
    #[track_caller]
    pub fn read(packet: &Value) -> Self {
        let ask = &packet["ask"];
        assert!(ask.is_object() && packet["ack"] == *ask, "both keys, one content: {packet}");
        assert_eq!(packet.as_object().map(serde_json::Map::len), Some(2), "nothing beside them: {packet}");
        let ack = Self {
            mid: text(ask, "mid").to_owned(),
            server_mid: text(ask, "server_mid").to_owned(),
            t: integer(ask, "t"),
            created_at: text(ask, "created_at").to_owned(),
        };
        assert!(is_id(&ack.server_mid), "{packet}");
        assert!(is_stamp(&ack.created_at), "{packet}");
        ack
    }
}
