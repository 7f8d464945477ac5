//! `Node::step` and `SwitchCore::apply`: the switch without sockets and disk. `step` is one payment through the whole
//! node — decoding, the vault, sealing, the core, encoding, the last look for the PAN — in batches of 64 tapped
//! tokens, request and answer; `apply` is the core alone over the events of one payment. The simulators' own work is
//! not in the figures.

mod around;
mod configuration;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::codec::{Dialect, FrameFormat, FrameReader, Message, decode};
use tokenswitch::config::Config;
use tokenswitch::journal::{CardRef, Elements, EntryNumber};
use tokenswitch::link::{ConnectionId, Inbox, LinkCommand, LinkEvent, Outbox};
use tokenswitch::sim::{
    self, AcquirerConfig, AcquirerSimulator, FaultPlan, Habits, IssuerConfig, IssuerSimulator, Load, Pace,
    Patience, Phone, PresentedCard, TestCard, test_cards, test_merchants,
};
use tokenswitch::stdx::clock::{Now, SystemClock};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{
    Action, Arrival, CardSource, Cards, Event, Given, Happened, IssuerAnswer, LimitsInForce, Node, NodeParts,
    PanCard, Request, SwitchConfig, SwitchCore, Ticket,
};
use tokenswitch::tsp::{
    Action as VaultAction, Asker, CallId, CardAad, CardData, Command, ProvisionRequest, RequestId, TokenKeys,
    Told, Tsp, seal_card,
};
use tokenswitch::vocab::{
    Bin, Currency, InstitutionId, LinkId, Mti, Outcome, PosEntryMode, ProcessingCode, ResponseCode,
    TransactionId, YearMonth,
};

use around::{InstantLog, NoHistory};

/// Payments of one batch.
const BATCH: usize = 64;
/// Tokens tapped in turn.
const TOKENS: usize = 256;
const ACQUIRER: LinkId = LinkId(1);
/// Payments after which the core begins anew: its numbers for issuers do not rest while time stands still.
const ANEW: u64 = 500_000;

/// One of the simulators, with the connection that the node knows it by.
struct Peer<B> {
    brain: B,
    connection: ConnectionId,
    out: sim::Outbox,
    framing: FrameFormat,
}

/// The node and both sides of it.
struct Bench {
    node: Node,
    acquirer: Peer<AcquirerSimulator>,
    issuers: Vec<Peer<IssuerSimulator>>,
    inbox: Inbox,
    outbox: Outbox,
    clock: SystemClock,
    spent: Duration,
}

fn provisioned(config: &Config, cards: &[TestCard], now: Now) -> (Tsp, Vec<PresentedCard>) {
    let security = &config.security;
    let mut tsp = Tsp::new(config.tsp.clone(), security).unwrap();
    let keys = TokenKeys::resolve(&config.tsp, security).unwrap();
    let requestor = config.tsp.requestors[0].id;
    let mut entropy = Entropy::seeded(2);
    let mut presented = Vec::new();
    for (number, card) in cards.iter().enumerate() {
        let request_id = RequestId::parse(format!("bench-{number}").as_bytes()).unwrap();
        let asker = Asker::requestor(requestor, request_id);
        let request = Box::new(ProvisionRequest {
            sequence: card.sequence,
            ..ProvisionRequest::of(asker, card.pan.clone(), card.expiry)
        });
        let mut actions = Vec::new();
        tsp.apply(Command::Provision { call: CallId(0), request }, now, &mut entropy, &mut actions);
        tsp.apply(Command::Durable { events: 1 }, now, &mut entropy, &mut actions);
        let view = actions.into_iter().find_map(|action| match action {
            VaultAction::Answer { answer, .. } => answer.ok().and_then(Told::token),
            VaultAction::Append { .. } | VaultAction::AskIssuer { .. } | VaultAction::SendCode(_) => None,
        });
        let view = view.expect("a token");
        let pan = Some(card.pan.clone());
        let card = PresentedCard::token(view.token, Some(view.expiry), Some(requestor), pan);
        presented.push(card.in_phone(Phone::new(keys.card_key(&view.token).expect("a key"), 0)));
    }
    (tsp, presented)
}

impl Bench {
    fn new() -> Self {
        let (_directory, config) = configuration::made();
        let clock = SystemClock::start();
        let now = clock.now();
        let bins: Vec<Bin> = config.routes.iter().map(|route| route.bin).collect();
        let cards = test_cards(3, &bins, 16, YearMonth::of(now.wall), TOKENS);
        let (tsp, presented) = provisioned(&config, &cards, now);
        let node = Node::new(NodeParts {
            core: SwitchCore::new(config.switch(), config.switch().window(now.wall)),
            config: config.switch(),
            acquirers: config.acquirers.iter().map(|it| (it.party.link, it.party.wire())).collect(),
            issuers: config.issuers.iter().map(|it| (it.party.link, it.party.wire(), it.pool)).collect(),
            detokenizer: tsp.detokenizer(),
            card_keys: Vec::new(),
            cards: Cards::new(config.security.data_sealer(), 4),
            log: Box::new(InstantLog(0)),
            history: Box::new(NoHistory),
            entropy: Entropy::system(),
            limits: LimitsInForce::new(config.switch().limits),
            first: Vec::new(),
        });
        let acquirer = Peer {
            brain: acquirer(&config, presented),
            connection: ConnectionId::accepted(1),
            out: sim::Outbox::new(),
            framing: config.acquirers[0].party.framing,
        };
        let issuers = config.issuers.iter().zip(2..).map(|(section, number)| Peer {
            brain: issuer(section.party.dialect.clone(), section.party.framing),
            connection: ConnectionId::accepted(number),
            out: sim::Outbox::new(),
            framing: section.party.framing,
        });
        let mut bench = Self {
            node,
            acquirer,
            issuers: issuers.collect(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            clock,
            spent: Duration::ZERO,
        };
        bench.open(&config);
        bench
    }

    /// All connections open and signed on.
    fn open(&mut self, config: &Config) {
        let peer = "127.0.0.1:1".parse().unwrap();
        let links = config.issuers.iter().map(|section| section.party.link);
        let open = |connection, link| LinkEvent::Opened { connection, link, peer };
        self.inbox.events.push(open(self.acquirer.connection, ACQUIRER));
        let issuers = self.issuers.iter().zip(links).map(|(issuer, link)| open(issuer.connection, link));
        self.inbox.events.extend(issuers.collect::<Vec<_>>());
        let now = self.clock.now();
        self.acquirer.brain.opened(0, now, &mut self.acquirer.out).unwrap();
        for issuer in &mut self.issuers {
            issuer.brain.opened(0, now, &mut issuer.out);
        }
        for _ in 0..4 {
            self.turn();
        }
        assert_eq!(self.acquirer.brain.signed_on(), 1);
        assert!(self.node.links().iter().all(|link| link.up == 1));
    }

    /// The node takes what is in the inbox; its output goes to the simulators, and theirs into the inbox.
    fn turn(&mut self) {
        let now = self.clock.now();
        let durable = Some(EntryNumber(u64::MAX));
        let happened = Happened { inbox: Some(&self.inbox), durable };
        self.node.step(happened, now, &mut self.outbox).unwrap();
        // What the step appended is durable at once: its second half belongs to the same payment.
        self.node.step(Happened { inbox: None, durable }, now, &mut self.outbox).unwrap();
        self.spent += self.clock.now().moment.since(now.moment);
        self.inbox.clear();
        self.hand_over(now);
        self.acquirer.deliver(&mut self.inbox);
        self.issuers.iter_mut().for_each(|issuer| issuer.deliver(&mut self.inbox));
    }

    fn hand_over(&mut self, now: Now) {
        for command in &self.outbox.commands {
            let LinkCommand::Write { connection, bytes } = command else { continue };
            let bytes = self.outbox.written(bytes);
            if *connection == self.acquirer.connection {
                let Peer { brain, out, framing, .. } = &mut self.acquirer;
                each_frame(*framing, bytes, |_, message| {
                    brain.received(0, message, now, out).unwrap();
                });
            }
            for Peer { brain, out, framing, connection: known } in &mut self.issuers {
                if connection == known {
                    each_frame(*framing, bytes, |header, message| {
                        brain.received(0, header, message, now, out)
                    });
                }
            }
        }
        self.outbox.clear();
    }

    /// `count` payments, from the first byte in to the last byte out; the time that the node took.
    fn pay(&mut self, count: u64) -> Duration {
        self.spent = Duration::ZERO;
        let now = self.clock.now();
        self.acquirer.brain.start_load(load(count), now);
        self.acquirer.brain.next(now, &mut self.acquirer.out).unwrap();
        self.acquirer.deliver(&mut self.inbox);
        while !self.acquirer.brain.load_is_over() {
            self.turn();
        }
        assert_eq!(self.acquirer.brain.report().mismatches(), 0);
        self.spent
    }
}

impl<B> Peer<B> {
    /// What it wants sent lies in the node's inbox.
    fn deliver(&mut self, inbox: &mut Inbox) {
        let bytes = std::mem::take(self.out.bytes(0));
        each_frame(self.framing, &bytes, |header, message| {
            inbox.push_frame(self.connection, header, message)
        });
    }
}

fn each_frame(framing: FrameFormat, mut bytes: &[u8], mut act: impl FnMut(&[u8], &[u8])) {
    let mut reader = FrameReader::new(framing);
    while !bytes.is_empty() {
        let spare = reader.spare();
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        reader.filled(count);
        bytes = &bytes[count..];
        while let Some(frame) = reader.next().unwrap() {
            act(frame.header, frame.message);
        }
    }
}

fn acquirer(config: &Config, cards: Vec<PresentedCard>) -> AcquirerSimulator {
    let party = &config.acquirers[0].party;
    AcquirerSimulator::new(AcquirerConfig {
        dialect: party.dialect.clone(),
        framing: party.framing,
        header: vec![0; party.framing.header_length()],
        institution: InstitutionId::parse(b"10000000001").unwrap(),
        merchants: test_merchants(5, 4),
        cards,
        patience: Patience::default(),
        habits: Habits::default(),
        faults: FaultPlan::none(),
        seed: 6,
        first_number: 1,
    })
    .unwrap()
}

fn issuer(dialect: Arc<Dialect>, framing: FrameFormat) -> IssuerSimulator {
    IssuerSimulator::new(IssuerConfig {
        dialect,
        framing,
        header: vec![0; framing.header_length()],
        signs_on: false,
        rules: Vec::new(),
        enquiries: Vec::new(),
        faults: FaultPlan::none(),
        think: Duration::ZERO,
        seed: 7,
    })
}

fn load(total: u64) -> Load {
    Load {
        pace: Pace::Closed { outstanding: BATCH },
        total: Some(total),
        mti: Mti::parse(b"0200").unwrap(),
        processing: ProcessingCode::parse(b"000000").unwrap(),
        entry_mode: PosEntryMode::parse(b"101").unwrap(),
        amounts: 100..=10_000,
        currency: Currency::from_letters("EUR").unwrap(),
    }
}

fn step(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let mut group = criterion.benchmark_group("switch_core");
    group.throughput(Throughput::Elements(1));
    group.bench_function("Node::step, one token payment in batches of 64", |bencher| {
        bencher.iter_custom(|count| bench.pay(count));
    });
    group.finish();
}

/// A core and what one payment's events are made of.
struct Core {
    core: SwitchCore,
    config: SwitchConfig,
    message: Message,
    dialect: Arc<Dialect>,
    card: Arc<CardRef>,
    data: CardData,
    ticket: u64,
    now: Now,
    actions: Vec<Action>,
}

impl Core {
    fn new() -> Self {
        let (_directory, config) = configuration::made();
        let now = SystemClock::start().now();
        let bins: Vec<Bin> = config.routes.iter().map(|route| route.bin).collect();
        let card = test_cards(3, &bins, 16, YearMonth::of(now.wall), 1).remove(0);
        let data = CardData { pan: card.pan.clone(), expiry: Some(card.expiry), sequence: card.sequence };
        let aad = CardAad::transaction(TransactionId(1));
        let sealed = seal_card(&config.security.data_sealer(), &mut Entropy::seeded(8), &aad, &data).unwrap();
        Self {
            core: SwitchCore::new(config.switch(), config.switch().window(now.wall)),
            config: config.switch(),
            message: purchase(&card, now),
            dialect: config.acquirers[0].party.dialect.clone(),
            card: Arc::new(CardRef { token: None, sealed }),
            data,
            ticket: 0,
            now,
            actions: Vec::new(),
        }
    }

    fn request(&mut self) -> (Request, CardSource) {
        let mut transaction = self.core.next_transaction();
        if transaction.0 == ANEW {
            self.core = SwitchCore::new(self.config.clone(), self.config.window(self.now.wall));
            (transaction, self.ticket) = (self.core.next_transaction(), 0);
        }
        let stan = format!("{:06}", transaction.0 % 1_000_000);
        self.message.set(tokenswitch::codec::DataElement::STAN, stan.as_bytes()).unwrap();
        let given = Given::Pan {
            card: PanCard {
                card: Arc::clone(&self.card),
                mark: tokenswitch::switch::CardMark(1),
                issuer: Some(LinkId(101)),
            },
            digits: self.data.pan.expose_digits(),
        };
        let arrival = Arrival { link: ACQUIRER, transaction, received: self.now };
        Request::parse(&self.message, &self.dialect, Ok(given), arrival).unwrap()
    }

    /// Received, durable, answered, durable.
    fn pay(&mut self, (request, card): (Request, CardSource)) {
        let id = request.transaction;
        let from = ConnectionId::accepted(1);
        self.apply(Event::Received { request: Arc::new(request), card, from, signed_on: true });
        self.apply(Event::Durable(Ticket(self.ticket)));
        self.ticket += 1;
        let leg = self.core.transaction(id).unwrap().routed.as_ref().unwrap().leg;
        let answer = IssuerAnswer {
            card: None,
            link: leg.link,
            mti: leg.mti.answer().unwrap(),
            sent_at: leg.sent_at,
            stan: leg.stan,
            acquirer: None,
            rrn: None,
            terminal: None,
            amount: None,
            outcome: Some(Outcome::Approved),
            code: ResponseCode::parse(b"00").unwrap(),
            elements: Elements::default(),
            believable: true,
        };
        self.apply(Event::Answered(Box::new(answer)));
        self.apply(Event::Durable(Ticket(self.ticket)));
        self.ticket += 1;
    }

    fn apply(&mut self, event: Event) {
        self.core.apply(event, self.now, &mut self.actions);
        black_box(&self.actions);
        self.actions.clear();
    }
}

fn purchase(card: &TestCard, now: Now) -> Message {
    let dialect = Dialect::shipped("iso87-ascii").unwrap();
    let mut message = Message::new(Mti::parse(b"0200").unwrap());
    let sent_at = tokenswitch::vocab::TransmissionTime::of(now.wall);
    for (number, value) in [
        (2, card.pan.expose_digits()),
        (3, b"000000"),
        (4, b"000000004250"),
        (7, &sent_at.digits()),
        (11, b"000001"),
        (22, b"071"),
        (32, b"10000000001"),
        (37, b"000000000001"),
        (41, b"TERM0001"),
        (42, b"SHOP00000000001"),
        (49, b"978"),
    ] {
        message.set(tokenswitch::codec::DataElement::new(number).unwrap(), value).unwrap();
    }
    let mut bytes = Vec::new();
    tokenswitch::codec::encode(&dialect, &message, &mut bytes).unwrap();
    decode(&dialect, &bytes).unwrap()
}

fn apply(criterion: &mut Criterion) {
    let mut bench = Core::new();
    let clock = SystemClock::start();
    let mut group = criterion.benchmark_group("switch_core");
    group.throughput(Throughput::Elements(1));
    group.bench_function("SwitchCore::apply, the four events of one payment", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let request = bench.request();
                let start = clock.now().moment;
                bench.pay(request);
                spent += clock.now().moment.since(start);
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, step, apply);
criterion_main!(benches);
