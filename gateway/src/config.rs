//! What the gateway can be told: flags, and environment variables of the same meaning.

mod remote;

pub use remote::{CoreAddress, GatewayToken, RemoteConfig};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use http::Uri;
use ipnet::IpNet;

/// The protocol's port, which clients use unless told otherwise.
const DEFAULT_PORT: u16 = 9001;

/// The gateway's settings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayConfig {
    /// Where clients connect, for WebSocket and HTTP [default: 127.0.0.1:9001].
    #[arg(id = "gateway-listen", long, env = "GATEWAY_LISTEN", value_name = "ADDRESS:PORT")]
    pub gateway_listen: Option<SocketAddr>,

    /// The port clients connect to, when GATEWAY_LISTEN is not given.
    #[arg(id = "app-port", long, env = "APP_PORT", value_name = "PORT")]
    pub app_port: Option<u16>,

    /// Where metrics and health are served, for operators only.
    #[arg(
        id = "gateway-admin-listen",
        long,
        env = "GATEWAY_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9101"
    )]
    pub gateway_admin_listen: SocketAddr,

    /// Most connections at once; further ones wait to be accepted.
    #[arg(
        id = "gateway-max-connections",
        long,
        env = "GATEWAY_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value = "100000",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000)
    )]
    pub gateway_max_connections: u32,

    /// How long a stopping gateway takes to close its sockets, evenly spread, in seconds; 0 closes all at once.
    #[arg(
        id = "gateway-drain-seconds",
        long,
        env = "GATEWAY_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value = "0",
        value_parser = clap::value_parser!(u64).range(0..=3_600)
    )]
    pub gateway_drain_seconds: u64,

    /// The share of packets that are traced, from 0 to 1.
    #[arg(
        id = "gateway-trace-ratio",
        long,
        env = "GATEWAY_TRACE_RATIO",
        value_name = "RATIO",
        default_value = "0",
        value_parser = ratio
    )]
    pub gateway_trace_ratio: f64,

    /// Web origins that may call the HTTP routes with cookies, comma-separated.
    #[arg(
        id = "cors-origin",
        long,
        env = "CORS_ORIGIN",
        value_name = "ORIGINS",
        value_delimiter = ',',
        value_parser = origin,
        default_value = "http://localhost:3000,http://localhost:10000"
    )]
    pub cors_origin: Vec<String>,

    /// New accounts per minute from one address; 0 for no limit.
    #[arg(
        id = "user-create-per-minute",
        long,
        env = "USER_CREATE_PER_MINUTE",
        value_name = "NUMBER",
        default_value = "10"
    )]
    pub user_create_per_minute: u32,

    /// Proxies whose word about a client's address and scheme counts: addresses or networks, comma-separated.
    #[arg(id = "trusted-proxies", long, env = "TRUSTED_PROXIES", value_name = "NETWORKS", default_value = "")]
    pub trusted_proxies: Networks,

    /// Whether the refresh cookie is for HTTPS only; auto: when the client came by HTTPS.
    #[arg(
        id = "gateway-cookie-secure",
        long,
        env = "GATEWAY_COOKIE_SECURE",
        value_name = "WHEN",
        value_enum,
        default_value_t = CookieSecure::Auto
    )]
    pub gateway_cookie_secure: CookieSecure,

    /// The refresh cookie's SameSite attribute.
    #[arg(
        id = "gateway-cookie-same-site",
        long,
        env = "GATEWAY_COOKIE_SAME_SITE",
        value_name = "SITES",
        value_enum,
        default_value_t = CookieSameSite::Lax
    )]
    pub gateway_cookie_same_site: CookieSameSite,
}

/// When the refresh cookie gets `Secure`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CookieSecure {
    /// When the client came by HTTPS, to the gateway or to a trusted proxy before it.
    Auto,
    /// On every cookie.
    Always,
    /// On none.
    Never,
}

/// The refresh cookie's `SameSite`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CookieSameSite {
    /// Sent with top-level navigation from other sites.
    Lax,
    /// Sent by the same site only.
    Strict,
    /// Sent by every site; browsers demand `Secure` with it.
    None,
}

/// Networks, each with all its addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks(pub Vec<IpNet>);

/// Why the settings do not go together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GatewayConfigError {
    /// Two ports for one listener.
    #[error("APP_PORT says {app_port} and GATEWAY_LISTEN says {listen}: give one, or the same port in both")]
    PortsDiffer {
        /// What `APP_PORT` says.
        app_port: u16,
        /// What `GATEWAY_LISTEN` says.
        listen: SocketAddr,
    },
    /// A cookie that browsers would drop.
    #[error("GATEWAY_COOKIE_SAME_SITE=none needs GATEWAY_COOKIE_SECURE to be auto or always")]
    InsecureCrossSiteCookie,
}

impl GatewayConfig {
    /// Where to listen for clients.
    ///
    /// # Errors
    /// [`GatewayConfigError`] when `APP_PORT` names another port than `GATEWAY_LISTEN`.
    pub fn listen(&self) -> Result<SocketAddr, GatewayConfigError> {
        match (self.gateway_listen, self.app_port) {
            (Some(listen), Some(app_port)) if listen.port() != app_port => {
                Err(GatewayConfigError::PortsDiffer { app_port, listen })
            }
            (Some(listen), _) => Ok(listen),
            (None, port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(DEFAULT_PORT)))),
        }
    }

    /// Checks what no single option can check, before any port opens.
    ///
    /// # Errors
    /// [`GatewayConfigError`] for settings that do not go together.
    pub fn validate(&self) -> Result<(), GatewayConfigError> {
        self.listen()?;
        let cross_site = self.gateway_cookie_same_site == CookieSameSite::None;
        if cross_site && self.gateway_cookie_secure == CookieSecure::Never {
            return Err(GatewayConfigError::InsecureCrossSiteCookie);
        }
        Ok(())
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// An origin as browsers write it, since it is compared as text; an empty one is none.
fn origin(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let written =
        text.parse::<Uri>().ok().and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?)));
    if text.is_empty() || written.is_some_and(|origin| origin == text && !origin.contains(['@', '*'])) {
        Ok(text)
    } else {
        Err("must be a scheme, a host and perhaps a port, such as https://chat.example, and nothing after them"
            .to_owned())
    }
}

impl FromStr for Networks {
    type Err = String;

    /// Reads addresses and networks between commas; an empty text is none.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text} is no address such as 10.0.0.7 and no network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        gateway: GatewayConfig,
    }

    fn parse(arguments: &[&str]) -> Result<GatewayConfig, clap::Error> {
        Cli::try_parse_from([&["gateway"], arguments].concat()).map(|cli| cli.gateway)
    }

    #[test]
    fn the_options_pass_claps_own_check() {
        Cli::command().debug_assert();
    }

    #[test]
    fn app_port_is_the_port_only_when_no_address_is_given() {
        let listen = |arguments: &[&str]| parse(arguments).unwrap().listen();
        assert_eq!(listen(&[]), Ok("127.0.0.1:9001".parse().unwrap()));
        assert_eq!(listen(&["--app-port=80"]), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(listen(&["--gateway-listen=0.0.0.0:80"]), Ok("0.0.0.0:80".parse().unwrap()));
        assert_eq!(listen(&["--gateway-listen=0.0.0.0:80", "--app-port=80"]), Ok("0.0.0.0:80".parse().unwrap()));
        let differing = listen(&["--gateway-listen=0.0.0.0:80", "--app-port=81"]);
        assert_eq!(
            differing,
            Err(GatewayConfigError::PortsDiffer { app_port: 81, listen: "0.0.0.0:80".parse().unwrap() })
        );
    }

    #[test]
    fn bad_values_are_refused() {
        for argument in [
            "--gateway-listen=here",
            "--gateway-trace-ratio=1.5",
            "--gateway-trace-ratio=NaN",
            "--gateway-max-connections=0",
            "--trusted-proxies=10.0.0.0/33",
            "--gateway-cookie-secure=sometimes",
            "--cors-origin=*",
            "--cors-origin=chat.example",
            "--cors-origin=https://chat.example/",
            "--cors-origin=https://chat.example,https://chat.example/path",
            "--cors-origin=https://chat.example?query",
            "--cors-origin=https://user@chat.example",
            "--cors-origin=https://*",
            "--cors-origin=null",
        ] {
            assert!(parse(&[argument]).is_err(), "{argument}");
        }
    }

    #[test]
    fn an_origin_is_kept_as_browsers_write_it() {
        let origins = |text: &str| parse(&["--cors-origin", text]).unwrap().cors_origin;
        assert_eq!(origins("HTTPS://Chat.example, app://localhost:80"), ["https://chat.example", "app://localhost:80"]);
        assert_eq!(origins("http://[::1]:3000"), ["http://[::1]:3000"]);
        assert_eq!(origins(""), [""], "an empty variable is none");
    }

    #[test]
    fn a_cross_site_cookie_that_browsers_would_drop_is_refused() {
        let config = parse(&["--gateway-cookie-same-site=none", "--gateway-cookie-secure=never"]).unwrap();
        assert_eq!(config.validate(), Err(GatewayConfigError::InsecureCrossSiteCookie));
    }

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        let proxies = |text: &str| parse(&["--trusted-proxies", text]).unwrap().trusted_proxies.0;
        let both = ["10.0.0.7/32".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
        assert_eq!(proxies("10.0.0.7, 192.168.0.0/16"), both);
        assert!(proxies("").is_empty(), "an empty variable is none");
    }
}
