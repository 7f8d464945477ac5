//! `FaultPlan`: what goes wrong with which message. By rule (message type, how the amount ends) or by chance
//! from a seed, so that the same seed meets the same faults.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::stdx::random::Entropy;
use crate::vocab::Mti;

/// What can happen to one message of a simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is sent so much later.
    Delay(Duration),
    /// What was received counts, its answer is never sent.
    Drop,
    /// What was received is lost as if it had never arrived.
    Ignore,
    /// It is sent twice.
    Duplicate,
    /// One byte of it is changed on the way out.
    Garble,
    /// What was received counts, and the connection is closed instead of an answer.
    HangUp,
}

/// When a rule holds: all that is stated must be true. Written `mti=0200,ends=13,odds=1/50,first`, or `all`;
/// `first` leaves repeats (xxx1) alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    mti: Option<Mti>,
    ending: Option<Ending>,
    one_in: Option<u64>,
    first_only: bool,
}

/// The last digits of an amount in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    value: u64,
    modulus: u64,
}

/// What is wrong with a written condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is none of `all`, `mti=NNNN`, `ends=DIGITS`, `odds=1/N`, `first`")]
pub struct ConditionError {
    part: String,
}

impl Condition {
    /// Holds always.
    pub const ALL: Self = Self { mti: None, ending: None, one_in: None, first_only: false };

    /// Whether this holds for a message of that type (repeats count as their first) and amount.
    pub fn holds(&self, mti: Mti, amount: Option<u64>, entropy: &mut Entropy) -> bool {
        !(self.first_only && mti.is_repeat())
            && self.mti.is_none_or(|wanted| wanted == mti.first())
            && self.ending.is_none_or(|ending| amount.is_some_and(|a| a % ending.modulus == ending.value))
            && self.one_in.is_none_or(|n| entropy.below(n).is_ok_and(|drawn| drawn == 0))
    }

    fn part(&mut self, part: &str) -> Option<()> {
        match part.trim().split_once('=') {
            None if part.trim() == "all" => {}
            None if part.trim() == "first" => self.first_only = true,
            Some(("mti", digits)) => self.mti = Some(Mti::parse(digits.as_bytes()).ok()?.first()),
            Some(("ends", digits)) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                let modulus = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
                self.ending = Some(Ending { value: digits.parse().ok()?, modulus });
            }
            Some(("odds", odds)) => {
                let n = odds.strip_prefix("1/")?.parse().ok()?;
                self.one_in = (n > 0).then_some(n);
                self.one_in?;
            }
            _ => return None,
        }
        Some(())
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let mut condition = Self::ALL;
        for part in text.split(',') {
            condition.part(part).ok_or_else(|| ConditionError { part: part.to_owned() })?;
        }
        Ok(condition)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = self.ending.map(|e| {
            let width = usize::try_from(e.modulus.ilog10()).unwrap_or_default();
            format!("ends={:0width$}", e.value)
        });
        let parts = [
            self.mti.map(|m| format!("mti={m}")),
            ending,
            self.one_in.map(|n| format!("odds=1/{n}")),
            self.first_only.then(|| "first".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "all" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

/// One fault and when it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRule {
    pub when: Condition,
    pub fault: Fault,
}

/// The faults of one simulator: of its rules, the first that holds.
#[derive(Debug)]
pub struct FaultPlan {
    rules: Vec<FaultRule>,
    entropy: Entropy,
}

impl FaultPlan {
    #[must_use]
    pub fn none() -> Self {
        Self::new(0, Vec::new())
    }

    #[must_use]
    pub fn new(seed: u64, rules: Vec<FaultRule>) -> Self {
        Self { rules, entropy: Entropy::seeded(seed) }
    }

    /// What happens to a message of that type and amount.
    pub fn pick(&mut self, mti: Mti, amount: Option<u64>) -> Option<Fault> {
        let Self { rules, entropy } = self;
        rules.iter().find(|rule| rule.when.holds(mti, amount, entropy)).map(|rule| rule.fault)
    }

    /// Changes one byte, never to what it was.
    pub fn garble(&mut self, message: &mut [u8]) {
        let length = u64::try_from(message.len()).unwrap_or_default();
        let at = self.entropy.below(length).unwrap_or_default();
        let change = self.entropy.below(255).unwrap_or_default() + 1;
        let place = usize::try_from(at).ok().and_then(|at| message.get_mut(at));
        if let Some((place, change)) = place.zip(u8::try_from(change).ok()) {
            *place ^= change;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mti(digits: &str) -> Mti {
        Mti::parse(digits.as_bytes()).unwrap()
    }

    #[test]
    fn a_condition_holds_when_all_of_it_does() {
        let mut entropy = Entropy::seeded(1);
        for (text, kind, amount, holds) in [
            ("all", "0100", None, true),
            ("mti=0200", "0200", Some(5), true),
            ("mti=0200", "0201", Some(5), true),
            ("mti=0200", "0100", Some(5), false),
            ("ends=13", "0100", Some(2_513), true),
            ("ends=13", "0100", Some(13), true),
            ("ends=13", "0100", Some(1_3_0), false),
            ("ends=013", "0100", Some(2_513), false),
            ("ends=13", "0800", None, false),
            ("mti=0200,ends=13", "0200", Some(2_513), true),
            ("mti=0200,ends=13", "0100", Some(2_513), false),
            ("odds=1/1", "0100", Some(1), true),
            ("mti=0420,first", "0420", Some(1), true),
            ("mti=0420,first", "0421", Some(1), false),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.holds(mti(kind), amount, &mut entropy), holds, "{text} {kind} {amount:?}");
            assert_eq!(condition.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for bad in [
            "",
            "mti=9",
            "ends=",
            "ends=1x",
            "odds=1/0",
            "odds=2/3",
            "all,never",
            "ends=999999999999999999999",
        ] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
        assert!("all,never".parse::<Condition>().unwrap_err().to_string().contains("`never`"));
    }

    #[test]
    fn chance_comes_from_the_seed() {
        let struck = |seed| {
            let when = "odds=1/10".parse().unwrap();
            let mut plan = FaultPlan::new(seed, vec![FaultRule { when, fault: Fault::Drop }]);
            (0..1_000).map(|_| plan.pick(mti("0200"), None).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
        let hits = struck(1).iter().filter(|hit| **hit).count();
        assert!((50..200).contains(&hits), "{hits} of 1000 at one in ten");
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let rule = |when: &str, fault| FaultRule { when: when.parse().unwrap(), fault };
        let mut plan = FaultPlan::new(1, vec![rule("ends=1", Fault::Drop), rule("all", Fault::HangUp)]);
        assert_eq!(plan.pick(mti("0100"), Some(21)), Some(Fault::Drop));
        assert_eq!(plan.pick(mti("0100"), Some(22)), Some(Fault::HangUp));
        assert_eq!(FaultPlan::none().pick(mti("0100"), Some(22)), None);
    }

    #[test]
    fn garbling_changes_exactly_one_byte() {
        let mut plan = FaultPlan::new(9, Vec::new());
        for _ in 0..500 {
            let mut message = [7_u8; 40];
            plan.garble(&mut message);
            assert_eq!(message.iter().filter(|b| **b != 7).count(), 1);
        }
        plan.garble(&mut []);
    }
}
