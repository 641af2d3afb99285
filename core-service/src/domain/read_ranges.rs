//! What a user has read of a conversation, as ranges of message ids.
//!
//! "Read all" is one range and reading one message is a range of one; ranges between which nothing is unread are
//! merged, so the number of ranges follows the number of holes and not the number of messages. The reader's own
//! messages and those hidden from him never count, so a range may lie over them.

use std::collections::HashSet;

use proto::ids::MessageId;

use super::message::{IdRange, MessageMark};

/// The messages with `from <= id <= to` are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadRange {
    /// Its first message.
    pub from: MessageId,
    /// Its last message.
    pub to: MessageId,
}

/// One user's ranges in one conversation: ascending, and no two overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRanges(Vec<ReadRange>);

/// What to write so that more is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRangesChange {
    /// The `from` of ranges that go.
    pub removed: Vec<MessageId>,
    /// Ranges that come.
    pub added: Vec<ReadRange>,
}

impl ReadRanges {
    /// These ranges, in any order. Those that overlap count as one.
    pub fn new(mut ranges: Vec<ReadRange>) -> Self {
        ranges.sort_unstable_by_key(|range| range.from);
        ranges.dedup_by(|range, before| {
            let overlaps = range.from <= before.to;
            if overlaps {
                before.to = before.to.max(range.to);
            }
            overlaps
        });
        Self(ranges)
    }

    /// The ranges after this change.
    pub fn after(&self, change: &ReadRangesChange) -> Self {
        let kept = self.0.iter().filter(|range| !change.removed.contains(&range.from));
        Self::new(kept.chain(&change.added).copied().collect())
    }

    /// Whether this message lies in one of them.
    pub fn contains(&self, id: MessageId) -> bool {
        let above = self.0.partition_point(|range| range.from <= id);
        above > 0 && id <= self.0[above - 1].to
    }

    /// What lies outside all of them at or above `start`, newest first.
    pub fn gaps_above(&self, start: MessageId) -> Vec<IdRange> {
        let mut gaps = Vec::new();
        let mut from = start;
        for range in self.0.iter().filter(|range| range.to >= start) {
            if range.from > from {
                gaps.push(IdRange { from, until: range.from });
            }
            from = range.to.successor();
        }
        gaps.push(IdRange { from, until: IdRange::ALL.until });
        gaps.reverse();
        gaps
    }

    /// The change after which everything from `from` to `to` is read.
    pub fn cover(&self, from: MessageId, to: MessageId) -> ReadRangesChange {
        let mut union = ReadRange { from, to };
        let mut removed = Vec::new();
        for range in self.0.iter().filter(|range| range.from <= to && range.to >= from) {
            union = ReadRange { from: union.from.min(range.from), to: union.to.max(range.to) };
            removed.push(range.from);
        }
        ReadRangesChange { removed, added: vec![union] }
    }

    /// The change after which the messages `newly_read` are read.
    ///
    /// `slice` is an unbroken part of the conversation, oldest first, with all of `newly_read` in it; `reader` is
    /// whose ranges these are. Ranges are merged as far as the slice shows that nothing unread lies between.
    pub fn mark(
        &self,
        slice: &[MessageMark],
        reader: proto::ids::UserId,
        newly_read: &HashSet<MessageId>,
    ) -> ReadRangesChange {
        let mut change = ReadRangesChange::default();
        let mut run: Option<(ReadRange, bool)> = None;
        for mark in slice {
            let is_new = newly_read.contains(&mark.id);
            if is_new || self.contains(mark.id) {
                let (range, has_new) = run.get_or_insert((ReadRange { from: mark.id, to: mark.id }, false));
                range.to = mark.id;
                *has_new |= is_new;
            } else if mark.from != reader && !mark.is_hidden {
                self.finish_run(run.take(), &mut change);
            }
        }
        self.finish_run(run, &mut change);
        change
    }

    fn finish_run(&self, run: Option<(ReadRange, bool)>, change: &mut ReadRangesChange) {
        if let Some((range, true)) = run {
            let ReadRangesChange { removed, added } = self.cover(range.from, range.to);
            change.removed.extend(removed);
            change.added.extend(added);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::ids::UserId;

    use super::*;

    const READER: UserId = UserId::from_bytes([1; 12]);
    const AUTHOR: UserId = UserId::from_bytes([2; 12]);

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n, 0])
    }

    fn mark_of(n: u8, own: bool) -> MessageMark {
        MessageMark { id: id(n), from: if own { READER } else { AUTHOR }, is_hidden: false }
    }

    proptest! {
        /// Marking any messages, in any order, leaves exactly them read and one range per run of read messages.
        #[test]
        fn marks_are_exact_and_merged(
            own in proptest::collection::vec(any::<bool>(), 30),
            calls in proptest::collection::vec(proptest::collection::vec(0..30_u8, 1..6), 1..20),
        ) {
            let slice: Vec<_> = (0..30).map(|n| mark_of(n, own[usize::from(n)])).collect();
            let mut ranges = ReadRanges::default();
            let mut read = HashSet::new();
            for call in calls {
                let newly: HashSet<_> = call
                    .into_iter()
                    .filter(|&n| !own[usize::from(n)] && !ranges.contains(id(n)))
                    .map(id)
                    .collect();
                if newly.is_empty() {
                    continue;
                }
                let from = slice.iter().position(|mark| newly.contains(&mark.id)).unwrap();
                let to = slice.iter().rposition(|mark| newly.contains(&mark.id)).unwrap();
                let change = ranges.mark(&slice[from.saturating_sub(1)..=to], READER, &newly);
                ranges = ranges.after(&change);
                read.extend(newly);
                for mark in &slice {
                    if mark.from == AUTHOR {
                        prop_assert_eq!(ranges.contains(mark.id), read.contains(&mark.id));
                    }
                }
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].to < pair[1].from));
            }
            let uncovered: Vec<_> = ranges.gaps_above(id(0)).into_iter().collect();
            for mark in slice.iter().filter(|mark| mark.from == AUTHOR) {
                let in_gap = uncovered.iter().any(|gap| gap.from <= mark.id && mark.id < gap.until);
                prop_assert_eq!(in_gap, !read.contains(&mark.id));
            }
        }
    }

    #[test]
    fn reading_all_leaves_one_range() {
        let ranges = ReadRanges::new(vec![ReadRange { from: id(2), to: id(3) }, ReadRange { from: id(5), to: id(9) }]);
        let all = ranges.after(&ranges.cover(id(1), id(7)));
        assert_eq!(all, ReadRanges(vec![ReadRange { from: id(1), to: id(9) }]));
    }

    #[test]
    fn ranges_that_overlap_count_as_one() {
        let range = |from, to| ReadRange { from: id(from), to: id(to) };
        let ranges = ReadRanges::new(vec![range(5, 5), range(1, 10), range(12, 13), range(9, 11)]);
        assert_eq!(ranges, ReadRanges(vec![range(1, 11), range(12, 13)]));
        assert!(ranges.contains(id(6)));
    }

    #[test]
    fn messages_read_one_after_another_stay_one_range() {
        let slice: Vec<_> = (0..10).map(|n| mark_of(n, false)).collect();
        let mut ranges = ReadRanges::default();
        for n in 0..10_u8 {
            let start = usize::from(n.saturating_sub(1));
            let change = ranges.mark(&slice[start..=usize::from(n)], READER, &HashSet::from([id(n)]));
            ranges = ranges.after(&change);
        }
        assert_eq!(ranges, ReadRanges(vec![ReadRange { from: id(0), to: id(9) }]));
    }
}
