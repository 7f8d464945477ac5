//! `Secret<T>`: a value that is wiped when dropped, cannot be printed, and is read only on purpose.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value that must not be seen: wiped on drop, `Debug` prints `[secret]`.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The tidy test lists the few files that may call this.
    pub fn expose_secret(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Equality that takes the same time wherever the first difference lies.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(vec![1_u8, 2, 3])), "[secret]");
    }

    #[test]
    fn equality_is_by_content() {
        let secret = Secret::new(vec![1_u8, 2, 3]);
        assert!(secret.matches(&[1, 2, 3]));
        assert!(!secret.matches(&[1, 2, 4]));
        assert!(!secret.matches(&[1, 2]));
    }
}
