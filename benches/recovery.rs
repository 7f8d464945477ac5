//! How long the daemon's parts take to start over a store of so many tokens and finished payments: from the journal
//! alone, with the checkpoint, and from a base.
//!
//! `cargo bench --bench recovery -- TOKENS PAYMENTS ANSWERED`; with `varied` the payments are transactions of every
//! kind (`varied.rs`), with `--test` the store is small. Figures for other sizes follow from three runs: each start's
//! time is so much a token, so much an entry read, and little else.

mod configuration;
mod varied;

use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use tokenswitch::app::App;
use tokenswitch::config::Config;
use tokenswitch::journal::{
    AcquirerLeg, Appender, Body, CardRef, Elements, EntryNumber, IssuerLeg, Journal, JournalError,
    JournalSetup, OutcomeEntry, RealDisk, RequestEntry, TransactionEntry,
};
use tokenswitch::stdx::clock::{Clock, Now};
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::Cards;
use tokenswitch::tsp::{Action, Asker, CallId, CardData, Command, ProvisionRequest, RequestId, Tsp};
use tokenswitch::vocab::{
    Expiry, LinkId, Mti, Outcome, Pan, SentAt, ShardId, Stan, TransactionId, Verdicts, luhn_check_digit,
};

/// Entries appended under one lock.
const BATCH: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_said = |what: &str| arguments.iter().any(|argument| argument == what);
    let (small, varied) = (is_said("--test"), is_said("varied"));
    let sizes: Vec<u32> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let (tokens, payments, answered) = match sizes[..] {
        [tokens, payments, answered] => (tokens, payments, answered),
        _ if small => (50, 400, 100),
        _ => (100_000, 1_000_000, 100_000),
    };
    let (_directory, mut config) = configuration::made();
    config.tsp.limits.capacity = tokens.max(1);
    config.limits.answered = answered as usize;
    config.journal.journal.min_free_bytes = 0;
    config.journal.bases.fold_every = 1;
    let clock = Clock::system();
    let written = write(&config, clock.now(), tokens, payments, varied);
    let what = if varied { "transactions of every kind" } else { "finished payments" };
    println!("{tokens} tokens, {payments} {what}, {answered} answers remembered; {written} entries");
    start(&config, &clock, "from the journal alone");
    start(&config, &clock, "with the checkpoint");
    until_base(&config, &clock);
    fs::remove_dir_all(config.node.checkpoint_directory()).unwrap();
    start(&config, &clock, "from a base, without the checkpoint");
}

/// Starts and stops; says how long the start took, and by how much memory the process grew meanwhile.
fn start(config: &Config, clock: &Clock, how: &str) {
    let (begun, before) = (clock.now().moment, resident());
    let app = App::start(config, clock.clone(), &mut |_| {}).unwrap();
    let took = clock.now().moment.since(begun);
    println!(
        "{how}: {:.2} s, {} MiB more; {} entries read, {} tokens, {} answers",
        took.as_secs_f64(),
        resident().saturating_sub(before) >> 10,
        app.found.entries,
        app.found.tokens,
        app.found.switch.answered
    );
    app.stop().unwrap();
    println!(
        "  and {:.2} s until it had stopped",
        clock.now().moment.since(begun).saturating_sub(took).as_secs_f64()
    );
}

/// Memory of this process that is in use, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs until a base is written.
fn until_base(config: &Config, clock: &Clock) {
    let app = App::start(config, clock.clone(), &mut |_| {}).unwrap();
    let is_base = |name: String| name.starts_with("base-");
    let names = || fs::read_dir(config.node.journal_directory()).unwrap();
    while !names().any(|entry| is_base(entry.unwrap().file_name().into_string().unwrap())) {
        std::thread::sleep(Duration::from_millis(100));
    }
    app.stop().unwrap();
}

/// A journal of so many tokens and payments; gives its last entry.
fn write(config: &Config, now: Now, tokens: u32, payments: u32, varied: bool) -> EntryNumber {
    let directory = config.node.journal_directory();
    fs::create_dir_all(&directory).unwrap();
    let setup = JournalSetup {
        disk: Box::new(RealDisk::lock(File::open(&directory).unwrap()).unwrap()),
        keys: config.security.journal_keys(),
        config: config.journal.journal.clone(),
        at_least: EntryNumber(0),
        entropy: Entropy::system(),
    };
    let (journal, _) = Journal::start(setup, |_| {}).unwrap();
    let mut batch = Batch { appender: journal.appender(), now, bodies: Vec::new() };
    issue(config, tokens, &mut batch);
    if varied {
        varied::write(config, u64::from(payments), &mut batch);
    } else {
        pay(config, payments, &mut batch);
    }
    batch.append();
    let last = batch.appender.append(ShardId(0), now.wall, &Body::Operator(key_event(config))).unwrap();
    journal.close().unwrap();
    last
}

/// One that the start would write anyway.
fn key_event(config: &Config) -> Vec<u8> {
    let key = *config.security.keys().next().unwrap();
    tokenswitch::journal::KeyEvent { key, made: None }.encode()
}

/// Entries on their way into the journal.
struct Batch {
    appender: Appender,
    now: Now,
    bodies: Vec<Body>,
}

impl Batch {
    fn push(&mut self, body: Body) {
        self.bodies.push(body);
        if self.bodies.len() >= BATCH {
            self.append();
        }
    }

    fn append(&mut self) {
        while let Err(error) = self.appender.append_batch(ShardId(0), self.now.wall, &self.bodies) {
            assert!(matches!(error, JournalError::Full), "{error}");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.bodies.clear();
    }
}

fn pan(number: u32) -> Pan {
    let body = format!("476173{number:09}");
    let check = luhn_check_digit(body.as_bytes()).unwrap();
    Pan::parse(&[body.as_bytes(), &[check]].concat()).unwrap()
}

fn issue(config: &Config, tokens: u32, batch: &mut Batch) {
    let mut tsp = Tsp::new(config.tsp.clone(), &config.security).unwrap();
    let (mut entropy, mut actions) = (Entropy::seeded(1), Vec::new());
    for number in 0..tokens {
        let request_id = RequestId::parse(number.to_string().as_bytes()).unwrap();
        let asker = Asker::requestor(config.tsp.requestors[0].id, request_id);
        let request = ProvisionRequest::of(asker, pan(number), Expiry::parse(b"4912").unwrap());
        let command = Command::Provision { call: CallId(0), request: Box::new(request) };
        tsp.apply(command, batch.now, &mut entropy, &mut actions);
        tsp.apply(Command::Durable { events: 1 }, batch.now, &mut entropy, &mut actions);
        for action in actions.drain(..) {
            if let Action::Append { event, .. } = action {
                batch.push(Body::Token(event));
            }
        }
    }
    assert_eq!(tsp.tokens(), tokens as usize);
}

fn pay(config: &Config, payments: u32, batch: &mut Batch) {
    let cards = Cards::new(config.security.data_sealer(), 7);
    let (mut entropy, switch) = (Entropy::seeded(2), config.switch());
    let (acquirer, issuer) = (config.acquirers[0].party.link, config.issuers[0].party.link);
    for number in 1..=payments {
        let transaction = TransactionId(u64::from(number));
        let stan = Stan::new(number % Stan::MOST + 1).unwrap();
        let sent_at = SentAt(batch.now.wall.seconds() - u64::from(payments - number) / 1_000);
        let card = CardData { pan: pan(number % 50_000), expiry: None, sequence: None };
        let request = RequestEntry {
            transaction,
            original: None,
            acquirer: AcquirerLeg { link: acquirer, mti: Mti::parse(b"0200").unwrap(), sent_at, stan },
            issuer: issuer_leg(issuer, sent_at, stan),
            elements: elements(number),
            card: Arc::new(CardRef {
                token: None,
                sealed: cards.seal(&mut entropy, transaction, &card).unwrap(),
            }),
            verdicts: Verdicts::default(),
            counter: None,
            window: switch.window(batch.now.wall),
            moves_money: true,
            settles: true,
        };
        let mut answer = Elements::new();
        assert!(answer.keep(39, b"00") && answer.keep(38, b"A12345"));
        let outcome = OutcomeEntry {
            transaction,
            outcome: Outcome::Approved,
            refusal: None,
            answer,
            approved: None,
            reversal: None,
            advice: None,
            counter: None,
        };
        batch.push(Body::Transaction(TransactionEntry::Request(Box::new(request))));
        batch.push(Body::Transaction(TransactionEntry::Outcome(Box::new(outcome))));
    }
}

fn issuer_leg(link: LinkId, sent_at: SentAt, stan: Stan) -> IssuerLeg {
    IssuerLeg { link, mti: Mti::parse(b"0200").unwrap(), sent_at, stan, forwarder: None }
}

/// What an acquirer usually sends and the journal keeps.
fn elements(number: u32) -> Elements {
    let mut elements = Elements::with_room(Elements::REQUEST_ROOM);
    let (stan, rrn) = (format!("{:06}", number % 999_999 + 1), format!("{number:012}"));
    for (de, value) in [
        (3, "000000"),
        (4, "000000012345"),
        (7, "1122120000"),
        (11, &stan),
        (12, "120000"),
        (13, "1122"),
        (18, "5411"),
        (22, "051"),
        (32, "00000000042"),
        (37, &rrn),
        (41, "TERM0001"),
        (42, "MERCHANT0000001"),
        (43, "A SHOP                  A CITY       AA "),
        (49, "978"),
    ] {
        assert!(elements.keep(de, value.as_bytes()), "DE {de}");
    }
    elements
}
