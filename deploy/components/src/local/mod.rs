//! The distributed form on this machine: a database, NATS, core services and gateways, each a process of its own that
//! stays until it is told to go.
//!
//! All lies below `target/local`: data, logs, the token between gateways and cores, and `stack.json`, which says what
//! runs where. A process is known again by a mark in its environment, so that nobody else's is ever stopped.

mod down;
mod stack;
mod up;

use std::fmt::Display;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cache;
use crate::servers::Given;
use stack::Stack;

/// What [`up`] starts.
#[derive(Debug)]
pub struct Wanted {
    /// Servers that are there already.
    pub given: Given,
    /// How many gateways.
    pub gateways: u8,
    /// How many core services.
    pub cores: u8,
    /// Whether the data of before is forgotten.
    pub fresh: bool,
}

/// Starts everything and waits until it is ready. Blocks.
///
/// # Errors
/// When something does not start, which ends the rest; says why and where the logs are.
pub fn up(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let place = Place::enter()?;
    if let Some(Running { name, pid }) = place.running()?.first() {
        bail!("{name} runs already, as process {pid}. Run: deploy/local down");
    }
    if wanted.fresh {
        cache::remove(&place.data())?;
    }
    let mut stack = Stack::default();
    if let Err(failed) = up::start(&place, wanted, &mut stack) {
        down::stop_all(&place)?;
        return Err(failed.context(format!("nothing runs; the logs are in {}", place.logs().display())));
    }
    for (number, gateway) in stack.gateways.iter().enumerate() {
        let websocket = gateway.url.replacen("http", "ws", 1);
        say(format_args!("gateway {}: {websocket} and {} (admin {})", number + 1, gateway.url, gateway.admin));
    }
    say(format_args!("everything is ready; {} says where it is, deploy/local down stops it", place.file().display()));
    Ok(ExitCode::SUCCESS)
}

/// Says what runs and whether it is ready. Its exit code says whether all of it is.
///
/// # Errors
/// When that cannot be found out.
pub fn status() -> anyhow::Result<ExitCode> {
    let place = Place::new()?;
    let Some(stack) = place.read_stack()? else {
        say("nothing was started");
        return Ok(ExitCode::FAILURE);
    };
    let mut all = true;
    for process in stack.processes() {
        let state = match (place.is_running(&process.running), process.is_ready()) {
            (false, _) => "gone",
            (true, false) => "not ready",
            (true, true) => "ready",
        };
        all &= state == "ready";
        let Running { name, pid } = &process.running;
        say(format_args!("{name:12} {:28} process {pid:<8} {state}", process.address));
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stops what [`up`] started. Blocks until it is gone.
///
/// # Errors
/// When that cannot be found out.
pub fn down() -> anyhow::Result<ExitCode> {
    let place = Place::enter()?;
    if !down::stop_all(&place)? {
        say("nothing runs");
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for whoever asked.
fn say(line: impl Display) {
    // Nobody reading it is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The directory that all lies in.
struct Place {
    directory: PathBuf,
    /// Held by whoever starts or stops something.
    _lock: Option<File>,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let directory = std::path::absolute("target/local")?;
        Ok(Self { directory, _lock: None })
    }

    /// The place to oneself.
    fn enter() -> anyhow::Result<Self> {
        let place = Self::new()?;
        fs::create_dir_all(&place.directory).with_context(|| format!("cannot make {}", place.directory.display()))?;
        let path = place.directory.join("lock");
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: Some(lock), ..place }),
            Err(TryLockError::WouldBlock) => bail!("another deploy/local is at work here; wait for it"),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("stack.json")
    }

    /// What gateways show to cores. Whoever reads it can be a gateway.
    fn token_file(&self) -> PathBuf {
        self.directory.join("gateway-token")
    }

    fn read_stack(&self) -> anyhow::Result<Option<Stack>> {
        stack::read(&self.file())
    }

    /// What a process started here has in its environment.
    fn mark(&self, name: &str) -> (String, String) {
        (MARK.to_owned(), format!("{name} of {}", self.directory.display()))
    }

    /// What was started here and runs.
    fn running(&self) -> anyhow::Result<Vec<Running>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot list processes")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(name) = self.name_of(pid) {
                all.push(Running { name, pid });
            }
        }
        Ok(all)
    }

    /// Whether the process with this id is still the one that was started.
    fn is_running(&self, process: &Running) -> bool {
        self.name_of(process.pid).as_ref() == Some(&process.name)
    }

    /// What a process was started as, if it was started here.
    fn name_of(&self, pid: i32) -> Option<String> {
        // One that is gone has no environment, and others' are not ours to read.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut entries = environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
        let mark = entries.find_map(|entry| entry.strip_prefix(MARK)?.strip_prefix('='))?;
        let (name, directory) = mark.split_once(" of ")?;
        (Path::new(directory) == self.directory).then(|| name.to_owned())
    }
}

/// The variable that a process is known by.
const MARK: &str = "SAMA_LOCAL_PROCESS";

/// A process that was started here.
#[derive(Clone, Debug, PartialEq)]
struct Running {
    name: String,
    pid: i32,
}
