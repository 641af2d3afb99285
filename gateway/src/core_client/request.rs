//! What the client looks at in a request: whom or what it concerns, so that calls about one conversation go to one
//! replica; and where the hop number goes.

use std::hash::{DefaultHasher, Hash, Hasher};

use proto::ids::ConversationId;
use proto::v1::{self, caller, log_out_request};

/// A request to the core.
pub(super) trait CoreRequest: Clone + Send + 'static {
    /// Stands for the conversation that it concerns, else for the user. Requests with none go to any replica.
    fn key(&self) -> Option<Key>;

    /// Says how many replicas were tried before.
    fn set_hop(&mut self, hop: u32);
}

/// Stands for a conversation or a user: the same in every gateway, so that they choose alike.
///
/// Gateways of different versions may differ in it. Then a conversation has two habitual replicas for a while, which
/// costs time but breaks nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u64);

impl Key {
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// A conversation's, as the client wrote its id.
    fn conversation(id: Option<&str>) -> Option<Self> {
        let text = id?;
        Some(ConversationId::parse(text).map_or_else(|_| Self::of(text.as_bytes()), |id| Self::of(id.as_bytes())))
    }

    /// A user's, by the session that calls.
    fn caller(caller: Option<&v1::Caller>) -> Option<Self> {
        match caller?.actor.as_ref()? {
            caller::Actor::Session(session) => Some(Self::of(session.session_id.get(..12)?)),
            caller::Actor::ActingUser(user) => Some(Self::of(&user.user_id)),
        }
    }

    /// How much a replica is to be preferred for it: the highest of all replicas wins, and when that is gone the next, so
    /// that of the others none has to move.
    pub(super) fn weight(self, address: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0, address).hash(&mut hasher);
        hasher.finish()
    }
}

fn set_hop(caller: &mut Option<v1::Caller>, hop: u32) {
    if let Some(caller) = caller {
        caller.hop = hop;
    }
}

macro_rules! of_conversation {
    ($($request:ident)*) => {$(
        impl CoreRequest for v1::$request {
            fn key(&self) -> Option<Key> {
                Key::conversation(self.conversation_id.as_deref()).or_else(|| Key::caller(self.caller.as_ref()))
            }

            fn set_hop(&mut self, hop: u32) {
                set_hop(&mut self.caller, hop);
            }
        }
    )*};
}

macro_rules! of_caller {
    ($($request:ident)*) => {$(
        impl CoreRequest for v1::$request {
            fn key(&self) -> Option<Key> {
                Key::caller(self.caller.as_ref())
            }

            fn set_hop(&mut self, hop: u32) {
                set_hop(&mut self.caller, hop);
            }
        }
    )*};
}

macro_rules! of_nobody {
    ($($request:ident)*) => {$(
        impl CoreRequest for v1::$request {
            fn key(&self) -> Option<Key> {
                None
            }

            fn set_hop(&mut self, _: u32) {}
        }
    )*};
}

of_conversation! {
    UpdateConversationRequest LeaveConversationRequest SendMessageRequest ListMessagesRequest MarkReadRequest
    SendTypingRequest
}

of_caller! {
    SearchUsersRequest GetUsersRequest CreateConversationRequest ListConversationsRequest ListParticipantsRequest
    BindRequest SetInactiveRequest
}

of_nobody! {
    CheckAdminKeyRequest CreateOrganizationRequest CreateUserRequest LogInRequest RenewSessionRequest
    VerifyAccessRequest
}

impl CoreRequest for v1::LogOutRequest {
    fn key(&self) -> Option<Key> {
        match &self.credential {
            Some(log_out_request::Credential::Caller(caller)) => Key::caller(Some(caller)),
            Some(log_out_request::Credential::Tokens(_)) | None => None,
        }
    }

    fn set_hop(&mut self, hop: u32) {
        if let Some(log_out_request::Credential::Caller(caller)) = &mut self.credential {
            caller.hop = hop;
        }
    }
}

impl CoreRequest for v1::UnbindRequest {
    /// The same as of the bind: both are serial there.
    fn key(&self) -> Option<Key> {
        Some(Key::of(&self.user_id))
    }

    fn set_hop(&mut self, _: u32) {}
}

#[cfg(test)]
mod tests {
    use proto::ids::{SessionId, UserId};

    use super::*;

    const ANN: UserId = UserId::from_bytes([1; 12]);

    fn caller(random: u8) -> Option<v1::Caller> {
        let session_id = SessionId::new(ANN, [random; 12]).to_field();
        Some(v1::Caller { actor: Some(caller::Actor::Session(v1::BoundSession { session_id })), attempt: None, hop: 0 })
    }

    #[test]
    fn requests_about_a_conversation_go_by_it_whoever_calls_and_however_the_id_is_written() {
        let send = |id: &str| v1::SendMessageRequest {
            caller: caller(1),
            conversation_id: Some(id.to_owned()),
            ..Default::default()
        };
        let read = v1::MarkReadRequest {
            caller: caller(2),
            conversation_id: Some("ABABABABABABABABABABABAB".to_owned()),
            ids: None,
        };
        assert!(send("x").key().is_some());
        assert_eq!(send("abababababababababababab").key(), read.key());
        assert_ne!(send("abababababababababababac").key(), read.key());
    }

    #[test]
    fn requests_about_no_conversation_go_by_the_user_whatever_his_session() {
        let bind = |random| v1::BindRequest { caller: caller(random) };
        let unbind = v1::UnbindRequest { user_id: ANN.to_field(), connection_id: bytes::Bytes::new() };
        assert_eq!(bind(1).key(), bind(2).key());
        assert_eq!(bind(1).key(), unbind.key());
        assert_eq!(v1::SendMessageRequest { caller: caller(1), ..Default::default() }.key(), unbind.key());
    }

    #[test]
    fn a_replica_that_goes_moves_nothing_but_its_own() {
        let addresses = ["http://a:1", "http://b:1", "http://c:1"];
        let best = |key: Key, among: &[&'static str]| *among.iter().max_by_key(|address| key.weight(address)).unwrap();
        let mut moved = 0;
        for number in 0..3_000_u32 {
            let key = Key::of(&number.to_be_bytes());
            let (before, after) = (best(key, &addresses), best(key, &addresses[..2]));
            if before == addresses[2] {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((800..1_200).contains(&moved), "a third of all: {moved}");
    }

    #[test]
    fn the_hop_number_goes_where_the_caller_is() {
        let mut send = v1::SendMessageRequest { caller: caller(1), ..Default::default() };
        send.set_hop(1);
        assert_eq!(send.caller.unwrap().hop, 1);
        let credential = caller(1).map(log_out_request::Credential::Caller);
        let mut log_out = v1::LogOutRequest { credential };
        log_out.set_hop(2);
        let Some(log_out_request::Credential::Caller(caller)) = log_out.credential else { panic!("it was one") };
        assert_eq!(caller.hop, 2);
    }
}
