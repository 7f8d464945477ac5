//! Looks at what the chip said. Until cryptograms are checked here, a chip transaction needs one, the configuration
//! must let it pass unchecked, and the issuer is told so.

use crate::vocab::{Amount, Refusal, VerdictResult};

use super::controls::DomainControls;
use super::detokenize::{ChipData, DetokenizeRequest, Purpose};

/// What the configuration says of chip transactions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChipPolicy {
    pub(super) unverified_may_pass: bool,
    /// By how many minor units DE 4 may exceed 9F02.
    pub(super) amount_tolerance: u64,
}

/// What came of it: a verdict for the issuer, or the reason to refuse.
pub(super) struct ChipFindings {
    pub(super) cryptogram: Result<VerdictResult, Refusal>,
    pub(super) amount: Result<VerdictResult, Refusal>,
}

pub(super) fn chip_findings(
    request: &DetokenizeRequest,
    controls: &DomainControls,
    policy: ChipPolicy,
) -> ChipFindings {
    let amount = match (request.amount, request.chip) {
        (Some(amount), Some(chip)) => check_amount(amount, chip, controls.chip_amount_binds, policy),
        _ => Ok(VerdictResult::Absent),
    };
    ChipFindings { cryptogram: check_cryptogram(request, policy), amount }
}

fn check_cryptogram(request: &DetokenizeRequest, policy: ChipPolicy) -> Result<VerdictResult, Refusal> {
    let chip_entry = request.entry_mode.is_some_and(|mode| mode.has_chip_data());
    match (request.purpose, request.chip) {
        (Purpose::Purchase, None) if chip_entry => Err(Refusal::CryptogramMissing),
        (Purpose::Purchase, Some(_)) if !policy.unverified_may_pass => Err(Refusal::CryptogramUnverifiable),
        (_, None) => Ok(VerdictResult::Absent),
        (_, Some(_)) => Ok(VerdictResult::NotVerified),
    }
}

/// DE 4 against 9F02, DE 49 against 5F2A.
fn check_amount(
    amount: Amount,
    chip: ChipData,
    binds: bool,
    policy: ChipPolicy,
) -> Result<VerdictResult, Refusal> {
    let currency_differs = chip.currency.is_some_and(|currency| currency != amount.currency().number());
    let within = |signed: u64| amount.minor() <= signed.saturating_add(policy.amount_tolerance);
    let too_much = !chip.amount.is_none_or(within);
    match (currency_differs || too_much, chip.amount, chip.currency) {
        (true, _, _) if binds => Err(Refusal::ChipAmountDiffers),
        (true, _, _) => Ok(VerdictResult::Bad),
        (false, None, None) => Ok(VerdictResult::Absent),
        (false, _, _) => Ok(VerdictResult::Good),
    }
}
