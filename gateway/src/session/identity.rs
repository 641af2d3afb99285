//! Who somebody is: `connect`, `user_create`, `user_login`, `user_logout`, `user_search`, `get_users_by_ids`.

use proto::ids::SessionId;
use proto::reason::{Failure, Reason};
use proto::v1;

use super::{Answer, Session, decode};
use crate::core_client::CoreClient;
use crate::packet::client::{
    ConnectPacket, Envelope, GetUsersByIdsPacket, NoFields, UserCreatePacket, UserLoginPacket, UserSearchPacket,
};
use crate::packet::server::{self, Reply};

/// The `recent_activity` of a user who is online.
const ONLINE: i64 = 0;

impl Session {
    pub(super) async fn connect(&mut self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ConnectPacket = decode(envelope)?;
        self.bind_by_token(core, packet.token, Some(packet.device_id)).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::SUCCESS)))
    }

    pub(super) async fn create_user(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: UserCreatePacket = decode(envelope)?;
        let sign_up = self.services.limits.begin_sign_up(self.address)?;
        let request = v1::CreateUserRequest {
            organization_id: packet.organization_id,
            login: packet.login,
            password: packet.password,
            email: packet.email,
            phone: packet.phone,
            first_name: packet.first_name,
            last_name: packet.last_name,
        };
        let created = core.create_user(request).await;
        sign_up.settle(&created);
        let user = created?.user.ok_or(Reason::InternalError)?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::from(&user))))
    }

    pub(super) async fn log_in(&mut self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let (user, token, expires_at_ms) = match decode(envelope)? {
            UserLoginPacket::Password { organization_id, login, password, device_id } => {
                let attempt = self.services.limits.begin_login(self.address, &login)?;
                let device = device_id.clone().unwrap_or_default();
                let opened = core.log_in(v1::LogInRequest { organization_id, login, password, device_id }).await;
                attempt.settle(&opened);
                let opened = opened?;
                self.bind(core, session_id(&opened.session_id)?, &device).await?;
                (opened.user, opened.access_token, opened.access_token_expires_at_ms)
            }
            UserLoginPacket::Token { token, device_id } => {
                let verified = self.bind_by_token(core, token.clone(), device_id).await?;
                (verified.user, token, verified.access_token_expires_at_ms)
            }
        };
        // The core read it before this socket made the user one who is online.
        let user = v1::User { recent_activity: ONLINE, ..user.ok_or(Reason::InternalError)? };
        Ok(Some(server::response(&envelope.reply_to, &Reply::logged_in(&user, &token, expires_at_ms))))
    }

    pub(super) async fn log_out(&mut self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        decode::<NoFields>(envelope)?;
        let credential = v1::log_out_request::Credential::Caller(self.attempting_caller()?);
        core.log_out(v1::LogOutRequest { credential: Some(credential) }).await?;
        self.unbind(core).await;
        Ok(Some(server::response(&envelope.reply_to, &Reply::SUCCESS)))
    }

    pub(super) async fn search_users(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: UserSearchPacket = decode(envelope)?;
        let request = v1::SearchUsersRequest {
            caller: Some(self.caller()?),
            keyword: packet.keyword,
            limit: packet.limit,
            updated_after_ms: packet.updated_after_ms,
            ignore_ids: packet.ignore_ids,
        };
        let found = core.search_users(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::users(&found.users))))
    }

    pub(super) async fn get_users(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: GetUsersByIdsPacket = decode(envelope)?;
        let found = core.get_users(v1::GetUsersRequest { caller: Some(self.caller()?), ids: packet.ids }).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::users(&found.users))))
    }

    async fn bind_by_token(
        &mut self,
        core: &CoreClient,
        access_token: String,
        device_id: Option<String>,
    ) -> Result<v1::VerifyAccessResponse, Failure> {
        let verified = core.verify_access(v1::VerifyAccessRequest { access_token, device_id }).await?;
        self.bind(core, session_id(&verified.session_id)?, &verified.device_id).await?;
        Ok(verified)
    }
}

fn session_id(bytes: &[u8]) -> Result<SessionId, Failure> {
    SessionId::try_from(bytes).map_err(|_| Reason::InternalError.into())
}
