//! How long the tests wait, and how.

use std::time::Duration;

/// How long anything that must happen may take before a test gives up. Far above what a healthy server needs, so that
/// a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks again and again until `look` finds something. `what` names it for the failure.
///
/// # Panics
/// When nothing was found within [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
