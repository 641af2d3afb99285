//! The sockets and conversations that a play with messages needs.

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::Target;
use crate::people::Session;
use crate::socket::{Buffers, Socket};

/// So many sockets log in at the same time.
const AT_ONCE: usize = 32;

/// How many groups of how many members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seating {
    pub(crate) users: usize,
    pub(crate) group_size: usize,
    pub(crate) sockets_per_user: usize,
    /// Further members of each group, with one socket each that is never read.
    pub(crate) stalled_per_group: usize,
}

/// Everybody in place.
pub(crate) struct Stage {
    /// The groups' ids.
    pub(crate) conversations: Vec<String>,
    /// The sockets of those who play, group by group, all groups alike.
    pub(crate) sockets: Vec<Socket>,
    /// The sockets nobody reads.
    pub(crate) stalled: Vec<Socket>,
}

impl Stage {
    /// Signs users in, opens their sockets, makes their groups.
    pub(crate) async fn set(target: &Target, seating: Seating) -> anyhow::Result<Self> {
        let Seating { users, group_size, sockets_per_user, stalled_per_group } = seating;
        ensure!(users.is_multiple_of(group_size), "{users} users do not fill groups of {group_size}");
        let groups = users / group_size;
        let sessions = target.people.sign_in(&target.server, users + groups * stalled_per_group).await?;
        let (players, stalled) = sessions.split_at(users);

        let playing = players.iter().flat_map(|session| std::iter::repeat_n(session, sockets_per_user));
        let mut sockets = open(target, Buffers::Talking, playing).await?;
        let stalled_sockets = open(target, Buffers::Stalling, stalled).await?;

        let mut conversations = Vec::with_capacity(groups);
        for group in 0..groups {
            let members = &players[group * group_size..][..group_size];
            let silent = &stalled[group * stalled_per_group..][..stalled_per_group];
            let creator = &mut sockets[group * group_size * sockets_per_user];
            conversations.push(make_group(creator, members.iter().skip(1).chain(silent)).await?);
        }
        Ok(Self { conversations, sockets, stalled: stalled_sockets })
    }
}

async fn open<'a>(
    target: &Target,
    buffers: Buffers,
    sessions: impl IntoIterator<Item = &'a Session>,
) -> anyhow::Result<Vec<Socket>> {
    let opening = sessions.into_iter().map(|session| Socket::bound(&target.server, buffers, session));
    stream::iter(opening).buffered(AT_ONCE).try_collect().await
}

/// Makes a group of the socket's user and others, and returns its id.
pub(crate) async fn make_group<'a>(
    creator: &mut Socket,
    others: impl IntoIterator<Item = &'a Session>,
) -> anyhow::Result<String> {
    let participants: Vec<_> = others.into_iter().map(|session| session.user_id.as_str()).collect();
    let payload = json!({"type": "g", "name": "load", "participants": participants});
    let response = creator.request("conversation_create", payload).await.context("cannot make a group")?;
    let id = response["conversation"]["_id"].as_str().context("the new group has no id")?;
    Ok(id.to_owned())
}
