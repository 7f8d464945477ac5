//! `TokenPlaces`: where one dialect keeps token data, as its `[token]` table says.

use std::collections::BTreeMap;

use super::bitmap::DataElement;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, FieldPath};
use super::layout::name_part;
use super::message::Message;
use super::token_data::{
    ITEM_DIGITS, PartPlace, TokenData, TokenPart, USAGE_DIGITS, length_digits, pieces, write_piece,
};
use crate::stdx::wipe::WipedBytes;

/// Where one part of the token data sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPlace {
    pub part: TokenPart,
    pub element: DataElement,
    pub inside: Inside,
}

/// How much of the element it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// All of it.
    Element,
    /// An item, by its id, of a usage, by its name.
    Item { usage: [u8; 2], id: [u8; 2] },
}

impl Inside {
    /// What stands behind the element's number in a path of the `[token]` table: nothing, or `TK.01`.
    #[must_use]
    pub fn parse(path: Option<&str>) -> Option<Self> {
        let Some(path) = path else { return Some(Self::Element) };
        let (usage, id) = path.split_once('.')?;
        let name = |text: &str| -> Option<[u8; 2]> {
            let name: [u8; 2] = text.as_bytes().try_into().ok()?;
            name.iter().all(u8::is_ascii_alphanumeric).then_some(name)
        };
        Some(Self::Item { usage: name(usage)?, id: name(id)? })
    }
}

/// All places of a dialect, those in one usage together, so that a usage is walked once.
#[derive(Debug, Clone, Default)]
pub struct TokenPlaces {
    elements: Vec<(DataElement, TokenPart)>,
    usages: Vec<Usage>,
    /// The parts that have no place.
    placeless: Vec<TokenPart>,
}

#[derive(Debug, Clone)]
struct Usage {
    element: DataElement,
    name: [u8; 2],
    items: Vec<([u8; 2], TokenPart)>,
}

impl TokenPlaces {
    /// The places as listed. Items are written in the order of their ids.
    #[must_use]
    pub fn new(places: &[TokenPlace]) -> Self {
        let mut elements = Vec::new();
        let mut usages = BTreeMap::new();
        for place in places {
            match place.inside {
                Inside::Element => elements.push((place.element, place.part)),
                Inside::Item { usage, id } => {
                    let items: &mut Vec<_> = usages.entry((place.element, usage)).or_default();
                    items.push((id, place.part));
                }
            }
        }
        let usages = usages.into_iter().map(|((element, name), mut items)| {
            items.sort_by_key(|(id, _)| *id);
            Usage { element, name, items }
        });
        let is_placed = |part: &TokenPart| places.iter().any(|place| place.part == *part);
        let placeless = TokenPart::ALL.into_iter().filter(|part| !is_placed(part)).collect();
        Self { elements, usages: usages.collect(), placeless }
    }

    /// The part that an item holds.
    #[must_use]
    pub fn part_of(&self, element: DataElement, usage: [u8; 2], id: [u8; 2]) -> Option<TokenPart> {
        self.usages.iter().find(|u| u.element == element && u.name == usage).and_then(|u| u.part(id))
    }

    pub(super) fn read(&self, message: &Message) -> Result<TokenData, DecodeError> {
        let mut data = TokenData::default();
        for (element, part) in &self.elements {
            if let Some(value) = message.get(*element) {
                data.read(*part, value).map_err(|error| message.fault(*element, error.into()))?;
            }
        }
        for usage in &self.usages {
            if let Some(value) = message.get(usage.element) {
                usage.read(value, &mut data).map_err(|(path, kind)| {
                    let error = message.fault(usage.element, kind);
                    DecodeError { path, ..error }
                })?;
            }
        }
        Ok(data)
    }

    pub(super) fn write(&self, message: &mut Message, data: &TokenData) -> Result<(), EncodeError> {
        let mut place = PartPlace::default();
        if self.placeless.iter().any(|part| data.value(*part, &mut place).is_some()) {
            return Err(EncodeError::new(FieldPath::MESSAGE, EncodeErrorKind::NoPlace));
        }
        for (element, part) in &self.elements {
            match data.value(*part, &mut place) {
                Some(value) => message.set(*element, value)?,
                None => message.remove(*element),
            }
        }
        self.usages.iter().try_for_each(|usage| usage.write(message, data))
    }
}

impl Usage {
    fn part(&self, id: [u8; 2]) -> Option<TokenPart> {
        self.items.iter().find(|(listed, _)| *listed == id).map(|(_, part)| *part)
    }

    /// Reads the usage out of an element's value. Items that the dialect does not list are passed over.
    fn read(&self, value: &[u8], data: &mut TokenData) -> Result<(), (FieldPath, DecodeErrorKind)> {
        let path = FieldPath::of(self.element);
        let mut seen = false;
        for piece in pieces(value, USAGE_DIGITS) {
            let piece = piece.map_err(|(_, kind)| (path, kind))?;
            if piece.name != self.name {
                continue;
            }
            let path = path.part(name_part(self.name));
            if seen {
                return Err((path, DecodeErrorKind::Repeated));
            }
            seen = true;
            self.read_items(piece.value, path, data)?;
        }
        Ok(())
    }

    fn read_items(
        &self,
        value: &[u8],
        path: FieldPath,
        data: &mut TokenData,
    ) -> Result<(), (FieldPath, DecodeErrorKind)> {
        let mut seen = [false; TokenPart::ALL.len()];
        for item in pieces(value, ITEM_DIGITS) {
            let item = item.map_err(|(_, kind)| (path, kind))?;
            let Some(part) = self.part(item.name) else { continue };
            let fault = |kind| (path.part(name_part(item.name)), kind);
            if let Some(seen) = seen.get_mut(part as usize)
                && std::mem::replace(seen, true)
            {
                return Err(fault(DecodeErrorKind::Repeated));
            }
            data.read(part, item.value).map_err(|error| fault(error.into()))?;
        }
        Ok(())
    }

    /// Puts the usage in the place of the one that is there, or last. When there is nothing to say it goes, and the
    /// element with it if nothing else is left.
    fn write(&self, message: &mut Message, data: &TokenData) -> Result<(), EncodeError> {
        let others = self.others(message.get(self.element).unwrap_or_default());
        let others = others.map_err(|kind| EncodeError::new(self.element, kind))?;
        message.compose(self.element, others.len() + MOST_USAGE, |out| {
            out.extend(&others);
            self.write_items(data, out)
        })
    }

    /// The other usages of the element.
    fn others(&self, value: &[u8]) -> Result<WipedBytes, EncodeErrorKind> {
        let mut others = WipedBytes::default();
        for piece in pieces(value, USAGE_DIGITS) {
            let piece = piece.map_err(|_| EncodeErrorKind::Unreadable)?;
            if piece.name != self.name {
                write_piece(piece.name, piece.value, USAGE_DIGITS, &mut others)?;
            }
        }
        Ok(others)
    }

    /// Appends the usage: its length is put in when it is known.
    fn write_items(&self, data: &TokenData, out: &mut WipedBytes) -> Result<(), EncodeErrorKind> {
        let start = out.len();
        let mut place = PartPlace::default();
        write_piece(self.name, &[], USAGE_DIGITS, out)?;
        for (id, part) in &self.items {
            if let Some(value) = data.value(*part, &mut place) {
                write_piece(*id, value, ITEM_DIGITS, out)?;
            }
        }
        match out.len() - start - USAGE_HEAD {
            0 => out.truncate(start),
            length => {
                let [_, digits @ ..] = length_digits(length, USAGE_DIGITS)?;
                let head = out.get_mut(start..).and_then(|usage| usage.first_chunk_mut::<USAGE_HEAD>());
                if let Some([_, _, places @ ..]) = head {
                    *places = digits;
                }
            }
        }
        Ok(())
    }
}

/// Name and length of a usage.
const USAGE_HEAD: usize = 2 + USAGE_DIGITS;
/// The most that a usage takes: no part is longer than the name of a refusal.
const MOST_USAGE: usize = USAGE_HEAD + TokenPart::ALL.len() * (2 + ITEM_DIGITS + 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{Mti, Par, Token};

    fn places() -> TokenPlaces {
        let at = |part, element, path| TokenPlace {
            part,
            element: DataElement::new(element).unwrap(),
            inside: Inside::parse(path).unwrap(),
        };
        TokenPlaces::new(&[
            at(TokenPart::Par, 56, None),
            at(TokenPart::Requestor, 63, Some("TK.03")),
            at(TokenPart::Token, 63, Some("TK.01")),
        ])
    }

    fn message() -> Message {
        Message::new(Mti::parse(b"0100").unwrap())
    }

    fn data() -> TokenData {
        TokenData {
            token: Some(Token::parse(b"6235290000000000013").unwrap()),
            par: Some(Par::parse(b"V0010013020315513942420893974").unwrap()),
            ..TokenData::default()
        }
    }

    #[test]
    fn token_data_is_put_beside_other_usages_and_read_back() {
        let mut message = message();
        message.set(DataElement::TOKEN_DATA, b"TK0050101xSM003abc").unwrap();
        places().write(&mut message, &data()).unwrap();
        let written = message.get(DataElement::TOKEN_DATA).unwrap();
        assert_eq!(written, b"SM003abcTK02301196235290000000000013");
        assert_eq!(message.get(DataElement::PAR).unwrap().len(), 29);
        assert_eq!(places().read(&message), Ok(data()));
        places().write(&mut message, &TokenData::default()).unwrap();
        assert_eq!(message.get(DataElement::TOKEN_DATA), Some(&b"SM003abc"[..]));
        assert!(!message.has(DataElement::PAR));
    }

    #[test]
    fn faults_name_the_item() {
        for (value, shown) in [
            (&b"TK005"[..], "63: 5 bytes are needed and 0 are left"),
            (b"TK0050301x", "63.TK.03: token requestor id: 1 characters where 11 to 11 are allowed"),
            (b"TK0040301", "63.TK: 1 bytes are needed and 0 are left"),
            (b"TK000TK000", "63.TK: there twice"),
        ] {
            let mut message = message();
            message.set(DataElement::TOKEN_DATA, value).unwrap();
            let error = places().read(&message).unwrap_err();
            assert_eq!(error.to_string(), shown, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn what_has_no_place_or_stands_in_the_way_is_refused() {
        let mut message = message();
        let window = TokenData { window: Some(1), ..TokenData::default() };
        let refused = places().write(&mut message, &window).unwrap_err();
        assert_eq!(refused.kind, EncodeErrorKind::NoPlace);
        message.set(DataElement::TOKEN_DATA, b"SM9").unwrap();
        let refused = places().write(&mut message, &data()).unwrap_err();
        assert_eq!(refused.kind, EncodeErrorKind::Unreadable);
    }

    #[test]
    fn paths_inside_an_element() {
        assert_eq!(Inside::parse(None), Some(Inside::Element));
        assert_eq!(Inside::parse(Some("TK.01")), Some(Inside::Item { usage: *b"TK", id: *b"01" }));
        for bad in ["TK", "TK.1", "TKX.01", "TK.01.02", "T-.01"] {
            assert_eq!(Inside::parse(Some(bad)), None, "{bad}");
        }
    }
}
