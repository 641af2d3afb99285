//! One server process: started for an owner, waited for, stopped or killed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::leash;

/// How often a server that starts or stops is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a server may take to end by itself before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How many lines of its log an error shows.
const SHOWN_LINES: usize = 30;

/// Whom a process belongs to.
#[derive(Clone, Debug)]
pub enum Owner {
    /// This process: it ends with it.
    Us,
    /// Nobody: it runs until somebody stops it, who knows it by this mark in its environment.
    Nobody {
        /// The mark's name and what it is set to.
        mark: (String, String),
    },
}

/// What is to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// What errors call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those of this process.
    pub environment: Vec<(String, OsString)>,
    /// Where it runs, which must exist; here, if nowhere is named.
    pub directory: Option<PathBuf>,
    /// What it writes is added here.
    pub log: PathBuf,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When the log cannot be written or the program not be executed.
    pub fn start(&self, owner: &Owner) -> anyhow::Result<Process> {
        if let Some(directory) = self.log.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = match owner {
            Owner::Us => leash::command(&self.program),
            Owner::Nobody { mark: (name, value) } => {
                let mut command = Command::new(&self.program);
                command.env(name, value);
                command
            }
        };
        // Ctrl-C in a terminal is for whoever started it, who stops this one when it is time.
        command.process_group(0);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let started = match owner {
            Owner::Us => leash::spawn(command),
            Owner::Nobody { .. } => command.spawn(),
        };
        let child = started.with_context(|| format!("cannot execute {}", self.program.display()))?;
        let is_ours = matches!(owner, Owner::Us);
        Ok(Process { child, name: self.name.clone(), log: self.log.clone(), is_ours })
    }
}

/// A process that was started here. Dropping it stops it, if it belongs to us.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    is_ours: bool,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it is ready. Blocks.
    ///
    /// # Errors
    /// When it ended instead, or was not ready in time, which ends it; says where its log is and how that ends.
    pub fn wait_until(&mut self, patience: Duration, mut is_ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while !is_ready() {
            let ended = self.child.try_wait()?;
            if let Some(status) = ended {
                bail!("{} ended while starting ({status}){}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                self.stop();
                bail!("{} was not ready within {} s{}", self.name, patience.as_secs(), self.last_words());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it is gone. Blocks.
    pub fn stop(&mut self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        if matches!(self.child.try_wait(), Ok(None)) {
            // Fails only when it is gone already.
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                return self.kill();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn last_words(&self) -> String {
        format!("; its log is {} and ends with:\n{}", self.log.display(), tail(&self.log))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_ours {
            self.stop();
        }
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(directory: &Path, script: &str) -> Program {
        Program {
            name: "the server".to_owned(),
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![],
            directory: None,
            log: directory.join("log"),
        }
    }

    #[test]
    fn one_that_ends_while_starting_is_said_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell(directory.path(), "echo the port is taken >&2; exit 3").start(&Owner::Us).unwrap();
        let failed = process.wait_until(Duration::from_secs(20), || false).unwrap_err().to_string();
        assert!(failed.contains("the server ended") && failed.ends_with("the port is taken"), "{failed}");
    }

    #[test]
    fn stopping_lets_it_end_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap 'echo stopped; exit' TERM; echo ready; while :; do sleep 0.01; done";
        let program = shell(directory.path(), script);
        let mut process = program.start(&Owner::Us).unwrap();
        process.wait_until(Duration::from_secs(20), || tail(&program.log) == "ready").unwrap();
        process.stop();
        assert_eq!(tail(&program.log), "ready\nstopped");
    }
}
