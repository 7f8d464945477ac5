//! An issuer that checks its tokens' chip cryptograms itself, beside the real daemon: what chip and issuer say to each
//! other goes through as it came, and no card number with it.

use std::sync::Arc;

use serde_json::Value;
use tokenswitch::codec::{DataElement, LeakScan, Message, Tag, icc_of, write_item};
use tokenswitch::crypto::{CryptogramKeys, CryptogramProfile, KeyLabel, SecurityModule};
use tokenswitch::vocab::{ChipPayment, Mti, Pan, PanSequenceNumber};

use crate::daemon::{Daemon, init};
use crate::leaks::{Acquirer, Api, dialect, issuer, payment, set, text};
use crate::players::change;

const PAN: &[u8] = b"4761739001010119";

/// The issuer's own, which nobody else has.
fn keys() -> CryptogramKeys {
    let profile = CryptogramProfile::named("visa-cvn-18").unwrap();
    let label = KeyLabel::parse("issuer-master").unwrap();
    SecurityModule::sample().unwrap().issuer_keys(label, profile).unwrap()
}

/// One euro, as the phone of this token signs it.
fn signed(token: &[u8], counter: u16) -> ChipPayment {
    let mut chip = ChipPayment { counter: counter.to_be_bytes(), ..ChipPayment::sample() };
    keys().card_key(token, PanSequenceNumber::ZERO).unwrap().sign(&mut chip);
    chip
}

/// DE 55 of that.
fn chip_data(token: &[u8], chip: &ChipPayment) -> Vec<u8> {
    let mut out = Vec::new();
    write_item(Tag::PAN, &hex::decode(text(token)).unwrap(), &mut out);
    write_item(Tag::SEQUENCE_NUMBER, &[0], &mut out);
    out.extend(icc_of(chip));
    out
}

/// The issuer finds the cryptogram true under the token's key, and signs its answer; or it says nothing.
fn to_chip(asked: &Message) -> Vec<u8> {
    let Some(icc) = asked.icc().unwrap() else { return Vec::new() };
    let token = hex::encode(icc.get(Tag::PAN).unwrap());
    let chip = signed(token.as_bytes(), icc.atc().unwrap());
    assert_eq!(icc.cryptogram(), Some(chip.cryptogram));
    let made = keys().answer(token.as_bytes(), PanSequenceNumber::ZERO, &chip, *b"00", true).unwrap();
    let mut out = Vec::new();
    write_item(Tag::ISSUER_AUTHENTICATION, made.as_bytes(), &mut out);
    write_item(Tag::ISSUER_SCRIPT_2, &[0x86, 4, 0x84, 0x24, 0, 0], &mut out);
    write_item(Tag::RESPONSE_CODE, b"00", &mut out);
    // What no issuer should say, and none may to an acquirer.
    write_item(Tag::PAN, asked.get(DataElement::PAN).map(hex_digits).unwrap().as_slice(), &mut out);
    out
}

fn hex_digits(digits: &[u8]) -> Vec<u8> {
    hex::decode(text(digits)).unwrap()
}

/// What the acquirer must get of that.
fn expected(token: &[u8], counter: u16) -> Vec<u8> {
    let chip = signed(token, counter);
    let made = keys().answer(token, PanSequenceNumber::ZERO, &chip, *b"00", true).unwrap();
    let mut out = Vec::new();
    write_item(Tag::ISSUER_AUTHENTICATION, made.as_bytes(), &mut out);
    write_item(Tag::ISSUER_SCRIPT_2, &[0x86, 4, 0x84, 0x24, 0, 0], &mut out);
    write_item(Tag::RESPONSE_CODE, b"00", &mut out);
    out
}

#[test]
fn chip_and_issuer_speak_through_the_switch_and_repeats_hear_the_same_also_after_a_kill() {
    let kept = tempfile::tempdir().unwrap();
    let dialect = Arc::new(dialect());
    let issuer = issuer(&dialect, to_chip);
    let config = init(&kept.path().join("switch"), [issuer.as_str(), "127.0.0.1:9"]);
    change(&config, "name = \"issuer-1\"\ndial", "name = \"issuer-1\"\ncryptograms = \"pass\"\ndial");
    let written = std::fs::read_to_string(&config).unwrap();
    let first_range = ["cryptogram_profile", "cryptogram_key"];
    let mut left_out = [false; 2];
    let without: Vec<&str> = written
        .lines()
        .filter(|line| {
            let at = first_range.iter().position(|key| line.starts_with(key));
            at.is_none_or(|at| std::mem::replace(&mut left_out[at], true))
        })
        .collect();
    std::fs::write(&config, without.join("\n")).unwrap();

    let daemon = Daemon::start(&config);
    let api = Api {
        address: daemon.addresses["api"].clone(),
        credential: std::fs::read_to_string(config.with_file_name("requestor.credential")).unwrap(),
    };
    let (status, told) = api.post(&format!(r#"{{"pan": "{}", "panExpiry": "2912"}}"#, text(PAN)));
    assert_eq!(status, 201, "{told}");
    let body: Value = serde_json::from_str(&told).unwrap();
    let (token, expiry) = (body["token"].as_str().unwrap(), body["tokenExpiry"].as_str().unwrap());
    let tap = |counter: u16| {
        let chip = chip_data(token.as_bytes(), &signed(token.as_bytes(), counter));
        let plain = payment(token.as_bytes(), expiry.as_bytes());
        set(&plain, &[(4, b"000000000100"), (22, b"071"), (55, &chip)])
    };

    let mut acquirer = Acquirer::connect(&daemon, &dialect);
    acquirer.waits_for_the_issuer();
    let paid = acquirer.numbered(&tap(7));
    let answer = acquirer.asks(&paid);
    assert_eq!(answer.get(DataElement::RESPONSE_CODE), Some(&b"00"[..]));
    assert_eq!(answer.get(DataElement::ICC), Some(expected(token.as_bytes(), 7).as_slice()));
    let repeat = {
        let mut repeat = Message::new(Mti::parse(b"0201").unwrap());
        for element in paid.elements() {
            repeat.copy(element, &paid).unwrap();
        }
        repeat
    };
    assert_eq!(acquirer.asks(&repeat).get(DataElement::ICC), answer.get(DataElement::ICC));
    assert_eq!(acquirer.pays(&tap(7)), "59", "the issuer has found it true once");

    daemon.kill();
    let daemon = Daemon::start(&config);
    let mut again = Acquirer::connect(&daemon, &dialect);
    again.waits_for_the_issuer();
    assert_eq!(again.asks(&repeat).get(DataElement::ICC), answer.get(DataElement::ICC));
    assert_eq!(again.pays(&tap(7)), "59");
    assert_eq!(again.pays(&tap(8)), "00");
    daemon.stop();
    // The card itself was used to wait for the issuer, and its answers name it.
    let pan = Pan::parse(PAN).unwrap();
    assert_eq!(LeakScan::new(&pan).find(&encoded(&answer)), None);
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenswitch::codec::encode(&dialect(), message, &mut bytes).unwrap();
    bytes
}
