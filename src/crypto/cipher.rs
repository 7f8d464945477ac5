//! The block ciphers of cards and of those who exchange their keys behind one door, and the MACs composed of them. No
//! primitive is our own.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use aes::{Aes128, Aes128Enc, Aes192, Aes256};
use cmac::digest::consts::U16;
use cmac::{Cmac, KeyInit, Mac};
use des::{Des, TdesEde2};
use sm4::Sm4;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::key::CHIP_KEY_LENGTH;

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
pub enum Padding {
    /// Method 1: zeros, none where the message is whole blocks already.
    Zeros,
    /// Method 2: 80, then zeros.
    Bit,
}

/// A cipher with its key, scheduled once. The schedule is wiped when dropped.
#[derive(Clone)]
pub(super) enum Keyed {
    TripleDes(TripleDes),
    Aes(Aes128Enc),
    Sm4(Sm4),
}

impl Keyed {
    pub(super) fn new(cipher: BlockCipher, key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        match cipher {
            BlockCipher::TripleDes => Self::TripleDes(TripleDes::new(key)),
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
                return joined(des.encrypt(left), des.encrypt(right));
            }
            Self::Aes(aes) => aes.encrypt_block(&mut block),
            Self::Sm4(sm4) => sm4.encrypt_block(&mut block),
        }
        block.into()
    }
}

/// Two-key triple DES, a block at a time.
#[derive(Clone)]
pub(super) struct TripleDes(TdesEde2);

impl TripleDes {
    pub(super) fn new(key: &[u8; CHIP_KEY_LENGTH]) -> Self {
        Self(TdesEde2::new(key.into()))
    }

    #[inline]
    pub(super) fn encrypt(&self, block: [u8; 8]) -> [u8; 8] {
        let mut block = block.into();
        self.0.encrypt_block(&mut block);
        block.into()
    }

    pub(super) fn decrypt(&self, block: [u8; 8]) -> [u8; 8] {
        let mut block = block.into();
        self.0.decrypt_block(&mut block);
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
        BlockCipher::TripleDes => retail_mac(key, blocks(message.as_bytes(), padding)),
        BlockCipher::Aes => {
            let mut mac = Cmac::<Aes128Enc>::new(key.into());
            mac.update(message.as_bytes());
            halves(mac.finalize().into_bytes().into()).0
        }
        BlockCipher::Sm4 => {
            let sm4 = Sm4::new(key.into());
            let chained = blocks(message.as_bytes(), padding).fold([0; 16], |state, block| {
                let mut state = xor(state, block).into();
                sm4.encrypt_block(&mut state);
                state.into()
            });
            halves(chained).0
        }
    }
}

/// ISO/IEC 9797-1 algorithm 1 with single DES (ANSI X9.9).
pub(super) fn cbc_mac(key: &[u8; 8], blocks: impl Iterator<Item = [u8; 8]>) -> [u8; 8] {
    let des = Des::new(key.into());
    blocks.fold([0; 8], |state, block| {
        let mut mixed = xor(state, block).into();
        des.encrypt_block(&mut mixed);
        mixed.into()
    })
}

/// ISO/IEC 9797-1 algorithm 3 (ANSI X9.19): single DES chained under the left half of the key, 3DES at the end.
pub(super) fn retail_mac(key: &[u8; CHIP_KEY_LENGTH], blocks: impl Iterator<Item = [u8; 8]>) -> [u8; 8] {
    let des = Des::new(&halves(*key).0.into());
    let mut blocks = blocks.peekable();
    let mut state = [0; 8];
    while let Some(block) = blocks.next() {
        let mixed = xor(state, block);
        state = if blocks.peek().is_some() {
            let mut mixed = mixed.into();
            des.encrypt_block(&mut mixed);
            mixed.into()
        } else {
            TripleDes::new(key).encrypt(mixed)
        };
    }
    state
}

/// A block of zeros under a key, for its check value.
pub(super) fn zeros_under(cipher: BlockCipher, key: &[u8; CHIP_KEY_LENGTH]) -> [u8; 16] {
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
}

/// The whole blocks of a message. An empty one has one of them.
pub(super) fn blocks<const N: usize>(message: &[u8], padding: Padding) -> impl Iterator<Item = [u8; N]> {
    let (marked, mark) = match padding {
        Padding::Zeros => (message.len().max(1), 0),
        Padding::Bit => (message.len() + 1, 0x80),
    };
    (0..marked.div_ceil(N)).map(move |at| {
        let begin = at * N;
        let rest = message.get(begin..).unwrap_or_default();
        let mut block = [0; N];
        block.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        if let Some(place) = message.len().checked_sub(begin).and_then(|after| block.get_mut(after)) {
            *place = mark;
        }
        block
    })
}

/// An AES key of any length that AES has, for what is done once in a while: it is scheduled at each use.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) enum AesKey {
    Aes128([u8; 16]),
    Aes192([u8; 24]),
    Aes256([u8; 32]),
}

impl AesKey {
    /// `None` unless there are 16, 24 or 32 bytes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let of_128 = || bytes.try_into().map(Self::Aes128);
        let of_192 = || bytes.try_into().map(Self::Aes192);
        of_128().or_else(|_| of_192()).or_else(|_| bytes.try_into().map(Self::Aes256)).ok()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Aes128(key) => key,
            Self::Aes192(key) => key,
            Self::Aes256(key) => key,
        }
    }

    pub(super) fn encrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = block.into();
        match self {
            Self::Aes128(key) => Aes128::new(key.into()).encrypt_block(&mut block),
            Self::Aes192(key) => Aes192::new(key.into()).encrypt_block(&mut block),
            Self::Aes256(key) => Aes256::new(key.into()).encrypt_block(&mut block),
        }
        block.into()
    }

    pub(super) fn decrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = block.into();
        match self {
            Self::Aes128(key) => Aes128::new(key.into()).decrypt_block(&mut block),
            Self::Aes192(key) => Aes192::new(key.into()).decrypt_block(&mut block),
            Self::Aes256(key) => Aes256::new(key.into()).decrypt_block(&mut block),
        }
        block.into()
    }

    /// AES-CMAC (RFC 4493; SP 800-38B) over pieces, one after the other.
    pub(super) fn cmac(&self, pieces: &[&[u8]]) -> [u8; 16] {
        match self {
            Self::Aes128(key) => mac_of(Cmac::<Aes128>::new(key.into()), pieces),
            Self::Aes192(key) => mac_of(Cmac::<Aes192>::new(key.into()), pieces),
            Self::Aes256(key) => mac_of(Cmac::<Aes256>::new(key.into()), pieces),
        }
    }
}

fn mac_of(mut mac: impl Mac<OutputSize = U16>, pieces: &[&[u8]]) -> [u8; 16] {
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

/// The decimal digits of bytes in hexadecimal, left to right, and after them their letters, `a` as 0: how card schemes
/// make digits of what a cipher gives.
pub(super) fn decimalized(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let nibbles = || bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let letters = nibbles().filter(|nibble| *nibble >= 10).map(|nibble| nibble - 10);
    nibbles().filter(|nibble| *nibble < 10).chain(letters)
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

    #[test]
    fn digits_come_before_letters() {
        for (bytes, expected) in [("", ""), ("1a2B", "1201"), ("fedcba98", "98543210"), ("AFFE", "0554")] {
            let bytes = hex::decode(bytes).unwrap();
            let digits = decimalized(&bytes).map(|digit| char::from(b'0' + digit));
            assert_eq!(digits.collect::<String>(), expected);
        }
    }

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
        let blocks = |text: &str, padding| {
            blocks::<8>(&hex::decode(text).unwrap(), padding).collect::<Vec<_>>().concat()
        };
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
