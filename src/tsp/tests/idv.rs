//! Identification and verification told step by step: the issuer's answer, the cardholder's code, and what receivers
//! are told, over crashes and checkpoints.

use super::checkpoint::{folded, restored, token_entries};
use super::*;
use crate::journal::CheckpointKind;
use crate::vocab::{
    Bin, Contact, ContactKind, Contacts, PanSource, Par, Recommendation, RiskHints, Text,
    TokenAssuranceMethod, TokenLocation, TrustScore,
};
use std::time::Duration;

const PAN: &[u8] = b"4761739001010119";

fn contacts() -> Contacts {
    let mut contacts = Contacts::default();
    for (number, kind) in [(1, ContactKind::TextMessage), (2, ContactKind::App)] {
        contacts.add(Contact { number, kind, shown: Text::parse("contact", b"***").unwrap() });
    }
    contacts
}

fn bank() -> PartyName {
    Text::parse("issuer", b"bank").unwrap()
}

fn rule(approval: ApprovalRule) -> IssuerRule {
    IssuerRule { issuer: bank(), approval, doubts: Doubts::default() }
}

pub(super) fn asking() -> Bench {
    Bench::with(|config| config.approvals = vec![rule(ApprovalRule::Ask)])
}

impl Bench {
    /// A request for which the issuer is being asked.
    fn pending(&mut self, request: ProvisionRequest) -> CallId {
        let call = self.call();
        assert_eq!(self.apply(Command::Provision { call, request: Box::new(request) }), []);
        assert_eq!(self.asked.last().unwrap().0, call);
        call
    }

    fn issuer_says(&mut self, call: CallId, word: IssuerWord) -> TokenAnswer {
        let mut answers = self.apply(Command::IssuerAnswered { call, word });
        answers.extend(self.sync());
        of_token(answers.into_iter().find(|(answered, _)| *answered == call).unwrap().1)
    }

    /// A token that the issuer has approved.
    pub(super) fn green(&mut self, request: ProvisionRequest) -> TokenView {
        let call = self.pending(request);
        self.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap()
    }

    /// A token that waits for proof.
    pub(super) fn yellow(&mut self, id: &str) -> TokenView {
        self.yellow_of(id, PAN)
    }

    /// The same of another card.
    pub(super) fn yellow_of(&mut self, id: &str, pan: &[u8]) -> TokenView {
        let call = self.pending(wanted(FIRST, id, pan));
        self.issuer_says(call, IssuerWord::StepUp(contacts().into())).unwrap()
    }

    /// The same once its cardholder has typed the code.
    pub(super) fn proven(&mut self, of: &TokenView) -> TokenView {
        self.want_code("code", of, 1).unwrap();
        let code = self.codes.last().unwrap().code.clone();
        self.type_code("typed", of, &code, None).unwrap()
    }

    pub(super) fn want_code(&mut self, id: &str, of: &TokenView, contact: u8) -> TokenAnswer {
        let request = CodeRequest { asker: asker(FIRST, id), reference: of.reference, contact };
        of_token(self.ask(|call| Command::RequestCode { call, request }))
    }

    pub(super) fn type_code(
        &mut self,
        id: &str,
        of: &TokenView,
        code: &StepUpCode,
        device: Option<&str>,
    ) -> TokenAnswer {
        let device = device.map(|device| Text::parse("device", device.as_bytes()).unwrap());
        let request =
            CodeSubmission { asker: asker(FIRST, id), reference: of.reference, code: code.clone(), device };
        of_token(self.ask(|call| Command::SubmitCode { call, request: Box::new(request) }))
    }
}

/// A code that is not this one.
pub(super) fn other(code: &StepUpCode) -> StepUpCode {
    let mut digits = *code.expose_code();
    digits[0] = if digits[0] == b'0' { b'1' } else { b'0' };
    StepUpCode::parse(&digits).unwrap()
}

fn method(digits: &[u8]) -> TokenAssuranceMethod {
    TokenAssuranceMethod::parse(digits).unwrap()
}

#[test]
fn the_issuers_word_makes_a_token_or_none() {
    let refused = |refusal| Err::<(TokenStatus, TokenAssuranceMethod), _>(refusal);
    for (word, expected) in [
        (IssuerWord::Approved(contacts().into()), Ok((TokenStatus::Active, method(b"10")))),
        (IssuerWord::StepUp(contacts().into()), Ok((TokenStatus::Inactive, method(b"00")))),
        (IssuerWord::Declined, refused(ProvisioningRefusal::DeclinedByIssuer)),
        (IssuerWord::Silent, refused(ProvisioningRefusal::NoAnswerFromIssuer)),
    ] {
        let mut bench = asking();
        let call = bench.pending(wanted(FIRST, "p", PAN));
        assert!(bench.log.is_empty(), "nothing is written before the issuer has spoken");
        let answer = bench.issuer_says(call, word);
        let said = answer.map(|view| (view.lifecycle.status, view.assurance));
        assert_eq!(said, expected, "{word:?}");
    }
}

#[test]
fn a_repeat_hears_what_was_decided_and_silence_decides_nothing() {
    let mut bench = asking();
    let call = bench.pending(wanted(FIRST, "p", PAN));
    let in_flight = bench.provision(wanted(FIRST, "p", PAN));
    assert_eq!(in_flight, Err(ProvisioningRefusal::RequestInFlight));
    assert_eq!(bench.issuer_says(call, IssuerWord::Silent), Err(ProvisioningRefusal::NoAnswerFromIssuer));
    // The same request asks again, and the issuer says no: that stands, also after a crash.
    let call = bench.pending(wanted(FIRST, "p", PAN));
    assert_eq!(bench.issuer_says(call, IssuerWord::Declined), Err(ProvisioningRefusal::DeclinedByIssuer));
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(bench.provision(wanted(FIRST, "p", PAN)), Err(ProvisioningRefusal::DeclinedByIssuer));
    assert_eq!(
        bench.provision(wanted(FIRST, "p", b"4761739001010218")),
        Err(ProvisioningRefusal::RequestIdReused)
    );
    assert_eq!(bench.tsp.tokens(), 0);
}

#[test]
fn a_crash_while_the_issuer_is_asked_leaves_nothing_and_makes_no_second_token() {
    let mut bench = asking();
    let call = bench.pending(wanted(FIRST, "p", PAN));
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(
        bench.apply(Command::IssuerAnswered { call, word: IssuerWord::Approved(contacts().into()) }),
        []
    );
    let call = bench.pending(wanted(FIRST, "p", PAN));
    let issued = bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(bench.provision(wanted(FIRST, "p", PAN)).unwrap(), issued);
    assert_eq!(bench.tsp.tokens(), 1);
}

#[test]
fn an_answer_that_comes_twice_is_heard_once() {
    let mut bench = asking();
    let call = bench.pending(wanted(FIRST, "p", PAN));
    bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    assert_eq!(
        bench.apply(Command::IssuerAnswered { call, word: IssuerWord::Approved(contacts().into()) }),
        []
    );
    assert_eq!(bench.tsp.tokens(), 1);
}

#[test]
fn a_silent_issuer_keeps_no_other_one_from_being_asked() {
    let other = Text::parse("issuer", b"other-bank").unwrap();
    for (most, each) in [(4, 2), (5, 3), (1, 1)] {
        let mut bench = Bench::with(|config| {
            config.approvals = vec![
                rule(ApprovalRule::Ask),
                IssuerRule { issuer: other, approval: ApprovalRule::Ask, doubts: Doubts::default() },
            ];
            config.limits.waiting_enquiries = most;
        });
        let silent: Vec<_> =
            (0..each).map(|id| bench.pending(wanted(FIRST, &format!("w{id}"), PAN))).collect();
        let past = |pan| wanted(FIRST, "past", pan);
        assert_eq!(bench.provision(past(PAN)), Err(ProvisioningRefusal::Overloaded), "{most}");
        let debit = b"6228480000000000026";
        for id in each..most {
            bench.pending(wanted(FIRST, &format!("o{id}"), debit));
        }
        assert_eq!(bench.tsp.fill().enquiries, most);
        assert_eq!(bench.provision(past(debit)), Err(ProvisioningRefusal::Overloaded), "{most}: it is full");
        assert_eq!(
            bench.issuer_says(silent[0], IssuerWord::Silent),
            Err(ProvisioningRefusal::NoAnswerFromIssuer)
        );
        bench.pending(past(PAN));
    }
}

#[test]
fn tokens_that_wait_for_their_proof_are_bounded() {
    let mut bench = asking();
    let most = bench.config.limits.step_ups;
    let last = (0..most).map(|id| bench.yellow(&format!("y{id}"))).last().unwrap();
    assert_eq!(bench.tsp.fill().step_ups, most);
    let call = bench.pending(wanted(FIRST, "past", PAN));
    let told = bench.issuer_says(call, IssuerWord::StepUp(contacts().into()));
    assert_eq!(
        (told, bench.tsp.tokens()),
        (Err(ProvisioningRefusal::Overloaded), most),
        "and no token is made"
    );
    let call = bench.pending(wanted(FIRST, "good", PAN));
    bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    bench.move_to(FIRST, "gone", last.reference, Move::Unlink).unwrap();
    assert_eq!(bench.tsp.fill().step_ups, most - 1);
    bench.yellow("past");
}

#[test]
fn hints_can_only_make_it_stricter() {
    let mut bench = asking();
    let doubtful = RiskHints { device_score: TrustScore::new(1), ..RiskHints::default() };
    let call = bench.pending(ProvisionRequest { hints: doubtful, ..wanted(FIRST, "p", PAN) });
    assert_eq!(bench.asked[0].1.hints, doubtful, "the issuer is told");
    let view = bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    assert_eq!(view.lifecycle.status, TokenStatus::Inactive);
    let against = RiskHints { recommendation: Some(Recommendation::Decline), ..RiskHints::default() };
    let call = bench.pending(ProvisionRequest { hints: against, ..wanted(FIRST, "q", PAN) });
    let refused = bench.issuer_says(call, IssuerWord::Approved(contacts().into()));
    assert_eq!(refused, Err(ProvisioningRefusal::AdvisedAgainst));
    assert_eq!(
        bench.provision(wanted(FIRST, "q", PAN)),
        Err(ProvisioningRefusal::RequestIdReused),
        "other hints are another request"
    );
}

/// The issuer's rule says about what its yes waits for proof; another place to keep the token is one of them.
#[test]
fn an_issuers_yes_waits_for_proof_where_its_rule_has_doubts() {
    let doubts = Doubts {
        sources: vec![PanSource::Entered],
        locations: vec![TokenLocation::RemoteStorage],
        ..Doubts::default()
    };
    let mut bench = Bench::with(|config| {
        config.approvals = vec![IssuerRule { doubts, ..rule(ApprovalRule::Ask) }];
        config.requestors[0].location = TokenLocation::SecureElement;
    });
    let from = |source| RiskHints { source: Some(source), ..RiskHints::default() };
    for (id, hints, location, expected) in [
        ("1", RiskHints::default(), None, TokenStatus::Active),
        ("2", from(PanSource::Pushed), None, TokenStatus::Active),
        ("3", from(PanSource::Entered), None, TokenStatus::Inactive),
        ("4", RiskHints::default(), Some(TokenLocation::RemoteStorage), TokenStatus::Inactive),
    ] {
        let call = bench.pending(ProvisionRequest { hints, location, ..wanted(FIRST, id, PAN) });
        let view = bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
        assert_eq!(
            (view.lifecycle.status, view.step_up.is_some()),
            (expected, expected == TokenStatus::Inactive),
            "{id}"
        );
    }
}

#[test]
fn issuers_without_a_rule_and_those_with_a_standing_yes_are_not_asked() {
    for rule in [ApprovalRule::Off, ApprovalRule::AlwaysGreen] {
        let mut bench = Bench::with(|it| it.approvals = vec![super::idv::rule(rule)]);
        let view = bench.provision(wanted(FIRST, "p", PAN)).unwrap();
        assert_eq!((view.lifecycle.status, view.step_up), (TokenStatus::Active, None));
        // A standing yes is the issuer's own; without one the requestor's no counts, and stands.
        let advised = |recommendation| {
            let hints = RiskHints { recommendation: Some(recommendation), ..RiskHints::default() };
            ProvisionRequest { hints, ..wanted(FIRST, &format!("{recommendation:?}"), PAN) }
        };
        let against = advised(Recommendation::Decline);
        for _ in 0..2 {
            let status = bench.provision(against.clone()).map(|view| view.lifecycle.status);
            let expected = match rule {
                ApprovalRule::Off => Err(ProvisioningRefusal::AdvisedAgainst),
                _ => Ok(TokenStatus::Active),
            };
            assert_eq!(status, expected, "{rule:?}");
            bench.tsp = bench.recovered(bench.log.len());
        }
        assert!(bench.provision(advised(Recommendation::StepUp)).is_ok(), "nobody is there to ask for proof");
        assert!(bench.asked.is_empty());
    }
}

#[test]
fn the_right_code_makes_the_token_good_and_says_how() {
    for (contact, assurance) in [(1, b"11"), (2, b"12")] {
        let mut bench = asking();
        let view = bench.yellow("p");
        let step_up = view.step_up.unwrap();
        assert_eq!((step_up.contacts, step_up.codes_left, step_up.tries_left), (contacts(), 3, 3));
        let early = bench.move_to(FIRST, "m", view.reference, Move::Activate);
        assert_eq!(early, Err(ProvisioningRefusal::StatusDoesNotAllow), "its requestor cannot say it");
        let sent = bench.want_code("c", &view, contact).unwrap();
        assert_eq!(sent.step_up.unwrap().codes_left, 2);
        assert_eq!(bench.want_code("c", &view, contact), Ok(sent), "a repeat sends no second code");
        let [delivery] = bench.codes.as_slice() else { panic!("{:?}", bench.codes) };
        assert_eq!((delivery.issuer, delivery.enquiry), (bank(), bench.asked[0].1.id));
        let code = delivery.code.clone();
        let wrong = bench.type_code("t1", &view, &other(&code), None);
        assert_eq!(wrong, Err(ProvisioningRefusal::CodeWrong));
        assert_eq!(bench.type_code("t1", &view, &other(&code), None), wrong, "a repeat costs no try");
        assert_eq!(bench.type_code("t1", &view, &code, None), Err(ProvisioningRefusal::RequestIdReused));
        assert_eq!(bench.get(FIRST, view.reference).unwrap().step_up.unwrap().tries_left, 2);
        let good = bench.type_code("t2", &view, &code, None).unwrap();
        assert_eq!((good.lifecycle.status, good.assurance), (TokenStatus::Active, method(assurance)));
        assert_eq!(good.step_up, None);
        let after = bench.type_code("t3", &view, &code, None);
        assert_eq!(after, Err(ProvisioningRefusal::NothingToProve));
    }
}

#[test]
fn codes_are_few_short_lived_and_bound_to_their_device() {
    let mut bench = asking();
    let call = bench.pending(ProvisionRequest {
        device: Text::parse("device", b"phone-1").ok(),
        ..wanted(FIRST, "p", PAN)
    });
    let view = bench.issuer_says(call, IssuerWord::StepUp(contacts().into())).unwrap();
    let stranger = CodeRequest { asker: asker(SECOND, "c"), reference: view.reference, contact: 1 };
    let answer = of_token(bench.ask(|call| Command::RequestCode { call, request: stranger }));
    assert_eq!(answer, Err(ProvisioningRefusal::UnknownToken));
    assert_eq!(bench.want_code("c0", &view, 7), Err(ProvisioningRefusal::UnknownContact));
    let none = StepUpCode::parse(b"000000").unwrap();
    assert_eq!(bench.type_code("t0", &view, &none, None), Err(ProvisioningRefusal::NoCode));

    bench.want_code("c1", &view, 1).unwrap();
    let first = bench.codes[0].code.clone();
    bench.now.wall = bench.now.wall.plus(Duration::from_secs(600));
    assert_eq!(bench.type_code("t1", &view, &first, Some("phone-1")), Err(ProvisioningRefusal::NoCode));
    bench.want_code("c2", &view, 1).unwrap();
    let second = bench.codes[1].code.clone();
    for (id, device) in [("t2", Some("phone-2")), ("t3", None)] {
        let elsewhere = bench.type_code(id, &view, &second, device);
        assert_eq!(elsewhere, Err(ProvisioningRefusal::CodeWrong), "{device:?}");
    }
    bench.want_code("c3", &view, 2).unwrap();
    assert_eq!(bench.want_code("c4", &view, 2), Err(ProvisioningRefusal::CodesExhausted));
    let third = bench.codes[2].code.clone();
    let good = bench.type_code("t4", &view, &third, Some("phone-1")).unwrap();
    assert_eq!(good.lifecycle.status, TokenStatus::Active);
}

#[test]
fn the_last_wrong_code_ends_the_token_for_good() {
    let mut bench = asking();
    let view = bench.yellow("p");
    bench.want_code("c", &view, 1).unwrap();
    let code = bench.codes[0].code.clone();
    for (id, refusal) in [
        ("t1", ProvisioningRefusal::CodeWrong),
        ("t2", ProvisioningRefusal::CodeWrong),
        ("t3", ProvisioningRefusal::ProofFailed),
    ] {
        assert_eq!(bench.type_code(id, &view, &other(&code), None), Err(refusal), "{id}");
    }
    assert_eq!(bench.get(FIRST, view.reference).unwrap().lifecycle.status, TokenStatus::Deactivated);
    assert_eq!(bench.type_code("t4", &view, &code, None), Err(ProvisioningRefusal::NothingToProve));
}

#[test]
fn tries_in_one_batch_count_each() {
    let mut bench = asking();
    let view = bench.yellow("p");
    bench.want_code("c", &view, 1).unwrap();
    let wrong = other(&bench.codes[0].code.clone());
    let mut refused = Vec::new();
    for id in ["a", "b", "c3", "d"] {
        let call = bench.call();
        let (reference, code) = (view.reference, wrong.clone());
        let request = Box::new(CodeSubmission { asker: asker(FIRST, id), reference, code, device: None });
        refused.extend(bench.apply(Command::SubmitCode { call, request }));
    }
    refused.extend(bench.sync());
    let refused: Vec<_> = refused.into_iter().map(|(_, answer)| answer.unwrap_err()).collect();
    assert_eq!(refused.iter().filter(|it| **it == ProvisioningRefusal::CodeWrong).count(), 2);
    assert!(refused.contains(&ProvisioningRefusal::ProofFailed));
    assert!(refused.contains(&ProvisioningRefusal::NothingToProve), "before the others are durable");
}

/// With a wallet and a bank that are told.
pub(super) fn telling() -> Bench {
    let mut bench = Bench::with(|config| {
        config.approvals = vec![rule(ApprovalRule::Ask)];
        config.receivers = receivers().to_vec();
    });
    let call = bench.call();
    bench.apply(Command::Adopt { call });
    bench.sync();
    bench
}

pub(super) fn receivers() -> [Receiver; 2] {
    [Receiver::Requestor(TokenRequestorId::parse(FIRST).unwrap()), Receiver::Issuer(bank())]
}

pub(super) fn waiting(tsp: &Tsp) -> Vec<Vec<Notification>> {
    receivers().map(|receiver| tsp.outbox().first(receiver, 100)).to_vec()
}

#[test]
fn receivers_are_told_what_happened_to_their_tokens_in_order() {
    let mut bench = telling();
    let view = bench.yellow("p");
    bench.want_code("c", &view, 1).unwrap();
    let code = bench.codes[0].code.clone();
    assert_eq!(bench.type_code("t1", &view, &other(&code), None), Err(ProvisioningRefusal::CodeWrong));
    bench.type_code("t2", &view, &code, None).unwrap();
    for (id, asked) in [
        Move::Suspend(Suspender::Cardholder),
        Move::Suspend(Suspender::Cardholder),
        Move::Resume(Suspender::Cardholder),
        Move::Unlink,
    ]
    .into_iter()
    .enumerate()
    {
        bench.move_to(FIRST, &format!("m{id}"), view.reference, asked).unwrap();
    }
    for told in waiting(&bench.tsp) {
        let words: Vec<_> = told.iter().map(|it| it.what.name()).collect();
        assert_eq!(words, ["issued", "activated", "suspended", "resumed", "deactivated"]);
        let versions: Vec<_> = told.iter().map(|it| it.lifecycle.version).collect();
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        assert!(told.is_sorted_by(|a, b| a.sequence < b.sequence));
        assert!(told.iter().all(|it| it.reference == view.reference));
    }
    bench.pending(wanted(SECOND, "q", PAN));
    let call = bench.asked.last().unwrap().0;
    bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    let counts: Vec<_> = waiting(&bench.tsp).iter().map(Vec::len).collect();
    assert_eq!(counts, [5, 6], "another requestor's token is the bank's business, and not the first's");
}

#[test]
fn what_was_told_is_not_told_again_and_the_rest_is_after_any_crash() {
    let mut bench = telling();
    let first = bench.yellow("p");
    bench.want_code("c", &first, 1).unwrap();
    let told = waiting(&bench.tsp)[0][0].sequence;
    let receiver = receivers()[0];
    let call = bench.call();
    bench.apply(Command::Notified { call, receiver, up_to: told });
    bench.sync();
    let code = bench.codes[0].code.clone();
    bench.type_code("t", &first, &code, None).unwrap();
    let second = bench.yellow("p2");
    bench.want_code("c2", &second, 2).unwrap();
    let standing = (waiting(&bench.tsp), bench.tsp.step_ups.clone());
    assert_eq!(standing.0.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        let (_directory, checkpoint) = folded(&bench.config, &entries[..kept], CheckpointKind::Redb);
        let mut tsp = empty(&bench.config);
        tsp.restore(&checkpoint).unwrap();
        entries[kept..].iter().for_each(|entry| tsp.replay(entry).unwrap());
        assert_eq!((waiting(&tsp), tsp.step_ups.clone()), standing, "{kept}");
    }
    // The code of the second still is good after a restart.
    bench.tsp = bench.recovered(bench.log.len());
    let code = bench.codes[1].code.clone();
    assert_eq!(bench.type_code("t2", &second, &code, None).unwrap().assurance, method(b"12"));
}

#[test]
fn what_was_to_be_told_of_a_card_is_told_to_its_issuer_though_another_card_took_its_place() {
    let mut bench = Bench::with(|config| {
        let bin = Bin::parse(b"476199").unwrap();
        config.pan_ranges.push(PanRange { bin, issuer: None, ..config.pan_ranges[0] });
        config.receivers = receivers().to_vec();
    });
    let call = bench.call();
    bench.apply(Command::Adopt { call });
    bench.sync();
    let token = bench.provision(wanted(FIRST, "p", PAN)).unwrap();
    bench.move_to(FIRST, "s", token.reference, Move::Suspend(Suspender::Cardholder)).unwrap();
    bench.now.wall = bench.now.wall.plus(Duration::from_secs(1));
    let news = CardNews::NewPan {
        pan: Pan::parse(b"4761990000001233").unwrap(),
        expiry: Expiry::parse(b"2812").unwrap(),
        sequence: None,
        keep_par: None,
        par: None,
    };
    let request = Box::new(CardRequest {
        asker: Asker::new(Principal::Service, Actor::Service, RequestId::parse(b"n").unwrap()),
        pan: Pan::parse(PAN).unwrap(),
        news,
    });
    bench.ask(|call| Command::Card { call, request }).unwrap();
    let standing = waiting(&bench.tsp);
    assert_eq!(standing.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2], "the new card is another's");
    let entries = token_entries(&bench);
    for kept in 0..=entries.len() {
        let tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        assert_eq!(waiting(&tsp), standing, "{kept}");
    }
}

#[test]
fn a_token_that_is_not_proven_in_time_is_given_up_by_the_service_and_everybody_hears_why() {
    let mut bench = telling();
    let proven = bench.yellow("p");
    bench.want_code("c", &proven, 1).unwrap();
    let code = bench.codes[0].code.clone();
    bench.type_code("t", &proven, &code, None).unwrap();
    let first = bench.yellow("p1");
    bench.now.wall = bench.now.wall.plus(Duration::from_secs(3_600));
    let second = bench.yellow("p2");
    let later = |bench: &mut Bench, hours: u64, expected: usize| {
        bench.now.wall = TODAY.plus(Duration::from_secs(hours * 3_600));
        let before = bench.log.len();
        let call = bench.call();
        bench.apply(Command::GiveUpOverdue { call });
        bench.apply(Command::GiveUpOverdue { call });
        bench.sync();
        assert_eq!(bench.log.len() - before, expected, "after {hours} hours");
    };
    later(&mut bench, 23, 0);
    later(&mut bench, 24, 1);
    later(&mut bench, 24, 0);
    let status = |bench: &mut Bench, of: &TokenView| bench.get(FIRST, of.reference).unwrap().lifecycle.status;
    assert_eq!(status(&mut bench, &proven), TokenStatus::Active);
    assert_eq!(status(&mut bench, &first), TokenStatus::Deactivated);
    assert_eq!(status(&mut bench, &second), TokenStatus::Inactive);
    assert_eq!(bench.want_code("late", &first, 1), Err(ProvisioningRefusal::NothingToProve));
    let event = TokenEvent::decode(&bench.log.last().unwrap().1).unwrap();
    assert_eq!((event.cause.actor, event.cause.reason_code), (Actor::Service, Reason::TimedOut));
    for told in waiting(&bench.tsp) {
        let last = told.last().unwrap();
        assert_eq!((last.what.name(), last.reference), ("deactivated", first.reference));
        assert_eq!((last.actor, last.reason), (Actor::Service, Reason::TimedOut));
    }
    let because = |bench: &mut Bench, of: &TokenView| {
        let (principal, reference) = (Principal::Requestor(of.requestor), of.reference);
        match bench.ask(|call| Command::Get { call, principal, reference }) {
            Ok(Told::Seen(seen)) => seen.because,
            told => panic!("{told:?}"),
        }
    };
    assert_eq!(because(&mut bench, &first), Reason::TimedOut);
    let entries = token_entries(&bench);
    bench.tsp = restored(&bench, &entries, entries.len(), CheckpointKind::Redb);
    assert_eq!(because(&mut bench, &first), Reason::TimedOut, "and from a checkpoint");
    assert_eq!(because(&mut bench, &proven), Reason::Unstated);
    // It is so after a crash, too, and the other's time goes on.
    bench.tsp = bench.recovered(bench.log.len());
    assert_eq!(because(&mut bench, &first), Reason::TimedOut);
    assert_eq!(status(&mut bench, &first), TokenStatus::Deactivated);
    later(&mut bench, 25, 1);
    assert_eq!(status(&mut bench, &second), TokenStatus::Deactivated);
}

/// A token that waits for its cardholder's proof stands among them, and has its own time.
#[test]
fn a_token_that_is_never_activated_is_given_up_in_its_own_time_also_after_a_restart() {
    let days = |days: u64| TODAY.plus(Duration::from_secs(days * 86_400));
    for crashed in [None, Some(CheckpointKind::Redb), Some(CheckpointKind::Sled)] {
        let mut bench = Bench::with(|config| {
            config.approvals = vec![rule(ApprovalRule::Ask)];
            config.requestors[1].activation = Activation::Confirmed;
            config.step_up.proof_within = Duration::from_secs(30 * 86_400);
            config.receivers = vec![Receiver::Requestor(TokenRequestorId::parse(SECOND).unwrap())];
        });
        let unasked = b"6228480000000000026";
        let call = bench.call();
        bench.apply(Command::Adopt { call });
        bench.sync();
        let to_prove = bench.yellow("proof");
        let mut issued = |id: &str| bench.provision(wanted(SECOND, id, unasked)).unwrap();
        let (late, arrived, unlinked) = (issued("late"), issued("arrived"), issued("unlinked"));
        bench.move_to(SECOND, "a", arrived.reference, Move::Activate).unwrap();
        bench.move_to(SECOND, "u", unlinked.reference, Move::Unlink).unwrap();
        bench.now.wall = days(1);
        let younger = bench.provision(wanted(SECOND, "younger", unasked)).unwrap();
        let entries = token_entries(&bench);
        match crashed {
            Some(kind) => bench.tsp = restored(&bench, &entries, entries.len(), kind),
            None => bench.tsp = bench.recovered(bench.log.len()),
        }
        let mut given_up = |day: u64, expected: usize| {
            bench.now.wall = days(day);
            let before = bench.log.len();
            let call = bench.call();
            bench.apply(Command::GiveUpOverdue { call });
            bench.apply(Command::GiveUpOverdue { call });
            bench.sync();
            assert_eq!(bench.log.len() - before, expected, "{crashed:?}: after {day} days");
        };
        given_up(6, 0);
        given_up(7, 1);
        given_up(7, 0);
        given_up(8, 1);
        given_up(29, 0);
        let status = |requestor, of: &TokenView| {
            let principal = Principal::Requestor(TokenRequestorId::parse(requestor).unwrap());
            bench
                .tsp
                .owned(principal, of.reference)
                .and_then(|record| bench.tsp.record_ahead(record))
                .unwrap()
        };
        for (requestor, token, expected, because) in [
            (SECOND, late, TokenStatus::Deactivated, Reason::TimedOut),
            (SECOND, younger, TokenStatus::Deactivated, Reason::TimedOut),
            (SECOND, arrived, TokenStatus::Active, Reason::Unstated),
            (FIRST, to_prove, TokenStatus::Inactive, Reason::Unstated),
        ] {
            let record = status(requestor, &token);
            assert_eq!((record.lifecycle.status, record.because), (expected, because), "{crashed:?}");
        }
        let told = bench.tsp.outbox().first(bench.config.receivers[0], 100);
        let last = told.last().unwrap();
        assert_eq!((last.what.name(), last.reason), ("deactivated", Reason::TimedOut));
        assert_eq!(bench.tsp.live_of(TokenRequestorId::parse(SECOND).unwrap()), 1);
    }
}

#[test]
fn while_a_proof_is_being_written_down_its_requestor_is_asked_to_wait() {
    let mut bench = asking();
    let view = bench.yellow("p");
    bench.want_code("c", &view, 1).unwrap();
    let code = bench.codes[0].code.clone();
    let (asker_of, reference) = (asker(FIRST, "t"), view.reference);
    let call = bench.call();
    let request = Box::new(CodeSubmission { asker: asker_of, reference, code, device: None });
    assert_eq!(bench.apply(Command::SubmitCode { call, request }), [], "not durable yet");
    let request = MoveRequest { asker: asker(FIRST, "m"), reference, asked: Move::Activate, version: None };
    let call = bench.call();
    let answers = bench.apply(Command::Move { call, request });
    assert_eq!(answers, [(call, Err(ProvisioningRefusal::ProofInFlight))]);
    bench.sync();
    assert!(bench.move_to(FIRST, "m", reference, Move::Activate).is_ok(), "there is nothing left to prove");
}

/// Nothing is left to prove once the proof is on disk, whatever else of the token is on its way there.
#[test]
fn once_a_proof_is_on_disk_another_change_on_its_way_there_hides_it_no_more() {
    let mut bench = asking();
    let view = bench.yellow("p");
    bench.want_code("c", &view, 1).unwrap();
    let (code, reference) = (bench.codes[0].code.clone(), view.reference);
    let call = bench.call();
    let asker_of = asker(FIRST, "t");
    let request = Box::new(CodeSubmission { asker: asker_of, reference, code, device: None });
    assert_eq!(bench.apply(Command::SubmitCode { call, request }), [], "not durable yet");
    let (held, released) = (Move::Suspend(Suspender::Cardholder), Move::Resume(Suspender::Cardholder));
    for (id, asked) in [("s", held), ("r", released)] {
        let call = bench.call();
        let request = MoveRequest { asker: asker(FIRST, id), reference, asked, version: None };
        assert_eq!(bench.apply(Command::Move { call, request }), [], "{id}");
    }
    bench.durable(1);
    let request = MoveRequest { asker: asker(FIRST, "m"), reference, asked: Move::Activate, version: None };
    let call = bench.call();
    assert_eq!(bench.apply(Command::Move { call, request }), [], "it is active, and stays so");
    let answers = bench.sync();
    let (_, answer) = answers.into_iter().find(|(answered, _)| *answered == call).unwrap();
    assert_eq!(of_token(answer).unwrap().lifecycle.status, TokenStatus::Active);
}

#[test]
fn a_receiver_that_takes_nothing_holds_so_many_and_no_more() {
    let mut bench = telling();
    for id in 0..bench.config.limits.notifications + 3 {
        let call = bench.pending(wanted(FIRST, &format!("p{id}"), PAN));
        bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    }
    for receiver in receivers() {
        let standing = bench.tsp.outbox().standing(receiver);
        assert_eq!(standing, OutboxStanding { waiting: bench.config.limits.notifications, given_up: 3 });
    }
}

#[test]
fn who_is_new_hears_of_what_comes_and_not_of_what_was() {
    let mut bench = asking();
    let call = bench.pending(wanted(FIRST, "p", PAN));
    bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    bench.config.receivers = receivers().to_vec();
    bench.tsp = bench.recovered(bench.log.len());
    let call = bench.call();
    bench.apply(Command::Adopt { call });
    bench.sync();
    assert_eq!(waiting(&bench.tsp), [vec![], vec![]]);
    let call = bench.pending(wanted(FIRST, "q", PAN));
    bench.issuer_says(call, IssuerWord::Approved(contacts().into())).unwrap();
    assert_eq!(waiting(&bench.tsp).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_card_has_the_par_that_its_issuer_said_unless_it_has_another() {
    let par = |text: &[u8; 29]| Par::parse(text).unwrap();
    let (first, other) = (par(b"V0010013020315513942420893974"), par(b"V0010056422073825495104907179"));
    let said = |par| IssuerWord::Approved(CardWord { contacts: contacts(), par });
    let mut bench = asking();
    bench.tsp.narrow_for_test(TspConfig {
        pan_ranges: bench.config.pan_ranges.iter().map(|it| PanRange { controlled: false, ..*it }).collect(),
        ..bench.config.clone()
    });
    // What the issuer says goes before what the requestor supplied.
    let call = bench.pending(ProvisionRequest { par: Some(other), ..wanted(FIRST, "1", PAN) });
    assert_eq!(bench.issuer_says(call, said(Some(first))).unwrap().par, Some(first));
    assert_eq!(bench.tsp.fill().pars.count, 0);
    for (id, word, differing) in [
        ("2", said(None), 0),
        ("3", said(Some(first)), 0),
        ("4", said(Some(other)), 1),
        ("5", IssuerWord::StepUp(CardWord { contacts: contacts(), par: Some(other) }), 2),
    ] {
        let call = bench.pending(wanted(FIRST, id, PAN));
        let token = bench.issuer_says(call, word).unwrap();
        assert_eq!(token.par, Some(first), "{id}: one card, one reference");
        let pars = bench.tsp.fill().pars;
        assert_eq!(pars.count, differing, "{id}");
        assert_eq!(pars.last, Some(token.reference).filter(|_| differing > 0), "{id}");
    }
}

#[test]
fn where_the_references_are_ours_an_issuers_word_of_another_is_counted() {
    let said = Par::parse(b"V0010013020315513942420893974").unwrap();
    let mut bench = asking();
    let call = bench.pending(wanted(FIRST, "1", PAN));
    let word = IssuerWord::Approved(CardWord { contacts: contacts(), par: Some(said) });
    let drawn = bench.issuer_says(call, word).unwrap().par.unwrap();
    assert_ne!(drawn, said);
    assert_eq!(bench.tsp.fill().pars.count, 1);
}
