//! Beyond capacity: an issuer takes half a second for each answer and the switch holds twenty requests, and ten times
//! the payments come that this lets through. In virtual time, so that goodput is a count and "at once" is exact.

use std::collections::VecDeque;
use std::time::Duration;

use tokenswitch::codec::Message;
use tokenswitch::link::ConnectionId;
use tokenswitch::switch::Limits;

use crate::desk::{Desk, FIRST, answer_to, get, reversal, with_mti};
use crate::setting::LIMITS;

const STEP: Duration = Duration::from_millis(250);
/// The issuer's time for an answer, in steps.
const THINKS: usize = 2;
const IN_FLIGHT: usize = 20;
/// So many payments a step are all that the issuer and the bound let through.
const CAPACITY: u32 = (IN_FLIGHT / THINKS) as u32;
const STEPS: u32 = 40;

/// What came of a load.
#[derive(Debug, Default)]
struct Told {
    approved: u32,
    refused_at_once: u32,
    /// Reversals and advices acknowledged in the very step in which they came.
    taken: u32,
    /// The most of each table at the end of any step: requests in flight, answers remembered, messages stored.
    most: [usize; 3],
}

struct Load {
    desk: Desk,
    /// What the issuer has not answered, by step.
    thinking: VecDeque<Vec<(ConnectionId, Message)>>,
    approved: Vec<Message>,
    stan: u32,
    told: Told,
}

impl Load {
    fn run(per_step: u32) -> Told {
        let limits = Limits { in_flight: IN_FLIGHT, answered: 200, ..LIMITS };
        let desk = Desk::bounded(limits, 1 << 20);
        let thinking = vec![Vec::new(); THINKS].into();
        let mut load = Self { desk, thinking, approved: Vec::new(), stan: 0, told: Told::default() };
        for _ in 0..STEPS {
            load.step(per_step);
        }
        load.told
    }

    fn step(&mut self, per_step: u32) {
        self.desk.pass(STEP);
        self.the_issuer_answers();
        for _ in 0..per_step {
            let purchase = self.next();
            self.desk.send(FIRST, &purchase);
            for (_, answer, _) in self.desk.sent_to_acquirers() {
                assert_eq!(get(&answer, 39), "91");
                self.told.refused_at_once += 1;
            }
        }
        self.what_has_happened();
        self.the_issuer_reads();
        let core = self.desk.house.node.core();
        let held = [core.in_flight(), core.answered(), core.stored().len()];
        for (most, held) in self.told.most.iter_mut().zip(held) {
            *most = held.max(*most);
        }
    }

    fn next(&mut self) -> Message {
        self.stan += 1;
        self.desk.purchase(self.stan)
    }

    /// A reversal of something approved, and an advice.
    fn what_has_happened(&mut self) {
        self.stan += 1;
        let reversal = self.approved.pop().map(|purchase| reversal(&purchase, self.stan));
        let advice = with_mti(&self.next(), "0220");
        for message in reversal.iter().chain([&advice]) {
            self.desk.send(FIRST, message);
            assert_eq!(get(&self.desk.answer(), 39), "00", "{}", message.mti());
            self.told.taken += 1;
        }
    }

    fn the_issuer_reads(&mut self) {
        let (requests, stored): (Vec<_>, Vec<_>) =
            self.desk.sent_to_issuers().into_iter().partition(|(_, asked)| asked.mti().to_string() == "0200");
        for (connection, message) in stored {
            self.desk.send(connection, &answer_to(&message, "00"));
        }
        self.thinking.push_back(requests);
    }

    fn the_issuer_answers(&mut self) {
        for (connection, asked) in self.thinking.pop_front().unwrap_or_default() {
            self.desk.send(connection, &answer_to(&asked, "00"));
            let answer = self.desk.answer();
            assert_eq!(get(&answer, 39), "00");
            self.told.approved += 1;
            self.approved.push(with_mti(&answer, "0200"));
        }
    }
}

#[test]
fn goodput_does_not_fall_refusals_are_quick_and_nothing_grows() {
    let (full, beyond) = (Load::run(CAPACITY), Load::run(10 * CAPACITY));
    assert_eq!((full.refused_at_once, beyond.approved), (0, full.approved), "{full:?} {beyond:?}");
    let answered = beyond.approved + beyond.refused_at_once + IN_FLIGHT as u32;
    assert_eq!(answered, 10 * CAPACITY * STEPS, "whoever was not forwarded was told so in the same step");
    assert_eq!(beyond.taken, full.taken, "what has happened passes");
    assert_eq!(beyond.most, full.most, "ten times the requests take no more room");
}
