//! Payments that a merchant initiates by what its customer agreed to: the payment that they name is found, in memory or
//! in the history, over restarts, and whatever became of it and of its token.

use std::time::Duration;

use tokenswitch::codec::{Message, TokenData};
use tokenswitch::tsp::{
    Asker, CallId, Command, ControlRequest, InitiationControls, Move, ProvisionRequest, RequestId, Suspender,
    TokenControls,
};
use tokenswitch::vocab::{Initiator, Initiators, Refusal, Rrn, Service, VerdictResult};

use crate::desk::{Desk, FIRST, answer_to, get, repeat, reversal, set};
use crate::house::Crash;
use crate::setting::{ACQUIRERS, ISSUERS, dialect_of, requestor_id};

fn asker(id: &str) -> Asker {
    Asker::requestor(requestor_id(), RequestId::parse(id.as_bytes()).expect("short"))
}

/// The desk's token needs a cryptogram for each purchase, unless its merchant initiates it and names an original.
fn agreed_only(desk: &mut Desk) {
    let initiation = InitiationControls { initiators: Initiators::Both, original_required: true };
    control(desk, TokenControls { cryptogram_required: true, initiation, ..TokenControls::default() });
}

fn control(desk: &mut Desk, controls: TokenControls) {
    let (asker, controls) = (asker("control"), Some(Box::new(controls)));
    let request = ControlRequest { asker, reference: desk.token.reference, version: None, controls };
    let told = desk.vault(Command::Control { call: CallId(7), request: Box::new(request) });
    told.expect("it is answered").expect("it is allowed");
}

/// By a merchant, or by a customer, with what is kept and no cryptogram.
fn said(desk: &Desk, stan: u32, initiator: Initiator, original: Option<&str>) -> Message {
    let mut message = desk.token_purchase(stan);
    let original = original.map(|rrn| Rrn::parse(rrn.as_bytes()).expect("twelve"));
    let data = TokenData { initiator: Some(initiator), original, ..TokenData::default() };
    dialect_of(ACQUIRERS[0]).set_token_data(&mut message, &data).expect("it has places");
    message
}

fn by_merchant(desk: &Desk, stan: u32, original: &str) -> Message {
    said(desk, stan, Initiator::Merchant, Some(original))
}

/// Its customer taps, and agrees by it; the issuer says `code`. Gives its DE 37.
fn agrees(desk: &mut Desk, stan: u32, code: &str) -> String {
    let tap = desk.tap(stan, u16::try_from(stan).expect("few"));
    desk.send(FIRST, &tap);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, code));
    assert_eq!(get(&desk.answer(), 39), code);
    get(&tap, 37)
}

fn refused(desk: &mut Desk, message: &Message, refusal: Refusal) {
    desk.send(FIRST, message);
    let answer = desk.answer();
    let data = dialect_of(ACQUIRERS[0]).token_data(&answer).expect("readable");
    assert_eq!(data.refusal.expect("a reason").as_str(), refusal.name());
    assert_eq!(get(&answer, 39), refusal.default_code());
    assert!(desk.sent_to_issuers().is_empty(), "{refusal}");
}

/// It is approved, and the issuer was told what it names and that it is good.
fn approved(desk: &mut Desk, message: &Message, original: &str) {
    desk.send(FIRST, message);
    let (connection, asked) = desk.asked();
    let data = dialect_of(ISSUERS[0]).token_data(&asked).expect("readable");
    assert_eq!(data.verdicts.of(Service::Initiation), Some(VerdictResult::Good));
    assert_eq!(data.verdicts.of(Service::Cryptogram), Some(VerdictResult::Absent));
    assert_eq!(
        (data.initiator, data.original.expect("named").as_str()),
        (Some(Initiator::Merchant), original)
    );
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
}

type Fate = fn(&mut Desk);
/// A payment before, by its DE 37, and how the one that names it is altered.
type Case = (&'static str, fn(&mut Desk) -> String, fn(&mut Message));

#[test]
fn a_merchant_collects_by_what_its_customer_agreed_to_over_restarts() {
    for restarts in [false, true] {
        let mut desk = Desk::open();
        agreed_only(&mut desk);
        let rrn = agrees(&mut desk, 1, "00");
        for stan in [2, 3] {
            desk.pass(Duration::from_secs(1));
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            let message = by_merchant(&desk, stan, &rrn);
            approved(&mut desk, &message, &rrn);
            // A repeat gets the same answer, and goes nowhere.
            desk.send(FIRST, &repeat(&message));
            assert_eq!(get(&desk.answer(), 39), "00");
            assert!(desk.sent_to_issuers().is_empty());
        }
    }
}

#[test]
fn what_was_not_approved_here_or_does_not_stand_is_no_agreement() {
    let other_shop: fn(&mut Message) = |message| set(message, &[(42, "SHOP0002       ")]);
    let same: fn(&mut Message) = |_| ();
    // DE 37 and DE 38 together name what is completed: nothing, and be its DE 37 an agreement's.
    let completes: fn(&mut Message) = |message| set(message, &[(37, "000000000001"), (38, "A00077")]);
    let cases: [Case; 6] = [
        ("unknown", |_| "000000000077".to_owned(), same),
        ("another than is completed", |desk| agrees(desk, 1, "00").replace('1', "7"), completes),
        ("declined", |desk| agrees(desk, 1, "05"), same),
        ("at another shop", |desk| agrees(desk, 1, "00"), other_shop),
        (
            "of a card",
            |desk| {
                let purchase = desk.purchase(1);
                desk.send(FIRST, &purchase);
                let (connection, asked) = desk.asked();
                desk.send(connection, &answer_to(&asked, "00"));
                desk.answer();
                get(&purchase, 37)
            },
            same,
        ),
        (
            "reversed",
            |desk| {
                let rrn = agrees(desk, 1, "00");
                let tap = desk.tap(1, 1);
                desk.send(FIRST, &reversal(&tap, 2));
                assert_eq!(get(&desk.answer(), 39), "00");
                let (connection, sent) = desk.asked();
                desk.send(connection, &answer_to(&sent, "00"));
                rrn
            },
            same,
        ),
    ];
    for (case, agree, change) in cases {
        for restarts in [false, true] {
            println!("{case}, restarts {restarts}");
            let mut desk = Desk::open();
            agreed_only(&mut desk);
            let rrn = agree(&mut desk);
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            let mut message = by_merchant(&desk, 5, &rrn);
            change(&mut message);
            refused(&mut desk, &message, Refusal::OriginalNotApproved);
        }
    }
}

#[test]
fn what_the_controls_do_not_let_has_its_reason() {
    let mut desk = Desk::open();
    agreed_only(&mut desk);
    let rrn = agrees(&mut desk, 1, "00");
    let unnamed = said(&desk, 2, Initiator::Merchant, None);
    refused(&mut desk, &unnamed, Refusal::OriginalMissing);
    // Its customer, who is there, signs as always.
    let customer = said(&desk, 3, Initiator::Customer, Some(&rrn));
    refused(&mut desk, &customer, Refusal::CryptogramMissing);
    let mut desk = Desk::open();
    let initiation = InitiationControls { initiators: Initiators::Customer, original_required: false };
    control(&mut desk, TokenControls { initiation, ..TokenControls::default() });
    let rrn = agrees(&mut desk, 1, "00");
    let message = by_merchant(&desk, 2, &rrn);
    refused(&mut desk, &message, Refusal::InitiatorNotAllowed);
}

#[test]
fn a_token_made_anew_goes_on_with_what_was_agreed_with_the_one_before() {
    let fates: [Fate; 2] =
        [|desk| desk.move_token(Move::Suspend(Suspender::Cardholder)), |desk| desk.move_token(Move::Unlink)];
    for befall in fates {
        for restarts in [false, true] {
            let mut desk = Desk::open();
            let rrn = agrees(&mut desk, 1, "00");
            befall(&mut desk);
            let request = ProvisionRequest::of(asker("anew"), desk.behind.pan.clone(), desk.behind.expiry);
            let told = desk.vault(Command::Provision { call: CallId(8), request: Box::new(request) });
            desk.token = told.expect("it is answered").expect("there is room").token().expect("a token");
            agreed_only(&mut desk);
            if restarts {
                desk = desk.restart(Crash::Unsynced);
            }
            let message = by_merchant(&desk, 2, &rrn);
            approved(&mut desk, &message, &rrn);
        }
    }
}

#[test]
fn what_says_nothing_of_it_is_as_it_was_and_its_issuer_hears_nothing_of_it() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.token_purchase(1));
    let (connection, asked) = desk.asked();
    let data = dialect_of(ISSUERS[0]).token_data(&asked).expect("readable");
    assert_eq!((data.verdicts.of(Service::Initiation), data.initiator, data.original), (None, None, None));
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
    assert_eq!(desk.house.node.core().counts().look_ups, 0);
}
