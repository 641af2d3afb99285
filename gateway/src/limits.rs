//! How much one address may try: failed logins, new accounts, sockets without a session.
//!
//! Shared by sockets and HTTP routes, and kept in this process alone. A client on this machine is exempt; so are all
//! clients behind a proxy on this machine that is not listed as trusted, for nothing tells them apart.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;
use proto::reason::{Failure, Reason};

use crate::address::ClientAddress;

/// Failed logins of one address and login in [`FAILED_LOGINS_WINDOW`].
const MAX_FAILED_LOGINS: u32 = 20;
/// How long failed logins count, from the first on.
const FAILED_LOGINS_WINDOW: Duration = Duration::from_secs(300);
/// Addresses and logins remembered at most; beyond them the least used are forgotten.
const MAX_LOGINS_REMEMBERED: u64 = 100_000;
/// Characters of a login that tell it from others; no existing login is longer.
const LOGIN_KEY_CHARS: usize = 40;
/// New accounts of one address at once, before the rate counts.
const SIGN_UP_BURST: NonZeroU32 = NonZeroU32::new(30).expect("30 is not 0");
/// Sign-ups after which the addresses that have been quiet are forgotten.
const SIGN_UPS_PER_CLEANUP: u32 = 1_024;
/// Sockets without a session of one address.
const MAX_ANONYMOUS_SOCKETS: u32 = 100;

/// The counts of every address.
pub struct Limits {
    failed_logins: Cache<(IpAddr, String), Arc<AtomicU32>>,
    /// None: no limit.
    sign_ups: Option<DefaultKeyedRateLimiter<IpAddr>>,
    sign_ups_seen: AtomicU32,
    anonymous_sockets: DashMap<IpAddr, u32>,
}

impl Limits {
    /// Nothing counted yet. `user_create_per_minute` is the rate of new accounts per address, 0 for no limit.
    pub fn new(user_create_per_minute: u32) -> Self {
        let sign_up_quota =
            NonZeroU32::new(user_create_per_minute).map(|rate| Quota::per_minute(rate).allow_burst(SIGN_UP_BURST));
        Self {
            failed_logins: Cache::builder()
                .max_capacity(MAX_LOGINS_REMEMBERED)
                .time_to_live(FAILED_LOGINS_WINDOW)
                .build(),
            sign_ups: sign_up_quota.map(RateLimiter::dashmap),
            sign_ups_seen: AtomicU32::new(0),
            anonymous_sockets: DashMap::new(),
        }
    }

    /// Counts an attempt to log in with a password, which counts as failed until it is settled: many at once get no
    /// further than many in a row.
    ///
    /// # Errors
    /// `rate_limited` after too many failures.
    pub fn begin_login(&self, address: ClientAddress, login: &str) -> Result<LoginAttempt, Failure> {
        if address.is_loopback() {
            return Ok(LoginAttempt { failures: None });
        }
        let login: String = login.trim().to_lowercase().chars().take(LOGIN_KEY_CHARS).collect();
        let failures = self.failed_logins.get_with((site(address.ip), login), Arc::default);
        if failures.fetch_add(1, Ordering::Relaxed) >= MAX_FAILED_LOGINS {
            failures.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::RateLimited.into());
        }
        Ok(LoginAttempt { failures: Some(failures) })
    }

    /// Counts a new account.
    ///
    /// # Errors
    /// `rate_limited` after too many.
    pub fn check_sign_up(&self, address: ClientAddress) -> Result<(), Failure> {
        let Some(sign_ups) = self.sign_ups.as_ref().filter(|_| !address.is_loopback()) else { return Ok(()) };
        if self.sign_ups_seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(SIGN_UPS_PER_CLEANUP) {
            sign_ups.retain_recent();
        }
        sign_ups.check_key(&site(address.ip)).map_err(|_| Reason::RateLimited.into())
    }

    /// Counts a socket without a session, for as long as the returned value lives. `None`: too many.
    pub fn admit_anonymous(self: &Arc<Self>, address: ClientAddress) -> Option<AnonymousSocket> {
        if address.is_loopback() {
            return Some(AnonymousSocket { counted: None });
        }
        let site = site(address.ip);
        let mut sockets = self.anonymous_sockets.entry(site).or_insert(0);
        if *sockets >= MAX_ANONYMOUS_SOCKETS {
            return None;
        }
        *sockets += 1;
        Some(AnonymousSocket { counted: Some((Arc::clone(self), site)) })
    }
}

/// One attempt to log in, under way.
#[must_use = "an attempt that is not settled counts as failed"]
pub struct LoginAttempt {
    /// None: exempt.
    failures: Option<Arc<AtomicU32>>,
}

impl LoginAttempt {
    /// Takes the attempt back unless it failed for a wrong login or password. One that is dropped instead stays counted,
    /// or hanging up early would be a way to try for ever.
    pub fn settle<T>(self, outcome: &Result<T, Failure>) {
        let is_wrong = matches!(outcome, Err(failure) if failure.reason == Reason::WrongCredentials);
        if let Some(failures) = self.failures.filter(|_| !is_wrong) {
            failures.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The place of one socket without a session.
pub struct AnonymousSocket {
    /// None: exempt.
    counted: Option<(Arc<Limits>, IpAddr)>,
}

impl Drop for AnonymousSocket {
    fn drop(&mut self) {
        if let Some((limits, site)) = &self.counted {
            limits.anonymous_sockets.remove_if_mut(site, |_, sockets| {
                *sockets -= 1;
                *sockets == 0
            });
        }
    }
}

/// What counts as one address: an IPv4 address, or the network of 64 bits that one IPv6 customer has at least.
fn site(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> ClientAddress {
        ClientAddress { ip: ip.parse().unwrap(), is_https: false }
    }

    fn wrong() -> Result<(), Failure> {
        Err(Reason::WrongCredentials.into())
    }

    #[test]
    fn the_twenty_first_failed_login_is_not_tried() {
        let limits = Limits::new(10);
        for _ in 0..MAX_FAILED_LOGINS {
            limits.begin_login(from("203.0.113.5"), "Ann").unwrap().settle(&wrong());
        }
        assert_eq!(limits.begin_login(from("203.0.113.5"), " ann").err(), Some(Reason::RateLimited.into()));
        assert!(limits.begin_login(from("203.0.113.5"), "bob").is_ok());
        assert!(limits.begin_login(from("203.0.113.6"), "ann").is_ok());
    }

    #[test]
    fn only_wrong_credentials_count() {
        let limits = Limits::new(10);
        for _ in 0..100 {
            limits.begin_login(from("203.0.113.5"), "ann").unwrap().settle(&Ok(()));
            let unavailable: Result<(), Failure> = Err(Reason::TemporarilyUnavailable.into());
            limits.begin_login(from("203.0.113.5"), "ann").unwrap().settle(&unavailable);
        }
    }

    #[test]
    fn attempts_under_way_and_given_up_count() {
        let limits = Limits::new(10);
        let mut attempts: Vec<_> =
            (0..MAX_FAILED_LOGINS).map(|_| limits.begin_login(from("203.0.113.5"), "ann").unwrap()).collect();
        assert!(limits.begin_login(from("203.0.113.5"), "ann").is_err());
        drop(attempts.pop());
        assert!(limits.begin_login(from("203.0.113.5"), "ann").is_err());
        attempts.pop().unwrap().settle(&Ok(()));
        assert!(limits.begin_login(from("203.0.113.5"), "ann").is_ok());
    }

    #[test]
    fn sign_ups_of_one_address_are_limited() {
        let limits = Limits::new(1);
        for _ in 0..SIGN_UP_BURST.get() {
            assert_eq!(limits.check_sign_up(from("2001:db8::1")), Ok(()));
        }
        let limited = Err(Reason::RateLimited.into());
        assert_eq!(limits.check_sign_up(from("2001:db8::1")), limited);
        assert_eq!(limits.check_sign_up(from("2001:db8::ffff:2")), limited, "the same network");
        assert_eq!(limits.check_sign_up(from("2001:db8:0:1::1")), Ok(()));
    }

    #[test]
    fn no_rate_means_no_limit_of_sign_ups() {
        let limits = Limits::new(0);
        for _ in 0..1_000 {
            assert_eq!(limits.check_sign_up(from("203.0.113.5")), Ok(()));
        }
    }

    #[test]
    fn a_place_without_session_is_free_again_when_it_is_left() {
        let limits = Arc::new(Limits::new(10));
        let mut places: Vec<_> =
            (0..MAX_ANONYMOUS_SOCKETS).map(|_| limits.admit_anonymous(from("203.0.113.5")).unwrap()).collect();
        assert!(limits.admit_anonymous(from("203.0.113.5")).is_none());
        assert!(limits.admit_anonymous(from("203.0.113.6")).is_some());
        places.pop();
        let place = limits.admit_anonymous(from("203.0.113.5"));
        assert!(place.is_some() && limits.admit_anonymous(from("203.0.113.5")).is_none());
        drop((places, place));
        assert!(limits.anonymous_sockets.is_empty(), "nothing is kept for an address without sockets");
    }

    #[test]
    fn this_machine_is_exempt() {
        let limits = Arc::new(Limits::new(1));
        for address in ["127.0.0.1", "::1"] {
            let places: Vec<_> = (0..200).map(|_| limits.admit_anonymous(from(address))).collect();
            assert!(places.iter().all(Option::is_some));
            for _ in 0..200 {
                assert_eq!(limits.check_sign_up(from(address)), Ok(()));
                limits.begin_login(from(address), "ann").unwrap().settle(&wrong());
            }
        }
    }
}
