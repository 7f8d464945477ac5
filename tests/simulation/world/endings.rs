//! Processes that are told to end: no new requests, what is in flight ends or is closed at the drain's limit, and
//! nothing is left open in the journal.

use tokenswitch::stdx::clock::Moment;

use super::{Happening, MILLI, SECOND, Step, World};
use crate::house::Crash;

/// How long what was closed may take to be durable and told, as the daemon waits for it.
const LAST_WRITE: u64 = 5 * SECOND;

/// How far an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// What is in flight may end by itself until then.
    Draining(Moment),
    /// It is closed, and must be durable by then.
    Closing(Moment),
}

impl World {
    /// One run in three ends its process in order, once.
    pub(super) fn schedule_end(&mut self, span: u64) {
        if self.end_random.u32(0..3) == 0 {
            let wait = self.end_random.u64(0..span.max(1));
            self.later(wait, Happening::Drain);
        }
    }

    /// The process is told to end: within a limit, or at once.
    pub(super) fn drain(&mut self) {
        let limit = if self.end_random.bool() { 0 } else { self.end_random.u64(0..6 * SECOND) };
        let until = Moment(self.now.0 + limit);
        let Some(house) = self.house.as_mut().filter(|_| self.ending.is_none()) else { return };
        house.node.drain();
        self.note(&format!("it is told to end, within {} ms", limit / MILLI));
        self.ending = Some(Ending::Draining(until));
        self.wake();
    }

    /// As the driver does after each turn.
    pub(super) fn end_if_due(&mut self) -> Step {
        let (Some(ending), Some(house)) = (self.ending, self.house.as_ref()) else { return Ok(()) };
        let idle = house.node.is_idle();
        let owed = house.node.owing();
        let owing = !owed.is_empty();
        match ending {
            Ending::Draining(until) if idle && !owing || until <= self.now => {
                let now = self.house_now();
                let Some(house) = self.house.as_mut() else { return Ok(()) };
                let ended = house.node.end(now, &mut self.outbox);
                self.ending = Some(Ending::Closing(Moment(self.now.0 + LAST_WRITE)));
                match ended {
                    Ok(open) => self.note(&format!("{open} in flight are closed")),
                    Err(fault) => {
                        self.disk_failed(&fault.to_string());
                        return Ok(());
                    }
                }
                self.carry_out()?;
                self.sync_later();
                self.wake();
                Ok(())
            }
            Ending::Closing(until) if idle && owing && self.now < until => {
                if let Some(house) = self.house.as_ref() {
                    house.node.give_up(&owed, &mut self.outbox);
                }
                self.carry_out()
            }
            Ending::Closing(until) if idle || until <= self.now => self.ended(),
            Ending::Draining(_) | Ending::Closing(_) => Ok(()),
        }
    }

    /// The process is gone; what it had told the disk is there.
    fn ended(&mut self) -> Step {
        let Some(house) = self.house.as_ref() else { return Ok(()) };
        if !house.has_unsynced() {
            self.audit.nothing_is_open()?;
            if house.node.is_idle() && house.node.owing().is_empty() {
                self.audit.are_taken_back(&self.not_given())?;
            }
        }
        self.note("the process ends in order");
        self.process_ends(Crash::Untold);
        Ok(())
    }
}
