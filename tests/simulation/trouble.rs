//! `Trouble`: the classes of faults that a run may meet, which of them it meets, and how often it met each.

/// A class of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no room on the disk for a while.
    DiskFull,
    /// Nothing is synced for seconds.
    DiskStuck,
    /// A write or sync fails: the process must end.
    DiskBreaks,
    /// Syncs are promised and not done, until the power goes.
    DiskLies,
    /// A byte of the journal turns over while the process is down.
    SectorRots,
    /// The power goes, or the process is killed.
    Crash,
    /// The network cuts a connection.
    Cut,
    /// An issuer cannot be reached for a while.
    Away,
    /// What is sent on a connection goes nowhere, in one direction or both, and nobody is told.
    HalfOpen,
    /// An issuer reads and answers nothing for a while, and then everything.
    Sleep,
    /// A peer hangs up within a frame.
    MidFrame,
    /// An issuer's answer is cut, altered or says it is another one's.
    LyingAnswer,
    /// Somebody who is no acquirer connects and sends what is no message, or somebody else's.
    Stranger,
    /// The clock on the switch's wall jumps.
    ClockJump,
    /// A peer signs a connection off, and on again.
    SignsOff,
}

impl Trouble {
    pub(crate) const ALL: [Self; 15] = [
        Self::DiskFull,
        Self::DiskStuck,
        Self::DiskBreaks,
        Self::DiskLies,
        Self::SectorRots,
        Self::Crash,
        Self::Cut,
        Self::Away,
        Self::HalfOpen,
        Self::Sleep,
        Self::MidFrame,
        Self::LyingAnswer,
        Self::Stranger,
        Self::ClockJump,
        Self::SignsOff,
    ];

    /// One run in so many meets it; crashes, cuts and lies were always there.
    fn one_in(self) -> u32 {
        match self {
            Self::Crash | Self::Cut | Self::Away | Self::LyingAnswer => 1,
            // Such a run ends where the power goes.
            Self::DiskLies => 16,
            _ => 3,
        }
    }
}

/// Which troubles a run meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Troubles(u16);

impl Troubles {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn draw(random: &mut fastrand::Rng) -> Self {
        let drawn = Trouble::ALL.into_iter().filter(|trouble| random.u32(0..trouble.one_in()) == 0);
        Self(drawn.fold(0, |drawn, trouble| drawn | 1 << trouble as u16))
    }

    pub(crate) fn has(self, trouble: Trouble) -> bool {
        self.0 & 1 << trouble as u16 != 0
    }
}

/// How often each trouble was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Met([u64; Trouble::ALL.len()]);

impl Met {
    pub(crate) fn note(&mut self, trouble: Trouble) {
        self.0[trouble as usize] += 1;
    }

    pub(crate) fn count(&self, trouble: Trouble) -> u64 {
        self.0[trouble as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}
