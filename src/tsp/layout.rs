//! How token events and vault records are laid out in the journal and the checkpoint. Nobody else reads or writes
//! these bytes.
//!
//! Version 7: numbers little-endian; texts with one byte of length in front; an optional value with 0 or 1 in front;
//! a list with two bytes of count. Version 1 had no `cryptogram_required`; version 2 had only requestors as
//! principals, no reason codes, no status before a move, and no further properties of a record; version 3 had no
//! source of a request, and of a requestor no detokenizations a day and none with whom it shares; version 4 had no
//! domains and no consents; version 5 did not say who may initiate payments; version 6 had no wrapping keys of a
//! requestor. Once written, a number here never changes its meaning; what must change gets a new version.

use crate::stdx::clock::Wall;
use crate::vocab::{
    Contact, ContactKind, Contacts, Digits, EnquiryId, Expiry, Initiator, Par, Text, TokenAssuranceMethod,
    TokenLocation, TokenRequestorId,
};

use super::consent::{Consent, ConsentId};
use super::controls_layout::{put_controls, put_own_controls, take_controls, take_own_controls};
use super::event::{
    Actor, CardChange, CardEvent, Cause, Change, Decline, DeclinedBy, Disclosure, DisclosurePurpose,
    DisclosureRefusal, DisclosureRefused, Principal, Reason, RequestId, Successor, TokenAfter, TokenEvent,
};
use super::keys_layout::{put_cryptogram, put_key_given, take_cryptogram, take_key_given};
use super::lifecycle::{Lifecycle, Move, Suspenders, TokenStatus};
use super::outbox::Receiver;
use super::record_layout::{put_record, take_record};
use super::registry::Registration;
use super::requestor::{Activation, RequestorLimits, Thumbprint, TokenRequestor};
use super::step_up::{SentCode, StepUp};
use super::wire::{Reader, VERSION, Writer};

/// As long an event is as a rule, at most: a token's issue has some 300 bytes.
const ROOM: usize = 384;

impl TokenEvent {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(ROOM));
        out.byte(VERSION);
        put_cause(&mut out, &self.cause);
        match &self.change {
            Change::Issued(record) => {
                out.byte(1);
                put_record(&mut out, record);
            }
            Change::Moved { record, asked, before, lifecycle } => {
                out.kind_of(2, *record);
                let (kind, by) = asked.code();
                out.bytes(&[kind, by]);
                out.optional(before.as_ref(), |out, before| out.bytes(&write_lifecycle(before)));
                out.bytes(&write_lifecycle(lifecycle));
            }
            Change::Updated { record, before, lifecycle, expiry, assurance } => {
                out.kind_of(3, *record);
                out.bytes(&write_lifecycle(before));
                out.bytes(&write_lifecycle(lifecycle));
                out.bytes(&expiry.digits());
                out.bytes(&assurance.digits());
            }
            Change::Controlled { record, before, lifecycle, controls } => {
                out.kind_of(5, *record);
                out.bytes(&write_lifecycle(before));
                out.bytes(&write_lifecycle(lifecycle));
                out.optional(controls.as_deref(), put_own_controls);
            }
            Change::Registered(registration) => {
                out.byte(6);
                put_registration(&mut out, registration);
            }
            Change::Disclosed(disclosure) => put_disclosure(out.numbered(8), disclosure),
            Change::DisclosedAgain(disclosure) => put_disclosure(out.numbered(62), disclosure),
            Change::CryptogramMade(made) => {
                let number = if made.initiator == Initiator::Customer { 7 } else { 20 };
                put_cryptogram(out.numbered(number), made);
            }
            Change::Consented(consent) => put_consent(out.numbered(10), consent),
            Change::KeyGiven(given) => put_key_given(out.numbered(9), given),
            Change::Card(change) => put_card_change(out.numbered(4), change),
            Change::IssuedForProof { record, step_up } => {
                out.byte(64);
                put_record(&mut out, record);
                put_step_up(&mut out, step_up);
            }
            Change::Declined(None) => out.byte(65),
            Change::Declined(Some(decline)) => put_decline(out.numbered(60), decline),
            Change::DisclosureRefused(refused) => put_refused(out.numbered(61), refused),
            Change::CodeSent { record, code } => {
                out.kind_of(66, *record);
                put_code(&mut out, code);
            }
            Change::CodeWrong { record, lifecycle } => {
                out.kind_of(67, *record);
                out.bytes(&write_lifecycle(lifecycle));
            }
            Change::Proven { record, lifecycle, assurance } => {
                out.kind_of(68, *record);
                out.bytes(&write_lifecycle(lifecycle));
                out.bytes(&assurance.digits());
            }
            Change::Notified { receiver, up_to } => {
                out.byte(69);
                put_receiver(&mut out, receiver);
                out.bytes(&up_to.to_le_bytes());
            }
        }
        out.0
    }

    /// Reads what `encode` wrote; none for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::open(bytes)?;
        let cause = take_cause(&mut from)?;
        let change = match from.byte()? {
            1 => Change::Issued(Box::new(take_record(&mut from)?)),
            2 => Change::Moved {
                record: from.number()?,
                asked: from.array().and_then(|[kind, by]| Move::from_code(kind, by))?,
                before: match from.version {
                    1 | 2 => None,
                    _ => from.optional(|from| from.array().and_then(read_lifecycle))?,
                },
                lifecycle: from.array().and_then(read_lifecycle)?,
            },
            3 => Change::Updated {
                record: from.number()?,
                before: from.array().and_then(read_lifecycle)?,
                lifecycle: from.array().and_then(read_lifecycle)?,
                expiry: Expiry::parse(from.take(4)?).ok()?,
                assurance: TokenAssuranceMethod::parse(from.take(2)?).ok()?,
            },
            5 => Change::Controlled {
                record: from.number()?,
                before: from.array().and_then(read_lifecycle)?,
                lifecycle: from.array().and_then(read_lifecycle)?,
                controls: from.optional(take_own_controls)?.map(Box::new),
            },
            6 => Change::Registered(Box::new(take_registration(&mut from)?)),
            8 => Change::Disclosed(take_disclosure(&mut from)?),
            62 => Change::DisclosedAgain(take_disclosure(&mut from)?),
            9 => Change::KeyGiven(Box::new(take_key_given(&mut from)?)),
            7 => Change::CryptogramMade(Box::new(take_cryptogram(&mut from, Initiator::Customer)?)),
            20 => Change::CryptogramMade(Box::new(take_cryptogram(&mut from, Initiator::Merchant)?)),
            10 => Change::Consented(Box::new(take_consent(&mut from)?)),
            4 => Change::Card(Box::new(take_card_change(&mut from)?)),
            64 => Change::IssuedForProof {
                record: Box::new(take_record(&mut from)?),
                step_up: Box::new(take_step_up(&mut from)?),
            },
            65 => Change::Declined(None),
            60 => Change::Declined(Some(take_decline(&mut from)?)),
            61 => Change::DisclosureRefused(take_refused(&mut from)?),
            66 => Change::CodeSent { record: from.number()?, code: take_code(&mut from)? },
            67 => Change::CodeWrong {
                record: from.number()?,
                lifecycle: from.array().and_then(read_lifecycle)?,
            },
            68 => Change::Proven {
                record: from.number()?,
                lifecycle: from.array().and_then(read_lifecycle)?,
                assurance: TokenAssuranceMethod::parse(from.take(2)?).ok()?,
            },
            69 => Change::Notified { receiver: take_receiver(&mut from)?, up_to: from.number()? },
            _ => return None,
        };
        from.is_empty().then_some(Self { cause, change })
    }
}

/// Also for the checkpoint, which remembers what was told.
pub(super) fn put_disclosure(out: &mut Writer, disclosure: &Disclosure) {
    out.bytes(&disclosure.record.to_le_bytes());
    out.bytes(&disclosure.mapping_version.to_le_bytes());
    out.byte(disclosure.purpose.code());
}

pub(super) fn take_disclosure(from: &mut Reader<'_>) -> Option<Disclosure> {
    Some(Disclosure {
        record: from.number()?,
        mapping_version: u32::from_le_bytes(from.array()?),
        purpose: DisclosurePurpose::from_code(from.byte()?)?,
    })
}

fn put_decline(out: &mut Writer, decline: &Decline) {
    out.byte(decline.by.code());
    out.bytes(decline.last4.as_bytes());
}

fn take_decline(from: &mut Reader<'_>) -> Option<Decline> {
    Some(Decline {
        by: DeclinedBy::from_code(from.byte()?)?,
        last4: Digits::parse("last four", from.take(4)?, 4).ok()?,
    })
}

fn put_refused(out: &mut Writer, refused: &DisclosureRefused) {
    out.byte(refused.why.code());
    out.optional(refused.purpose.as_ref(), |out, purpose| out.byte(purpose.code()));
    out.optional(refused.record.as_ref(), |out, record| out.bytes(&record.to_le_bytes()));
}

fn take_refused(from: &mut Reader<'_>) -> Option<DisclosureRefused> {
    Some(DisclosureRefused {
        why: DisclosureRefusal::from_code(from.byte()?)?,
        purpose: from.optional(|from| DisclosurePurpose::from_code(from.byte()?))?,
        record: from.optional(Reader::number)?,
    })
}

/// As `put_disclosure`.
pub(super) fn put_consent(out: &mut Writer, consent: &Consent) {
    out.bytes(&consent.record.to_le_bytes());
    out.bytes(&consent.id.0);
    out.bytes(consent.to.as_bytes());
    out.bytes(&consent.until.0.to_le_bytes());
}

pub(super) fn take_consent(from: &mut Reader<'_>) -> Option<Consent> {
    Some(Consent {
        record: from.number()?,
        id: ConsentId(from.array()?),
        to: TokenRequestorId::parse(from.take(11)?).ok()?,
        until: Wall(from.number()?),
    })
}

fn put_card_change(out: &mut Writer, change: &CardChange) {
    out.byte(change.event.code());
    out.bytes(&change.blind_index);
    out.optional(change.successor.as_ref(), |out, successor| {
        out.bytes(&successor.blind_index);
        out.bytes(successor.last4.as_bytes());
        out.optional(successor.par.as_ref(), |out, par| out.bytes(par.as_bytes()));
    });
    out.list(&change.tokens, |out, token| {
        out.bytes(&token.record.to_le_bytes());
        out.bytes(&write_lifecycle(&token.before));
        out.bytes(&write_lifecycle(&token.lifecycle));
        out.optional(token.sealed.as_ref(), |out, sealed| sealed.encode(&mut out.0));
    });
}

fn take_card_change(from: &mut Reader<'_>) -> Option<CardChange> {
    Some(CardChange {
        event: CardEvent::from_code(from.byte()?)?,
        blind_index: from.array()?,
        successor: from.optional(|from| {
            Some(Successor {
                blind_index: from.array()?,
                last4: Digits::parse("last four", from.take(4)?, 4).ok()?,
                par: from.optional(|from| Par::parse(from.take(29)?).ok())?,
            })
        })?,
        tokens: from.list(|from| {
            Some(TokenAfter {
                record: from.number()?,
                before: from.array().and_then(read_lifecycle)?,
                lifecycle: from.array().and_then(read_lifecycle)?,
                sealed: from.optional(Reader::sealed)?,
            })
        })?,
    })
}

/// A requestor by itself, for a request's digest.
pub(super) fn encode_requestor(requestor: &TokenRequestor) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    put_requestor(&mut out, requestor);
    out.0
}

/// A registration by itself, for the checkpoint.
pub(super) fn encode_registration(registration: &Registration) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    put_registration(&mut out, registration);
    out.0
}

pub(super) fn decode_registration(bytes: &[u8]) -> Option<Registration> {
    let mut from = Reader::open(bytes)?;
    let registration = take_registration(&mut from)?;
    from.is_empty().then_some(registration)
}

fn put_registration(out: &mut Writer, registration: &Registration) {
    out.bytes(&registration.version.to_le_bytes());
    out.byte(u8::from(registration.closed));
    out.optional(registration.changed_at.as_ref(), |out, at| out.bytes(&at.0.to_le_bytes()));
    put_requestor(out, &registration.requestor);
}

fn take_registration(from: &mut Reader<'_>) -> Option<Registration> {
    Some(Registration {
        version: u32::from_le_bytes(from.array()?),
        closed: from.flag()?,
        changed_at: from.optional(|from| from.number().map(Wall))?,
        requestor: take_requestor(from)?,
    })
}

fn put_requestor(out: &mut Writer, requestor: &TokenRequestor) {
    out.bytes(requestor.id.as_bytes());
    out.text(requestor.name.as_bytes());
    out.optional(requestor.credential.as_ref(), |out, credential| out.bytes(credential));
    put_controls(out, &requestor.controls);
    out.byte(requestor.location.code());
    out.list(&requestor.assurances, |out, method| out.bytes(&method.digits()));
    out.byte(match requestor.activation {
        Activation::AtIssue => 1,
        Activation::Confirmed => 2,
    });
    out.list(&requestor.locations, |out, location| out.byte(location.code()));
    out.text(requestor.notification_url.as_bytes());
    let RequestorLimits { tokens, tokens_per_pan, tokens_per_device, detokenizations_per_day } =
        requestor.limits;
    for limit in [tokens, tokens_per_pan, tokens_per_device, detokenizations_per_day] {
        out.optional(limit.as_ref(), |out, most| out.bytes(&most.to_le_bytes()));
    }
    out.list(&requestor.shares_with, |out, id| out.bytes(id.as_bytes()));
    out.list(&requestor.wrapping_keys, |out, key| out.text(key.as_str().as_bytes()));
}

fn take_requestor(from: &mut Reader<'_>) -> Option<TokenRequestor> {
    let location = |from: &mut Reader<'_>| TokenLocation::ALL.get(usize::from(from.byte()?)).copied();
    let limit = |from: &mut Reader<'_>| Some(u32::from_le_bytes(from.array()?));
    Some(TokenRequestor {
        id: TokenRequestorId::parse(from.take(11)?).ok()?,
        name: Text::parse("name", from.text()?).ok()?,
        credential: from.optional(Reader::array)?,
        controls: take_controls(from)?,
        location: location(from)?,
        assurances: from.list(|from| TokenAssuranceMethod::parse(from.take(2)?).ok())?,
        activation: match from.byte()? {
            1 => Activation::AtIssue,
            2 => Activation::Confirmed,
            _ => return None,
        },
        locations: from.list(location)?,
        notification_url: Text::parse("URL", from.text()?).ok()?,
        limits: RequestorLimits {
            tokens: from.optional(limit)?,
            tokens_per_pan: from.optional(limit)?,
            tokens_per_device: from.optional(limit)?,
            detokenizations_per_day: if from.version < 4 { None } else { from.optional(limit)? },
        },
        shares_with: match from.version {
            1..=3 => Vec::new(),
            _ => from.list(|from| TokenRequestorId::parse(from.take(11)?).ok())?,
        },
        wrapping_keys: match from.version {
            1..=6 => Vec::new(),
            _ => from.list(|from| Thumbprint::parse(from.text()?).ok())?,
        },
    })
}

fn put_cause(out: &mut Writer, cause: &Cause) {
    out.byte(cause.actor.code());
    put_principal(out, &cause.principal);
    out.text(cause.client.as_bytes());
    out.optional(cause.requestor.as_ref(), |out, requestor| out.bytes(requestor.as_bytes()));
    out.text(cause.request_id.as_str().as_bytes());
    out.bytes(&cause.body_digest);
    out.byte(cause.reason_code.code());
    out.text(cause.reason.as_bytes());
    out.optional(cause.source.as_ref(), |out, source| out.bytes(&source.to_le_bytes()));
    out.optional(cause.consent.as_ref(), |out, consent| out.bytes(&consent.0));
}

fn take_cause(from: &mut Reader<'_>) -> Option<Cause> {
    let actor = Actor::from_code(from.byte()?)?;
    if from.version < 3 {
        let requestor = TokenRequestorId::parse(from.take(11)?).ok()?;
        return Some(Cause {
            principal: Principal::Requestor(requestor),
            client: Text::default(),
            actor,
            requestor: Some(requestor),
            request_id: RequestId::parse(from.text()?).ok()?,
            body_digest: from.array()?,
            reason_code: Reason::Unstated,
            reason: Text::parse("reason", from.text()?).ok()?,
            source: None,
            consent: None,
        });
    }
    Some(Cause {
        actor,
        principal: take_principal(from)?,
        client: Text::parse("client", from.text()?).ok()?,
        requestor: from.optional(|from| TokenRequestorId::parse(from.take(11)?).ok())?,
        request_id: RequestId::parse(from.text()?).ok()?,
        body_digest: from.array()?,
        reason_code: Reason::from_code(from.byte()?)?,
        reason: Text::parse("reason", from.text()?).ok()?,
        source: if from.version < 4 { None } else { from.optional(Reader::number)? },
        consent: if from.version < 5 { None } else { from.optional(Reader::array)?.map(ConsentId) },
    })
}

/// Never begins with a digit: that is how the checkpoint's requests of older versions begin.
pub(super) fn put_principal(out: &mut Writer, principal: &Principal) {
    match principal {
        Principal::Requestor(id) => {
            out.byte(1);
            out.bytes(id.as_bytes());
        }
        Principal::Issuer(name) => {
            out.byte(2);
            out.text(name.as_bytes());
        }
        Principal::Operator(name) => {
            out.byte(3);
            out.text(name.as_bytes());
        }
        Principal::Service => out.byte(4),
    }
}

pub(super) fn take_principal(from: &mut Reader<'_>) -> Option<Principal> {
    Some(match from.byte()? {
        1 => Principal::Requestor(TokenRequestorId::parse(from.take(11)?).ok()?),
        2 => Principal::Issuer(Text::parse("issuer", from.text()?).ok()?),
        3 => Principal::Operator(Text::parse("operator", from.text()?).ok()?),
        4 => Principal::Service,
        _ => return None,
    })
}

/// What a token waits for.
pub(super) fn put_step_up(out: &mut Writer, step_up: &StepUp) {
    out.text(step_up.issuer.as_bytes());
    out.bytes(&step_up.enquiry.0);
    put_contacts(out, &step_up.contacts);
    out.bytes(&[step_up.sent, step_up.wrong]);
    out.optional(step_up.code.as_ref(), put_code);
}

pub(super) fn take_step_up(from: &mut Reader<'_>) -> Option<StepUp> {
    let (issuer, enquiry) = (Text::parse("issuer", from.text()?).ok()?, EnquiryId(from.array()?));
    let contacts = take_contacts(from)?;
    let [sent, wrong] = from.array()?;
    let code = from.optional(take_code)?;
    Some(StepUp { issuer, enquiry, contacts, sent, wrong, code })
}

/// As `put_disclosure`.
pub(super) fn put_contacts(out: &mut Writer, contacts: &Contacts) {
    let contacts: Vec<&Contact> = contacts.iter().collect();
    out.list(&contacts, |out, contact| {
        out.bytes(&[contact.number, contact.kind.code()]);
        out.text(contact.shown.as_bytes());
    });
}

pub(super) fn take_contacts(from: &mut Reader<'_>) -> Option<Contacts> {
    let list = from.list(|from| {
        let [number, kind] = from.array()?;
        let shown = Text::parse("contact", from.text()?).ok()?;
        Some(Contact { number, kind: ContactKind::from_code(kind)?, shown })
    })?;
    let mut contacts = Contacts::default();
    let whole = list.into_iter().all(|contact| contacts.add(contact));
    whole.then_some(contacts)
}

fn put_code(out: &mut Writer, code: &SentCode) {
    out.byte(code.contact);
    out.bytes(&code.digest);
    out.bytes(&code.until.0.to_le_bytes());
}

fn take_code(from: &mut Reader<'_>) -> Option<SentCode> {
    Some(SentCode { contact: from.byte()?, digest: from.array()?, until: Wall(from.number()?) })
}

pub(super) fn put_receiver(out: &mut Writer, receiver: &Receiver) {
    match receiver {
        Receiver::Requestor(id) => put_principal(out, &Principal::Requestor(*id)),
        Receiver::Issuer(name) => put_principal(out, &Principal::Issuer(*name)),
    }
}

pub(super) fn take_receiver(from: &mut Reader<'_>) -> Option<Receiver> {
    match take_principal(from)? {
        Principal::Requestor(id) => Some(Receiver::Requestor(id)),
        Principal::Issuer(name) => Some(Receiver::Issuer(name)),
        Principal::Operator(_) | Principal::Service => None,
    }
}

/// Status, suspenders and version, in six bytes.
pub(super) fn write_lifecycle(lifecycle: &Lifecycle) -> [u8; 6] {
    let [a, b, c, d] = lifecycle.version.to_le_bytes();
    [lifecycle.status.code(), lifecycle.suspenders.bits(), a, b, c, d]
}

pub(super) fn read_lifecycle([status, suspenders, version @ ..]: [u8; 6]) -> Option<Lifecycle> {
    Some(Lifecycle {
        status: TokenStatus::from_code(status)?,
        suspenders: Suspenders::from_bits(suspenders)?,
        version: u32::from_le_bytes(version),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::controls::{EntryModes, Merchant};
    use super::super::given_keys::{GivenKeys, KeyGiven, LimitedKey, LimitedKeys, NamedKey};
    use super::super::initiation::InitiationControls;
    use super::super::lifecycle::Suspender;
    use super::super::own_controls::TokenControls;
    use super::super::owners::{Owners, Setter};
    use super::super::record::VaultRecord;
    use super::super::record_layout::{decode_record, encode_record};
    use super::super::remote::MadeCryptogram;
    use super::super::velocity::{VelocityRule, VelocityWindow};
    use super::*;
    use crate::crypto::Sealed;
    use crate::vocab::{
        Amount, AtcRange, Country, Currency, Initiators, LinkId, MerchantCategory, MerchantId, Token,
        TokenDomain, TokenReferenceId,
    };

    pub(crate) fn record(number: u64, token: &[u8]) -> VaultRecord {
        let config = super::super::config::sample();
        let bytes = |salt: u8| {
            let mut bytes = [salt; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        VaultRecord {
            record: number,
            token: Token::parse(token).unwrap(),
            expiry: Expiry::parse(b"2911").unwrap(),
            reference: TokenReferenceId::from_bytes(bytes(1)),
            par: Par::parse(b"Q0010013020315513942420893974").ok(),
            requestor: config.requestors[1].id,
            assurance: TokenAssuranceMethod::parse(b"12").unwrap(),
            location: TokenLocation::SharedStorage,
            last4: Digits::parse("last four", b"0119", 4).unwrap(),
            sealed: Sealed::from_parts(3, [9; 12], &[7; 32]).unwrap(),
            blind_index: bytes(2),
            mapping_version: 1,
            controls: config.requestors[1].controls.clone(),
            lifecycle: Lifecycle::issued(TokenStatus::Active),
            issued_at: Wall(1_000),
            changed_at: Wall(2_000),
            device: Some(77),
            past: Vec::new(),
            own: None,
            cryptograms: 0,
            keys: None,
            owners: Owners::default(),
            because: Reason::Unstated,
        }
    }

    /// Something of everything.
    pub(crate) fn own_controls() -> TokenControls {
        let euro = Currency::parse(b"978").unwrap();
        let merchant = MerchantId::parse(b"SHOP1").unwrap();
        TokenControls {
            entry_modes: Some(EntryModes::from_bits(1 << 7)),
            merchants: vec![Merchant { acquirer: LinkId(1), id: merchant }],
            categories: vec![MerchantCategory(5411)],
            denied_categories: vec![MerchantCategory(7995)],
            countries: vec![Country(276)],
            currencies: vec![euro],
            most_amount: Some(Amount::new(5_000, euro)),
            amount_tolerance: Some(3),
            cryptogram_required: true,
            expiry_required: true,
            domains: [TokenDomain::Proximity, TokenDomain::QrCode].into_iter().collect(),
            initiation: InitiationControls { initiators: Initiators::Both, original_required: true },
            from: Some(Wall(1)),
            until: Some(Wall(9_000_000_000_000)),
            velocity: vec![
                VelocityRule {
                    window: VelocityWindow::Day,
                    most_payments: Some(3),
                    most_amount: Some(Amount::new(9_000, euro)),
                },
                VelocityRule { window: VelocityWindow::Hours(1), most_payments: Some(2), most_amount: None },
            ],
        }
    }

    fn event(change: Change) -> TokenEvent {
        let cause = Cause {
            actor: Actor::Cardholder,
            principal: Principal::Requestor(TokenRequestorId::parse(b"00000000002").unwrap()),
            client: Text::default(),
            requestor: TokenRequestorId::parse(b"00000000002").ok(),
            request_id: RequestId::parse(b"r-1").unwrap(),
            body_digest: [5; 32],
            reason_code: Reason::Unstated,
            reason: Text::parse("reason", b"device lost").unwrap(),
            source: None,
            consent: None,
        };
        TokenEvent { cause, change }
    }

    fn limited_key(first: u16) -> LimitedKey {
        LimitedKey { range: AtcRange { first, last: first + 9 }, until: Wall(9_000) }
    }

    fn key_given(limited: Option<LimitedKey>) -> Change {
        Change::KeyGiven(Box::new(KeyGiven {
            key: NamedKey { record: 8, index: 2, limited },
            device: [4; 64],
        }))
    }

    fn samples() -> Vec<TokenEvent> {
        let mut bare = record(0, b"4895370000000005");
        bare.par = None;
        bare.controls.merchants.clear();
        let mut full = record(7, b"6235290000000000013");
        full.controls.categories = vec![MerchantCategory(5411), MerchantCategory(1)];
        full.controls.most_amount = Some(Amount::new(5, Currency::parse(b"978").unwrap()));
        let held = Lifecycle {
            status: TokenStatus::Suspended,
            suspenders: Suspenders::default().with(Suspender::Issuer),
            version: 9,
        };
        bare.device = None;
        let mut list = vec![event(Change::Issued(Box::new(bare))), event(Change::Issued(Box::new(full)))];
        for (at, principal) in [
            Principal::Issuer(Text::parse("issuer", b"bank").unwrap()),
            Principal::Operator(Text::parse("operator", b"desk").unwrap()),
            Principal::Service,
        ]
        .into_iter()
        .enumerate()
        {
            let mut by = list[0].clone();
            by.cause.principal = principal;
            by.cause.requestor = None;
            by.cause.client = Text::parse("client", b"desk 7").unwrap();
            by.cause.reason_code = Reason::ALL[at + 1];
            list.push(by);
        }
        let suspender = Suspender::Cardholder;
        for asked in [Move::Activate, Move::Suspend(suspender), Move::Resume(suspender), Move::Unlink] {
            let before = Some(Lifecycle::issued(TokenStatus::Inactive));
            list.push(event(Change::Moved { record: 7, asked, before, lifecycle: held }));
        }
        let (before, lifecycle) = (Lifecycle::issued(TokenStatus::Active), held);
        let expiry = Expiry::parse(b"3105").unwrap();
        let assurance = TokenAssuranceMethod::parse(b"11").unwrap();
        list.push(event(Change::Updated { record: 7, before, lifecycle, expiry, assurance }));
        for controls in [None, Some(Box::new(own_controls()))] {
            list.push(event(Change::Controlled { record: 7, before, lifecycle, controls }));
        }
        let mut requestor = super::super::config::sample().requestors[1].clone();
        requestor.wrapping_keys = vec![Thumbprint::parse(&[b'a'; 43]).unwrap()];
        for closed in [false, true] {
            let requestor = requestor.clone();
            let registration = Registration { requestor, version: 3, closed, changed_at: Some(Wall(7)) };
            list.push(event(Change::Registered(Box::new(registration))));
        }
        let last4 = Digits::parse("last four", b"0119", 4).unwrap();
        for (at, card_event) in CardEvent::ALL.iter().enumerate() {
            let par = Par::parse(b"Q0010013020315513942420893974").ok().filter(|_| at == 1);
            let successor = (at < 2).then_some(Successor { blind_index: [8; 16], last4, par });
            let sealed = (at < 2).then(|| Sealed::from_parts(3, [9; 12], &[7; 32]).unwrap());
            let token = |record| TokenAfter { record, before, lifecycle, sealed };
            list.push(event(Change::Card(Box::new(CardChange {
                event: *card_event,
                blind_index: [7; 16],
                successor,
                tokens: (0..at as u64).map(token).collect(),
            }))));
        }
        let mut contacts = Contacts::default();
        let shown = Text::parse("contact", b"+46 ** *** 12 34").unwrap();
        contacts.add(Contact { number: 1, kind: ContactKind::TextMessage, shown });
        let code = SentCode { contact: 1, digest: [3; 16], until: Wall(7_000) };
        let issuer = Text::parse("issuer", b"bank").unwrap();
        for code in [None, Some(code)] {
            let step_up = StepUp { issuer, enquiry: EnquiryId([1; 8]), contacts, sent: 2, wrong: 1, code };
            let record = Box::new(record(8, b"4895370000000005"));
            list.push(event(Change::IssuedForProof { record, step_up: Box::new(step_up) }));
        }
        let requestor = TokenRequestorId::parse(b"00000000002").unwrap();
        let merchant = Merchant { acquirer: LinkId(1), id: MerchantId::parse(b"SHOP1").unwrap() };
        let amount = Amount::new(1_999, Currency::parse(b"978").unwrap());
        let until = Wall(8_000);
        let disclosure = Disclosure { record: 8, mapping_version: 2, purpose: DisclosurePurpose::Refund };
        let made = |initiator| MadeCryptogram { record: 8, number: 513, initiator, merchant, amount, until };
        list.extend(
            [
                Change::Disclosed(disclosure),
                Change::DisclosedAgain(disclosure),
                Change::CryptogramMade(Box::new(made(Initiator::Customer))),
                Change::CryptogramMade(Box::new(made(Initiator::Merchant))),
                key_given(None),
                key_given(Some(limited_key(1))),
                Change::Declined(None),
                Change::Declined(Some(Decline { by: DeclinedBy::Requestor, last4 })),
                Change::DisclosureRefused(DisclosureRefused {
                    record: None,
                    purpose: None,
                    why: DisclosureRefusal::NotGranted,
                }),
                Change::DisclosureRefused(DisclosureRefused {
                    record: Some(8),
                    purpose: Some(DisclosurePurpose::Dispute),
                    why: DisclosureRefusal::Exhausted,
                }),
                Change::CodeSent { record: 8, code },
                Change::CodeWrong { record: 8, lifecycle: held },
                Change::Proven { record: 8, lifecycle: held, assurance },
                Change::Notified { receiver: Receiver::Requestor(requestor), up_to: 12 },
                Change::Notified { receiver: Receiver::Issuer(issuer), up_to: u64::MAX },
            ]
            .map(event),
        );
        list
    }

    #[test]
    fn events_come_back_the_same() {
        for event in samples() {
            assert_eq!(TokenEvent::decode(&event.encode()), Some(event));
        }
        let mut record = record(3, b"4895370000000005");
        record.keep_mapping(Wall(7));
        record.own = Some(Box::new(own_controls()));
        record.cryptograms = 300;
        let good = vec![limited_key(1), limited_key(11)];
        record.keys =
            Some(Box::new(GivenKeys { device: [4; 64], limited: Some(LimitedKeys { last: 20, good }) }));
        record.owners = Owners { controls: Setter::Issuer, assurance: Setter::Operator };
        record.because = Reason::TimedOut;
        assert_eq!(decode_record(&encode_record(&record)), Some(record));
    }

    #[test]
    fn cut_or_lengthened_events_are_refused() {
        for event in samples() {
            let bytes = event.encode();
            for length in 0..bytes.len() {
                assert_eq!(TokenEvent::decode(&bytes[..length]), None, "{length}");
            }
            let longer = [bytes, vec![0]].concat();
            assert_eq!(TokenEvent::decode(&longer), None);
        }
    }

    /// The layout is fixed: journals of years ago must be readable.
    #[test]
    fn versions_stay_as_they_are() {
        let mut event = samples()[6].clone();
        let head = "0201303030303030303030303200013030303030303030303032";
        let request = concat!("03722d31", "0505050505050505050505050505050505050505050505050505050505050505");
        let reason = "0b646576696365206c6f7374";
        let moved = "0207000000000000000204";
        let (before, after) = ("01010001000000", "030109000000");
        let newest = format!("07{head}{request}00{reason}0000{moved}{before}{after}");
        assert_eq!(hex::encode(event.encode()), newest);
        for version in ["05", "06"] {
            let older = format!("{version}{}", &newest[2..]);
            assert_eq!(TokenEvent::decode(&hex::decode(older).unwrap()).as_ref(), Some(&event));
        }
        let fourth = format!("04{head}{request}00{reason}00{moved}{before}{after}");
        assert_eq!(TokenEvent::decode(&hex::decode(fourth).unwrap()).as_ref(), Some(&event));
        let third = format!("03{head}{request}00{reason}{moved}{before}{after}");
        assert_eq!(TokenEvent::decode(&hex::decode(third).unwrap()).as_ref(), Some(&event));
        if let Change::Moved { before, .. } = &mut event.change {
            *before = None;
        }
        for version in ["01", "02"] {
            let older = format!("{version}023030303030303030303032{request}{reason}{moved}{after}");
            assert_eq!(TokenEvent::decode(&hex::decode(older).unwrap()).as_ref(), Some(&event));
        }
    }

    /// The flag, the domains and who may initiate (2 bytes) stand before the lifecycle (6 bytes), two times (8 each)
    /// and the properties.
    #[test]
    fn records_of_older_versions_are_read() {
        let mut record = record(7, b"6235290000000000013");
        let mut older = encode_record(&record);
        record.device = None;
        older.truncate(older.len() - 10);
        let behind = older.len() - 6 - 16;
        older.drain(behind - 2..behind);
        older.remove(older.len() - 6 - 16 - 1);
        older[0] = 2;
        assert_eq!(decode_record(&older), Some(record.clone()));
        older[0] = 1;
        older.remove(older.len() - 6 - 16 - 1);
        assert_eq!(decode_record(&older), Some(record.clone()));
        record.controls.cryptogram_required = true;
        assert_eq!(decode_record(&encode_record(&record)), Some(record));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(event) = TokenEvent::decode(&bytes)
                && bytes.starts_with(&[VERSION])
            {
                prop_assert_eq!(event.encode(), bytes);
            }
        }
    }
}
