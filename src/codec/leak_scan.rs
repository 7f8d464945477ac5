//! The last look: does this PAN, in any encoding, stand in these bytes?
//!
//! Every way to write it is a `Form`, which says what byte it expects at each place. A pass per form compares a
//! few adjacent places (its anchor) with all of the frame, many bytes at once; only where they are met is the
//! whole form compared.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::encoding::hex_digit;
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
        self.find_by_digits(&PLAIN, 1, bytes)
            .or_else(|| self.find_by_pairs(&PACKED, bytes))
            .or_else(|| self.find_by_digits(&HEX, 2, bytes))
            .or_else(|| self.find_by_pairs(&BASE64_ZONED, bytes))
            .or_else(|| self.find_by_pairs(&BASE64_PACKED, bytes))
    }

    /// Forms in which every `step`-th byte holds one digit: four of these are the anchor, as frames are full of
    /// digits.
    fn find_by_digits(&self, forms: &[Form; 2], step: usize, bytes: &[u8]) -> Option<Leak> {
        forms.iter().find_map(|form| {
            let first = DIGITS_ANCHOR * step + step - 1;
            let places = [first, first + step, first + 2 * step, first + 3 * step];
            let anchor = places.map(|place| self.value(*form, place));
            let met = if step == 1 { any_four::<1>(bytes, anchor) } else { any_four::<2>(bytes, anchor) };
            if met { self.locate(*form, first, anchor[0], bytes) } else { None }
        })
    }

    /// Forms in which two adjacent bytes are rare enough.
    fn find_by_pairs<const N: usize>(&self, forms: &[Form; N], bytes: &[u8]) -> Option<Leak> {
        let anchors = forms.map(|form| [0, 1].map(|next| self.value(form, form.anchor() + next)));
        if !any_pair(bytes, &anchors) {
            return None;
        }
        forms.iter().zip(anchors).find_map(|(form, anchor)| {
            if any_pair(bytes, &[anchor]) {
                self.locate(*form, form.anchor(), anchor[0], bytes)
            } else {
                None
            }
        })
    }

    /// Where the whole form stands; `met` is the byte that it has at `anchor`.
    fn locate(&self, form: Form, anchor: usize, met: u8, bytes: &[u8]) -> Option<Leak> {
        let places = bytes.iter().enumerate().filter(|(_, byte)| **byte == met);
        let mut starts = places.filter_map(|(place, _)| place.checked_sub(anchor));
        let offset = starts.find(|start| self.stands_at(form, *start, bytes))?;
        Some(Leak { offset, class: form.class() })
    }

    /// Whether the whole form stands at `start`.
    fn stands_at(&self, form: Form, start: usize, bytes: &[u8]) -> bool {
        let mut expected = (0..).map_while(|place| self.expected(form, place)).zip(start..);
        expected.all(|((value, mask), at)| bytes.get(at).is_some_and(|byte| byte & mask == value))
    }

    /// The byte that an anchor compares. No place of an anchor has free bits or lies behind the end.
    fn value(&self, form: Form, place: usize) -> u8 {
        self.expected(form, place).map_or(0, |(value, _)| value)
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

const PLAIN: [Form; 2] = [Form::Plain(ASCII), Form::Plain(EBCDIC)];
const HEX: [Form; 2] = [Form::Hex(ASCII), Form::Hex(EBCDIC)];
const PACKED: [Form; 2] = [Form::Packed { odd: 0 }, Form::Packed { odd: 1 }];
const BASE64_ZONED: [Form; 6] = [
    Form::Base64(Source::Zoned(ASCII), 0),
    Form::Base64(Source::Zoned(ASCII), 2),
    Form::Base64(Source::Zoned(ASCII), 4),
    Form::Base64(Source::Zoned(EBCDIC), 0),
    Form::Base64(Source::Zoned(EBCDIC), 2),
    Form::Base64(Source::Zoned(EBCDIC), 4),
];
const BASE64_PACKED: [Form; 6] = [
    Form::Base64(Source::Packed, 0),
    Form::Base64(Source::Packed, 1),
    Form::Base64(Source::Packed, 2),
    Form::Base64(Source::Packed, 3),
    Form::Base64(Source::Packed, 4),
    Form::Base64(Source::Packed, 5),
];

/// The digit at which the anchor of plain and hexadecimal forms begins: behind the BIN, which many share.
const DIGITS_ANCHOR: usize = 6;

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

    /// The place of the first of two adjacent bytes that have no free bits. Of base64 of EBCDIC these are the third
    /// and fourth character of a group, which never are `+` or `/`.
    fn anchor(self) -> usize {
        match self {
            Self::Base64(Source::Zoned(_), offset) => 6 - (4 * offset).div_ceil(6),
            _ => 2,
        }
    }
}

/// Whether two adjacent bytes are one of the pairs. Without a branch, so that it is done for many bytes at once.
fn any_pair<const N: usize>(bytes: &[u8], pairs: &[[u8; 2]; N]) -> bool {
    let second = bytes.get(1..).unwrap_or_default();
    let met = bytes.iter().zip(second).fold(0_u8, |met, (first, second)| {
        pairs.iter().fold(met, |met, [a, b]| met | (u8::from(first == a) & u8::from(second == b)))
    });
    met != 0
}

/// Whether four bytes, `STEP` apart, are these.
fn any_four<const STEP: usize>(bytes: &[u8], four: [u8; 4]) -> bool {
    let from = |count: usize| bytes.get(count * STEP..).unwrap_or_default().iter();
    let [a, b, c, d] = four;
    let met = from(0).zip(from(1)).zip(from(2)).zip(from(3)).fold(0_u8, |met, (((w, x), y), z)| {
        met | (u8::from(*w == a) & u8::from(*x == b) & u8::from(*y == c) & u8::from(*z == d))
    });
    met != 0
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
