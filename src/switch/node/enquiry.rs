//! Enquiries on the wire: a 0100 in the issuer's dialect that asks whether a card may have a token, and what its answer
//! means.

use crate::codec::{DataElement, Dialect, EncodeError, Message, TokenData, TokenRequestData};
use crate::journal::IssuerLeg;
use crate::link::{Answerable, Outbox};
use crate::stdx::clock::Now;
use crate::stdx::sabotage::step;
use crate::tsp::{CardWord, Enquiry, EnquiryReply, IssuerWord};
use crate::vocab::{LinkId, MessageClass, MessageFunction, Mti, Outcome, SettlementWindow, TransactionId};

use super::super::core::EnquiryOrder;
use super::super::enquiry::AskedEnquiry;
use super::super::event::{Event, IssuerAnswer, Unsent};
use super::issuer_side::{set_card, set_leg};
use super::{Node, Wire};

/// An enquiry between its order and its end, with the clear card while it is needed.
pub(super) struct HeldEnquiry {
    issuer: LinkId,
    enquiry: Enquiry,
    reply: EnquiryReply,
}

/// ISO 4217: no currency is involved.
const NO_CURRENCY: &[u8] = b"999";

impl Node {
    /// The TSP wants an issuer asked. One that cannot be asked is silent.
    pub fn enquire(&mut self, AskedEnquiry { enquiry, reply }: AskedEnquiry) {
        let asked =
            |issuer: &LinkId| self.wire(*issuer).is_some_and(|wire| wire.dialect.token_request().is_some());
        let issuer = self.config.routes.issuer(enquiry.card.pan.expose_digits()).filter(asked);
        let Some(issuer) = issuer else { return reply.tell(IssuerWord::Silent) };
        let transaction = self.core.next_transaction();
        let order = EnquiryOrder { transaction, issuer, requestor: enquiry.requestor, enquiry: enquiry.id };
        self.enquiries.insert(transaction, HeldEnquiry { issuer, enquiry, reply });
        self.events.push_back(Event::Enquire(order));
    }

    /// Sends a durable enquiry.
    pub(super) fn send_enquiry(&mut self, id: TransactionId, leg: IssuerLeg, out: &mut Outbox) {
        let sent = self.try_enquiry(id, leg, out);
        self.say_if_unsent(id, sent);
    }

    fn try_enquiry(&mut self, id: TransactionId, leg: IssuerLeg, out: &mut Outbox) -> Result<(), Unsent> {
        let wire = self.wire(leg.link).ok_or(Unsent::Unreachable)?.clone();
        let window = self.core.window();
        let held = self.enquiries.get(&id).ok_or(Unsent::Unsayable)?;
        match enquiry_message(&held.enquiry, &leg, window, &wire) {
            Ok(message) => {
                step("enquiring");
                self.send_to_issuer(id, leg.link, &wire, &message, out)
            }
            Err(error) => {
                tracing::error!(transaction = %id, %error, "an enquiry cannot be said in the issuer's dialect");
                self.counts.unencodable += 1;
                Err(Unsent::Unsayable)
            }
        }
    }

    /// It is over.
    pub(super) fn enquired(&mut self, id: TransactionId, answer: Option<&IssuerAnswer>, now: Now) {
        step("enquired");
        match answer {
            Some(_) => self.issuer_done(id, Answerable::Request),
            None => self.issuer_silent(id, Answerable::Request, now),
        }
        let Some(held) = self.enquiries.remove(&id) else { return };
        let dialect = self.wire(held.issuer).map(|wire| wire.dialect.clone());
        let word = answer.zip(dialect).map_or(IssuerWord::Silent, |(answer, dialect)| said(answer, &dialect));
        held.reply.tell(word);
    }

    /// What an answer says of the card. Payments' answers are not looked through.
    pub(super) fn card_word_in(&self, wire: &Wire, message: &Message) -> Option<Box<CardWord>> {
        if self.enquiries.is_empty() {
            return None;
        }
        let asked = wire.dialect.token_request()?.read(message).ok()?;
        let par = wire.dialect.token_data(message).ok().and_then(|data| data.par);
        Some(Box::new(CardWord { contacts: asked.contacts, par }))
    }
}

/// The issuer's code, as its dialect means it.
fn said(answer: &IssuerAnswer, dialect: &Dialect) -> IssuerWord {
    let card = answer.card.as_deref().copied().unwrap_or_default();
    if dialect.token_request().is_some_and(|places| places.step_up == answer.code) {
        return IssuerWord::StepUp(card);
    }
    match answer.outcome {
        Some(Outcome::Approved) => IssuerWord::Approved(card),
        Some(Outcome::RetryLater | Outcome::Unknown) => IssuerWord::Silent,
        // A code that is in no table is a decline, as of a payment.
        Some(Outcome::Declined | Outcome::ApprovedPartly) | None => IssuerWord::Declined,
    }
}

fn enquiry_message(
    enquiry: &Enquiry,
    leg: &IssuerLeg,
    window: SettlementWindow,
    wire: &Wire,
) -> Result<Message, EncodeError> {
    let mti = Mti::of(MessageClass::Authorization, MessageFunction::Request);
    let mut message = Message::new(mti.with_version(wire.dialect.version()));
    set_card(&mut message, &enquiry.card)?;
    message.set(DataElement::AMOUNT, b"000000000000")?;
    message.set(DataElement::CURRENCY, NO_CURRENCY)?;
    set_leg(&mut message, leg, window)?;
    let data = TokenData {
        requestor: Some(enquiry.requestor),
        location: Some(enquiry.location),
        ..TokenData::default()
    };
    wire.dialect.set_token_data(&mut message, &data)?;
    if let Some(places) = wire.dialect.token_request() {
        message.set(DataElement::PROCESSING_CODE, places.processing.as_bytes())?;
        let data = TokenRequestData {
            indicator: true,
            enquiry: Some(enquiry.id),
            hints: enquiry.hints,
            ..TokenRequestData::default()
        };
        places.write(&mut message, &data)?;
    }
    Ok(message)
}
