//! Cryptograms for one payment where nobody taps: made once, good once, for what they were made for.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checkpoint::{restored, token_entries};
use super::service::request_entry;
use super::*;
use crate::journal::{CheckpointKind, EntryNumber};
use crate::vocab::{
    Amount, CounterSeries, Currency, Initiator, Refusal, RemoteCryptogram, Service, VerdictResult, Verdicts,
};

fn euro(minor: u64) -> Amount {
    Amount::new(minor, Currency::parse(b"978").unwrap())
}

fn shop(id: &[u8]) -> Merchant {
    Merchant { acquirer: LinkId(1), id: MerchantId::parse(id).unwrap() }
}

pub(super) fn wanted_for(token: &TokenView, id: &str, minor: u64) -> CryptogramRequest {
    let asker = asker(token.requestor.as_bytes(), id);
    let (reference, merchant, amount) = (token.reference, shop(b"SHOP1"), euro(minor));
    CryptogramRequest { asker, reference, merchant, amount, initiator: Initiator::Customer }
}

pub(super) fn made(
    bench: &mut Bench,
    request: CryptogramRequest,
) -> Result<CryptogramView, ProvisioningRefusal> {
    let answer = bench.ask(|call| Command::Cryptogram { call, request: Box::new(request) });
    answer.map(|told| match told {
        Told::Cryptogram(made) => *made,
        other => panic!("{other:?}"),
    })
}

/// How a payment differs from what its cryptogram was made for.
type Change = fn(&mut DetokenizeRequest);

/// A payment of ten euros in the shop's app.
fn in_app(token: &TokenView, remote: RemoteCryptogram) -> DetokenizeRequest {
    DetokenizeRequest {
        entry_mode: EntryMode::parse(b"10").ok(),
        chip: None,
        remote: Some(remote),
        amount: Some(euro(1_000)),
        ..tap(token, 1)
    }
}

fn paid(tsp: &Tsp, now: Now, request: DetokenizeRequest) -> Result<Detokenized, Refusal> {
    let mut out = Vec::new();
    tsp.detokenizer().detokenize_batch(now, &[request], &mut out);
    out.pop().unwrap()
}

fn issued(bench: &mut Bench) -> (TokenView, RemoteCryptogram) {
    let token = bench.provision(wanted(SECOND, "issue", b"4761739001010119")).unwrap();
    let made = made(bench, wanted_for(&token, "pay", 1_000)).unwrap();
    assert_eq!((made.token, made.expiry, made.reference), (token.token, token.expiry, token.reference));
    assert_eq!(made.until.0, TODAY.0 + 900_000);
    (token, made.cryptogram)
}

#[test]
fn a_request_gets_its_cryptogram_however_often_it_asks_and_another_gets_another() {
    let mut bench = Bench::new();
    let (token, first) = issued(&mut bench);
    let request = wanted_for(&token, "pay", 1_000);
    bench.now.wall.0 += 60_000;
    assert_eq!(made(&mut bench, request).unwrap().cryptogram, first, "as it was told then");
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(made(&mut bench, request).unwrap().cryptogram, first, "also after a crash");
    let second = made(&mut bench, wanted_for(&token, "pay-2", 1_000)).unwrap().cryptogram;
    assert_eq!((first.number(), second.number()), (1, 2));
    let changes: [fn(&mut CryptogramRequest); 3] =
        [|r| r.amount = euro(1_001), |r| r.merchant = shop(b"SHOP2"), |r| r.merchant.acquirer = LinkId(2)];
    for change in changes {
        let mut other = request;
        change(&mut other);
        assert_eq!(made(&mut bench, other), Err(ProvisioningRefusal::RequestIdReused));
    }
}

#[test]
fn only_a_good_token_of_the_asker_gets_one() {
    let mut bench = Bench::new();
    let (token, _) = issued(&mut bench);
    let mut another = wanted_for(&token, "1", 1_000);
    another.asker = asker(FIRST, "1");
    assert_eq!(made(&mut bench, another), Err(ProvisioningRefusal::UnknownToken));
    let too_much = wanted_for(&token, "2", 1_000_000_000_000);
    assert_eq!(made(&mut bench, too_much), Err(ProvisioningRefusal::AmountNotValid));
    bench.move_to(SECOND, "3", token.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    let suspended = made(&mut bench, wanted_for(&token, "4", 1_000));
    assert_eq!(suspended, Err(ProvisioningRefusal::StatusDoesNotAllow));
    bench.now.wall.0 += 4 * 366 * 86_400_000;
    let expired = made(&mut bench, wanted_for(&token, "5", 1_000));
    assert_eq!(expired, Err(ProvisioningRefusal::TokenExpired));
}

#[test]
fn it_pays_what_it_was_made_for_and_nothing_else() {
    use Refusal as R;
    let changes: [(Change, Option<R>); 12] = [
        (|_| (), None),
        (|r| r.amount = Some(euro(999)), None),
        (|r| r.merchant = MerchantId::parse(b"SHOP1").ok(), None),
        (|r| r.amount = Some(euro(1_001)), Some(R::ChipAmountDiffers)),
        (|r| r.amount = Some(Amount::new(1_000, Currency::parse(b"840").unwrap())), Some(R::CryptogramWrong)),
        (|r| r.amount = None, Some(R::CryptogramWrong)),
        (|r| r.merchant = MerchantId::parse(b"SHOP2").ok(), Some(R::CryptogramWrong)),
        (|r| r.acquirer = LinkId(2), Some(R::CryptogramWrong)),
        (|r| r.remote = r.remote.map(|it| it.signed([0; 8])), Some(R::CryptogramWrong)),
        (
            |r| {
                let dearer = |it: RemoteCryptogram| {
                    let head = RemoteCryptogram::unsigned(it.until(), it.number(), it.minor() + 1);
                    head.map(|head| head.signed(it.mac()))
                };
                r.remote = r.remote.and_then(dearer);
            },
            Some(R::CryptogramWrong),
        ),
        (|r| r.entry_mode = Some(EntryMode::CONTACTLESS_CHIP), Some(R::CryptogramMissing)),
        (|r| r.entry_mode = EntryMode::parse(b"01").ok(), Some(R::EntryModeNotAllowed)),
    ];
    for (at, (change, refusal)) in changes.into_iter().enumerate() {
        // Its requestor's tokens may pay anywhere: only the cryptogram is bound.
        let mut bench = Bench::with(|config| config.requestors[1].controls.merchants.clear());
        let (token, cryptogram) = issued(&mut bench);
        let mut request = in_app(&token, cryptogram);
        change(&mut request);
        let found = paid(&bench.tsp, bench.now, request).map(|found| found.counter.map(|taken| taken.atc));
        assert_eq!(found, refusal.map_or(Ok(Some(1)), Err), "row {at}");
        let good = paid(&bench.tsp, bench.now, in_app(&token, cryptogram));
        let expected = if refusal.is_some() { Ok(()) } else { Err(R::CryptogramReplayed) };
        assert_eq!(good.map(|_| ()), expected, "row {at}: what is refused burns nothing");
    }
}

#[test]
fn another_tokens_cryptogram_is_none() {
    let mut bench = Bench::new();
    let (_, cryptogram) = issued(&mut bench);
    let other = bench.provision(wanted(SECOND, "other", b"4761739001010119")).unwrap();
    let answer = paid(&bench.tsp, bench.now, in_app(&other, cryptogram));
    assert_eq!(answer.map(|_| ()), Err(Refusal::CryptogramWrong));
}

#[test]
fn it_is_good_once_and_for_a_while_and_the_issuer_hears_which() {
    let mut bench = Bench::new();
    let (token, cryptogram) = issued(&mut bench);
    let request = in_app(&token, cryptogram);
    let late = Now { wall: cryptogram.until(), ..bench.now };
    let answer = paid(&bench.tsp, late, request.clone());
    assert_eq!(answer.map(|_| ()), Err(Refusal::CryptogramExpired));
    let in_time = Now { wall: Wall(late.wall.0 - 1), ..late };
    let found = paid(&bench.tsp, in_time, request.clone()).unwrap();
    let taken = found.counter.unwrap();
    assert_eq!((taken.series, taken.atc), (CounterSeries::Remote, 1));
    let said = |verdicts: &Verdicts| (verdicts.of(Service::Cryptogram), verdicts.of(Service::ChipAmount));
    assert_eq!(said(&found.verdicts), (Some(VerdictResult::Good), Some(VerdictResult::Good)));
    let again = paid(&bench.tsp, in_time, request.clone());
    assert_eq!(again.map(|_| ()), Err(Refusal::CryptogramReplayed));
    // A tap of the same token has a counter of its own.
    assert!(paid(&bench.tsp, in_time, tap(&token, 1)).is_ok());
    let second = made(&mut bench, wanted_for(&token, "pay-2", 1_000)).unwrap().cryptogram;
    let past = |remote| DetokenizeRequest { purpose: Purpose::PastEvent, ..in_app(&token, remote) };
    for (remote, expected) in [
        (cryptogram, VerdictResult::Replayed),
        (second, VerdictResult::Late),
        (second.signed([0; 8]), VerdictResult::Bad),
    ] {
        let found = paid(&bench.tsp, Now { wall: second.until(), ..bench.now }, past(remote)).unwrap();
        assert_eq!((said(&found.verdicts).0, found.counter), (Some(expected), None));
    }
}

#[test]
fn what_was_paid_stays_paid_over_a_restart_at_any_entry_and_a_checkpoint() {
    let mut bench = Bench::new();
    let (token, first) = issued(&mut bench);
    let second = made(&mut bench, wanted_for(&token, "pay-2", 1_000)).unwrap().cryptogram;
    let mut entries = token_entries(&bench);
    let found = paid(&bench.tsp, bench.now, in_app(&token, second)).unwrap();
    let mut request = request_entry(&token, &found);
    request.number = EntryNumber(entries.len() as u64 + 1);
    entries.push(request);
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            let mut tsp = restored(&bench, &entries, kept, kind);
            let answers =
                [second, first].map(|remote| paid(&tsp, bench.now, in_app(&token, remote)).map(|_| ()));
            assert_eq!(answers, [Err(Refusal::CryptogramReplayed), Ok(())], "{kept}");
            std::mem::swap(&mut bench.tsp, &mut tsp);
            assert_eq!(
                made(&mut bench, wanted_for(&token, "pay", 1_000)).unwrap().cryptogram,
                first,
                "{kept}"
            );
            let third = made(&mut bench, wanted_for(&token, "pay-3", 1_000)).unwrap().cryptogram;
            assert_eq!(third.number(), 3, "{kept}");
        }
    }
}

#[test]
fn of_concurrent_payments_with_one_cryptogram_one_passes() {
    let mut bench = Bench::new();
    let (token, cryptogram) = issued(&mut bench);
    let (barrier, passed) = (Barrier::new(8), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let requests = vec![in_app(&token, cryptogram); 50];
                let mut out = Vec::new();
                barrier.wait();
                bench.tsp.detokenizer().detokenize_batch(bench.now, &requests, &mut out);
                passed.fetch_add(out.iter().filter(|answer| answer.is_ok()).count(), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(passed.into_inner(), 1);
}

#[test]
fn they_come_in_any_order_within_sight_and_once_more_when_not_forwarded() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(SECOND, "issue", b"4761739001010119")).unwrap();
    let mut all = Vec::new();
    for at in 0..70 {
        all.push(made(&mut bench, wanted_for(&token, &format!("pay-{at}"), 1_000)).unwrap().cryptogram);
    }
    let pay = |at: usize| paid(&bench.tsp, bench.now, in_app(&token, all[at]));
    let last = pay(69).unwrap();
    assert_eq!(pay(5).map(|_| ()), Err(Refusal::CounterOutOfRange), "more than 63 came after it");
    assert!(pay(6).is_ok() && pay(40).is_ok());
    let request = in_app(&token, all[69]);
    bench.tsp.detokenizer().release(last.record, last.counter.unwrap(), request.presentation(), bench.now);
    assert!(pay(69).is_ok());
    assert_eq!(pay(69).map(|_| ()), Err(Refusal::CryptogramReplayed));
}
