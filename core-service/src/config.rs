//! Core's settings, flattened by its own binary and by standalone: the same flags and names in both.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::domain::history::ReadEvents;
use crate::domain::organization::OrganizationId;
use crate::domain::tokens::MIN_KEY_BYTES;

/// The largest group that can be allowed: an event names every recipient, and its conversation every member.
pub const MAX_GROUP_MEMBERS: u32 = 20_000;
/// The largest channel that can be allowed: an event names every recipient, and must fit one NATS message.
pub const MAX_CHANNEL_MEMBERS: u32 = 40_000;

/// The rules' and the store's settings.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Core")]
pub struct CoreConfig {
    /// Directory of the embedded store: the database, the token key and a lock file. Made when absent
    #[arg(long, env = "DATA_DIR", default_value = "./sama-data", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Key that opens the HTTP admin API (header `admin-api-key`); empty closes it
    #[arg(long, env = "HTTP_ADMIN_API_KEY", default_value = "", hide_env_values = true, value_name = "KEY")]
    pub http_admin_api_key: Secret,

    /// Key that signs tokens, at least 32 bytes; without it one is made once and kept in the data directory, or in the CQL
    /// database
    #[arg(long, env = "JWT_ACCESS_SECRET", hide_env_values = true, value_name = "KEY", value_parser = signing_key)]
    pub jwt_access_secret: Option<Secret>,

    /// Life of an access token, in seconds
    #[arg(long, env = "JWT_ACCESS_TOKEN_EXPIRES_IN", default_value_t = 10_800, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub jwt_access_token_expires_in: u32,

    /// Life of a session after its last refresh, in seconds
    #[arg(long, env = "JWT_REFRESH_TOKEN_EXPIRES_IN", default_value_t = 1_209_600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub jwt_refresh_token_expires_in: u32,

    /// Users that a search finds when it names no limit
    #[arg(long, env = "SEARCH_PRELOAD_COUNT", default_value_t = 30, value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub search_preload_count: u16,

    /// Who is told that messages were read: every other member, or the authors alone
    #[arg(long, env = "CORE_READ_EVENTS", default_value = "all", value_name = "WHO")]
    pub core_read_events: ReadEvents,

    /// Members a group may have, at most 20,000
    #[arg(long, env = "CORE_MAX_GROUP_MEMBERS", default_value_t = 50, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_GROUP_MEMBERS)))]
    pub core_max_group_members: u32,

    /// Members a channel may have, at most 40,000
    #[arg(long, env = "CORE_MAX_CHANNEL_MEMBERS", default_value_t = 10_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_CHANNEL_MEMBERS)))]
    pub core_max_channel_members: u32,

    /// Organizations that exist from the start, besides `default`: ids, separated by commas
    #[arg(long, env = "CORE_ORGANIZATIONS", value_delimiter = ',', value_name = "IDS", value_parser = organization_id)]
    pub core_organizations: Vec<OrganizationId>,
}

/// How core serves gRPC when it runs on its own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Core on its own")]
pub struct CoreServerConfig {
    /// Address of core's gRPC
    #[arg(long, env = "CORE_LISTEN", default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    pub core_listen: SocketAddr,

    /// Address of metrics, liveness and readiness
    #[arg(long, env = "CORE_ADMIN_LISTEN", default_value = "127.0.0.1:9102", value_name = "ADDRESS")]
    pub core_admin_listen: SocketAddr,

    /// Tokens of the gateways that may call, separated by commas; several while one is replaced by another
    #[arg(long, env = "CORE_GATEWAY_TOKENS", hide_env_values = true, value_delimiter = ',', value_name = "TOKENS",
          value_parser = gateway_token)]
    pub core_gateway_tokens: Vec<Secret>,

    /// Tokens of the internal services that may call: `name:token`, separated by commas
    #[arg(long, env = "CORE_SERVICE_TOKENS", hide_env_values = true, value_delimiter = ',', value_name = "NAME:TOKEN")]
    pub core_service_tokens: Vec<ServiceToken>,
}

/// How events leave core for NATS.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Events")]
pub struct PublishConfig {
    /// Events that may wait for NATS in memory, in bytes; while more wait, what causes events is answered with 503
    #[arg(long, env = "CORE_UNPUBLISHED_BYTES", default_value_t = 256 * 1024 * 1024, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1024 * 1024..))]
    pub core_unpublished_bytes: u64,

    /// NATS servers that keep each event: 1, 3 or 5. Raises what a stream has, never lowers it
    #[arg(long, env = "NATS_STREAM_REPLICAS", default_value_t = 1, value_name = "COUNT",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nats_stream_replicas: u8,

    /// Bytes that a day of events may take at NATS, beyond which the oldest go. Raises what a stream has, never lowers it
    #[arg(long, env = "NATS_STREAM_MAX_BYTES", default_value_t = 1024 * 1024 * 1024, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(16 * 1024 * 1024..=1 << 50))]
    pub nats_stream_max_bytes: u64,
}

/// The smallest token of a gateway or a service, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// Why core does not serve with these settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoreServerConfigError {
    /// Nobody could call.
    #[error("core serves nobody: set CORE_GATEWAY_TOKENS for gateways or CORE_SERVICE_TOKENS for internal services")]
    NoToken,
    /// Nobody could call, and whoever reaches the address would be welcome to try.
    #[error(
        "CORE_LISTEN={0} can be reached from other machines, and core does not listen there without tokens: set \
         CORE_GATEWAY_TOKENS for gateways or CORE_SERVICE_TOKENS for internal services"
    )]
    NoTokenOutsideLoopback(SocketAddr),
    /// A gateway would be taken for a service or the other way round.
    #[error("the same token is in CORE_GATEWAY_TOKENS and in CORE_SERVICE_TOKENS: a token is of one of them")]
    SameToken,
}

impl CoreServerConfig {
    /// Checks what no single option can check, before any port opens.
    ///
    /// # Errors
    /// [`CoreServerConfigError`] for settings that do not go together.
    pub fn validate(&self) -> Result<(), CoreServerConfigError> {
        if self.core_gateway_tokens.is_empty() && self.core_service_tokens.is_empty() {
            return Err(match self.core_listen.ip().is_loopback() {
                true => CoreServerConfigError::NoToken,
                false => CoreServerConfigError::NoTokenOutsideLoopback(self.core_listen),
            });
        }
        if self.core_service_tokens.iter().any(|service| self.core_gateway_tokens.contains(&service.token)) {
            return Err(CoreServerConfigError::SameToken);
        }
        Ok(())
    }
}

/// A text that no log and no help shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "not set" } else { "set" })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An internal service and what it proves itself with.
#[derive(Clone, Debug)]
pub struct ServiceToken {
    /// Under which its calls are logged.
    pub name: String,
    /// What it sends as `authorization: Bearer`.
    pub token: Secret,
}

impl FromStr for ServiceToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((name, token)) if !name.is_empty() && token.len() >= MIN_TOKEN_BYTES => {
                Ok(Self { name: name.to_owned(), token: Secret(token.to_owned()) })
            }
            _ => Err(format!("expected name:token with a token of at least {MIN_TOKEN_BYTES} bytes")),
        }
    }
}

fn gateway_token(text: &str) -> Result<Secret, String> {
    if text.len() < MIN_TOKEN_BYTES {
        return Err(format!("a gateway's token needs at least {MIN_TOKEN_BYTES} bytes"));
    }
    Ok(Secret(text.to_owned()))
}

fn signing_key(text: &str) -> Result<Secret, String> {
    if text.len() < MIN_KEY_BYTES {
        return Err(format!("a signing key needs at least {MIN_KEY_BYTES} bytes"));
    }
    Ok(Secret(text.to_owned()))
}

fn organization_id(text: &str) -> Result<OrganizationId, String> {
    OrganizationId::parse(text).ok_or_else(|| "an organization id is 1 to 64 of a-z, 0-9, - and _".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        server: CoreServerConfig,
    }

    fn parse(arguments: &[&str]) -> CoreServerConfig {
        Cli::parse_from([&["core"], arguments].concat()).server
    }

    #[test]
    fn core_serves_nobody_without_a_token_and_says_why() {
        let refusal = parse(&[]).validate().unwrap_err().to_string();
        assert!(refusal.contains("CORE_GATEWAY_TOKENS") && refusal.contains("CORE_SERVICE_TOKENS"), "{refusal}");
        let refusal = parse(&["--core-listen=0.0.0.0:9100"]).validate().unwrap_err().to_string();
        assert!(refusal.contains("0.0.0.0:9100 can be reached"), "{refusal}");
        for one_kind in
            ["--core-gateway-tokens=0123456789abcdef,fedcba9876543210", "--core-service-tokens=a:0123456789abcdef"]
        {
            parse(&[one_kind, "--core-listen=0.0.0.0:9100"]).validate().unwrap();
        }
        let same = parse(&["--core-gateway-tokens=0123456789abcdef", "--core-service-tokens=a:0123456789abcdef"]);
        assert_eq!(same.validate(), Err(CoreServerConfigError::SameToken));
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let token: ServiceToken = "reports:0123456789abcdef".parse().unwrap();
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
        let server = parse(&["--core-gateway-tokens=0123456789abcdef"]);
        assert!(!format!("{server:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn short_keys_and_tokens_are_refused() {
        assert!(signing_key("short").is_err());
        assert!(gateway_token("short").is_err());
        assert!("reports:short".parse::<ServiceToken>().is_err());
        assert!("0123456789abcdef".parse::<ServiceToken>().is_err());
    }
}
