//! As what receivers are told of a change: by what is different after it, and not by how the token stands.

use super::idv::{telling, waiting};
use super::*;
use crate::vocab::{Text, TokenAssuranceMethod};
use Happening::{Deactivated, Resumed, Suspended, Updated};

const PAN: &[u8] = b"4761739001010119";

/// Something that happens to a token.
#[derive(Debug, Clone, Copy)]
enum Step {
    Held(Suspender),
    Freed(Suspender),
    Unlinked,
    Assured(&'static [u8]),
    Of(CardEvent),
}

impl Bench {
    fn take(&mut self, token: &TokenView, step: Step) {
        let id = format!("s{}", self.log.len());
        let desk = Principal::Operator(Text::parse("operator", b"desk").unwrap());
        let desk = Asker::new(desk, Actor::Operator, RequestId::parse(id.as_bytes()).unwrap());
        let by = |by| if by == Suspender::Operator { desk } else { asker(FIRST, &id) };
        match step {
            Step::Held(name) => drop(self.move_by(by(name), token.reference, Move::Suspend(name)).unwrap()),
            Step::Freed(name) => drop(self.move_by(by(name), token.reference, Move::Resume(name)).unwrap()),
            Step::Unlinked => drop(self.move_by(desk, token.reference, Move::Unlink).unwrap()),
            Step::Assured(method) => {
                let assurance = TokenAssuranceMethod::parse(method).ok();
                let reference = token.reference;
                let request =
                    UpdateRequest { asker: desk, reference, version: None, renew: false, assurance };
                of_token(self.ask(|call| Command::Update { call, request })).unwrap();
            }
            Step::Of(event) => drop(self.card(&id, PAN, event).unwrap()),
        }
    }
}

#[test]
fn a_change_is_told_as_what_is_different_after_it() {
    use Suspender::{Cardholder, Operator, TokenRequestor};
    let held = Step::Held(Cardholder);
    let (lost, found) = (Step::Of(CardEvent::Lost), Step::Of(CardEvent::Found));
    let cases: [(&[Step], Step, Happening); 15] = [
        (&[], Step::Assured(b"12"), Updated),
        (&[], held, Suspended),
        (&[], lost, Suspended),
        (&[], Step::Of(CardEvent::NewExpiry), Updated),
        (&[held], Step::Assured(b"12"), Updated),
        (&[held], Step::Held(Operator), Suspended),
        (&[held], lost, Suspended),
        (&[held], Step::Unlinked, Deactivated),
        (&[held], Step::Of(CardEvent::NewExpiry), Updated),
        (&[held], Step::Of(CardEvent::Closed), Deactivated),
        (&[held], Step::Freed(Cardholder), Resumed),
        (&[held, Step::Held(TokenRequestor)], Step::Freed(Cardholder), Resumed),
        (&[lost], found, Resumed),
        (&[held, lost], found, Resumed),
        (&[Step::Unlinked], Step::Of(CardEvent::NewExpiry), Updated),
    ];
    for (before, step, expected) in cases {
        let mut bench = telling();
        let token = bench.green(wanted(FIRST, "p", PAN));
        before.iter().for_each(|step| bench.take(&token, *step));
        let told_before = waiting(&bench.tsp)[0].len();
        bench.take(&token, step);
        for told in waiting(&bench.tsp) {
            assert_eq!(told.len(), told_before + 1, "{before:?}, {step:?}");
            assert_eq!(told.last().unwrap().what, expected, "{before:?}, {step:?}");
        }
    }
}
