//! `provision`: tokens for the cards of a file, through the API of a running daemon. A job that was cut short goes on
//! where it was: each line's request has a name made of job and line, so that no card gets two tokens.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{CertificateFiles, Failure, HttpClient, say};
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
    /// members of `POST /v1/tokens`: pan,panExpiry and more. It may be a pipe, such as one from a program that
    /// decrypts.
    #[arg(long, value_name = "FILE")]
    bulk: PathBuf,
    /// Where a line is added for each card that is done: line, token reference, last four digits, or the problem's
    /// code. What has its token there is not asked for again.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What the job is called: 1 to 40 visible ASCII characters. The same job with the same file goes on.
    #[arg(long, value_parser = job_name)]
    job: String,
    /// The daemon's API: on this machine, or anywhere with certificates.
    #[arg(long, value_name = "ADDRESS")]
    api: SocketAddr,
    /// The file with the caller's credential.
    #[arg(long, value_name = "FILE", required_unless_present = "certificate")]
    credential: Option<PathBuf>,
    /// The caller's certificate (PEM), where the API asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["key", "roots"], conflicts_with = "credential")]
    certificate: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Who vouches for the daemon's certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    roots: Option<PathBuf>,
    /// The token requestor, if the caller acts for several.
    #[arg(long, value_name = "ID")]
    requestor: Option<String>,
    /// How many requests may be under way at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    at_once: u16,
}

const HEADER: &str = "line,tokenReference,panLastFour,problem";
/// What a column may be called: the members of `POST /v1/tokens` that are one cell. The first two must be there.
const COLUMNS: [&str; 12] = [
    "pan",
    "panExpiry",
    "panSequenceNumber",
    "assuranceMethod",
    "tokenLocation",
    "par",
    "device",
    "recommendation",
    "deviceScore",
    "accountScore",
    "panSource",
    "reason",
];
/// Members that are numbers; all others are texts.
const NUMBERS: [&str; 2] = ["deviceScore", "accountScore"];

pub(super) fn run(arguments: &Provision) -> Result<(), Failure> {
    let (client, authorization) = caller(arguments)?;
    let mut cards = Cards::open(&arguments.bulk)?;
    let columns = cards.columns()?;
    let output = Output::open(&arguments.output, &cards)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    let (name, requestor) = (arguments.job.clone(), arguments.requestor.clone());
    let job = Job { client, name, authorization, requestor };
    let Tally { issued, before, failed } =
        runtime.block_on(job.work(cards, &columns, output, arguments.at_once))?;
    say(&format!(
        "{issued} tokens, {before} from before, {failed} cards without; see {}",
        arguments.output.display()
    ));
    let total = issued + before + failed;
    match failed {
        _ if total == 0 => Err(Failure::new(format!("{}: has no cards", arguments.bulk.display()))),
        0 => Ok(()),
        _ => Err(Failure::new(format!("{failed} of {total} cards got no token"))),
    }
}

fn job_name(name: &str) -> Result<String, String> {
    let good = (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| name.to_owned()).ok_or_else(|| "must have 1 to 40 visible ASCII characters".to_owned())
}

/// Whom the API knows the caller by: its certificate, or its credential.
fn caller(arguments: &Provision) -> Result<(HttpClient, Option<Zeroizing<String>>), Failure> {
    let Provision { api, credential, certificate, key, roots, .. } = arguments;
    if let (Some(certificates), Some(key), Some(roots)) = (certificate.clone(), key.clone(), roots.clone()) {
        let files = CertificateFiles { roots, certificates, key };
        return Ok((HttpClient::over_tls(*api, &files, PATIENCE)?, None));
    }
    let path = credential.as_ref().ok_or_else(|| Failure::new("--credential: is missing"))?;
    let credential = fs::read_to_string(path).map(Zeroizing::new);
    let credential = credential.map_err(|error| Failure::file(path, "cannot be read", &error))?;
    let authorization = Zeroizing::new(format!("Bearer {}", credential.trim_end()));
    Ok((HttpClient::new(*api, PATIENCE)?, Some(authorization)))
}

/// What all lines have in common.
#[derive(Clone)]
struct Job {
    client: HttpClient,
    name: String,
    authorization: Option<Zeroizing<String>>,
    requestor: Option<String>,
}

/// How many cards got what.
#[derive(Debug, Default)]
struct Tally {
    issued: usize,
    before: usize,
    failed: usize,
}

/// What one line came to.
struct Row {
    line: usize,
    reference: String,
    last_four: String,
    problem: String,
}

impl Job {
    /// Asks for every card that has no token yet.
    async fn work(
        &self,
        mut cards: Cards,
        columns: &[String],
        mut output: Output,
        at_once: u16,
    ) -> Result<Tally, Failure> {
        let bar = cards.total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(
            ProgressStyle::with_template("{bar:40} {pos}/{len} cards, {per_sec}, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let mut under_way = JoinSet::new();
        while let Some((line, row)) = cards.next()? {
            if output.has(line) {
                bar.inc(1);
                continue;
            }
            while under_way.len() >= usize::from(at_once) {
                output.take(under_way.join_next().await, &bar)?;
            }
            let body = members(columns, &row);
            let job = self.clone();
            under_way.spawn(async move { job.ask(line, body).await });
        }
        while !under_way.is_empty() {
            output.take(under_way.join_next().await, &bar)?;
        }
        bar.finish_and_clear();
        output.finish()
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
                Ok(answer) if !comes_by_itself(answer.status, &text(&answer.body, "code")) => {
                    return lost(&text(&answer.body, "code"));
                }
                // Later, or not heard: the same name again gets the same answer.
                Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        lost("no-answer")
    }

    fn call(&self, line: usize, body: &Value) -> ApiCall {
        let mut headers = vec![("x-request-id", format!("bulk:{}:{line}", self.name))];
        headers.extend(self.authorization.iter().map(|it| ("authorization", it.to_string())));
        headers.extend(self.requestor.iter().map(|id| ("x-token-requestor-id", id.clone())));
        ApiCall { method: ApiMethod::Post, path: "/v1/tokens".to_owned(), headers, body: Some(body.clone()) }
    }
}

/// A line's cells under their columns' names; none when there are more or fewer. Empty cells say nothing.
fn members(columns: &[String], row: &str) -> Option<Value> {
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    let pairs = columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty());
    let members = pairs.map(|(name, cell)| (name.clone(), member(name, cell)));
    let members: Map<String, Value> = members.collect();
    (cells.len() == columns.len()).then_some(Value::Object(members))
}

fn member(name: &str, cell: &str) -> Value {
    let number = NUMBERS.contains(&name).then(|| cell.parse::<u8>().ok()).flatten();
    number.map_or_else(|| Value::String(cell.to_owned()), Value::from)
}

/// The file of cards, read once from its beginning to its end: it may be a pipe.
struct Cards {
    path: PathBuf,
    lines: std::io::Lines<BufReader<File>>,
    /// Lines taken so far.
    line: usize,
    /// How many cards there are, where that can be known before they are read.
    total: Option<u64>,
    /// Device and inode.
    file: (u64, u64),
}

impl Cards {
    fn open(path: &Path) -> Result<Self, Failure> {
        let fault = |error| Failure::file(path, "cannot be read", &error);
        let mut file = File::open(path).map_err(fault)?;
        let about = file.metadata().map_err(fault)?;
        let mut total = None;
        if about.is_file() {
            let filled =
                |line: &std::io::Result<String>| line.as_ref().map_or(true, |it| !it.trim().is_empty());
            let cards = BufReader::new(&file).lines().filter(filled).count().saturating_sub(1);
            total = u64::try_from(cards).ok();
            file.rewind().map_err(fault)?;
        }
        let (path, lines) = (path.to_owned(), BufReader::new(file).lines());
        Ok(Self { path, lines, line: 0, total, file: (about.dev(), about.ino()) })
    }

    /// The next line that is not empty, with its number, which counts from 1.
    fn next(&mut self) -> Result<Option<(usize, Zeroizing<String>)>, Failure> {
        for line in self.lines.by_ref() {
            let line = line.map(Zeroizing::new);
            let line = line.map_err(|error| Failure::file(&self.path, "cannot be read", &error))?;
            self.line += 1;
            if !line.trim().is_empty() {
                return Ok(Some((self.line, line)));
            }
        }
        Ok(None)
    }

    /// What the first line calls the columns. Spreadsheets begin the file with a byte-order mark. What is wrong with
    /// the line is told without it: where columns have no names, it is a card.
    fn columns(&mut self) -> Result<Vec<String>, Failure> {
        let Some((line, first)) = self.next()? else {
            return Err(Failure::new(format!("{}: has no cards", self.path.display())));
        };
        let first = first.strip_prefix('\u{feff}').unwrap_or(&first);
        let names: Vec<&str> = first.split(',').map(str::trim).collect();
        let times = |name: &str| names.iter().filter(|named| **named == name).count();
        let are_known = names.iter().all(|name| COLUMNS.contains(name) && times(name) == 1);
        let [pan, expiry, ..] = COLUMNS;
        if !are_known || times(pan) + times(expiry) < 2 {
            return Err(Failure::new(format!(
                "{}: line {line}: must name the columns, {pan} and {expiry} and what else there is, each once: {}",
                self.path.display(),
                COLUMNS.join(", ")
            )));
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }
}

/// The rows of an earlier run that have their token, by their line. A last row that was cut off does not count.
fn done(output: &Path) -> Result<BTreeMap<usize, String>, Failure> {
    let text = match fs::read_to_string(output) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failure::file(output, "cannot be read", &error)),
    };
    if text.lines().next().is_some_and(|first| first != HEADER) {
        return Err(Failure::new(format!("{}: is no output of an earlier run", output.display())));
    }
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let of_row = |row: &str| {
        let mut cells = row.split(',');
        let line = cells.next()?.parse().ok()?;
        cells.next().filter(|reference| !reference.is_empty()).map(|_| (line, row.to_owned()))
    };
    Ok(whole.lines().filter_map(of_row).collect())
}

/// The file of what is done.
struct Output {
    path: PathBuf,
    file: File,
    done: BTreeMap<usize, String>,
    tally: Tally,
}

impl Output {
    /// With what an earlier run got and without what it did not: that is asked for again.
    fn open(path: &Path, cards: &Cards) -> Result<Self, Failure> {
        let fault = |error| Failure::file(path, "cannot be written", &error);
        if fs::metadata(path).is_ok_and(|about| (about.dev(), about.ino()) == cards.file) {
            return Err(Failure::new("--output: is the file of cards"));
        }
        let done = done(path)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(fault)?;
        let kept: String = done.values().map(|row| format!("{row}\n")).collect();
        write!(file, "{HEADER}\n{kept}").and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&new, path).map_err(fault)?;
        Ok(Self { path: path.to_owned(), file, done, tally: Tally::default() })
    }

    /// Whether a line has its token from an earlier run.
    fn has(&mut self, line: usize) -> bool {
        let has = self.done.contains_key(&line);
        self.tally.before += usize::from(has);
        has
    }

    /// Writes down what a line came to.
    fn take(
        &mut self,
        row: Option<Result<Row, tokio::task::JoinError>>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let Some(row) = row else { return Ok(()) };
        let Row { line, reference, last_four, problem } =
            row.map_err(|error| Failure::new(format!("a request ended: {error}")))?;
        bar.inc(1);
        let counted = if problem.is_empty() { &mut self.tally.issued } else { &mut self.tally.failed };
        *counted += 1;
        let written = writeln!(self.file, "{line},{reference},{last_four},{problem}");
        written.map_err(|error| Failure::file(&self.path, "cannot be written", &error))
    }

    fn finish(self) -> Result<Tally, Failure> {
        let synced = self.file.sync_all();
        synced.map_err(|error| Failure::file(&self.path, "cannot be written", &error))?;
        Ok(self.tally)
    }
}

/// Whether what stood in the way passes by itself, soon; for the rest somebody has to do something first.
fn comes_by_itself(status: u16, code: &str) -> bool {
    matches!(status, 429 | 503) || code == "request-in-flight"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_the_members_that_it_fills() {
        let columns: Vec<String> = ["pan", "panExpiry", "deviceScore"].map(str::to_owned).to_vec();
        for (row, expected) in [
            ("1,2912,3", Some(serde_json::json!({ "pan": "1", "panExpiry": "2912", "deviceScore": 3 }))),
            ("1,2912,x", Some(serde_json::json!({ "pan": "1", "panExpiry": "2912", "deviceScore": "x" }))),
            (" 1 ,2912,", Some(serde_json::json!({ "pan": "1", "panExpiry": "2912" }))),
            ("1,2912", None),
            ("1,2912,d,e", None),
        ] {
            assert_eq!(members(&columns, row), expected, "{row}");
        }
    }

    #[test]
    fn a_jobs_name_fits_a_request_id() {
        for (name, good) in [("summer", true), ("", false), ("of summer", false), ("\u{e9}t\u{e9}", false)] {
            assert_eq!(job_name(name).is_ok(), good, "{name}");
        }
        assert!(job_name(&"x".repeat(40)).is_ok() && job_name(&"x".repeat(41)).is_err());
    }

    #[test]
    fn only_whole_rows_with_a_reference_are_done_and_kept() {
        let kept = tempfile::tempdir().unwrap();
        let (path, cards) = (kept.path().join("out.csv"), kept.path().join("cards.csv"));
        fs::write(&cards, "pan\n1\n").unwrap();
        let open = |path: &Path| Output::open(path, &Cards::open(&cards).unwrap());
        assert!(open(&path).unwrap().done.is_empty());
        fs::write(&path, format!("{HEADER}\n2,abc,0119,\n3,,,card-expired\n5,def,01")).unwrap();
        open(&path).unwrap().file.write_all(b"6,ghi,0127,\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}\n2,abc,0119,\n6,ghi,0127,\n"));
        assert_eq!(done(&path).unwrap().into_keys().collect::<Vec<_>>(), [2, 6], "5 was cut off");
        let told = |path: &Path| open(path).err().unwrap().to_string();
        assert_eq!(told(&cards), "--output: is the file of cards");
        let other = kept.path().join("letters.txt");
        fs::write(&other, "dear\nall\n").unwrap();
        assert!(told(&other).contains("is no output of an earlier run"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "dear\nall\n");
    }

    #[test]
    fn a_first_line_that_does_not_name_the_columns_is_refused_and_not_repeated() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("cards.csv");
        let columns = |text: &str| {
            fs::write(&path, text).unwrap();
            Cards::open(&path).unwrap().columns().map_err(|fault| fault.to_string())
        };
        for (first, good) in [
            ("pan,panExpiry", true),
            ("device, panExpiry ,pan", true),
            ("4761739001010119,2912", false),
            ("pan", false),
            ("panExpiry,device", false),
            ("pan,panExpiry,expiry", false),
            ("pan,panExpiry,pan", false),
            ("pan;panExpiry", false),
        ] {
            let told = columns(&format!("{first}\n4761739001010119,2912\n"));
            assert_eq!(told.is_ok(), good, "{first}");
            let named = |fault: &String| fault.contains("line 1: ") && fault.contains("pan and panExpiry");
            assert!(told.as_ref().err().is_none_or(named), "{told:?}");
            assert!(!format!("{told:?}").contains("4761"), "{told:?}");
        }
        assert!(columns("\n\n").unwrap_err().ends_with("has no cards"));
    }

    #[test]
    fn columns_are_the_members_of_the_api_that_are_one_cell() {
        let document: Value = serde_json::from_str(&crate::api::openapi()).unwrap();
        let members = document.pointer("/components/schemas/IssueBody/properties").unwrap();
        let mut names: Vec<&str> = members.as_object().unwrap().keys().map(String::as_str).collect();
        names.retain(|name| *name != "controls");
        let mut columns = COLUMNS;
        columns.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, columns);
    }

    #[test]
    fn cards_are_lines_that_are_not_empty_and_a_byte_order_mark_is_none() {
        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().join("cards.csv");
        fs::write(&path, "\u{feff}pan, panExpiry\r\n1,2912\r\n\r\n2,2912\n\n").unwrap();
        let mut cards = Cards::open(&path).unwrap();
        assert_eq!(
            (cards.total, cards.columns().unwrap()),
            (Some(2), vec!["pan".into(), "panExpiry".into()])
        );
        let mut lines = Vec::new();
        while let Some((line, row)) = cards.next().unwrap() {
            lines.push((line, row.trim().to_owned()));
        }
        assert_eq!(lines, [(2, "1,2912".to_owned()), (4, "2,2912".to_owned())]);
    }
}
