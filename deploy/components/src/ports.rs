//! Ports that are free now.
//!
//! They are looked for below the range that the system gives to outgoing connections, so that a server which is killed
//! finds its port again when it comes back.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where [`free`] looks.
const LOWEST: u32 = 15_000;
const COUNT: u32 = 16_000;

/// A port that is free on 127.0.0.1.
pub fn free() -> u16 {
    free_run(&[Ipv4Addr::LOCALHOST], 1)
}

/// The first of `run` ports in a row that are free on all of these addresses.
///
/// # Panics
/// When there is none.
pub fn free_run(addresses: &[Ipv4Addr], run: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that look at the same time look at different places.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(NEXT.fetch_add(u32::from(run), Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(LOWEST + offset).expect("the range ends below 65,536");
        if (port..port + run).all(|port| is_free(addresses, port)) {
            return port;
        }
    }
    panic!("no free port from {LOWEST} on");
}

/// The first free port on 127.0.0.1 from this one on that is not among those taken already.
///
/// # Panics
/// When there is none.
pub fn first_free(from: u16, taken: &[u16]) -> u16 {
    (from..=u16::MAX)
        .find(|port| !taken.contains(port) && is_free(&[Ipv4Addr::LOCALHOST], *port))
        .expect("some port is free")
}

fn is_free(addresses: &[Ipv4Addr], port: u16) -> bool {
    addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_none_that_is_taken() {
        let (one, other) = (free(), free());
        assert_ne!(one, other);
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(first_free(port, &[]) > port);
        assert!(first_free(one, &[one]) > one);
    }
}
