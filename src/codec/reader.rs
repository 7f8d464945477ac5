//! `Reader`: a cursor that can only move forward inside its bounds.

/// Bytes, and how far into them one has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// Fewer bytes are left than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) needed: usize,
    pub(super) left: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The next `count` bytes, or none of them.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Shortage> {
        let end = self.offset.saturating_add(count);
        match self.bytes.get(self.offset..end) {
            Some(taken) => {
                self.offset = end;
                Ok(taken)
            }
            None => Err(Shortage { needed: count, left: self.left() }),
        }
    }

    /// The next `N` bytes, or none of them.
    #[inline]
    pub(super) fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Shortage> {
        let shortage = Shortage { needed: N, left: self.left() };
        self.take(N)?.first_chunk().ok_or(shortage)
    }

    /// The bytes from `start` to `end`, none if these are not in order.
    #[inline]
    pub(super) fn between(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// How far into the whole the next byte lies.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.left() == 0
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.offset)?;
        self.offset += 1;
        Some(*byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_passes_its_end() {
        let mut reader = Reader::new(b"abcdef");
        assert_eq!(reader.take(2), Ok(&b"ab"[..]));
        assert_eq!((reader.byte(), reader.offset(), reader.left()), (Some(b'c'), 3, 3));
        assert_eq!(reader.take(4), Err(Shortage { needed: 4, left: 3 }));
        assert_eq!(reader.take(usize::MAX), Err(Shortage { needed: usize::MAX, left: 3 }));
        assert_eq!((reader.take(3), reader.is_empty(), reader.byte()), (Ok(&b"def"[..]), true, None));
        assert_eq!((reader.between(4, 6), reader.between(5, 4)), (&b"ef"[..], &b""[..]));
    }
}
