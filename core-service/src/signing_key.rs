//! The key that signs tokens: made once, and kept in the data directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use crate::config::CoreConfig;
use crate::domain::tokens::MIN_KEY_BYTES;

const FILE_NAME: &str = "jwt.key";

/// The configured key, else the one in the data directory, which is made when there is none. The directory exists.
///
/// # Errors
/// When the file cannot be read or made, or holds too short a key.
pub fn signing_key(config: &CoreConfig) -> anyhow::Result<Vec<u8>> {
    if let Some(key) = &config.jwt_access_secret {
        return Ok(key.expose().as_bytes().to_vec());
    }
    let path = config.data_dir.join(FILE_NAME);
    let key = match fs::read(&path) {
        Ok(key) => key,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(&path).with_context(|| format!("cannot make the token key {}", path.display()))?
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read the token key {}", path.display())),
    };
    anyhow::ensure!(
        key.len() >= MIN_KEY_BYTES,
        "the token key {} is shorter than {MIN_KEY_BYTES} bytes: restore it, or remove it to have a new one made \
         (everybody then has to log in again)",
        path.display()
    );
    Ok(key)
}

/// Makes a key that is there whole or not at all, whenever the process dies.
#[expect(clippy::disallowed_methods, reason = "a key must not be foreseen")]
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let key: [u8; MIN_KEY_BYTES] = rand::random();
    let unfinished = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(key.to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn config(directory: &Path) -> CoreConfig {
        let directory = directory.to_str().unwrap();
        let matches =
            CoreConfig::augment_args(Command::new("core")).get_matches_from(["core", "--data-dir", directory]);
        CoreConfig::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let key = signing_key(&config).unwrap();
        assert_eq!(signing_key(&config).unwrap(), key);
        let mode = fs::metadata(directory.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE_NAME), b"short").unwrap();
        assert!(signing_key(&config(directory.path())).is_err());
        assert_eq!(fs::read(directory.path().join(FILE_NAME)).unwrap(), b"short");
    }
}
