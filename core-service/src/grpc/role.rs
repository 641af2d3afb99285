//! Which process calls: a gateway, or an internal service under its own name.

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use crate::config::ServiceToken;

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
        extensions.get().cloned().ok_or_else(|| Status::unauthenticated("this call needs a service token"))
    }
}

/// Finds the caller's role before a service sees the call.
#[derive(Clone, Debug)]
pub enum Authenticate {
    /// Every call comes from the gateway in the same process.
    InProcess,
    /// The role is that of the bearer token.
    Tokens(Arc<[ServiceToken]>),
}

impl Interceptor for Authenticate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let role = match self {
            Self::InProcess => Role::Gateway,
            Self::Tokens(tokens) => service_of(&request, tokens).ok_or_else(|| {
                Status::unauthenticated("no service has this token: send `authorization: Bearer TOKEN`")
            })?,
        };
        request.extensions_mut().insert(role);
        Ok(request)
    }
}

fn service_of(request: &Request<()>, tokens: &[ServiceToken]) -> Option<Role> {
    let presented = request.metadata().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    // All are compared, so that the time tells nothing about which comes close.
    let mut found = None;
    for token in tokens {
        let is_equal: Choice = presented.as_bytes().ct_eq(token.token.expose().as_bytes());
        if bool::from(is_equal) {
            found = Some(Role::Service(token.name.as_str().into()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_of(authorization: Option<&str>) -> Option<Role> {
        let tokens = ["a:0123456789abcdef", "b:fedcba9876543210"].map(|token| token.parse().unwrap());
        let mut request = Request::new(());
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        Authenticate::Tokens(tokens.into()).call(request).ok().map(|request| Role::of(request.extensions()).unwrap())
    }

    #[test]
    fn a_token_gives_the_role_of_its_service_and_nothing_else_does() {
        assert_eq!(role_of(Some("Bearer fedcba9876543210")), Some(Role::Service("b".into())));
        for wrong in [None, Some("Bearer fedcba987654321"), Some("fedcba9876543210"), Some("Bearer "), Some("Basic x")]
        {
            assert_eq!(role_of(wrong), None, "{wrong:?}");
        }
    }
}
