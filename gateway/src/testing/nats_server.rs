//! A nats-server of a test's own, which can be killed, started again and put back to an older state.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A nats-server. Dropping it kills it.
pub(crate) struct NatsServer {
    binary: PathBuf,
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts one on a free port, with an empty store.
    pub(crate) async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { binary: binary(), directory: tempfile::tempdir().unwrap(), port, child: None };
        server.restart().await;
        server
    }

    /// `host:port` of its clients.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on what is in its store, and waits until it takes connections.
    pub(crate) async fn restart(&mut self) {
        let store = self.store();
        let config = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?}, max_file_store: 1GB, sync_interval: 1s }}\n",
            self.port
        );
        let file = self.directory.path().join("conf");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let child = Command::new(&self.binary)
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        self.child = Some(child);
        while tokio::net::TcpStream::connect(self.address()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Copies the store of the killed server.
    pub(crate) fn save(&self) -> TempDir {
        assert!(self.child.is_none(), "the store of a running server changes while it is copied");
        let copy = tempfile::tempdir().unwrap();
        copy_directory(&self.store(), copy.path());
        copy
    }

    /// Puts the store of the killed server back to this copy.
    pub(crate) fn put_back(&self, copy: &TempDir) {
        assert!(self.child.is_none(), "a running server does not look at its store again");
        std::fs::remove_dir_all(self.store()).unwrap();
        copy_directory(copy.path(), &self.store());
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
fn binary() -> PathBuf {
    std::env::var_os("TEST_NATS_SERVER").expect("TEST_NATS_SERVER names the nats-server binary to test with").into()
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
