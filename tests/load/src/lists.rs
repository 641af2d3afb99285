//! How long `conversation_list` and `message_list` take, for a user with so much in his past.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::Target;
use crate::latency::{Latency, Percentiles};
use crate::ledger::MessageName;
use crate::people::Session;
use crate::report::{Progress, fresh_run};
use crate::server_use::Used;
use crate::socket::{Buffers, RequestError, Server, Socket, Stream, next_text};
use crate::stage::make_group;
use crate::wire::{Packet, Told};

/// Sockets that take turns, each with one request under way: a server may slow down a single one that asks a lot.
const SOCKETS: usize = 20;
/// The length of the messages' texts.
const BODY_BYTES: usize = 100;

/// What the user has, and how often he asks.
#[derive(Args, Clone, Debug)]
pub struct ListsOptions {
    /// The user's conversations
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub conversations: u32,

    /// Messages in one of them; the others have one each
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: u32,

    /// How often each list is asked for
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: u32,
}

/// How long the lists took, one request after the other, with the protocol's default limit of 30. Conversations of
/// earlier runs are in the user's list too: take another --login-prefix for a user without a past.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListsReport {
    /// Conversations of the user.
    pub conversations: u64,
    /// Messages in the longest.
    pub messages: u64,
    /// `conversation_list`.
    pub conversation_list: ListReport,
    /// `message_list`, the newest page.
    pub message_list: ListReport,
    /// `message_list`, a page in the middle.
    pub message_list_middle: ListReport,
}

/// One kind of list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListReport {
    /// Items in the answer.
    pub items: u64,
    /// From the request to its answer, read, in microseconds.
    pub latency: Percentiles,
    /// What the server used.
    pub server: Option<Used>,
}

pub(crate) async fn run(target: &Target, options: &ListsOptions) -> anyhow::Result<ListsReport> {
    let sessions = target.people.sign_in(&target.server, 2).await?;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Socket::bound(&target.server, Buffers::Talking, &sessions[0]).await?);
    }
    let socket = &mut sockets[0];
    // A user of earlier runs has more conversations than this one makes.
    let mut conversations = Vec::new();
    for _ in 0..options.conversations {
        conversations.push(make_group(socket, &sessions[1..]).await?);
    }
    let (longest, others) = conversations.split_last().context("there is a conversation")?;
    for conversation in others {
        fill(&target.server, &sessions[1], conversation, 1).await?;
    }
    fill(&target.server, &sessions[1], longest, options.messages as usize).await?;

    let middle = middle(socket, longest, options.messages).await?;
    let mut ask = async |name: &'static str, payload: Value| ask(target, &mut sockets, options, name, payload).await;
    Ok(ListsReport {
        conversations: options.conversations.into(),
        messages: options.messages.into(),
        conversation_list: ask("conversation_list", json!({})).await?,
        message_list: ask("message_list", json!({"cid": longest})).await?,
        message_list_middle: ask("message_list", json!({"cid": longest, "updated_at": {"lt": middle}})).await?,
    })
}

/// The time of a message with about as many before it as after it.
async fn middle(socket: &mut Socket, conversation: &str, messages: u32) -> anyhow::Result<Value> {
    let mut before = Value::Null;
    let mut newer = messages as usize / 2;
    while newer > 0 {
        let payload = json!({"cid": conversation, "limit": newer.min(100), "updated_at": {"lt": before}});
        let page = socket.request("message_list", payload).await?;
        let page = page["messages"].as_array().context("messages are an array")?;
        let last = page.last().context("the conversation is shorter than it was filled")?;
        before = last["created_at"].clone();
        newer = newer.saturating_sub(page.len());
    }
    Ok(before)
}

async fn ask(
    target: &Target,
    sockets: &mut [Socket],
    options: &ListsOptions,
    name: &'static str,
    payload: Value,
) -> anyhow::Result<ListReport> {
    let list = if name == "message_list" { "messages" } else { "conversations" };
    let latency = Latency::new();
    let mut items = 0;
    let (before, begun) = (target.processes.usage(), Instant::now());
    for number in 0..options.requests as usize {
        let socket = &mut sockets[number % SOCKETS];
        let asked = Instant::now();
        let response = socket.request(name, payload.clone()).await.with_context(|| format!("{name} fails"))?;
        latency.record(asked.elapsed());
        items = response[list].as_array().map_or(0, Vec::len);
    }
    ensure!(items > 0, "{name} answers with nothing");
    let server = target.processes.used_since(before, begun.elapsed().as_secs_f64());
    Ok(ListReport { items: items as u64, latency: latency.percentiles(), server })
}

/// Sends so many messages.
async fn fill(server: &Server, session: &Session, conversation: &str, count: usize) -> anyhow::Result<()> {
    let progress = Progress::new("messages sent", count);
    let run = fresh_run();
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS.min(count) {
        sockets.push(Socket::bound(server, Buffers::Talking, session).await?.into_stream());
    }
    let fillers = sockets.len();
    let filling = sockets.into_iter().enumerate().map(async |(from, mut stream)| {
        for number in (from..count).step_by(fillers) {
            let message = MessageName { from, number: number as u64 };
            let packet = run.packet(Told { message, due_micros: 0 }, conversation, BODY_BYTES);
            stream.send(Frame::text(packet)).await?;
            wait_for(&mut stream, |text| match run.read(text) {
                Packet::Refused(_, refusal) => Some(Err(RequestError::Refused(refusal))),
                packet => (packet == Packet::Acknowledged(message)).then_some(Ok(())),
            })
            .await?;
            progress.step();
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(filling).await.context("cannot fill a conversation")?;
    Ok(())
}

async fn wait_for(
    stream: &mut Stream,
    is_it: impl Fn(&str) -> Option<Result<(), RequestError>>,
) -> Result<(), RequestError> {
    loop {
        let text = next_text(stream).await.map_err(RequestError::Ended)?;
        if let Some(outcome) = is_it(&text) {
            return outcome;
        }
    }
}

impl fmt::Display for ListsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conversations, messages, .. } = self;
        writeln!(f, "a user with {conversations} conversations, {messages} messages in one")?;
        writeln!(f, "conversations   {}", self.conversation_list)?;
        writeln!(f, "newest messages {}", self.message_list)?;
        writeln!(f, "middle messages {}", self.message_list_middle)
    }
}

impl fmt::Display for ListReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items, {}", self.items, self.latency)?;
        match &self.server {
            Some(server) => write!(f, ", {:.0} us CPU", server.cpu_micros_per(self.latency.count)),
            None => Ok(()),
        }
    }
}
