//! What goes wrong in a run besides crashes and cut connections: the disk, the network, the peers and the clock, each
//! as its `Trouble` says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokenswitch::crypto::SecurityModule;
use tokenswitch::journal::{CheckpointError, Entry, EntryNumber, JournalError, MemoryDisk, Reader};
use tokenswitch::link::{CloseReason, ConnectionId, LinkEvent};
use tokenswitch::stdx::clock::{Moment, Now};
use tokenswitch::vocab::NetworkCode;

use super::peers::{Peer, peer_of};
use super::{Acquirer, Happening, Issuer, MILLI, SECOND, Step, World};
use crate::audit::Audit;
use crate::house::Crash;
use crate::line::Line;
use crate::setting::{ACQUIRERS, framing_of};
use crate::trouble::Trouble;

/// How far the wall clock jumps, in seconds.
const JUMPS: [i64; 4] = [-86_400, -3_600, 3_600, 86_400];
/// How long the disk stands still.
const STUCK: u64 = 8 * SECOND;

/// What the trace says of a journal that cannot be used.
pub(super) type Refused = JournalError;

impl World {
    /// Spreads the run's troubles over its time.
    pub(super) fn schedule_troubles(&mut self, span: u64) {
        for trouble in Trouble::ALL {
            if !self.plan.troubles.has(trouble) {
                continue;
            }
            let (what, most): (fn() -> Happening, u32) = match trouble {
                Trouble::DiskFull => (|| Happening::DiskFull, 2),
                Trouble::DiskStuck => (|| Happening::DiskStuck, 2),
                Trouble::DiskBreaks => (|| Happening::DiskBreaks, 1),
                Trouble::DiskLies => (|| Happening::DiskLies, 1),
                Trouble::HalfOpen => (|| Happening::HalfOpen, 4),
                Trouble::Sleep => (|| Happening::Sleep, 3),
                Trouble::Stranger => (|| Happening::Stranger, 6),
                Trouble::ClockJump => (|| Happening::ClockJump, 3),
                Trouble::SignsOff => (|| Happening::SignsOff, 5),
                // These come with other happenings, or are told by the plan.
                Trouble::SectorRots
                | Trouble::Crash
                | Trouble::Cut
                | Trouble::Away
                | Trouble::MidFrame
                | Trouble::LyingAnswer => continue,
            };
            for _ in 0..self.random.u32(1..=most) {
                let wait = self.random.u64(0..span.max(1));
                self.later(wait, what());
            }
        }
    }

    pub(super) fn meet(&mut self, trouble: Trouble, what: &str) {
        self.met.note(trouble);
        self.note(what);
    }

    pub(super) fn disk_full(&mut self) {
        // Up to a block more: whatever is written next may still find its place, or not.
        let room = self.random.u64(0..8_000);
        self.storage.disk.set_capacity(Some(self.storage.disk.used() + room));
        self.meet(Trouble::DiskFull, "the disk is full");
        let wait = self.random.u64(SECOND..20 * SECOND);
        self.later(wait, Happening::DiskFreed);
    }

    pub(super) fn disk_freed(&mut self) {
        self.storage.disk.set_capacity(None);
        self.note("the disk has room again");
    }

    pub(super) fn disk_stuck(&mut self) {
        let until = self.random.u64(SECOND..STUCK);
        self.disk_stuck_until = Moment(self.now.0 + until);
        self.meet(Trouble::DiskStuck, "the disk stands still");
    }

    pub(super) fn disk_breaks(&mut self) {
        let count = self.random.u64(0..4);
        if self.random.bool() {
            self.storage.disk.fail_after(count);
        } else {
            self.storage.disk.fail_sync_after(count);
        }
        self.meet(Trouble::DiskBreaks, "the disk breaks");
    }

    /// The disk failed, and so the process must end.
    pub(super) fn disk_failed(&mut self, reason: &str) {
        self.note(&format!("the process ends: {reason}"));
        let seed = self.random.u64(..);
        self.crash(Crash::Failed(seed));
    }

    /// From now on no sync is done, and the power goes before long.
    pub(super) fn disk_lies(&mut self) {
        self.storage.disk.lie_about_syncs();
        self.lied = true;
        self.meet(Trouble::DiskLies, "the disk begins to lie");
        let (wait, seed) = (self.random.u64(100 * MILLI..10 * SECOND), self.random.u64(..));
        self.later(wait, Happening::Crash(Crash::Torn(seed)));
    }

    /// A byte of the journal turns over while the process is down: whoever reads it is told where, or, in the block
    /// that was written last, takes it for torn. The byte is then put right.
    pub(super) fn rot(&mut self) -> Step {
        let names =
            tokenswitch::journal::Disk::list(&self.storage.disk).map_err(|error| error.to_string())?;
        let is_truth = |name: &String| name.starts_with("segment-") || name.starts_with("base-");
        let truth: Vec<String> = names.into_iter().filter(is_truth).collect();
        for _ in 0..4 {
            let Some(file) = self.random.choice(&truth).cloned() else { return Ok(()) };
            let bytes = self.storage.disk.bytes(&file).unwrap_or_default();
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
            let (at, bit) = (self.random.usize(0..=last), self.random.u32(0..8));
            let bad = self.storage.disk.copy();
            bad.flip(&file, at, 1 << bit);
            self.meet(Trouble::SectorRots, &format!("byte {at} of {file} turns over"));
            match read_all(&bad, &self.audit) {
                Ok(entries) => self.audit.is_beginning(&entries, self.audit.before_last_group())?,
                Err(refused) => names_its_place(&refused)?,
            }
        }
        Ok(())
    }

    /// One open connection goes nowhere from now on; the peer notices after a while, the switch by its echoes.
    pub(super) fn half_open(&mut self) {
        let open: Vec<usize> = (0..self.lines.len()).filter(|at| self.lines[*at].at_switch).collect();
        let Some(at) = self.random.choice(&open).copied() else { return };
        let ways = self.random.u32(1..4);
        self.lines[at].broken |= ways & 1 != 0;
        self.lines[at].deaf |= ways & 2 != 0;
        let what = format!("{} is half open, in way {ways}", self.lines[at].connection);
        self.meet(Trouble::HalfOpen, &what);
        let wait = self.random.u64(10 * SECOND..60 * SECOND);
        self.later(wait, Happening::ClosedAtPeer(at));
    }

    /// An issuer stops, and goes on later with all that has come meanwhile.
    pub(super) fn sleep(&mut self) {
        let issuer = self.random.usize(0..self.issuers.len());
        // Once at a time: what waits for one end of its sleep must not be overtaken by what waits for another.
        if self.is_asleep(issuer) {
            return;
        }
        let wait = self.random.u64(SECOND..15 * SECOND);
        self.issuers[issuer].asleep_until = Moment(self.now.0 + wait);
        self.meet(Trouble::Sleep, &format!("issuer {issuer} stops"));
        // So that something happens when it goes on.
        self.later(wait, Happening::Awake);
    }

    /// A peer signs one of its connections off, and on again before long; twice, since the first may be lost or come
    /// before the other.
    pub(super) fn signs_off(&mut self) -> Step {
        let open = |line: &Line| line.at_switch && line.at_peer && !line.stranger;
        let open: Vec<usize> = (0..self.lines.len()).filter(|at| open(&self.lines[*at])).collect();
        let Some(at) = self.random.choice(&open).copied() else { return Ok(()) };
        let what = format!("{} is signed off", self.lines[at].connection);
        self.meet(Trouble::SignsOff, &what);
        let wait = self.random.u64(100 * MILLI..4 * SECOND);
        self.later(wait, Happening::SignsOn(at));
        self.later(wait + 4 * SECOND, Happening::SignsOn(at));
        self.manage(at, NetworkCode::SIGN_OFF)
    }

    /// What a peer says about one of its connections.
    pub(super) fn manage(&mut self, at: usize, code: NetworkCode) -> Step {
        let now = self.now();
        match peer_of(self.lines[at].link) {
            _ if !self.lines[at].at_peer => {}
            Peer::Acquirer(acquirer) => {
                let Acquirer { brain, out } = &mut self.acquirers[acquirer];
                brain.manage(at, code, now, out).map_err(|error| format!("sim: {error}"))?;
            }
            Peer::Issuer(issuer) if self.is_asleep(issuer) => {
                self.at(self.issuers[issuer].asleep_until, Happening::SignsOn(at));
            }
            Peer::Issuer(issuer) => {
                let Issuer { brain, out, .. } = &mut self.issuers[issuer];
                brain.manage(at, code, now, out);
            }
        }
        Ok(())
    }

    pub(super) fn is_asleep(&self, issuer: usize) -> bool {
        self.issuers[issuer].asleep_until > self.now
    }

    /// The wall clock of the switch jumps; everybody else's is right.
    pub(super) fn clock_jumps(&mut self) {
        let jump = *self.random.choice(&JUMPS).expect("some");
        // Not further off than a day, and in the end right again as often as not.
        self.clock_off = if self.clock_off == 0 { jump } else { 0 };
        let what = format!("the switch's clock is off by {} s", self.clock_off);
        self.meet(Trouble::ClockJump, &what);
    }

    /// The time as the switch sees it.
    pub(super) fn house_now(&self) -> Now {
        let now = self.now();
        let millis = i64::try_from(now.wall.0).expect("before the year 292 million") + self.clock_off * 1_000;
        let wall = tokenswitch::stdx::clock::Wall(u64::try_from(millis).expect("after 1970"));
        Now { wall, ..now }
    }

    /// Somebody connects to an acquirer's listener, sends what a peer should not, and goes.
    pub(super) fn stranger(&mut self) {
        if self.house.is_none() || self.ending.is_some() {
            return;
        }
        self.accepted += 1;
        let connection = ConnectionId::accepted(self.accepted);
        let link = ACQUIRERS[self.random.usize(0..ACQUIRERS.len())];
        let at = self.lines.len();
        self.lines.push(Line::new(connection, link));
        self.lines[at].stranger = true;
        self.by_connection.insert(connection, at);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1_001);
        self.inbox.events.push(LinkEvent::Opened { connection, link, peer });
        self.wake();
        for _ in 0..self.random.u32(1..5) {
            let bytes = self.hostile_bytes(at);
            self.meet(Trouble::Stranger, &format!("a stranger sends {} bytes on {connection}", bytes.len()));
            self.send_to_switch(at, Happening::ToSwitch { line: at, bytes });
        }
        self.lines[at].at_peer = false;
        let reason = CloseReason::PeerClosed;
        self.send_to_switch(at, Happening::ClosedAtSwitch { line: at, begun: 0, reason });
    }

    fn hostile_bytes(&mut self, at: usize) -> Vec<u8> {
        let link = self.lines[at].link;
        let length = self.random.usize(1..300);
        let noise: Vec<u8> = (0..length).map(|_| self.random.u8(..)).collect();
        let message = match self.random.u32(0..5) {
            0 => return noise,
            // A length that no frame may have, and one that no message has.
            1 => return [vec![0xFF, 0xFF], noise].concat(),
            2 => return vec![0; length],
            3 => noise,
            _ => self.altered_payment(link).unwrap_or(noise),
        };
        let format = framing_of(link);
        let mut frame = Vec::new();
        let write = |out: &mut Vec<u8>| -> Result<(), ()> {
            out.extend_from_slice(&message);
            Ok(())
        };
        format.write(&vec![0x60; format.header_length()], write, &mut frame).expect("a short message");
        if self.chance(4) {
            frame.truncate(self.random.usize(1..frame.len()));
        }
        frame
    }

    /// What an acquirer asked just now, some bytes of it changed. Its MTI is left as it is, so that it needs a sign-on.
    /// At the second acquirer anybody's answer may go to any connection.
    fn altered_payment(&mut self, link: tokenswitch::vocab::LinkId) -> Option<Vec<u8>> {
        let mut message = self.overheard.get(&link).filter(|_| link == ACQUIRERS[0]).cloned()?;
        for _ in 0..self.random.u32(0..6) {
            let at = self.random.usize(4..message.len());
            message[at] ^= self.random.u8(1..);
        }
        Some(message)
    }
}

/// Every entry of a journal that nobody writes; those that a base stands for, which is looked through, as they were.
pub(super) fn read_all(disk: &MemoryDisk, audit: &Audit) -> Result<Vec<Entry>, Refused> {
    let keys = SecurityModule::sample().expect("the sample keys").journal_keys();
    let reader = Reader::offline(Box::new(disk.copy()), keys, "transactions")?.0;
    let first = match reader.base() {
        Some(base) => {
            base.verify().map_err(|error| match error {
                CheckpointError::Journal(error) => error,
                other => panic!("P8: a base is refused as: {other}"),
            })?;
            base.first_entry()
        }
        None => EntryNumber(1),
    };
    audit.before(first).into_iter().map(Ok).chain(reader).collect()
}

/// A journal is refused by the place of its damage, and for no other reason.
pub(super) fn names_its_place(refused: &Refused) -> Step {
    match refused {
        JournalError::Damaged { .. } | JournalError::BaseDamaged { .. } => Ok(()),
        other => Err(format!("P8: damage is told as: {other}")),
    }
}
