//! `Layout`: what stands inside a composite element (DE 43, 54, 55, 63, 90, 95).

use super::attribute::{Attribute, Class};
use super::dialect::Sensitive;
use super::error::{DecodeErrorKind, Part};
use super::tlv::{are_plain, walk};
use super::token_data::{USAGE_DIGITS, pieces};
use crate::vocab::Text;

/// How a value is made up.
#[derive(Debug, Clone, Default)]
pub enum Layout {
    /// It is one value.
    #[default]
    Plain,
    /// Parts of fixed length, one after the other.
    Parts(Vec<PartSpec>),
    /// The same parts, repeated.
    Groups(Vec<PartSpec>),
    /// Usages of {2-character name, 3-digit length, value}.
    Usages(Vec<UsageSpec>),
    /// BER-TLV.
    Tlv,
}

/// A part of fixed length.
#[derive(Debug, Clone)]
pub struct PartSpec {
    pub name: String,
    pub attribute: Attribute,
    pub sensitive: Sensitive,
}

/// A usage that somebody has described.
#[derive(Debug, Clone)]
pub struct UsageSpec {
    pub id: [u8; 2],
    pub name: String,
}

/// A fault inside a value: the part, how far into the value, and what is wrong.
type Fault = (Option<Part>, usize, DecodeErrorKind);

impl Layout {
    /// Whether there is more to check than that the value consists of characters of `class`: parts of the very same
    /// class add nothing to that.
    pub(super) fn needs_check(&self, class: Class) -> bool {
        match self {
            Self::Plain => false,
            Self::Parts(parts) => parts.iter().any(|part| part.attribute.class != class),
            Self::Groups(_) | Self::Usages(_) | Self::Tlv => true,
        }
    }

    /// Whether `value` is made up so.
    pub(super) fn check(&self, value: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Plain => Ok(()),
            Self::Parts(parts) => {
                let length = length_of(parts);
                if value.len() != length {
                    let kind = DecodeErrorKind::Length { length: value.len(), least: length, most: length };
                    return Err((None, 0, kind));
                }
                check_parts(parts, value, 0)
            }
            Self::Groups(parts) => check_groups(parts, value),
            Self::Usages(_) => {
                for piece in pieces(value, USAGE_DIGITS) {
                    piece.map_err(|(offset, kind)| (None, offset, kind))?;
                }
                Ok(())
            }
            Self::Tlv if are_plain(value) => Ok(()),
            Self::Tlv => walk(value, &mut |_| Ok(()))
                .map_err(|fault| (fault.tag.map(Part::Tag), fault.offset, fault.kind)),
        }
    }
}

/// How many characters the parts take together.
pub(super) fn length_of(parts: &[PartSpec]) -> usize {
    parts.iter().map(|part| usize::from(part.attribute.most())).sum()
}

/// The parts with their values, as far as the value goes.
pub(super) fn split<'a, 'v>(
    parts: &'a [PartSpec],
    value: &'v [u8],
) -> impl Iterator<Item = (&'a PartSpec, &'v [u8])> {
    let mut rest = value;
    parts.iter().map_while(move |part| {
        let (taken, left) = rest.split_at_checked(usize::from(part.attribute.most()))?;
        rest = left;
        Some((part, taken))
    })
}

fn check_groups(parts: &[PartSpec], value: &[u8]) -> Result<(), Fault> {
    let length = length_of(parts).max(1);
    for (number, group) in value.chunks(length).enumerate() {
        let offset = number * length;
        if group.len() != length {
            return Err((None, offset, DecodeErrorKind::Short { needed: length, left: group.len() }));
        }
        check_parts(parts, group, offset)?;
    }
    Ok(())
}

fn check_parts(parts: &[PartSpec], value: &[u8], offset: usize) -> Result<(), Fault> {
    let mut at = offset;
    for (number, (part, value)) in (1_u8..).zip(split(parts, value)) {
        if !part.attribute.class.admits(value) {
            let kind = DecodeErrorKind::Class { expected: part.attribute.class };
            return Err((Some(Part::Number(number)), at, kind));
        }
        at += value.len();
    }
    Ok(())
}

/// A usage's or item's name as a step of a path; bytes that cannot be shown are left out.
pub(super) fn name_part(name: [u8; 2]) -> Part {
    Part::Name(Text::parse("usage", &name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, attribute: &str) -> PartSpec {
        let attribute = Attribute::parse(attribute).unwrap();
        PartSpec { name: name.to_owned(), attribute, sensitive: Sensitive::No }
    }

    #[test]
    fn layouts_find_what_does_not_belong() {
        let amounts = || vec![part("type", "n 2"), part("amount", "x+n 4")];
        for (layout, value, fault) in [
            (Layout::Parts(amounts()), &b"02C0012"[..], None),
            (Layout::Parts(amounts()), b"02X0012", Some((2, "x+n"))),
            (Layout::Groups(amounts()), b"02C001203D0099", None),
            (Layout::Groups(amounts()), b"02C0012x3D0099", Some((7, "n"))),
            (Layout::Usages(Vec::new()), b"TK003abcSM000", None),
        ] {
            let found = layout.check(value).err().map(|(_, at, kind)| match kind {
                DecodeErrorKind::Class { expected } => (at, expected.notation()),
                _ => (at, "?"),
            });
            assert_eq!(found, fault, "{}", String::from_utf8_lossy(value));
        }
        for (layout, value) in [
            (Layout::Parts(amounts()), &b"02C001"[..]),
            (Layout::Parts(amounts()), b"02C00120"),
            (Layout::Groups(amounts()), b"02C001203"),
            (Layout::Usages(Vec::new()), b"TK00"),
            (Layout::Tlv, b"\x9F"),
        ] {
            assert!(layout.check(value).is_err(), "{value:?}");
        }
    }
}
