//! `DataElement`, and `Bitmap`: the set of those present, primary and secondary (ISO 8583:1987 4.3).

use std::fmt;

/// A data element by its number, 1 to 128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataElement(u8);

macro_rules! elements {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl DataElement {
            $($(#[$doc])* pub const $name: Self = Self($number);)*
        }
    };
}

elements! {
    /// Secondary bitmap; never a value of a message, the codec writes it where it is needed.
    SECONDARY_BITMAP = 1;
    /// Primary account number, or the token in its place.
    PAN = 2;
    PROCESSING_CODE = 3;
    /// Amount, transaction.
    AMOUNT = 4;
    /// Amount, settlement.
    SETTLEMENT_AMOUNT = 5;
    /// Amount, cardholder billing.
    BILLING_AMOUNT = 6;
    /// Transmission date and time.
    SENT_AT = 7;
    /// System trace audit number.
    STAN = 11;
    /// Time, local transaction.
    LOCAL_TIME = 12;
    /// Date, local transaction.
    LOCAL_DATE = 13;
    /// Date, expiration.
    EXPIRY = 14;
    /// Date, settlement.
    SETTLEMENT_DATE = 15;
    /// Merchant type.
    MERCHANT_CATEGORY = 18;
    /// Acquiring institution country code.
    COUNTRY = 19;
    /// Point of service entry mode.
    ENTRY_MODE = 22;
    /// Card (PAN) sequence number.
    SEQUENCE_NUMBER = 23;
    /// Point of service condition code.
    CONDITION = 25;
    /// Acquiring institution identification code.
    ACQUIRER = 32;
    /// Forwarding institution identification code.
    FORWARDER = 33;
    TRACK_2 = 35;
    TRACK_3 = 36;
    /// Retrieval reference number.
    RRN = 37;
    /// Authorization identification response.
    APPROVAL_CODE = 38;
    RESPONSE_CODE = 39;
    /// Card acceptor terminal identification.
    TERMINAL = 41;
    /// Card acceptor identification code.
    MERCHANT = 42;
    /// Card acceptor name and location.
    MERCHANT_NAME = 43;
    TRACK_1 = 45;
    /// Currency code, transaction.
    CURRENCY = 49;
    /// Currency code, settlement.
    SETTLEMENT_CURRENCY = 50;
    /// Personal identification number data.
    PIN_BLOCK = 52;
    /// Security related control information.
    SECURITY_CONTROL = 53;
    ADDITIONAL_AMOUNTS = 54;
    /// Data of the chip, BER-TLV.
    ICC = 55;
    /// Payment account reference, where a dialect carries it in an element of its own (EMVCo 9.1, 1987).
    PAR = 56;
    /// Private use: the usages with the token data, by default.
    TOKEN_DATA = 63;
    /// Message authentication code, when the secondary bitmap is absent.
    MAC_64 = 64;
    /// Network management information code.
    NETWORK_CODE = 70;
    /// Original data elements.
    ORIGINAL_DATA = 90;
    REPLACEMENT_AMOUNTS = 95;
    /// Message authentication code.
    MAC_128 = 128;
}

impl DataElement {
    /// The highest number that two bitmaps can say.
    pub const MOST: u8 = 128;

    /// The element of that number; `None` outside 1 to 128.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MOST { Some(Self(number)) } else { None }
    }

    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in a table of 128.
    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0.wrapping_sub(1))
    }
}

impl fmt::Display for DataElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for DataElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DE {}", self.0)
    }
}

/// A set of data elements, as its two maps are sent: the first bit of each is its highest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bitmap {
    primary: u64,
    secondary: u64,
}

/// The bit of the first element of a map.
const FIRST_BIT: u64 = 1 << 63;

impl Bitmap {
    pub const EMPTY: Self = Self { primary: 0, secondary: 0 };

    /// The elements whose bits are set in the primary and secondary map as sent.
    #[must_use]
    pub const fn from_halves(primary: u64, secondary: u64) -> Self {
        Self { primary, secondary }
    }

    /// These elements.
    #[must_use]
    pub const fn of(elements: &[DataElement]) -> Self {
        let mut bitmap = Self::EMPTY;
        let mut rest = elements;
        while let [first, tail @ ..] = rest {
            bitmap.insert(*first);
            rest = tail;
        }
        bitmap
    }

    /// Elements 1 to 64 in the first half, 65 to 128 in the second.
    #[must_use]
    pub const fn halves(self) -> [u64; 2] {
        [self.primary, self.secondary]
    }

    #[must_use]
    #[inline]
    pub const fn has(self, element: DataElement) -> bool {
        !self.and(Self::bit(element)).is_empty()
    }

    #[inline]
    pub const fn insert(&mut self, element: DataElement) {
        *self = self.or(Self::bit(element));
    }

    #[inline]
    pub const fn remove(&mut self, element: DataElement) {
        *self = self.without(Self::bit(element));
    }

    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.primary | self.secondary == 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.primary.count_ones() + self.secondary.count_ones()
    }

    /// Those in both.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self { primary: self.primary & other.primary, secondary: self.secondary & other.secondary }
    }

    /// Those in either.
    #[must_use]
    #[inline]
    pub const fn or(self, other: Self) -> Self {
        Self { primary: self.primary | other.primary, secondary: self.secondary | other.secondary }
    }

    /// Those here and not in `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self { primary: self.primary & !other.primary, secondary: self.secondary & !other.secondary }
    }

    /// Those with lower numbers than `element`.
    #[must_use]
    pub const fn before(self, element: DataElement) -> Self {
        let Self { primary, secondary } = Self::bit(element);
        if primary == 0 {
            Self { primary: self.primary, secondary: self.secondary & !(secondary | (secondary - 1)) }
        } else {
            Self { primary: self.primary & !(primary | (primary - 1)), secondary: 0 }
        }
    }

    /// `element`, if it is among them, and those with higher numbers.
    #[must_use]
    #[inline]
    pub const fn from(self, element: DataElement) -> Self {
        let Self { primary, secondary } = Self::bit(element);
        if primary == 0 {
            Self { primary: 0, secondary: self.secondary & (secondary | (secondary - 1)) }
        } else {
            Self { primary: self.primary & (primary | (primary - 1)), secondary: self.secondary }
        }
    }

    /// The one with the lowest number.
    #[must_use]
    #[inline]
    pub fn first(self) -> Option<DataElement> {
        self.iter().next()
    }

    /// The elements in the order in which a message carries them.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = DataElement> + use<> {
        Elements { bits: self.primary, before: 0, secondary: self.secondary }
    }

    #[inline]
    const fn bit(element: DataElement) -> Self {
        let index = element.0.wrapping_sub(1);
        let bit = FIRST_BIT >> (index & 63);
        if index < 64 { Self { primary: bit, secondary: 0 } } else { Self { primary: 0, secondary: bit } }
    }
}

impl FromIterator<DataElement> for Bitmap {
    fn from_iter<I: IntoIterator<Item = DataElement>>(elements: I) -> Self {
        let mut bitmap = Self::EMPTY;
        for element in elements {
            bitmap.insert(element);
        }
        bitmap
    }
}

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(DataElement::number)).finish()
    }
}

/// Elements by the bits of one half, then those of the other.
struct Elements {
    bits: u64,
    /// How many elements lie before this half.
    before: u8,
    secondary: u64,
}

impl Iterator for Elements {
    type Item = DataElement;

    #[inline]
    fn next(&mut self) -> Option<DataElement> {
        if self.bits == 0 {
            if self.secondary == 0 {
                return None;
            }
            *self = Self { bits: self.secondary, before: 64, secondary: 0 };
        }
        let place = self.bits.leading_zeros();
        self.bits ^= FIRST_BIT >> (place & 63);
        let place = u8::try_from(place).unwrap_or_default();
        Some(DataElement(self.before.wrapping_add(place).wrapping_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn de(number: u8) -> DataElement {
        DataElement::new(number).unwrap()
    }

    #[test]
    fn elements_come_in_the_order_of_the_wire() {
        let bitmap: Bitmap = [128, 2, 64, 65, 39].into_iter().map(de).collect();
        assert_eq!(bitmap.iter().map(DataElement::number).collect::<Vec<_>>(), [2, 39, 64, 65, 128]);
        assert_eq!(bitmap.halves(), [0x4000_0000_0200_0001, 0x8000_0000_0000_0001]);
        let [primary, secondary] = bitmap.halves();
        assert_eq!(Bitmap::from_halves(primary, secondary), bitmap);
    }

    #[test]
    fn sets_are_sets() {
        let mut bitmap: Bitmap = [2, 4, 70].into_iter().map(de).collect();
        assert_eq!(bitmap.before(de(4)).iter().collect::<Vec<_>>(), [de(2)]);
        assert_eq!(bitmap.before(de(1)), Bitmap::EMPTY);
        assert_eq!(bitmap.before(de(70)).iter().collect::<Vec<_>>(), [de(2), de(4)]);
        assert_eq!(bitmap.before(de(128)), bitmap);
        bitmap.remove(de(2));
        assert!(!bitmap.has(de(2)) && bitmap.has(de(70)));
        assert_eq!(bitmap.len(), 2);
        assert_eq!(DataElement::new(0), None);
        assert_eq!(DataElement::new(129), None);
    }
}
