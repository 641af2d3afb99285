//! A TCP connection that can be cut, or swallow everything for a while.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq, Debug)]
struct Link {
    /// Nothing gets through while it is not.
    is_open: bool,
    /// Connections of an earlier number are cut.
    generation: u32,
    /// Of connections of an earlier number nobody hears any more, and they are not cut.
    forgotten_below: u32,
}

impl Link {
    fn lets_through(self, generation: u32) -> bool {
        self.is_open && generation >= self.forgotten_below
    }

    fn is_cut(self, generation: u32) -> bool {
        generation < self.generation && generation >= self.forgotten_below
    }
}

/// Passes connections on to a server.
pub(crate) struct Proxy {
    pub(crate) address: String,
    link: watch::Sender<Link>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (link, state) = watch::channel(Link { is_open: true, generation: 0, forgotten_below: 0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                relays.spawn(relay(client, server.clone(), state.clone()));
            }
        });
        Self { address, link, _tasks: tasks }
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.link.send_modify(|link| link.generation += 1);
    }

    /// Forgets every connection, as a router does that was restarted: nothing gets through, and neither end is told.
    pub(crate) fn forget(&self) {
        self.link.send_modify(|link| {
            link.generation += 1;
            link.forgotten_below = link.generation;
        });
    }

    /// Lets nothing through any more, in neither direction.
    pub(crate) fn hold(&self) {
        self.link.send_modify(|link| link.is_open = false);
    }

    /// Lets through again what was held up, and everything else.
    pub(crate) fn release(&self) {
        self.link.send_modify(|link| link.is_open = true);
    }
}

async fn relay(client: TcpStream, server: String, link: watch::Receiver<Link>) {
    let generation = link.borrow().generation;
    let pass = async {
        let mut held = link.clone();
        held.wait_for(|link| link.lets_through(generation)).await.ok()?;
        let server = TcpStream::connect(server).await.ok()?;
        let (client, server) = (client.into_split(), server.into_split());
        tokio::select! {
            ended = pump(client.0, server.1, link.clone(), generation) => ended,
            ended = pump(server.0, client.1, link.clone(), generation) => ended,
        }
    };
    let mut cut = link.clone();
    tokio::select! {
        _ = pass => {}
        _ = cut.wait_for(|link| link.is_cut(generation)) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    generation: u32,
) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        link.wait_for(|link| link.lets_through(generation)).await.ok()?;
        to.write_all(&buffer[..read]).await.ok()?;
    }
}
