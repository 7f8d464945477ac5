//! What a 3DES cryptogram costs. `mixed`: batches of sixteen payments at the vault, of which none, some or all are taps
//! signed with 3DES, and the others taps signed with AES or none at all. `beside`: one token payment without a chip
//! that comes to the switch behind so many 3DES taps, until its entry is with the journal; and what is done behind a
//! step. One core.

mod around;
mod configuration;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::codec::{DataElement, Message, encode, icc_of};
use tokenswitch::config::Config;
use tokenswitch::crypto::{
    CardKey, CryptogramProfile, KeyLabel, KeyMaker, KeyPolicy, KeyUsage, MasterKey, SecurityModule,
    StorePurpose,
};
use tokenswitch::journal::EntryNumber;
use tokenswitch::link::{ConnectionId, Inbox, LinkEvent, Outbox};
use tokenswitch::stdx::clock::{Moment, Now, SystemClock, Wall};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{Cards, Happened, LimitsInForce, Node, NodeParts, SwitchCore};
use tokenswitch::tsp::{
    Action, Asker, CallId, Command, CryptogramChoice, DetokenizeRequest, ProvisionRequest, Purpose,
    RequestId, TokenKeys, TokenView, Tsp, TspConfig,
};
use tokenswitch::vocab::{
    ChipPayment, EntryMode, Expiry, LinkId, Mti, Pan, Text, TransactionId, luhn_check_digit,
};

use around::{InstantLog, NoHistory};

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

/// A switch with one acquirer signed on and no issuer there, so that each payment ends at once.
struct Switch {
    node: Node,
    config: Config,
    inbox: Inbox,
    outbox: Outbox,
    taps: Vec<(TokenView, CardKey)>,
    plain: Vec<TokenView>,
    number: u64,
}

impl Switch {
    const FROM: ConnectionId = ConnectionId(1);

    fn open() -> Self {
        let (module, tsp_config) = made();
        let (_directory, config) = configuration::made();
        let (mut tsp, mut entropy) = (Tsp::new(tsp_config.clone(), &module).unwrap(), Entropy::seeded(1));
        let [plain, taps] = ["476173", "622848"].map(|bin| provisioned(&mut tsp, bin, &mut entropy));
        let keys = TokenKeys::resolve(&tsp_config, &module).unwrap();
        let with_key = |token: TokenView| (token, keys.card_key(&token.token).unwrap());
        let switch = config.switch();
        let acquirer = &config.acquirers[0].party;
        let limits = LimitsInForce::new(switch.limits);
        let node = Node::new(NodeParts {
            core: SwitchCore::new(switch.clone(), switch.window(NOW.wall)),
            config: switch,
            acquirers: vec![(acquirer.link, acquirer.wire())],
            issuers: config.issuers.iter().map(|it| (it.party.link, it.party.wire(), it.pool)).collect(),
            detokenizer: tsp.detokenizer(),
            card_keys: Vec::new(),
            cards: Cards::new(module.data_sealer(), 4),
            log: Box::new(InstantLog(0)),
            history: Box::new(NoHistory),
            entropy: Entropy::seeded(5),
            limits,
            first: Vec::new(),
        });
        let taps = taps.into_iter().map(with_key).collect();
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        let mut bench = Self { node, config, inbox, outbox, taps, plain, number: 0 };
        let (link, peer) = (bench.config.acquirers[0].party.link, "127.0.0.1:1".parse().unwrap());
        bench.inbox.events.push(LinkEvent::Opened { connection: Self::FROM, link, peer });
        bench.push("0800", &[(7, b"1122000000"), (11, b"000001"), (70, b"001")]);
        bench.step();
        assert_eq!(bench.node.links()[0].up, 1);
        bench
    }

    fn push(&mut self, mti: &str, elements: &[(u8, &[u8])]) {
        let party = &self.config.acquirers[0].party;
        let mut message = Message::new(Mti::parse(mti.as_bytes()).unwrap());
        for (number, value) in elements {
            message.set(DataElement::new(*number).unwrap(), value).unwrap();
        }
        let mut bytes = Vec::new();
        encode(&party.dialect, &message, &mut bytes).unwrap();
        self.inbox.push_frame(Self::FROM, &vec![0; party.framing.header_length()], &bytes);
    }

    /// A payment with the next token, which taps or does not.
    fn pay(&mut self, taps: bool) {
        self.number += 1;
        let at = self.number as usize % TOKENS;
        let (token, chip) = match taps {
            true => (self.taps[at].0, Some(self.chip(at))),
            false => (self.plain[at], None),
        };
        let number = format!("{:012}", self.number);
        let expiry = token.expiry.digits();
        let mut elements = vec![
            (2, token.token.as_bytes()),
            (3, b"000000"),
            (4, b"000000001234"),
            (7, b"1122000000"),
            (11, &number.as_bytes()[6..]),
            (14, &expiry),
            (22, if taps { b"071" } else { b"101" }),
            (32, b"10000000001"),
            (37, number.as_bytes()),
            (41, b"TERM0001"),
            (42, b"SHOP00000000001"),
            (49, b"978"),
        ];
        elements.extend(chip.as_deref().map(|chip| (55, chip)));
        self.push("0200", &elements);
    }

    /// DE 55 as the token's phone signs it.
    fn chip(&self, at: usize) -> Vec<u8> {
        let counter = u16::try_from(self.number / TOKENS as u64 + 1).unwrap().to_be_bytes();
        let mut chip = ChipPayment { counter, ..ChipPayment::sample() };
        chip.amount = [0, 0, 0, 0, 0x12, 0x34];
        self.taps[at].1.sign(&mut chip);
        icc_of(&chip)
    }

    fn step(&mut self) {
        let durable = Some(EntryNumber(u64::MAX));
        let happened = Happened { inbox: Some(&self.inbox), durable };
        self.node.step(happened, NOW, &mut self.outbox).unwrap();
        self.inbox.clear();
    }

    /// All that follows, until nothing is in flight.
    fn finish(&mut self) {
        while self.node.unchecked() > 0 {
            self.node.check(NOW, &mut self.outbox).unwrap();
        }
        while !self.node.is_idle() {
            self.step();
        }
        self.outbox.clear();
    }
}

fn beside(c: &mut Criterion) {
    let mut switch = Switch::open();
    let clock = SystemClock::start();
    let mut group = c.benchmark_group("beside");
    for taps in [0, 1, 4, 16, 64] {
        group.bench_function(format!("a_payment_without_chip_behind_{taps}_taps"), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    (0..taps).for_each(|_| switch.pay(true));
                    switch.pay(false);
                    let start = clock.now().moment;
                    switch.step();
                    spent += clock.now().moment.since(start);
                    switch.finish();
                }
                spent
            });
        });
    }
    group.bench_function("what_is_done_behind_a_step", |b| {
        b.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                (0..64).for_each(|_| switch.pay(true));
                switch.step();
                let start = clock.now().moment;
                switch.node.check(NOW, &mut switch.outbox).unwrap();
                spent += clock.now().moment.since(start);
                switch.finish();
            }
            spent
        });
    });
    group.finish();
    let refused = switch.node.core().counts().refusals().map(|(refusal, _)| refusal.name());
    assert_eq!(refused.collect::<Vec<_>>(), ["issuer-unavailable"], "each is let pass, as far as an issuer");
}

criterion_group!(benches, mixed, beside);
criterion_main!(benches);
