//! Sockets that are logged in and do nothing: what does one cost?

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Target;
use crate::opening::{Crowd, Opened};
use crate::players::count;
use crate::report::{self, Progress};
use crate::server_use::Used;
use crate::socket::{Socket, next_text};

/// How long the server may take to put things in order after the last login.
const SETTLE: Duration = Duration::from_secs(2);

/// How many sockets do nothing, for how long.
#[derive(Args, Clone, Debug)]
pub struct IdleOptions {
    /// The sockets.
    #[command(flatten)]
    pub crowd: Crowd,

    /// How long to hold them, in seconds: their CPU is measured in that time
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
}

/// What idle sockets cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdleReport {
    /// Sockets that were logged in.
    pub connections: u64,
    /// Their users.
    pub users: u64,
    /// The server while they logged in; what its memory grew by is theirs.
    pub opening: Option<Used>,
    /// The server while they did nothing.
    pub holding: Option<Used>,
    /// Sockets that ended, by close code.
    pub endings: BTreeMap<String, u64>,
}

pub(crate) async fn run(target: &Target, options: &IdleOptions) -> anyhow::Result<IdleReport> {
    let crowd = options.crowd;
    let sessions = crowd.sign_in(target).await?;
    let progress = Progress::new("sockets logged in", crowd.connections as usize);
    let endings = Arc::new(Mutex::new(BTreeMap::new()));
    let mut tasks = JoinSet::new();
    let (before, begun) = (target.processes.usage(), std::time::Instant::now());
    let mut opening = std::pin::pin!(crowd.open(target, &sessions));
    while let Some((number, opened)) = opening.next().await {
        let Opened { socket, .. } = opened.with_context(|| format!("socket {number} cannot log in"))?;
        tasks.spawn(hold(socket, Arc::clone(&endings)));
        progress.step();
    }
    sleep(SETTLE).await;
    let opening = target.processes.used_since(before, begun.elapsed().as_secs_f64());

    let (before, begun) = (target.processes.usage(), std::time::Instant::now());
    sleep(Duration::from_secs(options.seconds)).await;
    let holding = target.processes.used_since(before, begun.elapsed().as_secs_f64());
    let endings = endings.lock().unwrap_or_else(PoisonError::into_inner).clone();
    tasks.shutdown().await;
    let connections = crowd.connections.into();
    Ok(IdleReport { connections, users: sessions.len() as u64, opening, holding, endings })
}

/// Reads, which answers pings, until the socket ends.
async fn hold(socket: Socket, endings: Arc<Mutex<BTreeMap<String, u64>>>) {
    let mut frames = socket.into_stream();
    loop {
        if let Err(ending) = next_text(&mut frames).await {
            return count(&endings, ending.to_string());
        }
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, users, .. } = self;
        writeln!(f, "{connections} idle sockets of {users} users")?;
        if let Some(opening) = &self.opening {
            writeln!(
                f,
                "memory          {:.0} bytes per socket: from {:.1} to {:.1} MiB",
                opening.bytes_per(*connections),
                report::mebibytes(opening.before.resident_bytes),
                report::mebibytes(opening.after.resident_bytes)
            )?;
            writeln!(f, "login           {:.0} us CPU per socket", opening.cpu_micros_per(*connections))?;
        }
        if let Some(holding) = &self.holding {
            writeln!(f, "idle            {:.3} cores", holding.cores())?;
        }
        report::counts(f, "sockets ended", &self.endings)
    }
}
