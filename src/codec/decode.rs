//! Walks a dialect over bytes and gives a `Message`, or says where they are none.

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect};
use super::error::{DecodeError, DecodeErrorKind, FieldPath, Part};
use super::frame::MOST_FRAME;
use super::message::{HEADROOM, Message, Slot};
use super::reader::Reader;
use super::runs;
use super::words::from_hex;
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
    let present = read_bitmaps(dialect.bitmap_form(), &mut reader)?;
    // Packed digits take twice their bytes, and the frame itself is kept too; EBCDIC and hex take less.
    let room = if dialect.is_canonical() { frame.len() } else { frame.len() * 3 } + HEADROOM;
    message.begin(mti, frame, room);
    if runs::read(dialect, reader, present, message).is_some() {
        message.present_are(present, dialect);
        message.is_whole(dialect);
        return Ok(());
    }
    message.begin(mti, frame, room);
    read_elements(dialect, reader, present, message)
}

fn read_mti(dialect: &Dialect, reader: &mut Reader<'_>) -> Result<Mti, DecodeError> {
    let failed = |kind| DecodeError::new(FieldPath::MTI, 0, kind);
    let encoding = dialect.mti_encoding();
    let mut digits = [0; 4];
    let wire = reader.take(encoding.wire_length(Class::Numeric, digits.len()));
    let wire = wire.map_err(|short| failed(short.into()))?;
    encoding.expand(Class::Numeric, wire, &mut digits).map_err(failed)?;
    let mti = Mti::parse(&digits).map_err(|error| failed(error.into()))?;
    if mti.version != dialect.version() {
        return Err(failed(DecodeErrorKind::Version { found: mti.version, expected: dialect.version() }));
    }
    Ok(mti)
}

/// The primary map and, where its first bit says so, the secondary one; that bit is not among the elements.
fn read_bitmaps(form: BitmapForm, reader: &mut Reader<'_>) -> Result<Bitmap, DecodeError> {
    const FIRST_BIT: u64 = 1 << 63;
    let primary = read_bitmap(form, reader)?;
    if primary & FIRST_BIT == 0 {
        return Ok(Bitmap::from_halves(primary, 0));
    }
    let offset = reader.offset();
    match read_bitmap(form, reader)? {
        0 => Err(DecodeError::new(FieldPath::BITMAP, offset, DecodeErrorKind::EmptySecondary)),
        secondary => Ok(Bitmap::from_halves(primary & !FIRST_BIT, secondary)),
    }
}

fn read_bitmap(form: BitmapForm, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let offset = reader.offset();
    let failed = |kind| DecodeError::new(FieldPath::BITMAP, offset, kind);
    match form {
        BitmapForm::Binary => {
            let bytes = reader.chunk::<8>().map_err(|short| failed(short.into()))?;
            Ok(u64::from_be_bytes(*bytes))
        }
        BitmapForm::Hex => {
            let characters = reader.chunk::<16>().map_err(|short| failed(short.into()))?;
            from_hex(characters).ok_or(failed(DecodeErrorKind::NotHex))
        }
    }
}

/// Reads the elements in order, up to the very end; on a fault the message has those before it.
fn read_elements(
    dialect: &Dialect,
    mut reader: Reader<'_>,
    present: Bitmap,
    message: &mut Message,
) -> Result<(), DecodeError> {
    for element in present.iter() {
        message.starts_at(element, reader.offset());
        if let Err(fault) = read_element(dialect, element, &mut reader, message) {
            message.present_are(present.before(element), dialect);
            let path = fault.part.map_or(element.into(), |part| FieldPath::of(element).part(part));
            return Err(DecodeError::new(path, fault.offset, fault.kind));
        }
    }
    message.present_are(present, dialect);
    if reader.is_empty() {
        message.is_whole(dialect);
        return Ok(());
    }
    let kind = DecodeErrorKind::Trailing { count: reader.left() };
    Err(DecodeError::new(FieldPath::MESSAGE, reader.offset(), kind))
}

/// A fault in one element: where in the frame, in which part, and what.
pub(super) struct ElementFault {
    part: Option<Part>,
    offset: usize,
    kind: DecodeErrorKind,
}

/// Reads one element with all its checks, each at its place.
pub(super) fn read_element(
    dialect: &Dialect,
    element: DataElement,
    reader: &mut Reader<'_>,
    message: &mut Message,
) -> Result<(), ElementFault> {
    let begin = reader.offset();
    let fault = |offset, kind| ElementFault { part: None, offset, kind };
    let plan = dialect.plan(element).ok_or(fault(begin, DecodeErrorKind::UnknownElement))?;
    let length = plan.read_length(reader).map_err(|kind| fault(begin, kind))?;
    let at = reader.offset();
    let wire = reader
        .take(plan.encoding.wire_length(plan.class, length))
        .map_err(|short| fault(at, short.into()))?;
    let arena = message.arena();
    let start = if plan.encoding.is_canonical() {
        at
    } else {
        let start = arena.len();
        arena.extend_zeros(length);
        let place = arena.get_mut(start..).unwrap_or_default();
        plan.encoding.expand(plan.class, wire, place).map_err(|kind| fault(at, kind))?;
        start
    };
    let too_long = DecodeErrorKind::TooLong { length: start + length, most: MOST_FRAME };
    let slot = Slot::of(start, length).ok_or(fault(at, too_long))?;
    let value = message.bytes(slot.range());
    if !plan.class.admits(value) {
        return Err(fault(at, DecodeErrorKind::Class { expected: plan.class }));
    }
    if plan.has_layout {
        dialect.check_layout(element, value).map_err(|(part, inside, kind)| {
            let offset = if start == at { at + inside } else { at };
            ElementFault { part, offset, kind }
        })?;
    }
    message.place(element, slot);
    Ok(())
}

/// As `decode`, without the quick way.
#[cfg(test)]
pub(super) fn careful(dialect: &Dialect, frame: &[u8]) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(frame);
    let mti = read_mti(dialect, &mut reader)?;
    let present = read_bitmaps(dialect.bitmap_form(), &mut reader)?;
    let mut message = Message::new(mti);
    message.begin(mti, frame, frame.len());
    read_elements(dialect, reader, present, &mut message).map(|()| message)
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
