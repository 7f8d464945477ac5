//! `MemoryDisk`: a disk for tests and simulations that fails on request, as real ones do: writes lost or torn when
//! the power goes, errors, no space, flipped bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;

/// What survives or is lost as a whole when the power goes, in bytes.
const SECTOR: usize = 512;

/// Files in memory. Clones are the same disk, so that a test keeps a hand on what it gave away.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    /// As of the last `sync_dir`.
    stable_names: BTreeMap<String, usize>,
    /// The directory after each change since then, with the number of the operation that made it.
    unsynced_names: Vec<(u64, BTreeMap<String, usize>)>,
    /// How many operations that change something may still be done.
    operations_left: Option<u64>,
    /// How many syncs may still succeed.
    syncs_left: Option<u64>,
    /// Bytes that all files together may take.
    capacity: Option<u64>,
    operations: u64,
    /// Syncs return at once and do nothing.
    lies: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    /// As a reader sees it.
    now: Vec<u8>,
    /// As of the last sync.
    stable: Vec<u8>,
    /// Each with the number of its operation.
    unsynced: Vec<(u64, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

impl MemoryDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that another one's bytes were copied to.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        state.operations_left = None;
        state.syncs_left = None;
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk after the power went: of the unsynced sectors each is there or not as `seed` decides, of the last
    /// write perhaps a part, of the unsynced names a first few. Of a disk that lied about syncs, in half of the
    /// losses, instead, all is there that was written before some moment, and nothing that was written later.
    #[must_use]
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = self.lock();
        let until = (state.lies && random.bool()).then(|| random.u64(0..=state.operations));
        let kept = match until {
            Some(until) => state.unsynced_names.partition_point(|(operation, _)| *operation <= until),
            None => random.usize(0..=state.unsynced_names.len()),
        };
        let last = kept.checked_sub(1).and_then(|last| state.unsynced_names.get(last));
        let names = last.map_or(&state.stable_names, |(_, names)| names).clone();
        let survives = |file: &Contents| match until {
            Some(until) => file.as_of(until),
            None => file.after_power_loss(&mut random),
        };
        let files = state.files.iter().map(survives).map(Contents::stable).collect();
        let survivor =
            State { files, stable_names: names.clone(), names, capacity: state.capacity, ..State::default() };
        Self { state: Arc::new(Mutex::new(survivor)) }
    }

    /// From now on syncs return at once and nothing of what they were to keep is kept.
    pub fn lie_about_syncs(&self) {
        self.lock().lies = true;
    }

    /// Bytes that all files together take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Lets `count` more changes through, then fails each as a broken device does.
    pub fn fail_after(&self, count: u64) {
        self.lock().operations_left = Some(count);
    }

    /// Lets `count` more syncs succeed; the next fails, and what it was to sync stays unsynced.
    pub fn fail_sync_after(&self, count: u64) {
        self.lock().syncs_left = Some(count);
    }

    /// Bounds what all files together may take; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How many changes were asked for so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Turns over the bits of `mask` in one byte, as a bad sector would. False when there is no such byte.
    pub fn flip(&self, file: &str, offset: usize, mask: u8) -> bool {
        let mut state = self.lock();
        let Some(contents) = state.contents(file) else { return false };
        let mut found = false;
        for bytes in [&mut contents.now, &mut contents.stable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
                found = true;
            }
        }
        found
    }

    /// Puts a file there as if it had always been.
    pub fn put(&self, file: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        state.files.push(Contents::stable(bytes));
        let id = state.files.len() - 1;
        state.names.insert(file.to_owned(), id);
        state.stable_names.insert(file.to_owned(), id);
    }

    /// All bytes of a file, as a reader sees them.
    #[must_use]
    pub fn bytes(&self, file: &str) -> Option<Vec<u8>> {
        self.lock().contents(file).map(|contents| contents.now.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn stable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), stable: bytes, unsynced: Vec::new() }
    }

    /// With every change up to an operation, and none after it.
    fn as_of(&self, operation: u64) -> Vec<u8> {
        let mut bytes = self.stable.clone();
        for (_, change) in self.unsynced.iter().take_while(|(number, _)| *number <= operation) {
            change.apply(&mut bytes);
        }
        bytes
    }

    fn after_power_loss(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.stable.clone();
        for (_, change) in &self.unsynced {
            match change {
                Change::Truncate { length } if random.bool() => bytes.truncate(*length),
                Change::Truncate { .. } => {}
                Change::Write { offset, bytes: written } => {
                    let mut at = *offset;
                    // In three of four losses whole sectors are there or not; in the others a write is cut off.
                    let cut = (random.u8(0..4) == 0).then(|| random.usize(0..=written.len()));
                    let kept = written.get(..cut.unwrap_or(written.len())).unwrap_or_default();
                    let to_boundary = (SECTOR - at % SECTOR).min(kept.len());
                    let (first, rest) = kept.split_at_checked(to_boundary).unwrap_or_default();
                    for sector in std::iter::once(first).chain(rest.chunks(SECTOR)) {
                        if cut.is_some() || random.bool() {
                            overwrite(&mut bytes, at, sector);
                        }
                        at += sector.len();
                    }
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => overwrite(bytes, *offset, written),
            Self::Truncate { length } => bytes.resize(*length, 0),
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, offset: usize, with: &[u8]) {
    let end = offset.saturating_add(with.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(with);
    }
}

impl State {
    fn contents(&mut self, file: &str) -> Option<&mut Contents> {
        let id = *self.names.get(file)?;
        self.files.get_mut(id)
    }

    fn open(&mut self, file: &str) -> io::Result<&mut Contents> {
        self.contents(file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.operations_left {
            Some(0) => Err(broken()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn names_changed(&mut self) {
        self.unsynced_names.push((self.operations, self.names.clone()));
    }

    fn used(&self) -> u64 {
        let used: usize = self.names.values().filter_map(|id| self.files.get(*id)).map(|f| f.now.len()).sum();
        u64::try_from(used).unwrap_or(u64::MAX)
    }
}

/// What the operating system says of a device that does not answer.
fn broken() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, file: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        if state.names.contains_key(file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.push(Contents::default());
        let id = state.files.len() - 1;
        state.names.insert(file.to_owned(), id);
        state.names_changed();
        Ok(())
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        Ok(u64::try_from(self.lock().open(file)?.now.len()).unwrap_or(u64::MAX))
    }

    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let there = state.open(file)?.now.get(place(offset)?..).unwrap_or_default();
        let read = there.len().min(into.len());
        into.iter_mut().zip(there).for_each(|(place, byte)| *place = *byte);
        Ok(read)
    }

    fn write_at(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        let offset = place(offset)?;
        let length = state.open(file)?.now.len();
        let growth = u64::try_from(offset.saturating_add(bytes.len()).saturating_sub(length));
        if state.capacity.is_some_and(|most| state.used().saturating_add(growth.unwrap_or(u64::MAX)) > most) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let operation = state.operations;
        let contents = state.open(file)?;
        overwrite(&mut contents.now, offset, bytes);
        contents.unsynced.push((operation, Change::Write { offset, bytes: bytes.to_vec() }));
        Ok(())
    }

    fn truncate(&self, file: &str, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        let (length, operation) = (place(length)?, state.operations);
        let contents = state.open(file)?;
        contents.now.resize(length, 0);
        contents.unsynced.push((operation, Change::Truncate { length }));
        Ok(())
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        match &mut state.syncs_left {
            Some(0) => return Err(broken()),
            Some(left) => *left -= 1,
            None => {}
        }
        if state.lies {
            return Ok(());
        }
        let contents = state.open(file)?;
        let changes = std::mem::take(&mut contents.unsynced);
        for (_, change) in changes {
            change.apply(&mut contents.stable);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        state.names_changed();
        Ok(())
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.names.remove(file).ok_or(io::ErrorKind::NotFound)?;
        state.names_changed();
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        if !state.lies {
            state.stable_names = state.names.clone();
            state.unsynced_names.clear();
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.map_or(u64::MAX, |most| most.saturating_sub(state.used())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_survive_and_unsynced_ones_may_not() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        disk.write_at("a", 0, &[1; 1024]).unwrap();
        disk.sync("a").unwrap();
        disk.write_at("a", 1024, &[2; 2048]).unwrap();
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let bytes = disk.after_power_loss(seed).bytes("a").unwrap();
            assert_eq!(bytes[..1024], [1; 1024], "seed {seed}");
            assert!(bytes[1024..].iter().all(|b| [0, 2].contains(b)), "seed {seed}");
            lengths.insert(bytes.len());
        }
        assert!(lengths.len() > 10, "torn at many places: {lengths:?}");
        assert!(lengths.contains(&1024) && lengths.contains(&3072));
    }

    #[test]
    fn names_survive_in_the_order_they_were_made() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        disk.rename("a", "b").unwrap();
        let seen: std::collections::BTreeSet<Vec<String>> =
            (0..50).map(|seed| disk.after_power_loss(seed).list().unwrap()).collect();
        assert_eq!(seen, [vec![], vec!["a".to_owned()], vec!["b".to_owned()]].into());
        disk.sync_dir().unwrap();
        assert!((0..50).all(|seed| disk.after_power_loss(seed).list().unwrap() == ["b"]));
    }

    #[test]
    fn a_disk_that_lies_keeps_nothing_of_what_it_promised_and_at_times_all_up_to_a_moment() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        disk.write_at("a", 0, &[1; 1024]).unwrap();
        disk.sync("a").unwrap();
        disk.sync_dir().unwrap();
        disk.lie_about_syncs();
        for block in 1..4 {
            disk.write_at("a", block * 1024, &[2; 1024]).unwrap();
            disk.sync("a").unwrap();
        }
        let after = |seed| disk.after_power_loss(seed).bytes("a").unwrap();
        assert!((0..200).all(|seed| after(seed)[..1024] == [1; 1024]), "synced before it began to lie");
        for length in [1024, 2048, 3072, 4096] {
            let in_order = |bytes: Vec<u8>| bytes.len() == length && bytes[1024..].iter().all(|b| *b == 2);
            assert!((0..200).map(after).any(in_order), "{length}");
        }
    }

    #[test]
    fn faults_come_when_they_were_asked_for() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        disk.set_capacity(Some(10));
        assert_eq!(disk.write_at("a", 5, &[0; 6]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.write_at("a", 5, &[0; 5]).unwrap();
        assert_eq!(disk.free().unwrap(), 0);
        disk.fail_sync_after(1);
        disk.sync("a").unwrap();
        assert_eq!(disk.sync("a").unwrap_err().raw_os_error(), Some(5));
        disk.fail_after(1);
        disk.write_at("a", 0, b"x").unwrap();
        assert_eq!(disk.write_at("a", 0, b"y").unwrap_err().raw_os_error(), Some(5));
        assert_eq!(disk.bytes("a").unwrap()[0], b'x');
    }
}
