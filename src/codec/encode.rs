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

/// In a half of the bitmap, the bit of its first element; in the primary one that says that a secondary follows.
const FIRST_BIT: u64 = 1 << 63;

fn write(dialect: &Dialect, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mti = message.mti();
    if mti.version != dialect.version() {
        let kind = EncodeErrorKind::Version { found: mti.version, expected: dialect.version() };
        return Err(EncodeError::new(FieldPath::MTI, kind));
    }
    dialect.mti_encoding().write(Class::Numeric, &mti.digits(), out);
    write_bitmaps(dialect.bitmap_form(), message.present(), out);
    let checked = message.checked_by(dialect.forms()).halves();
    for ((half, checked), base) in message.present().halves().into_iter().zip(checked).zip([0, 64]) {
        let mut bits = half;
        while bits != 0 {
            let place = bits.leading_zeros();
            let bit = FIRST_BIT >> place;
            bits &= !bit;
            let index = usize::try_from(place + base).unwrap_or_default();
            let value = message.value_at(index);
            let written = match dialect.plan(index) {
                Some(plan) if checked & bit != 0 => Ok(plan),
                Some(plan) => check(dialect, index, plan, value).map(|()| plan),
                None => Err(EncodeErrorKind::UnknownElement),
            };
            match written {
                Ok(plan) => write_element(plan, value, out),
                Err(kind) => return Err(EncodeError::new(element(index), kind)),
            }
        }
    }
    Ok(())
}

fn element(index: usize) -> DataElement {
    let place = u32::try_from(index).unwrap_or_default();
    DataElement::at(place).unwrap_or(DataElement::SECONDARY_BITMAP)
}

fn write_bitmaps(form: BitmapForm, present: Bitmap, out: &mut Vec<u8>) {
    let [primary, secondary] = present.halves();
    if secondary == 0 {
        write_bitmap(form, primary, out);
    } else {
        write_bitmap(form, primary | FIRST_BIT, out);
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

/// Holds a value against its element's length, class and layout. What `decode` has checked against the same forms
/// does not come here.
fn check(dialect: &Dialect, index: usize, plan: &Plan, value: &[u8]) -> Result<(), EncodeErrorKind> {
    let (least, most) = (usize::from(plan.least), usize::from(plan.most));
    if value.len() < least || value.len() > most {
        return Err(EncodeErrorKind::Length { length: value.len(), least, most });
    }
    if !plan.class.admits(value) {
        return Err(EncodeErrorKind::Class { expected: plan.class });
    }
    if plan.has_layout && dialect.check_layout(element(index), value).is_err() {
        return Err(EncodeErrorKind::Layout);
    }
    Ok(())
}

#[inline]
fn write_element(plan: &Plan, value: &[u8], out: &mut Vec<u8>) {
    if let Some(prefix) = plan.prefix {
        prefix.write(value.len(), out);
    }
    if plan.encoding.is_canonical() {
        out.extend_from_slice(value);
    } else {
        plan.encoding.write(plan.class, value, out);
    }
}
