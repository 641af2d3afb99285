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

    /// Key that signs tokens, at least 32 bytes; without it one is made once and kept in the data directory
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

    /// Tokens of the internal services that may call: `name:token`, separated by commas
    #[arg(
        long,
        env = "CORE_SERVICE_TOKENS",
        hide_env_values = true,
        value_delimiter = ',',
        required = true,
        value_name = "NAME:TOKEN"
    )]
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

/// The smallest service token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

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
    use super::*;

    #[test]
    fn no_secret_shows_in_debug() {
        let token: ServiceToken = "reports:0123456789abcdef".parse().unwrap();
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn short_keys_and_tokens_are_refused() {
        assert!(signing_key("short").is_err());
        assert!("reports:short".parse::<ServiceToken>().is_err());
        assert!("0123456789abcdef".parse::<ServiceToken>().is_err());
    }
}
