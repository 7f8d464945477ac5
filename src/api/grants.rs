//! What there is to do on the API, and in which role it may be done. What no row allows is denied.

/// In which role a client calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A token requestor, or who acts for one.
    Wallet,
    /// Who issued the cards.
    Issuer,
    /// The token service provider's own people.
    Operator,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Wallet, Self::Issuer, Self::Operator];

    /// The word for it in configuration, document and log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wallet => "wallet",
            Self::Issuer => "issuer",
            Self::Operator => "operator",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident = $name:literal, [$($role:ident),+];)*) => {
        /// Something that a client may do. Each route does one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[$doc])* $operation,)* }

        impl Operation {
            pub const ALL: &'static [Self] = &[$(Self::$operation,)*];

            /// The word for it in configuration, document and log.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$operation => $name,)* }
            }

            /// The roles that may; every other is denied.
            #[must_use]
            pub fn roles(self) -> &'static [Role] {
                match self { $(Self::$operation => &[$(Role::$role),+],)* }
            }
        }
    };
}

operations! {
    /// A token for a card.
    IssueToken = "issue-token", [Wallet];
    /// A token for the card behind another one.
    DeriveToken = "derive-token", [Wallet];
    /// What is known of a token.
    SeeToken = "see-token", [Wallet, Issuer, Operator];
    ActivateToken = "activate-token", [Wallet, Issuer, Operator];
    SuspendToken = "suspend-token", [Wallet, Issuer, Operator];
    ResumeToken = "resume-token", [Wallet, Issuer, Operator];
    UnlinkToken = "unlink-token", [Wallet, Issuer, Operator];
    /// Another code for the cardholder.
    SendCode = "send-code", [Wallet];
    /// The code that the cardholder typed.
    ProveCardholder = "prove-cardholder", [Wallet];
    /// Its assurance method or its expiry.
    UpdateToken = "update-token", [Wallet, Issuer, Operator];
    /// Its own controls.
    ControlToken = "control-token", [Wallet, Issuer, Operator];
    /// The card's number outside of a payment; only for clients to whom it is granted by name.
    DetokenizeToken = "detokenize-token", [Wallet, Issuer, Operator];
    /// A cryptogram for one payment in an app or a shop on the net.
    MakeCryptogram = "make-cryptogram", [Wallet];
    /// Another requestor may have a token made for the card behind one, once.
    GiveConsent = "give-consent", [Wallet];
    /// The token's card key, wrapped for the device that keeps it.
    PersonaliseToken = "personalise-token", [Wallet];
    /// A key for a few payments, wrapped for a device that keeps none for long.
    IssueLimitedKey = "issue-limited-key", [Wallet];
    /// The registry of requestors.
    SetRequestor = "set-requestor", [Operator];
    CloseRequestor = "close-requestor", [Operator];
    SeeRequestor = "see-requestor", [Operator];
    ListRequestors = "list-requestors", [Operator];
    /// What happened to a card.
    ReportCard = "report-card", [Issuer, Operator];
    /// The key for which card numbers may be encrypted.
    SeeKeys = "see-keys", [Wallet, Issuer, Operator];
    /// A payment account reference.
    SeePar = "see-par", [Wallet, Issuer, Operator];
    /// The cards to which a token led.
    SeeCards = "see-cards", [Issuer, Operator];
}

impl Operation {
    /// Whether it comes with its roles; if not, a client must have it among its `operations`.
    #[must_use]
    pub fn comes_with_role(self) -> bool {
        self != Self::DetokenizeToken
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }
}
