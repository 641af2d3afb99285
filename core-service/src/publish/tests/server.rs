//! A nats-server of a test's own, on a port of its own, with its data in a temporary directory.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use tempfile::TempDir;

use super::eventually;

pub(super) struct NatsServer {
    binary: PathBuf,
    port: u16,
    directory: TempDir,
    process: Option<Child>,
}

impl NatsServer {
    /// A new server with JetStream.
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A new server with JetStream and these lines in its configuration.
    pub(super) async fn start_with(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = directory.path().display();
        let configuration = format!(
            "listen: 127.0.0.1:{port}\n\
             jetstream {{ store_dir: \"{store}\", max_memory_store: 64MB, max_file_store: 1GB }}\n\
             {configuration}\n"
        );
        std::fs::write(directory.path().join("conf"), configuration).unwrap();
        let mut server = Self { binary: binary(), port, directory, process: None };
        server.restart().await;
        server
    }

    /// Starts it again on the same port and data.
    pub(super) async fn restart(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let process = Command::new(&self.binary)
            .arg("-c")
            .arg(self.directory.path().join("conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let address = ("127.0.0.1", self.port);
        eventually("nats-server to listen", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
    }

    /// Kills it as a power cut would.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Makes it hang, as an overloaded machine would; its connections stay.
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Forgets all streams, as a new disk would. Only while it is dead.
    pub(super) fn lose_data(&self) {
        assert!(self.process.is_none());
        std::fs::remove_dir_all(self.directory.path().join("jetstream")).unwrap();
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        assert!(Command::new("kill").arg(signal).arg(process.id().to_string()).status().unwrap().success());
    }

    /// A client with the settings of the product.
    pub(super) async fn connect(&self) -> Client {
        self.connect_with(ConnectOptions::new()).await
    }

    /// The same for a user with a password.
    pub(super) async fn connect_as(&self, name: &str, password: &str) -> Client {
        self.connect_with(ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned())).await
    }

    /// What the server wrote since it was started last.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    async fn connect_with(&self, options: ConnectOptions) -> Client {
        options
            .retry_on_initial_connect()
            .ping_interval(Duration::from_secs(1))
            .request_timeout(Some(Duration::from_secs(2)))
            .connection_timeout(Duration::from_secs(1))
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(("127.0.0.1:".to_owned() + &self.port.to_string()).as_str())
            .await
            .unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line to take this from")]
fn binary() -> PathBuf {
    let path = std::env::var_os("TEST_NATS_SERVER");
    path.expect("set TEST_NATS_SERVER to the path of a nats-server, 2.11 or newer").into()
}
