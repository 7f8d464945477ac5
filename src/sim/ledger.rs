//! `Ledger`: an issuer's own record of what it was asked, what it answered, and what stands on each card.
//!
//! It is kept apart from everything the switch believes, so that the two can be compared afterwards
//! (`reconcile.rs`). A request that comes again is the same request; a reversal undoes at most once. Nothing
//! here remembers a reversal whose original is unknown: a switch that lets a reversal overtake its request is
//! found out, not helped.

use serde_json::{Value, json};

use super::reconcile::{Record, Standing};
use crate::stdx::maps::Map;
use crate::vocab::{
    Amount, ApprovalCode, InstitutionId, MessageClass, MessageFunction, Mti, Pan, ProcessingCode,
    ResponseCode, Rrn, Stan, TransactionKind, TransmissionTime,
};

/// What tells one message of the network from another, at this issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub class: MessageClass,
    pub stan: Stan,
    pub sent_at: TransmissionTime,
    pub acquirer: Option<InstitutionId>,
}

impl Identity {
    /// All of it in one number: class 3 bits, DE 11 20, DE 7 40, DE 32 44, from the top. Leading zeros of DE 32
    /// do not count: DE 90 cannot keep them.
    fn key(self) -> u128 {
        let class = match self.class {
            MessageClass::Authorization => 1,
            MessageClass::Financial => 2,
            MessageClass::FileAction => 3,
            MessageClass::Reversal => 4,
            MessageClass::Reconciliation => 5,
            MessageClass::Administrative => 6,
            MessageClass::FeeCollection => 7,
            MessageClass::NetworkManagement => 0,
        };
        let packed = |digits: &[u8]| digits.iter().fold(0_u128, |sum, d| sum << 4 | u128::from(d & 0x0F));
        let acquirer = self.acquirer.as_ref().map_or(&b""[..], InstitutionId::as_bytes);
        let mut key: u128 = class;
        key = key << 20 | u128::from(self.stan.get());
        key = key << 40 | packed(&self.sent_at.digits());
        key << 44 | packed(acquirer)
    }
}

/// A request or advice as the ledger takes it.
#[derive(Debug, Clone)]
pub struct Posting {
    pub mti: Mti,
    pub identity: Identity,
    pub pan: Pan,
    pub processing: ProcessingCode,
    pub amount: Amount,
    pub rrn: Option<Rrn>,
    /// What it completes, raises or refunds (DE 90).
    pub original: Option<Identity>,
}

/// What the issuer said to a posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub code: ResponseCode,
    pub approved: bool,
    /// DE 38, on the approval of a request; an advice gets none.
    pub approval: Option<ApprovalCode>,
    /// What was approved, in minor units: less than the amount asked for when it was approved in part.
    pub minor: u64,
}

/// What a posting did to its card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Declined, or an enquiry: nothing.
    None,
    /// Money is held.
    Hold,
    Debit,
    Credit,
    /// A hold that a completion has closed: nothing any more.
    Completed,
    /// Undone by a reversal, whole or down to what then still stands.
    Reversed,
}

/// One line of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    pub posting: Posting,
    pub decision: Decision,
    pub effect: Effect,
    /// What stands, in minor units: the amount, less what was reversed; zero where nothing stands.
    pub standing: u64,
    /// How often the same message came again.
    pub repeats: u32,
}

/// A reversal: its own identity, and the original that DE 90 names.
#[derive(Debug, Clone)]
pub struct ReversalPosting {
    pub identity: Identity,
    pub original: Identity,
    pub pan: Pan,
    /// DE 4, the original's amount.
    pub amount: Amount,
    /// DE 95 field 1: what is to stand in the end. Zero for a whole reversal.
    pub final_minor: u64,
}

/// What became of a reversal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversalOutcome {
    /// Done now, or by an earlier sending of the same message.
    Undone,
    /// The original is known and there is nothing to undo: declined, or reversed by another message before.
    NothingToDo,
    /// There is no such original, or card, amount or currency are not the original's.
    UnknownOriginal,
}

/// What the ledger knows about a message that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    New,
    /// It came before and gets the same answer.
    Repeat(Decision),
    /// Its identifiers came before with another card, amount, currency, processing code or DE 37.
    Altered,
}

/// Money on one card, in minor units (of whatever currencies its postings had).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    pub held: u64,
    pub debited: u64,
    pub credited: u64,
}

/// Counts over a whole ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerTotals {
    pub approved: u64,
    pub declined: u64,
    pub repeats: u64,
    pub altered: u64,
    pub reversed: u64,
    /// Reversals that found nothing to undo; a second one for the same original is among them.
    pub reversed_nothing: u64,
    pub unknown_originals: u64,
}

#[derive(Debug, Clone, Copy)]
enum Noted {
    Posting(usize),
    Reversal(ReversalOutcome),
}

/// An issuer's book of account.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
    noted: Map<u128, Noted>,
    /// Where the newest hold under an acquirer's DE 37 is.
    holds: Map<(InstitutionId, Rrn), usize>,
    /// Where what raised a hold is, by the hold's place.
    raises: Map<usize, Vec<usize>>,
    balances: Map<Pan, Balance>,
    totals: LedgerTotals,
}

impl Ledger {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks a posting up before anything is decided; counts it when it came before.
    pub fn known(&mut self, posting: &Posting) -> Known {
        let entry = match self.noted.get(&posting.identity.key()) {
            None => return Known::New,
            Some(Noted::Reversal(_)) => None,
            Some(Noted::Posting(at)) => self.entries.get_mut(*at),
        };
        match entry.filter(|entry| entry.posting.is_same(posting)) {
            Some(entry) => {
                entry.repeats += 1;
                self.totals.repeats += 1;
                Known::Repeat(entry.decision)
            }
            None => {
                self.totals.altered += 1;
                Known::Altered
            }
        }
    }

    /// Writes down what was decided on a new posting.
    pub fn post(&mut self, posting: Posting, decision: Decision) {
        let effect = posting.effect(&decision);
        let standing = if effect == Effect::None { 0 } else { decision.minor };
        if decision.approved {
            self.totals.approved += 1;
        } else {
            self.totals.declined += 1;
        }
        let completes = posting.mti.function == MessageFunction::Advice || posting.original.is_some();
        if effect == Effect::Debit && completes {
            self.complete_hold(&posting);
        }
        let balance = self.balances.entry(posting.pan.clone()).or_default();
        if let Some(place) = balance.place(effect) {
            *place = place.saturating_add(standing);
        }
        if effect == Effect::Hold {
            match self.named_hold(&posting) {
                Some(hold) => self.raises.entry(hold).or_default().push(self.entries.len()),
                None => {
                    let place = self.entries.len();
                    self.holds.extend(posting.reference().map(|reference| (reference, place)));
                }
            }
        }
        self.noted.insert(posting.identity.key(), Noted::Posting(self.entries.len()));
        self.entries.push(LedgerEntry { posting, decision, effect, standing, repeats: 0 });
    }

    /// The hold that DE 90 names, or that is raised by what it names.
    fn named_hold(&self, posting: &Posting) -> Option<usize> {
        let Noted::Posting(named) = *self.noted.get(&posting.original?.key())? else { return None };
        let entry = self.entries.get(named)?;
        let is_hold = entry.posting.mti.class == MessageClass::Authorization;
        is_hold.then(|| self.named_hold(&entry.posting).unwrap_or(named))
    }

    /// A completion closes the hold that it names and what raised that, whatever its own amount; without DE 90 the
    /// newest hold of the same acquirer and DE 37. Only of its own card.
    fn complete_hold(&mut self, completion: &Posting) {
        let by_reference = || self.holds.get(&completion.reference()?).copied();
        let hold = if completion.original.is_some() { self.named_hold(completion) } else { by_reference() };
        let Some(hold) = hold else { return };
        for at in self.raises.get(&hold).into_iter().flatten().copied().chain([hold]) {
            let open =
                |hold: &&mut LedgerEntry| hold.effect == Effect::Hold && hold.posting.pan == completion.pan;
            if let Some(hold) = self.entries.get_mut(at).filter(open) {
                let balance = self.balances.entry(completion.pan.clone()).or_default();
                balance.held = balance.held.saturating_sub(hold.standing);
                hold.effect = Effect::Completed;
                hold.standing = 0;
            }
        }
    }

    /// The entry that an identity names.
    #[must_use]
    pub fn named(&self, identity: Identity) -> Option<&LedgerEntry> {
        let Noted::Posting(at) = *self.noted.get(&identity.key())? else { return None };
        self.entries.get(at)
    }

    /// Undoes an original, at most once: whole, or down to `final_minor`. A reversal that was answered "unknown
    /// original" is looked at afresh when it comes again; any other gets its first answer again.
    pub fn reverse(&mut self, reversal: &ReversalPosting) -> ReversalOutcome {
        let key = reversal.identity.key();
        if let Some(Noted::Reversal(outcome)) = self.noted.get(&key) {
            self.totals.repeats += 1;
            return *outcome;
        }
        let outcome = self.undo(reversal);
        match outcome {
            ReversalOutcome::Undone => self.totals.reversed += 1,
            ReversalOutcome::NothingToDo => self.totals.reversed_nothing += 1,
            ReversalOutcome::UnknownOriginal => {
                self.totals.unknown_originals += 1;
                return outcome;
            }
        }
        self.noted.insert(key, Noted::Reversal(outcome));
        outcome
    }

    fn undo(&mut self, reversal: &ReversalPosting) -> ReversalOutcome {
        let Some(Noted::Posting(at)) = self.noted.get(&reversal.original.key()) else {
            return ReversalOutcome::UnknownOriginal;
        };
        let matching = |entry: &&mut LedgerEntry| {
            let posting = &entry.posting;
            posting.pan == reversal.pan
                && posting.amount == reversal.amount
                && reversal.final_minor <= reversal.amount.minor()
        };
        let Some(entry) = self.entries.get_mut(*at).filter(matching) else {
            return ReversalOutcome::UnknownOriginal;
        };
        let balance = self.balances.entry(reversal.pan.clone()).or_default();
        let Some(place) = balance.place(entry.effect) else { return ReversalOutcome::NothingToDo };
        let stands = reversal.final_minor.min(entry.standing);
        *place = place.saturating_sub(entry.standing).saturating_add(stands);
        entry.standing = stands;
        entry.effect = Effect::Reversed;
        ReversalOutcome::Undone
    }

    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    #[must_use]
    pub fn balance(&self, pan: &Pan) -> Balance {
        self.balances.get(pan).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn totals(&self) -> LedgerTotals {
        self.totals
    }

    /// What this ledger says for reconciliation; entries without DE 32 and DE 37 cannot be compared and are
    /// left out.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.entries.iter().filter_map(LedgerEntry::record)
    }
}

impl Balance {
    fn place(&mut self, effect: Effect) -> Option<&mut u64> {
        match effect {
            Effect::Hold => Some(&mut self.held),
            Effect::Debit => Some(&mut self.debited),
            Effect::Credit => Some(&mut self.credited),
            Effect::None | Effect::Completed | Effect::Reversed => None,
        }
    }
}

impl Posting {
    /// The acquirer's own name for the transaction.
    fn reference(&self) -> Option<(InstitutionId, Rrn)> {
        self.identity.acquirer.zip(self.rrn)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.pan == other.pan
            && self.amount == other.amount
            && self.processing == other.processing
            && self.rrn == other.rrn
            && self.mti.first() == other.mti.first()
    }

    fn effect(&self, decision: &Decision) -> Effect {
        if !decision.approved {
            return Effect::None;
        }
        match (self.mti.class, self.processing.kind()) {
            (_, TransactionKind::Inquiry) => Effect::None,
            (MessageClass::Authorization, _) => Effect::Hold,
            (_, TransactionKind::Credit) => Effect::Credit,
            _ => Effect::Debit,
        }
    }
}

impl LedgerEntry {
    /// One line for people and scripts; the PAN is masked.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let posting = &self.posting;
        json!({
            "mti": posting.mti.to_string(),
            "pan": posting.pan.masked().to_string(),
            "processing": format!("{:?}", posting.processing),
            "amount": posting.amount.minor(),
            "currency": posting.amount.currency().letters(),
            "sentAt": format!("{:?}", posting.identity.sent_at),
            "stan": posting.identity.stan.to_string(),
            "acquirer": posting.identity.acquirer.map(|id| id.to_string()),
            "rrn": posting.rrn.map(|rrn| rrn.to_string()),
            "code": self.decision.code.as_str(),
            "approval": self.decision.approval.map(|code| code.to_string()),
            "effect": self.effect.name(),
            "standing": self.standing,
            "repeats": self.repeats,
        })
    }

    fn record(&self) -> Option<Record> {
        let (acquirer, rrn) = self.posting.reference()?;
        let standing = if self.standing == 0 { Standing::Nothing } else { Standing::Money(self.standing) };
        let pan = Some(self.posting.pan.clone());
        Some(Record { acquirer, rrn, class: self.posting.mti.class, pan, standing })
    }
}

impl Effect {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hold => "hold",
            Self::Debit => "debit",
            Self::Credit => "credit",
            Self::Completed => "completed",
            Self::Reversed => "reversed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Currency;

    const PAN: &str = "4761739001010119";

    fn posting(mti: &str, stan: u32, minor: u64) -> Posting {
        Posting {
            mti: Mti::parse(mti.as_bytes()).unwrap(),
            identity: identity(mti, stan),
            pan: Pan::parse(PAN.as_bytes()).unwrap(),
            processing: ProcessingCode::parse(b"000000").unwrap(),
            amount: Amount::new(minor, Currency::from_letters("EUR").unwrap()),
            rrn: Some(Rrn::parse(format!("{stan:012}").as_bytes()).unwrap()),
            original: None,
        }
    }

    fn identity(mti: &str, stan: u32) -> Identity {
        Identity {
            class: Mti::parse(mti.as_bytes()).unwrap().class,
            stan: Stan::new(stan).unwrap(),
            sent_at: TransmissionTime::parse(b"1122123000").unwrap(),
            acquirer: Some(InstitutionId::parse(b"00012345678").unwrap()),
        }
    }

    fn said(code: &str) -> Decision {
        let approval = (code == "00").then(|| ApprovalCode::parse(b"A00001").unwrap());
        let code = ResponseCode::parse(code.as_bytes()).unwrap();
        Decision { code, approved: code.as_str() == "00", approval, minor: 50 }
    }

    fn reversal(stan: u32, original: Identity, minor: u64, final_minor: u64) -> ReversalPosting {
        let Posting { pan, amount, .. } = posting("0200", 1, minor);
        ReversalPosting { identity: identity("0420", stan), original, pan, amount, final_minor }
    }

    fn balance(ledger: &Ledger) -> (u64, u64, u64) {
        let Balance { held, debited, credited } = ledger.balance(&Pan::parse(PAN.as_bytes()).unwrap());
        (held, debited, credited)
    }

    #[test]
    fn what_a_posting_does_to_the_card() {
        for (mti, processing, code, effect, after) in [
            ("0100", "000000", "00", Effect::Hold, (50, 0, 0)),
            ("0200", "000000", "00", Effect::Debit, (0, 50, 0)),
            ("0220", "000000", "00", Effect::Debit, (0, 50, 0)),
            ("0200", "200000", "00", Effect::Credit, (0, 0, 50)),
            ("0100", "310000", "00", Effect::None, (0, 0, 0)),
            ("0200", "000000", "51", Effect::None, (0, 0, 0)),
        ] {
            let mut ledger = Ledger::new();
            let processing = ProcessingCode::parse(processing.as_bytes()).unwrap();
            ledger.post(Posting { processing, ..posting(mti, 1, 50) }, said(code));
            assert_eq!(ledger.entries()[0].effect, effect, "{mti} {processing:?} {code}");
            assert_eq!(balance(&ledger), after, "{mti} {processing:?} {code}");
        }
    }

    #[test]
    fn a_repeat_is_the_same_request_and_an_altered_one_is_not() {
        let mut ledger = Ledger::new();
        let first = posting("0200", 7, 50);
        assert_eq!(ledger.known(&first), Known::New);
        ledger.post(first.clone(), said("00"));
        assert_eq!(ledger.known(&posting("0201", 7, 50)), Known::Repeat(said("00")));
        let other_pan = Pan::parse(b"4761739001010127").unwrap();
        for altered in [
            posting("0200", 7, 51),
            posting("0220", 7, 50),
            Posting { pan: other_pan, ..first.clone() },
            Posting { rrn: None, ..first.clone() },
        ] {
            assert_eq!(ledger.known(&altered), Known::Altered, "{altered:?}");
        }
        assert_eq!(ledger.known(&posting("0100", 7, 50)), Known::New, "another class");
        assert_eq!(ledger.known(&posting("0200", 8, 50)), Known::New, "another STAN");
        assert_eq!(balance(&ledger), (0, 50, 0));
        assert_eq!((ledger.totals().repeats, ledger.totals().altered), (1, 4));
    }

    #[test]
    fn a_reversal_undoes_once_and_only_its_original() {
        let original = identity("0200", 7);
        let shortened = Identity { acquirer: InstitutionId::parse(b"12345678").ok(), ..original };
        let cases = [
            ("all of it", reversal(9, original, 50, 0), ReversalOutcome::Undone, 0),
            ("part of it", reversal(9, original, 50, 20), ReversalOutcome::Undone, 20),
            ("as DE 90 names it", reversal(9, shortened, 50, 0), ReversalOutcome::Undone, 0),
            ("another amount", reversal(9, original, 60, 0), ReversalOutcome::UnknownOriginal, 50),
            ("more than there was", reversal(9, original, 50, 70), ReversalOutcome::UnknownOriginal, 50),
            ("another class", reversal(9, identity("0100", 7), 50, 0), ReversalOutcome::UnknownOriginal, 50),
            ("another STAN", reversal(9, identity("0200", 8), 50, 0), ReversalOutcome::UnknownOriginal, 50),
        ];
        for (name, reversal, outcome, stands) in cases {
            let mut ledger = Ledger::new();
            ledger.post(posting("0200", 7, 50), said("00"));
            assert_eq!(ledger.reverse(&reversal), outcome, "{name}");
            assert_eq!(ledger.reverse(&reversal), outcome, "{name}, sent again");
            assert_eq!((balance(&ledger).1, ledger.entries()[0].standing), (stands, stands), "{name}");
        }
    }

    #[test]
    fn there_is_nothing_to_undo_twice_or_of_a_decline() {
        let mut ledger = Ledger::new();
        ledger.post(posting("0200", 7, 50), said("00"));
        ledger.post(posting("0200", 8, 50), said("51"));
        assert_eq!(ledger.reverse(&reversal(1, identity("0200", 7), 50, 0)), ReversalOutcome::Undone);
        assert_eq!(ledger.reverse(&reversal(2, identity("0200", 7), 50, 0)), ReversalOutcome::NothingToDo);
        assert_eq!(ledger.reverse(&reversal(3, identity("0200", 8), 50, 0)), ReversalOutcome::NothingToDo);
        assert_eq!(balance(&ledger), (0, 0, 0));
        let totals = ledger.totals();
        assert_eq!((totals.reversed, totals.reversed_nothing, totals.unknown_originals), (1, 2, 0));
    }

    #[test]
    fn an_unknown_original_may_turn_up_before_the_reversal_is_repeated() {
        let mut ledger = Ledger::new();
        let reversal = reversal(9, identity("0200", 7), 50, 0);
        assert_eq!(ledger.reverse(&reversal), ReversalOutcome::UnknownOriginal);
        ledger.post(posting("0200", 7, 50), said("00"));
        assert_eq!(ledger.entries()[0].effect, Effect::Debit, "no help against a reversal that overtook");
        assert_eq!(ledger.reverse(&reversal), ReversalOutcome::Undone);
    }

    #[test]
    fn a_completion_closes_its_hold() {
        let mut ledger = Ledger::new();
        ledger.post(posting("0100", 7, 50), said("00"));
        let rrn = posting("0100", 7, 50).rrn;
        ledger.post(Posting { rrn, ..posting("0220", 8, 42) }, Decision { minor: 42, ..said("00") });
        assert_eq!(balance(&ledger), (0, 42, 0));
        assert_eq!(ledger.entries()[0].effect, Effect::Completed);
        assert_eq!(
            ledger.reverse(&reversal(9, identity("0100", 7), 50, 0)),
            ReversalOutcome::NothingToDo,
            "a completed hold holds nothing"
        );
    }

    #[test]
    fn a_line_of_the_ledger_masks_the_pan() {
        let mut ledger = Ledger::new();
        ledger.post(posting("0200", 7, 50), said("00"));
        let line = ledger.entries()[0].to_json().to_string();
        assert!(line.contains("476173******0119") && !line.contains(PAN), "{line}");
    }

    #[test]
    fn what_names_a_hold_or_what_raised_it_closes_both() {
        for by_raise in [false, true] {
            let mut ledger = Ledger::new();
            let hold = posting("0100", 1, 50);
            ledger.post(hold.clone(), said("00"));
            let raise = Posting { original: Some(hold.identity), ..posting("0100", 2, 50) };
            ledger.post(raise.clone(), said("00"));
            ledger.post(posting("0100", 3, 50), said("00"));
            assert_eq!(balance(&ledger), (150, 0, 0));
            let named = if by_raise { raise.identity } else { hold.identity };
            ledger.post(Posting { original: Some(named), ..posting("0200", 4, 50) }, said("00"));
            assert_eq!(balance(&ledger), (50, 50, 0), "the third is another one's, by raise {by_raise}");
        }
    }
}
