//! The embedded store keeps the promises of every store, and those of its files, its thread and its journal.

mod directory;
mod journaling;
mod plans;
mod reading;
mod writing;

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message as _;
use proto::ids::{ConnectionId, ConversationId, IdGenerator, MessageId, UserId};
use proto::v1;
use tempfile::TempDir;

use super::{Journal, SqliteStore};
use crate::domain::event::{Event, Subject};
use crate::domain::message::{IdRange, Message, MessageContent, NewMessage};
use crate::domain::session::Attempt;
use crate::store::contract::{EventLog, UnderTest, at};
use crate::store::{MessageStore, MessagesQuery, Order, StoreError, Written};

mod contract {
    crate::store::contract::store_contract_suite!(super::super::open_for_contract);
}

#[async_trait]
impl EventLog for Journal {
    async fn read(&self) -> Vec<(u64, v1::Event)> {
        let events = self.read_above(0, usize::MAX).await.unwrap();
        events.into_iter().map(|(position, envelope)| (position, v1::Event::decode(envelope).unwrap())).collect()
    }
}

async fn open_for_contract() -> UnderTest {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let events = Box::new(store.journal());
    UnderTest::new(Arc::new(store), events, Box::new(directory))
}

fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(directory.path(), at(0)).unwrap()
}

const CONVERSATION: ConversationId = ConversationId::from_bytes([1; 12]);
const AUTHOR: UserId = UserId::from_bytes([2; 12]);

/// The ids of the messages that these tests send, by number.
fn message_id(number: i64) -> MessageId {
    IdGenerator::new([0; 3], 0).next(at(number)).into()
}

/// Appends the message of this number, with a body of this many letters.
fn append(store: &SqliteStore, number: i64, body_length: usize) -> Written {
    let id = message_id(number);
    let attempt = Attempt { connection_id: ConnectionId::from_bytes([3; 12]), frame: number.cast_unsigned() };
    let content = MessageContent { body: "x".repeat(body_length), ..MessageContent::default() };
    let message = Message { id, conversation_id: CONVERSATION, from: AUTHOR, content };
    let event = Event { id: id.into(), subject: Subject::Conversation(CONVERSATION), attempt, steps: Vec::new() };
    store.append_message(NewMessage { message, attempt, fingerprint: None, hidden_for: Vec::new() }, event)
}

/// The stored messages, oldest first.
async fn messages(store: &SqliteStore) -> Vec<MessageId> {
    let query = MessagesQuery {
        conversation_id: CONVERSATION,
        viewer: AUTHOR,
        range: IdRange::ALL,
        order: Order::OldestFirst,
        limit: usize::MAX,
    };
    let seen = store.list_messages(&query).await.unwrap();
    seen.into_iter().map(|seen| seen.message.id).collect()
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}
