//! `Stage`: everything that plays in the demo, set up and taken down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use super::page::Page;
use crate::app::{App, RunningApp};
use crate::cli::http_client::{HttpAnswer, HttpClient};
use crate::cli::simulate::Shared;
use crate::cli::{Addresses, CONFIG_FILE, CREDENTIAL_FILE, Failure, Webhook, write_init};
use crate::config::{Config, PartyConfig};
use crate::sim::{
    AcquirerConfig, AcquirerSimulator, ApiCall, Condition, Device, EnquiryAnswer, EnquiryRule, Fault,
    FaultPlan, FaultRule, Habits, IssuerConfig, IssuerSimulator, Patience, Phone, PresentedCard,
    ProvisionedToken, Provisioner, TestCard, test_cards, test_merchants,
};
use crate::stdx::clock::Clock;
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;
use crate::vocab::{Bin, InstitutionId, LinkId, MerchantId, TokenRequestorId, YearMonth};

/// How long the demo's issuers are waited for: long enough for a busy machine, short enough to watch.
const ISSUER_TIMEOUT: &str = "2s";
/// Purchases whose amounts end so are never answered: the demo's time-out.
pub(super) const SILENT_ENDING: &str = "mti=0200,ends=13";
/// The card, of the second issuer, whose holder has to prove itself.
pub(super) const DOUBTED: usize = CARDS - 1;
/// How many cards there are to play with; the load begins with the first.
const CARDS: usize = 100_000;
/// How long anything of the story may take.
const PATIENCE: Duration = Duration::from_secs(20);
const SEED: u64 = 2026;

/// The players, all on one thread but the switch itself.
pub(super) struct Stage {
    directory: PathBuf,
    /// Whether the directory is ours to remove.
    is_ours: bool,
    pub(super) config: Config,
    pub(super) app: RunningApp,
    pub(super) clock: Clock,
    http: HttpClient,
    pub(super) provisioner: Provisioner,
    issuers: Vec<Shared<IssuerSimulator>>,
    /// Where the second issuer takes codes for its cardholders.
    bank: Webhook,
    acquirer: Option<Shared<AcquirerSimulator>>,
    connections: usize,
    cards: Vec<TestCard>,
    /// Of the wallet: every token's key is wrapped for it.
    device: Device,
    requests: u64,
}

impl Stage {
    pub(super) async fn set_up(directory: Option<PathBuf>, connections: usize) -> Result<Self, Failure> {
        let mut entropy = Entropy::system();
        let is_ours = directory.is_none();
        let directory = match directory {
            Some(directory) => directory,
            None => scratch_directory(&mut entropy)?,
        };
        let (first, second) = (listen().await?, listen().await?);
        let addresses = Addresses {
            acquirer: any_port(),
            issuer_1: address_of(&first)?,
            issuer_2: address_of(&second)?,
            api: any_port(),
            admin: any_port(),
        };
        write_init(&directory, addresses, &mut entropy)?;
        let bank = Webhook::start(any_port()).await?;
        let config = configuration(&directory, bank.address())?;
        let clock = Clock::system();
        let bins: Vec<Bin> = config.routes.iter().map(|route| route.bin).collect();
        let cards = test_cards(SEED, &bins, 16, YearMonth::of(clock.now().wall), CARDS);
        let doubted = cards.get(DOUBTED).map(|card| card.pan.expose_digits().to_vec()).unwrap_or_default();
        let doubted = String::from_utf8_lossy(&doubted).into_owned();
        let parties = config.issuers.iter().map(|issuer| &issuer.party);
        let issuers: Vec<_> = parties
            .zip([first, second])
            .map(|(party, listener)| start_issuer(party, listener, &clock, &doubted))
            .collect();
        let app = App::start(&config, clock.clone(), &mut |_| {})
            .map_err(|error| Failure::new(error.to_string()))?;
        let provisioner = provisioner(&directory, &config)?;
        let http = HttpClient::new(app.api_address(), Duration::from_secs(10))?;
        let scalar = entropy.bytes().map_err(|error| Failure::new(error.to_string()))?;
        let device = Device::new(&scalar).ok_or_else(|| Failure::new("no key was drawn"))?;
        Ok(Self {
            directory,
            is_ours,
            config,
            app,
            clock,
            http,
            provisioner,
            issuers,
            bank,
            acquirer: None,
            connections,
            cards,
            device,
            requests: 0,
        })
    }

    pub(super) fn introduce(&self, page: &Page) {
        let acquirer = self.acquirer_address().map(|address| address.to_string()).unwrap_or_default();
        page.say(&format!(
            "Running in this process, on real connections: the switch with its vault and journal (acquirers at \
             {acquirer}), the provisioning API at http://{}, its metrics at http://{}/metrics, issuer-1 (ASCII) and \
             issuer-2 (BCD, with a TPDU).",
            self.app.api_address(),
            self.app.admin_address(),
        ));
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn card(&self, number: usize) -> Result<&TestCard, Failure> {
        self.cards.get(number).ok_or_else(|| Failure::new("the demo has no such card"))
    }

    /// The second issuer's receiver of codes.
    pub(super) fn bank(&self) -> &Webhook {
        &self.bank
    }

    /// One call of the API, and the answer as it came.
    pub(super) async fn ask(&self, call: &ApiCall) -> Result<HttpAnswer, Failure> {
        self.http.call(call).await
    }

    /// The shop of the story, at its acquirer: the link's number and DE 42.
    pub(super) fn shop(&self) -> Result<(LinkId, MerchantId), Failure> {
        let acquirer = self.config.acquirers.first();
        let shop = test_merchants(SEED, 4).first().map(|shop| shop.merchant);
        let found = acquirer.map(|acquirer| acquirer.party.link).zip(shop);
        found.ok_or_else(|| Failure::new("the demo has no shop"))
    }

    /// The issuer simulators, in the order of the configuration.
    pub(super) fn issuers(&self) -> &[Shared<IssuerSimulator>] {
        &self.issuers
    }

    /// One call of the API, and what it says of the token.
    pub(super) async fn call(&self, call: &ApiCall) -> Result<ProvisionedToken, Failure> {
        let answer = self.http.call(call).await?;
        self.provisioner.read(answer.status, &answer.body).map_err(|error| Failure::new(error.to_string()))
    }

    /// As `call`, with the answer's body as it came.
    pub(super) async fn call_raw(&self, call: &ApiCall) -> Result<(ProvisionedToken, Value), Failure> {
        let answer = self.http.call(call).await?;
        let token = self.provisioner.read(answer.status, &answer.body);
        token.map(|token| (token, answer.body)).map_err(|error| Failure::new(error.to_string()))
    }

    /// A request id that was not used before.
    pub(super) fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("demo-{}", self.requests)
    }

    /// A token for the card of that number, as a terminal meets it.
    pub(super) async fn present(&self, number: usize, request_id: &str) -> Result<PresentedCard, Failure> {
        let card = self.card(number)?;
        let token = self.call(&self.provisioner.provision(card, request_id)).await?;
        self.in_phone(&token, card, &format!("{request_id}-key")).await
    }

    /// The token in a phone, with the card key that the API gives for it alone.
    pub(super) async fn in_phone(
        &self,
        token: &ProvisionedToken,
        card: &TestCard,
        request_id: &str,
    ) -> Result<PresentedCard, Failure> {
        let presented = token.presented(card, self.provisioner.requestor());
        let presented = presented.ok_or_else(|| Failure::new("the API gave no token"))?;
        let public = self.device.public().ok_or_else(|| Failure::new("no key was drawn"))?;
        let answer = self.ask(&self.provisioner.personalise(token.reference, request_id, public)).await?;
        let wrapped = self.provisioner.read_key(answer.status, &answer.body);
        let key = wrapped.and_then(|wrapped| self.device.open(&wrapped));
        let key = key.map_err(|error| Failure::new(error.to_string()))?;
        Ok(presented.in_phone(Phone::new(key.key, 0)))
    }

    /// An acquirer host with these cards, signed on over so many connections. It takes any earlier one's place.
    pub(super) async fn connect_acquirer(
        &mut self,
        cards: Vec<PresentedCard>,
        connections: usize,
    ) -> Result<Shared<AcquirerSimulator>, Failure> {
        let section = self.config.acquirers.first();
        let party = &section.ok_or_else(|| Failure::new("no acquirer in the configuration"))?.party;
        let first_number = self.clock.now().wall.0 % 1_000_000_000_000;
        let brain = AcquirerSimulator::new(AcquirerConfig {
            dialect: party.dialect.clone(),
            framing: party.framing,
            header: vec![0; party.framing.header_length()],
            institution: InstitutionId::parse(b"10000000001")?,
            merchants: test_merchants(SEED, 4),
            cards,
            patience: Patience::default(),
            habits: Habits::default(),
            faults: FaultPlan::none(),
            seed: SEED,
            first_number,
        });
        let brain = brain.map_err(|error| Failure::new(error.to_string()))?;
        let acquirer = Shared::new(brain, party.framing, self.clock.clone());
        let address = self.acquirer_address().ok_or_else(|| Failure::new("the switch listens nowhere"))?;
        for _ in 0..connections {
            spawn_local(acquirer.clone().keep_dialled(address));
        }
        spawn_local(acquirer.clone().tick());
        self.until("the acquirer to sign on", || acquirer.look(|brain| brain.signed_on() == connections))
            .await?;
        self.acquirer = Some(acquirer.clone());
        Ok(acquirer)
    }

    /// How many connections the load uses.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// Waits until `holds`, for as long as anything of the story may take.
    pub(super) async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), Failure> {
        let start = self.clock.now().moment;
        while !holds() {
            if self.clock.now().moment.since(start) > PATIENCE {
                return Err(Failure::new(format!("waited in vain for {what}")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Waits until both issuers are signed on.
    pub(super) async fn issuers_up(&self) -> Result<(), Failure> {
        let up = || {
            let picture = self.app.status().picture();
            let issuers: Vec<_> = picture.links.iter().filter(|link| link.is_issuer).collect();
            !issuers.is_empty() && issuers.iter().all(|link| link.up > 0)
        };
        self.until("the issuers to sign on", up).await
    }

    fn acquirer_address(&self) -> Option<SocketAddr> {
        let acquirer = self.config.acquirers.first()?;
        let mut addresses = self.app.addresses().iter();
        addresses.find(|(name, _)| *name == acquirer.party.name).map(|(_, address)| *address)
    }

    /// Stops the daemon in order and removes what was written. True when all came out as told.
    pub(super) async fn take_down(self, page: &Page) -> Result<bool, Failure> {
        let Self { app, directory, is_ours, .. } = self;
        // The simulators go on answering on this thread while the daemon drains on its own.
        let stopped = tokio::task::spawn_blocking(move || app.stop()).await;
        let stopped = stopped.map_err(|error| Failure::new(error.to_string()))?;
        page.check(stopped.is_ok(), "the daemon drained and stopped in order");
        if is_ours {
            let removed = std::fs::remove_dir_all(&directory);
            removed.map_err(|error| Failure::file(&directory, "cannot be removed", &error))?;
        }
        Ok(page.is_clean())
    }
}

/// `doubted`: the number of the card whose holder has to prove itself.
fn start_issuer(
    party: &PartyConfig,
    listener: TcpListener,
    clock: &Clock,
    doubted: &str,
) -> Shared<IssuerSimulator> {
    let silent = SILENT_ENDING.parse::<Condition>().ok();
    let rules = silent.map(|when| FaultRule { when, fault: Fault::Drop }).into_iter().collect();
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: party.dialect.clone(),
        framing: party.framing,
        header: vec![0; party.framing.header_length()],
        signs_on: false,
        rules: Vec::new(),
        enquiries: vec![EnquiryRule { ends: doubted.to_owned(), answer: EnquiryAnswer::StepUp }],
        faults: FaultPlan::new(SEED, rules),
        think: Duration::ZERO,
        seed: SEED,
    });
    let issuer = Shared::new(brain, party.framing, clock.clone());
    spawn_local(issuer.clone().tick());
    spawn_local(issuer.clone().accept(listener));
    issuer
}

fn provisioner(directory: &Path, config: &Config) -> Result<Provisioner, Failure> {
    let path = directory.join(CREDENTIAL_FILE);
    let text =
        std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, "cannot be read", &error))?;
    let requestor: Option<TokenRequestorId> = config.tsp.requestors.first().map(|requestor| requestor.id);
    let requestor = requestor.ok_or_else(|| Failure::new("no requestor in the configuration"))?;
    Ok(Provisioner::new(requestor, Secret::new(text.trim().to_owned())))
}

/// What `init` wrote, with a time-out that can be watched, and a second issuer that is asked about tokens.
fn configuration(directory: &Path, bank: SocketAddr) -> Result<Config, Failure> {
    let path = directory.join(CONFIG_FILE);
    let text =
        std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, "cannot be read", &error))?;
    let text = text.replace("timeout = \"10s\"", &format!("timeout = \"{ISSUER_TIMEOUT}\""));
    let asked = format!("name = \"issuer-2\"\napproval = \"ask\"\nnotify = \"http://{bank}/codes\"");
    let text = text.replace("name = \"issuer-2\"", &asked);
    Ok(Config::parse(&path.display().to_string(), directory, &text)?)
}

fn scratch_directory(entropy: &mut Entropy) -> Result<PathBuf, Failure> {
    let drawn = entropy.bytes::<6>().map_err(|error| Failure::new(error.to_string()))?;
    Ok(std::env::temp_dir().join(format!("tokenswitch-demo-{}", hex::encode(drawn))))
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn listen() -> Result<TcpListener, Failure> {
    TcpListener::bind(any_port())
        .await
        .map_err(|error| Failure::new(format!("an issuer cannot listen: {error}")))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::new(error.to_string()))
}
