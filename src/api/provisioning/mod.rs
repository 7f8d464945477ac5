//! The token requestor API: tokens for cards, and their life. A file a resource; `body.rs` reads what was sent,
//! `words.rs` says how each of the field's words stands in it.

mod body;
mod cards;
mod consents;
mod controls;
mod cryptograms;
mod detokenizations;
mod device_keys;
mod keys;
mod path;
mod requestors;
mod step_up;
mod tokens;
mod told;
mod words;

pub(super) use words::{digits, time};

use utoipa_axum::routes;

use super::document::Routes;
use super::grants::Operation;

/// Every route, with the operation that it is.
pub(super) fn routes() -> Routes {
    Routes::new()
        .open(Operation::IssueToken, routes!(tokens::issue))
        .open(Operation::DeriveToken, routes!(tokens::derive))
        .open(Operation::SeeToken, routes!(tokens::see))
        .open(Operation::ActivateToken, routes!(tokens::activate))
        .open(Operation::SuspendToken, routes!(tokens::suspend))
        .open(Operation::ResumeToken, routes!(tokens::resume))
        .open(Operation::UnlinkToken, routes!(tokens::unlink))
        .open(Operation::SendCode, routes!(step_up::send_code))
        .open(Operation::ProveCardholder, routes!(step_up::prove))
        .open(Operation::UpdateToken, routes!(tokens::update))
        .open(Operation::ControlToken, routes!(controls::set))
        .open(Operation::MakeCryptogram, routes!(cryptograms::make))
        .open(Operation::GiveConsent, routes!(consents::give))
        .open(Operation::PersonaliseToken, routes!(device_keys::personalise))
        .open(Operation::IssueLimitedKey, routes!(device_keys::issue_limited))
        .open(Operation::SetRequestor, routes!(requestors::set))
        .open(Operation::ListRequestors, routes!(requestors::list))
        .open(Operation::CloseRequestor, routes!(requestors::close))
        .open(Operation::SeeRequestor, routes!(requestors::see))
        .open(Operation::ReportCard, routes!(cards::report))
        .open(Operation::DetokenizeToken, routes!(detokenizations::tell))
        .open(Operation::SeeKeys, routes!(keys::see))
        .open(Operation::SeePar, routes!(cards::par))
        .open(Operation::SeeCards, routes!(cards::mappings))
}
