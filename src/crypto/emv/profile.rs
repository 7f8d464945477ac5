//! `CryptogramProfile`: what a card application computes, as data. A new profile is a new row.

use super::super::cipher::{BlockCipher, Message, Padding};
use super::derive::{CardKeyMethod, SessionKeyMethod};
use crate::vocab::{ChipPayment, IssuerData};

/// How the cryptograms of one kind of card are made and answered.
#[derive(Debug, PartialEq, Eq)]
pub struct CryptogramProfile {
    /// As the configuration names it.
    pub(super) name: &'static str,
    pub(super) cipher: BlockCipher,
    pub(super) card_key: CardKeyMethod,
    pub(super) session_key: SessionKeyMethod,
    /// What follows the ten elements that all profiles sign.
    pub(super) tail: Tail,
    pub(super) padding: Padding,
    pub(super) response: ResponseMethod,
    pub(super) layout: IssuerDataLayout,
    /// Cryptogram version number, as the issuer data carry it.
    pub(super) version: u8,
    /// Card verification results of a plain online payment, for cards that are simulated here.
    pub(super) card_results: &'static [u8],
}

/// The last of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// The card verification results.
    CardResults,
    /// These, and the offline counters.
    CardResultsAndCounters,
    /// All issuer data.
    IssuerData,
}

/// How the issuer's answer is signed (EMV Book 2, 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseMethod {
    /// Method 1 under the payment's key: 8 bytes, then the response code.
    One,
    /// Method 1 under the card's key, as M/Chip does before the common session key.
    OneUnderCardKey,
    /// Method 2: 4 bytes, then the card status update.
    Two,
}

/// Where things lie in the issuer data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IssuerDataLayout {
    /// Length of the rest, key index, version, 4 bytes of results; or, for versions from 20 to 2F hex, the whole 32
    /// bytes that begin with 1F: version, key index, 5 bytes of results.
    Visa,
    /// Length of the rest, key index, version, 4 bytes of results, algorithm.
    Pboc { algorithm: u8 },
    /// Key index, version, 6 bytes of results, 2 of dynamic number, 8 of counters.
    MChip,
    /// EMV common core definitions: 32 bytes; 0F, common core identifier (which holds the version), key index, 5 bytes
    /// of results, 8 of counters, 0F, 15 of the issuer's own.
    CommonCore,
}

/// What issuer data say of the card's key and of what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IssuerDataParts<'a> {
    pub(super) version: u8,
    /// Derivation key index: which of the issuer's master keys the card's comes from.
    pub(super) key_index: u8,
    pub(super) card_results: &'a [u8],
    pub(super) counters: &'a [u8],
}

impl IssuerDataLayout {
    /// `None` for data that are not laid out so.
    pub(super) fn read(self, data: &IssuerData) -> Option<IssuerDataParts<'_>> {
        let bytes = data.as_bytes();
        let parts = |version: usize, index: usize, results: std::ops::Range<usize>| {
            Some(IssuerDataParts {
                version: *bytes.get(version)?,
                key_index: *bytes.get(index)?,
                card_results: bytes.get(results)?,
                counters: &[],
            })
        };
        match (self, bytes) {
            (Self::Visa, [0x1F, 0x20..=0x2F, ..]) if bytes.len() == 32 => parts(1, 2, 3..8),
            (Self::Visa, [6..=31, ..]) => parts(2, 1, 3..7),
            (Self::Pboc { algorithm }, [7..=31, _, _, _, _, _, _, found, ..]) if *found == algorithm => {
                parts(2, 1, 3..7)
            }
            (Self::MChip, _) => {
                let counters = bytes.get(10..18).unwrap_or_default();
                parts(1, 0, 2..8).map(|found| IssuerDataParts { counters, ..found })
            }
            (Self::CommonCore, [0x0F, ..]) if bytes.len() == 32 && bytes.get(16) == Some(&0x0F) => {
                let counters = bytes.get(8..16)?;
                parts(1, 2, 3..8).map(|found| IssuerDataParts { counters, ..found })
            }
            _ => None,
        }
    }

    /// Issuer data of a card that is simulated here.
    pub(super) fn write(self, version: u8, key_index: u8, card_results: &[u8]) -> IssuerData {
        let mut bytes = Vec::with_capacity(IssuerData::MOST);
        match self {
            Self::Visa => bytes.extend([6, key_index, version]),
            Self::Pboc { .. } => bytes.extend([7, key_index, version]),
            Self::MChip => bytes.extend([key_index, version]),
            Self::CommonCore => bytes.extend([0x0F, version, key_index]),
        }
        bytes.extend(card_results);
        match self {
            Self::Visa => {}
            Self::Pboc { algorithm } => bytes.push(algorithm),
            Self::MChip => bytes.resize(18, 0),
            Self::CommonCore => {
                bytes.resize(16, 0);
                bytes.push(0x0F);
                bytes.resize(32, 0);
            }
        }
        IssuerData::parse(&bytes).unwrap_or_default()
    }
}

const VISA: CryptogramProfile = CryptogramProfile {
    name: "visa-cvn-18",
    cipher: BlockCipher::TripleDes,
    card_key: CardKeyMethod::B,
    session_key: SessionKeyMethod::Common,
    tail: Tail::IssuerData,
    padding: Padding::Bit,
    response: ResponseMethod::Two,
    layout: IssuerDataLayout::Visa,
    version: 0x12,
    card_results: &[0x03, 0xA0, 0x00, 0x00],
};

const M_CHIP: CryptogramProfile = CryptogramProfile {
    name: "mchip-cvn-14",
    cipher: BlockCipher::TripleDes,
    card_key: CardKeyMethod::A,
    session_key: SessionKeyMethod::Common,
    tail: Tail::CardResults,
    padding: Padding::Bit,
    response: ResponseMethod::One,
    layout: IssuerDataLayout::MChip,
    version: 0x14,
    card_results: &[0xA0, 0x00, 0x03, 0x00, 0x00, 0x00],
};

const PBOC: CryptogramProfile = CryptogramProfile {
    name: "pboc-3des",
    cipher: BlockCipher::TripleDes,
    card_key: CardKeyMethod::A,
    session_key: SessionKeyMethod::Pboc,
    tail: Tail::CardResults,
    padding: Padding::Bit,
    response: ResponseMethod::One,
    layout: IssuerDataLayout::Pboc { algorithm: 0x01 },
    version: 0x01,
    card_results: &[0x03, 0xA0, 0x00, 0x00],
};

const COMMON_CORE: CryptogramProfile = CryptogramProfile {
    name: "ccd-aes",
    cipher: BlockCipher::Aes,
    card_key: CardKeyMethod::C,
    session_key: SessionKeyMethod::Common,
    tail: Tail::IssuerData,
    padding: Padding::Bit,
    response: ResponseMethod::Two,
    layout: IssuerDataLayout::CommonCore,
    version: 0xA6,
    card_results: &[0xA5, 0x00, 0x00, 0x00, 0x00],
};

impl CryptogramProfile {
    /// Every profile. Cryptogram versions are named as their schemes write them, in hexadecimal where the scheme does.
    pub const ALL: &'static [Self] = &[
        // EMV common core definitions, cryptogram versions 6 (AES) and 5 (3DES).
        COMMON_CORE,
        Self {
            name: "ccd-3des",
            cipher: BlockCipher::TripleDes,
            card_key: CardKeyMethod::B,
            version: 0xA5,
            ..COMMON_CORE
        },
        Self {
            name: "visa-cvn-10",
            card_key: CardKeyMethod::A,
            session_key: SessionKeyMethod::None,
            tail: Tail::CardResults,
            padding: Padding::Zeros,
            response: ResponseMethod::One,
            version: 0x0A,
            ..VISA
        },
        VISA,
        Self { name: "visa-cvn-22", version: 0x22, ..VISA },
        Self {
            name: "mchip-cvn-10",
            session_key: SessionKeyMethod::MChip,
            response: ResponseMethod::OneUnderCardKey,
            version: 0x10,
            ..M_CHIP
        },
        Self {
            name: "mchip-cvn-11",
            session_key: SessionKeyMethod::MChip,
            tail: Tail::CardResultsAndCounters,
            response: ResponseMethod::OneUnderCardKey,
            version: 0x11,
            ..M_CHIP
        },
        M_CHIP,
        Self { name: "mchip-cvn-15", tail: Tail::CardResultsAndCounters, version: 0x15, ..M_CHIP },
        PBOC,
        Self {
            name: "pboc-sm4",
            cipher: BlockCipher::Sm4,
            layout: IssuerDataLayout::Pboc { algorithm: 0x04 },
            ..PBOC
        },
    ];

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|profile| profile.name == name)
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its keys work with.
    #[must_use]
    pub fn cipher(&self) -> BlockCipher {
        self.cipher
    }

    /// Whether a check takes as long as all else of a payment: 4 to 5 µs with 3DES, 0.4 with AES, 1.3 with SM4.
    #[must_use]
    pub fn takes_long(&self) -> bool {
        match self.cipher {
            BlockCipher::TripleDes => true,
            BlockCipher::Aes | BlockCipher::Sm4 => false,
        }
    }

    /// What is signed: ten elements that all have (EMV Book 2, table 26), and the profile's tail.
    pub(super) fn signed(&self, chip: &ChipPayment, parts: &IssuerDataParts<'_>) -> Message {
        let mut message = Message::new();
        for piece in [
            &chip.amount[..],
            &chip.amount_other,
            &chip.country,
            &chip.terminal_results,
            &chip.currency,
            &chip.date,
            &chip.kind,
            &chip.unpredictable,
            &chip.profile,
            &chip.counter,
        ] {
            message.push(piece);
        }
        match self.tail {
            Tail::CardResults => message.push(parts.card_results),
            Tail::CardResultsAndCounters => {
                message.push(parts.card_results);
                message.push(parts.counters);
            }
            Tail::IssuerData => message.push(chip.issuer_data.as_bytes()),
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for profile in CryptogramProfile::ALL {
            assert_eq!(CryptogramProfile::named(profile.name), Some(profile));
        }
        assert_eq!(CryptogramProfile::named("visa"), None);
    }

    #[test]
    fn what_a_layout_writes_it_reads() {
        for profile in CryptogramProfile::ALL {
            let data = profile.layout.write(profile.version, 9, profile.card_results);
            let parts = profile.layout.read(&data).unwrap();
            assert_eq!((parts.version, parts.key_index), (profile.version, 9), "{}", profile.name);
            assert_eq!(parts.card_results, profile.card_results, "{}", profile.name);
        }
    }

    #[test]
    fn issuer_data_of_networks_are_read() {
        let visa = IssuerDataLayout::Visa;
        let pboc = IssuerDataLayout::Pboc { algorithm: 1 };
        let common = IssuerDataLayout::CommonCore;
        let long = format!("1F2201A000000000{}", "00".repeat(24));
        let core = format!("0FA601A500000000{}0F{}", "11".repeat(8), "00".repeat(15));
        for (layout, text, expected) in [
            (visa, "06011203A0B800", Some((0x12, 1, "03a0b800", ""))),
            (visa, &long, Some((0x22, 1, "a000000000", ""))),
            (visa, "060112", None),
            (visa, "", None),
            (pboc, "07010103A0400201", Some((1, 1, "03a04002", ""))),
            (pboc, "07010103A0400204", None),
            (
                IssuerDataLayout::MChip,
                "0114A4000300000012340102030405060708",
                Some((0x14, 1, "a40003000000", "0102030405060708")),
            ),
            (common, &core, Some((0xA6, 1, "a500000000", "1111111111111111"))),
            (common, "0FA601A500000000", None),
        ] {
            let data = IssuerData::parse(&hex::decode(text).unwrap()).unwrap();
            let found = layout.read(&data).map(|parts| {
                let (results, counters) = (hex::encode(parts.card_results), hex::encode(parts.counters));
                (parts.version, parts.key_index, results, counters)
            });
            let expected = expected.map(|(v, k, r, c)| (v, k, r.to_owned(), c.to_owned()));
            assert_eq!(found, expected, "{layout:?} {text}");
        }
    }
}
