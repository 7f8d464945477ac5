//! `DomainControls` against `DomainContext`: where a token may be used (EMVCo's token domain restriction
//! controls, 4.7 and 10.7).

use crate::vocab::{
    Amount, Country, EntryMode, LinkId, MerchantCategory, MerchantId, Refusal, TokenDomain, TokenDomains,
    TokenRequestorId,
};

use super::initiation::InitiationControls;

/// Entry modes as a set: DE 22 has a hundred of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntryModes(u128);

impl EntryModes {
    #[must_use]
    pub fn with(self, mode: EntryMode) -> Self {
        Self(self.0 | 1 << mode.get().min(127))
    }

    #[must_use]
    pub fn contains(self, mode: EntryMode) -> bool {
        self.0 & (1 << mode.get().min(127)) != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = EntryMode> {
        (0..100_u8).filter_map(EntryMode::new).filter(move |mode| self.contains(*mode))
    }

    /// One bit a mode, mode 00 the lowest.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }

    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl FromIterator<EntryMode> for EntryModes {
    fn from_iter<I: IntoIterator<Item = EntryMode>>(modes: I) -> Self {
        modes.into_iter().fold(Self::default(), Self::with)
    }
}

impl std::fmt::Debug for EntryModes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..100_u8).filter(|mode| self.0 & (1 << mode) != 0)).finish()
    }
}

/// A merchant: DE 42 is unique only within its acquirer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Merchant {
    pub acquirer: LinkId,
    pub id: MerchantId,
}

impl Merchant {
    /// DE 42 is filled up with spaces on the wire, and seldom so in a configuration.
    fn is(&self, acquirer: LinkId, id: &MerchantId) -> bool {
        self.acquirer == acquirer && self.id.as_bytes().trim_ascii_end() == id.as_bytes().trim_ascii_end()
    }
}

/// Where a token may be used. It is kept with the token from the day of issue, so that a change of a requestor's
/// configuration changes no token behind its holder's back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainControls {
    /// Never empty in a checked configuration: EMVCo demands the control.
    pub entry_modes: EntryModes,
    /// The ways of paying that its requestor is registered for; none stated: any that the entry modes let.
    pub domains: TokenDomains,
    /// Empty: any merchant.
    pub merchants: Vec<Merchant>,
    /// Empty: any category.
    pub categories: Vec<MerchantCategory>,
    /// The most that one transaction may come to; another currency is then not allowed.
    pub most_amount: Option<Amount>,
    /// Whether a request without an expiry date may pass.
    pub expiry_optional: bool,
    /// Whether an amount or currency other than what the chip signed declines, or is only told to the issuer.
    pub chip_amount_binds: bool,
    /// Whether a purchase needs a cryptogram however the token was entered; a chip's entry modes need one always.
    pub cryptogram_required: bool,
    /// Who may initiate payments.
    pub initiation: InitiationControls,
}

/// What a payment says about where it takes place.
#[derive(Debug, Clone, Copy)]
pub struct DomainContext<'a> {
    pub acquirer: LinkId,
    pub merchant: Option<&'a MerchantId>,
    pub entry_mode: Option<EntryMode>,
    /// Whether a cryptogram came with it, a chip's or a remote one, or it needs none.
    pub has_cryptogram: bool,
    pub category: Option<MerchantCategory>,
    pub country: Option<Country>,
    pub amount: Option<Amount>,
}

impl DomainContext<'_> {
    pub(super) fn merchant_is_of(&self, list: &[Merchant]) -> bool {
        self.merchant.is_some_and(|id| list.iter().any(|merchant| merchant.is(self.acquirer, id)))
    }

    pub(super) fn is_in(&self, domains: TokenDomains) -> Result<(), Refusal> {
        let lies = domains.allow(self.entry_mode, self.has_cryptogram);
        lies.then_some(()).ok_or(Refusal::DomainNotAllowed)
    }

    pub(super) fn within(&self, most: Option<Amount>) -> Result<(), Refusal> {
        match (most, self.amount) {
            (None, _) => Ok(()),
            (Some(most), Some(amount))
                if amount.currency() == most.currency() && amount.minor() <= most.minor() =>
            {
                Ok(())
            }
            (Some(_), _) => Err(Refusal::AmountNotAllowed),
        }
    }
}

impl DomainControls {
    /// Whether each entry mode lies in a domain and each domain has an entry mode, where domains are stated.
    #[must_use]
    pub fn domains_agree(&self) -> bool {
        let covered = |mode: &EntryMode| self.domains.allow(Some(*mode), true);
        let used = |domain: TokenDomain| self.entry_modes.iter().any(|mode| domain.has(mode));
        self.entry_modes.iter().all(|mode| covered(&mode)) && self.domains.iter().all(used)
    }

    /// Whether the merchant may use the token: asked before the token's status is looked at, so that a stranger
    /// learns nothing of it.
    ///
    /// # Errors
    /// `MerchantNotAllowed`.
    pub fn check_caller(&self, context: &DomainContext<'_>) -> Result<(), Refusal> {
        let allowed = self.merchants.is_empty() || context.merchant_is_of(&self.merchants);
        allowed.then_some(()).ok_or(Refusal::MerchantNotAllowed)
    }

    /// Whether the token may be used in this way.
    ///
    /// # Errors
    /// `EntryModeNotAllowed`, `DomainNotAllowed`, `ChannelNotAllowed` (the merchant's category) or `AmountNotAllowed`.
    pub fn check_use(&self, context: &DomainContext<'_>) -> Result<(), Refusal> {
        if !context.entry_mode.is_some_and(|mode| self.entry_modes.contains(mode)) {
            return Err(Refusal::EntryModeNotAllowed);
        }
        context.is_in(self.domains)?;
        let category_allowed = self.categories.is_empty()
            || context.category.is_some_and(|category| self.categories.contains(&category));
        if !category_allowed {
            return Err(Refusal::ChannelNotAllowed);
        }
        context.within(self.most_amount)
    }
}

/// Whether the requestor named in the message, if one is, is the token's.
///
/// # Errors
/// `WrongRequestor`.
pub(super) fn check_requestor(
    named: Option<TokenRequestorId>,
    of_token: TokenRequestorId,
) -> Result<(), Refusal> {
    match named {
        Some(named) if named != of_token => Err(Refusal::WrongRequestor),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{Currency, TokenDomain};

    fn mode(digits: &[u8]) -> EntryMode {
        EntryMode::parse(digits).unwrap()
    }

    fn merchant(id: &[u8]) -> MerchantId {
        MerchantId::parse(id).unwrap()
    }

    fn euro(minor: u64) -> Amount {
        Amount::new(minor, Currency::parse(b"978").unwrap())
    }

    #[test]
    fn each_control_refuses_what_lies_outside() {
        let open = DomainControls {
            entry_modes: [mode(b"07"), mode(b"10")].into_iter().collect(),
            domains: TokenDomains::default(),
            merchants: vec![],
            categories: vec![],
            most_amount: None,
            expiry_optional: false,
            chip_amount_binds: true,
            cryptogram_required: false,
            initiation: InitiationControls::default(),
        };
        let shop = merchant(b"SHOP1          ");
        let other = merchant(b"SHOP2          ");
        let good = DomainContext {
            acquirer: LinkId(1),
            merchant: Some(&shop),
            entry_mode: Some(mode(b"07")),
            has_cryptogram: true,
            category: Some(MerchantCategory(5411)),
            country: None,
            amount: Some(euro(100)),
        };
        let bound = DomainControls {
            merchants: vec![Merchant { acquirer: LinkId(1), id: merchant(b"SHOP1") }],
            categories: vec![MerchantCategory(5411)],
            most_amount: Some(euro(100)),
            ..open.clone()
        };
        let tapping =
            DomainControls { domains: [TokenDomain::Proximity].into_iter().collect(), ..open.clone() };
        let in_app = DomainControls { domains: [TokenDomain::InApp].into_iter().collect(), ..open.clone() };
        let online = DomainContext { entry_mode: Some(mode(b"10")), ..good };
        let bare = DomainContext { has_cryptogram: false, ..online };
        let domain = Err(Refusal::DomainNotAllowed);
        let yen = Amount::new(1, Currency::parse(b"392").unwrap());
        let (merchant, entry) = (Err(Refusal::MerchantNotAllowed), Err(Refusal::EntryModeNotAllowed));
        let (channel, amount) = (Err(Refusal::ChannelNotAllowed), Err(Refusal::AmountNotAllowed));
        for (controls, context, expected) in [
            (&open, good, Ok(())),
            (&open, DomainContext { merchant: None, category: None, amount: None, ..good }, Ok(())),
            (&open, DomainContext { entry_mode: Some(mode(b"01")), ..good }, entry),
            (&open, DomainContext { entry_mode: None, ..good }, entry),
            (&open, bare, Ok(())),
            (&tapping, good, Ok(())),
            (&tapping, online, domain),
            (&in_app, good, domain),
            (&in_app, online, Ok(())),
            (&in_app, bare, domain),
            (&bound, good, Ok(())),
            (&bound, DomainContext { merchant: Some(&other), ..good }, merchant),
            (&bound, DomainContext { merchant: None, ..good }, merchant),
            (&bound, DomainContext { acquirer: LinkId(2), ..good }, merchant),
            (&bound, DomainContext { category: Some(MerchantCategory(7995)), ..good }, channel),
            (&bound, DomainContext { category: None, ..good }, channel),
            (&bound, DomainContext { amount: Some(euro(101)), ..good }, amount),
            (&bound, DomainContext { amount: Some(yen), ..good }, amount),
            (&bound, DomainContext { amount: None, ..good }, amount),
        ] {
            let found = controls.check_caller(&context).and_then(|()| controls.check_use(&context));
            assert_eq!(found, expected, "{context:?}");
        }
    }

    #[test]
    fn a_requestor_counts_only_when_named() {
        let id = |digits: &[u8]| TokenRequestorId::parse(digits).unwrap();
        let of_token = id(b"00000000001");
        assert_eq!(check_requestor(None, of_token), Ok(()));
        assert_eq!(check_requestor(Some(of_token), of_token), Ok(()));
        assert_eq!(check_requestor(Some(id(b"00000000002")), of_token), Err(Refusal::WrongRequestor));
    }
}
