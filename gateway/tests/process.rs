//! The gateway's own process, which finds nothing at its start and gets what it needs one after another.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail as a test does")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use components::Nats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Kills the process in the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn readiness(admin: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(admin).await else { return String::new() };
    let mut answer = String::new();
    let _ = stream.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn becomes(admin: SocketAddr, text: &str) {
    let wait = async {
        while !readiness(admin).await.contains(text) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("not {text:?} but {:?}", readiness(admin).await);
    }
}

#[tokio::test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
async fn a_gateway_says_what_is_missing_and_is_ready_when_everything_is_there() {
    let mut server = Nats::start().unwrap();
    server.kill();
    let (admin, core) = (free_address(), free_address());
    let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["--gateway-listen=127.0.0.1:0", "--cell=test"])
        .arg(format!("--gateway-admin-listen={admin}"))
        .arg(format!("--core-addresses=http://{core}"))
        .arg(format!("--nats-url={}", server.address()))
        .env("CORE_GATEWAY_TOKEN", "0123456789abcdef")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, mut log) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut running = Running(child);
    becomes(admin, "NATS is not connected").await;
    server.restart().unwrap();
    becomes(admin, "no core service answers").await;

    let (_, health) = tonic_health::server::health_reporter();
    let mut serving = JoinSet::new();
    serving.spawn(tonic::transport::Server::builder().add_service(health).serve(core));
    becomes(admin, "the stream of events is not there yet").await;

    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = jetstream::stream::Config {
        name: "test_events".to_owned(),
        subjects: vec!["test.conversation.*".to_owned(), "test.user.*".to_owned()],
        ..Default::default()
    };
    jetstream::new(client).create_stream(stream).await.unwrap();
    becomes(admin, "200 OK").await;
    let announced = tokio::task::spawn_blocking(|| BufReader::new(stdout).lines().next().unwrap().unwrap());
    let line = announced.await.unwrap();
    assert!(line.starts_with("gateway listening on http://127.0.0.1:"), "{line}");
    assert!(line.ends_with(&format!("(admin {admin})")), "{line}");

    let id = i32::try_from(running.0.id()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), rustix::process::Signal::TERM).unwrap();
    let (status, log) = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        (running.0.wait().unwrap(), text)
    })
    .await
    .unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("NATS_URL") && !log.contains("0123456789abcdef"), "{log}");
}
