//! The folder where fetched things are kept, `$XDG_CACHE_HOME/sama-chat/components` or the same below `~/.cache`.
//!
//! What is there under its name is whole and checked: it is made beside it, and renamed when it is. Who comes while
//! somebody else is fetching waits for him.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The folder.
///
/// # Errors
/// When there is no home directory, or the folder cannot be made.
#[expect(clippy::disallowed_methods, reason = "where caches lie is the system's setting, not this program's")]
pub fn directory() -> anyhow::Result<PathBuf> {
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let directory = caches.context("no home directory: set XDG_CACHE_HOME")?.join("sama-chat/components");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// What is kept under this name; `make` makes it when it is not there yet, at the path it is given.
///
/// # Errors
/// When it cannot be made.
pub fn get(name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    get_below(&directory()?, name, make)
}

fn get_below(directory: &Path, name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let kept = directory.join(name);
    if kept.exists() {
        return Ok(kept);
    }
    let path = directory.join(format!("{name}.lock"));
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    if kept.exists() {
        return Ok(kept);
    }
    let new = directory.join(format!("{name}.new"));
    remove(&new)?;
    make(&new)?;
    fs::rename(&new, &kept).with_context(|| format!("cannot rename {} to {}", new.display(), kept.display()))?;
    Ok(kept)
}

/// Removes a file or a whole directory, if it is there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_comes_at_the_same_time_shares_one_fetch() {
        let directory = tempfile::tempdir().unwrap();
        let fetched = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let kept = get_below(directory.path(), "thing", |path| {
                        fetched.fetch_add(1, Ordering::Relaxed);
                        Ok(fs::write(path, "whole")?)
                    });
                    assert_eq!(fs::read_to_string(kept.unwrap()).unwrap(), "whole");
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
    }

    #[test]
    fn what_could_not_be_made_is_tried_again_from_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let broken = |path: &Path| {
            fs::create_dir(path)?;
            fs::write(path.join("half"), "")?;
            anyhow::bail!("the line is cut")
        };
        get_below(directory.path(), "thing", broken).unwrap_err();
        let whole = |path: &Path| Ok(fs::create_dir(path)?);
        let kept = get_below(directory.path(), "thing", whole).unwrap();
        assert_eq!(fs::read_dir(kept).unwrap().count(), 0);
    }
}
