//! Access and refresh tokens.
//!
//! An access token is a JWT, since the web client reads its own id from it; it is valid only together with a live
//! session. A refresh token is opaque: the session's id and a code over that id and the session's refresh counter.
//! Neither is stored.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto::ids::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::failure::Failure;
use super::session::Session;
use super::user::User;

/// The smallest signing key, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// Makes and checks tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    refresh_key: Hmac<Sha256>,
    /// How long an access token lives, in milliseconds.
    access_lifetime_ms: i64,
    /// How long a session lives after its last refresh, in seconds.
    refresh_lifetime_seconds: u32,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// What an access token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "_id")]
    user_id: String,
    native_id: String,
    login: String,
    #[serde(rename = "type")]
    kind: String,
    iat: i64,
    exp: i64,
    sid: String,
    org: String,
    device_id: String,
    jti: String,
}

/// The `type` of the only JWTs made here.
const ACCESS: &str = "access";

/// An access token and the end of its life.
#[derive(Clone)]
pub struct AccessToken {
    /// The JWT.
    pub token: String,
    /// When it ends: a whole second, never after its session.
    pub expires_at: Timestamp,
}

/// What a good access token names. The session it names may be over.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedAccess {
    /// Its session.
    pub session_id: SessionId,
    /// The device it was issued to.
    pub device_id: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Tokens {
    /// Tokens under this key, with lifetimes in seconds.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length, and [`MIN_KEY_BYTES`] is checked where the key is read.
    pub fn new(key: &[u8], access_lifetime_seconds: u32, refresh_lifetime_seconds: u32) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Time comes from the clock port, so the end of life is checked here.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        // A key of its own for each purpose, so that no value made for one can serve the other.
        let refresh_key = mac(key, &[b"refresh token key"]);
        Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
            refresh_key: Hmac::new_from_slice(&refresh_key).expect("HMAC takes any key"),
            access_lifetime_ms: i64::from(access_lifetime_seconds) * 1000,
            refresh_lifetime_seconds,
        }
    }

    /// When a session ends that is used now.
    pub fn session_end(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(i64::from(self.refresh_lifetime_seconds) * 1000)
    }

    /// How long a session lives after its last refresh, in seconds.
    pub fn session_seconds(&self) -> u32 {
        self.refresh_lifetime_seconds
    }

    /// A new access token of a session; `jti` is unique for ever.
    ///
    /// # Errors
    /// When signing fails, which nothing a client sends can cause.
    pub fn issue_access(
        &self,
        user: &User,
        session: &Session,
        now: Timestamp,
        jti: String,
    ) -> Result<AccessToken, Failure> {
        let exp = now.plus_millis(self.access_lifetime_ms).min(session.expires_at).millis() / 1000;
        let claims = Claims {
            user_id: user.id.to_string(),
            native_id: user.id.to_string(),
            login: user.login.clone(),
            kind: ACCESS.to_owned(),
            iat: now.millis() / 1000,
            exp,
            sid: hex::encode(session.id.as_bytes()),
            org: user.organization_id.to_string(),
            device_id: session.device_id.clone(),
            jti,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|_| Failure::Internal { what: "sign an access token" })?;
        Ok(AccessToken { token, expires_at: Timestamp::from_millis(exp * 1000) })
    }

    /// What an access token names, if its signature is ours and it has not ended.
    pub fn verify_access(&self, token: &str, now: Timestamp) -> Option<VerifiedAccess> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let mut session_id = [0; 24];
        hex::decode_to_slice(&claims.sid, &mut session_id).ok()?;
        let expires_at = Timestamp::from_millis(claims.exp.checked_mul(1000)?);
        let is_good = claims.kind == ACCESS && expires_at > now;
        is_good.then_some(VerifiedAccess {
            session_id: SessionId::try_from(&session_id[..]).ok()?,
            device_id: claims.device_id,
            expires_at,
        })
    }

    /// The refresh token of a session at its counter.
    pub fn refresh_token(&self, session_id: SessionId, counter: u64) -> String {
        let mut bytes = session_id.as_bytes().to_vec();
        bytes.extend_from_slice(&self.refresh_code(session_id, counter).finalize().into_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The session a refresh token claims to be of, and the code that has to prove it.
    pub fn read_refresh_token(token: &str) -> Option<(SessionId, RefreshCode)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (session_id, code) = bytes.split_at_checked(24)?;
        let code = code.try_into().ok()?;
        Some((SessionId::try_from(session_id).ok()?, RefreshCode(code)))
    }

    /// Whether the code is that of the session at this counter; takes the same time either way.
    pub fn is_refresh_code(&self, code: &RefreshCode, session_id: SessionId, counter: u64) -> bool {
        self.refresh_code(session_id, counter).verify_slice(&code.0).is_ok()
    }

    fn refresh_code(&self, session_id: SessionId, counter: u64) -> Hmac<Sha256> {
        let mut code = self.refresh_key.clone();
        code.update(session_id.as_bytes());
        code.update(&counter.to_be_bytes());
        code
    }
}

/// The secret half of a refresh token.
pub struct RefreshCode([u8; 32]);

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proto::ids::UserId;

    use super::*;
    use crate::domain::organization::OrganizationId;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);

    fn user_and_session() -> (User, Session) {
        let id = UserId::from_bytes([7; 12]);
        let user = User {
            id,
            organization_id: OrganizationId::default(),
            login: "ann".to_owned(),
            email: None,
            phone: None,
            first_name: None,
            last_name: None,
            recent_activity: 0,
            updated_at: NOW,
        };
        let session = Session {
            id: SessionId::new(id, [9; 12]),
            organization_id: OrganizationId::default(),
            device_id: "pc-1".to_owned(),
            refresh_counter: 0,
            rotated_at: NOW,
            expires_at: NOW.plus_millis(1_209_600_000),
        };
        (user, session)
    }

    fn tokens() -> Tokens {
        Tokens::new(&[1; 32], 10_800, 1_209_600)
    }

    #[test]
    fn an_access_token_names_its_session_until_it_ends() {
        let (user, session) = user_and_session();
        let access = tokens().issue_access(&user, &session, NOW, "1".to_owned()).unwrap();
        let verified = tokens().verify_access(&access.token, NOW).unwrap();
        assert_eq!(verified.session_id, session.id);
        assert_eq!(verified.device_id, "pc-1");
        assert_eq!(tokens().verify_access(&access.token, access.expires_at), None);
    }

    #[test]
    fn an_access_token_never_outlives_its_session() {
        let (user, mut session) = user_and_session();
        session.expires_at = NOW.plus_millis(5_000);
        let access = tokens().issue_access(&user, &session, NOW, "1".to_owned()).unwrap();
        assert!(access.expires_at <= session.expires_at);
    }

    #[test]
    fn foreign_and_altered_access_tokens_name_nothing() {
        let (user, session) = user_and_session();
        let foreign = Tokens::new(&[2; 32], 10_800, 1_209_600);
        let access = foreign.issue_access(&user, &session, NOW, "1".to_owned()).unwrap();
        assert_eq!(tokens().verify_access(&access.token, NOW), None);
        let unsigned = "eyJhbGciOiJub25lIn0.eyJfaWQiOiIwNyJ9.";
        for token in ["", "x", "a.b.c", unsigned] {
            assert_eq!(tokens().verify_access(token, NOW), None, "{token:?}");
        }
    }

    #[test]
    fn a_refresh_token_fits_its_session_and_counter_alone() {
        let (_, session) = user_and_session();
        let token = tokens().refresh_token(session.id, 3);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        let (id, code) = Tokens::read_refresh_token(&token).unwrap();
        assert_eq!(id, session.id);
        assert!(tokens().is_refresh_code(&code, id, 3));
        assert!(!tokens().is_refresh_code(&code, id, 4));
        assert!(!Tokens::new(&[2; 32], 1, 1).is_refresh_code(&code, id, 3));
        assert!(Tokens::read_refresh_token("AAAA").is_none());
    }
}
