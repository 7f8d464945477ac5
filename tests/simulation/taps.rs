//! Taps, told step by step: what chip data must hold, who may present a cryptogram, and how often.

use std::time::Duration;

use tokenswitch::codec::{DataElement, IccData, Message, Tag, TokenData};
use tokenswitch::journal::JournalConfig;
use tokenswitch::vocab::{IssuerData, PanSequenceNumber, TokenRequestorId};

use crate::desk::{Desk, FIRST, PARTIAL, SECOND, answer_to, get, repeat, set, tagged, with_mti};
use crate::house::Crash;
use crate::setting::{
    ACQUIRERS, ISSUERS, RESUBMIT_WINDOW, card_key, checking_config, dialect_of, issuer_keys, requestor_at,
    requestor_id,
};

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

/// 9F19: eleven digits in six bytes, right-justified.
#[test]
fn the_requestor_in_the_chip_data_is_the_token_s_and_the_one_that_the_message_names() {
    let (own, other) = (requestor_id(), requestor_at(1));
    let (own, other) = (own.as_bytes(), other.as_bytes());
    let packed = |digits: &[u8]| {
        let digits = [b"0", digits].concat();
        digits.chunks(2).map(|pair| ((pair[0] - b'0') << 4) | (pair[1] - b'0')).collect::<Vec<u8>>()
    };
    let mut shifted = packed(own);
    shifted[0] |= 0x10;
    let dialect = dialect_of(ACQUIRERS[0]);
    for (name, in_chip, named, code) in [
        ("neither", None, None, "00"),
        ("its own", Some(packed(own)), None, "00"),
        ("its own, and named", Some(packed(own)), Some(own), "00"),
        ("another's", Some(packed(other)), None, "57"),
        ("another's, and named", Some(packed(other)), Some(other), "57"),
        ("another's than is named", Some(packed(other)), Some(own), "30"),
        ("its own, and another is named", Some(packed(own)), Some(other), "30"),
        ("twelve digits", Some(shifted), None, "30"),
        ("too short", Some(packed(own)[1..].to_vec()), None, "30"),
        ("no digits", Some(vec![0xFF; 6]), None, "30"),
    ] {
        let mut desk = Desk::open();
        let mut tap = desk.tap(1, 7);
        let of_requestor = in_chip.map(|bytes| tagged(&[(&[0x9F, 0x19], &bytes)])).unwrap_or_default();
        tap.set(DataElement::ICC, &[desk.chip(7), of_requestor].concat()).expect("it fits");
        let requestor = named.map(|digits| TokenRequestorId::parse(digits).expect("digits"));
        let data = TokenData { requestor, ..TokenData::default() };
        dialect.set_token_data(&mut tap, &data).expect("it fits");
        desk.send(FIRST, &tap);
        if code == "00" {
            assert_eq!(desk.sent_to_issuers().len(), 1, "{name}");
        } else {
            assert_eq!(get(&desk.answer(), 39), code, "{name}");
            assert!(desk.sent_to_issuers().is_empty(), "{name}");
        }
        let mut desk = Desk::open();
        desk.send(FIRST, &with_mti(&tap, "0220"));
        assert_eq!(get(&desk.answer(), 39), "00", "{name}: it has happened");
        assert_eq!(desk.sent_to_issuers().len(), 1, "{name}: it has happened");
    }
}

#[test]
fn expiry_dates_that_differ_refuse_what_is_asked_and_nothing_that_has_happened() {
    let (other, tag) = ([0x31, 0x12, 0x31], [0x5F, 0x24]);
    let in_track = |desk: &Desk| {
        let mut tap = desk.tap(1, 7);
        let track = format!("{}=31122010000000000", desk.token.token.as_str());
        set(&mut tap, &[(35, &track)]);
        tap
    };
    let in_chip = |desk: &Desk| {
        let mut tap = desk.tap(1, 7);
        let dated = [desk.chip(7), tagged(&[(&tag, &other)])].concat();
        tap.set(DataElement::ICC, &dated).expect("it fits");
        tap
    };
    for (name, tap) in [("track", &in_track as &dyn Fn(&Desk) -> Message), ("chip", &in_chip)] {
        let mut desk = Desk::open();
        desk.send(FIRST, &tap(&desk));
        assert_eq!(get(&desk.answer(), 39), "30", "{name}");
        assert!(desk.sent_to_issuers().is_empty(), "{name}");
        let mut desk = Desk::open();
        desk.send(FIRST, &with_mti(&tap(&desk), "0220"));
        assert_eq!(get(&desk.answer(), 39), "00", "{name}: it has happened");
        assert_eq!(desk.sent_to_issuers().len(), 1, "{name}: it has happened");
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

/// Tag 91 of an answer, if it has one.
fn authentication(answer: &Message) -> Option<Vec<u8>> {
    let (head, value) = answer.get(DataElement::ICC)?.split_at(2);
    assert_eq!((head[0], usize::from(head[1])), (0x91, value.len()), "nothing but tag 91");
    Some(value.to_vec())
}

#[test]
fn a_card_that_waits_for_it_gets_an_answer_under_its_own_key() {
    // Terminal transaction qualifiers: the card will be held there again, or not.
    let again: &[u8] = &[0x9F, 0x66, 4, 0x36, 0, 0x80, 0];
    let not_again: &[u8] = &[0x9F, 0x66, 4, 0x36, 0, 0x40, 0];
    for (entry_mode, more, code, expected) in [
        ("051", &[][..], "00", true),
        ("051", &[], "51", true),
        ("071", &[], "00", false),
        ("071", not_again, "00", false),
        ("071", again, "00", true),
        ("071", again, "51", true),
    ] {
        let mut desk = Desk::open();
        let mut tap = desk.tap(1, 7);
        set(&mut tap, &[(22, entry_mode)]);
        tap.set(DataElement::ICC, &[&desk.chip(7), more].concat()).expect("it fits");
        desk.send(FIRST, &tap);
        let (connection, asked) = desk.asked();
        let mut says = answer_to(&asked, code);
        // Signed for another card: of no use to the token's.
        let own = tagged(&[(&[0x91], &[7; 10]), (&[0x71], &[0x9F, 0x18, 0])]);
        says.set(DataElement::ICC, &own).expect("it fits");
        desk.send(connection, &says);
        let answer = desk.answer();
        let made = authentication(&answer);
        assert_eq!(made.is_some(), expected, "{entry_mode} {more:?} {code}");
        let Some(made) = made else { continue };
        let short = code.as_bytes().try_into().expect("two characters");
        let key = card_key(&desk.token.token);
        assert!(key.accepts(&desk.signed(7), &made, short, code == "00"), "{entry_mode} {code}");
        desk.send(FIRST, &repeat(&tap));
        assert_eq!(authentication(&desk.answer()), Some(made), "the repeat gets the same");
    }
}

#[test]
fn a_card_hears_of_a_time_out_and_nothing_of_a_forged_cryptogram() {
    let mut desk = Desk::open();
    let mut tap = desk.tap(1, 7);
    set(&mut tap, &[(22, "051")]);
    desk.send(FIRST, &tap);
    desk.pass(Duration::from_secs(4));
    let made = authentication(&desk.answer()).expect("the terminal waits");
    assert!(card_key(&desk.token.token).accepts(&desk.signed(7), &made, *b"91", false));
    let mut chip = desk.chip(8);
    changed(&mut chip, &[0x9F, 0x26]);
    let mut forged = desk.tap(2, 8);
    set(&mut forged, &[(22, "051")]);
    forged.set(DataElement::ICC, &chip).expect("it fits");
    desk.send(FIRST, &forged);
    let answers = desk.sent_to_acquirers();
    let (_, answer, _) = answers.last().expect("an answer");
    assert_eq!((get(answer, 39).as_str(), authentication(answer)), ("05", None));
}

#[test]
fn an_issuer_that_knows_its_own_cards_only_gets_a_cryptogram_of_the_card() {
    let mut desk = Desk::at_second_issuer();
    desk.send(FIRST, &desk.tap(1, 7));
    let (_, asked) = desk.asked();
    assert!(get(&asked, 63).contains("CCAV"), "{}", get(&asked, 63));
    let icc = asked.icc().expect("readable").expect("it is there");
    let mut chip = desk.signed(7);
    chip.cryptogram = icc.cryptogram().expect("eight bytes");
    chip.issuer_data = IssuerData::parse(icc.get(Tag::IAD).expect("it is there")).expect("short");
    let pan = desk.behind.pan.expose_digits();
    assert_eq!(issuer_keys().verify(pan, PanSequenceNumber::ZERO, &chip), Ok(()));
    assert!(icc.get(Tag::PAN).is_none() && icc.get(Tag::SEQUENCE_NUMBER).is_none());
}

/// A desk at whose issuer tokens' cryptograms are checked.
fn at_checking_issuer() -> Desk {
    Desk::with(checking_config(ISSUERS[0]), JournalConfig::default().queue_bytes)
}

/// The tap's DE 55 with what names the token, too.
fn whole_chip(desk: &Desk, counter: u16) -> Vec<u8> {
    let number = hex::decode(desk.token.token.as_str()).expect("an even number of digits");
    [tagged(&[(&[0x5A], &number), (&[0x5F, 0x34], &[1])]), desk.chip(counter)].concat()
}

#[test]
fn an_issuer_that_checks_them_itself_gets_chip_data_as_they_came_and_its_word_goes_back() {
    let word = tagged(&[(&[0x91], &[7; 10]), (&[0x71], &[0x86, 2, 0x84, 0x24]), (&[0x8A], b"00")]);
    let besides = tagged(&[(&[0x9F, 0x10], &[1, 2, 3]), (&[0x9F, 0x7C], &[4])]);
    let mut desk = at_checking_issuer();
    let pan = hex::decode(desk.behind.pan.expose_digits()).expect("sixteen digits");
    let named = tagged(&[(&[0x5A], &pan)]);
    let inside = tagged(&[(&[0x91], &[7; 10]), (&[0x72], &[&[0x5A, 8][..], &pan].concat())]);
    let hidden = tagged(&[(&[0x91], &[7; 10]), (&[0x72], &[&[0x86, 8][..], &pan].concat())]);
    for (counter, says, expected) in [
        (1, word.clone(), Some(&word)),
        (2, [besides.as_slice(), &word, &named].concat(), Some(&word)),
        (3, besides, None),
        (4, inside, None),
        (5, hidden, None),
        (6, Vec::new(), None),
    ] {
        let mut tap = desk.tap(u32::from(counter), counter);
        let chip = whole_chip(&desk, counter);
        tap.set(DataElement::ICC, &chip).expect("it fits");
        desk.send(FIRST, &tap);
        let (connection, asked) = desk.asked();
        assert_eq!(asked.get(DataElement::ICC), Some(chip.as_slice()), "{counter}");
        assert_eq!(get(&asked, 2).as_bytes(), desk.behind.pan.expose_digits());
        assert!(get(&asked, 63).contains("CU"), "{}", get(&asked, 63));
        let mut answer = answer_to(&asked, "00");
        if !says.is_empty() {
            answer.set(DataElement::ICC, &says).expect("it fits");
        }
        desk.send(connection, &answer);
        let answer = desk.answer();
        assert_eq!(
            (get(&answer, 39).as_str(), answer.get(DataElement::ICC)),
            ("00", expected.map(Vec::as_slice)),
            "{counter}"
        );
        desk.send(FIRST, &repeat(&tap));
        assert_eq!(desk.answer().get(DataElement::ICC), expected.map(Vec::as_slice), "{counter}: a repeat");
        desk = desk.restart(Crash::Unsynced);
        desk.send(FIRST, &repeat(&tap));
        assert_eq!(
            desk.answer().get(DataElement::ICC),
            expected.map(Vec::as_slice),
            "{counter}: after a restart"
        );
    }
}

#[test]
fn what_the_issuer_alone_can_check_leads_to_one_approval_and_forgeries_burn_nothing() {
    let mut desk = at_checking_issuer();
    let mut forged = desk.tap(1, 900);
    let mut chip = desk.chip(900);
    changed(&mut chip, &[0x9F, 0x26]);
    forged.set(DataElement::ICC, &chip).expect("it fits");
    desk.send(FIRST, &forged);
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "05"));
    assert_eq!(get(&desk.answer(), 39), "05", "the issuer says so");
    desk.push(FIRST, &desk.tap(2, 7));
    desk.push(SECOND, &desk.tap(3, 7));
    desk.settle();
    let (connection, asked) = desk.asked();
    assert_eq!(get(&desk.answer(), 39), "59", "in one batch");
    desk.send(connection, &answer_to(&asked, "51"));
    assert_eq!(get(&desk.answer(), 39), "51");
    desk.send(FIRST, &desk.tap(4, 7));
    let (connection, asked) = desk.asked();
    desk.send(connection, &answer_to(&asked, "00"));
    assert_eq!(get(&desk.answer(), 39), "00", "it led to no approval before");
    desk.send(FIRST, &desk.tap(5, 7));
    assert_eq!(get(&desk.answer(), 39), "59");
    let mut desk = desk.restart(Crash::Unsynced);
    desk.send(FIRST, &desk.tap(6, 7));
    assert_eq!(get(&desk.answer(), 39), "59", "after a restart");
    desk.send(FIRST, &desk.tap(7, 8));
    assert_eq!(desk.sent_to_issuers().len(), 1);
}
