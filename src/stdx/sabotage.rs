//! Faults put in on purpose, to see that the tests find them, and named steps at which a test may end the process. Only
//! with the feature `sabotage`, which no release build can have; without it nothing of this is left in the program.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` breaks promises on purpose: no release build may have it");

#[cfg(feature = "sabotage")]
mod armed {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Says where the process ends: a step, and how often it is passed before, as in `journaled:40`.
    const CRASH_AT: &str = "TOKENSWITCH_CRASH_AT";

    thread_local! {
        static CHOSEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Puts one fault in, on this thread, or takes it out again.
    pub fn sabotage(fault: Option<&'static str>) {
        CHOSEN.set(fault);
    }

    /// Whether the fault of that name was put in.
    pub(crate) fn sabotaged(fault: &str) -> bool {
        CHOSEN.get() == Some(fault)
    }

    /// A step that a test may make the last one: the process then ends as `kill -9` would end it.
    pub(crate) fn step(name: &str) {
        static LAST: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
        let last = LAST.get_or_init(|| {
            let text = std::env::var(CRASH_AT).ok()?;
            let (name, passes) = text.split_once(':')?;
            Some((name.to_owned(), AtomicU64::new(passes.parse().ok()?)))
        });
        if let Some((last, passes)) = last
            && last == name
            && passes.fetch_sub(1, Ordering::Relaxed) == 0
        {
            std::process::abort();
        }
    }
}

#[cfg(feature = "sabotage")]
pub use armed::sabotage;
#[cfg(feature = "sabotage")]
pub(crate) use armed::{sabotaged, step};

/// Whether the fault of that name was put in: never.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) const fn sabotaged(_fault: &str) -> bool {
    false
}

/// A step at which a test may end the process: none does.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) const fn step(_name: &str) {}
