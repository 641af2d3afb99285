//! Which machine, which revision, when, and what else it did meanwhile: what figures mean nothing without.

use std::fmt;
use std::process::Command;
use std::time::Instant;

use jiff::Timestamp;
use procfs::process::Process;
use procfs::{Current, CurrentSI, KernelStats};
use serde::{Serialize, Serializer};

/// Where and when figures were taken.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    #[serde(serialize_with = "as_text")]
    began_at: Timestamp,
    revision: String,
    processor: String,
    processors: usize,
    memory_bytes: u64,
    kernel: String,
    /// What else ran when it began: the load average of the last minute.
    load_average: f32,
}

/// How busy the machine was, and how much of that was us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Business {
    busy_ticks: u64,
    own_ticks: u64,
    moment: Instant,
}

impl Business {
    /// Until now. Children count once they have ended.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let total = KernelStats::current()?.total;
        let stolen = total.steal.unwrap_or(0);
        let interrupts = total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
        let own = Process::myself()?.stat()?;
        let children = u64::try_from(own.cutime + own.cstime).unwrap_or(0);
        Ok(Self {
            busy_ticks: total.user + total.nice + total.system + interrupts + stolen,
            own_ticks: own.utime + own.stime + children,
            moment: Instant::now(),
        })
    }

    /// How many processors others had since then, on average. Kernel threads that write to the disk for us are others.
    pub(crate) fn others_since(self, then: Self) -> f64 {
        let others = (self.busy_ticks - then.busy_ticks).saturating_sub(self.own_ticks - then.own_ticks);
        let seconds = (self.moment - then.moment).as_secs_f64();
        others as f64 / procfs::ticks_per_second() as f64 / seconds
    }
}

impl Machine {
    #[expect(clippy::disallowed_methods, reason = "a report bears its date")]
    pub(crate) fn describe() -> anyhow::Result<Self> {
        let processors = procfs::CpuInfo::current()?;
        let kernel = procfs::sys::kernel::Version::current()?;
        Ok(Self {
            began_at: Timestamp::now(),
            revision: revision().unwrap_or_else(|| "unknown".to_owned()),
            processor: processors.model_name(0).unwrap_or("unknown").to_owned(),
            processors: processors.num_cores(),
            memory_bytes: procfs::Meminfo::current()?.mem_total,
            kernel: format!("{}.{}.{}", kernel.major, kernel.minor, kernel.patch),
            load_average: procfs::LoadAverage::current()?.one,
        })
    }

    /// A name for this run's file, sorted by time.
    pub(crate) fn file_stem(&self) -> String {
        self.began_at.strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
    }
}

fn as_text<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

/// The commit that is checked out, if git knows; `+` when files differ from it.
fn revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(format!("{}{}", commit.trim(), if changed.is_empty() { "" } else { "+" }))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { began_at, revision, processor, processors, memory_bytes, kernel, load_average } = self;
        let gibibytes = memory_bytes >> 30;
        write!(
            f,
            "{}, revision {revision}: {processors} x {processor}, {gibibytes} GiB, Linux {kernel}, load average {load_average:.2}",
            began_at.strftime("%Y-%m-%d %H:%M UTC")
        )
    }
}
