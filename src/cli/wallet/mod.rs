//! `wallet`: a phone in software. It gets a token over the API, has its cardholder prove itself, taps with true
//! cryptograms, pays in apps, and gets lost. Payments go through an acquirer simulator to the daemon's own listener.

mod phone;

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::simulate::{Till, on_one_thread};
use super::{CREDENTIAL_FILE, CertificateFiles, Failure, HttpClient, say};
use crate::config::{AcquirerSection, Config};
use crate::sim::{
    ApiCall, BookEntry, DeviceKey, Phone as Chip, PresentedCard, ProvisionedToken, Provisioner,
    RemotePayment, TestCard,
};
use crate::stdx::clock::Clock;
use crate::stdx::random::Entropy;
use crate::stdx::secret::Secret;
use crate::vocab::{Amount, Currency, Expiry, Initiator, Outcome, Pan, PosEntryMode, RemoteCryptogram, Rrn};
use phone::{HeldToken, Phone};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// DE 22 of a tap, of a payment in an app, and of one with what a merchant keeps.
const TAP: &[u8] = b"071";
const IN_APP: &[u8] = b"810";
const ON_FILE: &[u8] = b"100";

/// A phone in software: gets a token, taps, pays in apps, and gets lost.
#[derive(Debug, clap::Args)]
pub(super) struct Wallet {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Gets a token for a card. Where its issuer wants proof, asks for the code on standard input.
    Add {
        #[command(flatten)]
        place: Place,
        /// The card's number.
        #[arg(long)]
        pan: String,
        /// The card's own expiry, YYMM.
        #[arg(long)]
        expiry: String,
        /// Which contact of the cardholder gets the code.
        #[arg(long, default_value_t = 1)]
        contact: u8,
        /// Without hardware that keeps keys: it pays with limited-use keys, and gets another one when it needs one.
        #[arg(long)]
        cloud: bool,
    },
    /// Pays at a terminal, with a cryptogram of its own.
    Tap(Purchase),
    /// Pays in an app, with a cryptogram that is asked for; or as a merchant does with what it keeps.
    Pay(RemotePurchase),
    /// Is lost: its cardholder has the token suspended.
    Lose(Place),
    /// Is found again.
    Find(Place),
}

/// The phone, and the daemon that it speaks with.
#[derive(Debug, clap::Args)]
struct Place {
    /// Where the phone keeps what it knows.
    #[arg(long, value_name = "DIR")]
    phone: PathBuf,
    /// The daemon's configuration, with what `init` put beside it: credential or certificates.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the API listens, if not where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    api: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
struct Purchase {
    #[command(flatten)]
    place: Place,
    /// In minor units: 4250 for 42.50.
    #[arg(long, default_value_t = 4_250)]
    amount: u64,
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Where the daemon listens for acquirers, if not where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    acquirer: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
struct RemotePurchase {
    #[command(flatten)]
    purchase: Purchase,
    /// The merchant initiates it, by what its customer agreed to: without a cryptogram.
    #[arg(long)]
    merchant_initiated: bool,
    /// The RRN of the payment by which the customer agreed.
    #[arg(long, value_name = "RRN", requires = "merchant_initiated")]
    original: Option<String>,
    /// With a cryptogram all the same, which was asked for while the customer was there.
    #[arg(long, requires = "merchant_initiated")]
    cryptogram: bool,
}

pub(super) fn run(arguments: &Wallet) -> Result<(), Failure> {
    on_one_thread(async {
        match &arguments.act {
            Act::Add { place, pan, expiry, contact, cloud } => {
                let (pan, expiry) = (Pan::parse(pan.as_bytes())?, Expiry::parse(expiry.as_bytes())?);
                add(place, &TestCard { pan, expiry, sequence: None }, *contact, *cloud).await
            }
            Act::Tap(purchase) => tap(purchase).await,
            Act::Pay(purchase) => pay(purchase).await,
            Act::Lose(place) => lose(place).await,
            Act::Find(place) => find(place).await,
        }
    })?
}

/// The daemon, as far as a phone knows it.
struct Daemon {
    config: Config,
    http: HttpClient,
    provisioner: Provisioner,
}

impl Daemon {
    fn of(place: &Place) -> Result<Self, Failure> {
        let config = Config::load(&place.config)?;
        let requestor = config.tsp.requestors.first().map(|requestor| requestor.id);
        let requestor = requestor.ok_or_else(|| Failure::new("no requestor in the configuration"))?;
        let address = place.api.unwrap_or(config.api.listen);
        let beside = |name: &str| place.config.with_file_name(name);
        let (http, credential) = match &config.api_tls {
            None => (HttpClient::new(address, PATIENCE)?, read(&beside(CREDENTIAL_FILE))?),
            // Who it is, its certificate says.
            Some(_) => {
                let of = |name: &str| beside("tls").join(name);
                let (roots, certificates, key) = (of("ca.pem"), of("wallet.pem"), of("wallet.key"));
                let files = CertificateFiles { roots, certificates, key };
                (HttpClient::over_tls(address, &files, PATIENCE)?, Zeroizing::default())
            }
        };
        let provisioner = Provisioner::new(requestor, Secret::new(credential.trim().to_owned()));
        Ok(Self { config, http, provisioner })
    }

    async fn call(&self, call: &ApiCall) -> Result<(ProvisionedToken, Value), Failure> {
        let answer = self.http.call(call).await?;
        let told = self.provisioner.read(answer.status, &answer.body);
        told.map(|told| (told, answer.body)).map_err(|error| Failure::new(error.to_string()))
    }

    fn acquirer(&self) -> Result<&AcquirerSection, Failure> {
        self.config.acquirers.first().ok_or_else(|| Failure::new("no acquirer in the configuration"))
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|error| Failure::file(path, "cannot be read", &error))
}

async fn add(place: &Place, card: &TestCard, contact: u8, cloud: bool) -> Result<(), Failure> {
    let daemon = Daemon::of(place)?;
    let mut phone = Phone::set_up(&place.phone, cloud, &mut Entropy::system())?;
    // Named after the phone: should the answer get lost, the same token comes again.
    let wanted = format!("phone-{}", phone.state.device);
    let (mut told, body) = daemon.call(&daemon.provisioner.provision(card, &wanted)).await?;
    if told.status == "inactive" {
        let shown = body.pointer("/stepUp/contacts").and_then(Value::as_array).into_iter().flatten();
        let shown = shown.filter_map(|contact| {
            Some(format!("{} {}", contact.get("contact")?, contact.get("shown")?.as_str()?))
        });
        let code = phone.request_id()?;
        daemon.call(&daemon.provisioner.send_code(told.reference, &code, contact)).await?;
        say(&format!(
            "A code is on its way to contact {contact} of: {}.",
            shown.collect::<Vec<_>>().join(", ")
        ));
        told = prove(&daemon, &mut phone, &told).await?;
    }
    let held = told.token.zip(told.expiry).map(|(token, expiry)| HeldToken {
        reference: told.reference,
        token,
        expiry,
        requestor: daemon.provisioner.requestor(),
    });
    let held = held.ok_or_else(|| Failure::new("the API gave no token"))?;
    phone.state.held = Some(held);
    phone.keep()?;
    say(&format!("token {} of {} is {}", held.token.masked(), card.pan.masked(), told.status));
    // Should it not come, the next tap asks again.
    new_key(&daemon, &mut phone, held).await.map(|_| ())
}

/// A key to pay with, wrapped for this phone: its token's own, or one for the next payments.
async fn new_key(daemon: &Daemon, phone: &mut Phone, held: HeldToken) -> Result<DeviceKey, Failure> {
    let (device, wanted) = (phone.device()?, phone.request_id()?);
    let public = device.public().ok_or_else(|| Failure::new("the phone's key is none"))?;
    let call = match phone.state.cloud {
        true => daemon.provisioner.limited_key(held.reference, &wanted, public),
        false => daemon.provisioner.personalise(held.reference, &wanted, public),
    };
    let answer = daemon.http.call(&call).await?;
    let wrapped = daemon.provisioner.read_key(answer.status, &answer.body);
    let wrapped = wrapped.map_err(|error| Failure::new(error.to_string()))?;
    let key = device.open(&wrapped).map_err(|error| Failure::new(error.to_string()))?;
    phone.state.wrapped = Some(wrapped);
    if let Some((range, _)) = key.limited {
        // Counters of keys that were taken back are never used.
        phone.state.taps = phone.state.taps.max(range.first.saturating_sub(1));
        say(&format!("got a key for taps {} to {}", range.first, range.last));
    }
    phone.keep()?;
    Ok(key)
}

/// The key for the next tap: the one that the phone has, if it signs that, and another one if not.
async fn key_for_tap(daemon: &Daemon, phone: &mut Phone, held: HeldToken) -> Result<DeviceKey, Failure> {
    let (next, now) = (phone.state.taps.saturating_add(1), Clock::system().now().wall);
    if let Some(wrapped) = &phone.state.wrapped {
        let kept = phone.device()?.open(wrapped).map_err(|error| Failure::new(error.to_string()))?;
        if kept.signs(next, now) {
            return Ok(kept);
        }
    }
    new_key(daemon, phone, held).await
}

/// What the cardholder types, until it is the code or there are no more tries.
async fn prove(
    daemon: &Daemon,
    phone: &mut Phone,
    told: &ProvisionedToken,
) -> Result<ProvisionedToken, Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::new(format!("no code can be read: {error}")))?;
        let typed = phone.request_id()?;
        match daemon.call(&daemon.provisioner.prove(told.reference, &typed, line.trim())).await {
            Ok((proven, _)) => return Ok(proven),
            Err(refused) => say(&refused.to_string()),
        }
    }
    Err(Failure::new("no code was typed"))
}

async fn tap(purchase: &Purchase) -> Result<(), Failure> {
    let daemon = Daemon::of(&purchase.place)?;
    let mut phone = Phone::open(&purchase.place.phone)?;
    let held = phone.held()?;
    let key = key_for_tap(&daemon, &mut phone, held).await?;
    let presented = presented(&held).in_phone(Chip::new(key.key, phone.tap()?));
    let till = till(&daemon, purchase, presented).await?;
    let entry = till.pay(purchase.amount()?, PosEntryMode::parse(TAP)?, None).await?;
    let approved = entry.answer.is_some_and(|answer| answer.outcome == Outcome::Approved);
    if phone.state.cloud && !approved {
        // It may have been taken back: the next tap gets another one.
        phone.state.wrapped = None;
        phone.keep()?;
    }
    told(&entry)
}

async fn pay(remote: &RemotePurchase) -> Result<(), Failure> {
    let RemotePurchase { purchase, merchant_initiated, original, cryptogram: signed } = remote;
    let agreed = original.as_ref().map(|rrn| Rrn::parse(rrn.as_bytes())).transpose()?;
    let by_merchant = merchant_initiated.then_some(Initiator::Merchant);
    let daemon = Daemon::of(&purchase.place)?;
    let mut phone = Phone::open(&purchase.place.phone)?;
    let (held, amount) = (phone.held()?, purchase.amount()?);
    let till = till(&daemon, purchase, presented(&held)).await?;
    let initiator = by_merchant.unwrap_or(Initiator::Customer);
    let signed = match initiator == Initiator::Customer || *signed {
        true => Some(cryptogram(&daemon, &mut phone, held, &till, (amount, initiator)).await?),
        false => None,
    };
    let entered = if *merchant_initiated { ON_FILE } else { IN_APP };
    let remote = RemotePayment { cryptogram: signed, initiator: by_merchant, agreed };
    told(&till.pay(amount, PosEntryMode::parse(entered)?, Some(remote)).await?)
}

/// A cryptogram for a payment at this till.
async fn cryptogram(
    daemon: &Daemon,
    phone: &mut Phone,
    held: HeldToken,
    till: &Till,
    (amount, initiator): (Amount, Initiator),
) -> Result<RemoteCryptogram, Failure> {
    let link = daemon.acquirer()?.party.link;
    let wanted = phone.request_id()?;
    let shop = (link, till.merchant()?);
    let call = daemon.provisioner.cryptogram(held.reference, &wanted, shop, amount, initiator);
    let answer = daemon.http.call(&call).await?;
    let made = daemon.provisioner.read_cryptogram(answer.status, &answer.body);
    made.map_err(|error| Failure::new(error.to_string()))
}

async fn lose(place: &Place) -> Result<(), Failure> {
    let daemon = Daemon::of(place)?;
    let mut phone = Phone::open(&place.phone)?;
    let (held, lost) = (phone.held()?, phone.request_id()?);
    let (told, _) = daemon.call(&daemon.provisioner.lose(held.reference, &lost)).await?;
    say(&format!("token {} is {}", held.token.masked(), told.status));
    Ok(())
}

async fn find(place: &Place) -> Result<(), Failure> {
    let daemon = Daemon::of(place)?;
    let mut phone = Phone::open(&place.phone)?;
    let (held, found) = (phone.held()?, phone.request_id()?);
    let (told, _) = daemon.call(&daemon.provisioner.find(held.reference, &found)).await?;
    say(&format!("token {} is {}", held.token.masked(), told.status));
    Ok(())
}

fn presented(held: &HeldToken) -> PresentedCard {
    PresentedCard::token(held.token, Some(held.expiry), Some(held.requestor), None)
}

async fn till(daemon: &Daemon, purchase: &Purchase, card: PresentedCard) -> Result<Till, Failure> {
    let acquirer = daemon.acquirer()?;
    let address = purchase.acquirer.unwrap_or(acquirer.listen.address);
    Till::open(address, &acquirer.party, card).await
}

impl Purchase {
    fn amount(&self) -> Result<Amount, Failure> {
        let currency = Currency::from_letters(&self.currency);
        let currency = currency.ok_or_else(|| Failure::new("--currency: three letters of ISO 4217"))?;
        Ok(Amount::new(self.amount, currency))
    }
}

/// Says what came of it; a decline is a failure.
fn told(entry: &BookEntry) -> Result<(), Failure> {
    let (amount, rrn) = (entry.payment.amount, entry.rrn);
    match entry.answer {
        Some(answer) if answer.outcome == Outcome::Approved => {
            say(&format!("approved: {amount}, RRN {rrn}"));
            Ok(())
        }
        Some(answer) => {
            // Without one it is the issuer's own no, or the dialect has no place for names.
            let why = answer.refusal.map_or_else(|| "no reason given".to_owned(), |name| name.to_string());
            let code = answer.code;
            Err(Failure::new(format!("declined with {code} ({why}): {amount}, RRN {rrn}")))
        }
        None => Err(Failure::new(format!("not answered: {amount}, RRN {rrn}"))),
    }
}
