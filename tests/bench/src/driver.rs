//! Starts processes, each where it belongs, and hands their reports on.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use load::latency::Percentiles;
use load::report::Report;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::yardstick::commits::CommitsReport;

/// Where the server and the yardsticks run.
pub(crate) const SERVER_PROCESSOR: &str = "0";
/// Where the clients run.
pub(crate) const CLIENT_PROCESSOR: &str = "1";
/// What a server says when it is ready.
const READY: &str = "listening on http://";
/// What the services of the distributed form say, each under its name, goes on so.
const ADMIN: &str = " (admin ";

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Users of the cases with many.
    pub(crate) users: u32,
    /// Sockets of the cases with many; 20 of each user at most.
    pub(crate) connections: u32,
    /// How long is measured, in seconds.
    pub(crate) seconds: f64,
    /// How long it runs before.
    pub(crate) warm_up: f64,
    /// How long users of the distributed form talk before anything is measured, in seconds: the database compiles what is
    /// used much.
    pub(crate) heating: f64,
    /// Messages a second in the one group with a fixed rate.
    pub(crate) rate: f64,
    /// Messages, conversations: a few, and many.
    pub(crate) few_messages: u32,
    pub(crate) many_messages: u32,
    pub(crate) few_conversations: u32,
    pub(crate) many_conversations: u32,
    /// How often each list is asked for.
    pub(crate) requests: u32,
}

const FULL: Scale = Scale {
    users: 1_000,
    connections: 10_000,
    seconds: 8.0,
    warm_up: 3.0,
    heating: 30.0,
    rate: 500.0,
    few_messages: 100,
    many_messages: 10_000,
    few_conversations: 10,
    many_conversations: 100,
    requests: 2_000,
};

const QUICK: Scale = Scale {
    users: 52,
    connections: 104,
    seconds: 0.5,
    warm_up: 0.2,
    heating: 2.0,
    rate: 50.0,
    few_messages: 10,
    many_messages: 40,
    few_conversations: 2,
    many_conversations: 4,
    requests: 10,
};

/// Of the distributed form. A database that is cold needs a moment even in a smoke run.
const FULL_DISTRIBUTED: Scale = Scale { users: 200, ..FULL };
const QUICK_DISTRIBUTED: Scale = Scale { seconds: 2.0, warm_up: 3.0, ..QUICK };

impl Scale {
    pub(crate) fn new(is_distributed: bool, is_quick: bool) -> Self {
        match (is_distributed, is_quick) {
            (false, false) => FULL,
            (false, true) => QUICK,
            (true, false) => FULL_DISTRIBUTED,
            (true, true) => QUICK_DISTRIBUTED,
        }
    }
}

/// What all cases need.
#[derive(Debug)]
pub(crate) struct Driver {
    program: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) scale: Scale,
    /// Gone with the driver.
    work: TempDir,
    is_pinned: bool,
}

impl Driver {
    /// Nothing runs yet.
    pub(crate) fn new(program: PathBuf, server: PathBuf, output: &Path, scale: Scale) -> anyhow::Result<Self> {
        let work = TempDir::new_in(output).context("cannot make a directory to work in")?;
        let is_pinned = std::thread::available_parallelism()?.get() >= 2;
        if !is_pinned {
            eprintln!("only one processor: server and clients share it, so the figures say little");
        }
        Ok(Self { program, server, scale, work, is_pinned })
    }

    /// Makes data that the standalone server's cases start from.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        fs::create_dir(self.prepared())?;
        let server = self.start_server_in(&self.prepared(), "127.0.0.1:0", Pinned::No)?;
        self.make_users(&server, self.scale.users)?;
        server.stop()
    }

    /// Makes accounts for everybody, once: hashing their passwords is no part of any case.
    pub(crate) fn make_users(&self, server: impl Into<Target>, users: u32) -> anyhow::Result<()> {
        eprintln!("preparing {users} users");
        let users = users.to_string();
        self.load(server, &["idle", "--connections", &users, "--sockets-per-user", "1", "--seconds", "1"])?;
        Ok(())
    }

    /// Where servers may keep their data. Gone with the driver.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    fn prepared(&self) -> PathBuf {
        self.work.path().join("prepared")
    }

    /// Starts the server on a copy of the prepared data.
    pub(crate) fn start_server(&self) -> anyhow::Result<Running> {
        let data = self.work.path().join("data");
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => fs::create_dir(&data)?,
        }
        for file in fs::read_dir(self.prepared())? {
            let file = file?;
            fs::copy(file.path(), data.join(file.file_name()))?;
        }
        self.start_server_in(&data, "127.0.0.1:0", Pinned::Yes)
    }

    /// Starts the server again, on the data and at the address that it had.
    pub(crate) fn restart(&self, killed: Running) -> anyhow::Result<Running> {
        let data = self.work.path().join("data");
        let address = killed.address.to_string();
        killed.kill()?;
        self.start_server_in(&data, &address, Pinned::Yes)
    }

    fn start_server_in(&self, data: &Path, listen: &str, pinned: Pinned) -> anyhow::Result<Running> {
        let mut command = self.server_command(&self.server, pinned)?;
        command.args(["--gateway-listen", listen, "--gateway-admin-listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        Running::start(command, &self.log("server"), READY)
    }

    /// A command for a server's program.
    pub(crate) fn server_command(&self, program: &Path, pinned: Pinned) -> anyhow::Result<Command> {
        ensure!(program.is_file(), "there is no server at {}: start this with tests/bench/run", program.display());
        Ok(self.command(program, pinned, SERVER_PROCESSOR))
    }

    /// Starts a service of the distributed form, with the settings that are in the command already.
    pub(crate) fn start_service(&self, name: &str, mut command: Command) -> anyhow::Result<Running> {
        for listener in ["listen", "admin-listen"] {
            command.args([format!("--{name}-{listener}"), "127.0.0.1:0".to_owned()]);
        }
        Running::start(command, &self.log(name), &format!("{name} {READY}"))
    }

    /// Binds a process that runs already to these processors.
    pub(crate) fn place(&self, pid: Pid, processors: &str) -> anyhow::Result<()> {
        if !self.is_pinned {
            return Ok(());
        }
        let mut command = Command::new("taskset");
        command.args(["--all-tasks", "--cpu-list", "--pid", processors, &pid.as_raw_nonzero().to_string()]);
        let output = command.output().context("cannot start taskset")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts the WebSocket yardstick.
    pub(crate) fn start_yardstick(&self, options: &[&str]) -> anyhow::Result<Running> {
        let mut command = self.command(&self.program, Pinned::Yes, SERVER_PROCESSOR);
        command.args(["yardstick", "sockets"]).args(options);
        Running::start(command, &self.log("yardstick"), READY)
    }

    /// Writes the messages of the server that was last stopped into a new database.
    pub(crate) fn commits(&self, batch: u32) -> anyhow::Result<CommitsReport> {
        let directory = TempDir::new_in(self.work.path())?;
        let mut command = self.command(&self.program, Pinned::Yes, SERVER_PROCESSOR);
        command.args(["yardstick", "commits", "--batch", &batch.to_string()]);
        command.arg("--from").arg(self.work.path().join("data/sama.db"));
        command.arg("--to").arg(directory.path().join("new.db"));
        told_by(command)
    }

    /// Does what a message cannot do without in the distributed form, and says how long each took.
    pub(crate) fn rounds(&self, options: &[String]) -> anyhow::Result<Percentiles> {
        let mut command = self.command(&self.program, Pinned::No, SERVER_PROCESSOR);
        command.args(["yardstick", "rounds"]).args(options);
        told_by(command)
    }

    /// Runs the load generator against a server, and returns its report.
    pub(crate) fn load(&self, server: impl Into<Target>, mode: &[impl AsRef<OsStr>]) -> anyhow::Result<Report> {
        self.start_load(server, mode)?.finish()
    }

    /// Starts the load generator.
    pub(crate) fn start_load(
        &self,
        server: impl Into<Target>,
        mode: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<Generator> {
        let Target { address, pids } = server.into();
        let json = self.work.path().join("report.json");
        let log = self.log("load");
        let mut command = self.command(&self.program, Pinned::Yes, CLIENT_PROCESSOR);
        command.args(["load", &format!("ws://{address}")]);
        command.args(pids.into_iter().flat_map(|pid| ["--pid".to_owned(), pid.as_raw_nonzero().to_string()]));
        command.arg("--sessions").arg(self.work.path().join("sessions.json"));
        command.arg("--json").arg(&json).args(mode);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start the load generator")?;
        let stdout = BufReader::new(child.stdout.take().context("its standard output is piped")?);
        Ok(Generator { process: Killed(child), stdout, json, log })
    }

    fn command(&self, program: &Path, pinned: Pinned, processor: &str) -> Command {
        let mut command = if self.is_pinned && pinned == Pinned::Yes {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", processor]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // No setting of the person's own shell changes what is measured.
        command.env_clear().stdin(Stdio::null());
        command
    }

    fn log(&self, name: &str) -> PathBuf {
        self.work.path().join(format!("{name}.log"))
    }
}

/// Whether a process is bound to one processor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pinned {
    Yes,
    No,
}

/// A child process that does not outlive its handle.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What clients are sent to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The processes that are measured together, and each.
    pub(crate) pids: Vec<Pid>,
}

impl From<&Running> for Target {
    fn from(server: &Running) -> Self {
        Self { address: server.address, pids: vec![server.pid()] }
    }
}

/// A server that is ready.
#[derive(Debug)]
pub(crate) struct Running {
    process: Killed,
    pub(crate) address: SocketAddr,
    /// Where a service of the distributed form has its metrics.
    pub(crate) admin: Option<SocketAddr>,
    /// Held open, so that it can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command, log: &Path, ready: &str) -> anyhow::Result<Self> {
        let spawned = command.stdout(Stdio::piped()).stderr(File::create(log)?).spawn();
        let mut process = Killed(spawned.with_context(|| format!("cannot start {command:?}"))?);
        let mut stdout = BufReader::new(process.0.stdout.take().context("its standard output is piped")?);
        let Some(line) = line_with(&mut stdout, ready)? else {
            bail!("{command:?} did not start: {}", tail(log));
        };
        let address = line.trim_start_matches(ready).split_whitespace().next().and_then(|text| text.parse().ok());
        let address = address.context("a server says where it listens")?;
        let admin = line.split_once(ADMIN).and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
        Ok(Self { process, address, admin, _stdout: stdout })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process.0)
    }

    /// Lets it finish.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(self.pid(), Signal::TERM)?;
        self.process.0.wait()?;
        Ok(())
    }

    fn kill(mut self) -> anyhow::Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(())
    }
}

/// A load generator at work.
#[derive(Debug)]
pub(crate) struct Generator {
    process: Killed,
    stdout: BufReader<ChildStdout>,
    json: PathBuf,
    log: PathBuf,
}

impl Generator {
    /// Waits until it says something.
    pub(crate) fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        match line_with(&mut self.stdout, text)? {
            Some(_) => Ok(()),
            None => bail!("the load generator failed: {}", tail(&self.log)),
        }
    }

    /// Waits for its report. A server that broke a promise has no figures.
    pub(crate) fn finish(mut self) -> anyhow::Result<Report> {
        let shown = std::io::read_to_string(&mut self.stdout)?;
        let status = self.process.0.wait()?;
        ensure!(status.success(), "the load generator ended with {status}:\n{shown}{}", tail(&self.log));
        serde_json::from_reader(BufReader::new(File::open(&self.json)?)).context("the load generator's report is none")
    }
}

/// What a yardstick writes at its end.
fn told_by<T: DeserializeOwned>(mut command: Command) -> anyhow::Result<T> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot start a yardstick")?;
    ensure!(output.status.success(), "a yardstick failed: {command:?}");
    serde_json::from_slice(&output.stdout).context("a yardstick tells nothing")
}

/// The next line that begins with this; `None` when there is none.
fn line_with(stdout: &mut impl BufRead, beginning: &str) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    while stdout.read_line(&mut line)? > 0 {
        if line.starts_with(beginning) {
            return Ok(Some(line));
        }
        line.clear();
    }
    Ok(None)
}

/// The last lines that a process wrote.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
