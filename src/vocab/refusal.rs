//! `Refusal`: every reason for which this switch itself says no. A refusal is a business answer, not an error.

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:literal;)*) => {
        /// Why a request was refused here. Each dialect maps it to a response code (its `[response_codes]`
        /// table); the machine-readable name goes to log, journal and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The machine-readable name, in lower case with hyphens.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code that generic ISO 8583:1987 has for it, where a dialect says nothing else.
            #[must_use]
            pub fn default_code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

refusals! {
    // The token.
    /// In a token range, yet not in the vault.
    UnknownToken = "unknown-token", "14";
    /// Issued and never activated.
    TokenInactive = "token-inactive", "62";
    TokenSuspended = "token-suspended", "62";
    /// Unlinked for good.
    TokenDeactivated = "token-deactivated", "14";
    TokenExpired = "token-expired", "54";
    /// The expiry sent is not the token's.
    ExpiryMismatch = "expiry-mismatch", "54";
    ExpiryMissing = "expiry-missing", "54";
    /// The requestor named in the message is not the token's.
    WrongRequestor = "wrong-requestor", "57";
    EntryModeNotAllowed = "entry-mode-not-allowed", "57";
    /// Entered as in none of the token's domains, or in an app without a cryptogram.
    DomainNotAllowed = "domain-not-allowed", "57";
    MerchantNotAllowed = "merchant-not-allowed", "58";
    ChannelNotAllowed = "channel-not-allowed", "57";
    AmountNotAllowed = "amount-not-allowed", "57";
    /// The country of the payment is not among the token's.
    CountryNotAllowed = "country-not-allowed", "57";
    /// The token is not good yet, or not any more.
    OutsidePeriod = "outside-period", "57";
    /// As often used within its window as it may be.
    VelocityCountExceeded = "velocity-count-exceeded", "65";
    /// It would be used for more within its window than it may be.
    VelocityAmountExceeded = "velocity-amount-exceeded", "61";
    /// The token may not be paid with by whoever initiated this, its customer or its merchant.
    InitiatorNotAllowed = "initiator-not-allowed", "57";
    /// Its merchant initiated it, and names no payment by which the customer agreed.
    OriginalMissing = "original-missing", "57";
    /// Its merchant initiated it, and what it names was not approved there with this token, or does not stand.
    OriginalNotApproved = "original-not-approved", "57";
    /// A chip entry mode without the cryptogram's elements.
    CryptogramMissing = "cryptogram-missing", "57";
    /// No key is configured for the chip cryptograms of the token's range.
    CryptogramUnverifiable = "cryptogram-unverifiable", "57";
    CryptogramWrong = "cryptogram-wrong", "05";
    /// Its counter was used before.
    CryptogramReplayed = "cryptogram-replayed", "59";
    /// Its counter lies too far from those used before to tell whether it was.
    CounterOutOfRange = "counter-out-of-range", "59";
    /// The phone's counter lies past every limited-use key that was issued for the token.
    LimitedKeyUnknown = "limited-key-unknown", "05";
    /// The limited-use key of this counter was taken back, or younger ones took its place.
    LimitedKeyRevoked = "limited-key-revoked", "05";
    /// The time of the limited-use key is over.
    LimitedKeyExpired = "limited-key-expired", "05";
    /// A cryptogram made for one payment, which came too late.
    CryptogramExpired = "cryptogram-expired", "05";
    /// DE 4 or DE 49 is not what the chip signed, or DE 4 more than what the cryptogram was made for.
    ChipAmountDiffers = "chip-amount-differs", "57";
    /// A refund without an original, and no permission for it.
    RefundNotPermitted = "refund-not-permitted", "57";
    VaultUnavailable = "vault-unavailable", "96";

    // The message.
    FormatError = "format-error", "30";
    /// DE 35 or DE 55 names another account than DE 2.
    AccountsDisagree = "accounts-disagree", "30";
    /// Two expiry dates in one message differ.
    ExpiriesDisagree = "expiries-disagree", "30";
    UnsupportedMessage = "unsupported-message", "40";
    UnsupportedProcessing = "unsupported-processing", "40";
    PinTranslationUnavailable = "pin-translation-unavailable", "96";
    /// A MAC came for which the link has no key.
    MacKeyMissing = "mac-key-missing", "96";

    // Who asks.
    NotSignedOn = "not-signed-on", "91";
    /// DE 32 or DE 33 is not on the link's list.
    InstitutionNotAllowed = "institution-not-allowed", "58";

    // Repeats and reversals.
    AlteredDuplicate = "altered-duplicate", "94";
    /// A repeat of something reversed, or recovered without an answer.
    AnswerWithheld = "answer-withheld", "91";
    UnknownOriginal = "unknown-original", "25";
    /// Its reversal came first.
    ReversedBefore = "reversed-before", "94";
    /// DE 7 is older than repeats are remembered.
    TooOld = "too-old", "94";
    /// DE 7 is further ahead of the clock than repeats are remembered.
    DatedAhead = "dated-ahead", "30";
    /// Reversed while still in flight.
    ReversedInFlight = "reversed-in-flight", "91";

    // Forwarding.
    NoRoute = "no-route", "92";
    IssuerUnavailable = "issuer-unavailable", "91";
    IssuerTimedOut = "issuer-timed-out", "91";
    /// The issuer's connection was lost with the request on it.
    IssuerLinkLost = "issuer-link-lost", "91";
    /// The issuer's answer names the request and cannot be believed.
    IssuerAnswerInvalid = "issuer-answer-invalid", "96";
    PartialNotSupported = "partial-not-supported", "51";
    /// The identifiers are in use on the issuer's link, where they must pass unchanged.
    IdentifiersInUse = "identifiers-in-use", "91";

    // Ourselves.
    Overloaded = "overloaded", "91";
    ShuttingDown = "shutting-down", "91";
    /// Not on disk by the deadline, so not forwarded.
    NotDurableInTime = "not-durable-in-time", "96";
    /// The last scan found the PAN where the answer could not do without the element.
    LeakSuppressed = "leak-suppressed", "96";
    InternalFault = "internal-fault", "96";
}

impl Refusal {
    /// The refusal of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|refusal| refusal.name() == name)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_name(refusal.name()), Some(*refusal));
            assert_eq!(refusal.default_code().len(), 2);
        }
    }
}
