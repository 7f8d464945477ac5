//! Walks a dialect over a `Message` and gives its bytes.

use std::ops::Range;

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect, Lies};
use super::encoding::pack;
use super::error::{EncodeError, EncodeErrorKind, FieldPath};
use super::message::Message;
use super::words::to_hex;

/// Appends the message as the dialect writes it, byte for byte what `decode` would read. When that fails, `out` is
/// as before.
///
/// # Errors
/// The first element that the dialect does not have, or whose value is not of its length and class.
pub fn encode(dialect: &Dialect, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (mti, present) = (message.mti(), message.present());
    if mti.version != dialect.version() {
        let kind = EncodeErrorKind::Version { found: mti.version, expected: dialect.version() };
        return Err(EncodeError::new(FieldPath::MTI, kind));
    }
    for element in present.without(message.checked_by(dialect.forms())).iter() {
        check(dialect, element, message).map_err(|kind| EncodeError::new(element, kind))?;
    }
    dialect.mti_encoding().write(Class::Numeric, &mti.digits(), out);
    write_bitmaps(dialect.bitmap_form(), present, out);
    write_elements(dialect, message, out);
    Ok(())
}

/// Holds a value against its element's length, class and layout. What `decode` has checked against the same forms
/// does not come here.
fn check(dialect: &Dialect, element: DataElement, message: &Message) -> Result<(), EncodeErrorKind> {
    let plan = dialect.plan(element).ok_or(EncodeErrorKind::UnknownElement)?;
    let value = message.get(element).unwrap_or_default();
    let (least, most) = (usize::from(plan.least), usize::from(plan.most));
    if value.len() < least || value.len() > most {
        return Err(EncodeErrorKind::Length { length: value.len(), least, most });
    }
    if !plan.class.admits(value) {
        return Err(EncodeErrorKind::Class { expected: plan.class });
    }
    if plan.has_layout && dialect.check_layout(element, value).is_err() {
        return Err(EncodeErrorKind::Layout);
    }
    Ok(())
}

fn write_bitmaps(form: BitmapForm, present: Bitmap, out: &mut Vec<u8>) {
    /// In the primary map: a secondary one follows.
    const FIRST_BIT: u64 = 1 << 63;
    let [primary, secondary] = present.halves();
    if secondary == 0 {
        write_bitmap(form, primary, out);
    } else {
        write_bitmap(form, primary | FIRST_BIT, out);
        write_bitmap(form, secondary, out);
    }
}

fn write_bitmap(form: BitmapForm, map: u64, out: &mut Vec<u8>) {
    match form {
        BitmapForm::Binary => out.extend_from_slice(&map.to_be_bytes()),
        BitmapForm::Hex => out.extend_from_slice(to_hex(map).as_flattened()),
    }
}

/// Writes what has been checked: what came in a frame like this one as it came, the rest value by value.
fn write_elements(dialect: &Dialect, message: &Message, out: &mut Vec<u8>) {
    let origin = message.origin();
    let intact = origin.intact(dialect.wire());
    let mut rest = message.present();
    while let Some(first) = rest.first() {
        let stop = if intact.has(first) {
            let (piece, stop) = origin.piece(first, message.present());
            out.extend_from_slice(message.bytes(piece));
            stop
        } else {
            let stop = rest.and(intact).first();
            write_values(dialect, message, stop.map_or(rest, |stop| rest.before(stop)), out);
            stop
        };
        let Some(stop) = stop else { return };
        rest = rest.from(stop);
    }
}

/// Values that lie in the message as they will in the frame, one behind the other with nothing in between, are written
/// together.
fn write_values(dialect: &Dialect, message: &Message, elements: Bitmap, out: &mut Vec<u8>) {
    let mut run = Run { lies: Lies::Plain, values: 0..0 };
    for element in elements.iter() {
        let Some(plan) = dialect.plan(element) else { continue };
        let value = message.slot_of(element).range();
        let is_whole = plan.lies.is_whole(value.len());
        if is_whole && plan.prefix.is_none() && plan.lies == run.lies && value.start == run.values.end {
            run.values.end = value.end;
            continue;
        }
        run.write(message, out);
        if let Some(prefix) = plan.prefix {
            prefix.write(value.len(), out);
        }
        run = Run { lies: plan.lies, values: value };
        if !is_whole {
            let value = message.bytes(run.values.clone());
            plan.encoding.write(plan.class, value, out);
            run.values.start = run.values.end;
        }
    }
    run.write(message, out);
}

/// Values that are not yet written, by where they lie in the message.
struct Run {
    lies: Lies,
    values: Range<usize>,
}

impl Run {
    fn write(&self, message: &Message, out: &mut Vec<u8>) {
        let values = message.bytes(self.values.clone());
        if self.lies == Lies::Packed { pack(values, out) } else { out.extend_from_slice(values) }
    }
}
