//! What is measured of the distributed form. All cases share one deployment: a database is fast only when it has run for
//! a while.

use std::collections::BTreeMap;

use anyhow::bail;
use load::chat::{self, ChatReport};
use load::server_use::Used;

use crate::cases::{Case, bare_broadcast, chat, chat_mode, chat_report};
use crate::deployment::Deployment;
use crate::driver::Driver;
use crate::figures::{Figure, Figures, Goal, Unit};

/// The cases that there are of this form.
pub(crate) const CASES: [Case; 3] = [Case::Groups, Case::Peak, Case::FanOut];

/// What a message costs the database: its row and its location.
const WRITES: [&str; 2] = ["add_message", "add_location"];
/// Which the counters say exactly but for messages that were under way when they were read, and for what the core does
/// by the clock.
const MARGIN: f64 = 0.01;
/// Statements that come up more rarely than for so many of the messages share a line.
const RARE: f64 = 0.001;

impl Case {
    /// Measures once.
    pub(crate) fn measure_distributed(
        self,
        driver: &Driver,
        deployment: &Deployment,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        match self {
            Self::Groups => groups(driver, deployment, figures),
            Self::Peak => peak(driver, deployment, figures),
            Self::FanOut => fan_out(driver, deployment, figures),
            Self::Durable | Self::Idle | Self::Storm | Self::Comeback | Self::Lists => {
                bail!("{self:?} is no case of the distributed form; there are {CASES:?}")
            }
        }
    }
}

/// Who used how much, in the order in which a deployment names its processes.
struct Parts<'a> {
    gateway: &'a Used,
    core: &'a Used,
    nats: &'a Used,
    database: &'a Used,
}

impl<'a> Parts<'a> {
    fn of(report: &'a ChatReport) -> anyhow::Result<Self> {
        match report.server_processes.as_slice() {
            _ if report.measured_deliveries == 0 => bail!("nothing was delivered in the time measured"),
            [gateway, core, nats, database] => Ok(Self { gateway, core, nats, database }),
            _ => bail!("a process of the deployment has ended"),
        }
    }

    /// Processor time of our own services, in microseconds for each of so many.
    fn own_micros_per(&self, count: u64) -> f64 {
        self.gateway.cpu_micros_per(count) + self.core.cpu_micros_per(count)
    }
}

fn groups(driver: &Driver, deployment: &Deployment, figures: &mut Figures) -> anyhow::Result<()> {
    let mode = chat_mode(driver, &["--users", "40", "--group-size", "4"]);
    let mut generator = driver.start_load(deployment, &mode)?;
    generator.wait_for(chat::MEASURING)?;
    let before = deployment.cql_requests()?;
    generator.wait_for(chat::MEASURED)?;
    let after = deployment.cql_requests()?;
    let report = chat_report(generator.finish()?)?;

    let messages = report.measured_messages;
    let parts = Parts::of(&report)?;
    let cpu = |name: &'static str, micros| Figure::new(name, Unit::CpuMicros, micros);
    let own = cpu("40 users in groups of 4: CPU per message, gateway and core", parts.own_micros_per(messages));
    figures.add(own.goal(Goal::AtMost(60.0)));
    for (name, used) in [
        ("40 users in groups of 4: CPU per message, gateway", parts.gateway),
        ("40 users in groups of 4: CPU per message, core", parts.core),
        ("40 users in groups of 4: CPU per message, NATS", parts.nats),
        ("40 users in groups of 4: CPU per message, database", parts.database),
    ] {
        figures.add(cpu(name, used.cpu_micros_per(messages)));
    }
    let per_second = report.messages_per_second();
    figures.add(Figure::new("40 users in groups of 4: messages (each may send 100/s)", Unit::PerSecond, per_second));
    add_requests(figures, &before, &after, messages);
    Ok(())
}

fn add_requests(figures: &mut Figures, before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, messages: u64) {
    let per_message = |count: f64| count / messages as f64;
    let counts = after.iter().map(|(statement, count)| (statement, count - before.get(statement).unwrap_or(&0.0)));
    let counts: Vec<_> = counts.map(|(statement, count)| (statement, per_message(count))).collect();
    // Apart, so that writes which were saved by a batch do not make room for reads.
    let (writes, others): (Vec<_>, Vec<_>) =
        counts.iter().partition(|(statement, _)| WRITES.contains(&statement.as_str()));
    for (name, those, most) in [
        ("CQL requests per message: its two writes", writes, 2.0),
        ("CQL requests per message: anything else", others, 0.0),
    ] {
        let sum = those.into_iter().map(|(_, count)| count).sum();
        figures.add(Figure::new(name, Unit::Times, sum).goal(Goal::AtMost(most + MARGIN)));
    }
    let (rare, others): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(_, count)| *count < RARE);
    for (statement, count) in others {
        figures.add(Figure::new(format!("CQL requests per message, {statement}"), Unit::Times, count));
    }
    let rare = rare.into_iter().map(|(_, count)| count).sum();
    figures.add(Figure::new("CQL requests per message, all others", Unit::Times, rare));
}

fn peak(driver: &Driver, deployment: &Deployment, figures: &mut Figures) -> anyhow::Result<()> {
    deployment.place_anywhere(driver)?;
    let groups = driver.scale.users / 4;
    let users = (groups * 4).to_string();
    let seating = ["--users", &users, "--group-size", "4"];
    let report = chat(driver, deployment, &seating)?;
    let most = report.messages_per_second();
    figures.add(Figure::new("closed loop, groups of 4: messages", Unit::PerSecond, most));
    let cpu = Parts::of(&report)?.own_micros_per(report.measured_messages);
    figures.add(Figure::new("closed loop, groups of 4: CPU per message, gateway and core", Unit::CpuMicros, cpu));

    let half = (most / 2.0).to_string();
    let report = chat(driver, deployment, &[&seating[..], &["--rate", &half]].concat())?;
    let times = [driver.scale.seconds, driver.scale.warm_up].map(|seconds| seconds.to_string());
    let options = [("--rate", half), ("--seconds", times[0].clone()), ("--warm-up", times[1].clone())];
    let options = options.into_iter().chain(deployment.addresses()).chain([("--conversations", groups.to_string())]);
    let options: Vec<_> = options.flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let bare = driver.rounds(&options)?;
    let millis = |micros: u64| micros as f64 / 1e3;
    for (name, micros, bare) in [
        ("half of that: acknowledgement, p50", report.acknowledgement.p50, bare.p50),
        ("half of that: acknowledgement, p99", report.acknowledgement.p99, bare.p99),
    ] {
        let figure = Figure::new(name, Unit::Millis, millis(micros)).beside(millis(bare));
        figures.add(figure.goal(Goal::RatioAtMost(2.0)));
    }
    for (name, micros) in
        [("half of that: delivery, p50", report.delivery.p50), ("half of that: delivery, p99", report.delivery.p99)]
    {
        figures.add(Figure::new(name, Unit::Millis, millis(micros)));
    }
    let cpu = Parts::of(&report)?.own_micros_per(report.measured_messages);
    figures.add(Figure::new("half of that: CPU per message, gateway and core", Unit::CpuMicros, cpu));
    deployment.place_apart(driver)
}

fn fan_out(driver: &Driver, deployment: &Deployment, figures: &mut Figures) -> anyhow::Result<()> {
    let rate = driver.scale.rate.to_string();
    let paced = ["--users", "50", "--group-size", "50", "--rate", &rate];
    let ours = chat(driver, deployment, &paced)?;
    let bare = bare_broadcast(driver, &ours, &paced)?;
    let Parts { gateway, core, .. } = Parts::of(&ours)?;
    let gateway = gateway.cpu_micros_per(ours.measured_deliveries);
    let [bare_gateway] = bare.server_processes.as_slice() else { bail!("the yardstick has ended") };
    let bare = bare_gateway.cpu_micros_per(bare.measured_deliveries);
    let figure = Figure::new("group of 50: CPU of the gateway per delivery", Unit::CpuMicros, gateway).beside(bare);
    figures.add(figure.goal(Goal::RatioAtMost(1.2)));
    let core = core.cpu_micros_per(ours.measured_deliveries);
    figures.add(Figure::new("group of 50: CPU of the core per delivery", Unit::CpuMicros, core));
    Ok(())
}
