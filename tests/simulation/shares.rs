//! `Shares`: what later messages may make of an earlier payment, by the journal's entries alone — refunds come to no
//! more than was captured, completions that are asked for to no more than was held as raised — and the same once more
//! by the issuers' ledgers and the acquirers' books, which know nothing of how the switch counts.

use std::collections::BTreeMap;

use tokenswitch::journal::{
    Body, Elements, Entry, OutcomeEntry, RequestEntry, StoredEntry, TransactionEntry,
};
use tokenswitch::sim::{
    Book, BookEntry, Earlier, Effect, Ledger, LedgerEntry, NamedBy, PaymentNumber, PaymentState,
};
use tokenswitch::stdx::clock::Moment;
use tokenswitch::vocab::{
    Amount, LinkId, MessageClass, Mti, Outcome, ProcessingCode, Refusal, TransactionId, TransactionKind,
};

use crate::setting::{ACQUIRERS, COMPLETIONS_PERCENT, REFUNDS_MOST, institution_of};

/// What a message is to its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Refund,
    Completion,
    Raise,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    of: Option<(TransactionId, Kind)>,
    is_hold: bool,
    asked: u64,
    /// What was approved; none before its outcome is known.
    approved: Option<u64>,
    /// What a reversal leaves.
    left: u64,
}

/// What may be refunded of something, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Room {
    captured: u64,
    held: u64,
}

impl Room {
    /// The larger.
    fn or(self, other: Self) -> Self {
        Self { captured: self.captured.max(other.captured), held: self.held.max(other.held) }
    }
}

/// The lines of all entries that were taken so far.
#[derive(Default)]
pub(crate) struct Shares {
    lines: BTreeMap<TransactionId, Line>,
    followers: BTreeMap<TransactionId, Vec<TransactionId>>,
    /// What there was before the block that is being taken, and before the last one: what is decided in one batch is
    /// appended together, and a share that was taken when its message came is told behind what came after it.
    before: [BTreeMap<TransactionId, Room>; 2],
}

impl Shares {
    /// The entries of one block; what is wrong with them.
    pub(crate) fn group(&mut self, entries: &[Entry]) -> Result<(), String> {
        if !entries.is_empty() {
            self.before.swap(0, 1);
            self.before[0].clear();
        }
        entries.iter().try_for_each(|entry| self.take(entry))
    }

    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let Body::Transaction(entry) = &entry.body else { return Ok(()) };
        match entry {
            TransactionEntry::Request(request) => self.requested(request),
            TransactionEntry::Outcome(outcome) => {
                self.ended(outcome);
                Ok(())
            }
            TransactionEntry::Stored(stored) => self.stored(stored),
            TransactionEntry::Delivered(_)
            | TransactionEntry::Tombstone(_)
            | TransactionEntry::Late(_)
            | TransactionEntry::Enquiry(_) => Ok(()),
        }
    }

    fn requested(&mut self, request: &RequestEntry) -> Result<(), String> {
        let is_hold = request.moves_money && !request.settles;
        let line = Line::of((request.acquirer.mti, request.original), &request.elements, is_hold);
        self.enter(request.transaction, line, true)
    }

    fn stored(&mut self, stored: &StoredEntry) -> Result<(), String> {
        if stored.is_reversal() {
            let Some(original) = stored.original else { return Ok(()) };
            self.note_before(original);
            if let Some(line) = self.lines.get_mut(&original) {
                line.left = stored.elements.final_amount().map_or(0, Amount::minor).min(line.left);
            }
            return Ok(());
        }
        let Some(leg) = stored.acquirer else { return Ok(()) };
        let line = Line::of((leg.mti, stored.original), &stored.elements, !stored.settles);
        let line = Line { approved: Some(line.asked), ..line };
        self.enter(stored.transaction, line, false)
    }

    fn enter(&mut self, id: TransactionId, line: Line, asks: bool) -> Result<(), String> {
        if let Some((of, kind)) = line.of {
            let room = self.room(of);
            let before = self.before.iter().filter_map(|before| before.get(&of));
            let room = before.fold(room, |room, before| room.or(*before));
            let taken = |kind| self.sum(of, kind, Line::takes);
            let (most, had) = match kind {
                Kind::Refund => (room.captured, taken(Kind::Refund)),
                Kind::Completion if asks => (room.held * COMPLETIONS_PERCENT / 100, taken(Kind::Completion)),
                Kind::Completion | Kind::Raise => (u64::MAX, 0),
            };
            if had.saturating_add(line.asked) > most {
                let asked = line.asked;
                return Err(format!("P3: {kind:?} {id} of {of} over {asked} on top of {had}, of {most}"));
            }
            self.note_before(of);
            self.followers.entry(of).or_default().push(id);
        }
        self.lines.insert(id, line);
        Ok(())
    }

    fn ended(&mut self, outcome: &OutcomeEntry) {
        self.note_before(outcome.transaction);
        let own = outcome.reversal.is_some() && outcome.advice.is_none();
        let approved = matches!(outcome.outcome, Outcome::Approved | Outcome::ApprovedPartly);
        let stands = approved && outcome.refusal.is_none() && !own;
        if let Some(line) = self.lines.get_mut(&outcome.transaction) {
            let minor = outcome.approved.map_or(line.asked, Amount::minor);
            line.approved = Some(if stands { minor } else { 0 });
        }
    }

    /// Keeps what there was of a transaction and of what it is about, before one of them changes.
    fn note_before(&mut self, id: TransactionId) {
        let of = self.lines.get(&id).and_then(|line| line.of);
        for id in of.map(|(of, _)| of).into_iter().chain([id]) {
            let room = self.room(id);
            self.before[0].entry(id).or_insert(room);
        }
    }

    fn room(&self, id: TransactionId) -> Room {
        let Some(line) = self.lines.get(&id) else { return Room { captured: 0, held: 0 } };
        let completed = || self.sum(id, Kind::Completion, Line::stands);
        let captured = if line.is_hold { completed() } else { line.stands() };
        let raised = if line.stands() == 0 { 0 } else { self.sum(id, Kind::Raise, Line::stands) };
        Room { captured, held: line.stands() + raised }
    }

    fn sum(&self, of: TransactionId, kind: Kind, minor: impl Fn(&Line) -> u64) -> u64 {
        let followers = self.followers.get(&of).into_iter().flatten();
        let lines = followers.filter_map(|id| self.lines.get(id));
        lines.filter(|line| line.of == Some((of, kind))).map(minor).sum()
    }
}

impl Line {
    fn of((mti, original): (Mti, Option<TransactionId>), elements: &Elements, is_hold: bool) -> Self {
        let processing = elements.get(3).and_then(|code| ProcessingCode::parse(code).ok());
        let kind = match processing.map(|code| code.kind()) {
            Some(TransactionKind::Credit) => Kind::Refund,
            _ if mti.class == MessageClass::Authorization => Kind::Raise,
            _ => Kind::Completion,
        };
        let asked = elements.amount().map_or(0, Amount::minor);
        Self { of: original.map(|of| (of, kind)), is_hold, asked, approved: None, left: u64::MAX }
    }

    /// What of it is approved and not taken back.
    fn stands(&self) -> u64 {
        self.approved.unwrap_or(0).min(self.left)
    }

    /// As `stands`, of what is asked for, too.
    fn takes(&self) -> u64 {
        self.approved.unwrap_or(self.asked).min(self.left)
    }
}

/// What issuers were told to give back is of what they know, of no other payment than its acquirer meant, and no more
/// than was taken. Without a name for it nothing goes back but by permission.
pub(crate) fn ledger_agrees(ledger: &Ledger, books: &[&Book]) -> Result<(), String> {
    let mut refunds: BTreeMap<(usize, String), (u64, u64)> = BTreeMap::new();
    for entry in ledger.entries() {
        let posting = &entry.posting;
        let at = (0..ACQUIRERS.len()).find(|at| posting.identity.acquirer == Some(institution_of(*at)));
        let Some(at) = at else { continue };
        let name = || format!("acquirer {at} RRN {:?}, {}", posting.rrn, posting.mti);
        let Some(original) = posting.original else {
            let refund = posting.processing.kind() == TransactionKind::Credit && entry.decision.approved;
            let permitted = ACQUIRERS[at] == ACQUIRERS[0] && posting.amount.minor() <= REFUNDS_MOST;
            if refund && !permitted {
                return Err(format!("P3: {} gives money back of nothing", name()));
            }
            continue;
        };
        let named = ledger.named(original).ok_or_else(|| format!("P3: {} is of nothing", name()))?;
        let meant = meant(books[at], posting.rrn.as_ref().map(|rrn| rrn.as_bytes()), posting.mti);
        if meant.is_none_or(|meant| Some(meant.rrn) != named.posting.rrn) {
            return Err(format!("P3: {} is of RRN {:?} at its issuer", name(), named.posting.rrn));
        }
        let root = root(ledger, named);
        let place = (at, format!("{:?}", root.posting.identity));
        let (back, taken) = refunds.entry(place).or_insert_with(|| (0, captured(ledger, root)));
        if posting.processing.kind() == TransactionKind::Credit {
            *back += entry.standing;
        }
        if back > taken {
            return Err(format!("P3: of {:?} {taken} were taken, and {back} go back", root.posting.rrn));
        }
    }
    Ok(())
}

/// The payment that the acquirer means by a message of its own.
fn meant<'a>(book: &'a Book, rrn: Option<&[u8]>, mti: Mti) -> Option<&'a BookEntry> {
    let sent = book.payments().iter().find(|entry| {
        let named = entry.payment.original.is_some_and(|original| original.by != NamedBy::Rrn);
        named && rrn.is_some_and(|rrn| rrn == entry.rrn.as_bytes()) && entry.payment.mti.class == mti.class
    })?;
    book.payment(sent.payment.original?.payment)
}

/// What a completion, or what raised it, is about; any other entry itself.
fn root<'a>(ledger: &'a Ledger, entry: &'a LedgerEntry) -> &'a LedgerEntry {
    let debit = entry.posting.processing.kind() == TransactionKind::Debit;
    let original = entry.posting.original.filter(|_| debit).and_then(|original| ledger.named(original));
    original.map_or(entry, |original| root(ledger, original))
}

/// What was ever taken by a payment, or by the completions of a hold.
fn captured(ledger: &Ledger, of: &LedgerEntry) -> u64 {
    let approved = |entry: &LedgerEntry| if entry.decision.approved { entry.decision.minor } else { 0 };
    if of.posting.mti.class == MessageClass::Financial || is_capture(of) {
        return approved(of);
    }
    let completions = ledger.entries().iter().filter(|entry| {
        entry.posting.mti.class == MessageClass::Financial
            && entry.posting.processing.kind() == TransactionKind::Debit
            && entry.effect != Effect::None
            && root(ledger, entry).posting.identity == of.posting.identity
    });
    completions.map(approved).sum()
}

/// The second acquirer's holds are captures.
fn is_capture(entry: &LedgerEntry) -> bool {
    entry.posting.identity.acquirer == Some(institution_of(1))
}

/// A refund that an acquirer could count on is not refused: of what was approved before it was asked for, and never
/// taken back, over what nobody else can have asked for.
pub(crate) fn nothing_good_is_refused(link: LinkId, book: &Book) -> Result<(), String> {
    for refund in book.payments().iter().filter(|entry| entry.is_refund()) {
        let refused = refund.answer.filter(|answer| answer.refused_as(Refusal::RefundNotPermitted));
        let named = refund.payment.original.filter(|original| original.by == NamedBy::Data);
        let Some((answer, original)) = refused.zip(named) else { continue };
        let Some(captured) = certainly_captured(link, book, original, refund.intended) else { continue };
        let family = |number| root_of(book, number) == root_of(book, original.payment);
        let asked = book.payments().iter().filter(|other| {
            other.is_refund()
                && other.intended <= answer.at
                && other.payment.original.is_some_and(|it| family(it.payment))
        });
        let asked: u64 = asked.map(|other| other.payment.amount.minor()).sum();
        if asked <= captured {
            let rrn = refund.rrn;
            return Err(format!("P2: refund {rrn} is refused, of {captured} with {asked} asked for in all"));
        }
    }
    Ok(())
}

fn root_of(book: &Book, number: PaymentNumber) -> PaymentNumber {
    let is_part = |entry: &&BookEntry| !entry.is_refund() && entry.payment.original.is_some();
    let entry = book.payment(number).filter(is_part);
    entry.and_then(|entry| book.hold_of(entry)).unwrap_or(number)
}

/// What was captured by then of a payment that was never taken back; nothing that could be doubted.
fn certainly_captured(link: LinkId, book: &Book, original: Earlier, by: Moment) -> Option<u64> {
    let entry = book.payment(original.payment)?;
    let reversed = |number: PaymentNumber| book.reversals().iter().any(|reversal| reversal.of == number);
    let alone = entry.payment.original.is_none();
    let debit = entry.payment.processing.kind() == TransactionKind::Debit;
    let is_capture = entry.payment.mti.class == MessageClass::Financial || link == ACQUIRERS[1];
    let stands = entry.state == PaymentState::Answered && entry.is_approved_by(by);
    let good = alone && debit && is_capture && stands && !reversed(original.payment);
    entry.answer.filter(|_| good).map(|answer| answer.minor)
}
