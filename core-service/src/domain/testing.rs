//! A core of its own for a unit test: the embedded store in a temporary directory, and a clock the test sets.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use proto::ids::{ConnectionId, ConversationId, IdGenerator, SessionId, Timestamp, UserId};
use proto::reason::Reason;
use tempfile::TempDir;

use super::clock::{Clock, Stamps};
use super::conversing::{Conversing, CreateConversation, MemberLimits};
use super::event::{NoticePublisher, Typing};
use super::failure::Failure;
use super::history::{History, ReadEvents};
use super::messaging::Messaging;
use super::organization::{Organization, OrganizationId};
use super::recent::Conversations;
use super::send_message::SendMessage;
use super::session::{Actor, Attempt};
use super::user::User;
use crate::store::sqlite::SqliteStore;
use crate::store::{AccountStore, Store};

const MEMBER_LIMITS: MemberLimits = MemberLimits { group: 50, channel: 10_000 };

pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A clock that stands still until it is set.
#[derive(Clone, Debug)]
pub(super) struct HandClock(Arc<AtomicI64>);

impl HandClock {
    pub(super) fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(super) struct Notices(pub(super) Mutex<Vec<Typing>>);

impl NoticePublisher for Notices {
    fn publish_typing(&self, typing: Typing) {
        self.0.lock().unwrap().push(typing);
    }
}

pub(super) struct TestCore {
    pub(super) clock: HandClock,
    pub(super) stamps: Arc<Stamps>,
    pub(super) store: Arc<dyn Store>,
    pub(super) notices: Arc<Notices>,
    pub(super) conversing: Conversing,
    pub(super) messaging: Messaging,
    pub(super) history: History,
    pub(super) journal: crate::store::sqlite::Journal,
    _directory: TempDir,
}

impl TestCore {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = HandClock(Arc::new(AtomicI64::new(START.millis())));
        let stamps = Arc::new(Stamps::new(clock.clone(), IdGenerator::new([1, 2, 3], 0)));
        let store = SqliteStore::open(directory.path(), START).unwrap();
        let organization =
            Organization { id: OrganizationId::default(), name: "default".to_owned(), created_at: START };
        store.create_organization(&organization).await.unwrap();
        let journal = store.journal();
        let store: Arc<dyn Store> = Arc::new(store);
        let notices = Arc::new(Notices::default());
        let busy = Arc::new(Conversations::new(Arc::clone(&store), Arc::clone(&stamps)));
        Self {
            conversing: Conversing::new(Arc::clone(&store), Arc::clone(&stamps), Arc::clone(&busy), MEMBER_LIMITS),
            messaging: Messaging::new(
                Arc::clone(&store),
                Arc::clone(&stamps),
                Arc::clone(&busy),
                Arc::clone(&notices) as _,
            ),
            history: History::new(Arc::clone(&store), Arc::clone(&stamps), busy, ReadEvents::All),
            clock,
            stamps,
            store,
            notices,
            journal,
            _directory: directory,
        }
    }

    /// A new user, on a connection of his own.
    pub(super) async fn user(&self, login: &str) -> Actor {
        let id: UserId = self.stamps.new_id().into();
        let user = User {
            id,
            organization_id: OrganizationId::default(),
            login: login.to_owned(),
            email: None,
            phone: None,
            first_name: None,
            last_name: None,
            recent_activity: 0,
            updated_at: self.stamps.now(),
        };
        self.store.create_user(&user, "no password").await.unwrap();
        Actor {
            user_id: id,
            organization_id: OrganizationId::default(),
            session: Some((SessionId::new(id, [0; 12]), "device".to_owned())),
            attempt: Attempt { connection_id: self.new_connection(), frame: 0 },
            is_repeat: false,
        }
    }

    /// The use cases of another process on the same data.
    pub(super) fn other_process(&self) -> Conversing {
        let busy = Arc::new(Conversations::new(Arc::clone(&self.store), Arc::clone(&self.stamps)));
        Conversing::new(Arc::clone(&self.store), Arc::clone(&self.stamps), busy, MEMBER_LIMITS)
    }

    pub(super) fn new_connection(&self) -> ConnectionId {
        self.stamps.new_id().into()
    }

    /// A group of these, owned by the first.
    pub(super) async fn group(&self, members: &[&Actor]) -> ConversationId {
        let command = CreateConversation {
            kind: Some("g".to_owned()),
            name: Some("Team".to_owned()),
            participants: Some(members.iter().map(|member| member.user_id.to_string()).collect()),
            ..CreateConversation::default()
        };
        self.conversing
            .create(&next_frame(members[0]), command)
            .await
            .unwrap_or_else(|failure| panic!("{failure}"))
            .record
            .conversation
            .id
    }
}

/// Why a rule refused something.
pub(super) fn reason(failure: Failure) -> Reason {
    match failure {
        Failure::Refused(refused) => refused.reason,
        other => panic!("{other}"),
    }
}

/// The actor's next frame, on the same connection.
pub(super) fn next_frame(actor: &Actor) -> Actor {
    static FRAME: AtomicI64 = AtomicI64::new(1);
    let frame = FRAME.fetch_add(1, Ordering::SeqCst).unsigned_abs();
    Actor { attempt: Attempt { frame, ..actor.attempt }, ..actor.clone() }
}

/// A text message.
pub(super) fn text(conversation_id: ConversationId, client_id: Option<&str>, body: &str) -> SendMessage {
    SendMessage {
        client_id: client_id.map(str::to_owned),
        conversation_id: Some(conversation_id.to_string()),
        body: Some(body.to_owned()),
        ..SendMessage::default()
    }
}
