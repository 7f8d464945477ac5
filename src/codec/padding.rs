//! Axis 3, how a short value is filled: the half byte that an odd number of packed digits leaves over. (Values
//! shorter than a fixed element are refused, not filled: a message's values keep their width.)

/// Where the half byte that holds no digit lies, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Before the digits, a zero: digits end where the bytes end.
    LeftZero,
    /// Behind the digits, a zero.
    RightZero,
    /// Behind the digits, `F`.
    RightF,
}

impl Padding {
    /// The padding of that name in a dialect's file.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "left-0" => Some(Self::LeftZero),
            "right-0" => Some(Self::RightZero),
            "right-F" => Some(Self::RightF),
            _ => None,
        }
    }

    /// Whether the half byte lies before the digits.
    pub(super) fn is_left(self) -> bool {
        self == Self::LeftZero
    }

    /// What the half byte holds.
    pub(super) fn fill(self) -> u8 {
        match self {
            Self::LeftZero | Self::RightZero => 0,
            Self::RightF => 0xF,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_side_and_fill() {
        for (name, left, fill) in [("left-0", true, 0), ("right-0", false, 0), ("right-F", false, 0xF)] {
            let padding = Padding::from_name(name).unwrap();
            assert_eq!((padding.is_left(), padding.fill()), (left, fill), "{name}");
        }
        assert_eq!(Padding::from_name("left"), None);
    }
}
