//! One server process: started, listened to, stopped or killed.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use components::leash;
use rustix::process::{Pid, Signal, kill_process};

use crate::waiting::PATIENCE;

/// How many lines a failing test shows.
const SHOWN_LINES: usize = 100;

/// Everything processes wrote, line by line, across restarts.
#[derive(Debug, Default)]
pub struct Output {
    lines: Mutex<Vec<String>>,
    /// How many lines failing tests have shown.
    shown: AtomicUsize,
}

impl Output {
    fn push(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows the newest lines that were not shown yet, for a test that failed.
    pub fn show(&self) {
        let lines = self.lines();
        let shown = self.shown.swap(lines.len(), Ordering::Relaxed);
        if shown == lines.len() {
            return;
        }
        eprintln!("--- the newest of {} lines the server wrote ---", lines.len());
        for line in lines.iter().skip(shown.max(lines.len().saturating_sub(SHOWN_LINES))) {
            eprintln!("{line}");
        }
    }
}

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// A command that ends by executing the program given to it, or nothing.
    pub wrapper: Vec<OsString>,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment: nothing of the tests' own leaks in.
    pub environment: Vec<(String, String)>,
    /// The line on standard output that says it is ready begins with this.
    pub ready: &'static str,
}

/// A process that ended before it was ready.
#[derive(Debug)]
pub struct FailedStart {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for FailedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server did not start ({}): {}", self.status, self.stderr)
    }
}

impl std::error::Error for FailedStart {}

impl Launch {
    /// Starts the process and waits until it is ready. Blocks.
    ///
    /// # Errors
    /// [`FailedStart`] when it ended instead.
    ///
    /// # Panics
    /// When the program cannot be executed, or is neither ready nor ended in time.
    pub fn start(&self, output: &Arc<Output>) -> Result<ServerProcess, FailedStart> {
        // Nothing that a test starts outlives the test, even one that is killed.
        let leash = leash::WORDS.map(OsString::from);
        let mut words = self.wrapper.iter().cloned().chain(leash).chain([self.program.clone().into()]);
        let first = words.next().expect("there is a program");
        let mut command = Command::new(&first);
        command
            .args(words)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            leash::spawn(command).unwrap_or_else(|error| panic!("cannot execute {}: {error}", first.display()));
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let (tell_ready, ready) = mpsc::channel();
        let prefix = self.ready;
        follow(stdout, Arc::clone(output), move |line| {
            if line.starts_with(prefix) {
                // Nobody listens any more once it was ready.
                let _ = tell_ready.send(line.to_owned());
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&errors);
        let errors_end = follow(stderr, Arc::clone(output), move |line| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(line);
            kept.push('\n');
        });
        let mut process = ServerProcess { child, ready: String::new() };
        match ready.recv_timeout(PATIENCE) {
            Ok(line) => {
                process.ready = line;
                Ok(process)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                output.show();
                panic!("the server was not ready within {PATIENCE:?}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = process.wait();
                errors_end.join().expect("reading lines does not panic");
                let stderr = std::mem::take(&mut *errors.lock().unwrap_or_else(PoisonError::into_inner));
                Err(FailedStart { status, stderr })
            }
        }
    }
}

/// Reads a pipe line by line to its end, on a thread of its own.
fn follow(
    pipe: impl Read + Send + 'static,
    output: Arc<Output>,
    mut on_line: impl FnMut(&str) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            on_line(&text);
            output.push(text);
            line.clear();
        }
    })
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// The line that said it is ready.
    pub ready: String,
}

impl ServerProcess {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only when it is gone already.
        let _ = self.child.kill();
        self.wait();
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        kill_process(self.pid(), Signal::TERM).expect("the server is running");
    }

    /// Waits until it has ended. Blocks.
    ///
    /// # Panics
    /// When it has not within [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the server is our child") {
                return status;
            }
            if Instant::now() > deadline {
                // Nothing must outlive the test.
                let _ = self.child.kill();
                panic!("the server did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
