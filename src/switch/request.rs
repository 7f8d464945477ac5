//! `Request`: an acquirer's message parsed once into what the core needs. Past this file nobody asks whether DE 4
//! was there.

use std::sync::Arc;

use crate::codec::{Bitmap, DataElement, DecodeError, Dialect, Message, OriginalData, TokenData};
use crate::journal::{AcquirerLeg, CardRef, Elements};
use crate::stdx::clock::Now;
use crate::tsp::{DetokenizeRequest, Initiation, NamedOriginal, Purpose};
use crate::vocab::{
    Amount, Country, Currency, Expiry, Initiator, InstitutionId, LinkId, LocalDate, LocalTime,
    MerchantCategory, MerchantId, MessageClass, MessageFunction, Mti, PosEntryMode, ProcessingCode, Refusal,
    Rrn, SentAt, Stan, TerminalId, Token, TokenRequestorId, Track2, TransactionId, TransactionKind,
};

use super::chip::Chip;
use super::event::{Account, CardMark};

/// What an acquirer can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// 0100 and 0200: forwarded, and answered by the issuer.
    Payment,
    /// 0120 and 0220: it has happened; taken over and delivered later.
    Advice,
    /// 0400 and 0420: taken over and delivered as 0420.
    Reversal,
}

/// What names a request among its acquirer's, DE 7 apart (network rules, repeats): a repeat has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub link: LinkId,
    pub class: MessageClass,
    pub stan: Stan,
    pub institution: Option<InstitutionId>,
    pub terminal: Option<TerminalId>,
    pub reference: Reference,
}

/// DE 37, or where it is absent DE 12 and 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    Rrn(Rrn),
    Local(Option<LocalTime>, Option<LocalDate>),
}

impl RequestKey {
    /// The key of the original that a message with this key is about, where it has the same DE 32, 41 and 37, or 12 and
    /// 13; `None` where it has none of the last three, and nothing but a number would name the original.
    #[must_use]
    pub fn of_original(&self, class: MessageClass, stan: Stan) -> Option<Self> {
        let named = !matches!(self.reference, Reference::Local(None, _) | Reference::Local(_, None));
        named.then_some(Self { class, stan, ..*self })
    }

    /// The key of a journaled request.
    #[must_use]
    pub fn recalled(leg: &AcquirerLeg, elements: &Elements) -> Self {
        let get = |element: DataElement| elements.get(element.number());
        let reference = match get(DataElement::RRN).and_then(|value| Rrn::parse(value).ok()) {
            Some(rrn) => Reference::Rrn(rrn),
            None => Reference::Local(
                get(DataElement::LOCAL_TIME).and_then(|value| LocalTime::parse(value).ok()),
                get(DataElement::LOCAL_DATE).and_then(|value| LocalDate::parse(value).ok()),
            ),
        };
        Self {
            link: leg.link,
            class: leg.mti.class,
            stan: leg.stan,
            institution: get(DataElement::ACQUIRER).and_then(|value| InstitutionId::parse(value).ok()),
            terminal: get(DataElement::TERMINAL).and_then(|value| TerminalId::parse(value).ok()),
            reference,
        }
    }
}

/// What must be the same in a repeat: DE 2, 3, 4 and 49.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    pub account: Account,
    pub processing: Option<ProcessingCode>,
    pub amount: Option<Amount>,
}

impl Compared {
    /// What a journaled request's repeat is compared with.
    #[must_use]
    pub fn recalled(account: Account, elements: &Elements) -> Self {
        let get = |element: DataElement| elements.get(element.number());
        let currency = get(DataElement::CURRENCY).and_then(|value| Currency::parse(value).ok());
        let amount = get(DataElement::AMOUNT).zip(currency);
        Self {
            account,
            processing: get(DataElement::PROCESSING_CODE).and_then(|value| ProcessingCode::parse(value).ok()),
            amount: amount.and_then(|(value, currency)| Amount::parse(value, currency).ok()),
        }
    }
}

/// An acquirer's message.
#[derive(Debug, Clone)]
pub struct Request {
    pub transaction: TransactionId,
    pub kind: RequestKind,
    pub leg: AcquirerLeg,
    pub key: RequestKey,
    pub compared: Compared,
    pub forwarder: Option<InstitutionId>,
    /// What the journal may keep of it.
    pub elements: Elements,
    pub moves_money: bool,
    /// DE 90, of a reversal or advice.
    pub original: Option<Box<OriginalData>>,
    /// Why it is refused before anything else is looked at.
    pub refused: Option<Refusal>,
}

/// How a request's card is found.
#[derive(Debug)]
pub enum CardSource {
    /// It came with a token: what the TSP is to be asked.
    Token(Box<DetokenizeRequest>),
    /// It came with its PAN, and is known at once.
    Pan(PanCard),
    /// What it came with cannot be read: it is refused.
    Nothing,
}

/// The card of a request that came with a PAN.
#[derive(Debug, Clone)]
pub struct PanCard {
    pub card: Arc<CardRef>,
    pub mark: CardMark,
    pub issuer: Option<LinkId>,
}

/// Why a message became no request.
#[derive(Debug)]
pub enum NotARequest {
    /// DE 7 or DE 11 cannot be read: nothing can be answered, the connection goes.
    Unanswerable(DataElement),
    /// An MTI that acquirers do not send here; answered with the refusal.
    Unsupported,
}

/// The account that DE 2 names.
#[derive(Debug)]
pub enum Given<'a> {
    Token(Token),
    Pan { card: PanCard, digits: &'a [u8] },
}

/// Who sent the message, when, and what number it got here.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub link: LinkId,
    pub transaction: TransactionId,
    pub received: Now,
}

impl Request {
    /// Reads the message, and how its card is found. What is wrong with it and can still be answered is left in
    /// `refused`.
    ///
    /// # Errors
    /// `Unanswerable` without DE 7 and DE 11, `Unsupported` for an MTI that is none of a `RequestKind`.
    pub fn parse(
        message: &Message,
        dialect: &Dialect,
        given: Result<Given<'_>, Refusal>,
        arrival: Arrival,
    ) -> Result<(Self, CardSource), NotARequest> {
        let (stan, sent_at) = answerable(message, arrival.received)?;
        let mti = message.mti();
        let kind = kind_of(mti).ok_or(NotARequest::Unsupported)?;
        let leg = AcquirerLeg { link: arrival.link, mti, sent_at, stan };
        let mut request = Self::bare(arrival.transaction, kind, leg, message);
        let source = request.read(message, dialect, given).unwrap_or_else(|refusal| {
            request.refused = Some(refusal);
            CardSource::Nothing
        });
        Ok((request, source))
    }

    /// A request of which only DE 7, 11 and what else was legible is known; refused from the start.
    ///
    /// # Errors
    /// As `parse`.
    pub fn illegible(message: &Message, arrival: Arrival, why: Refusal) -> Result<Self, NotARequest> {
        let (stan, sent_at) = answerable(message, arrival.received)?;
        let mti = message.mti();
        let kind = kind_of(mti).ok_or(NotARequest::Unsupported)?;
        let leg = AcquirerLeg { link: arrival.link, mti, sent_at, stan };
        Ok(Self { refused: Some(why), ..Self::bare(arrival.transaction, kind, leg, message) })
    }

    /// A message of a kind that acquirers do not send here, as far as answering it goes.
    ///
    /// # Errors
    /// `Unanswerable`.
    pub fn unsupported(message: &Message, arrival: Arrival) -> Result<Self, NotARequest> {
        let (stan, sent_at) = answerable(message, arrival.received)?;
        let leg = AcquirerLeg { link: arrival.link, mti: message.mti(), sent_at, stan };
        let refused = Some(Refusal::UnsupportedMessage);
        Ok(Self { refused, ..Self::bare(arrival.transaction, RequestKind::Payment, leg, message) })
    }

    /// A journaled message, as far as its repeats and reversals ask.
    #[must_use]
    pub fn recalled(
        transaction: TransactionId,
        kind: RequestKind,
        leg: AcquirerLeg,
        compared: Compared,
        elements: &Elements,
    ) -> Self {
        Self {
            transaction,
            kind,
            leg,
            key: RequestKey::recalled(&leg, elements),
            compared,
            forwarder: None,
            elements: elements.clone(),
            moves_money: true,
            original: None,
            refused: None,
        }
    }

    /// What names the request and what may be kept of it. What of that cannot be read is left out, and the request
    /// refused for it.
    fn bare(transaction: TransactionId, kind: RequestKind, leg: AcquirerLeg, message: &Message) -> Self {
        let mut legible = true;
        let time = read(message.local_time(), &mut legible);
        let date = read(message.local_date(), &mut legible);
        let rrn = read(message.rrn(), &mut legible);
        let key = RequestKey {
            link: leg.link,
            class: leg.mti.class,
            stan: leg.stan,
            institution: read(message.acquirer(), &mut legible),
            terminal: read(message.terminal(), &mut legible),
            reference: rrn.map_or(Reference::Local(time, date), Reference::Rrn),
        };
        let account = Account::Pan(CardMark(0));
        Self {
            transaction,
            kind,
            leg,
            key,
            compared: Compared { account, processing: None, amount: None },
            forwarder: read(message.forwarder(), &mut legible),
            elements: kept(message),
            moves_money: false,
            original: None,
            refused: (!legible).then_some(Refusal::FormatError),
        }
    }

    fn read(
        &mut self,
        message: &Message,
        dialect: &Dialect,
        given: Result<Given<'_>, Refusal>,
    ) -> Result<CardSource, Refusal> {
        let given = given?;
        if let Some(illegible) = self.refused {
            return Err(illegible);
        }
        let parts = Parts::read(message, dialect).map_err(|_| Refusal::FormatError)?;
        self.compared.processing = parts.processing;
        self.compared.amount = parts.amount;
        self.original = parts.original.map(Box::new);
        let processing = parts.processing.ok_or(Refusal::FormatError)?;
        let amount = parts.amount.ok_or(Refusal::FormatError)?;
        // What has happened is taken whatever it was.
        if self.kind == RequestKind::Payment && processing.kind() == TransactionKind::Other {
            return Err(Refusal::UnsupportedProcessing);
        }
        self.moves_money = amount.minor() > 0 && processing.kind() != TransactionKind::Inquiry;
        let source = match given {
            Given::Token(token) => {
                self.compared.account = Account::Token(token);
                CardSource::Token(Box::new(self.question(token, &parts, message)?))
            }
            Given::Pan { card, digits } => {
                self.compared.account = Account::Pan(card.mark);
                Chip::read(message, digits)?;
                parts.track_agrees(digits)?;
                CardSource::Pan(card)
            }
        };
        if self.kind == RequestKind::Reversal && self.original.is_none() {
            return Err(Refusal::FormatError);
        }
        refuse_unreadable_secrets(message)?;
        Ok(source)
    }

    /// What the TSP is to be asked about a token.
    fn question(&self, token: Token, parts: &Parts, message: &Message) -> Result<DetokenizeRequest, Refusal> {
        parts.track_agrees(token.as_bytes())?;
        let purpose = self.purpose();
        let chip = Chip::read(message, token.as_bytes())?;
        if chip.incomplete && purpose == Purpose::Purchase {
            return Err(Refusal::FormatError);
        }
        let remote = parts.token_data.cryptogram;
        if remote.is_some() && chip.payment.is_some() {
            return Err(Refusal::FormatError);
        }
        let expiry = parts.token_expiry(&chip, purpose)?;
        let entry_mode = parts.entry_mode.map(|mode| mode.entry);
        if self.kind == RequestKind::Payment && entry_mode.is_none() {
            return Err(Refusal::FormatError);
        }
        Ok(DetokenizeRequest {
            token,
            expiry,
            requestor: parts.requestor(&chip, purpose)?,
            entry_mode,
            acquirer: self.leg.link,
            terminal: self.key.terminal,
            merchant: parts.merchant,
            category: parts.category,
            country: parts.country,
            transaction: self.transaction,
            amount: parts.amount,
            chip: chip.payment,
            remote,
            initiation: initiation(&parts.token_data)?,
            purpose,
        })
    }

    fn purpose(&self) -> Purpose {
        match (self.kind, self.compared.processing.map(|processing| processing.kind())) {
            (RequestKind::Advice | RequestKind::Reversal, _) => Purpose::PastEvent,
            (RequestKind::Payment, Some(TransactionKind::Credit)) => Purpose::Refund,
            (RequestKind::Payment, _) => Purpose::Purchase,
        }
    }
}

/// Who initiated the payment: what its data and its cryptogram say of that must agree.
fn initiation(data: &TokenData) -> Result<Option<Initiation>, Refusal> {
    let signed = data.cryptogram.map(|cryptogram| cryptogram.initiator());
    let by = match (data.initiator, signed) {
        (Some(said), Some(signed)) if said != signed => return Err(Refusal::FormatError),
        (Some(said), _) => said,
        (None, Some(Initiator::Merchant)) => Initiator::Merchant,
        (None, Some(Initiator::Customer) | None) => return Ok(None),
    };
    let original = data.original.map_or(NamedOriginal::Unnamed, NamedOriginal::Named);
    Ok(Some(Initiation { by, original }))
}

/// What no link has a key for yet is refused, never passed on or ignored.
fn refuse_unreadable_secrets(message: &Message) -> Result<(), Refusal> {
    if message.has_mac() {
        return Err(Refusal::MacKeyMissing);
    }
    if message.has(DataElement::PIN_BLOCK) {
        return Err(Refusal::PinTranslationUnavailable);
    }
    Ok(())
}

/// The elements that requests of every kind are read for.
struct Parts {
    processing: Option<ProcessingCode>,
    amount: Option<Amount>,
    expiry: Option<Expiry>,
    track: Option<Track2>,
    entry_mode: Option<PosEntryMode>,
    merchant: Option<MerchantId>,
    category: Option<MerchantCategory>,
    /// None also where it cannot be read: an acquirer's that no token asks for harms nobody.
    country: Option<Country>,
    original: Option<OriginalData>,
    token_data: TokenData,
}

impl Parts {
    fn read(message: &Message, dialect: &Dialect) -> Result<Self, DecodeError> {
        Ok(Self {
            processing: message.processing_code()?,
            amount: message.amount()?,
            expiry: message.expiry()?,
            track: message.track2()?,
            entry_mode: message.entry_mode()?,
            merchant: message.merchant()?,
            category: message.merchant_category()?,
            country: message.country().unwrap_or_default(),
            original: message.original_data()?,
            token_data: dialect.token_data(message)?,
        })
    }

    fn track_agrees(&self, account: &[u8]) -> Result<(), Refusal> {
        match &self.track {
            Some(track) if track.account.expose_digits() != account => Err(Refusal::AccountsDisagree),
            _ => Ok(()),
        }
    }

    /// Whose token it is, as the token data say, else the chip's 9F19. Two that differ are refused, but not of what has
    /// happened.
    fn requestor(&self, chip: &Chip, purpose: Purpose) -> Result<Option<TokenRequestorId>, Refusal> {
        let named = self.token_data.requestor;
        if purpose == Purpose::PastEvent {
            return Ok(named.or(chip.requestor.ok().flatten()));
        }
        match (named, chip.requestor?) {
            (Some(named), Some(in_chip)) if named != in_chip => Err(Refusal::FormatError),
            (named, in_chip) => Ok(named.or(in_chip)),
        }
    }

    /// DE 14, else DE 35, else the chip's 5F24, else its 57. Any two that differ are refused, but not of what has
    /// happened.
    fn token_expiry(&self, chip: &Chip, purpose: Purpose) -> Result<Option<Expiry>, Refusal> {
        let of_track = self.track.as_ref().and_then(|track| track.expiry);
        let [of_chip, of_its_track] = chip.expiries;
        let mut known = [self.expiry, of_track, of_chip, of_its_track].into_iter().flatten();
        let first = known.next();
        if purpose != Purpose::PastEvent && known.any(|other| Some(other) != first) {
            return Err(Refusal::ExpiriesDisagree);
        }
        Ok(first)
    }
}

fn kind_of(mti: Mti) -> Option<RequestKind> {
    match (mti.class, mti.function) {
        (MessageClass::Authorization | MessageClass::Financial, MessageFunction::Request) => {
            Some(RequestKind::Payment)
        }
        (MessageClass::Authorization | MessageClass::Financial, MessageFunction::Advice) => {
            Some(RequestKind::Advice)
        }
        (MessageClass::Reversal, MessageFunction::Request | MessageFunction::Advice) => {
            Some(RequestKind::Reversal)
        }
        _ => None,
    }
}

fn answerable(message: &Message, received: Now) -> Result<(Stan, SentAt), NotARequest> {
    let missing = NotARequest::Unanswerable;
    let stan = message.stan().ok().flatten().ok_or(missing(DataElement::STAN))?;
    let sent = message.sent_at().ok().flatten().ok_or(missing(DataElement::SENT_AT))?;
    Ok((stan, sent.resolve(received.wall)))
}

/// An element's value; notes when there is one that cannot be read.
fn read<T>(value: Result<Option<T>, DecodeError>, legible: &mut bool) -> Option<T> {
    value.unwrap_or_else(|_| {
        *legible = false;
        None
    })
}

/// The elements that may be written down.
fn kept(message: &Message) -> Elements {
    let mut elements = Elements::with_room(Elements::REQUEST_ROOM);
    for element in message.present().and(KEPT).iter() {
        if let Some(value) = message.get(element) {
            elements.keep(element.number(), value);
        }
    }
    elements
}

/// `Elements::KEPT` as a set.
pub(super) const KEPT: Bitmap = {
    let (mut kept, mut rest) = (Bitmap::EMPTY, Elements::KEPT.as_slice());
    while let [number, others @ ..] = rest {
        if let Some(element) = DataElement::new(*number) {
            kept.insert(element);
        }
        rest = others;
    }
    kept
};
