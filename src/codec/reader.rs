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
    #[inline]
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

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
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
        assert_eq!((reader.byte(), reader.offset(), reader.left()), (Some(b'c'), 3, 3));
        assert_eq!(reader.take(4), Err(Shortage { needed: 4, left: 3 }));
        assert_eq!(reader.take(usize::MAX), Err(Shortage { needed: usize::MAX, left: 3 }));
        assert_eq!((reader.take(3), reader.is_empty(), reader.byte()), (Ok(&b"def"[..]), true, None));
    }
}
