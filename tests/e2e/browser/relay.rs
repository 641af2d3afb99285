//! What stands between browsers and the server: an address that stays the same while the server dies and comes back on
//! another one, and a line that can swallow what the server says, and break.

use std::net::SocketAddr;

use e2e::StackHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Relays while it lives.
pub(crate) struct Relay {
    /// Where browsers connect.
    pub(crate) address: SocketAddr,
    faults: watch::Sender<Faults>,
    _accepting: JoinSet<()>,
}

#[derive(Clone, Copy, Default)]
struct Faults {
    is_mute: bool,
    cuts: u64,
}

impl Relay {
    pub(crate) async fn to(stack: &StackHandle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, seen) = watch::channel(Faults::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, stack.clone(), seen));
        Self { address, faults, _accepting: accepting }
    }

    /// From now on nothing that the server says arrives; what it is told does.
    pub(crate) fn mute_server(&self) {
        self.faults.send_modify(|faults| faults.is_mute = true);
    }

    /// Breaks all connections. New ones are whole.
    pub(crate) fn cut(&self) {
        self.faults.send_modify(|faults| *faults = Faults { is_mute: false, cuts: faults.cuts + 1 });
    }
}

async fn accept(listener: TcpListener, stack: StackHandle, faults: watch::Receiver<Faults>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // While the server is down the connection is closed at once.
        if let Some(server) = stack.gateway_if_up() {
            connections.spawn(relay(client, server, faults.clone()));
        }
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, mut faults: watch::Receiver<Faults>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let cuts = faults.borrow().cuts;
    let speech = faults.clone();
    let (mut from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = pass_on(from_server, to_client, speech) => {}
        _ = faults.wait_for(|faults| faults.cuts != cuts) => {}
    }
}

async fn pass_on(mut server: ReadHalf<'_>, mut client: WriteHalf<'_>, faults: watch::Receiver<Faults>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        let is_mute = faults.borrow().is_mute;
        if !is_mute && client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
