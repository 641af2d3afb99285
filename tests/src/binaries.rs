//! Where the programs under test lie. They are built once per test process, by the cargo that runs the tests, into
//! the same target directory and profile, so that a story never talks to yesterday's server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The all-in-one server. `SAMA_STANDALONE_BIN` names another one to test.
pub fn standalone() -> PathBuf {
    chosen("SAMA_STANDALONE_BIN").unwrap_or_else(|| built().join("standalone"))
}

/// The core service on its own. `SAMA_CORE_SERVICE_BIN` names another one to test.
pub fn core_service() -> PathBuf {
    chosen("SAMA_CORE_SERVICE_BIN").unwrap_or_else(|| built().join("core-service"))
}

/// The gateway on its own. `SAMA_GATEWAY_BIN` names another one to test.
pub fn gateway() -> PathBuf {
    chosen("SAMA_GATEWAY_BIN").unwrap_or_else(|| built().join("gateway"))
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
fn chosen(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// The directory of the programs, after building them.
fn built() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it runs from");
    // <target>/<profile>/deps/<test>
    let directory = test.parent().and_then(Path::parent).expect("cargo puts tests two directories deep");
    let target = directory.parent().expect("a profile's directory lies in the target directory");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = chosen("CARGO").unwrap_or_else(|| "cargo".into());
    // Without this package: cargo unites the features of what it builds together, and a server with the features that
    // the tests' libraries want may behave otherwise than the one that is shipped.
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--bins",
            "-p",
            "standalone",
            "-p",
            "core-service",
            "-p",
            "gateway",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs the tests, so it can be run");
    assert!(status.success(), "the programs under test do not build");
    directory.to_owned()
}
