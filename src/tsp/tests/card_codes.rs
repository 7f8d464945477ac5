//! Codes count against their card, whichever of its tokens they are for, over restarts and until their time is over.

use super::checkpoint::{restored, token_entries};
use super::idv::{asking, other};
use super::*;
use crate::journal::CheckpointKind;
use std::time::Duration;

const DAY: u64 = 86_400;

fn exhausted(seconds: u64) -> TokenAnswer {
    Err(ProvisioningRefusal::CardCodesExhausted { wait: Duration::from_secs(seconds) })
}

impl Bench {
    /// A token of the card for which a code was sent and `wrong` wrong ones were typed; the code.
    fn tried(&mut self, id: &str, wrong: usize) -> (TokenView, StepUpCode) {
        let token = self.yellow(id);
        self.want_code(&format!("{id}-code"), &token, 1).unwrap();
        let code = self.codes.last().unwrap().code.clone();
        for at in 0..wrong {
            let refused = self.type_code(&format!("{id}-{at}"), &token, &other(&code), None).unwrap_err();
            assert!(matches!(refused, ProvisioningRefusal::CodeWrong | ProvisioningRefusal::ProofFailed));
        }
        (token, code)
    }
}

#[test]
fn wrong_codes_of_all_tokens_of_a_card_count_together() {
    let mut bench = asking();
    let (first, right) = bench.tried("first", 0);
    for id in ["a", "b", "c"] {
        bench.tried(id, 3);
    }
    // A tenth try is none, be it right; and no further token brings one.
    assert_eq!(bench.type_code("late", &first, &right, None), exhausted(DAY));
    let fresh = bench.yellow("fresh");
    assert_eq!(bench.want_code("more", &fresh, 1), exhausted(DAY));
    assert_eq!(bench.get(FIRST, fresh.reference).unwrap().lifecycle.status, TokenStatus::Inactive);

    let entries = token_entries(&bench);
    for kept in [0, entries.len() / 2, entries.len()] {
        bench.tsp = restored(&bench, &entries, kept, CheckpointKind::Redb);
        bench.now.wall = TODAY.plus(Duration::from_millis(DAY * 1_000 - 1));
        assert_eq!(bench.want_code("more", &fresh, 1), exhausted(1), "{kept}");
        bench.now.wall = TODAY.plus(Duration::from_secs(DAY));
        bench.want_code(&format!("next day {kept}"), &fresh, 1).unwrap();
        bench.log.truncate(entries.len());
    }
    let code = bench.codes.last().unwrap().code.clone();
    assert_eq!(bench.type_code("right", &fresh, &code, None).unwrap().lifecycle.status, TokenStatus::Active);
}

#[test]
fn codes_for_all_tokens_of_a_card_count_together_and_those_of_another_card_do_not() {
    let mut bench = asking();
    for id in ["a", "b", "c", "d"] {
        let token = bench.yellow(id);
        for code in 0..3 {
            bench.want_code(&format!("{id}{code}"), &token, 1).unwrap();
        }
        bench.move_to(FIRST, &format!("{id}-gone"), token.reference, Move::Unlink).unwrap();
    }
    let token = bench.yellow("e");
    bench.now.wall = TODAY.plus(Duration::from_secs(600));
    assert_eq!(bench.want_code("more", &token, 1), exhausted(DAY - 600));
    let neighbour = bench.yellow_of("n", b"4761739001010218");
    bench.want_code("neighbour", &neighbour, 1).unwrap();
}

#[test]
fn what_is_not_durable_yet_counts() {
    let mut bench = asking();
    bench.config.step_up.card_codes = 2;
    bench.tsp.narrow_for_test(bench.config.clone());
    let tokens = ["a", "b", "c"].map(|id| bench.yellow(id));
    let mut answers = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let asker = asker(FIRST, &format!("c{at}"));
        let request = CodeRequest { asker, reference: token.reference, contact: 1 };
        let call = bench.call();
        answers.extend(bench.apply(Command::RequestCode { call, request }));
    }
    let refused = answers.into_iter().map(|(_, answer)| of_token(answer)).collect::<Vec<_>>();
    assert_eq!(refused, [exhausted(DAY)], "before the others are durable");
    bench.sync();
    assert_eq!(bench.codes.len(), 2);
    assert_eq!(bench.want_code("c2", &tokens[2], 1), exhausted(DAY));
}
