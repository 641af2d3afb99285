//! A command under `components run`, with servers that are given, so that nothing is started or fetched.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `components run` of a shell script.
fn run(script: &str) -> Command {
    let mut run = Command::new(env!("CARGO_BIN_EXE_components"));
    run.args(["run", "--cql-address", "db:9042", "--nats-url", "nats://nats:4222", "--", "sh", "-c", script]);
    run.env("TEST_NATS_SERVER", "/opt/nats-server").env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    run.stdin(Stdio::null()).stdout(Stdio::piped());
    run
}

#[test]
fn the_command_finds_the_servers_and_its_exit_code_is_the_answer() {
    let output = run("echo $TEST_CQL_ADDRESS $TEST_NATS_URL $TEST_NATS_SERVER; exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "db:9042 nats://nats:4222 /opt/nats-server\n");
    assert_eq!(run("kill -9 $$").output().unwrap().status.code(), Some(137));
}

#[test]
fn what_was_started_does_not_outlive_its_killed_owner() {
    let mut owner = run("echo $$; exec sleep 600").spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let command = Path::new("/proc").join(pid.trim());
    assert!(command.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let begun = Instant::now();
    // Where nobody collects the dead, one stays as a name without an address space.
    while std::fs::read(command.join("cmdline")).is_ok_and(|words| !words.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}
