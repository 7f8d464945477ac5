//! Card verification values, PIN blocks, message codes and key blocks against implementations that share nothing with
//! ours: PyPI's psec and pyemv make random ones (`tests/peers/payment_crypto.py`), and open what ours make.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokenswitch::crypto::{
    BlockCipher, CardVerificationKey, DynamicVerificationKey, KeyBlockHeader, KeyLabel, KeyMaker, KeyPolicy,
    KeyUsage, MasterKey, MessageMacKey, Padding, Pin, PinBlockFormat, PinZoneKey, SecurityModule,
    StorePurpose, TransportKey, VerificationValue,
};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::stdx::secret::Secret;
use tokenswitch::vocab::{Expiry, PanSequenceNumber, ServiceCode, Text};

use crate::parts::peers_python;
use crate::source::root;

/// What the peer prints for its argument and its input, line by line.
fn peer(argument: &str, input: &[String]) -> Option<Vec<String>> {
    let mut child = Command::new(peers_python()?)
        .arg(root().join("tests/peers/payment_crypto.py"))
        .arg(argument)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to_child = child.stdin.take().unwrap();
    let text = input.concat();
    let writer = std::thread::spawn(move || to_child.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn random_cases_come_out_as_by_other_implementations() {
    let seed = fastrand::u32(..);
    let Some(lines) = peer(&seed.to_string(), &[]) else { return };
    assert_eq!(lines.len(), 1_000, "seed {seed}");
    for line in lines {
        let case: Value = serde_json::from_str(&line).unwrap();
        let (kind, about) = (text(&case, "kind"), format!("seed {seed}: {line}"));
        match kind {
            "verification" => check_verification(&case, &about),
            "dynamic" => check_dynamic(&case, &about),
            "pin" => check_pin(&case, &about),
            "message" => check_message(&case, &about),
            "block" => check_block(&case, &about),
            other => panic!("{other}"),
        }
    }
}

fn check_verification(case: &Value, about: &str) {
    let key = CardVerificationKey::new(&bytes(case, "key").try_into().unwrap());
    let expiry = Expiry::parse(text(case, "expiry").as_bytes()).unwrap();
    let value = match text(case, "service") {
        "999" => VerificationValue::Chip,
        "000" => VerificationValue::Printed,
        code => VerificationValue::Stripe(ServiceCode::parse(code.as_bytes()).unwrap()),
    };
    let (account, said) = (text(case, "account").as_bytes(), text(case, "value").as_bytes());
    assert!(key.verifies(account, expiry, value, said), "{about}");
}

fn check_dynamic(case: &Value, about: &str) {
    let issuer = bytes(case, "key").try_into().unwrap();
    let sequence = PanSequenceNumber::new(u8::try_from(number(case, "sequence")).unwrap()).unwrap();
    let card = DynamicVerificationKey::of_card(&issuer, text(case, "account").as_bytes(), sequence);
    let unpredictable = bytes(case, "unpredictable").try_into().unwrap();
    let counter = bytes(case, "counter").try_into().unwrap();
    let said = text(case, "value").as_bytes();
    assert!(card.verifies(&bytes(case, "template"), unpredictable, counter, said), "{about}");
}

fn pin_format(number: u64) -> PinBlockFormat {
    match number {
        0 => PinBlockFormat::Zero,
        3 => PinBlockFormat::Three,
        4 => PinBlockFormat::Four,
        other => panic!("{other}"),
    }
}

fn zone(format: PinBlockFormat, key: &[u8]) -> PinZoneKey {
    match format {
        PinBlockFormat::Four => PinZoneKey::aes(key).unwrap(),
        _ => PinZoneKey::triple_des(key.try_into().unwrap()),
    }
}

fn check_pin(case: &Value, about: &str) {
    let format = pin_format(number(case, "format"));
    let account = text(case, "account").as_bytes();
    let read = zone(format, &bytes(case, "key")).decipher(format, &bytes(case, "block"), account);
    assert_eq!(read.unwrap(), Pin::parse(text(case, "pin").as_bytes()).unwrap(), "{about}");
}

fn check_message(case: &Value, about: &str) {
    let padding = if number(case, "padding") == 1 { Padding::Zeros } else { Padding::Bit };
    let key = bytes(case, "key");
    let key = match <&[u8; 8]>::try_from(key.as_slice()) {
        Ok(single) => MessageMacKey::x9_9(single, padding),
        Err(_) => MessageMacKey::x9_19(key.as_slice().try_into().unwrap(), padding),
    };
    assert!(key.verifies(&bytes(case, "message"), &bytes(case, "code")), "{about}");
}

/// Through the store, as an issuer's own key comes in: its check value says whether it is the one.
fn check_block(case: &Value, about: &str) {
    let mut entropy = Entropy::seeded(1);
    let master = MasterKey::generate(&mut entropy).unwrap();
    let store = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
    let cipher = if text(case, "algorithm") == "T" { BlockCipher::TripleDes } else { BlockCipher::Aes };
    let named = (KeyLabel::parse("imported").unwrap(), KeyUsage::IssuerMaster(cipher));
    let transport = TransportKey::parse(text(case, "transport")).unwrap();
    let sent = (&transport, text(case, "block"));
    let (policy, maker) = (KeyPolicy::DEVELOPMENT, KeyMaker { by: Text::default(), at: Wall(1) });
    let store = SecurityModule::import_key(&store, &master, policy, named, sent, maker, &mut entropy);
    let opened = SecurityModule::open(&store.expect(about), &master, policy).unwrap();
    let key = opened.keys().find(|key| key.label == named.0).unwrap();
    assert_eq!(key.check.to_string(), text(case, "check"), "{about}");
}

#[test]
fn what_ours_make_is_opened_by_other_implementations() {
    let mut entropy = Entropy::system();
    let mut cases = Vec::new();
    let mut expected = Vec::new();
    for round in 0..100 {
        let transport = drawn(&mut entropy, [16, 24, 32][round % 3]);
        let key = drawn(&mut entropy, [16, 24, 32][round % 2]);
        let header = KeyBlockHeader::of(KeyUsage::TokenCryptogram(BlockCipher::Aes)).unwrap();
        let kbpk = TransportKey::parse(&hex::encode(&transport)).unwrap();
        let block = kbpk.wrap(header, &Secret::new(key.clone()), &mut entropy).unwrap();
        let case = json!({"kind": "block", "key": hex::encode(transport), "data": block});
        cases.push(format!("{case}\n"));
        expected.push(hex::encode(key));

        let number = [0, 3, 4][round % 3];
        let format = pin_format(number);
        let key = drawn(&mut entropy, if number == 4 { [16, 24, 32][round / 3 % 3] } else { 16 });
        let (pin, account) = (digits(&mut entropy, 4, 12), digits(&mut entropy, 13, 19));
        let parsed = Pin::parse(pin.as_bytes()).unwrap();
        let block = zone(format, &key).encipher(format, &parsed, account.as_bytes(), &mut entropy).unwrap();
        let (key, block) = (hex::encode(key), hex::encode(block));
        let case = json!({"kind": "pin", "format": number, "key": key, "account": account, "data": block});
        cases.push(format!("{case}\n"));
        expected.push(pin);
    }
    let Some(opened) = peer("open", &cases) else { return };
    for ((opened, expected), case) in opened.iter().zip(&expected).zip(&cases) {
        assert_eq!(opened, expected, "{case}");
    }
    assert_eq!(opened.len(), expected.len());
}

fn drawn(entropy: &mut Entropy, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    entropy.fill(&mut bytes).unwrap();
    bytes
}

fn digits(entropy: &mut Entropy, least: u64, most: u64) -> String {
    let length = least + entropy.below(most - least + 1).unwrap();
    (0..length).map(|_| char::from(b'0' + u8::try_from(entropy.below(10).unwrap()).unwrap())).collect()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap()
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(case, name)).unwrap()
}
