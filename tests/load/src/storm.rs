//! Sockets that log in as fast as the server lets them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use clap::Args;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use crate::Target;
use crate::latency::{Latency, Percentiles};
use crate::opening::{Crowd, Opened};
use crate::report::{self, Progress};
use crate::server_use::{Processes, Used};

/// How many sockets log in.
#[derive(Args, Clone, Debug)]
pub struct StormOptions {
    /// The sockets.
    #[command(flatten)]
    pub crowd: Crowd,
}

/// How fast sockets logged in: TCP, upgrade, `connect` with a token, reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StormReport {
    /// Sockets that logged in.
    pub connections: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Each of them, in microseconds.
    pub login: Percentiles,
    /// Attempts that failed, by why.
    pub failures: BTreeMap<String, u64>,
    /// What the server used.
    pub server: Option<Used>,
    /// What the generator used.
    pub generator: Option<Used>,
}

pub(crate) async fn run(target: &Target, options: &StormOptions) -> anyhow::Result<StormReport> {
    let crowd = options.crowd;
    let sessions = crowd.sign_in(target).await?;
    let progress = Progress::new("sockets logged in", crowd.connections as usize);
    let login = Latency::new();
    let mut failures = BTreeMap::new();
    let mut sockets = Vec::new();
    let own = Processes::own()?;
    let (before, own_before, begun) = (target.processes.usage(), own.usage(), Instant::now());
    let mut opening = std::pin::pin!(crowd.open(target, &sessions));
    while let Some((_, opened)) = opening.next().await {
        match opened {
            Ok(Opened { socket, took }) => {
                login.record(took);
                sockets.push(socket);
            }
            Err(error) => *failures.entry(format!("{:#}", error.root_cause())).or_default() += 1,
        }
        progress.step();
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(StormReport {
        connections: sockets.len() as u64,
        seconds,
        login: login.percentiles(),
        failures,
        server: target.processes.used_since(before, seconds),
        generator: own.used_since(own_before, seconds),
    })
}

impl StormReport {
    /// Logins a second.
    pub fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

impl fmt::Display for StormReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, seconds, login, .. } = self;
        writeln!(f, "{connections} sockets logged in within {seconds:.2} s: {:.0}/s", self.per_second())?;
        writeln!(f, "each            {login}")?;
        report::counts(f, "failed", &self.failures)?;
        if let Some(server) = &self.server {
            let micros = server.cpu_micros_per(*connections);
            writeln!(f, "server          {:.2} cores, {micros:.0} us CPU per login", server.cores())?;
        }
        if let Some(generator) = &self.generator {
            writeln!(f, "generator       {:.2} cores", generator.cores())?;
        }
        Ok(())
    }
}
