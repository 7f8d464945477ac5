//! `Origin`: which of a message's values are still what the frame said from which it was decoded, and where that frame
//! has them. They are written as they came, many at once, wherever the same is asked of their bytes.

use std::ops::Range;

use super::bitmap::{Bitmap, DataElement};

/// The frame at the front of a message's arena. A message that was not decoded has none: nothing is intact then.
#[derive(Clone)]
pub(super) struct Origin {
    /// How long the frame is.
    pub(super) length: u16,
    /// The number of the wire forms by which it was read.
    wire: u64,
    /// The elements that it has.
    came: Bitmap,
    /// Those of them whose bytes still say what the message says.
    intact: Bitmap,
    /// Where each begins in the frame, its length before it. Only of elements that came.
    starts: [u16; DataElement::MOST as usize],
}

impl Origin {
    pub(super) const NONE: Self = Self {
        length: 0,
        wire: 0,
        came: Bitmap::EMPTY,
        intact: Bitmap::EMPTY,
        starts: [0; DataElement::MOST as usize],
    };

    /// There is a new frame; what it says counts once `came` has been told.
    pub(super) fn begin(&mut self, length: usize) {
        self.forget();
        self.length = u16::try_from(length).unwrap_or(u16::MAX);
    }

    pub(super) fn forget(&mut self) {
        (self.length, self.came, self.intact) = (0, Bitmap::EMPTY, Bitmap::EMPTY);
    }

    #[inline]
    pub(super) fn starts_at(&mut self, element: DataElement, at: usize) {
        if let Some(start) = self.starts.get_mut(element.index()) {
            *start = u16::try_from(at).unwrap_or(u16::MAX);
        }
    }

    /// These elements were read, by the wire forms of this number, to the very end of the frame.
    pub(super) fn came(&mut self, elements: Bitmap, wire: u64) {
        (self.came, self.intact, self.wire) = (elements, elements, wire);
    }

    /// The element's bytes in the frame no longer say what it is.
    #[inline]
    pub(super) fn changed(&mut self, element: DataElement) {
        self.intact.remove(element);
    }

    /// Takes over what `other` says of its frame, which was copied with it, for these elements only.
    pub(super) fn copy(&mut self, other: &Self, elements: Bitmap) {
        self.clone_from(other);
        self.intact = other.intact.and(elements);
    }

    /// The elements that a dialect of these wire forms may write as they came.
    pub(super) fn intact(&self, wire: u64) -> Bitmap {
        if self.wire == wire { self.intact } else { Bitmap::EMPTY }
    }

    /// The bytes of `first`, which is intact, and of all intact elements behind it up to the first of the `present`
    /// that is not, or that is gone; and that one.
    pub(super) fn piece(&self, first: DataElement, present: Bitmap) -> (Range<usize>, Option<DataElement>) {
        let stop = present.or(self.came).without(self.intact).from(first).first();
        let next = stop.and_then(|stop| self.came.from(stop).first());
        let end = next.map_or(usize::from(self.length), |next| self.start(next));
        (self.start(first)..end, stop)
    }

    fn start(&self, element: DataElement) -> usize {
        self.starts.get(element.index()).copied().map_or(0, usize::from)
    }
}
