//! The peers: what acquirers ask, how issuers answer, and what becomes of it on its way.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tokenswitch::codec::{DataElement, FrameReader, Message, decode, encode};
use tokenswitch::link::CloseReason;
use tokenswitch::sim::{
    self, AcquirerConfig, AcquirerSimulator, AnswerRule, BookEntry, Earlier, Fault, FaultPlan, FaultRule,
    Habits, IssuerConfig, IssuerSimulator, NamedBy, Patience, Payment, PaymentNumber, PaymentState,
    PresentedCard, RuledAnswer, Standing,
};
use tokenswitch::stdx::clock::Moment;
use tokenswitch::vocab::{
    Amount, Currency, LinkId, MessageClass, MessageFunction, Mti, PosEntryMode, ProcessingCode, ResponseCode,
    TransactionKind,
};

use super::{Acquirer, Happening, Issuer, MILLI, RETENTION, Step, World};
use crate::given::Made;
use crate::setting::{
    ACQUIRERS, ISSUERS, dialect_of, enquiry_rules, framing_of, institution_of, is_issuer, merchants,
};
use crate::trouble::Trouble;

/// The place among the cards of the first that is a token.
const FIRST_TOKEN: usize = 6;

#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    Acquirer(usize),
    Issuer(usize),
}

pub(super) fn peer_of(link: LinkId) -> Peer {
    match ACQUIRERS.iter().position(|acquirer| *acquirer == link) {
        Some(at) => Peer::Acquirer(at),
        None => {
            Peer::Issuer(ISSUERS.iter().position(|issuer| *issuer == link).expect("a link of the setting"))
        }
    }
}

impl World {
    /// Lets the peers act, and puts what they say on the wire.
    pub(super) fn brains_move(&mut self) -> Step {
        let now = self.now();
        for acquirer in &mut self.acquirers {
            acquirer.brain.next(now, &mut acquirer.out).map_err(|error| format!("sim: {error}"))?;
        }
        for issuer in self.issuers.iter_mut().filter(|issuer| issuer.asleep_until <= now.moment) {
            issuer.brain.next(now, &mut issuer.out);
        }
        for peer in [Peer::Acquirer(0), Peer::Acquirer(1), Peer::Issuer(0), Peer::Issuer(1)] {
            let out = self.out_of(peer);
            let waiting: Vec<usize> = out.waiting().collect();
            for at in waiting {
                let mut bytes = std::mem::take(self.out_of(peer).bytes(at));
                let mut hang_up = self.out_of(peer).take_hang_up(at);
                if !self.lines[at].at_peer {
                    continue;
                }
                if self.plan.troubles.has(Trouble::MidFrame) && bytes.len() > 1 && self.chance(60) {
                    self.meet(
                        Trouble::MidFrame,
                        &format!("{} ends within a frame", self.lines[at].connection),
                    );
                    bytes.truncate(self.random.usize(1..bytes.len()));
                    hang_up = true;
                } else if !bytes.is_empty() {
                    bytes = self.mangled(at, bytes);
                }
                if !bytes.is_empty() {
                    self.send_to_switch(at, Happening::ToSwitch { line: at, bytes });
                }
                if hang_up {
                    let begun = self.lines[at].taken;
                    let reason = CloseReason::PeerClosed;
                    self.lines[at].broken = true;
                    self.closed_at_peer(at);
                    self.send_to_switch(at, Happening::ClosedAtSwitch { line: at, begun, reason });
                }
            }
        }
        Ok(())
    }

    pub(super) fn out_of(&mut self, peer: Peer) -> &mut sim::Outbox {
        match peer {
            Peer::Acquirer(at) => &mut self.acquirers[at].out,
            Peer::Issuer(at) => &mut self.issuers[at].out,
        }
    }

    /// What an issuer's frame may become on the way: cut short within its frame, or the name of another request in
    /// it.
    pub(super) fn mangled(&mut self, at: usize, bytes: Vec<u8>) -> Vec<u8> {
        let link = self.lines[at].link;
        if !is_issuer(link) || !self.chance(25) {
            return bytes;
        }
        let mut reader = FrameReader::new(framing_of(link));
        reader.spare()[..bytes.len()].copy_from_slice(&bytes);
        reader.filled(bytes.len());
        let mut out = Vec::new();
        while let Ok(Some(frame)) = reader.next() {
            let (header, message) = (frame.header.to_vec(), frame.message.to_vec());
            let Ok(mut answer) = decode(&dialect_of(link), &message) else { return bytes };
            if answer.mti().class == MessageClass::NetworkManagement {
                return bytes;
            }
            let kind = self.random.u32(0..12);
            self.meet(Trouble::LyingAnswer, &format!("mangles {} in way {kind}", answer.mti()));
            let altered = match kind {
                0 => {
                    let end = self.random.usize(message.len() / 2..message.len());
                    Some(message[..end].to_vec())
                }
                1 => changed(link, &mut answer, DataElement::SENT_AT, b"0101000000"),
                2 => changed(link, &mut answer, DataElement::RRN, b"000000000000"),
                3 => changed(link, &mut answer, DataElement::TERMINAL, b"NOBODYS1"),
                4 => changed(link, &mut answer, DataElement::AMOUNT, b"000099999999"),
                // Nothing but its number says which card an enquiry's answer is about.
                5 if !is_enquiry(&answer) => {
                    // Another one's number, which may well be waited for.
                    let stan = answer.stan().ok().flatten().map_or(1, |stan| stan.get());
                    let other = format!("{:06}", stan % 999_999 + 1);
                    changed(link, &mut answer, DataElement::STAN, other.as_bytes())
                }
                5 | 6 => changed(link, &mut answer, DataElement::CURRENCY, b"999"),
                // What it says of a payment it has booked: that nobody knows, or a part, and not which.
                8 if is_of_payment(&answer) => changed(link, &mut answer, DataElement::RESPONSE_CODE, b"68"),
                9 if is_of_payment(&answer) => {
                    answer.remove(DataElement::AMOUNT);
                    changed(link, &mut answer, DataElement::RESPONSE_CODE, b"10")
                }
                8..=10 => changed(link, &mut answer, DataElement::MAC_64, b"unproved"),
                7 => Some((0..message.len()).map(|_| self.random.u8(..)).collect()),
                _ => {
                    answer.remove(DataElement::RESPONSE_CODE);
                    Some(encoded(link, &answer))
                }
            };
            let mangled = altered.unwrap_or(message);
            let write = |out: &mut Vec<u8>| -> Result<(), ()> {
                out.extend_from_slice(&mangled);
                Ok(())
            };
            framing_of(link).write(&header, write, &mut out).expect("it is no longer than before");
        }
        out
    }

    pub(super) fn pay(&mut self) {
        if self.payments_left == 0 {
            return;
        }
        let wait = self.random.u64(MILLI..800 * MILLI);
        let at_once = self.chance(4);
        let wait = self.quiet().unwrap_or(if at_once { 0 } else { wait });
        self.later(wait, Happening::Pay);
        self.payments_left -= 1;
        let now = self.now();
        let at = self.random.usize(..self.acquirers.len());
        let about = self.about_earlier(at).or_else(|| self.in_app(at));
        let payment = about.unwrap_or_else(|| self.payment());
        let (mti, card) = (payment.mti, payment.card);
        let Acquirer { brain, out } = &mut self.acquirers[at];
        match brain.pay(payment, now, out) {
            Ok(number) => {
                let rrn = brain.book().payments()[number.0].rrn;
                let mut line =
                    format!("acquirer {at} pays {mti} as {}, RRN {rrn}, with card {card}", number.0);
                if let Some(Earlier { payment: PaymentNumber(of), by }) = payment.original {
                    let (kind, minor) = (payment.processing.kind(), payment.amount.minor());
                    let _ = write!(line, ": {kind:?} over {minor}, about {of} by {by:?}");
                }
                self.note(&line);
            }
            Err(error) => self.note(&format!("acquirer {at} cannot pay: {error}")),
        }
        self.meddle(at);
    }

    /// A payment with a cryptogram that was made for it or, now and then, for another one, or that paid already.
    fn in_app(&mut self, at: usize) -> Option<Payment> {
        if !self.chance(4) {
            return None;
        }
        let for_here: Vec<Made> = self.book.made().filter(|it| it.order.acquirer == at).copied().collect();
        let Made { order, cryptogram } = *self.random.choice(&for_here)?;
        let (elsewhere, dearer) = (self.chance(10), self.chance(10));
        let mti = *self.random.choice(&["0100", "0200"])?;
        let less = self.random.u64(0..100).min(order.minor - 1);
        let minor = if dearer { order.minor + 1 } else { order.minor - less };
        Some(Payment {
            mti: Mti::parse(mti.as_bytes()).expect("digits"),
            card: FIRST_TOKEN + order.token,
            merchant: if elsewhere { (order.shop + 1) % 3 } else { order.shop },
            processing: ProcessingCode::parse(b"000000").expect("digits"),
            amount: Amount::new(minor, order.amount().currency()),
            entry_mode: PosEntryMode::parse(b"101").expect("digits"),
            original: None,
            remote: Some(cryptogram.into()),
        })
    }

    fn payment(&mut self) -> Payment {
        let mti = *self.random.choice(&["0100", "0200", "0200", "0200", "0120", "0220"]).expect("some");
        let outlived = self.outlived().filter(|_| self.random.bool());
        let card = outlived.map_or_else(|| self.random.usize(0..12), |token| FIRST_TOKEN + token);
        let modes: &[&str] =
            if card < 6 { &["071", "051", "021", "101"] } else { &["071", "071", "051", "101"] };
        let mode = *self.random.choice(modes).expect("some");
        let kinds: &[&str] = if mti == "0200" {
            &["000000", "000000", "000000", "310000", "200000"]
        } else {
            &["000000", "000000", "310000"]
        };
        let processing = *self.random.choice(kinds).expect("some");
        // Refunds up to 5 000 are let pass at the first acquirer.
        let most = if processing == "200000" { 8_000 } else { 100_000 };
        Payment {
            mti: Mti::parse(mti.as_bytes()).expect("digits"),
            card,
            merchant: self.random.usize(0..3),
            processing: ProcessingCode::parse(processing.as_bytes()).expect("digits"),
            amount: Amount::new(self.random.u64(100..most), Currency::from_letters("EUR").expect("known")),
            entry_mode: PosEntryMode::parse(mode.as_bytes()).expect("digits"),
            original: None,
            remote: None,
        }
    }

    /// A completion, a raise or a refund of an earlier payment of that acquirer, in whatever state that is.
    fn about_earlier(&mut self, at: usize) -> Option<Payment> {
        let hold = self.open_hold(at);
        match self.random.u32(0..8) {
            0..3 => Some(self.completion(at, hold?)),
            3 => Some(self.raise(at, hold?)),
            4 | 5 => self.refund(at),
            _ => None,
        }
    }

    /// A hold, or what raised one, among the last payments: that stands as a rule. The second acquirer's capture by
    /// themselves.
    fn open_hold(&mut self, at: usize) -> Option<PaymentNumber> {
        let any = self.chance(8);
        let payments = self.acquirers[at].brain.book().payments();
        let stands = |entry: &BookEntry| {
            entry.is_hold()
                && entry.payment.mti.function == MessageFunction::Request
                && entry.payment.processing.kind() == TransactionKind::Debit
                && (any || matches!(entry.standing(), Standing::Money(_)))
        };
        let holds = payments.iter().enumerate().rev().take(8).filter(|(_, entry)| at == 0 && stands(entry));
        let holds: Vec<PaymentNumber> = holds.map(|(number, _)| PaymentNumber(number)).collect();
        self.random.choice(holds)
    }

    /// The goods were sent: for the whole amount or less, or for more now and then; told as done, or asked for.
    fn completion(&mut self, at: usize, hold: PaymentNumber) -> Payment {
        let entry = &self.acquirers[at].brain.book().payments()[hold.0];
        let (held, first) = (entry.payment, entry.payment.original.is_none());
        let stands = matches!(entry.standing(), Standing::Money(_));
        let (asks, more) = (self.chance(4), self.chance(6));
        let most = if more { held.amount.minor() * 3 / 2 } else { held.amount.minor() };
        let by = match self.random.u32(0..4) {
            // Whoever names it so knows of no other completion, and an issuer of no card in this one's place.
            0 | 1 if !asks && !more && first && stands && !self.renumbers && !self.is_named(at, hold) => {
                NamedBy::Rrn
            }
            2 if first && stands && !self.renumbers => NamedBy::Approval,
            _ => NamedBy::Data,
        };
        Payment {
            mti: Mti::parse(if asks { b"0200" } else { b"0220" }).expect("digits"),
            amount: Amount::new(self.random.u64(1..=most), held.amount.currency()),
            original: Some(Earlier { payment: hold, by }),
            remote: None,
            ..held
        }
    }

    fn is_named(&self, at: usize, number: PaymentNumber) -> bool {
        let payments = self.acquirers[at].brain.book().payments();
        payments.iter().any(|it| it.payment.original.is_some_and(|original| original.payment == number))
    }

    /// More is held: an incremental authorisation.
    fn raise(&mut self, at: usize, hold: PaymentNumber) -> Payment {
        let held = self.acquirers[at].brain.book().payments()[hold.0].payment;
        let mti = if self.chance(5) { b"0120" } else { b"0100" };
        Payment {
            mti: Mti::parse(mti).expect("digits"),
            amount: Amount::new(self.random.u64(100..30_000), held.amount.currency()),
            original: Some(Earlier { payment: hold, by: NamedBy::Data }),
            remote: None,
            ..held
        }
    }

    /// Goods come back: all of what was paid, or a part, or more than that now and then; asked for, or told as done.
    fn refund(&mut self, at: usize) -> Option<Payment> {
        let payments = self.acquirers[at].brain.book().payments();
        let debits = payments.iter().enumerate().rev().take(20).filter(|(_, entry)| {
            let debit = entry.payment.processing.kind() == TransactionKind::Debit;
            debit && matches!(entry.standing(), Standing::Money(_) | Standing::Unknown) || entry.is_hold()
        });
        let debits: Vec<(usize, Payment)> = debits.map(|(number, entry)| (number, entry.payment)).collect();
        let (number, paid) = self.random.choice(debits)?;
        let whole = paid.amount.minor();
        let minor = match self.random.u32(0..8) {
            0 => whole + 1,
            1..4 => whole,
            _ => self.random.u64(1..=whole),
        };
        let mti = if self.chance(4) { b"0220" } else { b"0200" };
        Some(Payment {
            mti: Mti::parse(mti).expect("digits"),
            processing: ProcessingCode::parse(b"200000").expect("digits"),
            amount: Amount::new(minor, paid.amount.currency()),
            original: Some(Earlier { payment: PaymentNumber(number), by: NamedBy::Data }),
            remote: None,
            ..paid
        })
    }

    /// Whether every completed hold is known to be closed. One whose completion was taken back, or refused, is taken
    /// back too, and what raised it: nobody can say whether the issuer still holds it.
    pub(super) fn holds_are_settled(&mut self) -> bool {
        let now = self.now();
        let mut settled = true;
        for Acquirer { brain, out } in &mut self.acquirers {
            let book = brain.book();
            let completions = book.payments().iter().filter(|entry| entry.is_completion());
            let completed: BTreeSet<PaymentNumber> = completions.filter_map(|it| book.hold_of(it)).collect();
            let of_them = |number: &PaymentNumber, entry: &BookEntry| {
                completed.contains(number) || book.hold_of(entry).is_some_and(|it| completed.contains(&it))
            };
            let doubtful = book.payments().iter().enumerate().filter_map(|(at, entry)| {
                let open = entry.is_hold() && matches!(entry.standing(), Standing::Money(_));
                let number = PaymentNumber(at);
                (open && of_them(&number, entry)).then_some(number)
            });
            for hold in doubtful.collect::<Vec<_>>() {
                let _ = brain.reverse(hold, None, now, out);
                settled = false;
            }
        }
        settled
    }

    /// Repeats and reversals of earlier payments, in whatever state they are.
    pub(super) fn meddle(&mut self, at: usize) {
        let now = self.now();
        let (repeats, reverses) = (self.chance(6), self.chance(8));
        let paid = self.acquirers[at].brain.book().payments().len();
        if paid == 0 {
            return;
        }
        let recent = paid - 1 - self.random.usize(0..paid.min(3));
        let number = PaymentNumber(recent);
        let part = self.random.u64(1..100);
        let Acquirer { brain, out, .. } = &mut self.acquirers[at];
        let entry = &brain.book().payments()[recent];
        // One reversal is delivered for a payment, and a second one finds nothing to fit.
        let whole = !brain.book().reversals().iter().any(|reversal| reversal.of == number);
        let usable = matches!(entry.state, PaymentState::Waiting | PaymentState::Answered);
        // What is in flight can only be taken back whole, and a hold in part is no business of its completion.
        let by_rrn = entry.payment.original.is_some_and(|original| original.by == NamedBy::Rrn);
        let standing = match entry.standing() {
            Standing::Money(minor) if !entry.is_hold() && !by_rrn => minor,
            _ => 0,
        };
        let keep = Some(standing * part / 100).filter(|keep| *keep > 0 && part.is_multiple_of(2));
        let mut said = String::new();
        // What is older may be gone.
        let recently = now.moment.since(entry.intended) < RETENTION / 2;
        let repeatable = usable && recently && !entry.is_refused();
        if repeats && repeatable && brain.repeat(number, now, out).is_ok() {
            let _ = write!(said, "acquirer {at} repeats {recent} ");
        }
        if reverses && usable && whole && brain.reverse(number, keep, now, out).is_ok() {
            let _ = write!(said, "acquirer {at} reverses {recent} down to {}", keep.unwrap_or_default());
        }
        if !said.is_empty() {
            self.note(&said);
        }
    }
}

/// Whether a payment that may have moved money waits for it.
fn is_of_payment(answer: &Message) -> bool {
    let Mti { class, function, .. } = answer.mti();
    function == MessageFunction::RequestResponse && class != MessageClass::Reversal && !is_enquiry(answer)
}

/// Whether it is about a card that is to have a token (DE 3 = 33).
fn is_enquiry(answer: &Message) -> bool {
    answer.get(DataElement::PROCESSING_CODE).is_some_and(|code| code.starts_with(b"33"))
}

/// The message with another value in it; `None` when the dialect has no such value.
fn changed(link: LinkId, answer: &mut Message, element: DataElement, value: &[u8]) -> Option<Vec<u8>> {
    answer.set(element, value).ok()?;
    let mut bytes = Vec::new();
    encode(&dialect_of(link), answer, &mut bytes).ok()?;
    Some(bytes)
}

pub(super) fn encoded(link: LinkId, message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&dialect_of(link), message, &mut bytes).expect("it was decoded");
    bytes
}

pub(super) fn plan_of(seed: u64, rules: &[(&str, Fault)]) -> FaultPlan {
    let rule =
        |(when, fault): &(&str, Fault)| FaultRule { when: when.parse().expect("a condition"), fault: *fault };
    FaultPlan::new(seed, rules.iter().map(rule).collect())
}

pub(super) fn acquirer(
    at: usize,
    seed: u64,
    cards: &[PresentedCard],
    random: &mut fastrand::Rng,
) -> Acquirer {
    let link = ACQUIRERS[at];
    let faults: &[(&str, Fault)] = match random.u32(0..3) {
        0 => &[],
        1 => &[("odds=1/25", Fault::Drop), ("odds=1/40", Fault::Duplicate), ("odds=1/60", Fault::HangUp)],
        _ => &[("odds=1/20", Fault::Delay(Duration::from_secs(2))), ("odds=1/20", Fault::Duplicate)],
    };
    let patience = Patience {
        answer: Duration::from_millis(random.u64(1_000..9_000)),
        repeats: random.u16(0..3),
        reverses: true,
        reversal_advice: random.bool(),
        reversal_repeats: 300,
    };
    let habits = Habits {
        reverse_one_in: random.bool().then(|| random.u64(3..12)),
        repeat_one_in: random.bool().then(|| random.u64(2..8)),
    };
    let brain = AcquirerSimulator::new(AcquirerConfig {
        dialect: dialect_of(link),
        framing: framing_of(link),
        header: vec![0x60; framing_of(link).header_length()],
        institution: institution_of(at),
        merchants: merchants(seed),
        cards: cards.to_vec(),
        patience,
        habits,
        faults: plan_of(random.u64(..), faults),
        seed: random.u64(..),
        first_number: 999_990 + 500_000_000 * at as u64,
    });
    Acquirer { brain: brain.expect("a report"), out: sim::Outbox::new() }
}

pub(super) fn issuer(at: usize, seed: u64, random: &mut fastrand::Rng) -> Issuer {
    let link = ISSUERS[at];
    let faults: &[(&str, Fault)] = match random.u32(0..4) {
        0 => &[],
        1 => &[("odds=1/15", Fault::Drop), ("odds=1/15", Fault::Ignore), ("odds=1/30", Fault::HangUp)],
        2 => &[
            ("odds=1/10", Fault::Delay(Duration::from_millis(3_500))),
            ("odds=1/10", Fault::Duplicate),
            ("odds=1/20", Fault::Drop),
        ],
        _ => &[
            ("odds=1/12", Fault::Ignore),
            ("odds=1/12", Fault::Delay(Duration::from_millis(2_900))),
            ("odds=1/12", Fault::Drop),
            ("odds=1/40", Fault::HangUp),
        ],
    };
    let rule = |(when, code): (&str, &str)| {
        let code = ResponseCode::parse(code.as_bytes()).expect("two characters");
        let answer =
            if code.as_str() == "10" { RuledAnswer::Partly(code, 50) } else { RuledAnswer::Decline(code) };
        AnswerRule { when: when.parse().expect("a condition"), answer }
    };
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: dialect_of(link),
        framing: framing_of(link),
        header: vec![0x60; framing_of(link).header_length()],
        signs_on: false,
        rules: [("ends=1", "51"), ("ends=12", "10"), ("ends=13", "Z9"), ("ends=3", "91")].map(rule).to_vec(),
        enquiries: enquiry_rules(),
        faults: plan_of(random.u64(..), faults),
        // One in eight issuers is as slow as may be.
        think: Duration::from_millis(if random.u32(0..8) == 0 {
            random.u64(0..2_950)
        } else {
            random.u64(0..50)
        }),
        seed: seed ^ random.u64(..),
    });
    Issuer { brain, out: sim::Outbox::new(), away_until: Moment(0), asleep_until: Moment(0) }
}
