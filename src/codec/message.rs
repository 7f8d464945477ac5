//! `Message`: a message type and a sparse set of values, free of any dialect, in one wiped place.
//!
//! Values are canonical. Of class n, a, an, ans and z: ASCII text in the element's full width. Of class x+n: `C`
//! or `D` and digits. Of class b (MACs, PIN blocks, DE 55 too): the bytes themselves. How they lie in a frame
//! is the dialect's business.

use std::fmt;

use super::bitmap::{Bitmap, DataElement};
use super::dialect::Dialect;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
use super::origin::Origin;
use crate::stdx::wipe::{WipedBytes, wipe};
use crate::vocab::Mti;

/// The most bytes that a message may take, old values included: what 16 bits can address.
pub const MOST_MESSAGE: usize = u16::MAX as usize;
/// The longest value of one element: what four length digits can say.
pub const MOST_VALUE: usize = 9_999;
/// Room left free when a place is made, so that the usual rewrite (DE 2, 11, 14, 35, token data) moves nothing.
pub(super) const HEADROOM: usize = 128;

/// A message. Dropping or clearing it wipes every value that it ever had.
#[derive(Clone)]
pub struct Message {
    mti: Mti,
    present: Bitmap,
    slots: [Slot; DataElement::MOST as usize],
    arena: WipedBytes,
    /// The frame that was decoded, with which the arena begins.
    origin: Origin,
    /// Values as they came from `decode`, which has checked them against the forms of this number.
    checked: Bitmap,
    forms: u64,
}

/// Where a value lies in the arena.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) at: u16,
    pub(super) length: u16,
}

impl Slot {
    /// The slot of `length` bytes at `at`, if 16 bits can say it.
    #[inline]
    pub(super) fn of(at: usize, length: usize) -> Option<Self> {
        Some(Self { at: u16::try_from(at).ok()?, length: u16::try_from(length).ok()? })
    }

    #[inline]
    pub(super) fn range(self) -> std::ops::Range<usize> {
        usize::from(self.at)..usize::from(self.at) + usize::from(self.length)
    }
}

impl Message {
    /// A message without elements.
    #[must_use]
    pub fn new(mti: Mti) -> Self {
        Self {
            mti,
            present: Bitmap::EMPTY,
            slots: [Slot::default(); DataElement::MOST as usize],
            arena: WipedBytes::default(),
            origin: Origin::NONE,
            checked: Bitmap::EMPTY,
            forms: 0,
        }
    }

    #[must_use]
    pub fn mti(&self) -> Mti {
        self.mti
    }

    pub fn set_mti(&mut self, mti: Mti) {
        self.mti = mti;
    }

    /// The elements that have a value.
    #[must_use]
    pub fn present(&self) -> Bitmap {
        self.present
    }

    /// As `present`, one by one, in the order of their numbers.
    pub fn elements(&self) -> impl Iterator<Item = DataElement> + use<> {
        self.present.iter()
    }

    #[must_use]
    pub fn has(&self, element: DataElement) -> bool {
        self.present.has(element)
    }

    /// Whether its sender signed it (DE 64 or 128).
    #[must_use]
    pub fn has_mac(&self) -> bool {
        self.has(DataElement::MAC_64) || self.has(DataElement::MAC_128)
    }

    /// The element's canonical value.
    #[must_use]
    pub fn get(&self, element: DataElement) -> Option<&[u8]> {
        let slot = self.slot(element)?;
        self.arena.get(slot.range())
    }

    /// Gives the element a value, in canonical form; the old one is wiped. Whether a dialect can say it is
    /// looked at when the message is encoded.
    ///
    /// # Errors
    /// `Length` for a value that no element may have, `TooLong` when the message has no room for it, `NoPlace`
    /// for DE 1, which the codec writes itself.
    pub fn set(&mut self, element: DataElement, value: &[u8]) -> Result<(), EncodeError> {
        if element == DataElement::SECONDARY_BITMAP {
            return Err(EncodeError::new(element, EncodeErrorKind::NoPlace));
        }
        self.checked.remove(element);
        if value.len() > MOST_VALUE {
            let kind = EncodeErrorKind::Length { length: value.len(), least: 0, most: MOST_VALUE };
            return Err(EncodeError::new(element, kind));
        }
        if let Some(slot) = self.slot(element) {
            if let Some(place) = self.arena.get_mut(slot.range())
                && place.len() >= value.len()
            {
                let (kept, rest) = place.split_at_mut(value.len());
                kept.copy_from_slice(value);
                // Another value of the same length in the frame itself is one more that the frame says.
                if !rest.is_empty() || slot.range().end > usize::from(self.origin.length) {
                    self.origin.changed(element);
                }
                wipe(rest);
                return self.point(element, usize::from(slot.at), value.len());
            }
            self.remove(element);
        }
        if self.arena.len() + value.len() > self.arena.capacity() {
            self.compact(value.len())?;
        }
        let at = self.arena.len();
        self.arena.extend(value);
        self.point(element, at, value.len())
    }

    /// Gives the element the value that `write` appends, at most `most` bytes; the old one is wiped before. None
    /// when it appends nothing.
    pub(super) fn compose(
        &mut self,
        element: DataElement,
        most: usize,
        write: impl FnOnce(&mut WipedBytes) -> Result<(), EncodeErrorKind>,
    ) -> Result<(), EncodeError> {
        self.remove(element);
        if self.arena.len() + most > self.arena.capacity() {
            self.compact(most)?;
        }
        let at = self.arena.len();
        if let Err(kind) = write(&mut self.arena) {
            self.arena.truncate(at);
            return Err(EncodeError::new(element, kind));
        }
        match self.arena.len() - at {
            0 => Ok(()),
            length => self.point(element, at, length),
        }
    }

    /// Takes the element's value away and wipes it.
    pub fn remove(&mut self, element: DataElement) {
        if let Some(slot) = self.slot(element) {
            if let Some(place) = self.arena.get_mut(slot.range()) {
                wipe(place);
            }
            self.present.remove(element);
            self.checked.remove(element);
            self.origin.changed(element);
        }
    }

    /// Takes away all elements that are not in `kept`.
    pub fn retain(&mut self, kept: Bitmap) {
        for element in self.present.without(kept).iter() {
            self.remove(element);
        }
    }

    /// Wipes everything and begins anew, in the same place.
    pub fn clear(&mut self, mti: Mti) {
        self.arena.clear();
        self.present = Bitmap::EMPTY;
        self.checked = Bitmap::EMPTY;
        self.origin.forget();
        self.mti = mti;
    }

    /// Copies the value of `element` from `other`, if it has one.
    ///
    /// # Errors
    /// As `set`.
    pub fn copy(&mut self, element: DataElement, other: &Self) -> Result<(), EncodeError> {
        let Some(value) = other.get(element) else { return Ok(()) };
        self.set(element, value)?;
        if other.checked.has(element) && (self.forms == other.forms || self.checked.is_empty()) {
            self.forms = other.forms;
            self.checked.insert(element);
        }
        Ok(())
    }

    /// Copies the values that `other` has of these elements.
    ///
    /// # Errors
    /// As `set`.
    pub fn copy_all(&mut self, elements: Bitmap, other: &Self) -> Result<(), EncodeError> {
        let copied = other.present.and(elements);
        if !copied.and(self.present).is_empty() {
            return copied.iter().try_for_each(|element| self.copy(element, other));
        }
        if self.arena.is_empty() {
            // All that `other` has at once, where it lies: what was not asked for is not present here, and is wiped
            // with the rest.
            self.arena.extend(&other.arena);
            self.slots = other.slots;
            self.origin.copy(&other.origin, copied);
            self.present = copied;
        } else {
            let length = copied.iter().map(|element| usize::from(other.slot_of(element).length)).sum();
            if self.arena.len() + length > self.arena.capacity() {
                self.compact(length)?;
            }
            for element in copied.iter() {
                let (at, value) = (self.arena.len(), other.slot_of(element).range());
                self.arena.extend(other.bytes(value.clone()));
                self.point(element, at, value.len())?;
            }
        }
        if self.forms == other.forms || self.checked.is_empty() {
            self.forms = other.forms;
            self.checked = self.checked.or(other.checked.and(copied));
        }
        Ok(())
    }

    /// Makes this the message of `frame`, whose values are about to be placed: `room` bytes in all will do. What
    /// the frame does not write over is wiped.
    pub(super) fn begin(&mut self, mti: Mti, frame: &[u8], room: usize) {
        self.arena.truncate(frame.len());
        if self.arena.capacity() < room {
            self.arena = WipedBytes::with_capacity(room);
        }
        let (over, behind) = frame.split_at(self.arena.len().min(frame.len()));
        self.arena.copy_from_slice(over);
        self.arena.extend(behind);
        self.origin.begin(frame.len());
        (self.mti, self.present, self.checked) = (mti, Bitmap::EMPTY, Bitmap::EMPTY);
    }

    /// Notes where the value of `element` lies; it counts as present once `present_are` has said so.
    #[inline]
    pub(super) fn place(&mut self, element: DataElement, slot: Slot) {
        if let Some(place) = self.slots.get_mut(element.index()) {
            *place = slot;
        }
    }

    /// Notes where the element, its length before it, begins in the frame.
    #[inline]
    pub(super) fn starts_at(&mut self, element: DataElement, at: usize) {
        self.origin.starts_at(element, at);
    }

    /// Says which elements are present, all of them as the dialect wants them.
    pub(super) fn present_are(&mut self, present: Bitmap, dialect: &Dialect) {
        (self.present, self.checked, self.forms) = (present, present, dialect.forms());
    }

    /// Says that nothing follows them: the frame has been read to its end.
    pub(super) fn is_whole(&mut self, dialect: &Dialect) {
        self.origin.came(self.present, dialect.wire());
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The elements whose values need not be checked against `forms`.
    pub(super) fn checked_by(&self, forms: u64) -> Bitmap {
        if self.forms == forms { self.checked } else { Bitmap::EMPTY }
    }

    /// Where the value lies, of an element that is known to be present.
    #[inline]
    pub(super) fn slot_of(&self, element: DataElement) -> Slot {
        self.slots.get(element.index()).copied().unwrap_or_default()
    }

    /// What lies from `start` to `end`: values, and in a message that was decoded all of its frame.
    #[inline]
    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.arena.get(range).unwrap_or_default()
    }

    /// The place behind all values, for a value that has to be expanded.
    #[inline]
    pub(super) fn arena(&mut self) -> &mut WipedBytes {
        &mut self.arena
    }

    /// An error in the value of `element`, at its place in the frame if it still lies there.
    pub(super) fn fault(&self, element: DataElement, kind: DecodeErrorKind) -> DecodeError {
        let offset = self
            .slot(element)
            .filter(|slot| slot.range().end <= usize::from(self.origin.length))
            .map(|slot| usize::from(slot.at));
        DecodeError { path: element.into(), offset, kind }
    }

    fn slot(&self, element: DataElement) -> Option<Slot> {
        if self.present.has(element) { self.slots.get(element.index()).copied() } else { None }
    }

    fn point(&mut self, element: DataElement, at: usize, length: usize) -> Result<(), EncodeError> {
        let too_long = EncodeErrorKind::TooLong { length: at + length, most: MOST_MESSAGE };
        let slot = Slot::of(at, length).ok_or(EncodeError::new(element, too_long))?;
        self.place(element, slot);
        self.present.insert(element);
        Ok(())
    }

    /// Moves the values that count to a new place with room for `more`, and wipes the old one.
    fn compact(&mut self, more: usize) -> Result<(), EncodeError> {
        let live: usize = self.present.iter().filter_map(|e| self.get(e)).map(<[u8]>::len).sum();
        let needed = live + more;
        if needed > MOST_MESSAGE {
            let kind = EncodeErrorKind::TooLong { length: needed, most: MOST_MESSAGE };
            return Err(EncodeError::new(super::error::FieldPath::MESSAGE, kind));
        }
        let mut moved = WipedBytes::with_capacity((needed * 2 + HEADROOM).min(MOST_MESSAGE));
        let mut slots = self.slots;
        for element in self.present.iter() {
            let value = self.get(element).unwrap_or_default();
            if let (Some(place), Some(slot)) =
                (slots.get_mut(element.index()), Slot::of(moved.len(), value.len()))
            {
                *place = slot;
                moved.extend(value);
            }
        }
        self.slots = slots;
        self.arena = moved;
        self.origin.forget();
        Ok(())
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.mti == other.mti
            && self.present == other.present
            && self.elements().all(|element| self.get(element) == other.get(element))
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} {:?})", self.mti, self.present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::new(Mti::parse(b"0100").unwrap())
    }

    #[test]
    fn values_are_put_replaced_and_taken_away() {
        let mut message = message();
        message.set(DataElement::PAN, b"4761739001010119").unwrap();
        message.set(DataElement::STAN, b"000001").unwrap();
        message.set(DataElement::PAN, b"476173900101").unwrap();
        assert_eq!(message.get(DataElement::PAN), Some(&b"476173900101"[..]));
        message.set(DataElement::PAN, b"4761739001010119123").unwrap();
        assert_eq!(message.get(DataElement::PAN), Some(&b"4761739001010119123"[..]));
        assert_eq!(message.get(DataElement::STAN), Some(&b"000001"[..]));
        message.remove(DataElement::PAN);
        assert_eq!(message.get(DataElement::PAN), None);
        assert!(!message.arena.windows(4).any(|w| w == b"4761"), "wiped when taken away");
        assert_eq!(format!("{message:?}"), "Message(0100 {11})");
    }

    #[test]
    fn it_never_outgrows_its_place() {
        let mut message = message();
        for round in 0..200_u8 {
            for element in [60, 61, 62, 63].map(|n| DataElement::new(n).unwrap()) {
                message.set(element, &vec![round; 999 + usize::from(round) % 3]).unwrap();
            }
        }
        assert!(message.arena.capacity() <= MOST_MESSAGE);
        for number in 2..=7 {
            message.set(DataElement::new(number).unwrap(), &[1; MOST_VALUE]).unwrap();
        }
        let refused = message.set(DataElement::new(8).unwrap(), &[1; MOST_VALUE]).unwrap_err();
        assert!(matches!(refused.kind, EncodeErrorKind::TooLong { .. }), "{refused}");
        let refused = message.set(DataElement::new(8).unwrap(), &[1; MOST_VALUE + 1]).unwrap_err();
        assert!(matches!(refused.kind, EncodeErrorKind::Length { .. }), "{refused}");
        assert!(message.set(DataElement::SECONDARY_BITMAP, b"x").is_err());
    }

    #[test]
    fn many_values_are_copied_as_one_by_one() {
        let mut from = message();
        for (element, value) in [
            (DataElement::PAN, &b"4761739001010119"[..]),
            (DataElement::RRN, b"000000000001"),
            (DataElement::STAN, b"000001"),
            (DataElement::TERMINAL, b"TERM0001"),
        ] {
            from.set(element, value).unwrap();
        }
        let wanted =
            Bitmap::of(&[DataElement::PAN, DataElement::STAN, DataElement::TERMINAL, DataElement::AMOUNT]);
        for already in [&[][..], &[DataElement::AMOUNT], &[DataElement::STAN, DataElement::AMOUNT]] {
            let (mut one_by_one, mut together) = (message(), message());
            for element in already {
                one_by_one.set(*element, b"999999999999").unwrap();
                together.set(*element, b"999999999999").unwrap();
            }
            wanted.iter().try_for_each(|element| one_by_one.copy(element, &from)).unwrap();
            together.copy_all(wanted, &from).unwrap();
            assert_eq!(together, one_by_one);
            assert_eq!(together.checked, one_by_one.checked);
        }
    }

    #[test]
    fn messages_are_equal_by_their_values() {
        let (mut a, mut b) = (message(), message());
        a.set(DataElement::STAN, b"000001").unwrap();
        b.set(DataElement::STAN, b"000009").unwrap();
        assert_ne!(a, b);
        b.set(DataElement::STAN, b"000001").unwrap();
        assert_eq!(a, b);
        b.retain(Bitmap::EMPTY);
        assert_ne!(a, b);
    }
}
