//! `Entropy`: random bytes from the system, drawn in large pieces, or from a seed, so that a run can be
//! repeated.

use std::fmt;

use zeroize::Zeroize;

/// How much is drawn from the system at once: one call costs about 250 ns whatever its size.
const POOL: usize = 4096;

/// A source of random bytes. Only the system's is fit for keys and tokens; the seeded one is for tests and
/// simulations.
pub enum Entropy {
    System(Pool),
    Seeded(fastrand::Rng),
}

/// The system gave no randomness; nothing that needs it may go on.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

impl Entropy {
    #[must_use]
    pub fn system() -> Self {
        Self::System(Pool { bytes: Box::new([0; POOL]), used: POOL })
    }

    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(fastrand::Rng::with_seed(seed))
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// `NoEntropy` when the system refuses; a seeded source never does.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        match self {
            Self::System(pool) => pool.fill(out),
            Self::Seeded(rng) => {
                rng.fill(out);
                Ok(())
            }
        }
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// As `fill`.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], NoEntropy> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// A number below `bound`, each equally likely (by rejection, not by remainder). Zero for a bound of zero.
    ///
    /// # Errors
    /// As `fill`.
    pub fn below(&mut self, bound: u64) -> Result<u64, NoEntropy> {
        if bound == 0 {
            return Ok(0);
        }
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let drawn = u64::from_le_bytes(self.bytes()?);
            if drawn < fair {
                return Ok(drawn % bound);
            }
        }
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System(_) => "Entropy::System",
            Self::Seeded(_) => "Entropy::Seeded",
        })
    }
}

/// Bytes drawn ahead; each is given out once and wiped.
pub struct Pool {
    bytes: Box<[u8; POOL]>,
    used: usize,
}

impl Pool {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        for piece in out.chunks_mut(POOL) {
            if self.used + piece.len() > POOL {
                self.refill()?;
            }
            let end = self.used + piece.len();
            if let Some(drawn) = self.bytes.get_mut(self.used..end) {
                piece.copy_from_slice(drawn);
                drawn.zeroize();
            }
            self.used = end;
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the system for randomness")]
    fn refill(&mut self) -> Result<(), NoEntropy> {
        getrandom::fill(self.bytes.as_mut_slice()).map_err(|_| NoEntropy)?;
        self.used = 0;
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (mut a, mut b, mut c) = (Entropy::seeded(7), Entropy::seeded(7), Entropy::seeded(8));
        let first: [u8; 32] = a.bytes().unwrap();
        assert_eq!(first, b.bytes::<32>().unwrap());
        assert_ne!(first, c.bytes::<32>().unwrap());
    }

    #[test]
    fn the_system_pool_never_repeats_and_serves_any_size() {
        let mut entropy = Entropy::system();
        let mut large = vec![0; POOL * 2 + 17];
        entropy.fill(&mut large).unwrap();
        let blocks: crate::stdx::maps::Set<&[u8]> = large.chunks_exact(16).collect();
        assert_eq!(blocks.len(), large.len() / 16);
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut entropy = Entropy::seeded(1);
        let seen: crate::stdx::maps::Set<u64> = (0..200).map(|_| entropy.below(10).unwrap()).collect();
        assert_eq!(seen.len(), 10);
        assert!(seen.iter().all(|&n| n < 10));
    }
}
