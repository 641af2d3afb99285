//! A command with the servers it uses.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus};

use anyhow::Context;
use components::process::Owner;
use components::servers::{self, Given, Server, Wanted};
use components::{cache, leash, nats, ports};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Starts what is not given, runs the command to its end and answers with its exit code.
pub(crate) fn run(given: &Given, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let folder = Folder::new()?;
    let (database, messages) = start(given, &folder.path)?;
    eprintln!("components: CQL at {}, NATS at {}", database.address, messages.address);
    let mut child = leash::command(&command[0]);
    child
        .args(&command[1..])
        .env("TEST_CQL_ADDRESS", &database.address)
        .env("TEST_CQL_KEYSPACE_OPTIONS", &database.keyspace_options)
        .env("TEST_CQL_REPLICATION", &given.cql_replication)
        .env("TEST_NATS_URL", &messages.address)
        .env("TEST_NATS_SERVER", nats::binary()?);
    let child = leash::spawn(child).context("cannot start the command")?;
    let status = wait(child)?;
    Ok(ExitCode::from(exit_code(status)))
}

fn start(given: &Given, directory: &Path) -> anyhow::Result<(Server, Server)> {
    let (cql, nats) = (directory.join("cql"), directory.join("nats"));
    let wanted = |directory| Wanted { directory, port: ports::free(), owner: Owner::Us, starts_quickly: true };
    std::thread::scope(|scope| {
        let database = scope.spawn(|| servers::database(given, &wanted(&cql)));
        let messages = servers::nats(given, &wanted(&nats));
        let database = database.join().expect("starting does not panic");
        Ok((database?, messages?))
    })
}

/// Waits for the command. A signal to stop is the command's to follow: Ctrl-C reaches it by itself, SIGTERM is passed
/// on.
fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    let pid = Pid::from_child(&child);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        loop {
            tokio::select! {
                ended = &mut ended => return Ok(ended.expect("waiting does not panic")?),
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {
                    // Fails only when it is gone already.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    })
}

/// As a shell has it: what a signal ended answers with 128 and the signal's number.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}

/// Where the servers of this run keep their data, for as long as it lasts.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let runs = cache::directory()?.join("runs");
        // A run that was killed left its folder.
        for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = runs.join(std::process::id().to_string());
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later run.
        let _ = fs::remove_dir_all(&self.path);
    }
}
