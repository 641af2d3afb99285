//! NATS that knows its users by credentials files, as a NATS with operators and accounts does.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use components::nats::{self, Nats};
use e2e::TestStack;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::mistakes::{Mistake, Process, gateway_settings, make_all};
use crate::team::Pair;

/// A NATS server that trusts one operator, with one account that may use JetStream.
struct Operated {
    server: Nats,
    account: KeyPair,
}

impl Operated {
    fn start() -> Self {
        let (operator, account, system) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let no_limits = json!({
            "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
            "wildcards": true, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let of_operator = token(&operator, &operator, json!({"type": "operator", "version": 2}));
        let of_account = token(&operator, &account, json!({"type": "account", "version": 2, "limits": no_limits}));
        let of_system = token(&operator, &system, json!({"type": "account", "version": 2}));
        let (account_key, system_key) = (account.public_key(), system.public_key());
        let configuration = format!(
            "operator: {of_operator}\nsystem_account: {system_key}\nresolver: MEMORY\n\
             resolver_preload: {{ {account_key}: {of_account}, {system_key}: {of_system} }}"
        );
        let options = nats::Options { configuration, ..nats::Options::default() };
        Self { server: Nats::start_with(&options).unwrap(), account }
    }
}

/// A file with the credentials of a new user of this account.
fn credentials(account: &KeyPair, file: PathBuf) -> String {
    let user = KeyPair::new_user();
    let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let (token, seed) = (token(account, &user, claims), user.seed().unwrap());
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What an issuer says of a subject.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let (issued_by, about) = (issuer.public_key(), subject.public_key());
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let payload = json!({"jti": about, "iat": 0, "iss": issued_by, "sub": about, "name": about, "nats": claims});
    let signed = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn a_credentials_file_leads_into_nats_and_that_of_another_account_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Operated::start();
    let good = credentials(&nats.account, directory.path().join("good"));
    let url = nats.server.url();
    let stack = TestStack::builder().environment("NATS_URL", &url).environment("NATS_CREDENTIALS", &good).start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_message(&cid, "let in").await;
    bob.expect_message("let in").await;

    let stranger = credentials(&KeyPair::new_account(), directory.path().join("stranger"));
    let mistake = Mistake {
        process: Process::Gateway,
        settings: &gateway_settings().into_iter().chain([("NATS_URL", url.as_str())]).collect(),
        setting: "NATS_CREDENTIALS",
        value: Some(&stranger),
        says: ["cannot connect to NATS, trying on", "look at NATS_URL", "authorization violation"],
    };
    make_all(&[mistake], directory.path());
}
