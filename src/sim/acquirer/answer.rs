//! What comes back to the acquirer, and whether it is what it should be.

use super::{AcquirerSimulator, SimError, Waiting};
use crate::codec::{DataElement, LeakScan, Message, decode_into};
use crate::sim::book::{Answer, BookEntry, PaymentNumber, PaymentState, ReversalNumber};
use crate::sim::outbox::Outbox;
use crate::stdx::clock::Now;
use crate::vocab::{MessageFunction, NetworkCode, Outcome, Refusal, ResponseCode};

/// How far back an answer that nobody waits for is looked up.
const RECENT: usize = 100_000;

/// What a message that came in was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The first answer to a payment.
    Answered(PaymentNumber),
    /// Another answer to it.
    AnsweredAgain(PaymentNumber),
    ReversalAnswered(ReversalNumber),
    /// The answer to a network management request of ours.
    Managed(NetworkCode, Outcome),
    /// A network management request of the switch, which was answered.
    Asked,
    /// Nothing that anybody waits for, or nothing that can be read.
    Nothing,
}

/// What should not be in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    Unreadable,
    WrongType,
    NoCode,
    Card,
    Processing,
    Amount,
    SentAt,
    Acquirer,
    Rrn,
    Terminal,
    Currency,
    /// The PAN behind the token, in any encoding.
    PanSeen,
    AnswerChanged,
    AnsweredTwice,
    NobodyAsked,
    /// Approved, yet its reversal found no original.
    ReversalRefused,
}

impl Mismatch {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "answer unreadable",
            Self::WrongType => "wrong message type",
            Self::NoCode => "no DE 39",
            Self::Card => "DE 2 differs",
            Self::Processing => "DE 3 differs",
            Self::Amount => "DE 4 differs",
            Self::SentAt => "DE 7 differs",
            Self::Acquirer => "DE 32 differs",
            Self::Rrn => "DE 37 differs",
            Self::Terminal => "DE 41 differs",
            Self::Currency => "DE 49 differs",
            Self::PanSeen => "PAN in an answer",
            Self::AnswerChanged => "answer changed",
            Self::AnsweredTwice => "answered twice",
            Self::NobodyAsked => "nobody asked",
            Self::ReversalRefused => "reversal refused",
        }
    }
}

impl AcquirerSimulator {
    /// One message came in on a connection.
    ///
    /// # Errors
    /// As `next`: when what it leads to cannot be written.
    pub fn received(
        &mut self,
        connection: usize,
        bytes: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Heard, SimError> {
        let Some(mut message) = self.answer.take() else { return Ok(Heard::Nothing) };
        let heard = match decode_into(&self.dialect, bytes, &mut message) {
            Ok(()) => self.heard(connection, &message, bytes, now, out),
            Err(_) => {
                self.report.note_mismatch(Mismatch::Unreadable.name());
                Ok(Heard::Nothing)
            }
        };
        self.answer = Some(message);
        heard
    }

    fn heard(
        &mut self,
        connection: usize,
        message: &Message,
        bytes: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Heard, SimError> {
        if !message.mti().is_answer() {
            if message.mti().function == MessageFunction::Request && message.has(DataElement::NETWORK_CODE) {
                self.answer_network(connection, message, now, out)?;
                return Ok(Heard::Asked);
            }
            self.report.note_mismatch(Mismatch::NobodyAsked.name());
            return Ok(Heard::Nothing);
        }
        let Ok(Some(stan)) = message.stan() else {
            self.report.note_mismatch(Mismatch::Unreadable.name());
            return Ok(Heard::Nothing);
        };
        match self.waiting.get(&stan).copied() {
            Some(Waiting::Payment(number)) => {
                self.waiting.remove(&stan);
                self.payment_answered(number, message, bytes, now, out)
            }
            Some(Waiting::Reversal(number)) => {
                self.waiting.remove(&stan);
                Ok(self.reversal_answered(number, message))
            }
            Some(Waiting::Network(on, code)) => {
                self.waiting.remove(&stan);
                self.managed(on, code, message, now, out)
            }
            None => match self.book.newest_with(stan, RECENT) {
                Some(number) => self.payment_answered(number, message, bytes, now, out),
                None => {
                    self.report.note_mismatch(Mismatch::NobodyAsked.name());
                    Ok(Heard::Nothing)
                }
            },
        }
    }

    fn managed(
        &mut self,
        connection: usize,
        code: NetworkCode,
        answer: &Message,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Heard, SimError> {
        let outcome = self.code_and_outcome(answer).map_or(Outcome::Unknown, |(_, outcome)| outcome);
        let place = self.connections.iter_mut().find(|known| known.number == connection);
        if let Some(place) = place.filter(|_| outcome == Outcome::Approved) {
            match code {
                NetworkCode::SIGN_ON => place.signed_on = true,
                NetworkCode::SIGN_OFF => place.signed_on = false,
                _ => {}
            }
        }
        if code == NetworkCode::SIGN_ON {
            self.go_on(now, out)?;
        }
        Ok(Heard::Managed(code, outcome))
    }

    fn payment_answered(
        &mut self,
        number: PaymentNumber,
        message: &Message,
        bytes: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Heard, SimError> {
        self.check(number, message, bytes);
        let answer = self.code_and_outcome(message).map(|(code, outcome)| Answer {
            code,
            outcome,
            approval: message.approval_code().ok().flatten(),
            minor: message.amount().ok().flatten().map_or(0, crate::vocab::Amount::minor),
            settles_on: message.settlement_date().ok().flatten(),
            refusal: self.dialect.token_data(message).ok().and_then(|data| data.refusal),
            at: now.moment,
        });
        let Some(answer) = answer else {
            self.mismatch(number, Mismatch::NoCode);
            return Ok(Heard::Nothing);
        };
        let Some(entry) = self.book.payment_mut(number) else { return Ok(Heard::Nothing) };
        entry.answers += 1;
        if let Some(first) = entry.answer {
            let (changed, twice) = (
                first.code != answer.code || first.approval != answer.approval,
                entry.answers > entry.repeats + 1,
            );
            let approved = |outcome| matches!(outcome, Outcome::Approved | Outcome::ApprovedPartly);
            let answered = entry.state == PaymentState::Answered;
            // A refusal is not remembered by whoever refused, so that a repeat may be approved; the terminal was told
            // no.
            let late = answered && approved(answer.outcome) && !approved(first.outcome);
            // A repeat that was sent before the answer came, and overtook its request on a connection that was not
            // signed on, was refused for that: nobody knew the payment yet. One that comes much later is known no more.
            let unknown = [Refusal::NotSignedOn, Refusal::TooOld, Refusal::Overloaded, Refusal::ShuttingDown];
            let overtook = unknown.into_iter().any(|refusal| answer.refused_as(refusal));
            // Once it is taken back, a repeat gets another answer by right (rule of repeats: never an approval).
            if changed && answered && approved(first.outcome) && !overtook {
                self.mismatch(number, Mismatch::AnswerChanged);
            }
            if late {
                let connection = self.next_connection();
                self.start_reversal(connection, number, None, now, out)?;
            }
            if twice {
                self.mismatch(number, Mismatch::AnsweredTwice);
            }
            return Ok(Heard::AnsweredAgain(number));
        }
        entry.answer = Some(answer);
        let (intended, waiting) = (entry.intended, entry.state == PaymentState::Waiting);
        let asked_again = entry.repeats > 0;
        if matches!(entry.state, PaymentState::Waiting | PaymentState::Silent) {
            entry.state = PaymentState::Answered;
        }
        if waiting {
            self.report.note_answer(answer.code, answer.outcome, intended, now.moment);
        }
        if answer.outcome == Outcome::Approved {
            self.complete(number);
        }
        if let Some(place) = self.release(number) {
            self.top_up(place, now, out)?;
        }
        if waiting && asked_again && answer.refusal.is_some() {
            // A refusal is not remembered by whoever refused: another sending may have been approved, or may be yet.
            let connection = self.next_connection();
            self.start_reversal(connection, number, None, now, out)?;
        } else if waiting {
            self.follow_habits(number, answer.outcome, now, out)?;
        }
        Ok(Heard::Answered(number))
    }

    /// If it is a completion, then it was accepted: the hold that it names holds no more.
    fn complete(&mut self, completion: PaymentNumber) {
        for closed in self.book.closed_by(completion) {
            let hold = self.book.payment_mut(closed);
            if let Some(hold) = hold.filter(|hold| hold.is_hold() && hold.state == PaymentState::Answered) {
                hold.state = PaymentState::Completed;
            }
        }
    }

    fn follow_habits(
        &mut self,
        number: PaymentNumber,
        outcome: Outcome,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let mut strikes =
            |one_in: Option<u64>| one_in.is_some_and(|n| self.entropy.below(n).is_ok_and(|drawn| drawn == 0));
        let (repeat, reverse) = (strikes(self.habits.repeat_one_in), strikes(self.habits.reverse_one_in));
        let repeat = repeat && !self.book.payment(number).is_some_and(BookEntry::is_refused);
        // The answer may come to a connection that is signed off by now, with none beside it.
        let can_send = self.connections.iter().any(|connection| connection.signed_on);
        if repeat && can_send {
            self.repeat(number, now, out)?;
        }
        if reverse && matches!(outcome, Outcome::Approved | Outcome::ApprovedPartly) {
            let connection = self.next_connection();
            self.start_reversal(connection, number, None, now, out)?;
        }
        Ok(())
    }

    fn reversal_answered(&mut self, number: ReversalNumber, message: &Message) -> Heard {
        let Some((code, outcome)) = self.code_and_outcome(message) else {
            self.report.note_mismatch(Mismatch::NoCode.name());
            return Heard::Nothing;
        };
        let Some(reversal) = self.book.reversal_mut(number) else { return Heard::Nothing };
        reversal.code = Some(code);
        let (of, keep) = (reversal.of, reversal.keep);
        self.report.reversals_acknowledged += 1;
        let Some(entry) = self.book.payment_mut(of) else { return Heard::Nothing };
        // 21: it was taken back before.
        let acknowledged = outcome == Outcome::Approved || code.as_str() == "21";
        match (acknowledged, &mut entry.answer) {
            (true, Some(answer)) if keep.is_some() => {
                answer.minor = keep.unwrap_or_default();
                entry.state = PaymentState::Answered;
            }
            (true, _) | (_, None) => entry.state = PaymentState::Reversed,
            (_, Some(answer)) if matches!(answer.outcome, Outcome::Approved | Outcome::ApprovedPartly) => {
                entry.state = PaymentState::Answered;
                self.mismatch(of, Mismatch::ReversalRefused);
            }
            (_, Some(_)) => entry.state = PaymentState::Reversed,
        }
        Heard::ReversalAnswered(number)
    }

    /// Compares an answer with what was asked.
    fn check(&mut self, number: PaymentNumber, message: &Message, bytes: &[u8]) {
        let Some(entry) = self.book.payment(number) else { return };
        let payment = entry.payment;
        let card = self.cards.get(payment.card);
        let merchant = self.merchants.get(payment.merchant);
        let partly = self.code_and_outcome(message).is_some_and(|(_, o)| o == Outcome::ApprovedPartly);
        let same = |element, expected: &[u8]| message.get(element) == Some(expected);
        let findings = [
            (message.mti().answers(payment.mti), Mismatch::WrongType),
            (card.is_some_and(|card| same(DataElement::PAN, card.number.digits())), Mismatch::Card),
            (same(DataElement::PROCESSING_CODE, payment.processing.as_bytes()), Mismatch::Processing),
            (partly || same(DataElement::AMOUNT, &payment.amount.digits()), Mismatch::Amount),
            (same(DataElement::SENT_AT, &entry.sent_at.digits()), Mismatch::SentAt),
            (same(DataElement::ACQUIRER, self.institution.as_bytes()), Mismatch::Acquirer),
            (same(DataElement::RRN, entry.rrn.as_bytes()), Mismatch::Rrn),
            (
                merchant.is_some_and(|m| same(DataElement::TERMINAL, m.terminal.as_bytes())),
                Mismatch::Terminal,
            ),
            (same(DataElement::CURRENCY, &payment.amount.currency().digits()), Mismatch::Currency),
            (
                card.and_then(|card| card.behind.as_ref())
                    .is_none_or(|pan| LeakScan::new(pan).find(bytes).is_none()),
                Mismatch::PanSeen,
            ),
        ];
        for (_, mismatch) in findings.into_iter().filter(|(good, _)| !good) {
            self.mismatch(number, mismatch);
        }
    }

    fn mismatch(&mut self, number: PaymentNumber, mismatch: Mismatch) {
        self.report.note_mismatch(mismatch.name());
        if let Some(entry) = self.book.payment_mut(number) {
            entry.mismatches += 1;
        }
    }

    fn code_and_outcome(&self, message: &Message) -> Option<(ResponseCode, Outcome)> {
        let code = message.response_code().ok().flatten()?;
        // A code that the dialect does not list is a decline (network rules 1).
        Some((code, self.dialect.outcome(code).unwrap_or(Outcome::Declined)))
    }
}
