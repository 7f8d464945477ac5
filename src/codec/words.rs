//! Many characters at once: classes are checked, digits packed and unpacked, and hexadecimal read, without looking at
//! single bytes.

const ONES: u64 = 0x0101_0101_0101_0101;
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Whether the test holds for every byte. Sixteen are looked at together, and what is left over by chunks that overlap,
/// so that nothing branches on what a byte says: the compiler makes vectors of it.
#[inline]
pub(super) fn all(value: &[u8], test: impl Fn(u8) -> bool) -> bool {
    if let Some(last) = value.last_chunk::<16>() {
        value.as_chunks::<16>().0.iter().fold(every(last, &test), |met, chunk| met & every(chunk, &test))
    } else if let (Some(first), Some(last)) = (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        every(first, &test) & every(last, &test)
    } else if let (Some(first), Some(last)) = (value.first_chunk::<4>(), value.last_chunk::<4>()) {
        every(first, &test) & every(last, &test)
    } else {
        value.iter().fold(true, |met, byte| met & test(*byte))
    }
}

#[inline]
fn every<const N: usize>(bytes: &[u8; N], test: &impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |met, byte| met & test(*byte))
}

/// Packed digits as characters, the first in the high half of the first byte. A to F come out as `:` to `?`.
#[inline]
pub(super) fn unpack(packed: [u8; 4]) -> [u8; 8] {
    let word = u64::from(u32::from_be_bytes(packed));
    let word = (word | word << 16) & 0x0000_FFFF_0000_FFFF;
    let word = (word | word << 8) & 0x00FF_00FF_00FF_00FF;
    let word = (word | word << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    (word | ZEROS).to_be_bytes()
}

/// Characters as packed digits. `:` to `?` and letters A to F, of either size, all come out as A to F.
#[inline]
pub(super) fn pack(characters: [u8; 8]) -> [u8; 4] {
    let word = u64::from_be_bytes(characters);
    let letters = word >> 6 & ONES;
    let word = (word & 0x0F0F_0F0F_0F0F_0F0F) + letters * 9;
    let word = (word | word >> 4) & 0x00FF_00FF_00FF_00FF;
    let word = (word | word >> 8) & 0x0000_FFFF_0000_FFFF;
    let [.., a, b, c, d] = (word | word >> 16).to_be_bytes();
    [a, b, c, d]
}

/// The number that sixteen hexadecimal characters of either size say; `None` when one of them is none.
#[inline]
pub(super) fn from_hex(characters: &[u8; 16]) -> Option<u64> {
    if !all(characters, |byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (words, _) = characters.as_chunks::<8>();
    Some(words.iter().fold(0, |number, word| number << 32 | u64::from(u32::from_be_bytes(pack(*word)))))
}

/// The number as sixteen hexadecimal characters, letters in capitals.
#[inline]
pub(super) fn to_hex(number: u64) -> [[u8; 8]; 2] {
    let bytes = number.to_be_bytes();
    let (halves, _) = bytes.as_chunks::<4>();
    let mut characters = [[0; 8]; 2];
    for (place, half) in characters.iter_mut().zip(halves) {
        let word = u64::from_be_bytes(unpack(*half));
        // `:` to `?` lie seven places before `A` to `F`.
        let letters = (word + ONES * (0x7F - u64::from(b'9'))) >> 7 & ONES;
        *place = (word + letters * u64::from(b'A' - b':')).to_be_bytes();
    }
    characters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_digits_and_characters_there_and_back(number in any::<u32>()) {
            let characters = unpack(number.to_be_bytes());
            prop_assert_eq!(pack(characters), number.to_be_bytes());
            let plain: Vec<u8> = (0..8).map(|at| b'0' + (number >> (28 - 4 * at) & 0xF) as u8).collect();
            prop_assert_eq!(characters.as_slice(), plain);
        }

        #[test]
        fn hexadecimal_is_that_of_others(number in any::<u64>()) {
            let (written, plain) = (to_hex(number), format!("{number:016X}"));
            prop_assert_eq!(written.as_flattened(), plain.as_bytes());
            for text in [format!("{number:016X}"), format!("{number:016x}")] {
                prop_assert_eq!(from_hex(text.as_bytes().first_chunk().unwrap()), Some(number));
            }
        }
    }

    #[test]
    fn what_is_not_hexadecimal_is_told_at_every_place() {
        for at in 0..16 {
            for byte in 0..=255_u8 {
                let mut characters = *b"0123456789ABCDEF";
                characters[at] = byte;
                assert_eq!(from_hex(&characters).is_some(), byte.is_ascii_hexdigit(), "{byte} at {at}");
            }
        }
    }
}
