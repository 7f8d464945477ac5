//! Messages written by another implementation of ISO 8583 (`tests/vectors/codec/`) are read and written byte for
//! byte.

use tokenswitch::codec::{DataElement, Dialect, Message, decode, encode};
use tokenswitch::vocab::Mti;

const VECTORS: [(&str, &str); 3] = [
    ("iso87-ascii", include_str!("../vectors/codec/iso87-ascii.txt")),
    ("iso87-ascii-binary-bitmap", include_str!("../vectors/codec/iso87-ascii-binary-bitmap.txt")),
    ("iso87-bcd", include_str!("../vectors/codec/iso87-bcd.txt")),
];

struct Vector {
    name: String,
    frame: Vec<u8>,
    message: Message,
}

/// Reads a file of vectors: `message NAME`, lines of `frame HEX`, `mti DIGITS`, lines of `ELEMENT text|hex VALUE`.
fn vectors(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "message" {
            let message = Message::new(Mti::parse(b"0100").unwrap());
            vectors.push(Vector { name: rest.to_owned(), frame: Vec::new(), message });
            continue;
        }
        let vector = vectors.last_mut().unwrap();
        match word {
            "frame" => vector.frame.extend(hex::decode(rest).unwrap()),
            "mti" => vector.message.set_mti(Mti::parse(rest.as_bytes()).unwrap()),
            number => {
                let element = DataElement::new(number.parse().unwrap()).unwrap();
                let value = match rest.split_once(' ').unwrap() {
                    ("hex", value) => hex::decode(value).unwrap(),
                    (_, value) => value.as_bytes().to_vec(),
                };
                vector.message.set(element, &value).unwrap();
            }
        }
    }
    vectors
}

#[test]
fn frames_of_another_implementation_are_read_and_written_byte_for_byte() {
    for (name, text) in VECTORS {
        let dialect = Dialect::shipped(name).unwrap();
        let vectors = vectors(text);
        assert!(vectors.len() >= 8, "{name}");
        for vector in vectors {
            let decoded =
                decode(&dialect, &vector.frame).unwrap_or_else(|e| panic!("{name} {}: {e}", vector.name));
            for element in vector.message.elements() {
                assert_eq!(
                    decoded.get(element),
                    vector.message.get(element),
                    "{name} {} {element}",
                    vector.name
                );
            }
            assert_eq!(decoded, vector.message, "{name} {}", vector.name);
            let mut written = Vec::new();
            encode(&dialect, &vector.message, &mut written).unwrap();
            assert_eq!(hex::encode(written), hex::encode(&vector.frame), "{name} {}", vector.name);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused_at_the_element_that_is_cut() {
    for (name, text) in VECTORS {
        let dialect = Dialect::shipped(name).unwrap();
        for vector in vectors(text) {
            for length in 0..vector.frame.len() {
                let failure = decode(&dialect, &vector.frame[..length]).unwrap_err();
                assert!(failure.error.offset.is_some_and(|offset| offset <= length), "{}", failure.error);
                if let Some(partial) = failure.partial {
                    let cut = failure.error.path.element().unwrap();
                    assert_eq!(partial.present(), vector.message.present().before(cut), "{name} {length}");
                }
            }
            let longer = [&vector.frame[..], b"0"].concat();
            let failure = decode(&dialect, &longer).unwrap_err();
            assert_eq!(
                failure.error.to_string(),
                format!("message at byte {}: 1 bytes are left over", vector.frame.len())
            );
            assert_eq!(*failure.partial.unwrap(), vector.message);
        }
    }
}
