//! `Session`: sign-on, echo and sign-off on one connection, without I/O and without a clock.
//!
//! It asks for messages by their network code (DE 70) and leaves the making and numbering to its caller. At most
//! one of its requests is unanswered at a time; an echo is asked only after idle time, and two that stay
//! unanswered while nothing else is heard bring the connection down.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::CloseReason;
use crate::stdx::clock::Moment;
use crate::vocab::{Mti, NetworkCode, Outcome, Stan};

/// Echoes without an answer of which it is remembered that they were asked.
const LATE: usize = 8;

/// Who signs on before requests flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOn {
    /// The peer to us, as an acquirer does.
    Peer,
    /// We to the peer, as to an issuer.
    Us,
    /// Nobody: the link is up when it stands.
    Nobody,
}

/// A link's rules for its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionConfig {
    pub sign_on: SignOn,
    /// How long after opening the sign-on must be done.
    pub sign_on_timeout: Duration,
    /// Silence of the peer after which an echo is asked.
    pub idle: Duration,
    /// How long an echo's or a sign-off's answer may take.
    pub echo_timeout: Duration,
    /// Echoes in a row that may stay unanswered before the connection comes down.
    pub missed_echoes: u32,
}

impl SessionConfig {
    #[must_use]
    pub fn new(sign_on: SignOn) -> Self {
        Self {
            sign_on,
            sign_on_timeout: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            echo_timeout: Duration::from_secs(10),
            missed_echoes: 2,
        }
    }
}

/// Where a connection's session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// The peer has not signed on yet.
    AwaitingSignOn,
    /// We asked to sign on and wait for the answer.
    SigningOn,
    /// Requests flow.
    Up,
    /// The peer signed off; it may sign on again.
    SignedOff,
    /// We asked to sign off and wait for the answer.
    SigningOff,
    /// Over.
    Closed,
}

impl LinkState {
    /// As the console and the log say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AwaitingSignOn => "awaiting-sign-on",
            Self::SigningOn => "signing-on",
            Self::Up => "up",
            Self::SignedOff => "signed-off",
            Self::SigningOff => "signing-off",
            Self::Closed => "closed",
        }
    }
}

/// A network management message as it came in (class 8: 0800, 0810, 0820, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkMessage {
    pub mti: Mti,
    /// DE 70. Some peers leave it out of answers.
    pub code: Option<NetworkCode>,
    /// DE 11.
    pub stan: Stan,
    /// What DE 39 comes to in the link's dialect; answers have it.
    pub outcome: Option<Outcome>,
}

/// How to answer a network management request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAnswer {
    Approved,
    /// Its DE 70 asks for nothing that is done here.
    NotSupported,
}

/// What a session wants done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAction {
    /// Send a network management request with this DE 70, and say with `Session::asked` which DE 11 it got.
    Ask(NetworkCode),
    /// Answer the message that was just received.
    Answer(NetworkAnswer),
    /// Requests may flow from here on.
    Up,
    /// Requests may flow no longer.
    Down,
    /// The peer answered an echo.
    EchoAnswered,
    /// An answer to nothing that was asked: count it.
    Unmatched,
    /// Close the connection. Nothing comes after this.
    Close(CloseReason),
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    code: NetworkCode,
    /// Unknown until `asked`.
    stan: Option<Stan>,
    at: Moment,
    /// Whether anything came in since.
    heard: bool,
}

/// The session of one connection.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: LinkState,
    opened: Moment,
    last_heard: Moment,
    asked: Option<Asked>,
    /// Echoes that are waited for no longer, by their DE 11: who answers one of them is slow, and alive.
    late: VecDeque<Stan>,
    missed: u32,
}

impl Session {
    /// The session of a connection that opened at `now`; `opened` starts it.
    #[must_use]
    pub fn new(config: SessionConfig, now: Moment) -> Self {
        let state = match config.sign_on {
            SignOn::Peer => LinkState::AwaitingSignOn,
            SignOn::Us | SignOn::Nobody => LinkState::SigningOn,
        };
        Self { config, state, opened: now, last_heard: now, asked: None, late: VecDeque::new(), missed: 0 }
    }

    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// Begins: signs on, or is up at once where nobody does.
    pub fn opened(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        match self.config.sign_on {
            SignOn::Peer => {}
            SignOn::Us => self.ask(NetworkCode::SIGN_ON, now, out),
            SignOn::Nobody => self.go_up(out),
        }
    }

    /// Says which DE 11 the request of the last `SessionAction::Ask` was given.
    pub fn asked(&mut self, stan: Stan) {
        if let Some(asked) = &mut self.asked {
            asked.stan = Some(stan);
        }
    }

    /// Any frame came in: the peer lives.
    pub fn traffic(&mut self, now: Moment) {
        self.last_heard = now;
        self.missed = 0;
        if let Some(asked) = &mut self.asked {
            asked.heard = true;
        }
    }

    /// A network management message came in; it counts as traffic too.
    pub fn received(&mut self, message: &NetworkMessage, now: Moment, out: &mut Vec<SessionAction>) {
        if self.state == LinkState::Closed {
            return;
        }
        self.traffic(now);
        if message.mti.is_answer() {
            self.answered(message, out);
        } else {
            self.requested(message, now, out);
        }
    }

    /// Asks an echo at once, where none is unanswered: for a peer that is up and answers no requests.
    pub fn probe(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        if self.state == LinkState::Up && self.asked.is_none() {
            self.ask(NetworkCode::ECHO, now, out);
        }
    }

    /// Says that the next settlement window has begun, in an echo's place: who answers is alive.
    pub fn cut_over(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        if self.state == LinkState::Up {
            self.ask(NetworkCode::CUT_OVER, now, out);
        }
    }

    /// Ends the session in order: signs off where we signed on, then closes.
    pub fn sign_off(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        match (self.state, self.config.sign_on) {
            (LinkState::Closed | LinkState::SigningOff, _) => {}
            (LinkState::Up, SignOn::Us) => {
                self.state = LinkState::SigningOff;
                out.push(SessionAction::Down);
                self.ask(NetworkCode::SIGN_OFF, now, out);
            }
            _ => self.close(CloseReason::ShuttingDown, out),
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self, out: &mut Vec<SessionAction>) {
        if self.state == LinkState::Up {
            out.push(SessionAction::Down);
        }
        self.state = LinkState::Closed;
        self.asked = None;
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            LinkState::AwaitingSignOn | LinkState::SigningOn => self.close(CloseReason::SignOnTooSlow, out),
            LinkState::SigningOff => self.close(CloseReason::ShuttingDown, out),
            LinkState::Up | LinkState::SignedOff => self.echo_due(now, out),
            LinkState::Closed => {}
        }
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let answer_due = self.asked.map(|asked| asked.at.plus(self.config.echo_timeout));
        match self.state {
            LinkState::AwaitingSignOn | LinkState::SigningOn => {
                Some(self.opened.plus(self.config.sign_on_timeout))
            }
            LinkState::SigningOff => answer_due,
            LinkState::Up | LinkState::SignedOff => {
                Some(answer_due.unwrap_or_else(|| self.last_heard.plus(self.config.idle)))
            }
            LinkState::Closed => None,
        }
    }

    /// The answer to the last echo is overdue, or the peer was silent for long enough to ask one.
    fn echo_due(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        if let Some(asked) = self.asked.take() {
            self.wait_no_longer(asked);
            if asked.heard {
                return;
            }
            self.missed = self.missed.saturating_add(1);
            if self.missed >= self.config.missed_echoes {
                return self.close(CloseReason::EchoesMissed, out);
            }
        }
        self.ask(NetworkCode::ECHO, now, out);
    }

    fn requested(&mut self, message: &NetworkMessage, now: Moment, out: &mut Vec<SessionAction>) {
        let answer = match message.code {
            Some(
                NetworkCode::SIGN_ON | NetworkCode::SIGN_OFF | NetworkCode::CUT_OVER | NetworkCode::ECHO,
            ) => NetworkAnswer::Approved,
            _ => NetworkAnswer::NotSupported,
        };
        out.push(SessionAction::Answer(answer));
        match (message.code, self.state) {
            (Some(NetworkCode::SIGN_ON), LinkState::AwaitingSignOn | LinkState::SignedOff) => {
                self.peer_signed_on(now, out);
            }
            (Some(NetworkCode::SIGN_OFF), LinkState::Up) => {
                self.state = LinkState::SignedOff;
                out.push(SessionAction::Down);
            }
            _ => {}
        }
    }

    /// A peer that is back lets us sign on again where that is our part.
    fn peer_signed_on(&mut self, now: Moment, out: &mut Vec<SessionAction>) {
        if self.config.sign_on == SignOn::Us {
            self.state = LinkState::SigningOn;
            self.opened = now;
            self.ask(NetworkCode::SIGN_ON, now, out);
        } else {
            self.go_up(out);
        }
    }

    fn answered(&mut self, message: &NetworkMessage, out: &mut Vec<SessionAction>) {
        let matches = |asked: &Asked| {
            asked.stan == Some(message.stan) && message.code.is_none_or(|code| code == asked.code)
        };
        let Some(asked) = self.asked.take_if(|asked| matches(asked)) else {
            return out.push(self.answered_late(message));
        };
        match (asked.code, self.state) {
            (NetworkCode::SIGN_ON, LinkState::SigningOn) if message.outcome == Some(Outcome::Approved) => {
                self.go_up(out);
            }
            (NetworkCode::SIGN_ON, LinkState::SigningOn) => self.close(CloseReason::SignOnRefused, out),
            (NetworkCode::SIGN_OFF, _) => self.close(CloseReason::ShuttingDown, out),
            _ => out.push(SessionAction::EchoAnswered),
        }
    }

    /// An answer to an echo that came after its time, or to nothing.
    fn answered_late(&mut self, message: &NetworkMessage) -> SessionAction {
        let echo = message.code.is_none_or(is_echo);
        let place = self.late.iter().position(|stan| *stan == message.stan);
        match place.filter(|_| echo) {
            Some(place) => {
                self.late.drain(..=place);
                SessionAction::EchoAnswered
            }
            None => SessionAction::Unmatched,
        }
    }

    fn wait_no_longer(&mut self, asked: Asked) {
        let Some(stan) = asked.stan.filter(|_| is_echo(asked.code)) else { return };
        if self.late.len() == LATE {
            self.late.pop_front();
        }
        self.late.push_back(stan);
    }

    fn go_up(&mut self, out: &mut Vec<SessionAction>) {
        self.state = LinkState::Up;
        out.push(SessionAction::Up);
    }

    /// Replaces what is unanswered: a sign-on or sign-off matters more than an echo.
    fn ask(&mut self, code: NetworkCode, now: Moment, out: &mut Vec<SessionAction>) {
        if let Some(before) = self.asked.replace(Asked { code, stan: None, at: now, heard: false }) {
            self.wait_no_longer(before);
        }
        out.push(SessionAction::Ask(code));
    }

    fn close(&mut self, reason: CloseReason, out: &mut Vec<SessionAction>) {
        self.lost(out);
        out.push(SessionAction::Close(reason));
    }
}

/// Whether it asks no more than whether the peer is there.
fn is_echo(code: NetworkCode) -> bool {
    matches!(code, NetworkCode::ECHO | NetworkCode::CUT_OVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::random::Entropy;
    use SessionAction::{Answer, Ask, Close, Down, EchoAnswered, Unmatched, Up};

    const SIGN_ON: NetworkCode = NetworkCode::SIGN_ON;
    const SIGN_OFF: NetworkCode = NetworkCode::SIGN_OFF;
    const ECHO: NetworkCode = NetworkCode::ECHO;
    const APPROVED: SessionAction = Answer(NetworkAnswer::Approved);

    /// What happens to the session in a test.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Opened,
        /// The peer asks.
        Peer(NetworkCode),
        /// The peer approves what was asked last.
        Approves,
        /// The peer declines what was asked last.
        Declines,
        /// The peer answers something that was not asked.
        Stray,
        /// A customer's message comes in.
        Traffic,
        Tick,
        Probe,
        SignOff,
        Lost,
    }
    use Step::{Approves, Declines, Lost, Opened, Peer, Probe, SignOff as Leave, Stray, Tick, Traffic};

    struct Bench {
        session: Session,
        asked: Option<NetworkCode>,
        stan: u32,
        now: Moment,
    }

    impl Bench {
        fn new(sign_on: SignOn) -> Self {
            let config = SessionConfig {
                sign_on,
                sign_on_timeout: Duration::from_secs(30),
                idle: Duration::from_secs(60),
                echo_timeout: Duration::from_secs(10),
                missed_echoes: 2,
            };
            Self { session: Session::new(config, Moment(0)), asked: None, stan: 0, now: Moment(0) }
        }

        fn answer(&self, outcome: Outcome) -> NetworkMessage {
            NetworkMessage {
                mti: Mti::parse(b"0810").unwrap(),
                code: self.asked,
                stan: Stan::new(self.stan).unwrap(),
                outcome: Some(outcome),
            }
        }

        fn step(&mut self, step: Step) -> Vec<SessionAction> {
            let now = self.now;
            let mut out = Vec::new();
            let session = &mut self.session;
            match step {
                Opened => session.opened(now, &mut out),
                Peer(code) => {
                    let mti = Mti::parse(b"0800").unwrap();
                    let stan = Stan::new(777).unwrap();
                    let message = NetworkMessage { mti, code: Some(code), stan, outcome: None };
                    session.received(&message, now, &mut out);
                }
                Approves | Declines => {
                    let outcome =
                        if matches!(step, Approves) { Outcome::Approved } else { Outcome::Declined };
                    let message = self.answer(outcome);
                    self.session.received(&message, now, &mut out);
                }
                Stray => {
                    let mut message = self.answer(Outcome::Approved);
                    message.stan = Stan::new(999_999).unwrap();
                    self.session.received(&message, now, &mut out);
                }
                Traffic => session.traffic(now),
                Tick => session.tick(now, &mut out),
                Probe => session.probe(now, &mut out),
                Leave => session.sign_off(now, &mut out),
                Lost => session.lost(&mut out),
            }
            for action in &out {
                if let Ask(code) = action {
                    self.asked = Some(*code);
                    self.stan += 1;
                    self.session.asked(Stan::new(self.stan).unwrap());
                }
            }
            out
        }
    }

    /// Second, what happens, what the session wants.
    type Row = (u64, Step, &'static [SessionAction]);

    fn play(name: &str, sign_on: SignOn, rows: &[Row], end: LinkState) {
        let mut bench = Bench::new(sign_on);
        for (number, &(second, step, expected)) in rows.iter().enumerate() {
            bench.now = Moment(second * 1_000_000_000);
            assert_eq!(bench.step(step), expected, "{name}, row {number}: {step:?} at {second} s");
        }
        assert_eq!(bench.session.state(), end, "{name}");
    }

    #[test]
    fn signing_on() {
        play(
            "a peer signs on",
            SignOn::Peer,
            &[(0, Opened, &[]), (29, Tick, &[]), (29, Peer(SIGN_ON), &[APPROVED, Up])],
            LinkState::Up,
        );
        play(
            "a peer that only echoes is not let to stay",
            SignOn::Peer,
            &[
                (0, Opened, &[]),
                (20, Peer(ECHO), &[APPROVED]),
                (30, Tick, &[Close(CloseReason::SignOnTooSlow)]),
                (31, Peer(SIGN_ON), &[]),
                (90, Tick, &[]),
            ],
            LinkState::Closed,
        );
        play(
            "a second sign-on changes nothing",
            SignOn::Peer,
            &[(0, Opened, &[]), (1, Peer(SIGN_ON), &[APPROVED, Up]), (2, Peer(SIGN_ON), &[APPROVED])],
            LinkState::Up,
        );
        play(
            "we sign on",
            SignOn::Us,
            &[(0, Opened, &[Ask(SIGN_ON)]), (1, Stray, &[Unmatched]), (2, Approves, &[Up])],
            LinkState::Up,
        );
        play(
            "we are refused",
            SignOn::Us,
            &[(0, Opened, &[Ask(SIGN_ON)]), (2, Declines, &[Close(CloseReason::SignOnRefused)])],
            LinkState::Closed,
        );
        play(
            "we are ignored",
            SignOn::Us,
            &[
                (0, Opened, &[Ask(SIGN_ON)]),
                (29, Traffic, &[]),
                (30, Tick, &[Close(CloseReason::SignOnTooSlow)]),
            ],
            LinkState::Closed,
        );
        play("nobody signs on", SignOn::Nobody, &[(0, Opened, &[Up])], LinkState::Up);
    }

    #[test]
    fn echoes() {
        play(
            "an echo only after idle time",
            SignOn::Nobody,
            &[
                (0, Opened, &[Up]),
                (59, Tick, &[]),
                (59, Traffic, &[]),
                (118, Tick, &[]),
                (119, Tick, &[Ask(ECHO)]),
                (120, Approves, &[EchoAnswered]),
                (179, Tick, &[]),
                (180, Tick, &[Ask(ECHO)]),
            ],
            LinkState::Up,
        );
        play(
            "one at a time, and two missed bring it down",
            SignOn::Nobody,
            &[
                (0, Opened, &[Up]),
                (60, Tick, &[Ask(ECHO)]),
                (69, Tick, &[]),
                (70, Tick, &[Ask(ECHO)]),
                (79, Tick, &[]),
                (80, Tick, &[Down, Close(CloseReason::EchoesMissed)]),
                (90, Tick, &[]),
            ],
            LinkState::Closed,
        );
        play(
            "a peer that talks is alive, though it answers no echo",
            SignOn::Nobody,
            &[
                (0, Opened, &[Up]),
                (60, Tick, &[Ask(ECHO)]),
                (65, Traffic, &[]),
                (70, Tick, &[]),
                (124, Tick, &[]),
                (125, Tick, &[Ask(ECHO)]),
                (135, Tick, &[Ask(ECHO)]),
                (136, Traffic, &[]),
                (145, Tick, &[]),
                (196, Tick, &[Ask(ECHO)]),
                (206, Tick, &[Ask(ECHO)]),
                (216, Tick, &[Down, Close(CloseReason::EchoesMissed)]),
            ],
            LinkState::Closed,
        );
        play(
            "an answer to nothing that was asked is a sign of life all the same",
            SignOn::Nobody,
            &[
                (0, Opened, &[Up]),
                (60, Tick, &[Ask(ECHO)]),
                (70, Tick, &[Ask(ECHO)]),
                (71, Stray, &[Unmatched]),
                (80, Tick, &[]),
                (131, Tick, &[Ask(ECHO)]),
            ],
            LinkState::Up,
        );
        play(
            "a probe does not wait for idle time, and there is one at a time",
            SignOn::Nobody,
            &[
                (0, Opened, &[Up]),
                (5, Probe, &[Ask(ECHO)]),
                (6, Probe, &[]),
                (7, Approves, &[EchoAnswered]),
                (8, Probe, &[Ask(ECHO)]),
            ],
            LinkState::Up,
        );
        play(
            "the peer's echoes are answered and are none of ours",
            SignOn::Peer,
            &[(0, Opened, &[]), (1, Peer(ECHO), &[APPROVED]), (2, Probe, &[])],
            LinkState::AwaitingSignOn,
        );
    }

    #[test]
    fn signing_off() {
        play(
            "a peer signs off, stays, and comes back",
            SignOn::Peer,
            &[
                (0, Opened, &[]),
                (1, Peer(SIGN_ON), &[APPROVED, Up]),
                (2, Peer(SIGN_OFF), &[APPROVED, Down]),
                (3, Peer(SIGN_OFF), &[APPROVED]),
                (63, Tick, &[Ask(ECHO)]),
                (64, Approves, &[EchoAnswered]),
                (70, Peer(SIGN_ON), &[APPROVED, Up]),
            ],
            LinkState::Up,
        );
        play(
            "an issuer that signed off and is back lets us sign on again",
            SignOn::Us,
            &[
                (0, Opened, &[Ask(SIGN_ON)]),
                (1, Approves, &[Up]),
                (2, Peer(SIGN_OFF), &[APPROVED, Down]),
                (50, Peer(SIGN_ON), &[APPROVED, Ask(SIGN_ON)]),
                (79, Tick, &[]),
                (79, Approves, &[Up]),
            ],
            LinkState::Up,
        );
        play(
            "we sign off before we close",
            SignOn::Us,
            &[
                (0, Opened, &[Ask(SIGN_ON)]),
                (1, Approves, &[Up]),
                (2, Leave, &[Down, Ask(SIGN_OFF)]),
                (3, Leave, &[]),
                (3, Approves, &[Close(CloseReason::ShuttingDown)]),
            ],
            LinkState::Closed,
        );
        play(
            "and do not wait for ever",
            SignOn::Us,
            &[
                (0, Opened, &[Ask(SIGN_ON)]),
                (1, Approves, &[Up]),
                (2, Leave, &[Down, Ask(SIGN_OFF)]),
                (11, Tick, &[]),
                (12, Tick, &[Close(CloseReason::ShuttingDown)]),
            ],
            LinkState::Closed,
        );
        play(
            "a peer's session is closed at once",
            SignOn::Peer,
            &[
                (0, Opened, &[]),
                (1, Peer(SIGN_ON), &[APPROVED, Up]),
                (2, Leave, &[Down, Close(CloseReason::ShuttingDown)]),
            ],
            LinkState::Closed,
        );
        play(
            "a lost connection is down and asks for nothing",
            SignOn::Nobody,
            &[(0, Opened, &[Up]), (1, Lost, &[Down]), (2, Lost, &[]), (100, Tick, &[]), (101, Approves, &[])],
            LinkState::Closed,
        );
    }

    #[test]
    fn what_is_not_supported_is_said_so() {
        play(
            "an unknown DE 70",
            SignOn::Peer,
            &[(0, Opened, &[]), (1, Peer(NetworkCode(161)), &[Answer(NetworkAnswer::NotSupported)])],
            LinkState::AwaitingSignOn,
        );
    }

    /// Whatever happens, in whatever order: up and down alternate, nothing follows a close, at most one request
    /// is unanswered, and a session that is not closed always has a deadline ahead.
    #[test]
    fn invariants_hold_for_any_course_of_events() {
        for seed in 0..3_000 {
            let mut entropy = Entropy::seeded(seed);
            let mut draw = |bound: u64| entropy.below(bound).unwrap();
            let sign_on = [SignOn::Peer, SignOn::Us, SignOn::Nobody][usize::try_from(draw(3)).unwrap()];
            let mut bench = Bench::new(sign_on);
            let (mut up, mut closed) = (false, false);
            let mut steps = vec![Opened];
            let codes = [SIGN_ON, SIGN_OFF, ECHO, NetworkCode(999)];
            for _ in 0..60 {
                steps.push(match draw(20) {
                    0..4 => Peer(codes[usize::try_from(draw(4)).unwrap()]),
                    4..8 => Approves,
                    8 => Declines,
                    9 => Stray,
                    10..12 => Traffic,
                    12 => Probe,
                    13 if draw(10) == 0 => Lost,
                    14 if draw(5) == 0 => Leave,
                    _ => Tick,
                });
            }
            for step in steps {
                bench.now = bench.now.plus(Duration::from_millis(draw(15_000)));
                let unanswered = bench.session.asked.is_some();
                for action in bench.step(step) {
                    assert!(!closed, "seed {seed}: {action:?} after the close");
                    match action {
                        Up => assert!(!std::mem::replace(&mut up, true), "seed {seed}: up twice"),
                        Down => assert!(std::mem::replace(&mut up, false), "seed {seed}: down twice"),
                        Ask(ECHO) => assert!(
                            !unanswered || matches!(step, Tick),
                            "seed {seed}: a second echo while one is unanswered"
                        ),
                        Close(_) => closed = true,
                        _ => {}
                    }
                }
                closed |= matches!(step, Lost);
                assert_eq!(up, bench.session.is_up(), "seed {seed}");
                if matches!(step, Tick) {
                    let deadline = bench.session.deadline();
                    assert!(closed == deadline.is_none(), "seed {seed}: {deadline:?}");
                    assert!(deadline.is_none_or(|at| at > bench.now), "seed {seed}: a tick left work undone");
                }
            }
        }
    }

    /// An echo's answer that comes after its time still says that the peer is alive, once.
    #[test]
    fn an_echo_that_is_answered_late_is_answered() {
        for hears_something in [true, false] {
            let mut bench = Bench::new(SignOn::Nobody);
            bench.step(Opened);
            assert_eq!(bench.step(Probe), [Ask(ECHO)]);
            let late = bench.answer(Outcome::Approved);
            if hears_something {
                bench.step(Traffic);
            }
            bench.now = Moment(0).plus(Duration::from_secs(10));
            let asked_again = bench.step(Tick);
            assert_eq!(asked_again.is_empty(), hears_something, "{asked_again:?}");
            for expected in [EchoAnswered, Unmatched] {
                let mut out = Vec::new();
                bench.session.received(&late, bench.now, &mut out);
                assert_eq!(out, [expected], "{hears_something}");
            }
            if !hears_something {
                assert_eq!(bench.step(Approves), [EchoAnswered], "the second one's");
            }
        }
    }
}
