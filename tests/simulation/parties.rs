//! What parties have to do with each other's tokens, as the smallest model has it: from whose tokens others may have
//! tokens made, and to whom cards' numbers are told. It foretells who may, and knows nothing of how the vault decides.

use std::collections::BTreeMap;

use tokenswitch::stdx::clock::Wall;
use tokenswitch::tsp::{ConsentId, ProvisioningRefusal as Refusal, Suspender};
use tokenswitch::vocab::Expiry;

use crate::setting::{PARTIES, configured, tsp_config};

/// For how long a card's number is told again.
const TOLD_AGAIN_MILLIS: u64 = 600_000;
const DAY: u64 = 86_400_000;

/// A token is wanted for the card behind another one. Requestors by their place, consents in the order in which they
/// were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sourced {
    pub(crate) source: usize,
    /// By its number, with the expiry date that the token had; none: by its reference.
    pub(crate) by_number: Option<Expiry>,
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

/// What a requestor may, and those to whom it has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How many tokens it may have, of all cards and of each.
    pub(crate) tokens: Option<u32>,
    pub(crate) per_card: Option<u32>,
    /// How many of their cards' numbers are told in a day.
    pub(crate) told_a_day: Option<u32>,
    /// Its new tokens pay by contactless chip only.
    pub(crate) taps_only: bool,
    /// The requestor beside it may have tokens made from its tokens.
    pub(crate) shares: bool,
    /// It has said where it wants to be told of its tokens.
    pub(crate) listens: bool,
}

/// The requestor to which one may give its tokens.
pub(crate) fn beside(place: usize) -> usize {
    (place + 1) % PARTIES
}

/// A requestor as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) terms: Terms,
    pub(crate) version: u32,
    pub(crate) closed: bool,
}

/// All requestors, by place.
#[derive(Debug, Clone)]
pub(crate) struct Registry(Vec<Option<Registered>>);

impl Registry {
    /// As the configuration has them.
    pub(crate) fn configured() -> Self {
        let new = |terms| Registered { terms, version: 0, closed: false };
        Self((0..PARTIES).map(|place| configured(place).map(new)).collect())
    }

    /// As it is registered, closed or not.
    pub(crate) fn of(&self, place: usize) -> Option<Registered> {
        self.0[place]
    }

    /// What it may; nothing when it is closed, or unknown.
    pub(crate) fn terms(&self, place: usize) -> Option<Terms> {
        self.of(place).filter(|it| !it.closed).map(|it| it.terms)
    }

    /// Whether the holder of a token shares it with another requestor, also once it is closed.
    pub(crate) fn shares(&self, owner: usize, with: usize) -> bool {
        let shares = self.of(owner).is_some_and(|it| it.terms.shares);
        owner == with || (shares && with == beside(owner))
    }

    /// It is as a request says from now on.
    pub(crate) fn change(&mut self, wanted: &Registering) -> Result<(), Refusal> {
        let before = self.of(wanted.place);
        let version = before.map_or(0, |before| before.version);
        if !wanted.by_desk {
            return Err(Refusal::NotYours);
        }
        if wanted.seen.is_some_and(|seen| seen != version) {
            return Err(Refusal::VersionDiffers);
        }
        if before.is_some_and(|before| before.closed) {
            return Err(Refusal::StatusDoesNotAllow);
        }
        let terms = wanted.terms.or(before.map(|before| before.terms)).ok_or(Refusal::UnknownRequestor)?;
        self.0[wanted.place] =
            Some(Registered { terms, version: version + 1, closed: wanted.terms.is_none() });
        Ok(())
    }
}

/// A requestor is to be registered, changed, or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registering {
    pub(crate) place: usize,
    /// None: it is to be closed.
    pub(crate) terms: Option<Terms>,
    /// The version that was seen.
    pub(crate) seen: Option<u32>,
    /// By the desk, or by the requestor itself.
    pub(crate) by_desk: bool,
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

/// Who asks, where that is not the token's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// By its place.
    Requestor(usize),
    /// That is asked about its cards.
    Issuer,
    Desk,
}

impl Party {
    /// Whether it may suspend in this name, and resume.
    pub(crate) fn suspends_as(self, name: Suspender) -> bool {
        match self {
            Self::Issuer => name == Suspender::Issuer,
            Self::Desk => name == Suspender::Operator,
            Self::Requestor(_) => !matches!(name, Suspender::Issuer | Suspender::Operator),
        }
    }

    /// Whether it may know of a token; `asked`: its card's issuer is asked about it.
    pub(crate) fn knows(self, owner: usize, asked: bool) -> bool {
        match self {
            Self::Requestor(place) => place == owner,
            Self::Issuer => asked,
            Self::Desk => true,
        }
    }
}

/// A card's number is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Telling {
    pub(crate) token: usize,
    /// By its number, with the expiry date that the token had; none: by its reference.
    pub(crate) by_number: Option<Expiry>,
    pub(crate) by: Party,
}

/// What becomes of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is told, for the first time or again.
    Told {
        again: bool,
    },
    No(Refusal),
}

/// How many cards' numbers of a requestor's tokens were told on the last day on which one was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ToldOn {
    day: u64,
    count: u32,
}

impl ToldOn {
    /// One more. A clock that goes back does not bring back another day.
    pub(crate) fn one_more(&mut self, at: Wall) {
        let day = at.0 / DAY;
        *self = Self { day: day.max(self.day), count: 1 + if day > self.day { 0 } else { self.count } };
    }

    /// Whether another one may be told where so many are, while `ahead` are on their way; `first`: when it was told
    /// before.
    pub(crate) fn allow(self, most: Option<u32>, ahead: u32, first: Option<Wall>, at: Wall) -> Verdict {
        let Some(most) = most else { return Verdict::No(Refusal::DetokenizationNotAllowed) };
        let told = ahead + if at.0 / DAY > self.day { 0 } else { self.count };
        if told.saturating_sub(u32::from(first.is_some())) >= most {
            Verdict::No(Refusal::DetokenizationsExhausted)
        } else if first.is_some_and(|first| at.0 >= first.0 + TOLD_AGAIN_MILLIS) {
            Verdict::No(Refusal::RepeatTooLate)
        } else {
            Verdict::Told { again: first.is_some() }
        }
    }
}
