//! The packets that flow while a conversation is on, made and read with as little work as goes: the generator shares the
//! machine with what it measures.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ledger::MessageName;
use crate::socket::Refusal;

/// Tells this run's messages from everything else that lies in the conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(pub u64);

/// A message as its body tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which one it is.
    pub message: MessageName,
    /// When it was to be sent, in microseconds since the run began.
    pub due_micros: u64,
}

/// What a packet means to a load generator.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    /// A message of this run is stored.
    Acknowledged(MessageName),
    /// A message of this run was refused. Without a name where the server does not repeat the id.
    Refused(Option<MessageName>, Refusal),
    /// A message of this run came.
    Delivered(Told),
    /// Anything else.
    Other,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    message: OutgoingMessage<'a>,
}

#[derive(Serialize)]
struct OutgoingMessage<'a> {
    id: &'a str,
    cid: &'a str,
    body: &'a str,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    ask: Option<IncomingAsk<'a>>,
    #[serde(borrow)]
    message: Option<IncomingMessage<'a>>,
}

#[derive(Deserialize)]
struct IncomingAsk<'a> {
    #[serde(borrow)]
    mid: Cow<'a, str>,
}

#[derive(Deserialize)]
struct IncomingMessage<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    error: Option<Refusal>,
}

impl RunId {
    /// A top-level `message` packet whose body is `body_bytes` long, or a little longer where that is too short.
    pub fn packet(self, told: Told, cid: &str, body_bytes: usize) -> String {
        let Told { message: MessageName { from, number }, due_micros } = told;
        let Self(run) = self;
        let id = format!("{run:x} {from} {number}");
        let head = format!("{id} {due_micros} ");
        let body = format!("{head:.<body_bytes$}");
        let outgoing = Outgoing { message: OutgoingMessage { id: &id, cid, body: &body } };
        serde_json::to_string(&outgoing).expect("texts alone")
    }

    /// What a packet means.
    pub fn read(self, text: &str) -> Packet {
        let Ok(incoming) = serde_json::from_str::<Incoming<'_>>(text) else { return Packet::Other };
        if let Some(ask) = incoming.ask {
            return self.parse(&ask.mid).map_or(Packet::Other, |(message, _)| Packet::Acknowledged(message));
        }
        let Some(message) = incoming.message else { return Packet::Other };
        if let Some(refusal) = message.error {
            let name = message.id.and_then(|id| self.parse(&id).map(|(message, _)| message));
            return Packet::Refused(name, refusal);
        }
        let told = message.body.and_then(|body| {
            let (message, rest) = self.parse(&body)?;
            Some(Told { message, due_micros: rest.split(' ').next()?.parse().ok()? })
        });
        told.map_or(Packet::Other, Packet::Delivered)
    }

    fn parse(self, text: &str) -> Option<(MessageName, &str)> {
        let (run, rest) = text.split_once(' ')?;
        if u64::from_str_radix(run, 16) != Ok(self.0) {
            return None;
        }
        let (from, rest) = rest.split_once(' ')?;
        let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((MessageName { from: from.parse().ok()?, number: number.parse().ok()? }, rest))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RUN: RunId = RunId(0xab);
    const TOLD: Told = Told { message: MessageName { from: 3, number: 17 }, due_micros: 1_500 };

    #[test]
    fn a_message_is_read_back_from_its_event_and_its_acknowledgement() {
        let packet: Value = serde_json::from_str(&RUN.packet(TOLD, "c", 300)).unwrap();
        let message = &packet["message"];
        assert_eq!(message["body"].as_str().unwrap().len(), 300);
        assert_eq!(message["cid"], "c");
        let event = json!({"message": {"_id": "1", "from": "u", "body": message["body"], "cid": "c"}});
        assert_eq!(RUN.read(&event.to_string()), Packet::Delivered(TOLD));
        let ask = json!({"mid": message["id"], "server_mid": "1", "t": 1});
        let ask = json!({"ask": ask, "ack": ask});
        assert_eq!(RUN.read(&ask.to_string()), Packet::Acknowledged(TOLD.message));
    }

    #[test]
    fn a_refusal_names_its_message() {
        let error = json!({"status": 503, "code": "temporarily_unavailable", "message": "Later."});
        let packet = json!({"message": {"id": "ab 3 17", "error": error}});
        let Packet::Refused(Some(message), refusal) = RUN.read(&packet.to_string()) else { panic!("a refusal") };
        assert_eq!((message, refusal.status), (TOLD.message, 503));
    }

    #[test]
    fn what_is_not_of_this_run_is_other() {
        for text in [
            "not json",
            "{}",
            r#"{"typing":{"cid":"c"}}"#,
            r#"{"message":{"body":"ac 3 17 1500 ..."}}"#,
            r#"{"message":{"body":"hello"}}"#,
            r#"{"ask":{"mid":"ab 3"}}"#,
        ] {
            assert_eq!(RUN.read(text), Packet::Other, "{text}");
        }
    }
}
