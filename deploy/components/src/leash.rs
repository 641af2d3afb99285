//! Processes that end with their owner, even when the owner is killed.
//!
//! The kernel tells them: each asks, before it becomes the program it is to be, for SIGTERM at its parent's death. The
//! parent in that sense is the thread that started it, so all are started by one thread that lives as long as the
//! owner does.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

/// The words before a program's own that put it on the leash (`setpriv` is in Debian's util-linux).
pub const WORDS: [&str; 4] = ["setpriv", "--pdeathsig", "TERM", "--"];

/// A command that runs this program on the leash. Start it with [`spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(WORDS[0]);
    command.args(&WORDS[1..]).arg(program);
    command
}

/// Starts a command whose words begin with [`WORDS`], or whose last wrapper's do.
///
/// # Errors
/// When it cannot be executed.
pub fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, waiting) = mpsc::channel();
        std::thread::spawn(move || start_all(&waiting));
        orders
    });
    let (answer, started) = mpsc::channel();
    starter.send(Order { command, answer }).expect("the starter lives as long as the process");
    started.recv().expect("the starter answers every order")
}

struct Order {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

fn start_all(orders: &mpsc::Receiver<Order>) {
    for mut order in orders {
        // Whoever ordered it waits for it.
        let _ = order.answer.send(order.command.spawn());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let started = std::thread::spawn(|| {
            let mut shell = command("sh");
            shell.args(["-c", "read line; echo $line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            spawn(shell).unwrap()
        });
        let mut child = started.join().unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), b"here\n").unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "here\n");
        assert!(child.wait().unwrap().success());
    }
}
