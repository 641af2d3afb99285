//! Sockets whose server is restarted under them, and who all come back at once.
//!
//! Somebody else restarts the server. From its first breath on, time counts until the last socket is logged in again.
//! One socket of each user then sends the first message; its time counts from the attempt to its acknowledgement.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::Target;
use crate::latency::{Latency, Percentiles};
use crate::ledger::MessageName;
use crate::opening::{Crowd, Opened};
use crate::people::Session;
use crate::report::{Progress, fresh_run, say};
use crate::socket::{Buffers, Server, Socket, Stream, next_text};
use crate::stage::make_group;
use crate::wire::{Packet, RunId, Told};

/// The pause after an attempt that failed, as an impatient client would have it.
const PAUSE: Duration = Duration::from_millis(100);
/// What a driver waits for on standard output.
pub const READY: &str = "ready for the restart";

/// Who comes back.
#[derive(Args, Clone, Debug)]
pub struct ComebackOptions {
    /// The sockets.
    #[command(flatten)]
    pub crowd: Crowd,

    /// Members of the groups that the first messages go to
    #[arg(long, default_value_t = 4, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..))]
    pub group_size: u32,

    /// How long to wait for the restart and for all to be back, in seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: u64,
}

/// How sockets came back. Times count from when the restarted server let the first one in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComebackReport {
    /// Sockets that had to come back.
    pub connections: u64,
    /// Those that were back in time.
    pub back: u64,
    /// From the first loss to the first login, in seconds.
    pub away_seconds: f64,
    /// Until the last was logged in, in seconds.
    pub back_seconds: f64,
    /// Until each was logged in, in microseconds.
    pub login: Percentiles,
    /// First messages, one of each user, from the sending to the acknowledgement, in microseconds.
    pub first_send: Percentiles,
    /// First messages that were not acknowledged.
    pub unanswered: u64,
}

/// When things happened.
#[derive(Debug, Default)]
struct Moments {
    first_loss: Option<Instant>,
    logins: Vec<Instant>,
    unanswered: u64,
}

struct Shared {
    server: Server,
    run: RunId,
    moments: Mutex<Moments>,
    first_send: Latency,
}

pub(crate) async fn run(target: &Target, options: &ComebackOptions) -> anyhow::Result<ComebackReport> {
    let crowd = options.crowd;
    let sessions = crowd.sign_in(target).await?;
    let conversations = make_groups(target, &sessions, options.group_size as usize).await?;
    let progress = Progress::new("sockets logged in", crowd.connections as usize);
    let shared = Arc::new(Shared {
        server: target.server.clone(),
        run: fresh_run(),
        moments: Mutex::default(),
        first_send: Latency::new(),
    });
    let (tell_back, mut back) = mpsc::channel(1_024);
    let mut tasks = JoinSet::new();
    let mut opening = std::pin::pin!(crowd.open(target, &sessions));
    while let Some((number, opened)) = opening.next().await {
        let Opened { socket, .. } = opened.with_context(|| format!("socket {number} cannot log in"))?;
        let session = sessions[number % sessions.len()].clone();
        // Sockets below the number of users are the first of theirs.
        let sends_to = conversations.get(number).cloned();
        let visitor = Visitor { number, session, sends_to, shared: Arc::clone(&shared), tell_back: tell_back.clone() };
        tasks.spawn(visitor.run(socket.into_stream()));
        progress.step();
    }
    say("all are logged in; waiting for the restart");
    writeln!(std::io::stdout(), "{READY}")?;
    let all_back = async {
        for _ in 0..crowd.connections {
            back.recv().await;
        }
    };
    // Those who are not back by then are missing in the counts.
    let _ = timeout(Duration::from_secs(options.patience), all_back).await;
    tasks.shutdown().await;
    shared.report(crowd.connections.into())
}

/// Every user's conversation, in the order of the users.
async fn make_groups(target: &Target, sessions: &[Session], size: usize) -> anyhow::Result<Vec<String>> {
    ensure!(sessions.len() >= 2, "it takes two users to talk: lower --sockets-per-user");
    let mut conversations = Vec::with_capacity(sessions.len());
    for group in sessions.chunks(size) {
        // One user left over talks to the first.
        let others = if group.len() == 1 { &sessions[..1] } else { &group[1..] };
        let mut creator = Socket::bound(&target.server, Buffers::Idle, &group[0]).await?;
        let conversation = make_group(&mut creator, others).await?;
        conversations.extend(std::iter::repeat_n(conversation, group.len()));
    }
    Ok(conversations)
}

/// One socket, lost and opened again.
struct Visitor {
    number: usize,
    session: Session,
    /// Where the first message goes, if there is one.
    sends_to: Option<String>,
    shared: Arc<Shared>,
    /// Told when the socket is logged in again and its first message is answered.
    tell_back: mpsc::Sender<()>,
}

impl Visitor {
    async fn run(self, mut stream: Stream) {
        while next_text(&mut stream).await.is_ok() {}
        drop(stream);
        self.shared.lock().first_loss.get_or_insert_with(Instant::now);
        let mut stream = loop {
            match Socket::bound(&self.shared.server, Buffers::Idle, &self.session).await {
                Ok(socket) => break socket.into_stream(),
                Err(_) => sleep(PAUSE).await,
            }
        };
        self.shared.lock().logins.push(Instant::now());
        if let Some(conversation) = &self.sends_to {
            self.send_first(&mut stream, conversation).await;
        }
        // Fails when nobody waits any more.
        let _ = self.tell_back.send(()).await;
        // What the others send has to go somewhere.
        while next_text(&mut stream).await.is_ok() {}
    }

    async fn send_first(&self, stream: &mut Stream, conversation: &str) {
        let message = MessageName { from: self.number, number: 0 };
        let packet = self.shared.run.packet(Told { message, due_micros: 0 }, conversation, 0);
        let sent = Instant::now();
        if stream.send(Frame::text(packet)).await.is_ok() {
            while let Ok(text) = next_text(stream).await {
                if self.shared.run.read(&text) == Packet::Acknowledged(message) {
                    return self.shared.first_send.record(sent.elapsed());
                }
            }
        }
        self.shared.lock().unanswered += 1;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, connections: u64) -> anyhow::Result<ComebackReport> {
        let moments = self.lock();
        let first_loss = moments.first_loss.context("the server was not restarted")?;
        let first = moments.logins.iter().min().context("nobody came back")?;
        let login = Latency::new();
        for moment in &moments.logins {
            login.record(*moment - *first);
        }
        let login = login.percentiles();
        Ok(ComebackReport {
            connections,
            back: moments.logins.len() as u64,
            away_seconds: (*first - first_loss).as_secs_f64(),
            back_seconds: login.max as f64 / 1e6,
            login,
            first_send: self.first_send.percentiles(),
            unanswered: moments.unanswered,
        })
    }
}

impl ComebackReport {
    /// Whether all came back, and were answered.
    pub fn is_clean(&self) -> bool {
        self.back == self.connections && self.unanswered == 0
    }
}

impl fmt::Display for ComebackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, back, away_seconds, back_seconds, login, first_send, unanswered } = self;
        writeln!(f, "{back} of {connections} sockets back within {back_seconds:.2} s, after {away_seconds:.2} s away")?;
        writeln!(f, "each            {login}")?;
        writeln!(f, "first message   {first_send}, {unanswered} unanswered")
    }
}
