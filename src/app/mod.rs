//! The composition root: `App::start` builds and wires every part of the daemon, once, and `RunningApp::stop` takes
//! it down in order. Daemon, demo and tests start the same one.

mod recall;

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::api::{
    AdminServer, ApiError, ApiServer, Notifier, NotifierParts, WaitingCodes, Watched, code_line,
};
use crate::config::{Config, TlsFiles, TlsMaterial};
use crate::crypto::{CryptoError, CryptogramKeys, JournalKeys, KeyDescription};
use crate::journal::{
    Appender, Bases, Body, Checkpoint, CheckpointError, CheckpointKeeper, Durability, EntryNumber,
    HistoryDesk, HistoryFold, Journal, JournalError, JournalSetup, Keeping, KeyEvent, OlderHistory, Pace,
    Reader, RealDisk,
};
use crate::link::PoolConfig;
use crate::stdx::clock::{Clock, Now, Wall};
use crate::stdx::random::{Entropy, NoEntropy};
use crate::stdx::sabotage::step;
use crate::switch::{
    Cards, DurableSignal, Enquiries, HistoryLine, LimitsInForce, NodeParts, Recovered, RecoveryError, Reload,
    Switch, SwitchError, SwitchParts, SwitchStatus, Wire, enquiry_line,
};
use crate::tls::{TlsClient, TlsError, TlsServer};
use crate::tsp::{
    Detokenizer, JournalLog, LogNotifier, LogWatch, Ports, TokenService, Tsp, TspError, WriterThread,
    log_watch,
};
use crate::vocab::{LinkId, ShardId};

pub use recall::{CheckpointPlace, Known, Recall, Recalled};
use recall::{InDirectory, sound};

/// How often the checkpoint catches up with the journal.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
const CHECKPOINT_PACE: Pace = Pace { every: CHECKPOINT_EVERY, behind: Duration::ZERO };

/// How far behind the history stays while nobody asks it: most of what is about a payment comes within this time, and
/// is then written as one record.
const HISTORY_BEHIND: Duration = Duration::from_secs(5);

/// Why the daemon does not start, or did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{path}: {source}")]
    Directory { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Trust { path: String, source: TlsError },
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "keys.store {store} and keys.master_key {master}: the journal in {journal} was not written with these keys; nothing was \
         changed"
    )]
    OtherKeys { store: String, master: String, journal: String },
    #[error("vault: {0}")]
    Tsp(#[from] TspError),
    #[error("recovery: {0}")]
    Recovery(#[from] RecoveryError),
    #[error("{0}")]
    Switch(#[from] SwitchError),
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    #[error("keys: {0}")]
    Crypto(#[from] CryptoError),
    #[error("api.tls.{key}: {source}")]
    TlsFile { key: &'static str, source: std::io::Error },
    #[error("api.tls: {0}")]
    Tls(#[from] TlsError),
}

/// How far a start is with reading the journal.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Entries read.
    pub entries: u64,
    /// And to be read.
    pub of: u64,
}

/// What was found on disk at the start.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Entries read back.
    pub entries: u64,
    pub tokens: usize,
    pub switch: Recovered,
}

/// The daemon, listening.
pub struct RunningApp {
    pub switch: Switch,
    pub tokens: TokenService,
    pub found: Found,
    pub registry: Arc<Mutex<Registry>>,
    api: ApiServer,
    api_tls: Option<ApiTls>,
    admin: AdminServer,
    notifier: Notifier,
    vault: WriterThread,
    journal: Journal,
    keeper: CheckpointKeeper,
    history: CheckpointKeeper,
}

/// Builds the daemon.
pub struct App;

impl App {
    /// Opens what is on disk, reads it back, and opens the sockets last. `progress` hears now and then how far the
    /// reading is.
    ///
    /// # Errors
    /// The first part that cannot start; nothing listens then.
    pub fn start(
        config: &Config,
        clock: Clock,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RunningApp, AppError> {
        let keys = own_keys(config)?;
        let api_tls = config.api_tls.clone().map(ApiTls::open).transpose()?;
        let (kind, place) = (config.journal.checkpoint, directory(&config.node.checkpoint_directory())?);
        let checkpoint = sound(Checkpoint::open(kind, &place, &keys)?);
        let past = sound(Checkpoint::open_history(kind, &place, &keys)?);
        let durable = Arc::new(DurableSignal::default());
        let (notifier, watch) = log_watch();
        let on_durable = tell(Arc::clone(&durable), notifier);
        let at_least = checkpoint.entry_number().max(past.entry_number());
        let journal = journal(config, keys.clone(), at_least, on_durable)?;
        step("journal-opened");
        let bases = journal.bases(config.journal.bases, Arc::clone(&past))?;
        let mut entropy = Entropy::system();
        let cards = Cards::new(config.security.data_sealer(), u64::from_le_bytes(entropy.bytes()?));
        let found = (checkpoint, InDirectory { kind, directory: &place, keys: &keys });
        let (recalled, keeping) = read_back(config, (&journal, bases), found, &cards, clock.now(), progress)?;
        step("recalled");
        note_keys(config, &recalled.keys, &journal.appender(), clock.now().wall)?;
        let keeper = CheckpointKeeper::start(keeping, CHECKPOINT_PACE, journal.view("checkpoint"))?;
        let (history, history_line) = history(config, &journal, past, &durable)?;
        let Vault { tokens, thread: vault, detokenizer, enquiries, codes } =
            start_vault(config, recalled.tsp, (&journal, watch), &clock)?;
        step("vault-started");
        let registry = Arc::new(Mutex::new(Registry::default()));
        let node = NodeParts {
            config: config.switch(),
            core: recalled.core,
            acquirers: acquirers(config),
            issuers: issuers(config),
            detokenizer,
            cards,
            card_keys: card_keys(config)?,
            log: Box::new(journal.appender()),
            history: Box::new(history_line),
            entropy,
            limits: recalled.limits,
            first: recalled.first,
        };
        let switch = Switch::start(SwitchParts {
            node,
            links: config.links(),
            durable,
            clock: clock.clone(),
            registry: Arc::clone(&registry),
            enquiries,
            drain_limit: config.node.drain_limit,
        })?;
        step("switch-started");
        let (api, notifier) = {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            journal.register(&mut registry);
            tokens.register(&mut registry);
            let notified = notifier_parts(config, tokens.clone(), codes, &clock)?;
            let api = start_api(config, api_tls.as_ref(), &tokens, &clock, &mut registry)?;
            (api, Notifier::start(notified, &mut registry)?)
        };
        Ok(RunningApp {
            admin: AdminServer::start(&config.admin, watched(&switch, &registry, clock))?,
            switch,
            api,
            api_tls,
            notifier,
            tokens,
            found: recalled.found,
            registry,
            vault,
            journal,
            keeper,
            history,
        })
    }
}

/// The vault, running, and the other ends of what it reaches others by.
struct Vault {
    tokens: TokenService,
    thread: WriterThread,
    detokenizer: Detokenizer,
    enquiries: Enquiries,
    codes: WaitingCodes,
}

fn start_vault(
    config: &Config,
    tsp: Tsp,
    (journal, watch): (&Journal, LogWatch),
    clock: &Clock,
) -> Result<Vault, AppError> {
    let log = JournalLog::new(journal.appender(), ShardId::default(), watch);
    let detokenizer = tsp.detokenizer();
    let (line, enquiries) = enquiry_line(config.tsp.limits.waiting_enquiries);
    let before = tsp.good_codes(clock.now().wall);
    let (code_line, codes) = code_line(&config.tsp.receivers, before);
    let keys = config.security.receiver_keys();
    let messages = config.security.message_keys().overlapping(config.keys.message_overlap);
    let ports = Ports { issuers: Box::new(line), codes: Box::new(code_line), keys, messages };
    let (tokens, thread) = TokenService::start(tsp, log, clock.clone(), Entropy::system(), ports)?;
    Ok(Vault { tokens, thread, detokenizer, enquiries, codes })
}

fn start_api(
    config: &Config,
    tls: Option<&ApiTls>,
    tokens: &TokenService,
    clock: &Clock,
    registry: &mut Registry,
) -> Result<ApiServer, ApiError> {
    let tls = tls.map(|tls| tls.server.clone());
    ApiServer::start(&config.api, tls, tokens.clone(), &config.tsp.requestors, clock, registry)
}

/// The API's TLS, and the files it comes from.
struct ApiTls {
    files: TlsFiles,
    /// What was read last, whether it could be used or not: the same fault is told once.
    read: Option<TlsMaterial>,
    server: TlsServer,
}

impl ApiTls {
    fn open(files: TlsFiles) -> Result<Self, AppError> {
        let material = files.read().map_err(|(key, source)| AppError::TlsFile { key, source })?;
        let server = material.server()?;
        Ok(Self { files, read: Some(material), server })
    }

    fn renew(&mut self) {
        let material = self.files.read();
        if material.as_ref().ok() == self.read.as_ref() {
            return;
        }
        match &material {
            Err((key, error)) => tracing::error!(%key, %error, "the API's certificate files cannot be read"),
            Ok(material) => match material.renew(&self.server) {
                Ok(()) => tracing::info!("the API uses new certificates from the next connection on"),
                Err(error) => tracing::error!(%error, "the API's new certificates cannot be used"),
            },
        }
        self.read = material.ok();
    }
}

impl RunningApp {
    /// Where each listener listens, by name.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        self.switch.addresses()
    }

    /// Where the provisioning API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.address()
    }

    /// Where monitors read `/metrics`, `/health` and `/ready`.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    #[must_use]
    pub fn status(&self) -> SwitchStatus {
        self.switch.status()
    }

    /// Has the API use what its certificate files hold now, if they changed, from the next connection on. Files that
    /// cannot be used change nothing, and are told in the log.
    pub fn renew_certificates(&mut self) {
        if let Some(tls) = &mut self.api_tls {
            tls.renew();
        }
    }

    /// Goes on under `new` in the place of `old`: acquirers, issuers, routes, limits, store and forward, settlement,
    /// and the API's clients. Connections of links that did not change go on.
    ///
    /// # Errors
    /// All that stands in the way; then nothing has changed.
    pub async fn reload(&self, old: &Config, new: &Config) -> Result<(), Vec<String>> {
        let fixed = old.fixed_differences(new);
        if !fixed.is_empty() {
            return Err(fixed
                .iter()
                .map(|section| format!("{section}: only a restart can change it"))
                .collect());
        }
        let reload = Reload {
            config: new.switch(),
            acquirers: acquirers(new),
            issuers: issuers(new),
            card_keys: card_keys(new).map_err(|error| vec![error.to_string()])?,
            changed: old.changed_links(new),
        };
        let done = self.switch.operators().reload(reload, new.links()).await;
        done.unwrap_or_else(|_| Err(vec!["the switch did not answer".to_owned()]))?;
        self.api.admit(&new.api, &new.tsp.requestors);
        Ok(())
    }

    /// Waits until the switch has ended: by itself, as it does when the disk fails, or drained.
    pub async fn ended(&self) {
        self.switch.ended().await;
    }

    /// Has the switch refuse new requests and end once it has finished what is in flight: `ended`.
    pub fn drain(&self) {
        self.switch.drain();
    }

    /// The drain's limit is over now.
    pub fn hurry(&self) {
        self.switch.hurry();
    }

    /// Drains, then closes from the outside in: sockets, API, vault, checkpoint, journal. Monitors may look until the
    /// end.
    ///
    /// # Errors
    /// The first part that did not end in order.
    pub fn stop(self) -> Result<(), AppError> {
        let Self { switch, api, admin, notifier, tokens, vault, journal, keeper, history, .. } = self;
        let stopped = switch.stop();
        api.stop();
        drop((notifier, tokens));
        vault.join();
        let kept = keeper.stop();
        let remembered = history.stop();
        let closed = journal.close();
        drop(admin);
        stopped?;
        kept?;
        remembered?;
        closed?;
        Ok(())
    }
}

/// How each acquirer is spoken to.
fn acquirers(config: &Config) -> Vec<(LinkId, Wire)> {
    config.acquirers.iter().map(|it| (it.party.link, it.party.wire())).collect()
}

/// How each issuer is spoken to, and over which connections.
fn issuers(config: &Config) -> Vec<(LinkId, Wire, PoolConfig)> {
    config.issuers.iter().map(|it| (it.party.link, it.party.wire(), it.pool)).collect()
}

/// The journal's keys, if they are its own: under others whatever stands on the disk looks damaged, and would be moved
/// aside or taken for nothing.
fn own_keys(config: &Config) -> Result<JournalKeys, AppError> {
    let (keys, journal) = (config.security.journal_keys(), config.node.journal_directory());
    let directory = match std::fs::File::open(&journal) {
        Ok(directory) => directory,
        // The first start makes it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(keys),
        Err(source) => return Err(AppError::Directory { path: journal.display().to_string(), source }),
    };
    let disk = Box::new(RealDisk::watch(directory));
    if Reader::may_open(disk, &keys, &config.journal.journal.stream)? {
        return Ok(keys);
    }
    let shown = |path: &std::path::Path| path.display().to_string();
    let (store, master) = (shown(&config.keys.store), shown(&config.keys.master_key));
    Err(AppError::OtherKeys { store, master, journal: shown(&journal) })
}

/// Opens the journal; a torn end is told.
fn journal(
    config: &Config,
    keys: JournalKeys,
    at_least: EntryNumber,
    on_durable: impl Fn(Durability) + Send + 'static,
) -> Result<Journal, AppError> {
    let setup = JournalSetup {
        disk: Box::new(disk(&config.node.journal_directory())?),
        keys,
        config: config.journal.journal.clone(),
        at_least,
        entropy: Entropy::system(),
    };
    let (journal, recovered) = Journal::start(setup, on_durable)?;
    tracing::info!(last_entry = recovered.last.0, "the journal is open");
    if let Some(torn) = recovered.torn {
        tracing::warn!(
            segment = torn.segment,
            offset = torn.offset,
            "a block that the power cut tore was cut off; nobody was told that it was durable"
        );
    }
    Ok(journal)
}

/// Puts into the journal which keys come into use with this start, before any of them is used, and which keys of
/// receivers were handed out since the last one.
fn note_keys(
    config: &Config,
    known: &[KeyDescription],
    journal: &Appender,
    now: Wall,
) -> Result<(), JournalError> {
    for key in config.security.keys().filter(|key| !known.contains(key)) {
        let made = config.security.maker(key).map(|maker| (maker.by, maker.at));
        journal.append(ShardId::default(), now, &Body::Operator(KeyEvent { key: *key, made }.encode()))?;
    }
    for handed in config.security.handed_out().filter(|handed| !known.contains(&handed.key)) {
        let event = KeyEvent { key: handed.key, made: Some((handed.by, handed.at)) };
        journal.append(ShardId::default(), now, &Body::Operator(event.encode()))?;
    }
    Ok(())
}

/// The chip keys of issuers that want cryptograms of their own cards.
fn card_keys(config: &Config) -> Result<Vec<(LinkId, CryptogramKeys)>, CryptoError> {
    let mut resolved = Vec::new();
    for issuer in &config.issuers {
        if let Some(chosen) = issuer.card_cryptograms {
            resolved.push((issuer.party.link, config.security.issuer_keys(chosen.key, chosen.profile)?));
        }
    }
    Ok(resolved)
}

/// Who is told what, and by which certificates they are known.
fn notifier_parts(
    config: &Config,
    service: TokenService,
    codes: WaitingCodes,
    clock: &Clock,
) -> Result<NotifierParts, AppError> {
    let section = &config.notifications;
    let trusted = |path: &std::path::PathBuf| {
        let shown = path.display().to_string();
        let pem =
            std::fs::read(path).map_err(|source| AppError::Directory { path: shown.clone(), source })?;
        TlsClient::new(&pem, None).map_err(|source| AppError::Trust { path: shown, source })
    };
    Ok(NotifierParts {
        config: section.config,
        receivers: section.receivers.clone(),
        tls: section.trust.as_ref().map(trusted).transpose()?,
        service,
        codes,
        clock: clock.clone(),
    })
}

/// What the journal's thread calls after every sync.
fn tell(durable: Arc<DurableSignal>, notifier: LogNotifier) -> impl Fn(Durability) + Send + 'static {
    move |durability| {
        notifier.journal(&durability);
        durable.tell(durability);
    }
}

/// What monitors and operators reach.
fn watched(switch: &Switch, registry: &Arc<Mutex<Registry>>, clock: Clock) -> Watched {
    let (status, operators) = (switch.status(), switch.operators());
    Watched { status, operators, registry: Arc::clone(registry), clock }
}

/// Everything read back, and what keeps the checkpoint up with the journal from there on.
fn read_back(
    config: &Config,
    (journal, bases): (&Journal, Bases),
    (checkpoint, place): (Arc<Checkpoint>, InDirectory<'_>),
    cards: &Cards,
    now: Now,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Recalled, Keeping), AppError> {
    let switch = config.switch();
    let limits = LimitsInForce::new(switch.limits);
    let recall = Recall { tsp: &config.tsp, security: &config.security, switch, limits, progress };
    let known = recall.known(checkpoint, &bases, &place)?;
    let keeping = recall.keeping(&known, journal, bases, Entropy::system())?;
    Ok((recall.recall(journal, known, cards, now)?, keeping))
}

/// The history on disk, kept up with the journal by a thread of its own, and the line on which the switch asks it.
fn history(
    config: &Config,
    journal: &Journal,
    past: Arc<Checkpoint>,
    durable: &Arc<DurableSignal>,
) -> Result<(CheckpointKeeper, HistoryLine), AppError> {
    let reader = journal.reader(past.entry_number().next())?;
    let fold = HistoryFold::keeping(config.journal.history);
    let pace = Pace { every: CHECKPOINT_EVERY, behind: HISTORY_BEHIND };
    let keeping = Keeping::new(Arc::clone(&past), reader, vec![Box::new(fold)], None);
    let keeper = CheckpointKeeper::start(keeping, pace, journal.view("history"))?;
    let (told, answers) = std::sync::mpsc::channel();
    let durable = Arc::clone(durable);
    let answer = move |answer| {
        let _ = told.send(answer);
        durable.wake();
    };
    let most = (config.limits.look_ups, config.limits.namesakes());
    let patience = config.switch().longest_timeout();
    let desk = HistoryDesk::start(OlderHistory::of(past), keeper.catch_up(), most, patience, answer)?;
    Ok((keeper, HistoryLine { desk, answers }))
}

/// Makes a directory that only its owner can enter, unless it is there.
fn directory(path: &Path) -> Result<std::path::PathBuf, AppError> {
    let fault = |source| AppError::Directory { path: path.display().to_string(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
    Ok(path.to_path_buf())
}

fn disk(path: &Path) -> Result<RealDisk, AppError> {
    let path = directory(path)?;
    let opened = File::open(&path);
    let opened = opened.map_err(|source| AppError::Directory { path: path.display().to_string(), source })?;
    Ok(RealDisk::lock(opened)?)
}
