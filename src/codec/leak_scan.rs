//! The last look: does this PAN, in any encoding, stand in these bytes?
//!
//! Every way to write it is a `Form`, which says what byte it expects at each place. First a few adjacent bytes of
//! each form, its anchor, are compared with all of the frame, many bytes at once; only where they are met is the
//! whole form compared.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::encoding::hex_digit;
use crate::stdx::wipe::wipe;
use crate::vocab::Pan;

/// In which way a PAN was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakClass {
    Ascii,
    Ebcdic,
    /// Two digits a byte, beginning in either half.
    Packed,
    /// Hexadecimal of ASCII or EBCDIC (that of packed digits is ASCII itself).
    Hex,
    /// Base64 of ASCII, EBCDIC or packed digits, at any phase, in either alphabet.
    Base64,
}

/// Where a PAN was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    pub offset: usize,
    pub class: LeakClass,
}

/// Looks for one PAN. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LeakScan {
    digits: [u8; Pan::MOST],
    length: usize,
}

impl LeakScan {
    #[must_use]
    pub fn new(pan: &Pan) -> Self {
        let mut digits = [0; Pan::MOST];
        for (place, digit) in digits.iter_mut().zip(pan.expose_digits()) {
            *place = digit & 0x0F;
        }
        Self { digits, length: pan.expose_digits().len() }
    }

    /// A place where the PAN stands, if there is one.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<Leak> {
        self.find_by_digits(bytes).or_else(|| self.find_by_pairs(bytes))
    }

    /// Forms in which every byte, or every second one, holds one digit: the first four digits are the anchor, as
    /// frames are full of digits. (Those further on are zeros in many a PAN, and so they are in many an amount.)
    fn find_by_digits(&self, bytes: &[u8]) -> Option<Leak> {
        let [a, b, c, d, ..] = self.digits;
        let zoned = |zone: u8| [zone | a, zone | b, zone | c, zone | d];
        let (ascii, ebcdic) = (zoned(ASCII), zoned(EBCDIC));
        let plain = if any_four(bytes, 1, &[ascii, ebcdic]) {
            let ascii = self.locate(&PLAIN_ASCII, ascii[0], bytes);
            ascii.or_else(|| self.locate(&PLAIN_EBCDIC, ebcdic[0], bytes))
        } else {
            None
        };
        // The digits of hexadecimal are the same in either zone.
        let in_hex = || if any_four(bytes, 2, &[ascii]) { self.locate(&HEX, ascii[0], bytes) } else { None };
        plain.or_else(in_hex)
    }

    /// Forms in which two adjacent bytes are rare enough.
    fn find_by_pairs(&self, bytes: &[u8]) -> Option<Leak> {
        let words =
            [self.word(Source::Packed), self.word(Source::Zoned(ASCII)), self.word(Source::Zoned(EBCDIC))];
        let anchors = ANCHORS.map(|anchor| anchor.pair(words));
        if !any_pair(bytes, &anchors) {
            return None;
        }
        ANCHORS.iter().zip(anchors).find_map(|(anchor, pair)| {
            if any_pair(bytes, &[pair]) { self.locate(anchor.forms, pair[0], bytes) } else { None }
        })
    }

    /// The first eight bytes of the PAN, packed or with a zone before each digit.
    fn word(&self, source: Source) -> u64 {
        let digits = self.digits.iter();
        match source {
            Source::Packed => digits.take(16).fold(0, |word, digit| word << 4 | u64::from(*digit)),
            Source::Zoned(zone) => digits.take(8).fold(0, |word, digit| word << 8 | u64::from(zone | digit)),
        }
    }

    /// Where one of the forms stands as a whole; `met` is the byte that it has at its place.
    fn locate(&self, forms: &[(Form, usize)], met: u8, bytes: &[u8]) -> Option<Leak> {
        forms.iter().find_map(|(form, place)| {
            let places = bytes.iter().enumerate().filter(|(_, byte)| **byte == met);
            let mut starts = places.filter_map(|(at, _)| at.checked_sub(*place));
            let offset = starts.find(|start| self.stands_at(*form, *start, bytes))?;
            Some(Leak { offset, class: form.class() })
        })
    }

    /// Whether the whole form stands at `start`.
    fn stands_at(&self, form: Form, start: usize, bytes: &[u8]) -> bool {
        let mut expected = (0..).map_while(|place| self.expected(form, place)).zip(start..);
        expected.all(|((value, mask), at)| bytes.get(at).is_some_and(|byte| byte & mask == value))
    }

    /// What byte the form has at `place`, and which of its bits count; `None` behind its end.
    #[inline]
    fn expected(&self, form: Form, place: usize) -> Option<(u8, u8)> {
        match form {
            Form::Plain(zone) => Some((zone | self.digit(place)?, 0xFF)),
            Form::Packed { odd } => {
                let first = (2 * place).checked_sub(odd);
                let high = first.and_then(|at| self.digit(at));
                let low = self.digit(2 * place + 1 - odd);
                match (high, low) {
                    (Some(high), Some(low)) => Some((high << 4 | low, 0xFF)),
                    (Some(high), None) => Some((high << 4, 0xF0)),
                    (None, Some(low)) => Some((low, 0x0F)),
                    (None, None) => None,
                }
            }
            Form::Hex(zone) => match self.zoned_nibble(zone, place)? {
                digit @ 0..=9 => Some((b'0' + digit, 0xFF)),
                letter => Some((hex_digit(letter) & CASE, CASE)),
            },
            Form::Base64(source, offset) => {
                let first = (4 * offset).div_ceil(6);
                let sextet = self.sextet(source, offset, first + place)?;
                let character = *BASE64.get(usize::from(sextet))?;
                Some(match character {
                    b'+' => (b'+' & PLUS_OR_MINUS, PLUS_OR_MINUS),
                    b'/' => (b'/' & SLASH_OR_LINE, SLASH_OR_LINE),
                    other => (other, 0xFF),
                })
            }
        }
    }

    fn digit(&self, at: usize) -> Option<u8> {
        if at < self.length { self.digits.get(at).copied() } else { None }
    }

    /// The half bytes of digits that lie one in a byte, with a zone in the high half.
    fn zoned_nibble(&self, zone: u8, at: usize) -> Option<u8> {
        let digit = self.digit(at / 2)?;
        Some(if at.is_multiple_of(2) { zone >> 4 } else { digit })
    }

    /// The six bits at character `at` of a base64 group in which the PAN's half bytes begin at `offset`; `None`
    /// unless all six are the PAN's. Three half bytes are two characters.
    fn sextet(&self, source: Source, offset: usize, at: usize) -> Option<u8> {
        let nibble = |number: usize| {
            let own = number.checked_sub(offset)?;
            match source {
                Source::Zoned(zone) => self.zoned_nibble(zone, own),
                Source::Packed => self.digit(own),
            }
        };
        let first = at / 2 * 3;
        Some(if at.is_multiple_of(2) {
            nibble(first)? << 2 | nibble(first + 1)? >> 2
        } else {
            (nibble(first + 1)? & 0b11) << 4 | nibble(first + 2)?
        })
    }
}

impl std::fmt::Debug for LeakScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeakScan([secret])")
    }
}

/// One way to write a PAN.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// A digit a byte, with this in the high half.
    Plain(u8),
    /// Two digits a byte; `odd` (0 or 1): how many half bytes stand before the first one.
    Packed { odd: usize },
    /// Hexadecimal of the plain form with this zone.
    Hex(u8),
    /// Base64 of these half bytes, of which the first is the n-th of a group of six.
    Base64(Source, usize),
}

/// What base64 was made of.
#[derive(Debug, Clone, Copy)]
enum Source {
    Zoned(u8),
    Packed,
}

const ASCII: u8 = 0x30;
const EBCDIC: u8 = 0xF0;

/// Leaves the bit free by which a small letter differs from a capital.
const CASE: u8 = !0x20;
/// Leaves the bits free in which `+` and `-`, 62 in the two alphabets, differ.
const PLUS_OR_MINUS: u8 = !(b'+' ^ b'-');
/// As before, for `/` and `_`, 63.
const SLASH_OR_LINE: u8 = !(b'/' ^ b'_');

/// Forms, each with the place at which it has the first byte of its anchor.
const PLAIN_ASCII: [(Form, usize); 1] = [(Form::Plain(ASCII), 0)];
const PLAIN_EBCDIC: [(Form, usize); 1] = [(Form::Plain(EBCDIC), 0)];
const HEX: [(Form, usize); 2] = [(Form::Hex(ASCII), 1), (Form::Hex(EBCDIC), 1)];

/// Two adjacent bytes of some forms, by the place of their bits in the PAN's first eight bytes.
#[derive(Clone, Copy)]
struct Anchor {
    source: Source,
    bit: u32,
    is_base64: bool,
    forms: &'static [(Form, usize)],
}

macro_rules! anchors {
    ($($source:expr, $bit:literal, $is_base64:literal: $(($form:expr, $place:literal)),+;)*) => {
        [$(Anchor { source: $source, bit: $bit, is_base64: $is_base64, forms: &[$(($form, $place)),+] },)*]
    };
}

/// Base64 is taken where no character of it can be `+` or `/`, which differ between the alphabets. Of packed
/// digits every second phase is the same but for where the characters lie in their group.
static ANCHORS: [Anchor; 11] = anchors! {
    Source::Packed, 0, false: (Form::Packed { odd: 0 }, 0);
    Source::Packed, 4, false: (Form::Packed { odd: 1 }, 1);
    Source::Packed, 0, true: (Form::Base64(Source::Packed, 0), 0), (Form::Base64(Source::Packed, 3), 0);
    Source::Packed, 2, true: (Form::Base64(Source::Packed, 1), 0), (Form::Base64(Source::Packed, 4), 0);
    Source::Packed, 4, true: (Form::Base64(Source::Packed, 2), 0), (Form::Base64(Source::Packed, 5), 0);
    Source::Zoned(ASCII), 12, true: (Form::Base64(Source::Zoned(ASCII), 0), 2);
    Source::Zoned(ASCII), 4, true: (Form::Base64(Source::Zoned(ASCII), 2), 0);
    Source::Zoned(ASCII), 20, true: (Form::Base64(Source::Zoned(ASCII), 4), 3);
    Source::Zoned(EBCDIC), 12, true: (Form::Base64(Source::Zoned(EBCDIC), 0), 2);
    Source::Zoned(EBCDIC), 4, true: (Form::Base64(Source::Zoned(EBCDIC), 2), 0);
    Source::Zoned(EBCDIC), 20, true: (Form::Base64(Source::Zoned(EBCDIC), 4), 3);
};

impl Anchor {
    /// The two bytes, given the first eight of the PAN in the three ways.
    fn pair(self, [packed, ascii, ebcdic]: [u64; 3]) -> [u8; 2] {
        let word = match self.source {
            Source::Packed => packed,
            Source::Zoned(ASCII) => ascii,
            Source::Zoned(_) => ebcdic,
        };
        let [high, ..] = (word << self.bit).to_be_bytes();
        if self.is_base64 {
            let [next, ..] = (word << (self.bit + 6)).to_be_bytes();
            [high, next].map(|bits| BASE64.get(usize::from(bits >> 2)).copied().unwrap_or(b'='))
        } else {
            let [next, ..] = (word << (self.bit + 8)).to_be_bytes();
            [high, next]
        }
    }
}

/// How many bytes are compared at once.
const BLOCK: usize = 32;

static BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Form {
    fn class(self) -> LeakClass {
        match self {
            Self::Plain(ASCII) => LeakClass::Ascii,
            Self::Plain(_) => LeakClass::Ebcdic,
            Self::Packed { .. } => LeakClass::Packed,
            Self::Hex(_) => LeakClass::Hex,
            Self::Base64(..) => LeakClass::Base64,
        }
    }
}

type Block = [u8; BLOCK];

/// Whether two adjacent bytes are one of the pairs.
fn any_pair<const N: usize>(bytes: &[u8], pairs: &[[u8; 2]; N]) -> bool {
    any_block(bytes, 1, |met, [first, second, _, _]| {
        for [a, b] in pairs {
            note_pairs(met, first, second, *a, *b);
        }
    })
}

/// Whether four bytes, `step` apart, are one of the fours.
fn any_four<const N: usize>(bytes: &[u8], step: usize, fours: &[[u8; 4]; N]) -> bool {
    any_block(bytes, step, |met, [w, x, y, z]| {
        for [a, b, c, d] in fours {
            let (mut first, mut second) = ([0; BLOCK], [0; BLOCK]);
            note_pairs(&mut first, w, x, *a, *b);
            note_pairs(&mut second, y, z, *c, *d);
            for ((met, first), second) in met.iter_mut().zip(&first).zip(&second) {
                *met |= first & second;
            }
        }
    })
}

/// Sets each byte of `met` for which one block has `a` and the other `b`. Numbers, not truths, so that the
/// compiler does it for many bytes at once.
#[inline]
fn note_pairs(met: &mut Block, first: &Block, second: &Block, a: u8, b: u8) {
    for ((met, first), second) in met.iter_mut().zip(first).zip(second) {
        let equal = |byte: u8, wanted: u8| if byte == wanted { 0xFF } else { 0 };
        *met |= equal(*first, a) & equal(*second, b);
    }
}

/// Calls `compare` with each block of bytes and the three blocks that begin `step`, twice and three times `step`
/// behind it; whether it set anything in what it is given to set. The last block overlaps the one before; bytes
/// that are too few for one are followed by zeros.
#[inline]
fn any_block(bytes: &[u8], step: usize, compare: impl Fn(&mut Block, [&Block; 4])) -> bool {
    let mut met = [0; BLOCK];
    let mut rest = bytes;
    while let Some(four) = blocks(rest, step) {
        compare(&mut met, four);
        rest = rest.get(BLOCK..).unwrap_or_default();
    }
    let last = bytes.len().checked_sub(BLOCK + 3 * step);
    if let Some(four) = last.and_then(|start| bytes.get(start..)).and_then(|rest| blocks(rest, step)) {
        compare(&mut met, four);
    } else {
        let mut few = [0; 3 * BLOCK];
        if let Some(place) = few.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        for start in [0, BLOCK] {
            if let Some(four) = few.get(start..).and_then(|rest| blocks(rest, step)) {
                compare(&mut met, four);
            }
        }
        wipe(&mut few);
    }
    met != [0; BLOCK]
}

#[inline]
fn blocks(bytes: &[u8], step: usize) -> Option<[&Block; 4]> {
    let all = bytes.get(..BLOCK + 3 * step)?;
    let from = |count: usize| all.get(count * step..)?.first_chunk::<BLOCK>();
    Some([from(0)?, from(1)?, from(2)?, from(3)?])
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::codec::encoding::to_ebcdic;

    /// The PAN in every form, each as bytes, by plain means.
    fn forms(pan: &[u8]) -> Vec<(LeakClass, Vec<u8>)> {
        let ebcdic: Vec<u8> = pan.iter().map(|digit| to_ebcdic(*digit)).collect();
        let mut forms = vec![(LeakClass::Ascii, pan.to_vec()), (LeakClass::Ebcdic, ebcdic.clone())];
        for source in [pan, &ebcdic] {
            forms.push((LeakClass::Hex, hex::encode(source).into_bytes()));
            forms.push((LeakClass::Hex, hex::encode_upper(source).into_bytes()));
        }
        let mut sources = vec![pan.to_vec(), ebcdic];
        for (before, after) in [("", ""), ("7", ""), ("", "7"), ("7", "7")] {
            let digits = [before.as_bytes(), pan, after.as_bytes()].concat();
            if let Ok(packed) = hex::decode(&digits) {
                sources.push(packed.clone());
                forms.push((LeakClass::Packed, packed));
            }
        }
        for source in sources {
            for before in 0..3 {
                let bytes = [&vec![0xE7; before][..], &source, &[0x5A, 0xA5]].concat();
                forms.push((LeakClass::Base64, STANDARD_NO_PAD.encode(&bytes).into_bytes()));
                forms.push((LeakClass::Base64, URL_SAFE_NO_PAD.encode(&bytes).into_bytes()));
            }
        }
        forms
    }

    fn scan(pan: &str) -> LeakScan {
        LeakScan::new(&Pan::parse(pan.as_bytes()).unwrap())
    }

    /// Whether the PAN stands in the bytes, by searching for each plain form and by unpacking half bytes.
    fn naive(pan: &str, bytes: &[u8]) -> bool {
        let halves: String = hex::encode(bytes);
        let found = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        halves.contains(pan)
            || forms(pan.as_bytes())
                .iter()
                .any(|(class, form)| !matches!(class, LeakClass::Packed | LeakClass::Base64) && found(form))
    }

    #[test]
    fn every_form_is_found_in_the_midst_of_a_frame() {
        for pan in
            ["476173900101", "4761739001010119", "6228480000000000026", "9898989898989898", "373737373737373"]
        {
            for (class, form) in forms(pan.as_bytes()) {
                for before in [0, 1, 5, 64, 299] {
                    let frame = [&vec![b'4'; before][..], &form, b"0000000000042 "].concat();
                    let leak = scan(pan).find(&frame).unwrap_or_else(|| panic!("{pan} {class:?} {before}"));
                    assert_eq!(leak.class, class);
                }
            }
        }
    }

    #[test]
    fn a_number_that_differs_in_one_digit_is_not_found() {
        let pan = "4761739001010119";
        for at in 0..pan.len() {
            let mut other = pan.as_bytes().to_vec();
            other[at] = if other[at] == b'5' { b'6' } else { b'5' };
            for (class, form) in forms(&other) {
                let found = scan(pan).find(&form);
                let edge = class == LeakClass::Base64 && (at == 0 || at == pan.len() - 1);
                assert!(found.is_none() || edge, "{class:?} digit {at}");
            }
        }
        assert_eq!(scan(pan).find(b""), None);
        assert_eq!(scan(pan).find(&pan.as_bytes()[..15]), None, "a part is no PAN");
        assert_eq!(format!("{:?}", scan(pan)), "LeakScan([secret])");
    }

    proptest! {
        #[test]
        fn it_finds_what_a_naive_search_finds(
            pan in "[0-9]{12,19}",
            mut frame in prop::collection::vec(prop_oneof![Just(0x30_u8), 0x30..0x3A_u8, any::<u8>()], 0..300),
            form in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            plant in any::<bool>(),
        ) {
            let forms = forms(pan.as_bytes());
            if plant {
                let (_, form) = form.get(&forms);
                let at = at.index(frame.len() + 1);
                frame.splice(at..at, form.iter().copied());
                prop_assert!(scan(&pan).find(&frame).is_some());
            } else {
                prop_assert_eq!(scan(&pan).find(&frame).is_some(), naive(&pan, &frame));
            }
        }
    }
}
