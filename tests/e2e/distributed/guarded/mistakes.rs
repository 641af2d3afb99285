//! One setting is wrong: what the process says, which goes on waiting.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use components::process::{Owner, Program};
use e2e::{GATEWAY_TOKEN, PATIENCE};

use super::servers::{CORE, GATEWAY, MIGRATOR};

/// What nobody has.
pub(crate) const WRONG: &str = "a password that nobody has";

/// The settings of a process.
pub(crate) type Settings<'a> = BTreeMap<&'static str, &'a str>;

/// What a gateway takes, beside where NATS is. There is no core for it.
pub(crate) fn gateway_settings() -> Settings<'static> {
    Settings::from([
        ("GATEWAY_LISTEN", "127.0.0.1:0"),
        ("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0"),
        ("CORE_ADDRESSES", "http://127.0.0.1:1"),
        ("CORE_GATEWAY_TOKEN", GATEWAY_TOKEN),
    ])
}

/// What may be told something wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Process {
    Migrate,
    Core,
    Gateway,
}

/// A process with a setting that is wrong.
pub(crate) struct Mistake<'a> {
    pub(crate) process: Process,
    /// Its settings, which are right.
    pub(crate) settings: &'a Settings<'a>,
    /// The one that is wrong after all.
    pub(crate) setting: &'static str,
    /// What that is set to, if anything.
    pub(crate) value: Option<&'a str>,
    /// What stands in one line of its log, again and again, beside the setting.
    pub(crate) says: [&'static str; 3],
}

/// Makes all of these at once, with their logs in this directory. Blocks until each was told twice what is wrong.
pub(crate) fn make_all(mistakes: &[Mistake<'_>], directory: &Path) {
    std::thread::scope(|scope| {
        for (number, mistake) in mistakes.iter().enumerate() {
            let log = directory.join(format!("{number}.log"));
            scope.spawn(move || mistake.make(&log));
        }
    });
}

impl Mistake<'_> {
    fn make(&self, log: &Path) {
        let Self { process, setting, value, .. } = self;
        let mut settings = self.settings.clone();
        settings.remove(setting);
        settings.extend(value.map(|value| (*setting, value)));
        let (binary, arguments) = match process {
            Process::Migrate => (e2e::core_service(), vec!["migrate".into()]),
            Process::Core => (e2e::core_service(), vec![]),
            Process::Gateway => (e2e::gateway(), vec![]),
        };
        settings.insert("RUST_LOG", "trace");
        let program = Program {
            name: format!("{process:?} with {setting} {value:?}"),
            program: binary,
            arguments,
            environment: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
            directory: None,
            log: log.to_owned(),
        };
        let says_it = |line: &&str| self.says.iter().chain([setting]).all(|part| line.contains(part));
        let is_told_twice = || fs::read_to_string(log).unwrap().lines().filter(says_it).count() >= 2;
        // Fails too when the process ends.
        program.start(&Owner::Us).unwrap().wait_until(PATIENCE, is_told_twice).unwrap();
        let said = fs::read_to_string(log).unwrap();
        for secret in [WRONG, CORE.1, GATEWAY.1, MIGRATOR.1, GATEWAY_TOKEN] {
            assert!(!said.contains(secret), "a secret is in what {} writes", program.name);
        }
    }
}
