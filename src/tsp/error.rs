//! What the TSP says no with: `ProvisioningRefusal`, a business answer to a token requestor (a payment's is
//! `vocab::Refusal`), apart from `TspError`, a fault.

use std::time::Duration;

use crate::crypto::CryptoError;
use crate::journal::CheckpointError;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $({ $with:ident: $type:ty })? = $code:literal, $recoverable:literal, $text:literal;)*) => {
        /// Why a token requestor's request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum ProvisioningRefusal { $($(#[$doc])* #[error($text)] $name $({ $with: $type })?,)* }

        impl ProvisioningRefusal {
            /// Each once, without a time where one has a time.
            pub const ALL: &'static [Self] = &[$(Self::$name $({ $with: <$type>::ZERO })?,)*];

            /// The machine-readable code, in lower case with hyphens.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name { .. } => $code,)* }
            }

            /// Whether the same request, under the same id, may succeed later: no refusal is remembered but those by
            /// the issuer and of a wrong code, and so it may wherever the vault may stand otherwise by then. Not where
            /// only another request helps, or another configuration.
            #[must_use]
            pub fn recoverable(self) -> bool {
                match self { $(Self::$name { .. } => $recoverable,)* }
            }
        }
    };
}

refusals! {
    /// Also for a token of somebody else: the two are not to be told apart.
    UnknownToken = "unknown-token", false, "no such token";
    UnknownRequestor = "unknown-requestor", true, "no such token requestor";
    /// Its status does not allow what was asked.
    StatusDoesNotAllow = "status-does-not-allow", true, "the token's status does not allow this";
    /// Each suspends in its own name and lifts only its own suspension.
    NotYours = "not-yours", false, "this suspension is somebody else's to set and to lift";
    /// An issuer or an operator set them: who stands below leaves them as they are.
    ControlsNotYours = "controls-not-yours", true, "these controls were set by the issuer or the operator";
    /// The cardholder has proven itself, or the issuer or an operator said how it was identified.
    AssuranceNotYours = "assurance-not-yours", false, "the assurance method was set by the issuer or the operator";
    /// Its expiry date is past: until that is renewed, it can only be unlinked.
    TokenExpired = "token-expired", true, "the token has expired";
    /// The token was changed since the version that the request names.
    VersionDiffers = "version-differs", false, "the token has another version";
    /// No JWE, or not encrypted as it must be.
    EncryptionNotValid = "encryption-not-valid", false, "must be a JWE by ECDH-ES on P-256 and A256GCM";
    EncryptionKeyUnknown = "encryption-key-unknown", false, "the key it was encrypted for is not in use";
    /// Altered, or with something else in it: one answer for all, which tells nobody of the text.
    EncryptionNotOpened = "encryption-not-opened", false, "it does not open, or holds no card number";
    CardNotValid = "card-not-valid", false, "the card number is not valid";
    /// Its BIN is in no range that this TSP serves.
    CardNotEligible = "card-not-eligible", false, "cards of this range get no tokens here";
    /// No token that this caller may know of leads to the card.
    UnknownCard = "unknown-card", true, "no such card with tokens";
    /// It is lost, closed, or replaced by another one.
    CardBlocked = "card-blocked", true, "the card is lost, closed or replaced";
    /// All tokens of one card have one PAR: with another card's tokens the account cannot keep its own.
    ParDiffers = "par-differs", false, "the new card's tokens have another payment account reference";
    CardExpired = "card-expired", false, "the card has expired";
    AssuranceNotAllowed = "assurance-not-allowed", true, "this assurance method may not be claimed";
    /// By the request's own recommendation, and not by the issuer.
    AdvisedAgainst = "advised-against", false, "the request's own recommendation is to give no token";
    DeclinedByIssuer = "declined-by-issuer", false, "the issuer gives no token for this card";
    /// Nothing is decided: the same request asks it again.
    NoAnswerFromIssuer = "no-answer-from-issuer", true, "the issuer has not answered";
    /// The token does not wait for its cardholder's proof.
    NothingToProve = "nothing-to-prove", false, "this token waits for no proof";
    /// Its cardholder has proven itself, which is being written down.
    ProofInFlight = "proof-in-flight", true, "the cardholder's proof is still being written down";
    UnknownContact = "unknown-contact", false, "there is no such contact";
    CodesExhausted = "codes-exhausted", false, "no more codes are sent for this token";
    /// For the card, whichever its tokens: until then no code is sent, and none is tried.
    CardCodesExhausted { wait: Duration } = "card-codes-exhausted", true,
        "there were too many codes or wrong codes for this card: possible again in {wait:?}";
    /// None was sent, or its time is over: another can be asked for.
    NoCode = "no-code", true, "no code is good at present";
    CodeWrong = "code-wrong", false, "this is not the code that was sent";
    /// The last try was wrong, too: the token is deactivated.
    ProofFailed = "proof-failed", false, "too many wrong codes: the token is deactivated";
    /// Its requestor's registration gives no number of detokenizations a day.
    DetokenizationNotAllowed = "detokenization-not-allowed", true, "card numbers of this requestor's tokens are not told";
    DetokenizationsExhausted = "detokenizations-exhausted", true, "no more card numbers of this requestor's tokens are told today";
    /// What it told is not told for ever.
    RepeatTooLate = "repeat-too-late", false, "the first answer to this request id is too long ago: ask under a new one";
    /// The same request id came with another body.
    RequestIdReused = "request-id-reused", false, "this request id was used for a different request";
    /// The same request is being worked on.
    RequestInFlight = "request-in-flight", true, "the first request with this id is still being processed";
    /// About 70 per cent of the range is in use.
    TokenRangeFull = "token-range-full", false, "no token is left in the range of this product";
    /// A list too long, a period that is empty, or a rule without a limit.
    ControlsNotValid = "controls-not-valid", false, "these controls cannot be kept to";
    /// More than `amount_tolerance` lets any token.
    ToleranceTooLarge = "tolerance-too-large", false, "no token may exceed what the chip signed by so much";
    /// Its id has another TSP's code.
    RequestorNotOurs = "requestor-not-ours", false, "the id does not begin with this token service provider's code";
    /// It has as many tokens as its registration allows.
    RequestorFull = "requestor-full", true, "the token requestor has as many tokens as it may have";
    /// Its requestor is not registered for this way of paying.
    DomainNotAllowed = "domain-not-allowed", true, "the token requestor is not registered for this domain";
    LocationNotAllowed = "location-not-allowed", true, "the token requestor may not keep tokens there";
    TooManyTokensOfCard = "too-many-tokens-of-card", true, "the card has as many tokens as it may have";
    TooManyTokensOnDevice = "too-many-tokens-on-device", true, "the device holds as many tokens as it may hold";
    /// `capacity` or `control_sets` is reached.
    VaultFull = "vault-full", true, "the vault is full";
    /// Its amount has more than twelve digits.
    AmountNotValid = "amount-not-valid", false, "no payment can come to this amount";
    /// As many were made of it as can be told apart.
    CryptogramsExhausted = "cryptograms-exhausted", false, "no more cryptograms are made of this token";
    /// Its range has no cryptograms.
    NoKeysToGive = "no-keys-to-give", false, "tokens of this range have no keys";
    /// A token's keys leave for its first device's key only.
    DeviceDiffers = "device-differs", false, "the token's keys were given to another device's key";
    /// Its requestor has registered for which keys they leave, and this is another one.
    KeyNotRegistered = "key-not-registered", true, "the token requestor has registered other keys for this";
    /// Once personalised it gets no limited-use keys, and the other way round.
    OtherKeysGiven = "other-keys-given", false, "the token pays with keys of the other kind";
    /// Its counter has no values left.
    LimitedKeysExhausted = "limited-keys-exhausted", false, "no more limited-use keys are made of this token";
    Overloaded = "overloaded", true, "too many requests are waiting";
    /// The vault, its log or its keys cannot be used.
    Unavailable = "unavailable", true, "the vault is not available";
}

/// The TSP itself failed: the vault's data, keys or log are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum TspError {
    #[error("{0}")]
    Config(#[from] super::config::ConfigFault),
    #[error("token event of entry {entry}: {reason}")]
    Event { entry: u64, reason: &'static str },
    #[error("checkpoint part {part}: {reason}")]
    Checkpoint { part: &'static str, reason: &'static str },
    #[error("record {record} does not open: it was altered, swapped or sealed under another key")]
    Envelope { record: u64 },
    #[error(transparent)]
    Store(#[from] CheckpointError),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    #[error("the vault's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}
