//! `TokenData`: what a message says about a token besides its number, and how it is laid out in one usage of a
//! private element: items of {2-character id, 2-digit length, value}.

use super::error::{DecodeErrorKind, EncodeErrorKind};
use super::length::decimal;
use super::reader::Reader;
use crate::stdx::wipe::WipedBytes;
use crate::vocab::{
    Digits, Expiry, Initiator, Par, RemoteCryptogram, Rrn, Text, Token, TokenAssuranceMethod, TokenLocation,
    TokenRequestorId, Verdicts, WordError, WordFault,
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
    /// Of a payment in an app or a shop on the net; only acquirers send it, and it goes no further.
    pub cryptogram: Option<RemoteCryptogram>,
    /// Who initiated the payment, where that is said.
    pub initiator: Option<Initiator>,
    /// DE 37 of the payment by which the customer agreed to what its merchant initiates.
    pub original: Option<Rrn>,
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
    Cryptogram,
    Initiator,
    Original,
}

impl TokenPart {
    pub const ALL: [Self; 13] = [
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
        Self::Cryptogram,
        Self::Initiator,
        Self::Original,
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
            Self::Cryptogram => "cryptogram",
            Self::Initiator => "initiator",
            Self::Original => "original",
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
            TokenPart::Cryptogram => self.cryptogram = Some(RemoteCryptogram::parse(value)?),
            TokenPart::Initiator => self.initiator = Some(Initiator::from_letter(value)?),
            TokenPart::Original => self.original = Some(Rrn::parse(value)?),
        }
        Ok(())
    }

    /// One part's value as messages carry it; nothing when it is not said. `place` takes those that are not kept as
    /// characters.
    pub(super) fn value<'a>(&'a self, part: TokenPart, place: &'a mut PartPlace) -> Option<&'a [u8]> {
        match part {
            TokenPart::Token => self.token.as_ref().map(Token::as_bytes),
            TokenPart::TokenExpiry => Some(put(place, self.token_expiry?.digits())),
            TokenPart::Requestor => self.requestor.as_ref().map(TokenRequestorId::as_bytes),
            TokenPart::Assurance => Some(put(place, self.assurance?.digits())),
            TokenPart::Location => Some(put(place, last_digits::<2>(u16::from(self.location?.code())))),
            TokenPart::Last4 => self.last4.as_ref().map(Digits::as_bytes),
            TokenPart::Par => self.par.as_ref().map(Par::as_bytes),
            TokenPart::Verdicts if self.verdicts.is_empty() => None,
            TokenPart::Verdicts => {
                let letters = place.iter_mut().zip(self.verdicts.letters());
                let count = letters.map(|(place, letter)| *place = letter).count();
                place.get(..count)
            }
            TokenPart::Window => Some(put(place, last_digits::<3>(self.window?))),
            TokenPart::Refusal => self.refusal.as_ref().map(Text::as_bytes),
            TokenPart::Cryptogram => Some(put(place, self.cryptogram?.text())),
            TokenPart::Initiator => Some(put(place, [self.initiator?.letter()])),
            TokenPart::Original => self.original.as_ref().map(Rrn::as_bytes),
        }
    }
}

/// Room for a part that is not kept as characters; the cryptogram is the longest, then all verdicts.
pub(super) type PartPlace = [u8; RemoteCryptogram::TEXT_LENGTH];

fn put<const N: usize>(place: &mut PartPlace, characters: [u8; N]) -> &[u8] {
    match place.first_chunk_mut() {
        Some(head) => {
            *head = characters;
            head
        }
        None => &[],
    }
}

fn last_digits<const N: usize>(number: u16) -> [u8; N] {
    let digits = decimal(usize::from(number)).map(|digit| b'0' | digit);
    digits.last_chunk().copied().unwrap_or([b'0'; N])
}

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
    let mut take = |count| reader.take(count).map_err(|short| (start, short.into()));
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
    [first, second]: [u8; 2],
    value: &[u8],
    digits: usize,
    out: &mut WipedBytes,
) -> Result<(), EncodeErrorKind> {
    let [_, hundreds, tens, ones] = length_digits(value.len(), digits)?;
    if digits == USAGE_DIGITS {
        out.extend(&[first, second, hundreds, tens, ones]);
    } else {
        out.extend(&[first, second, tens, ones]);
    }
    out.extend(value);
    Ok(())
}

/// The length of a piece, of which the last `digits` are written.
pub(super) fn length_digits(length: usize, digits: usize) -> Result<[u8; 4], EncodeErrorKind> {
    let most = if digits == USAGE_DIGITS { 999 } else { 99 };
    if length > most {
        return Err(EncodeErrorKind::Length { length, least: 0, most });
    }
    Ok(decimal(length).map(|digit| b'0' | digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::clock::Wall;
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
            cryptogram: Some(RemoteCryptogram::unsigned(Wall(0), 1, 100).unwrap()),
            initiator: Some(Initiator::Merchant),
            original: Some(Rrn::parse(b"632704815162").unwrap()),
        }
    }

    #[test]
    fn every_part_there_and_back() {
        let mut read = TokenData::default();
        for part in TokenPart::ALL {
            let mut place = PartPlace::default();
            assert_eq!(TokenData::default().value(part, &mut place), None, "{part:?}");
            read.read(part, full().value(part, &mut place).unwrap()).unwrap();
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
            (TokenPart::Initiator, "X"),
            (TokenPart::Original, "1234567890123"),
        ] {
            assert!(TokenData::default().read(part, value.as_bytes()).is_err(), "{part:?} {value}");
        }
    }

    #[test]
    fn pieces_come_in_order_and_a_fault_ends_them() {
        let mut out = WipedBytes::default();
        write_piece(*b"TK", b"0102", USAGE_DIGITS, &mut out).unwrap();
        write_piece(*b"SM", b"", USAGE_DIGITS, &mut out).unwrap();
        assert_eq!(&*out, b"TK0040102SM000");
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
