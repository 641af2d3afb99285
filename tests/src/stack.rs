//! A whole server under test: the standalone process, its data directory and its addresses.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Pid;

use crate::process::{FailedStart, Launch, Output, ServerProcess};
use crate::user::Organization;

/// The key of `/admin/*` of every server started here.
pub const ADMIN_KEY: &str = "the key of the tests";

/// What a standalone server is started with.
#[derive(Debug, Default)]
pub struct StackBuilder {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

impl StackBuilder {
    /// On this data directory, instead of an empty one that goes when the stack does.
    #[must_use]
    pub fn data_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = Some(path.into());
        self
    }

    /// Listening for clients here, instead of on any free port.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Listening for operators here, instead of on any free port.
    #[must_use]
    pub fn admin_listen(mut self, address: SocketAddr) -> Self {
        self.admin_listen = Some(address);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Started through a command that ends by executing the server.
    #[must_use]
    pub fn wrapper(mut self, words: impl IntoIterator<Item = OsString>) -> Self {
        self.wrapper = words.into_iter().collect();
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(self) -> StackHandle {
        let stack = self.try_start().await.unwrap_or_else(|failed| panic!("{failed}"));
        StackHandle(Arc::new(stack))
    }

    /// Starts it where it may well not start.
    ///
    /// # Errors
    /// [`FailedStart`] when it ended instead of listening.
    pub async fn try_start(self) -> Result<TestStack, FailedStart> {
        tokio::task::spawn_blocking(|| self.start_blocking()).await.expect("starting does not panic")
    }

    fn start_blocking(self) -> Result<TestStack, FailedStart> {
        let owned_data = self.data.is_none().then(|| tempfile::tempdir().expect("a temporary directory"));
        let data = self.data.unwrap_or_else(|| owned_data.as_ref().expect("made above").path().to_owned());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut arguments = vec![
            OsString::from("--gateway-listen"),
            self.listen.unwrap_or(any).to_string().into(),
            "--gateway-admin-listen".into(),
            self.admin_listen.unwrap_or(any).to_string().into(),
            "--data-dir".into(),
            data.clone().into(),
        ];
        arguments.extend(self.arguments);
        let mut environment = vec![("HTTP_ADMIN_API_KEY".to_owned(), ADMIN_KEY.to_owned())];
        environment.extend(self.environment);
        let launch = Launch {
            program: crate::binaries::standalone(),
            wrapper: self.wrapper,
            arguments,
            environment,
            ready: "listening on http://",
        };
        let output = Arc::new(Output::default());
        let running = Running::start(&launch, &output)?;
        Ok(TestStack { launch, data, _owned_data: owned_data, output, running: Mutex::new(Some(running)) })
    }
}

#[derive(Debug)]
struct Running {
    process: ServerProcess,
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    fn start(launch: &Launch, output: &Arc<Output>) -> Result<Self, FailedStart> {
        let process = launch.start(output)?;
        let (gateway, admin) =
            addresses(&process.ready).unwrap_or_else(|| panic!("no two addresses in the line {:?}", process.ready));
        Ok(Self { process, gateway, admin })
    }
}

/// Reads `... http://ADDRESS (admin ADDRESS)`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("http://")?;
    let (gateway, rest) = rest.split_once(" (admin ")?;
    let (admin, _) = rest.split_once(')')?;
    Some((gateway.parse().ok()?, admin.parse().ok()?))
}

/// A standalone server, which may be killed and started again on the same data.
#[derive(Debug)]
pub struct TestStack {
    launch: Launch,
    data: PathBuf,
    _owned_data: Option<tempfile::TempDir>,
    output: Arc<Output>,
    running: Mutex<Option<Running>>,
}

/// A test's hold on a stack: the server stops when the last one goes, and a failing test shows what it wrote.
#[derive(Clone, Debug)]
pub struct StackHandle(Arc<TestStack>);

impl Deref for StackHandle {
    type Target = TestStack;

    fn deref(&self) -> &TestStack {
        &self.0
    }
}

impl Drop for StackHandle {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.output.show();
        }
    }
}

impl TestStack {
    /// A server that is not started yet, for a test that wants its own.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The server that all tests share which run at this moment. Keep to an organization of your own in it.
    pub async fn shared() -> StackHandle {
        static SHARED: Mutex<Weak<TestStack>> = Mutex::new(Weak::new());
        let shared = || {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(stack) = shared.upgrade() {
                return StackHandle(stack);
            }
            let stack = StackBuilder::default().start_blocking().unwrap_or_else(|failed| panic!("{failed}"));
            let stack = Arc::new(stack);
            *shared = Arc::downgrade(&stack);
            StackHandle(stack)
        };
        tokio::task::spawn_blocking(shared).await.expect("the server starts")
    }

    /// A new organization on [`TestStack::shared`].
    pub async fn organization() -> Organization {
        Self::shared().await.new_organization().await
    }

    /// Where clients connect.
    pub fn gateway(&self) -> SocketAddr {
        self.with_running(|running| running.gateway)
    }

    /// Where operators look.
    pub fn admin(&self) -> SocketAddr {
        self.with_running(|running| running.admin)
    }

    /// The server's process id.
    pub fn pid(&self) -> Pid {
        self.with_running(|running| running.process.pid())
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// What the server wrote so far.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// SIGKILL: what a crash of the machine's power leaves is what is on disk.
    pub async fn kill(&self) {
        let mut running = self.take_running();
        tokio::task::spawn_blocking(move || running.process.kill()).await.expect("killing does not panic");
    }

    /// SIGTERM: how the server ended, and how long it took.
    pub async fn terminate(&self) -> (ExitStatus, Duration) {
        let mut running = self.take_running();
        tokio::task::spawn_blocking(move || running.process.terminate()).await.expect("the server ends")
    }

    /// Waits until the server has ended by itself.
    pub async fn ended(&self) -> ExitStatus {
        let mut running = self.take_running();
        tokio::task::spawn_blocking(move || running.process.wait()).await.expect("the server ends")
    }

    /// Starts the server again, on the same data, at other addresses.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&self) {
        let (launch, output) = (self.launch.clone(), Arc::clone(&self.output));
        let running = tokio::task::spawn_blocking(move || Running::start(&launch, &output))
            .await
            .expect("starting does not panic")
            .unwrap_or_else(|failed| panic!("{failed}"));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    fn take_running(&self) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the server is running")
    }

    fn with_running<T>(&self, read: impl FnOnce(&Running) -> T) -> T {
        read(self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("the server is running"))
    }
}

impl StackHandle {
    /// An organization of its own for a test.
    pub async fn new_organization(&self) -> Organization {
        Organization::create(self.clone()).await
    }

    /// Where the server listens at the moment, or nothing while it is down.
    pub fn gateway_if_up(&self) -> Option<SocketAddr> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|running| running.gateway)
    }
}
