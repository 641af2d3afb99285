//! The refresh cookie: the only place a refresh token travels in.

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};
use proto::reason::{Failure, Reason};

use crate::address::ClientAddress;
use crate::config::{CookieSameSite, CookieSecure, GatewayConfig};

const NAME: &str = "refresh_token";

/// The refresh token that the client sent, if any.
pub(super) fn refresh_token(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let cookie = lines.flat_map(Cookie::split_parse).flatten().find(|cookie| cookie.name() == NAME)?;
    Some(cookie.value().to_owned()).filter(|token| !token.is_empty())
}

/// How this client's cookie is set.
pub(super) struct CookieAttributes {
    secure: bool,
    same_site: SameSite,
}

impl CookieAttributes {
    pub(super) fn new(config: &GatewayConfig, address: ClientAddress, headers: &HeaderMap) -> Self {
        Self {
            secure: match config.gateway_cookie_secure {
                CookieSecure::Auto => address.is_https || is_localhost(headers),
                CookieSecure::Always => true,
                CookieSecure::Never => false,
            },
            same_site: match config.gateway_cookie_same_site {
                CookieSameSite::Lax => SameSite::Lax,
                CookieSameSite::Strict => SameSite::Strict,
                CookieSameSite::None => SameSite::None,
            },
        }
    }

    /// `Set-Cookie` for this token, which can be used for so many seconds. Without `Expires`: one client splits the
    /// header at commas.
    pub(super) fn set(&self, refresh_token: &str, max_age_s: i64) -> Result<HeaderValue, Failure> {
        let cookie = Cookie::build((NAME, refresh_token))
            .max_age(Duration::seconds(max_age_s))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(self.same_site);
        HeaderValue::try_from(cookie.to_string()).map_err(|_| Reason::InternalError.into())
    }

    /// `Set-Cookie` that makes the client forget its token.
    pub(super) fn clear(&self) -> Result<HeaderValue, Failure> {
        self.set("", 0)
    }
}

/// Whether the client knows this server as `localhost`, where browsers take secure cookies without HTTPS.
fn is_localhost(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
}
