//! Groups that talk, with or without members who stop reading.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Target;
use crate::latency::Percentiles;
use crate::ledger::{Ledger, Verdict};
use crate::pace::Metronome;
use crate::players::{Play, Player};
use crate::report::{self, fresh_run};
use crate::server_use::{Processes, Used};
use crate::socket::{Ending, Socket, next_text};
use crate::stage::{Seating, Stage};

/// Messages of a socket that may wait for an answer in an open loop: enough that a server is late, not the generator.
const OPEN_LOOP_WINDOW: usize = 10_000;
/// How often to look if all has arrived.
const LOOK: Duration = Duration::from_millis(10);
/// How long a stalled socket may take to read what it left lying.
const CATCH_UP: Duration = Duration::from_secs(15);
/// What a driver that measures beside it finds on standard output when the time measured begins.
pub const MEASURING: &str = "measuring";
/// And when it has ended.
pub const MEASURED: &str = "measured";

/// How groups talk.
#[derive(Args, Clone, Debug)]
pub struct ChatOptions {
    /// Users in all
    #[arg(long, default_value_t = 40, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..))]
    pub users: u32,

    /// Members of each group
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..))]
    pub group_size: u32,

    /// Sockets of each user; all send and receive
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub sockets_per_user: u32,

    /// Length of a message's text, in bytes
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    pub body_bytes: usize,

    /// Messages a second over all sockets (open loop); without it each socket sends when it is answered (closed loop)
    #[arg(long, value_name = "MESSAGES", value_parser = rate)]
    pub rate: Option<f64>,

    /// Messages of a socket that may wait for their answer, in a closed loop
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,

    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,

    /// How long to go on before that, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: f64,

    /// How long nothing may arrive, after the last message, until what is missing counts as lost, in seconds
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub patience: f64,
}

/// How groups talk while some do not listen.
#[derive(Args, Clone, Debug)]
pub struct StallOptions {
    /// How the others talk. Long messages (--body-bytes 20000) fill a stalled socket soon.
    #[command(flatten)]
    pub chat: ChatOptions,

    /// Members of each group, beside the others, whose socket is not read until all is sent
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub stalled: u32,
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text)
}

fn seconds(text: &str) -> Result<f64, String> {
    positive(text)
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

/// How a chat went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChatReport {
    /// Users that talked.
    pub users: u64,
    /// Their sockets.
    pub sockets: u64,
    /// Their groups.
    pub conversations: u64,
    /// Messages a second that were due, in an open loop.
    pub rate: Option<f64>,
    /// Messages of a socket that could wait for their answer.
    pub window: u64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Acknowledgements in that time.
    pub measured_messages: u64,
    /// Deliveries in that time.
    pub measured_deliveries: u64,
    /// The mean length of a delivered packet.
    pub delivered_bytes: f64,
    /// From when a message was due to its acknowledgement, in microseconds.
    pub acknowledgement: Percentiles,
    /// From when a message was due to each of its deliveries, in microseconds.
    pub delivery: Percentiles,
    /// The account of the whole run.
    pub verdict: Verdict,
    /// Refused messages, by status and code.
    pub refusals: BTreeMap<String, u64>,
    /// Sockets that ended before the run did, by close code.
    pub endings: BTreeMap<String, u64>,
    /// What the server used in the time measured.
    pub server: Option<Used>,
    /// The same of each of its processes, in the order in which they were named.
    pub server_processes: Vec<Used>,
    /// What the generator itself used in that time: near 1 core, it may be what limits.
    pub generator: Option<Used>,
}

/// How a chat with stalled sockets went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StallReport {
    /// Those who listened.
    pub chat: ChatReport,
    /// How the stalled sockets ended, by close code; `open` for those that were not closed.
    pub stalled: BTreeMap<String, u64>,
}

/// Lets groups talk.
pub(crate) async fn chat(target: &Target, options: &ChatOptions) -> anyhow::Result<ChatReport> {
    let stage = Stage::set(target, options.seating(0)).await?;
    perform(target, options, stage.conversations, stage.sockets).await
}

/// Lets groups talk, then looks what became of those who did not listen.
pub(crate) async fn stall(target: &Target, options: &StallOptions) -> anyhow::Result<StallReport> {
    let stage = Stage::set(target, options.chat.seating(options.stalled)).await?;
    let chat = perform(target, &options.chat, stage.conversations, stage.sockets).await?;
    let mut stalled = BTreeMap::new();
    for ending in join_all(stage.stalled.into_iter().map(read_to_end)).await {
        let name = ending.map_or("open".to_owned(), |ending| ending.to_string());
        *stalled.entry(name).or_default() += 1;
    }
    Ok(StallReport { chat, stalled })
}

/// Reads what lies there. `None` when the socket does not end.
async fn read_to_end(socket: Socket) -> Option<Ending> {
    let mut frames = socket.into_stream();
    let ending = timeout(CATCH_UP, async {
        loop {
            if let Err(ending) = next_text(&mut frames).await {
                return ending;
            }
        }
    });
    ending.await.ok()
}

impl ChatOptions {
    fn seating(&self, stalled_per_group: u32) -> Seating {
        Seating {
            users: self.users as usize,
            group_size: self.group_size as usize,
            sockets_per_user: self.sockets_per_user as usize,
            stalled_per_group: stalled_per_group as usize,
        }
    }
}

async fn perform(
    target: &Target,
    options: &ChatOptions,
    conversations: Vec<String>,
    sockets: Vec<Socket>,
) -> anyhow::Result<ChatReport> {
    let sockets_of_each = sockets.len() / conversations.len();
    let ledger = Ledger::new(&vec![sockets_of_each; conversations.len()]);
    let sockets_count = sockets.len();
    let (metronome, turns) = options.rate.map(|rate| Metronome::new(rate, sockets_count)).unzip();
    let mut turns = turns.into_iter().flatten();
    let window = options.rate.map_or(options.window as usize, |_| OPEN_LOOP_WINDOW);

    let play = Arc::new(Play::new(fresh_run(), ledger, options.body_bytes));
    let mut tasks = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        let conversation = conversations[number / sockets_of_each].clone();
        Player { number, socket, conversation, window, turns: turns.next() }.spawn(&play, &mut tasks);
    }
    if let Some(metronome) = metronome {
        metronome.spawn(play.begun, play.stop.clone())?;
    }
    tasks.spawn(tell_progress(Arc::clone(&play)));

    sleep(Duration::from_secs_f64(options.warm_up)).await;
    let own = Processes::own()?;
    let before = (Counted::now(&play), target.processes.usage(), own.usage());
    let each_before = target.processes.usages();
    play.measured_from.store(play.now(), Ordering::Relaxed);
    writeln!(std::io::stdout(), "{MEASURING}")?;
    sleep(Duration::from_secs_f64(options.seconds)).await;
    let measured = Counted::now(&play).since(&before.0);
    let server = target.processes.used_since(before.1, measured.seconds);
    let server_processes = target.processes.each_used_since(each_before, measured.seconds);
    let generator = own.used_since(before.2, measured.seconds);
    writeln!(std::io::stdout(), "{MEASURED}")?;
    play.stop.cancel();
    let endings = settle(&play, Duration::from_secs_f64(options.patience)).await;
    tasks.shutdown().await;

    Ok(ChatReport {
        users: options.users.into(),
        sockets: sockets_count as u64,
        conversations: conversations.len() as u64,
        rate: options.rate,
        window: window as u64,
        seconds: measured.seconds,
        measured_messages: measured.messages,
        measured_deliveries: measured.deliveries,
        delivered_bytes: measured.bytes as f64 / measured.deliveries.max(1) as f64,
        acknowledgement: play.acknowledgement.percentiles(),
        delivery: play.delivery.percentiles(),
        verdict: play.ledger.verdict(),
        refusals: play.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        endings,
        server,
        server_processes,
        generator,
    })
}

/// Waits until all has arrived, or nothing more arrives. Returns how sockets ended until then.
async fn settle(play: &Play, patience: Duration) -> BTreeMap<String, u64> {
    let arrived = || play.acknowledged.load(Ordering::Relaxed) + play.deliveries.load(Ordering::Relaxed);
    let (mut before, mut since) = (arrived(), Instant::now());
    while !play.ledger.is_settled() && since.elapsed() < patience {
        sleep(LOOK).await;
        let now = arrived();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    // What nobody waits for may still be on its way: doubles.
    sleep(LOOK * 20).await;
    play.endings.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn tell_progress(play: Arc<Play>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let Counted { seconds, messages, deliveries, .. } = Counted::now(&play);
        report::say(&format!("{seconds:.0} s: {messages} acknowledged, {deliveries} delivered"));
    }
}

/// What had been counted at a moment, or between two.
struct Counted {
    seconds: f64,
    messages: u64,
    deliveries: u64,
    bytes: u64,
}

impl Counted {
    fn now(play: &Play) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            seconds: play.begun.elapsed().as_secs_f64(),
            messages: read(&play.acknowledged),
            deliveries: read(&play.deliveries),
            bytes: read(&play.delivered_bytes),
        }
    }

    fn since(self, before: &Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            messages: self.messages - before.messages,
            deliveries: self.deliveries - before.deliveries,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl ChatReport {
    /// Acknowledgements a second.
    pub fn messages_per_second(&self) -> f64 {
        self.measured_messages as f64 / self.seconds
    }

    /// Whether every promise was kept and every socket stayed.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.endings.is_empty()
    }
}

impl StallReport {
    /// Whether those who listened got everything, and those who did not were told.
    pub fn is_clean(&self) -> bool {
        self.chat.is_clean() && self.stalled.keys().all(|ending| ending == "4008")
    }
}

impl fmt::Display for ChatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, sockets, conversations, seconds, verdict, .. } = self;
        let pace = self.rate.map_or(format!("closed loop, window {}", self.window), |rate| format!("{rate}/s due"));
        writeln!(f, "{users} users on {sockets} sockets in {conversations} groups, {pace}, {seconds:.1} s measured")?;
        let per_second = |count: u64| count as f64 / seconds;
        writeln!(f, "acknowledged    {:.0}/s, {}", per_second(self.measured_messages), self.acknowledgement)?;
        writeln!(f, "delivered       {:.0}/s, {}", per_second(self.measured_deliveries), self.delivery)?;
        let Verdict { sent, acknowledged, refused, unanswered, deliveries_expected, deliveries, .. } = verdict;
        writeln!(
            f,
            "in all          {sent} sent, {acknowledged} acknowledged, {refused} refused, {unanswered} unanswered; \
             {deliveries} deliveries of {deliveries_expected} expected"
        )?;
        report::counts(f, "refused with", &self.refusals)?;
        report::counts(f, "sockets ended", &self.endings)?;
        report::broken(f, verdict)?;
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server          {:.2} cores; {:.1} us CPU per message, {:.2} us per delivery; {:.1} MiB",
                server.cores(),
                server.cpu_micros_per(self.measured_messages),
                server.cpu_micros_per(self.measured_deliveries),
                report::mebibytes(server.after.resident_bytes)
            )?;
        }
        if let Some(generator) = &self.generator {
            let mebibytes = report::mebibytes(generator.after.resident_bytes);
            writeln!(f, "generator       {:.2} cores, {mebibytes:.1} MiB", generator.cores())?;
        }
        Ok(())
    }
}

impl fmt::Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.chat)?;
        report::counts(f, "stalled ended", &self.stalled)
    }
}
