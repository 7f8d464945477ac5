//! Fast wiping of many bytes: `wipe`, and `WipedBytes`, a growing buffer that leaves nothing behind.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Overwrites `bytes` with zeros in a way that is not optimized away, as fast as memory can be filled
/// (`Zeroize` writes byte by byte: some 100 ns for one message).
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

/// Bytes that are wiped when dropped, cleared, cut, or moved to a larger place.
#[derive(Default)]
pub struct WipedBytes(Vec<u8>);

impl WipedBytes {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends `bytes`; when they do not fit, all of it moves and the old place is wiped.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Appends `count` zeros, as `extend`.
    pub fn extend_zeros(&mut self, count: usize) {
        self.make_room(count);
        self.0.resize(self.0.len() + count, 0);
    }

    /// Wipes all of it and keeps the place.
    pub fn clear(&mut self) {
        wipe(&mut self.0);
        self.0.clear();
    }

    /// Wipes what lies behind `length` and cuts it off.
    pub fn truncate(&mut self, length: usize) {
        if let Some(cut) = self.0.get_mut(length..) {
            wipe(cut);
            self.0.truncate(length);
        }
    }

    #[inline]
    fn make_room(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            self.move_to(needed);
        }
    }

    #[cold]
    fn move_to(&mut self, needed: usize) {
        let mut moved = Vec::with_capacity(needed.max(self.0.capacity().saturating_mul(2)));
        moved.extend_from_slice(&self.0);
        wipe(&mut self.0);
        self.0 = moved;
    }
}

impl Drop for WipedBytes {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl Deref for WipedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for WipedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Clone for WipedBytes {
    fn clone(&self) -> Self {
        let mut copy = Vec::with_capacity(self.0.capacity());
        copy.extend_from_slice(&self.0);
        Self(copy)
    }
}

impl fmt::Debug for WipedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_leaves_zeros() {
        let mut bytes = *b"4761739001010119";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 16]);
    }

    #[test]
    fn growing_cutting_and_clearing_keep_what_should_stay() {
        let mut bytes = WipedBytes::with_capacity(4);
        bytes.extend(b"secret");
        bytes.extend_zeros(2);
        assert_eq!(&*bytes, b"secret\0\0");
        bytes.truncate(3);
        assert_eq!(&*bytes, b"sec");
        assert_eq!(format!("{bytes:?}"), "[3 bytes]");
        bytes.clear();
        assert!(bytes.is_empty());
    }
}
