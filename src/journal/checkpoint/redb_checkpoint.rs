//! A checkpoint's records in one redb file. Plain reads, inserts and removals only: the rest of redb has had faults
//! that lost data.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition, TableError};

use super::{Change, CheckpointError, Store, Visit};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// In bytes. The checkpoint is read once, in order, and written in batches.
const CACHE: usize = 64 << 20;

pub(super) struct RedbStore {
    database: Database,
}

impl RedbStore {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        // Nobody else's to read: it names requestors, requests and tokens.
        let private = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        private.map_err(CheckpointError::store("open redb"))?;
        match Database::builder().set_cache_size(CACHE).create(path) {
            Ok(database) => Ok(Self { database }),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(CheckpointError::InUse),
            Err(error) => Err(CheckpointError::store("open redb")(error)),
        }
    }
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        let read = self.database.begin_read().map_err(CheckpointError::store("read redb"))?;
        let table = match read.open_table(RECORDS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(CheckpointError::store("read redb")(error)),
        };
        let found = table.get(key).map_err(CheckpointError::store("read redb"))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), CheckpointError> {
        let read = self.database.begin_read().map_err(CheckpointError::store("read redb"))?;
        let table = match read.open_table(RECORDS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(CheckpointError::store("read redb")(error)),
        };
        for record in table.range(prefix..).map_err(CheckpointError::store("read redb"))? {
            let (key, value) = record.map_err(CheckpointError::store("read redb"))?;
            if !key.value().starts_with(prefix) || visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let write = self.database.begin_write().map_err(CheckpointError::store("write redb"))?;
        {
            let mut table = write.open_table(RECORDS).map_err(CheckpointError::store("write redb"))?;
            for (key, value) in changes {
                let done = match value {
                    Some(value) => table.insert(key.as_slice(), value.as_slice()),
                    None => table.remove(key.as_slice()),
                };
                done.map_err(CheckpointError::store("write redb"))?;
            }
        }
        write.commit().map_err(CheckpointError::store("commit to redb"))
    }
}
