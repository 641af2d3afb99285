//! Organizations, users, sessions.

use proto::ids::Timestamp;
use proto::v1;
use proto::v1::identity_server::Identity;
use proto::v1::log_out_request::Credential;
use tonic::{Request, Response, Status};

use super::actor::{self, Actors};
use super::role::Role;
use crate::domain::accounts::{Accounts, SearchUsers, SignUp};
use crate::domain::login::{LoggedIn, Logins, RefreshToken};

/// The `Identity` service.
#[derive(Clone)]
pub struct IdentityService {
    actors: Actors,
    accounts: Accounts,
    logins: Logins,
}

impl IdentityService {
    /// The service over these use cases.
    pub fn new(actors: Actors, accounts: Accounts, logins: Logins) -> Self {
        Self { actors, accounts, logins }
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn check_admin_key(
        &self,
        request: Request<v1::CheckAdminKeyRequest>,
    ) -> Result<Response<v1::CheckAdminKeyResponse>, Status> {
        self.accounts.check_admin_key(&request.get_ref().admin_key)?;
        Ok(Response::new(v1::CheckAdminKeyResponse {}))
    }

    async fn create_organization(
        &self,
        request: Request<v1::CreateOrganizationRequest>,
    ) -> Result<Response<v1::CreateOrganizationResponse>, Status> {
        let request = request.into_inner();
        self.accounts.check_admin_key(&request.admin_key)?;
        let organization = self.accounts.create_organization(request.name, request.id).await?;
        Ok(Response::new(v1::CreateOrganizationResponse {
            id: organization.id.to_string(),
            name: organization.name,
            created_at_ms: organization.created_at.millis(),
        }))
    }

    async fn create_user(
        &self,
        request: Request<v1::CreateUserRequest>,
    ) -> Result<Response<v1::CreateUserResponse>, Status> {
        let v1::CreateUserRequest { organization_id, login, password, email, phone, first_name, last_name } =
            request.into_inner();
        let sign_up = SignUp { organization_id, login, password, email, phone, first_name, last_name };
        let user = self.accounts.sign_up(sign_up).await?;
        Ok(Response::new(v1::CreateUserResponse { user: Some(user.into()) }))
    }

    async fn log_in(&self, request: Request<v1::LogInRequest>) -> Result<Response<v1::LogInResponse>, Status> {
        let v1::LogInRequest { organization_id, login, password, device_id } = request.into_inner();
        let LoggedIn { user, session_id, access, refresh_token } =
            self.logins.log_in(organization_id, &login, password, device_id).await?;
        let (refresh_token, refresh_token_expires_in_s) = parts(refresh_token);
        Ok(Response::new(v1::LogInResponse {
            user: Some(user.into()),
            session_id: session_id.to_field(),
            access_token: access.token,
            access_token_expires_at_ms: access.expires_at.millis(),
            refresh_token: refresh_token.unwrap_or_default(),
            refresh_token_expires_in_s,
        }))
    }

    async fn renew_session(
        &self,
        request: Request<v1::RenewSessionRequest>,
    ) -> Result<Response<v1::RenewSessionResponse>, Status> {
        let v1::RenewSessionRequest { device_id, refresh_token, access_token } = request.into_inner();
        let LoggedIn { user, access, refresh_token, .. } =
            self.logins.renew(device_id, refresh_token.as_deref(), access_token.as_deref()).await?;
        let (refresh_token, refresh_token_expires_in_s) = parts(refresh_token);
        Ok(Response::new(v1::RenewSessionResponse {
            user: Some(user.into()),
            access_token: access.token,
            access_token_expires_at_ms: access.expires_at.millis(),
            refresh_token,
            refresh_token_expires_in_s,
        }))
    }

    async fn verify_access(
        &self,
        request: Request<v1::VerifyAccessRequest>,
    ) -> Result<Response<v1::VerifyAccessResponse>, Status> {
        let v1::VerifyAccessRequest { access_token, device_id } = request.into_inner();
        let verified = self.logins.verify_access(&access_token, device_id).await?;
        Ok(Response::new(v1::VerifyAccessResponse {
            user: Some(verified.user.into()),
            session_id: verified.session.id.to_field(),
            access_token_expires_at_ms: verified.access_expires_at.millis(),
            device_id: verified.session.device_id,
        }))
    }

    async fn log_out(&self, request: Request<v1::LogOutRequest>) -> Result<Response<v1::LogOutResponse>, Status> {
        if Role::of(request.extensions())? != Role::Gateway {
            return Err(Status::permission_denied("only a gateway logs out"));
        }
        match request.into_inner().credential {
            Some(Credential::Caller(caller)) => {
                let Some(v1::caller::Actor::Session(session)) = caller.actor else {
                    return Err(Status::invalid_argument("caller.session is missing"));
                };
                let attempt = self.actors.attempt(caller.attempt)?;
                self.logins.log_out(actor::session_id(&session.session_id)?, attempt).await?;
            }
            Some(Credential::Tokens(v1::log_out_request::Tokens { access_token, refresh_token })) => {
                let attempt = self.actors.attempt(None)?;
                self.logins.log_out_with_tokens(access_token.as_deref(), refresh_token.as_deref(), attempt).await?;
            }
            None => return Err(Status::invalid_argument("credential is missing")),
        }
        Ok(Response::new(v1::LogOutResponse {}))
    }

    async fn search_users(
        &self,
        request: Request<v1::SearchUsersRequest>,
    ) -> Result<Response<v1::SearchUsersResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let v1::SearchUsersRequest { caller, keyword, limit, updated_after_ms, ignore_ids } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        let updated_after = updated_after_ms.map(Timestamp::from_millis);
        let users = self.accounts.search(&actor, SearchUsers { keyword, limit, updated_after, ignore_ids }).await?;
        Ok(Response::new(v1::SearchUsersResponse { users: users.into_iter().map(Into::into).collect() }))
    }

    async fn get_users(&self, request: Request<v1::GetUsersRequest>) -> Result<Response<v1::GetUsersResponse>, Status> {
        let role = Role::of(request.extensions())?;
        let v1::GetUsersRequest { caller, ids } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        let users = self.accounts.get(&actor, &ids).await?;
        Ok(Response::new(v1::GetUsersResponse { users: users.into_iter().map(Into::into).collect() }))
    }
}

/// The token and the seconds it lives: none and 0 where there is none.
fn parts(token: Option<RefreshToken>) -> (Option<String>, i64) {
    match token {
        Some(RefreshToken { token, expires_in_seconds }) => (Some(token), i64::from(expires_in_seconds)),
        None => (None, 0),
    }
}
