//! When messages are sent. In a closed loop: when an earlier one of the same socket is answered. In an open loop: at a
//! rate, whatever the server does; each has a time at which it is due, and latency counts from then, so that a server
//! that stops for a second is charged for all that should have been sent in it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest sleep: what is due meanwhile goes together. A finer one would cost the generator more than it tells.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);
/// The longest sleep, so that a stop is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A socket's part in an open loop.
#[derive(Debug)]
pub struct Turns {
    /// How many of the socket's messages are due by now.
    due: watch::Receiver<u64>,
    first_micros: f64,
    every_micros: f64,
}

impl Turns {
    /// Waits until the socket's message of this number is due, and returns when that was, in microseconds since the
    /// beginning. Never returns when the metronome has stopped. May be dropped halfway.
    pub async fn wait(&mut self, number: u64) -> u64 {
        if self.due.wait_for(|&due| due > number).await.is_err() {
            std::future::pending::<()>().await;
        }
        (self.first_micros + number as f64 * self.every_micros) as u64
    }
}

/// Gives each of several sockets its turns, evenly spread, so many a second in all.
#[derive(Debug)]
pub struct Metronome {
    rate: f64,
    sockets: Vec<watch::Sender<u64>>,
}

impl Metronome {
    /// So many turns a second, for so many sockets.
    pub fn new(rate: f64, sockets: usize) -> (Self, Vec<Turns>) {
        let step = 1e6 / rate;
        let channels = (0..sockets).map(|socket| {
            let (sender, due) = watch::channel(0);
            (sender, Turns { due, first_micros: socket as f64 * step, every_micros: sockets as f64 * step })
        });
        let (sockets, turns) = channels.unzip();
        (Self { rate, sockets }, turns)
    }

    /// Beats until it is stopped, on a thread of its own: the runtime's timers are a millisecond wide.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn spawn(self, begun: Instant, stop: CancellationToken) -> std::io::Result<()> {
        let beat = move || {
            let mut given = 0;
            while !stop.is_cancelled() {
                let due = (begun.elapsed().as_secs_f64() * self.rate) as u64 + 1;
                for message in given..due {
                    let socket = message as usize % self.sockets.len();
                    self.sockets[socket].send_modify(|due| *due += 1);
                }
                given = due;
                let next = begun + Duration::from_secs_f64(given as f64 / self.rate);
                let pause = next.saturating_duration_since(Instant::now());
                std::thread::sleep(pause.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
            }
        };
        std::thread::Builder::new().name("metronome".to_owned()).spawn(beat).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_due_in_even_steps_and_not_before() {
        let begun = Instant::now();
        let stop = CancellationToken::new();
        let (metronome, mut turns) = Metronome::new(1_000.0, 2);
        metronome.spawn(begun, stop.clone()).unwrap();
        assert_eq!(turns[0].wait(0).await, 0);
        assert_eq!(turns[1].wait(0).await, 1_000);
        assert_eq!(turns[1].wait(4).await, 9_000);
        assert!(begun.elapsed() >= Duration::from_millis(9));
        stop.cancel();
    }
}
