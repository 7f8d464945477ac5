//! What requestors have to do with each other, as the smallest model has it: whose tokens others may have tokens made
//! from. It foretells who may, and knows nothing of how the vault decides.

use std::collections::BTreeMap;

use tokenswitch::stdx::clock::Wall;
use tokenswitch::tsp::ConsentId;

use crate::setting::{SHARED_BY, SHARED_WITH, tsp_config};

/// A token is wanted for the card behind another one. Requestors by their place, consents in the order in which they
/// were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sourced {
    pub(crate) source: usize,
    /// By its number, not its reference.
    pub(crate) by_number: bool,
    pub(crate) by: usize,
    pub(crate) consent: Option<usize>,
}

/// What one requestor gave to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) number: usize,
    pub(crate) token: usize,
    pub(crate) to: usize,
    pub(crate) until: Wall,
}

/// Consents: all that were given, and those that were not used, by token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consents {
    count: usize,
    unused: BTreeMap<usize, Given>,
}

impl Consents {
    /// The next one, in the place of another for this token.
    pub(crate) fn give(&mut self, token: usize, to: usize, at: Wall) -> Given {
        let until = at.plus(tsp_config().consent_lifetime);
        let given = Given { number: self.count, token, to, until };
        self.count += 1;
        self.unused.insert(token, given);
        given
    }

    /// A request came to something: what it presented is used.
    pub(crate) fn use_up(&mut self, wanted: &Sourced) {
        self.unused.retain(|_, given| Some(given.number) != wanted.consent);
    }

    /// Whether what is presented allows it.
    pub(crate) fn allow(&self, wanted: &Sourced, at: Wall) -> bool {
        let given = self.unused.get(&wanted.source);
        given.is_some_and(|given| {
            Some(given.number) == wanted.consent && given.to == wanted.by && at < given.until
        })
    }
}

/// Whether a requestor shares its tokens with another one.
pub(crate) fn shares(owner: usize, with: usize) -> bool {
    owner == with || (owner, with) == (SHARED_BY, SHARED_WITH)
}

/// Consents as they were told.
#[derive(Debug, Default)]
pub(crate) struct ToldConsents(BTreeMap<usize, (Given, ConsentId)>);

impl ToldConsents {
    /// Whether a consent may be told so: as before, and by another name than every other one.
    pub(crate) fn learn(&mut self, given: Given, id: ConsentId) -> bool {
        let others = self.0.values().filter(|(other, _)| other.number != given.number);
        let taken = others.map(|(_, other)| *other).any(|other| other == id);
        let before = self.0.insert(given.number, (given, id));
        !taken && before.is_none_or(|before| before == (given, id))
    }

    /// All that were told, the oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Given> {
        self.0.values().map(|(given, _)| given)
    }

    pub(crate) fn id(&self, number: usize) -> Option<ConsentId> {
        self.0.get(&number).map(|(_, id)| *id)
    }
}
