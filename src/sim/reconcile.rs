//! `reconcile`: what acquirers were told against what issuers have, and every difference between the two.

use std::fmt;

use serde_json::Value;

use crate::stdx::maps::Map;
use crate::vocab::{InstitutionId, MessageClass, Mti, Pan, Rrn};

/// What one side says of one transaction. DE 32 and DE 37 are what both sides know it by, since the switch
/// passes them on unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub acquirer: InstitutionId,
    pub rrn: Rrn,
    pub class: MessageClass,
    /// The card charged, where this side knows it.
    pub pan: Option<Pan>,
    pub standing: Standing,
}

impl Record {
    /// Reads a line that a book or a ledger wrote; the card is masked there, and so not known here.
    #[must_use]
    pub fn from_json(line: &Value) -> Option<Self> {
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::as_bytes);
        let standing = match line.get("standing")? {
            Value::Null => Standing::Unknown,
            minor => match minor.as_u64()? {
                0 => Standing::Nothing,
                minor => Standing::Money(minor),
            },
        };
        Some(Self {
            acquirer: InstitutionId::parse(text("acquirer")?).ok()?,
            rrn: Rrn::parse(text("rrn")?).ok()?,
            class: Mti::parse(text("mti")?).ok()?.class,
            pan: None,
            standing,
        })
    }
}

/// What is charged or held, in minor units, as one side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Declined, or undone.
    Nothing,
    Money(u64),
    /// The acquirer was never told and has not taken it back.
    Unknown,
}

/// One transaction on which the two sides do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub acquirer: InstitutionId,
    pub rrn: Rrn,
    pub class: MessageClass,
    pub kind: DifferenceKind,
}

/// How they do not agree. Amounts are in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The acquirer was told that it is approved, and the issuer has nothing.
    NotCharged {
        book: u64,
    },
    /// The acquirer was told no, or took it back, and the issuer still charges it.
    StillCharged {
        ledger: u64,
    },
    /// The acquirer was never told anything, and the issuer charges it.
    NeverTold {
        ledger: u64,
    },
    /// Charged, and in no acquirer's book.
    NotInBook {
        ledger: u64,
    },
    AmountDiffers {
        book: u64,
        ledger: u64,
    },
    /// The issuer charges it more often than it was approved.
    ChargedTwice {
        book: u64,
        ledger: u64,
    },
    /// Charged to a card other than the one presented.
    WrongCard,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acquirer {} RRN {}: {}", self.acquirer, self.rrn, self.kind)
    }
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCharged { book } => write!(f, "approved over {book}, and the issuer has nothing"),
            Self::StillCharged { ledger } => {
                write!(f, "declined or reversed, and the issuer still charges {ledger}")
            }
            Self::NeverTold { ledger } => write!(f, "never answered, and the issuer charges {ledger}"),
            Self::NotInBook { ledger } => write!(f, "the issuer charges {ledger}, and nobody asked"),
            Self::AmountDiffers { book, ledger } => {
                write!(f, "approved over {book}, and the issuer charges {ledger}")
            }
            Self::ChargedTwice { book, ledger } => {
                write!(f, "approved over {book}, and the issuer charges more than once, {ledger} in all")
            }
            Self::WrongCard => f.write_str("charged to another card than the one presented"),
        }
    }
}

/// One side's records of one transaction, added up.
#[derive(Debug, Default)]
struct Side {
    records: u32,
    charges: u32,
    sum: u64,
    unknown: bool,
    pan: Option<Pan>,
    pans_differ: bool,
}

impl Side {
    fn add(&mut self, record: Record) {
        self.records += 1;
        match record.standing {
            Standing::Nothing => {}
            Standing::Unknown => self.unknown = true,
            Standing::Money(minor) => {
                self.charges += 1;
                self.sum = self.sum.saturating_add(minor);
                self.pans_differ |= self.pan.is_some() && record.pan.is_some() && self.pan != record.pan;
                self.pan = record.pan.or(self.pan.take());
            }
        }
    }
}

/// Compares all acquirers' records with all issuers', and returns what differs, in order of acquirer, DE 37
/// and class.
pub fn reconcile(
    book: impl IntoIterator<Item = Record>,
    ledger: impl IntoIterator<Item = Record>,
) -> Vec<Difference> {
    let mut sides: Map<(InstitutionId, Rrn, MessageClass), (Side, Side)> = Map::default();
    for record in book {
        sides.entry((record.acquirer, record.rrn, record.class)).or_default().0.add(record);
    }
    for record in ledger {
        sides.entry((record.acquirer, record.rrn, record.class)).or_default().1.add(record);
    }
    let mut differences: Vec<Difference> = sides
        .into_iter()
        .filter_map(|((acquirer, rrn, class), (book, ledger))| {
            Some(Difference { acquirer, rrn, class, kind: difference(&book, &ledger)? })
        })
        .collect();
    differences.sort_unstable_by_key(|d| (d.acquirer, d.rrn, d.class));
    differences
}

fn difference(book: &Side, ledger: &Side) -> Option<DifferenceKind> {
    let (told, charged) = (book.sum, ledger.sum);
    match (book.charges, ledger.charges) {
        (0, 0) => None,
        (_, 0) => Some(DifferenceKind::NotCharged { book: told }),
        (0, _) if book.records == 0 => Some(DifferenceKind::NotInBook { ledger: charged }),
        (0, _) if book.unknown => Some(DifferenceKind::NeverTold { ledger: charged }),
        (0, _) => Some(DifferenceKind::StillCharged { ledger: charged }),
        (asked, made) if made > asked => Some(DifferenceKind::ChargedTwice { book: told, ledger: charged }),
        _ if told != charged => Some(DifferenceKind::AmountDiffers { book: told, ledger: charged }),
        _ if ledger.pans_differ => Some(DifferenceKind::WrongCard),
        _ => match (&book.pan, &ledger.pan) {
            (Some(presented), Some(charged)) if presented != charged => Some(DifferenceKind::WrongCard),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(standing: Standing, pan: Option<&str>) -> Record {
        Record {
            acquirer: InstitutionId::parse(b"1").unwrap(),
            rrn: Rrn::parse(b"000000000001").unwrap(),
            class: MessageClass::Financial,
            pan: pan.map(|digits| Pan::parse(digits.as_bytes()).unwrap()),
            standing,
        }
    }

    #[test]
    fn every_way_to_disagree_has_a_name() {
        use DifferenceKind as Kind;
        use Standing::{Money, Nothing, Unknown};

        type Case = (&'static str, &'static [Standing], &'static [Standing], Option<Kind>);
        let cases: [Case; 13] = [
            ("both have it", &[Money(5)], &[Money(5)], None),
            ("neither has it", &[Nothing], &[Nothing], None),
            ("declined here, never seen there", &[Nothing], &[], None),
            ("unanswered, never seen there", &[Unknown], &[], None),
            ("unanswered, reversed there", &[Unknown], &[Nothing], None),
            ("lost by the issuer", &[Money(5)], &[], Some(Kind::NotCharged { book: 5 })),
            ("undone by the issuer", &[Money(5)], &[Nothing], Some(Kind::NotCharged { book: 5 })),
            ("an orphan", &[Nothing], &[Money(5)], Some(Kind::StillCharged { ledger: 5 })),
            ("unanswered, charged", &[Unknown], &[Money(5)], Some(Kind::NeverTold { ledger: 5 })),
            ("from nowhere", &[], &[Money(5)], Some(Kind::NotInBook { ledger: 5 })),
            ("amounts", &[Money(5)], &[Money(4)], Some(Kind::AmountDiffers { book: 5, ledger: 4 })),
            ("twice", &[Money(5)], &[Money(5); 2], Some(Kind::ChargedTwice { book: 5, ledger: 10 })),
            ("declined once, approved once", &[Nothing, Money(5)], &[Nothing, Money(5)], None),
        ];
        for (name, book, ledger, expected) in cases {
            let records = |list: &[Standing]| list.iter().map(|s| record(*s, None)).collect::<Vec<_>>();
            let found = reconcile(records(book), records(ledger));
            assert_eq!(found.iter().map(|d| d.kind).collect::<Vec<_>>(), Vec::from_iter(expected), "{name}");
        }
    }

    #[test]
    fn the_card_must_be_the_one_presented() {
        let (one, other) = (Some("4761739001010119"), Some("4761739001010127"));
        for (book, ledger, differs) in [(one, one, false), (one, other, true), (None, other, false)] {
            let found = reconcile([record(Standing::Money(5), book)], [record(Standing::Money(5), ledger)]);
            assert_eq!(found.iter().any(|d| d.kind == DifferenceKind::WrongCard), differs);
        }
    }
}
