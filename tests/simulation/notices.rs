//! What receivers are to be told of tokens, as the smallest model has it: each change once at least, in the order of
//! the changes. It knows nothing of how the vault keeps it.

use std::collections::{BTreeMap, BTreeSet};

use tokenswitch::tsp::{Happening, Notification, Suspender, TokenStatus};

use crate::audit::Broken;
use crate::vault::Holding;

/// Who is told: a requestor by its place, or the issuer that is asked about its cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hearer {
    Requestor(usize),
    Issuer,
}

/// What became of a token by a change, and how it stands after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct After {
    what: Happening,
    version: u32,
    status: TokenStatus,
    held_by: BTreeSet<Suspender>,
}

/// One receiver's.
#[derive(Debug, Default)]
struct Notices {
    /// By the number of the event and the token.
    owed: BTreeMap<(u64, usize), After>,
    heard: BTreeMap<(u64, usize), After>,
    /// The newest event of which it heard.
    newest: u64,
    /// Up to which event it has said that it heard, durably.
    confirmed: u64,
}

/// All that is owed, and was heard.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<Hearer, Notices>);

impl After {
    fn of(before: Option<&Holding>, token: &Holding) -> Self {
        let (version, status) = (token.version(), token.status);
        let what = before.map_or(Happening::Issued, |before| happened(before, token));
        Self { what, version, status, held_by: token.held_by.clone() }
    }
}

/// As what a change is told: the end, the beginning, a party that holds it no more, one that does, or anything else.
fn happened(before: &Holding, after: &Holding) -> Happening {
    let is_gone = |it: &Holding| it.status == TokenStatus::Deactivated;
    if is_gone(after) {
        return if is_gone(before) { Happening::Updated } else { Happening::Deactivated };
    }
    if before.status == TokenStatus::Inactive && after.status == TokenStatus::Active {
        return Happening::Activated;
    }
    if !before.held_by.is_subset(&after.held_by) {
        return Happening::Resumed;
    }
    let the_same = before.held_by == after.held_by;
    if the_same { Happening::Updated } else { Happening::Suspended }
}

impl Told {
    /// A receiver is told from now on, or not any more. What was owed is then owed no more.
    pub(crate) fn listens(&mut self, hearer: Hearer, listens: bool) {
        if listens {
            self.0.entry(hearer).or_default();
        } else {
            self.0.remove(&hearer);
        }
    }

    /// A token is new, or another one than before, after an event: whoever listens is to be told.
    pub(crate) fn owe(
        &mut self,
        hearer: Hearer,
        (event, at): (u64, usize),
        (before, token): (Option<&Holding>, &Holding),
    ) {
        if let Some(notices) = self.0.get_mut(&hearer) {
            notices.owed.insert((event, at), After::of(before, token));
        }
    }

    /// Who listens.
    pub(crate) fn hearers(&self) -> Vec<Hearer> {
        self.0.keys().copied().collect()
    }

    /// It said that it has heard everything up to an event.
    pub(crate) fn confirmed(&mut self, hearer: Hearer, up_to: u64) {
        if let Some(notices) = self.0.get_mut(&hearer) {
            notices.confirmed = notices.confirmed.max(up_to);
        }
    }

    /// A receiver hears of a token.
    pub(crate) fn hears(&mut self, hearer: Hearer, at: usize, told: &Notification) -> Result<(), Broken> {
        let Some(notices) = self.0.get_mut(&hearer) else {
            return Err(format!("P8: {hearer:?} is told of token {at}, and does not listen"));
        };
        let event = told.sequence;
        let named = After {
            what: told.what,
            version: told.lifecycle.version,
            status: told.lifecycle.status,
            held_by: told.lifecycle.suspenders.iter().collect(),
        };
        if event <= notices.confirmed {
            return Err(format!("P8: {hearer:?} is told of event {event} again, which it has confirmed"));
        }
        if let Some((before, _)) = notices.owed.range(..(event, 0)).next() {
            return Err(format!("P8: {hearer:?} is told of event {event} before {before:?}"));
        }
        let after = notices.owed.remove(&(event, at)).or_else(|| notices.heard.get(&(event, at)).cloned());
        // What of a token nobody sees may be told, too, in its turn.
        let fits = after.as_ref().map_or(event >= notices.newest, |after| *after == named);
        notices.newest = notices.newest.max(event);
        notices.heard.insert((event, at), named.clone());
        if fits {
            return Ok(());
        }
        Err(format!("P8: {hearer:?} is told that token {at} is {named:?} after event {event}, not {after:?}"))
    }

    /// A receiver hears of tokens that are not known: what is owed of them is owed no more.
    pub(crate) fn passes_over(&mut self, hearer: Hearer, event: u64, is_known: impl Fn(usize) -> bool) {
        let Some(notices) = self.0.get_mut(&hearer) else { return };
        let unknown = |(of, at): &&(u64, usize)| *of == event && !is_known(*at);
        let over: Vec<(u64, usize)> = notices.owed.keys().filter(unknown).copied().collect();
        for place in over {
            notices.heard.extend(notices.owed.remove_entry(&place));
        }
    }

    /// All that is owed to a receiver of tokens that are known waits for it.
    pub(crate) fn waits(
        &self,
        hearer: Hearer,
        there: &BTreeSet<(u64, usize)>,
        is_known: impl Fn(usize) -> bool,
    ) -> Result<(), Broken> {
        let owed = self.0.get(&hearer).into_iter().flat_map(|notices| notices.owed.keys());
        match owed.into_iter().find(|owed| is_known(owed.1) && !there.contains(owed)) {
            None => Ok(()),
            Some((event, at)) => {
                Err(format!("P8: nobody will tell {hearer:?} what became of token {at} by event {event}"))
            }
        }
    }
}
