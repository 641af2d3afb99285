//! What was measured: medians and spreads, beside the yardstick's and the goal.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

/// How a figure is written, and what is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) enum Unit {
    /// Microseconds of processor time.
    #[serde(rename = "us CPU")]
    CpuMicros,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// So many a second.
    #[serde(rename = "/s")]
    PerSecond,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// So many times for each message.
    #[serde(rename = "times")]
    Times,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// No more than this many times the yardstick's.
    RatioAtMost(f64),
    /// No less than this many times the yardstick's.
    RatioAtLeast(f64),
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: Cow<'static, str>,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// What the yardstick needed for the same, right after.
    pub(crate) yardstick: Option<f64>,
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<Cow<'static, str>>, unit: Unit, value: f64) -> Self {
        Self { name: name.into(), unit, value, yardstick: None, goal: None }
    }

    pub(crate) fn beside(self, yardstick: f64) -> Self {
        Self { yardstick: Some(yardstick), ..self }
    }

    pub(crate) fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }
}

/// All measurements, by name, in the order in which the names came up.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures(Vec<Row>);

#[derive(Debug, Serialize)]
struct Row {
    name: Cow<'static, str>,
    unit: Unit,
    measured: Values,
    yardstick: Values,
    ratio: Values,
    goal: Option<Goal>,
    goal_met: Option<bool>,
}

/// One value of each round.
#[derive(Clone, Debug, Default)]
struct Values(Vec<f64>);

impl Figures {
    pub(crate) fn add(&mut self, figure: Figure) {
        let Figure { name, unit, value, yardstick, goal } = figure;
        let place = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            let [measured, yardstick, ratio] = [(); 3].map(|()| Values::default());
            self.0.push(Row { name, unit, measured, yardstick, ratio, goal, goal_met: None });
            self.0.len() - 1
        });
        let row = &mut self.0[place];
        row.measured.0.push(value);
        if let Some(yardstick) = yardstick {
            row.yardstick.0.push(yardstick);
            // Of the same round: what disturbed one is likely to have disturbed the other. A smoke run may be too short
            // to see the yardstick use anything.
            row.ratio.0.extend((yardstick > 0.0).then_some(value / yardstick));
        }
        row.goal_met = row.is_goal_met();
    }
}

impl Row {
    fn is_goal_met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(most) => self.measured.median()? <= most,
            Goal::AtLeast(least) => self.measured.median()? >= least,
            Goal::RatioAtMost(most) => self.ratio.median()? <= most,
            Goal::RatioAtLeast(least) => self.ratio.median()? >= least,
        })
    }
}

impl Values {
    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self) -> Option<f64> {
        let values = self.sorted();
        let middle = values.len().checked_sub(1)? / 2;
        Some(if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle], values[middle + 1])
        } else {
            values[middle]
        })
    }

    /// The median, and in brackets the lowest and highest; nothing without values.
    fn show(&self, one: impl Fn(f64) -> String) -> String {
        let values = self.sorted();
        match (self.median(), values.as_slice()) {
            (Some(median), [lowest, .., highest]) => {
                format!("{} ({} to {})", one(median), one(*lowest), one(*highest))
            }
            (Some(median), _) => one(median),
            (None, _) => String::new(),
        }
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let median = self.median();
        #[derive(Serialize)]
        struct Shown<'a> {
            median: f64,
            of: &'a [f64],
        }
        median.map(|median| Shown { median, of: &self.0 }).serialize(serializer)
    }
}

/// Three digits are all that such figures are good for.
fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut groups: Vec<_> = digits.as_bytes().rchunks(3).map(String::from_utf8_lossy).collect();
    groups.reverse();
    format!("{sign}{}", groups.join(","))
}

impl Goal {
    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMost(most) => format!("at most {}", unit.show(most)),
            Self::AtLeast(least) => format!("at least {}", unit.show(least)),
            Self::RatioAtMost(most) => format!("ratio at most {most}"),
            Self::RatioAtLeast(least) => format!("ratio at least {least}"),
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        let value = three_digits(value);
        match self {
            Self::CpuMicros => format!("{value} us"),
            Self::Millis => format!("{value} ms"),
            Self::Seconds => format!("{value} s"),
            Self::PerSecond => format!("{value}/s"),
            Self::Bytes => format!("{value} B"),
            Self::Times => value,
        }
    }
}

/// A Markdown table.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | measured | yardstick | ratio | goal |\n|---|---|---|---|---|")?;
        for row in &self.0 {
            let measured = row.measured.show(|value| row.unit.show(value));
            let yardstick = row.yardstick.show(|value| row.unit.show(value));
            let ratio = row.ratio.show(|value| format!("{value:.2}"));
            let goal = row.goal.map(|goal| goal.show(row.unit)).unwrap_or_default();
            let met = match row.goal_met {
                Some(true) => ": met",
                Some(false) => ": **missed**",
                None => "",
            };
            writeln!(f, "| {} | {measured} | {yardstick} | {ratio} | {goal}{met} |", row.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_medians_spreads_ratios_and_goals() {
        let mut figures = Figures::default();
        for (value, yardstick) in [(30.0, 10.0), (10.0, 10.0), (1_234.5, 617.25)] {
            figures.add(Figure::new("a", Unit::CpuMicros, value).beside(yardstick).goal(Goal::RatioAtMost(1.5)));
        }
        figures.add(Figure::new("b", Unit::PerSecond, 2_000.0).goal(Goal::AtLeast(1_000.0)));
        let table = figures.to_string();
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| a | 30.0 us (10.0 us to 1,234 us) | 10.0 us (10.0 us to 617 us) | 2.00 (1.00 to 3.00) | ratio at most 1.5: **missed** |",
                "| b | 2,000/s |  |  | at least 1,000/s: met |",
            ]
        );
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(Values(vec![3.0, 1.0]).median(), Some(2.0));
        assert_eq!(Values::default().median(), None);
    }
}
