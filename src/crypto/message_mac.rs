//! `MessageMacKey`: authentication codes of whole messages, as two parties agree upon them for DE 64 and DE 128.

use std::fmt;

use ring::digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{AesKey, Padding, blocks, cbc_mac, halves, retail_mac};
use super::key::CHIP_KEY_LENGTH;

/// A key with the way in which it is used. Codes have 8 bytes, of CMAC the left ones.
pub struct MessageMacKey(Algorithm);

enum Algorithm {
    Cbc(Zeroizing<[u8; 8]>, Padding),
    Retail(Zeroizing<[u8; CHIP_KEY_LENGTH]>, Padding),
    Cmac(AesKey),
    CmacOfDigest(AesKey),
}

impl MessageMacKey {
    /// ANSI X9.9: ISO/IEC 9797-1 algorithm 1 with single DES, whose 56 bits are searched in a day. For counterparties
    /// that have nothing else.
    #[must_use]
    pub fn x9_9(key: &[u8; 8], padding: Padding) -> Self {
        Self(Algorithm::Cbc(Zeroizing::new(*key), padding))
    }

    /// ANSI X9.19, the retail MAC: ISO/IEC 9797-1 algorithm 3.
    #[must_use]
    pub fn x9_19(key: &[u8; CHIP_KEY_LENGTH], padding: Padding) -> Self {
        Self(Algorithm::Retail(Zeroizing::new(*key), padding))
    }

    /// AES-CMAC (RFC 4493). `None` unless the key has 16, 24 or 32 bytes.
    #[must_use]
    pub fn cmac(key: &[u8]) -> Option<Self> {
        AesKey::new(key).map(Algorithm::Cmac).map(Self)
    }

    /// AES-CMAC over the SHA-256 of the message, as some networks have their security modules see no message whole.
    /// `None` unless the key has 16, 24 or 32 bytes.
    #[must_use]
    pub fn cmac_of_digest(key: &[u8]) -> Option<Self> {
        AesKey::new(key).map(Algorithm::CmacOfDigest).map(Self)
    }

    /// The code of a message.
    #[must_use]
    pub fn code(&self, message: &[u8]) -> [u8; 8] {
        let left = |code: [u8; 16]| halves(code).0;
        match &self.0 {
            Algorithm::Cbc(key, padding) => cbc_mac(key, blocks(message, *padding)),
            Algorithm::Retail(key, padding) => retail_mac(key, blocks(message, *padding)),
            Algorithm::Cmac(key) => left(key.cmac(&[message])),
            Algorithm::CmacOfDigest(key) => left(key.cmac(&[transformed(message).as_ref()])),
        }
    }

    /// Whether a message has this code, in a time that does not tell where they differ.
    #[must_use]
    pub fn verifies(&self, message: &[u8], code: &[u8]) -> bool {
        self.code(message).ct_eq(code).into()
    }
}

fn transformed(message: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, message)
}

impl fmt::Debug for MessageMacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Algorithm::Cbc(..) => "MessageMacKey(X9.9)",
            Algorithm::Retail(..) => "MessageMacKey(X9.19)",
            Algorithm::Cmac(_) => "MessageMacKey(CMAC)",
            Algorithm::CmacOfDigest(_) => "MessageMacKey(CMAC of SHA-256)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DES: made with psec 1.3.0. CMAC: RFC 4493 and SP 800-38B, D.2 and D.3, whose codes are 16 bytes.
    #[test]
    fn codes_are_the_published_ones() {
        let left = [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];
        let pair = hex::decode("0123456789ABCDEFFEDCBA9876543210").unwrap().try_into().unwrap();
        let cmac = |key: &str| MessageMacKey::cmac(&hex::decode(key).unwrap()).unwrap();
        let block = "6bc1bee22e409f96e93d7e117393172a";
        for (key, message, expected) in [
            (MessageMacKey::x9_9(&left, Padding::Zeros), "1234567890ABCDEF", "bd661569ae874e25"),
            (MessageMacKey::x9_9(&left, Padding::Bit), "1234567890ABCDEF", "8e3f97f837235bfb"),
            (MessageMacKey::x9_19(&pair, Padding::Zeros), "1234567890ABCDEF", "479ef7c1ecfe64ac"),
            (MessageMacKey::x9_19(&pair, Padding::Bit), "1234567890ABCDEF", "912476c111db4238"),
            (cmac("2b7e151628aed2a6abf7158809cf4f3c"), "", "bb1d6929e9593728"),
            (cmac("2b7e151628aed2a6abf7158809cf4f3c"), block, "070a16b46b4d4144"),
            (cmac("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b"), block, "9e99a7bf31e71090"),
            (
                cmac("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
                block,
                "28a7023f452e8f82",
            ),
        ] {
            let message = hex::decode(message).unwrap();
            let code = key.code(&message);
            assert_eq!(hex::encode(code), expected, "{key:?}");
            assert!(key.verifies(&message, &code));
            assert!(!key.verifies(&message, &code[..7]) && !key.verifies(b"other", &code), "{key:?}");
        }
        assert!(MessageMacKey::cmac(&[0; 20]).is_none());
    }

    #[test]
    fn a_code_holds_for_no_message_in_which_a_byte_is_another() {
        let message = hex::decode(&PUBLISHED[..160]).unwrap();
        let aes = [7; 16];
        for key in [
            MessageMacKey::x9_9(&[7; 8], Padding::Zeros),
            MessageMacKey::x9_19(&[7; 16], Padding::Bit),
            MessageMacKey::cmac(&aes).unwrap(),
            MessageMacKey::cmac_of_digest(&aes).unwrap(),
        ] {
            let code = key.code(&message);
            for at in 0..message.len() {
                let mut altered = message.clone();
                altered[at] ^= 1 << (at % 8);
                assert!(!key.verifies(&altered, &code), "{key:?} {at}");
            }
        }
    }

    /// The sample message that a TSP publishes with its digest; it has no account number of a card.
    #[test]
    fn the_published_message_has_its_published_digest() {
        let message = hex::decode(PUBLISHED).unwrap();
        let expected = "277ab4951a20bcb9982ed4cd9a0dd1cb30afbd581b9246a5f0423151bcb60c54";
        assert_eq!(hex::encode(transformed(&message)), expected);
        let (key, digest) = ([7; 16], hex::decode(expected).unwrap());
        let of_digest = MessageMacKey::cmac_of_digest(&key).unwrap();
        assert_eq!(of_digest.code(&message), MessageMacKey::cmac(&key).unwrap().code(&digest));
    }

    const PUBLISHED: &str = "110072046600086182011050320017600962540000000000000021001224170000290815200250007000003137323534\
        343230363736353439393220202020202020202020205354D820546F6B656E205365727669636520202020202F303032\
        36202F4F736C6F2020202020202020202020202020202020202F4E4F209D303031303031313030323134344430313434\
        4D3641433030453030303030444239374634333045463546453738333931323534343537343941443634373734333937\
        343945413137463335463445313133324330373631313443433344383730393944394235363132383439423638463436\
        324530354231393331383438433741453733443444414238394142424333313231354632453736323345350978699F02\
        060000000021009F03060000000000009F1A020250950500000000005F2A0209789A031801099C01009F37040F010E03\
        82021A809F360200019F10200FA501A081010000EEAF28C68381C2ED0F0000000000000000000000000000009F2608A1\
        A717065FF030A3";
}
