//! `Lock`: a value behind a lock, and `Locks`, the kind of lock: the system's, or in a test one whose scheduler tries
//! the orders in which threads may come.

use std::sync::{Mutex, PoisonError};

/// A value that one thread at a time may use.
pub trait Lock<T>: Send + Sync {
    fn new(value: T) -> Self;

    /// Uses the value. What a thread left behind that ended in the middle is used as it is.
    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R;
}

/// A kind of lock.
pub trait Locks {
    type Of<T: Send>: Lock<T>;
}

/// The system's.
#[derive(Debug, Clone, Copy)]
pub struct StdLocks;

impl Locks for StdLocks {
    type Of<T: Send> = Mutex<T>;
}

impl<T: Send> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
