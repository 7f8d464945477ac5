//! The fuzz targets of `fuzz/`, run on stable over inputs from a seed: frames of another implementation, cut,
//! spliced and with bytes changed. `cargo fuzz run TARGET` looks further, by hand.

#[path = "../../fuzz/fuzz_targets/frame.rs"]
#[allow(unused_attributes, reason = "`no_main` is for cargo-fuzz")]
mod frame;
#[path = "../../fuzz/fuzz_targets/message.rs"]
#[allow(unused_attributes, reason = "`no_main` is for cargo-fuzz")]
mod message;
#[path = "../../fuzz/fuzz_targets/tlv.rs"]
#[allow(unused_attributes, reason = "`no_main` is for cargo-fuzz")]
mod tlv;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// In place of cargo-fuzz's: the target as a function. It stands below the targets, which find it by its path.
macro_rules! fuzz_target {
    (|$input:ident: $kind:ty| $body:block) => {
        pub(crate) fn target($input: $kind) $body
    };
}
pub(crate) use fuzz_target;

const SEED: u64 = 20_261_122;
const ROUNDS: usize = 30_000;

const VECTORS: [&str; 3] = [
    include_str!("../vectors/codec/iso87-ascii.txt"),
    include_str!("../vectors/codec/iso87-ascii-binary-bitmap.txt"),
    include_str!("../vectors/codec/iso87-bcd.txt"),
];

/// DE 55 of a tap, with an account number in it.
const CHIP: &[u8] = &[
    0x9F, 0x26, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0x9F, 0x36, 0x02, 0, 7, 0x70, 0x0A, 0x5A, 0x08, 0x47, 0x61,
    0x73, 0, 0, 0, 0, 0x11, 0x95, 0x05, 0, 0, 0, 0, 0,
];

#[test]
fn messages() {
    each("messages", &frames(), |bytes, _| message::target(bytes));
}

#[test]
fn chip_data() {
    each("chip data", &[CHIP.to_vec()], |bytes, _| tlv::target(bytes));
}

#[test]
fn frames_in_pieces() {
    let with_length = |frame: Vec<u8>| {
        let length = u16::try_from(frame.len()).unwrap().to_be_bytes();
        [length.as_slice(), &frame].concat()
    };
    let stream: Vec<Vec<u8>> = frames().into_iter().map(with_length).collect();
    each("frames in pieces", &[stream.concat()], |bytes, random| {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        frame::target(pieces);
    });
}

/// Runs `target` over the corpus as it is, then over what comes of it by chance.
fn each(what: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8], &mut fastrand::Rng)) {
    let mut random = fastrand::Rng::with_seed(SEED);
    for round in 0..corpus.len() + ROUNDS {
        let bytes = match corpus.get(round) {
            Some(bytes) => bytes.clone(),
            None => changed(corpus, &mut random),
        };
        let result = catch_unwind(AssertUnwindSafe(|| target(&bytes, &mut random)));
        assert!(result.is_ok(), "seed {SEED}, round {round}: {}", hex::encode(&bytes));
    }
    println!("{} inputs: {what}", corpus.len() + ROUNDS);
}

/// One of the corpus with up to four changes, of which each keeps most of it as it was.
fn changed(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = random.choice(corpus).unwrap().clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 if at < bytes.len() => bytes[at] = random.u8(..),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            _ => {
                let other = random.choice(corpus).unwrap();
                let from = random.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// What another implementation wrote.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for line in VECTORS.iter().flat_map(|text| text.lines()) {
        if line.starts_with("message ") {
            frames.push(Vec::new());
        } else if let (Some(hex), Some(frame)) = (line.strip_prefix("frame "), frames.last_mut()) {
            frame.extend(hex::decode(hex.trim()).unwrap());
        }
    }
    assert!(frames.len() > 10, "the vectors are not as they were");
    frames
}
