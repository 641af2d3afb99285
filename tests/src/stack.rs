//! A whole server under test: its processes and their addresses. In the standalone form one process is all; in the
//! distributed form there are core services and gateways.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tempfile::TempDir;

use crate::builder::StackBuilder;
use crate::process::{FailedStart, Launch, Output, ServerProcess};
use crate::user::Organization;
use crate::waiting::PATIENCE;

/// The key of `/admin/*` of every server started here.
pub const ADMIN_KEY: &str = "the key of the tests";

/// What a process of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A core service of its own.
    Core,
    /// What clients connect to: a gateway, or the standalone server.
    Gateway,
}

/// One process of a stack, running or not.
#[derive(Debug)]
pub(crate) struct Member {
    kind: Kind,
    launch: Launch,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    process: ServerProcess,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Member {
    pub(crate) fn new(kind: Kind, launch: Launch) -> Self {
        Self { kind, launch, running: Mutex::new(None) }
    }

    /// Starts it, if it does not run, and waits until it listens. Blocks.
    fn start(&self, output: &Arc<Output>) -> Result<(), FailedStart> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            let process = self.launch.start(output)?;
            let (address, admin) =
                addresses(&process.ready).unwrap_or_else(|| panic!("no two addresses in {:?}", process.ready));
            *running = Some(Running { process, address, admin });
        }
        Ok(())
    }

    /// Waits until it takes work. Blocks.
    fn wait_until_ready(&self, output: &Output) {
        let deadline = Instant::now() + PATIENCE;
        let admin = self.with(|running| running.admin).expect("started before");
        while !components::ready::is_ready(admin) {
            if Instant::now() > deadline {
                output.show();
                panic!("{} was not ready within {PATIENCE:?}", self.launch.program.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn take(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with<T>(&self, read: impl FnOnce(&Running) -> T) -> Option<T> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }
}

/// Reads `... http://ADDRESS (admin ADDRESS)`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("http://")?;
    let (address, rest) = rest.split_once(" (admin ")?;
    let (admin, _) = rest.split_once(')')?;
    Some((address.parse().ok()?, admin.parse().ok()?))
}

/// A server, whose processes may be killed and started again on the same data.
#[derive(Debug)]
pub struct TestStack {
    /// In the order of starting: core services, then gateways.
    members: Arc<Vec<Member>>,
    /// The data directory of the standalone form, and what removes it in the end.
    data: Option<(PathBuf, Option<TempDir>)>,
    output: Arc<Output>,
}

/// A test's hold on a stack, with one of its gateways: the server stops when the last one goes, and a failing test
/// shows what it wrote.
#[derive(Clone, Debug)]
pub struct StackHandle {
    stack: Arc<TestStack>,
    gateway: usize,
}

impl Deref for StackHandle {
    type Target = TestStack;

    fn deref(&self) -> &TestStack {
        &self.stack
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
                return StackHandle::new(stack);
            }
            let stack = StackBuilder::default().start_blocking().unwrap_or_else(|failed| panic!("{failed}"));
            let stack = Arc::new(stack);
            *shared = Arc::downgrade(&stack);
            StackHandle::new(stack)
        };
        tokio::task::spawn_blocking(shared).await.expect("the server starts")
    }

    /// A new organization on [`TestStack::shared`].
    pub async fn organization() -> Organization {
        Self::shared().await.new_organization().await
    }

    /// Starts these processes in this order.
    pub(crate) fn start(
        members: Vec<Member>,
        data: Option<(PathBuf, Option<TempDir>)>,
        output: Arc<Output>,
    ) -> Result<Self, FailedStart> {
        let stack = Self { members: Arc::new(members), data, output };
        start_all(&stack.members, &stack.output)?;
        Ok(stack)
    }

    /// The first gateway's process id, or that of the standalone server.
    pub fn pid(&self) -> Pid {
        self.gateway_member(0).with(|running| running.process.pid()).expect("the server is running")
    }

    /// Where operators look at the first gateway, or at the standalone server.
    pub fn admin(&self) -> SocketAddr {
        self.gateway_member(0).with(|running| running.admin).expect("the server is running")
    }

    /// Where operators look at a core service, counted from 0.
    pub fn core_admin(&self, number: usize) -> SocketAddr {
        self.core_member(number).with(|running| running.admin).expect("the core service is running")
    }

    /// The data directory of the standalone form.
    pub fn data_directory(&self) -> &Path {
        &self.data.as_ref().expect("only the standalone form has a data directory").0
    }

    /// What the processes wrote so far.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// SIGKILL to every process: what a crash of the machine's power leaves is what is on disk.
    pub async fn kill(&self) {
        self.kill_those(|_| true).await;
    }

    /// SIGKILL to one gateway, counted from 0.
    pub async fn kill_gateway(&self, number: usize) {
        let gateway = self.position(Kind::Gateway, number);
        self.kill_those(move |position| position == gateway).await;
    }

    /// SIGKILL to one core service, counted from 0.
    pub async fn kill_core(&self, number: usize) {
        let core = self.position(Kind::Core, number);
        self.kill_those(move |position| position == core).await;
    }

    /// SIGTERM to the gateways, and to the core services when those have ended: how the server ended, and how long it
    /// took. In the distributed form that is how the first process ended that did not end well.
    pub async fn terminate(&self) -> (ExitStatus, Duration) {
        let members = Arc::clone(&self.members);
        tokio::task::spawn_blocking(move || terminate_all(&members)).await.expect("the server ends")
    }

    /// Waits until the first gateway, or the standalone server, has ended by itself.
    pub async fn ended(&self) -> ExitStatus {
        let mut running = self.gateway_member(0).take().expect("the server is running");
        tokio::task::spawn_blocking(move || running.process.wait()).await.expect("the server ends")
    }

    /// Starts every process again that does not run, on the same data; gateways at other addresses.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn restart(&self) {
        let (members, output) = (Arc::clone(&self.members), Arc::clone(&self.output));
        tokio::task::spawn_blocking(move || start_all(&members, &output))
            .await
            .expect("starting does not panic")
            .unwrap_or_else(|failed| panic!("{failed}"));
    }

    async fn kill_those(&self, chosen: impl Fn(usize) -> bool) {
        let members = self.members.iter().enumerate().filter(|(position, _)| chosen(*position));
        let running: Vec<_> = members.filter_map(|(_, member)| member.take()).collect();
        let kill = || running.into_iter().for_each(|mut running| running.process.kill());
        tokio::task::spawn_blocking(kill).await.expect("killing does not panic");
    }

    fn gateway_member(&self, number: usize) -> &Member {
        &self.members[self.position(Kind::Gateway, number)]
    }

    fn core_member(&self, number: usize) -> &Member {
        &self.members[self.position(Kind::Core, number)]
    }

    fn position(&self, kind: Kind, number: usize) -> usize {
        let mut of_kind = self.members.iter().enumerate().filter(|(_, member)| member.kind == kind);
        let found = of_kind.nth(number);
        found.unwrap_or_else(|| panic!("there is no {kind:?} number {number}")).0
    }
}

/// Starts what does not run, and waits until it takes work. Blocks.
fn start_all(members: &[Member], output: &Arc<Output>) -> Result<(), FailedStart> {
    for member in members {
        member.start(output)?;
    }
    for member in members {
        member.wait_until_ready(output);
    }
    Ok(())
}

/// Stops what runs, gateways first. Blocks.
fn terminate_all(members: &[Member]) -> (ExitStatus, Duration) {
    let begun = Instant::now();
    let mut statuses = Vec::new();
    for kind in [Kind::Gateway, Kind::Core] {
        let of_kind = members.iter().filter(|member| member.kind == kind);
        let mut running: Vec<_> = of_kind.filter_map(Member::take).collect();
        for running in &running {
            running.process.ask_to_end();
        }
        statuses.extend(running.iter_mut().map(|running| running.process.wait()));
    }
    let worst = statuses.iter().find(|status| !status.success()).or(statuses.first());
    (*worst.expect("the server is running"), begun.elapsed())
}

impl StackHandle {
    pub(crate) fn new(stack: Arc<TestStack>) -> Self {
        Self { stack, gateway: 0 }
    }

    /// The same stack, by another of its gateways, counted from 0.
    #[must_use]
    pub fn at_gateway(&self, number: usize) -> Self {
        Self { stack: Arc::clone(&self.stack), gateway: number }
    }

    /// An organization of its own for a test.
    pub async fn new_organization(&self) -> Organization {
        Organization::create(self.clone()).await
    }

    /// Where clients connect.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway_if_up().expect("the server is running")
    }

    /// Where clients connect at the moment, or nothing while it is down.
    pub fn gateway_if_up(&self) -> Option<SocketAddr> {
        self.gateway_member(self.gateway).with(|running| running.address)
    }
}
