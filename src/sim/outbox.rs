//! `Outbox`: bytes waiting for each connection of a simulator. `Wire`: what befalls a frame on its way there.

use std::collections::BTreeMap;

use super::faults::{Fault, FaultPlan};
use crate::codec::{EncodeError, FrameFormat, WriteError};
use crate::stdx::clock::Moment;
use crate::vocab::Mti;

/// What a simulator wants sent, by connection. Frames of one connection lie one behind the other, so that one
/// write carries all of them. Connections are numbered by whoever owns the sockets.
#[derive(Debug, Default)]
pub struct Outbox {
    connections: BTreeMap<usize, Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    hang_up: bool,
}

impl Outbox {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes waiting for a connection; the owner of the socket takes away what it has written.
    pub fn bytes(&mut self, connection: usize) -> &mut Vec<u8> {
        &mut self.connections.entry(connection).or_default().bytes
    }

    /// Whether the connection is to be closed, once the bytes waiting for it are written. Asking forgets it.
    pub fn take_hang_up(&mut self, connection: usize) -> bool {
        self.connections.get_mut(&connection).is_some_and(|pending| std::mem::take(&mut pending.hang_up))
    }

    /// The connections that have something waiting.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        let waits = |pending: &Pending| pending.hang_up || !pending.bytes.is_empty();
        self.connections.iter().filter(move |(_, pending)| waits(pending)).map(|(at, _)| *at)
    }

    /// Forgets what waits for a connection that is gone.
    pub fn closed(&mut self, connection: usize) {
        self.connections.remove(&connection);
    }

    pub(super) fn hang_up(&mut self, connection: usize) {
        self.connections.entry(connection).or_default().hang_up = true;
    }
}

/// Frames messages, and does to them what the fault plan says.
#[derive(Debug)]
pub(super) struct Wire {
    framing: FrameFormat,
    plan: FaultPlan,
    /// Frames held back, by when they leave and, within a moment, in the order they were held.
    held: BTreeMap<(Moment, u64), (usize, Vec<u8>)>,
    held_so_far: u64,
}

impl Wire {
    pub(super) fn new(framing: FrameFormat, plan: FaultPlan) -> Self {
        Self { framing, plan, held: BTreeMap::new(), held_so_far: 0 }
    }

    pub(super) fn framing(&self) -> FrameFormat {
        self.framing
    }

    /// What happens to a message of that type and amount.
    pub(super) fn fault(&mut self, mti: Mti, amount: Option<u64>) -> Option<Fault> {
        self.plan.pick(mti, amount)
    }

    /// Appends one frame to what waits for `connection`, then lets the fault have it. A hang-up comes after the
    /// frame was written.
    pub(super) fn send(
        &mut self,
        connection: usize,
        header: &[u8],
        fault: Option<Fault>,
        now: Moment,
        message: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
        out: &mut Outbox,
    ) -> Result<(), WriteError<EncodeError>> {
        let bytes = out.bytes(connection);
        let frame = bytes.len();
        let mut start = frame;
        let append = |bytes: &mut Vec<u8>| {
            start = bytes.len();
            message(bytes)
        };
        self.framing.write(header, append, bytes)?;
        match fault {
            None => {}
            Some(Fault::Drop | Fault::Ignore) => bytes.truncate(frame),
            Some(Fault::Duplicate) => bytes.extend_from_within(frame..),
            Some(Fault::Garble) => self.plan.garble(bytes.get_mut(start..).unwrap_or_default()),
            Some(Fault::Delay(by)) => {
                let later = bytes.split_off(frame);
                self.held_so_far += 1;
                self.held.insert((now.plus(by), self.held_so_far), (connection, later));
            }
            Some(Fault::HangUp) => out.hang_up(connection),
        }
        Ok(())
    }

    /// Lets go the frames whose time has come.
    pub(super) fn due(&mut self, now: Moment, out: &mut Outbox) {
        while let Some(first) = self.held.first_entry().filter(|held| held.key().0 <= now) {
            let (connection, frame) = first.remove();
            out.bytes(connection).extend_from_slice(&frame);
        }
    }

    /// When `due` should be called next.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.held.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Forgets what is held for a connection that is gone.
    pub(super) fn closed(&mut self, connection: usize) {
        self.held.retain(|_, (to, _)| *to != connection);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::Condition;
    use crate::sim::FaultRule;

    fn wire(fault: Option<Fault>) -> Wire {
        let rules = fault.map(|fault| FaultRule { when: Condition::ALL, fault });
        let framing = FrameFormat::parse("binary-2", 0, 100).unwrap();
        Wire::new(framing, FaultPlan::new(1, rules.into_iter().collect()))
    }

    fn sent(fault: Option<Fault>) -> (Wire, Outbox) {
        let (mut wire, mut out) = (wire(fault), Outbox::new());
        let fault = wire.fault(Mti::parse(b"0100").unwrap(), None);
        let hello = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(b"hello");
            Ok(())
        };
        wire.send(3, b"", fault, Moment(0), hello, &mut out).unwrap();
        (wire, out)
    }

    #[test]
    fn faults_do_what_they_say() {
        let frame = b"\0\x05hello".to_vec();
        for (fault, bytes) in [
            (None, frame.clone()),
            (Some(Fault::Drop), Vec::new()),
            (Some(Fault::Duplicate), [frame.clone(), frame.clone()].concat()),
            (Some(Fault::HangUp), frame.clone()),
        ] {
            let (_, mut out) = sent(fault);
            assert_eq!(*out.bytes(3), bytes, "{fault:?}");
            assert_eq!(out.take_hang_up(3), fault == Some(Fault::HangUp));
            assert!(!out.take_hang_up(3), "asking forgets it");
        }
        let (_, mut out) = sent(Some(Fault::Garble));
        assert_eq!(out.bytes(3)[..2], frame[..2], "the length stays, or nothing after it could be read");
        assert_ne!(out.bytes(3)[2..], frame[2..]);
    }

    #[test]
    fn a_delayed_frame_waits_for_its_time() {
        let (mut wire, mut out) = sent(Some(Fault::Delay(Duration::from_nanos(10))));
        assert_eq!((out.waiting().count(), wire.deadline()), (0, Some(Moment(10))));
        wire.due(Moment(9), &mut out);
        assert_eq!(out.waiting().count(), 0);
        wire.due(Moment(10), &mut out);
        assert_eq!(out.waiting().collect::<Vec<_>>(), [3]);
        let (mut wire, mut out) = sent(Some(Fault::Delay(Duration::from_nanos(10))));
        wire.closed(3);
        wire.due(Moment(10), &mut out);
        assert_eq!(out.waiting().count(), 0, "nobody to send it to");
    }
}
