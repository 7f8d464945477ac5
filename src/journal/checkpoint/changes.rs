//! `Changes`: what is to be written into a checkpoint at once.

use std::collections::BTreeMap;

use super::{CheckpointError, full_key};

/// Changes on their way into a checkpoint; a later one of the same record takes the earlier one's place.
#[derive(Debug, Default)]
pub struct Changes {
    pub(super) records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record.
    ///
    /// # Errors
    /// `PartName`.
    pub fn put(&mut self, part: &str, key: &[u8], value: Vec<u8>) -> Result<(), CheckpointError> {
        self.records.insert(full_key(part, key)?, Some(value));
        Ok(())
    }

    /// Removes a record; one that is not there is no error.
    ///
    /// # Errors
    /// `PartName`.
    pub fn remove(&mut self, part: &str, key: &[u8]) -> Result<(), CheckpointError> {
        self.records.insert(full_key(part, key)?, None);
        Ok(())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records would change.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }
}
