//! Walks a dialect over bytes and gives a `Message`, or says where they are none.

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect, Plan, Shortcut};
use super::encoding::{Encoding, HEX, NOT_HEX};
use super::error::{DecodeError, DecodeErrorKind, FieldPath};
use super::frame::MOST_FRAME;
use super::message::{HEADROOM, Message, Slot};
use super::reader::Reader;
use crate::stdx::wipe::WipedBytes;
use crate::vocab::{MessageClass, MessageFunction, Mti};

/// Why a frame is no message, with what of it could be read before the fault.
#[derive(Debug)]
pub struct DecodeFailure {
    pub error: DecodeError,
    /// The message type and the elements before the fault, so that a request can be answered with a format error;
    /// `None` when the message type or the bitmap is not to be read.
    pub partial: Option<Box<Message>>,
}

impl std::fmt::Display for DecodeFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for DecodeFailure {}

/// Reads one whole message, without its frame header. All of it has to be as the dialect says; nothing is guessed.
///
/// # Errors
/// The first fault, with its path and offset, and the message as far as it could be read.
pub fn decode(dialect: &Dialect, frame: &[u8]) -> Result<Message, DecodeFailure> {
    let mut message = Message::new(Mti::of(MessageClass::NetworkManagement, MessageFunction::Request));
    match decode_into(dialect, frame, &mut message) {
        Ok(()) => Ok(message),
        Err(error) => {
            let is_readable = error.path.element().is_some() || error.is_trailing();
            Err(DecodeFailure { error, partial: is_readable.then(|| Box::new(message)) })
        }
    }
}

/// As `decode`, into a message whose place is used again: no allocation once it has been large enough.
///
/// # Errors
/// The first fault; `message` then holds what could be read before it.
pub fn decode_into(dialect: &Dialect, frame: &[u8], message: &mut Message) -> Result<(), DecodeError> {
    if frame.len() > MOST_FRAME {
        let kind = DecodeErrorKind::TooLong { length: frame.len(), most: MOST_FRAME };
        return Err(DecodeError::new(FieldPath::MESSAGE, 0, kind));
    }
    let mut reader = Reader::new(frame);
    let mti = read_mti(dialect, &mut reader)?;
    let halves = read_bitmaps(dialect.bitmap_form(), &mut reader)?;
    // Packed digits take twice their bytes, and the frame itself is kept too; EBCDIC and hex take less.
    let room = if dialect.is_canonical() { frame.len() } else { frame.len() * 3 };
    message.begin(mti, frame, room + HEADROOM);
    read_elements(dialect, &mut reader, halves, message)?;
    if reader.is_empty() {
        Ok(())
    } else {
        let kind = DecodeErrorKind::Trailing { count: reader.left() };
        Err(DecodeError::new(FieldPath::MESSAGE, reader.offset(), kind))
    }
}

fn read_mti(dialect: &Dialect, reader: &mut Reader<'_>) -> Result<Mti, DecodeError> {
    const DIGITS: usize = 4;
    let failed = |kind| DecodeError::new(FieldPath::MTI, 0, kind);
    let encoding = dialect.mti_encoding();
    let wire = reader
        .take(encoding.wire_length(Class::Numeric, DIGITS))
        .map_err(|short| failed(DecodeErrorKind::Short { needed: short.needed, left: short.left }))?;
    let mti = if encoding == Encoding::Ascii {
        Mti::parse(wire)
    } else {
        let mut digits = WipedBytes::with_capacity(DIGITS);
        encoding.expand(Class::Numeric, wire, DIGITS, &mut digits).map_err(failed)?;
        Mti::parse(&digits)
    };
    let mti = mti.map_err(|error| failed(error.into()))?;
    if mti.version != dialect.version() {
        return Err(failed(DecodeErrorKind::Version { found: mti.version, expected: dialect.version() }));
    }
    Ok(mti)
}

/// The primary map and, where its first bit says so, the secondary one; that bit is not among the elements.
fn read_bitmaps(form: BitmapForm, reader: &mut Reader<'_>) -> Result<[u64; 2], DecodeError> {
    const FIRST_BIT: u64 = 1 << 63;
    let primary = read_bitmap(form, reader)?;
    if primary & FIRST_BIT == 0 {
        return Ok([primary, 0]);
    }
    let offset = reader.offset();
    match read_bitmap(form, reader)? {
        0 => Err(DecodeError::new(FieldPath::BITMAP, offset, DecodeErrorKind::EmptySecondary)),
        secondary => Ok([primary & !FIRST_BIT, secondary]),
    }
}

fn read_bitmap(form: BitmapForm, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let offset = reader.offset();
    let failed = |kind| DecodeError::new(FieldPath::BITMAP, offset, kind);
    let length = match form {
        BitmapForm::Binary => 8,
        BitmapForm::Hex => 16,
    };
    let wire = reader
        .take(length)
        .map_err(|short| failed(DecodeErrorKind::Short { needed: short.needed, left: short.left }))?;
    if form == BitmapForm::Binary {
        return Ok(wire.iter().fold(0, |map, byte| map << 8 | u64::from(*byte)));
    }
    let (map, seen) = wire.iter().fold((0_u64, 0_u8), |(map, seen), byte| {
        let digit = HEX.get(usize::from(*byte)).copied().unwrap_or(NOT_HEX);
        (map << 4 | u64::from(digit & 0x0F), seen | digit)
    });
    if seen & 0xF0 == 0 { Ok(map) } else { Err(failed(DecodeErrorKind::NotHex)) }
}

/// Reads the elements in order; on a fault the message has those before it.
fn read_elements(
    dialect: &Dialect,
    reader: &mut Reader<'_>,
    halves: [u64; 2],
    message: &mut Message,
) -> Result<(), DecodeError> {
    let [primary, secondary] = halves;
    let present = Bitmap::from_halves(primary, secondary);
    for (half, base) in [(primary, 0), (secondary, 64)] {
        let mut bits = half;
        while bits != 0 {
            let place = bits.leading_zeros();
            bits &= !((1 << 63) >> place);
            let index = usize::try_from(place + base).unwrap_or_default();
            let before = *reader;
            if dialect.plan(index).and_then(|plan| read_shortcut(plan, index, reader, message)).is_some() {
                continue;
            }
            *reader = before;
            if let Err(fault) = read_element(dialect, index, reader, message) {
                let element = DataElement::at(place + base).unwrap_or(DataElement::SECONDARY_BITMAP);
                message.present_are(present.before(element), dialect.forms());
                let path = fault.part.map_or(element.into(), |part| FieldPath::of(element).part(part));
                return Err(DecodeError::new(path, fault.offset, fault.kind));
            }
        }
    }
    message.present_are(present, dialect.forms());
    Ok(())
}

/// Reads a value that needs nothing but to be pointed at. `None` when it needs more, or anything is wrong: then
/// `read_element` does it, or says what.
#[inline]
fn read_shortcut(plan: &Plan, index: usize, reader: &mut Reader<'_>, message: &mut Message) -> Option<()> {
    let digit = |byte: u8| {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 { Some(usize::from(digit)) } else { None }
    };
    let length = match plan.shortcut {
        Shortcut::None => return None,
        Shortcut::Fixed => usize::from(plan.most),
        Shortcut::TwoDigits => {
            let &[tens, ones] = reader.take(2).ok()? else { return None };
            digit(tens)? * 10 + digit(ones)?
        }
        Shortcut::ThreeDigits => {
            let &[hundreds, tens, ones] = reader.take(3).ok()? else { return None };
            digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?
        }
    };
    if length < usize::from(plan.least) || length > usize::from(plan.most) {
        return None;
    }
    let slot = Slot::of(reader.offset(), length)?;
    if !plan.class.admits(reader.take(length).ok()?) {
        return None;
    }
    message.place(index, slot);
    Some(())
}

/// A fault in one element: where in the frame, in which part, and what.
struct ElementFault {
    part: Option<super::error::Part>,
    offset: usize,
    kind: DecodeErrorKind,
}

fn read_element(
    dialect: &Dialect,
    index: usize,
    reader: &mut Reader<'_>,
    message: &mut Message,
) -> Result<(), ElementFault> {
    let begin = reader.offset();
    let fault = |offset, kind| ElementFault { part: None, offset, kind };
    let plan = dialect.plan(index).ok_or(fault(begin, DecodeErrorKind::UnknownElement))?;
    let length = read_length(plan, reader).map_err(|kind| fault(begin, kind))?;
    let at = reader.offset();
    let wire = reader
        .take(plan.encoding.wire_length(plan.class, length))
        .map_err(|short| fault(at, DecodeErrorKind::Short { needed: short.needed, left: short.left }))?;
    let slot = if plan.encoding.is_canonical() {
        if !plan.class.admits(wire) {
            return Err(fault(at, DecodeErrorKind::Class { expected: plan.class }));
        }
        Slot::of(at, length)
    } else {
        let arena = message.arena();
        let start = arena.len();
        plan.encoding.expand(plan.class, wire, length, arena).map_err(|kind| fault(at, kind))?;
        if !plan.class.admits(arena.get(start..).unwrap_or_default()) {
            return Err(fault(at, DecodeErrorKind::Class { expected: plan.class }));
        }
        Slot::of(start, length)
    };
    let too_long = DecodeErrorKind::TooLong { length: at + length, most: MOST_FRAME };
    let slot = slot.ok_or(fault(at, too_long))?;
    message.place(index, slot);
    if plan.has_layout { check_layout(dialect, index, at, slot, message) } else { Ok(()) }
}

#[inline]
fn read_length(plan: &Plan, reader: &mut Reader<'_>) -> Result<usize, DecodeErrorKind> {
    let (least, most) = (usize::from(plan.least), usize::from(plan.most));
    let Some(prefix) = plan.prefix else { return Ok(most) };
    let length = prefix.read(reader)?;
    if length < least || length > most {
        return Err(DecodeErrorKind::Length { length, least, most });
    }
    Ok(length)
}

fn check_layout(
    dialect: &Dialect,
    index: usize,
    at: usize,
    slot: Slot,
    message: &mut Message,
) -> Result<(), ElementFault> {
    let element = u32::try_from(index).ok().and_then(DataElement::at);
    let element = element.unwrap_or(DataElement::SECONDARY_BITMAP);
    let value = message.arena().get(slot.range()).unwrap_or_default();
    let is_in_place = usize::from(slot.at) == at;
    dialect.check_layout(element, value).map_err(|(part, inside, kind)| ElementFault {
        part,
        offset: if is_in_place { at + inside } else { at },
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;

    fn dialect(name: &str) -> Dialect {
        Dialect::shipped(name).unwrap()
    }

    /// A purchase with the usual elements, as ASCII.
    fn purchase() -> Vec<u8> {
        let mut frame = b"0100".to_vec();
        frame.extend_from_slice(b"7234048128C08000");
        frame.extend_from_slice(b"164761739001010119");
        frame.extend_from_slice(b"000000");
        frame.extend_from_slice(b"000000004250");
        frame.extend_from_slice(b"1122123456");
        frame.extend_from_slice(b"000123");
        frame.extend_from_slice(b"123456");
        frame.extend_from_slice(b"2712");
        frame.extend_from_slice(b"071");
        frame.extend_from_slice(b"00");
        frame.extend_from_slice(b"06123456");
        frame.extend_from_slice(b"374761739001010119=27122011234500000000");
        frame.extend_from_slice(b"123456789012");
        frame.extend_from_slice(b"TERM0001");
        frame.extend_from_slice(b"MERCHANT0000001");
        frame.extend_from_slice(b"978");
        frame
    }

    #[test]
    fn a_purchase_is_read_and_written_byte_for_byte() {
        let ascii = dialect("iso87-ascii");
        let frame = purchase();
        let message = decode(&ascii, &frame).unwrap();
        assert_eq!(message.stan().unwrap().unwrap().get(), 123);
        let mut out = Vec::new();
        encode(&ascii, &message, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&frame));
        let bcd = dialect("iso87-bcd");
        let mut packed = Vec::new();
        encode(&bcd, &message, &mut packed).unwrap();
        assert_eq!(decode(&bcd, &packed).unwrap(), message);
    }
}
