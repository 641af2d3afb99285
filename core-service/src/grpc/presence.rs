//! Which sockets are bound. Only gateways have any.

use proto::ids::{ConnectionId, UserId};
use proto::v1;
use proto::v1::presence_server::Presence as PresenceContract;
use tonic::{Request, Response, Status};

use super::actor::Actors;
use super::role::Role;
use crate::domain::presence::Presence;

/// The `Presence` service.
#[derive(Clone)]
pub struct PresenceService {
    actors: Actors,
    presence: Presence,
}

impl PresenceService {
    /// The service over these use cases.
    pub fn new(actors: Actors, presence: Presence) -> Self {
        Self { actors, presence }
    }
}

#[tonic::async_trait]
impl PresenceContract for PresenceService {
    async fn bind(&self, request: Request<v1::BindRequest>) -> Result<Response<v1::BindResponse>, Status> {
        let role = gateway(&request)?;
        let actor = self.actors.resolve(&role, request.into_inner().caller).await?;
        self.presence.bind(&actor).await?;
        Ok(Response::new(v1::BindResponse {}))
    }

    async fn unbind(&self, request: Request<v1::UnbindRequest>) -> Result<Response<v1::UnbindResponse>, Status> {
        gateway(&request)?;
        let v1::UnbindRequest { user_id, connection_id } = request.into_inner();
        let invalid = |error| Status::invalid_argument(format!("{error}"));
        let user_id = UserId::try_from(&user_id[..]).map_err(invalid)?;
        let connection_id = ConnectionId::try_from(&connection_id[..]).map_err(invalid)?;
        self.presence.unbind(user_id, connection_id).await?;
        Ok(Response::new(v1::UnbindResponse {}))
    }

    async fn set_inactive(
        &self,
        request: Request<v1::SetInactiveRequest>,
    ) -> Result<Response<v1::SetInactiveResponse>, Status> {
        let role = gateway(&request)?;
        let v1::SetInactiveRequest { caller, inactive } = request.into_inner();
        let actor = self.actors.resolve(&role, caller).await?;
        self.presence.set_inactive(&actor, inactive).await?;
        Ok(Response::new(v1::SetInactiveResponse {}))
    }
}

fn gateway<T>(request: &Request<T>) -> Result<Role, Status> {
    match Role::of(request.extensions())? {
        Role::Gateway => Ok(Role::Gateway),
        Role::Service(_) => Err(Status::permission_denied("only a gateway has sockets")),
    }
}
