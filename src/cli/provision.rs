//! `provision`: tokens for the cards of a file, through the API of a running daemon. A job that was cut short goes on
//! where it was: each line's request has a name made of job and line, so that no card gets two tokens.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{Failure, HttpClient, say};
use crate::sim::{ApiCall, ApiMethod};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between tries of a line that may succeed later, and how many there are.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;

/// Asks for a token for each card of a file.
#[derive(Debug, clap::Args)]
pub(super) struct Provision {
    /// Cards, one a line, comma-separated, without quotes; the first line names the columns as the API names the
    /// members of `POST /v1/tokens`: pan,panExpiry and more.
    #[arg(long, value_name = "FILE")]
    bulk: PathBuf,
    /// Where a line is added for each card that is done: line, token reference, last four digits, or the problem's code.
    /// What is there already is not asked for again.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What the job is called, 1 to 40 printable characters. The same job with the same file goes on.
    #[arg(long)]
    job: String,
    /// The daemon's API, on this machine.
    #[arg(long, value_name = "ADDRESS")]
    api: SocketAddr,
    /// The file with the caller's credential.
    #[arg(long, value_name = "FILE")]
    credential: PathBuf,
    /// The token requestor, if the caller acts for several.
    #[arg(long, value_name = "ID")]
    requestor: Option<String>,
    /// How many requests may be under way at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    at_once: u16,
}

const HEADER: &str = "line,tokenReference,panLastFour,problem";

pub(super) fn run(arguments: &Provision) -> Result<(), Failure> {
    if arguments.job.is_empty() || arguments.job.len() > 40 {
        return Err(Failure::new("--job: must have 1 to 40 characters"));
    }
    let credential = fs::read_to_string(&arguments.credential).map(Zeroizing::new);
    let credential =
        credential.map_err(|error| Failure::file(&arguments.credential, "cannot be read", &error))?;
    let done = done(&arguments.output)?;
    let total = lines(&arguments.bulk)?.count().saturating_sub(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    let job = Job {
        client: HttpClient::new(arguments.api, PATIENCE)?,
        name: arguments.job.clone(),
        authorization: Zeroizing::new(format!("Bearer {}", credential.trim_end())),
        requestor: arguments.requestor.clone(),
    };
    let failed = runtime.block_on(job.work(arguments, &done, total))?;
    let already = done.len();
    let issued = total.saturating_sub(already).saturating_sub(failed);
    say(&format!(
        "{issued} tokens, {already} from before, {failed} cards without; see {}",
        arguments.output.display()
    ));
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} of {total} cards got no token"))) }
}

/// What all lines have in common.
#[derive(Clone)]
struct Job {
    client: HttpClient,
    name: String,
    authorization: Zeroizing<String>,
    requestor: Option<String>,
}

/// What one line came to.
struct Row {
    line: usize,
    reference: String,
    last_four: String,
    problem: String,
}

impl Job {
    /// Asks for every line that is not done; how many got no token.
    async fn work(
        &self,
        arguments: &Provision,
        done: &BTreeSet<usize>,
        total: usize,
    ) -> Result<usize, Failure> {
        let mut rows = lines(&arguments.bulk)?;
        let file_fault = |error| Failure::file(&arguments.bulk, "cannot be read", &error);
        let columns = rows.next().transpose().map_err(file_fault)?.unwrap_or_default();
        let columns: Vec<String> = columns.split(',').map(|name| name.trim().to_owned()).collect();
        let mut output = Output::open(&arguments.output)?;
        let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)).with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} cards, {per_sec}, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_position(u64::try_from(done.len()).unwrap_or_default());
        let (mut under_way, mut failed) = (JoinSet::new(), 0);
        // The line with the names is number 1.
        for (line, row) in (2..).zip(rows) {
            let row = row.map_err(file_fault)?;
            if done.contains(&line) {
                continue;
            }
            while under_way.len() >= usize::from(arguments.at_once) {
                failed += output.take(under_way.join_next().await, &bar)?;
            }
            let body = members(&columns, &row);
            let job = self.clone();
            under_way.spawn(async move { job.ask(line, body).await });
        }
        while !under_way.is_empty() {
            failed += output.take(under_way.join_next().await, &bar)?;
        }
        bar.finish_and_clear();
        output.finish()?;
        Ok(failed)
    }

    /// One line, as often as it takes.
    async fn ask(&self, line: usize, body: Option<Value>) -> Row {
        let lost = |problem: &str| Row {
            line,
            reference: String::new(),
            last_four: String::new(),
            problem: problem.to_owned(),
        };
        let Some(body) = body else { return lost("columns-differ") };
        for _ in 0..TRIES {
            let answer = self.client.call(&self.call(line, &body)).await;
            let text = |answer: &Value, name: &str| {
                answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            match answer {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    let reference = text(&answer.body, "tokenReference");
                    let last_four = text(&answer.body, "panLastFour");
                    return Row { line, reference, last_four, problem: String::new() };
                }
                Ok(answer) if answer.body.get("recoverable") != Some(&Value::Bool(true)) => {
                    return lost(&text(&answer.body, "code"));
                }
                // Later, or not heard: the same name again gets the same answer.
                Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        lost("no-answer")
    }

    fn call(&self, line: usize, body: &Value) -> ApiCall {
        let mut headers = vec![
            ("authorization", self.authorization.to_string()),
            ("x-request-id", format!("bulk {} {line}", self.name)),
        ];
        headers.extend(self.requestor.iter().map(|id| ("x-token-requestor-id", id.clone())));
        ApiCall { method: ApiMethod::Post, path: "/v1/tokens".to_owned(), headers, body: Some(body.clone()) }
    }
}

/// A line's cells under their columns' names; none when there are more or fewer. Empty cells say nothing.
fn members(columns: &[String], row: &str) -> Option<Value> {
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    let pairs = columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty());
    let members: Map<String, Value> =
        pairs.map(|(name, cell)| (name.clone(), Value::String((*cell).to_owned()))).collect();
    (cells.len() == columns.len()).then_some(Value::Object(members))
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, "cannot be read", &error))?;
    Ok(BufReader::new(file).lines())
}

/// The lines that have their token, from an earlier run. A last line that was cut off does not count.
fn done(output: &Path) -> Result<BTreeSet<usize>, Failure> {
    let text = match fs::read_to_string(output) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Failure::file(output, "cannot be read", &error)),
    };
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let of_line = |row: &str| {
        let mut cells = row.split(',');
        let line = cells.next()?.parse().ok()?;
        cells.next().filter(|reference| !reference.is_empty()).map(|_| line)
    };
    Ok(whole.lines().filter_map(of_line).collect())
}

/// The file of what is done.
struct Output {
    path: PathBuf,
    file: File,
}

impl Output {
    fn open(path: &Path) -> Result<Self, Failure> {
        let fault = |error| Failure::file(path, "cannot be written", &error);
        let before = fs::read(path).unwrap_or_default();
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(fault)?;
        // A last line that was cut off is taken away: it would look whole with the next one's line end.
        let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(u64::try_from(whole).unwrap_or_default()).map_err(fault)?;
        if whole == 0 {
            writeln!(file, "{HEADER}").map_err(fault)?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes down what a line came to; 1 when it got no token.
    fn take(
        &mut self,
        row: Option<Result<Row, tokio::task::JoinError>>,
        bar: &ProgressBar,
    ) -> Result<usize, Failure> {
        let Some(row) = row else { return Ok(0) };
        let Row { line, reference, last_four, problem } =
            row.map_err(|error| Failure::new(format!("a request ended: {error}")))?;
        bar.inc(1);
        let written = writeln!(self.file, "{line},{reference},{last_four},{problem}");
        written.map_err(|error| Failure::file(&self.path, "cannot be written", &error))?;
        Ok(usize::from(!problem.is_empty()))
    }

    fn finish(&self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| Failure::file(&self.path, "cannot be written", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_the_members_that_it_fills() {
        let columns: Vec<String> = ["pan", "panExpiry", "device"].map(str::to_owned).to_vec();
        for (row, expected) in [
            ("1,2912,d", Some(serde_json::json!({ "pan": "1", "panExpiry": "2912", "device": "d" }))),
            (" 1 ,2912,", Some(serde_json::json!({ "pan": "1", "panExpiry": "2912" }))),
            ("1,2912", None),
            ("1,2912,d,e", None),
        ] {
            assert_eq!(members(&columns, row), expected, "{row}");
        }
    }

    #[test]
    fn only_whole_lines_with_a_reference_are_done() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("out.csv");
        assert!(done(&path).unwrap().is_empty());
        fs::write(&path, format!("{HEADER}\n2,abc,0119,\n3,,,card-expired\n5,def,01")).unwrap();
        assert_eq!(done(&path).unwrap().into_iter().collect::<Vec<_>>(), [2]);
        Output::open(&path).unwrap().file.write_all(b"6,ghi,0127,\n").unwrap();
        assert_eq!(done(&path).unwrap().into_iter().collect::<Vec<_>>(), [2, 6], "5 was cut off");
    }
}
