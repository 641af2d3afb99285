//! What a server is started with, and the processes that makes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::binaries;
use crate::form::{Deployment, Form, only_in};
use crate::process::{FailedStart, Launch, Output};
use crate::stack::{ADMIN_KEY, Kind, Member, StackHandle, TestStack};

/// What gateways show to core services.
pub const GATEWAY_TOKEN: &str = "the token of the gateways of the tests";

/// What one run may keep in its stream. The room is set aside, so it is far below what a server has.
const STREAM_BYTES: &str = "268435456";

/// What a server is started with.
#[derive(Debug)]
pub struct StackBuilder {
    gateways: u16,
    cores: u16,
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    wrapper: Vec<OsString>,
    gateway_arguments: Vec<OsString>,
    core_arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    output: Arc<Output>,
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            gateways: 1,
            cores: 1,
            data: None,
            listen: None,
            admin_listen: None,
            wrapper: vec![],
            gateway_arguments: vec![],
            core_arguments: vec![],
            environment: vec![],
            output: Arc::default(),
        }
    }
}

impl StackBuilder {
    /// With so many gateways, in the distributed form only. [`StackHandle::at_gateway`] chooses one.
    #[must_use]
    #[track_caller]
    pub fn gateways(mut self, count: u16) -> Self {
        only_in(Form::Distributed, "several gateways");
        self.gateways = count;
        self
    }

    /// With so many core services, in the distributed form only.
    #[must_use]
    #[track_caller]
    pub fn cores(mut self, count: u16) -> Self {
        only_in(Form::Distributed, "several core services");
        self.cores = count;
        self
    }

    /// On this data directory, instead of an empty one that goes when the stack does; in the standalone form only.
    #[must_use]
    #[track_caller]
    pub fn data_directory(mut self, path: impl Into<PathBuf>) -> Self {
        only_in(Form::Standalone, "a data directory");
        self.data = Some(path.into());
        self
    }

    /// The first gateway listening for clients here, instead of on any free port.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The first gateway listening for operators here, instead of on any free port.
    #[must_use]
    pub fn admin_listen(mut self, address: SocketAddr) -> Self {
        self.admin_listen = Some(address);
        self
    }

    /// One more argument for whoever is the gateway.
    #[must_use]
    pub fn gateway_argument(mut self, argument: impl Into<OsString>) -> Self {
        self.gateway_arguments.push(argument.into());
        self
    }

    /// One more argument for whoever is core.
    #[must_use]
    pub fn core_argument(mut self, argument: impl Into<OsString>) -> Self {
        self.core_arguments.push(argument.into());
        self
    }

    /// One more environment variable, for every process: each takes what it knows.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Started through a command that ends by executing the server; in the standalone form only.
    #[must_use]
    #[track_caller]
    pub fn wrapper(mut self, words: impl IntoIterator<Item = OsString>) -> Self {
        only_in(Form::Standalone, "a command around the server");
        self.wrapper = words.into_iter().collect();
        self
    }

    /// What its processes write, from their start on.
    pub fn output(&self) -> Arc<Output> {
        Arc::clone(&self.output)
    }

    /// Starts it and waits until it takes work.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(self) -> StackHandle {
        let stack = self.try_start().await.unwrap_or_else(|failed| panic!("{failed}"));
        StackHandle::new(Arc::new(stack))
    }

    /// Starts it where it may well not start.
    ///
    /// # Errors
    /// [`FailedStart`] when a process ended instead of listening.
    pub async fn try_start(self) -> Result<TestStack, FailedStart> {
        tokio::task::spawn_blocking(|| self.start_blocking()).await.expect("starting does not panic")
    }

    pub(crate) fn start_blocking(self) -> Result<TestStack, FailedStart> {
        match Form::of_this_run() {
            Form::Standalone => self.start_standalone(),
            Form::Distributed => self.start_distributed(),
        }
    }

    fn start_standalone(self) -> Result<TestStack, FailedStart> {
        let owned_data = self.data.is_none().then(|| tempfile::tempdir().expect("a temporary directory"));
        let data = self.data.unwrap_or_else(|| owned_data.as_ref().expect("made above").path().to_owned());
        let mut arguments = listening("gateway", self.listen, self.admin_listen);
        arguments.extend(["--data-dir".into(), data.clone().into()]);
        arguments.extend(self.gateway_arguments);
        arguments.extend(self.core_arguments);
        let launch = Launch {
            program: binaries::standalone(),
            wrapper: self.wrapper,
            arguments,
            environment: [vec![admin_key()], self.environment].concat(),
            ready: "listening on http://",
        };
        TestStack::start(vec![Member::new(Kind::Gateway, launch)], Some((data, owned_data)), self.output)
    }

    fn start_distributed(self) -> Result<TestStack, FailedStart> {
        let found = Deployment::of_this_process().environment();
        let mut members = Vec::new();
        let mut core_addresses = Vec::new();
        for _ in 0..self.cores {
            // One that is killed comes back where gateways look for it.
            let address = SocketAddr::from(([127, 0, 0, 1], components::ports::free()));
            core_addresses.push(format!("http://{address}"));
            let own = [("CORE_GATEWAY_TOKENS", GATEWAY_TOKEN), ("NATS_STREAM_MAX_BYTES", STREAM_BYTES)];
            let launch = Launch {
                program: binaries::core_service(),
                wrapper: vec![],
                arguments: [listening("core", Some(address), None), self.core_arguments.clone()].concat(),
                environment: [vec![admin_key()], found.to_vec(), pairs(&own), self.environment.clone()].concat(),
                ready: "core listening on http://",
            };
            members.push(Member::new(Kind::Core, launch));
        }
        let core_addresses = core_addresses.join(",");
        for number in 0..self.gateways {
            let (listen, admin_listen) = if number == 0 { (self.listen, self.admin_listen) } else { (None, None) };
            let own = [("CORE_ADDRESSES", core_addresses.as_str()), ("CORE_GATEWAY_TOKEN", GATEWAY_TOKEN)];
            let launch = Launch {
                program: binaries::gateway(),
                wrapper: vec![],
                arguments: [listening("gateway", listen, admin_listen), self.gateway_arguments.clone()].concat(),
                environment: [vec![admin_key()], found.to_vec(), pairs(&own), self.environment.clone()].concat(),
                ready: "gateway listening on http://",
            };
            members.push(Member::new(Kind::Gateway, launch));
        }
        TestStack::start(members, None, self.output)
    }
}

/// The arguments that say where a service listens; on any free port, if nowhere is named.
fn listening(service: &str, address: Option<SocketAddr>, admin: Option<SocketAddr>) -> Vec<OsString> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let words = [
        format!("--{service}-listen"),
        address.unwrap_or(any).to_string(),
        format!("--{service}-admin-listen"),
        admin.unwrap_or(any).to_string(),
    ];
    words.map(OsString::from).to_vec()
}

fn admin_key() -> (String, String) {
    ("HTTP_ADMIN_API_KEY".to_owned(), ADMIN_KEY.to_owned())
}

fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
