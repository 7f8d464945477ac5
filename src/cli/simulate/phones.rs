//! `Phones`: the card keys of tokens, from the keys of a switch that is tried out, and how often each has tapped,
//! kept in a file from one run to the next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::config::Config;
use crate::sim::{Phone, PresentedCard};
use crate::tsp::TokenKeys;

/// Beside the configuration: a line a token, its number and how often it has tapped.
const TAPS_FILE: &str = "simulated-taps";

/// What puts tokens into phones.
pub(super) struct Phones {
    keys: TokenKeys,
    file: PathBuf,
    taps: BTreeMap<String, u16>,
}

impl Phones {
    /// Takes the keys of the switch with this configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration or the file; keys that were not made for trying things out.
    pub(super) fn of(config: &Path) -> Result<Self, Failure> {
        let resolved = Config::load(config)?;
        if !resolved.security.is_development() {
            return Err(Failure::new("--keys-of: its keys are no development keys"));
        }
        let keys = TokenKeys::resolve(&resolved.tsp, &resolved.security);
        let keys = keys.map_err(|error| Failure::new(error.to_string()))?;
        let file = config.with_file_name(TAPS_FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::file(&file, "cannot be read", &error)),
        };
        let taps = taps(&text).ok_or_else(|| Failure::new(format!("{}: not as written", file.display())))?;
        Ok(Self { keys, file, taps })
    }

    /// The card in a phone, if it is a token whose range has cryptograms.
    pub(super) fn put(&self, card: PresentedCard) -> PresentedCard {
        let Some(token) = card.as_token() else { return card };
        let taps = self.taps.get(token.as_str()).copied().unwrap_or_default();
        match self.keys.card_key(token) {
            Some(key) => card.in_phone(Phone::new(key, taps)),
            None => card,
        }
    }

    /// Writes down how often these have tapped by now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn keep(mut self, cards: &[PresentedCard]) -> Result<(), Failure> {
        for card in cards {
            if let Some((token, phone)) = card.as_token().zip(card.phone.as_ref()) {
                self.taps.insert(token.as_str().to_owned(), phone.taps());
            }
        }
        let mut text = String::new();
        for (token, taps) in &self.taps {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{token} {taps}");
        }
        fs::write(&self.file, text).map_err(|error| Failure::file(&self.file, "cannot be written", &error))
    }
}

fn taps(text: &str) -> Option<BTreeMap<String, u16>> {
    let line = |line: &str| {
        let (token, taps) = line.split_once(' ')?;
        Some((token.to_owned(), taps.parse().ok()?))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Addresses, CONFIG_FILE, write_init};
    use crate::stdx::random::Entropy;
    use crate::vocab::Token;

    #[test]
    fn a_phone_counts_on_from_run_to_run() {
        let kept = tempfile::tempdir().unwrap();
        let (any, api) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
        let addresses = Addresses { acquirer: api, issuer_1: any, issuer_2: any, api, admin: any };
        write_init(kept.path(), addresses, &mut Entropy::system()).unwrap();
        let config = kept.path().join(CONFIG_FILE);
        let token = |digits: &[u8]| PresentedCard::token(Token::parse(digits).unwrap(), None, None, None);
        for run in 1..=3 {
            let phones = Phones::of(&config).unwrap();
            let card = phones.put(token(b"4895370000000005"));
            assert_eq!(card.phone.as_ref().unwrap().tap(), run);
            phones.keep(&[card]).unwrap();
        }
        let phones = Phones::of(&config).unwrap();
        assert_eq!(phones.put(token(b"4895370000000013")).phone.unwrap().taps(), 0);
        assert!(phones.put(token(b"4761730000000011")).phone.is_none(), "no token range");
        fs::write(kept.path().join(TAPS_FILE), "4895370000000005 x\n").unwrap();
        assert!(Phones::of(&config).is_err());
    }
}
