//! Credentials of API callers, as digests: what the configuration holds is of no use to who reads it.

use ring::digest;
use subtle::ConstantTimeEq;

/// SHA-256 of a credential. No slow hash is needed: credentials are 256 random bits, not words that people choose.
#[must_use]
pub fn credential_digest(secret: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let made = digest::digest(&digest::SHA256, secret);
    out.iter_mut().zip(made.as_ref()).for_each(|(place, byte)| *place = *byte);
    out
}

/// Equality that takes the same time wherever the first difference lies.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_plain_sha256_so_that_an_operator_can_make_it() {
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(credential_digest(b"abc")), known);
    }

    #[test]
    fn same_is_equality() {
        for (a, b, equal) in
            [(&b"abc"[..], &b"abc"[..], true), (b"abc", b"abd", false), (b"abc", b"ab", false)]
        {
            assert_eq!(same(a, b), equal);
        }
    }
}
