//! Chip cryptograms against an implementation that shares nothing with ours: PyPI's pyemv signs random payments and
//! their answers (`tests/peers/cryptograms.py`), and each must come out alike here.

use std::process::Command;

use serde_json::Value;
use tokenswitch::crypto::{
    CryptogramFault, CryptogramKeys, CryptogramProfile, KeyLabel, KeyMaker, KeyPolicy, KeyUsage, MasterKey,
    SecurityModule, StorePurpose,
};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::stdx::secret::Secret;
use tokenswitch::vocab::{ChipPayment, IssuerData, PanSequenceNumber, Text};

use crate::parts::peers_python;
use crate::source::root;

#[test]
fn random_payments_are_signed_as_by_another_implementation() {
    let Some(python) = peers_python() else { return };
    let seed = fastrand::u32(..);
    let output = Command::new(python)
        .arg(root().join("tests/peers/cryptograms.py"))
        .arg(seed.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut keys: Option<(String, CryptogramKeys)> = None;
    let mut checked = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let about = format!("{} {}", text(&case, "profile"), text(&case, "key"));
        if keys.as_ref().is_none_or(|(of, _)| *of != about) {
            keys = Some((about, imported(&text(&case, "profile"), &text(&case, "key"))));
        }
        check(&keys.as_ref().unwrap().1, &case, seed);
        checked += 1;
    }
    assert_eq!(checked, 1_400, "seed {seed}");
}

/// The key goes in as an issuer's own would: through the store.
fn imported(profile: &str, clear: &str) -> CryptogramKeys {
    let profile = CryptogramProfile::named(profile).unwrap();
    let mut entropy = Entropy::seeded(1);
    let master = MasterKey::generate(&mut entropy).unwrap();
    let policy = KeyPolicy::DEVELOPMENT;
    let store = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
    let named = (KeyLabel::parse("imported").unwrap(), KeyUsage::IssuerMaster(profile.cipher()));
    let clear = Secret::new(hex::decode(clear).unwrap());
    let maker = KeyMaker { by: Text::default(), at: Wall(1) };
    let store =
        SecurityModule::add_key(&store, &master, policy, named, Some(clear), maker, &mut entropy).unwrap();
    SecurityModule::open(&store, &master, policy).unwrap().issuer_keys(named.0, profile).unwrap()
}

fn check(keys: &CryptogramKeys, case: &Value, seed: u32) {
    let account = text(case, "account");
    let sequence = u8::try_from(case["sequence"].as_u64().unwrap()).unwrap();
    let sequence = PanSequenceNumber::new(sequence).unwrap();
    let mut chip = chip(case);
    assert_eq!(keys.verify(account.as_bytes(), sequence, &chip), Ok(()), "seed {seed}: {case}");
    let code = text(case, "code").into_bytes().try_into().unwrap();
    let approved = case["approved"].as_bool().unwrap();
    let answer = keys.answer(account.as_bytes(), sequence, &chip, code, approved).unwrap();
    assert_eq!(hex::encode(answer.as_bytes()), text(case, "answer"), "seed {seed}: {case}");
    chip.cryptogram[0] ^= 1;
    let wrong = Err(CryptogramFault::Wrong);
    assert_eq!(keys.verify(account.as_bytes(), sequence, &chip), wrong, "seed {seed}: {case}");
}

fn text(case: &Value, name: &str) -> String {
    case[name].as_str().unwrap().to_owned()
}

fn chip(case: &Value) -> ChipPayment {
    fn element<const N: usize>(case: &Value, at: usize) -> [u8; N] {
        hex::decode(case["elements"][at].as_str().unwrap()).unwrap().try_into().unwrap()
    }
    ChipPayment {
        amount: element(case, 0),
        amount_other: element(case, 1),
        country: element(case, 2),
        terminal_results: element(case, 3),
        currency: element(case, 4),
        date: element(case, 5),
        kind: element(case, 6),
        unpredictable: element(case, 7),
        profile: element(case, 8),
        counter: element(case, 9),
        issuer_data: IssuerData::parse(&hex::decode(text(case, "issuerData")).unwrap()).unwrap(),
        cryptogram: hex::decode(text(case, "cryptogram")).unwrap().try_into().unwrap(),
    }
}
