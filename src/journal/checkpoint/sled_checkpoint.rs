//! A checkpoint's records in one sled tree. sled's own flush does not make the drive write, so the file is synced
//! here as well; what is lost all the same shows in the count, and is folded from the journal again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Change, CheckpointError, Store, Visit};

/// In bytes.
const CACHE: u64 = 64 << 20;
/// sled's own threads hold its lock for a while after the last handle is gone.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct SledStore {
    database: sled::Db,
    file: PathBuf,
}

impl SledStore {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE)
            .flush_every_ms(None);
        for _ in 0..ATTEMPTS {
            match config.open() {
                Ok(database) => return Ok(Self { database, file: path.join("db") }),
                // Only the text tells it from other errors.
                Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(CheckpointError::store("open sled")(error)),
            }
        }
        Err(CheckpointError::InUse)
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CheckpointError> {
        let found = self.database.get(key).map_err(CheckpointError::store("read sled"))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), CheckpointError> {
        for record in self.database.scan_prefix(prefix) {
            let (key, value) = record.map_err(CheckpointError::store("read sled"))?;
            if visit(&key, &value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), CheckpointError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.database.apply_batch(batch).map_err(CheckpointError::store("write sled"))?;
        self.database.flush().map_err(CheckpointError::store("flush sled"))?;
        File::open(&self.file).and_then(|file| file.sync_all()).map_err(CheckpointError::store("sync sled"))
    }
}
