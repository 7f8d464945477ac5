//! Chip cryptograms: deriving the card's and the payment's key and checking what the card signed, by cipher; and what
//! a card does. One core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::crypto::{
    CryptogramKeys, CryptogramProfile, KeyLabel, KeyMaker, KeyPolicy, KeyUsage, MasterKey, SecurityModule,
    StorePurpose,
};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::vocab::{ChipPayment, PanSequenceNumber, Text};

const TOKEN: &[u8] = b"4895370000000005";

fn keys(profile: &'static CryptogramProfile) -> CryptogramKeys {
    let mut entropy = Entropy::seeded(1);
    let master = MasterKey::generate(&mut entropy).unwrap();
    let policy = KeyPolicy::DEVELOPMENT;
    let store = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
    let named = (KeyLabel::parse("bench").unwrap(), KeyUsage::TokenCryptogram(profile.cipher()));
    let maker = KeyMaker { by: Text::default(), at: Wall(1) };
    let store = SecurityModule::add_key(&store, &master, policy, named, None, maker, &mut entropy).unwrap();
    SecurityModule::open(&store, &master, policy).unwrap().token_keys(named.0, profile).unwrap()
}

fn payment() -> ChipPayment {
    ChipPayment::sample()
}

fn cryptograms(c: &mut Criterion) {
    let mut group = c.benchmark_group("cryptogram");
    group.throughput(Throughput::Elements(1));
    let sequence = PanSequenceNumber::new(0).unwrap();
    for name in ["ccd-aes", "visa-cvn-18", "pboc-sm4"] {
        let keys = keys(CryptogramProfile::named(name).unwrap());
        let card = keys.card_key(TOKEN, sequence).unwrap();
        let mut chip = payment();
        card.sign(&mut chip);
        group.bench_function(format!("verify_{name}"), |b| {
            b.iter(|| keys.verify(black_box(TOKEN), sequence, black_box(&chip)).unwrap());
        });
        group.bench_function(format!("sign_{name}"), |b| {
            b.iter(|| card.sign(black_box(&mut chip)));
        });
    }
    group.finish();
}

criterion_group!(benches, cryptograms);
criterion_main!(benches);
