//! What a run hands back, and how it is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::chat::{ChatReport, StallReport};
use crate::comeback::ComebackReport;
use crate::idle::IdleReport;
use crate::ledger::Verdict;
use crate::lists::ListsReport;
use crate::storm::StormReport;
use crate::wire::RunId;

/// Of so few things one needs not be told.
const SOON_DONE: usize = 10;

/// How a run went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Groups talked.
    Chat(ChatReport),
    /// Groups talked while some did not listen.
    Stall(StallReport),
    /// Sockets did nothing.
    Idle(IdleReport),
    /// Sockets logged in.
    Storm(StormReport),
    /// Sockets came back.
    Comeback(ComebackReport),
    /// Lists were asked for.
    Lists(ListsReport),
}

impl Report {
    /// Whether the server kept its promises.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Chat(report) => report.is_clean(),
            Self::Stall(report) => report.is_clean(),
            Self::Idle(report) => report.endings.is_empty(),
            Self::Storm(report) => report.failures.is_empty(),
            Self::Comeback(report) => report.is_clean(),
            Self::Lists(_) => true,
        }
    }

    /// Writes it to a file, as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", path.display());
        serde_json::to_writer_pretty(File::create(path).with_context(failed)?, self).with_context(failed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat(report) => report.fmt(f),
            Self::Stall(report) => report.fmt(f),
            Self::Idle(report) => report.fmt(f),
            Self::Storm(report) => report.fmt(f),
            Self::Comeback(report) => report.fmt(f),
            Self::Lists(report) => report.fmt(f),
        }
    }
}

/// A name for a run that none before had.
#[expect(clippy::disallowed_methods, reason = "runs are told apart by when they began")]
pub(crate) fn fresh_run() -> RunId {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RunId(since.as_micros() as u64)
}

/// Tells whoever waits how far it is.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Tells how far something of a known size is, ten times; nothing of what is soon done.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    whole: usize,
    done: AtomicUsize,
}

impl Progress {
    pub(crate) fn new(what: &'static str, whole: usize) -> Self {
        Self { what, whole, done: AtomicUsize::new(0) }
    }

    /// One more is done.
    pub(crate) fn step(&self) {
        let Self { what, whole, .. } = self;
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if *whole < SOON_DONE {
            return;
        }
        if done.is_multiple_of(whole.div_ceil(10)) || done == *whole {
            say(&format!("{done} of {whole} {what}"));
        }
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A line of counts by name, or nothing.
pub(crate) fn counts(f: &mut fmt::Formatter<'_>, title: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    writeln!(f, "{title:<15} {}", counts.join(", "))
}

/// What promises were broken, and the first cases.
pub(crate) fn broken(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    const SHOWN: usize = 20;
    if verdict.is_clean() {
        return writeln!(f, "promises        all kept: nothing lost, doubled or out of order");
    }
    let broken = serde_json::to_value(verdict.broken).unwrap_or_default();
    let counts = broken.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let counts: Vec<_> = counts.map(|(name, count)| format!("{name}: {count}")).collect();
    writeln!(f, "PROMISES BROKEN {}", counts.join(", "))?;
    for finding in verdict.findings.iter().take(SHOWN) {
        writeln!(f, "                {finding}")?;
    }
    Ok(())
}
