//! The network: connections that open, carry bytes late or in pieces, and break.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokenswitch::codec::{DataElement, decode};
use tokenswitch::link::{CloseReason, ConnectionId, LinkEvent};
use tokenswitch::stdx::clock::Moment;
use tokenswitch::vocab::{LinkId, TransactionId};

use super::peers::{Peer, peer_of};
use super::{Acquirer, Happening, Issuer, MILLI, SECOND, Step, World};
use crate::line::Line;
use crate::setting::{ACQUIRERS, ISSUERS, dialect_of, is_issuer};
use crate::trouble::Trouble;

impl World {
    pub(super) fn start_pump(&mut self, at: usize) {
        if !self.lines[at].pumping {
            self.lines[at].pumping = true;
            // Now and then a socket is full for a while.
            let wait =
                if self.chance(60) { self.random.u64(0..2 * SECOND) } else { self.random.u64(0..200_000) };
            self.later(wait, Happening::Pump(at));
        }
    }

    /// The socket takes some or all of the output.
    pub(super) fn pump(&mut self, at: usize) -> Step {
        let partial = self.chance(8);
        let line = &mut self.lines[at];
        line.pumping = false;
        let waiting = line.output.len() - line.taken;
        if !line.at_switch || waiting == 0 {
            return Ok(());
        }
        let taken = if partial { self.random.usize(1..=waiting) } else { waiting };
        self.take_output(at, taken)?;
        if taken < waiting {
            self.start_pump(at);
        }
        Ok(())
    }

    pub(super) fn take_output(&mut self, at: usize, count: usize) -> Step {
        let line = &mut self.lines[at];
        let bytes = line.output[line.taken..line.taken + count].to_vec();
        line.taken += count;
        let (connection, total) = (line.connection, line.taken as u64);
        self.inbox.events.push(LinkEvent::Written { connection, total });
        self.began(at, self.lines[at].taken)?;
        if !self.lines[at].broken {
            self.send_to_peer(at, Happening::ToPeer { line: at, bytes });
        }
        self.wake();
        Ok(())
    }

    /// Bytes up to `end` may have left.
    pub(super) fn began(&mut self, at: usize, end: usize) -> Step {
        let line = &mut self.lines[at];
        let left: Vec<TransactionId> =
            line.originals.iter().filter(|(start, _)| *start < end).map(|(_, id)| *id).collect();
        line.originals.retain(|(start, _)| *start >= end);
        left.into_iter().try_for_each(|id| self.audit.original_began(id))
    }

    /// Nothing lives longer in the network than an issuer may take to answer: an original that came after its reversal
    /// was answered "unknown" for good could not be undone (network rules, reversals).
    pub(super) fn latency(&mut self) -> u64 {
        match self.random.u32(0..100) {
            0 => self.random.u64(0..2 * SECOND),
            1..5 => self.random.u64(0..200 * MILLI),
            _ => self.random.u64(100_000..5 * MILLI),
        }
    }

    pub(super) fn send_to_peer(&mut self, at: usize, what: Happening) {
        let arrival = Moment(self.now.0 + self.latency()).max(self.lines[at].last_to_peer);
        self.lines[at].last_to_peer = arrival;
        self.at(arrival, what);
    }

    pub(super) fn send_to_switch(&mut self, at: usize, what: Happening) {
        let arrival = Moment(self.now.0 + self.latency()).max(self.lines[at].last_to_switch);
        self.lines[at].last_to_switch = arrival;
        self.at(arrival, what);
    }

    /// The switch closes: what waits is sent first.
    pub(super) fn close(&mut self, connection: ConnectionId, reason: CloseReason) -> Step {
        let Some(at) = self.by_connection.get(&connection).copied() else { return Ok(()) };
        self.note(&format!("switch closes {connection}: {reason}"));
        let waiting = self.lines[at].output.len() - self.lines[at].taken;
        if waiting > 0 {
            self.take_output(at, waiting)?;
        }
        let begun = self.lines[at].taken;
        self.send_to_peer(at, Happening::ClosedAtPeer(at));
        self.closed_at_switch(at, begun, reason);
        Ok(())
    }

    /// The switch closes at once: what waits goes nowhere.
    pub(super) fn abort(&mut self, connection: ConnectionId, reason: CloseReason) {
        let Some(at) = self.by_connection.get(&connection).copied() else { return };
        self.note(&format!("switch gives up {connection}: {reason}"));
        let begun = self.lines[at].taken;
        self.send_to_peer(at, Happening::ClosedAtPeer(at));
        self.closed_at_switch(at, begun, reason);
    }

    /// The approvals that were sent since the process began, and of which no socket took the last byte.
    pub(super) fn not_given(&self) -> BTreeSet<TransactionId> {
        let sent = || self.lines.iter().flat_map(|line| line.approvals.iter().map(move |it| (line, it)));
        let given: BTreeSet<TransactionId> =
            sent().filter(|(line, (end, _))| *end <= line.taken).map(|(_, (_, id))| *id).collect();
        sent().map(|(_, (_, id))| *id).filter(|id| !given.contains(id)).collect()
    }

    pub(super) fn connect(&mut self, acquirer: usize) {
        let dice = self.random.u64(50 * MILLI..500 * MILLI);
        if self.house.is_none() || self.ending.is_some() {
            return self.later(dice, Happening::Connect(acquirer));
        }
        self.accepted += 1;
        let connection = ConnectionId::accepted(self.accepted);
        self.open(connection, ACQUIRERS[acquirer]);
        let (now, at) = (self.now(), self.lines.len() - 1);
        let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
        brain.opened(at, now, out).expect("the dialect has a sign-on");
    }

    pub(super) fn dialled(&mut self, link: LinkId, connection: ConnectionId) {
        if self.house.is_none() {
            return;
        }
        let issuer = ISSUERS.iter().position(|issuer| *issuer == link).expect("only issuers are dialled");
        if self.issuers[issuer].away_until > self.now || self.is_asleep(issuer) && self.chance(2) {
            let reason = CloseReason::DialRefused;
            self.inbox.events.push(LinkEvent::DialFailed { connection, link, reason });
            return self.wake();
        }
        self.open(connection, link);
        let (now, at) = (self.now(), self.lines.len() - 1);
        let Issuer { brain, out, .. } = &mut self.issuers[issuer];
        brain.opened(at, now, out);
    }

    pub(super) fn open(&mut self, connection: ConnectionId, link: LinkId) {
        self.note(&format!("{link} opens {connection}"));
        self.lines.push(Line::new(connection, link));
        self.by_connection.insert(connection, self.lines.len() - 1);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1_000);
        self.inbox.events.push(LinkEvent::Opened { connection, link, peer });
        self.wake();
    }

    pub(super) fn reach_switch(&mut self, at: usize, bytes: &[u8]) {
        let line = &mut self.lines[at];
        if !line.at_switch || line.deaf || self.house.is_none() {
            return;
        }
        let (connection, link) = (line.connection, line.link);
        let Some(frames) = line.frames_to_switch(bytes) else {
            let begun = line.taken;
            return self.lose(at, begun, CloseReason::FrameTooLong);
        };
        for (header, message) in frames {
            let what = decode(&dialect_of(link), &message).map_or("garbage".to_owned(), |message| {
                let stan = message.stan().ok().flatten();
                let code = message.get(DataElement::RESPONSE_CODE).unwrap_or_default();
                format!("{} {stan:?} {}", message.mti(), String::from_utf8_lossy(code))
            });
            self.note(&format!("{link}/{connection} -> switch {what}"));
            if what.starts_with("010") || what.starts_with("020") {
                self.overheard.insert(link, message.clone());
            }
            self.inbox.push_frame(connection, &header, &message);
        }
        self.wake();
    }

    pub(super) fn reach_peer(&mut self, at: usize, bytes: &[u8]) -> Step {
        if !self.lines[at].at_peer {
            return Ok(());
        }
        if let Peer::Issuer(issuer) = peer_of(self.lines[at].link)
            && self.is_asleep(issuer)
        {
            let (until, bytes) = (self.issuers[issuer].asleep_until, bytes.to_vec());
            self.at(until, Happening::ToPeer { line: at, bytes });
            return Ok(());
        }
        let now = self.now();
        let frames = self.lines[at].frames_to_peer(bytes);
        let connection = self.lines[at].connection;
        let mut came = Vec::new();
        match peer_of(self.lines[at].link) {
            Peer::Acquirer(acquirer) => {
                let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
                for (_, message) in frames {
                    brain.received(at, &message, now, out).map_err(|error| format!("sim: {error}"))?;
                }
            }
            Peer::Issuer(issuer) => {
                let Issuer { brain, out, .. } = &mut self.issuers[issuer];
                for (header, message) in frames {
                    if let Ok(read) = decode(&dialect_of(ISSUERS[issuer]), &message) {
                        self.audit.came_to_issuer(ISSUERS[issuer], &read)?;
                        came.push((read.mti(), read.stan().ok().flatten()));
                    }
                    brain.received(at, &header, &message, now, out);
                }
            }
        }
        for (mti, stan) in came {
            self.note(&format!("{connection} brings its issuer {mti} {stan:?}"));
        }
        Ok(())
    }

    pub(super) fn closed_at_switch(&mut self, at: usize, begun: usize, reason: CloseReason) {
        let line = &mut self.lines[at];
        if !line.at_switch {
            return;
        }
        line.at_switch = false;
        let (connection, begun) = (line.connection, begun.max(line.taken));
        self.by_connection.remove(&connection);
        if self.house.is_some() {
            self.note(&format!("{connection} is closed: {reason}"));
            self.inbox.events.push(LinkEvent::Closed { connection, reason, begun: begun as u64 });
            self.wake();
        }
    }

    pub(super) fn closed_at_peer(&mut self, at: usize) {
        if let Peer::Issuer(issuer) = peer_of(self.lines[at].link)
            && self.is_asleep(issuer)
        {
            return self.at(self.issuers[issuer].asleep_until, Happening::ClosedAtPeer(at));
        }
        if !std::mem::replace(&mut self.lines[at].at_peer, false) {
            return;
        }
        match peer_of(self.lines[at].link) {
            Peer::Acquirer(acquirer) => {
                let Acquirer { brain, out, .. } = &mut self.acquirers[acquirer];
                brain.closed(at, out);
                let wait = self.random.u64(10 * MILLI..2 * SECOND);
                self.later(wait, Happening::Connect(acquirer));
            }
            Peer::Issuer(issuer) => {
                let Issuer { brain, out, .. } = &mut self.issuers[issuer];
                brain.closed(at, out);
            }
        }
    }

    /// The connection breaks now, on both sides; of what was on its way some arrives.
    pub(super) fn lose(&mut self, at: usize, begun: usize, reason: CloseReason) {
        self.lines[at].broken = true;
        let drop_flying = self.random.bool();
        if drop_flying {
            self.queue.retain(|_, what| {
                !matches!(what, Happening::ToPeer { line, .. } | Happening::ToSwitch { line, .. } if *line == at)
            });
        }
        self.send_to_peer(at, Happening::ClosedAtPeer(at));
        if self.random.bool() {
            self.closed_at_switch(at, begun, reason);
        } else {
            self.send_to_switch(at, Happening::ClosedAtSwitch { line: at, begun, reason });
        }
    }

    pub(super) fn cut(&mut self) {
        let open: Vec<usize> = (0..self.lines.len()).filter(|at| self.lines[*at].at_switch).collect();
        if open.is_empty() {
            return;
        }
        let at = open[self.random.usize(..open.len())];
        self.cut_line(at);
        if let Peer::Issuer(issuer) = peer_of(self.lines[at].link)
            && self.chance(2)
        {
            let most = if self.chance(4) { 80 } else { 8 };
            let away = self.random.u64(0..most * SECOND);
            self.meet(Trouble::Away, &format!("issuer {issuer} goes away as a whole"));
            self.issuers[issuer].away_until = Moment(self.now.0 + away);
            let link = ISSUERS[issuer];
            for other in open {
                if other != at && self.lines[other].link == link {
                    self.cut_line(other);
                }
            }
        }
    }

    pub(super) fn cut_line(&mut self, at: usize) {
        self.meet(Trouble::Cut, &format!("the network cuts {}", self.lines[at].connection));
        let (taken, end) = (self.lines[at].taken, self.lines[at].output.len());
        let mut begun = taken;
        // Towards issuers a write may have begun of which nobody knows how far it came.
        if is_issuer(self.lines[at].link) && end > taken && self.random.bool() {
            begun = self.random.usize(taken + 1..=end);
            if let Err(broken) = self.began(at, begun) {
                self.broken = Some(broken);
            }
            // Where bytes before these went nowhere, these do, too.
            if self.random.bool() && !self.lines[at].broken {
                let bytes = self.lines[at].output[taken..begun].to_vec();
                self.send_to_peer(at, Happening::ToPeer { line: at, bytes });
            }
        }
        self.lose(at, begun, CloseReason::ConnectionLost);
    }
}
