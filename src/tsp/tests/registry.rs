//! Requestors that operators register, change and close.

use super::checkpoint::{folded, restored, token_entries};
use super::*;
use crate::journal::CheckpointKind;
use crate::vocab::{Text, TokenLocation};
use ProvisioningRefusal as R;

const CREDIT: &[u8] = b"4761739001010119";
const NEW: &[u8] = b"00000000077";

fn id(digits: &[u8]) -> TokenRequestorId {
    TokenRequestorId::parse(digits).unwrap()
}

fn operator() -> Principal {
    Principal::Operator(Text::parse("operator", b"desk").unwrap())
}

fn requestor(digits: &[u8]) -> TokenRequestor {
    TokenRequestor { id: id(digits), credential: None, ..config::sample().requestors[0].clone() }
}

impl Bench {
    fn registry(
        &mut self,
        who: Principal,
        name: &str,
        version: Option<u32>,
        change: RegistryChange,
    ) -> Result<Registration, R> {
        let asker = Asker::new(who, Actor::Operator, RequestId::parse(name.as_bytes()).unwrap());
        let request = Box::new(RegistryRequest { asker, version, change });
        let told = self.ask(|call| Command::Registry { call, request })?;
        if let Told::Requestor(found) = told { Ok(*found) } else { panic!("{told:?}") }
    }

    fn set(&mut self, name: &str, requestor: TokenRequestor) -> Result<u32, R> {
        let change = RegistryChange::Set(Box::new(requestor));
        self.registry(operator(), name, None, change).map(|found| found.version)
    }
}

#[test]
fn a_requestor_is_registered_changed_and_closed() {
    let mut bench = Bench::new();
    assert_eq!(bench.provision(wanted(NEW, "0", CREDIT)), Err(R::UnknownRequestor));
    assert_eq!(bench.set("1", requestor(NEW)), Ok(1));
    let token = bench.provision(wanted(NEW, "1", CREDIT)).unwrap();
    let narrower = TokenRequestor {
        locations: vec![TokenLocation::SecureElement],
        location: TokenLocation::SecureElement,
        ..requestor(NEW)
    };
    assert_eq!(bench.set("2", narrower.clone()), Ok(2));
    assert_eq!(bench.set("1", requestor(NEW)), Ok(1), "a repeat changes nothing, and tells how it was");
    let elsewhere =
        ProvisionRequest { location: Some(TokenLocation::RemoteStorage), ..wanted(NEW, "2", CREDIT) };
    assert_eq!(bench.provision(elsewhere), Err(R::LocationNotAllowed));
    assert_eq!(bench.provision(wanted(NEW, "3", CREDIT)).unwrap().location, TokenLocation::SecureElement);
    let late = RegistryChange::Set(Box::new(requestor(NEW)));
    assert_eq!(bench.registry(operator(), "3", Some(1), late), Err(R::VersionDiffers));
    bench.tsp = bench.recovered(bench.log.len());
    let closed = bench.registry(operator(), "4", Some(2), RegistryChange::Close(id(NEW))).unwrap();
    assert_eq!((closed.version, closed.closed, closed.changed_at), (3, true, Some(TODAY)));
    assert_eq!(closed.requestor, narrower);
    for crashed in [false, true] {
        if crashed {
            bench.tsp = bench.recovered(bench.log.len());
        }
        assert_eq!(bench.provision(wanted(NEW, "4", CREDIT)), Err(R::UnknownRequestor));
        assert!(bench.get(NEW, token.reference).is_ok(), "what it has, it keeps");
        assert_eq!(bench.set("5", requestor(NEW)), Err(R::StatusDoesNotAllow), "closed is for good");
    }
}

#[test]
fn a_closed_requestor_gets_nothing_more_to_pay_with() {
    use super::keys::{given, wanted_by};
    use super::remote::{made, wanted_for};
    let mut bench = Bench::new();
    bench.set("1", requestor(NEW)).unwrap();
    let mut issued = |name: &str| bench.provision(wanted(NEW, name, CREDIT)).unwrap();
    let (phone, cloud) = (issued("1"), issued("2"));
    let limited = |name: &str| wanted_by(&cloud, name, KeyKind::Limited, 7);
    given(&mut bench, limited("k1")).unwrap();
    let cryptogram = made(&mut bench, wanted_for(&phone, "c1", 1_000)).unwrap();
    bench.registry(operator(), "2", None, RegistryChange::Close(id(NEW))).unwrap();
    for crashed in [false, true] {
        if crashed {
            bench.tsp = bench.recovered(bench.log.len());
        }
        assert_eq!(given(&mut bench, limited("k2")), Err(R::UnknownRequestor));
        assert_eq!(given(&mut bench, limited("k1")), Err(R::UnknownRequestor), "nor by a repeat");
        let card = wanted_by(&phone, "k3", KeyKind::Card, 7);
        assert_eq!(given(&mut bench, card), Err(R::UnknownRequestor));
        assert_eq!(made(&mut bench, wanted_for(&phone, "c2", 1_000)), Err(R::UnknownRequestor));
        assert_eq!(made(&mut bench, wanted_for(&phone, "c1", 1_000)), Ok(cryptogram), "it was told already");
    }
}

#[test]
fn the_configuration_counts_until_the_registry_has_the_requestor() {
    let mut bench = Bench::new();
    assert!(bench.tsp.differing_requestors().is_empty());
    let told = bench.ask(|call| Command::Requestor { call, principal: operator(), id: id(FIRST) });
    let Ok(Told::Requestor(found)) = told else { panic!("{told:?}") };
    assert_eq!((found.version, found.changed_at), (0, None));
    let as_configured = bench.config.requestors[0].clone();
    assert_eq!(bench.set("1", as_configured.clone()), Ok(1));
    assert!(bench.tsp.differing_requestors().is_empty(), "it says the same");
    let limits = RequestorLimits { tokens: Some(1), ..RequestorLimits::default() };
    assert_eq!(bench.set("2", TokenRequestor { limits, ..as_configured }), Ok(2));
    assert_eq!(bench.tsp.differing_requestors(), [id(FIRST)]);
    assert!(bench.provision(wanted(FIRST, "1", CREDIT)).is_ok());
    assert_eq!(bench.provision(wanted(FIRST, "2", CREDIT)), Err(R::RequestorFull), "the registry counts");
    assert!(bench.provision(wanted(SECOND, "1", CREDIT)).is_ok());
}

#[test]
fn a_requestor_s_limits_count_what_waits_and_not_what_is_gone() {
    let mut bench = Bench::new();
    let limits = RequestorLimits {
        tokens: Some(3),
        tokens_per_pan: Some(2),
        tokens_per_device: Some(1),
        ..RequestorLimits::default()
    };
    bench.set("1", TokenRequestor { limits, ..requestor(NEW) }).unwrap();
    let on = |id: &str, pan: &[u8], device: Option<&str>| ProvisionRequest {
        device: device.and_then(|name| Text::parse("device", name.as_bytes()).ok()),
        ..wanted(NEW, id, pan)
    };
    let debit = b"6228480000000000026";
    let first = bench.provision(on("1", CREDIT, Some("phone"))).unwrap();
    assert_eq!(bench.provision(on("2", debit, Some("phone"))), Err(R::TooManyTokensOnDevice));
    bench.provision(on("3", CREDIT, None)).unwrap();
    assert_eq!(bench.provision(on("4", CREDIT, None)), Err(R::TooManyTokensOfCard));
    let (waits, late) = (bench.call(), bench.call());
    bench.apply(Command::Provision { call: waits, request: Box::new(on("5", debit, None)) });
    let refused = bench.apply(Command::Provision { call: late, request: Box::new(on("6", debit, None)) });
    assert_eq!(refused, [(late, Err(R::RequestorFull))]);
    bench.sync();
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(bench.provision(on("7", debit, None)), Err(R::RequestorFull));
    bench.move_to(NEW, "8", first.reference, Move::Unlink).unwrap();
    assert!(bench.provision(on("9", debit, None)).is_ok());
}

#[test]
fn every_refusal_of_a_registration() {
    type Change = fn(&mut TokenRequestor);
    let faulty: [Change; 4] = [
        |r| r.controls.entry_modes = EntryModes::default(),
        |r| r.locations = vec![TokenLocation::RemoteStorage],
        |r| r.notification_url = Text::parse("URL", b"ftp://plain.example").unwrap(),
        |r| r.locations = vec![TokenLocation::DeviceStorage; 257],
    ];
    let mut bench = Bench::new();
    for fault in faulty {
        let mut given = requestor(NEW);
        fault(&mut given);
        assert_eq!(bench.set("1", given), Err(R::ControlsNotValid));
    }
    assert_eq!(
        bench.set("1", requestor(b"99800000003")),
        Err(R::RequestorNotOurs),
        "another provider's code"
    );
    let set = |digits: &[u8]| RegistryChange::Set(Box::new(requestor(digits)));
    let issuer = Principal::Issuer(Text::parse("issuer", b"bank").unwrap());
    for who in [issuer, Principal::Requestor(id(NEW))] {
        assert_eq!(bench.registry(who, "1", None, set(NEW)), Err(R::NotYours));
    }
    let close = RegistryChange::Close(id(NEW));
    assert_eq!(bench.registry(operator(), "1", None, close), Err(R::UnknownRequestor));
    for (at, digits) in [b"00000000077", b"00000000078", b"00000000079"].into_iter().enumerate() {
        assert_eq!(bench.set(&format!("s{at}"), requestor(digits)), Ok(1));
    }
    assert_eq!(bench.tsp.fill().requestors, 3);
    assert_eq!(bench.set("more", requestor(b"00000000080")), Err(R::VaultFull));
    // Of two changes on their way, the second has not seen the first.
    let mut waiting = Vec::new();
    for name in ["a", "b"] {
        let asker = Asker::new(operator(), Actor::Operator, RequestId::parse(name.as_bytes()).unwrap());
        let call = bench.call();
        let request = Box::new(RegistryRequest { asker, version: None, change: set(NEW) });
        waiting
            .extend(bench.apply(Command::Registry { call, request }).into_iter().map(|(_, answer)| answer));
    }
    assert_eq!(waiting, [Err(R::RequestInFlight)]);
    bench.sync();
    for (who, found) in [(operator(), true), (Principal::Requestor(id(NEW)), true), (issuer, false)] {
        let told = bench.ask(|call| Command::Requestor { call, principal: who, id: id(NEW) });
        assert_eq!(told.is_ok(), found, "{who:?}");
    }
}

#[test]
fn the_registry_is_in_the_checkpoint() {
    let mut bench = Bench::new();
    bench.set("1", requestor(NEW)).unwrap();
    bench.registry(operator(), "2", None, RegistryChange::Close(id(SECOND))).unwrap();
    let told =
        |tsp: &Tsp| [NEW, FIRST, SECOND].map(|digits| tsp.registration(operator(), id(digits)).unwrap());
    let live = told(&bench.tsp);
    let entries = token_entries(&bench);
    for kind in CheckpointKind::ALL {
        let (_directory, checkpoint) = folded(&bench.config, &entries, kind);
        let mut tsp = empty(&bench.config);
        tsp.restore(&checkpoint).unwrap();
        assert_eq!(told(&tsp), live);
    }
}

#[test]
fn a_registered_receiver_hears_of_what_comes_after_its_registration_also_after_any_crash() {
    let mut bench = Bench::new();
    let url = |text: &[u8]| TokenRequestor {
        notification_url: Text::parse("URL", text).unwrap(),
        ..requestor(NEW)
    };
    let receiver = Receiver::Requestor(id(NEW));
    let told = |tsp: &Tsp| -> Vec<&str> {
        tsp.outbox().first(receiver, 100).iter().map(|it| it.what.name()).collect()
    };
    bench.set("1", url(b"")).unwrap();
    let early = bench.provision(wanted(NEW, "before", CREDIT)).unwrap();
    assert_eq!((told(&bench.tsp), bench.tsp.outbox().registered()), (vec![], vec![]));
    bench.set("2", url(b"https://wallet.example/a")).unwrap();
    bench.provision(wanted(NEW, "after", CREDIT)).unwrap();
    bench.move_to(NEW, "m", early.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    // It is told elsewhere, and nothing is lost by that; nor when no more tokens are made for it.
    bench.set("3", url(b"https://wallet.example/b")).unwrap();
    bench.registry(operator(), "4", None, RegistryChange::Close(id(NEW))).unwrap();
    let (list, there) = (told(&bench.tsp), bench.tsp.outbox().registered());
    assert_eq!(list, ["issued", "suspended"]);
    assert_eq!(there, [(receiver, Text::parse("URL", b"https://wallet.example/b").unwrap())]);
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        let tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!((told(&tsp), tsp.outbox().registered()), (list.clone(), there.clone()), "{kept}");
    }
    let before = bench.tsp.outbox().registrations();
    bench.set("5", TokenRequestor { id: id(b"00000000078"), ..url(b"https://wallet.example/c") }).unwrap();
    bench.set("6", TokenRequestor { id: id(b"00000000078"), ..url(b"") }).unwrap();
    assert_eq!(bench.tsp.outbox().registrations(), before + 2);
    assert_eq!(bench.tsp.outbox().registered(), there);
}

#[test]
fn all_requestors_are_listed_in_order_a_page_at_a_time_and_to_operators_only() {
    let mut bench = Bench::new();
    for number in [90, 77, 88] {
        let new = requestor(format!("{number:011}").as_bytes());
        assert_eq!(bench.set(&format!("r{number}"), new), Ok(1));
    }
    bench.registry(operator(), "c", None, RegistryChange::Close(id(b"00000000088"))).unwrap();
    let mut page = |principal, after: Option<&[u8]>, most| {
        let after = after.map(id);
        match bench.ask(|call| Command::Requestors { call, principal, after, most })? {
            Told::Requestors(found) => Ok(found),
            told => panic!("{told:?}"),
        }
    };
    let mut listed = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    while let Some(last) = page(operator(), after.as_deref(), 2).unwrap().last() {
        let found = page(operator(), after.as_deref(), 2).unwrap();
        listed.extend(found.iter().map(|it| (it.requestor.id.as_str().to_owned(), it.version, it.closed)));
        after = Some(last.requestor.id.as_bytes().to_vec());
    }
    let mut expected: Vec<_> =
        config::sample().requestors.iter().map(|it| (it.id.as_str().to_owned(), 0, false)).collect();
    for (number, version, closed) in [(77, 1, false), (88, 2, true), (90, 1, false)] {
        expected.push((format!("{number:011}"), version, closed));
    }
    assert_eq!(listed, expected);
    for other in [Principal::Requestor(id(FIRST)), Principal::Issuer(Text::parse("issuer", b"bank").unwrap())]
    {
        assert_eq!(page(other, None, 2), Err(R::NotYours));
    }
}
