//! `[tsp]` and `[[requestor]]`: token and PAN ranges, the vault's bounds, who may ask for tokens.

use toml::de::DeValue;

use super::file::{Section, boolean, choice, count, digest, number, rows, word};
use super::links::link_id;
use crate::tsp::{
    Activation, CryptogramPolicy, DomainControls, Merchant, PanRange, TokenRange, TokenRequestor, TspConfig,
    TspLimits,
};
use crate::vocab::{
    Amount, Bin, Currency, EntryMode, MerchantCategory, MerchantId, Text, TokenAssuranceMethod,
    TokenLocation, TokenRequestorId,
};

/// Where tokens may live, as written.
const LOCATIONS: &[(&str, TokenLocation)] = &[
    ("unspecified", TokenLocation::Unspecified),
    ("remote-storage", TokenLocation::RemoteStorage),
    ("secure-element", TokenLocation::SecureElement),
    ("device-storage", TokenLocation::DeviceStorage),
    ("device-secured-hardware", TokenLocation::DeviceSecuredHardware),
    ("remote-secured-hardware", TokenLocation::RemoteSecuredHardware),
    ("shared-storage", TokenLocation::SharedStorage),
    ("temporary", TokenLocation::Temporary),
];

/// Where each row of a `TspConfig` stands in the file.
#[derive(Debug)]
pub(super) struct TspPaths {
    token_ranges: Vec<String>,
    pan_ranges: Vec<String>,
    pub(super) requestors: Vec<String>,
}

impl TspPaths {
    /// The key in the file of what `TspConfig::faults` calls `field`, as `token_ranges[0].bin`.
    pub(super) fn key(&self, field: &str) -> String {
        let row = field.split_once('[').zip(field.split_once("].")).and_then(|((list, _), (head, name))| {
            let number: usize = head.rsplit('[').next()?.parse().ok()?;
            let paths = match list {
                "token_ranges" => &self.token_ranges,
                "pan_ranges" => &self.pan_ranges,
                _ => &self.requestors,
            };
            let name = if name == "credential" { "credential_digest" } else { name };
            Some(format!("{}.{name}", paths.get(number)?))
        });
        row.unwrap_or_else(|| format!("tsp.{}", field.strip_prefix("limits.").unwrap_or(field)))
    }
}

pub(super) fn tsp(mut section: Section<'_>, requestors: Vec<Section<'_>>) -> (TspConfig, TspPaths) {
    let (token_ranges, token_range_paths) = rows(section.tables("token_range"), token_range);
    let (pan_ranges, pan_range_paths) = rows(section.tables("pan_range"), pan_range);
    let (requestors, requestor_paths) = rows(requestors, requestor);
    let config = TspConfig {
        token_ranges,
        pan_ranges,
        requestors,
        bin_controller: section.may("bin_controller", word(|it| Text::parse("BIN controller", it))),
        cryptograms: section.or(
            "cryptograms",
            CryptogramPolicy::Refused,
            choice(&[("refused", CryptogramPolicy::Refused), ("unverified", CryptogramPolicy::Unverified)]),
        ),
        amount_tolerance: section.or("amount_tolerance", 0, number(0, 1_000_000)),
        limits: TspLimits {
            capacity: section.or("capacity", 1_000_000, number_u32),
            control_sets: section.or("control_sets", 10_000, number_u32),
            remembered_requests: section.or("remembered_requests", 1_000_000, count(1, 100_000_000)),
            waiting_calls: section.or("waiting_calls", 1_024, count(1, 1_000_000)),
        },
    };
    section.finish();
    let paths = TspPaths {
        token_ranges: token_range_paths,
        pan_ranges: pan_range_paths,
        requestors: requestor_paths,
    };
    (config, paths)
}

fn token_range(mut section: Section<'_>) -> Option<TokenRange> {
    let bin = section.need("bin", word(Bin::parse));
    let length = section.need("length", number(13, 19));
    let product = section.need("product", word(|it| Text::parse("product", it)));
    let years = section.need("validity_years", number(1, 50));
    section.finish();
    Some(TokenRange {
        bin: bin?,
        length: u8::try_from(length?).unwrap_or_default(),
        product: product?,
        validity_years: u16::try_from(years?).unwrap_or_default(),
    })
}

fn pan_range(mut section: Section<'_>) -> Option<PanRange> {
    let bin = section.need("bin", word(Bin::parse));
    let product = section.need("product", word(|it| Text::parse("product", it)));
    let controlled = section.or("controlled", false, boolean);
    section.finish();
    Some(PanRange { bin: bin?, product: product?, controlled })
}

fn requestor(mut section: Section<'_>) -> Option<TokenRequestor> {
    let id = section.need("id", word(TokenRequestorId::parse));
    let name = section.need("name", word(|it| Text::parse("name", it)));
    let credential = section.need("credential_digest", digest);
    let merchants = section.tables("merchant").into_iter().filter_map(merchant).collect();
    let controls = DomainControls {
        entry_modes: section.list("entry_modes", word(EntryMode::parse)).into_iter().collect(),
        merchants,
        categories: section.list("categories", word(MerchantCategory::parse)),
        most_amount: most_amount(section.table("most_amount")),
        expiry_optional: section.or("expiry", false, choice(&[("required", false), ("optional", true)])),
        chip_amount_binds: section.or("chip_amount_binds", true, boolean),
    };
    let location = section.or("location", TokenLocation::Unspecified, choice(LOCATIONS));
    let assurances = section.list("assurances", word(TokenAssuranceMethod::parse));
    let activation = choice(&[("at-issue", Activation::AtIssue), ("confirmed", Activation::Confirmed)]);
    let activation = section.or("activation", Activation::AtIssue, activation);
    section.finish();
    let (id, name, credential) = (id?, name?, credential?);
    Some(TokenRequestor { id, name, credential, controls, location, assurances, activation })
}

/// DE 42 is unique only within its acquirer, so both are named.
fn merchant(mut section: Section<'_>) -> Option<Merchant> {
    let acquirer = section.need("acquirer", link_id);
    let id = section.need("id", word(MerchantId::parse));
    section.finish();
    Some(Merchant { acquirer: acquirer?, id: id? })
}

fn most_amount(mut section: Section<'_>) -> Option<Amount> {
    if !section.is_there() {
        // Asked for all the same, so that the reference knows the keys.
        section.may("minor_units", number(0, MOST_AMOUNT));
        section.may("currency", currency);
        return None;
    }
    let minor = section.need("minor_units", number(1, MOST_AMOUNT));
    let currency = section.need("currency", currency);
    section.finish();
    Some(Amount::new(minor?, currency?))
}

/// The largest number in DE 4, `n12`.
const MOST_AMOUNT: u64 = 999_999_999_999;

/// `"EUR"` or `"978"`.
fn currency(value: &DeValue<'_>) -> Result<Currency, String> {
    let text = value.as_str().unwrap_or_default();
    let found = Currency::from_letters(text).or_else(|| Currency::parse(text.as_bytes()).ok());
    found.ok_or_else(|| "must be a currency of ISO 4217, such as \"EUR\" or \"978\"".to_owned())
}

fn number_u32(value: &DeValue<'_>) -> Result<u32, String> {
    number(1, u64::from(u32::MAX))(value).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}
