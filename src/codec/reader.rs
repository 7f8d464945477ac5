//! `Reader`: a cursor that can only move forward inside its bounds.

/// Bytes still to be read, and how far into the whole they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// Fewer bytes are left than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) needed: usize,
    pub(super) left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// The next `count` bytes, or none of them.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Shortage> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                self.offset += count;
                Ok(taken)
            }
            None => Err(Shortage { needed: count, left: self.rest.len() }),
        }
    }

    /// The next `count` bytes as a reader of their own.
    pub(super) fn sub(&mut self, count: usize) -> Result<Self, Shortage> {
        let offset = self.offset;
        self.take(count).map(|rest| Self { rest, offset })
    }

    /// How far into the whole the next byte lies.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.offset += 1;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_passes_its_end() {
        let mut reader = Reader::new(b"abcdef");
        assert_eq!(reader.take(2), Ok(&b"ab"[..]));
        let mut sub = reader.sub(3).unwrap();
        assert_eq!((sub.offset(), sub.byte()), (2, Some(b'c')));
        assert_eq!(sub.take(3), Err(Shortage { needed: 3, left: 2 }));
        assert_eq!(reader.take(usize::MAX), Err(Shortage { needed: usize::MAX, left: 1 }));
        assert_eq!((reader.take(1), reader.is_empty(), reader.byte()), (Ok(&b"f"[..]), true, None));
    }
}
