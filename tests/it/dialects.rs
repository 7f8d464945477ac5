//! What holds for every dialect that comes with the program: any message that it can say is read back as it was,
//! and no bytes do harm.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokenswitch::codec::{
    Class, DataElement, DecodeErrorKind, Dialect, Extent, FieldPath, FieldSpec, FrameFormat, FrameReader,
    IccData, Layout, Message, decode, decode_into, describe, encode, shipped_dialects,
};
use tokenswitch::vocab::Mti;

fn dialects() -> Vec<Dialect> {
    shipped_dialects().iter().map(|(name, _)| Dialect::shipped(name).unwrap()).collect()
}

fn characters(class: Class, length: usize) -> BoxedStrategy<Vec<u8>> {
    let text = match class {
        Class::Numeric => format!("[0-9]{{{length}}}"),
        Class::Alphabetic => format!("[A-Za-z]{{{length}}}"),
        Class::Alphanumeric => format!("[A-Za-z0-9]{{{length}}}"),
        Class::Text => format!("[ -~]{{{length}}}"),
        Class::Track => format!("[0-9=]{{{length}}}"),
        Class::SignedNumeric => format!("[CD][0-9]{{{}}}", length - 1),
        Class::Binary => return prop::collection::vec(any::<u8>(), length).boxed(),
    };
    proptest::string::string_regex(&text).unwrap().prop_map(String::into_bytes).boxed()
}

/// Values that the element may have.
fn value(field: &FieldSpec) -> BoxedStrategy<Vec<u8>> {
    let class = field.attribute.class;
    let parts = |parts: &[tokenswitch::codec::PartSpec]| -> BoxedStrategy<Vec<u8>> {
        let values: Vec<_> = parts
            .iter()
            .map(|part| characters(part.attribute.class, usize::from(part.attribute.most())))
            .collect();
        values.prop_map(|values| values.concat()).boxed()
    };
    match (&field.layout, field.attribute.extent) {
        (Layout::Parts(specs), _) => parts(specs),
        (Layout::Groups(specs), _) => {
            prop::collection::vec(parts(specs), 1..=6).prop_map(|groups| groups.concat()).boxed()
        }
        (Layout::Usages(_), _) => prop::collection::vec(("[A-Z]{2}", "[ -~]{0,60}"), 1..5)
            .prop_map(|usages| {
                let usage = |(name, value): (String, String)| format!("{name}{:03}{value}", value.len());
                usages.into_iter().map(usage).collect::<String>().into_bytes()
            })
            .boxed(),
        (Layout::Tlv, _) => {
            let item = (
                prop::sample::select(vec!["9F26", "82", "5A", "9F7C"]),
                prop::collection::vec(any::<u8>(), 0..20),
            );
            prop::collection::vec(item, 1..8)
                .prop_map(|items| {
                    let item = |(tag, value): (&str, Vec<u8>)| {
                        [hex::decode(tag).unwrap(), vec![value.len() as u8], value].concat()
                    };
                    items.into_iter().flat_map(item).collect::<Vec<u8>>()
                })
                .boxed()
        }
        (Layout::Plain, Extent::Fixed(length)) => characters(class, usize::from(length)),
        (Layout::Plain, Extent::UpTo(most)) => {
            (1..=usize::from(most)).prop_flat_map(move |length| characters(class, length)).boxed()
        }
    }
}

fn message(dialect: &Dialect) -> BoxedStrategy<Message> {
    let values: Vec<_> =
        dialect.fields().iter().map(|field| prop::option::weighted(0.15, value(field))).collect();
    let elements: Vec<DataElement> = dialect.fields().iter().map(|field| field.element).collect();
    let mti = prop::sample::select(vec!["0100", "0110", "0200", "0421", "0800"]);
    (mti, values)
        .prop_map(move |(mti, values)| {
            let mut message = Message::new(Mti::parse(mti.as_bytes()).unwrap());
            for (element, value) in elements.iter().zip(values) {
                if let Some(value) = value {
                    message.set(*element, &value).unwrap();
                }
            }
            message
        })
        .boxed()
}

#[test]
fn what_is_written_is_read_back_and_written_the_same() {
    for dialect in dialects() {
        let mut runner = TestRunner::new(Config::with_cases(64));
        let held = runner.run(&message(&dialect), |message| {
            let mut frame = b"before".to_vec();
            encode(&dialect, &message, &mut frame).unwrap();
            let frame = &frame[6..];
            let read = decode(&dialect, frame).unwrap();
            prop_assert_eq!(&read, &message);
            let mut again = Vec::new();
            encode(&dialect, &read, &mut again).unwrap();
            prop_assert_eq!(&again[..], frame);
            Ok(())
        });
        held.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
}

/// Reads bytes in every way there is; nothing may panic, and what is read must be what the bytes say.
fn read_all(dialect: &Dialect, bytes: &[u8], message: &mut Message) {
    match decode(dialect, bytes) {
        Ok(read) => {
            let mut written = Vec::new();
            encode(dialect, &read, &mut written).unwrap();
            assert_eq!(decode(dialect, &written).unwrap(), read);
            let _ = (read.amount(), read.track2(), read.original_data(), dialect.token_data(&read));
            if let Ok(Some(icc)) = read.icc() {
                assert!(IccData::parse(&icc.without(&tokenswitch::codec::CARD_TAGS)).is_ok());
            }
            assert!(describe(dialect, &read).rows.len() <= 2 + 128 * 500);
        }
        Err(failure) => {
            assert!(failure.error.offset.is_some_and(|offset| offset <= bytes.len()), "{}", failure.error);
            if let Some(partial) = failure.partial {
                let _ = describe(dialect, &partial).to_string();
            }
        }
    }
    let _ = decode_into(dialect, bytes, message);
}

#[test]
fn no_bytes_do_harm() {
    let mut rng = fastrand::Rng::with_seed(20_261_122);
    let mut tried = 0;
    for dialect in dialects() {
        let mut runner = TestRunner::deterministic();
        let strategy = message(&dialect);
        let mut used_again = Message::new(Mti::parse(b"0800").unwrap());
        for _ in 0..60 {
            let valid = strategy.new_tree(&mut runner).unwrap().current();
            let mut frame = Vec::new();
            encode(&dialect, &valid, &mut frame).unwrap();
            for _ in 0..40 {
                let mut bytes = frame.clone();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..bytes.len());
                    match rng.u8(..4) {
                        0 => bytes[at] = rng.u8(..),
                        1 => bytes[at] ^= 1 << rng.u8(..8),
                        2 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, rng.u8(b'0'..=b'9')),
                    }
                    if bytes.is_empty() {
                        bytes.push(0);
                    }
                }
                read_all(&dialect, &bytes, &mut used_again);
                tried += 1;
            }
            let noise: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
            read_all(&dialect, &noise, &mut used_again);
            let _ = IccData::parse(&noise);
            tried += 1;
        }
    }
    println!("{tried} inputs: messages in every dialect");
}

#[test]
fn no_bytes_harm_a_frame_reader() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut tried = 0;
    for name in ["binary-2", "binary-2-inclusive", "binary-4", "ascii-4", "ascii-4-inclusive"] {
        for _ in 0..200 {
            let format = FrameFormat::parse(name, rng.usize(..6), 2_000).unwrap();
            tried += 1;
            let mut reader = FrameReader::new(format);
            'connection: for _ in 0..20 {
                let spare = reader.spare();
                let count = rng.usize(..=spare.len().min(700));
                spare[..count].fill_with(|| if rng.bool() { 0 } else { rng.u8(..) });
                reader.filled(count);
                loop {
                    match reader.next() {
                        Ok(Some(frame)) => assert!(frame.message.len() <= 2_000 && !frame.message.is_empty()),
                        Ok(None) => break,
                        Err(_) => break 'connection,
                    }
                }
            }
        }
    }
    println!("{tried} inputs: streams of frames");
}

#[test]
fn faults_are_placed_in_every_dialect() {
    let place = |error: tokenswitch::codec::DecodeError| (error.path.to_string(), error.offset.unwrap());
    let ascii = Dialect::shipped("iso87-ascii").unwrap();
    for (frame, path, offset) in [
        ("", "MTI", 0),
        ("0900", "MTI", 0),
        ("1100", "MTI", 0),
        ("0100000000000000000", "bitmap", 4),
        ("0100X000000000000000", "bitmap", 4),
        ("010080000000000000000000000000000000", "bitmap", 20),
        ("0100200000000000000000000x", "3", 20),
        ("01002000000000000000000000x", "message", 26),
        ("010040000000000000002012345678901234567890", "2", 20),
        ("01004000000000000000001", "2", 20),
        ("010040000000000000001x", "2", 20),
        ("01000000000000000002TK01", "63", 20),
        ("010000000000000000020 5TK009", "63", 20),
        ("01000000000000000002005TK009", "63", 23),
    ] {
        let failure = decode(&ascii, frame.as_bytes()).unwrap_err();
        assert_eq!(place(failure.error), (path.to_owned(), offset), "{frame}");
    }
    let bcd = Dialect::shipped("iso87-bcd").unwrap();
    for (frame, path, offset, kind) in [
        ("0100 2000000000000000 00000A", "3", 10, DecodeErrorKind::Class { expected: Class::Numeric }),
        ("0100 0000040000000000 1051", "22", 10, DecodeErrorKind::Padding),
        ("0100 4000000000000000 1A", "2", 10, DecodeErrorKind::LengthNotANumber),
    ] {
        let bytes = hex::decode(frame.replace(' ', "")).unwrap();
        let error = decode(&bcd, &bytes).unwrap_err().error;
        assert_eq!((error.path.to_string().as_str(), error.offset, error.kind), (path, Some(offset), kind));
    }
}

#[test]
fn what_a_dialect_cannot_say_is_not_written() {
    let dialect = Dialect::shipped("iso87-ascii").unwrap();
    for (number, value, shown) in [
        (3, &b"00000"[..], "3: a length of 5 where 6 to 6 are allowed"),
        (3, b"00000x", "3: not of class n"),
        (2, b"", "2: a length of 0 where 1 to 19 are allowed"),
        (54, b"00", "54: not made up as the dialect says"),
    ] {
        let mut message = Message::new(Mti::parse(b"0100").unwrap());
        message.set(DataElement::STAN, b"000001").unwrap();
        message.set(DataElement::new(number).unwrap(), value).unwrap();
        let mut out = b"before".to_vec();
        assert_eq!(encode(&dialect, &message, &mut out).unwrap_err().to_string(), shown);
        assert_eq!(out, b"before");
    }
    let message = Message::new(Mti::parse(b"1100").unwrap());
    let error = encode(&dialect, &message, &mut Vec::new()).unwrap_err();
    assert_eq!(error.path, FieldPath::MTI);
}
