//! Published and independently computed cryptograms, and what must never verify.

use super::*;
use crate::crypto::key::{KeyLabel, KeyUsage};
use crate::stdx::secret::Secret;

fn sequence(number: u8) -> PanSequenceNumber {
    PanSequenceNumber::new(number).unwrap()
}

fn keys_of(profile: &str, clear: &str, versions: std::ops::RangeInclusive<u16>) -> CryptogramKeys {
    let profile = CryptogramProfile::named(profile).unwrap();
    let (label, usage) = (KeyLabel::parse("any").unwrap(), KeyUsage::TokenCryptogram(profile.cipher()));
    let made = |version| {
        let mut clear = hex::decode(clear).unwrap();
        clear[0] ^= u8::try_from(version - 1).unwrap() << 4;
        Key::new(label, usage, version, Secret::new(clear)).unwrap()
    };
    let keys: Vec<Key> = versions.map(made).collect();
    CryptogramKeys::new(profile, keys.iter()).unwrap()
}

fn keys(profile: &str, clear: &str) -> CryptogramKeys {
    keys_of(profile, clear, 1..=1)
}

/// Data elements in the order in which they are signed, and the issuer data.
fn chip(signed: &str, issuer_data: &str) -> ChipPayment {
    let bytes = hex::decode(signed.replace(' ', "")).unwrap();
    let mut rest = bytes.as_slice();
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        let (piece, after) = rest.split_first_chunk().unwrap();
        *rest = after;
        *piece
    }
    let made = ChipPayment {
        amount: take(&mut rest),
        amount_other: take(&mut rest),
        country: take(&mut rest),
        terminal_results: take(&mut rest),
        currency: take(&mut rest),
        date: take(&mut rest),
        kind: take(&mut rest),
        unpredictable: take(&mut rest),
        profile: take(&mut rest),
        counter: take(&mut rest),
        issuer_data: IssuerData::parse(&hex::decode(issuer_data).unwrap()).unwrap(),
        cryptogram: [0; 8],
    };
    assert!(rest.is_empty());
    made
}

const PBOC_2014: &str = "000000000001 000000000000 0156 0080046000 0156 140701 00 1E78EEBC 7D00 0240";
const SM4_2016: &str = "000000000000 000000000000 0156 0000000800 0156 160518 00 412AB4B6 7D00 0001";
const PYEMV: &str = "000000009999 000000000000 0840 8000048000 0840 991231 01 52BF4585 1800 0FFF";
const TAP: &str = "000000012345 000000000000 0156 0000000000 0156 260314 00 11223344 7C00 0001";

/// One known cryptogram and what answers it.
struct Known {
    profile: &'static str,
    issuer_key: &'static str,
    account: &'static str,
    sequence: u8,
    signed: &'static str,
    issuer_data: &'static str,
    cryptogram: &'static str,
    /// Response code, or status update, and the answer's cryptogram.
    answer: Option<(&'static [u8], &'static str)>,
}

const PYEMV_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OWN_KEY: &str = "0123456789ABCDEFFEDCBA9876543210";

/// The first two are published examples, the others were made with pyemv 1.5.0.
fn known() -> Vec<Known> {
    let pyemv = |profile, issuer_data, cryptogram, answer| Known {
        profile,
        issuer_key: PYEMV_KEY,
        account: "1234567890123456",
        sequence: 0,
        signed: PYEMV,
        issuer_data,
        cryptogram,
        answer: Some(answer),
    };
    let tap = |profile, account, issuer_data, cryptogram, answer| Known {
        profile,
        issuer_key: OWN_KEY,
        account,
        sequence: 1,
        signed: TAP,
        issuer_data,
        cryptogram,
        answer: Some(answer),
    };
    vec![
        Known {
            profile: "pboc-3des",
            issuer_key: "F0C34A8124CEE0A91A0B034AA97D6EAC",
            account: "6228000100001",
            sequence: 1,
            signed: PBOC_2014,
            issuer_data: "07010103A0400201",
            cryptogram: "5D016C91005E7CC2",
            answer: Some((b"01", "21415243527CE78F")),
        },
        Known {
            profile: "pboc-sm4",
            issuer_key: "F23BF4AE92B554C116139D4F67322667",
            account: "6214988660100000304",
            sequence: 0,
            signed: SM4_2016,
            issuer_data: "07010103A0000004",
            cryptogram: "179E0D01A7D1791D",
            answer: Some((b"00", "DC16134D6FF5CF97")),
        },
        pyemv("visa-cvn-18", "06011203A0B800", "769577B5ABE9FE62", (&[0; 4], "76503F48")),
        pyemv("visa-cvn-10", "06010A03A0B800", "338226A32FB9675C", (b"00", "E0E702EFC856424C")),
        pyemv("visa-cvn-22", "06012203A0B800", "5C2B0781A5453F00", (&[0; 4], "63B03DD0")),
        pyemv("mchip-cvn-14", "0114A40003000000", "ED90DF7C00B94A0E", (&[0, 0x12], "7AB7F77F27E6E5EE")),
        pyemv("mchip-cvn-10", "0110A40003000000", "1F481B8443493673", (&[0, 0x12], "3825DD7860058749")),
        tap(
            "pboc-3des",
            "6235290000000000013",
            "07010103A0000001",
            "69C2BEA2F756FF51",
            (b"00", "843806B19C70D0B6"),
        ),
        tap("pboc-3des", "6228480000000000026", "07010103A0000001", "C949B5B814803FBC", (b"00", "")),
        tap(
            "visa-cvn-18",
            "6235290000000000013",
            "06011203A00000",
            "78235008C76D0621",
            (&[0x00, 0x82, 0x00, 0x00], "AE44752E"),
        ),
    ]
}

#[test]
fn known_cryptograms_verify_and_are_answered_as_known() {
    for known in known() {
        let about = format!("{} {}", known.profile, known.account);
        let keys = keys(known.profile, known.issuer_key);
        let (account, sequence) = (known.account.as_bytes(), sequence(known.sequence));
        let mut chip = chip(known.signed, known.issuer_data);
        hex::decode_to_slice(known.cryptogram, &mut chip.cryptogram).unwrap();
        assert_eq!(keys.verify(account, sequence, &chip), Ok(()), "{about}");

        let Some((said, expected)) = known.answer.filter(|(_, expected)| !expected.is_empty()) else {
            continue;
        };
        let (card, _) = keys.card(account, sequence, None, &chip).unwrap();
        let code = said.try_into().unwrap_or_default();
        let status = said.try_into().unwrap_or_default();
        let answer = authentication(keys.profile(), &card, &chip, code, status);
        assert_eq!(
            hex::encode_upper(answer.as_bytes()),
            format!("{expected}{}", hex::encode_upper(said)),
            "{about}"
        );
    }
}

/// Session keys, as the fact sheet has them: PBOC's published one, EMV's common one on a 16-digit PAN.
#[test]
fn session_keys_are_the_published_ones() {
    let of = |profile, issuer, account: &str, number, chip: &ChipPayment| {
        let keys = keys(profile, issuer);
        let (_, issuer) = keys.keys.last().unwrap();
        let clear = card_key(issuer, keys.profile.card_key, account.as_bytes(), sequence(number));
        let card = Card::new(keys.profile, clear);
        hex::encode_upper(*card.session(keys.profile.session_key, chip))
    };
    let pboc = of("pboc-3des", "F0C34A8124CEE0A91A0B034AA97D6EAC", "6228000100001", 1, &chip(PBOC_2014, ""));
    assert_eq!(pboc, "D4102725E6E5AD329E55AAB50BF23DA9");
    let sm4 =
        of("pboc-sm4", "F23BF4AE92B554C116139D4F67322667", "6214988660100000304", 0, &chip(SM4_2016, ""));
    assert_eq!(sm4, "9ECF9220F32AE56187D3C2444967FC0E");
    let mut payment = chip(TAP, "");
    payment.counter = [0x00, 0x1C];
    let common = of("visa-cvn-18", OWN_KEY, "5413330089601109", 0, &payment);
    let parity = |text: &str| hex::decode(text).unwrap().iter().map(|byte| byte & 0xFE).collect::<Vec<_>>();
    assert_eq!(parity(&common), parity("0DBA157C94E61508295125EF67836B04"));
}

/// EMV Book 2 has no AES example: made with Python's `cryptography` from the text of A1.3.1, A1.4.3 and 8.2.2.
#[test]
fn the_aes_profile_agrees_with_another_implementation() {
    let keys = keys("ccd-aes", "000102030405060708090A0B0C0D0E0F");
    let token = b"4895370000000005";
    let mut chip = chip(TAP, "");
    keys.card_key(token, sequence(0)).unwrap().sign(&mut chip);
    assert_eq!(hex::encode_upper(chip.cryptogram), "8F18A4502E3198BD");
    let answer = keys.answer(token, sequence(0), &chip, *b"00", true).unwrap();
    assert_eq!(hex::encode_upper(answer.as_bytes()), "019659F100800000");
}

#[test]
fn what_a_card_signs_verifies_and_nothing_else_does() {
    let token = b"6235290000000000013";
    for profile in CryptogramProfile::ALL {
        let name = profile.name();
        let keys = keys_of(name, OWN_KEY, 1..=2);
        let card = keys.card_key(token, sequence(0)).unwrap();
        let mut good = chip(TAP, "");
        card.sign(&mut good);
        assert_eq!(keys.verify(token, sequence(0), &good), Ok(()), "{name}");

        let wrong = Err(CryptogramFault::Wrong);
        assert_eq!(keys.verify(b"6235290000000000021", sequence(0), &good), wrong, "{name}: another token");
        assert_eq!(keys.verify(token, sequence(1), &good), wrong, "{name}: another sequence number");
        let changes: [fn(&mut ChipPayment); 8] = [
            |chip| chip.amount[5] ^= 1,
            |chip| chip.amount_other[5] ^= 1,
            |chip| chip.currency[1] ^= 1,
            |chip| chip.date[2] ^= 1,
            |chip| chip.unpredictable[0] ^= 1,
            |chip| chip.terminal_results[0] ^= 0x80,
            |chip| chip.counter[1] ^= 1,
            |chip| chip.cryptogram[7] ^= 1,
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = good;
            change(&mut other);
            assert_eq!(keys.verify(token, sequence(0), &other), wrong, "{name}: change {at}");
        }
    }
}

#[test]
fn the_key_index_names_the_version_of_the_master_key() {
    let token = b"4895370000000005";
    let old = keys_of("ccd-aes", OWN_KEY, 1..=1);
    let (both, new) = (keys_of("ccd-aes", OWN_KEY, 1..=2), keys_of("ccd-aes", OWN_KEY, 2..=2));
    let mut signed = chip(TAP, "");
    old.card_key(token, sequence(0)).unwrap().sign(&mut signed);
    assert_eq!(both.verify(token, sequence(0), &signed), Ok(()), "a card of the older key goes on");
    assert_eq!(new.verify(token, sequence(0), &signed), Err(CryptogramFault::UnknownKey));
    both.card_key(token, sequence(0)).unwrap().sign(&mut signed);
    assert_eq!(new.verify(token, sequence(0), &signed), Ok(()), "a new card has the newest");
    let other = keys("ccd-3des", OWN_KEY);
    assert_eq!(other.verify(token, sequence(0), &signed), Err(CryptogramFault::OtherProfile));
}

#[test]
fn a_card_accepts_its_own_answer_only() {
    let token = b"6235290000000000013";
    for profile in CryptogramProfile::ALL {
        let keys = keys(profile.name(), OWN_KEY);
        let card = keys.card_key(token, sequence(0)).unwrap();
        let mut signed = chip(TAP, "");
        card.sign(&mut signed);
        let answer = keys.answer(token, sequence(0), &signed, *b"00", true).unwrap();
        assert!(card.accepts(&signed, answer.as_bytes(), *b"00", true), "{}", profile.name());
        assert!(!card.accepts(&signed, answer.as_bytes(), *b"05", false), "{}", profile.name());
        let mut later = signed;
        later.counter[1] += 1;
        card.sign(&mut later);
        assert!(!card.accepts(&later, answer.as_bytes(), *b"00", true), "{}", profile.name());
    }
}

#[test]
fn no_key_is_printed() {
    let keys = keys("ccd-aes", OWN_KEY);
    let card = keys.card_key(b"4895370000000005", sequence(0)).unwrap();
    assert_eq!(format!("{keys:?} {card:?}"), "CryptogramKeys(ccd-aes, 1 versions) CardKey(ccd-aes)");
}
