//! `[tsp]` and `[[requestor]]`: token and PAN ranges, the vault's bounds, who may ask for tokens.

use std::time::Duration;

use toml::de::DeValue;

use super::file::{Section, amount, boolean, choice, count, digest, duration, number, rows, text, word};
use super::links::link_id;
use crate::api::Endpoint;
use crate::crypto::{CryptogramProfile, KeyLabel};
use crate::tsp::{
    Activation, CounterWindow, CryptogramChoice, DomainControls, InitiationControls, LimitedKeyTerms,
    Merchant, PanRange, Receiver, RequestorLimits, StepUpLimits, Thumbprint, TokenRange, TokenRequestor,
    TspConfig, TspLimits,
};
use crate::vocab::{
    Bin, Digits, EntryMode, Initiator, Initiators, LinkId, MerchantCategory, MerchantId, Text,
    TokenAssuranceMethod, TokenDomain, TokenLocation, TokenRequestorId,
};

/// Where tokens may live, as written.
pub(super) const LOCATIONS: &[(&str, TokenLocation)] = &[
    ("unspecified", TokenLocation::Unspecified),
    ("remote-storage", TokenLocation::RemoteStorage),
    ("secure-element", TokenLocation::SecureElement),
    ("device-storage", TokenLocation::DeviceStorage),
    ("device-secured-hardware", TokenLocation::DeviceSecuredHardware),
    ("remote-secured-hardware", TokenLocation::RemoteSecuredHardware),
    ("shared-storage", TokenLocation::SharedStorage),
    ("temporary", TokenLocation::Temporary),
];

/// `[tsp]` and the requestors, as far as they could be read.
#[derive(Debug)]
pub(super) struct TspDraft {
    /// Rows with a fault are in it with something harmless in the fault's place, so that what else is wrong with them
    /// is told, too. A faulty file starts nothing.
    pub(super) config: TspConfig,
    token_ranges: Vec<String>,
    pan_ranges: Vec<String>,
    requestors: Vec<String>,
    /// Keys whose value could not be read: what `TspConfig::faults` says of what stands in their place is not true.
    unread: Vec<String>,
    /// Whether each token range says of which product it is.
    products_known: bool,
    /// Merchants of all requestors: where each stands, and its acquirer.
    pub(super) merchants: Vec<(String, LinkId)>,
    /// Requestors that want to be told, and where.
    pub(super) receivers: Vec<(Receiver, Endpoint)>,
}

impl TspDraft {
    /// What is wrong between its rows: key and reason.
    pub(super) fn faults(&self) -> Vec<(String, &'static str)> {
        let faults = self.config.faults().into_iter().map(|fault| (self.key(&fault.key), fault.reason));
        let is_true = |(key, reason): &(String, &str)| {
            let of_product = *reason == TspConfig::NO_TOKEN_RANGE;
            !self.unread.contains(key) && (self.products_known || !of_product)
        };
        faults.filter(is_true).collect()
    }

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

pub(super) fn tsp(mut section: Section<'_>, requestors: Vec<Section<'_>>) -> TspDraft {
    let mut unread = Unread(Vec::new());
    let (token_ranges, token_range_paths) =
        rows(section.tables("token_range"), |row| token_range(row, &mut unread));
    let products_known = !unread.0.iter().any(|key| key.ends_with(".product"));
    let (pan_ranges, pan_range_paths) = rows(section.tables("pan_range"), |row| pan_range(row, &mut unread));
    let (mut merchants, mut receivers) = (Vec::new(), Vec::new());
    let (requestors, requestor_paths) =
        rows(requestors, |row| requestor(row, &mut merchants, &mut receivers, &mut unread));
    let default = TspLimits::DEFAULT;
    let config = TspConfig {
        token_ranges,
        pan_ranges,
        requestors,
        code: section.may("code", word(|it| Digits::parse("TSP code", it, 3))),
        bin_controller: section.may("bin_controller", word(|it| Text::parse("BIN controller", it))),
        par_follows_account: section.or("par_follows_account", true, boolean),
        counter_window: CounterWindow {
            behind: section.or("counter_behind", 32, number_u16(0, CounterWindow::BEHIND_MOST)),
            ahead: section.or("counter_ahead", 1_000, number_u16(1, u16::MAX)),
        },
        resubmit_window: section.or("resubmit_window", Duration::from_secs(120), duration),
        cryptogram_lifetime: section.or("cryptogram_lifetime", Duration::from_secs(900), duration),
        consent_lifetime: section.or("consent_lifetime", Duration::from_secs(900), duration),
        activate_within: section.or("activate_within", Duration::from_secs(7 * 86_400), duration),
        limited_keys: LimitedKeyTerms {
            payments: section.or("limited_key_payments", 10, number_u16(1, 1_000)),
            lifetime: section.or("limited_key_lifetime", Duration::from_secs(5 * 86_400), duration),
        },
        amount_tolerance: section.or("amount_tolerance", 0, number(0, 1_000_000)),
        // Issuers and receivers are put in once all sections are read.
        approvals: Vec::new(),
        receivers: Vec::new(),
        step_up: step_up(section.table("step_up")),
        limits: TspLimits {
            capacity: section.or("capacity", default.capacity, number_u32),
            control_sets: section.or("control_sets", default.control_sets, number_u32),
            remembered_requests: section.or(
                "remembered_requests",
                default.remembered_requests,
                count(1, 100_000_000),
            ),
            waiting_calls: section.or("waiting_calls", default.waiting_calls, count(1, 1_000_000)),
            tokens_per_pan: section.or("tokens_per_pan", default.tokens_per_pan, most_tokens),
            requestors: section.or("requestors", default.requestors, number_u32),
            consents: section.or("consents", default.consents, count(1, 10_000_000)),
            narrowed_tokens: section.or("narrowed_tokens", default.narrowed_tokens, number_u32),
            tokens_per_device: section.or("tokens_per_device", default.tokens_per_device, most_tokens),
            waiting_enquiries: section.or("waiting_enquiries", default.waiting_enquiries, count(1, 100_000)),
            step_ups: section.or("step_ups", default.step_ups, count(1, 10_000_000)),
            notifications: section.or("notifications", default.notifications, count(1, 10_000_000)),
        },
    };
    section.finish();
    TspDraft {
        config,
        token_ranges: token_range_paths,
        pan_ranges: pan_range_paths,
        requestors: requestor_paths,
        unread: unread.0,
        products_known,
        merchants,
        receivers,
    }
}

/// How a cardholder proves itself.
fn step_up(mut section: Section<'_>) -> StepUpLimits {
    let default = StepUpLimits::DEFAULT;
    let few = |most| {
        let read = number(1, most);
        move |value: &DeValue<'_>| read(value).map(|n| u8::try_from(n).unwrap_or(u8::MAX))
    };
    let limits = StepUpLimits {
        code_lifetime: section.or("code_lifetime", default.code_lifetime, duration),
        codes: section.or("codes", default.codes, few(20)),
        tries: section.or("tries", default.tries, few(10)),
        card_window: section.or("card_window", default.card_window, duration),
        card_codes: section.or("card_codes", default.card_codes, few(200)),
        card_tries: section.or("card_tries", default.card_tries, few(200)),
        proof_within: section.or("proof_within", default.proof_within, duration),
    };
    section.finish();
    limits
}

/// Keys whose value could not be read.
struct Unread(Vec<String>);

impl Unread {
    /// The value, or something harmless in its place.
    fn or<T>(&mut self, section: &Section<'_>, name: &str, value: Option<T>, place: Option<T>) -> Option<T> {
        if value.is_none() {
            self.0.push(section.key(name));
        }
        value.or(place)
    }
}

/// A BIN that no card has: a row's place among the others while its own cannot be read.
fn no_bin() -> Option<Bin> {
    Bin::parse(b"999999").ok()
}

fn token_range(mut section: Section<'_>, unread: &mut Unread) -> Option<TokenRange> {
    let bin = section.need("bin", word(Bin::parse));
    let length = section.need("length", number(13, 19)).and_then(|length| u8::try_from(length).ok());
    let product = section.need("product", word(|it| Text::parse("product", it)));
    let years = section.need("validity_years", number(1, 50)).and_then(|years| u16::try_from(years).ok());
    let cryptograms = cryptograms(&mut section, "cryptogram_profile", "cryptogram_key");
    let range = TokenRange {
        bin: unread.or(&section, "bin", bin, no_bin())?,
        length: unread.or(&section, "length", length, Some(19))?,
        product: unread.or(&section, "product", product, Some(Text::default()))?,
        validity_years: unread.or(&section, "validity_years", years, Some(1))?,
        cryptograms,
        // Put in once the issuers are read.
        checked_by_issuer: false,
    };
    section.finish();
    Some(range)
}

/// A profile and a key under these names; neither goes without the other.
pub(super) fn cryptograms(
    section: &mut Section<'_>,
    profile_name: &'static str,
    key_name: &'static str,
) -> Option<CryptogramChoice> {
    let profile = section.may(profile_name, profile);
    let key = section.may(key_name, label);
    if section.has(profile_name) != section.has(key_name) {
        section.fault(profile_name, format!("goes only together with {key_name}"));
    }
    profile.zip(key).map(|(profile, key)| CryptogramChoice { profile, key })
}

/// Where a receiver takes notifications.
pub(super) fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, String> {
    text(value)?.parse()
}

fn label(value: &DeValue<'_>) -> Result<KeyLabel, String> {
    KeyLabel::parse(&text(value)?).map_err(|error| error.to_string())
}

/// `"visa-cvn-18"` and the like.
fn profile(value: &DeValue<'_>) -> Result<&'static CryptogramProfile, String> {
    let found = value.as_str().and_then(CryptogramProfile::named);
    found.ok_or_else(|| {
        let names: Vec<String> = CryptogramProfile::ALL.iter().map(|it| format!("{:?}", it.name())).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn pan_range(mut section: Section<'_>, unread: &mut Unread) -> Option<PanRange> {
    let bin = section.need("bin", word(Bin::parse));
    let product = section.need("product", word(|it| Text::parse("product", it)));
    let range = PanRange {
        bin: unread.or(&section, "bin", bin, no_bin())?,
        product: unread.or(&section, "product", product, Some(Text::default()))?,
        controlled: section.or("controlled", false, boolean),
        issuer: section.may("issuer", word(|it| Text::parse("issuer", it))),
    };
    section.finish();
    Some(range)
}

fn requestor(
    mut section: Section<'_>,
    merchants: &mut Vec<(String, LinkId)>,
    receivers: &mut Vec<(Receiver, Endpoint)>,
    unread: &mut Unread,
) -> Option<TokenRequestor> {
    let id = section.need("id", word(TokenRequestorId::parse));
    let name = section.need("name", word(|it| Text::parse("name", it)));
    let credential = section.may("credential_digest", digest);
    if credential.is_none() && section.has("credential_digest") {
        unread.0.push(section.key("credential_digest"));
    }
    let places = section.tables("merchant").into_iter().filter_map(|row| merchant(row, merchants)).collect();
    let entry_modes = section.list("entry_modes", word(EntryMode::parse));
    if entry_modes.is_empty() && section.has("entry_modes") && !section.is_empty_list("entry_modes") {
        unread.0.push(section.key("entry_modes"));
    }
    let controls = DomainControls {
        entry_modes: entry_modes.into_iter().collect(),
        domains: section.list("domains", word(TokenDomain::parse)).into_iter().collect(),
        merchants: places,
        categories: section.list("categories", word(MerchantCategory::parse)),
        most_amount: amount(section.table("most_amount")),
        expiry_optional: section.or("expiry", false, choice(&[("required", false), ("optional", true)])),
        chip_amount_binds: section.or("chip_amount_binds", true, boolean),
        cryptogram_required: section.or(
            "cryptogram",
            false,
            choice(&[("chip-entry", false), ("always", true)]),
        ),
        initiation: InitiationControls {
            initiators: Initiators::of(&section.list("initiators", word(Initiator::parse))),
            original_required: section.or(
                "original",
                false,
                choice(&[("optional", false), ("required", true)]),
            ),
        },
    };
    let activation = choice(&[("at-issue", Activation::AtIssue), ("confirmed", Activation::Confirmed)]);
    let nobody = TokenRequestorId::parse(b"99999999999").ok();
    let told_at = section.may("notify", |value| Ok((endpoint(value)?, text(value)?)));
    let notification_url = told_at.as_ref().and_then(|(_, url)| Text::parse("URL", url.as_bytes()).ok());
    let notification_url = notification_url.unwrap_or_default();
    if let Some(((endpoint, _), id)) = told_at.zip(id) {
        receivers.push((Receiver::Requestor(id), endpoint));
    }
    let requestor = TokenRequestor {
        id: unread.or(&section, "id", id, nobody)?,
        name: unread.or(&section, "name", name, Some(Text::default()))?,
        credential,
        controls,
        location: section.or("location", TokenLocation::Unspecified, choice(LOCATIONS)),
        assurances: section.list("assurances", word(TokenAssuranceMethod::stated)),
        activation: section.or("activation", Activation::AtIssue, activation),
        locations: section.list("locations", choice(LOCATIONS)),
        notification_url,
        limits: RequestorLimits {
            tokens: section.may("tokens", number_u32),
            tokens_per_pan: section.may("tokens_per_pan", most_tokens),
            tokens_per_device: section.may("tokens_per_device", most_tokens),
            detokenizations_per_day: section.may("detokenizations_per_day", number_u32),
        },
        shares_with: section.list("shares_with", word(TokenRequestorId::parse)),
        wrapping_keys: section.list("wrapping_keys", word(Thumbprint::parse)),
    };
    section.finish();
    Some(requestor)
}

/// DE 42 is unique only within its acquirer, so both are named.
fn merchant(mut section: Section<'_>, merchants: &mut Vec<(String, LinkId)>) -> Option<Merchant> {
    let acquirer = section.need("acquirer", link_id);
    let id = section.need("id", word(MerchantId::parse));
    merchants.extend(acquirer.map(|acquirer| (section.path().to_owned(), acquirer)));
    section.finish();
    Some(Merchant { acquirer: acquirer?, id: id? })
}

/// What happens to a card happens to all its tokens in one entry of the journal.
fn most_tokens(value: &DeValue<'_>) -> Result<u32, String> {
    number(1, 500)(value).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn number_u16(least: u16, most: u16) -> impl Fn(&DeValue<'_>) -> Result<u16, String> {
    let read = number(u64::from(least), u64::from(most));
    move |value| read(value).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
}

fn number_u32(value: &DeValue<'_>) -> Result<u32, String> {
    number(1, u64::from(u32::MAX))(value).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}
