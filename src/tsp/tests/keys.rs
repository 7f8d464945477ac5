//! Keys that leave, wrapped for one device: a token's card key, and limited-use keys, which pay a few times, for a
//! while, and not once their token was held.

use proptest::prelude::*;
use serde_json::Value;

use super::checkpoint::{restored, token_entries};
use super::service::request_entry;
use super::*;
use crate::crypto::{CardKey, CryptogramProfile, MessageKeys};
use crate::journal::{CheckpointKind, EntryNumber};
use crate::vocab::{AtcRange, CounterSeries, IssuerData, Refusal, Service, VerdictResult};

const PAN: &[u8] = b"4761739001010119";
const DEVICE: u8 = 7;

/// The device with a private key of these bytes.
fn device(byte: u8) -> MessageKeys {
    MessageKeys::of_device(&[byte; 32]).unwrap()
}

pub(super) fn wanted_by(token: &TokenView, id: &str, kind: KeyKind, byte: u8) -> KeyRequest {
    let asker = asker(token.requestor.as_bytes(), id);
    KeyRequest { asker, reference: token.reference, kind, device: device(byte).newest().unwrap().point() }
}

pub(super) fn given(bench: &mut Bench, request: KeyRequest) -> Result<KeyView, ProvisioningRefusal> {
    let answer = bench.ask(|call| Command::Key { call, request: Box::new(request) });
    answer.map(|told| match told {
        Told::Key(view) => *view,
        other => panic!("{other:?}"),
    })
}

fn limited(bench: &mut Bench, token: &TokenView, id: &str) -> LimitedKey {
    given(bench, wanted_by(token, id, KeyKind::Limited, DEVICE)).unwrap().key.limited.unwrap()
}

/// What the device finds in the message.
fn opened(bench: &Bench, view: &KeyView) -> (Value, CardKey) {
    let wrapped = bench.tsp.keys.wrapped(view, &mut Entropy::seeded(3)).unwrap();
    assert!(device(DEVICE + 1).open(&wrapped.message, Wall(0)).is_err(), "for its device alone");
    let clear = device(DEVICE).open(&wrapped.message, Wall(0)).unwrap();
    let told: Value = serde_json::from_slice(&clear).unwrap();
    let profile = CryptogramProfile::named(told["profile"].as_str().unwrap()).unwrap();
    let bytes = |name: &str| hex::decode(told[name].as_str().unwrap()).unwrap();
    let issuer_data = IssuerData::parse(&bytes("issuerApplicationData")).unwrap();
    let key = CardKey::personalised(profile, issuer_data, &bytes("key").try_into().unwrap());
    (told, key)
}

/// A tap of a phone with this key.
fn tap_by(key: &CardKey, token: &TokenView, atc: u16) -> DetokenizeRequest {
    let mut chip = ChipPayment { counter: atc.to_be_bytes(), ..ChipPayment::sample() };
    key.sign(&mut chip);
    DetokenizeRequest { chip: Some(chip), ..tap(token, atc) }
}

/// A tap with the limited-use key of this range.
fn tap_within(token: &TokenView, range: AtcRange, atc: u16) -> DetokenizeRequest {
    let keys = TokenKeys::resolve(&config::sample(), &SecurityModule::sample().unwrap()).unwrap();
    tap_by(&keys.card_key(&token.token).unwrap().limited(range), token, atc)
}

fn paid(tsp: &Tsp, now: Now, request: DetokenizeRequest) -> Result<Detokenized, Refusal> {
    let mut out = Vec::new();
    tsp.detokenizer().detokenize_batch(now, &[request], &mut out);
    out.pop().unwrap()
}

fn refused(tsp: &Tsp, now: Now, request: DetokenizeRequest) -> Option<Refusal> {
    paid(tsp, now, request).err()
}

fn issued(bench: &mut Bench) -> TokenView {
    bench.provision(wanted(SECOND, "issue", PAN)).unwrap()
}

fn held_and_freed(bench: &mut Bench, token: &TokenView) {
    let by = Suspender::Cardholder;
    let log = bench.log.len();
    bench.move_to(SECOND, &format!("hold-{log}"), token.reference, Move::Suspend(by)).unwrap();
    bench.move_to(SECOND, &format!("free-{log}"), token.reference, Move::Resume(by)).unwrap();
}

#[test]
fn a_device_gets_all_that_it_signs_with_and_nobody_else_can_read_it() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let view = given(&mut bench, wanted_by(&token, "keys", KeyKind::Card, DEVICE)).unwrap();
    let (told, key) = opened(&bench, &view);
    assert_eq!(told["token"], token.token.as_str());
    assert_eq!(told["tokenReference"], token.reference.to_string());
    assert_eq!(told["tokenExpiry"], String::from_utf8_lossy(&token.expiry.digits()).into_owned());
    assert_eq!((&told["sequenceNumber"], &told["version"]), (&Value::from("00"), &Value::from(1)));
    assert!(told.get("firstCounter").is_none());
    let found = paid(&bench.tsp, bench.now, tap_by(&key, &token, 1)).unwrap();
    assert!(found.verdicts.letters().eq(*b"MVRNDVSVEVCVAN"), "as any tap");
    let clear = told["key"].as_str().unwrap();
    for (_, event) in &bench.log {
        assert!(!hex::encode(event).contains(clear), "the key is in no event");
    }
    assert!(!format!("{view:?}{key:?}").contains(clear));
}

#[test]
fn where_keys_are_registered_nothing_leaves_for_another_one() {
    for kind in [KeyKind::Card, KeyKind::Limited] {
        let registered = Thumbprint::parse(device(DEVICE).newest().unwrap().id().as_bytes()).unwrap();
        let mut bench = Bench::with(|config| config.requestors[1].wrapping_keys = vec![registered]);
        let token = issued(&mut bench);
        let other = given(&mut bench, wanted_by(&token, "other", kind, DEVICE + 1));
        assert_eq!(other, Err(ProvisioningRefusal::KeyNotRegistered), "{kind:?}");
        let view = given(&mut bench, wanted_by(&token, "own", kind, DEVICE)).unwrap();
        opened(&bench, &view);
        // Registered anew, and from a checkpoint, it is the other one's turn for another token.
        let mut requestor = bench.config.requestors[1].clone();
        requestor.wrapping_keys =
            vec![Thumbprint::parse(device(DEVICE + 1).newest().unwrap().id().as_bytes()).unwrap()];
        let desk = crate::vocab::Text::parse("operator", b"desk").unwrap();
        let asker = Asker::new(Principal::Operator(desk), Actor::Operator, RequestId::parse(b"set").unwrap());
        let change = RegistryChange::Set(Box::new(requestor));
        let request = Box::new(RegistryRequest { asker, version: None, change });
        bench.ask(|call| Command::Registry { call, request }).unwrap();
        let entries = token_entries(&bench);
        bench.tsp = restored(&bench, &entries, entries.len(), CheckpointKind::Redb);
        let again = given(&mut bench, wanted_by(&token, "again", kind, DEVICE));
        assert_eq!(again, Err(ProvisioningRefusal::KeyNotRegistered), "{kind:?}");
    }
}

#[test]
fn a_repeat_gets_the_same_key_and_the_device_may_ask_again() {
    for kind in [KeyKind::Card, KeyKind::Limited] {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        let request = wanted_by(&token, "keys", kind, DEVICE);
        let first = given(&mut bench, request).unwrap();
        bench.now.wall.0 += 60_000;
        assert_eq!(given(&mut bench, request).unwrap(), first);
        bench.tsp = bench.recovered(bench.log.len());
        assert_eq!(given(&mut bench, request).unwrap(), first, "also after a crash");
        let other = wanted_by(&token, "keys", kind, DEVICE + 1);
        assert_eq!(given(&mut bench, other), Err(ProvisioningRefusal::RequestIdReused));
        let again = given(&mut bench, wanted_by(&token, "keys-2", kind, DEVICE)).unwrap();
        match kind {
            KeyKind::Card => assert_eq!(again, first),
            KeyKind::Limited => {
                let ranges = [first, again].map(|view| view.key.limited.unwrap().range);
                assert_eq!(ranges, [AtcRange { first: 1, last: 10 }, AtcRange { first: 11, last: 20 }]);
            }
        }
        let version = bench.get(SECOND, token.reference).unwrap().lifecycle.version;
        assert_eq!(version, token.lifecycle.version, "its holders need not hear of it");
    }
}

#[test]
fn a_repeat_gets_nothing_once_the_token_is_held_expired_or_ended() {
    use ProvisioningRefusal::{StatusDoesNotAllow, TokenExpired};
    for kind in [KeyKind::Card, KeyKind::Limited] {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        let request = wanted_by(&token, "keys", kind, DEVICE);
        let first = given(&mut bench, request).unwrap();
        let by = Suspender::Cardholder;
        bench.move_to(SECOND, "hold", token.reference, Move::Suspend(by)).unwrap();
        assert_eq!(given(&mut bench, request), Err(StatusDoesNotAllow), "{kind:?} held");
        bench.move_to(SECOND, "free", token.reference, Move::Resume(by)).unwrap();
        assert_eq!(given(&mut bench, request), Ok(first), "{kind:?} as before");
        let today = bench.now.wall;
        bench.now.wall.0 += 4 * 366 * 86_400_000;
        assert_eq!(given(&mut bench, request), Err(TokenExpired), "{kind:?}");
        bench.now.wall = today;
        bench.move_to(SECOND, "end", token.reference, Move::Unlink).unwrap();
        bench.tsp = bench.recovered(bench.log.len());
        assert_eq!(given(&mut bench, request), Err(StatusDoesNotAllow), "{kind:?} ended");
    }
}

/// What happens before a key is asked for.
type Before = fn(&mut Bench, &TokenView);

#[test]
fn every_refusal_of_a_key() {
    use KeyKind::{Card, Limited};
    use ProvisioningRefusal as R;
    let nothing: Before = |_, _| ();
    let suspended: Before = |bench, token| {
        bench.move_to(SECOND, "hold", token.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    };
    let unlinked: Before = |bench, token| {
        bench.move_to(SECOND, "end", token.reference, Move::Unlink).unwrap();
    };
    let expired: Before = |bench, _| bench.now.wall.0 += 4 * 366 * 86_400_000;
    let personalised: Before = |bench, token| {
        given(bench, wanted_by(token, "first", Card, DEVICE)).unwrap();
    };
    let cloud: Before = |bench, token| {
        given(bench, wanted_by(token, "first", Limited, DEVICE)).unwrap();
    };
    let used_up: Before = |bench, token| {
        bench.config.limited_keys.payments = 40_000;
        bench.tsp.narrow_for_test(bench.config.clone());
        given(bench, wanted_by(token, "first", Limited, DEVICE)).unwrap();
    };
    for (before, kind, byte, expected) in [
        (nothing, Card, DEVICE, Ok(())),
        (nothing, Limited, DEVICE, Ok(())),
        (suspended, Card, DEVICE, Err(R::StatusDoesNotAllow)),
        (suspended, Limited, DEVICE, Err(R::StatusDoesNotAllow)),
        (unlinked, Card, DEVICE, Err(R::StatusDoesNotAllow)),
        (unlinked, Limited, DEVICE, Err(R::StatusDoesNotAllow)),
        (expired, Card, DEVICE, Err(R::TokenExpired)),
        (expired, Limited, DEVICE, Err(R::TokenExpired)),
        (personalised, Card, DEVICE + 1, Err(R::DeviceDiffers)),
        (personalised, Limited, DEVICE, Err(R::OtherKeysGiven)),
        (cloud, Limited, DEVICE + 1, Err(R::DeviceDiffers)),
        (cloud, Card, DEVICE, Err(R::OtherKeysGiven)),
        (used_up, Limited, DEVICE, Err(R::LimitedKeysExhausted)),
    ] {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        before(&mut bench, &token);
        let answer = given(&mut bench, wanted_by(&token, "wanted", kind, byte));
        assert_eq!(answer.map(|_| ()), expected, "{kind:?} {byte}");
    }
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let mut another = wanted_by(&token, "wanted", Card, DEVICE);
    another.asker = asker(FIRST, "wanted");
    assert_eq!(given(&mut bench, another), Err(R::UnknownToken));
    let keyless = bench.provision(wanted(SECOND, "debit", b"6228480000000000026")).unwrap();
    for kind in [Card, Limited] {
        assert_eq!(given(&mut bench, wanted_by(&keyless, "none", kind, DEVICE)), Err(R::NoKeysToGive));
    }
}

#[test]
fn a_token_on_its_way_gets_its_card_key_and_one_whose_holder_must_prove_itself_none() {
    let mut bench = Bench::with(|config| config.requestors[1].activation = Activation::Confirmed);
    let token = issued(&mut bench);
    assert_eq!(token.lifecycle.status, TokenStatus::Inactive);
    let limited = given(&mut bench, wanted_by(&token, "1", KeyKind::Limited, DEVICE));
    assert_eq!(limited, Err(ProvisioningRefusal::StatusDoesNotAllow), "it pays nothing yet");
    assert!(given(&mut bench, wanted_by(&token, "2", KeyKind::Card, DEVICE)).is_ok());
    bench.move_to(SECOND, "3", token.reference, Move::Activate).unwrap();
    let view = given(&mut bench, wanted_by(&token, "4", KeyKind::Card, DEVICE)).unwrap();
    let (_, key) = opened(&bench, &view);
    assert!(paid(&bench.tsp, bench.now, tap_by(&key, &token, 1)).is_ok());
    let mut bench = super::idv::asking();
    let unproven = bench.yellow("unproven");
    let refused = given(&mut bench, wanted_by(&unproven, "5", KeyKind::Card, DEVICE));
    assert_eq!(refused, Err(ProvisioningRefusal::StatusDoesNotAllow));
}

#[test]
fn a_limited_use_key_pays_within_its_counters_and_its_time_and_once_each() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let view = given(&mut bench, wanted_by(&token, "keys", KeyKind::Limited, DEVICE)).unwrap();
    let key = view.key.limited.unwrap();
    assert_eq!((key.range, key.until.0), (AtcRange { first: 1, last: 10 }, TODAY.0 + 3_600_000));
    let (told, signs) = opened(&bench, &view);
    assert_eq!((&told["firstCounter"], &told["lastCounter"]), (&Value::from(1), &Value::from(10)));
    let found = paid(&bench.tsp, bench.now, tap_by(&signs, &token, 3)).unwrap();
    assert!(found.verdicts.letters().eq(*b"MVRNDVSVEVKVCVAN"));
    let taken = found.counter.unwrap();
    assert_eq!((taken.series, taken.atc), (CounterSeries::Limited, 3));
    let other = AtcRange { first: 1, last: 9 };
    for (request, refusal) in [
        (tap_by(&signs, &token, 3), Some(Refusal::CryptogramReplayed)),
        (tap_by(&signs, &token, 11), Some(Refusal::LimitedKeyUnknown)),
        (tap(&token, 4), Some(Refusal::CryptogramWrong)),
        (tap_within(&token, other, 4), Some(Refusal::CryptogramWrong)),
        (tap_within(&token, key.range, 4), None),
        (tap_by(&signs, &token, 10), None),
        (tap_by(&signs, &token, 1), None),
        (DetokenizeRequest { chip: None, ..tap(&token, 5) }, Some(Refusal::CryptogramMissing)),
    ] {
        assert_eq!(refused(&bench.tsp, bench.now, request), refusal);
    }
    let late = Now { wall: key.until, ..bench.now };
    assert_eq!(refused(&bench.tsp, late, tap_by(&signs, &token, 6)), Some(Refusal::LimitedKeyExpired));
    let chip = tap_by(&signs, &token, 7).chip.unwrap();
    let answer = bench.tsp.detokenizer().issuer_authentication(&token.token, &chip, *b"00", true);
    assert_eq!(answer, None, "a phone that keeps no key waits for no answer");
}

#[test]
fn whatever_holds_or_ends_its_token_takes_every_key_back() {
    let lost: Before = |bench, _| {
        for news in [CardNews::Lost, CardNews::Found] {
            let id = format!("card-{}", bench.log.len());
            let name = crate::vocab::Text::parse("desk", b"desk").unwrap();
            let asker = Asker::new(
                Principal::Operator(name),
                Actor::Operator,
                RequestId::parse(id.as_bytes()).unwrap(),
            );
            let request = CardRequest { asker, pan: Pan::parse(PAN).unwrap(), news };
            bench.ask(|call| Command::Card { call, request: Box::new(request) }).unwrap();
        }
    };
    for before in [held_and_freed as Before, lost] {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        let first = limited(&mut bench, &token, "1");
        assert!(paid(&bench.tsp, bench.now, tap_within(&token, first.range, 1)).is_ok());
        before(&mut bench, &token);
        assert_eq!(bench.get(SECOND, token.reference).unwrap().lifecycle.status, TokenStatus::Active);
        let old = |bench: &Bench| refused(&bench.tsp, bench.now, tap_within(&token, first.range, 2));
        assert_eq!(old(&bench), Some(Refusal::LimitedKeyRevoked));
        let next = limited(&mut bench, &token, "2");
        assert_eq!(next.range, AtcRange { first: 11, last: 20 }, "no counter is given twice");
        assert_eq!(old(&bench), Some(Refusal::LimitedKeyRevoked));
        assert!(paid(&bench.tsp, bench.now, tap_within(&token, next.range, 11)).is_ok());
    }
}

#[test]
fn the_oldest_of_five_is_taken_back() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let keys: Vec<LimitedKey> = (0..5).map(|at| limited(&mut bench, &token, &format!("k{at}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        let refusal = (at == 0).then_some(Refusal::LimitedKeyRevoked);
        assert_eq!(refused(&bench.tsp, bench.now, tap_within(&token, key.range, key.range.last)), refusal);
    }
}

#[test]
fn counters_of_keys_that_were_taken_back_do_not_end_a_token() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    // Ten times the window of a card's counter.
    for at in 0..100 {
        limited(&mut bench, &token, &format!("k{at}"));
        held_and_freed(&mut bench, &token);
    }
    let key = limited(&mut bench, &token, "last");
    assert_eq!(key.range.first, 1_001);
    assert!(paid(&bench.tsp, bench.now, tap_within(&token, key.range, 1_001)).is_ok());
}

#[test]
fn a_past_event_s_issuer_is_told_what_the_key_was_worth() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let first = limited(&mut bench, &token, "1");
    let past =
        |atc, range| DetokenizeRequest { purpose: Purpose::PastEvent, ..tap_within(&token, range, atc) };
    let told = |bench: &Bench, now, request| {
        let found = paid(&bench.tsp, now, request).unwrap();
        assert_eq!(found.counter, None);
        [Service::LimitedKey, Service::Cryptogram].map(|service| found.verdicts.of(service).unwrap())
    };
    use VerdictResult::{Bad, Good, Late, NotVerified};
    let late = Now { wall: first.until, ..bench.now };
    assert_eq!(told(&bench, bench.now, past(1, first.range)), [Good, Good]);
    assert_eq!(told(&bench, late, past(1, first.range)), [Late, Good]);
    assert_eq!(told(&bench, bench.now, past(1, AtcRange { first: 1, last: 2 })), [Good, Bad]);
    assert_eq!(told(&bench, bench.now, past(11, first.range)), [Bad, NotVerified]);
    held_and_freed(&mut bench, &token);
    assert_eq!(told(&bench, bench.now, past(1, first.range)), [Bad, NotVerified]);
}

#[test]
fn what_was_given_and_taken_back_is_so_over_a_restart_at_any_entry_and_a_checkpoint() {
    let mut bench = Bench::new();
    let token = issued(&mut bench);
    let first = limited(&mut bench, &token, "1");
    held_and_freed(&mut bench, &token);
    let second = limited(&mut bench, &token, "2");
    let mut entries = token_entries(&bench);
    let found = paid(&bench.tsp, bench.now, tap_within(&token, second.range, 12)).unwrap();
    let mut request = request_entry(&token, &found);
    request.number = EntryNumber(entries.len() as u64 + 1);
    entries.push(request);
    for kind in CheckpointKind::ALL {
        for kept in 0..=entries.len() {
            let tsp = restored(&bench, &entries, kept, kind);
            let after = |range, atc| refused(&tsp, bench.now, tap_within(&token, range, atc));
            assert_eq!(after(first.range, 2), Some(Refusal::LimitedKeyRevoked), "{kept}");
            assert_eq!(after(second.range, 12), Some(Refusal::CryptogramReplayed), "{kept}");
            assert_eq!(after(second.range, 11), None, "{kept}");
            assert_eq!(after(second.range, 21), Some(Refusal::LimitedKeyUnknown), "{kept}");
        }
    }
    for (kept, revoked) in
        [(2, None), (3, Some(Refusal::TokenSuspended)), (4, Some(Refusal::LimitedKeyRevoked))]
    {
        let tsp = bench.recovered(kept);
        assert_eq!(refused(&tsp, bench.now, tap_within(&token, first.range, 2)), revoked, "{kept}");
    }
}

/// What happens to a phone and its token.
#[derive(Debug, Clone)]
enum Deed {
    Tap(u16),
    Replenish,
    Hold,
    Crash,
    Wait,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => (1_u16..60).prop_map(Deed::Tap),
        2 => Just(Deed::Replenish),
        1 => Just(Deed::Hold),
        1 => Just(Deed::Crash),
        1 => Just(Deed::Wait),
    ];
    proptest::collection::vec(deed, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A limited-use key approves each of its counters at most once, while it is good, and never after it was taken
    /// back.
    #[test]
    fn a_limited_use_key_approves_at_most_once_a_counter(deeds in deeds()) {
        let mut bench = Bench::new();
        let token = issued(&mut bench);
        let (mut ever, mut entries) = (Vec::<LimitedKey>::new(), token_entries(&bench));
        let (mut good, mut approved) = (Vec::<LimitedKey>::new(), std::collections::BTreeSet::new());
        for deed in deeds {
            let logged = bench.log.len();
            match deed {
                Deed::Tap(atc) => {
                    let key = ever.iter().find(|key| key.range.contains(atc));
                    let range = key.map_or(AtcRange { first: 1, last: 10 }, |key| key.range);
                    let answer = paid(&bench.tsp, bench.now, tap_within(&token, range, atc));
                    let is_good = good.iter().any(|key| key.range.contains(atc) && bench.now.wall < key.until);
                    if let Ok(found) = answer {
                        prop_assert!(is_good, "{atc} by a key that is not good");
                        prop_assert!(approved.insert(atc), "{atc} is approved twice");
                        let mut request = request_entry(&token, &found);
                        request.number = EntryNumber(entries.len() as u64 + 1);
                        entries.push(request);
                    } else if is_good && approved.is_empty() {
                        prop_assert!(false, "{atc} is refused: {answer:?}");
                    }
                }
                Deed::Replenish => {
                    let id = format!("k{logged}");
                    let key = limited(&mut bench, &token, &id);
                    prop_assert!(ever.iter().all(|other| other.range.last < key.range.first));
                    ever.push(key);
                    good.push(key);
                    let first = good.len().saturating_sub(LimitedKeys::GOOD_MOST);
                    good.drain(..first);
                }
                Deed::Hold => {
                    held_and_freed(&mut bench, &token);
                    good.clear();
                }
                Deed::Crash => {
                    let mut tsp = empty(&bench.config);
                    entries.iter().for_each(|entry| tsp.replay(entry).unwrap());
                    bench.tsp = tsp;
                }
                Deed::Wait => bench.now.wall.0 += 1_000_000,
            }
            for (entry, number) in token_entries(&bench).into_iter().skip(logged).zip(entries.len() as u64 + 1..) {
                entries.push(crate::journal::Entry { number: EntryNumber(number), ..entry });
            }
        }
    }
}
