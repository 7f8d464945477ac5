//! `IssuerSimulator`: approves, declines, or misbehaves by plan, and keeps a ledger of all of it.
//!
//! A brain without sockets: messages in, bytes out, time as an argument. One message is decoded, looked up,
//! answered and encoded in one go, with buffers that are used again.

use std::sync::Arc;
use std::time::Duration;

use super::faults::{Condition, Fault, FaultPlan};
use super::ledger::{Decision, Identity, Known, Ledger, Posting, ReversalOutcome, ReversalPosting};
use super::outbox::{Outbox, Wire};
use super::payment::write_network_answer;
use crate::codec::{
    Bitmap, DataElement, DecodeError, Dialect, EncodeError, FrameFormat, Message, OriginalData,
    TokenRequestData, WriteError, decode, decode_into,
};
use crate::stdx::clock::{Moment, Now};
use crate::stdx::random::Entropy;
use crate::vocab::{
    Amount, ApprovalCode, Contact, ContactKind, Contacts, MessageClass, MessageFunction, Mti, NetworkCode,
    Refusal, ResponseCode, Stan, Text, TransmissionTime,
};

/// What an answer takes over from the request, where the request has it.
const ECHOED: Bitmap = Bitmap::of(&[
    DataElement::PAN,
    DataElement::PROCESSING_CODE,
    DataElement::AMOUNT,
    DataElement::SENT_AT,
    DataElement::STAN,
    DataElement::LOCAL_TIME,
    DataElement::LOCAL_DATE,
    DataElement::SETTLEMENT_DATE,
    DataElement::ACQUIRER,
    DataElement::FORWARDER,
    DataElement::RRN,
    DataElement::TERMINAL,
    DataElement::MERCHANT,
    DataElement::CURRENCY,
]);

/// What an issuer says to requests that a condition holds for. Advices are always accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerRule {
    pub when: Condition,
    pub answer: RuledAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuledAnswer {
    Decline(ResponseCode),
    /// Approved over so many hundredths of the amount, with this code.
    Partly(ResponseCode, u64),
}

/// What an issuer says when it is asked whether cards whose number ends so may have a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnquiryRule {
    /// Last digits of the PAN; empty: of every card.
    pub ends: String,
    pub answer: EnquiryAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnquiryAnswer {
    Approve,
    /// Only once the cardholder has proven itself.
    StepUp,
    Decline,
    /// No answer at all.
    Silent,
}

impl EnquiryAnswer {
    /// Its name on a command line.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("approve", Self::Approve),
        ("step-up", Self::StepUp),
        ("decline", Self::Decline),
        ("silent", Self::Silent),
    ];
}

/// How an issuer behaves.
pub struct IssuerConfig {
    pub dialect: Arc<Dialect>,
    pub framing: FrameFormat,
    /// The fixed header of its own messages, as long as the framing says.
    pub header: Vec<u8>,
    /// Whether it signs on when a connection opens, as one that dials in does.
    pub signs_on: bool,
    /// The first that holds decides; without one, requests are approved.
    pub rules: Vec<AnswerRule>,
    /// The first that fits decides; without one, tokens are approved.
    pub enquiries: Vec<EnquiryRule>,
    pub faults: FaultPlan,
    /// How long every answer takes, besides the faults' delays.
    pub think: Duration,
    pub seed: u64,
}

/// What an issuer met besides what its ledger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IssuerCounts {
    pub requests: u64,
    pub advices: u64,
    pub reversals: u64,
    pub network: u64,
    /// Whether a card may have a token.
    pub enquiries: u64,
    /// Messages that were no messages of its dialect, or lacked what an answer needs.
    pub unreadable: u64,
    /// Answers that could not be encoded.
    pub unanswerable: u64,
    pub faults: u64,
}

/// An issuer's host.
pub struct IssuerSimulator {
    dialect: Arc<Dialect>,
    header: Vec<u8>,
    signs_on: bool,
    rules: Vec<AnswerRule>,
    enquiries: Vec<EnquiryRule>,
    think: Duration,
    wire: Wire,
    ledger: Ledger,
    counts: IssuerCounts,
    approvals: u64,
    stan: u32,
    entropy: Entropy,
    answer: Message,
    /// Where requests are decoded into; lent out while one is looked at.
    request: Option<Box<Message>>,
}

/// What a posting or reversal comes to: DE 39, DE 38, and DE 4 where it is not the request's.
struct Said {
    code: ResponseCode,
    approval: Option<ApprovalCode>,
    minor: Option<u64>,
    /// How the cardholder can be reached: in the answer to an enquiry.
    contacts: Contacts,
}

impl Said {
    fn of(code: ResponseCode) -> Self {
        Self { code, approval: None, minor: None, contacts: Contacts::default() }
    }
}

impl IssuerSimulator {
    #[must_use]
    pub fn new(config: IssuerConfig) -> Self {
        let network = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        Self {
            dialect: config.dialect,
            header: config.header,
            signs_on: config.signs_on,
            rules: config.rules,
            enquiries: config.enquiries,
            think: config.think,
            wire: Wire::new(config.framing, config.faults),
            ledger: Ledger::new(),
            counts: IssuerCounts::default(),
            approvals: 0,
            stan: 0,
            entropy: Entropy::seeded(config.seed),
            answer: Message::new(network),
            request: Some(Box::new(Message::new(network))),
        }
    }

    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[must_use]
    pub fn counts(&self) -> IssuerCounts {
        self.counts
    }

    /// A connection is there.
    pub fn opened(&mut self, connection: usize, now: Now, out: &mut Outbox) {
        if self.signs_on {
            self.manage(connection, NetworkCode::SIGN_ON, now, out);
        }
    }

    /// A connection is gone, and with it the answers held back for it.
    pub fn closed(&mut self, connection: usize, out: &mut Outbox) {
        self.wire.closed(connection);
        out.closed(connection);
    }

    /// Sends a network management request of its own: sign-on, sign-off, echo.
    pub fn manage(&mut self, connection: usize, code: NetworkCode, now: Now, out: &mut Outbox) {
        let request = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        self.stan = (self.stan + 1) % (Stan::MOST + 1);
        let stan = Stan::new(self.stan).map(Stan::digits).unwrap_or_default();
        self.answer.clear(request.with_version(self.dialect.version()));
        let sent_at = TransmissionTime::of(now.wall).digits();
        let written = self
            .answer
            .set(DataElement::SENT_AT, &sent_at)
            .and_then(|()| self.answer.set(DataElement::STAN, &stan))
            .and_then(|()| self.answer.set(DataElement::NETWORK_CODE, &code.digits()));
        let header = std::mem::take(&mut self.header);
        self.send(connection, &header, None, now.moment, written, out);
        self.header = header;
    }

    /// Sends the answers whose time has come.
    pub fn next(&mut self, now: Now, out: &mut Outbox) {
        self.wire.due(now.moment, out);
    }

    /// When `next` should be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.wire.deadline()
    }

    /// One message came in, `header` being its frame's.
    pub fn received(&mut self, connection: usize, header: &[u8], bytes: &[u8], now: Now, out: &mut Outbox) {
        let Some(mut message) = self.request.take() else { return };
        match decode_into(&self.dialect, bytes, &mut message) {
            Ok(()) => self.answer_to(connection, header, &message, true, now, out),
            Err(_) => {
                self.counts.unreadable += 1;
                let partial = decode(&self.dialect, bytes).err().and_then(|failure| failure.partial);
                if let Some(partial) = partial {
                    self.answer_to(connection, header, &partial, false, now, out);
                }
            }
        }
        self.request = Some(message);
    }

    fn answer_to(
        &mut self,
        connection: usize,
        header: &[u8],
        message: &Message,
        readable: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        if message.mti().is_answer() {
            return;
        }
        let amount = message.amount().ok().flatten().map(Amount::minor);
        let fault = self.wire.fault(message.mti(), amount);
        self.counts.faults += u64::from(fault.is_some());
        if fault == Some(Fault::Ignore) {
            return;
        }
        let enquiry = if readable { self.enquired(message) } else { None };
        if enquiry == Some(EnquiryAnswer::Silent) {
            return;
        }
        let judged = if let Some(answer) = enquiry {
            Ok(self.enquiry_said(answer))
        } else if readable {
            self.judge(message)
        } else {
            Ok(self.refusal(Refusal::FormatError))
        };
        let said = judged.unwrap_or_else(|_| {
            self.counts.unreadable += 1;
            self.refusal(Refusal::FormatError)
        });
        if matches!(fault, Some(Fault::HangUp)) {
            out.hang_up(connection);
        }
        if matches!(fault, Some(Fault::HangUp | Fault::Drop)) {
            return;
        }
        let written = self.write_answer(message, &said);
        let delay = (!self.think.is_zero()).then_some(Fault::Delay(self.think));
        let header = self.wire.framing().answer_header(header);
        self.send(connection, &header, fault.or(delay), now.moment, written, out);
    }

    /// Decides on a message and writes it into the ledger.
    fn judge(&mut self, message: &Message) -> Result<Said, DecodeError> {
        let mti = message.mti();
        match (mti.class, mti.function) {
            (MessageClass::NetworkManagement, _) => {
                self.counts.network += 1;
                Ok(Said::of(self.dialect.approved()))
            }
            (MessageClass::Reversal, _) => {
                self.counts.reversals += 1;
                self.reverse(message)
            }
            (MessageClass::Authorization | MessageClass::Financial, function) => {
                let advice = function != MessageFunction::Request;
                *(if advice { &mut self.counts.advices } else { &mut self.counts.requests }) += 1;
                self.post(message, advice)
            }
            _ => Ok(self.refusal(Refusal::UnsupportedMessage)),
        }
    }

    fn post(&mut self, message: &Message, advice: bool) -> Result<Said, DecodeError> {
        let Some(posting) = posting(message)? else { return Ok(self.refusal(Refusal::FormatError)) };
        let decision = match self.ledger.known(&posting) {
            Known::Repeat(decision) => decision,
            Known::Altered => return Ok(self.refusal(Refusal::AlteredDuplicate)),
            Known::New => {
                let decision = self.decide(&posting, advice);
                self.ledger.post(posting.clone(), decision);
                decision
            }
        };
        let partly = decision.approved && decision.minor != posting.amount.minor();
        let minor = partly.then_some(decision.minor);
        Ok(Said { approval: decision.approval, minor, ..Said::of(decision.code) })
    }

    fn decide(&mut self, posting: &Posting, advice: bool) -> Decision {
        let minor = posting.amount.minor();
        if advice {
            return Decision { code: self.dialect.approved(), approved: true, approval: None, minor };
        }
        let Self { rules, entropy, .. } = self;
        let rule = rules.iter().find(|rule| rule.when.holds(posting.mti, Some(minor), entropy));
        let (code, minor) = match rule.map(|rule| rule.answer) {
            Some(RuledAnswer::Decline(code)) => {
                return Decision { code, approved: false, approval: None, minor: 0 };
            }
            Some(RuledAnswer::Partly(code, hundredths)) => (code, minor.saturating_mul(hundredths) / 100),
            None => (self.dialect.approved(), minor),
        };
        self.approvals += 1;
        let approval = format!("{:06}", self.approvals % 1_000_000);
        Decision { code, approved: true, approval: ApprovalCode::parse(approval.as_bytes()).ok(), minor }
    }

    fn reverse(&mut self, message: &Message) -> Result<Said, DecodeError> {
        let Some(reversal) = reversal(message)? else { return Ok(self.refusal(Refusal::FormatError)) };
        Ok(match self.ledger.reverse(&reversal) {
            ReversalOutcome::Undone => Said::of(self.dialect.approved()),
            ReversalOutcome::NothingToDo => {
                // 21, no action taken: all editions of the standard have it.
                let code = ResponseCode::parse(b"21").unwrap_or(self.dialect.approved());
                Said::of(code)
            }
            ReversalOutcome::UnknownOriginal => self.refusal(Refusal::UnknownOriginal),
        })
    }

    /// What it says to a question about a token for a card; `None` for every other message.
    fn enquired(&mut self, message: &Message) -> Option<EnquiryAnswer> {
        let places = self.dialect.token_request()?;
        let asks = message.processing_code().ok().flatten() == Some(places.processing);
        if !asks || !places.read(message).is_ok_and(|data| data.indicator) {
            return None;
        }
        self.counts.enquiries += 1;
        let pan = message.pan().ok().flatten()?;
        let fits = |rule: &&EnquiryRule| pan.expose_digits().ends_with(rule.ends.as_bytes());
        Some(self.enquiries.iter().find(fits).map_or(EnquiryAnswer::Approve, |rule| rule.answer))
    }

    fn enquiry_said(&self, answer: EnquiryAnswer) -> Said {
        let approved = || Said { contacts: known_contacts(), ..Said::of(self.dialect.approved()) };
        match (answer, self.dialect.token_request()) {
            (EnquiryAnswer::StepUp, Some(places)) => Said { code: places.step_up, ..approved() },
            (EnquiryAnswer::Approve, _) => approved(),
            // 05, do not honour: all editions of the standard have it.
            _ => Said::of(ResponseCode::parse(b"05").unwrap_or(self.dialect.approved())),
        }
    }

    fn refusal(&self, refusal: Refusal) -> Said {
        Said::of(self.dialect.response_code(refusal))
    }

    fn write_answer(&mut self, request: &Message, said: &Said) -> Result<(), EncodeError> {
        let Some(mti) = request.mti().answer() else { return Ok(()) };
        let answer = &mut self.answer;
        if mti.class == MessageClass::NetworkManagement {
            return write_network_answer(request, said.code, answer);
        }
        answer.clear(mti);
        answer.copy_all(ECHOED, request)?;
        if let Some(minor) = said.minor {
            answer.set(DataElement::AMOUNT, format!("{minor:012}").as_bytes())?;
        }
        if let Some(approval) = said.approval {
            answer.set(DataElement::APPROVAL_CODE, approval.as_bytes())?;
        }
        if let Some(places) = self.dialect.token_request().filter(|_| !said.contacts.is_empty()) {
            let contacts = said.contacts;
            places.write(answer, &TokenRequestData { contacts, ..TokenRequestData::default() })?;
        }
        answer.set(DataElement::RESPONSE_CODE, said.code.as_bytes())
    }

    /// Sends what `self.answer` holds, if it could be written.
    fn send(
        &mut self,
        connection: usize,
        header: &[u8],
        fault: Option<Fault>,
        now: Moment,
        written: Result<(), EncodeError>,
        out: &mut Outbox,
    ) {
        let Self { dialect, answer, wire, .. } = self;
        let encode = |bytes: &mut Vec<u8>| crate::codec::encode(dialect, answer, bytes);
        let sent = written
            .map_err(WriteError::Message)
            .and_then(|()| wire.send(connection, header, fault, now, encode, out));
        self.counts.unanswerable += u64::from(sent.is_err());
    }
}

/// The same for every cardholder: a telephone and an address for mail.
fn known_contacts() -> Contacts {
    let mut contacts = Contacts::default();
    for (number, kind, shown) in
        [(1, ContactKind::TextMessage, "+46 ** *** 12 34"), (2, ContactKind::Email, "a***@example.com")]
    {
        let shown = Text::parse("contact", shown.as_bytes()).unwrap_or_default();
        contacts.add(Contact { number, kind, shown });
    }
    contacts
}

/// A request or advice as the ledger takes it; `None` when it lacks an element that a ledger needs.
fn posting(message: &Message) -> Result<Option<Posting>, DecodeError> {
    let (identity, pan) = (identity(message)?, message.pan()?);
    let (processing, amount) = (message.processing_code()?, message.amount()?);
    let Some(((identity, pan), (processing, amount))) = identity.zip(pan).zip(processing.zip(amount)) else {
        return Ok(None);
    };
    let (rrn, original) = (message.rrn()?, message.original_data()?.map(original_of));
    Ok(Some(Posting { mti: message.mti(), identity, pan, processing, amount, rrn, original }))
}

fn identity(message: &Message) -> Result<Option<Identity>, DecodeError> {
    let Some((stan, sent_at)) = message.stan()?.zip(message.sent_at()?) else { return Ok(None) };
    Ok(Some(Identity { class: message.mti().class, stan, sent_at, acquirer: message.acquirer()? }))
}

fn original_of(data: OriginalData) -> Identity {
    Identity { class: data.mti.class, stan: data.stan, sent_at: data.sent_at, acquirer: data.acquirer }
}

fn reversal(message: &Message) -> Result<Option<ReversalPosting>, DecodeError> {
    let (identity, pan) = (identity(message)?, message.pan()?);
    let (original, amount) = (message.original_data()?, message.amount()?);
    let Some(((identity, pan), (original, amount))) = identity.zip(pan).zip(original.zip(amount)) else {
        return Ok(None);
    };
    let original = original_of(original);
    // ISO 8583 4.4.56: the first 12 digits of DE 95 are the actual amount, what is to stand in the end.
    let actual = message.get(DataElement::REPLACEMENT_AMOUNTS).and_then(|amounts| amounts.get(..12));
    let actual = actual.and_then(|digits| Amount::parse(digits, amount.currency()).ok());
    let final_minor = actual.map_or(0, Amount::minor);
    Ok(Some(ReversalPosting { identity, original, pan, amount, final_minor }))
}
