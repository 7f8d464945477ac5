//! Token to PAN: what a payment asks, what it is told, and `Detokenizer`, which answers in batches.

use std::sync::Arc;

use crate::crypto::{CryptogramKeys, DataSealer, IssuerAuthentication, Sealed};
use crate::journal::TransactionEntry;
use crate::stdx::clock::{Now, Wall};
use crate::stdx::sabotage::{sabotaged, step};
use crate::vocab::{
    Amount, ChipPayment, CounterSeries, CounterTaken, Country, EntryMode, Expiry, LinkId, MerchantCategory,
    MerchantId, Par, Refusal, RemoteCryptogram, Service, TerminalId, Token, TokenAssuranceMethod,
    TokenRequestorId, TransactionId, VerdictResult, Verdicts, YearMonth,
};

use super::config::TokenRange;
use super::controls::{DomainContext, check_requestor};
use super::counters::{Counters, Presentation, Standing};
use super::given_keys::LimitedKeys;
use super::initiation::{Initiated, Initiation, InitiationControls};
use super::lifecycle::TokenStatus;
use super::own_controls::TokenControls;
use super::record::{CardAad, CardData, open_card};
use super::remote::{check_most, check_remote, remote_counter};
use super::table::{BATCH, Domain, Mapping, TokenTable};
use super::velocity::{Take, Velocity};
use super::verify::{TokenKeys, check_amount, check_cryptogram, refuse_used};

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
    pub terminal: Option<TerminalId>,
    pub merchant: Option<MerchantId>,
    pub category: Option<MerchantCategory>,
    /// Of the acquirer.
    pub country: Option<Country>,
    /// Under which it counts, where that is limited.
    pub transaction: TransactionId,
    pub amount: Option<Amount>,
    /// What the chip said, when it came whole.
    pub chip: Option<ChipPayment>,
    /// A cryptogram that was made for this one payment, where no chip speaks.
    pub remote: Option<RemoteCryptogram>,
    /// Who initiated it, where that is said.
    pub initiation: Option<Initiation>,
    pub purpose: Purpose,
}

impl DetokenizeRequest {
    /// Where its cryptogram is presented.
    #[must_use]
    pub fn presentation(&self) -> Presentation {
        Presentation { acquirer: self.acquirer, terminal: self.terminal, amount: self.amount }
    }

    /// The remote cryptogram, unless it comes where only a chip's counts.
    fn remote(&self) -> Option<&RemoteCryptogram> {
        let chip_entry = self.entry_mode.is_some_and(|mode| mode.has_chip_data());
        self.remote.as_ref().filter(|_| !chip_entry && self.chip.is_none())
    }

    /// What its cryptogram takes, once that is found true.
    fn takes(&self, limited: bool) -> Option<CounterTaken> {
        let by_chip = || self.chip.as_ref().map(|chip| taken_by(chip, limited));
        self.remote().map(remote_counter).or_else(by_chip)
    }
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
    /// What its cryptogram took: journaled with the request, or, where its verdict is that nobody here verified it,
    /// with the issuer's approval. From that the counters are recovered after a restart.
    pub counter: Option<CounterTaken>,
}

/// The read handle on the vault, one for each shard. It takes no lock to read the table.
#[derive(Clone)]
pub struct Detokenizer {
    table: Arc<TokenTable>,
    counters: Arc<Counters>,
    velocity: Arc<Velocity>,
    sealer: DataSealer,
    keys: TokenKeys,
    /// By how many minor units DE 4 may exceed 9F02.
    amount_tolerance: u64,
}

impl Detokenizer {
    pub(super) fn new(
        table: Arc<TokenTable>,
        (counters, velocity): (Arc<Counters>, Arc<Velocity>),
        sealer: DataSealer,
        keys: TokenKeys,
        amount_tolerance: u64,
    ) -> Self {
        Self { table, counters, velocity, sealer, keys, amount_tolerance }
    }

    /// Whether an account number lies in a token range: if so it is a token, known or not, and never a PAN.
    #[must_use]
    pub fn covers(&self, account: &[u8]) -> bool {
        self.keys.range(account).is_some()
    }

    /// Whether the check of its cryptogram takes long: such a one need not be asked among the others.
    #[must_use]
    pub fn takes_long(&self, request: &DetokenizeRequest) -> bool {
        let checked = |(range, keys): &(TokenRange, Option<CryptogramKeys>)| {
            !range.checked_by_issuer && keys.as_ref().is_some_and(|keys| keys.profile().takes_long())
        };
        request.chip.is_some() && self.keys.range(request.token.as_bytes()).is_some_and(checked)
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
            let mut numbers = [0; BATCH];
            numbers.iter_mut().zip(batch).for_each(|(place, request)| *place = request.token.number());
            self.table.touch(numbers.get(..batch.len()).unwrap_or_default());
            out.extend(batch.iter().zip(numbers).map(|(request, token)| {
                let mapping = self.table.mapping(token).ok_or(Refusal::UnknownToken)?;
                self.judge((today, now), request, &mapping)
            }));
        }
    }

    /// Whether a token that was looked up before may still pay: its holder may have suspended or unlinked it meanwhile.
    ///
    /// # Errors
    /// Why it may not.
    pub fn still_active(&self, record: u64) -> Result<(), Refusal> {
        check_status(self.table.status(record).ok_or(Refusal::UnknownToken)?)
    }

    /// A request that took this counter was not forwarded, so it led to no approval: its terminal may present the
    /// cryptogram once more.
    pub fn release(&self, record: u64, counter: CounterTaken, by: Presentation, now: Now) {
        self.counters.release(record, counter, by, now.moment);
    }

    /// A payment that counted was not journaled: it came to nothing.
    pub fn give_back(&self, record: u64, transaction: TransactionId) {
        self.velocity.give_back(record, transaction);
    }

    /// An entry on its way into the journal: what did not come to an approval, or was reversed, counts no more.
    pub fn observe(&self, entry: &TransactionEntry, now: Now) {
        self.velocity.observe(entry, now.wall);
        if let TransactionEntry::Outcome(outcome) = entry {
            self.counters.ended(outcome.transaction, outcome.counter);
        }
    }

    /// The issuer's answer to a token's true cryptogram; `None` for one that is not true, was made with a limited-use
    /// key (a phone without hardware waits for none, and a repeat must get the same after the key was taken back), or
    /// that nobody here can answer.
    /// `code` is the authorization response code, as `approved` or not.
    #[must_use]
    pub fn issuer_authentication(
        &self,
        token: &Token,
        chip: &ChipPayment,
        code: [u8; 2],
        approved: bool,
    ) -> Option<IssuerAuthentication> {
        let (_, keys) = self.keys.range(token.as_bytes())?;
        let (keys, account) = (keys.as_ref()?, token.as_bytes());
        keys.verify(account, TokenKeys::SEQUENCE, chip).ok()?;
        keys.answer(account, TokenKeys::SEQUENCE, chip, code, approved).ok()
    }

    /// The order of checks is that of a live national TSP: known, who asks, status, expiry, way of use, counter,
    /// cryptogram. The envelope is opened last, the counter taken after that: nothing that is refused burns one.
    fn judge(
        &self,
        (today, now): (YearMonth, Now),
        request: &DetokenizeRequest,
        mapping: &Mapping,
    ) -> Result<Detokenized, Refusal> {
        let own = if mapping.narrowed { self.table.own_controls(mapping.record) } else { None };
        let own = own.as_deref();
        let given = if mapping.limited { self.table.given_keys(mapping.record) } else { None };
        let limited = given.as_ref().and_then(|given| given.limited.as_ref());
        let (range, keys) = self.keys.range(request.token.as_bytes()).ok_or(Refusal::UnknownToken)?;
        let domain = self.table.domain(mapping).ok_or(Refusal::VaultUnavailable)?;
        let mut findings =
            Findings { verdicts: Verdicts::default(), binding: request.purpose != Purpose::PastEvent };
        step("looked-up");
        findings.note(Service::Mapping, Ok(VerdictResult::Good))?;
        let initiated = request.initiation.map(|said| Initiated::look(said, mapping.record, &self.table));
        let looked = Looked { request, now, record: mapping.record, domain, own, limited, initiated };
        findings.look_at_token((today, now.wall), &looked, mapping)?;
        findings.look_at_initiation(&looked)?;
        match request.remote() {
            None => self.look_at_chip(&looked, (range, keys.as_ref()), &mut findings)?,
            Some(remote) => self.look_at_remote(&looked, remote, &mut findings)?,
        }
        step("verified");
        let aad = CardAad::vault(&request.token, mapping.record, mapping.mapping_version);
        // An envelope that does not open is damage: refused, never approved unverified.
        let card = open_card(&self.sealer, &aad, &mapping.sealed).map_err(|_| Refusal::VaultUnavailable)?;
        let is_true = findings.verdicts.of(Service::Cryptogram) == Some(VerdictResult::Good);
        let held = range.checked_by_issuer && request.remote().is_none();
        let counter = request.takes(limited.is_some());
        let counter = counter.filter(|_| (is_true || held) && findings.binding);
        // A refund takes nothing from what may be spent, and what has happened is not counted again.
        let rules = own.map_or(&[][..], |own| own.velocity.as_slice());
        let counts = !rules.is_empty() && request.purpose == Purpose::Purchase;
        if counts {
            let take = Take { transaction: request.transaction, at: now.wall, amount: request.amount };
            self.velocity.take(mapping.record, rules, take)?;
            findings.verdicts.note(Service::Velocity, VerdictResult::Good);
        }
        if let Some(counter) = counter {
            let standing = if held {
                self.counters.hold(mapping.record, counter, request.transaction)
            } else {
                self.counters.take(mapping.record, counter, &request.presentation(), now.moment)
            };
            if standing != Standing::Free && counts {
                self.velocity.give_back(mapping.record, request.transaction);
            }
            refuse_used(standing)?;
            step("counter-taken");
        }
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

    fn look_at_chip(
        &self,
        looked: &Looked<'_>,
        (range, keys): (&TokenRange, Option<&CryptogramKeys>),
        findings: &mut Findings,
    ) -> Result<(), Refusal> {
        let Looked { request, now, own, limited, domain: Domain { controls, .. }, .. } = *looked;
        let key = match limited.zip(request.chip.as_ref()) {
            None => (range, keys, None),
            Some((limited, chip)) => {
                let worth = limited.check(chip.atc(), now.wall, findings.binding);
                findings.note(Service::LimitedKey, worth)?;
                // With a key that was taken back, nothing can be verified.
                let signed = limited.key_of(chip.atc()).map(|key| key.range);
                (range, keys.filter(|_| signed.is_some()), signed)
            }
        };
        let standing = |chip: &ChipPayment| {
            let taken = taken_by(chip, limited.is_some());
            self.counters.look(looked.record, taken, &request.presentation(), now.moment)
        };
        let required = controls.cryptogram_required && !looked.is_free(controls.initiation)
            || own.is_some_and(|own| own.cryptogram_required && !looked.is_free(own.initiation));
        findings.note(Service::Cryptogram, check_cryptogram(request, required, key, standing))?;
        let amount = match (request.amount, &request.chip) {
            (Some(amount), Some(chip)) => check_amount(amount, chip, controls, self.tolerance(own)),
            _ => Ok(VerdictResult::Absent),
        };
        findings.note(Service::ChipAmount, amount)
    }

    fn look_at_remote(
        &self,
        looked: &Looked<'_>,
        remote: &RemoteCryptogram,
        findings: &mut Findings,
    ) -> Result<(), Refusal> {
        let Looked { request, now, record, own, domain: Domain { requestor, controls }, .. } = *looked;
        let taken = remote_counter(remote);
        let standing = self.counters.look(record, taken, &request.presentation(), now.moment);
        let found = check_remote((&self.keys, now.wall), request, *requestor, remote, standing);
        findings.note(Service::Cryptogram, found)?;
        let most = |amount| check_most(amount, remote, controls, self.tolerance(own));
        findings.note(Service::ChipAmount, request.amount.map_or(Ok(VerdictResult::Absent), most))
    }

    /// By how many minor units DE 4 may exceed what the cryptogram says.
    fn tolerance(&self, own: Option<&TokenControls>) -> u64 {
        own.and_then(|own| own.amount_tolerance)
            .map_or(self.amount_tolerance, |own| own.min(self.amount_tolerance))
    }
}

fn taken_by(chip: &ChipPayment, limited: bool) -> CounterTaken {
    let series = if limited { CounterSeries::Limited } else { CounterSeries::Chip };
    CounterTaken { series, atc: chip.atc(), cryptogram: chip.cryptogram }
}

/// A payment, and what its token is held to.
struct Looked<'a> {
    request: &'a DetokenizeRequest,
    now: Now,
    record: u64,
    domain: &'a Domain,
    own: Option<&'a TokenControls>,
    limited: Option<&'a LimitedKeys>,
    initiated: Option<Initiated>,
}

impl Looked<'_> {
    /// Whether it needs no cryptogram by these controls.
    fn is_free(&self, controls: InitiationControls) -> bool {
        self.initiated.is_some_and(|initiated| controls.free(initiated))
    }
}

/// Verdicts as they are found, and whether a bad one refuses.
struct Findings {
    verdicts: Verdicts,
    binding: bool,
}

impl Findings {
    #[inline]
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
        (today, now): (YearMonth, Wall),
        looked: &Looked<'_>,
        mapping: &Mapping,
    ) -> Result<(), Refusal> {
        let Looked { request, own, domain: Domain { requestor, controls }, .. } = *looked;
        let good = |()| VerdictResult::Good;
        let context = DomainContext {
            acquirer: request.acquirer,
            merchant: request.merchant.as_ref(),
            entry_mode: request.entry_mode,
            has_cryptogram: request.chip.is_some()
                || request.remote.is_some()
                || looked.is_free(controls.initiation),
            category: request.category,
            country: request.country,
            amount: request.amount,
        };
        let is_theirs = check_requestor(request.requestor, *requestor);
        let named = if request.requestor.is_some() { VerdictResult::Good } else { VerdictResult::Absent };
        self.note(Service::Requestor, is_theirs.map(|()| named))?;
        let caller = controls.check_caller(&context);
        self.note(Service::Domain, caller.map(good))?;
        let own_caller = own.map_or(Ok(()), |own| own.check_caller(&context));
        if own.is_some() {
            self.note(Service::OwnControls, own_caller.map(good))?;
        }
        self.note(Service::Status, check_status(mapping.status).map(good))?;
        let expiry_optional = controls.expiry_optional && !own.is_some_and(|own| own.expiry_required);
        self.note(Service::Expiry, check_expiry(request.expiry, mapping.expiry, today, expiry_optional))?;
        // A merchant found wanting stays on record when the way of use is right.
        self.note(Service::Domain, caller.and_then(|()| controls.check_use(&context)).map(good))?;
        let Some(own) = own else { return Ok(()) };
        self.note(Service::OwnControls, own_caller.and_then(|()| own.check_use(&context, now)).map(good))
    }

    /// Told to the issuer where it was said, or is not allowed. Whoever gives money back needs no agreement.
    fn look_at_initiation(&mut self, looked: &Looked<'_>) -> Result<(), Refusal> {
        if looked.request.purpose == Purpose::Refund {
            return Ok(());
        }
        let initiated = looked.initiated.unwrap_or(Initiated::UNSAID);
        let own = looked.own.map_or(Ok(()), |own| own.initiation.check(initiated));
        match looked.domain.controls.initiation.check(initiated).and(own) {
            Ok(()) if looked.initiated.is_none() => Ok(()),
            allowed => self.note(Service::Initiation, allowed.map(|()| initiated.found)),
        }
    }
}

fn check_status(status: TokenStatus) -> Result<(), Refusal> {
    if sabotaged("status-not-looked-at") {
        return Ok(());
    }
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
    optional: bool,
) -> Result<VerdictResult, Refusal> {
    match sent {
        Some(sent) if sent != of_token => Err(Refusal::ExpiryMismatch),
        _ if of_token.is_past(today) => Err(Refusal::TokenExpired),
        Some(_) => Ok(VerdictResult::Good),
        None if optional => Ok(VerdictResult::Absent),
        None => Err(Refusal::ExpiryMissing),
    }
}
