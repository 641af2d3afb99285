//! The promises of the ports as tests, for every store: [`store_contract_suite`] runs all of them on one.
//!
//! A test gets a store, the events it tells, and ids that are its own: others may use the same database at the same time.
//! Names of tests are the promises.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use proto::ids::{ConnectionId, ConversationId, EventId, IdGenerator, MessageId, NewId, Timestamp, UserId};
use proto::v1;

use super::{MessageStore, Store};
use crate::domain::conversation::{Conversation, ConversationType, Member, Role};
use crate::domain::event::{Event, Fact, Step, Subject};
use crate::domain::message::{Message, MessageContent, NewMessage};
use crate::domain::organization::OrganizationId;
use crate::domain::session::Attempt;
use crate::domain::user::User;

pub(crate) mod accounts;
pub(crate) mod changes;
pub(crate) mod connections;
pub(crate) mod conversations;
pub(crate) mod heads;
pub(crate) mod messages;
pub(crate) mod reads;
pub(crate) mod sessions;

/// Makes a test of every promise, each on a store of its own from `$open`, an async function to an [`UnderTest`]. Where they
/// need what is not always there, they are ignored with a reason.
macro_rules! store_contract_suite {
    ($open:path) => {
        $crate::store::contract::store_contract_suite! { @ $open, [cfg(all())] }
    };
    ($open:path; ignored = $reason:literal) => {
        $crate::store::contract::store_contract_suite! { @ $open, [ignore = $reason] }
    };
    (@ $open:path, $attribute:tt) => {
        $crate::store::contract::store_contract_suite! {
            $open, $attribute;
            accounts {
                an_organization_is_unique_by_id_and_by_name,
                a_login_is_taken_whatever_its_case_and_composition,
                an_email_is_taken_whatever_its_case_and_a_phone_as_it_is,
                what_is_taken_in_one_organization_is_free_in_another,
                of_racing_sign_ups_one_succeeds,
                a_user_reads_as_it_was_written,
                credentials_are_found_by_the_login_in_any_case,
                listed_users_are_of_the_organization_and_newest_first,
                a_search_finds_a_literal_part_of_any_name,
                a_search_leaves_out_whom_it_is_told_to_and_stops_at_its_limit,
                found_users_come_in_the_order_of_the_protocol,
            }
            sessions {
                a_session_is_found_also_past_its_time,
                a_new_session_forgets_those_past_their_time,
                a_session_past_its_time_stays_while_a_connection_is_bound_to_it,
                sessions_of_a_device_are_listed_in_the_order_they_were_made,
                a_session_is_rotated_only_from_the_expected_counter,
                of_racing_rotations_one_succeeds,
                revoked_sessions_are_gone_and_told,
            }
            connections {
                a_user_is_online_from_the_first_connection_to_the_end_of_the_last,
                a_connection_bound_twice_ends_once,
                a_connection_that_changes_its_user_leaves_the_first_one_offline,
                an_end_told_twice_does_not_move_the_time,
                activity_of_a_connection_can_be_noted,
            }
            conversations {
                a_conversation_reads_as_it_was_written,
                a_created_conversation_is_told_once,
                racing_creations_of_a_pair_make_one_conversation,
                a_pair_has_one_plain_and_one_encrypted_conversation,
                one_attempt_makes_one_conversation,
                listed_conversations_are_those_that_exist,
            }
            changes {
                a_change_takes_effect_as_a_whole_and_is_told,
                a_change_decided_on_another_version_writes_nothing,
                of_racing_changes_of_one_version_one_is_made,
                who_comes_back_is_last_in_join_order_and_has_joined_anew,
                what_is_said_with_a_change_is_listed_and_unread,
                an_attempt_that_changed_a_conversation_is_known_for_a_while,
                an_erased_conversation_is_gone_with_all_its_content,
                an_erasure_decided_on_another_version_writes_nothing,
                much_content_of_an_erased_conversation_goes_in_steps,
                an_erased_pair_can_be_made_anew,
            }
            heads {
                the_most_recently_updated_comes_first,
                a_message_updates_its_conversation,
                a_list_is_not_cut_inside_a_run_of_equal_times,
                heads_are_chosen_by_time_membership_and_id,
                a_head_says_how_many_are_in_it_and_since_when_the_user_is,
            }
            messages {
                a_message_reads_as_it_was_written,
                messages_are_listed_from_either_end_of_a_range,
                messages_of_one_millisecond_are_all_kept_and_listed,
                a_hidden_message_is_seen_by_all_but_those_it_is_hidden_from,
                looked_up_messages_are_of_the_conversation_and_newest_first,
                recent_messages_are_the_newest_and_come_oldest_first,
                the_newest_message_is_found_or_none,
                events_and_messages_come_in_the_order_of_the_calls,
                a_write_that_nobody_waits_for_stands,
            }
            reads {
                a_message_is_read_by_others_than_its_author,
                a_message_is_read_as_soon_as_a_range_of_any_reader_lies_over_it,
                a_range_over_a_hidden_message_does_not_read_it,
                unread_are_messages_of_others_in_the_membership_that_are_visible_and_not_read,
                unread_messages_are_counted_up_to_a_limit,
                unread_messages_are_counted_for_ranges_that_are_not_stored,
                previews_come_in_the_order_asked,
                the_last_message_of_a_preview_is_read_or_not_whoever_wrote_it,
                read_ranges_change_for_one_user_in_one_conversation,
                read_ranges_change_without_an_event_where_nobody_needs_to_know,
                what_is_read_stays_read_when_a_range_comes_again,
                marks_come_from_either_end_and_say_what_is_hidden,
            }
        }
    };
    ($open:path, $attribute:tt; $($room:ident { $($promise:ident,)* })*) => {
        $(mod $room {
            $(# $attribute
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::store::contract::$room::$promise($open().await).await;
            })*
        })*
    };
}
pub(crate) use store_contract_suite;

/// A store, what it told, and ids nobody has used yet.
pub(crate) struct UnderTest {
    pub(crate) store: Arc<dyn Store>,
    events: Box<dyn EventLog>,
    /// Where its users are.
    organization_id: OrganizationId,
    ids: IdGenerator,
    connection_id: ConnectionId,
    frames: AtomicU64,
    _kept: Box<dyn Any + Send + Sync>,
}

/// All events that a store has told, in order, with their positions.
#[async_trait]
pub(crate) trait EventLog: Send + Sync {
    async fn read(&self) -> Vec<(u64, v1::Event)>;
}

/// A time so many milliseconds after the beginning of the test.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

impl UnderTest {
    /// `kept` lives as long as the test.
    pub(crate) fn new(store: Arc<dyn Store>, events: Box<dyn EventLog>, kept: Box<dyn Any + Send + Sync>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests that share a database must not meet")]
        let (process, start) = (rand::random(), rand::random::<u16>());
        // Far from the end of its counter, after which ids of one millisecond would be out of order.
        let ids = IdGenerator::new(process, u32::from(start) << 4);
        let organization_id = UserId::from(ids.next(at(0))).into();
        let connection_id = ids.next(at(0)).into();
        Self { store, events, organization_id, ids, connection_id, frames: AtomicU64::new(0), _kept: kept }
    }

    /// Another organization of this name, which is the same whenever it is asked for.
    fn other_organization(&self, name: &str) -> OrganizationId {
        OrganizationId::parse(&format!("{}-{name}", self.organization_id)).unwrap()
    }

    pub(crate) async fn events(&self) -> Vec<(u64, v1::Event)> {
        self.events.read().await
    }

    pub(crate) async fn event_ids(&self) -> Vec<EventId> {
        self.events().await.into_iter().map(|(_, event)| EventId::try_from(&event.id[..]).unwrap()).collect()
    }

    pub(crate) fn id<T: From<NewId>>(&self, at: Timestamp) -> T {
        self.ids.next(at).into()
    }

    pub(crate) fn attempt(&self) -> Attempt {
        let frame = self.frames.fetch_add(1, Ordering::Relaxed);
        Attempt { connection_id: self.connection_id, frame }
    }

    pub(crate) fn event(&self, subject: Subject) -> Event {
        Event { id: self.id(at(0)), subject, attempt: self.attempt(), steps: Vec::new() }
    }

    fn user(&self, login: &str) -> User {
        User {
            id: self.id(at(0)),
            organization_id: self.organization_id.clone(),
            login: login.to_owned(),
            email: None,
            phone: None,
            first_name: None,
            last_name: None,
            recent_activity: 1_700_000_000,
            updated_at: at(0),
        }
    }

    async fn add_user(&self, login: &str) -> UserId {
        let user = self.user(login);
        self.store.create_user(&user, "hash").await.unwrap();
        user.id
    }

    pub(crate) fn users<const N: usize>(&self) -> [UserId; N] {
        std::array::from_fn(|_| self.id(at(0)))
    }

    pub(crate) fn group(&self, owner_id: UserId, made_at: Timestamp) -> Conversation {
        Conversation {
            id: self.id(made_at),
            kind: ConversationType::Group,
            organization_id: self.organization_id.clone(),
            owner_id,
            opponent_id: None,
            name: Some("a group".to_owned()),
            description: None,
            image: None,
            is_encrypted: false,
            changed_at: made_at,
        }
    }

    pub(crate) fn pair(&self, owner_id: UserId, opponent_id: UserId) -> Conversation {
        Conversation {
            kind: ConversationType::Private,
            opponent_id: Some(opponent_id),
            name: None,
            ..self.group(owner_id, at(0))
        }
    }

    /// Adds a new group of these members, the first of whom owns it.
    pub(crate) async fn add_group(&self, made_at: Timestamp, members: &[UserId]) -> ConversationId {
        let group = self.group(members[0], made_at);
        let event = self.event(Subject::Conversation(group.id));
        let added = self.store.create_conversation(&group, &members_at(members, made_at), self.attempt(), event).await;
        assert_eq!(added.unwrap(), None);
        group.id
    }

    pub(crate) fn message(&self, conversation_id: ConversationId, from: UserId, sent_at: Timestamp) -> NewMessage {
        let content = MessageContent { body: format!("said at {}", sent_at.millis()), ..MessageContent::default() };
        NewMessage {
            message: Message { id: self.id(sent_at), conversation_id, from, content },
            attempt: self.attempt(),
            fingerprint: None,
            hidden_for: Vec::new(),
        }
    }

    /// Sends a message and waits until it is safe.
    pub(crate) async fn send(&self, conversation_id: ConversationId, from: UserId, sent_at: Timestamp) -> MessageId {
        let message = self.message(conversation_id, from, sent_at);
        let id = message.message.id;
        append(&*self.store, message).await.unwrap();
        id
    }
}

/// Appends a message with the event that tells of it.
fn append(store: &dyn Store, new: NewMessage) -> super::Written {
    let message = new.message.clone();
    let event = Event {
        id: message.id.into(),
        subject: Subject::Conversation(message.conversation_id),
        attempt: new.attempt,
        steps: vec![Step::new(
            vec![message.from],
            Fact::MessageSent { message, conversation_type: ConversationType::Group },
        )],
    };
    MessageStore::append_message(store, new, event)
}

/// Plain members that joined at once; the first owns the conversation.
pub(crate) fn members_at(user_ids: &[UserId], joined_at: Timestamp) -> Vec<Member> {
    let role_of = |position| if position == 0 { Role::Owner } else { Role::Plain };
    let members = user_ids.iter().enumerate();
    members.map(|(position, &user_id)| Member { user_id, role: role_of(position), joined_at }).collect()
}

/// Runs `call` so many times at once.
async fn race<T: Send + 'static, F: Future<Output = Result<T, E>> + Send + 'static, E: Send + 'static>(
    times: usize,
    call: impl Fn(usize) -> F,
) -> Vec<Result<T, E>> {
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..times {
        calls.spawn(call(number));
    }
    calls.join_all().await
}
