//! `TspConfig`: token and PAN ranges, requestors, limits. Resolved values, no serde.

use std::time::Duration;

use crate::crypto::{CryptogramProfile, KeyLabel};
use crate::vocab::{Bin, Digits, Pan, Text, TokenRequestorId};

use super::counters::CounterWindow;
use super::event::PartyName;
use super::given_keys::LimitedKeyTerms;
use super::idv::IssuerRule;
use super::outbox::Receiver;
use super::requestor::TokenRequestor;
use super::step_up::StepUpLimits;

/// The TSP as configured.
#[derive(Debug, Clone)]
pub struct TspConfig {
    pub token_ranges: Vec<TokenRange>,
    pub pan_ranges: Vec<PanRange>,
    pub requestors: Vec<TokenRequestor>,
    /// Our TSP code, which EMVCo assigns (000 for tests): token requestors' ids begin with it. None: with that of the
    /// first requestor.
    pub code: Option<Digits<3>>,
    /// Our BIN controller identifier, four characters that EMVCo assigns; without it no PAR is made.
    pub bin_controller: Option<Text<4>>,
    /// Whether a payment account reference goes with the account to a new card number, as a rule.
    pub par_follows_account: bool,
    pub counter_window: CounterWindow,
    /// How long a cryptogram whose request was not forwarded may be presented once more.
    pub resubmit_window: Duration,
    /// How long a cryptogram that was made for one payment is good.
    pub cryptogram_lifetime: Duration,
    /// How long another requestor may present a consent.
    pub consent_lifetime: Duration,
    /// How long after its issue a token may wait for its requestor's word that it arrived; then it is deactivated.
    pub activate_within: Duration,
    pub limited_keys: LimitedKeyTerms,
    /// By how many minor units DE 4 may exceed what the chip signed (9F02).
    pub amount_tolerance: u64,
    /// What issuers have agreed for their cards; of others nobody is asked.
    pub approvals: Vec<IssuerRule>,
    pub step_up: StepUpLimits,
    /// Who is told what becomes of tokens.
    pub receivers: Vec<Receiver>,
    pub limits: TspLimits,
}

/// Whole numbers that no run exceeds.
#[derive(Debug, Clone, Copy)]
pub struct TspLimits {
    /// The most tokens the vault holds, deactivated ones included: `vault.capacity`.
    pub capacity: u32,
    /// The most different sets of domain controls among them.
    pub control_sets: u32,
    /// How many answered requests of requestors are remembered for their repeats.
    pub remembered_requests: usize,
    /// How many calls may wait for the vault's writer.
    pub waiting_calls: usize,
    /// How many tokens that are not deactivated a PAN may have.
    pub tokens_per_pan: u32,
    /// How many of them one device may hold.
    pub tokens_per_device: u32,
    /// How many requests may wait for their cards' issuers.
    pub waiting_enquiries: usize,
    /// How many tokens may wait for their cardholders' proof.
    pub step_ups: usize,
    /// How many notifications may wait for one receiver; with more the oldest is given up.
    pub notifications: usize,
    /// How many tokens may have controls of their own.
    pub narrowed_tokens: u32,
    /// How many requestors the registry may have.
    pub requestors: u32,
    /// How many consents may wait to be presented.
    pub consents: usize,
}

impl TspLimits {
    /// As long as the configuration says nothing else.
    pub const DEFAULT: Self = Self {
        capacity: 1_000_000,
        control_sets: 10_000,
        remembered_requests: 1_000_000,
        waiting_calls: 1_024,
        tokens_per_pan: 50,
        tokens_per_device: 50,
        waiting_enquiries: 256,
        step_ups: 100_000,
        notifications: 100_000,
        narrowed_tokens: 100_000,
        requestors: 10_000,
        consents: 100_000,
    };
}

/// How chip cryptograms are made, and from which issuer master key: the TSP's own for tokens, an issuer's for its
/// cards.
#[derive(Debug, Clone, Copy)]
pub struct CryptogramChoice {
    pub profile: &'static CryptogramProfile,
    pub key: KeyLabel,
}

/// Digits from which tokens of one product are drawn. One range a product class keeps what a BIN table says of
/// the card (EMVCo 4.1).
#[derive(Debug, Clone, Copy)]
pub struct TokenRange {
    pub bin: Bin,
    /// Digits of a whole token, 13 to 19.
    pub length: u8,
    pub product: Text<16>,
    /// How long a token is good for; its expiry does not follow the card's.
    pub validity_years: u16,
    /// Without it, and unless its cards' issuer checks them, no chip payment with a token of this range passes.
    pub cryptograms: Option<CryptogramChoice>,
    /// The issuer of its cards alone has the keys, and checks its tokens' cryptograms.
    pub checked_by_issuer: bool,
}

impl TokenRange {
    /// Whether these digits would be a token of this range.
    #[must_use]
    pub fn covers(&self, account: &[u8]) -> bool {
        account.len() == usize::from(self.length) && self.bin.begins(account)
    }
}

/// Digits with which the PANs of one product begin.
#[derive(Debug, Clone, Copy)]
pub struct PanRange {
    pub bin: Bin,
    pub product: Text<16>,
    /// Whether we are the BIN controller, and so may make PARs for it.
    pub controlled: bool,
    /// Whose cards these are: that issuer may ask about them and report what happened to them. None: nobody may.
    pub issuer: Option<PartyName>,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ConfigFault {
    pub key: String,
    pub reason: &'static str,
}

impl TspConfig {
    /// What is wrong with a PAN range whose product no token range has.
    pub const NO_TOKEN_RANGE: &'static str = "has no token range";

    /// Everything that is wrong, at once; empty when it can be started.
    #[must_use]
    pub fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        self.token_range_faults(&mut faults);
        self.pan_range_faults(&mut faults);
        self.requestor_faults(&mut faults);
        let limits = self.limits;
        for (key, value) in [
            ("capacity", usize::try_from(limits.capacity).unwrap_or_default()),
            ("control_sets", usize::try_from(limits.control_sets).unwrap_or_default()),
            ("remembered_requests", limits.remembered_requests),
            ("waiting_calls", limits.waiting_calls),
            ("tokens_per_pan", usize::try_from(limits.tokens_per_pan).unwrap_or_default()),
            ("requestors", usize::try_from(limits.requestors).unwrap_or_default()),
            ("narrowed_tokens", usize::try_from(limits.narrowed_tokens).unwrap_or_default()),
            ("tokens_per_device", usize::try_from(limits.tokens_per_device).unwrap_or_default()),
        ] {
            check(value > 0, &mut faults, format!("limits.{key}"), "must not be zero");
        }
        let window = self.counter_window;
        let held = window.behind <= CounterWindow::BEHIND_MOST;
        check(held, &mut faults, "counter_behind".to_owned(), "must be at most 63");
        check(window.ahead > 0, &mut faults, "counter_ahead".to_owned(), "must not be zero");
        let payments = self.limited_keys.payments > 0;
        check(payments, &mut faults, "limited_key_payments".to_owned(), "must not be zero");
        faults
    }

    /// Whether a token requestor's id is one that this TSP may give: of all with which it could be confused it has
    /// none.
    #[must_use]
    pub fn is_ours(&self, id: TokenRequestorId) -> bool {
        let first = self.requestors.first().and_then(|first| first.id.as_bytes().first_chunk::<3>());
        let code = self.code.as_ref().map(Digits::as_bytes).or(first.map(<[u8; 3]>::as_slice));
        code.is_none_or(|code| id.as_bytes().starts_with(code))
    }

    /// The PAN range that says most about `pan`: the longest BIN.
    #[must_use]
    pub fn pan_range(&self, pan: &Pan) -> Option<&PanRange> {
        let fits = self.pan_ranges.iter().filter(|range| range.bin.begins(pan.expose_digits()));
        fits.max_by_key(|range| range.bin.as_bytes().len())
    }

    fn token_range_faults(&self, faults: &mut Vec<ConfigFault>) {
        for (at, range) in self.token_ranges.iter().enumerate() {
            let key = |name: &str| format!("token_ranges[{at}].{name}");
            let digits = range.bin.as_bytes().len();
            // A leading zero would make two tokens of different length the same number.
            check(!range.bin.as_bytes().starts_with(b"0"), faults, key("bin"), "must not begin with zero");
            check((13..=19).contains(&range.length), faults, key("length"), "must be 13 to 19");
            check(
                digits + 6 < usize::from(range.length),
                faults,
                key("length"),
                "leaves fewer than six digits to draw",
            );
            check((1..=50).contains(&range.validity_years), faults, key("validity_years"), "must be 1 to 50");
            let later = self.token_ranges.iter().skip(at + 1);
            check(
                !later.clone().any(|other| other.length == range.length && other.bin.overlaps(&range.bin)),
                faults,
                key("bin"),
                "overlaps a later token range",
            );
            check(
                !self.pan_ranges.iter().any(|pans| pans.bin.overlaps(&range.bin)),
                faults,
                key("bin"),
                "overlaps a PAN range",
            );
        }
    }

    fn pan_range_faults(&self, faults: &mut Vec<ConfigFault>) {
        for (at, range) in self.pan_ranges.iter().enumerate() {
            let key = |name: &str| format!("pan_ranges[{at}].{name}");
            let mut later = self.pan_ranges.iter().skip(at + 1);
            check(!later.any(|other| other.bin == range.bin), faults, key("bin"), "stands there twice");
            check(
                self.token_ranges.iter().any(|tokens| tokens.product == range.product),
                faults,
                key("product"),
                Self::NO_TOKEN_RANGE,
            );
            check(
                !range.controlled || self.bin_controller.is_some(),
                faults,
                key("controlled"),
                "needs bin_controller",
            );
        }
        if let Some(id) = &self.bin_controller {
            let shaped = id.as_bytes().len() == 4
                && id.as_bytes().iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            check(shaped, faults, "bin_controller".to_owned(), "must be four capitals or digits");
        }
    }

    fn requestor_faults(&self, faults: &mut Vec<ConfigFault>) {
        for (at, requestor) in self.requestors.iter().enumerate() {
            let key = |name: &str| format!("requestors[{at}].{name}");
            let mut later = self.requestors.iter().skip(at + 1);
            check(!later.clone().any(|r| r.id == requestor.id), faults, key("id"), "stands there twice");
            check(
                !later.any(|r| r.credential.is_some() && r.credential == requestor.credential),
                faults,
                key("credential"),
                "is another requestor's too",
            );
            check(
                self.is_ours(requestor.id),
                faults,
                key("id"),
                "must begin with tsp.code; without that, as the first requestor's id does",
            );
            let controls = &requestor.controls;
            check(!controls.entry_modes.is_empty(), faults, key("entry_modes"), "must name at least one");
            check(
                controls.domains_agree(),
                faults,
                key("domains"),
                "must be those of the entry modes, no more",
            );
        }
    }
}

fn check(holds: bool, faults: &mut Vec<ConfigFault>, key: String, reason: &'static str) {
    if !holds {
        faults.push(ConfigFault { key, reason });
    }
}

/// A configuration for tests: one product, one requestor, everything small.
#[cfg(test)]
pub(crate) fn sample() -> TspConfig {
    use super::controls::{DomainControls, Merchant};
    use super::initiation::InitiationControls;
    use super::requestor::{Activation, RequestorLimits};
    use crate::vocab::{
        EntryMode, LinkId, MerchantId, TokenAssuranceMethod, TokenDomains, TokenLocation, TokenRequestorId,
    };

    let text = |bytes: &[u8]| Text::parse("product", bytes).unwrap();
    let bin = |digits: &[u8]| Bin::parse(digits).unwrap();
    let requestor = |id: &[u8], seed: u8, merchants: Vec<Merchant>| TokenRequestor {
        id: TokenRequestorId::parse(id).unwrap(),
        name: text(b"wallet"),
        credential: Some([seed; 32]),
        controls: DomainControls {
            entry_modes: [EntryMode::CONTACTLESS_CHIP, EntryMode::parse(b"10").unwrap()]
                .into_iter()
                .collect(),
            domains: TokenDomains::default(),
            merchants,
            categories: vec![],
            most_amount: None,
            expiry_optional: false,
            chip_amount_binds: true,
            cryptogram_required: false,
            initiation: InitiationControls::default(),
        },
        location: TokenLocation::DeviceStorage,
        assurances: vec![TokenAssuranceMethod::parse(b"01").unwrap()],
        activation: Activation::AtIssue,
        locations: Vec::new(),
        notification_url: Text::default(),
        limits: RequestorLimits::default(),
        shares_with: Vec::new(),
        wrapping_keys: Vec::new(),
    };
    let cryptograms = Some(CryptogramChoice {
        profile: CryptogramProfile::named("ccd-aes").unwrap(),
        key: KeyLabel::parse("token-master").unwrap(),
    });
    let shop = Merchant { acquirer: LinkId(1), id: MerchantId::parse(b"SHOP1").unwrap() };
    TspConfig {
        token_ranges: vec![
            TokenRange {
                bin: bin(b"489537"),
                length: 16,
                product: text(b"credit"),
                validity_years: 3,
                cryptograms,
                checked_by_issuer: false,
            },
            TokenRange {
                bin: bin(b"623529"),
                length: 19,
                product: text(b"debit"),
                validity_years: 3,
                cryptograms: None,
                checked_by_issuer: false,
            },
        ],
        pan_ranges: vec![
            PanRange {
                bin: bin(b"476173"),
                product: text(b"credit"),
                controlled: true,
                issuer: Some(text(b"bank")),
            },
            PanRange {
                bin: bin(b"622848"),
                product: text(b"debit"),
                controlled: false,
                issuer: Some(text(b"other-bank")),
            },
        ],
        requestors: vec![requestor(b"00000000001", 1, vec![]), requestor(b"00000000002", 2, vec![shop])],
        code: None,
        bin_controller: Some(Text::parse("id", b"Q001").unwrap()),
        par_follows_account: true,
        counter_window: CounterWindow { behind: 8, ahead: 100 },
        resubmit_window: Duration::from_secs(60),
        cryptogram_lifetime: Duration::from_secs(900),
        consent_lifetime: Duration::from_secs(900),
        activate_within: Duration::from_secs(7 * 86_400),
        limited_keys: LimitedKeyTerms { payments: 10, lifetime: Duration::from_secs(3_600) },
        amount_tolerance: 0,
        approvals: Vec::new(),
        step_up: StepUpLimits::DEFAULT,
        receivers: Vec::new(),
        limits: TspLimits {
            capacity: 1000,
            control_sets: 8,
            remembered_requests: 1000,
            waiting_calls: 64,
            tokens_per_pan: 100,
            tokens_per_device: 100,
            waiting_enquiries: 4,
            step_ups: 8,
            notifications: 16,
            narrowed_tokens: 3,
            requestors: 3,
            consents: 2,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_no_fault() {
        assert_eq!(sample().faults(), []);
    }

    #[test]
    fn every_fault_is_named_by_its_key() {
        let bin = |digits: &[u8]| Bin::parse(digits).unwrap();
        type Change = Box<dyn Fn(&mut TspConfig)>;
        let cases: Vec<(&str, Change)> = vec![
            ("token_ranges[0].bin", Box::new(move |c| c.token_ranges[0].bin = bin(b"089537"))),
            ("token_ranges[0].bin", Box::new(move |c| c.token_ranges[0].bin = bin(b"4761"))),
            (
                "token_ranges[0].bin",
                Box::new(|c| {
                    let again = c.token_ranges[0];
                    c.token_ranges.push(again);
                }),
            ),
            ("token_ranges[0].length", Box::new(|c| c.token_ranges[0].length = 12)),
            ("token_ranges[0].length", Box::new(move |c| c.token_ranges[0].bin = bin(b"489537000000"))),
            ("token_ranges[1].validity_years", Box::new(|c| c.token_ranges[1].validity_years = 0)),
            ("pan_ranges[0].bin", Box::new(|c| c.pan_ranges[1] = c.pan_ranges[0])),
            ("pan_ranges[1].product", Box::new(|c| c.pan_ranges[1].product = Text::default())),
            ("pan_ranges[0].controlled", Box::new(|c| c.bin_controller = None)),
            ("bin_controller", Box::new(|c| c.bin_controller = Text::parse("id", b"q001").ok())),
            ("requestors[0].id", Box::new(|c| c.requestors[1].id = c.requestors[0].id)),
            (
                "requestors[1].id",
                Box::new(|c| c.requestors[1].id = TokenRequestorId::parse(b"99800000002").unwrap()),
            ),
            ("requestors[0].id", Box::new(|c| c.code = Digits::parse("code", b"998", 3).ok())),
            ("requestors[0].credential", Box::new(|c| c.requestors[1].credential = Some([1; 32]))),
            (
                "requestors[1].entry_modes",
                Box::new(|c| c.requestors[1].controls.entry_modes = Default::default()),
            ),
            ("limits.capacity", Box::new(|c| c.limits.capacity = 0)),
            ("counter_behind", Box::new(|c| c.counter_window.behind = 64)),
            ("counter_ahead", Box::new(|c| c.counter_window.ahead = 0)),
        ];
        for (key, change) in cases {
            let mut config = sample();
            change(&mut config);
            let faults = config.faults();
            assert!(faults.iter().any(|fault| fault.key == key), "{key}: {faults:?}");
        }
    }

    #[test]
    fn the_longest_pan_range_decides() {
        let mut config = sample();
        let narrow = PanRange {
            bin: Bin::parse(b"47617390").unwrap(),
            product: config.pan_ranges[1].product,
            controlled: false,
            issuer: None,
        };
        config.pan_ranges.push(narrow);
        let product = |digits: &[u8]| {
            let pan = Pan::parse(digits).unwrap();
            config.pan_range(&pan).map(|range| range.product.as_str().to_owned())
        };
        assert_eq!(product(b"4761739001010119").as_deref(), Some("debit"));
        assert_eq!(product(b"4761730001010119").as_deref(), Some("credit"));
        assert_eq!(product(b"5555550001010119"), None);
    }
}
