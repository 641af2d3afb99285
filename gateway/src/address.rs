//! Where a client really is: the peer of its connection, or what a trusted proxy in front says about it.
//!
//! A proxy's word counts only when the proxy is listed; anybody can write these headers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Stands for every client whose proxy names no address: none of them is this machine, and they share their limits.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The client's address and the way it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The nearest address that is no trusted proxy.
    pub ip: IpAddr,
    /// Whether the client itself came by HTTPS or WSS.
    pub is_https: bool,
}

impl ClientAddress {
    /// The client behind a connection from `peer` whose first request had these headers.
    pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Self {
        let is_trusted = |ip| is_trusted(ip, trusted_proxies);
        let peer = peer.to_canonical();
        if !is_trusted(peer) {
            return Self { ip: peer, is_https: false };
        }
        // Each proxy adds the address it was called from at the right end; what lies left of the first address that is
        // no proxy of ours may be made up.
        let mut ip = peer;
        for text in list(headers, &FORWARDED_FOR).rev() {
            ip = parse(text).unwrap_or(UNKNOWN);
            if !is_trusted(ip) {
                break;
            }
        }
        let scheme = list(headers, &FORWARDED_PROTO).next_back();
        Self { ip, is_https: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) }
    }

    /// Whether the client is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.ip.is_loopback()
    }
}

/// Whether this is the address of a proxy whose word counts.
pub(crate) fn is_trusted(ip: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    trusted_proxies.iter().any(|network| network.contains(&ip))
}

/// The entries of a header that is a list, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect::<Vec<_>>().into_iter()
}

/// An address, perhaps with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let without_brackets = text.trim_start_matches('[').trim_end_matches(']');
    let ip = without_brackets.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn resolve(peer: &str, headers: &[(HeaderName, &str)]) -> (String, bool) {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect();
        let address = ClientAddress::resolve(peer.parse().unwrap(), &headers, &trusted);
        (address.ip.to_string(), address.is_https)
    }

    #[test]
    fn the_peer_is_the_client_unless_it_is_a_trusted_proxy() {
        let lies = [(FORWARDED_FOR, "127.0.0.1"), (FORWARDED_PROTO, "https")];
        assert_eq!(resolve("203.0.113.5", &lies), ("203.0.113.5".to_owned(), false));
        assert_eq!(resolve("::ffff:203.0.113.5", &lies), ("203.0.113.5".to_owned(), false));
        assert_eq!(resolve("10.1.1.1", &[]), ("10.1.1.1".to_owned(), false));
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_counts() {
        let via = |header: &str| resolve("10.1.1.1", &[(FORWARDED_FOR, header)]).0;
        assert_eq!(via("203.0.113.5"), "203.0.113.5");
        assert_eq!(via("127.0.0.1, 203.0.113.5"), "203.0.113.5");
        assert_eq!(via("1.2.3.4, 203.0.113.5, 10.2.2.2"), "203.0.113.5");
        assert_eq!(via("203.0.113.5:4711"), "203.0.113.5");
        assert_eq!(via("[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(via("[2001:db8::7]"), "2001:db8::7");
        assert_eq!(via("10.3.3.3"), "10.3.3.3", "a client inside");
        assert_eq!(resolve("::ffff:10.1.1.1", &[(FORWARDED_FOR, "203.0.113.5")]).0, "203.0.113.5");
    }

    #[test]
    fn what_is_no_address_is_nobody_and_not_the_proxy() {
        let via = |header: &str| resolve("10.1.1.1", &[(FORWARDED_FOR, header)]).0;
        for header in ["", "unknown", "1.2.3.4, nonsense", "1.2.3.4,", "\u{fc}"] {
            assert_eq!(via(header), "0.0.0.0", "{header:?}");
        }
        assert_eq!(via("1.2.3.4, nonsense, 10.2.2.2"), "0.0.0.0");
        let headers = HeaderMap::from_iter([(FORWARDED_FOR, HeaderValue::from_static("unknown"))]);
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(!ClientAddress::resolve(local, &headers, &[local.into()]).is_loopback(), "nobody is exempt");
    }

    #[test]
    fn lines_of_a_header_are_one_list() {
        let lines = [(FORWARDED_FOR, "1.2.3.4"), (FORWARDED_FOR, "203.0.113.5"), (FORWARDED_FOR, "10.2.2.2")];
        assert_eq!(resolve("10.1.1.1", &lines).0, "203.0.113.5");
    }

    #[test]
    fn a_trusted_proxy_says_how_the_client_came() {
        let via = |header: &str| resolve("10.1.1.1", &[(FORWARDED_PROTO, header)]).1;
        assert!(via("https") && via("HTTPS") && via("http, https"));
        assert!(!via("http") && !via("") && !via("https, http"), "the nearest proxy's word counts");
    }
}
