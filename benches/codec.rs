//! The codec over 64 mixed shapes of message: parse (which validates), parse and rewrite, the last look for a PAN.
//! Figures are for all 64; the throughput line says messages per second.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokenswitch::codec::{DataElement, Dialect, LeakScan, Message, decode, decode_into, encode};
use tokenswitch::vocab::{Mti, Pan};

const SHAPES: usize = 64;

fn element(number: u8) -> DataElement {
    DataElement::new(number).unwrap()
}

/// DE 55 of a tap: sixteen tags, about 100 bytes.
fn icc(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, length) in [
        ("9F26", 8),
        ("9F27", 1),
        ("9F10", 16),
        ("9F37", 4),
        ("9F36", 2),
        ("95", 5),
        ("9A", 3),
        ("9C", 1),
        ("9F02", 6),
        ("5F2A", 2),
        ("82", 2),
        ("9F1A", 2),
        ("9F03", 6),
        ("9F33", 3),
        ("9F34", 3),
        ("84", 7),
    ] {
        bytes.extend(hex::decode(tag).unwrap());
        bytes.push(length);
        bytes.extend((0..length).map(|_| rng.u8(..)));
    }
    bytes
}

/// Messages as acquirers send them: the usual elements, and each of the others in half of them.
fn messages() -> Vec<Message> {
    let mut rng = fastrand::Rng::with_seed(8583);
    let mut digits = move |count: usize| -> Vec<u8> { (0..count).map(|_| rng.digit(10) as u8).collect() };
    let mut rng = fastrand::Rng::with_seed(87);
    (0..SHAPES)
        .map(|_| {
            let mti = *rng.choice([b"0100", b"0200", b"0220", b"0420"]).as_ref().unwrap();
            let mut message = Message::new(Mti::parse(mti).unwrap());
            let mut set = |number, value: &[u8]| message.set(element(number), value).unwrap();
            set(2, &[b"4761".to_vec(), digits(rng.usize(9..=15))].concat());
            for (number, value) in [
                (3, &b"000000"[..]),
                (7, b"1122123456"),
                (13, b"1122"),
                (22, b"071"),
                (25, b"00"),
                (32, b"123456"),
                (41, b"TERM0001"),
                (42, b"MERCHANT0000001"),
                (49, b"978"),
            ] {
                set(number, value);
            }
            for (number, length) in [(4, 12), (11, 6), (12, 6), (37, 12)] {
                set(number, &digits(length));
            }
            let others: [(u8, &[u8]); 10] = [
                (14, b"2712"),
                (18, b"5812"),
                (19, b"280"),
                (23, b"001"),
                (26, b"12"),
                (33, b"98765432101"),
                (35, b"4761739001010119=27122010000000000000"),
                (53, b"2001010000000000"),
                (43, b"THE SHOP AT THE CORNER   BERLIN       DE"),
                (48, b"0123456789ABCDEFGHIJ0123456789"),
            ];
            for (number, value) in others {
                if rng.bool() {
                    set(number, value);
                }
            }
            if rng.bool() {
                set(55, &icc(&mut rng));
            }
            if rng.bool() {
                set(63, b"TK027031100000000001040211050203");
            }
            if mti == b"0420" {
                set(90, b"010000012311221234560000012345600000000000");
            }
            message
        })
        .collect()
}

fn frames(dialect: &Dialect) -> Vec<Vec<u8>> {
    let encoded = |message: &Message| {
        let mut frame = Vec::new();
        encode(dialect, message, &mut frame).unwrap();
        frame
    };
    messages().iter().map(encoded).collect()
}

fn rewrite(message: &mut Message) {
    message.set(DataElement::PAN, b"4761739001010119").unwrap();
    message.set(DataElement::STAN, b"654321").unwrap();
    message.set(DataElement::EXPIRY, b"2812").unwrap();
    message.set(DataElement::TRACK_2, b"4761739001010119=28122010000000000").unwrap();
}

fn codec(criterion: &mut Criterion) {
    for name in ["iso87-ascii", "iso87-ascii-binary-bitmap", "iso87-bcd"] {
        let dialect = Dialect::shipped(name).unwrap();
        let frames = frames(&dialect);
        let average = frames.iter().map(Vec::len).sum::<usize>() / SHAPES;
        let mut group = criterion.benchmark_group(format!("codec/{name} ({average} bytes)"));
        group.throughput(Throughput::Elements(SHAPES as u64));
        group.bench_function("parse", |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    black_box(decode(&dialect, black_box(frame)).unwrap());
                }
            });
        });
        let mut message = decode(&dialect, &frames[0]).unwrap();
        let mut out = Vec::with_capacity(4096);
        group.bench_function("parse and rewrite, place used again", |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    decode_into(&dialect, black_box(frame), &mut message).unwrap();
                    rewrite(&mut message);
                    out.clear();
                    encode(&dialect, &message, &mut out).unwrap();
                    black_box(&out);
                }
            });
        });
        group.bench_function("parse, place used again", |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    decode_into(&dialect, black_box(frame), &mut message).unwrap();
                    black_box(&message);
                }
            });
        });
        let mut out = Vec::with_capacity(4096);
        group.bench_function("parse and rewrite", |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    let mut message = decode(&dialect, black_box(frame)).unwrap();
                    rewrite(&mut message);
                    out.clear();
                    encode(&dialect, &message, &mut out).unwrap();
                    black_box(&out);
                }
            });
        });
        group.finish();
    }
}

fn leak_scan(criterion: &mut Criterion) {
    let dialect = Dialect::shipped("iso87-ascii").unwrap();
    let pan = Pan::parse(b"6228480000000000026").unwrap();
    let frames: Vec<Vec<u8>> = frames(&dialect)
        .into_iter()
        .map(|mut frame| {
            frame.resize(300, b'7');
            frame
        })
        .collect();
    let mut group = criterion.benchmark_group("codec/leak scan (300 bytes)");
    group.throughput(Throughput::Elements(SHAPES as u64));
    group.bench_function("new and find", |bencher| {
        bencher.iter(|| {
            for frame in &frames {
                assert_eq!(LeakScan::new(black_box(&pan)).find(black_box(frame)), None);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, codec, leak_scan);
criterion_main!(benches);
