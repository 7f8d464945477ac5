//! An acquirer against an issuer, in virtual time and without a switch between them: what one did to the other
//! is known exactly, so the book, the ledger and their reconciliation can be held to it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::codec::{Dialect, FrameFormat, FrameReader, shipped_dialects};
use crate::stdx::clock::{Moment, Now, Wall};
use crate::stdx::maps::Set;
use crate::vocab::{
    Amount, Bin, Currency, InstitutionId, Mti, NetworkCode, Outcome, PosEntryMode, ProcessingCode,
    ResponseCode, YearMonth,
};

const CONNECTIONS: usize = 3;
const START: Wall = Wall(1_795_348_800_000);

/// Two brains and the frames between them.
struct Pair {
    acquirer: AcquirerSimulator,
    issuer: IssuerSimulator,
    to_issuer: Outbox,
    to_acquirer: Outbox,
    framing: FrameFormat,
    now: Moment,
    heard: Vec<Heard>,
}

fn dialect(name: &str) -> Arc<Dialect> {
    let (name, toml) = shipped_dialects().iter().find(|(shipped, _)| *shipped == name).unwrap();
    Arc::new(Dialect::from_toml(name, toml).unwrap())
}

struct Setup {
    dialect: &'static str,
    framing: FrameFormat,
    patience: Patience,
    habits: Habits,
    issuer_faults: &'static [(&'static str, Fault)],
    acquirer_faults: &'static [(&'static str, Fault)],
    rules: &'static [(&'static str, &'static str)],
    seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dialect: "iso87-ascii",
            framing: FrameFormat::parse("binary-2", 0, 4_000).unwrap(),
            patience: Patience::default(),
            habits: Habits::default(),
            issuer_faults: &[],
            acquirer_faults: &[],
            rules: &[],
            seed: 1,
        }
    }
}

fn plan(seed: u64, faults: &[(&str, Fault)]) -> FaultPlan {
    let rule = |(when, fault): &(&str, Fault)| FaultRule { when: when.parse().unwrap(), fault: *fault };
    FaultPlan::new(seed, faults.iter().map(rule).collect())
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let bins = [Bin::parse(b"476173").unwrap()];
        let cards = test_cards(setup.seed, &bins, 16, YearMonth { year: 2026, month: 11 }, 20);
        let dialect = dialect(setup.dialect);
        let header = vec![0x60; setup.framing.header_length()];
        let acquirer = AcquirerSimulator::new(AcquirerConfig {
            dialect: Arc::clone(&dialect),
            framing: setup.framing,
            header: header.clone(),
            institution: InstitutionId::parse(b"00012345678").unwrap(),
            merchants: test_merchants(setup.seed, 3),
            cards: cards.iter().map(PresentedCard::card).collect(),
            patience: setup.patience,
            habits: setup.habits,
            faults: plan(setup.seed, setup.acquirer_faults),
            seed: setup.seed,
            first_number: 999_990,
        });
        let rule = |(when, code): &(&str, &str)| {
            let code = ResponseCode::parse(code.as_bytes()).unwrap();
            let partly = code.as_str() == "10";
            let answer = if partly { RuledAnswer::Partly(code, 50) } else { RuledAnswer::Decline(code) };
            AnswerRule { when: when.parse().unwrap(), answer }
        };
        let issuer = IssuerSimulator::new(IssuerConfig {
            dialect,
            framing: setup.framing,
            header,
            signs_on: false,
            rules: setup.rules.iter().map(rule).collect(),
            enquiries: Vec::new(),
            faults: plan(setup.seed + 1, setup.issuer_faults),
            think: Duration::ZERO,
            seed: setup.seed + 2,
        });
        let mut pair = Self {
            acquirer: acquirer.unwrap(),
            issuer,
            to_issuer: Outbox::new(),
            to_acquirer: Outbox::new(),
            framing: setup.framing,
            now: Moment(0),
            heard: Vec::new(),
        };
        for connection in 0..CONNECTIONS {
            pair.open(connection);
        }
        pair.run();
        assert_eq!(pair.acquirer.signed_on(), CONNECTIONS);
        pair
    }

    fn now(&self) -> Now {
        Now { moment: self.now, wall: START.plus(self.now.since(Moment(0))) }
    }

    fn open(&mut self, connection: usize) {
        let now = self.now();
        self.acquirer.opened(connection, now, &mut self.to_issuer).unwrap();
        self.issuer.opened(connection, now, &mut self.to_acquirer);
    }

    /// Carries frames to and fro until nobody has anything to say at this moment.
    fn exchange(&mut self) {
        let now = self.now();
        loop {
            self.acquirer.next(now, &mut self.to_issuer).unwrap();
            self.issuer.next(now, &mut self.to_acquirer);
            let mut moved = false;
            for connection in 0..CONNECTIONS {
                let asked = std::mem::take(self.to_issuer.bytes(connection));
                self.frames(&asked, |pair, header, message| {
                    pair.issuer.received(connection, header, message, now, &mut pair.to_acquirer);
                });
                let answered = std::mem::take(self.to_acquirer.bytes(connection));
                self.frames(&answered, |pair, _, message| {
                    let heard = pair.acquirer.received(connection, message, now, &mut pair.to_issuer);
                    pair.heard.push(heard.unwrap());
                });
                moved |= !asked.is_empty() || !answered.is_empty();
                let hang_ups = [&mut self.to_issuer, &mut self.to_acquirer];
                if hang_ups.into_iter().any(|out| out.take_hang_up(connection)) {
                    self.acquirer.closed(connection, &mut self.to_issuer);
                    self.issuer.closed(connection, &mut self.to_acquirer);
                    self.open(connection);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn frames(&mut self, bytes: &[u8], mut each: impl FnMut(&mut Self, &[u8], &[u8])) {
        let mut reader = FrameReader::new(self.framing);
        for piece in bytes.chunks(4_000) {
            reader.spare()[..piece.len()].copy_from_slice(piece);
            reader.filled(piece.len());
            while let Some(frame) = reader.next().unwrap() {
                each(self, frame.header, frame.message);
            }
        }
        assert!(!reader.is_partial(), "a simulator never writes half a frame");
    }

    /// Lets time pass until nobody waits for anything.
    fn run(&mut self) {
        for _ in 0..1_000_000 {
            self.exchange();
            let deadlines = [self.acquirer.deadline(), self.issuer.deadline()];
            match deadlines.into_iter().flatten().min() {
                Some(deadline) => self.now = self.now.max(deadline),
                None => return,
            }
        }
        panic!("they never come to rest");
    }

    fn load(&mut self, pace: Pace, total: u64) {
        let load = Load {
            pace,
            total: Some(total),
            mti: Mti::parse(b"0200").unwrap(),
            processing: ProcessingCode::parse(b"000000").unwrap(),
            entry_mode: PosEntryMode::parse(b"071").unwrap(),
            amounts: 1_000..=1_999,
            currency: Currency::from_letters("EUR").unwrap(),
        };
        self.acquirer.start_load(load, self.now());
        self.run();
        assert!(self.acquirer.load_is_over());
    }

    fn pay(&mut self, mti: &str, minor: u64, original: Option<PaymentNumber>) -> PaymentNumber {
        let payment = Payment {
            mti: Mti::parse(mti.as_bytes()).unwrap(),
            card: 0,
            merchant: 0,
            processing: ProcessingCode::parse(b"000000").unwrap(),
            amount: Amount::new(minor, Currency::from_letters("EUR").unwrap()),
            entry_mode: PosEntryMode::parse(b"101").unwrap(),
            original: original.map(|payment| Earlier { payment, by: NamedBy::Rrn }),
            remote: None,
        };
        let number = self.acquirer.pay(payment, self.now(), &mut self.to_issuer).unwrap();
        self.exchange();
        number
    }

    fn differences(&self) -> Vec<Difference> {
        reconcile(self.acquirer.records(), self.issuer.ledger().records())
    }

    fn standing(&self, number: PaymentNumber) -> Standing {
        self.acquirer.book().payment(number).unwrap().standing()
    }

    fn mismatches(&self) -> Vec<(&'static str, u64)> {
        self.acquirer.report().mismatches_by_name().to_vec()
    }
}

#[test]
fn every_dialect_and_framing_gets_every_payment_approved_once() {
    for (dialect, _) in shipped_dialects() {
        for (length, header) in [("binary-2", 0), ("binary-2-inclusive", 5), ("ascii-4", 0)] {
            for pace in [Pace::Open { per_second: 10_000 }, Pace::Closed { outstanding: 4 }] {
                let framing = FrameFormat::parse(length, header, 4_000).unwrap();
                let mut pair = Pair::new(Setup { dialect, framing, ..Setup::default() });
                pair.load(pace, 500);
                let report = pair.acquirer.report();
                assert_eq!(
                    (report.sent, report.approved, report.unanswered, pair.mismatches()),
                    (500, 500, 0, vec![]),
                    "{dialect} {length} {pace:?}"
                );
                assert_eq!(pair.issuer.ledger().totals().approved, 500);
                assert_eq!(pair.differences(), [], "{dialect} {length} {pace:?}");
            }
        }
    }
}

#[test]
fn reconciliation_finds_exactly_the_answers_that_were_lost() {
    const FAULTS: &[(&str, Fault)] = &[
        ("mti=0200,ends=3", Fault::Drop),
        ("mti=0200,ends=4", Fault::Ignore),
        ("mti=0200,ends=5", Fault::HangUp),
        ("mti=0200,ends=17", Fault::Drop),
        ("mti=0200,ends=6", Fault::Delay(Duration::from_secs(5))),
    ];
    for seed in 0..20 {
        let patience = Patience { reverses: false, ..Patience::default() };
        let mut pair = Pair::new(Setup {
            seed,
            patience,
            rules: &[("ends=7", "51")],
            issuer_faults: FAULTS,
            ..Setup::default()
        });
        pair.load(Pace::Open { per_second: 1_000 }, 300);
        let injected: Set<_> = pair
            .acquirer
            .book()
            .payments()
            .iter()
            .filter(|entry| matches!(entry.payment.amount.minor() % 10, 3 | 5))
            .map(|entry| (entry.rrn, DifferenceKind::NeverTold { ledger: entry.payment.amount.minor() }))
            .map(|(rrn, kind)| (rrn, format!("{kind}")))
            .collect();
        let found: Set<_> = pair.differences().iter().map(|d| (d.rrn, format!("{}", d.kind))).collect();
        // A hang-up also takes the delayed answers of its connection with it.
        let extra: Vec<_> = found.difference(&injected).collect();
        let delayed = |rrn: &crate::vocab::Rrn| {
            let payments = pair.acquirer.book().payments();
            payments.iter().any(|e| e.rrn == *rrn && e.payment.amount.minor() % 10 == 6)
        };
        assert!(extra.iter().all(|(rrn, _)| delayed(rrn)), "seed {seed}: {extra:?}");
        assert_eq!(injected.difference(&found).count(), 0, "seed {seed}");
        assert!(!injected.is_empty() && pair.mismatches().is_empty(), "seed {seed}");
    }
}

#[test]
fn an_acquirer_that_repeats_and_reverses_ends_even_whatever_is_lost() {
    const FAULTS: &[(&str, Fault)] = &[
        ("odds=1/15", Fault::Drop),
        ("odds=1/15", Fault::Ignore),
        ("odds=1/60", Fault::HangUp),
        ("odds=1/15", Fault::Delay(Duration::from_secs(3))),
    ];
    for seed in 0..20 {
        let patience = Patience {
            repeats: 2,
            reversal_repeats: 200,
            answer: Duration::from_secs(2),
            ..Patience::default()
        };
        let mut pair = Pair::new(Setup {
            seed,
            patience,
            habits: Habits { reverse_one_in: Some(10), repeat_one_in: Some(10) },
            rules: &[("ends=7", "51"), ("ends=18", "10")],
            issuer_faults: FAULTS,
            acquirer_faults: &[("odds=1/30", Fault::Drop), ("odds=1/60", Fault::HangUp)],
            ..Setup::default()
        });
        pair.load(Pace::Open { per_second: 500 }, 400);
        assert_eq!(pair.differences(), [], "seed {seed}");
        assert_eq!(pair.acquirer.outstanding(), 0, "seed {seed}");
        let (book, cards) = (pair.acquirer.book(), pair.acquirer.cards());
        let told = book.payments().iter().map(|entry| entry.to_json(book.acquirer(), cards));
        let charged = pair.issuer.ledger().entries().iter().map(LedgerEntry::to_json);
        let read = |line: serde_json::Value| Record::from_json(&line).unwrap();
        assert_eq!(reconcile(told.map(read), charged.map(read)), [], "seed {seed}, as written to files");
        let report = pair.acquirer.report();
        assert!(report.repeats > 0 && report.reversals > 0, "seed {seed}: {report}");
        assert_eq!(report.reversals, report.reversals_acknowledged, "seed {seed}");
    }
}

#[test]
fn a_duplicated_or_garbled_answer_is_noticed() {
    let faults = &[("mti=0200,ends=3", Fault::Duplicate)];
    let mut pair = Pair::new(Setup { issuer_faults: faults, ..Setup::default() });
    pair.load(Pace::Closed { outstanding: 2 }, 100);
    let threes =
        pair.acquirer.book().payments().iter().filter(|e| e.payment.amount.minor() % 10 == 3).count();
    assert_eq!(pair.mismatches(), [("answered twice", u64::try_from(threes).unwrap())]);

    let faults = &[("mti=0200,ends=3", Fault::Garble)];
    let mut pair = Pair::new(Setup { issuer_faults: faults, ..Setup::default() });
    pair.load(Pace::Closed { outstanding: 2 }, 500);
    assert!(pair.acquirer.report().mismatches() > 0);
    // What could not be believed was reversed or stands as told; a changed amount is named.
    assert!(
        pair.differences().iter().all(|d| matches!(
            d.kind,
            DifferenceKind::AmountDiffers { .. } | DifferenceKind::StillCharged { .. }
        )),
        "{:?}",
        pair.differences()
    );
}

#[test]
fn the_life_of_single_payments() {
    let mut pair = Pair::new(Setup { rules: &[("ends=51", "51"), ("ends=10", "10")], ..Setup::default() });
    let hold = pair.pay("0100", 5_000, None);
    assert_eq!(pair.standing(hold), Standing::Money(5_000));
    let completion = pair.pay("0220", 4_200, Some(hold));
    assert_eq!((pair.standing(hold), pair.standing(completion)), (Standing::Nothing, Standing::Money(4_200)));
    let declined = pair.pay("0200", 51, None);
    assert_eq!(pair.standing(declined), Standing::Nothing);
    let partly = pair.pay("0200", 110, None);
    assert_eq!(pair.standing(partly), Standing::Money(55));
    let reversed = pair.pay("0200", 800, None);
    let (now, out) = (pair.now(), &mut pair.to_issuer);
    pair.acquirer.reverse(reversed, None, now, out).unwrap();
    pair.exchange();
    assert_eq!(pair.standing(reversed), Standing::Nothing);
    let reduced = pair.pay("0200", 900, None);
    let (now, out) = (pair.now(), &mut pair.to_issuer);
    pair.acquirer.reverse(reduced, Some(300), now, out).unwrap();
    pair.acquirer.repeat(hold, now, out).unwrap();
    pair.exchange();
    assert_eq!(pair.standing(reduced), Standing::Money(300));
    assert_eq!(pair.acquirer.book().payment(hold).unwrap().answers, 2);
    assert_eq!((pair.differences(), pair.mismatches()), (vec![], vec![]));
}

#[test]
fn network_messages_are_answered() {
    let mut pair = Pair::new(Setup::default());
    let now = pair.now();
    pair.heard.clear();
    pair.acquirer.manage(1, NetworkCode::ECHO, now, &mut pair.to_issuer).unwrap();
    pair.issuer.manage(2, NetworkCode::ECHO, now, &mut pair.to_acquirer);
    pair.acquirer.manage(0, NetworkCode::SIGN_OFF, now, &mut pair.to_issuer).unwrap();
    pair.exchange();
    for heard in [
        Heard::Managed(NetworkCode::ECHO, Outcome::Approved),
        Heard::Asked,
        Heard::Managed(NetworkCode::SIGN_OFF, Outcome::Approved),
    ] {
        assert!(pair.heard.contains(&heard), "{heard:?} in {:?}", pair.heard);
    }
    assert_eq!(pair.acquirer.signed_on(), CONNECTIONS - 1);
}

#[test]
fn a_stall_shows_in_the_percentiles_of_an_open_loop() {
    let mut pair = Pair::new(Setup::default());
    let load = Load {
        pace: Pace::Open { per_second: 1_000 },
        total: Some(1_000),
        mti: Mti::parse(b"0200").unwrap(),
        processing: ProcessingCode::parse(b"000000").unwrap(),
        entry_mode: PosEntryMode::parse(b"101").unwrap(),
        amounts: 5..=5,
        currency: Currency::from_letters("EUR").unwrap(),
    };
    pair.acquirer.start_load(load, pair.now());
    pair.exchange();
    // Nobody runs for half a second; then everything is answered at once.
    pair.now = pair.now.plus(Duration::from_millis(500));
    pair.run();
    let report = pair.acquirer.report();
    assert_eq!(report.answered, 1_000);
    let p75 = report.latency_at(0.75);
    assert!(p75 >= Duration::from_millis(240), "a quarter waited at least half of the stall, not {p75:?}");
}

#[test]
fn the_same_seed_gives_the_same_book() {
    let lines = |seed| {
        let mut pair = Pair::new(Setup {
            seed,
            issuer_faults: &[("mti=0200,odds=1/5", Fault::Drop)],
            habits: Habits { reverse_one_in: Some(4), repeat_one_in: Some(4) },
            ..Setup::default()
        });
        pair.load(Pace::Closed { outstanding: 3 }, 200);
        let line = |entry: &BookEntry| entry.to_json(pair.acquirer.book().acquirer(), pair.acquirer.cards());
        pair.acquirer.book().payments().iter().map(|entry| line(entry).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(lines(3), lines(3));
    assert_ne!(lines(3), lines(4));
}
