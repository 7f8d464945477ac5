//! What a token event means to somebody who audits: what was done, and each token's status before and after.

use std::fmt::Write as _;

use super::event::{Change, Decline, DisclosurePurpose, DisclosureRefused, TokenAfter, TokenEvent};
use super::lifecycle::{Lifecycle, Move};
use super::own_controls::TokenControls;
use super::record::VaultRecord;
use super::registry::Registration;
use super::velocity::VelocityWindow;
use crate::vocab::{Expiry, Initiator, Initiators, TokenAssuranceMethod, TokenReferenceId, TokenRequestorId};

/// What was done, in a word, and to which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub what: &'static str,
    /// What else there is to say of it, as ` name=value`; may be empty.
    pub more: String,
    pub steps: Vec<AuditedStep>,
}

/// What became of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedStep {
    pub record: u64,
    /// Told with the token's first event only.
    pub reference: Option<TokenReferenceId>,
    /// None for a new token, and where the event does not say.
    pub before: Option<Lifecycle>,
    /// None: as it was.
    pub after: Option<Lifecycle>,
    /// As `reference`.
    pub requestor: Option<TokenRequestorId>,
    /// What else it has from then on.
    pub attributes: Attributes,
}

/// What can be changed of a token besides its status; none where an event does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    pub expiry: Option<Expiry>,
    pub assurance: Option<TokenAssuranceMethod>,
    /// Its own controls in short.
    pub controls: Option<Box<str>>,
}

impl Attributes {
    #[must_use]
    pub fn of(record: &VaultRecord) -> Self {
        let controls = Some(in_short(record.own.as_deref()));
        Self { expiry: Some(record.expiry), assurance: Some(record.assurance), controls }
    }

    fn after(change: &Change) -> Self {
        match change {
            Change::Updated { expiry, assurance, .. } => {
                Self { expiry: Some(*expiry), assurance: Some(*assurance), controls: None }
            }
            Change::Proven { assurance, .. } => Self { assurance: Some(*assurance), ..Self::default() },
            Change::Controlled { controls, .. } => {
                Self { controls: Some(in_short(controls.as_deref())), ..Self::default() }
            }
            Change::Issued(record) | Change::IssuedForProof { record, .. } => Self::of(record),
            Change::Moved { .. }
            | Change::Disclosed(_)
            | Change::DisclosedAgain(_)
            | Change::CryptogramMade(_)
            | Change::Consented(_)
            | Change::KeyGiven(_)
            | Change::Registered(_)
            | Change::Card(_)
            | Change::Declined(_)
            | Change::DisclosureRefused(_)
            | Change::CodeSent { .. }
            | Change::CodeWrong { .. }
            | Change::Notified { .. } => Self::default(),
        }
    }

    /// What is another one after `later`, as ` name=before->after`; a question mark for what nobody has said yet.
    #[must_use]
    pub fn changes(&self, later: &Self) -> String {
        let digits = |digits: &[u8]| String::from_utf8_lossy(digits).into_owned();
        let expiry = |of: &Self| of.expiry.map(|expiry| digits(&expiry.digits()));
        let assurance = |of: &Self| of.assurance.map(|method| digits(&method.digits()));
        let controls = |of: &Self| of.controls.as_ref().map(ToString::to_string);
        let pairs = [
            ("expiry", expiry(self), expiry(later)),
            ("assurance", assurance(self), assurance(later)),
            ("controls", controls(self), controls(later)),
        ];
        let mut text = String::new();
        for (name, before, after) in pairs {
            if let Some(after) = after.filter(|after| before.as_ref() != Some(after)) {
                // Writing to a `String` cannot fail.
                let _ = write!(text, " {name}={}->{after}", before.as_deref().unwrap_or("?"));
            }
        }
        text
    }

    /// Takes over what `later` says.
    pub fn become_those(&mut self, later: Self) {
        self.expiry = later.expiry.or(self.expiry);
        self.assurance = later.assurance.or(self.assurance);
        self.controls = later.controls.or(self.controls.take());
    }
}

/// Controls in a word without blanks: each that is set, lists by what is in them.
fn in_short(controls: Option<&TokenControls>) -> Box<str> {
    let Some(controls) = controls else { return "none".into() };
    let mut set: Vec<String> = Vec::new();
    let mut list = |name: &str, items: Vec<String>| {
        if !items.is_empty() {
            set.push(format!("{name}:{}", items.join("+")));
        }
    };
    let amount = |amount: &crate::vocab::Amount| format!("{}/{}", amount.minor(), amount.currency());
    let modes = controls.entry_modes.unwrap_or_default();
    list("modes", modes.iter().map(|mode| format!("{:02}", mode.get())).collect());
    list("merchants", controls.merchants.iter().map(|it| format!("{}", it.acquirer.0)).collect());
    list("categories", controls.categories.iter().map(|it| format!("{:04}", it.0)).collect());
    list("denied", controls.denied_categories.iter().map(|it| format!("{:04}", it.0)).collect());
    list("countries", controls.countries.iter().map(|it| format!("{:03}", it.0)).collect());
    list("currencies", controls.currencies.iter().map(ToString::to_string).collect());
    list("most", controls.most_amount.iter().map(amount).collect());
    list("tolerance", controls.amount_tolerance.iter().map(ToString::to_string).collect());
    let rule = |rule: &super::velocity::VelocityRule| {
        let window = match rule.window {
            VelocityWindow::Day => "day".to_owned(),
            VelocityWindow::Hours(hours) => format!("{hours}h"),
        };
        let most = rule.most_payments.map(|most| format!("{most}x"));
        let parts = [Some(window), most, rule.most_amount.as_ref().map(amount)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("-")
    };
    list("velocity", controls.velocity.iter().map(rule).collect());
    list("domains", controls.domains.iter().map(|it| it.name().to_owned()).collect());
    if controls.initiation.initiators != Initiators::Unstated {
        let listed = Initiator::ALL.into_iter().filter(|it| controls.initiation.initiators.allow(*it));
        list("initiators", listed.map(|it| it.name().to_owned()).collect());
    }
    for (name, is_set) in [
        ("cryptogram", controls.cryptogram_required),
        ("expiry", controls.expiry_required),
        ("from", controls.from.is_some()),
        ("until", controls.until.is_some()),
        ("original", controls.initiation.original_required),
    ] {
        if is_set {
            set.push(name.to_owned());
        }
    }
    if set.is_empty() { "any".into() } else { set.join(",").into() }
}

/// What a registration says, in short.
fn registered(registration: &Registration) -> String {
    let Registration { requestor, version, closed, .. } = registration;
    let mut text = format!(" version={version}");
    if *closed {
        return text;
    }
    let modes = requestor.controls.entry_modes.iter().map(|mode| format!("{:02}", mode.get()));
    let domains = requestor.controls.domains.iter().map(|domain| domain.name().to_owned());
    let shares = requestor.shares_with.iter().map(|id| id.as_str().to_owned());
    let keys = requestor.wrapping_keys.iter().map(|key| key.as_str().to_owned());
    let limits = requestor.limits;
    let number = |limit: Option<u32>| limit.map(|most| most.to_string()).into_iter().collect();
    for (name, items) in [
        ("modes", modes.collect::<Vec<_>>()),
        ("domains", domains.collect()),
        ("tokens", number(limits.tokens)),
        ("per-pan", number(limits.tokens_per_pan)),
        ("per-device", number(limits.tokens_per_device)),
        ("detokenizations", number(limits.detokenizations_per_day)),
        ("shares", shares.collect()),
        ("keys", keys.collect()),
    ] {
        if !items.is_empty() {
            // Writing to a `String` cannot fail.
            let _ = write!(text, " {name}={}", items.join("+"));
        }
    }
    text
}

impl AuditedStep {
    fn issued(record: &VaultRecord) -> Self {
        let (reference, requestor) = (Some(record.reference), Some(record.requestor));
        Self { reference, requestor, ..Self::of(record.record, None, Some(record.lifecycle)) }
    }

    fn of(record: u64, before: Option<Lifecycle>, after: Option<Lifecycle>) -> Self {
        Self { record, reference: None, before, after, requestor: None, attributes: Attributes::default() }
    }
}

impl TokenEvent {
    #[must_use]
    pub fn audited(&self) -> Audited {
        let said = |more, what, steps| Audited { what, more, steps };
        let attributes = Attributes::after(&self.change);
        let one = |what, step| said(String::new(), what, vec![AuditedStep { attributes, ..step }]);
        let none = |what| said(String::new(), what, Vec::new());
        match &self.change {
            Change::Issued(record) => one("issue", AuditedStep::issued(record)),
            Change::IssuedForProof { record, .. } => one("issue-for-proof", AuditedStep::issued(record)),
            Change::Moved { record, asked, before, lifecycle } => {
                let what = match asked {
                    Move::Activate => "activate",
                    Move::Suspend(_) => "suspend",
                    Move::Resume(_) => "resume",
                    Move::Unlink => "unlink",
                };
                one(what, AuditedStep::of(*record, *before, Some(*lifecycle)))
            }
            Change::Controlled { record, before, lifecycle, .. } => {
                one("control", AuditedStep::of(*record, Some(*before), Some(*lifecycle)))
            }
            Change::Disclosed(disclosure) | Change::DisclosedAgain(disclosure) => {
                let what = match disclosure.purpose {
                    DisclosurePurpose::Dispute => "detokenize-for-dispute",
                    DisclosurePurpose::Refund => "detokenize-for-refund",
                    DisclosurePurpose::FraudInvestigation => "detokenize-for-fraud-investigation",
                    DisclosurePurpose::LegalOrder => "detokenize-for-legal-order",
                    DisclosurePurpose::CardholderService => "detokenize-for-cardholder-service",
                    DisclosurePurpose::Migration => "detokenize-for-migration",
                };
                let again = matches!(self.change, Change::DisclosedAgain(_));
                let more = if again { " repeat=yes" } else { "" };
                said(more.to_owned(), what, vec![AuditedStep::of(disclosure.record, None, None)])
            }
            Change::CryptogramMade(made) => one("make-cryptogram", AuditedStep::of(made.record, None, None)),
            Change::Consented(consent) => one("consent", AuditedStep::of(consent.record, None, None)),
            Change::KeyGiven(given) => {
                let what = if given.key.limited.is_some() { "issue-limited-key" } else { "personalise" };
                one(what, AuditedStep::of(given.key.record, None, None))
            }
            Change::Registered(registration) => {
                let what = if registration.closed { "close-requestor" } else { "register-requestor" };
                said(registered(registration), what, Vec::new())
            }
            Change::Updated { record, before, lifecycle, .. } => {
                one("update", AuditedStep::of(*record, Some(*before), Some(*lifecycle)))
            }
            Change::Card(change) => {
                let step = |token: &TokenAfter| {
                    AuditedStep::of(token.record, Some(token.before), Some(token.lifecycle))
                };
                said(String::new(), change.event.name(), change.tokens.iter().map(step).collect())
            }
            Change::Declined(None) => none("decline"),
            Change::Declined(Some(Decline { by, last4 })) => {
                said(format!(" by={} card=*{}", by.name(), last4.as_str()), "decline", Vec::new())
            }
            Change::DisclosureRefused(DisclosureRefused { record, purpose, why }) => {
                let purpose = purpose.map(|purpose| format!(" purpose={}", purpose.name()));
                let more = format!("{} because={}", purpose.unwrap_or_default(), why.name());
                let step = record.map(|record| AuditedStep::of(record, None, None));
                said(more, "refuse-detokenization", step.into_iter().collect())
            }
            Change::CodeSent { record, .. } => one("send-code", AuditedStep::of(*record, None, None)),
            Change::CodeWrong { record, lifecycle } => {
                one("wrong-code", AuditedStep::of(*record, None, Some(*lifecycle)))
            }
            Change::Proven { record, lifecycle, .. } => {
                one("prove", AuditedStep::of(*record, None, Some(*lifecycle)))
            }
            Change::Notified { .. } => none("notify"),
        }
    }
}
