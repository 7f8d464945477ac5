//! `Disk`: the few file operations that the journal needs, and the real one. Files are named, not opened: the disk
//! keeps each handle for as long as the file is written, since a handle opened again would not hear of a failed
//! write-back.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};

use super::error::JournalError;
use crate::stdx::maps::Map;

/// One directory of files. What is not synced may be lost, torn or reordered when the power goes.
pub trait Disk: Send + Sync {
    /// The names of all files.
    ///
    /// # Errors
    /// Those of the operating system; so it is for every operation here.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file; one of that name must not exist.
    fn create(&self, file: &str) -> io::Result<()>;
    /// In bytes.
    fn length(&self, file: &str) -> io::Result<u64>;
    /// Reads until `into` is full or the file ends; gives the number of bytes read.
    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, lengthening the file where needed.
    fn write_at(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&self, file: &str, length: u64) -> io::Result<()>;
    /// Returns when all that was written to the file will survive the loss of power. An error means that it cannot
    /// be known what survives; asking again proves nothing.
    fn sync(&self, file: &str) -> io::Result<()>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, file: &str) -> io::Result<()>;
    /// As `sync`, for names made, changed and removed.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
}

/// A directory of the operating system, locked against other processes for as long as this lives unless it only
/// watches.
#[derive(Debug)]
pub struct RealDisk {
    directory: File,
    access: OFlags,
    open: Mutex<Map<String, Arc<File>>>,
}

impl RealDisk {
    /// Takes an opened directory.
    ///
    /// # Errors
    /// `InUse` when another process has it, `Disk` when it cannot be locked.
    pub fn lock(directory: File) -> Result<Self, JournalError> {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory, access: OFlags::RDWR, open: Mutex::default() }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::InUse),
            Err(error) => Err(JournalError::disk("lock", "its directory")(error.into())),
        }
    }

    /// Takes an opened directory whose files are only read, whoever writes them meanwhile.
    #[must_use]
    pub fn watch(directory: File) -> Self {
        Self { directory, access: OFlags::RDONLY, open: Mutex::default() }
    }

    fn file(&self, file: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(file) {
            return Ok(Arc::clone(handle));
        }
        let handle = Arc::new(self.open_with(file, OFlags::empty())?);
        open.insert(file.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }

    fn open_with(&self, file: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | self.access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(&self.directory, file, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(handle))
    }

    fn forget(&self, file: &str) -> Option<Arc<File>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(file)
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for found in Dir::read_from(&self.directory)? {
            let found = found?;
            // Every name that the journal gives is ASCII; any other file is not its own.
            if let Some(name) = CStr::to_str(found.file_name()).ok().filter(|name| !name.starts_with('.')) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, file: &str) -> io::Result<()> {
        let handle = self.open_with(file, OFlags::CREATE | OFlags::EXCL)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(file.to_owned(), Arc::new(handle));
        Ok(())
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        Ok(self.file(file)?.metadata()?.len())
    }

    fn read_at(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let handle = self.file(file)?;
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match handle.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(file)?.write_all_at(bytes, offset)
    }

    fn truncate(&self, file: &str, length: u64) -> io::Result<()> {
        self.file(file)?.set_len(length)
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        self.file(file)?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.directory, from, &self.directory, to)?;
        self.forget(to);
        if let Some(handle) = self.forget(from) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(to.to_owned(), handle);
        }
        Ok(())
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        rustix::fs::unlinkat(&self.directory, file, AtFlags::empty())?;
        self.forget(file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_disk_does_what_its_operations_say() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(File::open(directory.path()).unwrap()).unwrap();
        disk.create("a").unwrap();
        assert!(disk.create("a").is_err(), "it exists");
        disk.write_at("a", 4, b"there").unwrap();
        disk.sync("a").unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        let mut into = [9; 12];
        assert_eq!(disk.read_at("b", 0, &mut into).unwrap(), 9);
        assert_eq!(&into, b"\0\0\0\0there\x09\x09\x09");
        disk.truncate("b", 5).unwrap();
        assert_eq!(disk.length("b").unwrap(), 5);
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert!(disk.read_at("a", 0, &mut into).is_err(), "renamed away");
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.free().unwrap() > 0);
    }

    #[test]
    fn a_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let first = RealDisk::lock(File::open(directory.path()).unwrap()).unwrap();
        let second = RealDisk::lock(File::open(directory.path()).unwrap());
        assert!(matches!(second, Err(JournalError::InUse)));
        drop(first);
        assert!(RealDisk::lock(File::open(directory.path()).unwrap()).is_ok());
    }
}
