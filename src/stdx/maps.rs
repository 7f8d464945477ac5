//! Hash maps and sets whose hasher has a fixed seed, so that the same run visits them in the same order.
//! Keys that a stranger may choose freely go into `GuardedMap`, whose seed is drawn per process.

#![allow(clippy::disallowed_types, reason = "this is where the seeded hasher is put in place of std's")]

/// For keys that are random, ours, or checked: fast and repeatable.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// As `Map`, without values.
pub type Set<K> = std::collections::HashSet<K, foldhash::fast::FixedState>;

/// For keys that a peer chooses: nobody outside can aim at one bucket. Never iterate one where order matters.
pub type GuardedMap<K, V> = std::collections::HashMap<K, V, Guard>;

/// The hasher of a `GuardedMap`, its seed drawn per process.
pub type Guard = foldhash::quality::RandomState;
