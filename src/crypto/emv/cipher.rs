//! The three block ciphers of chip cards behind one door, and the MACs composed of them. No primitive is our own.

use aes::Aes128Enc;
use aes::cipher::BlockCipherEncrypt;
use cmac::{Cmac, KeyInit, Mac};
use des::{Des, TdesEde2};
use sm4::Sm4;

use super::super::key::CHIP_KEY_LENGTH;

/// What a chip computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockCipher {
    /// Two-key triple DES, blocks of 8 bytes.
    TripleDes,
    /// AES-128.
    Aes,
    /// SM4 (GM/T 0002).
    Sm4,
}

/// How a message is filled up to whole blocks (ISO/IEC 9797-1, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// Method 1: zeros, none where the message is whole blocks already.
    Zeros,
    /// Method 2: 80, then zeros.
    Bit,
}

/// A cipher with its key, scheduled once. The schedule is wiped when dropped.
#[derive(Clone)]
pub(super) enum Keyed {
    TripleDes(TdesEde2),
    Aes(Aes128Enc),
    Sm4(Sm4),
}

impl Keyed {
    pub(super) fn new(cipher: BlockCipher, key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        match cipher {
            BlockCipher::TripleDes => Self::TripleDes(TdesEde2::new(key.into())),
            BlockCipher::Aes => Self::Aes(Aes128Enc::new(key.into())),
            BlockCipher::Sm4 => Self::Sm4(Sm4::new(key.into())),
        }
    }

    /// Encrypts 16 bytes: one block, or two of 3DES by themselves (ECB).
    pub(super) fn encrypt(&self, bytes: [u8; 16]) -> [u8; 16] {
        let mut block = bytes.into();
        match self {
            Self::TripleDes(des) => {
                let (left, right) = halves(bytes);
                let (mut left, mut right) = (left.into(), right.into());
                des.encrypt_block(&mut left);
                des.encrypt_block(&mut right);
                return joined(left.into(), right.into());
            }
            Self::Aes(aes) => aes.encrypt_block(&mut block),
            Self::Sm4(sm4) => sm4.encrypt_block(&mut block),
        }
        block.into()
    }
}

/// The first 8 bytes of the MAC that chips use with this cipher: ISO/IEC 9797-1 algorithm 3 for 3DES, CMAC for AES
/// (which fills up by itself), CBC-MAC for SM4 (JR/T 0025).
pub(super) fn mac(
    cipher: BlockCipher,
    key: &[u8; CHIP_KEY_LENGTH],
    padding: Padding,
    message: &Message,
) -> [u8; 8] {
    match cipher {
        BlockCipher::TripleDes => retail_mac(key, message.blocks::<8>(padding)),
        BlockCipher::Aes => {
            let mut mac = Cmac::<Aes128Enc>::new(key.into());
            mac.update(message.as_bytes());
            halves(mac.finalize().into_bytes().into()).0
        }
        BlockCipher::Sm4 => {
            let sm4 = Sm4::new(key.into());
            let chained = message.blocks::<16>(padding).fold([0; 16], |state, block| {
                let mut state = xor(state, block).into();
                sm4.encrypt_block(&mut state);
                state.into()
            });
            halves(chained).0
        }
    }
}

/// ISO/IEC 9797-1 algorithm 3: single DES chained under the left half of the key, 3DES at the end.
fn retail_mac(key: &[u8; CHIP_KEY_LENGTH], blocks: impl Iterator<Item = [u8; 8]>) -> [u8; 8] {
    let des = Des::new(&halves(*key).0.into());
    let mut blocks = blocks.peekable();
    let mut state = [0; 8];
    while let Some(block) = blocks.next() {
        let mut mixed = xor(state, block).into();
        if blocks.peek().is_some() {
            des.encrypt_block(&mut mixed);
        } else {
            TdesEde2::new(key.into()).encrypt_block(&mut mixed);
        }
        state = mixed.into();
    }
    state
}

/// A block of zeros under a key, for its check value.
pub(in super::super) fn zeros_under(cipher: BlockCipher, key: &[u8; CHIP_KEY_LENGTH]) -> [u8; 16] {
    Keyed::new(cipher, key).encrypt([0; 16])
}

/// The bytes that a MAC is computed over, gathered in place.
pub(super) struct Message {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Message {
    /// The data elements of a payment with the longest issuer data come to 65 bytes; padding fills 80.
    const MOST: usize = 80;

    pub(super) fn new() -> Self {
        Self { bytes: [0; Self::MOST], len: 0 }
    }

    /// Appends a piece; what has no room is no data element of a payment, and is left out.
    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(piece);
            self.len = end;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whole blocks. An empty message has one of them.
    fn blocks<const N: usize>(&self, padding: Padding) -> impl Iterator<Item = [u8; N]> {
        let mut padded = [0; Self::MOST + 16];
        padded.iter_mut().zip(self.as_bytes()).for_each(|(place, byte)| *place = *byte);
        let marked = match padding {
            Padding::Zeros => self.len.max(1),
            Padding::Bit => {
                if let Some(place) = padded.get_mut(self.len) {
                    *place = 0x80;
                }
                self.len + 1
            }
        };
        let count = marked.div_ceil(N);
        (0..count).map(move |at| std::array::from_fn(|n| padded.get(at * N + n).copied().unwrap_or_default()))
    }
}

#[inline]
pub(super) fn xor<const N: usize>(a: [u8; N], b: [u8; N]) -> [u8; N] {
    let mut out = a;
    out.iter_mut().zip(b).for_each(|(place, byte)| *place ^= byte);
    out
}

pub(super) fn halves(bytes: [u8; 16]) -> ([u8; 8], [u8; 8]) {
    let [a, b, c, d, e, f, g, h, right @ ..] = bytes;
    ([a, b, c, d, e, f, g, h], right)
}

pub(super) fn joined(left: [u8; 8], right: [u8; 8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.iter_mut().zip(left.into_iter().chain(right)).for_each(|(place, byte)| *place = byte);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        let mut message = Message::new();
        message.push(&hex::decode(text).unwrap());
        message
    }

    fn key(text: &str) -> [u8; 16] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// The DES key pair and message of the fact sheet's MAC vectors, made with psec 1.3.0; AES-CMAC from RFC 4493.
    #[test]
    fn macs_are_the_published_ones() {
        let des = key("0123456789ABCDEFFEDCBA9876543210");
        let aes = key("2b7e151628aed2a6abf7158809cf4f3c");
        for (cipher, key, padding, text, expected) in [
            (BlockCipher::TripleDes, des, Padding::Zeros, "1234567890ABCDEF", "479ef7c1ecfe64ac"),
            (BlockCipher::TripleDes, des, Padding::Bit, "1234567890ABCDEF", "912476c111db4238"),
            (BlockCipher::Aes, aes, Padding::Bit, "", "bb1d6929e9593728"),
            (BlockCipher::Aes, aes, Padding::Bit, "6bc1bee22e409f96e93d7e117393172a", "070a16b46b4d4144"),
        ] {
            let made = mac(cipher, &key, padding, &message(text));
            assert_eq!(hex::encode(made), expected, "{cipher:?} {padding:?} {text}");
        }
    }

    /// GM/T 0002, annex A.1.
    #[test]
    fn sm4_is_sm4() {
        let same = key("0123456789ABCDEFFEDCBA9876543210");
        let keyed = Keyed::new(BlockCipher::Sm4, &same);
        assert_eq!(hex::encode(keyed.encrypt(same)), "681edf34d206965e86b3e94f536e4246");
    }

    #[test]
    fn padding_fills_whole_blocks() {
        let blocks = |text: &str, padding| message(text).blocks::<8>(padding).collect::<Vec<_>>().concat();
        for (text, zeros, bit) in [
            ("", "0000000000000000", "8000000000000000"),
            ("11", "1100000000000000", "1180000000000000"),
            ("1122334455667788", "1122334455667788", "11223344556677888000000000000000"),
        ] {
            assert_eq!(hex::encode(blocks(text, Padding::Zeros)), zeros);
            assert_eq!(hex::encode(blocks(text, Padding::Bit)), bit);
        }
    }
}
