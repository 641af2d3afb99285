//! Making a conversation.
//!
//! First its id is claimed: a `u` is the only one of its pair and encryption flag, and of any other an attempt makes one.
//! Then it is made under the claimed id, if there is none yet. Who meets a claim whose conversation does not come, because
//! its claimer has died, makes his own under that very id; so whoever comes last finds what is there.

use std::time::Duration;

use proto::ids::{ConversationId, UserId};

use super::claims::Claim;
use super::conversations::{Look, attempt_key, enlist, image_json, places, role_word};
use super::database::Applied;
use super::unfinished::{self, Changed, Work, lookup_whole};
use super::{ScyllaStore, activity, conversations};
use crate::domain::conversation::{Conversation, ConversationRecord, ConversationType, Member};
use crate::domain::event::{Event, Fact, Subject};
use crate::domain::session::Attempt;
use crate::store::{REPEATED_MS, StoreError};

/// A change is remembered for so long, in seconds.
pub(super) const REMEMBERED_SECONDS: i32 = (REPEATED_MS / 1_000) as i32;
/// How long to wait, each time, in milliseconds, for a conversation that somebody else has claimed: he is about to make it.
const PATIENCE_MS: [u64; 6] = [0, 10, 40, 100, 200, 300];
/// So often a claim is looked at: it changes hands only when its conversation ends.
const ROUNDS: usize = 5;

const ATTEMPTED: &str = "add a conversation";

/// Why a conversation was not made.
#[derive(Debug, thiserror::Error)]
#[error("others make and erase it all the time")]
struct Contended;

/// Makes the conversation, or finds the one there is.
pub(super) async fn create(
    store: &ScyllaStore,
    conversation: &Conversation,
    members: &[Member],
    attempt: Attempt,
    event: Event,
) -> Result<Option<ConversationRecord>, StoreError> {
    let (claim, seconds) = match pair_claim(conversation) {
        Some(claim) => (claim, None),
        None => (attempt_claim(conversation, attempt), Some(REMEMBERED_SECONDS)),
    };
    for _ in 0..ROUNDS {
        let id = match store.take_claim(&claim, conversation.id.as_bytes(), seconds).await? {
            None if make(store, conversation, members, attempt, event.clone()).await? => return Ok(None),
            None => conversation.id,
            Some(holder) => match ConversationId::try_from(&holder.id[..]) {
                Ok(id) => id,
                // It was released a moment ago.
                Err(_) => continue,
            },
        };
        match wait_for(store, id).await? {
            Claimed::Standing(record) => return Ok(Some(*record)),
            Claimed::Erased => store.release_claim(&claim, id.as_bytes()).await?,
            Claimed::Missing => {
                let (conversation, event) = under(id, conversation, event.clone());
                make(store, &conversation, members, attempt, event).await?;
            }
        }
    }
    Err(StoreError::Unavailable { attempted: ATTEMPTED, source: std::sync::Arc::new(Contended) })
}

/// The claim of a `u`.
pub(super) fn pair_claim(conversation: &Conversation) -> Option<Claim> {
    let (ConversationType::Private, Some(opponent_id)) = (conversation.kind, conversation.opponent_id) else {
        return None;
    };
    let (low, high) = (conversation.owner_id.min(opponent_id), conversation.owner_id.max(opponent_id));
    Some(Claim {
        organization_id: conversation.organization_id.as_str().to_owned(),
        kind: if conversation.is_encrypted { "pair-encrypted" } else { "pair" },
        value: format!("{low} {high}"),
    })
}

fn attempt_claim(conversation: &Conversation, Attempt { connection_id, frame }: Attempt) -> Claim {
    Claim {
        organization_id: conversation.organization_id.as_str().to_owned(),
        kind: "attempt",
        value: format!("{connection_id} {frame}"),
    }
}

/// What there is under a claimed id.
enum Claimed {
    Standing(Box<ConversationRecord>),
    Erased,
    Missing,
}

async fn wait_for(store: &ScyllaStore, id: ConversationId) -> Result<Claimed, StoreError> {
    for pause in PATIENCE_MS {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Some(head) = conversations::lookup_head(store, id).await? else { continue };
        unfinished::finish(store, &head).await?;
        if head.is_erased() {
            return Ok(Claimed::Erased);
        }
        if let Some(record) = lookup_whole(store, id).await? {
            return Ok(Claimed::Standing(Box::new(record)));
        }
    }
    Ok(Claimed::Missing)
}

/// The same conversation, and what tells of it, under another id.
fn under(id: ConversationId, conversation: &Conversation, mut event: Event) -> (Conversation, Event) {
    event.subject = Subject::Conversation(id);
    for step in &mut event.steps {
        if let Fact::ConversationCreated { conversation, .. } = &mut step.fact {
            conversation.id = id;
        }
    }
    (Conversation { id, ..conversation.clone() }, event)
}

/// Makes the conversation if there is none of its id; whether it was made.
async fn make(
    store: &ScyllaStore,
    conversation: &Conversation,
    members: &[Member],
    attempt: Attempt,
    event: Event,
) -> Result<bool, StoreError> {
    let (database, statements) = (&store.inner.database, &store.inner.conversations);
    let user_ids: Vec<UserId> = members.iter().map(|member| member.user_id).collect();
    let mut work = Work::telling(&event);
    if conversation.kind != ConversationType::Channel {
        let joined = members.iter().flat_map(|member| activity::hours_of_joining(member.joined_at));
        work = work.moving(&user_ids, joined.chain([activity::hour_of(conversation.changed_at)]));
    }
    let unfinished = work.encode();
    enlist(store, conversation, user_ids, 1).await?;

    let id = conversation.id.as_bytes().as_slice();
    let image_json = image_json(conversation);
    let mut batch = vec![
        statements.create_conversation.with((
            conversation.kind.letter(),
            conversation.organization_id.as_str(),
            conversation.owner_id.as_bytes().as_slice(),
            conversation.opponent_id.as_ref().map(|id| id.as_bytes().as_slice()),
            conversation.name.as_deref(),
            conversation.description.as_deref(),
            image_json.as_deref(),
            conversation.is_encrypted,
            conversation.changed_at.millis(),
            i32::try_from(members.len()).unwrap_or(i32::MAX),
            unfinished.as_slice(),
            id,
        )),
        statements.remember_change.with((REMEMBERED_SECONDS, attempt_key(attempt), event.id.timestamp().millis(), id)),
    ];
    for (member, place) in members.iter().zip(places(1)) {
        let Member { user_id, role, joined_at } = member;
        let values = (id, user_id.as_bytes().as_slice(), role_word(*role), joined_at.millis(), place);
        batch.push(statements.insert_member.with(values));
    }
    match database.compare_and_set_batch(&batch).await? {
        Applied::Yes => {}
        Applied::No => return Ok(false),
        Applied::Unknown(error) => {
            // Where there is one, the next look at the claim finds it.
            let found = conversations::lookup_head_for(store, conversation.id, attempt, Look::Serial).await?;
            return if found.is_some() { Ok(false) } else { Err(error) };
        }
    }
    let changed = Changed { conversation, version: 1, is_erased: false };
    unfinished::carry_out(store, changed, &work, event).await?;
    Ok(true)
}
