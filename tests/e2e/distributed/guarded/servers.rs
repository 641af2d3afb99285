//! A database and NATS that let in nobody without TLS and a password.

use std::path::Path;
use std::sync::Arc;

use components::cassandra::{self, Cassandra};
use components::nats::{self, Nats};
use e2e::eventually;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use super::authority::Authority;

/// Who core is at the database and at NATS.
pub(crate) const CORE: (&str, &str) = ("core", "the password of core");
/// Who `migrate` is at the database.
pub(crate) const MIGRATOR: (&str, &str) = ("migrator", "the password of migrate");
/// Who gateways are at NATS.
pub(crate) const GATEWAY: (&str, &str) = ("gateway", "the password of gateways");

const README: &str = include_str!("../../../../README.md");

/// The database, with a session of its superuser.
pub(crate) struct Database {
    address: String,
    superuser: Session,
    _server: Cassandra,
}

impl Database {
    pub(crate) async fn start(directory: &Path, authority: &Authority) -> Self {
        let options = cassandra::Options { certificate: Some(authority.vouch()), ..cassandra::Options::default() };
        let server = Cassandra::start_with(directory, &options).unwrap();
        let address = server.address().to_string();
        let tls = Arc::new(authority.trusted());
        let log_in = async || {
            let builder = SessionBuilder::new().known_node(&address).tls_context(Some(Arc::clone(&tls)));
            builder.user(cassandra::SUPERUSER, cassandra::SUPERUSER).build().await.ok()
        };
        let superuser = eventually("the superuser to be let in", log_in).await;
        Self { address, superuser, _server: server }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Somebody who may log in, and no more than this.
    pub(crate) async fn make_role(&self, role: (&str, &str), permission: &str) {
        let (name, password) = role;
        self.say(&format!("CREATE ROLE {name} WITH PASSWORD = '{password}' AND LOGIN = true")).await;
        self.grant(role, permission).await;
    }

    /// And this too.
    pub(crate) async fn grant(&self, (name, _): (&str, &str), permission: &str) {
        self.say(&format!("GRANT {permission} TO {name}")).await;
    }

    async fn say(&self, statement: &str) {
        self.superuser.query_unpaged(statement, ()).await.unwrap();
    }
}

/// NATS with the users that the README names, and no more permissions than it names.
pub(crate) fn start_nats(authority: &Authority) -> Nats {
    let start = README.find("authorization { users = [").expect("the README says what users need");
    let (users, _) = README[start..].split_once("```").unwrap();
    let mut users = users.to_owned();
    for (name, password) in [CORE, GATEWAY] {
        let (unset, set) =
            (format!("user: {name}, password: \"...\""), format!("user: {name}, password: {password:?}"));
        assert!(users.contains(&unset), "the README has no user {name}");
        users = users.replace(&unset, &set);
    }
    let file = authority.vouch();
    let configuration = format!("tls {{ cert_file: {file:?}, key_file: {file:?} }}\n{users}");
    Nats::start_with(&nats::Options { configuration, ..nats::Options::default() }).unwrap()
}
