//! Declines, one row each: what an acquirer sends, for which reason it is refused, with which code, and that it went
//! nowhere. Those that need more than a message have cases of their own: `ELSEWHERE` says where, and nobody is left
//! out.

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::link::ConnectionId;
use tokenswitch::tsp::{
    Asker, CallId, CardWord, Command, IssuerWord, Move, ProvisionRequest, RequestId, Suspender,
};
use tokenswitch::vocab::{Refusal, luhn_check_digit};

use crate::desk::{Desk, FIRST, answer_to, get, repeat, reversal, set, with_mti};
use crate::house::Remembering;
use crate::setting::{ACQUIRERS, ISSUER_TIMEOUT, dialect_of, requestor_id, vault_cards};

/// Sends what is refused, last of all.
type Act = fn(&mut Desk);

fn with(desk: &Desk, token: bool, elements: &[(u8, &str)]) -> Message {
    let mut message = if token { desk.token_purchase(1) } else { desk.purchase(1) };
    set(&mut message, elements);
    message
}

fn bytes(message: &mut Message, number: u8, value: &[u8]) {
    message.set(DataElement::new(number).expect("1 to 128"), value).expect("it fits");
}

/// A token that waits for its cardholder's proof, in place of the desk's own.
fn unproven(desk: &mut Desk) {
    let card = vault_cards(1, &[]).into_iter().find(|card| card.issuer_says.is_some()).expect("some").card;
    let asker = Asker::requestor(requestor_id(), RequestId::parse(b"unproven").expect("short"));
    let request = Box::new(ProvisionRequest::of(asker, card.pan, card.expiry));
    let (call, word) = (CallId(77), IssuerWord::StepUp(CardWord::default()));
    desk.vault(Command::Provision { call, request });
    let told = desk.vault(Command::IssuerAnswered { call, word }).expect("it is answered");
    desk.token = told.expect("it is issued").token().expect("a token");
    // Its issuer was asked, and need not answer any more.
    desk.settle();
    desk.sent_to_issuers();
}

#[rustfmt::skip]
const DECLINES: [(Refusal, Act); 27] = {
    use Refusal as R;
    [
    (R::UnknownToken, |desk| {
        let known = desk.token.token;
        let mut other = known.as_str().as_bytes()[..known.as_str().len() - 2].to_vec();
        other.push(b'0' + (known.as_bytes()[other.len()] - b'0' + 1) % 10);
        other.push(luhn_check_digit(&other).expect("digits"));
        let other = String::from_utf8(other).expect("digits");
        desk.send(FIRST, &with(desk, true, &[(2, &other)]));
    }),
    (R::TokenInactive, |desk| { unproven(desk); desk.send(FIRST, &desk.token_purchase(1)); }),
    (R::TokenSuspended, |desk| {
        desk.move_token(Move::Suspend(Suspender::Cardholder));
        desk.send(FIRST, &desk.token_purchase(1));
    }),
    (R::TokenDeactivated, |desk| { desk.move_token(Move::Unlink); desk.send(FIRST, &desk.token_purchase(1)); }),
    (R::ExpiryMismatch, |desk| desk.send(FIRST, &with(desk, true, &[(14, "3112")]))),
    (R::ExpiryMissing, |desk| {
        let mut message = desk.token_purchase(1);
        message.remove(DataElement::EXPIRY);
        desk.send(FIRST, &message);
    }),
    (R::EntryModeNotAllowed, |desk| desk.send(FIRST, &with(desk, true, &[(22, "021")]))),
    (R::CryptogramMissing, |desk| desk.send(FIRST, &with(desk, true, &[(22, "071")]))),
    (R::CryptogramWrong, |desk| {
        let mut tap = desk.tap(1, 7);
        let mut chip = desk.chip(7);
        // Of 9F26, eight bytes after tag and length.
        chip[10] ^= 1;
        bytes(&mut tap, 55, &chip);
        desk.send(FIRST, &tap);
    }),
    (R::CryptogramReplayed, |desk| {
        desk.send(FIRST, &desk.tap(1, 7));
        let (connection, asked) = desk.asked();
        desk.send(connection, &answer_to(&asked, "00"));
        desk.answer();
        desk.send(FIRST, &desk.tap(2, 7));
    }),
    (R::ChipAmountDiffers, |desk| {
        let mut tap = desk.tap(1, 7);
        set(&mut tap, &[(4, "000000001235")]);
        desk.send(FIRST, &tap);
    }),
    (R::RefundNotPermitted, |desk| {
        desk.send(FIRST, &with(desk, false, &[(3, "200000"), (4, "000000500001")]));
    }),
    (R::FormatError, |desk| {
        let mut message = desk.purchase(1);
        message.remove(DataElement::AMOUNT);
        desk.send(FIRST, &message);
    }),
    (R::AccountsDisagree, |desk| {
        desk.send(FIRST, &with(desk, true, &[(35, "4761739001010119=29112010000000000")]));
    }),
    (R::ExpiriesDisagree, |desk| {
        let track = format!("{}=31122010000000000", desk.token.token.as_str());
        desk.send(FIRST, &with(desk, true, &[(35, &track)]));
    }),
    (R::UnsupportedMessage, |desk| desk.send(FIRST, &with_mti(&desk.purchase(1), "0600"))),
    (R::UnsupportedProcessing, |desk| desk.send(FIRST, &with(desk, false, &[(3, "400000")]))),
    (R::PinTranslationUnavailable, |desk| {
        let mut message = desk.purchase(1);
        bytes(&mut message, 52, &[1; 8]);
        desk.send(FIRST, &message);
    }),
    (R::MacKeyMissing, |desk| {
        let mut message = desk.purchase(1);
        bytes(&mut message, 64, &[1; 8]);
        desk.send(FIRST, &message);
    }),
    (R::NotSignedOn, |desk| {
        let stranger = ConnectionId(9);
        desk.opened(stranger, ACQUIRERS[0]);
        desk.send(stranger, &desk.purchase(1));
    }),
    (R::InstitutionNotAllowed, |desk| desk.send(FIRST, &with(desk, false, &[(32, "99999999")]))),
    (R::AlteredDuplicate, |desk| {
        let request = desk.purchase(1);
        desk.send(FIRST, &request);
        desk.sent_to_issuers();
        let mut other = repeat(&request);
        set(&mut other, &[(4, "000000009999")]);
        desk.send(FIRST, &other);
    }),
    (R::UnknownOriginal, |desk| desk.send(FIRST, &reversal(&desk.purchase(1), 2))),
    (R::ReversedBefore, |desk| {
        let request = desk.purchase(1);
        desk.send(FIRST, &reversal(&request, 2));
        desk.answer();
        desk.send(FIRST, &request);
    }),
    (R::NoRoute, |desk| desk.send(FIRST, &with(desk, false, &[(2, "3530111333300000")]))),
    (R::ShuttingDown, |desk| { desk.house.node.drain(); desk.send(FIRST, &desk.purchase(1)); }),
    (R::InternalFault, |desk| {
        desk.house.history.answers(Remembering::Broken);
        // An approval that is nowhere in memory.
        desk.send(FIRST, &with(desk, false, &[(3, "200000"), (38, "A00009")]));
    }),
    ]
};

/// What is declined though it is at its issuer, or was meant for it; the last answer is the one.
#[rustfmt::skip]
const AT_ISSUER: [(Refusal, Act); 6] = {
    use Refusal as R;
    [
    (R::IssuerUnavailable, |desk| {
        desk.reachable = false;
        for connection in desk.issuer_connections() {
            desk.cut(connection, None);
        }
        desk.send(FIRST, &desk.purchase(1));
        desk.pass(ISSUER_TIMEOUT);
    }),
    (R::IssuerTimedOut, |desk| { forward(desk); desk.pass(ISSUER_TIMEOUT * 2); }),
    (R::IssuerLinkLost, |desk| { let (connection, _) = forward(desk); desk.cut(connection, None); }),
    (R::IssuerAnswerInvalid, |desk| {
        let (connection, asked) = forward(desk);
        let mut answer = answer_to(&asked, "00");
        answer.remove(DataElement::RESPONSE_CODE);
        desk.send(connection, &answer);
    }),
    (R::PartialNotSupported, |desk| {
        let (connection, asked) = forward(desk);
        let mut answer = answer_to(&asked, "10");
        set(&mut answer, &[(4, "000000000617")]);
        desk.send(connection, &answer);
    }),
    (R::AnswerWithheld, |desk| {
        let (connection, asked) = forward(desk);
        desk.send(connection, &answer_to(&asked, "00"));
        desk.send(FIRST, &reversal(&desk.purchase(1), 2));
        desk.sent_to_acquirers();
        desk.send(FIRST, &repeat(&desk.purchase(1)));
    }),
    ]
};

/// A purchase at its issuer.
fn forward(desk: &mut Desk) -> (ConnectionId, Message) {
    desk.send(FIRST, &desk.purchase(1));
    desk.asked()
}

/// Where the others are made.
#[rustfmt::skip]
const ELSEWHERE: [(Refusal, &str); 27] = {
    use Refusal as R;
    [
    (R::TokenExpired, "src/tsp/tests/payments.rs"), (R::WrongRequestor, "src/tsp/tests/payments.rs"),
    (R::MerchantNotAllowed, "src/tsp/tests/payments.rs"), (R::ChannelNotAllowed, "src/tsp/tests/own_controls.rs"),
    (R::AmountNotAllowed, "src/tsp/tests/own_controls.rs"), (R::CountryNotAllowed, "src/tsp/tests/own_controls.rs"),
    (R::OutsidePeriod, "src/tsp/tests/own_controls.rs"), (R::DomainNotAllowed, "src/tsp/tests/own_controls.rs"),
    (R::VelocityCountExceeded, "src/tsp/tests/own_controls.rs"),
    (R::InitiatorNotAllowed, "tests/simulation/merchants.rs"), (R::OriginalMissing, "tests/simulation/merchants.rs"),
    (R::OriginalNotApproved, "tests/simulation/merchants.rs"),
    (R::VelocityAmountExceeded, "src/tsp/tests/own_controls.rs"),
    (R::CryptogramUnverifiable, "src/tsp/tests/payments.rs"), (R::CounterOutOfRange, "src/tsp/tests/payments.rs"),
    (R::VaultUnavailable, "src/tsp/tests/payments.rs"), (R::CryptogramExpired, "src/tsp/tests/remote.rs"),
    (R::LimitedKeyUnknown, "src/tsp/tests/keys.rs"), (R::LimitedKeyRevoked, "src/tsp/tests/keys.rs"),
    (R::LimitedKeyExpired, "src/tsp/tests/keys.rs"),
    (R::TooOld, "tests/simulation/limits.rs"), (R::DatedAhead, "tests/simulation/limits.rs"),
    (R::Overloaded, "tests/simulation/limits.rs"),
    (R::IdentifiersInUse, "tests/simulation/links.rs"), (R::NotDurableInTime, "tests/simulation/links.rs"),
    (R::LeakSuppressed, "tests/simulation/audit.rs"), (R::ReversedInFlight, "tests/simulation/audit.rs"),
    ]
};

/// The reason in words, as the acquirer is told it.
fn reason(answer: &Message) -> String {
    let data = dialect_of(ACQUIRERS[0]).token_data(answer).expect("readable");
    data.refusal.map(|refusal| refusal.as_str().to_owned()).unwrap_or_default()
}

#[test]
fn every_decline_has_its_reason_and_its_code() {
    for (refusal, act) in DECLINES {
        let mut desk = Desk::open();
        act(&mut desk);
        let answer = desk.answer();
        assert_eq!(get(&answer, 39), refusal.default_code(), "{refusal}");
        assert_eq!(reason(&answer), refusal.name());
        let left = desk.sent_to_issuers();
        assert!(left.is_empty(), "{refusal}: nothing of it goes to an issuer");
    }
}

#[test]
fn what_fails_at_its_issuer_has_its_reason_and_its_code() {
    for (refusal, act) in AT_ISSUER {
        let mut desk = Desk::open();
        act(&mut desk);
        let answers = desk.sent_to_acquirers();
        let (_, answer, _) = answers.last().unwrap_or_else(|| panic!("{refusal}: no answer"));
        assert_eq!(get(answer, 39), refusal.default_code(), "{refusal}");
        assert_eq!(reason(answer), refusal.name());
    }
}

#[test]
fn no_decline_is_left_out() {
    let here = DECLINES.iter().chain(&AT_ISSUER).map(|(refusal, _)| *refusal);
    let all = here.chain(ELSEWHERE.iter().map(|(refusal, _)| *refusal));
    let made: std::collections::BTreeSet<Refusal> = all.collect();
    let left: Vec<&Refusal> = Refusal::ALL.iter().filter(|refusal| !made.contains(refusal)).collect();
    assert!(left.is_empty(), "{left:?}");
    for (refusal, file) in ELSEWHERE {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join(file)).expect("it is there");
        let named = text.contains(&format!("::{refusal:?}")) || text.contains(&format!("\"{refusal}\""));
        assert!(named, "{file} makes no {refusal}");
    }
}

#[test]
fn what_is_still_here_when_its_token_is_suspended_does_not_leave() {
    for (asked, code) in [(Move::Suspend(Suspender::Cardholder), "62"), (Move::Unlink, "14")] {
        for handed_over in [false, true] {
            let case = format!("{asked:?}, handed over {handed_over}");
            let mut desk = Desk::open();
            (desk.syncs, desk.takes) = (false, false);
            desk.send(FIRST, &desk.tap(1, 7));
            if handed_over {
                desk.sync();
            }
            desk.move_token(asked);
            desk.syncs = true;
            if handed_over {
                let (connection, _) = desk.asked();
                desk.cut(connection, Some(0));
            } else {
                desk.sync();
            }
            assert!(desk.sent_to_issuers().is_empty(), "{case}");
            assert_eq!(get(&desk.answer(), 39), code, "{case}");
            desk.takes = true;
            desk.pass(std::time::Duration::from_secs(5));
            assert!(desk.sent_to_issuers().is_empty(), "{case}: nothing is taken back of what never left");
            if asked == Move::Unlink {
                continue;
            }
            // Its counter was not used up.
            desk.move_token(Move::Resume(Suspender::Cardholder));
            desk.send(FIRST, &desk.tap(2, 7));
            assert_eq!(desk.sent_to_issuers().len(), 1, "{case}");
        }
    }
}

#[test]
fn what_an_earlier_payment_decides_leaves_though_its_token_is_suspended_meanwhile() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.token_purchase(1));
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    desk.answer();
    let purchase = desk.token_purchase(1);
    let refund = crate::originals::refund(&mut desk, &purchase, 2, 1_000);
    desk.syncs = false;
    desk.send(FIRST, &refund);
    desk.move_token(Move::Unlink);
    desk.syncs = true;
    desk.sync();
    assert_eq!(desk.sent_to_issuers().len(), 1);
}
