//! What runs where, as `stack.json` has it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Running;
use crate::ready::is_ready;
use crate::{cassandra, nats};

/// Everything that was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stack {
    pub(super) gateways: Vec<Service>,
    pub(super) cores: Vec<Service>,
    pub(super) nats: Nats,
    pub(super) cql: Cql,
}

/// A process of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) url: String,
    pub(super) admin: String,
    pub(super) pid: i32,
}

/// Where NATS is. Without a process it was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Nats {
    pub(super) url: String,
    pub(super) pid: Option<i32>,
}

/// Where the database is. Without a process it was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cql {
    pub(super) address: String,
    pub(super) pid: Option<i32>,
}

/// One process of a stack.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) running: Running,
    pub(super) address: String,
    ask: Ask,
}

/// How a process is asked whether it is ready.
#[derive(Clone, Debug)]
enum Ask {
    Admin(String),
    Nats,
    Cql,
}

impl Stack {
    /// Its processes.
    pub(super) fn processes(&self) -> Vec<Process> {
        let services = [("gateway", &self.gateways), ("core", &self.cores)];
        let services = services.into_iter().flat_map(|(name, services)| {
            services.iter().enumerate().map(move |(number, service)| Process {
                running: Running { name: format!("{name}-{}", number + 1), pid: service.pid },
                address: service.url.clone(),
                ask: Ask::Admin(service.admin.clone()),
            })
        });
        let nats = (self.nats.pid, "nats", &self.nats.url, Ask::Nats);
        let cql = (self.cql.pid, "cql", &self.cql.address, Ask::Cql);
        let servers = [nats, cql].into_iter().filter_map(|(pid, name, address, ask)| {
            Some(Process { running: Running { name: name.to_owned(), pid: pid? }, address: address.clone(), ask })
        });
        services.chain(servers).collect()
    }

    /// Writes it as a whole.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let new = file.with_extension("new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The stack that was written, if one was.
pub(super) fn read(file: &Path) -> anyhow::Result<Option<Stack>> {
    match fs::read(file) {
        Ok(text) => {
            let stack = serde_json::from_slice(&text);
            stack.map(Some).with_context(|| format!("{} is not what deploy/local wrote", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

impl Process {
    /// Whether it takes work.
    pub(super) fn is_ready(&self) -> bool {
        match &self.ask {
            Ask::Admin(admin) => socket_address(admin).is_some_and(is_ready),
            Ask::Nats => socket_address(&self.address).is_some_and(nats::greets),
            Ask::Cql => socket_address(&self.address).is_some_and(cassandra::answers),
        }
    }
}

/// The address in a URL, or the whole text.
fn socket_address(url: &str) -> Option<SocketAddr> {
    url.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("stack.json");
        assert_eq!(read(&file).unwrap(), None);
        let service = |pid| Service { url: "http://127.0.0.1:1".into(), admin: "http://127.0.0.1:2".into(), pid };
        let stack = Stack {
            gateways: vec![service(1), service(2)],
            cores: vec![service(3)],
            nats: Nats { url: "nats://127.0.0.1:3".into(), pid: Some(4) },
            cql: Cql { address: "db:9042".into(), pid: None },
        };
        stack.write(&file).unwrap();
        assert_eq!(read(&file).unwrap().as_ref(), Some(&stack));
        let names: Vec<_> = stack.processes().into_iter().map(|process| process.running.name).collect();
        assert_eq!(names, ["gateway-1", "gateway-2", "core-1", "nats"]);
    }
}
