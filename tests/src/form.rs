//! Which form of the server the stories run on: the whole in one process, or gateways and core services of their own
//! over a CQL database and NATS.
//!
//! `TEST_STACK=distributed` chooses the second; `TEST_CQL_ADDRESS` and `TEST_NATS_URL` say on what. `tests/run` sets
//! them. A story about one form only stands in the module of that form, which a run on the other form leaves out by
//! name.

use std::process::Command;
use std::sync::OnceLock;

/// The form of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One process.
    Standalone,
    /// Gateways, core services, a database and NATS.
    Distributed,
}

impl Form {
    /// The one that this run is about.
    ///
    /// # Panics
    /// When `TEST_STACK` names no form.
    pub fn of_this_run() -> Self {
        match setting("TEST_STACK").as_deref() {
            None | Some("" | "standalone") => Self::Standalone,
            Some("distributed") => Self::Distributed,
            Some(other) => panic!("TEST_STACK is {other:?}, and there are standalone and distributed"),
        }
    }
}

/// Fails the story unless this run is about this form: `why` names what the other has not.
///
/// # Panics
/// When the run is about the other form.
#[track_caller]
pub(crate) fn only_in(form: Form, why: &str) {
    let module = match form {
        Form::Standalone => "standalone",
        Form::Distributed => "distributed",
    };
    assert!(
        Form::of_this_run() == form,
        "{why}: that is the {module} form's, so this story belongs into the module {module} and not into this run"
    );
}

/// What all distributed stacks of this test process stand on: they are one deployment, with one keyspace and one
/// stream.
#[derive(Debug)]
pub struct Deployment {
    environment: Vec<(String, String)>,
}

impl Deployment {
    /// Made, with its tables, when it is first asked for.
    ///
    /// # Panics
    /// When the database or NATS is not named, or the tables cannot be made.
    pub fn of_this_process() -> &'static Self {
        static DEPLOYMENT: OnceLock<Deployment> = OnceLock::new();
        DEPLOYMENT.get_or_init(Self::make)
    }

    /// Where a core service or a gateway finds the rest.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    fn make() -> Self {
        // A name that no earlier run has used.
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
        let name = format!("e2e_{}_{}", since.as_secs(), std::process::id());
        let environment = [
            ("CQL_ADDRESSES", needed("TEST_CQL_ADDRESS")),
            ("CQL_KEYSPACE", name.clone()),
            ("NATS_URL", needed("TEST_NATS_URL")),
            ("CELL", name),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let deployment = Self { environment };
        deployment.migrate(&[
            ("CQL_REPLICATION", &setting("TEST_CQL_REPLICATION").unwrap_or_else(|| ONE_REPLICA.to_owned())),
            ("CQL_KEYSPACE_OPTIONS", &setting("TEST_CQL_KEYSPACE_OPTIONS").unwrap_or_default()),
        ]);
        deployment
    }

    /// Makes the tables in a test's own Cassandra too, of one node, which these settings lead to.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn migrate_own(&self, settings: &[(&str, &str)]) {
        self.migrate(&[&[("CQL_REPLICATION", ONE_REPLICA)], settings].concat());
    }

    fn migrate(&self, settings: &[(&str, &str)]) {
        let migrated = Command::new(crate::binaries::core_service())
            .arg("migrate")
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(settings.iter().copied())
            .output()
            .expect("core-service can be executed");
        let said = [migrated.stdout, migrated.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(migrated.status.success(), "core-service migrate failed ({}): {said}", migrated.status);
    }
}

/// Enough for a database of one node.
const ONE_REPLICA: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";

fn needed(name: &str) -> String {
    let value = setting(name).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{name} is not set. Run the tests with tests/run, which starts the servers"))
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
