//! `JournalBook`: what the journal by itself says stands at the issuers, transaction by transaction. Taken from the
//! entries alone, so that it can be compared with the acquirers' books and the issuers' ledgers.

use std::collections::BTreeMap;

use tokenswitch::journal::{
    Body, DeliveryEnd, Elements, Entry, OutcomeEntry, RequestEntry, StoredEntry, StoredKind, TransactionEntry,
};
use tokenswitch::sim::{Record, Standing};
use tokenswitch::vocab::{
    InstitutionId, MessageClass, Mti, Outcome, ProcessingCode, Rrn, TransactionId, TransactionKind,
};

/// The lines of all entries that were taken so far.
#[derive(Default)]
pub(crate) struct JournalBook {
    lines: BTreeMap<TransactionId, Line>,
}

struct Line {
    acquirer: InstitutionId,
    rrn: Rrn,
    class: MessageClass,
    kind: TransactionKind,
    asked: u64,
    /// What it completes, raises or refunds.
    original: Option<TransactionId>,
    standing: Standing,
    /// A reversal of a payment in flight comes before its outcome.
    reversed: bool,
}

impl JournalBook {
    pub(crate) fn take(&mut self, entry: &Entry) {
        let Body::Transaction(entry) = &entry.body else { return };
        match entry {
            TransactionEntry::Request(request) => self.requested(request),
            TransactionEntry::Outcome(outcome) => self.ended(outcome),
            TransactionEntry::Stored(stored) => self.stored(stored),
            TransactionEntry::Delivered(delivered) => {
                if let DeliveryEnd::Parked(_) | DeliveryEnd::SetAside(_) = delivered.end {
                    self.lines.remove(&delivered.stored);
                }
            }
            TransactionEntry::Tombstone(_) | TransactionEntry::Late(_) | TransactionEntry::Enquiry(_) => {}
        }
    }

    /// For reconciliation with the ledgers.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.lines.values().map(|line| Record {
            acquirer: line.acquirer,
            rrn: line.rrn,
            class: line.class,
            pan: None,
            standing: line.standing,
        })
    }

    fn requested(&mut self, request: &RequestEntry) {
        if let Some(line) = Line::of(request.acquirer.mti, &request.elements, request.original) {
            self.lines.insert(request.transaction, line);
        }
    }

    fn ended(&mut self, outcome: &OutcomeEntry) {
        let approved = matches!(outcome.outcome, Outcome::Approved | Outcome::ApprovedPartly);
        if let Some(hold) =
            self.lines.get(&outcome.transaction).filter(|_| approved).and_then(Line::completes)
        {
            self.close(hold);
        }
        if let Some(line) = self.lines.get_mut(&outcome.transaction).filter(|line| !line.reversed) {
            let moves = approved && line.kind != TransactionKind::Inquiry;
            let minor = outcome.approved.map_or(line.asked, tokenswitch::vocab::Amount::minor);
            line.standing = if moves { Standing::Money(minor) } else { Standing::Nothing };
        }
        // Where it was approved in the issuer's place, the reversal is of what the issuer was asked.
        if let Some(reversal) = outcome.reversal.as_ref().filter(|_| outcome.advice.is_none()) {
            self.stored(reversal);
        }
    }

    fn stored(&mut self, stored: &StoredEntry) {
        if let StoredKind::AcquirerReversal | StoredKind::OwnReversal(_) = stored.kind {
            let line = stored.original.and_then(|original| self.lines.get_mut(&original));
            // DE 95 begins with what is to stand in the end.
            let kept = stored.elements.get(95).and_then(|amounts| number(amounts.get(..12)?));
            if let Some(line) = line {
                line.reversed = true;
                line.standing = kept.filter(|kept| *kept > 0).map_or(Standing::Nothing, Standing::Money);
            }
            return;
        }
        let Some(leg) = stored.acquirer else { return };
        let Some(mut line) = Line::of(leg.mti, &stored.elements, stored.original) else { return };
        if line.kind != TransactionKind::Inquiry {
            line.standing = Standing::Money(line.asked);
        }
        match line.completes() {
            Some(hold) => self.close(hold),
            None if line.class == MessageClass::Financial && line.kind == TransactionKind::Debit => {
                self.close_hold(&line);
            }
            None => {}
        }
        self.lines.insert(stored.transaction, line);
    }

    /// A completion closes the hold that it names, and what raised that.
    fn close(&mut self, hold: TransactionId) {
        for (id, line) in &mut self.lines {
            let closed = *id == hold || line.original == Some(hold);
            if closed && line.class == MessageClass::Authorization {
                line.standing = Standing::Nothing;
            }
        }
    }

    /// One that names none closes the newest under its DE 37.
    fn close_hold(&mut self, completion: &Line) {
        let names = |line: &&mut Line| line.acquirer == completion.acquirer && line.rrn == completion.rrn;
        let holds = |line: &&mut Line| line.class == MessageClass::Authorization;
        if let Some(hold) = self.lines.values_mut().rev().filter(names).find(holds) {
            hold.standing = Standing::Nothing;
        }
    }
}

impl Line {
    /// `None` without DE 32 or DE 37: nobody could compare it.
    fn of(mti: Mti, elements: &Elements, original: Option<TransactionId>) -> Option<Self> {
        Some(Self {
            acquirer: InstitutionId::parse(elements.get(32)?).ok()?,
            rrn: Rrn::parse(elements.get(37)?).ok()?,
            class: mti.class,
            kind: ProcessingCode::parse(elements.get(3)?).ok()?.kind(),
            asked: number(elements.get(4)?)?,
            original,
            standing: Standing::Nothing,
            reversed: false,
        })
    }
}

impl Line {
    /// The hold that it turns into a debit.
    fn completes(&self) -> Option<TransactionId> {
        let debit = self.class == MessageClass::Financial && self.kind == TransactionKind::Debit;
        self.original.filter(|_| debit)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
