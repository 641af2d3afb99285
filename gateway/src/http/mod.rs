//! The HTTP routes beside the socket: login and logout, health, the admin API, and the chat page.
//!
//! Routes decide nothing about who may do what: they read bodies, headers and the refresh cookie, ask the core, and put
//! its answer into the forms HTTP clients expect. What every answer has in common is done once, in `edge`.

mod admin;
mod app;
mod body;
mod cookie;
mod edge;
mod login;
mod reply;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use proto::reason::Reason;
use serde::Serialize;

pub(crate) use self::edge::echo_request_id;
pub(crate) use self::reply::ERROR_CODE;
use self::reply::HttpFailure;
use crate::config::GatewayConfig;
use crate::core_client::CoreClient;
use crate::limits::Limits;

/// What the routes need.
#[derive(Clone)]
pub struct HttpState {
    /// The core.
    pub core: CoreClient,
    /// Cross-origin and cookie settings.
    pub config: Arc<GatewayConfig>,
    /// Counts shared with the sockets.
    pub limits: Arc<Limits>,
}

/// The routes. Every request must carry a [`ClientAddress`](crate::address::ClientAddress) as an extension.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/login", post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/health", get(health))
        .route("/admin/organization", post(admin::create_organization))
        .merge(app::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .layer(middleware::from_fn_with_state(state.clone(), edge::handle))
        .with_state(state)
}

async fn unknown_route() -> HttpFailure {
    Reason::RouteUnknown.into()
}

async fn health() -> Response {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        hostname: String,
    }
    let hostname = gethostname::gethostname().to_string_lossy().into_owned();
    reply::json(StatusCode::OK, &Health { status: "ok", hostname })
}
