//! Connections as they come and go: sessions and pools stepped, network messages made and answered, frames handed
//! to the side they belong to.

use std::sync::Arc;

use crate::codec::{DataElement, Dialect, Message, decode, decode_into, encode};
use crate::link::{
    CloseReason, ConnectionId, Inbox, LinkCommand, LinkEvent, NetworkAnswer, NetworkMessage, Outbox,
    PoolAction, Session, SessionAction,
};
use crate::stdx::clock::Now;
use crate::stdx::sabotage;
use crate::vocab::{
    LinkId, MessageClass, MessageFunction, Mti, NetworkCode, Refusal, ResponseCode, SentAt, Stan,
    TransactionId,
};

use super::super::event::Event;
use super::connections::{Connection, Side};
use super::{Node, Wire};

/// Where a frame came from.
#[derive(Debug, Clone, Copy)]
struct Source {
    id: ConnectionId,
    link: LinkId,
    side: Side,
}

impl Node {
    /// Takes a batch of link events in order.
    pub(super) fn links_moved(&mut self, inbox: &Inbox, now: Now, out: &mut Outbox) {
        for event in &inbox.events {
            match event {
                LinkEvent::Opened { connection, link, .. } => self.opened(*connection, *link, now, out),
                LinkEvent::Frame { connection, header, bytes } => {
                    let (header, message) = inbox.frame(bytes).split_at_checked(*header).unwrap_or_default();
                    self.frame(*connection, header, message, now, out);
                }
                LinkEvent::Written { connection, total } => {
                    if let Some(connection) = self.connections.get_mut(connection) {
                        let given = connection.took(*total).map(|transaction| {
                            sabotage::step("returned");
                            Event::Given { transaction }
                        });
                        self.events.extend(given);
                    }
                }
                LinkEvent::Closed { connection, begun, .. } => self.closed(*connection, *begun, now, out),
                LinkEvent::DialFailed { connection, link, .. } => {
                    if let Some(issuer) = self.issuers.get_mut(link) {
                        issuer.pool.closed(*connection, now.moment, &mut self.entropy);
                    }
                }
            }
        }
    }

    pub(super) fn tick_links(&mut self, now: Now, out: &mut Outbox) {
        let due = |connection: &Connection| {
            connection.session.deadline().is_some_and(|deadline| deadline <= now.moment)
        };
        let mut ids: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, connection)| due(connection)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            self.with_session(id, now, None, out, |session, actions| session.tick(now.moment, actions));
        }
        let mut issuers: Vec<LinkId> = self.issuers.keys().copied().collect();
        issuers.sort_unstable();
        for issuer in issuers {
            self.tick_pool(issuer, now, out);
        }
    }

    /// Signs off where we signed on, and closes; called once everything is answered.
    pub fn sign_off(&mut self, now: Now, out: &mut Outbox) {
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.with_session(id, now, None, out, |session, actions| session.sign_off(now.moment, actions));
        }
    }

    fn tick_pool(&mut self, issuer: LinkId, now: Now, out: &mut Outbox) {
        let mut actions = std::mem::take(&mut self.pool_actions);
        if let Some(side) = self.issuers.get_mut(&issuer) {
            side.pool.tick(now.moment, &mut actions);
        }
        for action in actions.drain(..) {
            match action {
                PoolAction::Dial { link, address, connection } => {
                    out.commands.push(LinkCommand::Dial { link, address, connection });
                }
                PoolAction::Probe(connection) => {
                    self.with_session(connection, now, None, out, |session, actions| {
                        session.probe(now.moment, actions);
                    });
                }
            }
        }
        self.pool_actions = actions;
    }

    fn opened(&mut self, id: ConnectionId, link: LinkId, now: Now, out: &mut Outbox) {
        let side = if self.issuers.contains_key(&link) { Side::Issuer } else { Side::Acquirer };
        let Some(wire) = self.wire(link) else { return self.close(id, CloseReason::AddressNotAllowed, out) };
        let session = Session::new(wire.session, now.moment);
        self.connections.insert(id, Connection::new(link, side, session));
        if let Some(issuer) = self.issuers.get_mut(&link) {
            issuer.pool.opened(id);
        }
        self.with_session(id, now, None, out, |session, actions| session.opened(now.moment, actions));
    }

    /// Everything that was on the connection is settled: unanswered requests, answers not given.
    fn closed(&mut self, id: ConnectionId, begun: u64, now: Now, out: &mut Outbox) {
        self.with_session(id, now, None, out, |session, actions| session.lost(actions));
        let Some(connection) = self.connections.remove(&id) else { return };
        for transaction in connection.not_given() {
            self.events.push_back(Event::Undelivered { transaction });
        }
        if connection.side == Side::Acquirer {
            return;
        }
        if let Some(issuer) = self.issuers.get_mut(&connection.link) {
            issuer.pool.closed(id, now.moment, &mut self.entropy);
        }
        let on_it = self.sent.iter().filter(|(_, sent)| sent.connection == id);
        let mut lost: Vec<(TransactionId, u64)> = on_it.map(|(id, sent)| (*id, sent.start)).collect();
        lost.sort_unstable();
        for (transaction, start) in lost {
            self.sent.remove(&transaction);
            let written = start < begun;
            self.events.push_back(Event::IssuerLost { transaction, written });
        }
    }

    fn frame(&mut self, id: ConnectionId, header: &[u8], bytes: &[u8], now: Now, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.session.traffic(now.moment);
        let from = Source { id, link: connection.link, side: connection.side };
        let Source { link, side, .. } = from;
        self.counts.frames += 1;
        let Some(wire) = self.wire(link).cloned() else { return };
        let mut message = self.spares.lend();
        match (decode_into(&wire.dialect, bytes, &mut message), side) {
            (Ok(()), _) if message.mti().class == MessageClass::NetworkManagement => {
                self.network_message(id, header, &message, now, out);
                self.spares.give_back(message);
            }
            (Ok(()), Side::Acquirer) => {
                self.acquirer_asks(id, link, (header, message), &wire.dialect, now, out);
            }
            (Ok(()), Side::Issuer) => {
                // Nobody here can say whether a MAC is its issuer's, so what it signs is not believed.
                self.issuer_says(link, &message, !message.has_mac(), now);
                self.spares.give_back(message);
            }
            (Err(_), _) => {
                self.spares.give_back(message);
                self.unreadable(from, (header, bytes), &wire.dialect, now, out);
            }
        }
    }

    /// A message that is none, or not whole: what could be read of it may still be answered.
    fn unreadable(
        &mut self,
        from: Source,
        (header, bytes): (&[u8], &[u8]),
        dialect: &Dialect,
        now: Now,
        out: &mut Outbox,
    ) {
        let Err(failure) = decode(dialect, bytes) else { return };
        let Source { id, link, side } = from;
        self.counts.malformed += 1;
        tracing::warn!(%link, connection = %id, error = %failure.error, "a message cannot be read");
        match (failure.partial, side) {
            (Some(message), Side::Acquirer) => {
                self.acquirer_garbled(id, link, header, message, now, out);
            }
            (Some(message), Side::Issuer) => self.issuer_says(link, &message, false, now),
            (None, _) => self.close(id, CloseReason::MessageUnanswerable, out),
        }
    }

    fn network_message(
        &mut self,
        id: ConnectionId,
        header: &[u8],
        message: &Message,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(link) = self.connections.get(&id).map(|connection| connection.link) else { return };
        let Some(wire) = self.wire(link).cloned() else { return };
        let code = message.network_code().ok().flatten();
        let outcome = message.response_code().ok().flatten().and_then(|code| wire.dialect.outcome(code));
        let Some(stan) = message.stan().ok().flatten() else {
            return self.close(id, CloseReason::MessageUnanswerable, out);
        };
        if message.has_mac() {
            if message.mti().is_answer() {
                self.counts.unexpected += 1;
                return;
            }
            let refused = wire.dialect.response_code(Refusal::MacKeyMissing);
            return self.answer_network(id, message, header, refused, out);
        }
        let received = NetworkMessage { mti: message.mti(), code, stan, outcome };
        let asked = (message, header);
        self.with_session(id, now, Some(asked), out, |session, actions| {
            session.received(&received, now.moment, actions);
        });
    }

    /// Steps a session and does what it wants. `asked` is the message that it may answer.
    fn with_session(
        &mut self,
        id: ConnectionId,
        now: Now,
        asked: Option<(&Message, &[u8])>,
        out: &mut Outbox,
        step: impl FnOnce(&mut Session, &mut Vec<SessionAction>),
    ) {
        let mut actions = std::mem::take(&mut self.session_actions);
        if let Some(connection) = self.connections.get_mut(&id) {
            step(&mut connection.session, &mut actions);
        }
        for action in actions.drain(..) {
            self.session_wants(id, action, asked, now, out);
        }
        self.session_actions = actions;
    }

    fn session_wants(
        &mut self,
        id: ConnectionId,
        action: SessionAction,
        asked: Option<(&Message, &[u8])>,
        now: Now,
        out: &mut Outbox,
    ) {
        match action {
            SessionAction::Ask(code) => self.ask_network(id, code, now, out),
            SessionAction::Answer(answer) => {
                if let Some((message, header)) = asked
                    && let Some(code) = self.network_code(id, answer)
                {
                    self.answer_network(id, message, header, code, out);
                }
            }
            SessionAction::Up => self.session_up(id),
            SessionAction::Down => {
                if let Some(pool) = self.pool_of(id) {
                    pool.down(id);
                }
            }
            SessionAction::EchoAnswered => self.echo_answered(id),
            SessionAction::Unmatched => self.counts.unmatched_network += 1,
            SessionAction::Close(reason) => self.close(id, reason, out),
        }
    }

    fn session_up(&mut self, id: ConnectionId) {
        let Some(link) = self.connections.get(&id).map(|connection| connection.link) else { return };
        tracing::info!(%link, connection = %id, "signed on");
        if let Some(pool) = self.pool_of(id) {
            pool.up(id);
            self.events.push_back(Event::IssuerUp(link));
        }
    }

    /// A connection that was set aside may take messages again.
    fn echo_answered(&mut self, id: ConnectionId) {
        let Some(link) = self.connections.get(&id).map(|connection| connection.link) else { return };
        let Some(issuer) = self.issuers.get_mut(&link) else { return };
        let was_available = issuer.pool.is_available();
        issuer.pool.alive(id);
        if !was_available && issuer.pool.is_available() {
            self.events.push_back(Event::IssuerUp(link));
        }
    }

    fn pool_of(&mut self, id: ConnectionId) -> Option<&mut crate::link::Pool> {
        let link = self.connections.get(&id)?.link;
        self.issuers.get_mut(&link).map(|issuer| &mut issuer.pool)
    }

    /// Our own 0800.
    fn ask_network(&mut self, id: ConnectionId, code: NetworkCode, now: Now, out: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let stan: Stan = connection.next_network_stan();
        connection.session.asked(stan);
        let link = connection.link;
        let Some(wire) = self.wire(link).cloned() else { return };
        let mti = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        let mut message = Message::new(mti.with_version(wire.dialect.version()));
        let sent_at = SentAt(now.wall.seconds()).transmission_time();
        let institution = self.config.institution;
        let set = [
            (DataElement::SENT_AT, sent_at.digits().as_slice()),
            (DataElement::STAN, stan.digits().as_slice()),
            (DataElement::FORWARDER, institution.as_bytes()),
            (DataElement::NETWORK_CODE, code.digits().as_slice()),
        ]
        .into_iter()
        .try_for_each(|(element, value)| message.set(element, value));
        let day = self.core.window().date.month_day();
        let set = set.and_then(|()| match code {
            NetworkCode::CUT_OVER => message.set(DataElement::SETTLEMENT_DATE, &day),
            _ => Ok(()),
        });
        if set.is_ok() {
            let header = vec![0; wire.format.header_length()];
            self.write(id, &wire, &header, &message, out);
        }
    }

    /// Says on each link that wants to hear it that the next window has begun (DE 70 = 201, with its DE 15).
    pub(super) fn announce_cut_over(&mut self, now: Now, out: &mut Outbox) {
        let acquirers =
            self.config.acquirers.iter().filter(|(_, it)| it.announce_cut_over).map(|(id, _)| *id);
        let issuers = self.config.issuers.iter().filter(|(_, it)| it.announce_cut_over).map(|(id, _)| *id);
        let mut links: Vec<LinkId> = acquirers.chain(issuers).collect();
        links.sort_unstable();
        for link in links {
            let of_link = self.connections.iter().filter(|(_, it)| it.link == link && it.session.is_up());
            if let Some(id) = of_link.map(|(id, _)| *id).min() {
                self.with_session(id, now, None, out, |session, actions| {
                    session.cut_over(now.moment, actions);
                });
            }
        }
    }

    fn network_code(&self, id: ConnectionId, answer: NetworkAnswer) -> Option<ResponseCode> {
        let wire = self.wire(self.connections.get(&id)?.link)?;
        Some(match answer {
            NetworkAnswer::Approved => wire.dialect.approved(),
            NetworkAnswer::NotSupported => wire.dialect.response_code(Refusal::UnsupportedMessage),
        })
    }

    /// Our 0810: the asker's DE 7, 11, 33 and 70, and what we say.
    fn answer_network(
        &mut self,
        id: ConnectionId,
        asked: &Message,
        header: &[u8],
        code: ResponseCode,
        out: &mut Outbox,
    ) {
        let Some(link) = self.connections.get(&id).map(|connection| connection.link) else { return };
        let (Some(wire), Some(mti)) = (self.wire(link).cloned(), asked.mti().answer()) else { return };
        let mut message = Message::new(mti);
        let echoed =
            [DataElement::SENT_AT, DataElement::STAN, DataElement::FORWARDER, DataElement::NETWORK_CODE];
        let built = echoed
            .into_iter()
            .try_for_each(|element| message.copy(element, asked))
            .and_then(|()| message.set(DataElement::RESPONSE_CODE, code.as_bytes()));
        if built.is_ok() {
            let header = wire.format.answer_header(header);
            self.write(id, &wire, &header, &message, out);
        }
    }

    /// Encodes a message into a connection's output. False, and nothing written, when the dialect cannot say it.
    pub(super) fn write(
        &mut self,
        id: ConnectionId,
        wire: &Wire,
        header: &[u8],
        message: &Message,
        out: &mut Outbox,
    ) -> bool {
        let start = out.bytes.len();
        let written =
            wire.format.write(header, |bytes| encode(&wire.dialect, message, bytes), &mut out.bytes);
        if let Err(error) = written {
            self.counts.unencodable += 1;
            tracing::error!(connection = %id, %error, "a message cannot be written in the link's dialect");
            return false;
        }
        self.written(id, start, out);
        true
    }

    /// Hands what was encoded from `start` on to the connection.
    pub(super) fn written(&mut self, id: ConnectionId, start: usize, out: &mut Outbox) {
        let bytes = start..out.bytes.len();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.queued += u64::try_from(bytes.len()).unwrap_or_default();
        }
        out.commands.push(LinkCommand::Write { connection: id, bytes });
    }

    pub(super) fn wire(&self, link: LinkId) -> Option<&Arc<Wire>> {
        let issuer = self.issuers.get(&link).map(|issuer| &issuer.wire);
        issuer.or_else(|| self.acquirers.get(&link).map(|acquirer| &acquirer.wire))
    }
}
