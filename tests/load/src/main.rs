//! The load generator's command: options in, a report out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use load::Arguments;

/// The server broke a promise.
const PROMISE_BROKEN: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let json = arguments.json.clone();
    let report = arguments.run()?;
    if let Some(path) = json {
        report.save(&path)?;
    }
    write!(std::io::stdout(), "{report}")?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(PROMISE_BROKEN) })
}
