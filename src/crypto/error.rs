//! `CryptoError`: says what failed and which key, never why in a way that helps an attacker.

use super::key::{KeyCheckValue, KeyLabel, KeyUsage};
use super::key_block::KeyBlockFault;
use super::pin_block::PinBlockFault;
use crate::stdx::random::NoEntropy;

/// What can go wrong with keys and sealed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Altered, moved to another place, sealed for something else, or under another key: one answer for all.
    #[error("the seal does not hold")]
    NotAuthentic,
    #[error("no data key of version {version} is loaded")]
    UnknownKeyVersion { version: u16 },
    #[error("{length} bytes are too many to seal in one envelope")]
    TooLong { length: usize },
    /// Bytes that `Sealed::to_bytes` did not write.
    #[error("not a sealed envelope")]
    NotSealed,
    #[error("no key for {usage} in the key store")]
    KeyMissing { usage: KeyUsage },
    #[error("more than one key for {usage} in the key store, where only one can be used")]
    KeyAmbiguous { usage: KeyUsage },
    #[error("no key {label} for {usage} in the key store")]
    NoSuchKey { label: KeyLabel, usage: KeyUsage },
    #[error("key {label} is for {usage}")]
    OtherUsage { label: KeyLabel, usage: KeyUsage },
    #[error("a key for {usage} has {} bytes, not {length}", usage.key_length())]
    KeyLength { usage: KeyUsage, length: usize },
    #[error("key {label} version {version} is no private key of P-256")]
    NoPrivateKey { label: KeyLabel, version: u16 },
    #[error("master key: {0}")]
    MasterKey(KeyFault),
    #[error("key component: {0}")]
    Component(KeyFault),
    #[error("key block: {0}")]
    KeyBlock(KeyBlockFault),
    #[error("PIN block: {0}")]
    PinBlock(PinBlockFault),
    #[error("key store, line {line}: {fault}")]
    Store { line: usize, fault: StoreFault },
    #[error("the master key has check value {check} of the published sample key; make keys of your own")]
    SampleMaster { check: KeyCheckValue },
    #[error(
        "key {label} version {version} has check value {check} of a published sample key; make keys of your own"
    )]
    SampleKey { label: KeyLabel, version: u16, check: KeyCheckValue },
    #[error("the key store was made for development, and this configuration does not allow that")]
    DevelopmentKeys,
    #[error("the operating system gave no random bytes")]
    NoEntropy,
}

impl From<KeyBlockFault> for CryptoError {
    fn from(fault: KeyBlockFault) -> Self {
        Self::KeyBlock(fault)
    }
}

impl From<NoEntropy> for CryptoError {
    fn from(_: NoEntropy) -> Self {
        Self::NoEntropy
    }
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("64 hexadecimal characters are wanted, and nothing else")]
    NotHex,
    #[error("32, 48 or 64 hexadecimal characters are wanted, and nothing else")]
    NotAes,
    #[error("at least two of one length are wanted, and together they must make a key")]
    Components,
}

/// What is wrong with a line of a key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    #[error("`{wanted}` is wanted here")]
    Wanted { wanted: &'static str },
    #[error("this is written under master key {wanted}, and the one given has check value {given}")]
    OtherMaster { wanted: KeyCheckValue, given: KeyCheckValue },
    #[error("the file was altered or cut since it was sealed")]
    SealBroken,
    #[error("key {label} version {version} cannot be unwrapped")]
    Unwrap { label: KeyLabel, version: u16 },
    #[error("key {label} version {version} has check value {found}, and its line says {said}")]
    CheckValue { label: KeyLabel, version: u16, found: KeyCheckValue, said: KeyCheckValue },
    #[error("key {label} version {version} stands here twice")]
    Twice { label: KeyLabel, version: u16 },
}
