//! What happens to a card, and what its tokens are after it.

use super::model::card_request;
use super::*;
use crate::vocab::{Par, Text, TokenAssuranceMethod};
use ProvisioningRefusal as R;

const CREDIT: &[u8] = b"4761739001010119";
const RENEWED: &[u8] = b"4761730000000011";
const DEBIT: &[u8] = b"6228480000000000026";

fn party(name: &[u8]) -> PartyName {
    Text::parse("party", name).unwrap()
}

impl Bench {
    pub(super) fn card(&mut self, id: &str, pan: &[u8], event: CardEvent) -> Result<u32, R> {
        self.card_of(card_request(id, pan, event, RENEWED))
    }

    fn card_of(&mut self, request: CardRequest) -> Result<u32, R> {
        let told = self.ask(|call| Command::Card { call, request: Box::new(request) });
        told.map(|told| if let Told::Card { changed } = told { changed } else { panic!("{told:?}") })
    }

    fn pays_with(&self, token: &TokenView) -> Result<CardData, crate::vocab::Refusal> {
        let entry_mode = EntryMode::parse(b"10").ok();
        let request = DetokenizeRequest { entry_mode, chip: None, ..tap(token, 1) };
        let mut out = Vec::new();
        self.tsp.detokenizer().detokenize_batch(self.now, &[request], &mut out);
        out.remove(0).map(|found| found.card)
    }

    /// Tokens of one card at two requestors: one active, one inactive, one that its cardholder holds, one unlinked.
    fn four(&mut self) -> [TokenView; 4] {
        let mut issue = |requestor, id| self.provision(wanted(requestor, id, CREDIT)).unwrap();
        let tokens = [issue(FIRST, "a"), issue(SECOND, "b"), issue(FIRST, "c"), issue(FIRST, "d")];
        let by = Suspender::Cardholder;
        self.move_to(FIRST, "hold", tokens[2].reference, Move::Suspend(by)).unwrap();
        self.move_to(FIRST, "unlink", tokens[3].reference, Move::Unlink).unwrap();
        tokens
    }

    fn stands(&mut self, token: &TokenView) -> TokenView {
        let requestor = token.requestor.as_bytes().to_vec();
        self.get(&requestor, token.reference).unwrap()
    }
}

fn with_confirmation() -> Bench {
    Bench::with(|config| config.requestors[1].activation = Activation::Confirmed)
}

/// One row an event: how many tokens change, and how the four stand then.
#[test]
fn every_event_and_every_status() {
    use TokenStatus::{Active, Deactivated, Inactive, Suspended};
    let table = [
        (CardEvent::NewExpiry, 4, [Active, Inactive, Suspended, Deactivated]),
        (CardEvent::NewPan, 4, [Active, Inactive, Suspended, Deactivated]),
        (CardEvent::Lost, 2, [Suspended, Inactive, Suspended, Deactivated]),
        (CardEvent::Stolen, 2, [Suspended, Inactive, Suspended, Deactivated]),
        (CardEvent::Found, 0, [Active, Inactive, Suspended, Deactivated]),
        (CardEvent::Closed, 3, [Deactivated, Deactivated, Deactivated, Deactivated]),
    ];
    for (event, changed, expected) in table {
        let mut bench = with_confirmation();
        let tokens = bench.four();
        let other = bench.provision(wanted(FIRST, "other", DEBIT)).unwrap();
        let before: Vec<u32> = tokens.iter().map(|token| bench.stands(token).lifecycle.version).collect();
        assert_eq!(bench.card("1", CREDIT, event), Ok(changed), "{event:?}");
        for crashed in [false, true] {
            if crashed {
                bench.tsp = bench.recovered(bench.log.len());
            }
            let after = tokens.map(|token| bench.stands(&token));
            assert_eq!(after.map(|token| token.lifecycle.status), expected, "{event:?}");
            let risen =
                after.iter().zip(&before).filter(|(token, before)| token.lifecycle.version == **before + 1);
            assert_eq!(risen.count(), changed as usize, "versions rise by one with each change");
            assert_eq!(after.map(|token| token.token), tokens.map(|token| token.token));
            assert_eq!(bench.stands(&other), other, "another card's token stays as it is");
        }
        assert_eq!(bench.card("1", CREDIT, event), Ok(changed), "a repeat is told the same");
    }
}

#[test]
fn a_new_number_takes_the_tokens_with_it_and_the_old_one_is_remembered() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    assert_eq!(bench.card("1", CREDIT, CardEvent::NewPan), Ok(1));
    let card = bench.pays_with(&token).unwrap();
    assert_eq!(card.pan.expose_digits(), RENEWED);
    assert_eq!(card.expiry, Expiry::parse(b"3006").ok());
    let after = bench.stands(&token);
    assert_eq!((after.last4.as_str(), after.par), ("0011", token.par), "the account has kept its PAR");
    assert_eq!(
        bench.provision(wanted(FIRST, "2", CREDIT)),
        Err(R::CardBlocked),
        "the old number is replaced"
    );
    assert_eq!(bench.provision(wanted(FIRST, "3", RENEWED)).unwrap().par, token.par);
    let operator = Principal::Operator(party(b"desk"));
    let mut mappings = |principal| {
        let reference = token.reference;
        let told = bench.ask(|call| Command::Mappings { call, principal, reference })?;
        let Told::Mappings(list) = told else { panic!("{told:?}") };
        Ok(list.iter().map(|m| (m.mapping_version, m.last4.as_str().to_owned(), m.until)).collect::<Vec<_>>())
    };
    let expected = vec![(1, "0119".to_owned(), Some(TODAY)), (2, "0011".to_owned(), None)];
    assert_eq!(mappings(operator), Ok(expected.clone()));
    assert_eq!(mappings(Principal::Issuer(party(b"bank"))), Ok(expected));
    assert_eq!(mappings(Principal::Issuer(party(b"other-bank"))), Err(R::UnknownToken));
    assert_eq!(mappings(Principal::Requestor(token.requestor)), Err(R::NotYours));
}

#[test]
fn a_par_goes_with_the_account_or_stays_with_the_number() {
    let replaced = |keeps: bool, said: Option<bool>, other_first: bool| {
        let mut bench = Bench::with(|config| config.par_follows_account = keeps);
        let other = other_first.then(|| bench.provision(wanted(SECOND, "0", RENEWED)).unwrap());
        let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
        let mut request = card_request("1", CREDIT, CardEvent::NewPan, RENEWED);
        if let CardNews::NewPan { keep_par, .. } = &mut request.news {
            *keep_par = said;
        }
        bench.card_of(request).unwrap();
        let after = bench.stands(&token).par;
        match other {
            Some(other) => assert_eq!(after, other.par, "one PAN, one PAR"),
            None => assert!(after.is_some()),
        }
        after == token.par
    };
    assert!(replaced(true, None, false) && replaced(false, Some(true), false));
    assert!(!replaced(false, None, false) && !replaced(true, Some(false), false));
    assert!(!replaced(true, None, true));
}

#[test]
fn an_account_keeps_its_par_only_where_no_other_tokens_have_another() {
    for (said, other_first, expected) in [
        (Some(true), true, Err(R::ParDiffers)),
        (Some(true), false, Ok(1)),
        (Some(false), true, Ok(1)),
        (None, true, Ok(1)),
    ] {
        let mut bench = Bench::new();
        if other_first {
            bench.provision(wanted(SECOND, "0", RENEWED)).unwrap();
        }
        let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
        let mut request = card_request("1", CREDIT, CardEvent::NewPan, RENEWED);
        if let CardNews::NewPan { keep_par, .. } = &mut request.news {
            *keep_par = said;
        }
        assert_eq!(bench.card_of(request), expected, "{said:?} {other_first}");
        let leads_to = bench.pays_with(&token).unwrap().pan;
        assert_eq!(leads_to.expose_digits() == RENEWED, expected.is_ok());
    }
}

/// What is reported of a card before it has a token, whether it gets one then, and what else may be reported.
#[test]
fn a_card_without_tokens_is_remembered_as_lost_or_closed() {
    use CardEvent::{Closed, Found, Lost, NewExpiry, NewPan, Stolen};
    let unknown = Err(R::UnknownCard);
    for (event, told, then_found) in [
        (Lost, Ok(0), Ok(0)),
        (Stolen, Ok(0), Ok(0)),
        (Closed, Ok(0), Err(R::CardBlocked)),
        (Found, unknown, unknown),
        (NewExpiry, unknown, unknown),
        (NewPan, unknown, unknown),
    ] {
        for crashed in [false, true] {
            let mut bench = Bench::new();
            assert_eq!(bench.card("1", CREDIT, event), told, "{event:?}");
            if crashed {
                bench.tsp = bench.recovered(bench.log.len());
            }
            if told.is_ok() {
                assert_eq!(bench.provision(wanted(FIRST, "p", CREDIT)), Err(R::CardBlocked), "{event:?}");
            }
            assert_eq!(bench.card("2", CREDIT, Found), then_found, "{event:?}");
            let freed = bench.provision(wanted(FIRST, "p", CREDIT)).is_ok();
            assert_eq!(freed, event != Closed, "{event:?}");
        }
    }
}

#[test]
fn so_many_cards_without_tokens_are_remembered_and_no_more() {
    let mut bench = Bench::with(|config| config.limits.capacity = 2);
    let third = b"4761730000000029";
    assert_eq!(bench.card("1", CREDIT, CardEvent::Lost), Ok(0));
    assert_eq!(bench.card("2", RENEWED, CardEvent::Lost), Ok(0));
    assert_eq!(bench.card("3", third, CardEvent::Lost), Err(R::VaultFull));
    assert_eq!(bench.card("4", RENEWED, CardEvent::Closed), Ok(0), "it is remembered already");
    assert_eq!(bench.card("5", CREDIT, CardEvent::Found), Ok(0));
    assert_eq!(bench.card("6", third, CardEvent::Lost), Ok(0));
}

#[test]
fn a_number_that_another_took_the_place_of_is_only_ever_closed() {
    let mut bench = Bench::new();
    bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    bench.card("1", CREDIT, CardEvent::NewPan).unwrap();
    for event in [CardEvent::Lost, CardEvent::Found, CardEvent::NewExpiry] {
        assert_eq!(bench.card(event.name(), CREDIT, event), Err(R::CardBlocked), "{event:?}");
    }
    assert_eq!(bench.card("end", CREDIT, CardEvent::Closed), Ok(0));
    assert_eq!(bench.provision(wanted(FIRST, "2", CREDIT)), Err(R::CardBlocked));
}

#[test]
fn a_lost_card_gets_and_activates_nothing_until_it_is_found() {
    let mut bench = with_confirmation();
    let [active, inactive, held, _] = bench.four();
    bench.card("1", CREDIT, CardEvent::Stolen).unwrap();
    assert_eq!(bench.pays_with(&active), Err(crate::vocab::Refusal::TokenSuspended));
    assert_eq!(bench.provision(wanted(FIRST, "2", CREDIT)), Err(R::CardBlocked));
    assert_eq!(bench.move_to(SECOND, "2", inactive.reference, Move::Activate), Err(R::CardBlocked));
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(bench.provision(wanted(FIRST, "2", CREDIT)), Err(R::CardBlocked), "also after a crash");
    assert_eq!(bench.card("2", CREDIT, CardEvent::Found), Ok(2));
    assert!(bench.pays_with(&active).is_ok());
    assert_eq!(bench.stands(&held).lifecycle.status, TokenStatus::Suspended, "its cardholder holds it still");
    assert!(bench.move_to(SECOND, "3", inactive.reference, Move::Activate).is_ok());
    assert!(bench.provision(wanted(FIRST, "4", CREDIT)).is_ok());
}

#[test]
fn the_holder_of_a_lost_card_proves_nothing_until_it_is_found() {
    for lost in [CardEvent::Lost, CardEvent::Stolen] {
        let mut bench = super::idv::asking();
        let token = bench.yellow_of("1", CREDIT);
        bench.want_code("code", &token, 1).unwrap();
        let code = bench.codes.last().unwrap().code.clone();
        bench.card("lost", CREDIT, lost).unwrap();
        for _ in 0..4 {
            assert_eq!(bench.type_code("typed", &token, &code, None), Err(R::CardBlocked), "{lost:?}");
            assert_eq!(
                bench.type_code("wrong", &token, &super::idv::other(&code), None),
                Err(R::CardBlocked)
            );
            assert_eq!(bench.want_code("another", &token, 2), Err(R::CardBlocked));
        }
        assert_eq!(bench.codes.len(), 1, "no code leaves");
        bench.card("found", CREDIT, CardEvent::Found).unwrap();
        let waits = bench.stands(&token).step_up.unwrap();
        assert_eq!((waits.codes_left, waits.tries_left), (2, 3), "no code and no try is gone");
        let proven = bench.type_code("typed", &token, &code, None).unwrap();
        assert_eq!(proven.lifecycle.status, TokenStatus::Active);
    }
}

#[test]
fn a_token_that_waits_for_its_arrival_gets_no_key_while_its_card_is_lost() {
    let mut bench = with_confirmation();
    let inactive = bench.provision(wanted(SECOND, "1", CREDIT)).unwrap();
    bench.card("1", CREDIT, CardEvent::Stolen).unwrap();
    let wanted = |id: &str| super::keys::wanted_by(&inactive, id, KeyKind::Card, 7);
    assert_eq!(super::keys::given(&mut bench, wanted("2")), Err(R::CardBlocked));
    bench.card("2", CREDIT, CardEvent::Found).unwrap();
    assert!(super::keys::given(&mut bench, wanted("2")).is_ok());
    bench.card("3", CREDIT, CardEvent::Lost).unwrap();
    assert_eq!(super::keys::given(&mut bench, wanted("2")), Err(R::CardBlocked), "nor by a repeat");
}

#[test]
fn a_token_that_is_being_issued_is_of_the_card_already() {
    let mut bench = Bench::new();
    bench.provision(wanted(FIRST, "0", CREDIT)).unwrap();
    let (issue, report, late) = (bench.call(), bench.call(), bench.call());
    bench.apply(Command::Provision { call: issue, request: Box::new(wanted(FIRST, "1", CREDIT)) });
    let request = Box::new(card_request("2", CREDIT, CardEvent::Lost, RENEWED));
    bench.apply(Command::Card { call: report, request });
    let refused =
        bench.apply(Command::Provision { call: late, request: Box::new(wanted(FIRST, "3", CREDIT)) });
    assert_eq!(refused, [(late, Err(R::CardBlocked))]);
    let answers = bench.sync();
    assert_eq!(answers[1].1, Ok(Told::Card { changed: 2 }));
    let token = of_token(answers[0].1.clone()).unwrap();
    assert_eq!(bench.stands(&token).lifecycle.status, TokenStatus::Suspended);
}

#[test]
fn every_refusal_of_a_report() {
    type Change = fn(&mut CardRequest);
    let new_pan = |request: &mut CardRequest, pan: &[u8]| {
        request.news = card_request("1", CREDIT, CardEvent::NewPan, pan).news;
    };
    let cases: [(Change, R); 10] = [
        (|r| r.asker.principal = Principal::Issuer(party(b"other-bank")), R::UnknownCard),
        (
            |r| r.asker.principal = Principal::Requestor(TokenRequestorId::parse(FIRST).unwrap()),
            R::UnknownCard,
        ),
        (|r| r.pan = Pan::parse(b"4761739001010118").unwrap(), R::CardNotValid),
        (|r| r.pan = Pan::parse(b"5413330089601109").unwrap(), R::UnknownCard),
        (
            |r| {
                let card = Pan::parse(RENEWED).unwrap();
                *r = CardRequest { pan: card, ..card_request("1", CREDIT, CardEvent::Found, RENEWED) };
            },
            R::UnknownCard,
        ),
        (
            |r| r.news = CardNews::NewExpiry { expiry: Expiry::parse(b"2610").unwrap(), sequence: None },
            R::CardExpired,
        ),
        (|r| r.news = card_request("1", CREDIT, CardEvent::NewPan, CREDIT).news, R::CardNotEligible),
        (|r| r.news = card_request("1", CREDIT, CardEvent::NewPan, DEBIT).news, R::CardNotEligible),
        (
            |r| r.news = card_request("1", CREDIT, CardEvent::NewPan, b"4895370000000007").news,
            R::CardNotEligible,
        ),
        (|r| r.news = card_request("1", CREDIT, CardEvent::NewPan, b"4761730000000029").news, R::CardBlocked),
    ];
    let mut bench = Bench::new();
    bench.provision(wanted(FIRST, "p1", CREDIT)).unwrap();
    bench.provision(wanted(FIRST, "p2", b"4761730000000029")).unwrap();
    bench.card("lost", b"4761730000000029", CardEvent::Lost).unwrap();
    for (change, expected) in cases {
        let mut request = card_request("refused", CREDIT, CardEvent::Lost, RENEWED);
        change(&mut request);
        assert_eq!(bench.card_of(request), Err(expected));
    }
    let mut of_bank = card_request("bank", CREDIT, CardEvent::NewExpiry, RENEWED);
    new_pan(&mut of_bank, RENEWED);
    of_bank.asker.principal = Principal::Issuer(party(b"bank"));
    assert_eq!(bench.card_of(of_bank), Ok(1));
    bench.card("close", RENEWED, CardEvent::Closed).unwrap();
    assert_eq!(bench.card("found", RENEWED, CardEvent::Found), Err(R::CardBlocked), "closed is for good");
    assert_eq!(bench.card("again", RENEWED, CardEvent::Closed), Ok(0));
}

#[test]
fn a_par_is_told_to_those_who_have_the_token_or_the_card() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let requestor = |id| Principal::Requestor(TokenRequestorId::parse(id).unwrap());
    let mut ask = |principal, query| {
        let told = bench.ask(|call| Command::Par { call, principal, query: Box::new(query) })?;
        if let Told::Par(par) = told { Ok::<Option<Par>, R>(par) } else { panic!("{told:?}") }
    };
    let pan = |digits| ParQuery::Pan(Pan::parse(digits).unwrap());
    for (principal, query, expected) in [
        (requestor(FIRST), ParQuery::Reference(token.reference), Ok(token.par)),
        (requestor(FIRST), ParQuery::Token(token.token), Ok(token.par)),
        (requestor(SECOND), ParQuery::Token(token.token), Err(R::UnknownToken)),
        (requestor(FIRST), pan(CREDIT), Err(R::UnknownCard)),
        (Principal::Issuer(party(b"bank")), pan(CREDIT), Ok(token.par)),
        (Principal::Issuer(party(b"bank")), pan(RENEWED), Err(R::UnknownCard)),
        (Principal::Issuer(party(b"other-bank")), pan(CREDIT), Err(R::UnknownCard)),
        (Principal::Operator(party(b"desk")), ParQuery::Token(token.token), Ok(token.par)),
    ] {
        assert_eq!(ask(principal, query.clone()), expected, "{principal:?} {query:?}");
    }
}

#[test]
fn attributes_are_updated_and_an_expired_token_is_renewed() {
    let mut bench = Bench::new();
    let token = bench.provision(wanted(FIRST, "1", CREDIT)).unwrap();
    let update = |bench: &mut Bench, id: &str, principal, renew, assurance: Option<&[u8]>| {
        let id = RequestId::parse(id.as_bytes()).unwrap();
        let request = UpdateRequest {
            asker: Asker::new(principal, Actor::TokenRequestor, id),
            reference: token.reference,
            version: None,
            renew,
            assurance: assurance.map(|method| TokenAssuranceMethod::parse(method).unwrap()),
        };
        of_token(bench.ask(|call| Command::Update { call, request }))
    };
    let requestor = Principal::Requestor(token.requestor);
    let issuer = Principal::Issuer(party(b"bank"));
    let told = update(&mut bench, "u1", requestor, false, Some(b"01")).unwrap();
    assert_eq!((told.assurance.digits(), told.lifecycle.version), (*b"01", 2));
    assert_eq!(update(&mut bench, "u2", requestor, false, Some(b"12")), Err(R::AssuranceNotAllowed));
    assert_eq!(update(&mut bench, "u3", issuer, false, Some(b"12")).unwrap().lifecycle.version, 3);
    assert_eq!(
        update(&mut bench, "u4", issuer, true, None).unwrap().lifecycle.version,
        3,
        "as it is already"
    );
    bench.now.wall = Wall(TODAY.0 + 4 * 366 * 86_400_000);
    assert_eq!(bench.stands(&token).status(), "expired");
    let renewed = update(&mut bench, "u5", requestor, true, None).unwrap();
    assert_eq!(
        (renewed.status(), renewed.expiry.digits(), renewed.lifecycle.version),
        ("active", *b"3311", 4)
    );
    assert_eq!(bench.pays_with(&token), Err(crate::vocab::Refusal::ExpiryMismatch));
    assert!(bench.pays_with(&renewed).is_ok());
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(bench.stands(&token), renewed);
    bench.move_to(FIRST, "m6", token.reference, Move::Unlink).unwrap();
    assert_eq!(update(&mut bench, "u7", requestor, true, None), Err(R::StatusDoesNotAllow));
}

/// All of a card's tokens change in one entry, which must fit.
#[test]
fn a_card_with_as_many_tokens_as_it_may_have_fits_one_entry() {
    let mut bench = Bench::with(|config| config.limits.tokens_per_pan = 500);
    for id in 0..500 {
        bench.provision(wanted(FIRST, &id.to_string(), CREDIT)).unwrap();
    }
    assert_eq!(bench.provision(wanted(FIRST, "more", CREDIT)), Err(R::TooManyTokensOfCard));
    for (id, event, changed) in [("1", CardEvent::NewPan, 500), ("2", CardEvent::NewExpiry, 500)] {
        let pan = if event == CardEvent::NewPan { CREDIT } else { RENEWED };
        assert_eq!(bench.card(id, pan, event), Ok(changed));
        assert!(bench.log.last().unwrap().1.len() < 60_000);
    }
    assert_eq!(bench.card("3", RENEWED, CardEvent::Closed), Ok(500));
}
