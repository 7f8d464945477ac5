//! What can be wrong with bytes, with a message that is to be sent, and with a dialect's file. No error ever
//! repeats the bytes that it speaks of.

use std::fmt;

use super::attribute::Class;
use super::bitmap::DataElement;
use super::reader::Shortage;
use super::tlv::Tag;
use crate::vocab::{MessageVersion, Text, WordError};

/// Where in a message: `MTI`, `bitmap`, `55.9F26`, `63.TK.01`, `90.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldPath {
    root: Root,
    parts: [Option<Part>; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Root {
    Message,
    Mti,
    Bitmap,
    Element(DataElement),
}

/// One step inside an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The n-th part of an element of fixed layout, from 1.
    Number(u8),
    /// A usage or item by its name.
    Name(Text<4>),
    /// A BER-TLV tag.
    Tag(Tag),
}

impl FieldPath {
    pub const MESSAGE: Self = Self::rooted(Root::Message);
    pub const MTI: Self = Self::rooted(Root::Mti);
    pub const BITMAP: Self = Self::rooted(Root::Bitmap);

    const fn rooted(root: Root) -> Self {
        Self { root, parts: [None; 2] }
    }

    #[must_use]
    pub const fn of(element: DataElement) -> Self {
        Self::rooted(Root::Element(element))
    }

    /// One step further in; a third step is not kept.
    #[must_use]
    pub fn part(mut self, part: Part) -> Self {
        if let Some(free) = self.parts.iter_mut().find(|p| p.is_none()) {
            *free = Some(part);
        }
        self
    }

    /// The data element that it leads into, if it does.
    #[must_use]
    pub fn element(&self) -> Option<DataElement> {
        match self.root {
            Root::Element(element) => Some(element),
            Root::Message | Root::Mti | Root::Bitmap => None,
        }
    }
}

impl From<DataElement> for FieldPath {
    fn from(element: DataElement) -> Self {
        Self::of(element)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.root {
            Root::Message => f.write_str("message")?,
            Root::Mti => f.write_str("MTI")?,
            Root::Bitmap => f.write_str("bitmap")?,
            Root::Element(element) => write!(f, "{element}")?,
        }
        for part in self.parts.iter().flatten() {
            match part {
                Part::Number(number) => write!(f, ".{number}")?,
                Part::Name(name) => write!(f, ".{name}")?,
                Part::Tag(tag) => write!(f, ".{tag}")?,
            }
        }
        Ok(())
    }
}

/// Why bytes are no message of a dialect, or a value not what its element asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    pub path: FieldPath,
    /// The byte of the message (without frame header) where it went wrong; `None` when the value was not read
    /// from a frame as it stands.
    pub offset: Option<usize>,
    pub kind: DecodeErrorKind,
}

impl DecodeError {
    pub(super) fn new(path: impl Into<FieldPath>, offset: usize, kind: DecodeErrorKind) -> Self {
        Self { path: path.into(), offset: Some(offset), kind }
    }

    /// Whether every element could be read, and only what follows them is wrong.
    pub(super) fn is_trailing(&self) -> bool {
        matches!(self.kind, DecodeErrorKind::Trailing { .. })
    }

    /// An error in a value that is no longer at a place of a frame.
    pub(super) fn in_value(path: impl Into<FieldPath>, kind: DecodeErrorKind) -> Self {
        Self { path: path.into(), offset: None, kind }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.path, self.kind),
            None => write!(f, "{}: {}", self.path, self.kind),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong at that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    #[error("{needed} bytes are needed and {left} are left")]
    Short { needed: usize, left: usize },
    #[error("{count} bytes are left over")]
    Trailing { count: usize },
    #[error("{length} bytes, and no message has more than {most}")]
    TooLong { length: usize, most: usize },
    #[error("the length is not a number")]
    LengthNotANumber,
    #[error("a length of {length} where {least} to {most} are allowed")]
    Length { length: usize, least: usize, most: usize },
    #[error("not of class {expected}")]
    Class { expected: Class },
    #[error("the padding is not what the dialect fills with")]
    Padding,
    #[error("not hexadecimal")]
    NotHex,
    #[error("a secondary bitmap without elements")]
    EmptySecondary,
    #[error("the dialect has no such element")]
    UnknownElement,
    #[error("edition {found:?} where the dialect is of {expected:?}")]
    Version { found: MessageVersion, expected: MessageVersion },
    #[error("not there")]
    Missing,
    #[error("there twice")]
    Repeated,
    #[error("nested more than {most} deep")]
    TooDeep { most: usize },
    #[error("more than {most} items")]
    TooMany { most: usize },
    #[error("not a tag or length of BER-TLV")]
    Tlv,
    #[error(transparent)]
    Word(#[from] WordError),
}

impl From<Shortage> for DecodeErrorKind {
    fn from(short: Shortage) -> Self {
        Self::Short { needed: short.needed, left: short.left }
    }
}

/// Why a message cannot be written in a dialect, or a value cannot be put into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct EncodeError {
    pub path: FieldPath,
    pub kind: EncodeErrorKind,
}

impl EncodeError {
    pub(super) fn new(path: impl Into<FieldPath>, kind: EncodeErrorKind) -> Self {
        Self { path: path.into(), kind }
    }
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeErrorKind {
    #[error("the dialect has no such element")]
    UnknownElement,
    #[error("a length of {length} where {least} to {most} are allowed")]
    Length { length: usize, least: usize, most: usize },
    #[error("not of class {expected}")]
    Class { expected: Class },
    #[error("edition {found:?} where the dialect is of {expected:?}")]
    Version { found: MessageVersion, expected: MessageVersion },
    #[error("{length} bytes, and no message has more than {most}")]
    TooLong { length: usize, most: usize },
    #[error("the dialect has no place for it")]
    NoPlace,
    #[error("what stands there already cannot be read")]
    Unreadable,
    #[error("not made up as the dialect says")]
    Layout,
}

/// One fault in a dialect's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {reason}")]
pub struct SpecError {
    pub file: String,
    /// Line in the file, from 1; 0 when the fault has no line, as something missing.
    pub line: usize,
    /// Path of the key, as `elements.35.kind`.
    pub key: String,
    pub reason: String,
}

/// Why bytes cannot be cut into frames; the connection they came on is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the length header is not a number")]
    LengthNotANumber,
    #[error("a frame of {length} bytes where {least} to {most} are allowed")]
    Length { length: usize, least: usize, most: usize },
}

/// Why a frame cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    #[error(transparent)]
    Message(E),
    #[error("a frame of {length} bytes where at most {most} are allowed")]
    TooLong { length: usize, most: usize },
    #[error("a frame header of {length} bytes where the format has {expected}")]
    Header { length: usize, expected: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_people_write_them() {
        let icc = FieldPath::of(DataElement::ICC);
        let usage = |text: &[u8]| Part::Name(Text::parse("usage", text).unwrap());
        for (path, shown) in [
            (FieldPath::MTI, "MTI"),
            (icc.part(Part::Tag(Tag::CRYPTOGRAM)), "55.9F26"),
            (FieldPath::of(DataElement::TOKEN_DATA).part(usage(b"TK")).part(usage(b"01")), "63.TK.01"),
            (FieldPath::of(DataElement::ORIGINAL_DATA).part(Part::Number(2)), "90.2"),
        ] {
            assert_eq!(path.to_string(), shown);
        }
        let error = DecodeError::new(DataElement::STAN, 17, DecodeErrorKind::Short { needed: 6, left: 2 });
        assert_eq!(error.to_string(), "11 at byte 17: 6 bytes are needed and 2 are left");
    }
}
