//! Apache Cassandra: a CQL database of one node or of a small ring, on 127.0.0.1, 127.0.0.2 and so on.
//!
//! Its jars come from Maven Central. Maven checks what it transfers against checksums from the same place, so the
//! whole set is compared with the list in `cassandra/jars.sha256` before it is used. What is acknowledged is on disk:
//! a killed node has lost nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::Pid;
use sha2::{Digest, Sha256};

use crate::process::{Owner, Process, Program};
use crate::{cache, ports, tools};

/// The version of all that lies in `cassandra/`.
const VERSION: &str = "5.0.9";

const POM: &str = include_str!("../cassandra/pom.xml");
const JARS: &str = include_str!("../cassandra/jars.sha256");
const SETTINGS: &str = include_str!("../cassandra/cassandra.yaml");
const TLS: &str = include_str!("../cassandra/tls.yaml");
const JVM_OPTIONS: &str = include_str!("../cassandra/jvm.options");
const LOGGING: &str = include_str!("../cassandra/logback.xml");

/// How long a node may take to start. It takes seconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a database is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes. The data is made for this number and serves no other.
    pub nodes: u8,
    /// The CQL port of every node; any free one, if none is named.
    pub port: Option<u16>,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Compiled for a start in seconds, instead of for speed later.
    pub starts_quickly: bool,
    /// A file with the certificate of all nodes and its key (PEM, PKCS#8). With it the nodes speak TLS alone, and let in
    /// only roles with a password, to what they are granted. At first there is the superuser [`SUPERUSER`].
    pub certificate: Option<PathBuf>,
}

/// Name and password of the role that a database with a certificate begins with.
pub const SUPERUSER: &str = "cassandra";

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 1, port: None, owner: Owner::Us, starts_quickly: true, certificate: None }
    }
}

/// A running database, of which nodes may be killed and started again on the same data and addresses.
#[derive(Debug)]
pub struct Cassandra {
    nodes: Vec<Node>,
    owner: Owner,
    is_ready: fn(SocketAddr) -> bool,
}

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    program: Program,
    process: Option<Process>,
}

impl Cassandra {
    /// One node, with its data below this directory. Fetches the jars if need be. Blocks until it serves CQL.
    ///
    /// # Errors
    /// When it cannot be fetched or started; says what to do.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(directory, &Options::default())
    }

    /// The same with other options. The nodes of a ring may take a moment longer to know each other.
    ///
    /// # Errors
    /// As [`Cassandra::start`].
    pub fn start_with(directory: &Path, options: &Options) -> anyhow::Result<Self> {
        let (java, jars) = (tools::java()?, jars()?);
        let directory = std::path::absolute(directory)?;
        let addresses: Vec<_> = (1..=options.nodes).map(|node| Ipv4Addr::new(127, 0, 0, node)).collect();
        let port = options.port.unwrap_or_else(|| ports::free_run(&addresses, 1));
        let storage_port = ports::free_run(&addresses, 2);
        let certificate = options.certificate.as_deref().map(std::path::absolute).transpose()?;
        // It opens its port when it is ready; what asks further speaks no TLS.
        let is_ready = if certificate.is_some() { listens } else { answers };
        let ring = Ring { addresses, port, storage_port, certificate };
        let mut nodes = Vec::new();
        for number in 1..=options.nodes {
            let home = directory.join(format!("node{number}"));
            ring.write_settings(number, &home)?;
            let program = program(&java, &jars, &home, options.starts_quickly);
            let address = (ring.addresses[usize::from(number) - 1], port).into();
            nodes.push(Node { address, program, process: None });
        }
        let mut database = Self { nodes, owner: options.owner.clone(), is_ready };
        database.restart()?;
        Ok(database)
    }

    /// Where the first node serves CQL.
    pub fn address(&self) -> SocketAddr {
        self.nodes[0].address
    }

    /// Where each node serves CQL.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// The first node's process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        Some(self.nodes[0].process.as_ref()?.pid())
    }

    /// SIGKILL to every node.
    pub fn kill(&mut self) {
        for number in 0..self.nodes.len() {
            self.kill_node(number);
        }
    }

    /// SIGKILL to one node, counted from 0.
    pub fn kill_node(&mut self, number: usize) {
        if let Some(mut process) = self.nodes[number].process.take() {
            process.kill();
        }
    }

    /// Starts every node that does not run, and waits until all serve.
    ///
    /// # Errors
    /// When one does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if node.process.is_none() {
                // A killed node leaves the native libraries that it unpacked.
                let temporary = node.temporary();
                cache::remove(&temporary)?;
                fs::create_dir_all(&temporary)?;
                node.process = Some(node.program.start(&self.owner)?);
            }
        }
        for node in &mut self.nodes {
            let process = node.process.as_mut().expect("started above");
            process.wait_until(PATIENCE, || (self.is_ready)(node.address))?;
        }
        Ok(())
    }
}

impl Node {
    fn temporary(&self) -> PathBuf {
        self.program.directory.as_deref().expect("a node has a home").join("tmp")
    }
}

/// Whether a server speaks CQL there: it answers an OPTIONS request of protocol 4 with a response.
pub fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
        let mut version = [0];
        stream.read_exact(&mut version)?;
        Ok(version == [0x84])
    };
    ask().unwrap_or(false)
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// What the nodes of one database have in common.
struct Ring {
    addresses: Vec<Ipv4Addr>,
    port: u16,
    storage_port: u16,
    certificate: Option<PathBuf>,
}

impl Ring {
    fn write_settings(&self, number: u8, home: &Path) -> anyhow::Result<()> {
        let seeds: Vec<_> = self.addresses.iter().map(|address| format!("{address}:{}", self.storage_port)).collect();
        let settings = SETTINGS
            .replace("@TOKEN@", &self.token(number).to_string())
            .replace("@SEEDS@", &seeds.join(","))
            .replace("@ADDRESS@", &self.addresses[usize::from(number) - 1].to_string())
            .replace("@CQL_PORT@", &self.port.to_string())
            .replace("@STORAGE_PORT@", &self.storage_port.to_string())
            .replace("@SSL_STORAGE_PORT@", &(self.storage_port + 1).to_string());
        let settings = match &self.certificate {
            None => settings
                .replace("@AUTHENTICATOR@", "AllowAllAuthenticator")
                .replace("@AUTHORIZER@", "AllowAllAuthorizer"),
            Some(certificate) => {
                settings
                    .replace("@AUTHENTICATOR@", "PasswordAuthenticator")
                    .replace("@AUTHORIZER@", "CassandraAuthorizer")
                    + &TLS.replace("@CERTIFICATE@", &certificate.display().to_string())
            }
        };
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        fs::write(home.join("cassandra.yaml"), settings)?;
        fs::write(home.join("jvm.options"), JVM_OPTIONS)?;
        fs::write(home.join("logback.xml"), LOGGING)?;
        Ok(())
    }

    /// Evenly spaced over all tokens, and none at their ends.
    fn token(&self, number: u8) -> i64 {
        let half_part = (1_i128 << 63) / self.addresses.len() as i128;
        let token = i128::from(i64::MIN) + (2 * i128::from(number) - 1) * half_part;
        i64::try_from(token).expect("the middle of a part is a token")
    }
}

fn program(java: &Path, jars: &Path, home: &Path, starts_quickly: bool) -> Program {
    let home_text = home.display();
    let mut arguments = vec![format!("@{home_text}/jvm.options"), "-Xms128M".to_owned(), "-Xmx512M".to_owned()];
    if starts_quickly {
        arguments.push("-XX:TieredStopAtLevel=1".to_owned());
    }
    arguments.extend([
        format!("-Dlogback.configurationFile={home_text}/logback.xml"),
        format!("-Dcassandra.config=file://{home_text}/cassandra.yaml"),
        format!("-Dcassandra.storagedir={home_text}"),
        format!("-Dcassandra.logdir={home_text}"),
        format!("-Djava.io.tmpdir={home_text}/tmp"),
        format!("-Djna.tmpdir={home_text}/tmp"),
        // The superuser is there at once, where there is one.
        "-Dcassandra.superuser_setup_delay_ms=0".to_owned(),
        "-cp".to_owned(),
        format!("{}/*", jars.display()),
        "org.apache.cassandra.service.CassandraDaemon".to_owned(),
    ]);
    Program {
        name: "Cassandra".to_owned(),
        program: java.to_owned(),
        arguments: arguments.into_iter().map(Into::into).collect(),
        environment: vec![],
        directory: Some(home.to_owned()),
        log: home.join("log"),
    }
}

/// The directory of the jars, after fetching them.
///
/// # Errors
/// When they cannot be fetched, or are not the ones that the list names.
pub fn jars() -> anyhow::Result<PathBuf> {
    let list = hex::encode(&Sha256::digest(JARS)[..4]);
    cache::get(&format!("cassandra-{VERSION}-{list}"), |directory| {
        fetch_jars(directory)?;
        compare(&list_jars(directory)?, JARS)
    })
}

/// Fetches the jars that `cassandra/pom.xml` names today and writes down their checksums.
///
/// # Errors
/// When they cannot be fetched.
pub fn pin_jars() -> anyhow::Result<PathBuf> {
    let directory = cache::directory()?.join("cassandra-pinning");
    cache::remove(&directory)?;
    fetch_jars(&directory)?;
    let list: String = list_jars(&directory)?.iter().map(|(name, checksum)| format!("{checksum}  {name}\n")).collect();
    cache::remove(&directory)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cassandra/jars.sha256");
    fs::write(&path, list).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn fetch_jars(directory: &Path) -> anyhow::Result<()> {
    let maven = tools::maven()?;
    eprintln!("components: fetching Cassandra {VERSION} from Maven Central, 50 MB");
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let pom = directory.join("pom.xml");
    fs::write(&pom, POM)?;
    let mut fetch = Command::new(maven);
    fetch
        .args([
            "--quiet",
            "--batch-mode",
            "-Dstyle.color=never",
            "--no-transfer-progress",
            "--strict-checksums",
            "--file",
        ])
        .arg(&pom);
    fetch.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    fetch.arg(format!("-DoutputDirectory={}", directory.display()));
    tools::run(&mut fetch).context("cannot fetch Cassandra from Maven Central")?;
    fs::remove_file(pom)?;
    Ok(())
}

/// The jars of a directory by name, with their checksums.
fn list_jars(directory: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut jars = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let checksum = Sha256::digest(fs::read(entry.path())?);
        jars.insert(entry.file_name().to_string_lossy().into_owned(), hex::encode(checksum));
    }
    Ok(jars)
}

/// Whether these are exactly the jars of the list.
fn compare(found: &BTreeMap<String, String>, list: &str) -> anyhow::Result<()> {
    let wanted: BTreeMap<_, _> =
        list.lines().filter_map(|line| line.split_once("  ")).map(|(checksum, name)| (name, checksum)).collect();
    for (name, checksum) in &wanted {
        match found.get(*name) {
            None => bail!("{name} is missing in what Maven fetched"),
            Some(found) => ensure!(found == checksum, "{name} is not the one that was pinned: its SHA-256 is {found}"),
        }
    }
    let extra = found.keys().find(|name| !wanted.contains_key(name.as_str()));
    ensure!(extra.is_none(), "Maven fetched {extra:?}, which is not pinned");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_the_pinned_jars_will_do() {
        let list = "aa  one.jar\nbb  two.jar\n";
        let jars = |jars: &[(&str, &str)]| jars.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect();
        compare(&jars(&[("one.jar", "aa"), ("two.jar", "bb")]), list).unwrap();
        for wrong in [
            &[("one.jar", "aa")][..],
            &[("one.jar", "aa"), ("two.jar", "bc")],
            &[("one.jar", "aa"), ("two.jar", "bb"), ("three.jar", "cc")],
        ] {
            compare(&jars(wrong), list).unwrap_err();
        }
    }

    #[test]
    fn tokens_are_spread_evenly_and_never_at_an_end() {
        let token = |nodes, number| {
            Ring { addresses: vec![Ipv4Addr::LOCALHOST; nodes], port: 1, storage_port: 2, certificate: None }
                .token(number)
        };
        assert_eq!(token(1, 1), 0);
        assert_eq!(token(2, 1), -token(2, 2));
        let third = token(3, 2) - token(3, 1);
        assert!((token(3, 3) - token(3, 2) - third).abs() <= 1 && third > i64::MAX / 2);
    }

    #[test]
    fn every_name_in_the_settings_is_filled_in() {
        let home = tempfile::tempdir().unwrap();
        for certificate in [None, Some(PathBuf::from("/node.pem"))] {
            let ring = Ring { addresses: vec![Ipv4Addr::LOCALHOST], port: 9042, storage_port: 7000, certificate };
            ring.write_settings(1, home.path()).unwrap();
            let settings = fs::read_to_string(home.path().join("cassandra.yaml")).unwrap();
            assert!(!settings.contains('@'), "{settings}");
        }
    }
}
