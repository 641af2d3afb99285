//! A database and NATS that let in nobody without TLS and a password: the settings lead in, with no more permissions than
//! the README names; and where one of them is wrong, the log says so, without a secret.

mod authority;
mod credentials;
mod mistakes;
mod servers;

use components::nats::Nats;
use e2e::{Deployment, Device, GATEWAY_TOKEN, StackHandle, TestStack, eventually};
use serde_json::json;

use self::authority::Authority;
use self::mistakes::{Mistake, Process, Settings, WRONG, gateway_settings, make_all};
use self::servers::{CORE, Database, GATEWAY, MIGRATOR, start_nats};
use crate::team::Pair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs TEST_CQL_ADDRESS, TEST_NATS_URL and TEST_STACK=distributed: run by tests/run"]
async fn servers_with_tls_and_passwords_let_in_who_knows_them_and_others_are_told_what_to_look_at() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let mut nats = start_nats(&authority);
    let database = Database::start(&directory.path().join("cassandra"), &authority).await;
    let cql = [("CQL_ADDRESSES", database.address()), ("CQL_TLS_CA", authority.path()), ("CQL_KEYSPACE", "sama")];
    let url = nats.url();
    let at_nats = [("NATS_URL", url.as_str()), ("NATS_TLS_CA", authority.path()), ("CELL", "sama")];

    database.make_role(MIGRATOR, "CREATE ON ALL KEYSPACES").await;
    let migrate = Settings::from([("CQL_USERNAME", MIGRATOR.0), ("CQL_PASSWORD", MIGRATOR.1)]);
    let migrate: Settings<'_> = migrate.into_iter().chain(cql).collect();
    for _ in 0..2 {
        Deployment::of_this_process().migrate_own(&migrate.clone().into_iter().collect::<Vec<_>>());
    }

    database.make_role(CORE, "SELECT ON KEYSPACE sama").await;
    database.grant(CORE, "MODIFY ON KEYSPACE sama").await;
    let core = Settings::from([
        ("CORE_LISTEN", "127.0.0.1:0"),
        ("CORE_ADMIN_LISTEN", "127.0.0.1:0"),
        ("CORE_GATEWAY_TOKENS", GATEWAY_TOKEN),
        ("CQL_USERNAME", CORE.0),
        ("CQL_PASSWORD", CORE.1),
        ("NATS_USERNAME", CORE.0),
        ("NATS_PASSWORD", CORE.1),
    ]);
    let core: Settings<'_> = core.into_iter().chain(cql).chain(at_nats).collect();
    let stack = |stream_bytes: u32| {
        let mut stack = TestStack::builder().environment("NATS_STREAM_MAX_BYTES", stream_bytes.to_string());
        for (name, value) in &core {
            stack = stack.environment(name, *value);
        }
        for (name, value) in [("username", GATEWAY.0), ("password", GATEWAY.1)] {
            stack = stack.gateway_argument(format!("--nats-{name}={value}"));
        }
        stack.start()
    };
    // The second one changes the stream.
    chat_through_everything(&mut nats, stack(100_000_000), stack(200_000_000)).await;
    let log = nats.log().unwrap();
    let violations: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(violations.is_empty(), "the permissions in the README are too few: {violations:#?}");

    let of_gateways = [("NATS_USERNAME", GATEWAY.0), ("NATS_PASSWORD", GATEWAY.1)];
    let gateway = gateway_settings().into_iter().chain(at_nats).chain(of_gateways).collect();
    let stranger = Authority::new(directory.path(), "stranger");
    let (stranger, wrong) = (Some(stranger.path()), Some(WRONG));
    let mistake = |process, setting, value, says| {
        let settings = match process {
            Process::Migrate => &migrate,
            Process::Core => &core,
            Process::Gateway => &gateway,
        };
        Mistake { process, settings, setting, value, says }
    };
    let at_database = |process, setting, value, why| {
        mistake(process, setting, value, ["waiting for the database", "failed to reach the database", why])
    };
    let at_nats = |process, setting, value, why| {
        mistake(process, setting, value, ["cannot connect to NATS, trying on", "look at NATS_URL", why])
    };
    make_all(
        &[
            at_database(Process::Core, "CQL_TLS_CA", None, "Last connection failed"),
            at_database(Process::Core, "CQL_TLS_CA", stranger, "invalid peer certificate: UnknownIssuer"),
            at_database(Process::Core, "CQL_PASSWORD", wrong, "bad credentials"),
            at_database(Process::Migrate, "CQL_PASSWORD", wrong, "bad credentials"),
            at_nats(Process::Gateway, "NATS_TLS_CA", None, "invalid peer certificate: UnknownIssuer"),
            at_nats(Process::Gateway, "NATS_TLS_CA", stranger, "invalid peer certificate: UnknownIssuer"),
            at_nats(Process::Gateway, "NATS_PASSWORD", wrong, "authorization violation"),
            at_nats(Process::Core, "NATS_PASSWORD", wrong, "authorization violation"),
        ],
        directory.path(),
    );
}

/// Two users chat, and core and gateways do what they do at NATS in its first minutes. The second server is started when
/// the first has died.
async fn chat_through_everything(
    nats: &mut Nats,
    first: impl Future<Output = StackHandle>,
    second: impl Future<Output = StackHandle>,
) {
    let first = first.await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(first.new_organization().await).await;
    ann.send(json!({"typing": {"id": "t", "cid": cid, "type": "start"}})).await;
    bob.expect("Ann's typing", |packet| packet["typing"]["id"] == "t").await;
    // So much that NATS asks the gateway whether it keeps up.
    let long = "a long message ".repeat(4_000);
    ann.send_messages(&cid, (0..30).map(|number| format!("{long}{number}"))).await;
    bob.expect_message(&format!("{long}29")).await;

    nats.kill();
    ann.send_message(&cid, "while NATS is away").await;
    nats.restart().unwrap();
    bob.expect_message("while NATS is away").await;

    first.kill().await;
    let second = second.await;
    let (mut ann, mut bob) = (ann.session().connect(&second).await, bob.session().connect(&second).await);
    ann.send_message(&cid, "to another server").await;
    bob.expect_message("to another server").await;
    let mut told = bob.another_socket(Device::Same).await;
    bob.succeed("user_logout", json!({})).await;
    eventually("the device's other socket to hear of the logout", async || {
        let response = told.request("conversation_list", json!({})).await;
        (response["error"]["status"] == 401).then_some(())
    })
    .await;
}
