//! How controls are laid out in token events and vault records: a requestor's domain, and a token's own beside it. As
//! in `layout`, what must change gets a new version.

use crate::stdx::clock::Wall;
use crate::vocab::{
    Amount, Country, Currency, Initiators, LinkId, MerchantCategory, MerchantId, TokenDomains,
};

use super::controls::{DomainControls, EntryModes, Merchant};
use super::initiation::InitiationControls;
use super::own_controls::TokenControls;
use super::velocity::{VelocityRule, VelocityWindow};
use super::wire::{Reader, Writer};

pub(super) fn put_controls(out: &mut Writer, controls: &DomainControls) {
    out.bytes(&controls.entry_modes.bits().to_le_bytes());
    out.list(&controls.merchants, put_merchant);
    out.list(&controls.categories, |out, category| out.bytes(&category.0.to_le_bytes()));
    out.optional(controls.most_amount.as_ref(), put_amount);
    for flag in [controls.expiry_optional, controls.chip_amount_binds, controls.cryptogram_required] {
        out.byte(u8::from(flag));
    }
    out.byte(controls.domains.bits());
    put_initiation(out, controls.initiation);
}

/// What layouts before the fifth do not have.
fn take_domains(from: &mut Reader<'_>) -> Option<TokenDomains> {
    if from.version < 5 { Some(TokenDomains::default()) } else { TokenDomains::from_bits(from.byte()?) }
}

fn put_initiation(out: &mut Writer, controls: InitiationControls) {
    out.bytes(&[controls.initiators.code(), u8::from(controls.original_required)]);
}

/// What layouts before the sixth do not have.
fn take_initiation(from: &mut Reader<'_>) -> Option<InitiationControls> {
    if from.version < 6 {
        return Some(InitiationControls::default());
    }
    let initiators = Initiators::from_code(from.byte()?)?;
    Some(InitiationControls { initiators, original_required: from.flag()? })
}

pub(super) fn take_controls(from: &mut Reader<'_>) -> Option<DomainControls> {
    Some(DomainControls {
        entry_modes: EntryModes::from_bits(u128::from_le_bytes(from.array()?)),
        merchants: from.list(take_merchant)?,
        categories: from.list(|from| Some(MerchantCategory(u16::from_le_bytes(from.array()?))))?,
        most_amount: from.optional(take_amount)?,
        expiry_optional: from.flag()?,
        chip_amount_binds: from.flag()?,
        cryptogram_required: if from.version < 2 { false } else { from.flag()? },
        domains: take_domains(from)?,
        initiation: take_initiation(from)?,
    })
}

pub(super) fn put_merchant(out: &mut Writer, merchant: &Merchant) {
    out.bytes(&merchant.acquirer.0.to_le_bytes());
    out.text(merchant.id.as_bytes());
}

pub(super) fn take_merchant(from: &mut Reader<'_>) -> Option<Merchant> {
    Some(Merchant {
        acquirer: LinkId(u16::from_le_bytes(from.array()?)),
        id: MerchantId::parse(from.text()?).ok()?,
    })
}

pub(super) fn put_amount(out: &mut Writer, amount: &Amount) {
    out.bytes(&amount.minor().to_le_bytes());
    out.bytes(&amount.currency().digits());
}

pub(super) fn take_amount(from: &mut Reader<'_>) -> Option<Amount> {
    let minor = from.number()?;
    Some(Amount::new(minor, Currency::parse(from.take(3)?).ok()?))
}

/// Controls by themselves, for a request's digest.
pub(super) fn encode_controls(controls: &TokenControls) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    put_first_controls(&mut out, controls);
    // Left out where none are stated: so it was before there were domains.
    if !controls.domains.is_empty() {
        out.byte(controls.domains.bits());
    }
    // In the same way, and told apart by its length.
    if controls.initiation != InitiationControls::default() {
        put_initiation(&mut out, controls.initiation);
    }
    out.0
}

pub(super) fn put_own_controls(out: &mut Writer, controls: &TokenControls) {
    put_first_controls(out, controls);
    out.byte(controls.domains.bits());
    put_initiation(out, controls.initiation);
}

/// What a token's own controls have had from the first layout on.
fn put_first_controls(out: &mut Writer, controls: &TokenControls) {
    out.optional(controls.entry_modes.as_ref(), |out, modes| out.bytes(&modes.bits().to_le_bytes()));
    out.list(&controls.merchants, put_merchant);
    for categories in [&controls.categories, &controls.denied_categories] {
        out.list(categories, |out, category| out.bytes(&category.0.to_le_bytes()));
    }
    out.list(&controls.countries, |out, country| out.bytes(&country.0.to_le_bytes()));
    out.list(&controls.currencies, |out, currency| out.bytes(&currency.digits()));
    out.optional(controls.most_amount.as_ref(), put_amount);
    out.optional(controls.amount_tolerance.as_ref(), |out, most| out.bytes(&most.to_le_bytes()));
    out.byte(u8::from(controls.cryptogram_required));
    out.byte(u8::from(controls.expiry_required));
    for moment in [&controls.from, &controls.until] {
        out.optional(moment.as_ref(), |out, moment| out.bytes(&moment.0.to_le_bytes()));
    }
    out.list(&controls.velocity, |out, rule| {
        let hours = match rule.window {
            VelocityWindow::Day => 0,
            VelocityWindow::Hours(hours) => hours,
        };
        out.bytes(&hours.to_le_bytes());
        out.optional(rule.most_payments.as_ref(), |out, most| out.bytes(&most.to_le_bytes()));
        out.optional(rule.most_amount.as_ref(), put_amount);
    });
}

pub(super) fn take_own_controls(from: &mut Reader<'_>) -> Option<TokenControls> {
    let category = |from: &mut Reader<'_>| Some(MerchantCategory(u16::from_le_bytes(from.array()?)));
    let moment = |from: &mut Reader<'_>| from.number().map(Wall);
    Some(TokenControls {
        entry_modes: from.optional(|from| Some(EntryModes::from_bits(u128::from_le_bytes(from.array()?))))?,
        merchants: from.list(take_merchant)?,
        categories: from.list(category)?,
        denied_categories: from.list(category)?,
        countries: from.list(|from| Some(Country(u16::from_le_bytes(from.array()?))))?,
        currencies: from.list(|from| Currency::parse(from.take(3)?).ok())?,
        most_amount: from.optional(take_amount)?,
        amount_tolerance: from.optional(Reader::number)?,
        cryptogram_required: from.flag()?,
        expiry_required: from.flag()?,
        from: from.optional(moment)?,
        until: from.optional(moment)?,
        velocity: from.list(|from| {
            let window = match u16::from_le_bytes(from.array()?) {
                0 => VelocityWindow::Day,
                hours => VelocityWindow::Hours(hours),
            };
            let most_payments = from.optional(|from| Some(u16::from_le_bytes(from.array()?)))?;
            Some(VelocityRule { window, most_payments, most_amount: from.optional(take_amount)? })
        })?,
        domains: take_domains(from)?,
        initiation: take_initiation(from)?,
    })
}
