//! Time as an argument: `Moment` for deadlines, `Wall` for dates, `Now` for both, and the one place that asks
//! the operating system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point on a clock that only moves forward, in nanoseconds since the process began. It dies at restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall time, in milliseconds since 1970-01-01T00:00:00Z. It may jump; only dates, ages and expiry use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub u64);

impl Wall {
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both times of one step. Every decision takes it as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    pub moment: Moment,
    pub wall: Wall,
}

/// Where `Now` comes from: the operating system, or a test that moves it by hand.
#[derive(Debug, Clone)]
pub enum Clock {
    System(SystemClock),
    Manual(ManualClock),
}

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self::System(SystemClock::start())
    }

    #[must_use]
    pub fn now(&self) -> Now {
        match self {
            Self::System(clock) => clock.now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct SystemClock {
    start: std::time::Instant,
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that asks the operating system for the time"
)]
impl SystemClock {
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    #[must_use]
    pub fn now(&self) -> Now {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            moment: Moment(nanos(self.start.elapsed())),
            wall: Wall(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// A clock that stands still until it is moved; its clones share one time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    moment: Arc<AtomicU64>,
    wall: Arc<AtomicU64>,
}

impl ManualClock {
    #[must_use]
    pub fn at(wall: Wall) -> Self {
        Self { moment: Arc::new(AtomicU64::new(0)), wall: Arc::new(AtomicU64::new(wall.0)) }
    }

    pub fn advance(&self, duration: Duration) {
        self.moment.fetch_add(nanos(duration), Ordering::Relaxed);
        self.wall.fetch_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            moment: Moment(self.moment.load(Ordering::Relaxed)),
            wall: Wall(self.wall.load(Ordering::Relaxed)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_its_clones_agree() {
        let clock = ManualClock::at(Wall(1_000));
        let twin = clock.clone();
        assert_eq!(clock.now(), twin.now());
        clock.advance(Duration::from_millis(5));
        assert_eq!(twin.now(), Now { moment: Moment(5_000_000), wall: Wall(1_005) });
    }

    #[test]
    fn time_differences_never_wrap() {
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Wall(5).since(Wall(9)), Duration::ZERO);
        assert_eq!(Moment(u64::MAX).plus(Duration::MAX), Moment(u64::MAX));
    }
}
