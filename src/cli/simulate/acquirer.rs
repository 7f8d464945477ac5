//! `acquirer`: an acquirer's host by itself. One payment with its answer shown, or a load with its percentiles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::phones::Phones;
use super::sockets::Shared;
use super::{WireArguments, WireSetup, asked_to_stop, on_one_thread, write_lines};
use crate::cli::{Failure, say};
use crate::codec::{Dialect, decode, describe};
use crate::sim::{
    AcquirerConfig, AcquirerSimulator, FaultPlan, Habits, Load, Pace, Patience, Payment, PaymentState,
    PresentedCard, Record, RemotePayment, SimError, TestMerchant, reconcile, test_merchants,
};
use crate::stdx::clock::Clock;
use crate::vocab::{
    Amount, Currency, Expiry, InstitutionId, MerchantId, Mti, NetworkCode, Pan, PosEntryMode, ProcessingCode,
    RemoteCryptogram, TerminalId, Token, TokenRequestorId,
};

/// How often the program looks whether what it waits for has come.
const LOOK: Duration = Duration::from_millis(5);

/// Simulate an acquirer: send one payment and show the answer, or a load and show its percentiles.
#[derive(Debug, clap::Args)]
pub struct Acquirer {
    /// Where the switch listens for acquirers.
    #[arg(long, value_name = "ADDRESS")]
    connect: SocketAddr,
    #[command(flatten)]
    wire: WireArguments,
    /// Acquiring institution id (DE 32).
    #[arg(long, default_value = "00012345678")]
    institution: String,
    /// Card acceptor id (DE 42); without it, a test merchant's.
    #[arg(long)]
    merchant: Option<String>,
    /// Terminal id (DE 41).
    #[arg(long)]
    terminal: Option<String>,
    /// The token to pay with.
    #[arg(long, conflicts_with_all = ["pan", "cards"])]
    token: Option<String>,
    /// The test card number to pay with.
    #[arg(long, conflicts_with = "cards")]
    pan: Option<String>,
    /// YYMM.
    #[arg(long)]
    expiry: Option<String>,
    /// Token requestor id, sent in the token data.
    #[arg(long)]
    requestor: Option<String>,
    /// A cryptogram that was made for this one payment, of a token; goes with --entry-mode 810.
    #[arg(long, requires = "token")]
    cryptogram: Option<String>,
    /// Many tokens, a line each: TOKEN,YYMM or TOKEN,YYMM,REQUESTOR.
    #[arg(long, value_name = "FILE")]
    cards: Option<PathBuf>,
    /// The switch's configuration: the keys in it sign taps, as the phones would that its tokens were put into.
    #[arg(long, value_name = "FILE")]
    keys_of: Option<PathBuf>,
    /// In minor units: 4250 for 42.50.
    #[arg(long, default_value_t = 4_250)]
    amount: u64,
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Message type of the payment.
    #[arg(long, default_value = "0200")]
    mti: String,
    /// Processing code (DE 3).
    #[arg(long, default_value = "000000")]
    processing: String,
    /// DE 22. With 051, 071 and 091 chip data is sent, for a token with --keys-of alone; good for 65,534 payments.
    #[arg(long, default_value = "071")]
    entry_mode: String,
    /// Send an echo and nothing else.
    #[arg(long)]
    echo: bool,
    /// Send the payment again once it is answered (xxx1).
    #[arg(long)]
    repeat: bool,
    /// Take the payment back once it is answered.
    #[arg(long)]
    reverse: bool,
    /// Load: so many payments a second, whether answers come or not.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "outstanding")]
    rate: Option<u64>,
    /// Load: so many unanswered payments on each connection.
    #[arg(long, value_name = "COUNT")]
    outstanding: Option<usize>,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long the load lasts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// End the load after so many payments, if the time has not ended it before.
    #[arg(long)]
    count: Option<u64>,
    /// Under load: reverse one approval in so many.
    #[arg(long, value_name = "N")]
    reverse_one_in: Option<u64>,
    /// Under load: repeat one answered payment in so many.
    #[arg(long, value_name = "N")]
    repeat_one_in: Option<u64>,
    /// How long to wait for an answer.
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    patience: u64,
    /// How often to repeat what is not answered, before it is reversed.
    #[arg(long, default_value_t = 0)]
    repeats: u16,
    /// Leave unanswered payments as they are.
    #[arg(long)]
    no_reversals: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the book here, a line of JSON a payment.
    #[arg(long, value_name = "FILE")]
    book: Option<PathBuf>,
    /// Compare the book with these issuers' ledgers; any difference is a failure.
    #[arg(long, value_name = "LEDGER")]
    against: Vec<PathBuf>,
}

/// Takes a word of the arguments, or says which one it is not.
fn word<T, E: std::fmt::Display>(name: &str, parsed: Result<T, E>) -> Result<T, Failure> {
    parsed.map_err(|error| Failure::new(format!("--{name}: {error}")))
}

impl Acquirer {
    /// What is paid with; tokens are in phones where there are keys for them.
    fn cards(&self, phones: Option<&Phones>) -> Result<Vec<PresentedCard>, Failure> {
        let cards = self.bare_cards()?;
        let Some(phones) = phones else { return Ok(cards) };
        Ok(cards.into_iter().map(|card| phones.put(card)).collect())
    }

    fn bare_cards(&self) -> Result<Vec<PresentedCard>, Failure> {
        let expiry =
            self.expiry.as_ref().map(|text| word("expiry", Expiry::parse(text.as_bytes()))).transpose()?;
        let requestor = self.requestor.as_ref();
        let requestor =
            requestor.map(|text| word("requestor", TokenRequestorId::parse(text.as_bytes()))).transpose()?;
        if let Some(token) = &self.token {
            let token = word("token", Token::parse(token.as_bytes()))?;
            return Ok(vec![PresentedCard::token(token, expiry, requestor, None)]);
        }
        if let Some(pan) = &self.pan {
            let pan = word("pan", Pan::parse(pan.as_bytes()))?;
            return Ok(vec![PresentedCard { expiry, ..PresentedCard::plain(pan) }]);
        }
        let Some(path) = &self.cards else { return Ok(Vec::new()) };
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::file(path, "cannot be read", &error))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
        lines.map(|(at, line)| word(&format!("cards, line {}", at + 1), card_line(line))).collect()
    }

    fn merchants(&self) -> Result<Vec<TestMerchant>, Failure> {
        let mut merchants = test_merchants(self.seed, 1);
        for merchant in &mut merchants {
            if let Some(id) = &self.merchant {
                merchant.merchant = word("merchant", MerchantId::parse(format!("{id:<15}").as_bytes()))?;
            }
            if let Some(id) = &self.terminal {
                merchant.terminal = word("terminal", TerminalId::parse(format!("{id:<8}").as_bytes()))?;
            }
        }
        Ok(merchants)
    }

    fn payment(&self) -> Result<Payment, Failure> {
        let currency = Currency::from_letters(&self.currency)
            .ok_or_else(|| Failure::new("--currency: three letters of ISO 4217"))?;
        Ok(Payment {
            mti: word("mti", Mti::parse(self.mti.as_bytes()))?,
            card: 0,
            merchant: 0,
            processing: word("processing", ProcessingCode::parse(self.processing.as_bytes()))?,
            amount: Amount::new(self.amount, currency),
            entry_mode: word("entry-mode", PosEntryMode::parse(self.entry_mode.as_bytes()))?,
            original: None,
            remote: self
                .cryptogram
                .as_ref()
                .map(|text| word("cryptogram", RemoteCryptogram::parse(text.as_bytes())))
                .transpose()?
                .map(RemotePayment::from),
        })
    }

    fn pace(&self) -> Option<Pace> {
        let open = self.rate.map(|per_second| Pace::Open { per_second });
        open.or(self.outstanding.map(|outstanding| Pace::Closed { outstanding }))
    }

    fn brain(
        &self,
        wire: WireSetup,
        clock: &Clock,
        phones: Option<&Phones>,
    ) -> Result<AcquirerSimulator, Failure> {
        let config = AcquirerConfig {
            dialect: wire.dialect,
            framing: wire.framing,
            header: wire.header,
            institution: word("institution", InstitutionId::parse(self.institution.as_bytes()))?,
            merchants: self.merchants()?,
            cards: self.cards(phones)?,
            patience: Patience {
                answer: Duration::from_millis(self.patience),
                repeats: self.repeats,
                reverses: !self.no_reversals,
                ..Patience::default()
            },
            habits: Habits { reverse_one_in: self.reverse_one_in, repeat_one_in: self.repeat_one_in },
            faults: FaultPlan::none(),
            seed: self.seed,
            // Two runs on one day must not share DE 11 and DE 37.
            first_number: clock.now().wall.0 % 1_000_000_000_000,
        };
        AcquirerSimulator::new(config).map_err(failed)
    }
}

pub(super) fn failed(error: SimError) -> Failure {
    Failure::new(error.to_string())
}

fn card_line(line: &str) -> Result<PresentedCard, crate::vocab::WordError> {
    let mut parts = line.split(',').map(str::trim);
    let token = Token::parse(parts.next().unwrap_or_default().as_bytes())?;
    let expiry = parts.next().map(|text| Expiry::parse(text.as_bytes())).transpose()?;
    let requestor = parts.next().map(|text| TokenRequestorId::parse(text.as_bytes())).transpose()?;
    Ok(PresentedCard::token(token, expiry, requestor, None))
}

pub(in crate::cli) fn run(arguments: &Acquirer) -> Result<(), Failure> {
    let (wire, clock) = (arguments.wire.resolve()?, Clock::system());
    let (dialect, framing) = (std::sync::Arc::clone(&wire.dialect), wire.framing);
    let phones = arguments.keys_of.as_deref().map(Phones::of).transpose()?;
    let brain = arguments.brain(wire, &clock, phones.as_ref())?;
    let host = Shared::new(brain, framing, clock);
    let acted = on_one_thread(act(arguments, &dialect, host.clone()));
    if let Some(phones) = phones {
        host.look(|brain| phones.keep(brain.cards()))?;
    }
    acted??;
    host.look(|brain| {
        if let Some(path) = &arguments.book {
            let book = brain.book();
            write_lines(path, book.payments().iter().map(|e| e.to_json(book.acquirer(), brain.cards())))?;
        }
        compare(arguments, brain)?;
        match brain.report().mismatches() {
            0 => Ok(()),
            count => Err(Failure::new(format!("{count} mismatches between requests and answers"))),
        }
    })
}

async fn act(
    arguments: &Acquirer,
    dialect: &Dialect,
    host: Shared<AcquirerSimulator>,
) -> Result<(), Failure> {
    let payment = arguments.payment()?;
    if !arguments.echo && host.look(|brain| brain.cards().is_empty()) {
        return Err(Failure::new("nothing to pay with: --token, --pan or --cards"));
    }
    let unsigned = |card: &PresentedCard| card.as_token().is_some() && card.phone.is_none();
    if payment.entry_mode.entry.has_chip_data() && host.look(|brain| brain.cards().iter().any(unsigned)) {
        return Err(Failure::new("a tap with a token needs --keys-of, or another --entry-mode, such as 101"));
    }
    tokio::task::spawn_local(host.clone().tick());
    for _ in 0..arguments.connections {
        tokio::task::spawn_local(host.clone().keep_dialled(arguments.connect));
    }
    let wanted = arguments.connections;
    let signed_on = until(&host, arguments.patience, "sign-on", |brain| brain.signed_on() == wanted).await;
    if signed_on.is_err() && !host.was_connected() {
        return Err(Failure::new(format!("no connection to {} came about", arguments.connect)));
    }
    signed_on?;
    if arguments.echo {
        host.with(|brain, now, out| brain.manage(0, NetworkCode::ECHO, now, out)).map_err(failed)?;
        until(&host, arguments.patience, "the echo", |brain| brain.outstanding() == 0).await?;
        say("echo answered");
        return Ok(());
    }
    match arguments.pace() {
        Some(pace) => put_load(arguments, pace, payment, &host).await,
        None => pay_once(arguments, payment, dialect, &host).await,
    }
}

/// Waits until something holds, for as long as patience lasts.
pub(super) async fn until(
    host: &Shared<AcquirerSimulator>,
    patience_ms: u64,
    what: &str,
    holds: impl Fn(&AcquirerSimulator) -> bool,
) -> Result<(), Failure> {
    let looks = u128::from(patience_ms) / LOOK.as_millis() + 1;
    for _ in 0..looks {
        if let Some(error) = host.take_fault() {
            return Err(failed(error));
        }
        if host.look(&holds) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Failure::new(format!("no answer to {what}")))
}

async fn pay_once(
    arguments: &Acquirer,
    payment: Payment,
    dialect: &Dialect,
    host: &Shared<AcquirerSimulator>,
) -> Result<(), Failure> {
    host.keep_messages();
    let number = host.with(|brain, now, out| brain.pay(payment, now, out)).map_err(failed)?;
    // Unanswered, it is repeated and reversed as the arguments say; that takes its time too.
    let most = arguments.patience.saturating_mul(u64::from(arguments.repeats) + 2);
    let settled = |brain: &AcquirerSimulator| brain.outstanding() == 0;
    until(host, most, "the payment", settled).await?;
    if arguments.repeat {
        host.with(|brain, now, out| brain.repeat(number, now, out)).map_err(failed)?;
        until(host, most, "the repeat", settled).await?;
    }
    if arguments.reverse {
        host.with(|brain, now, out| brain.reverse(number, None, now, out)).map_err(failed)?;
        until(host, most, "the reversal", settled).await?;
    }
    for bytes in host.kept_messages() {
        match decode(dialect, &bytes) {
            Ok(message) => say(&format!("{}\n{}", message.mti(), describe(dialect, &message))),
            Err(failure) => say(&format!("an unreadable message: {failure}")),
        }
    }
    let state = host.look(|brain| brain.book().payment(number).map(|entry| entry.state));
    say(&format!("payment {}", state.map_or("unknown", PaymentState::name)));
    Ok(())
}

async fn put_load(
    arguments: &Acquirer,
    pace: Pace,
    payment: Payment,
    host: &Shared<AcquirerSimulator>,
) -> Result<(), Failure> {
    let load = Load {
        pace,
        total: arguments.count,
        mti: payment.mti,
        processing: payment.processing,
        entry_mode: payment.entry_mode,
        amounts: payment.amount.minor()..=payment.amount.minor().saturating_add(999),
        currency: payment.amount.currency(),
    };
    host.with(|brain, now, _| brain.start_load(load, now));
    let style = ProgressStyle::with_template("{bar:40} {elapsed} of {msg}")
        .map_err(|error| Failure::new(error.to_string()))?;
    let steps = arguments.seconds.saturating_mul(10);
    let bar = ProgressBar::new(steps).with_style(style).with_message(format!("{} s", arguments.seconds));
    let stop = asked_to_stop();
    tokio::pin!(stop);
    for _ in 0..steps {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => bar.inc(1),
            () = &mut stop => break,
        }
        if host.look(AcquirerSimulator::load_is_over) {
            break;
        }
        bar.set_message(host.look(|brain| {
            let report = brain.report();
            format!("{} s, {} answered, {}/s", arguments.seconds, report.answered, report.rate())
        }));
    }
    bar.finish_and_clear();
    host.with(|brain, _, _| brain.stop_load());
    let most = arguments.patience.saturating_mul(u64::from(arguments.repeats) + 2);
    until(host, most, "the last of the load", |brain| brain.load_is_over() && brain.outstanding() == 0)
        .await?;
    say(&host.look(|brain| brain.report().to_string()));
    Ok(())
}

/// Compares the book with the ledgers that issuers wrote.
fn compare(arguments: &Acquirer, brain: &AcquirerSimulator) -> Result<(), Failure> {
    if arguments.against.is_empty() {
        return Ok(());
    }
    let mut records: Vec<Record> = Vec::new();
    for path in &arguments.against {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::file(path, "cannot be read", &error))?;
        for (at, line) in text.lines().enumerate() {
            let value = serde_json::from_str(line).ok();
            let record = value.as_ref().and_then(Record::from_json);
            let wrong = || Failure::new(format!("{}:{}: no line of a ledger", path.display(), at + 1));
            records.push(record.ok_or_else(wrong)?);
        }
    }
    let acquirer = brain.book().acquirer();
    let differences =
        reconcile(brain.records(), records.into_iter().filter(|record| record.acquirer == acquirer));
    for difference in &differences {
        say(&difference.to_string());
    }
    match differences.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{count} differences between book and ledgers"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::CardNumber;

    #[test]
    fn lines_of_a_card_file() {
        let card = card_line("9000000000000001, 2812 ,00000000001").unwrap();
        assert!(matches!(card.number, CardNumber::Token(token) if token.as_str() == "9000000000000001"));
        assert_eq!(card.expiry, Expiry::parse(b"2812").ok());
        assert_eq!(card.requestor.unwrap().as_str(), "00000000001");
        assert!(card_line("9000000000000001").unwrap().expiry.is_none());
        for bad in ["", "90000", "9000000000000001,2899", "9000000000000001,2812,x"] {
            assert!(card_line(bad).is_err(), "{bad}");
        }
    }
}
