//! How much one address may try: failed logins, new accounts, connections without a session.
//!
//! Shared by sockets and HTTP routes, and kept in this process alone. A client on this machine is exempt; so are all
//! clients behind a proxy on this machine that is not listed as trusted, for nothing tells them apart.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use moka::sync::Cache;
use proto::claim_key::claim_key;
use proto::reason::{Failure, Reason};
use tokio::time::Instant;

use crate::address::ClientAddress;

/// Failed logins of one address and login in [`FAILED_LOGINS_WINDOW`].
const MAX_FAILED_LOGINS: u32 = 20;
/// How long failed logins count, from the first on.
const FAILED_LOGINS_WINDOW: Duration = Duration::from_secs(300);
/// Logins of one address under way at once, whoever logs in. Those that fail may go beyond [`MAX_FAILED_LOGINS`] by as
/// many.
const MAX_LOGINS_UNDER_WAY: u32 = 32;
/// Addresses, or addresses and logins, remembered at most; beyond them the least used are forgotten.
const MAX_REMEMBERED: u64 = 100_000;
/// Characters of a login that tell it from others. An existing login has 40, which may be more in the form compared.
const LOGIN_KEY_CHARS: usize = 160;
/// New accounts of one address at once, before the rate counts.
const SIGN_UP_BURST: u32 = 30;
/// Sockets without a session of one address.
const MAX_ANONYMOUS_SOCKETS: u32 = 100;
/// Connections of one address that are no sockets, or not yet.
const MAX_HTTP_CONNECTIONS: u32 = 200;

/// The counts of every address.
pub struct Limits {
    failed_logins: Cache<(IpAddr, String), Arc<AtomicU32>>,
    logins_under_way: Arc<Places>,
    /// None: no limit.
    sign_ups: Option<SignUpRate>,
    anonymous_sockets: Arc<Places>,
    http_connections: Arc<Places>,
}

impl Limits {
    /// Nothing counted yet. `user_create_per_minute` is the rate of new accounts per address, 0 for no limit.
    pub fn new(user_create_per_minute: u32) -> Self {
        Self {
            failed_logins: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(FAILED_LOGINS_WINDOW).build(),
            logins_under_way: Places::new(MAX_LOGINS_UNDER_WAY),
            sign_ups: NonZeroU32::new(user_create_per_minute).map(SignUpRate::new),
            anonymous_sockets: Places::new(MAX_ANONYMOUS_SOCKETS),
            http_connections: Places::new(MAX_HTTP_CONNECTIONS),
        }
    }

    /// Begins an attempt to log in with a password.
    ///
    /// # Errors
    /// `rate_limited` after too many failures, or while too many are under way.
    pub fn begin_login(&self, address: ClientAddress, login: &str) -> Result<LoginAttempt, Failure> {
        let place = self.logins_under_way.enter(address.ip).ok_or(Reason::RateLimited)?;
        if address.is_loopback() {
            return Ok(LoginAttempt { failures: None, _place: place });
        }
        let login: String = claim_key(login.trim()).chars().take(LOGIN_KEY_CHARS).collect();
        let failures = self.failed_logins.get_with((site(address.ip), login), Arc::default);
        if failures.load(Ordering::Relaxed) >= MAX_FAILED_LOGINS {
            return Err(Reason::RateLimited.into());
        }
        Ok(LoginAttempt { failures: Some(failures), _place: place })
    }

    /// Counts a new account, until it is settled that there is none. Who is over the limit hears that first, whatever
    /// else is wrong with the request: only the core could tell.
    ///
    /// # Errors
    /// `rate_limited` after too many.
    pub fn begin_sign_up(&self, address: ClientAddress) -> Result<SignUp, Failure> {
        let Some(rate) = self.sign_ups.as_ref().filter(|_| !address.is_loopback()) else {
            return Ok(SignUp { counted: None });
        };
        let counted = Some(rate.count(site(address.ip)).ok_or(Reason::RateLimited)?);
        Ok(SignUp { counted })
    }

    /// Counts a socket without a session, for as long as the returned value lives. `None`: too many.
    pub fn admit_anonymous(&self, address: ClientAddress) -> Option<Place> {
        self.anonymous_sockets.enter(address.ip)
    }

    /// Counts a connection that is no socket, for as long as the returned value lives. `None`: too many.
    pub fn admit_http(&self, peer: IpAddr) -> Option<Place> {
        self.http_connections.enter(peer)
    }
}

/// One attempt to log in, under way.
#[must_use = "an attempt that is not settled counts as failed"]
pub struct LoginAttempt {
    /// None: exempt, or settled.
    failures: Option<Arc<AtomicU32>>,
    _place: Place,
}

impl LoginAttempt {
    /// Counts the attempt only if it failed for a wrong login or password. One that is dropped instead counts too, or
    /// hanging up early would be a way to try for ever.
    pub fn settle<T>(mut self, outcome: &Result<T, Failure>) {
        if !matches!(outcome, Err(failure) if failure.reason == Reason::WrongCredentials) {
            self.failures = None;
        }
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        if let Some(failures) = &self.failures {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A sign-up, under way.
#[must_use = "a sign-up that is not settled counts"]
pub struct SignUp {
    /// None: exempt. Else when the address will have made up for all its accounts, and what one of them adds to it.
    counted: Option<(Arc<Mutex<Instant>>, Duration)>,
}

impl SignUp {
    /// Takes it back if the request was wrong in itself. That an account exists is worth a count: it was looked for.
    pub fn settle<T>(self, outcome: &Result<T, Failure>) {
        let Err(Failure { reason, .. }) = outcome else { return };
        if *reason != Reason::AccountExists
            && reason.status() < 500
            && let Some((free_at, interval)) = self.counted
        {
            let mut free_at = free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at -= interval;
        }
    }
}

/// New accounts per address, at an even rate after a burst.
struct SignUpRate {
    interval: Duration,
    /// When an address has made up for all its accounts, one interval for each.
    free_at: Cache<IpAddr, Arc<Mutex<Instant>>>,
}

impl SignUpRate {
    fn new(per_minute: NonZeroU32) -> Self {
        let interval = Duration::from_secs(60) / per_minute.get();
        // Who was quiet for so long has made up for everything.
        let free_at = Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(interval * SIGN_UP_BURST).build();
        Self { interval, free_at }
    }

    fn count(&self, site: IpAddr) -> Option<(Arc<Mutex<Instant>>, Duration)> {
        let now = Instant::now();
        let shared = self.free_at.get_with(site, || Arc::new(Mutex::new(now)));
        let mut free_at = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let next = now.max(*free_at) + self.interval;
        if next > now + self.interval * SIGN_UP_BURST {
            return None;
        }
        *free_at = next;
        drop(free_at);
        Some((shared, self.interval))
    }
}

/// So many places for each address.
struct Places {
    most: u32,
    taken: DashMap<IpAddr, u32>,
}

impl Places {
    fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, taken: DashMap::new() })
    }

    /// A place for a client there, if there is one.
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        if ip.to_canonical().is_loopback() {
            return Some(Place::UNLIMITED);
        }
        let site = site(ip);
        let mut taken = self.taken.entry(site).or_insert(0);
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        Some(Place { counted: Some((Arc::clone(self), site)) })
    }
}

/// One of the places of an address, free again when this is dropped.
pub struct Place {
    /// None: exempt.
    counted: Option<(Arc<Places>, IpAddr)>,
}

impl Place {
    /// The place of a client that is exempt.
    pub const UNLIMITED: Self = Self { counted: None };
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, site)) = &self.counted {
            places.taken.remove_if_mut(site, |_, taken| {
                *taken -= 1;
                *taken == 0
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

    fn limited<T>(outcome: Result<T, Failure>) -> bool {
        outcome.is_err_and(|failure| failure.reason == Reason::RateLimited)
    }

    #[test]
    fn the_twenty_first_failed_login_is_not_tried() {
        let limits = Limits::new(10);
        for _ in 0..MAX_FAILED_LOGINS {
            limits.begin_login(from("203.0.113.5"), "Ann").unwrap().settle(&wrong());
        }
        assert!(limited(limits.begin_login(from("203.0.113.5"), " ann")));
        assert!(limits.begin_login(from("203.0.113.5"), "bob").is_ok());
        assert!(limits.begin_login(from("203.0.113.6"), "ann").is_ok());
    }

    #[test]
    fn a_login_written_in_another_form_is_the_same() {
        let limits = Limits::new(10);
        for number in 0..MAX_FAILED_LOGINS {
            // As one character, as two, and as a capital.
            let login = ["\u{e9}va", "e\u{301}va", "\u{c9}VA"][number as usize % 3];
            limits.begin_login(from("203.0.113.5"), login).unwrap().settle(&wrong());
        }
        assert!(limited(limits.begin_login(from("203.0.113.5"), "E\u{301}va")));
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
    fn attempts_given_up_count() {
        let limits = Limits::new(10);
        for _ in 0..MAX_FAILED_LOGINS {
            drop(limits.begin_login(from("203.0.113.5"), "ann").unwrap());
        }
        assert!(limited(limits.begin_login(from("203.0.113.5"), "ann")));
    }

    #[test]
    fn logins_under_way_have_a_limit_of_their_own() {
        let limits = Limits::new(10);
        let begin = |ip, login: u32| limits.begin_login(from(ip), &login.to_string());
        let mut attempts: Vec<_> =
            (0..MAX_LOGINS_UNDER_WAY).map(|number| begin("203.0.113.5", number % 2).unwrap()).collect();
        assert!(limited(begin("203.0.113.5", 2)), "whoever logs in");
        assert!(begin("203.0.113.6", 0).is_ok());
        attempts.pop().unwrap().settle(&Ok(()));
        let next = begin("203.0.113.5", 0);
        assert!(next.is_ok(), "those under way are no failures");
    }

    #[tokio::test(start_paused = true)]
    async fn sign_ups_of_one_address_are_limited() {
        let limits = Limits::new(10);
        let sign_up = |ip| limits.begin_sign_up(from(ip)).map(|sign_up| sign_up.settle(&Ok(())));
        for _ in 0..SIGN_UP_BURST {
            assert_eq!(sign_up("2001:db8::1"), Ok(()));
        }
        assert!(limited(sign_up("2001:db8::1")));
        assert!(limited(sign_up("2001:db8::ffff:2")), "the same network");
        assert_eq!(sign_up("2001:db8:0:1::1"), Ok(()));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(sign_up("2001:db8::1"), Ok(()));
        assert!(limited(sign_up("2001:db8::1")), "one in six seconds");
    }

    #[test]
    fn a_sign_up_that_was_wrong_in_itself_does_not_count() {
        let limits = Limits::new(1);
        let sign_up = |reason: Reason| {
            let outcome: Result<(), Failure> = Err(reason.into());
            limits.begin_sign_up(from("203.0.113.5")).map(|sign_up| sign_up.settle(&outcome))
        };
        for _ in 0..100 {
            assert_eq!(sign_up(Reason::LoginInvalid), Ok(()));
            assert_eq!(sign_up(Reason::OrganizationUnknown), Ok(()));
        }
        for _ in 0..SIGN_UP_BURST / 2 {
            assert_eq!(sign_up(Reason::AccountExists), Ok(()));
            assert_eq!(sign_up(Reason::TemporarilyUnavailable), Ok(()));
        }
        assert!(limited(sign_up(Reason::LoginInvalid)));
    }

    #[test]
    fn no_rate_means_no_limit_of_sign_ups() {
        let limits = Limits::new(0);
        for _ in 0..1_000 {
            assert!(limits.begin_sign_up(from("203.0.113.5")).is_ok());
        }
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let limits = Limits::new(10);
        let mut places: Vec<_> =
            (0..MAX_ANONYMOUS_SOCKETS).map(|_| limits.admit_anonymous(from("203.0.113.5")).unwrap()).collect();
        assert!(limits.admit_anonymous(from("203.0.113.5")).is_none());
        assert!(limits.admit_anonymous(from("203.0.113.6")).is_some());
        places.pop();
        let place = limits.admit_anonymous(from("203.0.113.5"));
        assert!(place.is_some() && limits.admit_anonymous(from("203.0.113.5")).is_none());
        drop((places, place));
        assert!(limits.anonymous_sockets.taken.is_empty(), "nothing is kept for an address without sockets");
    }

    #[test]
    fn connections_that_are_no_sockets_are_limited() {
        let limits = Limits::new(1);
        let admit = |ip: &str| limits.admit_http(ip.parse().unwrap());
        for (ip, most) in [("203.0.113.5", MAX_HTTP_CONNECTIONS), ("::1", 1_000), ("::ffff:127.0.0.1", 1_000)] {
            let places: Vec<_> = std::iter::from_fn(|| admit(ip)).take(1_000).collect();
            assert_eq!(places.len(), most as usize, "{ip}");
        }
    }

    #[test]
    fn this_machine_is_exempt() {
        let limits = Limits::new(1);
        for address in ["127.0.0.1", "::1"] {
            let places: Vec<_> = (0..300).map(|_| limits.admit_anonymous(from(address))).collect();
            assert!(places.iter().all(Option::is_some));
            let attempts: Vec<_> = (0..300).map(|_| limits.begin_login(from(address), "ann")).collect();
            assert!(attempts.iter().all(Result::is_ok));
            drop(attempts);
            for _ in 0..200 {
                assert!(limits.begin_sign_up(from(address)).is_ok());
                limits.begin_login(from(address), "ann").unwrap().settle(&wrong());
            }
        }
    }
}
