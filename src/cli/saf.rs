//! `saf`: advices and reversals that do not arrive. Lists them, has one tried again, closes one; the running daemon
//! does it and journals who decided.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::Person;
use super::{Failure, HttpClient, say};
use crate::config::Config;
use crate::sim::{ApiCall, ApiMethod};
use crate::switch::Standing;
use crate::vocab::{Amount, Currency};

/// A decision waits for the disk and no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Advices and reversals that an issuer does not take: the running daemon's exception list.
#[derive(Debug, clap::Args)]
pub(super) struct Saf {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print what a person must look at, the oldest first, and what it comes to.
    List {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Have one sent again now, under the numbers it has.
    Retry {
        id: u64,
        #[command(flatten)]
        daemon: Daemon,
        #[command(flatten)]
        person: Person,
    },
    /// Close one that was settled with the issuer in another way; it is never sent again.
    Close {
        id: u64,
        /// How it was settled. It stays in the journal; no account numbers.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        daemon: Daemon,
        #[command(flatten)]
        person: Person,
    },
}

#[derive(Debug, clap::Args)]
struct Daemon {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the daemon's admin listener is, if not where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

pub(super) fn run(arguments: &Saf) -> Result<(), Failure> {
    match &arguments.what {
        What::List { daemon } => {
            let answer = call(daemon, ApiMethod::Get, "/saf".to_owned(), None)?;
            say(&listed(&answer));
        }
        What::Retry { id, daemon, person } => {
            let body = json!({ "who": person.name() });
            call(daemon, ApiMethod::Post, format!("/saf/{id}/retry"), Some(body))?;
            say(&format!("{id} is sent again."));
        }
        What::Close { id, reason, daemon, person } => {
            let body = json!({ "who": person.name(), "reason": reason });
            call(daemon, ApiMethod::Post, format!("/saf/{id}/close"), Some(body))?;
            say(&format!("{id} is closed."));
        }
    }
    Ok(())
}

fn call(daemon: &Daemon, method: ApiMethod, path: String, body: Option<Value>) -> Result<Value, Failure> {
    let address = match daemon.admin {
        Some(address) => address,
        None => Config::load(&daemon.config)?.admin.listen,
    };
    let client = HttpClient::new(address, PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    let call = ApiCall { method, path, headers: Vec::new(), body };
    let answer = runtime.block_on(client.call(&call))?;
    match answer.status {
        200 => Ok(answer.body),
        status => {
            let detail = text(&answer.body, "detail");
            Err(Failure::new(format!("the daemon refused with {status}: {detail}")))
        }
    }
}

/// A row each, then the totals.
fn listed(answer: &Value) -> String {
    let exceptions = answer.get("exceptions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if exceptions.is_empty() {
        return "Nothing waits for a person.".to_owned();
    }
    let names = exceptions.iter().map(|row| text(row, "issuer").chars().count());
    let wide = names.max().unwrap_or_default().max(9);
    let mut lines = vec![format!(
        "{:>6} {:<8} {:<wide$} {:<16} {:>12} {:>4} TRIES LAST STANDS",
        "ID", "KIND", "ISSUER", "ACCOUNT", "AMOUNT", "AGE"
    )];
    let mut totals: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for row in exceptions {
        let money = amount(row);
        let issuer = text(row, "issuer");
        lines.push(format!(
            "{:>6} {:<8} {:<wide$} {:<16} {:>12} {:>4} {:>5} {:<4} {}",
            number(row, "id"),
            text(row, "kind"),
            issuer,
            text(row, "account"),
            money.map_or_else(|| "?".to_owned(), |money| money.to_string()),
            age(number(row, "ageSeconds")),
            number(row, "attempts"),
            text(row, "code"),
            text(row, "standing"),
        ));
        if let Some(money) = money {
            let total = totals.entry((issuer.to_owned(), money.currency().letters())).or_default();
            *total = total.saturating_add(money.minor());
        }
    }
    for ((issuer, letters), minor) in totals {
        let total = Currency::from_letters(letters).map(|currency| Amount::new(minor, currency).to_string());
        lines.push(format!("In suspense with {issuer}: {}", total.unwrap_or_default()));
    }
    let absent = exceptions.iter().filter(|row| text(row, "standing") == Standing::NoIssuer.name());
    let absent: BTreeSet<&str> = absent.map(|row| text(row, "issuer")).collect();
    for issuer in absent {
        lines.push(format!("{issuer} is not in the configuration: what it is owed waits until it is."));
    }
    lines.join("\n")
}

fn amount(row: &Value) -> Option<Amount> {
    let currency = Currency::from_letters(row.get("currency")?.as_str()?)?;
    Some(Amount::new(row.get("minor")?.as_u64()?, currency))
}

fn number(row: &Value, name: &str) -> u64 {
    row.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// In the largest unit of which there are two.
fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    fits.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_row_each_and_totals_by_issuer_and_currency() {
        let row = |id: u64, issuer: &str, minor: u64, currency: &str| {
            json!({
                "id": id, "kind": "reversal", "issuer": issuer, "account": "489537******6027", "minor": minor,
                "currency": currency, "ageSeconds": 7_300, "attempts": 3, "code": "30", "standing": "parked",
            })
        };
        let answer = json!({ "exceptions": [
            row(7, "issuer-1", 1_234, "EUR"), row(8, "issuer-1", 66, "EUR"), row(9, "issuer-2", 5, "JPY"),
        ]});
        let told = listed(&answer);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 6, "{told}");
        assert!(lines.iter().all(|line| line.len() <= 80), "{told}");
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            ["7", "reversal", "issuer-1", "489537******6027", "EUR", "12.34", "2h", "3", "30", "parked"]
        );
        assert_eq!(lines[4], "In suspense with issuer-1: EUR 13.00");
        assert_eq!(lines[5], "In suspense with issuer-2: JPY 5");
        assert_eq!(listed(&json!({ "exceptions": [] })), "Nothing waits for a person.");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, shown) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")] {
            assert_eq!(age(seconds), shown);
        }
    }
}
