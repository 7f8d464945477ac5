//! Payments that a merchant initiates: each control with each thing that a payment may say, and what the issuer hears.

use super::*;
use crate::vocab::{Initiator, Initiators, Refusal, Rrn, Service, TokenDomain, VerdictResult};

const CREDIT: &[u8] = b"4761739001010119";

/// What a payment says of its original, by what the vault has.
#[derive(Debug, Clone, Copy)]
enum Says {
    Nothing,
    Customer,
    Merchant,
    Named,
    NotFound,
    /// Paid with the token itself.
    Own,
    /// With another one of this requestor for this card.
    Sister,
    /// With one of another requestor, or for another card.
    Strangers,
    OtherCards,
}

struct World {
    bench: Bench,
    token: TokenView,
    sister: TokenReferenceId,
}

impl World {
    /// `narrow` is what the requestor's tokens are held to, `own` what this one is.
    fn new(narrow: fn(&mut DomainControls), own: fn(&mut TokenControls)) -> Self {
        let mut bench = Bench::with(|config| narrow(&mut config.requestors[0].controls));
        let mut controls = TokenControls::default();
        own(&mut controls);
        let controls = (controls != TokenControls::default()).then(|| Box::new(controls));
        let token = bench.provision(ProvisionRequest { controls, ..wanted(FIRST, "own", CREDIT) }).unwrap();
        let sister = bench.provision(wanted(FIRST, "sister", CREDIT)).unwrap().reference;
        bench.provision(wanted(SECOND, "stranger", CREDIT)).unwrap();
        bench.provision(wanted(FIRST, "other", b"4761739001010010")).unwrap();
        Self { bench, token, sister }
    }

    fn pays(&self, says: Says, change: fn(&mut DetokenizeRequest)) -> Result<Detokenized, Refusal> {
        let approved = |record| Some(NamedOriginal::Approved { record });
        let original = match says {
            Says::Nothing => None,
            Says::Customer | Says::Merchant => Some(NamedOriginal::Unnamed),
            Says::Named => Rrn::parse(b"632704815162").ok().map(NamedOriginal::Named),
            Says::NotFound => Some(NamedOriginal::NotFound),
            Says::Own => approved(0),
            Says::Sister => approved(1),
            Says::Strangers => approved(2),
            Says::OtherCards => approved(3),
        };
        let by = if matches!(says, Says::Customer) { Initiator::Customer } else { Initiator::Merchant };
        let mut request = DetokenizeRequest {
            entry_mode: EntryMode::parse(b"10").ok(),
            chip: None,
            initiation: original.map(|original| Initiation { by, original }),
            ..tap(&self.token, 1)
        };
        change(&mut request);
        let mut out = Vec::new();
        self.bench.tsp.detokenizer().detokenize_batch(self.bench.now, &[request], &mut out);
        out.remove(0)
    }
}

const EVERYTHING: [Says; 9] = [
    Says::Nothing,
    Says::Customer,
    Says::Merchant,
    Says::Named,
    Says::NotFound,
    Says::Own,
    Says::Sister,
    Says::Strangers,
    Says::OtherCards,
];

type Found = Result<Option<VerdictResult>, Refusal>;

const GOOD: Found = Ok(Some(VerdictResult::Good));
const BAD: Found = Ok(Some(VerdictResult::Bad));
const NONE: Found = Ok(Some(VerdictResult::Absent));
const UNSEEN: Found = Ok(Some(VerdictResult::NotVerified));
const UNSAID: Found = Ok(None);
const FORBIDDEN: Found = Err(Refusal::InitiatorNotAllowed);
const MISSING: Found = Err(Refusal::OriginalMissing);
const NOT_APPROVED: Found = Err(Refusal::OriginalNotApproved);
const UNSIGNED: Found = Err(Refusal::CryptogramMissing);
const ELSEWHERE: Found = Err(Refusal::DomainNotAllowed);

type Row = (fn(&mut DomainControls), fn(&mut TokenControls), [Found; EVERYTHING.len()]);

/// Of a requestor, of the token itself, and what becomes of each payment without a cryptogram.
#[rustfmt::skip]
const TABLE: [Row; 11] = [
    (|_| (), |_| (),
        [UNSAID, GOOD, NONE, UNSEEN, BAD, GOOD, GOOD, BAD, BAD]),
    (|d| d.initiation.initiators = Initiators::Customer, |_| (),
        [UNSAID, GOOD, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN]),
    (|_| (), |o| o.initiation.initiators = Initiators::Merchant,
        [FORBIDDEN, FORBIDDEN, NONE, UNSEEN, BAD, GOOD, GOOD, BAD, BAD]),
    (|d| d.initiation.initiators = Initiators::Both, |o| o.initiation.initiators = Initiators::Customer,
        [UNSAID, GOOD, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN]),
    (|d| d.initiation.original_required = true, |_| (),
        [UNSAID, GOOD, MISSING, NOT_APPROVED, NOT_APPROVED, GOOD, GOOD, NOT_APPROVED, NOT_APPROVED]),
    (|_| (), |o| o.initiation.original_required = true,
        [UNSAID, GOOD, MISSING, NOT_APPROVED, NOT_APPROVED, GOOD, GOOD, NOT_APPROVED, NOT_APPROVED]),
    // What is not stated frees nobody of a cryptogram.
    (|d| d.cryptogram_required = true, |_| (), [UNSIGNED; 9]),
    (|d| { d.cryptogram_required = true; d.initiation.initiators = Initiators::Both; }, |_| (),
        [UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, GOOD, GOOD, UNSIGNED, UNSIGNED]),
    // Nor does a token free itself of what its requestor's all need, or the other way round.
    (|d| d.cryptogram_required = true, |o| o.initiation.initiators = Initiators::Both, [UNSIGNED; 9]),
    (|d| d.initiation.initiators = Initiators::Both, |o| o.cryptogram_required = true, [UNSIGNED; 9]),
    (|d| {
        d.entry_modes = [EntryMode::parse(b"10").unwrap()].into_iter().collect();
        d.domains = [TokenDomain::InApp].into_iter().collect();
        d.initiation.initiators = Initiators::Both;
    }, |_| (), [ELSEWHERE, ELSEWHERE, ELSEWHERE, ELSEWHERE, ELSEWHERE, GOOD, GOOD, ELSEWHERE, ELSEWHERE]),
];

#[test]
fn each_control_lets_what_it_lets_and_the_issuer_is_told() {
    for (row, (narrow, own, expected)) in TABLE.into_iter().enumerate() {
        let world = World::new(narrow, own);
        for (says, expected) in EVERYTHING.into_iter().zip(expected) {
            let found = world.pays(says, |_| ());
            let verdict = found.map(|found| found.verdicts.of(Service::Initiation));
            assert_eq!(verdict, expected, "row {row}, {says:?}");
            // What has happened is told, not refused.
            let told = world.pays(says, |request| request.purpose = Purpose::PastEvent).unwrap();
            let forbidden = matches!(
                expected,
                Err(Refusal::InitiatorNotAllowed | Refusal::OriginalMissing | Refusal::OriginalNotApproved)
            );
            if forbidden {
                assert_eq!(
                    told.verdicts.of(Service::Initiation),
                    Some(VerdictResult::Bad),
                    "row {row}, {says:?}"
                );
            }
        }
    }
}

#[test]
fn a_chip_signs_whoever_initiates() {
    let world = World::new(|d| d.initiation.initiators = Initiators::Both, |_| ());
    let entered = |request: &mut DetokenizeRequest| request.entry_mode = Some(EntryMode::CONTACTLESS_CHIP);
    assert_eq!(world.pays(Says::Own, entered).map(|_| ()), Err(Refusal::CryptogramMissing));
}

#[test]
fn money_goes_back_whoever_may_initiate_payments() {
    let world = World::new(
        |_| (),
        |o| {
            o.initiation = InitiationControls { initiators: Initiators::Merchant, original_required: true };
        },
    );
    for says in EVERYTHING {
        let found = world.pays(says, |request| request.purpose = Purpose::Refund).unwrap();
        assert_eq!(found.verdicts.of(Service::Initiation), None, "{says:?}");
    }
}

#[test]
fn an_original_stays_good_whatever_becomes_of_its_token() {
    let mut world = World::new(|d| d.initiation.original_required = true, |_| ());
    let sister = world.sister;
    for asked in [Move::Suspend(Suspender::Cardholder), Move::Unlink] {
        world.bench.move_to(FIRST, &format!("{asked:?}"), sister, asked).unwrap();
        let found = world.pays(Says::Sister, |_| ()).unwrap();
        assert_eq!(found.verdicts.of(Service::Initiation), Some(VerdictResult::Good), "{asked:?}");
    }
    // The token that pays must be good itself, and is the same after a restart.
    let again = world.bench.recovered(world.bench.log.len());
    world.bench.tsp = again;
    assert!(world.pays(Says::Sister, |_| ()).is_ok());
    assert_eq!(world.pays(Says::Merchant, |_| ()).map(|_| ()), Err(Refusal::OriginalMissing));
    let reference = world.token.reference;
    world.bench.move_to(FIRST, "hold", reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    assert_eq!(world.pays(Says::Own, |_| ()).map(|_| ()), Err(Refusal::TokenSuspended));
}
