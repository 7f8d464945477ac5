//! Token to PAN: what a payment asks, what it is told, and `Detokenizer`, which answers in batches.

use std::sync::Arc;

use crate::crypto::{DataSealer, Sealed};
use crate::stdx::clock::Now;
use crate::vocab::{
    Amount, CounterTaken, EntryMode, Expiry, LinkId, MerchantCategory, MerchantId, Par, Refusal, Service,
    Token, TokenAssuranceMethod, TokenRequestorId, VerdictResult, Verdicts, YearMonth,
};

use super::config::{CryptogramPolicy, TokenRange, TspConfig};
use super::controls::{DomainContext, DomainControls, check_requestor};
use super::counters::Counters;
use super::lifecycle::TokenStatus;
use super::record::{CardAad, CardData, open_card};
use super::table::{BATCH, Domain, Mapping, TokenTable};
use super::verify::{self, ChipPolicy};

/// What the PAN is wanted for, and so how closely the token is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// 0100 and 0200: every check; the first that fails refuses.
    Purchase,
    /// A refund without an original: as a purchase, only that no cryptogram is asked for.
    Refund,
    /// Advices, completions and referenced refunds: what has happened has happened. Only an unknown token is
    /// refused; all other findings are verdicts for the issuer.
    PastEvent,
}

/// A payment's question.
#[derive(Debug, Clone)]
pub struct DetokenizeRequest {
    pub token: Token,
    /// As sent: DE 14, else track 2, else the chip's.
    pub expiry: Option<Expiry>,
    /// As named in the message, if it names one.
    pub requestor: Option<TokenRequestorId>,
    pub entry_mode: Option<EntryMode>,
    pub acquirer: LinkId,
    pub merchant: Option<MerchantId>,
    pub category: Option<MerchantCategory>,
    pub amount: Option<Amount>,
    /// None unless both the cryptogram (9F26) and its counter (9F36) came.
    pub chip: Option<ChipData>,
    pub purpose: Purpose,
}

/// What the chip said, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChipData {
    /// Application transaction counter, tag 9F36.
    pub atc: u16,
    /// Application cryptogram, tag 9F26.
    pub cryptogram: [u8; 8],
    /// Amount authorized in minor units, tag 9F02.
    pub amount: Option<u64>,
    /// Transaction currency code, tag 5F2A: an ISO 4217 number.
    pub currency: Option<u16>,
}

/// A payment's answer.
#[derive(Debug, Clone)]
pub struct Detokenized {
    pub card: CardData,
    /// The vault's own envelope, for the journal; it opens under `CardAad::vault` of token, record and mapping
    /// version.
    pub sealed: Sealed,
    pub record: u64,
    pub mapping_version: u32,
    pub requestor: TokenRequestorId,
    pub assurance: TokenAssuranceMethod,
    pub par: Option<Par>,
    pub verdicts: Verdicts,
    /// To be journaled with the request: from that the counters are recovered after a restart.
    pub counter: Option<CounterTaken>,
}

/// The read handle on the vault, one for each shard. It takes no lock to read the table.
#[derive(Clone)]
pub struct Detokenizer {
    table: Arc<TokenTable>,
    counters: Arc<Counters>,
    sealer: DataSealer,
    ranges: Arc<[TokenRange]>,
    policy: ChipPolicy,
}

impl Detokenizer {
    pub(super) fn new(
        table: Arc<TokenTable>,
        counters: Arc<Counters>,
        sealer: DataSealer,
        config: &TspConfig,
    ) -> Self {
        let policy = ChipPolicy {
            unverified_may_pass: config.cryptograms == CryptogramPolicy::Unverified,
            amount_tolerance: config.amount_tolerance,
        };
        Self { table, counters, sealer, ranges: config.token_ranges.as_slice().into(), policy }
    }

    /// Whether an account number lies in a token range: if so it is a token, known or not, and never a PAN.
    #[must_use]
    pub fn covers(&self, account: &[u8]) -> bool {
        self.ranges.iter().any(|range| range.covers(account))
    }

    /// Answers each of `requests`, in order, at the end of `out`. Every slot of a batch is touched before one is
    /// opened: the memory's waits then overlap, which an AES run in between would prevent.
    pub fn detokenize_batch(
        &self,
        now: Now,
        requests: &[DetokenizeRequest],
        out: &mut Vec<Result<Detokenized, Refusal>>,
    ) {
        let today = YearMonth::of(now.wall);
        out.reserve(requests.len());
        for batch in requests.chunks(BATCH) {
            let places = self.table.touch(batch.iter().map(|request| request.token.number()));
            for (request, place) in batch.iter().zip(places) {
                out.push(match place.and_then(|place| self.table.mapping(place)) {
                    Some(mapping) => self.judge(today, request, &mapping),
                    None => Err(Refusal::UnknownToken),
                });
            }
        }
    }

    /// Forgets that a counter was taken: its request was not forwarded, so it led to no approval.
    pub fn release(&self, record: u64, counter: CounterTaken) {
        self.counters.release(record, counter);
    }

    /// The order of checks is that of a live national TSP: known, who asks, status, expiry, way of use, chip. The envelope is opened last, the counter taken after that: nothing that is refused
    /// burns one.
    fn judge(
        &self,
        today: YearMonth,
        request: &DetokenizeRequest,
        mapping: &Mapping,
    ) -> Result<Detokenized, Refusal> {
        if !self.covers(request.token.as_bytes()) {
            return Err(Refusal::UnknownToken);
        }
        let domain = self.table.domain(mapping).ok_or(Refusal::VaultUnavailable)?;
        let mut findings =
            Findings { verdicts: Verdicts::default(), binding: request.purpose != Purpose::PastEvent };
        findings.note(Service::Mapping, Ok(VerdictResult::Good))?;
        findings.look_at_token(today, request, mapping, domain)?;
        findings.note_chip(&verify::chip_findings(request, &domain.controls, self.policy))?;
        let aad = CardAad::vault(&request.token, mapping.record, mapping.mapping_version);
        // An envelope that does not open is damage: refused, never approved unverified.
        let card = open_card(&self.sealer, &aad, &mapping.sealed).map_err(|_| Refusal::VaultUnavailable)?;
        let counter = match request.chip {
            Some(chip) if findings.binding => {
                let taken = CounterTaken { atc: chip.atc, cryptogram: chip.cryptogram };
                self.counters
                    .take(mapping.record, taken)
                    .then_some(taken)
                    .ok_or(Refusal::CryptogramReplayed)?;
                Some(taken)
            }
            _ => None,
        };
        Ok(Detokenized {
            card,
            sealed: mapping.sealed,
            record: mapping.record,
            mapping_version: mapping.mapping_version,
            requestor: domain.requestor,
            assurance: mapping.assurance,
            par: mapping.par,
            verdicts: findings.verdicts,
            counter,
        })
    }
}

/// Verdicts as they are found, and whether a bad one refuses.
struct Findings {
    verdicts: Verdicts,
    binding: bool,
}

impl Findings {
    fn note(&mut self, service: Service, found: Result<VerdictResult, Refusal>) -> Result<(), Refusal> {
        match found {
            Ok(result) => self.verdicts.note(service, result),
            Err(refusal) if self.binding => return Err(refusal),
            Err(_) => self.verdicts.note(service, VerdictResult::Bad),
        }
        Ok(())
    }

    fn look_at_token(
        &mut self,
        today: YearMonth,
        request: &DetokenizeRequest,
        mapping: &Mapping,
        Domain { requestor, controls }: &Domain,
    ) -> Result<(), Refusal> {
        let good = |()| VerdictResult::Good;
        let context = DomainContext {
            acquirer: request.acquirer,
            merchant: request.merchant.as_ref(),
            entry_mode: request.entry_mode,
            category: request.category,
            amount: request.amount,
        };
        let is_theirs = check_requestor(request.requestor, *requestor);
        let named = if request.requestor.is_some() { VerdictResult::Good } else { VerdictResult::Absent };
        self.note(Service::Requestor, is_theirs.map(|()| named))?;
        let caller = controls.check_caller(&context);
        self.note(Service::Domain, caller.map(good))?;
        self.note(Service::Status, check_status(mapping.status).map(good))?;
        self.note(Service::Expiry, check_expiry(request.expiry, mapping.expiry, today, controls))?;
        // A merchant found wanting stays on record when the way of use is right.
        self.note(Service::Domain, caller.and_then(|()| controls.check_use(&context)).map(good))
    }

    fn note_chip(&mut self, found: &verify::ChipFindings) -> Result<(), Refusal> {
        self.note(Service::Cryptogram, found.cryptogram)?;
        self.note(Service::ChipAmount, found.amount)
    }
}

fn check_status(status: TokenStatus) -> Result<(), Refusal> {
    match status {
        TokenStatus::Active => Ok(()),
        TokenStatus::Inactive => Err(Refusal::TokenInactive),
        TokenStatus::Suspended => Err(Refusal::TokenSuspended),
        TokenStatus::Deactivated => Err(Refusal::TokenDeactivated),
    }
}

/// Looking at the expiry is a SHALL of detokenization (EMVCo 10.8).
fn check_expiry(
    sent: Option<Expiry>,
    of_token: Expiry,
    today: YearMonth,
    controls: &DomainControls,
) -> Result<VerdictResult, Refusal> {
    match sent {
        Some(sent) if sent != of_token => Err(Refusal::ExpiryMismatch),
        _ if of_token.is_past(today) => Err(Refusal::TokenExpired),
        Some(_) => Ok(VerdictResult::Good),
        None if controls.expiry_optional => Ok(VerdictResult::Absent),
        None => Err(Refusal::ExpiryMissing),
    }
}
