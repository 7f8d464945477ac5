//! `TokenEvent`: everything that can happen in the vault, each with its cause. `layout` has its bytes.

use crate::crypto::Sealed;
use crate::stdx::clock::Wall;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Digits, Expiry, Par, Text, TokenAssuranceMethod, TokenRequestorId, WordError};

use super::consent::{Consent, ConsentId};
use super::error::ProvisioningRefusal;
use super::given_keys::KeyGiven;
use super::lifecycle::{Lifecycle, Move, TokenStatus};
use super::outbox::Receiver;
use super::own_controls::TokenControls;
use super::owners::Setter;
use super::record::VaultRecord;
use super::registry::Registration;
use super::remote::MadeCryptogram;
use super::step_up::{SentCode, StepUp};

/// A requestor's own name for one request: 1 to 64 printable characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Text<64>);

impl RequestId {
    /// Takes 1 to 64 printable ASCII characters.
    ///
    /// # Errors
    /// `Length` or `NotPrintable`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "request id";
        if bytes.is_empty() {
            let fault = crate::vocab::WordFault::Length { length: 0, least: 1, most: 64 };
            return Err(WordError { word, fault });
        }
        Text::parse(word, bytes).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The name of an issuer or an operator in the configuration.
pub type PartyName = Text<16>;

/// Who asks, and so what may be asked: request ids are each one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    Requestor(TokenRequestorId),
    /// By its name in the PAN ranges: it may speak of its own cards only.
    Issuer(PartyName),
    /// The token service provider's own people.
    Operator(PartyName),
    /// The service itself, as when something has run out.
    Service,
}

/// Who asked, for which requestor, with which request, and why: audit, idempotency and notifications are all views
/// of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub principal: Principal,
    /// The API's client that spoke for the principal, as an aggregator does for a requestor; may be empty.
    pub client: Text<32>,
    pub actor: Actor,
    /// Whose token it is about; none where it is about several, or about none.
    pub requestor: Option<TokenRequestorId>,
    pub request_id: RequestId,
    /// SHA-256 of the request as it was understood.
    pub body_digest: [u8; 32],
    pub reason_code: Reason,
    /// In the caller's words; may be empty.
    pub reason: Text<32>,
    /// The record of the token that a token request named in a card's place.
    pub source: Option<u64>,
    /// What its requestor consented by, if that was presented.
    pub consent: Option<ConsentId>,
}

impl Cause {
    /// The name of the request among all requests.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        (self.principal, self.request_id)
    }
}

/// A request, by its principal's own name for it.
pub type RequestKey = (Principal, RequestId);

macro_rules! coded {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $code,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub fn code(self) -> u8 {
                self as u8
            }

            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.code() == code)
            }

            /// The word for it outside.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }
    };
}
coded! {
    /// Whose decision it was.
    Actor {
        TokenRequestor = 1, "token-requestor";
        /// The principal passes on what the cardholder wants.
        Cardholder = 2, "cardholder";
        Issuer = 3, "issuer";
        /// The token service provider's operator.
        Operator = 4, "operator";
        /// Nobody's: the service found that it was time.
        Service = 5, "service";
    }
}

coded! {
    /// Why, as a code.
    Reason {
        Unstated = 0, "unstated";
        SuspectedFraud = 1, "suspected-fraud";
        /// The suspicion was unfounded.
        NotFraud = 2, "not-fraud";
        DeviceLost = 3, "device-lost";
        DeviceStolen = 4, "device-stolen";
        DeviceFound = 5, "device-found";
        CardLost = 6, "card-lost";
        CardStolen = 7, "card-stolen";
        CardFound = 8, "card-found";
        AccountClosed = 9, "account-closed";
        /// The card has another number or expiry date.
        CardReplaced = 10, "card-replaced";
        /// The credential was taken out of a shop or a wallet.
        CredentialDeleted = 11, "credential-deleted";
        /// Too many wrong PINs on the device.
        PinLocked = 12, "pin-locked";
        /// It has been put on its new device.
        RedigitizationComplete = 13, "redigitization-complete";
        /// What was waited for did not come in time.
        TimedOut = 14, "timed-out";
        Other = 15, "other";
    }
}

coded! {
    /// For what a card's number is wanted outside of a payment.
    DisclosurePurpose {
        Dispute = 1, "dispute";
        Refund = 2, "refund";
        FraudInvestigation = 3, "fraud-investigation";
        LegalOrder = 4, "legal-order";
        CardholderService = 5, "cardholder-service";
        /// The account goes to another provider.
        Migration = 6, "migration";
    }
}

/// A card's number was told outside of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disclosure {
    pub record: u64,
    /// Of the card that the token led to.
    pub mapping_version: u32,
    pub purpose: DisclosurePurpose,
}

coded! {
    /// Who would give no token.
    DeclinedBy {
        Issuer = 1, "issuer";
        /// By the recommendation in the request itself.
        Requestor = 2, "token-requestor";
    }
}

/// A card got no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decline {
    pub by: DeclinedBy,
    /// Of the PAN.
    pub last4: Digits<4>,
}

coded! {
    /// Why a card's number was not told.
    DisclosureRefusal {
        /// The client is not granted it.
        NotGranted = 1, "operation-not-allowed";
        /// There is none, or it is somebody else's.
        UnknownToken = 2, "unknown-token";
        NotAllowed = 3, "detokenization-not-allowed";
        Exhausted = 4, "detokenizations-exhausted";
        /// It was told under this request id, too long ago to be told again.
        TooLate = 5, "repeat-too-late";
    }
}

impl DisclosureRefusal {
    /// As its caller hears it.
    pub(super) fn refusal(self) -> ProvisioningRefusal {
        match self {
            Self::NotGranted | Self::NotAllowed => ProvisioningRefusal::DetokenizationNotAllowed,
            Self::UnknownToken => ProvisioningRefusal::UnknownToken,
            Self::Exhausted => ProvisioningRefusal::DetokenizationsExhausted,
            Self::TooLate => ProvisioningRefusal::RepeatTooLate,
        }
    }
}

/// A card's number was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisclosureRefused {
    /// Of the token that was named, also where it is somebody else's; none where there is none.
    pub record: Option<u64>,
    /// None where nobody looked: the client may not ask at all.
    pub purpose: Option<DisclosurePurpose>,
    pub why: DisclosureRefusal,
}

/// Something that happened in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEvent {
    pub cause: Cause,
    pub change: Change,
}

impl TokenEvent {
    /// Makes of a record what it is from `at` on.
    pub(super) fn alter(&self, record: &mut VaultRecord, at: Wall) -> Result<(), CannotFollow> {
        let stood = (record.lifecycle.status, record.lifecycle.suspenders);
        self.change.alter(record, Setter::from(self.cause.principal), at)?;
        if (record.lifecycle.status, record.lifecycle.suspenders) != stood {
            record.because = self.cause.reason_code;
        }
        Ok(())
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Issued(Box<VaultRecord>),
    /// A move that was asked for, and where the token stands after it: nowhere else, if it stood there already.
    Moved {
        record: u64,
        asked: Move,
        /// Where it stood; events of version 2 do not say.
        before: Option<Lifecycle>,
        lifecycle: Lifecycle,
    },
    /// Its attributes were updated.
    Updated {
        record: u64,
        before: Lifecycle,
        lifecycle: Lifecycle,
        expiry: Expiry,
        assurance: TokenAssuranceMethod,
    },
    /// It has other controls of its own.
    Controlled {
        record: u64,
        before: Lifecycle,
        lifecycle: Lifecycle,
        controls: Option<Box<TokenControls>>,
    },
    /// The card's number was told outside of a payment.
    Disclosed(Disclosure),
    /// It was told again to a repeat of that request, which counts once.
    DisclosedAgain(Disclosure),
    /// A remote cryptogram was made of a token.
    CryptogramMade(Box<MadeCryptogram>),
    /// Another requestor may have a token made for the card behind a token.
    Consented(Box<Consent>),
    /// A key of a token was given to its device.
    KeyGiven(Box<KeyGiven>),
    /// A requestor was registered, changed or closed.
    Registered(Box<Registration>),
    /// Something happened to a card.
    Card(Box<CardChange>),
    /// Issued, and not good until its cardholder has proven itself.
    IssuedForProof {
        record: Box<VaultRecord>,
        step_up: Box<StepUp>,
    },
    /// Somebody said no: there is no token. Older events do not say who, and of which card.
    Declined(Option<Decline>),
    /// A card's number was wanted outside of a payment, and not told.
    DisclosureRefused(DisclosureRefused),
    /// A code went to the cardholder.
    CodeSent {
        record: u64,
        code: SentCode,
    },
    /// A code came that was not the one; with the last try the token is deactivated.
    CodeWrong {
        record: u64,
        lifecycle: Lifecycle,
    },
    /// The cardholder has proven itself: the token is good, and says how.
    Proven {
        record: u64,
        lifecycle: Lifecycle,
        assurance: TokenAssuranceMethod,
    },
    /// A receiver was told everything up to this event.
    Notified {
        receiver: Receiver,
        up_to: u64,
    },
}

coded! {
    /// What can happen to a card.
    CardEvent {
        /// The same number with another expiry date.
        NewExpiry = 1, "new-expiry";
        /// Another number in this one's place; tokens go with it.
        NewPan = 2, "new-pan";
        Lost = 3, "lost";
        Stolen = 4, "stolen";
        /// It was lost or stolen, and is good again.
        Found = 5, "found";
        Closed = 6, "closed";
    }
}

coded! {
    /// What is known of a card besides that it has tokens.
    CardStanding {
        Lost = 1, "lost";
        /// Another number stands in its place.
        Replaced = 2, "replaced";
        Closed = 3, "closed";
    }
}

/// Something that happened to a card, and what its tokens are after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardChange {
    pub event: CardEvent,
    /// Keyed hash of the PAN that it happened to.
    pub blind_index: [u8; 16],
    /// The card to which its tokens lead from now on, where they lead to another one or another expiry.
    pub successor: Option<Successor>,
    pub tokens: Vec<TokenAfter>,
}

/// A card that takes the place of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    pub blind_index: [u8; 16],
    /// Of its PAN.
    pub last4: Digits<4>,
    pub par: Option<Par>,
}

/// One token of a card, after what happened to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenAfter {
    pub record: u64,
    pub before: Lifecycle,
    pub lifecycle: Lifecycle,
    /// The successor's card data, sealed to this token in its next mapping version.
    pub sealed: Option<Sealed>,
}

impl CardEvent {
    /// Whether a card that was lost is as any after this.
    pub(super) fn clears(self) -> bool {
        match self {
            Self::Found => true,
            Self::NewExpiry | Self::NewPan | Self::Lost | Self::Stolen | Self::Closed => false,
        }
    }

    /// How a card stands after this; none: as any.
    #[must_use]
    pub fn standing(self) -> Option<CardStanding> {
        match self {
            Self::NewExpiry | Self::Found => None,
            Self::NewPan => Some(CardStanding::Replaced),
            Self::Lost | Self::Stolen => Some(CardStanding::Lost),
            Self::Closed => Some(CardStanding::Closed),
        }
    }
}

/// A change cannot follow what came before: log and vault differ.
pub(super) type CannotFollow = &'static str;

impl Change {
    /// The one token it is about; none where it is about several, or about none.
    #[must_use]
    pub fn record(&self) -> Option<u64> {
        match self {
            Self::Issued(record) | Self::IssuedForProof { record, .. } => Some(record.record),
            Self::Moved { record, .. }
            | Self::CodeSent { record, .. }
            | Self::CodeWrong { record, .. }
            | Self::Updated { record, .. }
            | Self::Controlled { record, .. }
            | Self::Proven { record, .. } => Some(*record),
            Self::Disclosed(disclosure) | Self::DisclosedAgain(disclosure) => Some(disclosure.record),
            Self::CryptogramMade(made) => Some(made.record),
            Self::Consented(consent) => Some(consent.record),
            Self::KeyGiven(given) => Some(given.key.record),
            Self::Card(_)
            | Self::Registered(_)
            | Self::Declined(_)
            | Self::DisclosureRefused(_)
            | Self::Notified { .. } => None,
        }
    }

    /// The new token, if there is one.
    pub(super) fn issued(&self) -> Option<&VaultRecord> {
        match self {
            Self::Issued(record) | Self::IssuedForProof { record, .. } => Some(record),
            Self::Moved { .. }
            | Self::Updated { .. }
            | Self::Controlled { .. }
            | Self::Disclosed(_)
            | Self::DisclosedAgain(_)
            | Self::CryptogramMade(_)
            | Self::Consented(_)
            | Self::KeyGiven(_)
            | Self::Registered(_)
            | Self::Card(_)
            | Self::Declined(_)
            | Self::DisclosureRefused(_)
            | Self::CodeSent { .. }
            | Self::CodeWrong { .. }
            | Self::Proven { .. }
            | Self::Notified { .. } => None,
        }
    }

    /// What its caller is told though it changed something.
    pub(super) fn refusal(&self) -> Option<ProvisioningRefusal> {
        match self {
            Self::Declined(Some(Decline { by: DeclinedBy::Requestor, .. })) => {
                Some(ProvisioningRefusal::AdvisedAgainst)
            }
            Self::Declined(_) => Some(ProvisioningRefusal::DeclinedByIssuer),
            Self::DisclosureRefused(refused) => Some(refused.why.refusal()),
            Self::CodeWrong { lifecycle, .. } if lifecycle.status == TokenStatus::Deactivated => {
                Some(ProvisioningRefusal::ProofFailed)
            }
            Self::CodeWrong { .. } => Some(ProvisioningRefusal::CodeWrong),
            Self::Issued(_)
            | Self::Moved { .. }
            | Self::Updated { .. }
            | Self::Controlled { .. }
            | Self::Disclosed(_)
            | Self::DisclosedAgain(_)
            | Self::CryptogramMade(_)
            | Self::Consented(_)
            | Self::KeyGiven(_)
            | Self::Registered(_)
            | Self::Card(_)
            | Self::IssuedForProof { .. }
            | Self::CodeSent { .. }
            | Self::Proven { .. }
            | Self::Notified { .. } => None,
        }
    }

    /// Every token that it changes, new ones apart.
    pub(super) fn altered(&self) -> Vec<u64> {
        match self {
            Self::Issued(_)
            | Self::Disclosed(_)
            | Self::DisclosedAgain(_)
            | Self::Consented(_)
            | Self::Registered(_)
            | Self::IssuedForProof { .. }
            | Self::Declined(_)
            | Self::DisclosureRefused(_)
            | Self::Notified { .. } => Vec::new(),
            Self::Moved { record, .. }
            | Self::CodeSent { record, .. }
            | Self::CodeWrong { record, .. }
            | Self::Updated { record, .. }
            | Self::Controlled { record, .. }
            | Self::Proven { record, .. } => vec![*record],
            Self::CryptogramMade(made) => vec![made.record],
            Self::KeyGiven(given) => vec![given.key.record],
            Self::Card(change) => change.tokens.iter().map(|token| token.record).collect(),
        }
    }

    fn alter(&self, record: &mut VaultRecord, by: Setter, at: Wall) -> Result<(), CannotFollow> {
        match self {
            Self::Issued(_)
            | Self::Disclosed(_)
            | Self::DisclosedAgain(_)
            | Self::Consented(_)
            | Self::Registered(_)
            | Self::IssuedForProof { .. }
            | Self::Declined(_)
            | Self::DisclosureRefused(_)
            | Self::CodeSent { .. }
            | Self::Notified { .. } => Ok(()),
            Self::Moved { lifecycle, .. } | Self::CodeWrong { lifecycle, .. } => step(record, *lifecycle, at),
            Self::Proven { lifecycle, assurance, .. } => {
                (record.assurance, record.owners.assurance) = (*assurance, Setter::Issuer);
                step(record, *lifecycle, at)
            }
            Self::Updated { lifecycle, expiry, assurance, .. } => {
                // One that is as it was need not have been spoken of.
                if record.assurance != *assurance {
                    record.owners.assurance = by;
                }
                (record.expiry, record.assurance) = (*expiry, *assurance);
                step(record, *lifecycle, at)
            }
            Self::Controlled { lifecycle, controls, .. } => {
                record.owners.controls = match controls {
                    None => Setter::default(),
                    same if *same == record.own => record.owners.controls.max(by),
                    Some(_) => by,
                };
                if !sabotaged("controls-dropped") {
                    record.own.clone_from(controls);
                }
                step(record, *lifecycle, at)
            }
            Self::CryptogramMade(made) => made.alter(record),
            Self::KeyGiven(given) => given.alter(record),
            Self::Card(change) => change.alter(record, at),
        }
    }
}

impl CardChange {
    fn alter(&self, record: &mut VaultRecord, at: Wall) -> Result<(), CannotFollow> {
        let token = self.tokens.iter().find(|token| token.record == record.record);
        let token = token.ok_or("the card has no such token")?;
        if record.blind_index != self.blind_index {
            return Err("the token is not of this card");
        }
        if let (Some(successor), Some(sealed)) = (&self.successor, token.sealed)
            && !sabotaged("old-card-kept")
        {
            if successor.blind_index != record.blind_index {
                record.keep_mapping(at);
            }
            record.mapping_version =
                record.mapping_version.checked_add(1).ok_or("no mapping version is left")?;
            record.sealed = sealed;
            (record.blind_index, record.last4) = (successor.blind_index, successor.last4);
            record.par = successor.par;
        }
        step(record, token.lifecycle, at)
    }
}

/// Versions follow each other, or the record stays as it is.
fn step(record: &mut VaultRecord, lifecycle: Lifecycle, at: Wall) -> Result<(), CannotFollow> {
    if record.lifecycle == lifecycle {
        return Ok(());
    }
    if record.lifecycle.version.checked_add(1) != Some(lifecycle.version) {
        return Err("a change of status is missing before it");
    }
    (record.lifecycle, record.changed_at) = (lifecycle, at);
    if lifecycle.status != TokenStatus::Active
        && let Some(keys) = record.keys.as_mut()
    {
        keys.revoke();
    }
    Ok(())
}
