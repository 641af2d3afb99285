//! Ways in and out: logins, renewals, and which session a request acts through.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use proto::ids::{SessionId, Timestamp, UserId};
use proto::reason::Reason;

use super::accounts::organization_or_default;
use super::clock::Stamps;
use super::event::{Event, Fact, Step, Subject};
use super::failure::Failure;
use super::limits::{self, has_length};
use super::password::Passwords;
use super::session::{Attempt, Session};
use super::tokens::{AccessToken, Tokens};
use super::user::User;
use crate::store::Store;

/// A decision may rest on a copy of a session of at most this age, so a revoked one stops acting that soon.
const SESSION_COPY_AGE: Duration = Duration::from_secs(2);

/// Copies of sessions kept at most.
const SESSION_COPIES: u64 = 100_000;

/// For so long after a rotation the refresh token before it is accepted too, in milliseconds: two tabs refresh at
/// once, and their replies may arrive in any order.
const PREVIOUS_REFRESH_TOKEN_MS: i64 = 60_000;

/// The use cases around sessions.
#[derive(Clone)]
pub struct Logins {
    store: Arc<dyn Store>,
    stamps: Arc<Stamps>,
    passwords: Arc<Passwords>,
    tokens: Arc<Tokens>,
    copies: Cache<SessionId, Option<Session>>,
}

/// A good login, or a renewal.
pub struct LoggedIn {
    /// Who it is.
    pub user: User,
    /// The session it goes on in.
    pub session_id: SessionId,
    /// A new access token.
    pub access: AccessToken,
    /// A refresh token, after a password login or a refresh with one.
    pub refresh_token: Option<RefreshToken>,
}

/// A refresh token and how long it lives.
pub struct RefreshToken {
    /// Opaque.
    pub token: String,
    /// A session's life after a refresh, in seconds.
    pub expires_in_seconds: u32,
}

/// A good access token of a live session.
pub struct VerifiedSession {
    /// Whose it is.
    pub user: User,
    /// The session.
    pub session: Session,
    /// When the token ends; the session lives on.
    pub access_expires_at: Timestamp,
}

impl Logins {
    /// The use cases over this store.
    pub fn new(store: Arc<dyn Store>, stamps: Arc<Stamps>, passwords: Arc<Passwords>, tokens: Arc<Tokens>) -> Self {
        let copies = Cache::builder().max_capacity(SESSION_COPIES).time_to_live(SESSION_COPY_AGE).build();
        Self { store, stamps, passwords, tokens, copies }
    }

    /// Begins a session on a device.
    ///
    /// # Errors
    /// `device_id_missing`, `wrong_credentials` (also for an unknown organization), `temporarily_unavailable`
    pub async fn log_in(
        &self,
        organization_id: Option<String>,
        login: &str,
        password: String,
        device_id: Option<String>,
    ) -> Result<LoggedIn, Failure> {
        let device_id = check_device_id(device_id)?;
        let credentials = match organization_or_default(organization_id) {
            Some(organization_id) => self.store.lookup_credentials(&organization_id, login.trim()).await?,
            None => None,
        };
        let hash = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
        let is_right = self.passwords.verify_for_log_in(password, hash).await?;
        let Some(credentials) = credentials.filter(|_| is_right) else {
            return Err(Reason::WrongCredentials.into());
        };

        let user = credentials.user;
        let now = self.stamps.now();
        let session = Session {
            id: new_session_id(&user),
            organization_id: user.organization_id.clone(),
            device_id,
            refresh_counter: 0,
            rotated_at: now,
            expires_at: self.tokens.session_end(now),
        };
        self.store.create_session(&session, now).await?;
        self.end_surplus_sessions(&session).await?;
        let access = self.issue_access(&user, &session, now)?;
        let refresh_token = Some(self.issue_refresh(&session));
        Ok(LoggedIn { user, session_id: session.id, access, refresh_token })
    }

    /// A new access token for a refresh token of this device, which is rotated, else for an access token of it.
    ///
    /// # Errors
    /// `device_id_missing`, `session_token_expired`, `credentials_missing` when there is neither token
    pub async fn renew(
        &self,
        device_id: Option<String>,
        refresh_token: Option<&str>,
        access_token: Option<&str>,
    ) -> Result<LoggedIn, Failure> {
        let device_id = check_device_id(device_id)?;
        if refresh_token.is_none() && access_token.is_none() {
            return Err(Reason::CredentialsMissing.into());
        }
        if let Some(token) = refresh_token
            && let Some(logged_in) = self.refresh(&device_id, token).await?
        {
            return Ok(logged_in);
        }
        let Some(token) = access_token else {
            return Err(Reason::SessionTokenExpired.into());
        };
        let verified = self.verify_access(token, Some(device_id)).await?;
        let access = self.issue_access(&verified.user, &verified.session, self.stamps.now())?;
        Ok(LoggedIn { user: verified.user, session_id: verified.session.id, access, refresh_token: None })
    }

    /// The session of a good access token. Without a device id the token's own device is taken.
    ///
    /// # Errors
    /// `device_id_missing` for an empty one, `session_token_expired` for everything else
    pub async fn verify_access(&self, token: &str, device_id: Option<String>) -> Result<VerifiedSession, Failure> {
        let device_id = device_id.map(|device_id| check_device_id(Some(device_id))).transpose()?;
        let now = self.stamps.now();
        let Some(access) = self.tokens.verify_access(token, now) else {
            return Err(Reason::SessionTokenExpired.into());
        };
        let session = self.live_session(access.session_id, now).await?;
        let Some(session) = session.filter(|session| device_id.is_none_or(|id| id == session.device_id)) else {
            return Err(Reason::SessionTokenExpired.into());
        };
        let Some(user) = self.store.lookup_user(session.user_id()).await? else {
            return Err(Reason::SessionTokenExpired.into());
        };
        Ok(VerifiedSession { user, session, access_expires_at: access.expires_at })
    }

    /// The session a bound socket acts through, from a copy at most two seconds old.
    ///
    /// A bound socket is not cut when its access token ends, nor when the session runs out; only revocation ends it.
    ///
    /// # Errors
    /// `not_authenticated` when it was revoked
    pub async fn authorize(&self, session_id: SessionId) -> Result<Session, Failure> {
        let session = self
            .copies
            .try_get_with(session_id, self.store.lookup_session(session_id))
            .await
            .map_err(|error| Failure::Store((*error).clone()))?;
        session.ok_or_else(|| Reason::NotAuthenticated.into())
    }

    /// Ends every session of the session's device; the sockets bound to them are unbound and stay open.
    ///
    /// # Errors
    /// `not_authenticated` when the session is over already
    pub async fn log_out(&self, session_id: SessionId, attempt: Attempt) -> Result<(), Failure> {
        let Some(session) = self.store.lookup_session(session_id).await? else {
            return Err(Reason::NotAuthenticated.into());
        };
        let sessions = self.store.list_sessions(session.user_id(), &session.device_id).await?;
        self.revoke(session.user_id(), sessions.iter().map(|session| session.id).collect(), attempt).await
    }

    /// Ends the oldest sessions of this one's device, if it has too many.
    async fn end_surplus_sessions(&self, newest: &Session) -> Result<(), Failure> {
        let sessions = self.store.list_sessions(newest.user_id(), &newest.device_id).await?;
        let surplus = sessions.len().saturating_sub(limits::SESSIONS_PER_DEVICE);
        if surplus == 0 {
            return Ok(());
        }
        let oldest = sessions[..surplus].iter().map(|session| session.id).collect();
        self.revoke(newest.user_id(), oldest, self.stamps.new_attempt()).await
    }

    async fn revoke(&self, user_id: UserId, session_ids: Vec<SessionId>, attempt: Attempt) -> Result<(), Failure> {
        let event = Event {
            id: self.stamps.new_id().into(),
            subject: Subject::User(user_id),
            attempt,
            steps: vec![Step::new(vec![user_id], Fact::SessionsRevoked { session_ids: session_ids.clone() })],
        };
        self.store.revoke_sessions(&session_ids, event).await?;
        for id in session_ids {
            self.copies.invalidate(&id).await;
        }
        Ok(())
    }

    /// The same for whichever session a good access or refresh token names.
    ///
    /// # Errors
    /// `credentials_missing` when neither is good
    pub async fn log_out_with_tokens(
        &self,
        access_token: Option<&str>,
        refresh_token: Option<&str>,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let now = self.stamps.now();
        if let Some(access) = access_token.and_then(|token| self.tokens.verify_access(token, now))
            && self.live_session(access.session_id, now).await?.is_some()
        {
            return self.log_out(access.session_id, attempt).await;
        }
        if let Some(token) = refresh_token
            && let Some(session) = self.session_of_refresh_token(token, now).await?
        {
            return self.log_out(session.id, attempt).await;
        }
        Err(Reason::CredentialsMissing.into())
    }

    /// Renews with a refresh token; `None` when it is not a good one of this device.
    async fn refresh(&self, device_id: &str, token: &str) -> Result<Option<LoggedIn>, Failure> {
        // A rotation that loses against another one meets its result on the second round.
        for _ in 0..2 {
            let now = self.stamps.now();
            let session = self.session_of_refresh_token(token, now).await?;
            let Some(mut session) = session.filter(|session| session.device_id == device_id) else {
                return Ok(None);
            };
            let Some(user) = self.store.lookup_user(session.user_id()).await? else {
                return Ok(None);
            };
            let counter = session.refresh_counter;
            if self.is_code_at(token, &session, counter) {
                session.refresh_counter += 1;
                session.rotated_at = now;
                session.expires_at = self.tokens.session_end(now);
                if !self.store.rotate_session(&session, counter).await? {
                    continue;
                }
            }
            let access = self.issue_access(&user, &session, now)?;
            let refresh_token = Some(self.issue_refresh(&session));
            return Ok(Some(LoggedIn { user, session_id: session.id, access, refresh_token }));
        }
        Err(Reason::TemporarilyUnavailable.into())
    }

    /// The live session that a refresh token proves: the current one, or for a minute the one before it.
    async fn session_of_refresh_token(&self, token: &str, now: Timestamp) -> Result<Option<Session>, Failure> {
        let Some((session_id, _)) = Tokens::read_refresh_token(token) else {
            return Ok(None);
        };
        let session = self.live_session(session_id, now).await?;
        Ok(session.filter(|session| {
            let counter = session.refresh_counter;
            let takes_previous = counter > 0 && now < session.rotated_at.plus_millis(PREVIOUS_REFRESH_TOKEN_MS);
            self.is_code_at(token, session, counter) || (takes_previous && self.is_code_at(token, session, counter - 1))
        }))
    }

    fn is_code_at(&self, token: &str, session: &Session, counter: u64) -> bool {
        Tokens::read_refresh_token(token)
            .is_some_and(|(_, code)| self.tokens.is_refresh_code(&code, session.id, counter))
    }

    async fn live_session(&self, id: SessionId, now: Timestamp) -> Result<Option<Session>, Failure> {
        let session = self.store.lookup_session(id).await?;
        Ok(session.filter(|session| session.expires_at > now))
    }

    fn issue_refresh(&self, session: &Session) -> RefreshToken {
        RefreshToken {
            token: self.tokens.refresh_token(session.id, session.refresh_counter),
            expires_in_seconds: self.tokens.session_seconds(),
        }
    }

    fn issue_access(&self, user: &User, session: &Session, now: Timestamp) -> Result<AccessToken, Failure> {
        let jti = proto::ids::EventId::from(self.stamps.new_id_at(now)).to_string();
        self.tokens.issue_access(user, session, now, jti)
    }
}

fn check_device_id(device_id: Option<String>) -> Result<String, Failure> {
    device_id
        .filter(|device_id| has_length(device_id, &limits::NAME))
        .ok_or_else(|| Failure::of_field(Reason::DeviceIdMissing, "device_id"))
}

#[expect(clippy::disallowed_methods, reason = "a session's id is half of a secret: it must not be foreseen")]
fn new_session_id(user: &User) -> SessionId {
    SessionId::new(user.id, rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::accounts::{Accounts, SignUp};
    use crate::domain::testing::TestCore;

    const DEVICE: &str = "pc-1";

    async fn logins(core: &TestCore) -> Logins {
        let passwords = Arc::new(Passwords::new(1).unwrap());
        let tokens = Arc::new(Tokens::new(&[1; 32], 10_800, 1_209_600));
        let accounts = Accounts::new(Arc::clone(&core.store), Arc::clone(&core.stamps), Arc::clone(&passwords), "", 30);
        let sign_up =
            SignUp { login: Some(" Ann ".to_owned()), password: Some("s3cret".to_owned()), ..SignUp::default() };
        accounts.sign_up(sign_up).await.unwrap();
        Logins::new(Arc::clone(&core.store), Arc::clone(&core.stamps), passwords, tokens)
    }

    async fn log_in(logins: &Logins) -> (SessionId, String, String) {
        let logged_in = logins
            .log_in(None, "ANN", "s3cret".to_owned(), Some(DEVICE.to_owned()))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        (logged_in.session_id, logged_in.refresh_token.unwrap().token, logged_in.access.token)
    }

    async fn refresh(logins: &Logins, device: &str, token: &str) -> Result<String, Reason> {
        match logins.renew(Some(device.to_owned()), Some(token), None).await {
            Ok(logged_in) => Ok(logged_in.refresh_token.unwrap().token),
            Err(Failure::Refused(refused)) => Err(refused.reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_refresh_token_is_good_once_and_for_a_minute_more() {
        let core = TestCore::start().await;
        let logins = logins(&core).await;
        let (_, first, _) = log_in(&logins).await;
        assert_eq!(refresh(&logins, "another device", &first).await, Err(Reason::SessionTokenExpired));
        let second = refresh(&logins, DEVICE, &first).await.unwrap();
        assert_ne!(second, first);
        core.clock.advance(59_000);
        assert_eq!(refresh(&logins, DEVICE, &first).await.unwrap(), second, "the current one, without a rotation");
        core.clock.advance(1_000);
        assert_eq!(refresh(&logins, DEVICE, &first).await, Err(Reason::SessionTokenExpired));
        assert!(refresh(&logins, DEVICE, &second).await.is_ok());
        core.clock.advance(1_209_600_000);
        assert_eq!(refresh(&logins, DEVICE, &second).await, Err(Reason::SessionTokenExpired));
    }

    #[tokio::test]
    async fn two_refreshes_at_once_both_get_the_current_token() {
        let core = TestCore::start().await;
        let logins = logins(&core).await;
        let (_, first, _) = log_in(&logins).await;
        let (a, b) = tokio::join!(refresh(&logins, DEVICE, &first), refresh(&logins, DEVICE, &first));
        assert_eq!(a.unwrap(), b.unwrap());
    }

    #[tokio::test]
    async fn logging_out_ends_every_session_of_the_device_at_once() {
        let core = TestCore::start().await;
        let logins = logins(&core).await;
        let (first, refresh_token, access_token) = log_in(&logins).await;
        let (second, ..) = log_in(&logins).await;
        logins.authorize(second).await.unwrap();
        let attempt = Attempt { connection_id: core.new_connection(), frame: 1 };
        logins.log_out(first, attempt).await.unwrap();
        for session in [first, second] {
            assert!(logins.authorize(session).await.is_err());
        }
        assert_eq!(refresh(&logins, DEVICE, &refresh_token).await, Err(Reason::SessionTokenExpired));
        assert!(logins.verify_access(&access_token, None).await.is_err());
    }

    #[tokio::test]
    async fn the_eleventh_session_of_a_device_ends_the_oldest_and_tells_so() {
        let core = TestCore::start().await;
        let logins = logins(&core).await;
        let mut sessions = Vec::new();
        for _ in 0..11 {
            assert_eq!(core.journal.newest(), 0);
            sessions.push(log_in(&logins).await.0);
        }
        assert!(logins.authorize(sessions[0]).await.is_err());
        assert!(logins.authorize(sessions[1]).await.is_ok());
        let [(_, event)] = &core.journal.read_above(0, 10).await.unwrap()[..] else { panic!("one event") };
        let event = <proto::v1::Event as prost::Message>::decode(event.clone()).unwrap();
        let revoked = proto::v1::SessionsRevoked { session_ids: vec![sessions[0].to_field()] };
        assert_eq!(event.steps[0].fact, Some(proto::v1::step::Fact::SessionsRevoked(revoked)));
    }
}
