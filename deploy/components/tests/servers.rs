//! The servers themselves, killed and brought back.

use components::{Cassandra, Nats, cassandra, nats};

#[test]
#[ignore = "needs TEST_NATS_SERVER: run by tests/run"]
fn nats_comes_back_on_its_port_and_store() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Nats::start().unwrap();
    let address = server.address();
    let copy = directory.path().join("copy");
    server.copy_store(&copy).unwrap();
    server.kill();
    assert!(!nats::greets(address));
    server.replace_store(&copy).unwrap();
    server.restart().unwrap();
    assert!(nats::greets(address));
    drop(server);
    assert!(!nats::greets(address), "the server outlives its handle");
}

#[test]
#[ignore = "needs TEST_CQL_ADDRESS: run by tests/run"]
fn cassandra_comes_back_at_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = Cassandra::start(directory.path()).unwrap();
    let address = database.address();
    assert!(cassandra::answers(address));
    database.kill();
    assert!(!cassandra::answers(address));
    database.restart().unwrap();
    assert!(cassandra::answers(address));
    drop(database);
    assert!(!cassandra::answers(address), "the server outlives its handle");
}
