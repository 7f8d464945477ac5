//! `ResponseCodes`: what the codes of one dialect mean, and which code tells each refusal.

use crate::vocab::{Outcome, Refusal, ResponseCode};

/// A dialect's `[response_codes]`.
#[derive(Debug, Clone)]
pub struct ResponseCodes {
    approved: ResponseCode,
    /// Sorted by code.
    outcomes: Vec<(ResponseCode, Outcome)>,
    /// Sorted by refusal.
    refusals: Vec<(Refusal, ResponseCode)>,
    /// For a refusal that has no line; generic ISO 8583:1987 has a code for each, so that it is never used.
    fallback: ResponseCode,
}

/// The code of a malfunction in generic ISO 8583:1987.
const MALFUNCTION: &str = "96";

impl ResponseCodes {
    /// The table; refusals without a line of their own get the code of generic ISO 8583:1987.
    #[must_use]
    pub fn new(
        approved: ResponseCode,
        mut outcomes: Vec<(ResponseCode, Outcome)>,
        outward: &[(Refusal, ResponseCode)],
    ) -> Self {
        outcomes.sort_by_key(|(code, _)| *code);
        let fallback = ResponseCode::parse(MALFUNCTION.as_bytes()).unwrap_or(approved);
        let code_of = |refusal: Refusal| {
            let own = outward.iter().find(|(named, _)| *named == refusal).map(|(_, code)| *code);
            own.or_else(|| ResponseCode::parse(refusal.default_code().as_bytes()).ok()).unwrap_or(fallback)
        };
        let mut refusals: Vec<_> = Refusal::ALL.iter().map(|refusal| (*refusal, code_of(*refusal))).collect();
        refusals.sort_by_key(|(refusal, _)| *refusal);
        Self { approved, outcomes, refusals, fallback }
    }

    #[must_use]
    pub fn approved(&self) -> ResponseCode {
        self.approved
    }

    /// What `code` means; `None` when it is not listed.
    #[must_use]
    pub fn outcome(&self, code: ResponseCode) -> Option<Outcome> {
        let at = self.outcomes.binary_search_by_key(&code, |(listed, _)| *listed).ok()?;
        self.outcomes.get(at).map(|(_, outcome)| *outcome)
    }

    #[must_use]
    pub fn code(&self, refusal: Refusal) -> ResponseCode {
        let at = self.refusals.binary_search_by_key(&refusal, |(listed, _)| *listed);
        at.ok().and_then(|at| self.refusals.get(at)).map_or(self.fallback, |(_, code)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_dialect_lists_and_nothing_else() {
        let code = |text: &str| ResponseCode::parse(text.as_bytes()).unwrap();
        let codes = ResponseCodes::new(
            code("00"),
            vec![(code("91"), Outcome::RetryLater), (code("00"), Outcome::Approved)],
            &[(Refusal::CryptogramWrong, code("88"))],
        );
        assert_eq!(codes.outcome(code("00")), Some(Outcome::Approved));
        assert_eq!(codes.outcome(code("91")), Some(Outcome::RetryLater));
        assert_eq!(codes.outcome(code("05")), None);
        assert_eq!(codes.code(Refusal::CryptogramWrong), code("88"));
        for refusal in Refusal::ALL.iter().filter(|refusal| **refusal != Refusal::CryptogramWrong) {
            assert_eq!(codes.code(*refusal).as_str(), refusal.default_code());
        }
    }
}
