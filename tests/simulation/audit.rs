//! `Audit`: what the promises say of every durable entry, every frame that leaves, and the end of a run. It knows the
//! journal and the wire, and nothing of how the switch decides.

use std::collections::{BTreeMap, BTreeSet};

use tokenswitch::codec::{DataElement, LeakScan, Message};
use tokenswitch::journal::{
    Body, Elements, Entry, EntryNumber, IssuerLeg, OutcomeEntry, RequestEntry, StoredEntry, StoredKind,
    TombstoneEntry, TransactionEntry,
};
use tokenswitch::vocab::{
    Amount, CounterSeries, InstitutionId, LinkId, MessageClass, MessageFunction, Mti, Outcome, Pan,
    SettlementWindow, Stan, TransactionId,
};

use crate::journal_book::JournalBook;
use crate::setting::{ACQUIRERS, ISSUERS, STAND_IN_MOST, dialect_of};
use crate::settlement::Settlement;
use crate::shares::Shares;

/// What an acquirer knows a message of its own by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    link: LinkId,
    class: u8,
    stan: Stan,
    sent_at: [u8; 10],
    rrn: Option<[u8; 12]>,
}

/// What an issuer knows a message by: link, class, DE 11, DE 7 and DE 32.
type Place = (LinkId, u8, Stan, [u8; 10], Option<InstitutionId>);

fn place_of(leg: &IssuerLeg, elements: &Elements) -> Place {
    let acquirer = elements.get(32).and_then(|digits| InstitutionId::parse(digits).ok());
    (leg.link, class_of(leg.mti), leg.stan, leg.sent_at.transmission_time().digits(), acquirer)
}

/// A promise that was not kept.
pub(crate) type Broken = String;

/// The journal as far as it is durable, and what has left.
#[derive(Default)]
pub(crate) struct Audit {
    entries: Vec<Vec<u8>>,
    requests: BTreeMap<TransactionId, RequestEntry>,
    outcomes: BTreeMap<TransactionId, OutcomeEntry>,
    stored: BTreeMap<TransactionId, StoredEntry>,
    /// The order in which they were stored.
    stored_as: BTreeMap<TransactionId, usize>,
    /// Stored messages that have come to their issuers, and of each card, by its number there, the newest of them.
    arrived: BTreeSet<TransactionId>,
    newest_of_card: BTreeMap<(LinkId, Vec<u8>), TransactionId>,
    /// How often each card was stood in for, as its issuer was told, and how often it may be.
    stood_in: BTreeMap<(LinkId, Vec<u8>), usize>,
    stand_in_count: usize,
    /// Few answers are remembered.
    forgets: bool,
    delivered: BTreeMap<TransactionId, u32>,
    tombstones: Vec<TombstoneEntry>,
    named: BTreeMap<Name, Vec<TransactionId>>,
    /// Requests and stored messages by what their issuers know them by.
    to_issuers: BTreeMap<Place, TransactionId>,
    /// How often a byte of a request left as an original.
    originals: BTreeMap<TransactionId, u32>,
    /// What issuers are asked about cards, and whether it has left.
    enquiries: BTreeMap<TransactionId, bool>,
    approvals: BTreeMap<Name, Vec<u8>>,
    last_window: Option<SettlementWindow>,
    closed: BTreeSet<SettlementWindow>,
    book: JournalBook,
    settlement: Settlement,
    shares: Shares,
    /// How many entries were durable before the block that was written last.
    before_last_group: usize,
    /// PANs that no acquirer may see.
    secrets: Vec<LeakScan>,
    pub(crate) answers: u64,
}

fn class_of(mti: Mti) -> u8 {
    mti.digits()[1]
}

fn name_of(link: LinkId, message: &Message) -> Option<Name> {
    let stan = message.stan().ok().flatten()?;
    let sent_at = message.sent_at().ok().flatten()?.digits();
    let rrn = message.get(DataElement::RRN).and_then(|value| value.try_into().ok());
    Some(Name { link, class: class_of(message.mti()), stan, sent_at, rrn })
}

fn broken(promise: &str, what: impl AsRef<str>) -> Result<(), Broken> {
    Err(format!("{promise}: {}", what.as_ref()))
}

/// The outcome is on disk, with the refusal that is told.
fn durably_refused(outcome: Option<&OutcomeEntry>, told: &str) -> Result<(), Broken> {
    let durable = outcome.and_then(|outcome| outcome.refusal).map(|refusal| refusal.name());
    ensure(durable == Some(told), "P1", || format!("durable is {durable:?}"))
}

fn ensure(holds: bool, promise: &str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { broken(promise, what()) }
}

/// What takes back what an issuer was asked before the payment was approved in its place.
fn reversal_before_advice(outcome: &OutcomeEntry) -> Option<TransactionId> {
    outcome.advice.as_ref().and(outcome.reversal.as_ref()).map(|reversal| reversal.transaction)
}

fn is_approved(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Approved | Outcome::ApprovedPartly)
}

impl Audit {
    /// `stand_in_count`: how many payments of one card may be approved in its issuer's place.
    pub(crate) fn new(secrets: &[Pan], stand_in_count: usize, forgets: bool) -> Self {
        let secrets = secrets.iter().map(LeakScan::new).collect();
        Self { secrets, stand_in_count, forgets, ..Self::default() }
    }

    pub(crate) fn durable_entries(&self) -> usize {
        self.entries.len()
    }

    /// Every durable entry, encoded.
    pub(crate) fn encoded(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The durable entries before this one.
    pub(crate) fn before(&self, first: EntryNumber) -> Vec<Entry> {
        let gone = usize::try_from(first.0.saturating_sub(1)).expect("they fit memory");
        let decoded = |bytes: &Vec<u8>| Entry::decode(bytes).expect("it was encoded");
        self.entries.iter().take(gone).map(decoded).collect()
    }

    pub(crate) fn newest_request(&self) -> Option<TransactionId> {
        self.requests.last_key_value().map(|(id, _)| *id)
    }

    /// A durable request.
    pub(crate) fn request_of(&self, id: TransactionId) -> Option<&RequestEntry> {
        self.requests.get(&id)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn reversals(&self) -> usize {
        self.stored.values().filter(|stored| stored.is_reversal()).count()
    }

    /// Entries read back after a restart: what was durable before must be there, unchanged.
    pub(crate) fn read_back(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        ensure(entries.len() >= self.entries.len(), "P1", || {
            format!("{} entries were durable, {} are left", self.entries.len(), entries.len())
        })?;
        let known = self.entries.len();
        self.unchanged(entries)?;
        self.group(entries.get(known..).unwrap_or_default())
    }

    /// What is left of a journal is a beginning of it, no shorter than `least` entries.
    pub(crate) fn is_beginning(&self, entries: &[Entry], least: usize) -> Result<(), Broken> {
        ensure(entries.len() >= least, "P8", || {
            format!("of {} entries {} are read, and no damage is told", self.entries.len(), entries.len())
        })?;
        self.unchanged(entries)
    }

    fn unchanged(&self, entries: &[Entry]) -> Result<(), Broken> {
        for (entry, before) in entries.iter().zip(&self.entries) {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            ensure(bytes == *before, "P1", || format!("entry {} is another one now", entry.number.0))?;
        }
        Ok(())
    }

    /// How many entries were durable before the block that was written last.
    pub(crate) fn before_last_group(&self) -> usize {
        self.before_last_group
    }

    /// What the journal says stands at the issuers.
    pub(crate) fn book(&self) -> &JournalBook {
        &self.book
    }

    /// What it says of each settlement window.
    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The entries of one block became durable.
    pub(crate) fn group(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        if !entries.is_empty() {
            self.before_last_group = self.entries.len();
        }
        self.shares.group(entries)?;
        entries.iter().try_for_each(|entry| self.durable(entry))
    }

    /// An entry became durable.
    fn durable(&mut self, entry: &Entry) -> Result<(), Broken> {
        self.book.take(entry);
        self.settlement.take(entry);
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.entries.push(bytes);
        ensure(entry.number.0 == self.entries.len() as u64, "P1", || {
            format!("entry {} follows {}", entry.number.0, self.entries.len() - 1)
        })?;
        match &entry.body {
            Body::Transaction(TransactionEntry::Request(request)) => self.request(request),
            Body::Transaction(TransactionEntry::Outcome(outcome)) => self.outcome(outcome),
            Body::Transaction(TransactionEntry::Stored(stored)) => self.stored(stored),
            Body::Transaction(TransactionEntry::Delivered(delivered)) => {
                *self.delivered.entry(delivered.stored).or_default() += 1;
                ensure(self.stored.contains_key(&delivered.stored), "P3", || {
                    format!("{} was delivered and never stored", delivered.stored)
                })
            }
            Body::Transaction(TransactionEntry::Tombstone(tombstone)) => {
                self.tombstones.push((**tombstone).clone());
                Ok(())
            }
            Body::Transaction(TransactionEntry::Enquiry(enquiry)) => {
                let place = place_of(&enquiry.issuer, &Elements::default());
                self.enquiries.insert(enquiry.transaction, false);
                let before = self.to_issuers.insert(place, enquiry.transaction);
                ensure(before.is_none(), "P3", || format!("{place:?} is used twice"))
            }
            Body::Transaction(TransactionEntry::Late(_)) | Body::Token(_) | Body::Operator(_) => Ok(()),
            Body::CutOver(window) => self.window(*window),
            Body::WindowClosed(window) => self.window_closed(*window),
        }
    }

    fn window_closed(&mut self, window: SettlementWindow) -> Result<(), Broken> {
        let over = self.last_window.is_some_and(|last| window < last);
        ensure(over && self.closed.insert(window), "P4", || {
            format!("{window} is closed too early or twice")
        })?;
        let mut open =
            self.requests.iter().filter(|(id, it)| it.window == window && !self.outcomes.contains_key(id));
        let left = open.next().map(|(id, _)| *id);
        ensure(left.is_none(), "P4", || format!("{window} is closed and {left:?} has no outcome"))
    }

    fn window(&mut self, window: SettlementWindow) -> Result<(), Broken> {
        let before = self.last_window.replace(window);
        ensure(before.is_none_or(|before| before <= window), "P4", || {
            format!("window {window} comes after {}", before.map(|w| w.to_string()).unwrap_or_default())
        })
    }

    fn request(&mut self, request: &RequestEntry) -> Result<(), Broken> {
        let id = request.transaction;
        let leg = &request.acquirer;
        let name = Name {
            link: leg.link,
            class: class_of(leg.mti),
            stan: leg.stan,
            sent_at: leg.sent_at.transmission_time().digits(),
            rrn: request.elements.get(37).and_then(|value| value.try_into().ok()),
        };
        let same = self.named.entry(name).or_default();
        same.push(id);
        ensure(same.len() == 1, "P2", || format!("{name:?} is journaled for forwarding twice: {same:?}"))?;
        let issuer = &request.issuer;
        let place = place_of(issuer, &request.elements);
        ensure(self.to_issuers.insert(place, id).is_none(), "P2", || format!("{place:?} is used twice"))?;
        let financial = leg.mti.class == MessageClass::Financial || leg.link == ACQUIRERS[1];
        ensure(request.settles == (request.moves_money && financial), "P4", || {
            format!("{id} counts wrongly")
        })?;
        ensure(self.requests.insert(id, request.clone()).is_none(), "P2", || format!("{id} is given twice"))?;
        let closed = self.closed.contains(&request.window);
        ensure(!closed, "P4", || format!("{id} counts in {}, which is closed", request.window))?;
        self.window(request.window)
    }

    fn outcome(&mut self, outcome: &OutcomeEntry) -> Result<(), Broken> {
        let id = outcome.transaction;
        ensure(self.requests.contains_key(&id), "P1", || format!("{id} has an outcome and no request"))?;
        ensure(self.outcomes.insert(id, outcome.clone()).is_none(), "P2", || {
            format!("{id} has two outcomes")
        })?;
        outcome.reversal.iter().chain(&outcome.advice).try_for_each(|stored| self.stored(stored))
    }

    fn stored(&mut self, stored: &StoredEntry) -> Result<(), Broken> {
        let id = stored.transaction;
        let place = place_of(&stored.issuer, &stored.elements);
        ensure(self.to_issuers.insert(place, id).is_none(), "P3", || format!("{place:?} is used twice"))?;
        self.stored_as.insert(id, self.stored.len());
        ensure(self.stored.insert(id, stored.clone()).is_none(), "P3", || format!("{id} is stored twice"))?;
        let closed = self.closed.contains(&stored.window);
        ensure(!closed, "P4", || format!("{id} counts in {}, which is closed", stored.window))?;
        let Some(original) = stored.original.filter(|_| stored.is_reversal()) else { return Ok(()) };
        let of_it = self.reversals_of(original).count();
        ensure(of_it <= 1, "P3", || format!("{original} is reversed {of_it} times"))
    }

    /// What takes back what the acquirer was told. Of a payment that was approved in its issuer's place the reversal of
    /// what the issuer was asked is none: the advice comes behind it.
    fn reversals_of(&self, original: TransactionId) -> impl Iterator<Item = &StoredEntry> {
        let asked = self.outcomes.get(&original).and_then(reversal_before_advice);
        let reverses = move |stored: &&StoredEntry| {
            stored.is_reversal() && stored.original == Some(original) && asked != Some(stored.transaction)
        };
        self.stored.values().filter(reverses)
    }

    /// A frame was put into an issuer's output.
    pub(crate) fn leaves_for_issuer(
        &mut self,
        link: LinkId,
        message: &Message,
    ) -> Result<Option<TransactionId>, Broken> {
        let mti = message.mti();
        if mti.class == MessageClass::NetworkManagement {
            return Ok(None);
        }
        let name = name_of(link, message).ok_or("P2: a request without DE 7 or DE 11")?;
        let place = (link, name.class, name.stan, name.sent_at, message.acquirer().ok().flatten());
        let Some(id) = self.to_issuers.get(&place).copied() else {
            return Err(format!("P1: {mti} {:?} leaves for an issuer and is in no durable entry", name.stan));
        };
        if let Some(left) = self.enquiries.get_mut(&id) {
            let again = std::mem::replace(left, true);
            return ensure(!again, "P2", || format!("the enquiry {id} leaves twice")).map(|()| None);
        }
        let day = message.settlement_date().ok().flatten();
        if mti.function == MessageFunction::Request {
            let request = self.requests.get(&id).ok_or(format!("P1: {id} leaves and is no request"))?;
            let again = mti.is_repeat() && link == ISSUERS[1] && self.originals.contains_key(&id);
            let first = mti == request.issuer.mti;
            ensure(first || again, "P2", || format!("{id} leaves as {mti}"))?;
            ensure(day == Some(request.window.date.month_day()), "P4", || format!("{id} has DE 15 {day:?}"))?;
            ensure(!self.outcomes.contains_key(&id), "P2", || format!("{id} leaves after its outcome"))?;
            return Ok(first.then_some(id));
        }
        let stored = self.stored.get(&id).ok_or(format!("P1: {id} leaves and is not stored"))?;
        ensure(mti.first() == stored.issuer.mti.with_version(mti.version), "P3", || {
            format!("{id} leaves as {mti}")
        })?;
        ensure(day == Some(stored.window.date.month_day()), "P4", || format!("{id} has DE 15 {day:?}"))?;
        let original = stored.original.filter(|_| stored.is_reversal());
        if let Some(original) = original.and_then(|original| self.requests.get(&original)) {
            let data = message.original_data().ok().flatten().ok_or("P3: a reversal without DE 90")?;
            let outcome = self.outcomes.get(&original.transaction);
            let told = outcome.filter(|outcome| reversal_before_advice(outcome) != Some(id));
            // What was approved in its place the issuer knows by the advice.
            let told = told.and_then(|outcome| outcome.advice.as_ref());
            let leg = told.map_or(&original.issuer, |advice| &advice.issuer);
            let names_it = data.stan == leg.stan && data.sent_at == leg.sent_at.transmission_time();
            ensure(names_it && data.mti == leg.mti, "P3", || format!("{id} reverses something else"))?;
            ensure(outcome.is_some(), "P3", || format!("{id} overtakes its original"))?;
        }
        Ok(None)
    }

    /// A frame came to an issuer. What is stored for one card comes to it in the order in which it was stored, each for
    /// the first time; a repeat of an earlier one may follow.
    pub(crate) fn came_to_issuer(&mut self, link: LinkId, message: &Message) -> Result<(), Broken> {
        let Some(name) = name_of(link, message) else { return Ok(()) };
        let place = (link, name.class, name.stan, name.sent_at, message.acquirer().ok().flatten());
        let id = self.to_issuers.get(&place).copied().filter(|id| self.stored.contains_key(id));
        let Some(id) = id.filter(|id| self.arrived.insert(*id)) else { return Ok(()) };
        let card = message.get(DataElement::PAN).unwrap_or_default().to_vec();
        let before = self.newest_of_card.insert((link, card), id);
        let in_order = before.is_none_or(|before| self.stored_as.get(&before) < self.stored_as.get(&id));
        ensure(in_order, "P3", || {
            format!("{id} comes behind {before:?} of its card, which was stored later")
        })?;
        if self.stored[&id].kind != StoredKind::StandIn {
            return Ok(());
        }
        let minor = message.amount().ok().flatten().map_or(0, Amount::minor);
        let card = (link, message.get(DataElement::PAN).unwrap_or_default().to_vec());
        let count = self.stood_in.entry(card).or_default();
        *count += 1;
        let within = minor <= STAND_IN_MOST && *count <= self.stand_in_count;
        ensure(within, "P3", || {
            format!("{id} over {minor} is approved in the issuer's place, as number {count}")
        })
    }

    /// How many payments were approved in their issuers' place, as far as these know by now.
    pub(crate) fn stood_in(&self) -> usize {
        self.stood_in.values().sum()
    }

    /// The first byte of an original was handed to a socket.
    pub(crate) fn original_began(&mut self, id: TransactionId) -> Result<(), Broken> {
        let count = self.originals.entry(id).or_default();
        *count += 1;
        ensure(*count == 1, "P2", || format!("{id} left {count} times as an original"))
    }

    /// A frame was put into the output of somebody who only connected.
    pub(crate) fn leaves_for_stranger(&self, frame: &[u8]) -> Result<(), Broken> {
        self.keeps_secrets(frame)
    }

    fn keeps_secrets(&self, frame: &[u8]) -> Result<(), Broken> {
        ensure(self.secrets.iter().all(|scan| scan.find(frame).is_none()), "P5", || {
            "a frame on the acquirers' side holds the PAN behind a token".to_owned()
        })
    }

    /// A frame was put into an acquirer's output.
    pub(crate) fn leaves_for_acquirer(
        &mut self,
        link: LinkId,
        frame: &[u8],
        message: &Message,
    ) -> Result<(), Broken> {
        self.keeps_secrets(frame)?;
        let mti = message.mti();
        if mti.class == MessageClass::NetworkManagement {
            return Ok(());
        }
        self.answers += 1;
        ensure(mti.is_answer(), "P2", || format!("acquirer {link} is sent a {mti}"))?;
        let name = name_of(link, message).ok_or("P2: an answer without DE 7 or DE 11")?;
        let data = dialect_of(link).token_data(message).map_err(|error| format!("P2: {error}"))?;
        let code = message.get(DataElement::RESPONSE_CODE).unwrap_or_default();
        let refusal = data.refusal.as_ref().map(|refusal| refusal.as_str().to_owned());
        let advice = matches!(mti.digits()[2], b'3');
        let checked = match mti.class {
            MessageClass::Reversal => self.reversal_answered(&name, message, code, refusal.as_deref()),
            _ if advice => self.advice_answered(&name, refusal.as_deref()),
            _ => self.payment_answered(name, frame, message, refusal.as_deref()),
        };
        checked.map_err(|error| {
            let code = String::from_utf8_lossy(code);
            format!("{error}\n  in {mti} to acquirer {link}: {name:?} DE 39 {code} {refusal:?}")
        })
    }

    fn payment_answered(
        &mut self,
        name: Name,
        frame: &[u8],
        message: &Message,
        refusal: Option<&str>,
    ) -> Result<(), Broken> {
        let forwarded = self.named.get(&name).and_then(|ids| ids.first().copied());
        let outcome = forwarded.and_then(|id| self.outcomes.get(&id));
        match refusal {
            None => {
                let Some(outcome) = outcome else { return broken("P1", "the outcome is not durable") };
                ensure(outcome.refusal.is_none(), "P2", || format!("durable is {:?}", outcome.refusal))?;
                for element in [DataElement::RESPONSE_CODE, DataElement::APPROVAL_CODE] {
                    let durable = outcome.answer.get(element.number());
                    // Without a word of the issuer's there is an advice to it, and only then an approval.
                    let ours = outcome.advice.is_some() && element == DataElement::RESPONSE_CODE;
                    let durable = if ours { Some(&b"00"[..]) } else { durable };
                    ensure(message.get(element) == durable, "P1", || {
                        format!("DE {element:?} is not as durable")
                    })?;
                }
                let window = self.requests.get(&outcome.transaction).map(|request| request.window);
                let day = message.settlement_date().ok().flatten();
                ensure(day == window.map(|window| window.date.month_day()), "P4", || {
                    format!("DE 15 {day:?} for {window:?}")
                })?;
                let reversed = self.reversals_of(outcome.transaction).any(StoredEntry::takes_all_back);
                let approved = is_approved(outcome.outcome);
                ensure(!(approved && reversed), "P2", || "an approval after its reversal".to_owned())?;
                let first = self.approvals.entry(name).or_insert_with(|| frame.to_vec());
                ensure(first == frame, "P2", || "a repeat gets another answer".to_owned())
            }
            Some("answer-withheld") => {
                let Some(outcome) = outcome else {
                    return broken("P1", "withheld, and no outcome is durable");
                };
                let withheld = outcome.refusal == Some(tokenswitch::vocab::Refusal::AnswerWithheld);
                let reversed = self.reversals_of(outcome.transaction).next().is_some();
                ensure(withheld || reversed, "P1", || "withheld, and no reversal is durable".to_owned())
            }
            Some("leak-suppressed") => {
                let Some(outcome) = outcome else { return broken("P1", "the outcome is not durable") };
                let reversed = self.reversals_of(outcome.transaction).next().is_some();
                ensure(reversed || !is_approved(outcome.outcome), "P3", || {
                    "no reversal is durable".to_owned()
                })
            }
            Some(
                refusal @ ("issuer-timed-out"
                | "issuer-link-lost"
                | "issuer-answer-invalid"
                | "partial-not-supported"
                | "issuer-unavailable"),
            ) => durably_refused(outcome, refusal),
            Some("altered-duplicate") => Ok(()),
            Some("shutting-down") if forwarded.is_some() && outcome.is_some() => {
                let durable = outcome.and_then(|outcome| outcome.refusal).map(|refusal| refusal.name());
                let known = durable == Some("shutting-down");
                ensure(known, "P1", || format!("durable is {durable:?}"))
            }
            // While it waited to be looked up it was in no journal.
            Some("reversed-in-flight" | "not-durable-in-time") if forwarded.is_none() => Ok(()),
            Some(refusal @ ("reversed-in-flight" | "not-durable-in-time")) => {
                durably_refused(outcome, refusal)
            }
            // What an original was answered is forgotten where few answers are kept: a repeat may then be too old to be
            // looked for.
            Some("too-old") if self.forgets => Ok(()),
            // Said without asking anybody: it must not have been forwarded. What was written down first, and withdrawn
            // since its token had been suspended, did not leave.
            Some(refusal) => {
                let durable = outcome.and_then(|outcome| outcome.refusal).map(|refusal| refusal.name());
                let stayed = forwarded.is_none_or(|id| !self.originals.contains_key(&id));
                let withdrawn = durable == Some(refusal) && refusal.starts_with("token-") && stayed;
                ensure(forwarded.is_none() || withdrawn, "P2", || {
                    format!("it was forwarded as {forwarded:?}")
                })
            }
        }
    }

    fn advice_answered(&self, name: &Name, refusal: Option<&str>) -> Result<(), Broken> {
        let kept = refusal.is_some() || self.has_stored(name, |kind| kind == StoredKind::Advice);
        ensure(kept, "P1", || "an advice is acknowledged and not durable".to_owned())
    }

    fn has_stored(&self, name: &Name, fits: impl Fn(StoredKind) -> bool) -> bool {
        self.stored.values().any(|stored| {
            fits(stored.kind)
                && stored.acquirer.is_some_and(|leg| {
                    leg.link == name.link
                        && leg.stan == name.stan
                        && class_of(leg.mti) == name.class
                        && leg.sent_at.transmission_time().digits() == name.sent_at
                })
        })
    }

    fn reversal_answered(
        &self,
        name: &Name,
        message: &Message,
        code: &[u8],
        refusal: Option<&str>,
    ) -> Result<(), Broken> {
        let link = name.link;
        let buried = self.tombstones.iter().any(|tombstone| {
            let leg = &tombstone.acquirer;
            leg.link == link
                && leg.stan == name.stan
                && leg.sent_at.transmission_time().digits() == name.sent_at
        });
        if refusal == Some("unknown-original") {
            return ensure(buried, "P1", || "no tombstone is durable".to_owned());
        }
        if refusal.is_some() || self.has_stored(name, |kind| kind == StoredKind::AcquirerReversal) {
            return Ok(());
        }
        ensure(code == b"00", "P3", || "a reversal is declined without a reason".to_owned())?;
        // Nothing is delivered for it, so nothing may stand.
        let data = message.original_data().ok().flatten().ok_or("P3: an answer without DE 90")?;
        let originals = self.requests.values().filter(|request| {
            let leg = &request.acquirer;
            leg.link == link
                && leg.stan == data.stan
                && leg.mti.class == data.mti.class
                && leg.sent_at.transmission_time() == data.sent_at
        });
        for original in originals {
            let id = original.transaction;
            let declined = self.outcomes.get(&id).is_some_and(|outcome| !is_approved(outcome.outcome));
            // A request that was buried before it left is declined, or reversed after a crash.
            let reversed =
                self.reversals_of(id).next().is_some() || buried && !self.originals.contains_key(&id);
            ensure(declined || reversed || !original.moves_money, "P1", || {
                format!("the reversal of {id} is acknowledged and not durable")
            })?;
        }
        let advised = self.stored.values().filter(|stored| {
            let named = |leg: tokenswitch::journal::AcquirerLeg| {
                leg.link == link
                    && leg.stan == data.stan
                    && leg.mti.class == data.mti.class
                    && leg.sent_at.transmission_time() == data.sent_at
            };
            let moves = stored.elements.get(3).is_some_and(|processing| !processing.starts_with(b"3"));
            moves && stored.kind == StoredKind::Advice && stored.acquirer.is_some_and(named)
        });
        for advice in advised {
            let reversed = self.reversals_of(advice.transaction).next().is_some();
            ensure(reversed, "P3", || format!("advice {} is to be undone and is not", advice.transaction))?;
        }
        Ok(())
    }

    /// A process that was told to end has ended.
    pub(crate) fn nothing_is_open(&self) -> Result<(), Broken> {
        let open = self.requests.keys().find(|id| !self.outcomes.contains_key(id));
        ensure(open.is_none(), "P12", || format!("it ended in order, and {open:?} has no outcome"))
    }

    /// It ended in order, and these approvals did not come to their acquirers.
    pub(crate) fn are_taken_back(&self, approvals: &BTreeSet<TransactionId>) -> Result<(), Broken> {
        let stands = approvals.iter().find(|id| self.reversals_of(**id).next().is_none());
        ensure(stands.is_none(), "P3", || {
            format!("it ended in order, and {stands:?} was not given and stands")
        })
    }

    /// The payment that an answer approves, where money moved for it.
    pub(crate) fn approved_by(&self, link: LinkId, answer: &Message) -> Option<TransactionId> {
        let name = name_of(link, answer).filter(|name| self.approvals.contains_key(name))?;
        let id = *self.named.get(&name)?.first()?;
        let (request, outcome) = (self.requests.get(&id)?, self.outcomes.get(&id)?);
        (request.moves_money && is_approved(outcome.outcome)).then_some(id)
    }

    /// The queues are empty: nothing may be left over.
    pub(crate) fn at_rest(&self) -> Result<(), Broken> {
        for (id, request) in &self.requests {
            let Some(outcome) = self.outcomes.get(id) else {
                return broken("P3", format!("{id} has no outcome"));
            };
            let reversals = self.reversals_of(*id).count();
            let left = self.originals.contains_key(id);
            let owed = request.moves_money && left && outcome.outcome == Outcome::Unknown;
            ensure(!owed || reversals == 1, "P3", || {
                format!("{id} ended unknown and is reversed {reversals} times")
            })?;
            let asked = left && request.moves_money && outcome.advice.is_some();
            ensure(!asked || outcome.reversal.is_some(), "P3", || {
                format!("{id} was asked, approved in the issuer's place, and not taken back before that")
            })?;
        }
        for id in self.stored.keys() {
            let ends = self.delivered.get(id).copied().unwrap_or_default();
            ensure(ends == 1, "P3", || format!("{id} was delivered {ends} times"))?;
        }
        self.cryptograms()
    }

    /// At most one approval for a token's counter, and so for its cryptogram.
    fn cryptograms(&self) -> Result<(), Broken> {
        let mut approved: BTreeMap<(u64, CounterSeries, u16), TransactionId> = BTreeMap::new();
        for (id, request) in &self.requests {
            let Some(outcome) = self.outcomes.get(id).filter(|it| is_approved(it.outcome)) else { continue };
            let taken = outcome.counter.map(|(_, counter)| counter).or(request.counter);
            let (Some(token), Some(counter)) = (&request.card.token, taken) else { continue };
            let before = approved.insert((token.record, counter.series, counter.atc), *id);
            ensure(before.is_none(), "P7", || {
                format!("{id} and {before:?} were approved for one cryptogram")
            })?;
        }
        Ok(())
    }
}
