//! Starts processes, each where it belongs, and hands their reports on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use load::report::Report;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::yardstick::commits::CommitsReport;

/// Where the server and the yardsticks run.
const SERVER_PROCESSOR: &str = "0";
/// Where the clients run.
const CLIENT_PROCESSOR: &str = "1";
/// What a server says when it is ready.
const READY: &str = "listening on http://";

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
    rate: 50.0,
    few_messages: 10,
    many_messages: 40,
    few_conversations: 2,
    many_conversations: 4,
    requests: 10,
};

/// What all cases need.
#[derive(Debug)]
pub(crate) struct Driver {
    program: PathBuf,
    server: PathBuf,
    pub(crate) scale: Scale,
    /// Gone with the driver.
    work: TempDir,
    is_pinned: bool,
}

impl Driver {
    /// Makes accounts for everybody, once: hashing their passwords is no part of any case.
    pub(crate) fn prepare(program: PathBuf, server: PathBuf, output: &Path, quick: bool) -> anyhow::Result<Self> {
        ensure!(server.is_file(), "there is no server at {}: start this with tests/bench/run", server.display());
        let work = TempDir::new_in(output).context("cannot make a directory to work in")?;
        let is_pinned = std::thread::available_parallelism()?.get() >= 2;
        if !is_pinned {
            eprintln!("only one processor: server and clients share it, so the figures say little");
        }
        let driver = Self { program, server, scale: if quick { QUICK } else { FULL }, work, is_pinned };
        eprintln!("preparing {} users", driver.scale.users);
        fs::create_dir(driver.prepared())?;
        let server = driver.start_server_in(&driver.prepared(), "127.0.0.1:0", Pinned::No)?;
        let users = driver.scale.users.to_string();
        driver.load(&server, &["idle", "--connections", &users, "--sockets-per-user", "1", "--seconds", "1"])?;
        server.stop()?;
        Ok(driver)
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
        let mut command = self.command(&self.server, pinned, SERVER_PROCESSOR);
        command.args(["--gateway-listen", listen, "--gateway-admin-listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        Running::start(command, &self.log("server"))
    }

    /// Starts the WebSocket yardstick.
    pub(crate) fn start_yardstick(&self, options: &[&str]) -> anyhow::Result<Running> {
        let mut command = self.command(&self.program, Pinned::Yes, SERVER_PROCESSOR);
        command.args(["yardstick", "sockets"]).args(options);
        Running::start(command, &self.log("yardstick"))
    }

    /// Writes the messages of the server that was last stopped into a new database.
    pub(crate) fn commits(&self, batch: u32) -> anyhow::Result<CommitsReport> {
        let directory = TempDir::new_in(self.work.path())?;
        let mut command = self.command(&self.program, Pinned::Yes, SERVER_PROCESSOR);
        command.args(["yardstick", "commits", "--batch", &batch.to_string()]);
        command.arg("--from").arg(self.work.path().join("data/sama.db"));
        command.arg("--to").arg(directory.path().join("new.db"));
        let output = command.stderr(Stdio::inherit()).output().context("cannot start a yardstick")?;
        ensure!(output.status.success(), "the yardstick of commits failed");
        serde_json::from_slice(&output.stdout).context("the yardstick of commits tells nothing")
    }

    /// Runs the load generator against a server, and returns its report.
    pub(crate) fn load(&self, server: &Running, mode: &[&str]) -> anyhow::Result<Report> {
        self.start_load(server, mode)?.finish()
    }

    /// Starts the load generator.
    pub(crate) fn start_load(&self, server: &Running, mode: &[&str]) -> anyhow::Result<Generator> {
        let json = self.work.path().join("report.json");
        let log = self.log("load");
        let mut command = self.command(&self.program, Pinned::Yes, CLIENT_PROCESSOR);
        command.args(["load", &format!("ws://{}", server.address), "--pid", &server.pid().to_string()]);
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
enum Pinned {
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

/// A server that is ready.
#[derive(Debug)]
pub(crate) struct Running {
    process: Killed,
    pub(crate) address: SocketAddr,
    /// Held open, so that it can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let spawned = command.stdout(Stdio::piped()).stderr(File::create(log)?).spawn();
        let mut process = Killed(spawned.with_context(|| format!("cannot start {command:?}"))?);
        let mut stdout = BufReader::new(process.0.stdout.take().context("its standard output is piped")?);
        let Some(line) = line_with(&mut stdout, READY)? else {
            bail!("{command:?} did not start: {}", tail(log));
        };
        let address = line.trim_start_matches(READY).split_whitespace().next().and_then(|text| text.parse().ok());
        Ok(Self { process, address: address.context("a server says where it listens")?, _stdout: stdout })
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Lets it finish.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process.0), Signal::TERM)?;
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
