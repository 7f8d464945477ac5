//! `Desk`: the switch with a hand on every side — what acquirers send, what issuers answer, when the disk syncs and
//! when time passes. For cases that are told step by step.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokenswitch::codec::{DataElement, Dialect, FrameReader, Message, OriginalData, decode, encode, icc_of};
use tokenswitch::journal::{JournalConfig, MemoryDisk};
use tokenswitch::link::{CloseReason, ConnectionId, Inbox, LinkCommand, LinkEvent, Outbox};
use tokenswitch::sim::TestCard;
use tokenswitch::stdx::clock::{Moment, Now, Wall};
use tokenswitch::switch::{
    Decision, Exception, Limits, OperatedEnd, OperatorAct, Reload, SwitchConfig, Wire,
};
use tokenswitch::tsp::{
    Actor, Answer, Asker, CallId, CardNews, CardRequest, Command, Move, MoveRequest, Principal,
    ProvisionRequest, RequestId, TokenView,
};
use tokenswitch::vocab::{ChipPayment, InstitutionId, LinkId, Mti, Refusal, SentAt, Text, TransactionId};

use crate::house::{Crash, House};
use crate::setting::{
    ACQUIRERS, ISSUERS, START, card_key, cards, dialect_of, framing_of, is_issuer, pool_of, requestor_id,
    switch_config, wire_of,
};

/// Two signed-on connections of the first acquirer, then one of the second.
pub(crate) const FIRST: ConnectionId = ConnectionId(1);
pub(crate) const SECOND: ConnectionId = ConnectionId(2);
pub(crate) const PARTIAL: ConnectionId = ConnectionId(3);

pub(crate) struct Desk {
    pub(crate) house: House,
    disk: MemoryDisk,
    /// What a restart begins with again.
    config: SwitchConfig,
    queue_bytes: usize,
    now: Now,
    inbox: Inbox,
    outbox: Outbox,
    links: BTreeMap<ConnectionId, LinkId>,
    queued: BTreeMap<ConnectionId, u64>,
    written: Vec<(ConnectionId, Message, Vec<u8>)>,
    /// Network messages that the switch asked.
    pub(crate) network: Vec<(ConnectionId, Message)>,
    /// What became of the last decision of an operator.
    pub(crate) decided: Option<OperatedEnd>,
    /// Whether entries become durable by themselves.
    pub(crate) syncs: bool,
    /// Whether issuers can be dialled.
    pub(crate) reachable: bool,
    /// Whether sockets take output at once.
    pub(crate) takes: bool,
    /// Whether issuers answer network messages.
    pub(crate) echoes: bool,
    /// Whether taps that wait for their check get it by themselves.
    pub(crate) checks: bool,
    pub(crate) card: TestCard,
    pub(crate) token: TokenView,
    /// The card behind the token.
    pub(crate) behind: TestCard,
}

impl Desk {
    pub(crate) fn open() -> Self {
        Self::of(switch_config(), JournalConfig::default().queue_bytes, 2)
    }

    /// With a token whose card is the second issuer's.
    pub(crate) fn at_second_issuer() -> Self {
        Self::of(switch_config(), JournalConfig::default().queue_bytes, 1)
    }

    /// With other limits of the switch, and so many bytes that may wait for the disk.
    pub(crate) fn bounded(limits: Limits, queue_bytes: usize) -> Self {
        Self::with(SwitchConfig { limits, ..switch_config() }, queue_bytes)
    }

    /// With another configuration, and so many bytes that may wait for the disk.
    pub(crate) fn with(config: SwitchConfig, queue_bytes: usize) -> Self {
        Self::of(config, queue_bytes, 2)
    }

    const START: Now = Now { moment: Moment(0), wall: START };

    /// `behind`: which card the token is for; that at place 1 is the second issuer's.
    pub(crate) fn of(config: SwitchConfig, queue_bytes: usize, behind: usize) -> Self {
        let (disk, now) = (MemoryDisk::new(), Self::START);
        let mut house = House::bounded(&disk, 1, now, config.clone(), queue_bytes);
        let mut cards = cards(1, 3);
        let (behind, card) = (cards.remove(behind), cards.remove(0));
        let request = ProvisionRequest::of(asker(b"p"), behind.pan.clone(), behind.expiry);
        house.ask_vault(Command::Provision { call: CallId(1), request: Box::new(request) }, now);
        house.sync().expect("a good disk");
        let told = house.vault_durable(now).remove(0).1.expect("there is room");
        let token = told.token().expect("a token");
        Self::at((house, config, queue_bytes), disk, now, (card, token, behind))
    }

    /// With nothing on its way, and all connections signed on.
    fn at(
        (house, config, queue_bytes): (House, SwitchConfig, usize),
        disk: MemoryDisk,
        now: Now,
        (card, token, behind): (TestCard, TokenView, TestCard),
    ) -> Self {
        let mut desk = Self {
            house,
            disk,
            config,
            queue_bytes,
            now,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            links: BTreeMap::new(),
            queued: BTreeMap::new(),
            written: Vec::new(),
            network: Vec::new(),
            decided: None,
            syncs: true,
            reachable: true,
            takes: true,
            echoes: true,
            checks: true,
            card,
            token,
            behind,
        };
        desk.connect();
        desk
    }

    /// Opens and signs on all connections.
    fn connect(&mut self) {
        self.tick();
        for (connection, link) in [(FIRST, 0), (SECOND, 0), (PARTIAL, 1)] {
            self.opened(connection, ACQUIRERS[link]);
            self.sign_on(connection);
        }
    }

    pub(crate) fn opened(&mut self, connection: ConnectionId, link: LinkId) {
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        self.inbox.events.push(LinkEvent::Opened { connection, link, peer });
        self.links.insert(connection, link);
        self.queued.insert(connection, 0);
        self.settle();
    }

    pub(crate) fn sign_on(&mut self, connection: ConnectionId) {
        let mut message = Message::new(Mti::parse(b"0800").expect("digits"));
        set(&mut message, &[(7, "1122235940"), (11, "999999"), (70, "001")]);
        self.send(connection, &message);
    }

    /// A message arrives; `settle` lets the switch see it.
    pub(crate) fn push(&mut self, connection: ConnectionId, message: &Message) {
        let link = self.links[&connection];
        let mut bytes = Vec::new();
        encode(&dialect_of(link), message, &mut bytes).expect("the dialect can say it");
        self.push_bytes(connection, &bytes);
    }

    /// A message that nobody's encoder would write.
    pub(crate) fn push_bytes(&mut self, connection: ConnectionId, message: &[u8]) {
        let header = vec![0x60; framing_of(self.links[&connection]).header_length()];
        self.inbox.push_frame(connection, &header, message);
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, message: &Message) {
        self.push(connection, message);
        self.settle();
    }

    /// Lets the switch work until it has nothing more to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.step();
            if self.checks {
                self.check();
            }
            let waits = self.checks && self.house.node.unchecked() > 0;
            if self.syncs && self.house.has_unsynced() {
                self.house.sync().expect("a good disk");
            } else if self.inbox.is_empty() && !self.house.history.has_answers() && !waits {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// One step over what came, and nothing behind it.
    pub(crate) fn step(&mut self) {
        let inbox = std::mem::take(&mut self.inbox);
        self.house.step(&inbox, self.now, &mut self.outbox).expect("the journal takes entries");
        self.carry_out();
    }

    /// The next few taps that wait get their check.
    pub(crate) fn check(&mut self) {
        self.house.check(self.now, &mut self.outbox).expect("the journal takes entries");
        self.carry_out();
    }

    /// The disk syncs once.
    pub(crate) fn sync(&mut self) {
        self.house.sync().expect("a good disk");
        self.settle();
    }

    fn carry_out(&mut self) {
        let outbox = std::mem::take(&mut self.outbox);
        for command in &outbox.commands {
            match command {
                LinkCommand::Dial { link, connection, .. } if !self.reachable => {
                    let (link, connection) = (*link, *connection);
                    let reason = CloseReason::ConnectionLost;
                    self.inbox.events.push(LinkEvent::DialFailed { connection, link, reason });
                }
                LinkCommand::Dial { link, connection, .. } => {
                    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
                    self.links.insert(*connection, *link);
                    self.queued.insert(*connection, 0);
                    self.inbox.events.push(LinkEvent::Opened { connection: *connection, link: *link, peer });
                }
                LinkCommand::Write { connection, bytes } => self.wrote(*connection, outbox.written(bytes)),
                LinkCommand::Close { connection, reason } | LinkCommand::Abort { connection, reason } => {
                    let begun = self.queued.get(connection).copied().unwrap_or_default();
                    self.close(*connection, begun, *reason);
                }
            }
        }
    }

    fn wrote(&mut self, connection: ConnectionId, frame: &[u8]) {
        let Some(link) = self.links.get(&connection).copied() else { return };
        let mut reader = FrameReader::new(framing_of(link));
        reader.spare()[..frame.len()].copy_from_slice(frame);
        reader.filled(frame.len());
        let bytes = reader.next().expect("framed").expect("whole").message.to_vec();
        let message = decode(&dialect_of(link), &bytes).expect("readable");
        let total = self.queued.entry(connection).or_default();
        *total += frame.len() as u64;
        if self.takes {
            self.inbox.events.push(LinkEvent::Written { connection, total: *total });
        }
        let refused = message.mti().is_answer() && get(&message, 39) != "00";
        if message.has(DataElement::NETWORK_CODE) && !refused {
            if !message.mti().is_answer() {
                if self.echoes || !is_issuer(link) {
                    self.push(connection, &answer_to(&message, "00"));
                }
                self.network.push((connection, message));
            }
            return;
        }
        self.written.push((connection, message, frame.to_vec()));
    }

    fn close(&mut self, connection: ConnectionId, begun: u64, reason: CloseReason) {
        if self.links.remove(&connection).is_some() {
            self.inbox.events.push(LinkEvent::Closed { connection, reason, begun });
        }
    }

    /// The network cuts a connection; bytes from `begun` on never left, all of them if not said.
    pub(crate) fn cut(&mut self, connection: ConnectionId, begun: Option<u64>) {
        self.lose(connection, begun);
        self.settle();
    }

    /// As `cut`; `settle` lets the switch hear of it.
    pub(crate) fn lose(&mut self, connection: ConnectionId, begun: Option<u64>) {
        let all = self.queued[&connection];
        self.close(connection, begun.unwrap_or(all), CloseReason::ConnectionLost);
    }

    /// A socket takes all that is in its output; `settle` lets the switch hear of it.
    pub(crate) fn drink(&mut self, connection: ConnectionId) {
        let total = self.queued[&connection];
        self.inbox.events.push(LinkEvent::Written { connection, total });
    }

    /// No issuer can be reached.
    pub(crate) fn lose_issuers(&mut self) {
        self.reachable = false;
        for issuer in ISSUERS {
            let connections: Vec<_> = self.house.node.issuer_connections(issuer).collect();
            connections.into_iter().for_each(|connection| self.cut(connection, None));
        }
        self.sent_to_issuers();
    }

    /// Bytes in a connection's output so far.
    pub(crate) fn queued(&self, connection: ConnectionId) -> u64 {
        self.queued[&connection]
    }

    /// An operator decides about a stored message, as call 1; gives whether it was done, if that is known yet.
    pub(crate) fn operate(&mut self, decision: Decision, stored: TransactionId) -> Option<bool> {
        let act = OperatorAct::new(decision, stored, self.now.wall, "night", "by phone").expect("short");
        self.house.node.operate(1, act);
        self.settle();
        self.operated()
    }

    pub(crate) fn operated(&mut self) -> Option<bool> {
        self.decided = self.house.node.operated().pop().map(|(_, end)| end);
        self.decided.map(|end| end == OperatedEnd::Done)
    }

    /// Whose connection it is.
    pub(crate) fn link(&self, connection: ConnectionId) -> Option<LinkId> {
        self.links.get(&connection).copied()
    }

    /// What an operator must look at.
    pub(crate) fn exceptions(&self) -> Vec<Exception> {
        self.house.node.core().exceptions(self.now.wall)
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.moment.plus(time);
        while self.now.moment < end {
            let step = Duration::from_millis(250).min(end.since(self.now.moment));
            self.now = Now { moment: self.now.moment.plus(step), wall: self.now.wall.plus(step) };
            self.tick();
        }
    }

    /// The switch goes on under another configuration, with the same links.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut SwitchConfig)) {
        change(&mut self.config);
        self.reload_links(wire_of, vec![]);
    }

    /// The switch goes on with an issuer spoken to in another dialect.
    pub(crate) fn speak(&mut self, issuer: LinkId, dialect: Dialect) {
        let dialect = Arc::new(dialect);
        let wire = |link| match link == issuer {
            true => Wire { dialect: Arc::clone(&dialect), ..wire_of(link) },
            false => wire_of(link),
        };
        self.reload_links(wire, vec![issuer]);
    }

    fn reload_links(&mut self, wire: impl Fn(LinkId) -> Wire, changed: Vec<LinkId>) {
        let config = self.config.clone();
        let acquirers = ACQUIRERS.map(|link| (link, wire(link))).into();
        let issuers = ISSUERS.map(|link| (link, wire(link), pool_of(link))).into();
        let reload = Reload { config, acquirers, issuers, card_keys: vec![], changed };
        self.house.node.reload(reload, &mut self.outbox);
        self.settle();
    }

    /// The clock on the wall is set back.
    pub(crate) fn clock_back(&mut self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("some days");
        self.now.wall = Wall(self.now.wall.0 - millis);
    }

    fn tick(&mut self) {
        self.house.tick(self.now, &mut self.outbox).expect("the journal takes entries");
        self.carry_out();
        self.settle();
    }

    /// The process ends in this way, and begins again.
    pub(crate) fn restart(self, how: Crash) -> Self {
        let Self { house, disk, config, queue_bytes, now, card, token, behind, .. } = self;
        let disk = house.crash(&disk, how);
        let house = House::bounded(&disk, 2, now, config.clone(), queue_bytes);
        Self::at((house, config, queue_bytes), disk, now, (card, token, behind))
    }

    /// What left for acquirers since the last call: connection, message, and the frame's bytes.
    pub(crate) fn sent_to_acquirers(&mut self) -> Vec<(ConnectionId, Message, Vec<u8>)> {
        self.take(|link| !is_issuer(link))
    }

    /// The one answer that left.
    pub(crate) fn answer(&mut self) -> Message {
        let mut answers = self.sent_to_acquirers();
        let seen: Vec<String> = answers.iter().map(|(_, message, _)| message.mti().to_string()).collect();
        assert_eq!(answers.len(), 1, "{seen:?}");
        answers.remove(0).1
    }

    /// How often the switch gave this as its reason.
    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        let mut counts = self.house.node.core().counts().refusals();
        counts.find(|(counted, _)| *counted == refusal).map_or(0, |(_, count)| count)
    }

    pub(crate) fn sent_to_issuers(&mut self) -> Vec<(ConnectionId, Message)> {
        let taken = self.take(is_issuer);
        taken.into_iter().map(|(connection, message, _)| (connection, message)).collect()
    }

    /// The one message that left for an issuer.
    pub(crate) fn asked(&mut self) -> (ConnectionId, Message) {
        let mut asked = self.sent_to_issuers();
        let seen: Vec<String> = asked.iter().map(|(_, message)| message.mti().to_string()).collect();
        assert_eq!(asked.len(), 1, "{seen:?}");
        asked.remove(0)
    }

    fn take(&mut self, of: impl Fn(LinkId) -> bool) -> Vec<(ConnectionId, Message, Vec<u8>)> {
        let links = &self.links;
        let all = std::mem::take(&mut self.written);
        let is_of = |connection: &ConnectionId| {
            let link = links.get(connection).copied();
            of(link.unwrap_or(if connection.is_dialled() { ISSUERS[0] } else { ACQUIRERS[0] }))
        };
        let (wanted, rest) = all.into_iter().partition(|(connection, ..)| is_of(connection));
        self.written = rest;
        wanted
    }

    /// A purchase of 12.34 with the plain card.
    pub(crate) fn purchase(&self, stan: u32) -> Message {
        let mut message = Message::new(Mti::parse(b"0200").expect("digits"));
        let sent_at = SentAt(self.now.wall.seconds()).transmission_time().digits();
        let sent_at = String::from_utf8_lossy(&sent_at).into_owned();
        let (date, time) = sent_at.split_at(4);
        let pan = String::from_utf8_lossy(self.card.pan.expose_digits()).into_owned();
        let expiry = String::from_utf8_lossy(&self.card.expiry.digits()).into_owned();
        set(
            &mut message,
            &[
                (2, &pan),
                (3, "000000"),
                (4, "000000001234"),
                (7, &sent_at),
                (11, &format!("{stan:06}")),
                (12, time),
                (13, date),
                (14, &expiry),
                (22, "051"),
                (25, "00"),
                (32, "12345678"),
                (37, &format!("{stan:012}")),
                (41, "TERM0001"),
                (42, "SHOP0001       "),
                (49, "978"),
            ],
        );
        message
    }

    /// The same with the token, in electronic commerce.
    pub(crate) fn token_purchase(&self, stan: u32) -> Message {
        let mut message = self.purchase(stan);
        let expiry = String::from_utf8_lossy(&self.token.expiry.digits()).into_owned();
        set(&mut message, &[(2, self.token.token.as_str()), (14, &expiry), (22, "101")]);
        message
    }

    /// A tap with the token: what its chip counted and signed.
    pub(crate) fn tap(&self, stan: u32, counter: u16) -> Message {
        let mut message = self.token_purchase(stan);
        set(&mut message, &[(22, "071")]);
        message.set(DataElement::ICC, &self.chip(counter)).expect("it fits");
        message
    }

    /// DE 55 of a payment of 12.34 euros, signed by the token's phone.
    pub(crate) fn chip(&self, counter: u16) -> Vec<u8> {
        icc_of(&self.signed(counter))
    }

    /// One request to the vault, to its end.
    pub(crate) fn vault(&mut self, command: Command) -> Option<Answer> {
        let at_once = self.house.ask_vault(command, self.now).pop();
        self.house.sync().expect("a good disk");
        let durable = self.house.vault_durable(self.now).pop();
        durable.or(at_once).map(|(_, answer)| answer)
    }

    /// The connections to issuers.
    pub(crate) fn issuer_connections(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().filter(|connection| connection.is_dialled()).collect()
    }

    /// The token's status changes.
    pub(crate) fn move_token(&mut self, asked: Move) {
        let name = format!("{asked:?}");
        let request = MoveRequest {
            asker: asker(name.as_bytes()),
            reference: self.token.reference,
            asked,
            version: None,
        };
        let told = self.vault(Command::Move { call: CallId(2), request });
        told.expect("it is answered").expect("it may be moved so");
    }

    /// The token leads to another card of its issuer from now on.
    pub(crate) fn replace_card(&mut self) {
        let same_bin = |it: &TestCard| it.pan.expose_digits()[..6] == self.behind.pan.expose_digits()[..6];
        let new = cards(2, 4).into_iter().find(same_bin).expect("one of each issuer");
        let news =
            CardNews::NewPan { pan: new.pan, expiry: new.expiry, sequence: None, keep_par: None, par: None };
        let operator = Principal::Operator(Text::parse("name", b"desk").expect("short"));
        let id = RequestId::parse(b"new card").expect("short");
        let asker = Asker::new(operator, Actor::Operator, id);
        let request = CardRequest { asker, pan: self.behind.pan.clone(), news };
        let told = self.vault(Command::Card { call: CallId(3), request: Box::new(request) });
        told.expect("it is answered").expect("it may be replaced");
    }

    /// What the phone signs.
    pub(crate) fn signed(&self, counter: u16) -> ChipPayment {
        let mut chip = ChipPayment {
            amount: [0, 0, 0, 0, 0x12, 0x34],
            counter: counter.to_be_bytes(),
            ..ChipPayment::sample()
        };
        card_key(&self.token.token).sign(&mut chip);
        chip
    }
}

fn asker(request_id: &[u8]) -> Asker {
    Asker::requestor(requestor_id(), RequestId::parse(request_id).expect("short"))
}

/// Tags with their values, each shorter than 128 bytes.
pub(crate) fn tagged(items: &[(&[u8], &[u8])]) -> Vec<u8> {
    items.iter().flat_map(|(tag, value)| [*tag, &[value.len() as u8], value].concat()).collect()
}

pub(crate) fn set(message: &mut Message, elements: &[(u8, &str)]) {
    for (number, value) in elements {
        let element = DataElement::new(*number).expect("1 to 128");
        message.set(element, value.as_bytes()).expect("it fits");
    }
}

pub(crate) fn get(message: &Message, number: u8) -> String {
    let value = message.get(DataElement::new(number).expect("1 to 128")).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

/// What an issuer says to a request: its own elements and a code.
pub(crate) fn answer_to(asked: &Message, code: &str) -> Message {
    let mut answer = Message::new(asked.mti().answer().expect("a request"));
    for number in [2, 3, 4, 7, 11, 32, 33, 37, 41, 42, 49, 70] {
        let element = DataElement::new(number).expect("1 to 128");
        if asked.has(element) {
            answer.copy(element, asked).expect("it fits");
        }
    }
    set(&mut answer, &[(39, code)]);
    if code == "00" && !asked.has(DataElement::NETWORK_CODE) {
        set(&mut answer, &[(38, "A00001")]);
    }
    answer
}

/// The message again, marked as a repeat.
pub(crate) fn repeat(message: &Message) -> Message {
    with_mti(message, &message.mti().repeat().to_string())
}

pub(crate) fn with_mti(message: &Message, mti: &str) -> Message {
    let mut copy = Message::new(Mti::parse(mti.as_bytes()).expect("digits"));
    for element in message.elements() {
        copy.copy(element, message).expect("it fits");
    }
    copy
}

/// The acquirer's reversal of its own message, under another DE 11.
pub(crate) fn reversal(of: &Message, stan: u32) -> Message {
    let mut reversal = with_mti(of, "0400");
    let original = OriginalData {
        mti: of.mti(),
        stan: of.stan().expect("read").expect("there"),
        sent_at: of.sent_at().expect("read").expect("there"),
        acquirer: Some(InstitutionId::parse(b"12345678").expect("digits")),
        forwarder: None,
    };
    reversal.set(DataElement::ORIGINAL_DATA, &original.digits()).expect("it fits");
    set(&mut reversal, &[(11, &format!("{stan:06}"))]);
    reversal
}
