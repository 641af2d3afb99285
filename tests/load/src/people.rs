//! Who the clients are: accounts, made where they are missing, and their sessions, which can be kept in a file.
//!
//! Signing in hashes a password on the server, at tens of milliseconds each. A run that measures something else takes
//! sessions from a file, and shares one between several sockets.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::report::Progress;
use crate::socket::{Buffers, RequestError, Server, Socket};

/// So many sign in at once: more would only wait for the same processors.
const SIGN_INS_AT_ONCE: usize = 4;

/// Who the clients are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Users")]
pub struct PeopleOptions {
    /// What the users' logins begin with; a number follows
    #[arg(long, default_value = "load-", value_name = "TEXT")]
    pub login_prefix: String,

    /// The password of all of them
    #[arg(long, default_value = "load-password", value_name = "TEXT")]
    pub password: String,

    /// The organization they belong to, unless it is the server's default one
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,

    /// Keep their sessions in this file and take them from there. It opens these accounts to who reads it
    #[arg(long, value_name = "FILE")]
    pub sessions: Option<PathBuf>,
}

/// A user's session on one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The user's id.
    pub user_id: String,
    /// The user's login.
    pub login: String,
    /// The device's id.
    pub device: String,
    /// The access token.
    pub token: String,
}

impl PeopleOptions {
    /// Sessions of the first `count` users, each from the file, or by logging in to an account that is made if need be.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or the file cannot be used.
    pub async fn sign_in(&self, server: &Server, count: usize) -> anyhow::Result<Vec<Session>> {
        let mut sessions = self.kept()?;
        if sessions.len() < count {
            let progress = Progress::new("users signed in", count - sessions.len());
            let missing = stream::iter(sessions.len()..count).map(|number| self.sign_in_one(server, number));
            let made: Vec<_> = missing.buffered(SIGN_INS_AT_ONCE).inspect_ok(|_| progress.step()).try_collect().await?;
            sessions.extend(made);
            self.keep(&sessions)?;
        }
        sessions.truncate(count);
        Ok(sessions)
    }

    async fn sign_in_one(&self, server: &Server, number: usize) -> anyhow::Result<Session> {
        let login = format!("{}{number}", self.login_prefix);
        let device = "load".to_owned();
        let mut socket = Socket::open(server, Buffers::Idle).await?;
        let account = json!({"login": login, "password": self.password, "organization_id": self.organization});
        match socket.request("user_create", account.clone()).await {
            Ok(_) => {}
            Err(RequestError::Refused(refusal)) if is_taken(&refusal.code, refusal.status) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {login}")),
        }
        let mut credentials = account;
        credentials["device_id"] = device.clone().into();
        let failed = || format!("cannot log in as {login}");
        let response = socket.request("user_login", credentials).await.with_context(failed)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(failed);
        Ok(Session { user_id: text(&response["user"]["_id"])?, token: text(&response["token"])?, login, device })
    }

    fn kept(&self) -> anyhow::Result<Vec<Session>> {
        let Some(path) = &self.sessions else { return Ok(Vec::new()) };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} holds no sessions", path.display()))
    }

    fn keep(&self, sessions: &[Session]) -> anyhow::Result<()> {
        self.sessions.as_deref().map_or(Ok(()), |path| write_private(path, sessions))
    }
}

/// Whether creating an account failed because there is one. Servers without codes have only the status.
fn is_taken(code: &str, status: u16) -> bool {
    code == "account_exists" || (code.is_empty() && status == 422)
}

fn write_private(path: &Path, sessions: &[Session]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path).with_context(failed)?;
    serde_json::to_writer(file, sessions).with_context(failed)
}
