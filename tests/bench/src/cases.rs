//! What is measured of the standalone server. Each case starts it afresh, on a copy of the same data.

use anyhow::bail;
use clap::ValueEnum;
use load::chat::ChatReport;
use load::comeback;
use load::idle::IdleReport;
use load::lists::ListsReport;
use load::report::Report;
use load::server_use::Used;
use load::storm::StormReport;

use crate::driver::{Driver, Running, Target};
use crate::figures::{Figure, Figures, Goal, Unit};

/// Messages to a commit of the yardstick: more gain hardly anything.
const COMMIT_BATCH: u32 = 256;

/// A thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// 40 users in groups of 4, each sends when it is answered
    Groups,
    /// As many messages as go, in groups of 4; then half as many
    Peak,
    /// As many messages as go, in groups of 2, beside the database alone
    Durable,
    /// A group of 50, beside a bare broadcast
    FanOut,
    /// Logged-in connections that do nothing, beside a bare echo
    Idle,
    /// Connections that log in with a token, beside a bare echo
    Storm,
    /// All connections come back after a restart
    Comeback,
    /// Lists of messages and conversations
    Lists,
}

impl Case {
    /// Measures once.
    pub(crate) fn measure(self, driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Groups => groups(driver, figures),
            Self::Peak => peak(driver, figures),
            Self::Durable => durable(driver, figures),
            Self::FanOut => fan_out(driver, figures),
            Self::Idle => idle(driver, figures),
            Self::Storm => storm(driver, figures),
            Self::Comeback => come_back(driver, figures),
            Self::Lists => lists(driver, figures),
        }
    }
}

fn groups(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let server = driver.start_server()?;
    let report = chat(driver, &server, &["--users", "40", "--group-size", "4"])?;
    let cpu = report.server().cpu_micros_per(report.measured_messages);
    figures.add(Figure::new("40 users in groups of 4: CPU per message", Unit::CpuMicros, cpu).goal(Goal::AtMost(30.0)));
    let per_second = report.messages_per_second();
    figures.add(Figure::new("40 users in groups of 4: messages (each may send 100/s)", Unit::PerSecond, per_second));
    server.stop()
}

fn peak(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let server = driver.start_server()?;
    let users = (driver.scale.users / 4 * 4).to_string();
    let seating = ["--users", &users, "--group-size", "4"];
    let report = chat(driver, &server, &seating)?;
    let most = report.messages_per_second();
    figures.add(Figure::new("closed loop, groups of 4: messages", Unit::PerSecond, most));
    let cpu = report.server().cpu_micros_per(report.measured_messages);
    figures.add(Figure::new("closed loop, groups of 4: CPU per message", Unit::CpuMicros, cpu));

    let half = (most / 2.0).to_string();
    let report = chat(driver, &server, &[&seating[..], &["--rate", &half]].concat())?;
    let millis = |micros: u64| micros as f64 / 1e3;
    for (name, micros) in [
        ("half of that: acknowledgement, p50", report.acknowledgement.p50),
        ("half of that: acknowledgement, p99", report.acknowledgement.p99),
        ("half of that: delivery, p50", report.delivery.p50),
        ("half of that: delivery, p99", report.delivery.p99),
    ] {
        figures.add(Figure::new(name, Unit::Millis, millis(micros)));
    }
    let cpu = report.server().cpu_micros_per(report.measured_messages);
    figures.add(Figure::new("half of that: CPU per message", Unit::CpuMicros, cpu));
    server.stop()
}

fn durable(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let server = driver.start_server()?;
    let users = (driver.scale.users / 2 * 2).to_string();
    let report = chat(driver, &server, &["--users", &users, "--group-size", "2"])?;
    server.stop()?;
    let alone = driver.commits(COMMIT_BATCH)?;
    let figure = Figure::new("durable messages, groups of 2", Unit::PerSecond, report.messages_per_second());
    let figure = figure.beside(alone.messages as f64 / alone.seconds);
    figures.add(figure.goal(Goal::RatioAtLeast(0.5)));
    Ok(())
}

fn fan_out(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    // One conversation takes at most 1,000 messages a second, one to each of its time stamps: so both get the same pace.
    let rate = driver.scale.rate.to_string();
    let paced = ["--users", "50", "--group-size", "50", "--rate", &rate];
    let server = driver.start_server()?;
    let ours = chat(driver, &server, &paced)?;
    server.stop()?;
    let bare_report = bare_broadcast(driver, &ours, &paced)?;
    let cpu = |report: &ChatReport| report.server().cpu_micros_per(report.measured_deliveries);
    let figure = Figure::new("group of 50: CPU per delivery", Unit::CpuMicros, cpu(&ours)).beside(cpu(&bare_report));
    figures.add(figure.goal(Goal::RatioAtMost(1.2)));

    let server = driver.start_server()?;
    let users = (driver.scale.users / 50 * 50).to_string();
    let report = chat(driver, &server, &["--users", &users, "--group-size", "50"])?;
    server.stop()?;
    figures.add(Figure::new("closed loop, groups of 50: CPU per delivery", Unit::CpuMicros, cpu(&report)));
    let per_second = report.measured_deliveries as f64 / report.seconds;
    figures.add(Figure::new("closed loop, groups of 50: deliveries", Unit::PerSecond, per_second));
    Ok(())
}

fn idle(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let connections = driver.scale.connections.to_string();
    let mode = ["idle", "--connections", &connections, "--seconds", "3"];
    let measure = |server: Running| {
        let Report::Idle(report) = driver.load(&server, &mode)? else { bail!("not an idle report") };
        server.stop()?;
        Ok(report)
    };
    let ours = measure(driver.start_server()?)?;
    let bare = measure(driver.start_yardstick(&[])?)?;
    let bytes = |report: &IdleReport| used(report.opening.as_ref()).bytes_per(report.connections);
    let figure = Figure::new("memory per idle connection", Unit::Bytes, bytes(&ours)).beside(bytes(&bare));
    figures.add(figure.goal(Goal::AtMost(4_096.0)));
    Ok(())
}

fn storm(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let connections = driver.scale.connections.to_string();
    let measure = |server: Running| {
        let Report::Storm(report) = driver.load(&server, &["storm", "--connections", &connections])? else {
            bail!("not a storm's report")
        };
        server.stop()?;
        Ok(report)
    };
    let ours = measure(driver.start_server()?)?;
    let bare = measure(driver.start_yardstick(&[])?)?;
    let figure = Figure::new("connect, upgrade, log in by token", Unit::PerSecond, ours.per_second());
    figures.add(figure.beside(bare.per_second()).goal(Goal::AtLeast(1_000.0)));
    let cpu = |report: &StormReport| used(report.server.as_ref()).cpu_micros_per(report.connections);
    let figure = Figure::new("connect, upgrade, log in by token: CPU", Unit::CpuMicros, cpu(&ours));
    figures.add(figure.beside(cpu(&bare)).goal(Goal::AtMost(1_000.0)));
    Ok(())
}

fn come_back(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let server = driver.start_server()?;
    let connections = driver.scale.connections.to_string();
    // Ten sockets of each of many users: each user sends one message, and the others of his group get it.
    let mut generator =
        driver.start_load(&server, &["comeback", "--connections", &connections, "--sockets-per-user", "10"])?;
    generator.wait_for(comeback::READY)?;
    let server = driver.restart(server)?;
    let Report::Comeback(report) = generator.finish()? else { bail!("not a comeback's report") };
    server.stop()?;
    figures.add(Figure::new("all back after a restart", Unit::Seconds, report.back_seconds));
    let p99 = report.first_send.p99 as f64 / 1e3;
    figures.add(Figure::new("first message after a restart, p99", Unit::Millis, p99));
    Ok(())
}

fn lists(driver: &Driver, figures: &mut Figures) -> anyhow::Result<()> {
    let scale = driver.scale;
    let measure = |conversations: u32, messages: u32| {
        let server = driver.start_server()?;
        let counts = [conversations, messages, scale.requests].map(|count| count.to_string());
        let [conversations, messages, requests] = &counts;
        let report = driver.load(
            &server,
            &["lists", "--conversations", conversations, "--messages", messages, "--requests", requests],
        )?;
        let Report::Lists(report) = report else { bail!("not a report of lists") };
        server.stop()?;
        Ok(report)
    };
    let few: ListsReport = measure(scale.few_conversations, scale.few_messages)?;
    let many_conversations = measure(scale.many_conversations, scale.few_messages)?;
    let many_messages = measure(scale.few_conversations, scale.many_messages)?;
    for (p50, p99, list) in [
        ("message_list of 100, p50", "message_list of 100, p99", &few.message_list),
        ("message_list of 10,000, p50", "message_list of 10,000, p99", &many_messages.message_list),
        ("message_list amid 10,000, p50", "message_list amid 10,000, p99", &many_messages.message_list_middle),
        ("conversation_list of 10, p50", "conversation_list of 10, p99", &few.conversation_list),
        ("conversation_list of 100, p50", "conversation_list of 100, p99", &many_conversations.conversation_list),
        (
            "conversation_list of 10 with 10,000 messages, p50",
            "conversation_list of 10 with 10,000 messages, p99",
            &many_messages.conversation_list,
        ),
    ] {
        figures.add(Figure::new(p50, Unit::Millis, list.latency.p50 as f64 / 1e3));
        figures.add(Figure::new(p99, Unit::Millis, list.latency.p99 as f64 / 1e3));
    }
    Ok(())
}

/// The same messages, passed on by the bare broadcast.
pub(crate) fn bare_broadcast(driver: &Driver, ours: &ChatReport, options: &[&str]) -> anyhow::Result<ChatReport> {
    let event_bytes = ours.delivered_bytes.round().to_string();
    let bare = driver.start_yardstick(&["--event-bytes", &event_bytes])?;
    let report = chat(driver, &bare, options)?;
    bare.stop()?;
    Ok(report)
}

/// Lets groups talk.
pub(crate) fn chat(driver: &Driver, server: impl Into<Target>, options: &[&str]) -> anyhow::Result<ChatReport> {
    chat_report(driver.load(server, &chat_mode(driver, options))?)
}

/// The generator's words for that.
pub(crate) fn chat_mode(driver: &Driver, options: &[&str]) -> Vec<String> {
    let times = [driver.scale.seconds, driver.scale.warm_up].map(|seconds| seconds.to_string());
    let times = ["--seconds", &times[0], "--warm-up", &times[1]];
    [&["chat"][..], &times, options].concat().into_iter().map(str::to_owned).collect()
}

/// What it reports then.
pub(crate) fn chat_report(report: Report) -> anyhow::Result<ChatReport> {
    match report {
        Report::Chat(report) => Ok(report),
        _ => bail!("not a chat's report"),
    }
}

/// What the server used: known, since the generator is told its id and the server outlives it.
fn used(used: Option<&Used>) -> &Used {
    used.expect("the server is measured")
}

pub(crate) trait Measured {
    /// What the server's processes used together.
    fn server(&self) -> &Used;
}

impl Measured for ChatReport {
    fn server(&self) -> &Used {
        used(self.server.as_ref())
    }
}
