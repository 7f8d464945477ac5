//! `Amount`: minor units and a currency, with arithmetic that cannot overflow in silence; the ISO 4217 table.

use std::fmt;

use super::text::{WordError, WordFault, exact_number};

/// Why two amounts do not combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("amounts of {0} and {1} do not add")]
    CurrenciesDiffer(Currency, Currency),
    #[error("the sum does not fit")]
    Overflow,
    #[error("more was taken away than there was")]
    Negative,
}

/// A currency by its ISO 4217 number, `n3` (DE 49).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(u16);

impl Currency {
    /// Takes three digits that stand in ISO 4217.
    ///
    /// # Errors
    /// `Length`, `NotADigit`, or `OutOfRange` for a number that is no currency.
    pub fn parse(bytes: &[u8]) -> Result<Self, WordError> {
        let word = "currency";
        let number = u16::try_from(exact_number(word, bytes, 3)?).unwrap_or(u16::MAX);
        match TABLE.binary_search_by_key(&number, |row| row.0) {
            Ok(_) => Ok(Self(number)),
            Err(_) => Err(WordError { word, fault: WordFault::OutOfRange }),
        }
    }

    /// Takes the three letters of ISO 4217.
    #[must_use]
    pub fn from_letters(letters: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == letters).map(|row| Self(row.0))
    }

    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Three digits for DE 49.
    #[must_use]
    pub fn digits(self) -> [u8; 3] {
        [self.0 / 100, self.0 / 10 % 10, self.0 % 10].map(|d| u8::try_from(d).unwrap_or_default() + b'0')
    }

    #[must_use]
    pub fn letters(self) -> &'static str {
        self.row().map_or("???", |row| row.1)
    }

    /// How many decimal digits the minor unit has.
    #[must_use]
    pub fn decimals(self) -> u32 {
        self.row().map_or(0, |row| u32::from(row.2))
    }

    fn row(self) -> Option<&'static (u16, &'static str, u8)> {
        let at = TABLE.binary_search_by_key(&self.0, |row| row.0).ok()?;
        TABLE.get(at)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letters())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letters())
    }
}

/// Money: minor units of one currency, never negative. At most 12 digits fit a message (DE 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: u64,
    currency: Currency,
}

impl Amount {
    /// The most that `n12` can say.
    pub const MOST_IN_MESSAGE: u64 = 999_999_999_999;

    #[must_use]
    pub fn new(minor: u64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Takes the 12 digits of DE 4 and a currency.
    ///
    /// # Errors
    /// `Length` or `NotADigit`.
    pub fn parse(bytes: &[u8], currency: Currency) -> Result<Self, WordError> {
        Ok(Self { minor: exact_number("amount", bytes, 12)?, currency })
    }

    #[must_use]
    pub fn minor(self) -> u64 {
        self.minor
    }

    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The 12 digits of DE 4; nines when it does not fit.
    #[must_use]
    pub fn digits(self) -> [u8; 12] {
        let mut rest = self.minor.min(Self::MOST_IN_MESSAGE);
        let mut digits = [b'0'; 12];
        for place in digits.iter_mut().rev() {
            *place += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        digits
    }

    /// Both together.
    ///
    /// # Errors
    /// `CurrenciesDiffer` or `Overflow`.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::Overflow)?;
        Ok(Self { minor, ..self })
    }

    /// What is left.
    ///
    /// # Errors
    /// `CurrenciesDiffer` or `Negative`.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.same_currency(other)?;
        let minor = self.minor.checked_sub(other.minor).ok_or(MoneyError::Negative)?;
        Ok(Self { minor, ..self })
    }

    fn same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrenciesDiffer(self.currency, other.currency))
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.currency.decimals();
        let unit = 10_u64.pow(decimals);
        let (whole, part) = (self.minor / unit, self.minor % unit);
        match usize::try_from(decimals).unwrap_or_default() {
            0 => write!(f, "{} {whole}", self.currency),
            width => write!(f, "{} {whole}.{part:0width$}", self.currency),
        }
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// ISO 4217: number, letters, decimals. Sorted by number.
#[rustfmt::skip]
static TABLE: [(u16, &str, u8); 155] = [
    (8, "ALL", 2), (12, "DZD", 2), (32, "ARS", 2), (36, "AUD", 2), (44, "BSD", 2), (48, "BHD", 3), (50, "BDT", 2),
    (51, "AMD", 2), (52, "BBD", 2), (60, "BMD", 2), (64, "BTN", 2), (68, "BOB", 2), (72, "BWP", 2), (84, "BZD", 2),
    (90, "SBD", 2), (96, "BND", 2), (104, "MMK", 2), (108, "BIF", 0), (116, "KHR", 2), (124, "CAD", 2),
    (132, "CVE", 2), (136, "KYD", 2), (144, "LKR", 2), (152, "CLP", 0), (156, "CNY", 2), (170, "COP", 2),
    (174, "KMF", 0), (188, "CRC", 2), (192, "CUP", 2), (203, "CZK", 2), (208, "DKK", 2), (214, "DOP", 2),
    (222, "SVC", 2), (230, "ETB", 2), (232, "ERN", 2), (238, "FKP", 2), (242, "FJD", 2), (262, "DJF", 0),
    (270, "GMD", 2), (292, "GIP", 2), (320, "GTQ", 2), (324, "GNF", 0), (328, "GYD", 2), (332, "HTG", 2),
    (340, "HNL", 2), (344, "HKD", 2), (348, "HUF", 2), (352, "ISK", 0), (356, "INR", 2), (360, "IDR", 2),
    (364, "IRR", 2), (368, "IQD", 3), (376, "ILS", 2), (388, "JMD", 2), (392, "JPY", 0), (398, "KZT", 2),
    (400, "JOD", 3), (404, "KES", 2), (408, "KPW", 2), (410, "KRW", 0), (414, "KWD", 3), (417, "KGS", 2),
    (418, "LAK", 2), (422, "LBP", 2), (426, "LSL", 2), (430, "LRD", 2), (434, "LYD", 3), (446, "MOP", 2),
    (454, "MWK", 2), (458, "MYR", 2), (462, "MVR", 2), (480, "MUR", 2), (484, "MXN", 2), (496, "MNT", 2),
    (498, "MDL", 2), (504, "MAD", 2), (512, "OMR", 3), (516, "NAD", 2), (524, "NPR", 2), (532, "ANG", 2),
    (533, "AWG", 2), (548, "VUV", 0), (554, "NZD", 2), (558, "NIO", 2), (566, "NGN", 2), (578, "NOK", 2),
    (586, "PKR", 2), (590, "PAB", 2), (598, "PGK", 2), (600, "PYG", 0), (604, "PEN", 2), (608, "PHP", 2),
    (634, "QAR", 2), (643, "RUB", 2), (646, "RWF", 0), (654, "SHP", 2), (682, "SAR", 2), (690, "SCR", 2),
    (702, "SGD", 2), (704, "VND", 0), (706, "SOS", 2), (710, "ZAR", 2), (728, "SSP", 2), (748, "SZL", 2),
    (752, "SEK", 2), (756, "CHF", 2), (760, "SYP", 2), (764, "THB", 2), (776, "TOP", 2), (780, "TTD", 2),
    (784, "AED", 2), (788, "TND", 3), (800, "UGX", 0), (807, "MKD", 2), (818, "EGP", 2), (826, "GBP", 2),
    (834, "TZS", 2), (840, "USD", 2), (858, "UYU", 2), (860, "UZS", 2), (882, "WST", 2), (886, "YER", 2),
    (901, "TWD", 2), (925, "SLE", 2), (928, "VES", 2), (929, "MRU", 2), (930, "STN", 2), (933, "BYN", 2),
    (934, "TMT", 2), (936, "GHS", 2), (938, "SDG", 2), (941, "RSD", 2), (943, "MZN", 2), (944, "AZN", 2),
    (946, "RON", 2), (949, "TRY", 2), (950, "XAF", 0), (951, "XCD", 2), (952, "XOF", 0), (953, "XPF", 0),
    (967, "ZMW", 2), (968, "SRD", 2), (969, "MGA", 2), (971, "AFN", 2), (972, "TJS", 2), (973, "AOA", 2),
    (975, "BGN", 2), (976, "CDF", 2), (977, "BAM", 2), (978, "EUR", 2), (980, "UAH", 2), (981, "GEL", 2),
    (985, "PLN", 2), (986, "BRL", 2), (999, "XXX", 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(minor: u64, currency: &[u8]) -> Amount {
        Amount::new(minor, Currency::parse(currency).unwrap())
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn amounts_print_with_the_decimals_of_their_currency() {
        assert_eq!(of(4_250, b"978").to_string(), "EUR 42.50");
        assert_eq!(of(5, b"392").to_string(), "JPY 5");
        assert_eq!(of(1_005, b"048").to_string(), "BHD 1.005");
    }

    #[test]
    fn arithmetic_refuses_what_has_no_answer() {
        let (euro, yen) = (of(1, b"978"), of(1, b"392"));
        assert!(matches!(euro.plus(yen), Err(MoneyError::CurrenciesDiffer(_, _))));
        assert_eq!(of(u64::MAX, b"978").plus(euro), Err(MoneyError::Overflow));
        assert_eq!(euro.minus(of(2, b"978")), Err(MoneyError::Negative));
        assert_eq!(of(7, b"978").minus(of(2, b"978")), Ok(of(5, b"978")));
    }

    #[test]
    fn twelve_digits_there_and_back() {
        let amount = Amount::parse(b"000000004250", Currency::parse(b"978").unwrap()).unwrap();
        assert_eq!((amount.minor(), amount.digits()), (4_250, *b"000000004250"));
        assert!(Amount::parse(b"+00000004250", Currency::parse(b"978").unwrap()).is_err());
        assert!(Currency::parse(b"000").is_err(), "no such currency");
    }
}
