//! `FrameFormat` and `FrameReader`: cut and prefix length-headed frames. They hold bytes, never a socket.

use super::error::{FrameError, WriteError};
use crate::stdx::wipe::{WipedBytes, wipe};

/// The largest frame that any format may allow, header included.
pub const MOST_FRAME: usize = 16 * 1024;
/// The longest fixed header.
pub const MOST_HEADER: usize = 32;
/// Length of a TPDU: protocol id, destination (2), source (2).
pub const TPDU: usize = 5;

/// How a frame says how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthHeader {
    /// Two bytes, the high one first. `inclusive`: the two count too.
    Binary2 { inclusive: bool },
    /// Four bytes, the high one first.
    Binary4 { inclusive: bool },
    /// Four ASCII digits.
    Ascii4 { inclusive: bool },
}

impl LengthHeader {
    /// How many bytes it takes itself.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Binary2 { .. } => 2,
            Self::Binary4 { .. } | Self::Ascii4 { .. } => 4,
        }
    }

    fn counted(self) -> usize {
        match self {
            Self::Binary2 { inclusive } | Self::Binary4 { inclusive } | Self::Ascii4 { inclusive } => {
                if inclusive {
                    self.size()
                } else {
                    0
                }
            }
        }
    }

    /// The highest number it can say.
    fn most(self) -> usize {
        match self {
            Self::Binary2 { .. } => 0xFFFF,
            Self::Binary4 { .. } => 0xFFFF_FFFF,
            Self::Ascii4 { .. } => 9_999,
        }
    }

    /// The length of what follows it; `None` for digits that are none.
    fn read(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Binary2 { .. } | Self::Binary4 { .. } => {
                Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
            }
            Self::Ascii4 { .. } => bytes
                .iter()
                .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + usize::from(byte - b'0'))),
        }
    }

    fn write(self, length: usize, place: &mut [u8]) {
        let mut rest = length;
        let base = match self {
            Self::Binary2 { .. } | Self::Binary4 { .. } => 256,
            Self::Ascii4 { .. } => 10,
        };
        let zero = if base == 10 { b'0' } else { 0 };
        for byte in place.iter_mut().rev() {
            *byte = zero + u8::try_from(rest % base).unwrap_or_default();
            rest /= base;
        }
    }
}

/// How messages follow one another on a link: a length, a fixed header that belongs to the frame, the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFormat {
    length: LengthHeader,
    header: usize,
    most: usize,
}

/// A word of a link's configuration that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(String);

impl FrameFormat {
    /// A format whose frames have a fixed header of `header` bytes (0 for none) and at most `most` bytes behind
    /// their length.
    ///
    /// # Errors
    /// When `header` or `most` is out of bounds, or `most` is more than the length header can say.
    pub fn new(length: LengthHeader, header: usize, most: usize) -> Result<Self, FormatError> {
        if header > MOST_HEADER {
            return Err(FormatError(format!("a frame header of {header} bytes; {MOST_HEADER} are the most")));
        }
        if most > MOST_FRAME || most <= header || most + length.counted() > length.most() {
            let bound = MOST_FRAME.min(length.most() - length.counted());
            return Err(FormatError(format!(
                "frames of {most} bytes: {} to {bound} are possible",
                header + 1
            )));
        }
        Ok(Self { length, header, most })
    }

    /// A format in the words of a configuration: `binary-2`, `binary-2-inclusive`, `binary-4`,
    /// `binary-4-inclusive`, `ascii-4` or `ascii-4-inclusive`.
    ///
    /// # Errors
    /// For any other word, and as `new`.
    pub fn parse(length: &str, header: usize, most: usize) -> Result<Self, FormatError> {
        let (name, inclusive) = match length.strip_suffix("-inclusive") {
            Some(name) => (name, true),
            None => (length, false),
        };
        let length = match name {
            "binary-2" => LengthHeader::Binary2 { inclusive },
            "binary-4" => LengthHeader::Binary4 { inclusive },
            "ascii-4" => LengthHeader::Ascii4 { inclusive },
            _ => {
                return Err(FormatError(format!(
                    "`{length}` is no length header: there are binary-2, binary-4 and ascii-4, each also \
                     with -inclusive"
                )));
            }
        };
        Self::new(length, header, most)
    }

    /// How many bytes the fixed header takes.
    #[must_use]
    pub fn header_length(&self) -> usize {
        self.header
    }

    /// The most bytes behind the length.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// The most bytes that one frame takes on the wire.
    #[must_use]
    pub fn most_on_wire(&self) -> usize {
        self.length.size() + self.most
    }

    /// The header of the answer to a frame with this header: a TPDU with destination and source exchanged, any
    /// other as it is.
    #[must_use]
    pub fn answer_header(&self, header: &[u8]) -> Vec<u8> {
        match header {
            [id, to_high, to_low, from_high, from_low] => {
                vec![*id, *from_high, *from_low, *to_high, *to_low]
            }
            other => other.to_vec(),
        }
    }

    /// Appends one frame: length, `header`, and what `message` appends. When that fails, `out` is as before.
    ///
    /// # Errors
    /// What `message` says, `TooLong`, or `Header` when `header` has not the format's length.
    pub fn write<E>(
        &self,
        header: &[u8],
        message: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError<E>> {
        if header.len() != self.header {
            return Err(WriteError::Header { length: header.len(), expected: self.header });
        }
        let start = out.len();
        let body = start + self.length.size();
        out.resize(body, 0);
        out.extend_from_slice(header);
        let written = message(out).map_err(WriteError::Message).and_then(|()| {
            let length = out.len() - body;
            if length > self.most {
                return Err(WriteError::TooLong { length, most: self.most });
            }
            let said = length + self.length.counted();
            self.length.write(said, out.get_mut(start..body).unwrap_or_default());
            Ok(())
        });
        if written.is_err() {
            wipe(out.get_mut(start..).unwrap_or_default());
            out.truncate(start);
        }
        written
    }
}

/// One frame, without its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fixed header, empty when the format has none.
    pub header: &'a [u8],
    pub message: &'a [u8],
}

/// Cuts what a socket gave into frames. Its buffer holds one largest frame and a batch of usual ones; consumed
/// bytes are wiped before new ones come in, and when it is dropped.
#[derive(Debug)]
pub struct FrameReader {
    format: FrameFormat,
    buffer: WipedBytes,
    /// Consumed up to here.
    start: usize,
    /// Filled up to here.
    end: usize,
    keepalives: u64,
}

impl FrameReader {
    /// Room for a batch, besides one frame of the largest size.
    const BATCH: usize = 16 * 1024;

    #[must_use]
    pub fn new(format: FrameFormat) -> Self {
        let mut buffer = WipedBytes::with_capacity(format.most_on_wire() + Self::BATCH);
        buffer.extend_zeros(format.most_on_wire() + Self::BATCH);
        Self { format, buffer, start: 0, end: 0, keepalives: 0 }
    }

    /// Where the next bytes from the socket go; then `filled` says how many came. It is empty only when `next`
    /// was not called until it had no more.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            let left = self.end - self.start;
            if let Some(consumed) = self.buffer.get_mut(left..self.end) {
                wipe(consumed);
            }
            (self.start, self.end) = (0, left);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that the first `count` bytes of `spare` hold what came.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole frame, or `None` until more bytes came. Frames of length zero keep a connection alive:
    /// they are counted and skipped.
    ///
    /// # Errors
    /// A length that is no number or out of bounds: where the next frame begins cannot be known any more.
    #[allow(clippy::should_implement_trait, reason = "a frame borrows the reader, an iterator's item cannot")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let FrameFormat { length: head, header, most } = self.format;
        loop {
            let body = self.start + head.size();
            let Some(said) = self.buffer.get(self.start..body).filter(|_| body <= self.end) else {
                return Ok(None);
            };
            let said = head.read(said).ok_or(FrameError::LengthNotANumber)?;
            let refused = FrameError::Length {
                length: said,
                least: head.counted() + header + 1,
                most: most + head.counted(),
            };
            let length = said.checked_sub(head.counted()).ok_or(refused)?;
            if length == 0 {
                self.start = body;
                self.keepalives += 1;
                continue;
            }
            if length <= header || length > most {
                return Err(refused);
            }
            let end = body + length;
            if end > self.end {
                return Ok(None);
            }
            self.start = end;
            let frame = self.buffer.get(body..end).and_then(|frame| frame.split_at_checked(header));
            return Ok(frame.map(|(header, message)| Frame { header, message }));
        }
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.end > self.start
    }

    /// How many frames of length zero came so far.
    #[must_use]
    pub fn keepalives(&self) -> u64 {
        self.keepalives
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const FORMATS: [&str; 6] =
        ["binary-2", "binary-2-inclusive", "binary-4", "binary-4-inclusive", "ascii-4", "ascii-4-inclusive"];

    fn format(name: &str, header: usize) -> FrameFormat {
        FrameFormat::parse(name, header, 2_000).unwrap()
    }

    fn write(format: &FrameFormat, header: &[u8], message: &[u8], out: &mut Vec<u8>) {
        let append = |out: &mut Vec<u8>| -> Result<(), Infallible> {
            out.extend_from_slice(message);
            Ok(())
        };
        format.write(header, append, out).unwrap();
    }

    fn feed(reader: &mut FrameReader, bytes: &[u8]) {
        reader.spare()[..bytes.len()].copy_from_slice(bytes);
        reader.filled(bytes.len());
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut() {
        for name in FORMATS {
            for header in [&b""[..], b"\x60\x00\x01\x00\x02"] {
                let format = format(name, header.len());
                let mut wire = Vec::new();
                let messages: Vec<Vec<u8>> = (1..40).map(|n| vec![n; usize::from(n) * 7]).collect();
                for message in &messages {
                    write(&format, header, message, &mut wire);
                }
                for step in [1, 2, 3, 7, 64, 1_500] {
                    let mut reader = FrameReader::new(format);
                    let mut seen = Vec::new();
                    for piece in wire.chunks(step) {
                        feed(&mut reader, piece);
                        while let Some(frame) = reader.next().unwrap() {
                            assert_eq!(frame.header, header);
                            seen.push(frame.message.to_vec());
                        }
                    }
                    assert_eq!(seen, messages, "{name} in pieces of {step}");
                    assert!(!reader.is_partial());
                }
            }
        }
    }

    #[test]
    fn lengths_are_written_as_the_format_says() {
        for (name, head) in [
            ("binary-2", &[0, 3][..]),
            ("binary-2-inclusive", &[0, 5]),
            ("binary-4", &[0, 0, 0, 3]),
            ("binary-4-inclusive", &[0, 0, 0, 7]),
            ("ascii-4", b"0003"),
            ("ascii-4-inclusive", b"0007"),
        ] {
            let mut out = b"before".to_vec();
            write(&format(name, 0), b"", b"abc", &mut out);
            assert_eq!(out, [b"before", head, b"abc"].concat(), "{name}");
        }
    }

    #[test]
    fn keepalives_are_counted_and_skipped() {
        let mut reader = FrameReader::new(format("binary-2", 0));
        feed(&mut reader, &[0, 0, 0, 0, 0, 1, b'x', 0, 0]);
        assert_eq!(reader.next().unwrap().unwrap().message, b"x");
        assert_eq!(reader.next(), Ok(None));
        assert_eq!(reader.keepalives(), 3);
        let mut inclusive = FrameReader::new(format("ascii-4-inclusive", 0));
        feed(&mut inclusive, b"0004");
        assert_eq!(inclusive.next(), Ok(None));
        assert_eq!(inclusive.keepalives(), 1);
    }

    #[test]
    fn what_cannot_be_a_length_ends_it() {
        for (name, header, bytes) in [
            ("binary-2", 0, &[0x16, 0x03][..]),
            ("binary-2-inclusive", 0, &[0, 1]),
            ("binary-2", 5, &[0, 5]),
            ("binary-4", 0, &[0xFF, 0xFF, 0xFF, 0xFF]),
            ("ascii-4", 0, b"00 1"),
            ("ascii-4", 0, b"9999"),
            ("ascii-4-inclusive", 0, b"0003"),
        ] {
            let mut reader = FrameReader::new(format(name, header));
            feed(&mut reader, bytes);
            assert!(reader.next().is_err(), "{name} {bytes:?}");
        }
    }

    #[test]
    fn a_frame_that_cannot_be_written_leaves_nothing_behind() {
        let format = format("binary-2", 0);
        let mut out = b"kept".to_vec();
        let fail = |out: &mut Vec<u8>| {
            out.push(1);
            Err(())
        };
        let failed = format.write(b"", fail, &mut out);
        assert!(matches!(failed, Err(WriteError::Message(()))));
        let long = |out: &mut Vec<u8>| -> Result<(), Infallible> {
            out.resize(out.len() + 2_001, 0);
            Ok(())
        };
        assert!(matches!(format.write(b"", long, &mut out), Err(WriteError::TooLong { .. })));
        assert!(matches!(format.write(b"x", long, &mut out), Err(WriteError::Header { .. })));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn consumed_bytes_are_wiped() {
        let mut reader = FrameReader::new(format("binary-2", 0));
        feed(&mut reader, b"\x00\x04\x31\x32\x33\x34\x00");
        assert!(reader.next().unwrap().is_some());
        assert_eq!(reader.spare().len(), reader.buffer.len() - 1);
        assert!(reader.buffer.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_tpdu_is_answered_with_its_ends_exchanged() {
        let format = format("binary-2", TPDU);
        assert_eq!(format.answer_header(&[0x60, 0, 1, 0, 2]), [0x60, 0, 2, 0, 1]);
    }

    #[test]
    fn impossible_formats_are_refused() {
        for (name, header, most) in
            [("ascii-4", 0, 10_000), ("binary-2", 33, 999), ("binary-2", 5, 5), ("binary-3", 0, 99)]
        {
            assert!(FrameFormat::parse(name, header, most).is_err(), "{name} {header} {most}");
        }
    }
}
