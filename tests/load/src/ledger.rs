//! Account of every message: who sent it, whether it was acknowledged, who got it.
//!
//! A message is a sending socket and a number. What a socket got from another is a set of ranges of numbers, so memory
//! grows with what goes wrong and not with what was sent. A promise broken is a [`Finding`]; they are all counted, and
//! the first of each conversation are kept to be looked at.
//!
//! Expected is: each acknowledged message, once, at every socket of the conversation but the one it was sent on, as
//! long as that socket is open. What was not acknowledged may arrive or not, but once at most, and in order.

mod findings;

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rangemap::RangeInclusiveSet;

pub use self::findings::{Broken, Finding, MessageName, Verdict};
use crate::order::OrderBook;

/// Findings of one conversation that are kept, not only counted.
const FINDINGS_KEPT: usize = 100;

/// The account of all conversations of a run.
#[derive(Debug)]
pub struct Ledger {
    /// For each socket, its conversation and its place in it.
    places: Vec<(usize, usize)>,
    conversations: Vec<Mutex<Conversation>>,
}

#[derive(Debug)]
struct Conversation {
    sockets: Vec<SocketAccount>,
    order: OrderBook,
    broken: Broken,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct SocketAccount {
    /// Its number in the whole run.
    socket: usize,
    sent: u64,
    acknowledged: RangeInclusiveSet<u64>,
    refused: RangeInclusiveSet<u64>,
    /// By the sender's place in the conversation.
    received: Vec<Received>,
    is_closed: bool,
}

#[derive(Clone, Debug, Default)]
struct Received {
    numbers: RangeInclusiveSet<u64>,
    newest: Option<u64>,
}

impl Ledger {
    /// An account for conversations of so many sockets each. Sockets are numbered through, conversation by conversation.
    pub fn new(sockets_of_conversations: &[usize]) -> Self {
        let mut places = Vec::new();
        let conversations = sockets_of_conversations.iter().enumerate().map(|(conversation, &count)| {
            let first = places.len();
            places.extend((0..count).map(|place| (conversation, place)));
            Mutex::new(Conversation::new(first..first + count))
        });
        let conversations = conversations.collect();
        Self { places, conversations }
    }

    /// A socket is about to send its next message. Returns the message's number.
    pub fn sending(&self, socket: usize) -> u64 {
        let (mut conversation, place) = self.open(socket);
        let account = &mut conversation.sockets[place];
        account.sent += 1;
        account.sent - 1
    }

    /// A socket got the acknowledgement of its message.
    pub fn acknowledged(&self, message: MessageName) {
        self.answered(message, |account| (&mut account.acknowledged, &account.refused));
    }

    /// A socket's message was refused.
    pub fn refused(&self, message: MessageName) {
        self.answered(message, |account| (&mut account.refused, &account.acknowledged));
    }

    fn answered(
        &self,
        message: MessageName,
        sets: impl FnOnce(&mut SocketAccount) -> (&mut RangeInclusiveSet<u64>, &RangeInclusiveSet<u64>),
    ) {
        let (mut conversation, place) = self.open(message.from);
        let number = message.number;
        let account = &mut conversation.sockets[place];
        let is_sent = number < account.sent;
        let (these, those) = sets(account);
        if !is_sent || these.contains(&number) || those.contains(&number) {
            conversation.report(Finding::AcknowledgedWrongly { message });
        } else {
            these.insert(number..=number);
        }
    }

    /// A socket got a message.
    pub fn delivered(&self, socket: usize, message: MessageName) {
        let sender = self.places.get(message.from).copied();
        let (mut conversation, place) = self.open(socket);
        match sender {
            Some((of, from)) if of == self.places[socket].0 && from != place => {
                conversation.deliver(place, from, message);
            }
            Some(_) => conversation.report(Finding::Misdelivered { socket, message }),
            None => conversation.report(Finding::NeverSent { socket, message }),
        }
    }

    /// A socket ended; nothing is expected there any more.
    pub fn closed(&self, socket: usize) {
        let (mut conversation, place) = self.open(socket);
        conversation.sockets[place].is_closed = true;
    }

    /// Whether all that was sent is answered, and all that was acknowledged is delivered.
    pub fn is_settled(&self) -> bool {
        self.conversations.iter().all(|conversation| lock(conversation).is_settled())
    }

    /// Closes the account.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for conversation in &self.conversations {
            lock(conversation).settle(&mut verdict);
        }
        verdict.findings.sort_unstable();
        verdict
    }

    fn open(&self, socket: usize) -> (MutexGuard<'_, Conversation>, usize) {
        let (conversation, place) = self.places[socket];
        (lock(&self.conversations[conversation]), place)
    }
}

fn lock(conversation: &Mutex<Conversation>) -> MutexGuard<'_, Conversation> {
    conversation.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Conversation {
    fn new(sockets: std::ops::Range<usize>) -> Self {
        let count = sockets.len();
        let account = |socket| SocketAccount {
            socket,
            sent: 0,
            acknowledged: RangeInclusiveSet::new(),
            refused: RangeInclusiveSet::new(),
            received: vec![Received::default(); count],
            is_closed: false,
        };
        Self {
            sockets: sockets.map(account).collect(),
            order: OrderBook::new(count),
            broken: Broken::default(),
            findings: Vec::new(),
        }
    }

    fn deliver(&mut self, place: usize, from: usize, message: MessageName) {
        let number = message.number;
        let is_sent = number < self.sockets[from].sent;
        let account = &mut self.sockets[place];
        let socket = account.socket;
        let received = &mut account.received[from];
        if !is_sent {
            return self.report(Finding::NeverSent { socket, message });
        }
        if received.numbers.contains(&number) {
            return self.report(Finding::Doubled { socket, message });
        }
        received.numbers.insert(number..=number);
        match received.newest {
            Some(newest) if newest > number => {
                let after = MessageName { number: newest, ..message };
                self.report(Finding::SenderOrder { socket, message, after });
            }
            _ => received.newest = Some(number),
        }
        if let Some((one, other)) = self.order.saw(place, message) {
            self.report(Finding::Disputed { one, other });
        }
    }

    fn report(&mut self, finding: Finding) {
        self.broken.count(&finding, 1);
        if self.findings.len() < FINDINGS_KEPT {
            self.findings.push(finding);
        }
    }

    fn is_settled(&self) -> bool {
        self.sockets.iter().all(|account| account.is_closed || account.unanswered() == 0)
            && self.pairs().all(|(receiver, from)| missing(receiver, from, &self.sockets).next().is_none())
    }

    fn settle(&self, verdict: &mut Verdict) {
        let mut broken = self.broken;
        let mut findings = self.findings.clone();
        for account in &self.sockets {
            verdict.sent += account.sent;
            verdict.acknowledged += size(account.acknowledged.iter());
            verdict.refused += size(account.refused.iter());
            verdict.unanswered += account.unanswered();
            verdict.deliveries += account.received.iter().map(|received| size(received.numbers.iter())).sum::<u64>();
        }
        for (receiver, from) in self.pairs() {
            let sender = &self.sockets[from];
            verdict.deliveries_expected += size(sender.acknowledged.iter());
            let socket = self.sockets[receiver].socket;
            for range in missing(receiver, from, &self.sockets) {
                let lost = |number| Finding::Lost { socket, message: MessageName { from: sender.socket, number } };
                broken.count(&lost(0), size(std::iter::once(&range)));
                findings.extend(range.map(lost).take(FINDINGS_KEPT.saturating_sub(findings.len())));
            }
        }
        verdict.broken.add(&broken);
        verdict.findings.extend(findings);
    }

    /// Every open socket with every other one, whose messages it has to get.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.sockets.len();
        let open = (0..count).filter(|&receiver| !self.sockets[receiver].is_closed);
        open.flat_map(move |receiver| {
            (0..count).filter(move |&from| from != receiver).map(move |from| (receiver, from))
        })
    }
}

/// What a socket lacks of another's acknowledged messages.
fn missing(receiver: usize, from: usize, sockets: &[SocketAccount]) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
    let received = &sockets[receiver].received[from].numbers;
    sockets[from].acknowledged.iter().flat_map(|range| received.gaps(range).collect::<Vec<_>>())
}

fn size<'a>(ranges: impl Iterator<Item = &'a RangeInclusive<u64>>) -> u64 {
    ranges.map(|range| range.end() - range.start() + 1).sum()
}

impl SocketAccount {
    fn unanswered(&self) -> u64 {
        self.sent - size(self.acknowledged.iter()) - size(self.refused.iter())
    }
}

#[cfg(test)]
mod tests;
