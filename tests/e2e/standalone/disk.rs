//! A full disk refuses writes, still reads, and takes writes again when there is room.
//!
//! The disk is a small file system in memory that only the server and this test see, in a mount namespace of its own.
//! Making one takes `unshare` and `nsenter` (Debian: util-linux), and root or unprivileged user namespaces.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::packets::{text, texts};
use e2e::{StackBuilder, TestStack};
use serde_json::json;

use crate::team::Pair;

/// Room for an empty server and a few messages.
const DISK_BYTES: u64 = 16 * 1024 * 1024;

/// A small disk, which goes when this does.
struct SmallDisk {
    holder: Child,
    mounted: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let mounted = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o "size=$2" none "$1" && echo mounted && exec sleep infinity"#;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(mounted.path())
            .arg(DISK_BYTES.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there (Debian: apt-get install util-linux)");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "this test needs root or unprivileged user namespaces, to mount a small disk");
        Self { holder, mounted }
    }

    /// A server that sees the disk.
    fn stack(&self) -> StackBuilder {
        let pid = self.holder.id().to_string();
        let words = ["nsenter", "--target", &pid, "--user", "--preserve-credentials", "--mount"];
        TestStack::builder().wrapper(words.map(OsString::from)).data_directory(self.mounted.path().join("data"))
    }

    /// A path on the disk, as everybody else sees it.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.mounted.path().strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside).join(name)
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.path("filler")).unwrap();
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
    }

    /// Makes room again.
    fn free(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever started it ends it; nothing can be done about a failure here.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_reads_and_nothing_is_damaged() {
    let disk = SmallDisk::new();
    let stack = disk.stack().start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "before").await;
    disk.fill();

    let mut kept = vec!["before".to_owned()];
    let filling = "f".repeat(10_000);
    let refused = loop {
        let id = format!("m{}", kept.len());
        let body = format!("{id} {filling}");
        ann.send(json!({"message": {"id": id, "cid": cid, "body": body}})).await;
        let answer =
            ann.expect("an answer", |packet| packet["ask"].is_object() || packet["message"]["error"].is_object());
        let answer = answer.await;
        if answer["message"]["error"].is_object() {
            assert_eq!(answer["message"]["error"]["status"], 503, "{answer}");
            assert_eq!(answer["message"]["error"]["code"], "temporarily_unavailable");
            break json!({"id": id, "cid": cid, "body": body});
        }
        kept.push(body);
        // What was allocated before may take some more; a disk's worth it cannot.
        assert!((kept.len() * filling.len()) < DISK_BYTES as usize, "the full disk takes everything");
    };
    // Reading, logging in and typing go on.
    let newest_first: Vec<_> = kept.iter().rev().take(100).cloned().collect();
    let listed = bob.list_messages(json!({"cid": cid, "limit": 100})).await;
    assert!(texts(&listed, "body") == newest_first, "what was acknowledged is not all there is");
    bob.send(json!({"typing": {"cid": cid, "id": "t"}})).await;
    ann.expect("typing", |packet| packet["typing"]["id"] == "t").await;
    ann.message_refused(refused.clone(), 503, "temporarily_unavailable").await;

    disk.free();
    // The same message under the same id, refused twice, is one message.
    let ack = ann.send_message_with(refused.clone()).await;
    let listed = bob.list_messages(json!({"cid": cid, "limit": 2})).await;
    assert!(text(&listed[0], "_id") == ack.server_mid && texts(&listed[1..], "body") == newest_first[..1]);
    bob.expect_message(text(&refused, "body")).await;

    assert_eq!(stack.terminate().await.0.code(), Some(0));
    let session = bob.session().clone();
    stack.restart().await;
    let mut bob = session.connect(&stack).await;
    let listed = bob.list_messages(json!({"cid": cid, "limit": 100})).await;
    assert!(texts(&listed[1..], "body") == newest_first[..listed.len() - 1], "something was damaged");
}

#[tokio::test]
async fn a_start_on_a_full_disk_is_refused_and_possible_later() {
    let disk = SmallDisk::new();
    disk.fill();
    let failed = disk.stack().try_start().await.unwrap_err();
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    assert!(failed.stderr.contains("error: ") && !failed.stderr.contains("panicked"), "{failed}");
    disk.free();
    disk.stack().start().await;
}
