//! `audit`: who did what to tokens and keys, for whom, why, and what it changed; read from the journal's chain, also
//! while the daemon runs. Card numbers are not in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::journal::{examined, failed, folded, timestamp, watch, witnessed};
use super::{Failure, say};
use crate::config::Config;
use crate::crypto::KeyUsage;
use crate::journal::{Base, Body, Entries, Entry, EntryNumber, Examination, Finding, KeyEvent, Records};
use crate::stdx::clock::Wall;
use crate::switch::OperatorAct;
use crate::tsp::{
    Attributes, AuditedStep, Cause, Change, ConsentId, Lifecycle, Principal, Reason, TokenEvent, VaultRecord,
    kept_tokens,
};
use crate::vocab::{TokenReferenceId, TokenRequestorId, holds_account};

/// So many faults are told one by one.
const FINDINGS_TOLD: usize = 20;

/// Reads the audit trail.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print every event of tokens and keys, one a line: who, for which requestor, what, status before and after, why.
    List {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only those of this token, by its reference.
        #[arg(long, value_name = "REFERENCE")]
        token: Option<String>,
    },
    /// Check that no entry was altered, removed or put elsewhere, and that each token's events follow one another.
    Verify {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(arguments: &Audit) -> Result<(), Failure> {
    match &arguments.what {
        What::List { config, token } => list(&Config::load(config)?, token.as_deref()),
        What::Verify { config } => verify(&Config::load(config)?),
    }
}

fn list(config: &Config, token: Option<&str>) -> Result<(), Failure> {
    let reader = watch(config)?;
    let base = reader.base().cloned();
    let mut trail = Trail::after(base.as_ref())?;
    if let Some(base) = &base {
        let chain: String = base.chain_before().iter().map(|byte| format!("{byte:02x}")).collect();
        let folded = folded(base);
        match token {
            None => say(&format!("Entries {folded}: {} tokens. chain={chain}", trail.folded.len())),
            Some(token) => trail.folded_lines(token, base, &chain).iter().for_each(|line| say(line)),
        }
    }
    for entry in reader {
        for (line, reference) in trail.take(&entry.map_err(failed)?)? {
            let wanted = token.is_none_or(|token| reference.is_some_and(|it| it.to_string() == token));
            if wanted {
                say(&line);
            }
        }
    }
    Ok(())
}

fn verify(config: &Config) -> Result<(), Failure> {
    let reader = watch(config).map_err(|failure| broken(config, &failure))?;
    let base = reader.base().cloned();
    let first = base.as_ref().map_or(1, |base| base.first_entry().0);
    if let Some(base) = &base {
        base.verify().map_err(|error| Failure::new(format!("the audit trail is not whole: {error}")))?;
    }
    let mut trail = Trail::after(base.as_ref())?;
    let (mut last, mut events) = (first.saturating_sub(1), 0_u64);
    for entry in reader {
        let entry = entry.map_err(|error| broken(config, &failed(error)))?;
        last = entry.number.0;
        events += u64::from(!trail.take(&entry)?.is_empty());
    }
    trail.meet_the_base()?;
    let witness = witnessed(config, EntryNumber(last)).map_err(|failure| broken(config, &failure))?;
    let entries = last.saturating_sub(first.saturating_sub(1));
    let since = if first > 1 { format!(" from entry {first} on") } else { String::new() };
    say(&format!(
        "The audit trail is whole: {entries} entries in one chain{since}, {events} of them of tokens, keys and decisions."
    ));
    if let Some(base) = &base {
        let (tokens, entry) = (trail.folded.len(), base.entry_number());
        say(&format!("Base {} goes with it: {tokens} tokens as of entry {entry}.", base.number()));
    }
    say(&witness);
    Ok(())
}

/// Names the entries: each is sealed by itself, with its number.
fn broken(config: &Config, failure: &Failure) -> Failure {
    let not_whole = |what: &str| Failure::new(format!("the audit trail is not whole: {what}"));
    let examined = match examined(config) {
        Ok(examined) if !examined.found.is_empty() => examined,
        Ok(_) | Err(_) => return not_whole(&failure.to_string()),
    };
    let Examination { begins, found, .. } = examined;
    let mut told = Vec::new();
    let first = found.iter().filter_map(Finding::entry).min();
    if let Some(first) = first.filter(|first| *first > begins) {
        let last = first.saturating_sub(1);
        told.push(format!("{} as written", Entries { first: begins, last }.with("is", "are")));
    }
    told.extend(found.iter().take(FINDINGS_TOLD).map(ToString::to_string));
    if let Some(more) = found.len().checked_sub(FINDINGS_TOLD).filter(|more| *more > 0) {
        told.push(format!("and {more} more"));
    }
    not_whole(&format!("{} ({failure})", told.join("; ")))
}

/// What a base says of a token.
struct Folded {
    reference: TokenReferenceId,
    stood: Lifecycle,
    issued_at: Wall,
    changed_at: Wall,
    requestor: TokenRequestorId,
    attributes: Attributes,
}

/// Every token's standing so far.
#[derive(Default)]
struct Trail {
    tokens: BTreeMap<u64, (Option<TokenReferenceId>, Lifecycle)>,
    /// Whose each token is, and what it has besides.
    holders: BTreeMap<u64, (Option<TokenRequestorId>, Attributes)>,
    /// Tokens as the base has them, by record.
    folded: BTreeMap<u64, Folded>,
    /// The last consent to each token's card, and the entry that gave it.
    consents: BTreeMap<u64, (ConsentId, EntryNumber)>,
    /// The base's entry, until that is past.
    base: Option<EntryNumber>,
}

impl Trail {
    /// One that begins with what a base says instead of entries that are gone.
    fn after(base: Option<&Base>) -> Result<Self, Failure> {
        let mut trail = Self::default();
        let Some(base) = base else { return Ok(trail) };
        trail.base = Some(base.entry_number());
        let kept = kept_tokens(base, |record| {
            let attributes = Attributes::of(&record);
            let VaultRecord { reference, lifecycle: stood, issued_at, changed_at, requestor, .. } = record;
            let folded = Folded { reference, stood, issued_at, changed_at, requestor, attributes };
            trail.folded.insert(record.record, folded);
        });
        kept.map_err(|error| Failure::new(format!("the audit trail is not whole: {error}")))?;
        Ok(trail)
    }

    /// How a token stands in the base: what there is of its events that were folded.
    fn folded_lines(&self, token: &str, base: &Base, chain: &str) -> Vec<String> {
        let its = self.folded.values().filter(|folded| folded.reference.to_string() == token);
        let line = |folded: &Folded| {
            format!(
                "{:>10} {} token={token} what=folded after={} issued={} base={} before-entry={} chain={chain}",
                base.entry_number().0,
                timestamp(folded.changed_at),
                standing(folded.stood),
                timestamp(folded.issued_at),
                base.number(),
                base.first_entry(),
            )
        };
        its.map(line).collect()
    }

    /// From the base's entry on: whoever had events in the journal must stand as the base says, and the others do.
    fn meet_the_base(&mut self) -> Result<(), Failure> {
        let Some(at) = self.base.take() else { return Ok(()) };
        for (record, Folded { reference, stood, requestor, attributes, .. }) in &self.folded {
            self.holders.insert(*record, (Some(*requestor), attributes.clone()));
            let (_, known) = self.tokens.entry(*record).or_insert((Some(*reference), *stood));
            if known != stood {
                let (left, stood) = (standing(*known), standing(*stood));
                return Err(Failure::new(format!(
                    "the audit trail is not whole: the entries up to {at} left token {reference} {left}, and the base \
                     says {stood}"
                )));
            }
        }
        Ok(())
    }

    /// The lines of an entry, each with the token that it is about.
    ///
    /// # Errors
    /// An event that cannot be read, or that does not follow the one before it.
    fn take(&mut self, entry: &Entry) -> Result<Vec<(String, Option<TokenReferenceId>)>, Failure> {
        if self.base.is_some_and(|at| entry.number > at) {
            self.meet_the_base()?;
        }
        let head = format!("{:>10} {}", entry.number.0, timestamp(entry.wall_time));
        match &entry.body {
            Body::Token(bytes) => {
                let number = entry.number;
                let unreadable =
                    || Failure::new(format!("entry {number}: a token event that cannot be read"));
                let event = TokenEvent::decode(bytes).ok_or_else(unreadable)?;
                let audited = event.audited();
                let source = self.named(event.cause.source);
                let consent = self.consent(&event, number);
                let who = |requestor| who(&event.cause, requestor, source.as_deref()) + &consent;
                let (what, more) = (audited.what, audited.more);
                if audited.steps.is_empty() {
                    let line = format!("{head} what={what}{more} {}", who(event.cause.requestor));
                    return Ok(vec![(line, None)]);
                }
                let mut lines = Vec::new();
                for step in audited.steps {
                    let (reference, before, after) = self.step(entry, &step)?;
                    let token =
                        reference.map_or_else(|| format!("record-{}", step.record), |it| it.to_string());
                    let (holder, changes) = self.holder(step);
                    let who = who(event.cause.requestor.or(holder));
                    let line = format!(
                        "{head} token={token} what={what}{more} before={before} after={after}{changes} {who}"
                    );
                    lines.push((line, reference));
                }
                Ok(lines)
            }
            Body::Operator(bytes) => {
                Ok(operator(bytes).map(|text| (format!("{head} {text}"), None)).into_iter().collect())
            }
            Body::Transaction(_) | Body::CutOver(_) | Body::WindowClosed(_) => Ok(Vec::new()),
        }
    }

    /// To whom a consent was given, or by which one this was done. Whoever
    /// reads this must not be able to present one, so that it is told by the entry that gave it.
    fn consent(&mut self, event: &TokenEvent, number: EntryNumber) -> String {
        if let Change::Consented(given) = &event.change {
            self.consents.insert(given.record, (given.id, number));
            return format!(" to={} until={}", given.to.as_str(), timestamp(given.until));
        }
        let Some((source, presented)) = event.cause.source.zip(event.cause.consent) else {
            return String::new();
        };
        let given = self.consents.get(&source).filter(|(id, _)| *id == presented);
        given.map_or_else(|| " consent=folded".to_owned(), |(_, entry)| format!(" consent=entry-{entry}"))
    }

    /// How a record's token is called.
    fn named(&self, record: Option<u64>) -> Option<String> {
        record.map(|record| {
            self.reference(record).map_or_else(|| format!("record-{record}"), |it| it.to_string())
        })
    }

    /// Told by its first event, or by the base.
    fn reference(&self, record: u64) -> Option<TokenReferenceId> {
        let known = self.tokens.get(&record).and_then(|(reference, _)| *reference);
        known.or_else(|| self.folded.get(&record).map(|folded| folded.reference))
    }

    /// Whose a token is, and what besides its status became another; a new token's line says nothing of that.
    fn holder(&mut self, step: AuditedStep) -> (Option<TokenRequestorId>, String) {
        let folded = self.folded.get(&step.record).map(|folded| folded.requestor);
        let (holder, attributes) = self.holders.entry(step.record).or_default();
        *holder = step.requestor.or(*holder).or(folded);
        let is_new = step.reference.is_some();
        let changes = if is_new { String::new() } else { attributes.changes(&step.attributes) };
        attributes.become_those(step.attributes);
        (*holder, changes)
    }

    /// The token's reference, and how it stood before and after.
    fn step(
        &mut self,
        entry: &Entry,
        step: &AuditedStep,
    ) -> Result<(Option<TokenReferenceId>, String, String), Failure> {
        let known = self.tokens.get(&step.record).copied();
        if let (Some(before), Some((_, stood))) = (step.before, known)
            && before != stood
        {
            let (number, before, stood) = (entry.number, standing(before), standing(stood));
            return Err(Failure::new(format!(
                "the audit trail is not whole: entry {number} says that its token was {before}, and the one before \
                 left it {stood}"
            )));
        }
        let reference = step.reference.or_else(|| self.reference(step.record));
        let before = step.before.or(known.map(|(_, stood)| stood));
        let after = step.after.or(before);
        if let Some(after) = after {
            self.tokens.insert(step.record, (reference, after));
        }
        let shown = |lifecycle: Option<Lifecycle>| lifecycle.map_or_else(|| "none".to_owned(), standing);
        Ok((reference, shown(before), shown(after)))
    }
}

/// `suspended/3/issuer+operator`: status, version, and who holds it.
fn standing(lifecycle: Lifecycle) -> String {
    let mut text = format!("{}/{}", lifecycle.status.name(), lifecycle.version);
    for (at, suspender) in lifecycle.suspenders.iter().enumerate() {
        text.push(if at == 0 { '/' } else { '+' });
        text.push_str(suspender.name());
    }
    text
}

fn who(cause: &Cause, requestor: Option<TokenRequestorId>, source: Option<&str>) -> String {
    let principal = match cause.principal {
        Principal::Requestor(id) => format!("token-requestor:{}", id.as_str()),
        Principal::Issuer(name) => format!("issuer:{name}"),
        Principal::Operator(name) => format!("operator:{name}"),
        Principal::Service => "service".to_owned(),
    };
    let mut text = format!("who={principal} wish-of={}", cause.actor.name());
    // Writing to a `String` cannot fail.
    if !cause.client.is_empty() {
        let _ = write!(text, " client={}", cause.client);
    }
    if let Some(requestor) = requestor {
        let _ = write!(text, " requestor={}", requestor.as_str());
    }
    if let Some(source) = source {
        let _ = write!(text, " from={source}");
    }
    let _ = write!(text, " request={}", shown(cause.request_id.as_str()));
    if cause.reason_code != Reason::Unstated {
        let _ = write!(text, " why={}", cause.reason_code.name());
    }
    if !cause.reason.is_empty() {
        let _ = write!(text, " words={}", shown(cause.reason.as_str()));
    }
    text
}

/// A caller's own words in quotes; stars, where they hold a card's number, as those of older journals may.
fn shown(text: &str) -> String {
    if holds_account(text) { "\"***\"".to_owned() } else { format!("{text:?}") }
}

fn operator(bytes: &[u8]) -> Option<String> {
    if let Some(KeyEvent { key, made }) = KeyEvent::decode(bytes) {
        let by = made.map_or("made with the store".to_owned(), |(by, at)| {
            format!("who={:?} made={}", by.as_str(), timestamp(at))
        });
        let (label, usage, version, check) = (key.label, key.usage, key.version, key.check);
        let what = if usage == KeyUsage::ReceiverSigning { "hand-out" } else { "use" };
        return Some(format!("key={label} what={what} usage={usage} version={version} check={check} {by}"));
    }
    let act = OperatorAct::decode(bytes)?;
    let (decision, stored) = (format!("{:?}", act.decision).to_lowercase(), act.stored);
    Some(format!(
        "message={stored} what={decision} who={:?} words={}",
        act.who.as_str(),
        shown(act.reason.as_str())
    ))
}
