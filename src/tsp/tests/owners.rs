//! Who set what of a token, and who may undo it.

use super::checkpoint::{restored, token_entries};
use super::sourced::from;
use super::*;
use crate::journal::CheckpointKind;
use crate::vocab::{Country, Text, TokenAssuranceMethod};
use ProvisioningRefusal as R;

const PAN: &[u8] = b"4761739001010119";

/// The token requestor, the issuer and the operator, the lowest first.
const PARTIES: [Setter; 3] = [Setter::Requestor, Setter::Issuer, Setter::Operator];

fn asker_of(party: Setter, id: &str) -> Asker {
    let name = |name: &[u8]| Text::parse("name", name).unwrap();
    let id = RequestId::parse(id.as_bytes()).unwrap();
    let (principal, actor) = match party {
        Setter::Requestor => {
            (Principal::Requestor(TokenRequestorId::parse(FIRST).unwrap()), Actor::TokenRequestor)
        }
        Setter::Issuer => (Principal::Issuer(name(b"bank")), Actor::Issuer),
        Setter::Operator => (Principal::Operator(name(b"desk")), Actor::Operator),
    };
    Asker::new(principal, actor, id)
}

fn only_in(country: u16) -> Option<Box<TokenControls>> {
    Some(Box::new(TokenControls { countries: vec![Country(country)], ..TokenControls::default() }))
}

impl Bench {
    fn control_by(
        &mut self,
        party: Setter,
        id: &str,
        token: &TokenView,
        controls: Option<Box<TokenControls>>,
    ) -> Result<u32, R> {
        let (asker, reference) = (asker_of(party, id), token.reference);
        let request = Box::new(ControlRequest { asker, reference, version: None, controls });
        of_token(self.ask(|call| Command::Control { call, request })).map(|view| view.lifecycle.version)
    }

    fn assure_by(
        &mut self,
        party: Setter,
        id: &str,
        token: &TokenView,
        method: Option<&[u8]>,
    ) -> Result<[u8; 2], R> {
        let (asker, reference) = (asker_of(party, id), token.reference);
        let assurance = method.map(|method| TokenAssuranceMethod::parse(method).unwrap());
        let request = UpdateRequest { asker, reference, version: None, renew: method.is_none(), assurance };
        of_token(self.ask(|call| Command::Update { call, request })).map(|view| view.assurance.digits())
    }

    /// As it was, after a crash, and from a checkpoint of all that happened.
    fn each_way(self, check: impl Fn(&mut Self)) {
        let entries = token_entries(&self);
        let from_checkpoint = restored(&self, &entries, entries.len(), CheckpointKind::Redb);
        let ways = [self.recovered(self.log.len()), from_checkpoint];
        let mut bench = self;
        for tsp in ways {
            bench.tsp = tsp;
            check(&mut bench);
        }
    }
}

#[test]
fn controls_are_changed_and_lifted_by_who_set_them_or_stands_above() {
    for first in PARTIES {
        for second in PARTIES {
            for (wish, changed) in [(None, true), (only_in(276), true), (only_in(999), false)] {
                let mut bench = Bench::new();
                let token = bench.provision(wanted(FIRST, "p", PAN)).unwrap();
                assert_eq!(bench.control_by(first, "set", &token, only_in(999)), Ok(2));
                let may = second >= first || !changed;
                let expected = if may { Ok(2 + u32::from(changed)) } else { Err(R::ControlsNotYours) };
                bench.each_way(|bench| {
                    let said = bench.control_by(second, "then", &token, wish.clone());
                    assert_eq!(said, expected, "{first:?} {second:?} {wish:?}");
                });
            }
        }
    }
}

#[test]
fn who_stands_above_takes_over_and_what_is_lifted_is_nobodys() {
    let mut bench = Bench::new();
    let token = bench.provision(ProvisionRequest { controls: only_in(276), ..wanted(FIRST, "p", PAN) });
    let token = token.unwrap();
    for (party, wish, expected) in [
        // The issuer wants what the requestor has set: from now on it is the issuer's.
        (Setter::Issuer, only_in(276), Ok(1)),
        (Setter::Requestor, None, Err(R::ControlsNotYours)),
        (Setter::Requestor, only_in(276), Ok(1)),
        (Setter::Requestor, None, Err(R::ControlsNotYours)),
        (Setter::Operator, only_in(999), Ok(2)),
        (Setter::Issuer, None, Err(R::ControlsNotYours)),
        (Setter::Operator, None, Ok(3)),
        (Setter::Requestor, only_in(276), Ok(4)),
        (Setter::Requestor, None, Ok(5)),
    ] {
        let id = format!("c{}", bench.log.len() * 10 + bench.calls as usize);
        let said = bench.control_by(party, &id, &token, wish.clone());
        assert_eq!(said, expected, "{party:?} {wish:?}");
    }
}

#[test]
fn an_assurance_method_is_replaced_by_who_said_it_or_stands_above() {
    for first in PARTIES {
        for second in PARTIES {
            let mut bench = Bench::new();
            let token = bench.provision(wanted(FIRST, "p", PAN)).unwrap();
            // The first requestor may claim 01, and 00 as everybody.
            assert_eq!(bench.assure_by(first, "set", &token, Some(b"01")), Ok(*b"01"));
            let expected = if second >= first { Ok(*b"00") } else { Err(R::AssuranceNotYours) };
            bench.each_way(|bench| {
                assert_eq!(bench.assure_by(second, "same", &token, Some(b"01")), Ok(*b"01"));
                assert_eq!(bench.assure_by(second, "renewed", &token, None), Ok(*b"01"));
                let said = bench.assure_by(second, "then", &token, Some(b"00"));
                assert_eq!(said, expected, "{first:?} {second:?}");
            });
        }
    }
}

#[test]
fn the_method_of_an_issuers_approval_is_the_issuers_and_a_requestors_own_claim_its_own() {
    let claim = TokenAssuranceMethod::parse(b"01").ok();
    for (claimed, given, other, replaced) in
        [(None, *b"10", b"01", Err(R::AssuranceNotYours)), (claim, *b"01", b"00", Ok(*b"00"))]
    {
        let mut bench = super::idv::asking();
        let token = bench.green(ProvisionRequest { assurance: claimed, ..wanted(FIRST, "p", PAN) });
        assert_eq!(token.assurance.digits(), given);
        bench.each_way(|bench| {
            assert_eq!(bench.assure_by(Setter::Requestor, "r", &token, Some(other)), replaced);
            assert_eq!(bench.assure_by(Setter::Issuer, "i", &token, Some(b"00")), Ok(*b"00"));
        });
    }
}

#[test]
fn what_a_cardholder_has_proven_its_requestor_does_not_unsay() {
    let mut bench = super::idv::asking();
    let token = bench.yellow("p");
    let proven = bench.proven(&token);
    assert_eq!(proven.assurance.digits(), *b"11");
    bench.each_way(|bench| {
        let refused = bench.assure_by(Setter::Requestor, "r", &proven, Some(b"01"));
        assert_eq!(refused, Err(R::AssuranceNotYours));
        assert_eq!(bench.assure_by(Setter::Issuer, "i", &proven, Some(b"01")), Ok(*b"01"));
    });
}

#[test]
fn what_its_cardholder_has_to_prove_only_its_issuer_can_say() {
    for party in PARTIES {
        let mut bench = super::idv::asking();
        let token = bench.yellow("p");
        let said = bench.move_by(asker_of(party, "m"), token.reference, Move::Activate);
        let expected = match party {
            Setter::Issuer => Ok(TokenStatus::Active),
            Setter::Requestor | Setter::Operator => Err(R::StatusDoesNotAllow),
        };
        assert_eq!(said.map(|view| view.lifecycle.status), expected, "{party:?}");
    }
}

#[test]
fn what_an_issuer_or_an_operator_narrowed_a_token_to_holds_for_those_made_from_it() {
    for narrowed_by in PARTIES {
        let mut bench = Bench::with(|config| {
            config.requestors[0].shares_with = vec![TokenRequestorId::parse(SECOND).unwrap()];
            config.limits.narrowed_tokens = 8;
        });
        let first = bench.provision(wanted(FIRST, "p", PAN)).unwrap();
        bench.control_by(narrowed_by, "set", &first, only_in(276)).unwrap();
        let source = SourceToken::Reference(first.reference);
        let above = narrowed_by > Setter::Requestor;
        for (requestor, id, wish) in
            [(FIRST, "2", None), (SECOND, "3", None), (FIRST, "4", only_in(999)), (FIRST, "5", only_in(276))]
        {
            let request = SourcedRequest { controls: wish.clone(), ..from(requestor, id, source) };
            if above && wish.is_some() && wish != only_in(276) {
                assert_eq!(bench.derive(request), Err(R::ControlsNotYours), "{narrowed_by:?}");
                continue;
            }
            let made = bench.derive(request.clone()).unwrap();
            let expected = if above { (only_in(276), narrowed_by) } else { (wish, Setter::Requestor) };
            let own = |record: VaultRecord| (record.own, record.owners.controls);
            let record = bench.tsp.table.by_reference(made.reference).unwrap();
            assert_eq!(own(bench.tsp.table.record(record).unwrap()), expected, "{narrowed_by:?} {id}");
            if above {
                let lifted = bench.control_by(Setter::Requestor, &format!("lift-{id}"), &made, None);
                assert!(matches!(lifted, Err(R::ControlsNotYours | R::UnknownToken)), "{lifted:?}");
                // A repeat hears the same, whatever the source is narrowed to by now.
                bench.control_by(Setter::Operator, &format!("else-{id}"), &first, None).unwrap();
                assert_eq!(bench.derive(request), Ok(made));
                bench.control_by(narrowed_by, &format!("again-{id}"), &first, only_in(276)).unwrap();
            }
        }
    }
}
