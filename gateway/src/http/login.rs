//! `POST /login` and `POST /logout`: device sessions, without a socket.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use proto::reason::{Failure, Reason};
use proto::v1;
use serde::Serialize;

use super::cookie::{CookieAttributes, refresh_token};
use super::reply::{HttpFailure, json};
use super::{HttpState, body};
use crate::address::ClientAddress;
use crate::packet::client::fields::Fields;
use crate::packet::client::{NoFields, Payload};
use crate::packet::server::UserObject;

struct LoginBody {
    device_id: String,
    login: Option<String>,
    password: Option<String>,
    organization_id: Option<String>,
}

impl Payload for LoginBody {
    const FIELDS: &'static [&'static str] = &["device_id", "login", "password", "organization_id"];

    // The device comes first: without it nothing else is looked at.
    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        let device_id = fields.device_id("device_id")?;
        Ok(Self {
            device_id: device_id.ok_or_else(|| Failure::of_field(Reason::DeviceIdMissing, "device_id"))?,
            login: fields.text("login")?.filter(|login| !login.is_empty()),
            password: fields.text("password")?.filter(|password| !password.is_empty()),
            organization_id: fields.text("organization_id")?,
        })
    }
}

/// What a login or a renewal gives out.
struct Issued {
    user: Option<v1::User>,
    access_token: String,
    expires_at_ms: i64,
    /// With the seconds for which it can be used.
    refresh_token: Option<(String, i64)>,
}

/// Logs in with a password, else renews the session of the cookie, else that of the access token.
pub(super) async fn log_in(
    State(state): State<HttpState>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpFailure> {
    let LoginBody { device_id, login, password, organization_id } = body::read_optional(&headers, body).await?;
    let issued = match (login, password) {
        (Some(login), Some(password)) => {
            let request = v1::LogInRequest { organization_id, login, password, device_id: Some(device_id) };
            log_in_with_password(&state, address, request).await?
        }
        _ => {
            let request = v1::RenewSessionRequest {
                device_id: Some(device_id),
                refresh_token: refresh_token(&headers),
                access_token: bearer_token(&headers),
            };
            renew(&state, request).await?
        }
    };

    #[derive(Serialize)]
    struct LoggedIn<'a> {
        user: UserObject<'a>,
        access_token: &'a str,
        expired_at: i64,
    }
    let user = issued.user.as_ref().ok_or(Reason::InternalError)?;
    let logged_in =
        LoggedIn { user: user.into(), access_token: &issued.access_token, expired_at: issued.expires_at_ms };
    let mut response = json(StatusCode::OK, &logged_in);
    if let Some((token, max_age_s)) = &issued.refresh_token {
        let cookie = CookieAttributes::new(&state.config, address, &headers).set(token, *max_age_s)?;
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn log_in_with_password(
    state: &HttpState,
    address: ClientAddress,
    request: v1::LogInRequest,
) -> Result<Issued, Failure> {
    let attempt = state.limits.begin_login(address, &request.login)?;
    let outcome = state.core.log_in(request).await;
    attempt.settle(&outcome);
    let session = outcome?;
    Ok(Issued {
        user: session.user,
        access_token: session.access_token,
        expires_at_ms: session.access_token_expires_at_ms,
        refresh_token: Some((session.refresh_token, session.refresh_token_expires_in_s)),
    })
}

async fn renew(state: &HttpState, request: v1::RenewSessionRequest) -> Result<Issued, Failure> {
    let session = state.core.renew_session(request).await?;
    let max_age_s = session.refresh_token_expires_in_s;
    Ok(Issued {
        user: session.user,
        access_token: session.access_token,
        expires_at_ms: session.access_token_expires_at_ms,
        refresh_token: session.refresh_token.map(|token| (token, max_age_s)),
    })
}

/// Ends the sessions of the device that the access token or the cookie belongs to.
pub(super) async fn log_out(
    State(state): State<HttpState>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpFailure> {
    let NoFields = body::read_optional(&headers, body).await?;
    let tokens =
        v1::log_out_request::Tokens { access_token: bearer_token(&headers), refresh_token: refresh_token(&headers) };
    let credential = v1::log_out_request::Credential::Tokens(tokens);
    state.core.log_out(v1::LogOutRequest { credential: Some(credential) }).await?;

    #[derive(Serialize)]
    struct LoggedOut {
        success: bool,
    }
    let mut response = json(StatusCode::OK, &LoggedOut { success: true });
    let cookie = CookieAttributes::new(&state.config, address, &headers).clear()?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// The access token that the client sent, if any.
fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}
