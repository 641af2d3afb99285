//! Password hashing with Argon2id, on a bounded pool.
//!
//! A hash takes some 20 ms and 19 MiB. Logins and sign-ups have separate shares of the pool, three to one, so that
//! a flood of sign-ups never keeps anybody from logging in. Whoever would wait too long is turned away at once.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use proto::reason::Reason;
use rayon_core::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{Semaphore, oneshot};

use super::failure::Failure;

/// Hashes that may wait for one running one: what a gateway's deadline of some four seconds leaves time for.
const WAITING_PER_RUNNING: usize = 64;

/// The pool.
#[derive(Debug)]
pub struct Passwords {
    log_ins: Share,
    sign_ups: Share,
    /// The hash of no password, for logins of unknown users: they take as long as any other.
    dummy_hash: String,
}

/// Threads of their own: a hash's memory stays with its thread, so that it is not taken again and again, or by many.
#[derive(Debug)]
struct Share {
    threads: ThreadPool,
    admitted: Arc<Semaphore>,
}

impl Share {
    fn new(threads: usize) -> Result<Self, Failure> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "password-hash".to_owned()).build();
        let pool = pool.map_err(|_| Failure::Internal { what: "start the password threads" })?;
        Ok(Self { threads: pool, admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_RUNNING))) })
    }

    /// Runs the work when its turn comes, unless whoever asked has gone away by then.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Reason::TemporarilyUnavailable.into());
        };
        let (answer, answered) = oneshot::channel();
        self.threads.spawn_fifo(move || {
            if !answer.is_closed() {
                // Nobody may wait any more.
                let _ = answer.send(work());
            }
            drop(admitted);
        });
        answered.await.map_err(|_| Failure::Internal { what: "hash a password" })
    }
}

impl Passwords {
    /// A pool for a machine with this many cores.
    ///
    /// # Errors
    /// When the system has no random bytes for a salt, or no threads.
    pub fn new(cores: usize) -> Result<Self, Failure> {
        let threads = cores.max(4);
        let sign_ups = threads / 4;
        let dummy_hash = hash(b"the password of nobody")?;
        Ok(Self { log_ins: Share::new(threads - sign_ups)?, sign_ups: Share::new(sign_ups)?, dummy_hash })
    }

    /// The hash of a new user's password, in the PHC string format.
    ///
    /// # Errors
    /// `temporarily_unavailable` when the queue is full.
    pub async fn hash_for_sign_up(&self, password: String) -> Result<String, Failure> {
        self.sign_ups.run(move || hash(password.as_bytes())).await?
    }

    /// Whether this is the password; without a hash to compare with it never is, after the same time.
    ///
    /// # Errors
    /// `temporarily_unavailable` when the queue is full.
    pub async fn verify_for_log_in(&self, password: String, hash: Option<String>) -> Result<bool, Failure> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy_hash.clone());
        let matches = self
            .log_ins
            .run(move || {
                let parsed =
                    PasswordHash::new(&hash).map_err(|_| Failure::Internal { what: "read a password hash" })?;
                Ok::<_, Failure>(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
            })
            .await??;
        Ok(matches && is_known)
    }
}

fn hash(password: &[u8]) -> Result<String, Failure> {
    match Argon2::default().hash_password(password) {
        Ok(hash) => Ok(hash.to_string()),
        Err(_) => Err(Failure::Internal { what: "hash a password" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = Passwords::new(1).unwrap();
        let hash = passwords.hash_for_sign_up("s3cret".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify_for_log_in("s3cret".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify_for_log_in("other".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify_for_log_in("the password of nobody".to_owned(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_of_sign_ups_turns_away_and_lets_logins_through() {
        let passwords = Passwords::new(1).unwrap();
        let sign_ups = (0..200).map(|_| passwords.hash_for_sign_up("s3cret".to_owned()));
        let log_in = passwords.verify_for_log_in("x".to_owned(), None);
        let (sign_ups, log_in) = tokio::join!(futures_util::future::join_all(sign_ups), log_in);
        assert!(log_in.is_ok());
        let turned_away = sign_ups.iter().filter(|result| result.is_err()).count();
        assert_eq!(turned_away, 200 - (1 + WAITING_PER_RUNNING));
    }
}
