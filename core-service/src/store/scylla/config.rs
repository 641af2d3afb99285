//! The settings of the CQL store.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use scylla::client::PoolSize;

use crate::config::Secret;

/// Where the database is, and how to reach it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "CQL database")]
pub struct CqlConfig {
    /// Addresses of the CQL database, `host:port`, separated by commas: some of its nodes, from which the others are found.
    /// Without them the embedded store is used
    #[arg(long, env = "CQL_ADDRESSES", value_delimiter = ',', value_name = "ADDRESSES", value_parser = address)]
    pub cql_addresses: Vec<String>,

    /// Keyspace of all tables
    #[arg(long, env = "CQL_KEYSPACE", default_value = "sama", value_name = "NAME", value_parser = keyspace)]
    pub cql_keyspace: String,

    /// Data center whose nodes are asked
    #[arg(long, env = "CQL_DATACENTER", default_value = "datacenter1", value_name = "NAME")]
    pub cql_datacenter: String,

    /// User of the database, where it asks for one
    #[arg(long, env = "CQL_USERNAME", value_name = "NAME", requires = "cql_password")]
    pub cql_username: Option<String>,

    /// The user's password
    #[arg(long, env = "CQL_PASSWORD", hide_env_values = true, value_name = "PASSWORD", requires = "cql_username")]
    pub cql_password: Option<Secret>,

    /// Turns TLS on: file of the authorities (PEM) that vouch for the nodes, whose certificates name their IP addresses
    #[arg(long, env = "CQL_TLS_CA", value_name = "FILE")]
    pub cql_tls_ca: Option<PathBuf>,

    /// Connections: `per-shard:N` to each shard of each node, or `per-host:N` to each node
    #[arg(long, env = "CQL_POOL", default_value = "per-shard:1", value_name = "POOL")]
    pub cql_pool: Pool,

    /// Messages after which a conversation goes on in a new partition
    #[arg(long, env = "CORE_BUCKET_MESSAGES", default_value_t = 20_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub core_bucket_messages: u32,
}

/// What `migrate` makes the keyspace with, where there is none.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "CQL keyspace")]
pub struct KeyspaceConfig {
    /// Replication of a new keyspace, as CQL has it
    #[arg(
        long,
        env = "CQL_REPLICATION",
        default_value = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
        value_name = "MAP"
    )]
    pub cql_replication: String,

    /// More of the statement that makes the keyspace, after the replication, for instance `AND tablets = {'enabled': false}`
    #[arg(long, env = "CQL_KEYSPACE_OPTIONS", default_value = "", value_name = "TEXT")]
    pub cql_keyspace_options: String,
}

/// How many connections there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pool {
    /// To each shard of each node; a node that has no shards counts as one.
    PerShard(NonZeroUsize),
    /// To each node.
    PerHost(NonZeroUsize),
}

impl From<Pool> for PoolSize {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::PerShard(count) => Self::PerShard(count),
            Pool::PerHost(count) => Self::PerHost(count),
        }
    }
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(kind, count)| {
            let count = count.parse().ok()?;
            match kind {
                "per-shard" => Some(Self::PerShard(count)),
                "per-host" => Some(Self::PerHost(count)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| "expected per-shard:N or per-host:N with N at least 1".to_owned())
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerShard(count) => write!(f, "per-shard:{count}"),
            Self::PerHost(count) => write!(f, "per-host:{count}"),
        }
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("expected host:port".to_owned()),
    }
}

/// Names that need no quotes, so that they can stand in a statement.
fn keyspace(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= 48
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("a keyspace's name is 1 to 48 of a-z, 0-9 and _, a letter first".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_reads_as_it_is_written() {
        for text in ["per-shard:1", "per-host:12"] {
            assert_eq!(text.parse::<Pool>().unwrap().to_string(), text);
        }
        for text in ["", "per-host", "per-host:0", "per-node:1", "per-shard:x"] {
            assert!(text.parse::<Pool>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_address_and_no_name_is_refused() {
        assert!(address("db-1.example.org:9042").is_ok());
        for text in ["db", "db:", ":9042", "db:70000"] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert!(keyspace("sama_2").is_ok());
        for text in ["", "2sama", "Sama", "sama; DROP", "a-b"] {
            assert!(keyspace(text).is_err(), "{text:?}");
        }
    }
}
