//! Any bytes, cut in any way, through a frame reader of each format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenswitch::codec::{FrameFormat, FrameReader};

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    for name in ["binary-2", "binary-2-inclusive", "binary-4", "ascii-4", "ascii-4-inclusive"] {
        let format = FrameFormat::parse(name, 5, 2_000).unwrap();
        let mut reader = FrameReader::new(format);
        'connection: for piece in &pieces {
            let spare = reader.spare();
            let count = piece.len().min(spare.len());
            spare[..count].copy_from_slice(&piece[..count]);
            reader.filled(count);
            loop {
                match reader.next() {
                    Ok(Some(frame)) => assert!(frame.header.len() == 5 && frame.message.len() < 2_000),
                    Ok(None) => break,
                    Err(_) => break 'connection,
                }
            }
        }
    }
});
