//! What a 3DES cryptogram costs those that come with it: batches of sixteen payments, as the switch hands them to the vault,
//! of which none, some or all are taps signed with 3DES, and the others taps signed with AES or none at all. Whoever is in
//! a batch waits for all of it, so that the batch's time is what each waits. One core.

mod configuration;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::crypto::{
    CardKey, CryptogramProfile, KeyLabel, KeyMaker, KeyPolicy, KeyUsage, MasterKey, SecurityModule,
    StorePurpose,
};
use tokenswitch::stdx::clock::{Moment, Now, Wall};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::tsp::{
    Action, Asker, CallId, Command, CryptogramChoice, DetokenizeRequest, ProvisionRequest, Purpose,
    RequestId, TokenKeys, TokenView, Tsp, TspConfig,
};
use tokenswitch::vocab::{
    ChipPayment, EntryMode, Expiry, LinkId, Pan, Text, TransactionId, luhn_check_digit,
};

/// 2026-11-22.
const NOW: Now = Now { moment: Moment(0), wall: Wall(1_795_305_600_000) };
const BATCH: usize = 16;
/// Tokens of each kind, and payments an iteration: so many that no phone's counter runs out.
const TOKENS: usize = 1_024;

/// Keys for both ciphers, and a configuration in which tokens of one product sign with AES and of the other with 3DES.
fn made() -> (SecurityModule, TspConfig) {
    let (mut entropy, policy) = (Entropy::seeded(1), KeyPolicy::DEVELOPMENT);
    let master = MasterKey::generate(&mut entropy).unwrap();
    let mut store = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
    let (_directory, mut config) = configuration::made();
    for (range, name) in config.tsp.token_ranges.iter_mut().zip(["ccd-aes", "pboc-3des"]) {
        let profile = CryptogramProfile::named(name).unwrap();
        let label = KeyLabel::parse(name).unwrap();
        let named = (label, KeyUsage::TokenCryptogram(profile.cipher()));
        let maker = KeyMaker { by: Text::default(), at: Wall(1) };
        store = SecurityModule::add_key(&store, &master, policy, named, None, maker, &mut entropy).unwrap();
        range.cryptograms = Some(CryptogramChoice { profile, key: label });
    }
    (SecurityModule::open(&store, &master, policy).unwrap(), config.tsp)
}

/// Tokens for cards that begin so.
fn provisioned(tsp: &mut Tsp, bin: &str, entropy: &mut Entropy) -> Vec<TokenView> {
    let requestor = made().1.requestors[0].id;
    let (mut actions, mut tokens) = (Vec::new(), Vec::with_capacity(TOKENS));
    for number in 0..TOKENS {
        let body = format!("{bin}{number:09}");
        let check = luhn_check_digit(body.as_bytes()).unwrap();
        let pan = Pan::parse(&[body.as_bytes(), &[check]].concat()).unwrap();
        let id = RequestId::parse(body.as_bytes()).unwrap();
        let request =
            ProvisionRequest::of(Asker::requestor(requestor, id), pan, Expiry::parse(b"4912").unwrap());
        let call = CallId(0);
        tsp.apply(Command::Provision { call, request: Box::new(request) }, NOW, entropy, &mut actions);
        tsp.apply(Command::Durable { events: 1 }, NOW, entropy, &mut actions);
        for action in actions.drain(..) {
            if let Action::Answer { answer, .. } = action {
                tokens.push(answer.unwrap().token().unwrap());
            }
        }
    }
    tokens
}

/// A payment, with what the token's phone signs if it taps.
fn payment(token: &TokenView, tapped: Option<(&CardKey, u16)>) -> DetokenizeRequest {
    let chip = tapped.map(|(key, atc)| {
        let mut chip = ChipPayment { counter: atc.to_be_bytes(), ..ChipPayment::sample() };
        key.sign(&mut chip);
        chip
    });
    let entry: &[u8] = if chip.is_some() { b"07" } else { b"10" };
    DetokenizeRequest {
        token: token.token,
        expiry: Some(token.expiry),
        requestor: Some(token.requestor),
        entry_mode: EntryMode::parse(entry).ok(),
        acquirer: LinkId(1),
        terminal: None,
        merchant: None,
        category: None,
        country: None,
        transaction: TransactionId(0),
        amount: None,
        chip,
        remote: None,
        initiation: None,
        purpose: Purpose::Purchase,
    }
}

fn mixed(c: &mut Criterion) {
    let (module, config) = made();
    let keys = TokenKeys::resolve(&config, &module).unwrap();
    let mut group = c.benchmark_group("mixed");
    group.throughput(Throughput::Elements((TOKENS / BATCH) as u64));
    for slow in [0, 1, 4, BATCH] {
        let (mut tsp, mut entropy) = (Tsp::new(config.clone(), &module).unwrap(), Entropy::seeded(1));
        let [aes, des] = ["476173", "622848"].map(|bin| {
            let tokens = provisioned(&mut tsp, bin, &mut entropy);
            let with_key = |token: TokenView| (token, keys.card_key(&token.token).unwrap());
            tokens.into_iter().map(with_key).collect::<Vec<_>>()
        });
        let detokenizer = tsp.detokenizer();
        let (mut out, mut atc) = (Vec::with_capacity(BATCH), 0_u16);
        group.bench_function(format!("batch_of_16_with_{slow}_by_3des"), |b| {
            b.iter_batched(
                || {
                    atc += 1;
                    let one = |at: usize| match at % BATCH {
                        place if place < slow => payment(&des[at].0, Some((&des[at].1, atc))),
                        place if place % 2 == 0 => payment(&aes[at].0, Some((&aes[at].1, atc))),
                        _ => payment(&aes[at].0, None),
                    };
                    (0..TOKENS).map(one).collect::<Vec<_>>()
                },
                |requests| {
                    for batch in requests.chunks(BATCH) {
                        out.clear();
                        detokenizer.detokenize_batch(NOW, batch, &mut out);
                        assert!(black_box(&out).iter().all(Result::is_ok));
                    }
                    requests
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, mixed);
criterion_main!(benches);
