//! The admin API. The core checks the key, before the body is read.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use proto::reason::Failure;
use proto::v1;
use serde::Serialize;

use super::reply::{HttpFailure, json};
use super::{HttpState, body};
use crate::packet::client::Payload;
use crate::packet::client::fields::Fields;
use crate::packet::server::OrganizationObject;

struct OrganizationBody {
    name: Option<String>,
    id: Option<String>,
}

impl Payload for OrganizationBody {
    const FIELDS: &'static [&'static str] = &["name", "_id"];

    fn decode(fields: &Fields<'_>) -> Result<Self, Failure> {
        Ok(Self { name: fields.text("name")?, id: fields.text("_id")? })
    }
}

/// Creates an organization, under a chosen id if one is given.
pub(super) async fn create_organization(
    State(state): State<HttpState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpFailure> {
    let admin_key = check_key(&state, &headers).await?;
    let OrganizationBody { name, id } = body::read_admin(body).await?;
    let request = v1::CreateOrganizationRequest { admin_key, name, id };
    let organization = state.core.create_organization(request).await?;

    #[derive(Serialize)]
    struct Created<'a> {
        organization: OrganizationObject<'a>,
    }
    Ok(json(StatusCode::OK, &Created { organization: OrganizationObject::from(&organization) }))
}

/// The key that the client presented, if it is the right one.
async fn check_key(state: &HttpState, headers: &HeaderMap) -> Result<String, HttpFailure> {
    let key = headers.get("admin-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    state.core.check_admin_key(v1::CheckAdminKeyRequest { admin_key: key.clone() }).await?;
    Ok(key)
}
