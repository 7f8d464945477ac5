//! Walks a dialect over a `Message` and gives its bytes.

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect, Plan};
use super::encoding::hex_digit;
use super::error::{EncodeError, EncodeErrorKind, FieldPath};
use super::message::Message;
use crate::stdx::wipe::wipe;

/// Appends the message as the dialect writes it, byte for byte what `decode` would read. When that fails, `out` is
/// as before.
///
/// # Errors
/// The first element that the dialect does not have, or whose value is not of its length and class.
pub fn encode(dialect: &Dialect, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(dialect, message, out);
    if written.is_err() {
        wipe(out.get_mut(start..).unwrap_or_default());
        out.truncate(start);
    }
    written
}

fn write(dialect: &Dialect, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mti = message.mti();
    if mti.version != dialect.version() {
        let kind = EncodeErrorKind::Version { found: mti.version, expected: dialect.version() };
        return Err(EncodeError::new(FieldPath::MTI, kind));
    }
    dialect.mti_encoding().write(Class::Numeric, &mti.digits(), out);
    write_bitmaps(dialect.bitmap_form(), message.present(), out);
    for element in message.elements() {
        let value = message.get(element).unwrap_or_default();
        let written = dialect
            .plan(element.index())
            .ok_or(EncodeErrorKind::UnknownElement)
            .and_then(|plan| write_element(dialect, element, plan, value, out));
        written.map_err(|kind| EncodeError::new(element, kind))?;
    }
    Ok(())
}

fn write_bitmaps(form: BitmapForm, present: Bitmap, out: &mut Vec<u8>) {
    let [primary, secondary] = present.halves();
    if secondary == 0 {
        write_bitmap(form, primary, out);
    } else {
        write_bitmap(form, primary | 1 << 63, out);
        write_bitmap(form, secondary, out);
    }
}

fn write_bitmap(form: BitmapForm, map: u64, out: &mut Vec<u8>) {
    let bytes = map.to_be_bytes();
    match form {
        BitmapForm::Binary => out.extend_from_slice(&bytes),
        BitmapForm::Hex => {
            let mut digits = [[0; 2]; 8];
            for (pair, byte) in digits.iter_mut().zip(bytes) {
                *pair = [hex_digit(byte >> 4), hex_digit(byte)];
            }
            out.extend_from_slice(digits.as_flattened());
        }
    }
}

#[inline]
fn write_element(
    dialect: &Dialect,
    element: DataElement,
    plan: &Plan,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeErrorKind> {
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
    if let Some(prefix) = plan.prefix {
        prefix.write(value.len(), out);
    }
    plan.encoding.write(plan.class, value, out);
    Ok(())
}
