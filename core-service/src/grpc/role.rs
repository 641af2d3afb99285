//! Which process calls: a gateway, or an internal service under its own name.

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use crate::config::{CoreServerConfig, Secret, ServiceToken};

/// What a caller has proved to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Acts for the user whose session a request carries.
    Gateway,
    /// Acts for a user it names, under its own name.
    Service(Arc<str>),
}

impl Role {
    /// The role that [`Authenticate`] found.
    ///
    /// # Errors
    /// UNAUTHENTICATED when the call came past it, which no wiring does.
    pub fn of(extensions: &Extensions) -> Result<Self, Status> {
        extensions.get().cloned().ok_or_else(|| Status::unauthenticated("this call needs a token"))
    }
}

/// Finds the caller's role before a service sees the call.
#[derive(Clone, Debug)]
pub enum Authenticate {
    /// Every call comes from the gateway in the same process.
    InProcess,
    /// The role is that of the bearer token.
    Tokens(Arc<Tokens>),
}

/// What callers prove themselves with.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    gateways: Vec<Secret>,
    services: Vec<ServiceToken>,
}

impl From<&CoreServerConfig> for Authenticate {
    fn from(config: &CoreServerConfig) -> Self {
        let (gateways, services) = (config.core_gateway_tokens.clone(), config.core_service_tokens.clone());
        Self::Tokens(Arc::new(Tokens { gateways, services }))
    }
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let role = match self {
            Self::InProcess => Role::Gateway,
            Self::Tokens(tokens) => {
                bearer_token(&request).and_then(|token| tokens.role_of(token)).ok_or_else(|| {
                    Status::unauthenticated(
                        "no gateway (CORE_GATEWAY_TOKENS) and no service (CORE_SERVICE_TOKENS) has this token: send \
                     `authorization: Bearer TOKEN`",
                    )
                })?
            }
        };
        request.extensions_mut().insert(role);
        Ok(request)
    }
}

fn bearer_token(request: &Request<()>) -> Option<&[u8]> {
    Some(request.metadata().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?.as_bytes())
}

impl Tokens {
    fn role_of(&self, presented: &[u8]) -> Option<Role> {
        let is_presented = |token: &Secret| -> Choice { presented.ct_eq(token.expose().as_bytes()) };
        // All are compared, so that the time tells nothing about which comes close.
        let mut found = None;
        for token in &self.gateways {
            if bool::from(is_presented(token)) {
                found = Some(Role::Gateway);
            }
        }
        for service in &self.services {
            if bool::from(is_presented(&service.token)) {
                found = Some(Role::Service(service.name.as_str().into()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(authorization: Option<&str>) -> Option<Role> {
        let gateways = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"].map(|token| token.parse().unwrap());
        let services = ["a:0123456789abcdef", "b:fedcba9876543210"].map(|token| token.parse().unwrap());
        let tokens = Tokens { gateways: gateways.into(), services: services.into() };
        let mut request = Request::new(());
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        Authenticate::Tokens(Arc::new(tokens)).call(request).ok().map(|request| Role::of(request.extensions()).unwrap())
    }

    #[test]
    fn a_token_gives_the_role_of_its_owner_and_nothing_else_does() {
        assert_eq!(role_of(Some("Bearer fedcba9876543210")), Some(Role::Service("b".into())));
        for token in ["Bearer aaaaaaaaaaaaaaaa", "Bearer bbbbbbbbbbbbbbbb"] {
            assert_eq!(role_of(Some(token)), Some(Role::Gateway));
        }
        for wrong in [
            None,
            Some("Bearer fedcba987654321"),
            Some("Bearer aaaaaaaaaaaaaaa"),
            Some("Bearer aaaaaaaaaaaaaaaaa"),
            Some("fedcba9876543210"),
            Some("Bearer "),
            Some("Basic x"),
        ] {
            assert_eq!(role_of(wrong), None, "{wrong:?}");
        }
    }
}
