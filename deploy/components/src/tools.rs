//! The programs that fetching and running takes: Java 17, Maven, pip. On Debian, as root, a missing one is installed;
//! elsewhere the error says what to run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A Java 17: Cassandra 5.0 runs on no newer one.
pub(crate) fn java() -> anyhow::Result<PathBuf> {
    prepare("no Java 17", &["openjdk-17-jre-headless"], find_java)
}

/// Maven.
pub(crate) fn maven() -> anyhow::Result<PathBuf> {
    // Maven needs some Java, and Debian's package brings one.
    prepare("no Maven", &["maven"], || says("mvn", &["--version"]).map(|_| "mvn".into()))
}

/// A Python with pip.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    prepare("no Python with pip", &["python3", "python3-pip"], || {
        says("python3", &["-m", "pip", "--version"]).map(|_| "python3".into())
    })
}

/// Runs a command to its end, with what it says on standard error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot execute {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status}); what it said is above");
    }
    Ok(())
}

fn prepare(missing: &str, packages: &[&str], find: impl Fn() -> Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let install = ["install", "-q", "-y", "--no-install-recommends"];
    if says("apt-get", &["--version"]).is_none() {
        bail!("{missing}: install it (Debian calls it {})", packages.join(" and "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("{missing}. Run: sudo apt-get {} {}", install.join(" "), packages.join(" "));
    }
    eprintln!("components: {missing}; installing {} with apt-get", packages.join(" "));
    // Two who install at once wait for each other.
    let patient = ["-o", "DPkg::Lock::Timeout=300"];
    run(Command::new("apt-get").args(patient).args(["update", "-q"]))?;
    run(Command::new("apt-get").args(patient).args(install).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    find().with_context(|| format!("{missing}, even after installing {}", packages.join(" ")))
}

fn find_java() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
    let candidates = java_home().into_iter().chain(installed).map(|home| home.join("bin/java"));
    std::iter::once(PathBuf::from("java")).chain(candidates).find(|java| is_17(java))
}

#[expect(clippy::disallowed_methods, reason = "where Java lies is the system's setting, not this program's")]
fn java_home() -> Option<PathBuf> {
    std::env::var_os("JAVA_HOME").map(PathBuf::from)
}

fn is_17(java: &Path) -> bool {
    says(java, &["-version"]).is_some_and(|version| version.contains("version \"17"))
}

/// What a program says, if it is there and ends well.
fn says(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&said).into_owned())
}
