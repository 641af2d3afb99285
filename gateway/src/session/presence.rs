//! Binding a connection to a session and ending that, here and at the core; `activity_status`.

use proto::ids::{SessionId, UserId};
use proto::reason::{Failure, Reason};
use proto::v1;

use super::{Answer, Session, State, caller, decode};
use crate::core_client::CoreClient;
use crate::metrics;
use crate::packet::client::{ActivityStatusPacket, Envelope};
use crate::packet::server::{self, Reply};
use crate::registry::{Binding, DeviceKey};

impl Session {
    /// Binds the connection to this session. From when this returns on, and not before the core knows, it gets the user's
    /// events; those of a former user have ended.
    ///
    /// # Errors
    /// What the core says, or `session_token_expired` when the session was revoked meanwhile. The connection then stays
    /// as it was.
    pub(super) async fn bind(
        &mut self,
        core: &CoreClient,
        session_id: SessionId,
        device_id: &str,
    ) -> Result<(), Failure> {
        let user_id = session_id.user_id();
        let former = self.binding().ok();
        let former_user = former.map(|former| former.session_id.user_id());
        let request = v1::BindRequest { caller: Some(caller(session_id, Some(self.attempt(self.frame)))) };
        if let Err(failure) = core.bind(request).await {
            if is_fate_open(&failure) && former_user != Some(user_id) {
                self.doubtful = Some(user_id);
            }
            return Err(failure);
        }
        let binding = Binding { session_id, device: DeviceKey::of(device_id) };
        // The client has its reply before the events that this brings.
        self.queue.await_reply();
        self.services.registry.bind(&self.queue, former, binding);
        if former.is_none() {
            metrics::connection_bound();
        }
        self.state = State::Authenticated(binding);
        self.doubtful = self.doubtful.filter(|&doubtful| doubtful != user_id);
        if let Some(former_user) = former_user.filter(|&former_user| former_user != user_id) {
            self.retract(core, former_user).await;
        }
        // Looked at after the registry has it: a revocation finds it there, or was remembered before.
        if self.services.registry.is_revoked(session_id) {
            self.unbind(core).await;
            return Err(Reason::SessionTokenExpired.into());
        }
        Ok(())
    }

    /// Ends the binding, if there is one. Not one event follows.
    pub(super) async fn unbind(&mut self, core: &CoreClient) {
        let Ok(binding) = self.binding() else { return };
        self.services.registry.unbind(self.queue.connection_id(), binding.session_id);
        self.state = State::Anonymous { place: self.services.limits.admit_anonymous(self.address) };
        metrics::connection_unbound();
        self.retract(core, binding.session_id.user_id()).await;
    }

    /// Tells the core that this is no connection of this user. What it did not hear it is told once more at the end, and
    /// it forgets a connection with its gateway's lease at the latest.
    pub(super) async fn retract(&mut self, core: &CoreClient, user_id: UserId) {
        let connection_id = self.queue.connection_id().to_field();
        if core.unbind(v1::UnbindRequest { user_id: user_id.to_field(), connection_id }).await.is_err() {
            self.doubtful = Some(user_id);
        }
    }

    pub(super) async fn set_activity(&self, core: &CoreClient, envelope: &Envelope<'_>) -> Answer {
        let packet: ActivityStatusPacket = decode(envelope)?;
        let request = v1::SetInactiveRequest { caller: Some(self.attempting_caller()?), inactive: packet.is_inactive };
        core.set_inactive(request).await?;
        Ok(Some(server::response(&envelope.reply_to, &Reply::SUCCESS)))
    }
}

/// Whether a request that failed so may have taken effect all the same.
pub(super) fn is_fate_open(failure: &Failure) -> bool {
    failure.reason.status() >= 500
}
