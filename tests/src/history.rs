//! Judges a conversation by what its clients logged: lost, doubled, disordered and phantom messages.
//!
//! Each message is known by its body, which no other message has. The log is one sequence: whatever a client did or
//! saw is appended at that moment, so "sent after that socket was logged in" can be read from it. A *client* is one
//! device whose sockets follow each other; two sockets open at the same time are two clients.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is wrong with a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An acknowledged message is not in the history, or a socket missed what it had to get.
    Lost,
    /// A message is there twice, or came twice to one client, or back to the socket that sent it.
    Doubled,
    /// Two sockets disagree about the order, or the order in which one client sent is broken.
    Order,
    /// A message that nobody sent, or not this user.
    Phantom,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What kind of thing.
    pub kind: Kind,
    /// Which message, and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

/// One logged-in socket in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketNumber(usize);

/// A message as a client saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its body.
    pub body: String,
    /// Who it is from: the same name that [`HistoryLog::bound`] was told.
    pub from: String,
    /// The server's id.
    pub id: String,
}

#[derive(Debug)]
enum Entry {
    Sent { socket: SocketNumber, body: String },
    Acknowledged { body: String, id: String },
    Refused { body: String },
    Delivered { socket: SocketNumber, seen: Seen },
    Stayed { socket: SocketNumber },
    Warned { socket: SocketNumber },
    Page { reader: String, oldest_first: Vec<Seen> },
}

#[derive(Debug)]
struct Bound {
    client: String,
    user: String,
    /// How long the log was then.
    moment: usize,
}

#[derive(Debug, Default)]
struct Log {
    sockets: Vec<Bound>,
    entries: Vec<Entry>,
}

/// The log that clients of one conversation write together.
#[derive(Debug, Default)]
pub struct HistoryLog {
    log: Mutex<Log>,
}

impl HistoryLog {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, entry: Entry) {
        self.lock().entries.push(entry);
    }

    /// A client has a socket that is logged in: from now on it must get everything.
    pub fn bound(&self, client: &str, user: &str) -> SocketNumber {
        let mut log = self.lock();
        let moment = log.entries.len();
        log.sockets.push(Bound { client: client.to_owned(), user: user.to_owned(), moment });
        SocketNumber(log.sockets.len() - 1)
    }

    /// A message is about to leave, for the first time or again.
    pub fn sent(&self, socket: SocketNumber, body: &str) {
        self.append(Entry::Sent { socket, body: body.to_owned() });
    }

    /// An acknowledgement came.
    pub fn acknowledged(&self, body: &str, id: &str) {
        self.append(Entry::Acknowledged { body: body.to_owned(), id: id.to_owned() });
    }

    /// A message was refused, and is sent again after what its client has sent meanwhile: its place among those is open.
    pub fn refused(&self, body: &str) {
        self.append(Entry::Refused { body: body.to_owned() });
    }

    /// A live message came.
    pub fn delivered(&self, socket: SocketNumber, seen: Seen) {
        self.append(Entry::Delivered { socket, seen });
    }

    /// The socket lived until something arrived on it that was sent after all messages.
    pub fn stayed(&self, socket: SocketNumber) {
        self.append(Entry::Stayed { socket });
    }

    /// The server closed the socket and said that events may be missing: from then on it may have missed some.
    pub fn warned(&self, socket: SocketNumber) {
        self.append(Entry::Warned { socket });
    }

    /// Somebody read the whole history.
    pub fn page(&self, reader: &str, oldest_first: Vec<Seen>) {
        self.append(Entry::Page { reader: reader.to_owned(), oldest_first });
    }

    /// How many acknowledgements came so far.
    pub fn acknowledgements(&self) -> usize {
        self.lock().entries.iter().filter(|entry| matches!(entry, Entry::Acknowledged { .. })).count()
    }

    /// How many sockets were logged in so far.
    pub fn sockets(&self) -> usize {
        self.lock().sockets.len()
    }

    /// How many sockets were closed with a warning so far.
    pub fn warnings(&self) -> usize {
        self.lock().entries.iter().filter(|entry| matches!(entry, Entry::Warned { .. })).count()
    }

    /// How long the log is now.
    pub fn moment(&self) -> usize {
        self.lock().entries.len()
    }

    /// How many messages are still to come, of those acknowledged before this moment: each to every socket that was logged
    /// in when it was sent and did not send it. Only while no socket has ended.
    pub fn undelivered(&self, moment: usize) -> usize {
        let log = self.lock();
        let case = Case::read(&log);
        let acknowledged = case.acknowledged.iter().filter(|(_, (_, at))| *at < moment).map(|(body, _)| *body);
        let acknowledged: Vec<_> = acknowledged.collect();
        let to_come = case.sockets.iter().map(|socket| {
            let got: HashSet<_> = socket.bodies().collect();
            acknowledged.iter().filter(|body| case.has_to_get(socket, body) && !got.contains(*body)).count()
        });
        to_come.sum()
    }

    /// Everything that is wrong, whichever and however many server instances there are.
    pub fn check(&self) -> Vec<Violation> {
        let log = self.lock();
        let mut case = Case::read(&log);
        case.check_pages();
        case.check_sockets();
        case.check_agreement();
        case.violations
    }

    /// As [`HistoryLog::check`]; besides, live order must be the history's, which one server instance promises.
    pub fn check_one_instance(&self) -> Vec<Violation> {
        let mut violations = self.check();
        let log = self.lock();
        let case = Case::read(&log);
        for page in &case.pages {
            let positions = positions(page.messages.iter().map(|seen| seen.body.as_str()));
            for socket in &case.sockets {
                if let Some(pair) = first_inversion(socket.bodies(), &positions) {
                    let detail = format!("{} saw {pair}, but the history has it the other way round", socket.name());
                    violations.push(Violation { kind: Kind::Order, detail });
                }
            }
        }
        violations
    }
}

/// A message's first attempt.
struct First<'a> {
    client: &'a str,
    user: &'a str,
    moment: usize,
    /// Its place among all first attempts.
    number: usize,
}

struct SocketLog<'a> {
    number: usize,
    client: &'a str,
    bound_at: usize,
    stayed: bool,
    was_warned: bool,
    sent_here: HashSet<&'a str>,
    log: Vec<&'a Seen>,
}

impl<'a> SocketLog<'a> {
    fn name(&self) -> String {
        format!("socket {} of {}", self.number, self.client)
    }

    fn bodies(&self) -> impl Iterator<Item = &'a str> {
        self.log.iter().map(|seen| seen.body.as_str())
    }
}

struct PageLog<'a> {
    reader: &'a str,
    moment: usize,
    messages: &'a [Seen],
}

struct Case<'a> {
    sent: HashMap<&'a str, First<'a>>,
    acknowledged: HashMap<&'a str, (&'a str, usize)>,
    refused: HashSet<&'a str>,
    sockets: Vec<SocketLog<'a>>,
    pages: Vec<PageLog<'a>>,
    violations: Vec<Violation>,
}

impl<'a> Case<'a> {
    fn read(log: &'a Log) -> Self {
        let sockets = log.sockets.iter().enumerate().map(|(number, bound)| SocketLog {
            number,
            client: &bound.client,
            bound_at: bound.moment,
            stayed: false,
            was_warned: false,
            sent_here: HashSet::new(),
            log: Vec::new(),
        });
        let mut case = Self {
            sent: HashMap::new(),
            acknowledged: HashMap::new(),
            refused: HashSet::new(),
            sockets: sockets.collect(),
            pages: Vec::new(),
            violations: Vec::new(),
        };
        for (moment, entry) in log.entries.iter().enumerate() {
            match entry {
                Entry::Sent { socket, body } => {
                    let number = case.sent.len();
                    let Bound { client, user, .. } = &log.sockets[socket.0];
                    case.sent.entry(body).or_insert(First { client, user, moment, number });
                    case.sockets[socket.0].sent_here.insert(body);
                }
                Entry::Acknowledged { body, id } => {
                    let (first, _) = *case.acknowledged.entry(body).or_insert((id, moment));
                    if first != id {
                        case.report(Kind::Doubled, format!("{body:?} was acknowledged as {first} and as {id}"));
                    }
                }
                Entry::Refused { body } => {
                    case.refused.insert(body);
                }
                Entry::Delivered { socket, seen } => case.sockets[socket.0].log.push(seen),
                Entry::Stayed { socket } => case.sockets[socket.0].stayed = true,
                Entry::Warned { socket } => case.sockets[socket.0].was_warned = true,
                Entry::Page { reader, oldest_first } => {
                    case.pages.push(PageLog { reader, moment, messages: oldest_first });
                }
            }
        }
        case
    }

    fn report(&mut self, kind: Kind, detail: String) {
        self.violations.push(Violation { kind, detail });
    }

    /// Doubles, phantoms and clients' broken order in one list of messages.
    fn check_list(&mut self, place: &str, messages: impl Iterator<Item = &'a Seen>) {
        let mut seen_bodies = HashSet::new();
        let mut newest_of: HashMap<&str, usize> = HashMap::new();
        for seen in messages {
            let body = seen.body.as_str();
            if !seen_bodies.insert(body) {
                self.report(Kind::Doubled, format!("{body:?} is twice in {place}"));
            }
            let Some(first) = self.sent.get(body) else {
                self.report(Kind::Phantom, format!("nobody sent {body:?}, which is in {place}"));
                continue;
            };
            let (client, user, number) = (first.client, first.user, first.number);
            if user != seen.from {
                self.report(Kind::Phantom, format!("{body:?} is from {user}, not from {} as in {place}", seen.from));
            }
            if self.acknowledged.get(body).is_some_and(|(id, _)| *id != seen.id) {
                self.report(Kind::Doubled, format!("{body:?} has another id in {place} than was acknowledged"));
            }
            if self.refused.contains(body) {
                continue;
            }
            let newest = newest_of.entry(client).or_insert(number);
            if *newest > number {
                self.report(Kind::Order, format!("{client} sent {body:?} before what precedes it in {place}"));
            }
            *newest = number.max(*newest);
        }
    }

    fn check_pages(&mut self) {
        for page in std::mem::take(&mut self.pages) {
            let place = format!("the history that {} read", page.reader);
            self.check_list(&place, page.messages.iter());
            let there: HashSet<_> = page.messages.iter().map(|seen| seen.body.as_str()).collect();
            let missing: Vec<_> = self
                .acknowledged
                .iter()
                .filter(|(body, (_, moment))| *moment < page.moment && !there.contains(*body))
                .map(|(body, _)| format!("{body:?} was acknowledged and is not in {place}"))
                .collect();
            for detail in missing {
                self.report(Kind::Lost, detail);
            }
            self.pages.push(page);
        }
    }

    fn check_sockets(&mut self) {
        let mut seen_by_client: HashSet<(&str, &str)> = HashSet::new();
        for socket in std::mem::take(&mut self.sockets) {
            let name = socket.name();
            self.check_list(&format!("what {name} got"), socket.log.iter().copied());
            for body in socket.bodies().collect::<HashSet<_>>() {
                if !seen_by_client.insert((socket.client, body)) {
                    self.report(Kind::Doubled, format!("{body:?} came again, to {name}"));
                }
                if socket.sent_here.contains(body) {
                    self.report(Kind::Doubled, format!("{body:?} came back to {name}, which sent it"));
                }
            }
            for body in self.missed(&socket) {
                self.report(Kind::Lost, format!("{name} never got {body:?}"));
            }
            self.sockets.push(socket);
        }
    }

    /// What a socket had to get and did not: of what was first sent after its login, and not by itself, all that is in
    /// the history up to the newest it got; to the end, if it stayed. Nothing, if it was warned.
    fn missed(&self, socket: &SocketLog<'a>) -> Vec<&'a str> {
        let Some(page) = self.pages.last() else {
            return Vec::new();
        };
        if socket.was_warned {
            return Vec::new();
        }
        let got: HashSet<_> = socket.bodies().collect();
        let newest = page.messages.iter().rposition(|seen| got.contains(seen.body.as_str()));
        let end = if socket.stayed { page.messages.len() } else { newest.unwrap_or(0) };
        let had_to = page.messages[..end].iter().map(|seen| seen.body.as_str());
        had_to.filter(|body| self.has_to_get(socket, body) && !got.contains(body)).collect()
    }

    /// Whether it was first sent after this socket's login, and not by it.
    fn has_to_get(&self, socket: &SocketLog<'a>, body: &str) -> bool {
        let after_login = self.sent.get(body).is_some_and(|first| first.moment >= socket.bound_at);
        after_login && !socket.sent_here.contains(body)
    }

    fn check_agreement(&mut self) {
        let positions: Vec<_> = self.sockets.iter().map(|socket| positions(socket.bodies())).collect();
        for (one, socket) in self.sockets.iter().enumerate() {
            for (other, there) in positions.iter().enumerate().skip(one + 1) {
                if let Some(pair) = first_inversion(socket.bodies(), there) {
                    let detail =
                        format!("{} saw {pair}, and {} the other way round", socket.name(), self.sockets[other].name());
                    self.violations.push(Violation { kind: Kind::Order, detail });
                }
            }
        }
    }
}

fn positions<'a>(bodies: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    bodies.enumerate().map(|(position, body)| (body, position)).collect()
}

/// The first two neighbours, among the bodies that `there` has too, which stand the other way round there.
fn first_inversion<'a>(bodies: impl Iterator<Item = &'a str>, there: &HashMap<&str, usize>) -> Option<String> {
    let mut previous: Option<(&str, usize)> = None;
    for body in bodies {
        let Some(&position) = there.get(body) else {
            continue;
        };
        if let Some((earlier, earlier_position)) = previous
            && earlier_position > position
        {
            return Some(format!("{earlier:?} before {body:?}"));
        }
        previous = Some((body, position));
    }
    None
}

#[cfg(test)]
mod tests;
