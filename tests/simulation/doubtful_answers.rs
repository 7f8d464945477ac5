//! Answers of issuers, and messages of anybody, from which nobody can tell what happened or who says it: the payment is
//! taken back, and nothing is believed.

use tokenswitch::codec::{DataElement, Message};
use tokenswitch::vocab::Mti;

use crate::desk::{Desk, FIRST, PARTIAL, answer_to, get, repeat, reversal, set};
use crate::setting::ISSUER_TIMEOUT;

type Change = fn(&mut Message);

fn set_mac(message: &mut Message) {
    message.set(DataElement::MAC_64, b"unproved").expect("eight bytes");
}

#[test]
fn a_payment_of_which_its_issuer_leaves_the_outcome_open_is_taken_back_once() {
    let cases: [(&str, Change, &str); 3] = [
        ("it says that it does not know", |answer| set(answer, &[(39, "68")]), "68"),
        (
            "it approves a part, and not which",
            |answer| {
                set(answer, &[(39, "10")]);
                answer.remove(DataElement::AMOUNT);
            },
            "51",
        ),
        ("it signs with a key that nobody has", set_mac, "96"),
    ];
    for (case, change, code) in cases {
        let mut desk = Desk::open();
        let purchase = desk.purchase(1);
        desk.send(FIRST, &purchase);
        let (issuer, asked) = desk.asked();
        let mut answer = answer_to(&asked, "00");
        change(&mut answer);
        desk.send(issuer, &answer);
        assert_eq!(get(&desk.answer(), 39), code, "{case}");
        let (issuer, taken_back) = desk.asked();
        assert_eq!(
            (taken_back.mti().to_string(), get(&taken_back, 37)),
            ("0420".into(), get(&asked, 37)),
            "{case}"
        );
        desk.send(issuer, &answer_to(&taken_back, "00"));
        desk.send(FIRST, &repeat(&purchase));
        assert_eq!(get(&desk.answer(), 39), code, "{case}: the repeat");
        desk.send(FIRST, &reversal(&purchase, 2));
        assert_eq!(get(&desk.answer(), 39), "00", "{case}");
        assert!(desk.sent_to_issuers().is_empty(), "{case}: one reversal is enough");
    }
}

#[test]
fn an_approval_in_part_says_which_to_who_can_take_one() {
    let mut desk = Desk::open();
    let mut purchase = desk.purchase(1);
    set(&mut purchase, &[(32, "87654321")]);
    desk.send(PARTIAL, &purchase);
    let (issuer, asked) = desk.asked();
    let mut answer = answer_to(&asked, "10");
    answer.remove(DataElement::AMOUNT);
    desk.send(issuer, &answer);
    assert_eq!(get(&desk.answer(), 39), "96");
    assert_eq!(desk.asked().1.mti().to_string(), "0420");
}

#[test]
fn an_answer_under_such_a_key_that_comes_late_is_no_word_of_its_issuer() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.purchase(1));
    let (issuer, asked) = desk.asked();
    desk.pass(ISSUER_TIMEOUT);
    assert_eq!(get(&desk.answer(), 39), "91");
    let mut signed = answer_to(&asked, "00");
    set_mac(&mut signed);
    desk.send(issuer, &signed);
    assert_eq!((desk.house.node.core().counts().late, desk.house.node.core().counts().unmatched), (0, 1));
    desk.send(issuer, &answer_to(&asked, "00"));
    assert_eq!(desk.house.node.core().counts().late, 1, "the true one annotates");
}

#[test]
fn what_it_says_to_a_reversal_under_such_a_key_is_no_acknowledgement() {
    let mut desk = Desk::open();
    desk.send(FIRST, &desk.purchase(1));
    let (issuer, asked) = desk.asked();
    desk.send(issuer, &answer_to(&asked, "00"));
    desk.answer();
    desk.send(FIRST, &reversal(&desk.purchase(1), 2));
    desk.answer();
    let (issuer, taken_back) = desk.asked();
    let mut signed = answer_to(&taken_back, "00");
    set_mac(&mut signed);
    desk.send(issuer, &signed);
    assert_eq!(desk.house.node.core().stored().len(), 1, "it is owed still");
    desk.send(issuer, &answer_to(&taken_back, "00"));
    assert!(desk.house.node.core().stored().is_empty());
}

#[test]
fn a_network_message_under_such_a_key_is_refused() {
    let mut desk = Desk::open();
    let mut echo = Message::new(Mti::parse(b"0800").expect("digits"));
    set(&mut echo, &[(7, "1122235941"), (11, "000007"), (70, "301")]);
    set_mac(&mut echo);
    desk.send(FIRST, &echo);
    let answer = desk.answer();
    assert_eq!((answer.mti().to_string(), get(&answer, 39)), ("0810".into(), "96".into()));
}
