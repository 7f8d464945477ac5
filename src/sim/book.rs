//! `Book`: an acquirer's own record of every payment it asked for, what it was told, and what it took back.

use serde_json::{Value, json};

use super::cards::PresentedCard;
use super::reconcile::{Record, Standing};
use crate::stdx::clock::Moment;
use crate::vocab::{
    Amount, ApprovalCode, Initiator, InstitutionId, MessageClass, MessageFunction, Mti, Outcome,
    PosEntryMode, ProcessingCode, Refusal, RemoteCryptogram, ResponseCode, Rrn, Stan, Text, TransactionKind,
    TransmissionTime,
};

/// A payment's place in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentNumber(pub usize);

/// A reversal's place in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReversalNumber(pub usize);

/// What an acquirer asks for. Cards and merchants go by their place in the simulator's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    pub mti: Mti,
    pub card: usize,
    pub merchant: usize,
    pub processing: ProcessingCode,
    pub amount: Amount,
    pub entry_mode: PosEntryMode,
    /// The payment that this one completes, raises or refunds.
    pub original: Option<Earlier>,
    /// What it says where nobody taps.
    pub remote: Option<RemotePayment>,
}

/// An earlier payment, and how a later one names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    pub payment: PaymentNumber,
    pub by: NamedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// Its DE 37, which the later one shares. To a switch that names nothing.
    Rrn,
    /// Its DE 37, shared, and its DE 38.
    Approval,
    /// DE 90; the later one has a DE 37 of its own.
    Data,
}

/// What a payment says where nobody taps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemotePayment {
    /// What a wallet got for this one payment.
    pub cryptogram: Option<RemoteCryptogram>,
    pub initiator: Option<Initiator>,
    /// DE 37 of the payment by which the customer agreed to what its merchant initiates.
    pub agreed: Option<Rrn>,
}

impl From<RemoteCryptogram> for RemotePayment {
    fn from(cryptogram: RemoteCryptogram) -> Self {
        Self { cryptogram: Some(cryptogram), ..Self::default() }
    }
}

/// What came back first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub code: ResponseCode,
    pub outcome: Outcome,
    pub approval: Option<ApprovalCode>,
    /// DE 4 of the answer, in minor units: less than was asked when it is approved in part.
    pub minor: u64,
    /// DE 15: the day on which it counts, as month and day.
    pub settles_on: Option<[u8; 4]>,
    /// By what name the switch itself said no, where its dialect has a place for that.
    pub refusal: Option<Text<32>>,
    pub at: Moment,
}

impl Answer {
    /// Whether the switch itself said no, and this was why.
    #[must_use]
    pub fn refused_as(&self, refusal: Refusal) -> bool {
        self.refusal.as_ref().is_some_and(|name| name.as_str() == refusal.name())
    }
}

/// What the acquirer believes of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    Waiting,
    Answered,
    /// Never answered, and given up.
    Silent,
    /// A reversal is under way.
    Reversing,
    /// The reversal was acknowledged.
    Reversed,
    /// A hold that its completion has closed.
    Completed,
}

/// One line of the book.
#[derive(Debug, Clone)]
pub struct BookEntry {
    pub payment: Payment,
    pub stan: Stan,
    pub sent_at: TransmissionTime,
    pub rrn: Rrn,
    /// Application transaction counter of the tap, where there is one.
    pub atc: Option<u16>,
    /// When it should have been sent; the latency counts from here.
    pub intended: Moment,
    pub answer: Option<Answer>,
    pub state: PaymentState,
    pub repeats: u16,
    pub answers: u16,
    pub mismatches: u16,
    /// The connection whose share of the load it is, until it is answered or given up.
    pub load_on: Option<usize>,
}

/// A reversal that the acquirer sent.
#[derive(Debug, Clone)]
pub struct ReversalEntry {
    pub of: PaymentNumber,
    pub mti: Mti,
    pub stan: Stan,
    pub sent_at: TransmissionTime,
    /// What is to stand in the end, in minor units; nothing where it is not said (DE 95).
    pub keep: Option<u64>,
    pub repeats: u16,
    pub code: Option<ResponseCode>,
}

/// All payments and reversals of one acquirer.
#[derive(Debug)]
pub struct Book {
    acquirer: InstitutionId,
    payments: Vec<BookEntry>,
    reversals: Vec<ReversalEntry>,
}

impl Book {
    #[must_use]
    pub fn new(acquirer: InstitutionId) -> Self {
        Self { acquirer, payments: Vec::new(), reversals: Vec::new() }
    }

    /// Makes room ahead, so that a load does not stop to move the book.
    pub fn reserve(&mut self, payments: usize) {
        self.payments.reserve(payments);
    }

    pub fn add(&mut self, entry: BookEntry) -> PaymentNumber {
        self.payments.push(entry);
        PaymentNumber(self.payments.len() - 1)
    }

    pub fn add_reversal(&mut self, entry: ReversalEntry) -> ReversalNumber {
        self.reversals.push(entry);
        ReversalNumber(self.reversals.len() - 1)
    }

    #[must_use]
    pub fn payment(&self, number: PaymentNumber) -> Option<&BookEntry> {
        self.payments.get(number.0)
    }

    pub fn payment_mut(&mut self, number: PaymentNumber) -> Option<&mut BookEntry> {
        self.payments.get_mut(number.0)
    }

    #[must_use]
    pub fn reversal(&self, number: ReversalNumber) -> Option<&ReversalEntry> {
        self.reversals.get(number.0)
    }

    pub fn reversal_mut(&mut self, number: ReversalNumber) -> Option<&mut ReversalEntry> {
        self.reversals.get_mut(number.0)
    }

    #[must_use]
    pub fn payments(&self) -> &[BookEntry] {
        &self.payments
    }

    #[must_use]
    pub fn reversals(&self) -> &[ReversalEntry] {
        &self.reversals
    }

    #[must_use]
    pub fn acquirer(&self) -> InstitutionId {
        self.acquirer
    }

    /// The newest payment sent under a STAN, among the last `within`: for answers that nobody waits for.
    #[must_use]
    pub fn newest_with(&self, stan: Stan, within: usize) -> Option<PaymentNumber> {
        let recent = self.payments.iter().enumerate().rev().take(within);
        recent.into_iter().find(|(_, entry)| entry.stan == stan).map(|(at, _)| PaymentNumber(at))
    }

    /// What an accepted completion has closed: the hold that it names, and what raised that. None of them, where it may
    /// have been taken for a payment by itself: the hold was not answered yet, was taken back, or held less. None
    /// either of which the issuer may not have known by then.
    #[must_use]
    pub fn closed_by(&self, completion: PaymentNumber) -> Vec<PaymentNumber> {
        let Some((sent, earlier)) = self.payment(completion).and_then(|it| Some((it, it.payment.original?)))
        else {
            return Vec::new();
        };
        let of =
            |it: &&BookEntry| it.payment.original.is_some_and(|original| original.payment == earlier.payment);
        match self.payment(earlier.payment) {
            _ if !sent.is_completion() => Vec::new(),
            Some(_) if earlier.by == NamedBy::Rrn => vec![earlier.payment],
            Some(hold) if matches!(hold.state, PaymentState::Reversing | PaymentState::Reversed) => {
                Vec::new()
            }
            Some(hold) if hold.payment.original.is_none() && hold.is_known_to_issuer_of(sent) => {
                let completions = self.payments.iter().filter(of).filter(|it| it.is_completion());
                let completed: u64 = completions.map(|it| it.payment.amount.minor()).sum();
                if hold.answer.is_none_or(|answer| completed > answer.minor) {
                    return Vec::new();
                }
                let raises = self.payments.iter().enumerate().filter(|(_, it)| {
                    of(it) && it.is_known_to_issuer_of(sent) && hold.is_known_to_issuer_of(it)
                });
                let raises = raises.filter(|(_, it)| it.is_hold()).map(|(at, _)| PaymentNumber(at));
                raises.chain([earlier.payment]).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// The hold that a payment is about, where that is another one: by itself, or by what raised it.
    #[must_use]
    pub fn hold_of(&self, entry: &BookEntry) -> Option<PaymentNumber> {
        let named = entry.payment.original?.payment;
        let hold = self.payment(named).filter(|named| named.is_hold())?;
        Some(self.hold_of(hold).unwrap_or(named))
    }

    /// What this book says for reconciliation; `cards` are those that its payments go by.
    pub fn records<'a>(&'a self, cards: &'a [PresentedCard]) -> impl Iterator<Item = Record> + 'a {
        self.payments.iter().map(|entry| Record {
            acquirer: self.acquirer,
            rrn: entry.rrn,
            class: entry.payment.mti.class,
            pan: cards.get(entry.payment.card).and_then(PresentedCard::pan).cloned(),
            standing: entry.standing(),
        })
    }
}

impl BookEntry {
    /// What the acquirer holds to be charged or held.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let approved =
            self.answer.filter(|a| matches!(a.outcome, Outcome::Approved | Outcome::ApprovedPartly));
        match (self.state, approved) {
            _ if self.payment.processing.kind() == TransactionKind::Inquiry => Standing::Nothing,
            (PaymentState::Answered, Some(answer)) => Standing::Money(answer.minor),
            (PaymentState::Answered | PaymentState::Reversed | PaymentState::Completed, _) => {
                Standing::Nothing
            }
            (PaymentState::Waiting | PaymentState::Silent | PaymentState::Reversing, _) => Standing::Unknown,
        }
    }

    /// Whether its approval was there by then.
    #[must_use]
    pub fn is_approved_by(&self, moment: Moment) -> bool {
        self.answer.is_some_and(|it| {
            it.at <= moment && matches!(it.outcome, Outcome::Approved | Outcome::ApprovedPartly)
        })
    }

    /// Whether the issuer had approved it before a later message was sent, or gets both in order: what is told it, by
    /// its acquirer or since it was approved in its place (DE 38 begins with an S), it may get behind a request.
    fn is_known_to_issuer_of(&self, later: &Self) -> bool {
        let approval = self.answer.and_then(|answer| answer.approval);
        let said = approval.is_some_and(|approval| !approval.as_bytes().starts_with(b"S"));
        self.is_approved_by(later.intended) && (said || later.payment.mti.function == MessageFunction::Advice)
    }

    /// Whether the switch itself said no. It need not say so again.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.answer.is_some_and(|answer| answer.refusal.is_some())
    }

    /// Whether it turns an earlier hold into a debit.
    #[must_use]
    pub fn is_completion(&self) -> bool {
        self.payment.original.is_some()
            && self.payment.mti.class == MessageClass::Financial
            && self.payment.processing.kind() == TransactionKind::Debit
    }

    /// Whether money goes back to the card.
    #[must_use]
    pub fn is_refund(&self) -> bool {
        self.payment.processing.kind() == TransactionKind::Credit
    }

    /// Whether an approval of this holds money that a completion may close.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        self.payment.mti.class == MessageClass::Authorization
    }

    /// One line for people and scripts; card and token are masked.
    #[must_use]
    pub fn to_json(&self, acquirer: InstitutionId, cards: &[PresentedCard]) -> Value {
        let card = cards.get(self.payment.card).map(|card| card.number.masked().to_string());
        json!({
            "mti": self.payment.mti.to_string(),
            "card": card,
            "processing": format!("{:?}", self.payment.processing),
            "amount": self.payment.amount.minor(),
            "currency": self.payment.amount.currency().letters(),
            "sentAt": format!("{:?}", self.sent_at),
            "stan": self.stan.to_string(),
            "acquirer": acquirer.to_string(),
            "rrn": self.rrn.to_string(),
            "code": self.answer.map(|answer| answer.code.to_string()),
            "approval": self.answer.and_then(|answer| answer.approval).map(|code| code.to_string()),
            "micros": self.answer.map(|answer| micros(answer.at, self.intended)),
            "state": self.state.name(),
            "standing": match self.standing() {
                Standing::Nothing => json!(0),
                Standing::Money(minor) => json!(minor),
                Standing::Unknown => Value::Null,
            },
            "repeats": self.repeats,
            "answers": self.answers,
            "mismatches": self.mismatches,
        })
    }
}

fn micros(at: Moment, since: Moment) -> u64 {
    u64::try_from(at.since(since).as_micros()).unwrap_or(u64::MAX)
}

impl PaymentState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Answered => "answered",
            Self::Silent => "silent",
            Self::Reversing => "reversing",
            Self::Reversed => "reversed",
            Self::Completed => "completed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{Currency, EntryMode};

    fn entry(mti: &str, processing: &str, code: Option<(&str, Outcome)>, state: PaymentState) -> BookEntry {
        let answer = code.map(|(code, outcome)| Answer {
            code: ResponseCode::parse(code.as_bytes()).unwrap(),
            outcome,
            approval: None,
            minor: if outcome == Outcome::ApprovedPartly { 30 } else { 50 },
            settles_on: None,
            refusal: None,
            at: Moment(2_000),
        });
        BookEntry {
            payment: Payment {
                mti: Mti::parse(mti.as_bytes()).unwrap(),
                card: 0,
                merchant: 0,
                processing: ProcessingCode::parse(processing.as_bytes()).unwrap(),
                amount: Amount::new(50, Currency::from_letters("EUR").unwrap()),
                entry_mode: PosEntryMode { entry: EntryMode::CONTACTLESS_CHIP, pin_capability: 1 },
                original: None,
                remote: None,
            },
            stan: Stan::new(1).unwrap(),
            sent_at: TransmissionTime::parse(b"1122123000").unwrap(),
            rrn: Rrn::parse(b"000000000001").unwrap(),
            atc: None,
            intended: Moment(0),
            answer,
            state,
            repeats: 0,
            answers: 0,
            mismatches: 0,
            load_on: None,
        }
    }

    #[test]
    fn what_the_acquirer_believes_to_be_charged() {
        use PaymentState::{Answered, Completed, Reversed, Reversing, Silent, Waiting};
        let (yes, part, no) = (
            Some(("00", Outcome::Approved)),
            Some(("10", Outcome::ApprovedPartly)),
            Some(("51", Outcome::Declined)),
        );
        for (mti, processing, code, state, standing) in [
            ("0200", "000000", yes, Answered, Standing::Money(50)),
            ("0200", "000000", part, Answered, Standing::Money(30)),
            ("0200", "000000", no, Answered, Standing::Nothing),
            ("0200", "310000", yes, Answered, Standing::Nothing),
            ("0200", "000000", None, Waiting, Standing::Unknown),
            ("0200", "000000", None, Silent, Standing::Unknown),
            ("0200", "000000", yes, Reversing, Standing::Unknown),
            ("0200", "000000", yes, Reversed, Standing::Nothing),
            ("0100", "000000", yes, Completed, Standing::Nothing),
        ] {
            assert_eq!(
                entry(mti, processing, code, state).standing(),
                standing,
                "{mti} {processing} {state:?}"
            );
        }
    }

    #[test]
    fn payments_are_found_by_their_newest_stan() {
        let mut book = Book::new(InstitutionId::parse(b"1").unwrap());
        for _ in 0..3 {
            book.add(entry("0200", "000000", None, PaymentState::Waiting));
        }
        let stan = Stan::new(1).unwrap();
        assert_eq!(book.newest_with(stan, 10), Some(PaymentNumber(2)));
        assert_eq!(book.newest_with(Stan::new(2).unwrap(), 10), None);
        assert_eq!(book.newest_with(stan, 0), None);
    }
}
