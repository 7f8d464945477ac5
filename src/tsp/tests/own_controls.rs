//! A token's own controls: each alone, under its requestor's, and what counts of its payments.

use std::sync::atomic::{AtomicU64, Ordering};

use super::checkpoint::{folded, restored, token_entries};
use super::service::request_entry;
use super::*;
use crate::journal::{
    AcquirerLeg, Body, CardRef, CheckpointKind, Entry, EntryNumber, IssuerLeg, OutcomeEntry, StoredEntry,
    StoredKind, TransactionEntry,
};
use crate::vocab::{
    Amount, Country, Currency, MerchantCategory, Outcome, Refusal, ReversalReason, Service, TokenDomain,
    TokenDomains, VerdictResult,
};

const CREDIT: &[u8] = b"4761739001010119";
const HOUR: u64 = 3_600_000;

fn euro(minor: u64) -> Amount {
    Amount::new(minor, Currency::parse(b"978").unwrap())
}

fn yen(minor: u64) -> Amount {
    Amount::new(minor, Currency::parse(b"392").unwrap())
}

fn rule(window: VelocityWindow, most_payments: Option<u16>, most_amount: Option<Amount>) -> VelocityRule {
    VelocityRule { window, most_payments, most_amount }
}

/// A payment online, without a chip.
fn sale(token: &TokenView, transaction: u16, amount: Option<Amount>) -> DetokenizeRequest {
    let entry_mode = EntryMode::parse(b"10").ok();
    DetokenizeRequest { entry_mode, chip: None, amount, ..tap(token, transaction) }
}

impl Bench {
    fn narrowed(&mut self, controls: TokenControls) -> TokenView {
        let controls = Some(Box::new(controls));
        self.provision(ProvisionRequest { controls, ..wanted(FIRST, "narrow", CREDIT) }).unwrap()
    }

    fn control(
        &mut self,
        id: &str,
        token: &TokenView,
        controls: Option<TokenControls>,
    ) -> Result<u32, ProvisioningRefusal> {
        let (asker, controls) = (asker(FIRST, id), controls.map(Box::new));
        let request = ControlRequest { asker, reference: token.reference, version: None, controls };
        let told = of_token(self.ask(|call| Command::Control { call, request: Box::new(request) }));
        told.map(|view| view.lifecycle.version)
    }

    fn judge(&self, request: DetokenizeRequest) -> Result<Detokenized, Refusal> {
        let mut out = Vec::new();
        self.tsp.detokenizer().detokenize_batch(self.now, &[request], &mut out);
        out.remove(0)
    }

    fn pays(&self, token: &TokenView, transaction: u16, amount: Amount) -> Result<(), Refusal> {
        self.judge(sale(token, transaction, Some(amount))).map(|_| ())
    }
}

type Narrow = fn(&mut TokenControls);
type Change = fn(&mut DetokenizeRequest);

/// A control, a payment that keeps to it, one that does not, and how that is refused.
const TABLE: [(Narrow, Change, Change, Refusal); 14] = [
    (
        |c| c.entry_modes = Some([EntryMode::parse(b"10").unwrap()].into_iter().collect()),
        |_| (),
        |r| {
            with_chip(r);
            r.entry_mode = Some(EntryMode::CONTACTLESS_CHIP);
        },
        Refusal::EntryModeNotAllowed,
    ),
    (
        |c| {
            let id = MerchantId::parse(b"SHOP1").unwrap();
            c.merchants = vec![Merchant { acquirer: LinkId(1), id }];
        },
        |_| (),
        |r| r.merchant = MerchantId::parse(b"SHOP2").ok(),
        Refusal::MerchantNotAllowed,
    ),
    (
        |c| c.categories = vec![MerchantCategory(5411)],
        |r| r.category = Some(MerchantCategory(5411)),
        |r| r.category = None,
        Refusal::ChannelNotAllowed,
    ),
    (
        |c| c.denied_categories = vec![MerchantCategory(7995)],
        |r| r.category = None,
        |r| r.category = Some(MerchantCategory(7995)),
        Refusal::ChannelNotAllowed,
    ),
    (
        |c| c.countries = vec![Country(276), Country(250)],
        |r| r.country = Some(Country(250)),
        |r| r.country = Some(Country(840)),
        Refusal::CountryNotAllowed,
    ),
    (
        |c| c.countries = vec![Country(276)],
        |r| r.country = Some(Country(276)),
        |_| (),
        Refusal::CountryNotAllowed,
    ),
    (
        |c| c.currencies = vec![Currency::parse(b"978").unwrap()],
        |_| (),
        |r| r.amount = Some(yen(1)),
        Refusal::AmountNotAllowed,
    ),
    (|c| c.most_amount = Some(euro(100)), |_| (), |r| r.amount = Some(euro(101)), Refusal::AmountNotAllowed),
    (|c| c.cryptogram_required = true, with_chip, |_| (), Refusal::CryptogramMissing),
    (
        |c| c.amount_tolerance = Some(2),
        |r| {
            with_chip(r);
            r.amount = Some(euro(102));
        },
        |r| {
            r.chip = Some(signed(&r.token, |chip| chip.counter = [0, 2]));
            r.amount = Some(euro(103));
        },
        Refusal::ChipAmountDiffers,
    ),
    (|c| c.expiry_required = true, |_| (), |r| r.expiry = None, Refusal::ExpiryMissing),
    (|c| c.from = Some(Wall(TODAY.0)), |_| (), |r| r.terminal = None, Refusal::OutsidePeriod),
    (|c| c.until = Some(Wall(TODAY.0 + 1)), |_| (), |r| r.terminal = None, Refusal::OutsidePeriod),
    (
        |c| c.domains = [TokenDomain::CardOnFile].into_iter().collect(),
        |_| (),
        |r| {
            with_chip(r);
            r.entry_mode = Some(EntryMode::CONTACTLESS_CHIP);
        },
        Refusal::DomainNotAllowed,
    ),
];

fn with_chip(request: &mut DetokenizeRequest) {
    request.chip = Some(signed(&request.token, |_| ()));
}

#[test]
fn each_control_refuses_what_lies_outside_and_nothing_else() {
    for (row, (narrow, good, bad, refusal)) in TABLE.into_iter().enumerate() {
        let mut bench = Bench::with(|config| {
            config.amount_tolerance = 5;
            config.requestors[0].controls.expiry_optional = true;
        });
        let mut controls = TokenControls::default();
        narrow(&mut controls);
        let token = bench.narrowed(controls);
        let free = bench.provision(wanted(FIRST, "free", CREDIT)).unwrap();
        let payment = |token: &TokenView, change: Change| {
            let mut request = sale(token, 1, Some(euro(100)));
            change(&mut request);
            request
        };
        let found = bench.judge(payment(&token, good)).unwrap();
        assert_eq!(found.verdicts.of(Service::OwnControls), Some(VerdictResult::Good), "row {row}");
        if refusal == Refusal::OutsidePeriod {
            bench.now.wall = Wall(if row == 11 { TODAY.0 - 1 } else { TODAY.0 + 1 });
        }
        let request = payment(&token, bad);
        assert_eq!(bench.judge(request.clone()).map(|_| ()), Err(refusal), "row {row}");
        // What has happened is told, not refused.
        let event = bench.judge(DetokenizeRequest { purpose: Purpose::PastEvent, ..request }).unwrap();
        let told = event.verdicts.iter().any(|verdict| verdict.result == VerdictResult::Bad);
        assert_eq!(told, refusal != Refusal::CryptogramMissing, "row {row}");
        // Another token of the same requestor is as free as before.
        let of_free = bench.judge(payment(&free, bad)).unwrap();
        assert_eq!(of_free.verdicts.of(Service::OwnControls), None, "row {row}");
        // So is this one, once they are lifted.
        assert_eq!(bench.control("lift", &token, None), Ok(2));
        assert!(bench.judge(payment(&token, bad)).is_ok(), "row {row}");
    }
}

#[test]
fn a_requestor_s_domains_bound_its_tokens_at_issue_and_in_payments() {
    use TokenDomain::{CardOnFile, InApp, Proximity};
    let domains = |list: &[TokenDomain]| list.iter().copied().collect::<TokenDomains>();
    let mut bench = Bench::with(|config| {
        config.requestors[0].controls.domains = domains(&[Proximity, InApp]);
    });
    let of = |list: &[TokenDomain]| TokenControls { domains: domains(list), ..TokenControls::default() };
    let wanted = |id: &str, list: &[TokenDomain]| {
        let controls = Some(Box::new(of(list)));
        ProvisionRequest { controls, ..wanted(FIRST, id, CREDIT) }
    };
    let refused = Err(ProvisioningRefusal::DomainNotAllowed);
    assert_eq!(bench.provision(wanted("wider", &[Proximity, CardOnFile])), refused);
    let taps_only = bench.provision(wanted("taps", &[Proximity])).unwrap();
    assert_eq!(
        bench.control("wider", &taps_only, Some(of(&[CardOnFile]))).map(|_| ()),
        Err(ProvisioningRefusal::DomainNotAllowed)
    );
    let any = bench.provision(wanted("any", &[])).unwrap();
    let found = |request: DetokenizeRequest| bench.judge(request).map(|_| ());
    let not_there = Err(Refusal::DomainNotAllowed);
    assert_eq!(found(tap(&taps_only, 1)), Ok(()));
    assert_eq!(found(tap(&any, 1)), Ok(()));
    assert_eq!(found(sale(&any, 2, Some(euro(1)))), not_there, "in an app, and no cryptogram");
    let mut in_app = sale(&taps_only, 3, Some(euro(100)));
    with_chip(&mut in_app);
    assert_eq!(found(in_app.clone()), not_there, "not this token's");
    assert_eq!(
        found(DetokenizeRequest { token: any.token, ..in_app }).map_err(|it| it == Refusal::DomainNotAllowed),
        Err(false),
        "only the cryptogram is another token's"
    );
}

#[test]
fn own_controls_only_ever_narrow() {
    let mut bench = Bench::new();
    let controls = TokenControls {
        entry_modes: Some([EntryMode::parse(b"01").unwrap()].into_iter().collect()),
        ..TokenControls::default()
    };
    let token = bench.narrowed(controls);
    for mode in [b"01", b"10"] {
        let request = DetokenizeRequest { entry_mode: EntryMode::parse(mode).ok(), ..sale(&token, 1, None) };
        assert_eq!(bench.judge(request).map(|_| ()), Err(Refusal::EntryModeNotAllowed));
    }
}

#[test]
fn controls_are_versioned_and_bounded_and_survive() {
    use ProvisioningRefusal as R;
    let mut bench = Bench::new();
    let some = || TokenControls { cryptogram_required: true, ..TokenControls::default() };
    let tokens: Vec<TokenView> =
        (0..4).map(|id| bench.provision(wanted(FIRST, &id.to_string(), CREDIT)).unwrap()).collect();
    for (at, token) in tokens.iter().enumerate() {
        let expected = if at < 3 { Ok(2) } else { Err(R::VaultFull) };
        assert_eq!(bench.control(&format!("c{at}"), token, Some(some())), expected);
    }
    assert_eq!(bench.control("same", &tokens[0], Some(some())), Ok(2), "as they are already");
    assert_eq!(bench.control("none", &tokens[0], None), Ok(3));
    assert_eq!(bench.control("room", &tokens[3], Some(some())), Ok(2));
    let bound = TokenControls { velocity: vec![rule(VelocityWindow::Day, Some(128), None)], ..some() };
    assert_eq!(bench.control("bound", &tokens[3], Some(bound)), Ok(3));
    let faulty: [Narrow; 7] = [
        |c| c.countries = vec![Country(1); 33],
        |c| c.velocity = vec![rule(VelocityWindow::Day, Some(1), None); 5],
        |c| c.velocity = vec![rule(VelocityWindow::Day, None, None)],
        |c| c.velocity = vec![rule(VelocityWindow::Hours(745), Some(1), None)],
        |c| c.velocity = vec![rule(VelocityWindow::Day, Some(129), None)],
        |c| (c.from, c.until) = (Some(Wall(5)), Some(Wall(5))),
        |c| c.entry_modes = Some(EntryModes::default()),
    ];
    for (at, fault) in faulty.into_iter().enumerate() {
        let mut controls = TokenControls::default();
        fault(&mut controls);
        let refused = bench.control(&format!("f{at}"), &tokens[1], Some(controls));
        assert_eq!(refused, Err(R::ControlsNotValid), "{at}");
    }
    bench.move_to(FIRST, "gone", tokens[2].reference, Move::Unlink).unwrap();
    assert_eq!(bench.control("late", &tokens[2], None), Err(R::StatusDoesNotAllow));
    for crashed in [false, true] {
        if crashed {
            bench.tsp = bench.recovered(bench.log.len());
        }
        let passes = tokens.iter().map(|token| bench.judge(sale(token, 1, None)).is_ok());
        assert_eq!(passes.collect::<Vec<_>>(), [true, false, false, false]);
    }
}

#[test]
fn velocity_counts_over_a_day_or_the_last_hours() {
    for (window, midnight, later) in [
        (VelocityWindow::Day, true, Ok(())),
        (VelocityWindow::Hours(2), true, Err(Refusal::VelocityCountExceeded)),
        (VelocityWindow::Hours(2), false, Ok(())),
    ] {
        let mut bench = Bench::new();
        let velocity = vec![rule(window, Some(2), None)];
        let token = bench.narrowed(TokenControls { velocity, ..TokenControls::default() });
        // Half an hour before midnight.
        bench.now.wall = Wall(TODAY.0 - TODAY.0 % (24 * HOUR) + 24 * HOUR - HOUR / 2);
        assert_eq!(bench.pays(&token, 1, euro(1)), Ok(()));
        assert_eq!(bench.pays(&token, 2, euro(1)), Ok(()));
        assert_eq!(bench.pays(&token, 3, euro(1)), Err(Refusal::VelocityCountExceeded));
        bench.now.wall.0 += if midnight { HOUR } else { 2 * HOUR };
        assert_eq!(bench.pays(&token, 4, euro(1)), later, "{window:?}");
    }
}

#[test]
fn velocity_sums_amounts_of_its_currency() {
    let mut bench = Bench::new();
    let velocity = vec![
        rule(VelocityWindow::Hours(24), None, Some(euro(100))),
        rule(VelocityWindow::Day, Some(3), None),
    ];
    let token = bench.narrowed(TokenControls { velocity, ..TokenControls::default() });
    for (transaction, amount, expected) in [
        (1, euro(60), Ok(())),
        (2, euro(41), Err(Refusal::VelocityAmountExceeded)),
        (3, yen(1), Err(Refusal::AmountNotAllowed)),
        (4, euro(30), Ok(())),
        (5, euro(10), Ok(())),
        (6, euro(0), Err(Refusal::VelocityCountExceeded)),
    ] {
        assert_eq!(bench.pays(&token, transaction, amount), expected, "{transaction}");
    }
    let refund = DetokenizeRequest { purpose: Purpose::Refund, ..sale(&token, 7, Some(euro(99))) };
    assert!(bench.judge(refund).is_ok(), "a refund is no spending");
}

#[test]
fn a_refusal_counts_nothing_and_no_counter_is_burnt_by_velocity() {
    let mut bench = Bench::new();
    let velocity = vec![rule(VelocityWindow::Day, Some(1), None)];
    let token = bench.narrowed(TokenControls { velocity, ..TokenControls::default() });
    assert_eq!(
        bench.judge(DetokenizeRequest { expiry: None, ..tap(&token, 1) }).map(|_| ()),
        Err(Refusal::ExpiryMissing)
    );
    let found = bench.judge(tap(&token, 1)).unwrap();
    assert_eq!(found.verdicts.of(Service::Velocity), Some(VerdictResult::Good));
    assert_eq!(bench.judge(tap(&token, 2)).map(|_| ()), Err(Refusal::VelocityCountExceeded));
    bench.tsp.detokenizer().give_back(found.record, TransactionId(1));
    assert!(bench.judge(tap(&token, 2)).is_ok(), "its counter is free, and so is the day");
    bench.tsp.detokenizer().give_back(found.record, TransactionId(2));
    assert_eq!(
        bench.judge(DetokenizeRequest { transaction: TransactionId(9), ..tap(&token, 1) }).map(|_| ()),
        Err(Refusal::CryptogramReplayed)
    );
    assert!(bench.judge(tap(&token, 3)).is_ok(), "a replay counts nothing");
}

/// Of many payments at once no more pass than the rule lets.
#[test]
fn concurrent_payments_keep_to_the_rule() {
    let mut bench = Bench::new();
    let velocity = vec![rule(VelocityWindow::Day, Some(7), None)];
    let token = bench.narrowed(TokenControls { velocity, ..TokenControls::default() });
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            let (bench, passed, token) = (&bench, &passed, &token);
            scope.spawn(move || {
                let requests: Vec<_> = (0..500).map(|at| sale(token, thread * 1_000 + at, None)).collect();
                let mut out = Vec::new();
                bench.tsp.detokenizer().detokenize_batch(bench.now, &requests, &mut out);
                passed.fetch_add(out.iter().filter(|found| found.is_ok()).count() as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(passed.into_inner(), 7);
}

/// What becomes of a payment after it was journaled.
#[derive(Debug, Clone, Copy)]
enum After {
    Nothing,
    Ended(Outcome, Option<u64>),
    /// Approved, then reversed, but for so much.
    Reversed(Option<u64>),
    /// No answer came: the outcome itself owes the reversal.
    TimedOut,
    /// No answer came, and it was approved in the issuer's place.
    StoodIn,
}

fn entries_of(
    found: &Detokenized,
    token: &TokenView,
    transaction: u16,
    after: After,
    at: Wall,
) -> Vec<Entry> {
    let mut request = request_entry(token, found);
    request.wall_time = at;
    let Body::Transaction(TransactionEntry::Request(entry)) = &mut request.body else { panic!("a request") };
    entry.transaction = TransactionId(u64::from(transaction));
    entry.elements.keep(4, b"000000000040");
    entry.elements.keep(49, b"978");
    let entry = (**entry).clone();
    let reversal = |left: Option<u64>| {
        let mut elements = entry.elements.clone();
        if let Some(left) = left {
            elements.keep(95, format!("{left:012}000000000000C00000000C00000000").as_bytes());
        }
        StoredEntry {
            transaction: TransactionId(u64::from(transaction) + 500),
            original: Some(entry.transaction),
            kind: if left.is_some() {
                StoredKind::AcquirerReversal
            } else {
                StoredKind::OwnReversal(ReversalReason::TimedOut)
            },
            acquirer: None::<AcquirerLeg>,
            issuer: IssuerLeg { ..entry.issuer },
            elements,
            original_data: None,
            card: std::sync::Arc::<CardRef>::clone(&entry.card),
            verdicts: entry.verdicts,
            window: entry.window,
            settles: true,
            answer: crate::journal::Elements::new(),
        }
    };
    let outcome = |outcome, approved: Option<u64>, reversal| {
        TransactionEntry::Outcome(Box::new(OutcomeEntry {
            transaction: entry.transaction,
            outcome,
            refusal: None,
            answer: crate::journal::Elements::new(),
            approved: approved.map(euro),
            reversal,
            advice: None,
            counter: None,
        }))
    };
    let follow = match after {
        After::Nothing => vec![],
        After::Ended(how, approved) => vec![outcome(how, approved, None)],
        After::Reversed(left) => vec![
            outcome(Outcome::Approved, Some(40), None),
            TransactionEntry::Stored(Box::new(reversal(left))),
        ],
        After::TimedOut => vec![outcome(Outcome::Unknown, None, Some(reversal(None)))],
        After::StoodIn => {
            let mut stood_in = outcome(Outcome::Approved, Some(40), Some(reversal(None)));
            if let TransactionEntry::Outcome(outcome) = &mut stood_in {
                outcome.advice = Some(StoredEntry { kind: StoredKind::StandIn, ..reversal(None) });
            }
            vec![stood_in]
        }
    };
    let follow = follow.into_iter().map(|body| Entry { body: Body::Transaction(body), ..request.clone() });
    std::iter::once(request.clone()).chain(follow).collect()
}

/// Live, after a crash, and from a checkpoint at any entry: what did not come to an approval, or was reversed, counts
/// no more.
#[test]
fn what_came_to_nothing_counts_no_more() {
    for (after, left) in [
        (After::Nothing, 40),
        (After::Ended(Outcome::Approved, Some(40)), 40),
        (After::Ended(Outcome::ApprovedPartly, Some(15)), 15),
        (After::Ended(Outcome::Declined, None), 0),
        (After::Ended(Outcome::RetryLater, None), 0),
        (After::Reversed(None), 0),
        (After::Reversed(Some(25)), 25),
        (After::TimedOut, 0),
        (After::StoodIn, 40),
    ] {
        let mut bench = Bench::new();
        let velocity = vec![rule(VelocityWindow::Day, None, Some(euro(100)))];
        let token = bench.narrowed(TokenControls { velocity, ..TokenControls::default() });
        let found = bench.judge(sale(&token, 1, Some(euro(40)))).unwrap();
        let mut entries = token_entries(&bench);
        entries.extend(entries_of(&found, &token, 1, after, bench.now.wall));
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.number = EntryNumber(at as u64 + 1);
        }
        for entry in &entries {
            if let Body::Transaction(body) = &entry.body
                && !matches!(body, TransactionEntry::Request(_))
            {
                bench.tsp.detokenizer().observe(body, bench.now);
            }
        }
        let check = |bench: &Bench, how: &str| {
            assert_eq!(
                bench.pays(&token, 100, euro(101 - left)),
                Err(Refusal::VelocityAmountExceeded),
                "{after:?} {how}"
            );
            assert_eq!(bench.pays(&token, 101, euro(100 - left)), Ok(()), "{after:?} {how}");
        };
        check(&bench, "live");
        for kind in CheckpointKind::ALL {
            for kept in 0..=entries.len() {
                bench.tsp = restored(&bench, &entries, kept, kind);
                check(&bench, &format!("{kept}"));
            }
        }
        let (_directory, checkpoint) = folded(&bench.config, &entries, CheckpointKind::Redb);
        assert_eq!(checkpoint.count("token-velocity[]"), u64::from(left > 0));
    }
}
