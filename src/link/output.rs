//! `Output`: what waits to leave on one connection, bounded, and how much has left.

use crate::stdx::wipe::WipedBytes;

/// Memory that an empty buffer keeps for its next use.
const KEPT: usize = 256 << 10;

/// No room for more output: the peer does not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutputFull;

/// The bytes of one connection that wait for its socket.
#[derive(Debug)]
pub(super) struct Output {
    bytes: WipedBytes,
    /// How many of `bytes` the transport has taken.
    taken: usize,
    most: usize,
    /// Bytes the transport has taken since the connection opened.
    begun: u64,
    /// Bytes that are known to have been handed to the socket; a TLS transport may lag with them.
    handed: u64,
}

impl Output {
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: WipedBytes::default(), taken: 0, most, begun: 0, handed: 0 }
    }

    /// Adds `bytes` at the end.
    ///
    /// # Errors
    /// `OutputFull`, and none of them is added, where more than the limit would wait.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), OutputFull> {
        if self.waiting().len().saturating_add(bytes.len()) > self.most {
            return Err(OutputFull);
        }
        if self.taken >= self.most {
            self.drop_taken();
        }
        self.bytes.extend(bytes);
        Ok(())
    }

    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken >= self.bytes.len()
    }

    /// The transport took the first `count` of what waits.
    pub(super) fn took(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.bytes.len());
        self.begun = self.begun.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.is_empty() {
            self.drop_taken();
            if self.bytes.capacity() > KEPT {
                self.bytes = WipedBytes::default();
            }
        }
    }

    /// All that the transport took has been handed to the socket. `true` if that is news.
    pub(super) fn flushed(&mut self) -> bool {
        std::mem::replace(&mut self.handed, self.begun) != self.begun
    }

    /// Whether the transport holds bytes that the socket may not have.
    pub(super) fn is_flushed(&self) -> bool {
        self.handed == self.begun
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// Moves what waits to the front, so that a buffer that never runs empty is bounded too.
    fn drop_taken(&mut self) {
        self.bytes.copy_within(self.taken.., 0);
        let left = self.bytes.len() - self.taken;
        self.bytes.truncate(left);
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_what_was_taken_makes_room() {
        let mut output = Output::new(8);
        assert_eq!(output.push(b"12345"), Ok(()));
        assert_eq!(output.push(b"6789"), Err(OutputFull));
        assert_eq!(output.waiting(), b"12345", "all or nothing");
        output.took(3);
        assert_eq!(output.push(b"678901"), Ok(()));
        assert_eq!(output.waiting(), b"45678901");
        output.took(8);
        assert!(output.is_empty());
        assert_eq!(output.begun(), 11);
    }

    #[test]
    fn a_buffer_that_never_runs_empty_stays_small_and_in_order() {
        let mut output = Output::new(100);
        output.push(&[0; 40]).unwrap();
        output.took(36);
        for number in 1..1_000_u32 {
            output.push(&number.to_be_bytes()).unwrap();
            let first = output.waiting().get(..4).unwrap();
            assert_eq!(first, (number - 1).to_be_bytes());
            output.took(4);
            assert!(output.bytes.len() <= 200, "{}", output.bytes.len());
        }
    }

    #[test]
    fn what_the_transport_holds_is_begun_and_not_handed_over() {
        let mut output = Output::new(8);
        output.push(b"1234").unwrap();
        output.took(4);
        assert_eq!((output.begun(), output.handed(), output.is_flushed()), (4, 0, false));
        assert!(output.flushed());
        assert!(!output.flushed(), "no news the second time");
        assert_eq!((output.handed(), output.is_flushed()), (4, true));
    }
}
