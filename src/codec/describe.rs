//! A message as a person reads it: one row a value, masked by the dialect's `sensitive` marks. It fails closed: what
//! nobody has described is shown by its length alone, and a row of text that could hold an account number is not
//! shown either.

use std::fmt;

use super::attribute::Class;
use super::bitmap::DataElement;
use super::dialect::{Dialect, FieldSpec, Sensitive};
use super::error::{FieldPath, Part};
use super::layout::{Layout, PartSpec, UsageSpec, length_of, name_part, split};
use super::message::Message;
use super::tlv::walk;
use super::token_data::{ITEM_DIGITS, TokenPart, USAGE_DIGITS, pieces};
use crate::vocab::{MaskedPan, Pan};

/// A message in rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub rows: Vec<Row>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `MTI`, `2`, `55.9F26`, `63.TK.01`.
    pub path: String,
    /// What the dialect calls it.
    pub name: String,
    /// The value, masked.
    pub shown: String,
}

/// The longest row of bytes that is written out.
const MOST_BYTES_SHOWN: usize = 32;

/// Describes a message by its dialect.
#[must_use]
pub fn describe(dialect: &Dialect, message: &Message) -> Description {
    let mti =
        Row { path: "MTI".to_owned(), name: "message type".to_owned(), shown: message.mti().to_string() };
    let mut description = Description { rows: vec![mti] };
    for element in message.elements() {
        let value = message.get(element).unwrap_or_default();
        match dialect.field(element) {
            Some(field) => description.element(dialect, field, value),
            None => description.row(FieldPath::of(element), "not in the dialect", hidden(value)),
        }
    }
    description
}

impl Description {
    fn row(&mut self, path: FieldPath, name: &str, shown: String) {
        self.rows.push(Row { path: path.to_string(), name: name.to_owned(), shown });
    }

    fn element(&mut self, dialect: &Dialect, field: &FieldSpec, value: &[u8]) {
        let path = FieldPath::of(field.element);
        match &field.layout {
            _ if field.layout.check(value).is_err() => self.row(path, &field.name, hidden(value)),
            Layout::Plain => {
                let shown = shown(field.attribute.class, field.sensitive, value);
                self.row(path, &field.name, shown);
            }
            Layout::Parts(parts) => self.parts(path, parts, value, field.sensitive),
            Layout::Groups(parts) => {
                for group in value.chunks(length_of(parts).max(1)) {
                    self.parts(path, parts, group, field.sensitive);
                }
            }
            Layout::Usages(usages) => self.usages(dialect, field.element, usages, value),
            Layout::Tlv => self.tags(dialect, path, value),
        }
    }

    fn parts(&mut self, path: FieldPath, parts: &[PartSpec], value: &[u8], outer: Sensitive) {
        for (number, (part, value)) in (1..).zip(split(parts, value)) {
            let sensitive = if outer == Sensitive::No { part.sensitive } else { Sensitive::Secret };
            let shown = shown(part.attribute.class, sensitive, value);
            self.row(path.part(Part::Number(number)), &part.name, shown);
        }
    }

    fn usages(&mut self, dialect: &Dialect, element: DataElement, usages: &[UsageSpec], value: &[u8]) {
        for piece in pieces(value, USAGE_DIGITS).map_while(Result::ok) {
            let path = FieldPath::of(element).part(name_part(piece.name));
            let items: Result<Vec<_>, _> = pieces(piece.value, ITEM_DIGITS).collect();
            match (usages.iter().find(|usage| usage.id == piece.name), items) {
                (Some(_), Ok(items)) => {
                    for item in items {
                        let part = dialect.token_places().part_of(element, piece.name, item.name);
                        let (name, shown) = part.map_or(("unknown item", hidden(item.value)), |part| {
                            token_part(part, item.value)
                        });
                        self.row(path.part(name_part(item.name)), name, shown);
                    }
                }
                (Some(usage), Err(_)) => self.row(path, &usage.name, hidden(piece.value)),
                (None, _) => self.row(path, "unknown usage", hidden(piece.value)),
            }
        }
    }

    fn tags(&mut self, dialect: &Dialect, path: FieldPath, value: &[u8]) {
        let mut rows = Vec::new();
        let walked = walk(value, &mut |item| {
            let (name, shown) = match dialect.tag(item.tag) {
                Some(spec) if spec.packed && spec.sensitive == Sensitive::Pan => {
                    let digits = hex::encode(item.value);
                    (spec.name.as_str(), pan(digits.trim_end_matches('f').as_bytes()))
                }
                Some(spec) if spec.packed => {
                    let digits = hex::encode_upper(item.value);
                    (spec.name.as_str(), shown(Class::Text, spec.sensitive, digits.as_bytes()))
                }
                Some(spec) => (spec.name.as_str(), shown(Class::Binary, spec.sensitive, item.value)),
                None => ("unknown tag", hidden(item.value)),
            };
            rows.push((path.part(Part::Tag(item.tag)), name.to_owned(), shown));
            Ok(())
        });
        if walked.is_err() {
            rows = vec![(path, "not readable".to_owned(), hidden(value))];
        }
        for (path, name, shown) in rows {
            self.row(path, &name, shown);
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Row) -> &String| self.rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
        let (path, name) = (width(|row| &row.path), width(|row| &row.name));
        for row in &self.rows {
            writeln!(f, "{:>path$}  {:<name$}  {}", row.path, row.name, row.shown)?;
        }
        Ok(())
    }
}

fn token_part(part: TokenPart, value: &[u8]) -> (&'static str, String) {
    match part {
        TokenPart::Token => ("token", pan(value)),
        TokenPart::TokenExpiry => ("token expiry", shown(Class::Numeric, Sensitive::No, value)),
        TokenPart::Requestor => ("token requestor id", shown(Class::Numeric, Sensitive::No, value)),
        TokenPart::Assurance => ("token assurance method", shown(Class::Numeric, Sensitive::No, value)),
        TokenPart::Location => ("token location", shown(Class::Numeric, Sensitive::No, value)),
        TokenPart::Last4 => ("last four of PAN", shown(Class::Numeric, Sensitive::No, value)),
        // Its 29 characters may hold long runs of digits, and it is no account data (EMVCo 7.6).
        TokenPart::Par => ("payment account reference", printable(value)),
        TokenPart::Verdicts => ("verdicts", shown(Class::Text, Sensitive::No, value)),
        TokenPart::Window => ("settlement window", shown(Class::Numeric, Sensitive::No, value)),
        // Whoever sees it can pay with it.
        TokenPart::Cryptogram => ("cryptogram of one payment", hidden(value)),
        TokenPart::Initiator => ("initiator", shown(Class::Text, Sensitive::No, value)),
        TokenPart::Original => ("RRN of the original", shown(Class::Text, Sensitive::No, value)),
        TokenPart::Refusal => ("refusal", shown(Class::Text, Sensitive::No, value)),
    }
}

fn shown(class: Class, sensitive: Sensitive, value: &[u8]) -> String {
    match (sensitive, class) {
        (Sensitive::Secret, _) => hidden(value),
        (Sensitive::Pan, _) => pan(value),
        (Sensitive::No, _) if holds_account_number(value) || !class.admits(value) => hidden(value),
        (Sensitive::No, Class::Binary) => {
            let text = hex::encode_upper(value);
            let is_shown = value.len() <= MOST_BYTES_SHOWN && !holds_account_number(text.as_bytes());
            if is_shown { text } else { hidden(value) }
        }
        (Sensitive::No, _) => printable(value),
    }
}

/// Whether as many digits follow one another as an account number has. Numbers that long stand nowhere else in
/// clear, save for amounts of reconciliation, whose leading zeros do not count.
fn holds_account_number(value: &[u8]) -> bool {
    value.split(|byte| !byte.is_ascii_digit()).any(|run| {
        let zeros = run.iter().take_while(|digit| **digit == b'0').count();
        run.len() - zeros > Pan::LEAST
    })
}

fn pan(value: &[u8]) -> String {
    if Class::Numeric.admits(value) { MaskedPan::of(value).to_string() } else { hidden(value) }
}

fn printable(value: &[u8]) -> String {
    if Class::Text.admits(value) { String::from_utf8_lossy(value).into_owned() } else { hidden(value) }
}

fn hidden(value: &[u8]) -> String {
    format!("[{} hidden]", value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Mti;

    const PAN: &[u8] = b"4761739001010119";

    fn described(values: &[(u8, &[u8])]) -> String {
        let mut message = Message::new(Mti::parse(b"0100").unwrap());
        for (number, value) in values {
            message.set(DataElement::new(*number).unwrap(), value).unwrap();
        }
        describe(&Dialect::shipped("iso87-ascii").unwrap(), &message).to_string()
    }

    #[test]
    fn a_message_is_shown_masked_and_aligned() {
        let icc = hex::decode("5A0847617390010101199F2608A1B2C3D4E5F60708DF01025A5A").unwrap();
        let text = described(&[
            (2, PAN),
            (4, b"000000004250"),
            (35, b"4761739001010119=27122010000000000000"),
            (52, &[0xA5; 8]),
            (55, &icc),
            (63, b"TK0340119623529000000000001306040119990ASM003xyz"),
            (90, b"010000012311221234560000012345600000000000"),
        ]);
        let expected = "    \
    MTI  message type                         0100
      2  primary account number               476173******0119
      4  amount, transaction                  000000004250
     35  track 2 data                         [37 hidden]
     52  personal identification number data  [8 hidden]
  55.5A  application PAN                      476173******0119
55.9F26  application cryptogram               A1B2C3D4E5F60708
55.DF01  unknown tag                          [2 hidden]
     63  private usages                       [48 hidden]
   90.1  message type                         0100
   90.2  trace number                         000123
   90.3  transmission date and time           1122123456
   90.4  acquiring institution                00000123456
   90.5  forwarding institution               00000000000
";
        assert_eq!(text, expected);
    }

    #[test]
    fn token_data_is_shown_by_its_parts() {
        let text = described(&[(63, b"TK0370119623529000000000001306040119990212SM003xyz")]);
        let expected = "  \
  MTI  message type      0100
63.TK.01  token             623529*********0013
63.TK.06  last four of PAN  0119
63.TK.99  unknown item      [2 hidden]
63.SM     unknown usage     [3 hidden]
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text), squeezed(expected));
    }

    #[test]
    fn a_pan_is_shown_nowhere() {
        let with_pan = |before: &[u8], after: &[u8]| [before, PAN, after].concat();
        let hostile: Vec<(u8, Vec<u8>)> = (2..=128)
            .map(|number| (number, with_pan(b"", b"")))
            .chain((2..=128).map(|number| (number, with_pan(b"TK02199", b""))))
            .chain((2..=128).map(|number| (number, with_pan(b"XY016", b""))))
            .chain([(54, with_pan(b"0001", b"")), (43, with_pan(b"SHOP ", b"           CITY      DE"))])
            .chain([(55, hex::decode("57084761739001010119").unwrap())])
            .chain([(55, hex::decode("9F0306476173900101").unwrap())])
            .collect();
        for (number, value) in hostile {
            let text = described(&[(number, &value)]);
            let digits = std::str::from_utf8(PAN).unwrap();
            assert!(!text.contains(digits), "{number}: {text}");
            assert!(!text.contains(&hex::encode(PAN)), "{number}: {text}");
        }
    }
}
