//! A link to a server that can break: it is cut, swallows everything for a while, or forgets its connections.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq, Debug)]
struct Link {
    state: State,
    /// Connections of an earlier number are cut.
    generation: u32,
    /// Of connections of an earlier number nobody hears any more, and they are not cut.
    forgotten_below: u32,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Open,
    /// Nothing gets through.
    Held,
    /// New connections are cut at once.
    Down,
}

impl Link {
    fn lets_through(self, generation: u32) -> bool {
        self.state == State::Open && generation >= self.forgotten_below
    }

    fn is_cut(self, generation: u32) -> bool {
        generation < self.generation && generation >= self.forgotten_below
    }
}

/// Passes connections on to a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// One to this server, a `host:port`, on any free port of 127.0.0.1. It ends when it is dropped.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(server: impl Display) -> io::Result<Self> {
        let server = server.to_string();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, state) = watch::channel(Link { state: State::Open, generation: 0, forgotten_below: 0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Link { state: now, generation, .. } = *state.borrow();
                if now != State::Down {
                    relays.spawn(relay(client, server.clone(), state.clone(), generation));
                }
            }
        });
        Ok(Self { address, link, _tasks: tasks })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection. New ones get through.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.generation += 1);
    }

    /// Cuts every connection, and new ones at once.
    pub fn take_down(&self) {
        self.link.send_modify(|link| {
            link.generation += 1;
            link.state = State::Down;
        });
    }

    /// Forgets every connection, as a router does that was restarted: nothing gets through, and neither end is told.
    pub fn forget(&self) {
        self.link.send_modify(|link| {
            link.generation += 1;
            link.forgotten_below = link.generation;
        });
    }

    /// Lets nothing through any more, in neither direction. Connections stay, and new ones come about.
    pub fn hold(&self) {
        self.link.send_modify(|link| link.state = State::Held);
    }

    /// Lets through again what was held up, and everything else.
    pub fn release(&self) {
        self.link.send_modify(|link| link.state = State::Open);
    }
}

async fn relay(client: TcpStream, server: String, link: watch::Receiver<Link>, generation: u32) {
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
