//! The load generator's command.

use std::process::ExitCode;

use clap::Parser;
use load::Arguments;

fn main() -> anyhow::Result<ExitCode> {
    Arguments::parse().execute()
}
