//! What tests ask for again and again, in a word each.

use serde_json::{Value, json};

use crate::client::TestClient;
use crate::packets::{assert_error, is_created, text};

impl TestClient {
    /// A page of messages, as it is in the response.
    pub async fn list_messages(&mut self, payload: Value) -> Vec<Value> {
        self.list("message_list", payload, "messages").await
    }

    /// The client's conversations, as they are in the response.
    pub async fn list_conversations(&mut self, payload: Value) -> Vec<Value> {
        self.list("conversation_list", payload, "conversations").await
    }

    async fn list(&mut self, name: &str, payload: Value, key: &str) -> Vec<Value> {
        let mut response = self.succeed(name, payload).await;
        match response[key].take() {
            Value::Array(items) => items,
            other => panic!("{key} are an array, not {other}"),
        }
    }

    /// One conversation as it stands in the client's list.
    ///
    /// # Panics
    /// When it does not.
    pub async fn listed_conversation(&mut self, cid: &str) -> Value {
        let listed = self.list_conversations(json!({"ids": [cid]})).await;
        let [conversation] = <[Value; 1]>::try_from(listed).expect("the conversation is listed");
        conversation
    }

    /// Makes a group and waits until everybody else knows of it. Returns its id.
    pub async fn create_group(&mut self, others: &mut [&mut Self]) -> String {
        let ids: Vec<_> = others.iter().map(|other| other.id().to_owned()).collect();
        self.create_conversation(json!({"type": "g", "name": "Team", "participants": ids}), others).await
    }

    /// Makes a private conversation and waits until the other one knows of it. Returns its id.
    pub async fn create_private(&mut self, other: &mut Self) -> String {
        let participants = [other.id().to_owned()];
        self.create_conversation(json!({"type": "u", "participants": participants}), &mut [other]).await
    }

    /// Makes a channel and waits until everybody else knows of it. Returns its id.
    pub async fn create_channel(&mut self, others: &mut [&mut Self]) -> String {
        let ids: Vec<_> = others.iter().map(|other| other.id().to_owned()).collect();
        self.create_conversation(json!({"type": "c", "name": "News", "participants": ids}), others).await
    }

    async fn create_conversation(&mut self, payload: Value, others: &mut [&mut Self]) -> String {
        let response = self.succeed("conversation_create", payload).await;
        let cid = text(&response["conversation"], "_id").to_owned();
        for other in others {
            other
                .expect("the created packet", |packet| is_created(packet) && packet["system_message"]["cid"] == cid)
                .await;
        }
        cid
    }

    /// Asserts that this socket is alive and nobody is logged in on it.
    pub async fn assert_anonymous(&mut self) {
        self.refused("conversation_list", json!({}), 401, "not_authenticated").await;
    }

    /// A `connect` that must fail as one with a dead token does. Returns the response.
    pub async fn connect_refused(&mut self, token: &str, device: &str) -> Value {
        let response = self.request("connect", json!({"token": token, "device_id": device})).await;
        assert_error(&response, 422, "session_token_expired");
        response
    }
}
