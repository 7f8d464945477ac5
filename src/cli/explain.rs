//! `journal explain`: what the journal knows of one transaction and of all that followed from it, in order and in
//! plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::journal::{failed, folded, timestamp, watch};
use super::{Failure, say};
use crate::config::{Config, PartyConfig};
use crate::journal::{
    AcquirerLeg, Body, CardRef, DeliveryEnd, Elements, IssuerLeg, LateEntry, OutcomeEntry, RequestEntry,
    StoredEntry, StoredKind, TombstoneEntry, TransactionEntry,
};
use crate::stdx::clock::Wall;
use crate::switch::{Cards, Decision, OperatorAct};
use crate::vocab::{
    CounterSeries, LinkId, MaskedPan, Outcome, ReversalReason, SentAt, Service, Stan, TransactionId,
    VerdictResult, Verdicts, luhn_valid,
};

/// One transaction's whole story.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    which: Which,
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The retrieval reference number, DE 37.
    rrn: Option<String>,
    /// The number that `journal list` and the log give it.
    #[arg(long, value_name = "ID")]
    transaction: Option<u64>,
    /// DE 11, of the acquirer's message or of ours to the issuer.
    #[arg(long, value_name = "STAN")]
    stan: Option<u32>,
}

/// What a story is looked for by.
enum Sought {
    Rrn(String),
    Transaction(TransactionId),
    Stan(Stan),
}

/// How often a journal that cannot be read is read.
const TRIES: u32 = 3;
/// Columns that a terminal has at least.
const WIDTH: usize = 80;
/// Before a line's words: two spaces, the time of day, two spaces.
const INDENT: usize = 16;

pub(super) fn explain(arguments: &Explain) -> Result<(), Failure> {
    let config = Config::load(&arguments.config)?;
    let sought = Sought::of(&arguments.which)?;
    // A daemon may write the journal meanwhile, and what is read while it is written may look damaged.
    let mut told = stories(&config, &sought);
    for _ in 1..TRIES {
        if told.is_err() {
            told = stories(&config, &sought);
        }
    }
    let Some(told) = told? else {
        let folded = watch(&config)?.base().filter(|base| base.first_entry().0 > 1).map(folded);
        let folded = folded.map_or_else(String::new, |folded| format!("; entries {folded}"));
        return Err(Failure::new(sought.not_found() + &folded));
    };
    say(&told);
    Ok(())
}

/// What is told of all that is found; `None` when that is nothing.
fn stories(config: &Config, sought: &Sought) -> Result<Option<String>, Failure> {
    let found = sought.find(config)?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut teller = Teller::new(config, found);
    for entry in watch(config)? {
        let entry = entry.map_err(failed)?;
        match &entry.body {
            Body::Transaction(transaction) => teller.take(transaction, entry.wall_time),
            Body::Operator(bytes) => teller.decided(bytes, entry.wall_time),
            Body::Token(_) | Body::CutOver(_) | Body::WindowClosed(_) => {}
        }
    }
    Ok(Some(teller.told()))
}

impl Sought {
    fn of(which: &Which) -> Result<Self, Failure> {
        if let Some(rrn) = &which.rrn {
            return Ok(Self::Rrn(rrn.trim().to_owned()));
        }
        if let Some(transaction) = which.transaction {
            return Ok(Self::Transaction(TransactionId(transaction)));
        }
        let stan = which.stan.and_then(Stan::new);
        stan.map(Self::Stan).ok_or_else(|| Failure::new("a STAN has at most six digits"))
    }

    fn not_found(&self) -> String {
        let what = match self {
            Self::Rrn(rrn) => format!("RRN {rrn}"),
            Self::Transaction(id) => format!("number {id}"),
            Self::Stan(stan) => format!("STAN {stan}"),
        };
        format!(
            "no transaction with {what} is in the journal; what was refused before it could be forwarded \
             is not there, and a reversal without an original is found by --stan"
        )
    }

    /// The transactions with which the stories begin.
    fn find(&self, config: &Config) -> Result<BTreeSet<TransactionId>, Failure> {
        let mut found = BTreeSet::new();
        for entry in watch(config)? {
            if let Body::Transaction(transaction) = entry.map_err(failed)?.body {
                found.extend(self.meets(&transaction));
            }
        }
        Ok(found)
    }

    fn meets(&self, entry: &TransactionEntry) -> Option<TransactionId> {
        match entry {
            TransactionEntry::Request(request) => {
                let stans = [request.acquirer.stan, request.issuer.stan];
                self.is(request.transaction, &[&request.elements], &stans).then_some(request.transaction)
            }
            TransactionEntry::Outcome(outcome) => {
                outcome.reversal.iter().chain(&outcome.advice).find_map(|it| self.stored(it))
            }
            TransactionEntry::Stored(stored) => self.stored(stored),
            TransactionEntry::Tombstone(tombstone) => {
                let stans = [tombstone.acquirer.stan, tombstone.original.stan];
                self.is(tombstone.transaction, &[], &stans).then_some(tombstone.transaction)
            }
            TransactionEntry::Delivered(_) | TransactionEntry::Late(_) | TransactionEntry::Enquiry(_) => None,
        }
    }

    fn stored(&self, stored: &StoredEntry) -> Option<TransactionId> {
        let stans = [stored.issuer.stan, stored.acquirer.map_or(stored.issuer.stan, |leg| leg.stan)];
        let meets = self.is(stored.transaction, &[&stored.elements, &stored.answer], &stans);
        meets.then(|| beginning(stored))
    }

    fn is(&self, id: TransactionId, elements: &[&Elements], stans: &[Stan]) -> bool {
        match self {
            Self::Rrn(rrn) => {
                elements.iter().any(|elements| text(elements, 37).is_some_and(|found| found == *rrn))
            }
            Self::Transaction(wanted) => *wanted == id,
            Self::Stan(wanted) => stans.contains(wanted),
        }
    }
}

/// The transaction whose story a stored message belongs to.
fn beginning(stored: &StoredEntry) -> TransactionId {
    stored.original.unwrap_or(stored.transaction)
}

/// What happened at one moment, a sentence or more each.
struct Event {
    at: Wall,
    said: Vec<String>,
}

/// One transaction and what followed from it.
#[derive(Default)]
struct Story {
    asked: Option<AcquirerLeg>,
    rrn: Option<String>,
    events: Vec<Event>,
    /// Forwarded, and no outcome yet.
    open: bool,
    /// Stored messages that are neither acknowledged nor parked.
    waiting: BTreeMap<TransactionId, &'static str>,
}

/// Puts the stories together, entry by entry.
struct Teller<'a> {
    config: &'a Config,
    cards: Cards,
    stories: BTreeMap<TransactionId, Story>,
    /// Stored messages: where each belongs, what it is, and to which issuer it goes.
    stored: BTreeMap<TransactionId, (TransactionId, &'static str, LinkId)>,
    /// The issuer of each transaction.
    issuers: BTreeMap<TransactionId, LinkId>,
}

impl<'a> Teller<'a> {
    fn new(config: &'a Config, found: BTreeSet<TransactionId>) -> Self {
        Self {
            config,
            // No mark is ever made here, and so its seed does not matter.
            cards: Cards::new(config.security.data_sealer(), 0),
            stories: found.into_iter().map(|id| (id, Story::default())).collect(),
            stored: BTreeMap::new(),
            issuers: BTreeMap::new(),
        }
    }

    fn take(&mut self, entry: &TransactionEntry, at: Wall) {
        match entry {
            TransactionEntry::Request(request) => self.request(request, at),
            TransactionEntry::Outcome(outcome) => self.outcome(outcome, at),
            TransactionEntry::Stored(stored) => self.stored(stored, at),
            TransactionEntry::Delivered(delivered) => self.delivered(delivered.stored, delivered.end, at),
            TransactionEntry::Tombstone(tombstone) => self.tombstone(tombstone, at),
            TransactionEntry::Late(late) => self.late(*late, at),
            TransactionEntry::Enquiry(_) => {}
        }
    }

    fn request(&mut self, request: &RequestEntry, at: Wall) {
        let id = request.transaction;
        if !self.stories.contains_key(&id) {
            return;
        }
        let counts = match (request.settles, request.moves_money) {
            (true, _) => "owed there if approved",
            (false, true) => "a hold, and not owed",
            (false, false) => "no money moves",
        };
        let said = vec![
            format!(
                "{} asks: {}{}.",
                self.name(request.acquirer.link),
                message(request.acquirer.mti, &request.elements),
                numbers(request.acquirer.stan, request.acquirer.sent_at, &request.elements)
            ),
            self.card(&request.card, id),
            checks(&request.verdicts),
            request.counter.map_or_else(String::new, |taken| match taken.series {
                CounterSeries::Chip => format!("Counter {} is taken with its cryptogram.", taken.atc),
                CounterSeries::Limited => {
                    format!("Counter {} is taken with its cryptogram, by a limited-use key.", taken.atc)
                }
                CounterSeries::Remote => format!("Cryptogram {} of the token is taken.", taken.atc),
            }),
            format!("To be forwarded to {}.", self.leg(&request.issuer)),
            format!("Settlement window {}: {counts}.", request.window),
        ];
        self.issuers.insert(id, request.issuer.link);
        if let Some(story) = self.tell(id, at, said) {
            story.asked = Some(request.acquirer);
            story.rrn = text(&request.elements, 37);
            story.open = true;
        }
    }

    fn outcome(&mut self, outcome: &OutcomeEntry, at: Wall) {
        let id = outcome.transaction;
        let Some(story) = self.stories.get(&id) else { return };
        let acquirer = story.asked.and_then(|leg| self.party(leg.link));
        let mut said = String::from("Outcome: ");
        said.push_str(meaning(outcome.outcome));
        if let Some(amount) = outcome.approved {
            said.push_str(&format!(", {amount}"));
        }
        let code = match outcome.refusal {
            Some(refusal) => {
                said.push_str(&format!("; refused here: {}", refusal.name()));
                acquirer.map(|party| party.dialect.response_code(refusal).to_string())
            }
            None => text(&outcome.answer, 39),
        };
        said.push_str(
            &code.map_or_else(|| ".".to_owned(), |code| format!(". The acquirer is answered {code}.")),
        );
        let approval = text(&outcome.answer, 38).map(|code| format!("The issuer's approval code is {code}."));
        if let Some(story) = self.tell(id, at, vec![said, approval.unwrap_or_default()]) {
            story.open = false;
        }
        for owed in outcome.reversal.iter().chain(&outcome.advice) {
            self.stored(owed, at);
        }
    }

    fn stored(&mut self, stored: &StoredEntry, at: Wall) {
        let (id, begins) = (stored.transaction, beginning(stored));
        if !self.stories.contains_key(&begins) {
            return;
        }
        let (kind, mut said) = match stored.kind {
            StoredKind::Advice => ("advice", self.advice(stored)),
            StoredKind::StandIn => {
                ("stand-in", vec!["The issuer is told what was approved in its place.".to_owned()])
            }
            StoredKind::AcquirerReversal => ("reversal", self.acquirers_reversal(stored)),
            StoredKind::OwnReversal(reason) => {
                let reason = because(reason);
                ("reversal", vec![format!("A reversal is owed, number {id}: {reason}.")])
            }
        };
        said.push(format!("To be delivered to {}.", self.leg(&stored.issuer)));
        self.stored.insert(id, (begins, kind, stored.issuer.link));
        self.issuers.entry(id).or_insert(stored.issuer.link);
        if let Some(story) = self.tell(begins, at, said) {
            story.waiting.insert(id, kind);
            story.rrn = story.rrn.take().or_else(|| text(&stored.elements, 37));
        }
    }

    fn advice(&self, stored: &StoredEntry) -> Vec<String> {
        let told = stored.acquirer.map(|leg| {
            format!(
                "{} tells what has happened: {}{}. It is acknowledged.",
                self.name(leg.link),
                message(leg.mti, &stored.elements),
                numbers(leg.stan, leg.sent_at, &stored.elements)
            )
        });
        let card = self.card(&stored.card, stored.transaction);
        vec![told.unwrap_or_default(), card, checks(&stored.verdicts)]
    }

    fn acquirers_reversal(&self, stored: &StoredEntry) -> Vec<String> {
        let Some(leg) = stored.acquirer else { return Vec::new() };
        let left = stored.elements.final_amount();
        let left = left.map_or_else(String::new, |it| format!(", of which {it} is to stand in the end"));
        vec![format!(
            "{} takes it back with number {}: {}{left}{}. That is acknowledged.",
            self.name(leg.link),
            stored.transaction,
            message(leg.mti, &stored.elements),
            numbers(leg.stan, leg.sent_at, &stored.answer)
        )]
    }

    fn delivered(&mut self, id: TransactionId, end: DeliveryEnd, at: Wall) {
        let Some((begins, kind, issuer)) = self.stored.get(&id).copied() else { return };
        let (becomes, code, then) = match end {
            DeliveryEnd::Acknowledged(code) => ("delivered", Some(code), ""),
            DeliveryEnd::Parked(code) => {
                ("parked", Some(code), " and will never take it. A person must settle it with the issuer")
            }
            DeliveryEnd::SetAside(code) => {
                ("set aside for what waits behind it", code, ". A person must look")
            }
        };
        let answers = code.map_or_else(|| "never answers".to_owned(), |code| format!("answers {code}"));
        let said = format!("The {kind}, number {id}, is {becomes}: {} {answers}{then}.", self.name(issuer));
        if let Some(story) = self.tell(begins, at, vec![said]) {
            story.waiting.remove(&id);
        }
    }

    fn decided(&mut self, bytes: &[u8], at: Wall) {
        let Some(act) = OperatorAct::decode(bytes) else { return };
        let Some((begins, kind, _)) = self.stored.get(&act.stored).copied() else { return };
        let what = match act.decision {
            Decision::Retry => "has it tried again",
            Decision::Close => "closes it: it is sent no more",
        };
        let reason = if act.reason.is_empty() { String::new() } else { format!(" Reason: {}.", act.reason) };
        let said = format!("The {kind}, number {}: {} {what}.{reason}", act.stored, act.who);
        if let Some(story) = self.tell(begins, at, vec![said]) {
            match act.decision {
                Decision::Retry => story.waiting.insert(act.stored, kind),
                Decision::Close => story.waiting.remove(&act.stored),
            };
        }
    }

    /// A reversal of what was not forwarded, or a transaction of its own when nothing is known of the original.
    fn tombstone(&mut self, tombstone: &TombstoneEntry, at: Wall) {
        let original = tombstone.original;
        let is_original = |leg: AcquirerLeg| {
            leg.link == tombstone.acquirer.link
                && leg.mti.class == original.mti.class
                && leg.stan == original.stan
                && leg.sent_at == original.sent_at
        };
        let known = self.stories.iter().find(|(_, story)| story.asked.is_some_and(is_original));
        let id = known.map_or(tombstone.transaction, |(id, _)| *id);
        let said = format!(
            "{} takes back, with {} STAN {}, what was not forwarded: {} STAN {}, DE 7 {:?}. Should that still \
             come, it is refused.",
            self.name(tombstone.acquirer.link),
            tombstone.acquirer.mti,
            tombstone.acquirer.stan,
            original.mti,
            original.stan,
            original.sent_at.transmission_time(),
        );
        self.tell(id, at, vec![said]);
    }

    fn late(&mut self, late: LateEntry, at: Wall) {
        let issuer = self.issuers.get(&late.transaction).map_or_else(String::new, |link| self.name(*link));
        let said = format!(
            "A late answer comes from {issuer}: {} ({}). It changes nothing.",
            late.code,
            meaning(late.outcome)
        );
        self.tell(late.transaction, at, vec![said]);
    }

    fn tell(&mut self, id: TransactionId, at: Wall, said: Vec<String>) -> Option<&mut Story> {
        let story = self.stories.get_mut(&id)?;
        story.events.push(Event { at, said });
        Some(story)
    }

    fn party(&self, link: LinkId) -> Option<&PartyConfig> {
        let acquirers = self.config.acquirers.iter().map(|acquirer| &acquirer.party);
        let issuers = self.config.issuers.iter().map(|issuer| &issuer.party);
        acquirers.chain(issuers).find(|party| party.link == link)
    }

    fn name(&self, link: LinkId) -> String {
        self.party(link).map_or_else(|| format!("link {link}"), |party| party.name.clone())
    }

    fn leg(&self, leg: &IssuerLeg) -> String {
        let sent = leg.sent_at.transmission_time();
        format!("{} as {} STAN {}, DE 7 {sent:?}", self.name(leg.link), leg.mti, leg.stan)
    }

    /// The card as it may be shown: the token masked, and the last four digits of the number behind it.
    fn card(&self, card: &CardRef, sealed_for: TransactionId) -> String {
        match (&card.token, self.cards.open(card, sealed_for)) {
            (Some(token), _) => {
                let (masked, last4) = (token.token.masked(), token.last4.as_str());
                format!("Token {masked}, of the card that ends in {last4}; requestor {}.", token.requestor)
            }
            (None, Ok(opened)) => format!("Card {}.", opened.pan.masked()),
            (None, Err(_)) => "The card is sealed under a key that is not here.".to_owned(),
        }
    }

    /// All stories, each under its own heading.
    fn told(&self) -> String {
        let stories = self.stories.iter().filter(|(_, story)| !story.events.is_empty());
        let told: Vec<String> = stories.map(|(id, story)| story.told(*id)).collect();
        told.join("\n\n")
    }
}

impl Story {
    fn told(&self, id: TransactionId) -> String {
        let rrn = self.rrn.as_ref().map_or_else(String::new, |rrn| format!(", RRN {rrn}"));
        let heading = format!("Transaction {id}{rrn}");
        let mut lines = vec![heading.clone(), "-".repeat(heading.len())];
        let mut day = String::new();
        for event in &self.events {
            let stamp = timestamp(event.at);
            let (date, time) = stamp.split_once('T').unwrap_or_default();
            if day != date {
                date.clone_into(&mut day);
                lines.push(format!("{date} (times in UTC)"));
            }
            let mut left = format!("  {}", time.trim_end_matches('Z'));
            for sentence in event.said.iter().filter(|sentence| !sentence.is_empty()) {
                for line in wrapped(sentence, WIDTH - INDENT) {
                    lines.push(format!("{left:INDENT$}{line}"));
                    left.clear();
                }
            }
        }
        for open in self.open_ends() {
            lines.extend(wrapped(&open, WIDTH - 2).iter().map(|line| format!("  {line}")));
        }
        lines.join("\n")
    }

    fn open_ends(&self) -> Vec<String> {
        let request = self.open.then(|| {
            "Open: no outcome is in the journal. It is in flight, or it is reversed at the next start."
                .to_owned()
        });
        let waiting = self.waiting.iter().map(|(id, kind)| {
            format!(
                "Open: the {kind}, number {id}, is not acknowledged by its issuer; it is sent until it is."
            )
        });
        request.into_iter().chain(waiting).collect()
    }
}

/// Lines of at most `width` columns, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Message type and amount.
fn message(mti: crate::vocab::Mti, elements: &Elements) -> String {
    elements.amount().map_or_else(|| mti.to_string(), |amount| format!("{mti} over {amount}"))
}

/// What names a message of the acquirer, and who stood at its terminal.
fn numbers(stan: Stan, sent_at: SentAt, elements: &Elements) -> String {
    let mut numbers = format!(", STAN {stan}, DE 7 {:?}", sent_at.transmission_time());
    for (de, name) in [(41, "terminal"), (42, "merchant")] {
        if let Some(value) = text(elements, de) {
            numbers.push_str(&format!(", {name} {value}"));
        }
    }
    numbers
}

/// An element as text. It is the peer's: what a terminal would take for a command is left out, and what could be an
/// account number is masked.
fn text(elements: &Elements, de: u8) -> Option<String> {
    let value = elements.get(de)?;
    let shown: String =
        value.iter().filter(|byte| matches!(byte, b' '..=b'~')).map(|b| char::from(*b)).collect();
    let shown = shown.trim().to_owned();
    let account =
        shown.len() >= 13 && shown.bytes().all(|b| b.is_ascii_digit()) && luhn_valid(shown.as_bytes());
    if account {
        return Some(MaskedPan::of(shown.as_bytes()).to_string());
    }
    (!shown.is_empty()).then_some(shown)
}

fn checks(verdicts: &Verdicts) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let all = verdicts.iter().map(|it| format!("{} {}", looked_at(it.service), came(it.result)));
    format!("Checked: {}.", all.collect::<Vec<_>>().join(", "))
}

fn looked_at(service: Service) -> &'static str {
    match service {
        Service::Mapping => "mapping",
        Service::Expiry => "expiry",
        Service::Status => "status",
        Service::Requestor => "requestor",
        Service::Domain => "domain",
        Service::LimitedKey => "limited-use key",
        Service::Cryptogram => "cryptogram",
        Service::ChipAmount => "amount signed by the chip",
        Service::VerificationValue => "card verification value",
        Service::OwnControls => "the token's own controls",
        Service::Initiation => "who initiated it",
        Service::Velocity => "how often and for how much it was used",
    }
}

fn came(result: VerdictResult) -> &'static str {
    match result {
        VerdictResult::Good => "good",
        VerdictResult::Bad => "bad",
        VerdictResult::Absent => "absent",
        VerdictResult::NotVerified => "not verified",
        VerdictResult::Replayed => "replayed",
        VerdictResult::OutOfRange => "out of range",
        VerdictResult::Late => "good, and too late",
        VerdictResult::Regenerated => "good, and made anew for the card",
    }
}

fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "approved",
        Outcome::ApprovedPartly => "approved in part",
        Outcome::Declined => "declined",
        Outcome::RetryLater => "declined for now",
        Outcome::Unknown => "unknown",
    }
}

fn because(reason: ReversalReason) -> &'static str {
    match reason {
        ReversalReason::Requested => "the acquirer asked for it",
        ReversalReason::TimedOut => "the issuer did not answer in time",
        ReversalReason::LinkLost => "the issuer's connection was lost with the request on it",
        ReversalReason::AnswerInvalid => "the issuer's answer could not be believed",
        ReversalReason::Undelivered => "the acquirer could not be given its answer",
        ReversalReason::Recovered => "the daemon ended before there was an outcome",
        ReversalReason::PartialNotSupported => "the acquirer cannot handle an approval in part",
        ReversalReason::LeakSuppressed => "the answer could not be given without the account number",
        ReversalReason::UnlistedCode => "the issuer's code is in no table",
        ReversalReason::SaidUnknown => "the issuer's code says that the outcome is not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = "one two three four-hundred-and-fifty-five six";
        assert_eq!(wrapped(text, 8), ["one two", "three", "four-hundred-and-fifty-five", "six"]);
        assert_eq!(wrapped(text, 80), [text]);
    }

    #[test]
    fn what_a_peer_wrote_is_shown_without_commands_or_account_numbers() {
        for (written, shown) in [
            (&b"SHOP 7  "[..], Some("SHOP 7")),
            (b"\x1b[2JA\xff", Some("[2JA")),
            (b"   ", None),
            (b"4761739001010", Some("4761739001010")),
            (b"378282246310005", Some("378282*****0005")),
        ] {
            let mut elements = Elements::new();
            elements.keep(42, written);
            assert_eq!(text(&elements, 42).as_deref(), shown, "{}", written.escape_ascii());
        }
    }
}
