//! `Loading`: many threads put the records of a checkpoint into an empty table. Who reads which record is left to
//! chance; what comes of it is not.

use std::sync::{Mutex, PoisonError};

use crate::stdx::maps::Map;
use crate::vocab::TokenRequestorId;

use super::config::TokenRange;
use super::event::CannotFollow;
use super::lifecycle::TokenStatus;
use super::record::{PastMapping, VaultRecord};
use super::record_index::{RecordIndex, Unfit};
use super::record_layout::decode_record;
use super::table::{Domain, TokenTable};

/// What all loaders share.
pub(super) struct Loading<'a> {
    table: &'a TokenTable,
    references: &'a RecordIndex,
    domains: Mutex<&'a mut Map<Domain, u32>>,
}

/// One thread's part of the work.
pub(super) struct Loader<'a> {
    shared: &'a Loading<'a>,
    ranges: &'a [TokenRange],
    /// The one of the record before: most are alike.
    domain: Option<(Domain, u32)>,
    loaded: Loaded,
    fault: Option<CannotFollow>,
}

/// What one thread loaded.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) count: usize,
    /// The number after its highest record's.
    pub(super) next: u32,
    pub(super) past: Vec<(u64, Vec<PastMapping>)>,
    pub(super) cryptograms: Vec<(u64, u16)>,
    pub(super) narrowed: usize,
    /// By token range.
    pub(super) issued: Vec<u64>,
    pub(super) live: Map<TokenRequestorId, u32>,
    pub(super) inactive: Vec<u64>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(
        table: &'a TokenTable,
        references: &'a RecordIndex,
        domains: &'a mut Map<Domain, u32>,
    ) -> Self {
        Self { table, references, domains: Mutex::new(domains) }
    }

    pub(super) fn loader(&'a self, ranges: &'a [TokenRange]) -> Loader<'a> {
        let loaded = Loaded { issued: vec![0; ranges.len()], ..Loaded::default() };
        Loader { shared: self, ranges, domain: None, loaded, fault: None }
    }
}

impl Loader<'_> {
    /// Puts a record of the checkpoint into the table.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), CannotFollow> {
        let done = self.put(key, value);
        self.fault = self.fault.or(done.err());
        done
    }

    /// What was loaded.
    ///
    /// # Errors
    /// What was wrong with the first record that did not fit.
    pub(super) fn end(self) -> Result<Loaded, CannotFollow> {
        self.fault.map_or(Ok(self.loaded), Err)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), CannotFollow> {
        let record = decode_record(value).filter(|record| *key == record.record.to_be_bytes());
        let record = record.ok_or("a record cannot be read")?;
        let covers = |range: &TokenRange| range.covers(record.token.as_bytes());
        let range = self.ranges.iter().position(covers);
        let range = range.ok_or("the token lies in no configured token range")?;
        let full = "the vault is full: raise its capacity";
        let number = u32::try_from(record.record).map_err(|_| full)?;
        if !self.shared.table.has_room(number) {
            return Err(full);
        }
        let domain = self.domain(&record).ok_or(full)?;
        let narrows = self.shared.table.narrow(&record);
        self.shared.table.put(self.shared.references, (number, &record), domain).map_err(
            |unfit| match unfit {
                Unfit::Full => full,
                Unfit::Taken => "the token or its place is in use",
            },
        )?;
        let loaded = &mut self.loaded;
        loaded.count += 1;
        loaded.next = loaded.next.max(number.saturating_add(1));
        loaded.narrowed += usize::from(narrows);
        if let Some(count) = loaded.issued.get_mut(range) {
            *count += 1;
        }
        if record.lifecycle.status != TokenStatus::Deactivated {
            *loaded.live.entry(record.requestor).or_default() += 1;
        }
        if record.lifecycle.status == TokenStatus::Inactive {
            loaded.inactive.push(record.record);
        }
        if record.cryptograms > 0 {
            loaded.cryptograms.push((record.record, record.cryptograms));
        }
        if !record.past.is_empty() {
            loaded.past.push((record.record, record.past));
        }
        Ok(())
    }

    fn domain(&mut self, record: &VaultRecord) -> Option<u32> {
        if let Some((_, at)) = self.domain.as_ref().filter(|(domain, _)| domain.is_of(record)) {
            return Some(*at);
        }
        let domain = Domain::of(record);
        let mut known = self.shared.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.shared.table.intern(&mut known, domain.clone())?;
        self.domain = Some((domain, at));
        Some(at)
    }
}
