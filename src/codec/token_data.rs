//! `TokenData`: what a message says about a token besides its number, and how it is laid out in one usage of a
//! private element: items of {2-character id, 2-digit length, value}.

use super::error::{DecodeErrorKind, EncodeErrorKind};
use super::reader::Reader;
use crate::vocab::{
    Digits, Expiry, Par, Text, Token, TokenAssuranceMethod, TokenLocation, TokenRequestorId, Verdicts,
    WordError, WordFault,
};

/// Token data of one message; each part is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenData {
    pub token: Option<Token>,
    pub token_expiry: Option<Expiry>,
    pub requestor: Option<TokenRequestorId>,
    pub assurance: Option<TokenAssuranceMethod>,
    pub location: Option<TokenLocation>,
    /// Last four digits of the PAN, for the receipt.
    pub last4: Option<Digits<4>>,
    pub par: Option<Par>,
    /// What the TSP found; empty when it is not said.
    pub verdicts: Verdicts,
    /// Sequence of the settlement window within its date, 1 to 999.
    pub window: Option<u16>,
    /// Machine-readable name of a refusal.
    pub refusal: Option<Text<32>>,
}

/// The parts, by the names that a dialect's `[token]` table uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPart {
    Token,
    TokenExpiry,
    Requestor,
    Assurance,
    Location,
    Last4,
    Par,
    Verdicts,
    Window,
    Refusal,
}

impl TokenPart {
    pub const ALL: [Self; 10] = [
        Self::Token,
        Self::TokenExpiry,
        Self::Requestor,
        Self::Assurance,
        Self::Location,
        Self::Last4,
        Self::Par,
        Self::Verdicts,
        Self::Window,
        Self::Refusal,
    ];

    /// Its name in a dialect's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenExpiry => "token_expiry",
            Self::Requestor => "requestor",
            Self::Assurance => "assurance",
            Self::Location => "location",
            Self::Last4 => "last4",
            Self::Par => "par",
            Self::Verdicts => "verdicts",
            Self::Window => "window",
            Self::Refusal => "refusal",
        }
    }

    /// The part of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

impl TokenData {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes one part's value as messages carry it.
    pub(super) fn read(&mut self, part: TokenPart, value: &[u8]) -> Result<(), WordError> {
        match part {
            TokenPart::Token => self.token = Some(Token::parse(value)?),
            TokenPart::TokenExpiry => self.token_expiry = Some(Expiry::parse(value)?),
            TokenPart::Requestor => self.requestor = Some(TokenRequestorId::parse(value)?),
            TokenPart::Assurance => self.assurance = Some(TokenAssuranceMethod::parse(value)?),
            TokenPart::Location => self.location = Some(TokenLocation::parse(value)?),
            TokenPart::Last4 => self.last4 = Some(Digits::parse("last four", value, 4)?),
            TokenPart::Par => self.par = Some(Par::parse(value)?),
            TokenPart::Verdicts => {
                let refused = WordError { word: "verdicts", fault: WordFault::OutOfRange };
                self.verdicts = Verdicts::from_letters(value).ok_or(refused)?;
            }
            TokenPart::Window => {
                let word = "settlement window";
                let digits = Digits::<3>::parse(word, value, 3)?;
                let refused = WordError { word, fault: WordFault::OutOfRange };
                self.window = Some(digits.as_str().parse().ok().filter(|n| *n > 0).ok_or(refused)?);
            }
            TokenPart::Refusal => self.refusal = Some(Text::parse("refusal", value)?),
        }
        Ok(())
    }

    /// One part's value as messages carry it; nothing when it is not said.
    pub(super) fn value(&self, part: TokenPart) -> Option<PartValue> {
        let of = |bytes: &[u8]| Text::parse(part.name(), bytes).ok();
        match part {
            TokenPart::Token => of(self.token?.as_bytes()),
            TokenPart::TokenExpiry => of(&self.token_expiry?.digits()),
            TokenPart::Requestor => of(self.requestor?.as_bytes()),
            TokenPart::Assurance => of(&self.assurance?.digits()),
            TokenPart::Location => of(format!("{:02}", self.location?.code()).as_bytes()),
            TokenPart::Last4 => of(self.last4?.as_bytes()),
            TokenPart::Par => of(self.par?.as_bytes()),
            TokenPart::Verdicts if self.verdicts.is_empty() => None,
            TokenPart::Verdicts => of(&self.verdicts.letters()),
            TokenPart::Window => of(format!("{:03}", self.window?).as_bytes()),
            TokenPart::Refusal => of(self.refusal?.as_bytes()),
        }
    }
}

/// A part as text: none is longer than a refusal's name.
pub(super) type PartValue = Text<32>;

/// A usage of a private element, {2-character name, 3-digit length, value}, or an item inside one, with a 2-digit
/// length: the piece and the place of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) name: [u8; 2],
    pub(super) value: &'a [u8],
    pub(super) offset: usize,
}

/// How many digits announce the length of a usage.
pub(super) const USAGE_DIGITS: usize = 3;
/// How many digits announce the length of an item in a usage.
pub(super) const ITEM_DIGITS: usize = 2;

/// The pieces of `bytes` one after the other; a fault ends them.
pub(super) fn pieces(
    bytes: &[u8],
    digits: usize,
) -> impl Iterator<Item = Result<Piece<'_>, (usize, DecodeErrorKind)>> {
    let mut reader = Reader::new(bytes);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.is_empty() {
            return None;
        }
        let piece = piece(&mut reader, digits);
        failed = piece.is_err();
        Some(piece)
    })
}

fn piece<'a>(reader: &mut Reader<'a>, digits: usize) -> Result<Piece<'a>, (usize, DecodeErrorKind)> {
    let start = reader.offset();
    let mut take = |count| {
        reader
            .take(count)
            .map_err(|short| (start, DecodeErrorKind::Short { needed: short.needed, left: short.left }))
    };
    let name = take(2)?;
    let announced = take(digits)?;
    let length = announced
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0')))
        .ok_or((start, DecodeErrorKind::LengthNotANumber))?;
    let value = take(length)?;
    let name = name.try_into().map_err(|_| (start, DecodeErrorKind::LengthNotANumber))?;
    Ok(Piece { name, value, offset: start })
}

/// Appends one piece.
pub(super) fn write_piece(
    name: [u8; 2],
    value: &[u8],
    digits: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeErrorKind> {
    let most = if digits == USAGE_DIGITS { 999 } else { 99 };
    if value.len() > most {
        return Err(EncodeErrorKind::Length { length: value.len(), least: 0, most });
    }
    out.extend_from_slice(&name);
    out.extend_from_slice(format!("{:0digits$}", value.len()).as_bytes());
    out.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{Service, VerdictResult};

    /// Token data with every part.
    pub(crate) fn full() -> TokenData {
        let mut verdicts = Verdicts::default();
        verdicts.note(Service::Mapping, VerdictResult::Good);
        TokenData {
            token: Some(Token::parse(b"6235290000000000013").unwrap()),
            token_expiry: Some(Expiry::parse(b"2912").unwrap()),
            requestor: Some(TokenRequestorId::parse(b"00000000001").unwrap()),
            assurance: Some(TokenAssuranceMethod::parse(b"11").unwrap()),
            location: Some(TokenLocation::DeviceStorage),
            last4: Some(Digits::parse("last four", b"0119", 4).unwrap()),
            par: Some(Par::parse(b"V0010013020315513942420893974").unwrap()),
            verdicts,
            window: Some(7),
            refusal: Some(Text::parse("refusal", b"token-suspended").unwrap()),
        }
    }

    #[test]
    fn every_part_there_and_back() {
        let mut read = TokenData::default();
        for part in TokenPart::ALL {
            assert_eq!(TokenData::default().value(part), None, "{part:?}");
            read.read(part, full().value(part).unwrap().as_bytes()).unwrap();
            assert_eq!(TokenPart::from_name(part.name()), Some(part));
        }
        assert_eq!(read, full());
        assert!(TokenData::default().is_empty() && !read.is_empty());
    }

    #[test]
    fn values_that_say_nothing_are_refused() {
        for (part, value) in [
            (TokenPart::Window, "000"),
            (TokenPart::Window, "1"),
            (TokenPart::Location, "08"),
            (TokenPart::Verdicts, "MVX"),
            (TokenPart::Token, "62352900000"),
        ] {
            assert!(TokenData::default().read(part, value.as_bytes()).is_err(), "{part:?} {value}");
        }
    }

    #[test]
    fn pieces_come_in_order_and_a_fault_ends_them() {
        let mut out = Vec::new();
        write_piece(*b"TK", b"0102", USAGE_DIGITS, &mut out).unwrap();
        write_piece(*b"SM", b"", USAGE_DIGITS, &mut out).unwrap();
        assert_eq!(out, b"TK0040102SM000");
        let read: Vec<_> = pieces(&out, USAGE_DIGITS).map(|piece| piece.unwrap()).collect();
        assert_eq!(read[0], Piece { name: *b"TK", value: b"0102", offset: 0 });
        assert_eq!(read[1], Piece { name: *b"SM", value: b"", offset: 9 });
        for (bytes, at) in [(&b"TK004012"[..], 0), (b"TK000S", 5), (b"TK0x0", 0), (b"TK00", 0)] {
            let last = pieces(bytes, USAGE_DIGITS).last().unwrap();
            assert_eq!(last.unwrap_err().0, at, "{bytes:?}");
        }
        assert!(write_piece(*b"01", &[b'x'; 100], ITEM_DIGITS, &mut out).is_err());
    }
}
