//! The real daemon killed and started again: what was acknowledged before is there after, and what is damaged is
//! named. The issuers and the acquirer live on in this process meanwhile, as theirs would.

use std::cell::RefCell;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokenswitch::cli::{HttpClient, Shared};
use tokenswitch::config::Config;
use tokenswitch::sim::{
    AcquirerConfig, AcquirerSimulator, FaultPlan, Habits, IssuerSimulator, Load, Pace, Patience, Payment,
    PaymentNumber, PaymentState, Phone, ProvisionedToken, Provisioner, TestCard, reconcile, test_cards,
    test_merchants,
};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::stdx::secret::Secret;
use tokenswitch::tsp::TokenKeys;
use tokenswitch::vocab::{
    Amount, Bin, Currency, InstitutionId, Mti, Outcome, PosEntryMode, ProcessingCode, YearMonth,
};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

use crate::daemon::{Daemon, PROGRAM, init};
use crate::gate::Gate;
use crate::players::{LOOK, PATIENCE, SEED, change, in_one_thread, issuer, until};

const CONNECTIONS: usize = 2;
pub(crate) const OUTSTANDING: usize = 8;
/// Tokens that the load pays with.
const TOKENS: usize = 32;
/// How much of the load is approved, and how many tokens are given out under it, before the daemon is killed.
const APPROVALS: usize = 150;
const TOKENS_UNDER_LOAD: usize = 15;
/// How many starts in order it may take until all is delivered, where one or two do.
const STARTS: usize = 10;
/// Longer than an issuer's time-out and the pauses between repeats: a reversal of what its issuer never saw is
/// settled by a repeat after that, in one life of the daemon.
const LONGER_THAN_REPEATS: Duration = Duration::from_secs(4);

/// What happens to the checkpoint between kill and start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Nothing,
    BytesFlipped,
    Deleted,
}

/// A token as it was asked for, and as it was given if it was.
struct Asked {
    card: TestCard,
    request_id: String,
    given: Option<ProvisionedToken>,
}

/// A life of the daemon, from start to its end, and who is connected to it.
pub(crate) struct Life {
    pub(crate) daemon: Daemon,
    http: HttpClient,
    dials: Vec<AbortHandle>,
}

/// Everybody but the daemon.
pub(crate) struct World {
    pub(crate) directory: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) issuers: Vec<Shared<IssuerSimulator>>,
    /// What stands between the daemon and each issuer.
    pub(crate) gates: Vec<Gate>,
    acquirer: Option<Shared<AcquirerSimulator>>,
    provisioner: Rc<Provisioner>,
    cards: Vec<TestCard>,
    asked: Rc<RefCell<Vec<Asked>>>,
}

#[test]
fn nothing_acknowledged_is_lost_when_killed_with_redb() {
    in_one_thread(kill_and_return("redb"));
}

#[test]
fn nothing_acknowledged_is_lost_when_killed_with_sled() {
    in_one_thread(kill_and_return("sled"));
}

async fn kill_and_return(checkpoint: &str) {
    let kept = tempfile::tempdir().unwrap();
    let mut world = World::set_up(kept.path(), checkpoint).await;
    world.first_life().await;
    for harm in [Harm::Nothing, Harm::BytesFlipped, Harm::Deleted] {
        let before = world.payments();
        world.life_under_load_until_killed().await;
        harm.befall(&world.directory.join("data/checkpoint"));
        let life = world.start().await;
        let aside = world.quarantined();
        assert_eq!(aside, harm == Harm::BytesFlipped, "{checkpoint}, {harm:?}: set aside when damaged");
        world.ask_for_every_token_again(&life).await;
        world.repeat_payments_since(before).await;
        world.settle(life).await;
    }
}

impl Harm {
    fn befall(self, checkpoint: &Path) {
        match self {
            Self::Nothing => {}
            Self::Deleted => std::fs::remove_dir_all(checkpoint).unwrap(),
            Self::BytesFlipped => files_under(checkpoint).iter().for_each(|file| {
                let mut bytes = std::fs::read(file).unwrap();
                bytes.iter_mut().step_by(61).for_each(|byte| *byte ^= 0x5a);
                std::fs::write(file, bytes).unwrap();
            }),
        }
    }
}

pub(crate) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

impl World {
    pub(crate) async fn set_up(kept: &Path, checkpoint: &str) -> Self {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let mut gates = Vec::new();
        for listener in &listeners {
            gates.push(Gate::before(listener.local_addr().unwrap()).await);
        }
        let directory = kept.join("switch");
        let config = init(&directory, [&gates[0].address, &gates[1].address]);
        change(&config, "checkpoint = \"redb\"", &format!("checkpoint = \"{checkpoint}\""));
        change(&config, "timeout = \"10s\"", "timeout = \"1s\"");
        let read = Config::load(&config).unwrap();
        let parties = read.issuers.iter().map(|issuer| &issuer.party);
        let issuers = parties.zip(listeners).map(|(party, listener)| issuer(party, listener)).collect();
        let bins: Vec<Bin> = read.routes.iter().map(|route| route.bin).collect();
        let from = YearMonth::of(Clock::system().now().wall);
        Self {
            issuers,
            gates,
            acquirer: None,
            provisioner: Rc::new(provisioner(&directory, &read)),
            cards: test_cards(SEED, &bins, 16, from, 20_000),
            asked: Rc::default(),
            directory,
            config,
        }
    }

    /// The number of a card that pays without a token.
    pub(crate) fn plain_card(&self) -> String {
        String::from_utf8(self.cards[0].pan.expose_digits().to_vec()).unwrap()
    }

    /// Gives out the tokens of the load and stops in order, so that the checkpoint has them.
    pub(crate) async fn first_life(&mut self) {
        let life = self.start().await;
        self.give_tokens(&life).await;
        self.stop(life).await;
        self.make_acquirer();
    }

    /// As `first_life`, by a command, and goes on.
    pub(crate) async fn first_life_by(&mut self, command: Command) -> Life {
        let mut life = self.start_by(command).await;
        self.give_tokens(&life).await;
        self.make_acquirer();
        self.dial(&mut life).await;
        life
    }

    async fn give_tokens(&self, life: &Life) {
        for _ in 0..TOKENS {
            provision_next(&life.http, &self.provisioner, &self.cards, &self.asked).await.unwrap();
        }
    }

    /// One whose cards are the tokens that were given.
    fn make_acquirer(&mut self) {
        let requestor = self.provisioner.requestor();
        let asked = self.asked.borrow();
        let config = Config::load(&self.config).unwrap();
        let keys = TokenKeys::resolve(&config.tsp, &config.security).unwrap();
        let presented = asked.iter().map(|asked| {
            let given = asked.given.as_ref().unwrap();
            let card = given.presented(&asked.card, requestor).unwrap();
            let key = keys.card_key(card.as_token().unwrap()).unwrap();
            card.in_phone(Phone::new(key, 0))
        });
        let party = &config.acquirers[0].party;
        let brain = AcquirerSimulator::new(AcquirerConfig {
            dialect: party.dialect.clone(),
            framing: party.framing,
            header: vec![0; party.framing.header_length()],
            institution: InstitutionId::parse(b"10000000001").unwrap(),
            merchants: test_merchants(SEED, 4),
            cards: presented.collect(),
            patience: Patience { answer: PATIENCE, ..Patience::default() },
            habits: Habits { reverse_one_in: Some(10), repeat_one_in: Some(20) },
            faults: FaultPlan::none(),
            seed: SEED,
            first_number: 0,
        });
        let acquirer = Shared::new(brain.unwrap(), party.framing, Clock::system());
        spawn_local(acquirer.clone().tick());
        self.acquirer = Some(acquirer);
    }

    /// Starts the daemon; once this returns both issuers approve what the acquirer sends.
    pub(crate) async fn start(&self) -> Life {
        self.start_by(Command::new(PROGRAM)).await
    }

    /// As `start`, by a command that runs the program with the arguments that it is given.
    pub(crate) async fn start_by(&self, mut command: Command) -> Life {
        let config = self.config.clone();
        // Each payment's story would be most of what such a load writes.
        command.env("TOKENSWITCH_LOG", "info");
        let daemon = tokio::task::spawn_blocking(move || Daemon::start_by(command, &config)).await.unwrap();
        let address = |name: &str| daemon.addresses[name].parse::<SocketAddr>().unwrap();
        let http = HttpClient::new(address("api"), PATIENCE).unwrap();
        let mut life = Life { daemon, http, dials: Vec::new() };
        self.dial(&mut life).await;
        life
    }

    async fn dial(&self, life: &mut Life) {
        let Some(acquirer) = &self.acquirer else { return };
        let address = life.daemon.addresses["acquirer-1"].parse::<SocketAddr>().unwrap();
        let dial = |_| spawn_local(acquirer.clone().keep_dialled(address)).abort_handle();
        life.dials = (0..CONNECTIONS).map(dial).collect();
        until("sign-on", || acquirer.look(|brain| brain.signed_on() == CONNECTIONS)).await;
        for card in 0..self.issuers.len() {
            while !self.pays(card).await {}
        }
    }

    /// Sends one payment; whether it is approved.
    async fn pays(&self, card: usize) -> bool {
        let acquirer = self.acquirer();
        let payment = Payment {
            mti: Mti::parse(b"0200").unwrap(),
            card,
            merchant: 0,
            processing: ProcessingCode::parse(b"000000").unwrap(),
            amount: Amount::new(100, Currency::from_letters("EUR").unwrap()),
            entry_mode: PosEntryMode::parse(b"071").unwrap(),
            original: None,
            remote: None,
        };
        let number = acquirer.with(|brain, now, out| brain.pay(payment, now, out)).unwrap();
        let answer = || acquirer.look(|brain| brain.book().payment(number).unwrap().answer);
        until("an answer", || answer().is_some()).await;
        tokio::time::sleep(LOOK).await;
        answer().unwrap().outcome == Outcome::Approved
    }

    async fn life_under_load_until_killed(&self) {
        let life = self.start().await;
        let before = (self.approvals(), self.given());
        let asking = self.load(&life);
        until("load", || {
            self.approvals() >= before.0 + APPROVALS && self.given() >= before.1 + TOKENS_UNDER_LOAD
        })
        .await;
        self.kill(life, asking).await;
    }

    /// Payments on all connections, and one token after the other, until the daemon ends.
    pub(crate) fn load(&self, life: &Life) -> JoinHandle<()> {
        self.load_at(Pace::Closed { outstanding: OUTSTANDING }, life)
    }

    pub(crate) fn load_at(&self, pace: Pace, life: &Life) -> JoinHandle<()> {
        let load = Load {
            pace,
            total: None,
            mti: Mti::parse(b"0200").unwrap(),
            processing: ProcessingCode::parse(b"000000").unwrap(),
            entry_mode: PosEntryMode::parse(b"071").unwrap(),
            amounts: 100..=999,
            currency: Currency::from_letters("EUR").unwrap(),
        };
        self.acquirer().with(|brain, now, out| {
            brain.start_load(load, now);
            brain.next(now, out).unwrap();
        });
        spawn_local(provision_on(
            life.http.clone(),
            Rc::clone(&self.provisioner),
            self.cards.clone(),
            Rc::clone(&self.asked),
        ))
    }

    /// Kills the daemon under its load.
    pub(crate) async fn kill(&self, life: Life, asking: JoinHandle<()>) {
        let acquirer = self.acquirer();
        let Life { daemon, dials, .. } = life;
        daemon.kill();
        acquirer.with(|brain, _, _| brain.stop_load());
        asking.await.unwrap();
        self.hang_up(&dials).await;
        let (waiting, codes) =
            acquirer.look(|brain| (brain.outstanding(), brain.report().mismatches_by_name().to_vec()));
        assert!(waiting > 0, "the load was under way");
        assert_eq!(codes, [], "before the kill");
    }

    /// Every token is still there under its reference, and its request still brings it. A request that the kill
    /// left unanswered brings one now.
    pub(crate) async fn ask_for_every_token_again(&self, life: &Life) {
        let count = self.asked.borrow().len();
        for at in 0..count {
            let (again, get) = {
                let asked = self.asked.borrow();
                let asked = &asked[at];
                let get = asked.given.as_ref().map(|given| self.provisioner.get(given.reference));
                (self.provisioner.provision(&asked.card, &asked.request_id), get)
            };
            let now = self.read(life.http.call(&again).await.unwrap());
            if let Some(get) = get {
                let found = self.read(life.http.call(&get).await.unwrap());
                let asked = self.asked.borrow();
                let given = asked[at].given.as_ref().unwrap();
                assert_eq!(identity(&found), identity(given), "by reference: {}", asked[at].request_id);
                assert_eq!(identity(&now), identity(given), "by request id: {}", asked[at].request_id);
            }
            self.asked.borrow_mut()[at].given = Some(now);
        }
    }

    /// Repeats every payment from `first` on. The simulator compares each answer with the first one.
    pub(crate) async fn repeat_payments_since(&self, first: usize) {
        let acquirer = self.acquirer();
        let numbers: Vec<PaymentNumber> = (first..self.payments()).map(PaymentNumber).collect();
        for some in numbers.chunks(OUTSTANDING) {
            let answers = |number| acquirer.look(|brain| brain.book().payment(number).unwrap().answers);
            let before: Vec<u16> = some.iter().map(|number| answers(*number)).collect();
            for number in some {
                acquirer.with(|brain, now, out| brain.repeat(*number, now, out)).unwrap();
            }
            until("repeats", || some.iter().zip(&before).all(|(number, before)| answers(*number) > *before))
                .await;
        }
        // What is taken back and was not acknowledged for the kill is taken back now.
        let open = numbers.iter().filter(|number| {
            acquirer.look(|brain| brain.book().payment(**number).unwrap().state == PaymentState::Reversing)
        });
        for number in open.copied().collect::<Vec<_>>() {
            acquirer.with(|brain, now, out| brain.reverse(number, None, now, out)).unwrap();
        }
        let settled = |state| matches!(state, PaymentState::Answered | PaymentState::Reversed);
        until("reversals", || {
            acquirer.look(|brain| brain.book().payments().iter().all(|entry| settled(entry.state)))
        })
        .await;
        let mismatches = acquirer.look(|brain| brain.report().mismatches_by_name().to_vec());
        assert_eq!(mismatches, [], "after the restart");
    }

    /// Waits until nothing is left to deliver, as the daemon says at each start; then book and ledgers agree.
    pub(crate) async fn settle(&self, mut life: Life) {
        for _ in 0..STARTS {
            until("the ledgers to agree with the book", || self.differences().is_empty()).await;
            tokio::time::sleep(LONGER_THAN_REPEATS).await;
            self.stop(life).await;
            life = self.start().await;
            let found = &life.daemon.found;
            assert!(found.contains(" 0 requests closed without an outcome"), "stopped in order: {found}");
            if found.ends_with(" 0 messages to deliver") {
                self.stop(life).await;
                assert_eq!(self.differences(), Vec::<String>::new());
                return;
            }
        }
        panic!("never delivered: {}", life.daemon.found);
    }

    pub(crate) async fn stop(&self, life: Life) {
        let Life { daemon, dials, .. } = life;
        // On a thread of its own: the simulators answer while it drains.
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
        self.hang_up(&dials).await;
    }

    /// Asks the daemon to stop under its load, twice if it must not wait; gives its exit code and its log.
    pub(crate) async fn end(
        &self,
        life: Life,
        asking: JoinHandle<()>,
        at_once: bool,
    ) -> (Option<i32>, String) {
        let Life { daemon, dials, .. } = life;
        let told = tokio::task::spawn_blocking(move || daemon.end(at_once)).await.unwrap();
        self.acquirer().with(|brain, _, _| brain.stop_load());
        asking.abort();
        self.hang_up(&dials).await;
        told
    }

    async fn hang_up(&self, dials: &[AbortHandle]) {
        if let Some(acquirer) = &self.acquirer {
            until("the connections to be lost", || acquirer.look(|brain| brain.signed_on() == 0)).await;
        }
        dials.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn differences(&self) -> Vec<String> {
        let ledgers = self.issuers.iter();
        let records =
            ledgers.flat_map(|issuer| issuer.look(|brain| brain.ledger().records().collect::<Vec<_>>()));
        let differences = self.acquirer().look(|brain| reconcile(brain.records(), records));
        differences.iter().map(ToString::to_string).collect()
    }

    /// The reference of the first token that was given.
    pub(crate) fn first_token(&self) -> String {
        self.asked.borrow()[0].given.as_ref().unwrap().reference.to_string()
    }

    pub(crate) fn acquirer(&self) -> &Shared<AcquirerSimulator> {
        self.acquirer.as_ref().unwrap()
    }

    pub(crate) fn payments(&self) -> usize {
        self.acquirer().look(|brain| brain.book().payments().len())
    }

    pub(crate) fn approvals(&self) -> usize {
        let approved = |answer: Option<tokenswitch::sim::Answer>| {
            answer.is_some_and(|answer| answer.outcome == Outcome::Approved)
        };
        self.acquirer()
            .look(|brain| brain.book().payments().iter().filter(|entry| approved(entry.answer)).count())
    }

    fn given(&self) -> usize {
        self.asked.borrow().iter().filter(|asked| asked.given.is_some()).count()
    }

    fn read(&self, answer: tokenswitch::cli::HttpAnswer) -> ProvisionedToken {
        self.provisioner.read(answer.status, &answer.body).unwrap()
    }

    fn quarantined(&self) -> bool {
        let checkpoint = std::fs::read_dir(self.directory.join("data/checkpoint")).unwrap();
        checkpoint
            .map(|entry| entry.unwrap().file_name())
            .any(|name| name.to_string_lossy().contains("quarantine"))
    }
}

/// What must never change of a token.
fn identity(token: &ProvisionedToken) -> (String, String, String) {
    let (number, expiry) = (token.token.unwrap(), token.expiry.unwrap());
    (token.reference.to_string(), number.as_str().to_owned(), format!("{expiry:?} {:?}", token.par))
}

fn provisioner(directory: &Path, config: &Config) -> Provisioner {
    let credential = std::fs::read_to_string(directory.join("requestor.credential")).unwrap();
    Provisioner::new(config.tsp.requestors[0].id, Secret::new(credential.trim().to_owned()))
}

/// Asks for a token for the next card; `None` when no answer came.
async fn provision_next(
    http: &HttpClient,
    provisioner: &Provisioner,
    cards: &[TestCard],
    asked: &RefCell<Vec<Asked>>,
) -> Option<()> {
    let at = asked.borrow().len();
    let (card, request_id) = (cards[at].clone(), format!("request-{at}"));
    let call = provisioner.provision(&card, &request_id);
    asked.borrow_mut().push(Asked { card, request_id, given: None });
    let answer = http.call(&call).await.ok()?;
    // 503: it takes nothing on now, and says so.
    if answer.status != 503 {
        asked.borrow_mut()[at].given = Some(provisioner.read(answer.status, &answer.body).unwrap());
    }
    Some(())
}

/// Asks for one token after the other until no answer comes.
async fn provision_on(
    http: HttpClient,
    provisioner: Rc<Provisioner>,
    cards: Vec<TestCard>,
    asked: Rc<RefCell<Vec<Asked>>>,
) {
    while provision_next(&http, &provisioner, &cards, &asked).await.is_some() {
        // There are payments besides.
        tokio::time::sleep(4 * LOOK).await;
    }
}

/// A directory whose issuers nobody plays, and one life in it that gave out some tokens and ended in order.
async fn used_directory(kept: &Path) -> World {
    let world = World::set_up(kept, "redb").await;
    let life = world.start().await;
    for _ in 0..TOKENS {
        provision_next(&life.http, &world.provisioner, &world.cards, &world.asked).await.unwrap();
    }
    world.stop(life).await;
    world
}

/// Runs `serve`, which must not start; gives what it says.
pub(crate) fn refused(config: &Path) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tokenswitch"))
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env("TOKENSWITCH_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 1];
    // The first byte on standard output would be that of a daemon that starts.
    let started = child.stdout.as_mut().unwrap().read(&mut said).unwrap() > 0;
    if started {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(!started, "it started");
    complaint(&output)
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_flipped_byte_in_the_journal_is_refused_by_its_place() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let world = used_directory(kept.path()).await;
        let segment = world.directory.join("data/journal");
        let segment = files_under(&segment)
            .into_iter()
            .find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")))
            .unwrap();
        let whole = std::fs::read(&segment).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let flipped = (end / 2..end).find(|at| whole[*at] != 0).unwrap();
        let mut bytes = whole.clone();
        bytes[flipped] ^= 1;
        std::fs::write(&segment, &bytes).unwrap();
        for _ in 0..2 {
            let said = refused(&world.config);
            let place =
                said.split_once("journal segment 1 is damaged at byte ").unwrap_or_else(|| panic!("{said}"));
            let offset: usize = place.1.split(':').next().unwrap().parse().unwrap();
            assert!(offset > 0 && offset <= flipped && flipped < offset + 8_192, "{flipped}: {said}");
        }
        assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was repaired");
        std::fs::write(&segment, &whole).unwrap();
        let life = world.start().await;
        world.ask_for_every_token_again(&life).await;
        world.stop(life).await;
    });
}

#[test]
fn a_second_daemon_on_a_directory_is_refused_and_the_first_goes_on() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        for checkpoint in ["redb", "sled"] {
            let world = World::set_up(&kept.path().join(checkpoint), checkpoint).await;
            let life = world.start().await;
            let said = refused(&world.config);
            assert!(said.contains("another process uses"), "{said}");
            provision_next(&life.http, &world.provisioner, &world.cards, &world.asked).await.unwrap();
            world.stop(life).await;
            assert!(!world.quarantined(), "a checkpoint in use is not a damaged one");
        }
    });
}

#[test]
fn every_fault_of_a_configuration_is_named_before_anything_starts() {
    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("switch");
    let config = init(&directory, ["127.0.0.1:1", "127.0.0.1:2"]);
    let faults = [
        ("checkpoint = \"redb\"", "checkpoint = \"paper\"", "journal.checkpoint"),
        (
            "entry_modes = [\"07\", \"10\", \"81\"]",
            "entry_modes = [\"07\", \"tap\"]",
            "requestor[0].entry_modes",
        ),
        ("timeout = \"10s\"", "timeout = \"40s\"", "issuer[0].timeout"),
        ("bin = \"622848\"\nissuer = 102", "bin = \"622848\"\nissuer = 999", "route[1].issuer"),
        ("validity_years = 3", "validty_years = 3", "validty_years"),
        ("store = \"keys/keys.store\"", "store = \"keys/elsewhere\"", "keys.store"),
    ];
    for (from, to, _) in faults {
        change(&config, from, to);
    }
    let check =
        Command::new(env!("CARGO_BIN_EXE_tokenswitch")).arg("check").arg("--config").arg(&config).output();
    let said = complaint(&check.unwrap());
    for (_, _, key) in faults {
        assert!(said.lines().any(|line| line.contains(key)), "{key} in:\n{said}");
    }
    assert_eq!(refused(&config), said, "check and serve say the same");
    assert!(!directory.join("data/journal").exists(), "nothing was started");
}
