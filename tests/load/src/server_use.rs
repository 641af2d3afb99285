//! What the server's processes use, from `/proc`.

use anyhow::Context;
use procfs::process::Process;
use serde::{Deserialize, Serialize};

/// Processes that are measured together; none is fine, and measures nothing.
#[derive(Debug)]
pub struct Processes(Vec<Process>);

/// What they use at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Time on processors so far, in seconds, user and system together.
    pub cpu_seconds: f64,
    /// Memory in RAM, in bytes.
    pub resident_bytes: u64,
    /// The part of it that no file stands behind.
    pub anonymous_bytes: u64,
}

/// What they used over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Time on processors, in seconds.
    pub cpu_seconds: f64,
    /// At its beginning.
    pub before: Usage,
    /// At its end.
    pub after: Usage,
}

impl Processes {
    /// Finds processes by their ids.
    ///
    /// # Errors
    /// When one is not there.
    pub fn find(pids: &[i32]) -> anyhow::Result<Self> {
        let processes =
            pids.iter().map(|&pid| Process::new(pid).with_context(|| format!("no process has the id {pid}")));
        Ok(Self(processes.collect::<Result<_, _>>()?))
    }

    /// This process.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn own() -> anyhow::Result<Self> {
        Ok(Self(vec![Process::myself()?]))
    }

    /// What they use now; `None` when there are none, or one has gone.
    pub fn usage(&self) -> Option<Usage> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.usages()?.into_iter().fold(Usage::default(), Usage::plus))
    }

    /// What each uses now, in the order in which they were named; `None` when one has gone.
    pub fn usages(&self) -> Option<Vec<Usage>> {
        self.0.iter().map(usage_of).collect()
    }

    /// What they used between then and now.
    pub fn used_since(&self, before: Option<Usage>, seconds: f64) -> Option<Used> {
        let (before, after) = (before?, self.usage()?);
        Some(Used::between(before, after, seconds))
    }

    /// What each used between then and now; nothing when one has gone.
    pub fn each_used_since(&self, before: Option<Vec<Usage>>, seconds: f64) -> Vec<Used> {
        let (before, after) = (before.unwrap_or_default(), self.usages().unwrap_or_default());
        before.into_iter().zip(after).map(|(before, after)| Used::between(before, after, seconds)).collect()
    }
}

fn usage_of(process: &Process) -> Option<Usage> {
    let (stat, status) = (process.stat().ok()?, process.status().ok()?);
    Some(Usage {
        cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        resident_bytes: status.vmrss.unwrap_or(0) * 1024,
        anonymous_bytes: status.rssanon.unwrap_or(0) * 1024,
    })
}

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            anonymous_bytes: self.anonymous_bytes + other.anonymous_bytes,
        }
    }
}

impl Used {
    fn between(before: Usage, after: Usage, seconds: f64) -> Self {
        Self { seconds, cpu_seconds: after.cpu_seconds - before.cpu_seconds, before, after }
    }

    /// How many processors were busy.
    pub fn cores(&self) -> f64 {
        self.cpu_seconds / self.seconds
    }

    /// Processor time for each of so many, in microseconds.
    pub fn cpu_micros_per(&self, count: u64) -> f64 {
        self.cpu_seconds * 1e6 / count as f64
    }

    /// How much more memory there is for each of so many, in bytes.
    pub fn bytes_per(&self, count: u64) -> f64 {
        (self.after.resident_bytes as f64 - self.before.resident_bytes as f64) / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = Processes::own().unwrap();
        let usage = own.usage().unwrap();
        assert!(usage.resident_bytes > 0);
        assert!(usage.anonymous_bytes <= usage.resident_bytes);
        assert!(own.used_since(Some(usage), 1.0).unwrap().cpu_seconds >= 0.0);
        assert_eq!(own.each_used_since(own.usages(), 1.0).len(), 1);
    }

    #[test]
    fn no_process_measures_nothing() {
        assert_eq!(Processes::find(&[]).unwrap().usage(), None);
        assert!(Processes::find(&[i32::MAX]).is_err());
    }
}
