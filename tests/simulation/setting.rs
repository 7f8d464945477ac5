//! The setting of every run: two acquirers, two issuers, their dialects and cards, and the switch's configuration.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokenswitch::codec::{Dialect, FrameFormat};
use tokenswitch::crypto::{
    BlockCipher, CardKey, CryptogramKeys, CryptogramProfile, KeyLabel, KeyMaker, KeyPolicy, KeyUsage,
    MasterKey, SecurityModule,
};
use tokenswitch::link::{Backoff, PoolConfig, SessionConfig, SignOn};
use tokenswitch::sim::{EnquiryAnswer, EnquiryRule, TestCard, TestMerchant, test_cards, test_merchants};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{
    AcquirerConfig, Cryptograms, Identifiers, IssuerConfig, Limits, RouteTable, StandInTerms,
    StoreForwardConfig, SwitchConfig, TrackTwo, Wire,
};
use tokenswitch::tsp::{
    Activation, ApprovalRule, CounterWindow, CryptogramChoice, DomainControls, Doubts, InitiationControls,
    IssuerRule, LimitedKeyTerms, PanRange, Receiver, RequestorLimits, StepUpLimits, TokenKeys, TokenRange,
    TokenRequestor, TspConfig, TspLimits,
};
use tokenswitch::vocab::{
    Amount, Bin, Currency, EntryMode, InstitutionId, LinkId, Text, Token, TokenAssuranceMethod, TokenDomains,
    TokenLocation, TokenRequestorId, YearMonth,
};

use crate::parties::{Terms, beside};
use crate::vault::{CARD_CODES, CARD_MILLIS, CARD_TRIES};

/// The first of the acquirers' links; the second takes partial approvals.
pub(crate) const ACQUIRERS: [LinkId; 2] = [LinkId(1), LinkId(2)];
pub(crate) const ISSUERS: [LinkId; 2] = [LinkId(11), LinkId(12)];
/// From the receipt of a request to its time-out answer.
pub(crate) const ISSUER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an approval that could not be given waits for a repeat.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long a cryptogram that was not forwarded may come again.
pub(crate) const RESUBMIT_WINDOW: Duration = Duration::from_secs(120);
/// Far from what a run comes to.
pub(crate) const LIMITS: Limits = Limits {
    in_flight: 1_000,
    answered: 10_000,
    tombstones: 1_000,
    stored: 1_000,
    look_ups: 100,
    followers: 20,
    stand_in: 100,
};
/// How much of what is held completions may come to that are asked for, in hundredths.
pub(crate) const COMPLETIONS_PERCENT: u64 = 120;
/// Up to so much the first acquirer may give back without naming a payment; the second may not.
pub(crate) const REFUNDS_MOST: u64 = 5_000;
/// What may be approved in an issuer's place, where that is allowed: the amount in minor units, and how many payments
/// of one card in a run.
pub(crate) const STAND_IN_MOST: u64 = 60_000;
pub(crate) const STAND_IN_COUNT: usize = 3;
/// Longer than a clock may jump: nothing is too old on account of that.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_secs(48 * 3600);
/// 2026-11-22 23:59:40 UTC: every run sees a day end.
pub(crate) const START: Wall = Wall(1_795_391_980_000);

/// 2026-11-30 23:59:40 UTC: some runs see a month end with the day.
pub(crate) const START_AT_MONTH_END: Wall = Wall(START.0 + 8 * 86_400_000);

const ISSUER_BINS: [&[u8]; 2] = [b"476173", b"622848"];
/// Cards whose issuers are asked whether they may have tokens.
const ASKED_BINS: [&[u8]; 2] = [b"476199", b"622899"];
/// The issuer of these, by its name at the vault.
pub(crate) const ASKED_ISSUER: &[u8] = b"asked";
/// The key of the second issuer's tokens, which sign with 3DES.
const SLOW_KEY: &str = "token-slow";
const INSTITUTIONS: [&[u8]; 2] = [b"00012345678", b"87654321"];

pub(crate) fn dialect_of(link: LinkId) -> Arc<Dialect> {
    static DIALECTS: OnceLock<[Arc<Dialect>; 2]> = OnceLock::new();
    let shipped = |name| Arc::new(Dialect::shipped(name).expect("it is shipped"));
    let dialects = DIALECTS.get_or_init(|| ["iso87-bcd", "iso87-ascii"].map(shipped));
    Arc::clone(&dialects[usize::from(link.0 % 2)])
}

pub(crate) fn framing_of(link: LinkId) -> FrameFormat {
    let (length, header) = if link.0 % 2 == 1 { ("binary-2", 0) } else { ("binary-2", 5) };
    FrameFormat::parse(length, header, 4_000).expect("a good format")
}

pub(crate) fn is_issuer(link: LinkId) -> bool {
    ISSUERS.contains(&link)
}

pub(crate) fn wire_of(link: LinkId) -> Wire {
    let sign_on = if is_issuer(link) { SignOn::Us } else { SignOn::Peer };
    let session = SessionConfig {
        sign_on_timeout: Duration::from_secs(4),
        idle: Duration::from_secs(5),
        echo_timeout: Duration::from_secs(2),
        ..SessionConfig::new(sign_on)
    };
    Wire { dialect: dialect_of(link), format: framing_of(link), session }
}

pub(crate) fn pool_of(link: LinkId) -> PoolConfig {
    PoolConfig {
        link,
        addresses: 1,
        connections: 2,
        backoff: Backoff { least: Duration::from_millis(100), most: Duration::from_secs(2) },
        in_flight: 100,
        silences: 3,
    }
}

pub(crate) fn institution_of(acquirer: usize) -> InstitutionId {
    InstitutionId::parse(INSTITUTIONS[acquirer]).expect("digits")
}

/// As `switch_config`, with an issuer that alone can check its tokens' cryptograms.
pub(crate) fn checking_config(issuer: LinkId) -> SwitchConfig {
    let mut config = switch_config();
    config.issuers.get_mut(&issuer).expect("it is there").cryptograms = Cryptograms::Passed;
    config
}

/// As `tsp_config`, for a switch with this configuration: who checks an issuer's tokens' cryptograms.
pub(crate) fn tsp_config_beside(config: &SwitchConfig) -> TspConfig {
    let mut vault = tsp_config();
    for (range, issuer) in vault.token_ranges.iter_mut().zip(ISSUERS) {
        if config.issuers.get(&issuer).is_some_and(|it| it.cryptograms == Cryptograms::Passed) {
            (range.cryptograms, range.checked_by_issuer) = (None, true);
        }
    }
    vault
}

/// The token ranges whose keys are not at such a switch.
pub(crate) fn keyless(config: &SwitchConfig) -> Vec<Bin> {
    let ranges = tsp_config_beside(config).token_ranges;
    ranges.into_iter().filter(|range| range.cryptograms.is_none()).map(|range| range.bin).collect()
}

/// As `switch_config`, with acquirers' identifiers on the issuers' side, too.
pub(crate) fn passing_config() -> SwitchConfig {
    let mut config = switch_config();
    config.issuers.values_mut().for_each(|issuer| issuer.identifiers = Identifiers::Pass);
    config
}

/// What an issuer lets the switch approve in its place, in the runs in which it does.
pub(crate) fn stand_in_terms() -> StandInTerms {
    StandInTerms {
        most: Amount::new(STAND_IN_MOST, Currency::from_letters("EUR").expect("known")),
        count: STAND_IN_COUNT,
        // Longer than a run.
        period: Duration::from_secs(3 * 3600),
        categories: Vec::new(),
        entry_modes: Vec::new(),
        assurances: Vec::new(),
    }
}

pub(crate) fn switch_config() -> SwitchConfig {
    let acquirer = |(at, link): (usize, &LinkId)| {
        let config = AcquirerConfig {
            name: format!("acquirer {link}"),
            institutions: vec![institution_of(at)],
            partial_approvals: at == 1,
            answer_on_any: at == 1,
            sign_on_per_institution: false,
            authorization_is_capture: at == 1,
            completions_percent: COMPLETIONS_PERCENT,
            announce_cut_over: at == 0,
            refunds: (at == 0)
                .then(|| Amount::new(REFUNDS_MOST, Currency::from_letters("EUR").expect("known"))),
        };
        (*link, config)
    };
    let issuer = |link: &LinkId| {
        let config = IssuerConfig {
            name: format!("issuer {link}"),
            timeout: ISSUER_TIMEOUT,
            enquiry_timeout: ISSUER_TIMEOUT,
            identifiers: Identifiers::Own,
            track_two: TrackTwo::Drop,
            cryptograms: Cryptograms::Checked,
            dedupes_repeats: *link == ISSUERS[1],
            announce_cut_over: *link == ISSUERS[0],
            stand_in: None,
        };
        (*link, config)
    };
    SwitchConfig {
        institution: InstitutionId::parse(b"990001").expect("digits"),
        acquirers: ACQUIRERS.iter().enumerate().map(acquirer).collect(),
        issuers: ISSUERS.iter().map(issuer).collect(),
        routes: routes(false),
        limits: LIMITS,
        store_forward: StoreForwardConfig {
            timeout: Duration::from_secs(2),
            pause_least: Duration::from_millis(500),
            pause_most: Duration::from_secs(4),
            at_once: 8,
            age_limit: Duration::from_secs(60),
        },
        undelivered_grace: GRACE,
        repeat_window: REPEAT_WINDOW,
        cut_over: Duration::ZERO,
    }
}

/// Which issuer has which cards; `crossed`: each the other's.
pub(crate) fn routes(crossed: bool) -> RouteTable {
    let links = if crossed { [ISSUERS[1], ISSUERS[0]] } else { ISSUERS };
    let bins = ISSUER_BINS.iter().zip(links).chain(ASKED_BINS.iter().zip(links));
    RouteTable::new(&bins.map(|(digits, link)| (bin(digits), link)).collect::<Vec<_>>())
}

/// Of the cards whose cardholders do not prove themselves in time, tokens are given up: so soon that runs see it.
pub(crate) const PROOF_MILLIS: u64 = 10_000;
/// How long a token is good, in years.
pub(crate) const VALIDITY_YEARS: u16 = 3;

/// How long a limited-use key is good.
pub(crate) const LIMITED_KEY_MILLIS: u64 = 60_000;

/// The token requestors by place. The first one's tokens pay.
const REQUESTORS: [(&[u8], &[u8]); 4] = [
    (b"00000000001", b"wallet"),
    (b"00000000002", b"shop"),
    (b"00000000003", b"club"),
    (b"00000000004", b"new"),
];
/// How many there may be, and how many of them the configuration has.
pub(crate) const PARTIES: usize = REQUESTORS.len();
const CONFIGURED: usize = 3;

/// The terms of those that the configuration has.
pub(crate) fn configured(place: usize) -> Option<Terms> {
    const TOLD_A_DAY: [Option<u32>; CONFIGURED] = [Some(2), Some(1), None];
    let told_a_day = *TOLD_A_DAY.get(place)?;
    Some(Terms { told_a_day, shares: place == 1, ..Terms::default() })
}

pub(crate) fn requestor_id() -> TokenRequestorId {
    requestor_at(0)
}

pub(crate) fn requestor_at(place: usize) -> TokenRequestorId {
    TokenRequestorId::parse(REQUESTORS[place].0).expect("digits")
}

/// As it is registered.
pub(crate) fn requestor(place: usize, terms: &Terms) -> TokenRequestor {
    let modes: &[&[u8]] = if terms.taps_only { &[b"07"] } else { &[b"07", b"10", b"05"] };
    let modes = modes.iter().map(|mode| EntryMode::parse(mode).expect("digits"));
    let url: &[u8] = if terms.listens { b"https://requestor.example/" } else { b"" };
    TokenRequestor {
        id: requestor_at(place),
        name: Text::parse("name", REQUESTORS[place].1).expect("short"),
        credential: None,
        controls: DomainControls {
            entry_modes: modes.collect(),
            merchants: vec![],
            categories: vec![],
            most_amount: None,
            expiry_optional: false,
            chip_amount_binds: true,
            cryptogram_required: false,
            initiation: InitiationControls::default(),
            domains: TokenDomains::default(),
        },
        location: TokenLocation::DeviceStorage,
        assurances: vec![TokenAssuranceMethod::parse(b"01").expect("digits")],
        activation: Activation::AtIssue,
        locations: Vec::new(),
        notification_url: Text::parse("url", url).expect("short"),
        limits: RequestorLimits {
            tokens: terms.tokens,
            tokens_per_pan: terms.per_card,
            detokenizations_per_day: terms.told_a_day,
            ..RequestorLimits::default()
        },
        shares_with: if terms.shares { vec![requestor_at(beside(place))] } else { Vec::new() },
        wrapping_keys: Vec::new(),
    }
}

pub(crate) fn tsp_config() -> TspConfig {
    let text = |bytes: &[u8]| Text::parse("product", bytes).expect("short");
    let asked = Some(text(ASKED_ISSUER));
    let [fast, slow] = [("ccd-aes", "token-master"), ("ccd-3des", SLOW_KEY)].map(|(profile, key)| {
        Some(CryptogramChoice {
            profile: CryptogramProfile::named(profile).expect("it is there"),
            key: KeyLabel::parse(key).expect("short"),
        })
    });
    TspConfig {
        token_ranges: vec![
            TokenRange {
                bin: bin(b"489537"),
                length: 16,
                product: text(b"credit"),
                validity_years: VALIDITY_YEARS,
                cryptograms: fast,
                checked_by_issuer: false,
            },
            TokenRange {
                bin: bin(b"623529"),
                length: 19,
                product: text(b"debit"),
                validity_years: VALIDITY_YEARS,
                cryptograms: slow,
                checked_by_issuer: false,
            },
        ],
        pan_ranges: vec![
            PanRange { bin: bin(ISSUER_BINS[0]), product: text(b"credit"), controlled: true, issuer: None },
            PanRange { bin: bin(ISSUER_BINS[1]), product: text(b"debit"), controlled: false, issuer: None },
            PanRange { bin: bin(ASKED_BINS[0]), product: text(b"credit"), controlled: true, issuer: asked },
            PanRange { bin: bin(ASKED_BINS[1]), product: text(b"debit"), controlled: false, issuer: asked },
        ],
        requestors: (0..PARTIES).filter_map(|at| Some(requestor(at, &configured(at)?))).collect(),
        code: None,
        bin_controller: Some(Text::parse("id", b"Q001").expect("four")),
        par_follows_account: true,
        counter_window: CounterWindow { behind: 32, ahead: 1_000 },
        resubmit_window: RESUBMIT_WINDOW,
        cryptogram_lifetime: Duration::from_secs(900),
        consent_lifetime: Duration::from_secs(900),
        activate_within: Duration::from_secs(7 * 86_400),
        limited_keys: LimitedKeyTerms { payments: 4, lifetime: Duration::from_millis(LIMITED_KEY_MILLIS) },
        amount_tolerance: 0,
        approvals: vec![IssuerRule {
            issuer: text(ASKED_ISSUER),
            approval: ApprovalRule::Ask,
            doubts: Doubts::default(),
        }],
        step_up: StepUpLimits {
            card_window: Duration::from_millis(CARD_MILLIS),
            card_codes: CARD_CODES,
            card_tries: CARD_TRIES,
            proof_within: Duration::from_millis(PROOF_MILLIS),
            ..StepUpLimits::DEFAULT
        },
        receivers: vec![Receiver::Requestor(requestor_id()), Receiver::Issuer(text(ASKED_ISSUER))],
        limits: TspLimits {
            capacity: 128,
            control_sets: 16,
            remembered_requests: 200,
            waiting_calls: 16,
            ..TspLimits::DEFAULT
        },
    }
}

/// The second issuer knows plastic cards only.
pub(crate) fn issuer_keys() -> CryptogramKeys {
    let profile = CryptogramProfile::named("visa-cvn-18").expect("it is there");
    let label = KeyLabel::parse("issuer-master").expect("short");
    SecurityModule::sample().expect("the sample keys").issuer_keys(label, profile).expect("it is there")
}

/// The sample keys, and one of tokens that sign with 3DES.
pub(crate) fn security() -> SecurityModule {
    static STORE: OnceLock<String> = OnceLock::new();
    let master = MasterKey::parse(include_str!("../../keys-sample/master.key")).expect("the sample keys");
    let store = STORE.get_or_init(|| {
        let usage = KeyUsage::TokenCryptogram(BlockCipher::TripleDes);
        let named = (KeyLabel::parse(SLOW_KEY).expect("short"), usage);
        let maker = KeyMaker { by: Text::default(), at: START };
        let (sample, mut entropy) = (include_str!("../../keys-sample/keys.store"), Entropy::seeded(3));
        let added =
            SecurityModule::add_key(sample, &master, KeyPolicy::TESTS, named, None, maker, &mut entropy);
        added.expect("the sample keys")
    });
    SecurityModule::open(store, &master, KeyPolicy::TESTS).expect("the sample keys")
}

/// What a token's phone has.
pub(crate) fn card_key(token: &Token) -> CardKey {
    let keys = TokenKeys::resolve(&tsp_config(), &security());
    keys.expect("its key is there").card_key(token).expect("a token")
}

/// Plain cards and cards with tokens, in turn of the two issuers; no card is both.
pub(crate) fn cards(seed: u64, count: usize) -> Vec<TestCard> {
    let bins: Vec<Bin> = ISSUER_BINS.iter().map(|digits| bin(digits)).collect();
    test_cards(seed, &bins, 16, YearMonth { year: 2026, month: 11 }, count)
}

/// A card that may come to have tokens in a run.
pub(crate) struct VaultCard {
    pub(crate) card: TestCard,
    /// The place of the card that may take its place.
    pub(crate) successor: Option<usize>,
    /// What its issuer says when it is asked; none where it is not.
    pub(crate) issuer_says: Option<EnquiryAnswer>,
}

/// First `behind`, then as many without tokens, the successors of both, and cards whose issuers are asked.
pub(crate) fn vault_cards(seed: u64, behind: &[TestCard]) -> Vec<VaultCard> {
    let bins: Vec<Bin> = ASKED_BINS.iter().map(|digits| bin(digits)).collect();
    let asked = test_cards(seed, &bins, 16, YearMonth { year: 2026, month: 11 }, 12);
    let others = cards(seed, 30).split_off(12);
    let plain = |(at, card): (usize, TestCard)| {
        let successor = (at < 2 * behind.len()).then_some(at + 2 * behind.len());
        VaultCard { card, successor, issuer_says: None }
    };
    let says = |card: TestCard| {
        let rules = enquiry_rules();
        let fits = |rule: &&EnquiryRule| card.pan.expose_digits().ends_with(rule.ends.as_bytes());
        let answer = rules.iter().find(fits).map_or(EnquiryAnswer::Approve, |rule| rule.answer);
        VaultCard { card, successor: None, issuer_says: Some(answer) }
    };
    let all = behind.iter().cloned().chain(others).enumerate().map(plain);
    all.chain(asked.into_iter().map(says)).collect()
}

/// What issuers say when they are asked, by the last digit of the card.
pub(crate) fn enquiry_rules() -> Vec<EnquiryRule> {
    use EnquiryAnswer::{Decline, Silent, StepUp};
    let rules = [("1", Decline), ("2", Silent), ("3", StepUp), ("4", StepUp), ("5", StepUp), ("6", StepUp)];
    rules.map(|(ends, answer)| EnquiryRule { ends: ends.to_owned(), answer }).to_vec()
}

pub(crate) fn merchants(seed: u64) -> Vec<TestMerchant> {
    test_merchants(seed, 3)
}

fn bin(digits: &[u8]) -> Bin {
    Bin::parse(digits).expect("digits")
}
