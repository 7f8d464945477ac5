//! `Tombstones`: what was taken back before it came. Should it come, it goes nowhere.

use std::time::Duration;

use crate::stdx::bounded::BoundedMap;
use crate::stdx::maps::GuardedMap;
use crate::vocab::{MessageFunction, Mti, SentAt};

use super::answered::OriginalKey;
use super::request::{Request, RequestKey, RequestKind};

/// So many; past that the oldest go.
#[derive(Debug)]
pub(super) struct Tombstones {
    /// By what DE 90 says, and by what else names the original, where anything does.
    by_name: BoundedMap<OriginalKey, Option<RequestKey>>,
    /// The same, for a repeat, which may have another DE 7.
    by_key: GuardedMap<RequestKey, Dated>,
}

/// What DE 90 says of an original besides its key: when it was sent, whether it asked or told, and whether it was a
/// repeat.
#[derive(Debug, Clone, Copy)]
struct Dated {
    sent_at: SentAt,
    function: MessageFunction,
    is_repeat: bool,
}

impl Tombstones {
    #[must_use]
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { by_name: BoundedMap::with_capacity(capacity), by_key: GuardedMap::default() }
    }

    /// Remembers at most so many from now on.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.by_name.set_capacity(capacity);
        while self.by_name.is_over() {
            let oldest = self.by_name.pop_oldest();
            self.forget(oldest);
        }
    }

    /// An original is taken back that nobody knows. `mti`: as DE 90 has it.
    pub(super) fn insert(&mut self, name: OriginalKey, key: Option<RequestKey>, mti: Mti) {
        let known = self.by_name.get(&name).copied().filter(|known| *known != key);
        self.forget(known.map(|known| (name, known)));
        if let Some(key) = key {
            let dated = Dated { sent_at: name.sent_at, function: mti.function, is_repeat: mti.is_repeat() };
            self.by_key.insert(key, dated);
        }
        let gone = self.by_name.insert(name, key);
        self.forget(gone);
    }

    /// Whether its reversal came before it. Of two that are one request but for their DE 7, at most `apart`, one must
    /// say that it is a repeat.
    #[must_use]
    pub(super) fn cover(&self, request: &Request, apart: Duration) -> bool {
        let leg = &request.leg;
        let redated = |dated: &Dated| {
            dated.function == leg.mti.function
                && (leg.mti.is_repeat() || dated.is_repeat)
                && leg.sent_at.is_within(dated.sent_at, apart)
        };
        request.kind != RequestKind::Reversal
            && (self.by_name.get(&OriginalKey::of(leg)).is_some()
                || self.by_key.get(&request.key).is_some_and(redated))
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    fn forget(&mut self, gone: Option<(OriginalKey, Option<RequestKey>)>) {
        let Some((name, Some(key))) = gone else { return };
        if self.by_key.get(&key).is_some_and(|dated| dated.sent_at == name.sent_at) {
            self.by_key.remove(&key);
        }
    }
}
