//! `Dialects`: each dialect that a party names, read once, from those shipped or from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{Fault, Section};
use crate::codec::{Dialect, SpecError, shipped_dialects};
use crate::stdx::maps::Map;

/// The dialects of one configuration, by the name that is written there.
#[derive(Debug)]
pub(super) struct Dialects {
    base: PathBuf,
    /// `None` for one whose faults were told already.
    known: Map<String, Option<Arc<Dialect>>>,
    faults: Vec<Fault>,
}

impl Dialects {
    pub(super) fn new(base: &Path) -> Self {
        Self { base: base.to_owned(), known: Map::default(), faults: Vec::new() }
    }

    /// The dialect of that name: a shipped one, or the file when the name ends in `.toml`.
    pub(super) fn find(&mut self, section: &Section<'_>, name: &str) -> Option<Arc<Dialect>> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let shipped = shipped_dialects().iter().find(|(shipped, _)| *shipped == name);
        let text = match shipped {
            Some((_, text)) => Some((*text).to_owned()),
            None => self.read(section, name),
        };
        let dialect = text.and_then(|text| self.compile(name, &text));
        self.known.insert(name.to_owned(), dialect.clone());
        dialect
    }

    fn read(&self, section: &Section<'_>, name: &str) -> Option<String> {
        let names: Vec<String> = shipped_dialects().iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        if !name.ends_with(".toml") {
            section.fault("dialect", format!("is neither one of {names} nor a file that ends in .toml"));
            return None;
        }
        let read = fs::read_to_string(self.base.join(name));
        read.map_err(|error| section.fault("dialect", format!("cannot be read: {error}"))).ok()
    }

    fn compile(&mut self, name: &str, text: &str) -> Option<Arc<Dialect>> {
        match Dialect::from_toml(name, text) {
            Ok(dialect) => Some(Arc::new(dialect)),
            Err(errors) => {
                let line = |line: usize| Some(line).filter(|line| *line > 0);
                let fault = |it: SpecError| Fault {
                    file: it.file,
                    line: line(it.line),
                    key: it.key,
                    reason: it.reason,
                };
                self.faults.extend(errors.into_iter().map(fault));
                None
            }
        }
    }

    /// What is wrong in dialect files.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }
}
