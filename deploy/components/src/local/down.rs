//! Stopping, from the outside in: gateways, cores, NATS, the database. Nobody loses what it stands on.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Place, Running, say};
use crate::cache;

/// How long a process may take to end by itself before it is killed: longer than the longest stop that is usual.
const PATIENCE: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The order; those of one kind stop together.
const KINDS: [&str; 4] = ["gateway", "core", "nats", "cql"];

/// Stops everything that was started here and still runs. Says whether there was something.
pub(super) fn stop_all(place: &Place) -> anyhow::Result<bool> {
    let running = place.running()?;
    for kind in KINDS {
        let of_kind = |process: &&Running| process.name.split('-').next() == Some(kind);
        stop(place, &running.iter().filter(of_kind).collect::<Vec<_>>());
    }
    cache::remove(&place.file())?;
    cache::remove(&place.token_file())?;
    Ok(!running.is_empty())
}

fn stop(place: &Place, group: &[&Running]) {
    for process in group {
        if signal(place, process, Signal::TERM) {
            say(format_args!("stopping {}, process {}", process.name, process.pid));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while group.iter().any(|process| place.is_running(process)) {
        if Instant::now() > deadline {
            for process in group.iter().filter(|process| signal(place, process, Signal::KILL)) {
                say(format_args!("killed {}, which did not stop within {} s", process.name, PATIENCE.as_secs()));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Sends a signal to a process that is still the one that was started. Says whether it is.
fn signal(place: &Place, process: &Running, signal: Signal) -> bool {
    let pid = Pid::from_raw(process.pid).filter(|_| place.is_running(process));
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}
