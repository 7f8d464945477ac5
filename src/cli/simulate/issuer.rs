//! `issuer`: an issuer's host by itself, with the misbehaviour that it is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::sockets::Shared;
use super::{WireArguments, asked_to_stop, on_one_thread, write_lines};
use crate::cli::{Failure, say};
use crate::sim::{
    AnswerRule, Condition, EnquiryAnswer, EnquiryRule, Fault, FaultPlan, FaultRule, IssuerConfig,
    IssuerSimulator, RuledAnswer,
};
use crate::stdx::clock::Clock;
use crate::vocab::ResponseCode;

/// Simulate an issuer: approve, decline or misbehave, and keep a ledger.
///
/// CONDITION is `all`, or of `mti=0200`, `ends=13` (last digits of the amount), `odds=1/50`, `first` (no
/// repeats) any with commas between.
#[derive(Debug, clap::Args)]
pub struct Issuer {
    /// Listen here for the switch; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "connect")]
    listen: Option<SocketAddr>,
    /// Dial the switch here and sign on.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "listen")]
    connect: Option<SocketAddr>,
    /// How many connections to dial.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[command(flatten)]
    wire: WireArguments,
    /// Decline with a code: CODE@CONDITION.
    #[arg(long, value_name = "CODE@CONDITION")]
    decline: Vec<At<ResponseCode>>,
    /// Approve half of the amount, with code 10.
    #[arg(long, value_name = "CONDITION")]
    partly: Vec<Condition>,
    /// Answer later: MILLISECONDS@CONDITION.
    #[arg(long, value_name = "MS@CONDITION")]
    delay: Vec<At<u64>>,
    /// Book it and send no answer.
    #[arg(long, value_name = "CONDITION")]
    drop: Vec<Condition>,
    /// Lose it as if it had never come.
    #[arg(long, value_name = "CONDITION")]
    ignore: Vec<Condition>,
    /// Answer twice.
    #[arg(long, value_name = "CONDITION")]
    duplicate: Vec<Condition>,
    /// Change one byte of the answer.
    #[arg(long, value_name = "CONDITION")]
    garble: Vec<Condition>,
    /// Book it and close the connection.
    #[arg(long, value_name = "CONDITION")]
    hang_up: Vec<Condition>,
    /// Asked whether a card may have a token: approve, step-up, decline or silent, for cards whose number ends so.
    #[arg(long, value_name = "ANSWER@DIGITS")]
    enquiry: Vec<Asked>,
    /// How long every answer takes.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    think: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so long; without it, at SIGINT or SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the ledger here at the end, a line of JSON an entry.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// Something, and when it holds: `VALUE@CONDITION`.
#[derive(Debug, Clone)]
struct At<T> {
    value: T,
    when: Condition,
}

impl FromStr for At<u64> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (value, when) = text.split_once('@').unwrap_or((text, "all"));
        let value = value.parse().map_err(|_| format!("`{value}` is no number of milliseconds"))?;
        Ok(Self { value, when: when.parse().map_err(|error| format!("{error}"))? })
    }
}

impl FromStr for At<ResponseCode> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (value, when) = text.split_once('@').unwrap_or((text, "all"));
        let value = ResponseCode::parse(value.as_bytes()).map_err(|error| format!("{error}"))?;
        Ok(Self { value, when: when.parse().map_err(|error| format!("{error}"))? })
    }
}

/// What is said to enquiries: `ANSWER` or `ANSWER@DIGITS`.
#[derive(Debug, Clone)]
struct Asked(EnquiryRule);

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, ends) = text.split_once('@').unwrap_or((text, ""));
        let named = EnquiryAnswer::NAMES.iter().find(|(name, _)| *name == word);
        let (_, answer) =
            named.ok_or_else(|| format!("`{word}` is not approve, step-up, decline or silent"))?;
        if !ends.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{ends}` are no digits"));
        }
        Ok(Self(EnquiryRule { ends: ends.to_owned(), answer: *answer }))
    }
}

impl Issuer {
    fn rules(&self) -> Result<Vec<AnswerRule>, Failure> {
        let ten = ResponseCode::parse(b"10").map_err(|error| Failure::new(error.to_string()))?;
        let declines = self
            .decline
            .iter()
            .map(|at| AnswerRule { when: at.when, answer: RuledAnswer::Decline(at.value) });
        let partly =
            self.partly.iter().map(|when| AnswerRule { when: *when, answer: RuledAnswer::Partly(ten, 50) });
        Ok(declines.chain(partly).collect())
    }

    fn faults(&self) -> Vec<FaultRule> {
        let mut rules: Vec<FaultRule> = Vec::new();
        for at in &self.delay {
            rules.push(FaultRule { when: at.when, fault: Fault::Delay(Duration::from_millis(at.value)) });
        }
        let plain = [
            (&self.drop, Fault::Drop),
            (&self.ignore, Fault::Ignore),
            (&self.duplicate, Fault::Duplicate),
            (&self.garble, Fault::Garble),
            (&self.hang_up, Fault::HangUp),
        ];
        for (conditions, fault) in plain {
            rules.extend(conditions.iter().map(|when| FaultRule { when: *when, fault }));
        }
        rules
    }
}

pub(in crate::cli) fn run(arguments: &Issuer) -> Result<(), Failure> {
    let wire = arguments.wire.resolve()?;
    let framing = wire.framing;
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: wire.dialect,
        framing,
        header: wire.header,
        signs_on: arguments.connect.is_some(),
        rules: arguments.rules()?,
        enquiries: arguments.enquiry.iter().map(|asked| asked.0.clone()).collect(),
        faults: FaultPlan::new(arguments.seed, arguments.faults()),
        think: Duration::from_millis(arguments.think),
        seed: arguments.seed,
    });
    let host = Shared::new(brain, framing, Clock::system());
    on_one_thread(serve(arguments, host.clone()))??;
    host.look(|brain| {
        say(&summary(brain));
        match &arguments.ledger {
            Some(path) => {
                write_lines(path, brain.ledger().entries().iter().map(crate::sim::LedgerEntry::to_json))
            }
            None => Ok(()),
        }
    })
}

async fn serve(arguments: &Issuer, host: Shared<IssuerSimulator>) -> Result<(), Failure> {
    tokio::task::spawn_local(host.clone().tick());
    if let Some(address) = arguments.listen {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|error| Failure::new(format!("cannot listen on {address}: {error}")))?;
        let bound = listener.local_addr().unwrap_or(address);
        say(&format!("issuer listens on {bound}"));
        tokio::task::spawn_local(host.clone().accept(listener));
    }
    if let Some(address) = arguments.connect {
        for _ in 0..arguments.connections {
            tokio::task::spawn_local(host.clone().keep_dialled(address));
        }
    }
    match arguments.seconds {
        Some(seconds) => tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = asked_to_stop() => {}
        },
        None => asked_to_stop().await,
    }
    Ok(())
}

fn summary(brain: &IssuerSimulator) -> String {
    let (counts, totals) = (brain.counts(), brain.ledger().totals());
    format!(
        "requests {}   advices {}   reversals {}   enquiries {}   network {}\n\
         approved {}   declined {}   repeats {}   altered {}\n\
         reversed {}   nothing to reverse {}   unknown originals {}\n\
         unreadable {}   unanswerable {}   faults {}",
        counts.requests,
        counts.advices,
        counts.reversals,
        counts.enquiries,
        counts.network,
        totals.approved,
        totals.declined,
        totals.repeats,
        totals.altered,
        totals.reversed,
        totals.reversed_nothing,
        totals.unknown_originals,
        counts.unreadable,
        counts.unanswerable,
        counts.faults,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_with_their_condition_or_hold_always() {
        let delay: At<u64> = "300@mti=0200,ends=13".parse().unwrap();
        assert_eq!((delay.value, delay.when.to_string().as_str()), (300, "mti=0200,ends=13"));
        let decline: At<ResponseCode> = "51".parse().unwrap();
        assert_eq!((decline.value.as_str(), decline.when), ("51", Condition::ALL));
        let asked: Asked = "step-up@0119".parse().unwrap();
        assert_eq!((asked.0.ends.as_str(), asked.0.answer), ("0119", EnquiryAnswer::StepUp));
        assert_eq!("silent".parse::<Asked>().unwrap().0.ends, "");
        assert!("maybe".parse::<Asked>().is_err() && "approve@x".parse::<Asked>().is_err());
        assert!("soon@all".parse::<At<u64>>().is_err());
        assert!("51@never".parse::<At<ResponseCode>>().unwrap_err().contains("`never`"));
    }
}
