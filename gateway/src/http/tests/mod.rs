//! Requests as HTTP clients send them, against a core that notes what it is asked and answers as told.

mod app;
mod common;
mod login;

use std::convert::Infallible;
use std::sync::Mutex;

use axum::body::Body;
use clap::Parser;
use http::{Request, Response};
use http_body_util::BodyExt;
use proto::reason::Failure;
use proto::v1;
use proto::v1::identity_server::{Identity, IdentityServer};
use serde_json::{Value, json};
use tonic::Status;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::*;
use crate::address::ClientAddress;

const PASSWORD: &str = "s3cret";
const REFRESH: &str = "refresh-1";
const ACCESS: &str = "access-1";
const ADMIN_KEY: &str = "key";

/// The asked requests, and the rules of a core in miniature.
#[derive(Default)]
struct FakeCore {
    asked: Mutex<Vec<String>>,
}

impl FakeCore {
    fn note(&self, request: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{request:?}"));
    }
}

fn refuse<T>(reason: Reason) -> Result<tonic::Response<T>, Status> {
    Err(Failure::from(reason).into())
}

fn user() -> Option<v1::User> {
    Some(v1::User { id: vec![1; 12].into(), login: "ann".to_owned(), ..Default::default() })
}

#[tonic::async_trait]
impl Identity for FakeCore {
    async fn check_admin_key(
        &self,
        request: tonic::Request<v1::CheckAdminKeyRequest>,
    ) -> Result<tonic::Response<v1::CheckAdminKeyResponse>, Status> {
        if request.into_inner().admin_key != ADMIN_KEY {
            return refuse(Reason::AdminKeyRejected);
        }
        Ok(v1::CheckAdminKeyResponse {}.into())
    }

    async fn create_organization(
        &self,
        request: tonic::Request<v1::CreateOrganizationRequest>,
    ) -> Result<tonic::Response<v1::CreateOrganizationResponse>, Status> {
        let request = request.into_inner();
        let Some(name) = request.name else { return Err(Failure::validation("name").into()) };
        if name == "taken" {
            return refuse(Reason::OrganizationExists);
        }
        let id = request.id.unwrap_or_else(|| "made".to_owned());
        Ok(v1::CreateOrganizationResponse { id, name, created_at_ms: 1_705_000_000_870 }.into())
    }

    async fn log_in(
        &self,
        request: tonic::Request<v1::LogInRequest>,
    ) -> Result<tonic::Response<v1::LogInResponse>, Status> {
        let request = request.into_inner();
        self.note(&request);
        if request.password != PASSWORD {
            return refuse(Reason::WrongCredentials);
        }
        Ok(v1::LogInResponse {
            user: user(),
            session_id: vec![1; 24].into(),
            access_token: ACCESS.to_owned(),
            access_token_expires_at_ms: 1_767_225_600_000,
            refresh_token: REFRESH.to_owned(),
            refresh_token_expires_in_s: 1_209_600,
        }
        .into())
    }

    async fn renew_session(
        &self,
        request: tonic::Request<v1::RenewSessionRequest>,
    ) -> Result<tonic::Response<v1::RenewSessionResponse>, Status> {
        let request = request.into_inner();
        self.note(&request);
        let by_cookie = request.refresh_token.as_deref() == Some(REFRESH);
        let by_bearer = request.access_token.as_deref() == Some(ACCESS);
        if !by_cookie && !by_bearer {
            let nothing = request.refresh_token.is_none() && request.access_token.is_none();
            return refuse(if nothing { Reason::CredentialsMissing } else { Reason::SessionTokenExpired });
        }
        Ok(v1::RenewSessionResponse {
            user: user(),
            access_token: "access-2".to_owned(),
            access_token_expires_at_ms: 1_767_225_600_000,
            refresh_token: by_cookie.then(|| "refresh-2".to_owned()),
            refresh_token_expires_in_s: if by_cookie { 600 } else { 0 },
        }
        .into())
    }

    async fn log_out(
        &self,
        request: tonic::Request<v1::LogOutRequest>,
    ) -> Result<tonic::Response<v1::LogOutResponse>, Status> {
        let request = request.into_inner();
        self.note(&request);
        let Some(v1::log_out_request::Credential::Tokens(tokens)) = request.credential else {
            return refuse(Reason::InternalError);
        };
        if tokens.access_token.as_deref() != Some(ACCESS) && tokens.refresh_token.as_deref() != Some(REFRESH) {
            return refuse(Reason::CredentialsMissing);
        }
        Ok(v1::LogOutResponse {}.into())
    }

    async fn create_user(
        &self,
        _: tonic::Request<v1::CreateUserRequest>,
    ) -> Result<tonic::Response<v1::CreateUserResponse>, Status> {
        refuse(Reason::InternalError)
    }

    async fn verify_access(
        &self,
        _: tonic::Request<v1::VerifyAccessRequest>,
    ) -> Result<tonic::Response<v1::VerifyAccessResponse>, Status> {
        refuse(Reason::InternalError)
    }

    async fn search_users(
        &self,
        _: tonic::Request<v1::SearchUsersRequest>,
    ) -> Result<tonic::Response<v1::SearchUsersResponse>, Status> {
        refuse(Reason::InternalError)
    }

    async fn get_users(
        &self,
        _: tonic::Request<v1::GetUsersRequest>,
    ) -> Result<tonic::Response<v1::GetUsersResponse>, Status> {
        refuse(Reason::InternalError)
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    gateway: GatewayConfig,
}

/// The routes, and the core behind them.
struct Routes {
    router: Router,
    core: Arc<FakeCore>,
    client: ClientAddress,
}

impl Routes {
    fn new() -> Self {
        Self::with_options(&[])
    }

    fn with_options(options: &[&str]) -> Self {
        let core = Arc::new(FakeCore::default());
        let service = IdentityServer::from_arc(Arc::clone(&core));
        let service =
            ServiceExt::<http::Request<tonic::body::Body>>::map_err(service, |never: Infallible| match never {});
        let config = Cli::parse_from([&["gateway"], options].concat()).gateway;
        let state = HttpState {
            core: CoreClient::new(BoxCloneSyncService::new(service)),
            limits: Arc::new(Limits::new(config.user_create_per_minute)),
            config: Arc::new(config),
        };
        let client = ClientAddress { ip: "203.0.113.5".parse().unwrap(), is_https: false };
        Self { router: router(state), core, client }
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Answer {
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(self.client);
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn log_in(&self, headers: &[(&str, &str)], body: Value) -> Answer {
        let mut request = post("/login").header("content-type", "application/json; charset=utf-8");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, body.to_string()).await
    }

    fn asked(&self) -> usize {
        self.core.asked.lock().unwrap().len()
    }
}

fn post(path: &str) -> http::request::Builder {
    Request::post(path)
}

struct Answer {
    parts: http::response::Parts,
    body: String,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Self { parts, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.parts.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(values.next().is_none(), "{name} appears once");
        Some(value)
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }

    /// Asserts a failure in the form that clients show to people.
    fn assert_failure(&self, status: u16, code: &str) {
        assert_eq!((self.parts.status.as_u16(), self.header("x-error-code")), (status, Some(code)), "{}", self.body);
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(self.body.ends_with('.') && !self.body.starts_with('{'), "{}", self.body);
        assert_eq!(self.body.contains("expired"), code == "session_token_expired");
    }
}

fn password_body() -> Value {
    json!({ "login": "ann", "password": PASSWORD, "device_id": 42, "organization_id": "default" })
}
