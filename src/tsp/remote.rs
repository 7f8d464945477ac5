//! Cryptograms for payments in apps and shops on the net: asked for by a token's requestor, made here for one payment,
//! checked here when it comes, and good once.

use crate::crypto::RemoteKeys;
use crate::stdx::clock::{Now, Wall};
use crate::vocab::{
    Amount, CounterSeries, CounterTaken, Expiry, Initiator, Refusal, RemoteCryptogram, Token,
    TokenReferenceId, TokenRequestorId, VerdictResult, YearMonth,
};

use super::command::{Asker, Told};
use super::controls::{DomainControls, Merchant};
use super::counters::Standing;
use super::detokenize::{DetokenizeRequest, Purpose};
use super::error::ProvisioningRefusal;
use super::event::{CannotFollow, Cause, Change, TokenEvent};
use super::moves::good;
use super::record::VaultRecord;
use super::tsp::{Decision, Tsp};
use super::verify::{TokenKeys, refuse_used, verdict_of};

/// A cryptogram is wanted for one payment.
#[derive(Debug, Clone, Copy)]
pub struct CryptogramRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    /// Where it is to be paid with, and nowhere else.
    pub merchant: Merchant,
    /// The most that it is to pay.
    pub amount: Amount,
    pub initiator: Initiator,
}

/// A cryptogram as its event says it: with the key, enough to make it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeCryptogram {
    pub record: u64,
    /// Among those of its token, from 1.
    pub number: u16,
    pub initiator: Initiator,
    pub merchant: Merchant,
    pub amount: Amount,
    /// From when on it is good no more.
    pub until: Wall,
}

/// What a requestor is told: all that the payment needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptogramView {
    pub reference: TokenReferenceId,
    pub token: Token,
    pub expiry: Expiry,
    pub cryptogram: RemoteCryptogram,
    pub until: Wall,
}

impl MadeCryptogram {
    /// Numbers follow each other.
    pub(super) fn alter(&self, record: &mut VaultRecord) -> Result<(), CannotFollow> {
        if record.cryptograms.checked_add(1) != Some(self.number) {
            return Err("a cryptogram is missing before it");
        }
        record.cryptograms = self.number;
        Ok(())
    }
}

impl CryptogramRequest {
    pub(super) fn cause(&self) -> Cause {
        let mut said = vec![7];
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend_from_slice(&self.merchant.acquirer.0.to_le_bytes());
        said.extend_from_slice(&self.amount.minor().to_le_bytes());
        said.extend_from_slice(&self.amount.currency().digits());
        said.extend_from_slice(trimmed(&self.merchant));
        // No DE 42 has such a byte.
        if self.initiator == Initiator::Merchant {
            said.push(0);
        }
        self.asker.cause(&said)
    }
}

impl Tsp {
    /// The next cryptogram of a token that is good. Its number is taken with the event: no other ever has it.
    pub(super) fn decide_cryptogram(
        &self,
        request: &CryptogramRequest,
        now: Now,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (cause, today) = (request.cause(), YearMonth::of(now.wall));
        if let Some(decided) = self.repeated(&cause, today)? {
            return Ok(decided);
        }
        let found = self.to_be_changed(cause.principal, request.reference, None)?;
        good(&found, today)?;
        self.requestors.get(found.requestor).ok_or(ProvisioningRefusal::UnknownRequestor)?;
        let number = found.cryptograms.checked_add(1).filter(|number| *number < u16::MAX);
        let made = MadeCryptogram {
            record: found.record,
            number: number.ok_or(ProvisioningRefusal::CryptogramsExhausted)?,
            initiator: request.initiator,
            merchant: request.merchant,
            amount: request.amount,
            until: now.wall.plus(self.config.cryptogram_lifetime),
        };
        if unsigned(&made).is_none() {
            return Err(ProvisioningRefusal::AmountNotValid);
        }
        let cause = Cause { requestor: Some(found.requestor), ..cause };
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::CryptogramMade(Box::new(made)) })))
    }

    /// What is told of a cryptogram, made again from what its event says, with the token's expiry of then.
    pub(super) fn cryptogram(
        &self,
        made: &MadeCryptogram,
        expiry: Option<Expiry>,
    ) -> Result<Told, ProvisioningRefusal> {
        let record = self.table.record(made.record).ok_or(ProvisioningRefusal::Unavailable)?;
        let unsigned = unsigned(made).ok_or(ProvisioningRefusal::Unavailable)?;
        let signed = Bound {
            token: &record.token,
            requestor: record.requestor,
            merchant: &made.merchant,
            currency: made.amount,
        };
        let cryptogram = unsigned.signed(signed.mac(&self.keys.remote, &unsigned));
        Ok(Told::Cryptogram(Box::new(CryptogramView {
            reference: record.reference,
            token: record.token,
            expiry: expiry.unwrap_or(record.expiry),
            cryptogram,
            until: cryptogram.until(),
        })))
    }
}

fn unsigned(made: &MadeCryptogram) -> Option<RemoteCryptogram> {
    let unsigned = RemoteCryptogram::unsigned(made.until, made.number, made.amount.minor())?;
    Some(unsigned.initiated_by(made.initiator))
}

/// DE 42 is filled up with spaces on the wire.
fn trimmed(merchant: &Merchant) -> &[u8] {
    merchant.id.as_bytes().trim_ascii_end()
}

/// What a cryptogram is bound to besides what it says itself.
struct Bound<'a> {
    token: &'a Token,
    requestor: TokenRequestorId,
    merchant: &'a Merchant,
    /// Only its currency: the amount stands in the cryptogram.
    currency: Amount,
}

impl Bound<'_> {
    fn with<T>(&self, cryptogram: &RemoteCryptogram, act: impl FnOnce(&[&[u8]]) -> T) -> T {
        act(&[
            &cryptogram.head(),
            self.token.as_bytes(),
            self.requestor.as_bytes(),
            &self.merchant.acquirer.0.to_be_bytes(),
            trimmed(self.merchant),
            &self.currency.currency().digits(),
        ])
    }

    fn mac(&self, keys: &RemoteKeys, cryptogram: &RemoteCryptogram) -> [u8; 8] {
        self.with(cryptogram, |parts| keys.sign(parts))
    }

    fn is_signed(&self, keys: &RemoteKeys, cryptogram: &RemoteCryptogram) -> bool {
        self.with(cryptogram, |parts| keys.verify(parts, cryptogram.mac()))
    }
}

/// The number that a cryptogram takes.
pub(super) fn remote_counter(cryptogram: &RemoteCryptogram) -> CounterTaken {
    CounterTaken { series: CounterSeries::Remote, atc: cryptogram.number(), cryptogram: cryptogram.mac() }
}

/// Whether it was made here for this payment: its token, its requestor, its merchant and its currency.
fn is_true(
    keys: &RemoteKeys,
    request: &DetokenizeRequest,
    requestor: TokenRequestorId,
    cryptogram: &RemoteCryptogram,
) -> bool {
    let (Some(amount), Some(id)) = (request.amount, request.merchant) else { return false };
    let merchant = Merchant { acquirer: request.acquirer, id };
    let bound = Bound { token: &request.token, requestor, merchant: &merchant, currency: amount };
    bound.is_signed(keys, cryptogram)
}

/// Its number first, which costs least, then the cryptogram, then whether it comes in time: a verdict for the issuer,
/// or the reason to refuse.
pub(super) fn check_remote(
    (keys, now): (&TokenKeys, Wall),
    request: &DetokenizeRequest,
    requestor: TokenRequestorId,
    cryptogram: &RemoteCryptogram,
    standing: Standing,
) -> Result<VerdictResult, Refusal> {
    let binding = request.purpose != Purpose::PastEvent;
    if binding {
        refuse_used(standing)?;
    }
    if !is_true(&keys.remote, request, requestor, cryptogram) {
        return Err(Refusal::CryptogramWrong);
    }
    let in_time = now < cryptogram.until();
    match verdict_of(standing) {
        VerdictResult::Good if !in_time && binding => Err(Refusal::CryptogramExpired),
        VerdictResult::Good if !in_time => Ok(VerdictResult::Late),
        found => Ok(found),
    }
}

/// DE 4 against what it was made for; `tolerance` is by how many minor units DE 4 may be more.
pub(super) fn check_most(
    amount: Amount,
    cryptogram: &RemoteCryptogram,
    controls: &DomainControls,
    tolerance: u64,
) -> Result<VerdictResult, Refusal> {
    match amount.minor() <= cryptogram.minor().saturating_add(tolerance) {
        true => Ok(VerdictResult::Good),
        false if controls.chip_amount_binds => Err(Refusal::ChipAmountDiffers),
        false => Ok(VerdictResult::Bad),
    }
}
