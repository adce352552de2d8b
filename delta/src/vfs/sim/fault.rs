//! Faults to order: which call fails, how, and how often.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::op::{OpKind, Selector};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The medium fails (`EIO`). Nothing is written.
    Eio,
    /// The disk is full (`ENOSPC`). Nothing is written. See also `SimVfs::set_capacity`.
    NoSpace,
    /// A signal came in between (`EINTR`). The real disk repeats interrupted reads and writes, so there a single
    /// interruption passes unnoticed, and only one that goes on for ever is an error.
    Interrupted,
    /// A write lands only in part, then fails with `WriteZero`. Calls other than writes pass.
    ShortWrite,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
            Self::Interrupted => Errno::INTR.into(),
            Self::ShortWrite => io::ErrorKind::WriteZero.into(),
        }
    }
}

#[derive(Clone, Debug)]
enum When {
    Op(usize),
    Call(u64),
    Matching(Selector),
}

/// An order for calls to fail. It fails one call, or with [`forever`](FaultRule::forever) all from there on.
#[derive(Clone, Debug)]
pub struct FaultRule {
    when: When,
    fault: Fault,
    skip: u64,
    forever: bool,
    spent: bool,
}

impl FaultRule {
    fn new(when: When, fault: Fault) -> Self {
        Self { when, fault, skip: 0, forever: false, spent: false }
    }

    /// Fails the first recorded operation that has this or a higher number (and that this fault can hit); with `forever`
    /// all of them, while reads pass.
    pub fn at_op(index: usize, fault: Fault) -> Self {
        Self::new(When::Op(index), fault)
    }

    /// Fails the first call that has this or a higher number, as counted by `SimVfs::call_count` over calls of all kinds;
    /// with `forever` all of them.
    pub fn at_call(index: u64, fault: Fault) -> Self {
        Self::new(When::Call(index), fault)
    }

    /// Fails the first call that the selector picks; with `forever` every one.
    pub fn matching(selector: Selector, fault: Fault) -> Self {
        Self::new(When::Matching(selector), fault)
    }

    /// Lets so many calls pass that would have failed, before the first one fails.
    #[must_use]
    pub fn after(self, passes: u64) -> Self {
        Self { skip: passes, ..self }
    }

    /// Fails not only the first call but all from there on.
    #[must_use]
    pub fn forever(self) -> Self {
        Self { forever: true, ..self }
    }

    /// Whether it may fail a call yet.
    pub(super) fn is_open(&self) -> bool {
        !self.spent
    }

    /// Whether it fails this call. Uses the rule up where it fails once.
    fn strikes(&mut self, call: &CallId<'_>) -> bool {
        let here = match &self.when {
            When::Op(index) => call.op.is_some_and(|op| op >= *index),
            When::Call(index) => call.call >= *index,
            When::Matching(selector) => selector.picks(call.kind, call.path),
        };
        if !here || self.spent || (self.fault == Fault::ShortWrite && call.kind != OpKind::Write) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.spent = !self.forever;
        let repeated = matches!(call.kind, OpKind::Read | OpKind::Write);
        self.forever || self.fault != Fault::Interrupted || !repeated
    }
}

/// What a rule may know of a call.
pub(super) struct CallId<'a> {
    pub(super) kind: OpKind,
    pub(super) path: &'a Path,
    /// Its number among all calls.
    pub(super) call: u64,
    /// Its number among the recorded operations, if it is one.
    pub(super) op: Option<usize>,
}

/// All orders given, the first that strikes wins.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<FaultRule>);

impl Faults {
    pub(super) fn strike(&mut self, call: &CallId<'_>) -> Option<Fault> {
        self.0.iter_mut().find_map(|rule| rule.strikes(call).then_some(rule.fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(rule: FaultRule, kind: OpKind) -> Vec<u64> {
        let mut faults = Faults(vec![rule]);
        let strike = |n: u64, faults: &mut Faults| {
            let call = CallId { kind, path: Path::new("/d/f"), call: n, op: Some(n as usize) };
            faults.strike(&call).is_some()
        };
        (0..6).filter(|n| strike(*n, &mut faults)).collect()
    }

    #[test]
    fn a_rule_strikes_once_or_for_ever_and_after_its_passes() {
        assert_eq!(strikes(FaultRule::at_op(2, Fault::Eio), OpKind::Sync), [2]);
        assert_eq!(strikes(FaultRule::at_call(4, Fault::Eio).forever(), OpKind::Sync), [4, 5]);
        assert_eq!(strikes(FaultRule::at_op(1, Fault::Eio).after(2), OpKind::Sync), [3]);
        let syncs = || Selector::kind(OpKind::Sync).ending("f");
        assert_eq!(strikes(FaultRule::matching(syncs(), Fault::Eio).after(3), OpKind::Sync), [3]);
        assert_eq!(strikes(FaultRule::matching(syncs(), Fault::Eio).forever(), OpKind::Write), [0u64; 0]);
        let elsewhere = Selector::any().ending("e/f");
        assert_eq!(strikes(FaultRule::matching(elsewhere, Fault::Eio).forever(), OpKind::Write), [0u64; 0]);
    }

    #[test]
    fn one_interruption_of_a_read_or_write_passes_unnoticed() {
        let rule = || FaultRule::at_op(2, Fault::Interrupted);
        assert_eq!(strikes(rule(), OpKind::Write), [0u64; 0]);
        assert_eq!(strikes(rule(), OpKind::Sync), [2]);
        assert_eq!(strikes(rule().forever(), OpKind::Read), [2, 3, 4, 5]);
    }
}
