//! Token to PAN: hot, over a million tokens one at a time, and in batches of 16. With `--test` the vault is small.

mod configuration;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::crypto::{CardKey, SecurityModule};
use tokenswitch::stdx::clock::{Now, Wall};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::tsp::{
    Action, Asker, CallId, Command, DetokenizeRequest, Detokenizer, ProvisionRequest, Purpose, RequestId,
    TokenKeys, TokenView, Tsp, TspConfig, TspLimits,
};
use tokenswitch::vocab::{ChipPayment, EntryMode, Expiry, LinkId, Pan, TransactionId, luhn_check_digit};

/// 2026-11-22.
const NOW: Now = Now { moment: tokenswitch::stdx::clock::Moment(0), wall: Wall(1_795_305_600_000) };
const HOT: usize = 1_000;
const BATCH: usize = 16;
/// Requests an iteration: enough that what is between them does not count.
const RUN: usize = 4_096;

/// What `init` writes, with room for so many tokens.
fn config(capacity: u32) -> TspConfig {
    let (_directory, config) = configuration::made();
    TspConfig { limits: TspLimits { capacity, remembered_requests: 1, ..config.tsp.limits }, ..config.tsp }
}

/// A vault of `count` tokens, and the tokens.
fn vault(count: usize) -> (Tsp, Vec<TokenView>) {
    let module = SecurityModule::sample().unwrap();
    let config = config(u32::try_from(count).unwrap());
    let requestor = config.requestors[0].id;
    let mut tsp = Tsp::new(config, &module).unwrap();
    let mut entropy = Entropy::seeded(1);
    let (mut actions, mut tokens) = (Vec::new(), Vec::with_capacity(count));
    for number in 0..count {
        let body = format!("476173{number:09}");
        let check = luhn_check_digit(body.as_bytes()).unwrap();
        let request_id = RequestId::parse(number.to_string().as_bytes()).unwrap();
        let pan = Pan::parse(&[body.as_bytes(), &[check]].concat()).unwrap();
        let asker = Asker::requestor(requestor, request_id);
        let request = ProvisionRequest::of(asker, pan, Expiry::parse(b"4912").unwrap());
        let call = CallId(0);
        tsp.apply(Command::Provision { call, request: Box::new(request) }, NOW, &mut entropy, &mut actions);
        tsp.apply(Command::Durable { events: 1 }, NOW, &mut entropy, &mut actions);
        for action in actions.drain(..) {
            if let Action::Answer { answer, .. } = action {
                tokens.push(answer.unwrap().token().unwrap());
            }
        }
    }
    (tsp, tokens)
}

fn request(token: &TokenView) -> DetokenizeRequest {
    DetokenizeRequest {
        token: token.token,
        expiry: Some(token.expiry),
        requestor: Some(token.requestor),
        entry_mode: EntryMode::parse(b"10").ok(),
        acquirer: LinkId(1),
        terminal: None,
        merchant: None,
        category: None,
        country: None,
        transaction: TransactionId(0),
        amount: None,
        chip: None,
        remote: None,
        initiation: None,
        purpose: Purpose::Purchase,
    }
}

/// Requests for tokens drawn at random: the switch would have parsed them a moment ago.
fn drawn(rng: &mut fastrand::Rng, tokens: &[TokenView]) -> Vec<DetokenizeRequest> {
    (0..RUN).map(|_| request(&tokens[rng.usize(..tokens.len())])).collect()
}

/// Detokenizes batches for ever, each time others of the tokens.
fn run(c: &mut Criterion, name: &str, detokenizer: &Detokenizer, tokens: &[TokenView], batch: usize) {
    let mut group = c.benchmark_group("detokenize");
    group.throughput(Throughput::Elements(RUN as u64));
    let (mut rng, mut out) = (fastrand::Rng::with_seed(16), Vec::with_capacity(batch));
    group.bench_function(name, |b| {
        b.iter_batched(
            || drawn(&mut rng, tokens),
            |requests| {
                for piece in requests.chunks(batch) {
                    out.clear();
                    detokenizer.detokenize_batch(NOW, piece, &mut out);
                    assert!(black_box(&out).iter().all(Result::is_ok));
                }
                requests
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A tap of a token, but for what its phone signs it with.
fn tap(token: &TokenView, key: &CardKey, atc: u16) -> DetokenizeRequest {
    let mut chip = ChipPayment { counter: atc.to_be_bytes(), ..ChipPayment::sample() };
    key.sign(&mut chip);
    DetokenizeRequest { entry_mode: Some(EntryMode::CONTACTLESS_CHIP), chip: Some(chip), ..request(token) }
}

/// As hot, with a cryptogram checked and its counter taken each time.
fn chip(c: &mut Criterion, detokenizer: &Detokenizer, tokens: &[TokenView]) {
    let keys = TokenKeys::resolve(&config(1), &SecurityModule::sample().unwrap()).unwrap();
    let phones: Vec<CardKey> = tokens.iter().map(|token| keys.card_key(&token.token).unwrap()).collect();
    let (mut out, mut atc) = (Vec::with_capacity(BATCH), 0_u16);
    let mut group = c.benchmark_group("detokenize");
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function("hot_chip_batch_16", |b| {
        b.iter_batched(
            || {
                atc += 1;
                tokens.iter().zip(&phones).map(|(token, key)| tap(token, key, atc)).collect::<Vec<_>>()
            },
            |requests| {
                for piece in requests.chunks(BATCH) {
                    out.clear();
                    detokenizer.detokenize_batch(NOW, piece, &mut out);
                    assert!(black_box(&out).iter().all(Result::is_ok));
                }
                requests
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// The yardstick: nothing but AES-256-GCM over a card's 16 bytes.
fn bare_open(c: &mut Criterion) {
    let sealer = SecurityModule::sample().unwrap().data_sealer();
    let sealed = sealer.seal(&mut Entropy::seeded(1), &[7; 32], &[5; 16]).unwrap();
    let mut group = c.benchmark_group("detokenize");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare_open", |b| {
        b.iter(|| {
            let mut buffer: [u8; 32] = sealed.ciphertext_and_tag().try_into().unwrap();
            let opened = sealer.open_into(sealed.key_version(), sealed.nonce(), &[7; 32], &mut buffer);
            black_box(opened.unwrap());
        });
    });
    group.finish();
}

fn detokenize(c: &mut Criterion) {
    let small = std::env::args().any(|argument| argument == "--test");
    let (tsp, tokens) = vault(if small { 2_000 } else { 1_000_000 });
    let detokenizer = tsp.detokenizer();
    let hot = &tokens[..HOT];
    bare_open(c);
    run(c, "hot_single", &detokenizer, hot, 1);
    run(c, "hot_batch_16", &detokenizer, hot, BATCH);
    run(c, "million_single", &detokenizer, &tokens, 1);
    run(c, "million_batch_16", &detokenizer, &tokens, BATCH);
    chip(c, &detokenizer, hot);
}

criterion_group!(benches, detokenize);
criterion_main!(benches);
