//! `Till`: one shop with one card before it, at an acquirer of its own: where a wallet pays.

use std::net::SocketAddr;

use tokio::task::spawn_local;

use super::acquirer::{failed, until};
use super::sockets::Shared;
use crate::cli::Failure;
use crate::config::PartyConfig;
use crate::sim::{
    AcquirerConfig, AcquirerSimulator, BookEntry, FaultPlan, Habits, Patience, Payment, PaymentState,
    PresentedCard, RemotePayment, test_merchants,
};
use crate::stdx::clock::Clock;
use crate::vocab::{Amount, InstitutionId, MerchantId, Mti, PosEntryMode, ProcessingCode};

/// How long anything at the till may take, in milliseconds.
const PATIENCE: u64 = 30_000;

/// A till that is signed on.
pub(in crate::cli) struct Till(Shared<AcquirerSimulator>);

impl Till {
    /// Opens at the switch's listener, as `party` of its configuration.
    pub(in crate::cli) async fn open(
        address: SocketAddr,
        party: &PartyConfig,
        card: PresentedCard,
    ) -> Result<Self, Failure> {
        let clock = Clock::system();
        let brain = AcquirerSimulator::new(AcquirerConfig {
            dialect: party.dialect.clone(),
            framing: party.framing,
            header: vec![0; party.framing.header_length()],
            institution: InstitutionId::parse(b"00012345678")?,
            merchants: test_merchants(1, 1),
            cards: vec![card],
            patience: Patience::default(),
            habits: Habits::default(),
            faults: FaultPlan::none(),
            seed: 1,
            // Two runs on one day must not share DE 11 and DE 37.
            first_number: clock.now().wall.0 % 1_000_000_000_000,
        });
        let host = Shared::new(brain.map_err(failed)?, party.framing, clock);
        spawn_local(host.clone().tick());
        spawn_local(host.clone().keep_dialled(address));
        until(&host, PATIENCE, "sign-on", |brain| brain.signed_on() == 1).await?;
        Ok(Self(host))
    }

    /// DE 42 of the shop.
    pub(in crate::cli) fn merchant(&self) -> Result<MerchantId, Failure> {
        let shops = test_merchants(1, 1);
        shops.first().map(|shop| shop.merchant).ok_or_else(|| Failure::new("no shop"))
    }

    /// One purchase, until it is answered or given up.
    pub(in crate::cli) async fn pay(
        &self,
        amount: Amount,
        entry_mode: PosEntryMode,
        remote: Option<RemotePayment>,
    ) -> Result<BookEntry, Failure> {
        pay_at(&self.0, purchase(amount, entry_mode, remote)?, PATIENCE).await
    }
}

/// A purchase with the first card in the first shop.
pub(in crate::cli) fn purchase(
    amount: Amount,
    entry_mode: PosEntryMode,
    remote: Option<RemotePayment>,
) -> Result<Payment, Failure> {
    Ok(Payment {
        mti: Mti::parse(b"0200")?,
        card: 0,
        merchant: 0,
        processing: ProcessingCode::parse(b"000000")?,
        amount,
        entry_mode,
        original: None,
        remote,
    })
}

/// Pays, and waits for the answer.
pub(in crate::cli) async fn pay_at(
    host: &Shared<AcquirerSimulator>,
    payment: Payment,
    patience_ms: u64,
) -> Result<BookEntry, Failure> {
    let number = host.with(|brain, now, out| brain.pay(payment, now, out)).map_err(failed)?;
    let entry = |brain: &AcquirerSimulator| brain.book().payment(number).cloned();
    let answered =
        |brain: &AcquirerSimulator| entry(brain).is_some_and(|entry| entry.state != PaymentState::Waiting);
    until(host, patience_ms, "the payment", answered).await?;
    host.look(entry).ok_or_else(|| Failure::new("the payment is not in the book"))
}
