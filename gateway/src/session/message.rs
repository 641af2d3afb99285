//! `message`, `message_list`, `message_read`, `typing`.

use proto::reason::Reason;
use proto::v1;

use super::presence::is_fate_open;
use super::{Answer, Session, decode};
use crate::core_client::CoreClient;
use crate::metrics;
use crate::packet::client::{Envelope, MessageListPacket, MessagePacket, MessageReadPacket, TypingPacket};
use crate::packet::server::{self, Reply};

impl Session {
    /// Sends a message. One with a client id whose fate stayed open goes under its first attempt when it comes again, so
    /// that the core recognises it.
    pub(super) async fn send_message(&mut self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: MessagePacket = decode(envelope)?;
        let mut request = v1::SendMessageRequest {
            caller: None,
            client_id: packet.id,
            conversation_id: Some(packet.cid),
            body: packet.body,
            attachments: packet.attachments,
            x_json: packet.x_json,
            replied_message_id: packet.replied_message_id,
            forwarded_message_id: packet.forwarded_message_id,
            deleted_for: packet.deleted_for,
            encrypted_message_type: packet.encrypted_message_type,
        };
        let user_id = self.binding()?.session_id.user_id();
        let content = request.client_id.is_some().then(|| self.unanswered.content_of(user_id, &request));
        let first_frame = content.and_then(|content| self.unanswered.first_frame(content));
        if first_frame.is_some() {
            metrics::message_resent();
        }
        let frame = first_frame.unwrap_or(self.frame);
        request.caller = Some(v1::Caller { attempt: Some(self.attempt(frame)), ..self.caller()? });
        let sent = core.send_message(request).await;
        if let Some(content) = content {
            match &sent {
                Err(failure) if is_fate_open(failure) => self.unanswered.remember(content, frame),
                // Refused before the core looked whether it has the message.
                Err(failure) if failure.reason == Reason::NotAuthenticated => {}
                _ => self.unanswered.forget(content),
            }
        }
        Ok(Some(server::ask_ack(&envelope.reply_to, &sent?)))
    }

    pub(super) async fn list_messages(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: MessageListPacket = decode(envelope)?;
        let request = v1::ListMessagesRequest {
            caller: Some(self.caller()?),
            conversation_id: Some(packet.cid),
            ids: packet.ids.map(|ids| v1::MessageIds { ids }),
            limit: packet.limit,
            updated_at: packet.updated_at,
        };
        let listed = core.list_messages(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::messages(&listed.messages))))
    }

    pub(super) async fn mark_read(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: MessageReadPacket = decode(envelope)?;
        let request = v1::MarkReadRequest {
            caller: Some(self.attempting_caller()?),
            conversation_id: Some(packet.cid),
            ids: packet.ids.map(|ids| v1::MessageIds { ids }),
        };
        core.mark_read(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::SUCCESS)))
    }

    /// Passes a typing notice on; its success has no reply.
    pub(super) async fn send_typing(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: TypingPacket = decode(envelope)?;
        let request = v1::SendTypingRequest {
            caller: Some(self.caller()?),
            conversation_id: Some(packet.cid),
            state: packet.state,
            client_id: packet.id,
            at: packet.t,
        };
        core.send_typing(request).await?;
        Ok(None)
    }
}
