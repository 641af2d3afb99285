//! How long things took.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Two minutes; what takes longer counts as that.
const LONGEST_MICROS: u64 = 120_000_000;

/// A distribution of times, to three digits, of a fixed size.
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

/// What is told of a distribution. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Percentiles {
    /// How many times were measured.
    pub count: u64,
    /// Half were no longer.
    pub p50: u64,
    /// 90 of a hundred were no longer.
    pub p90: u64,
    /// 99 of a hundred were no longer.
    pub p99: u64,
    /// 999 of a thousand were no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self(Mutex::new(Histogram::new_with_max(LONGEST_MICROS, 3).expect("the bounds are sound")))
    }

    /// One more.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    /// The distribution so far.
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| histogram.value_at_quantile(quantile);
        Percentiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| micros as f64 / 1000.0;
        let Self { count: _, p50, p90, p99, p999, max } = *self;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(millis);
        write!(f, "p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, longest {max:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latency = Latency::new();
        for millis in 1..=100 {
            latency.record(Duration::from_millis(millis));
        }
        let percentiles = latency.percentiles();
        assert_eq!(percentiles.count, 100);
        assert!(percentiles.p50.abs_diff(50_000) < 100, "{percentiles:?}");
        assert!(percentiles.p99.abs_diff(99_000) < 100, "{percentiles:?}");
    }
}
