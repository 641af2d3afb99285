//! Notices on plain NATS: told at most once and kept nowhere.

use async_nats::Client;
use async_nats::connection::State;
use futures_util::FutureExt;
use metrics::{Counter, counter};
use prost::Message as _;
use proto::subject::{About, Cell};
use proto::v1;
use tokio::task::unconstrained;

use crate::domain::event::{NoticePublisher, Typing};

/// Sends notices to the gateways of a cell.
#[derive(Debug)]
pub struct NatsNotices {
    client: Client,
    cell: Cell,
    sent: Counter,
    dropped: Counter,
}

impl NatsNotices {
    /// Notices through this client.
    pub fn new(client: Client, cell: Cell) -> Self {
        let (sent, dropped) = (counter!("core_notices_sent_total"), counter!("core_notices_dropped_total"));
        Self { client, cell, sent, dropped }
    }
}

impl NoticePublisher for NatsNotices {
    fn publish_typing(&self, typing: Typing) {
        let subject = self.cell.notice(About::Conversation(typing.conversation_id));
        let notice = v1::Notice::from(typing).encode_to_vec();
        // While there is no connection the client would send it later, when it is no longer true.
        let is_sent = self.client.connection_state() == State::Connected
            && matches!(unconstrained(self.client.publish(subject, notice.into())).now_or_never(), Some(Ok(())));
        if is_sent { &self.sent } else { &self.dropped }.increment(1);
    }
}
