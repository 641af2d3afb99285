//! Starts that must fail: with a clear line, an exit code, and nothing damaged.

use std::net::TcpListener;
use std::path::Path;

use e2e::packets::texts;
use e2e::{FailedStart, StackHandle, TestStack};
use serde_json::json;

use crate::team::Pair;

/// The one line on standard error that says what happened. Logs may stand around it.
fn error_line(failed: &FailedStart) -> &str {
    let lines: Vec<_> = failed.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = lines[..] else { panic!("one line says why: {failed}") };
    assert!(!failed.stderr.contains("panicked"), "{failed}");
    line
}

fn assert_refused(failed: &FailedStart, exit_code: i32, mentions: &[&str]) {
    assert_eq!(failed.status.code(), Some(exit_code), "{failed}");
    let line = error_line(failed).to_lowercase();
    for word in mentions {
        assert!(line.contains(&word.to_lowercase()), "{word:?} is not in {line:?}");
    }
}

/// Asserts that this server has exactly this message, and takes another.
async fn assert_usable(stack: &StackHandle, session: &e2e::Session, cid: &str) {
    let mut client = session.connect(stack).await;
    assert_eq!(texts(&client.list_messages(json!({"cid": cid})).await, "body"), ["kept"]);
    client.send_message(cid, "and going on").await;
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_the_first_goes_on() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "kept").await;
    let data = stack.data_directory().to_owned();
    for _ in 0..2 {
        let failed = TestStack::builder().data_directory(&data).try_start().await.unwrap_err();
        assert_refused(&failed, 1, &[data.to_str().unwrap(), "another process"]);
    }
    let session = ann.session().clone();
    assert_usable(&stack, &session, &cid).await;
    // The lock goes with the process, however that ends.
    stack.kill().await;
    stack.restart().await;
}

#[tokio::test]
async fn a_port_in_use_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let failed = TestStack::builder().listen(address).try_start().await.unwrap_err();
    assert_refused(&failed, 1, &[&address.to_string(), "in use", "--gateway-listen"]);
    let failed = TestStack::builder().admin_listen(address).try_start().await.unwrap_err();
    assert_refused(&failed, 1, &[&address.to_string(), "in use", "--gateway-admin-listen"]);
}

fn schema_version(data: &Path, change: Option<i64>) -> i64 {
    let database = rusqlite::Connection::open(data.join("sama.db")).unwrap();
    let version = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    if let Some(change) = change {
        database.pragma_update(None, "user_version", change).unwrap();
    }
    version
}

#[tokio::test]
async fn data_of_a_newer_version_is_refused_and_left_alone() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "kept").await;
    let session = ann.session().clone();
    stack.terminate().await;
    let data = stack.data_directory();
    let right = schema_version(data, Some(9_999));
    assert!(right > 0);
    let failed = TestStack::builder().data_directory(data).try_start().await.unwrap_err();
    assert_refused(&failed, 1, &["sama.db", "version 9999"]);
    assert_eq!(schema_version(data, Some(right)), 9_999);
    stack.restart().await;
    assert_usable(&stack, &session, &cid).await;
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("sama.db");
    let content = b"these are the minutes of our last meeting, not a database at all".repeat(100);
    std::fs::write(&file, &content).unwrap();
    let failed = TestStack::builder().data_directory(data.path()).try_start().await.unwrap_err();
    assert_refused(&failed, 1, &["sama.db"]);
    assert_eq!(std::fs::read(&file).unwrap(), content);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_said() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("a file");
    std::fs::write(&file, "in the way").unwrap();
    let failed = TestStack::builder().data_directory(file.join("data")).try_start().await.unwrap_err();
    assert_refused(&failed, 1, &["a file"]);
}

#[tokio::test]
async fn a_bad_setting_is_refused_before_anything_is_touched() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("data");
    for (name, value, option) in [
        ("GATEWAY_TRACE_RATIO", "7", "--gateway-trace-ratio"),
        ("APP_PORT", "70000", "--app-port"),
        ("JWT_ACCESS_SECRET", "short", "--jwt-access-secret"),
        ("JWT_ACCESS_TOKEN_EXPIRES_IN", "soon", "--jwt-access-token-expires-in"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "--trusted-proxies"),
        ("RUST_LOG", "loud=very", "--log"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere", "--otlp-endpoint"),
    ] {
        let start = TestStack::builder().data_directory(&path).environment(name, value).try_start();
        let failed = start.await.unwrap_err();
        assert_refused(&failed, 2, &[option]);
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn ports_that_contradict_each_other_are_refused() {
    let failed = TestStack::builder()
        .listen("127.0.0.1:9001".parse().unwrap())
        .environment("APP_PORT", "9002")
        .try_start()
        .await
        .unwrap_err();
    assert_ne!(failed.status.code(), Some(0));
    assert!(failed.stderr.contains("APP_PORT"), "{failed}");
}
