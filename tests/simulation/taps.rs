//! Taps, told step by step: what chip data must hold, who may present a cryptogram, and how often.

use std::time::Duration;

use tokenswitch::codec::{DataElement, IccData, Message, Tag};

use crate::desk::{Desk, FIRST, PARTIAL, SECOND, answer_to, get, repeat, set, tagged};
use crate::house::Crash;
use crate::setting::RESUBMIT_WINDOW;

/// How a tap's chip data differ from good ones.
type Change = fn(&mut Vec<u8>);

fn without(chip: &mut Vec<u8>, tag: Tag) {
    *chip = IccData::parse(chip).expect("good data").without(&[tag]).into_owned();
}

/// Changes the last byte of a value.
fn changed(chip: &mut [u8], tag: &[u8]) {
    let at = chip.windows(tag.len()).position(|found| found == tag).expect("it is there");
    let length = usize::from(chip[at + tag.len()]);
    chip[at + tag.len() + length] ^= 1;
}

#[test]
fn chip_data_are_read_strictly_before_anything_is_forwarded() {
    let cases: [(&str, Change, &str); 15] = [
        ("a forged cryptogram", |c| changed(c, &[0x9F, 0x26]), "05"),
        ("another day than was signed", |c| changed(c, &[0x9A]), "05"),
        ("another unpredictable number", |c| changed(c, &[0x9F, 0x37]), "05"),
        ("another counter than was signed", |c| changed(c, &[0x9F, 0x36]), "05"),
        (
            "a cryptogram that asks for nothing",
            |c| *c = c.iter().map(|b| if *b == 0x80 { 0 } else { *b }).collect(),
            "30",
        ),
        ("no cryptogram", |c| without(c, Tag::CRYPTOGRAM), "57"),
        ("no counter", |c| without(c, Tag::ATC), "57"),
        ("no issuer application data", |c| without(c, Tag::IAD), "30"),
        ("no terminal verification results", |c| without(c, Tag::TVR), "30"),
        ("no unpredictable number", |c| without(c, Tag::UNPREDICTABLE_NUMBER), "30"),
        ("no amount", |c| without(c, Tag::AMOUNT), "30"),
        ("an element twice", |c| c.extend([0x9F, 0x36, 2, 0, 9]), "30"),
        ("another account", |c| c.extend([0x5A, 8, 0x48, 0x95, 0x37, 0, 0, 0, 0, 5]), "30"),
        ("another expiry", |c| c.extend([0x5F, 0x24, 3, 0x30, 0x01, 0x31]), "30"),
        (
            "an element of the wrong length",
            |c| {
                without(c, Tag::AIP);
                c.extend([0x82, 1, 0]);
            },
            "30",
        ),
    ];
    for (name, change, code) in cases {
        let mut desk = Desk::open();
        let mut tap = desk.tap(1, 7);
        let mut chip = desk.chip(7);
        change(&mut chip);
        tap.set(DataElement::ICC, &chip).expect("it fits");
        desk.send(FIRST, &tap);
        assert_eq!(get(&desk.answer(), 39), code, "{name}");
        assert!(desk.sent_to_issuers().is_empty(), "{name}");
        desk.send(FIRST, &desk.tap(2, 7));
        assert_eq!(desk.sent_to_issuers().len(), 1, "{name}: the true one is as good as before");
    }
}

#[test]
fn what_the_chip_signed_must_be_what_is_asked() {
    let other: fn(&mut Message) = |tap| set(tap, &[(49, "826")]);
    for (name, change, code) in [
        ("more", (|tap| set(tap, &[(4, "000000001235")])) as fn(&mut Message), "57"),
        ("another currency", other, "57"),
    ] {
        let mut desk = Desk::open();
        let mut tap = desk.tap(1, 7);
        change(&mut tap);
        desk.send(FIRST, &tap);
        assert_eq!(get(&desk.answer(), 39), code, "{name}");
    }
}

#[test]
fn unknown_elements_pass_and_the_issuer_hears_that_the_cryptogram_is_true() {
    let mut desk = Desk::open();
    let mut tap = desk.tap(1, 7);
    let chip = [desk.chip(7), tagged(&[(&[0x9F, 0x7C], &[1, 2, 3]), (&[0x9F, 0x7C], &[4])])].concat();
    tap.set(DataElement::ICC, &chip).expect("it fits");
    desk.send(FIRST, &tap);
    let (_, asked) = desk.asked();
    assert!(get(&asked, 63).contains("CVAV"), "{}", get(&asked, 63));
}

#[test]
fn a_counter_may_come_late_and_not_too_late() {
    let mut desk = Desk::open();
    for (stan, counter, code) in [
        (1, 40, "00"),
        (2, 8, "00"),
        (3, 7, "59"),
        (4, 8, "59"),
        (5, 1_040, "00"),
        (6, 2_041, "59"),
        (7, 0, "59"),
    ] {
        desk.send(FIRST, &desk.tap(stan, counter));
        if code == "00" {
            let (connection, asked) = desk.asked();
            desk.send(connection, &answer_to(&asked, "00"));
        }
        assert_eq!(get(&desk.answer(), 39), code, "{counter}");
    }
}

#[test]
fn a_cryptogram_leads_to_one_approval() {
    let mut desk = Desk::open();
    let mut elsewhere = desk.tap(3, 7);
    set(&mut elsewhere, &[(32, "87654321")]);
    desk.push(FIRST, &desk.tap(1, 7));
    desk.push(SECOND, &desk.tap(2, 7));
    desk.push(PARTIAL, &elsewhere);
    desk.settle();
    let (connection, asked) = desk.asked();
    assert_eq!(get(&asked, 2).as_bytes(), desk.behind.pan.expose_digits());
    let refused: Vec<String> =
        desk.sent_to_acquirers().iter().map(|(_, answer, _)| get(answer, 39)).collect();
    assert_eq!(refused, ["59", "59"], "in one batch");
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(FIRST, &desk.tap(4, 7));
    assert_eq!(get(&desk.answer(), 39), "59", "answered");
    desk.send(FIRST, &repeat(&desk.tap(1, 7)));
    assert_eq!(get(&desk.answer(), 39), "00", "a repeat is no second use");
    let mut desk = desk.restart(Crash::Unsynced);
    desk.send(FIRST, &desk.tap(5, 7));
    assert_eq!(get(&desk.answer(), 39), "59", "after a restart");
    desk.send(FIRST, &desk.tap(6, 8));
    assert_eq!(desk.sent_to_issuers().len(), 1, "the next tap is another one");
}

#[test]
fn a_cryptogram_whose_request_never_left_may_come_once_more_from_its_terminal() {
    let mut desk = Desk::open();
    desk.takes = false;
    desk.send(FIRST, &desk.tap(1, 7));
    let (first, _) = desk.asked();
    desk.cut(first, Some(0));
    let (second, _) = desk.asked();
    desk.cut(second, Some(0));
    assert_eq!(get(&desk.answer(), 39), "91");
    desk.takes = true;
    desk.pass(Duration::from_secs(3));
    let mut elsewhere = desk.tap(2, 7);
    set(&mut elsewhere, &[(41, "TERM0002")]);
    desk.send(FIRST, &elsewhere);
    assert_eq!(get(&desk.answer(), 39), "59", "not from another terminal");
    desk.send(FIRST, &desk.tap(3, 7));
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00");
    desk.send(FIRST, &desk.tap(4, 7));
    assert_eq!(get(&desk.answer(), 39), "59", "once");
}

#[test]
fn a_cryptogram_whose_request_never_left_is_used_up_after_a_while() {
    let mut desk = Desk::open();
    desk.takes = false;
    desk.send(FIRST, &desk.tap(1, 7));
    for _ in 0..2 {
        let (connection, _) = desk.asked();
        desk.cut(connection, Some(0));
    }
    assert_eq!(get(&desk.answer(), 39), "91");
    desk.takes = true;
    desk.pass(RESUBMIT_WINDOW + Duration::from_secs(1));
    desk.send(FIRST, &desk.tap(2, 7));
    assert_eq!(get(&desk.answer(), 39), "59");
}
