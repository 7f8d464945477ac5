//! `Template`: a frame encoded once, of which only digits change from one sending to the next.
//!
//! Where a digit lies and how it is written (ASCII, EBCDIC, half a byte of BCD) is not worked out here: it is
//! learned from the codec, by encoding a frame with the digit changed and looking at what else changed. The
//! same digit may lie in several places, as the amount does in DE 4 and in the chip data. What was learned is
//! checked against the codec before it is used, so a template can be slow to make and never wrong.

use crate::stdx::random::Entropy;

/// How many random fillings must come out as the codec writes them.
const CHECKS: u32 = 8;

/// Why a frame cannot be a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError<E> {
    #[error("{0}")]
    Encode(E),
    #[error("the frame's length depends on its digits")]
    LengthVaries,
    #[error("a filled template is not what the codec writes")]
    Differs,
}

/// Which values a symbol may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// 0 to 9.
    Digit,
    /// 0 to 15: half a byte of binary data.
    Nibble,
}

/// One place of a frame that follows one symbol.
#[derive(Debug, Clone, Copy)]
struct Place {
    symbol: usize,
    at: usize,
    high: bool,
}

/// A frame and the places in it that follow the symbols.
#[derive(Debug, Clone)]
pub struct Template {
    frame: Vec<u8>,
    /// In order of symbol.
    places: Vec<Place>,
    filled: Vec<u8>,
}

impl Template {
    /// Learns from `encode`, which writes the frame for given values of the symbols (numbers, not characters).
    ///
    /// # Errors
    /// What `encode` says; or `LengthVaries` or `Differs` for a frame that is not made of such places.
    pub fn learn<E>(
        symbols: &[Symbol],
        seed: u64,
        mut encode: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, TemplateError<E>> {
        let mut values = vec![0; symbols.len()];
        let frame = encode(&values).map_err(TemplateError::Encode)?;
        let mut places = Vec::new();
        for symbol in 0..symbols.len() {
            set(&mut values, symbol, 9);
            let changed = encode(&values).map_err(TemplateError::Encode)?;
            set(&mut values, symbol, 0);
            if changed.len() != frame.len() {
                return Err(TemplateError::LengthVaries);
            }
            for (at, (before, after)) in frame.iter().zip(&changed).enumerate() {
                let differs = before ^ after;
                let halves = [(differs & 0xF0 != 0, true), (differs & 0x0F != 0, false)];
                places.extend(halves.iter().filter(|h| h.0).map(|h| Place { symbol, at, high: h.1 }));
            }
        }
        let mut template = Self { frame, places, filled: values };
        template.check(symbols, seed, &mut encode)?;
        Ok(template)
    }

    fn check<E>(
        &mut self,
        symbols: &[Symbol],
        seed: u64,
        encode: &mut impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), TemplateError<E>> {
        let mut entropy = Entropy::seeded(seed);
        for _ in 0..CHECKS {
            let mut draw = |symbol: &Symbol| {
                let bound = if *symbol == Symbol::Digit { 10 } else { 16 };
                u8::try_from(entropy.below(bound).unwrap_or_default()).unwrap_or_default()
            };
            let values: Vec<u8> = symbols.iter().map(&mut draw).collect();
            let expected = encode(&values).map_err(TemplateError::Encode)?;
            if self.fill(&values) != expected {
                return Err(TemplateError::Differs);
            }
        }
        Ok(())
    }

    /// The frame with these values. Symbols that have not changed since the last filling cost nothing.
    pub fn fill(&mut self, values: &[u8]) -> &[u8] {
        for place in &self.places {
            let (value, filled) = (values.get(place.symbol), self.filled.get(place.symbol));
            let (Some(value), true) = (value, value != filled) else { continue };
            if let Some(byte) = self.frame.get_mut(place.at) {
                *byte = if place.high { *byte & 0x0F | value << 4 } else { *byte & 0xF0 | value & 0x0F };
            }
        }
        for (filled, value) in self.filled.iter_mut().zip(values) {
            *filled = *value;
        }
        &self.frame
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.frame);
        zeroize::Zeroize::zeroize(&mut self.filled);
    }
}

fn set(values: &mut [u8], at: usize, value: u8) {
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits in ASCII, the same in BCD, in EBCDIC, and a raw byte of two nibbles.
    fn encode(values: &[u8]) -> Result<Vec<u8>, ()> {
        let (digits, raw) = values.split_at(4);
        let mut out = b"AMOUNT ".to_vec();
        out.extend(digits.iter().map(|d| b'0' + d));
        out.extend(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
        out.extend(digits.iter().map(|d| 0xF0 | d));
        out.push(raw[0] << 4 | raw[1]);
        Ok(out)
    }

    const SYMBOLS: [Symbol; 6] =
        [Symbol::Digit, Symbol::Digit, Symbol::Digit, Symbol::Digit, Symbol::Nibble, Symbol::Nibble];

    #[test]
    fn a_template_writes_what_the_codec_writes() {
        let mut template = Template::learn(&SYMBOLS, 1, encode).unwrap();
        for values in [[1, 2, 3, 4, 15, 0], [1, 2, 3, 5, 15, 0], [0; 6], [9, 9, 9, 9, 10, 11]] {
            assert_eq!(template.fill(&values), encode(&values).unwrap());
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let varies = |values: &[u8]| Ok::<_, ()>(vec![0; 5 + usize::from(values[0])]);
        assert_eq!(Template::learn(&SYMBOLS, 1, varies).unwrap_err(), TemplateError::LengthVaries);
        let sums = |values: &[u8]| Ok::<_, ()>(vec![values.iter().sum()]);
        assert_eq!(Template::learn(&SYMBOLS, 1, sums).unwrap_err(), TemplateError::Differs);
        let hex = |values: &[u8]| Ok::<_, ()>(hex::encode_upper([values[4] << 4]).into_bytes());
        assert_eq!(Template::learn(&SYMBOLS, 1, hex).unwrap_err(), TemplateError::Differs);
        let fails = |_: &[u8]| Err("no such element");
        assert_eq!(
            Template::learn(&SYMBOLS, 1, fails).unwrap_err(),
            TemplateError::Encode("no such element")
        );
    }
}
