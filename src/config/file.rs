//! The TOML as written: a walk over its tables that notes every fault with line and key, and refuses each key that
//! nobody asked for.
//!
//! No serde mirror, because that stops at the first fault and an operator at night wants them all at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::vocab::{Amount, Currency};

/// One thing that is wrong with a configuration: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// Counts from 1; none for what is missing altogether.
    pub line: Option<usize>,
    /// As `acquirer[0].listen`, the first of a kind being number 0. Empty for the file as a whole.
    pub key: String,
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.key.as_str() {
            "" => write!(f, ": {}", self.reason),
            key => write!(f, ": {key}: {}", self.reason),
        }
    }
}

/// The faults of one file while it is read, and the keys that were asked for.
#[derive(Debug)]
pub(super) struct Notes {
    file: String,
    text: String,
    faults: RefCell<Vec<Fault>>,
    /// Where in the text each key was found, by its byte.
    places: RefCell<BTreeMap<String, usize>>,
    /// Every key that the program looked for, there or not, without numbers: `acquirer.listen`.
    asked: RefCell<BTreeSet<String>>,
}

impl Notes {
    pub(super) fn new(file: &str, text: &str) -> Rc<Self> {
        let (file, text) = (file.to_owned(), text.to_owned());
        let (faults, places, asked) = (RefCell::default(), RefCell::default(), RefCell::default());
        Rc::new(Self { file, text, faults, places, asked })
    }

    /// Notes a fault of a key. Its line is the key's, or that of the table it should stand in.
    pub(super) fn note(&self, key: &str, reason: impl fmt::Display) {
        let places = self.places.borrow();
        let parents = key.match_indices(['.', '[']).rev().filter_map(|(end, _)| key.get(..end));
        let at = std::iter::once(key).chain(parents).find_map(|key| places.get(key).copied());
        self.note_at(at, key, reason);
    }

    fn note_at(&self, at: Option<usize>, key: &str, reason: impl fmt::Display) {
        let line = at.map(|at| self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
        let (file, key) = (self.file.clone(), key.to_owned());
        self.faults.borrow_mut().push(Fault { file, line, key, reason: reason.to_string() });
    }

    /// Whether the file has this key, whatever its value.
    pub(super) fn found(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    fn place(&self, key: &str, at: usize) {
        self.places.borrow_mut().insert(key.to_owned(), at);
    }

    /// All that was noted, in the order of the file.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.borrow().clone();
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        faults
    }

    /// Every key that the program knows, as `acquirer.listen`.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }
}

/// Reads a TOML value; the error says what is wanted instead.
pub(super) trait Read<T>: Fn(&DeValue<'_>) -> Result<T, String> {}

impl<T, F: Fn(&DeValue<'_>) -> Result<T, String>> Read<T> for F {}

/// The table at the top of the file. Syntax errors are noted, and what could be read goes on being read.
pub(super) fn parse<'t>(text: &'t str, notes: &Notes) -> Spanned<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        notes.note_at(error.span().map(|span| span.start), "", error.message());
    }
    table
}

/// One table of the file, for as long as it is read.
#[derive(Debug)]
pub(super) struct Section<'t> {
    notes: Rc<Notes>,
    table: Option<&'t DeTable<'t>>,
    /// With numbers, for people: `acquirer[0]`.
    path: String,
    /// Without, for the reference: `acquirer`.
    kind: String,
    asked: BTreeSet<&'static str>,
}

impl<'t> Section<'t> {
    pub(super) fn top(table: &'t Spanned<DeTable<'t>>, notes: &Rc<Notes>) -> Self {
        let (path, kind) = (String::new(), String::new());
        Self { notes: Rc::clone(notes), table: Some(table.get_ref()), path, kind, asked: BTreeSet::new() }
    }

    /// The full name of a key in this section.
    pub(super) fn key(&self, name: &str) -> String {
        dotted(&self.path, name)
    }

    /// The full name of the section itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the file has this section.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has this key, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Notes a fault of a key in this section.
    pub(super) fn fault(&self, name: &str, reason: impl fmt::Display) {
        self.notes.note(&self.key(name), reason);
    }

    fn look(&mut self, name: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.insert(name);
        self.notes.asked.borrow_mut().insert(dotted(&self.kind, name));
        let value = self.table?.get(name)?;
        self.notes.place(&self.key(name), value.span().start);
        Some(value)
    }

    fn noted<T>(&self, key: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|reason| self.notes.note(key, reason)).ok()
    }

    /// A key that may be absent.
    pub(super) fn may<T>(&mut self, name: &'static str, read: impl Read<T>) -> Option<T> {
        let value = self.look(name)?;
        self.noted(&self.key(name), read(value.get_ref()))
    }

    /// A key that has a default.
    pub(super) fn or<T>(&mut self, name: &'static str, default: T, read: impl Read<T>) -> T {
        self.may(name, read).unwrap_or(default)
    }

    /// A key that must be there.
    pub(super) fn need<T>(&mut self, name: &'static str, read: impl Read<T>) -> Option<T> {
        if self.look(name).is_none() {
            self.fault(name, "is missing");
            return None;
        }
        self.may(name, read)
    }

    /// A list, empty when absent; each element that cannot be read is a fault of its own and left out.
    pub(super) fn list<T>(&mut self, name: &'static str, read: impl Read<T>) -> Vec<T> {
        let Some(value) = self.look(name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.fault(name, "must be a list: [...]");
            return Vec::new();
        };
        let element = |(number, value): (usize, &Spanned<DeValue<'_>>)| {
            let key = format!("{}[{number}]", self.key(name));
            self.notes.place(&key, value.span().start);
            self.noted(&key, read(value.get_ref()))
        };
        array.iter().enumerate().filter_map(element).collect()
    }

    /// Whether the key is there and is a list with nothing in it.
    pub(super) fn is_empty_list(&self, name: &str) -> bool {
        let value = self.table.and_then(|table| table.get(name));
        value.and_then(|value| value.get_ref().as_array()).is_some_and(|array| array.is_empty())
    }

    /// A table in this one; when it is not there, one in which every key is absent.
    pub(super) fn table(&mut self, name: &'static str) -> Self {
        let found = self.look(name);
        let table = found.and_then(|value| value.get_ref().as_table());
        if found.is_some() && table.is_none() {
            self.fault(name, format!("must be a table: [{}]", self.key(name)));
        }
        self.inner(table, self.key(name), name)
    }

    /// The tables of one kind: `[[acquirer]]`.
    pub(super) fn tables(&mut self, name: &'static str) -> Vec<Self> {
        let Some(value) = self.look(name) else { return Vec::new() };
        let rows: Option<Vec<_>> = value.get_ref().as_array().map(|array| array.iter().collect());
        let Some(rows) = rows.filter(|rows| rows.iter().all(|row| row.get_ref().is_table())) else {
            self.fault(name, format!("must be tables: [[{}]]", self.key(name)));
            return Vec::new();
        };
        let section = |(number, row): (usize, &'t Spanned<DeValue<'t>>)| {
            let path = format!("{}[{number}]", self.key(name));
            self.notes.place(&path, row.span().start);
            self.inner(row.get_ref().as_table(), path, name)
        };
        rows.into_iter().enumerate().map(section).collect()
    }

    fn inner(&self, table: Option<&'t DeTable<'t>>, path: String, name: &str) -> Self {
        let kind = dotted(&self.kind, name);
        Self { notes: Rc::clone(&self.notes), table, path, kind, asked: BTreeSet::new() }
    }

    /// Refuses what stands in the table and was never asked for.
    pub(super) fn finish(self) {
        for (name, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let (name, at) = (name.get_ref(), name.span().start);
            if !self.asked.contains(name.as_ref()) {
                let near = nearest(name, &self.asked).map(|near| format!("; is `{near}` meant?"));
                let reason = format!("there is no such key{}", near.unwrap_or_default());
                self.notes.note_at(Some(at), &self.key(name), reason);
            }
        }
    }
}

/// Reads each table of one kind: what could be read, and the path of each.
pub(super) fn rows<'t, T>(
    sections: Vec<Section<'t>>,
    mut read: impl FnMut(Section<'t>) -> Option<T>,
) -> (Vec<T>, Vec<String>) {
    let row = |section: Section<'t>| {
        let path = section.path().to_owned();
        read(section).map(|row| (row, path))
    };
    sections.into_iter().filter_map(row).unzip()
}

fn dotted(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The known name that differs from the one written by a few letters in one place.
fn nearest<'n>(written: &str, known: &BTreeSet<&'n str>) -> Option<&'n str> {
    let distance = |name: &str| {
        let longer = name.len().max(written.len());
        let start = name.bytes().zip(written.bytes()).take_while(|(a, b)| a == b).count();
        let end = name.bytes().rev().zip(written.bytes().rev()).take_while(|(a, b)| a == b).count();
        longer.saturating_sub(start + end)
    };
    known.iter().copied().min_by_key(|name| distance(name)).filter(|name| distance(name) <= 3)
}

/// A string.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wanted("a string in quotes", value))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wanted("true or false", value))
}

/// A whole number from `least` to `most`.
pub(super) fn number(least: u64, most: u64) -> impl Read<u64> {
    move |value| {
        let range = format!("a whole number from {least} to {most}");
        let found = value.as_integer().ok_or_else(|| wanted(&range, value))?;
        let number = u64::from_str_radix(found.as_str(), found.radix()).ok();
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| wanted(&range, value))
    }
}

/// As `number`, for counts in memory.
pub(super) fn count(least: usize, most: usize) -> impl Read<usize> {
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let read = number(wide(least), wide(most));
    move |value| read(value).and_then(|n| usize::try_from(n).map_err(|_| "is too large here".to_owned()))
}

/// A length of time: `250ms`, `12s`, `5m`, `24h`, `7d`; never zero.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    let shape = "a length of time such as \"250ms\", \"12s\", \"5m\", \"24h\" or \"7d\"";
    let (number, unit) = number_and_unit(value).ok_or_else(|| wanted(shape, value))?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted(shape, value)),
    };
    let time = number.checked_mul(milliseconds).filter(|time| *time > 0);
    time.map(Duration::from_millis).ok_or_else(|| wanted(shape, value))
}

/// A number of bytes: `512 B`, `64 KiB`, `32 MiB`, `2 GiB`.
pub(super) fn bytes(value: &DeValue<'_>) -> Result<u64, String> {
    let shape = "a size such as \"64 KiB\", \"32 MiB\" or \"2 GiB\"";
    let (number, unit) = number_and_unit(value).ok_or_else(|| wanted(shape, value))?;
    let one: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wanted(shape, value)),
    };
    number.checked_mul(one).ok_or_else(|| wanted(shape, value))
}

/// As `bytes`, for what is held in memory.
pub(super) fn size(value: &DeValue<'_>) -> Result<usize, String> {
    bytes(value).and_then(|size| usize::try_from(size).map_err(|_| "is too large here".to_owned()))
}

/// A time of day, `22:30`, as the time since midnight.
pub(super) fn time_of_day(value: &DeValue<'_>) -> Result<Duration, String> {
    let shape = "a time of day such as \"22:30\"";
    let text = value.as_str().ok_or_else(|| wanted(shape, value))?;
    let two = |digits: &str| {
        (digits.len() == 2 && !digits.starts_with('+')).then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':').ok_or_else(|| wanted(shape, value))?;
    match (two(hour), two(minute)) {
        (Some(hour @ 0..24), Some(minute @ 0..60)) => Ok(Duration::from_secs(hour * 3_600 + minute * 60)),
        _ => Err(wanted(shape, value)),
    }
}

fn number_and_unit<'v>(value: &'v DeValue<'_>) -> Option<(u64, &'v str)> {
    let text = value.as_str()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// An address with its port: `127.0.0.1:7001`, `[::1]:7001`; port 0 takes any free one where we listen.
pub(super) fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let shape = "an address with a port, such as \"127.0.0.1:7001\"";
    let text = value.as_str().ok_or_else(|| wanted(shape, value))?;
    text.parse().map_err(|_| wanted(shape, value))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Read<T> {
    move |value| {
        let names: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let shape = format!("one of {}", names.join(", "));
        let text = value.as_str().ok_or_else(|| wanted(&shape, value))?;
        words.iter().find(|(word, _)| *word == text).map(|(_, it)| *it).ok_or_else(|| wanted(&shape, value))
    }
}

/// A word of the field, from a string. Its own error says what is wrong and never repeats the characters.
pub(super) fn word<T, E: fmt::Display>(parse: impl Fn(&[u8]) -> Result<T, E>) -> impl Read<T> {
    move |value| {
        let text = value.as_str().ok_or_else(|| wanted("a string in quotes", value))?;
        parse(text.as_bytes()).map_err(|error| error.to_string())
    }
}

/// 32 bytes in hexadecimal.
pub(super) fn digest(value: &DeValue<'_>) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let text = value.as_str().unwrap_or_default();
    // What stands there is not repeated: somebody may have put the credential itself.
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "must be 64 hexadecimal characters in quotes".to_owned())?;
    Ok(bytes)
}

fn wanted(shape: &str, found: &DeValue<'_>) -> String {
    match found {
        DeValue::String(text) => format!("must be {shape}, not \"{}\"", shortened(text)),
        DeValue::Integer(number) => format!("must be {shape}, not {}", shortened(&number.to_string())),
        DeValue::Boolean(it) => format!("must be {shape}, not {it}"),
        other => format!("must be {shape}, not a {}", other.type_str()),
    }
}

/// A short wrong value as it stands, and the beginning of a longer one: an account number or a credential in the
/// wrong place is not shown.
fn shortened(text: &str) -> String {
    let most = if text.chars().count() > 11 { 4 } else { 11 };
    let shown: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    if most == 4 { format!("{shown}...") } else { shown }
}

/// A table of `minor_units` and `currency`, which may be absent.
pub(super) fn amount(mut section: Section<'_>) -> Option<Amount> {
    if !section.is_there() {
        // Asked for all the same, so that the reference knows the keys.
        section.may("minor_units", number(0, MOST_AMOUNT));
        section.may("currency", currency);
        return None;
    }
    let minor = section.need("minor_units", number(1, MOST_AMOUNT));
    let currency = section.need("currency", currency);
    section.finish();
    Some(Amount::new(minor?, currency?))
}

/// The largest number in DE 4, `n12`.
const MOST_AMOUNT: u64 = 999_999_999_999;

/// `"EUR"` or `"978"`.
fn currency(value: &DeValue<'_>) -> Result<Currency, String> {
    let text = value.as_str().unwrap_or_default();
    let found = Currency::from_letters(text).or_else(|| Currency::parse(text.as_bytes()).ok());
    found.ok_or_else(|| "must be a currency of ISO 4217, such as \"EUR\" or \"978\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, read: impl FnOnce(&mut Section<'_>)) -> Vec<String> {
        let notes = Notes::new("f", text);
        let table = parse(text, &notes);
        let mut top = Section::top(&table, &notes);
        read(&mut top);
        top.finish();
        notes.faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let text = "\
            a = 1\n\
            listn = \"127.0.0.1:1\"\n\
            [[row]]\n\
            id = \"x\"\n\
            list = [1, \"two\", 99]\n\
            [[row]]\n\
            [other]\n\
            name = \"n\"\n";
        let found = faults(text, |top| {
            assert_eq!(top.need("a", text_of), None);
            top.may("listen", address);
            for mut row in top.tables("row") {
                row.need("id", number(1, 9));
                row.list("list", number(1, 9));
                row.finish();
            }
            let mut other = top.table("other");
            assert_eq!(other.need("name", text_of).as_deref(), Some("n"));
            other.finish();
            let mut absent = top.table("absent");
            absent.need("name", text_of);
            absent.finish();
        });
        assert_eq!(
            found,
            [
                "f:1: a: must be a string in quotes, not 1",
                "f:2: listn: there is no such key; is `listen` meant?",
                "f:4: row[0].id: must be a whole number from 1 to 9, not \"x\"",
                "f:5: row[0].list[1]: must be a whole number from 1 to 9, not \"two\"",
                "f:5: row[0].list[2]: must be a whole number from 1 to 9, not 99",
                "f:6: row[1].id: is missing",
                "f: absent.name: is missing",
            ]
        );
    }

    fn text_of(value: &DeValue<'_>) -> Result<String, String> {
        text(value)
    }

    #[test]
    fn syntax_errors_are_noted_and_the_rest_is_read() {
        let found = faults("a = \nb = 1\nb = 2\nc = \"x", |top| {
            top.may("a", text);
            top.may("b", boolean);
            top.may("c", text);
        });
        for line in ["f:1: ", "f:3: ", "f:4: "] {
            assert!(found.iter().any(|fault| fault.starts_with(line)), "{line} {found:#?}");
        }
    }

    #[test]
    fn tables_where_values_belong_and_the_other_way_round() {
        let found = faults("row = 1\none = [1]\nlist = 5\n[name]\n", |top| {
            assert!(top.tables("row").is_empty());
            top.table("one").finish();
            assert!(top.list("list", text).is_empty());
            top.may("name", text);
        });
        assert_eq!(
            found,
            [
                "f:1: row: must be tables: [[row]]",
                "f:2: one: must be a table: [one]",
                "f:3: list: must be a list: [...]",
                "f:4: name: must be a string in quotes, not a table",
            ]
        );
    }

    #[test]
    fn values() {
        fn of<T>(toml: &str, read: impl Read<T>) -> Option<T> {
            read(DeValue::parse(toml).unwrap().get_ref()).ok()
        }
        for (written, milliseconds) in [
            ("\"250ms\"", Some(250)),
            ("\"12s\"", Some(12_000)),
            ("\"12 s\"", Some(12_000)),
            ("\"5m\"", Some(300_000)),
            ("\"24h\"", Some(86_400_000)),
            ("\"7d\"", Some(604_800_000)),
            ("\"0s\"", None),
            ("\"12\"", None),
            ("12", None),
            ("\"-1s\"", None),
            ("\"1.5s\"", None),
            ("\"99999999999999999999s\"", None),
            ("\"9999999999999999999h\"", None),
        ] {
            assert_eq!(of(written, duration), milliseconds.map(Duration::from_millis), "{written}");
        }
        for (written, size) in [
            ("\"64 KiB\"", Some(65_536)),
            ("\"1GiB\"", Some(1 << 30)),
            ("\"1 GB\"", None),
            ("\"99999999999 GiB\"", None),
            ("65536", None),
        ] {
            assert_eq!(of(written, bytes), size, "{written}");
        }
        for (written, minutes) in [
            ("\"00:00\"", Some(0)),
            ("\"23:59\"", Some(1_439)),
            ("\"24:00\"", None),
            ("\"12:60\"", None),
            ("\"1:30\"", None),
            ("\"+1:30\"", None),
            ("\"1230\"", None),
        ] {
            assert_eq!(of(written, time_of_day), minutes.map(|m| Duration::from_secs(60 * m)), "{written}");
        }
        assert_eq!(of("0x10", number(0, 16)), Some(16));
        assert_eq!(of("1_000", count(0, 1000)), Some(1000));
        assert_eq!(of("-1", number(0, 16)), None);
        assert_eq!(of("\"b\"", choice(&[("a", 1), ("b", 2)])), Some(2));
        assert_eq!(of("\"c\"", choice(&[("a", 1), ("b", 2)])), None);
        assert_eq!(of("\"[::1]:0\"", address), "[::1]:0".parse().ok());
        assert_eq!(of("\"localhost:1\"", address), None);
        assert_eq!(of(&format!("\"{}\"", "0f".repeat(32)), digest), Some([0x0F; 32]));
        assert_eq!(of("\"0f\"", digest), None);
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        for read in [duration, |value: &DeValue<'_>| number(1, 2)(value).map(|_| Duration::ZERO)] {
            for secret in ["4761739001010119", "476173900101"] {
                let quoted = format!("\"{secret}\"");
                for written in [secret, &quoted] {
                    let value = DeValue::parse(written).unwrap();
                    let error = read(value.get_ref()).unwrap_err();
                    assert!(!error.contains("47617"), "{error}");
                }
            }
        }
        let error = digest(DeValue::parse("\"secret\"").unwrap().get_ref()).unwrap_err();
        assert!(!error.contains("secret"));
    }
}
