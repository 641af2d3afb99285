//! The same servers out of Docker, where an engine answers: ScyllaDB, which production runs on, and nats-server.
//!
//! The client runs in the foreground like any server process and passes SIGTERM on; `--rm` removes the container.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Owner, Program};
use crate::tools;

/// What a keyspace on ScyllaDB is made with: tablets and lightweight transactions do not go together yet.
pub(crate) const KEYSPACE_OPTIONS: &str = "AND tablets = {'enabled': false}";

/// A server that comes as an image.
struct Image {
    name: &'static str,
    /// Pinned by version.
    image: &'static str,
    port: u16,
    data: &'static str,
    arguments: &'static [&'static str],
}

const SCYLLA: Image = Image {
    name: "ScyllaDB",
    image: "scylladb/scylla:2025.1",
    port: 9042,
    data: "/var/lib/scylla",
    arguments: &["--smp", "1", "--memory", "1G", "--overprovisioned", "1", "--developer-mode", "1"],
};

const NATS: Image = Image {
    name: "nats-server",
    image: "nats:2.11",
    port: 4222,
    data: "/data",
    arguments: &["--jetstream", "--store_dir", "/data"],
};

/// Whether a Docker engine answers.
pub(crate) fn answers() -> bool {
    succeeds(&["version"])
}

/// ScyllaDB, serving CQL on this port, with its log in this directory.
pub(crate) fn scylla(directory: &Path, port: u16, owner: &Owner) -> anyhow::Result<Program> {
    program(&SCYLLA, directory, port, owner)
}

/// nats-server, listening on this port, with its log in this directory.
pub(crate) fn nats(directory: &Path, port: u16, owner: &Owner) -> anyhow::Result<Program> {
    program(&NATS, directory, port, owner)
}

fn program(image: &Image, directory: &Path, port: u16, owner: &Owner) -> anyhow::Result<Program> {
    if !succeeds(&["image", "inspect", image.image]) {
        eprintln!("components: fetching {} from Docker's registry", image.image);
        tools::run(Command::new("docker").args(["pull", image.image]))?;
    }
    let mut words = vec!["run".to_owned(), "--rm".to_owned()];
    words.extend(["--publish".to_owned(), format!("127.0.0.1:{port}:{}", image.port)]);
    if let Owner::Nobody { .. } = owner {
        // It comes back on the same data; a server of ours is never started twice.
        words.extend(["--volume".to_owned(), format!("{}:{}", directory.join("data").display(), image.data)]);
    }
    words.push(image.image.to_owned());
    words.extend(image.arguments.iter().map(|word| (*word).to_owned()));
    Ok(Program {
        name: image.name.to_owned(),
        program: PathBuf::from("docker"),
        arguments: words.into_iter().map(Into::into).collect(),
        environment: vec![],
        directory: None,
        log: directory.join("log"),
    })
}

fn succeeds(arguments: &[&str]) -> bool {
    let mut docker = Command::new("docker");
    docker.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
}
