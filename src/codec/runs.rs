//! The quick way through the elements of a frame: values of one class that lie one behind the other are a run, which
//! is checked, and unpacked, as one. Most of a message is a few runs.
//!
//! The quick way only says yes. Whatever it stumbles over, the careful way (`decode`) reads again from the first
//! element on, and names the fault.

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::decode::read_element;
use super::dialect::{Dialect, Lies, Plan};
use super::encoding::unpack;
use super::message::{Message, Slot};
use super::reader::Reader;

/// Reads all elements that are `present`, up to the very end of the frame, into a message that holds a copy of it.
/// `None` when anything is not as the dialect says.
pub(super) fn read(
    dialect: &Dialect,
    reader: Reader<'_>,
    present: Bitmap,
    message: &mut Message,
) -> Option<()> {
    let mut runs = Runs { dialect, message, run: Run::empty(reader.offset()), reader };
    for element in present.iter() {
        let plan = dialect.plan(element)?;
        let at = runs.reader.offset();
        runs.message.starts_at(element, at);
        if plan.flows && runs.run.is_like(plan) {
            runs.reader.take(usize::from(plan.width)).ok()?;
            runs.message.place(element, runs.run.slot(at, plan.most)?);
        } else {
            runs.read(element, plan)?;
        }
    }
    runs.close(runs.reader.offset())?;
    runs.reader.is_empty().then_some(())
}

struct Runs<'a> {
    dialect: &'a Dialect,
    reader: Reader<'a>,
    message: &'a mut Message,
    run: Run,
}

/// Values of one class, with the lengths that announce those behind the first.
struct Run {
    class: Class,
    lies: Lies,
    /// Where it begins in the frame.
    start: usize,
    /// Where it begins in the message, if it has to be unpacked.
    place: usize,
}

impl Runs<'_> {
    /// Reads a value that may have a length before it, a layout inside, or a class of its own.
    #[inline(never)]
    fn read(&mut self, element: DataElement, plan: &Plan) -> Option<()> {
        let end = self.reader.offset();
        if plan.lies == Lies::Otherwise {
            self.close(end)?;
            read_element(self.dialect, element, &mut self.reader, self.message).ok()?;
            self.run = Run::empty(self.reader.offset());
            return Some(());
        }
        let length = plan.read_length(&mut self.reader).ok()?;
        let at = self.reader.offset();
        if !(plan.joins && self.run.is_like(plan)) {
            self.close(end)?;
            self.run =
                Run { class: plan.class, lies: plan.lies, start: at, place: self.message.arena().len() };
        }
        let wire = self.reader.take(plan.lies.wire_length(length)).ok()?;
        let mut slot = self.run.slot(at, u16::try_from(length).ok()?)?;
        if plan.lies == Lies::Packed && length % 2 == 1 {
            // The half byte left over stands before the digits.
            slot.at += 1;
            if wire.first()? >> 4 != 0 {
                return None;
            }
        }
        self.message.place(element, slot);
        if plan.has_layout { self.dialect.check_layout(element, wire).ok() } else { Some(()) }
    }

    /// Checks the run, which ends at `end`, and unpacks it where that is needed.
    fn close(&mut self, end: usize) -> Option<()> {
        let wire = self.reader.between(self.run.start, end);
        if self.run.lies != Lies::Packed {
            return self.run.class.admits(wire).then_some(());
        }
        let arena = self.message.arena();
        arena.extend_zeros(wire.len() * 2);
        let characters = arena.get_mut(self.run.place..)?;
        unpack(wire, characters);
        self.run.class.admits(characters).then_some(())
    }
}

impl Run {
    /// One that nothing joins.
    fn empty(start: usize) -> Self {
        Self { class: Class::Binary, lies: Lies::Otherwise, start, place: 0 }
    }

    #[inline]
    fn is_like(&self, plan: &Plan) -> bool {
        self.class == plan.class && self.lies == plan.lies
    }

    /// Where the message has, or will have, the characters whose bytes are at `at` of the frame.
    #[inline]
    fn slot(&self, at: usize, length: u16) -> Option<Slot> {
        let at = if self.lies == Lies::Packed { self.place + (at - self.start) * 2 } else { at };
        Some(Slot { at: u16::try_from(at).ok()?, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode::{careful, decode, decode_into};
    use crate::codec::{Extent, FieldSpec, Layout, encode, shipped_dialects};
    use crate::vocab::Mti;

    /// A value that the element may have.
    fn value(field: &FieldSpec, rng: &mut fastrand::Rng) -> Vec<u8> {
        let fixed: &[u8] = match (field.element.number(), &field.layout) {
            (_, Layout::Tlv) => b"\x9F\x36\x02\x00\xFF\x82\x02\x20\x00\x5A\x00",
            (_, Layout::Usages(_)) => b"TK015031100000000001SM000",
            (54, _) => b"0002978C000000004250",
            (95, _) => b"000000004250000000000000C00000000D00000000",
            _ => &[],
        };
        if !fixed.is_empty() {
            return fixed.to_vec();
        }
        let length = match field.attribute.extent {
            Extent::Fixed(length) => length,
            Extent::UpTo(most) => rng.u16(1..=most.min(30)),
        };
        let mut value: Vec<u8> = (0..length).map(|_| b'0' + rng.u8(..10)).collect();
        if field.attribute.class == Class::SignedNumeric {
            value[0] = b'C';
        }
        value
    }

    fn frame(dialect: &Dialect, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut message = Message::new(Mti::parse(b"0200").unwrap());
        for field in dialect.fields() {
            if rng.u8(..4) == 0 {
                message.set(field.element, &value(field, rng)).unwrap();
            }
        }
        let mut frame = Vec::new();
        encode(dialect, &message, &mut frame).unwrap();
        frame
    }

    fn dialects() -> Vec<Dialect> {
        shipped_dialects().iter().map(|(name, _)| Dialect::shipped(name).unwrap()).collect()
    }

    /// Changes some elements as a switch would: other values, longer and shorter ones, new ones, some taken away.
    fn change(message: &mut Message, dialect: &Dialect, rng: &mut fastrand::Rng) {
        for field in dialect.fields() {
            match rng.u8(..16) {
                0 => message.remove(field.element),
                1 | 2 => message.set(field.element, &value(field, rng)).unwrap(),
                _ => {}
            }
        }
    }

    #[test]
    fn what_came_and_was_changed_is_written_like_a_message_made_here() {
        let mut rng = fastrand::Rng::with_seed(8583);
        let dialects = dialects();
        let mut read = Message::new(Mti::parse(b"0200").unwrap());
        for round in 0..2_000 {
            let (from, to) = (&dialects[round % dialects.len()], &dialects[rng.usize(..dialects.len())]);
            let frame = frame(from, &mut rng);
            decode_into(from, &frame, &mut read).unwrap();
            let mut message = if rng.bool() {
                read.clone()
            } else {
                let mut copy = Message::new(read.mti());
                copy.copy_all(Bitmap::from_halves(rng.u64(..), rng.u64(..)), &read).unwrap();
                copy
            };
            change(&mut message, from, &mut rng);
            let mut made = Message::new(message.mti());
            message.elements().for_each(|element| made.set(element, message.get(element).unwrap()).unwrap());
            let (mut one, mut other) = (Vec::new(), Vec::new());
            let results = (encode(to, &message, &mut one), encode(to, &made, &mut other));
            assert_eq!(results.0, results.1);
            assert_eq!(one, other, "{} to {} round {round}", from.name(), to.name());
        }
    }

    #[test]
    fn both_ways_read_the_same() {
        let mut rng = fastrand::Rng::with_seed(2026);
        let dialects = dialects();
        for round in 0..2_000 {
            let dialect = &dialects[round % dialects.len()];
            let mut frame = frame(dialect, &mut rng);
            if rng.bool() {
                let at = rng.usize(..frame.len());
                frame[at] = rng.u8(..);
            }
            let (quick, careful) = (decode(dialect, &frame), careful(dialect, &frame));
            assert_eq!(quick.map_err(|failure| failure.error), careful, "{} round {round}", dialect.name());
        }
    }
}
