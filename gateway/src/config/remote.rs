//! Where the core is when it runs in other processes. In standalone it does not, and nobody asks for these.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::Uri;
use tonic::metadata::{Ascii, MetadataValue};

use crate::core_client::DEADLINE;

/// The smallest token, in bytes, as core has it.
const MIN_TOKEN_BYTES: usize = 16;

/// The core's settings, as the gateway needs them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Core")]
pub struct RemoteConfig {
    /// The core services: http://host:port, comma-separated, the same for every gateway.
    #[arg(
        id = "core-addresses",
        long,
        env = "CORE_ADDRESSES",
        value_name = "ADDRESSES",
        value_delimiter = ',',
        required = true
    )]
    pub core_addresses: Vec<CoreAddress>,

    /// What the core services know gateways by: one of their CORE_GATEWAY_TOKENS.
    #[arg(
        id = "core-gateway-token",
        long,
        env = "CORE_GATEWAY_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        required = true
    )]
    pub core_gateway_token: GatewayToken,

    /// How long one core service has for a call before the next one is asked, in milliseconds.
    #[arg(
        id = "core-deadline-milliseconds",
        long,
        env = "CORE_DEADLINE_MILLISECONDS",
        value_name = "MILLISECONDS",
        default_value = "1800",
        value_parser = clap::value_parser!(u64).range(100..=DEADLINE.as_millis() as u64)
    )]
    pub core_deadline_milliseconds: u64,
}

impl RemoteConfig {
    /// How long one core service has for a call.
    pub fn core_deadline(&self) -> Duration {
        Duration::from_millis(self.core_deadline_milliseconds)
    }
}

/// A core service's address: `http://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreAddress(String);

impl CoreAddress {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/').to_ascii_lowercase();
        let written = text.parse::<Uri>().ok().and_then(|uri| {
            uri.port()?;
            Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
        });
        if written.is_some_and(|address| address == text && text.starts_with("http://") && !text.contains('@')) {
            Ok(Self(text))
        } else {
            Err("must be http://host:port, and nothing after it".to_owned())
        }
    }
}

/// The gateway's token, as it goes with each call. It shows in no log.
#[derive(Clone, Debug)]
pub struct GatewayToken(MetadataValue<Ascii>);

impl GatewayToken {
    /// The value of `authorization`.
    pub(crate) fn authorization(&self) -> &MetadataValue<Ascii> {
        &self.0
    }
}

impl FromStr for GatewayToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() < MIN_TOKEN_BYTES {
            return Err(format!("a token has at least {MIN_TOKEN_BYTES} bytes"));
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {text}").parse().map_err(|_| "a token is of printable ASCII characters".to_owned())?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        core: RemoteConfig,
    }

    const TOKEN: &str = "--core-gateway-token=0123456789abcdef";

    fn parse(arguments: &[&str]) -> Result<RemoteConfig, clap::Error> {
        Cli::try_parse_from([&["gateway"], arguments].concat()).map(|cli| cli.core)
    }

    #[test]
    fn the_options_pass_claps_own_check() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_separated_by_commas() {
        let config = parse(&[TOKEN, "--core-addresses=http://a:1/, HTTP://B:2,http://[::1]:3"]).unwrap();
        let addresses: Vec<_> = config.core_addresses.iter().map(CoreAddress::as_str).collect();
        assert_eq!(addresses, ["http://a:1", "http://b:2", "http://[::1]:3"]);
        assert_eq!(config.core_deadline(), Duration::from_millis(1_800));
    }

    #[test]
    fn bad_values_are_refused_and_no_secret_is_repeated() {
        for address in ["", "a:1", "https://a:1", "http://a", "http://a:1/path", "http://u@a:1", "http://a:x"] {
            let argument = format!("--core-addresses={address}");
            assert!(parse(&[TOKEN, &argument]).is_err(), "{address}");
        }
        let address = "--core-addresses=http://a:1";
        assert!(parse(&[address]).is_err(), "a token is needed");
        assert!(parse(&[TOKEN]).is_err(), "an address is needed");
        assert!(parse(&[address, "--core-gateway-token=short"]).is_err());
        assert!(parse(&[address, TOKEN, "--core-deadline-milliseconds=5000"]).is_err());
        assert!(!format!("{:?}", parse(&[address, TOKEN]).unwrap()).contains("0123456789abcdef"));
    }
}
