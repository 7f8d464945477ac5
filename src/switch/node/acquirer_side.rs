//! The acquirer's side: messages in become requests, answers go out — built from an allow-list, and looked at once
//! more for the PAN before a byte of them leaves.

use std::sync::Arc;

use crate::codec::{Bitmap, DataElement, Dialect, LeakScan, Message, TokenData, encode};
use crate::journal::{CardRef, Elements};
use crate::link::{CloseReason, ConnectionId, Outbox};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::{sabotaged, step};
use crate::tsp::CardData;
use crate::vocab::{LinkId, Pan, Refusal, Text, Token, TransactionId};

use super::super::chip::issuer_authentication;
use super::super::event::{Answer, AnswerKind, Event};
use super::super::recovery::NOBODY;
use super::super::request::{Arrival, CardSource, Given, KEPT, NotARequest, PanCard, Request, RequestKind};
use super::{Held, Node, Wire};

/// How much of the issuer's word an answer takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Everything on the allow-list.
    Full,
    /// Code and approval number only: after the last scan found the PAN.
    Bare,
}

impl Node {
    /// A readable message from an acquirer.
    pub(super) fn acquirer_asks(
        &mut self,
        id: ConnectionId,
        link: LinkId,
        (header, message): (&[u8], Box<Message>),
        dialect: &Dialect,
        now: Now,
        out: &mut Outbox,
    ) {
        step("received");
        if message.mti().is_answer() {
            self.counts.unexpected += 1;
            return self.spares.give_back(message);
        }
        let arrival = Arrival { link, transaction: self.core.next_transaction(), received: now };
        let account = self.account(&message, arrival.transaction);
        let given = match &account {
            Ok(Some(Account::Token(token))) => Ok(Given::Token(*token)),
            Ok(Some(Account::Pan(card, data))) => {
                Ok(Given::Pan { card: card.clone(), digits: data.pan.expose_digits() })
            }
            Ok(None) => Err(Refusal::FormatError),
            Err(refusal) => Err(*refusal),
        };
        let parsed = Request::parse(&message, dialect, given, arrival);
        let card = match account {
            Ok(Some(Account::Pan(_, data))) => Some(data),
            _ => None,
        };
        let held = Held { message, header: header.to_vec(), card };
        match parsed {
            Ok((request, card)) => self.enter(id, request, card, held),
            Err(fault) => self.not_a_request(id, arrival, held, &fault, out),
        }
    }

    /// A message from an acquirer that cannot be read whole: answered when DE 7 and 11 can.
    pub(super) fn acquirer_garbled(
        &mut self,
        id: ConnectionId,
        link: LinkId,
        header: &[u8],
        message: Box<Message>,
        now: Now,
        out: &mut Outbox,
    ) {
        let arrival = Arrival { link, transaction: self.core.next_transaction(), received: now };
        let parsed = Request::illegible(&message, arrival, Refusal::FormatError);
        let held = Held { message, header: header.to_vec(), card: None };
        match parsed {
            Ok(request) => self.enter(id, request, CardSource::Nothing, held),
            Err(fault) => self.not_a_request(id, arrival, held, &fault, out),
        }
    }

    fn enter(&mut self, from: ConnectionId, mut request: Request, card: CardSource, held: Held) {
        let link = request.leg.link;
        match request.kind {
            RequestKind::Payment => request.refused = request.refused.or_else(|| self.refused_for_room()),
            // What has happened is never refused for want of room: unanswered, it comes again.
            RequestKind::Advice | RequestKind::Reversal if self.held_back => {
                self.core.leave_unanswered();
                return self.spares.give_back(held.message);
            }
            RequestKind::Advice | RequestKind::Reversal => {}
        }
        self.held.insert(request.transaction, held);
        let signed_on = self.may_ask(from, link);
        self.events.push_back(Event::Received { request: Arc::new(request), card, from, signed_on });
    }

    fn may_ask(&self, from: ConnectionId, link: LinkId) -> bool {
        let up = |id: &ConnectionId| self.connections.get(id).is_some_and(|c| c.session.is_up());
        let institution = self.config.acquirers.get(&link).is_some_and(|a| a.sign_on_per_institution);
        up(&from) || institution && self.connections.values().any(|c| c.link == link && c.session.is_up())
    }

    fn not_a_request(
        &mut self,
        id: ConnectionId,
        arrival: Arrival,
        held: Held,
        fault: &NotARequest,
        out: &mut Outbox,
    ) {
        match fault {
            NotARequest::Unanswerable(element) => {
                tracing::warn!(link = %arrival.link, connection = %id, ?element, "unanswerable message");
                self.close(id, CloseReason::MessageUnanswerable, out);
            }
            NotARequest::Unsupported => {
                let Ok(request) = Request::unsupported(&held.message, arrival) else {
                    return self.close(id, CloseReason::MessageUnanswerable, out);
                };
                let kind = AnswerKind::Refused(Refusal::UnsupportedMessage);
                self.held.insert(arrival.transaction, held);
                self.answer(&Answer::to(&Arc::new(request), id, kind), out);
            }
        }
    }

    /// DE 2: a token, or a PAN that is sealed before anything else is done with it.
    fn account(&mut self, message: &Message, id: TransactionId) -> Result<Option<Account>, Refusal> {
        let Some(digits) = message.get(DataElement::PAN) else { return Ok(None) };
        if self.detokenizer.covers(digits) {
            return Token::parse(digits)
                .map(|token| Some(Account::Token(token)))
                .map_err(|_| Refusal::FormatError);
        }
        let pan = Pan::parse(digits).map_err(|_| Refusal::FormatError)?;
        let track = message.track2().map_err(|_| Refusal::FormatError)?;
        let expiry = message.expiry().map_err(|_| Refusal::FormatError)?;
        let data = CardData {
            expiry: expiry.or(track.and_then(|track| track.expiry)),
            sequence: message.sequence_number().map_err(|_| Refusal::FormatError)?,
            pan,
        };
        let sealed = self.cards.seal(&mut self.entropy, id, &data).map_err(|_| Refusal::VaultUnavailable)?;
        let card = PanCard {
            card: Arc::new(CardRef { token: None, sealed }),
            mark: self.cards.mark(&data.pan),
            issuer: self.config.routes.issuer(data.pan.expose_digits()),
        };
        Ok(Some(Account::Pan(card, data)))
    }

    /// Builds an answer, looks at it for the PAN, and hands it to the asking connection.
    pub(super) fn answer(&mut self, answer: &Answer, out: &mut Outbox) {
        let held = self.held.remove(&answer.asked_by);
        let mut message = self.spares.lend();
        let left = self.give_answer(answer, held, &mut message, out);
        self.spares.give_back(message);
        if let Some(held) = left {
            self.spares.give_back(held.message);
        }
    }

    /// Gives back what was held for the answer, unless it is needed again.
    fn give_answer(
        &mut self,
        answer: &Answer,
        held: Option<Held>,
        message: &mut Message,
        out: &mut Outbox,
    ) -> Option<Held> {
        let Some(to) = self.answering_connection(answer) else {
            self.events.push_back(Event::Undelivered { transaction: answer.transaction });
            return held;
        };
        let Some(wire) = self.wire(answer.request.leg.link).cloned() else {
            // It left the configuration, and its connection is being closed.
            self.events.push_back(Event::Undelivered { transaction: answer.transaction });
            return held;
        };
        let secret = self.secret_of(answer, held.as_ref());
        let header = held.as_ref().map(|held| wire.format.answer_header(&held.header));
        let header = header.unwrap_or_else(|| vec![0; wire.format.header_length()]);
        for extent in [Extent::Full, Extent::Bare] {
            if answer_message(answer, held.as_ref(), &wire, extent, message).is_none() {
                continue;
            }
            self.authenticate(answer, held.as_ref(), &wire, message);
            match self.write_scanned(to, &wire, &header, message, secret.as_ref(), out) {
                Written::Clean => {
                    if answer.must_arrive
                        && let Some(connection) = self.connections.get_mut(&to)
                    {
                        connection.owes(answer.transaction);
                    }
                    return held;
                }
                Written::Leak => {
                    self.counts.leaks += 1;
                    tracing::error!(transaction = %answer.transaction, "the PAN stood in an answer; suppressed");
                }
                Written::Impossible => {}
            }
        }
        if answer.kind != AnswerKind::Refused(Refusal::LeakSuppressed) {
            if let Some(held) = held {
                self.held.insert(answer.asked_by, held);
            }
            let (transaction, asked_by) = (answer.transaction, answer.asked_by);
            self.events.push_back(Event::Leaked { transaction, asked_by });
            return None;
        }
        held
    }

    /// Puts in the issuer's answer to the token's chip, where one is awaited. An issuer's own would be under the key of
    /// another card, and is never passed on.
    fn authenticate(&self, answer: &Answer, held: Option<&Held>, wire: &Wire, message: &mut Message) {
        let token = answer.card.as_ref().and_then(|card| card.token.as_ref());
        let Some((token, held)) = token.zip(held) else { return };
        let made =
            issuer_authentication(&self.detokenizer, &token.token, &held.message, message, &wire.dialect);
        // Ten bytes always have room in DE 55.
        let _ = made.map(|made| message.set(DataElement::ICC, &made));
    }

    /// The asking connection, or another of its link that is signed on where the link allows it.
    fn answering_connection(&self, answer: &Answer) -> Option<ConnectionId> {
        if self.connections.contains_key(&answer.to) {
            return Some(answer.to);
        }
        if answer.to == NOBODY {
            // Asked before a restart: its message is gone, and a repeat gets the answer.
            return None;
        }
        let link = answer.request.leg.link;
        let any = self.config.acquirers.get(&link).is_some_and(|acquirer| acquirer.answer_on_any);
        let others = self.connections.iter().filter(|(_, c)| any && c.link == link && c.session.is_up());
        others.map(|(id, _)| *id).min()
    }

    /// The PAN that must not stand in the answer to a token.
    fn secret_of(&mut self, answer: &Answer, held: Option<&Held>) -> Option<Pan> {
        let card = answer.card.as_ref().filter(|card| card.token.is_some())?;
        if let Some(data) = held.and_then(|held| held.card.as_ref()) {
            return Some(data.pan.clone());
        }
        self.open(card, answer.transaction).map(|data| data.pan)
    }

    fn write_scanned(
        &mut self,
        to: ConnectionId,
        wire: &Wire,
        header: &[u8],
        message: &Message,
        secret: Option<&Pan>,
        out: &mut Outbox,
    ) -> Written {
        let start = out.bytes.len();
        let framed = wire.format.write(header, |bytes| encode(&wire.dialect, message, bytes), &mut out.bytes);
        if let Err(error) = framed {
            self.counts.unencodable += 1;
            tracing::error!(connection = %to, %error, "an answer cannot be written in the link's dialect");
            return Written::Impossible;
        }
        let frame = out.bytes.get(start..).unwrap_or_default();
        let leaks = secret.is_some_and(|pan| LeakScan::new(pan).find(frame).is_some());
        if leaks && !sabotaged("pan-in-answer") {
            if let Some(frame) = out.bytes.get_mut(start..) {
                zeroize::Zeroize::zeroize(frame);
            }
            out.bytes.truncate(start);
            return Written::Leak;
        }
        step("answering");
        self.written(to, start, out);
        Written::Clean
    }
}

/// DE 2 and 14 as the acquirer sent them: never looked up from anything else, and never written down.
const ACCOUNT: Bitmap = Bitmap::of(&[DataElement::PAN, DataElement::EXPIRY]);

/// What an answer can take from its request.
const ECHOED: Bitmap = ACCOUNT.or(KEPT);

/// What of the issuer's word is given even when the rest cannot be.
const ALWAYS_GIVEN: Bitmap =
    Bitmap::of(&[DataElement::SETTLEMENT_DATE, DataElement::APPROVAL_CODE, DataElement::RESPONSE_CODE]);

/// DE 2 as it was found.
enum Account {
    Token(Token),
    Pan(PanCard, CardData),
}

/// What became of an answer's frame.
enum Written {
    Clean,
    Leak,
    Impossible,
}

/// The answer as a message: the request's echo set, then the answer's own elements, then token data. Nothing is
/// taken from the issuer's message that is not on a list.
fn answer_message(
    answer: &Answer,
    held: Option<&Held>,
    wire: &Wire,
    extent: Extent,
    message: &mut Message,
) -> Option<()> {
    let mti = answer.request.leg.mti.answer()?;
    let dialect = &wire.dialect;
    let echoes = dialect.echoes(mti.class);
    message.clear(mti);
    match held {
        // What was asked lies here as it came: the same elements, and their classes are known.
        Some(held) if answer.asked_by == answer.transaction => {
            message.copy_all(echoes.and(ECHOED), &held.message).ok()?;
        }
        _ => {
            set_all(message, &answer.request.elements, |element| echoes.has(element))?;
            if let Some(held) = held {
                message.copy_all(echoes.and(ACCOUNT), &held.message).ok()?;
            }
        }
    }
    if sabotaged("pan-in-answer")
        && let Some(card) = held.and_then(|held| held.card.as_ref())
    {
        message.set(DataElement::PAN, card.pan.expose_digits()).ok()?;
    }
    let given = |element| match element {
        DataElement::ICC => extent == Extent::Full && dialect.field(element).is_some(),
        _ => extent == Extent::Full || ALWAYS_GIVEN.has(element),
    };
    set_all(message, &answer.elements, given)?;
    let code = match answer.kind {
        AnswerKind::Refused(refusal) => Some(dialect.response_code(refusal)),
        AnswerKind::Accepted => Some(dialect.approved()),
        AnswerKind::Passed => None,
    };
    if let Some(code) = code {
        message.set(DataElement::RESPONSE_CODE, code.as_bytes()).ok()?;
    }
    dialect.set_token_data(message, &token_data(answer)).ok()
}

/// Sets those of the elements that are wanted.
fn set_all(message: &mut Message, elements: &Elements, wanted: impl Fn(DataElement) -> bool) -> Option<()> {
    let named = elements.iter().filter_map(|(number, value)| Some((DataElement::new(number)?, value)));
    named
        .filter(|(element, _)| wanted(*element))
        .try_for_each(|(element, value)| message.set(element, value))
        .ok()
}

fn token_data(answer: &Answer) -> TokenData {
    let refusal = match answer.kind {
        AnswerKind::Refused(refusal) => Text::parse("refusal", refusal.name().as_bytes()).ok(),
        AnswerKind::Passed | AnswerKind::Accepted => None,
    };
    let token = answer.card.as_ref().and_then(|card| card.token.as_ref());
    match token {
        Some(token) => TokenData {
            requestor: Some(token.requestor),
            assurance: Some(token.assurance),
            last4: Some(token.last4),
            par: token.par,
            refusal,
            ..TokenData::default()
        },
        None => TokenData { refusal, ..TokenData::default() },
    }
}
