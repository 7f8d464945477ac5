//! The issuer's side: a request in the issuer's dialect with the PAN in the token's place, stored messages, and
//! what issuers answer.

use std::borrow::Cow;

use crate::codec::{Bitmap, CARD_TAGS, DataElement, EncodeError, Message, TokenData, icc_without};
use crate::crypto::CryptogramKeys;
use crate::journal::{CardRef, Elements, IssuerLeg, StoredKind};
use crate::link::{Answerable, ConnectionId, Outbox, Pool};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::{sabotaged, step};
use crate::tsp::CardData;
use crate::vocab::{
    LinkId, MessageClass, Refusal, Service, SettlementWindow, Track2, TransactionId, VerdictResult, Verdicts,
};

use super::super::chip::{regenerated, word_to_chip};
use super::super::config::{Cryptograms, TrackTwo};
use super::super::event::{Delivery, Event, IssuerAnswer, Unsent};
use super::super::transaction::Routed;
use super::{Node, Sent, Wire};

/// What never goes from one side to the other: the first three are secrets of a zone, the rest is made anew.
const NOT_PASSED: Bitmap = Bitmap::of(&[
    DataElement::PIN_BLOCK,
    DataElement::SECURITY_CONTROL,
    DataElement::MAC_64,
    DataElement::MAC_128,
    DataElement::FORWARDER,
    DataElement::SETTLEMENT_DATE,
    DataElement::ORIGINAL_DATA,
]);

/// What holds the token and would contradict the PAN.
const OF_THE_TOKEN: Bitmap = Bitmap::of(&[
    DataElement::PAN,
    DataElement::EXPIRY,
    DataElement::SEQUENCE_NUMBER,
    DataElement::TRACK_2,
    DataElement::TRACK_3,
    DataElement::TRACK_1,
    DataElement::ICC,
]);

impl Node {
    /// Sends a durable request to its issuer, on the connection with the fewest unanswered.
    pub(super) fn forward(&mut self, id: TransactionId, repeat: bool, out: &mut Outbox) {
        if let Some(refusal) = self.withdrawal(id).filter(|_| !repeat) {
            return self.events.push_back(Event::Withdrawn { transaction: id, refusal });
        }
        let mut message = self.spares.lend();
        let sent = self.try_forward(id, repeat, &mut message, out);
        self.spares.give_back(message);
        self.say_if_unsent(id, sent);
    }

    /// Why a request of which no byte has left stays here: its token was good when it was looked up, and is not now.
    /// What is decided by an earlier payment asks no token.
    fn withdrawal(&self, id: TransactionId) -> Option<Refusal> {
        let transaction = self.core.transaction(id).filter(|transaction| transaction.parent.is_none())?;
        let token = transaction.routed.as_ref()?.card.token.as_ref()?;
        self.detokenizer.still_active(token.record).err().filter(|_| !sabotaged("suspended-and-sent"))
    }

    pub(super) fn say_if_unsent(&mut self, transaction: TransactionId, sent: Result<(), Unsent>) {
        if let Err(why) = sent {
            self.events.push_back(Event::NotSent { transaction, why });
        }
    }

    fn try_forward(
        &mut self,
        id: TransactionId,
        repeat: bool,
        message: &mut Message,
        out: &mut Outbox,
    ) -> Result<(), Unsent> {
        self.take_originals_card(id);
        let transaction = self.core.transaction(id).ok_or(Unsent::Unsayable)?;
        let routed = transaction.routed.as_ref().ok_or(Unsent::Unsayable)?;
        let issuer = routed.leg.link;
        let wire = self.wire(issuer).ok_or(Unsent::Unreachable)?.clone();
        let config = self.config.issuers.get(&issuer).ok_or(Unsent::Unreachable)?;
        let (track_two, cryptograms) = (config.track_two, config.cryptograms);
        let held = self.held.get(&id).ok_or(Unsent::Unsayable)?;
        let card = held.card.as_ref().ok_or(Unsent::Unsayable)?;
        let manner = Manner { track_two, cryptograms, card_keys: self.card_keys.get(&issuer) };
        let said = self.said_of_initiation(id, routed, &held.message);
        if let Err(error) = issuer_message(&held.message, card, routed, manner, said, &wire, message) {
            tracing::error!(transaction = %id, %error, "a request cannot be said in the issuer's dialect");
            self.counts.unencodable += 1;
            return Err(Unsent::Unsayable);
        }
        if repeat {
            message.set_mti(message.mti().repeat());
        }
        step("forwarding");
        self.send_to_issuer(id, issuer, &wire, message, out)
    }

    /// Who initiated the payment, in its acquirer's words. Only a verdict on it makes one look.
    fn said_of_initiation(&self, id: TransactionId, routed: &Routed, asked: &Message) -> TokenData {
        let noted = routed.verdicts.of(Service::Initiation);
        let acquirer = || self.core.transaction(id).map(|transaction| transaction.request.leg.link);
        let said = noted.and_then(|_| self.wire(acquirer()?)?.dialect.token_data(asked).ok());
        let TokenData { initiator, original, .. } = said.unwrap_or_default();
        TokenData { initiator, original, ..TokenData::default() }
    }

    /// What refunds, completes or raises an earlier payment with a token goes to the card that this was made with.
    fn take_originals_card(&mut self, id: TransactionId) {
        let routed = self.core.transaction(id).and_then(|transaction| transaction.routed.as_ref());
        let of_token = routed.filter(|routed| routed.original.is_some() && routed.card.token.is_some());
        let Some(card) = of_token.map(|routed| std::sync::Arc::clone(&routed.card)) else { return };
        let opened = self.open(&card, id);
        if let Some(held) = self.held.get_mut(&id) {
            held.card = opened;
        }
    }

    pub(super) fn send_to_issuer(
        &mut self,
        id: TransactionId,
        issuer: LinkId,
        wire: &Wire,
        message: &Message,
        out: &mut Outbox,
    ) -> Result<(), Unsent> {
        let side = self.issuers.get_mut(&issuer).ok_or(Unsent::Unreachable)?;
        let none = |pool: &Pool| if pool.is_available() { Unsent::Full } else { Unsent::Unreachable };
        let connection = side.pool.pick().ok_or_else(|| none(&side.pool))?;
        let start = self.connections.get(&connection).ok_or(Unsent::Unreachable)?.queued;
        let header = vec![0; wire.format.header_length()];
        if !self.write(connection, wire, &header, message, out) {
            return Err(Unsent::Unsayable);
        }
        self.issuer_let_go(id);
        self.sent.insert(id, Sent { link: issuer, connection, start });
        if let Some(side) = self.issuers.get_mut(&issuer) {
            side.pool.taken(connection);
        }
        Ok(())
    }

    /// Sends a stored advice or reversal, built from what the journal keeps and nothing else.
    pub(super) fn deliver(&mut self, delivery: &Delivery, out: &mut Outbox) {
        let sent = self.try_deliver(delivery, out);
        self.say_if_unsent(delivery.entry.transaction, sent);
    }

    fn try_deliver(&mut self, delivery: &Delivery, out: &mut Outbox) -> Result<(), Unsent> {
        let entry = &delivery.entry;
        let issuer = entry.issuer.link;
        if !self.issuers.get(&issuer).is_some_and(|side| side.pool.is_available()) {
            return Err(Unsent::Unreachable);
        }
        let wire = self.wire(issuer).ok_or(Unsent::Unreachable)?.clone();
        let card = self.open(&entry.card, entry.sealed_for()).ok_or(Unsent::Unsayable)?;
        match stored_message(delivery, &card, &wire) {
            Ok(message) => {
                step("delivering");
                self.send_to_issuer(entry.transaction, issuer, &wire, &message, out)
            }
            Err(error) => {
                tracing::error!(transaction = %entry.transaction, %error, "a stored message cannot be written");
                self.counts.unencodable += 1;
                Err(Unsent::Unsayable)
            }
        }
    }

    /// A message from an issuer: an answer, or nothing that is expected here.
    pub(super) fn issuer_says(&mut self, link: LinkId, message: &Message, believable: bool, now: Now) {
        step("issuer-answered");
        let answer = message.mti().is_answer().then(|| self.issuer_answer(link, message, believable, now));
        match answer.flatten() {
            Some(answer) => self.events.push_back(Event::Answered(Box::new(answer))),
            None => self.counts.unexpected += 1,
        }
    }

    /// Its identifiers, its code, and those of its elements that an acquirer may see. `None` when it names nothing.
    fn issuer_answer(
        &self,
        link: LinkId,
        message: &Message,
        believable: bool,
        now: Now,
    ) -> Option<IssuerAnswer> {
        let wire = self.wire(link)?;
        let stan = message.stan().ok().flatten()?;
        let sent_at = message.sent_at().ok().flatten()?.resolve(now.wall);
        let code = message.response_code().ok().flatten();
        let amount = message.amount();
        let allowed = wire.dialect.answer_elements();
        let mut elements = Elements::with_room(Elements::ANSWER_ROOM);
        for element in message.present().and(allowed).iter() {
            if let Some(value) = message.get(element) {
                elements.keep(element.number(), value);
            }
        }
        let passes =
            || self.config.issuers.get(&link).is_some_and(|it| it.cryptograms == Cryptograms::Passed);
        if let Some(said) = message.get(DataElement::ICC).filter(|_| passes()).and_then(word_to_chip) {
            elements.keep_word_to_chip(&said);
        }
        Some(IssuerAnswer {
            link,
            mti: message.mti(),
            sent_at,
            stan,
            acquirer: message.acquirer().ok().flatten(),
            rrn: message.rrn().ok().flatten(),
            terminal: message.terminal().ok().flatten(),
            believable: believable && code.is_some() && amount.is_ok(),
            amount: amount.ok().flatten(),
            outcome: code.and_then(|code| wire.dialect.outcome(code)),
            card: self.card_word_in(wire, message),
            code: code.unwrap_or_else(|| wire.dialect.response_code(Refusal::IssuerAnswerInvalid)),
            elements,
        })
    }

    /// The message is over with an answer: its connection has room again.
    pub(super) fn issuer_done(&mut self, id: TransactionId, what: Answerable) {
        let Some(sent) = self.sent.remove(&id) else { return };
        if let Some(issuer) = self.issuers.get_mut(&sent.link) {
            issuer.pool.answered(sent.connection, what);
        }
    }

    /// Its answer is no longer waited for: its connection has room again, and is as good or bad as it was.
    pub(super) fn issuer_let_go(&mut self, id: TransactionId) {
        let Some(sent) = self.sent.remove(&id) else { return };
        if let Some(issuer) = self.issuers.get_mut(&sent.link) {
            issuer.pool.let_go(sent.connection);
        }
    }

    /// It was left without an answer: its connection may be dead.
    pub(super) fn issuer_silent(&mut self, id: TransactionId, what: Answerable, now: Now) {
        let Some(sent) = self.sent.remove(&id) else { return };
        if let Some(issuer) = self.issuers.get_mut(&sent.link) {
            issuer.pool.silent(sent.connection, what, now.moment, &mut self.entropy);
        }
    }

    /// Connections that may be asked for the issuer's requests.
    pub fn issuer_connections(&self, issuer: LinkId) -> impl Iterator<Item = ConnectionId> + '_ {
        self.issuers.get(&issuer).into_iter().flat_map(|side| side.pool.connections())
    }
}

/// How an issuer wants what a token's chip or stripe said.
#[derive(Clone, Copy)]
struct Manner<'a> {
    track_two: TrackTwo,
    cryptograms: Cryptograms,
    /// Of an issuer that wants cryptograms of its own cards: their keys.
    card_keys: Option<&'a CryptogramKeys>,
}

/// The request as its issuer gets it.
fn issuer_message(
    asked: &Message,
    card: &CardData,
    routed: &Routed,
    manner: Manner<'_>,
    said: TokenData,
    wire: &Wire,
    message: &mut Message,
) -> Result<(), EncodeError> {
    message.clear(asked.mti().first().with_version(wire.dialect.version()));
    let of_token = routed.card.token.is_some();
    let mut verdicts = routed.verdicts;
    let kept_back = if of_token { NOT_PASSED.or(OF_THE_TOKEN) } else { NOT_PASSED };
    message.copy_all(wire.dialect.elements().without(kept_back), asked)?;
    if of_token {
        set_card(message, card)?;
        let is_true = verdicts.of(Service::Cryptogram) == Some(VerdictResult::Good);
        if manner.cryptograms == Cryptograms::Passed {
            // The issuer derives the chip's key from the token and its sequence number, which stand in it.
            message.copy(DataElement::ICC, asked)?;
        } else if set_chip(message, asked, card, manner.card_keys.filter(|_| is_true))? {
            verdicts.note(Service::Cryptogram, VerdictResult::Regenerated);
        }
        if manner.track_two == TrackTwo::Rebuild && rebuild_track(message, asked, card)? {
            verdicts.note(Service::VerificationValue, VerdictResult::Bad);
        }
    }
    set_leg(message, &routed.leg, routed.window)?;
    let original = routed.original.as_ref().and_then(|original| original.data);
    set_original(message, original, wire)?;
    let TokenData { initiator, original, .. } = said;
    let found = token_data(&routed.card, verdicts, routed.window);
    wire.dialect.set_token_data(message, &TokenData { initiator, original, ..found })
}

/// A stored message as its issuer gets it.
fn stored_message(delivery: &Delivery, card: &CardData, wire: &Wire) -> Result<Message, EncodeError> {
    let entry = &delivery.entry;
    let mti = entry.issuer.mti.with_version(wire.dialect.version());
    let mut message = Message::new(if delivery.repeat { mti.repeat() } else { mti.first() });
    for (number, value) in entry.elements.iter() {
        let element = DataElement::new(number).filter(|element| wire.dialect.field(*element).is_some());
        if let Some(element) = element.filter(|element| !NOT_PASSED.has(*element)) {
            message.set(element, value)?;
        }
    }
    set_card(&mut message, card)?;
    set_original(&mut message, entry.original_data, wire)?;
    if entry.kind == StoredKind::StandIn {
        message.set(DataElement::RESPONSE_CODE, wire.dialect.approved().as_bytes())?;
        if let Some(reason) = wire.dialect.stand_in() {
            message.set(reason.element, &reason.value)?;
        }
    }
    set_leg(&mut message, &entry.issuer, entry.window)?;
    wire.dialect.set_token_data(&mut message, &token_data(&entry.card, entry.verdicts, entry.window))?;
    Ok(message)
}

/// DE 90 by the issuer's own names: a reversal cannot do without it, anything else can where the dialect has none.
fn set_original(message: &mut Message, original: Option<[u8; 42]>, wire: &Wire) -> Result<(), EncodeError> {
    let needed = message.mti().class == MessageClass::Reversal;
    match original {
        Some(data) if needed || wire.dialect.field(DataElement::ORIGINAL_DATA).is_some() => {
            message.set(DataElement::ORIGINAL_DATA, &data)
        }
        _ => Ok(()),
    }
}

/// PAN, its expiry and its sequence number.
pub(super) fn set_card(message: &mut Message, card: &CardData) -> Result<(), EncodeError> {
    message.set(DataElement::PAN, card.pan.expose_digits())?;
    if let Some(expiry) = card.expiry {
        message.set(DataElement::EXPIRY, &expiry.digits())?;
    }
    if let Some(sequence) = card.sequence {
        message.set(DataElement::SEQUENCE_NUMBER, &sequence.digits())?;
    }
    Ok(())
}

/// DE 55 without what names the token, or, true, made anew with the card's own key: then gives true.
fn set_chip(
    message: &mut Message,
    asked: &Message,
    card: &CardData,
    card_keys: Option<&CryptogramKeys>,
) -> Result<bool, EncodeError> {
    if let Some(keys) = card_keys
        && let Ok(Some(chip)) = asked.icc()
        && let Some(anew) = regenerated(&chip, card, keys)
    {
        return message.set(DataElement::ICC, &anew).map(|()| true);
    }
    let Some(whole) = asked.get(DataElement::ICC) else { return Ok(false) };
    match icc_without(whole, &CARD_TAGS) {
        Cow::Borrowed(_) => message.copy(DataElement::ICC, asked)?,
        Cow::Owned(rest) if rest.is_empty() => {}
        Cow::Owned(rest) => message.set(DataElement::ICC, &rest)?,
    }
    Ok(false)
}

/// Track 2 over the PAN, where the token had one. Its verification value is gone, which the issuer must be told.
fn rebuild_track(message: &mut Message, asked: &Message, card: &CardData) -> Result<bool, EncodeError> {
    let (Ok(Some(track)), Some(expiry)) = (asked.track2(), card.expiry) else { return Ok(false) };
    let rebuilt = Track2::rebuilt(&card.pan, expiry, track.service_code);
    message.set(DataElement::TRACK_2, &rebuilt).map(|()| true)
}

/// What this switch calls the message on the issuer's link, and the day on which it counts.
pub(super) fn set_leg(
    message: &mut Message,
    leg: &IssuerLeg,
    window: SettlementWindow,
) -> Result<(), EncodeError> {
    message.set(DataElement::SENT_AT, &leg.sent_at.transmission_time().digits())?;
    message.set(DataElement::STAN, &leg.stan.digits())?;
    message.set(DataElement::SETTLEMENT_DATE, &window.date.month_day())?;
    match leg.forwarder {
        Some(forwarder) => message.set(DataElement::FORWARDER, forwarder.as_bytes()),
        None => Ok(()),
    }
}

fn token_data(card: &CardRef, verdicts: Verdicts, window: SettlementWindow) -> TokenData {
    let Some(token) = &card.token else {
        return TokenData { window: Some(window.sequence), ..TokenData::default() };
    };
    TokenData {
        token: Some(token.token),
        token_expiry: token.expiry,
        requestor: Some(token.requestor),
        assurance: Some(token.assurance),
        par: token.par,
        verdicts,
        window: Some(window.sequence),
        ..TokenData::default()
    }
}
