//! `decode`: hex in, a masked description out.

use std::fs;
use std::io::{self, Read};

use zeroize::Zeroizing;

use super::{Failure, say};
use crate::codec::{
    Dialect, FrameFormat, FrameReader, MOST_FRAME, MOST_MESSAGE, decode, describe, shipped_dialects,
};

/// Describes a message in hexadecimal, account numbers and the like masked.
#[derive(Debug, clap::Args)]
pub(super) struct Decode {
    /// A shipped dialect's name, or a file that ends in .toml.
    #[arg(long, value_name = "DIALECT", default_value = "iso87-ascii")]
    dialect: String,
    /// The length header before the message, as in a configuration (binary-2, ascii-4, ...); none: there is none.
    #[arg(long, value_name = "LENGTH")]
    framing: Option<String>,
    /// Bytes of a fixed header before the message, as a TPDU's 5.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    frame_header: usize,
    /// The bytes in hexadecimal; spaces and line ends do not count. Without it they are read from standard input,
    /// where no list of processes shows them.
    hex: Option<String>,
}

pub(super) fn run(arguments: &Decode) -> Result<(), Failure> {
    let dialect = dialect(&arguments.dialect)?;
    let text = match &arguments.hex {
        Some(text) => Zeroizing::new(text.clone()),
        None => standard_input()?,
    };
    let bytes = unhex(&text)?;
    for message in messages(arguments, &bytes)? {
        say(&described(&dialect, &message)?);
    }
    Ok(())
}

/// A message in rows; for one that is not right, the rows that could be read and then the fault.
fn described(dialect: &Dialect, message: &[u8]) -> Result<String, Failure> {
    match decode(dialect, message) {
        Ok(message) => Ok(describe(dialect, &message).to_string()),
        Err(failure) => {
            if let Some(partial) = &failure.partial {
                say(&describe(dialect, partial).to_string());
            }
            Err(Failure::new(format!("not a message of dialect {}: {}", dialect.name(), failure.error)))
        }
    }
}

fn dialect(name: &str) -> Result<Dialect, Failure> {
    if let Some(shipped) = Dialect::shipped(name) {
        return Ok(shipped);
    }
    if !name.ends_with(".toml") {
        let names: Vec<&str> = shipped_dialects().iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        return Err(Failure::new(format!("{name} is neither one of {names} nor a file that ends in .toml")));
    }
    let text =
        fs::read_to_string(name).map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    Dialect::from_toml(name, &text).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::new(lines.join("\n"))
    })
}

/// The messages in the bytes: one, or as many as there are frames.
fn messages(arguments: &Decode, bytes: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, Failure> {
    let Some(framing) = &arguments.framing else {
        let message = bytes.get(arguments.frame_header..);
        let message = message.ok_or_else(|| Failure::new("the bytes end within the frame's header"))?;
        return Ok(vec![Zeroizing::new(message.to_vec())]);
    };
    let most = if framing.starts_with("ascii") { 9_995 } else { MOST_FRAME };
    let format = FrameFormat::parse(framing, arguments.frame_header, most)
        .map_err(|it| Failure::new(it.to_string()))?;
    let mut reader = FrameReader::new(format);
    let mut messages = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let spare = reader.spare();
        let count = spare.len().min(rest.len());
        let (taken, left) = rest.split_at(count);
        spare.iter_mut().zip(taken).for_each(|(place, byte)| *place = *byte);
        reader.filled(count);
        rest = left;
        while let Some(frame) = reader.next().map_err(|error| Failure::new(error.to_string()))? {
            messages.push(Zeroizing::new(frame.message.to_vec()));
        }
    }
    if reader.is_partial() {
        return Err(Failure::new("the last frame is not whole"));
    }
    Ok(messages)
}

fn standard_input() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let most = u64::try_from(4 * MOST_MESSAGE).unwrap_or(u64::MAX);
    let read = io::stdin().lock().take(most).read_to_string(&mut text);
    read.map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
    Ok(text)
}

fn unhex(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let digits: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    hex::decode(&*digits)
        .map(Zeroizing::new)
        .map_err(|error| Failure::new(format!("not hexadecimal: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{DataElement, Message, encode};
    use crate::vocab::Mti;

    fn message(dialect: &Dialect) -> Vec<u8> {
        let mut message = Message::new(Mti::parse(b"0100").unwrap());
        for (element, value) in [
            (DataElement::PAN, &b"4761739001010119"[..]),
            (DataElement::SENT_AT, b"1122103000"),
            (DataElement::STAN, b"000042"),
        ] {
            message.set(element, value).unwrap();
        }
        let mut bytes = Vec::new();
        encode(dialect, &message, &mut bytes).unwrap();
        bytes
    }

    fn arguments(framing: Option<&str>, frame_header: usize) -> Decode {
        Decode { dialect: String::new(), framing: framing.map(str::to_owned), frame_header, hex: None }
    }

    #[test]
    fn a_description_shows_no_account_number() {
        for (name, _) in shipped_dialects() {
            let dialect = dialect(name).unwrap();
            let shown = described(&dialect, &message(&dialect)).unwrap();
            assert!(shown.contains("000042") && shown.contains("0119"), "{name}: {shown}");
            assert!(!shown.contains("4761739001010119"), "{name}: {shown}");
        }
    }

    #[test]
    fn frames_are_taken_apart() {
        let frames = b"\x00\x03abc\x00\x02de";
        let found = messages(&arguments(Some("binary-2"), 0), frames).unwrap();
        assert_eq!(found.iter().map(|it| it.as_slice()).collect::<Vec<_>>(), [&b"abc"[..], b"de"]);
        assert_eq!(**messages(&arguments(None, 2), b"xxabc").unwrap()[0], *b"abc");
        let large = [b"9990".as_slice(), &[b'x'; 9_990]].concat();
        assert_eq!(messages(&arguments(Some("ascii-4"), 0), &large).unwrap()[0].len(), 9_990);
        for (framing, bytes) in
            [(Some("binary-2"), &b"\x00\x03ab"[..]), (Some("binary-3"), b""), (None, b"x")]
        {
            assert!(messages(&arguments(framing, 2), bytes).is_err(), "{framing:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_the_bytes() {
        let dialect = dialect("iso87-ascii").unwrap();
        let bytes = message(&dialect);
        let cut = described(&dialect, &bytes[..bytes.len() - 3]).unwrap_err().to_string();
        assert!(cut.starts_with("not a message of dialect iso87-ascii: "), "{cut}");
        assert!(unhex("30 3\n1 3132").is_ok());
        assert!(unhex("303").is_err() && unhex("3g").is_err());
    }
}
