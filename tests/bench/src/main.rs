//! The standing benchmark: what the server costs on this machine, beside yardsticks that say what it could cost at best.
//!
//! [`driver`] starts processes, each on its own processor; [`cases`] measures the standalone server with them, and
//! [`distributed`] the distributed form on a [`deployment`]; [`figures`] makes a table of it.
//! The load generator and the yardsticks are this same program, started again.

mod cases;
mod deployment;
mod distributed;
mod driver;
mod figures;
mod machine;
mod yardstick;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cases::Case;
use crate::deployment::Deployment;
use crate::driver::{Driver, Scale};
use crate::figures::Figures;
use crate::machine::{Business, Machine};
use crate::yardstick::Yardstick;

/// When others used so many processors, figures say more about them. The kernel's own work for the disk is below it.
const DISTURBANCE: f64 = 0.2;

/// Measures the server beside its yardsticks. `tests/bench/run` builds everything first and starts this.
///
/// The server, and after it its yardstick, run on processor 0, the clients on processor 1. Every case runs several
/// times, the yardstick each time right after the server; the table shows medians, and in brackets the lowest and highest.
/// Of the distributed form, all four processes are the server.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// A smoke run: everything small, once. The figures mean nothing
    #[arg(long)]
    quick: bool,

    /// Measures the distributed form: gateway, core, NATS and database, started here, all on processor 0
    #[arg(long)]
    distributed: bool,

    /// Only these cases, instead of all; of the distributed form there are groups, peak and fan-out
    #[arg(long = "case", value_name = "CASE", value_enum)]
    cases: Vec<Case>,

    /// How often each case runs [default: 3, or 1 with --quick]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..))]
    repeats: Option<u8>,

    /// The server's program; `gateway` and `core-service` lie beside it [default: `standalone` beside this one]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,

    /// Where the figures and, while it runs, the servers' data go [default: `bench` in the target directory]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(subcommand)]
    part: Option<Part>,
}

/// What the benchmark starts itself as.
#[derive(Debug, Subcommand)]
enum Part {
    /// The load generator
    Load(Box<load::Arguments>),
    /// What the server is compared with
    #[command(subcommand)]
    Yardstick(Yardstick),
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::parse();
    match arguments.part.take() {
        Some(Part::Load(load)) => load.execute(),
        Some(Part::Yardstick(yardstick)) => yardstick.run().map(|()| ExitCode::SUCCESS),
        None => measure(arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let directory = program.parent().context("this program lies in a directory")?;
    let server = arguments.server.unwrap_or_else(|| directory.join("standalone"));
    let output = arguments.output.unwrap_or_else(|| directory.with_file_name("bench"));
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let repeats = arguments.repeats.unwrap_or(if arguments.quick { 1 } else { 3 });
    let (form, cases) = if arguments.distributed {
        ("distributed", distributed::CASES.to_vec())
    } else {
        ("standalone", Case::value_variants().to_vec())
    };
    if let Some(case) = arguments.cases.iter().find(|case| !cases.contains(case)) {
        bail!("there is no case {case:?} of the {form} form");
    }
    let cases = if arguments.cases.is_empty() { cases } else { arguments.cases };

    let machine = Machine::describe()?;
    let driver = Driver::new(program, server, &output, Scale::new(arguments.distributed, arguments.quick))?;
    let mut figures = Figures::default();
    let rounds = |measure: &mut dyn FnMut(Case) -> anyhow::Result<()>| {
        for repeat in 1..=repeats {
            for case in &cases {
                let name = case.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
                eprintln!("round {repeat} of {repeats}: {name}");
                measure(*case)?;
            }
        }
        anyhow::Ok(())
    };
    let before = Business::now()?;
    if arguments.distributed {
        let deployment = Deployment::start(&driver)?;
        rounds(&mut |case| case.measure_distributed(&driver, &deployment, &mut figures))?;
        deployment.stop()?;
    } else {
        driver.prepare()?;
        rounds(&mut |case| case.measure(&driver, &mut figures))?;
    }
    let others = Business::now()?.others_since(before);
    let told =
        Told { form, machine: &machine, quick: arguments.quick, others_used_processors: others, figures: &figures };
    told.report(&output)
}

/// What is shown and kept.
#[derive(Serialize)]
struct Told<'a> {
    form: &'static str,
    quick: bool,
    machine: &'a Machine,
    others_used_processors: f64,
    figures: &'a Figures,
}

impl Told<'_> {
    fn report(&self, output: &Path) -> anyhow::Result<()> {
        let Self { form, quick, machine, others_used_processors: others, figures } = *self;
        let mut out = std::io::stdout();
        if others > DISTURBANCE {
            writeln!(out, "DISTURBED: take these figures with caution.")?;
        }
        if quick {
            writeln!(out, "A SMOKE RUN: these figures mean nothing.")?;
        }
        writeln!(out, "The {form} form on {machine}\nothers used {others:.2} processors meanwhile\n\n{figures}")?;
        let path = output.join(format!("{}.json", machine.file_stem()));
        let whole = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, format!("{whole}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "kept in {}", path.display())?;
        Ok(())
    }
}
