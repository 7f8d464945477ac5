//! One element of a dialect's file, and the `[wire]` table behind it, to `FieldSpec`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::attribute::{Attribute, Class, Extent};
use super::bitmap::DataElement;
use super::dialect::{BitmapForm, FieldSpec, Plan, Sensitive};
use super::encoding::Encoding;
use super::error::SpecError;
use super::layout::{Layout, PartSpec, UsageSpec, length_of};
use super::length::{LengthEncoding, LengthPrefix};
use super::padding::Padding;

/// A file's name and text, to place faults in.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn fault(
        self,
        span: Option<std::ops::Range<usize>>,
        key: &str,
        reason: impl Into<String>,
    ) -> SpecError {
        let line = span.map_or(0, |span| {
            let before = self.text.get(..span.start).unwrap_or_default();
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        SpecError { file: self.file.to_owned(), line, key: key.to_owned(), reason: reason.into() }
    }

    pub(super) fn parse<T: for<'de> Deserialize<'de>>(self) -> Result<T, SpecError> {
        toml::from_str(self.text).map_err(|error| self.fault(error.span(), "file", error.message()))
    }
}

/// A value with the place it was written at.
pub(super) struct Written<'a, T> {
    pub(super) source: Source<'a>,
    pub(super) value: &'a Spanned<T>,
}

impl<'a, T> Written<'a, T> {
    pub(super) fn fault(&self, key: &str, reason: impl Into<String>) -> SpecError {
        self.source.fault(Some(self.value.span()), key, reason)
    }

    pub(super) fn get(&self) -> &'a T {
        self.value.get_ref()
    }
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Element {
    name: String,
    kind: Spanned<String>,
    length: Option<Spanned<String>>,
    least: Option<u16>,
    encoding: Option<Spanned<String>>,
    lengths: Option<Spanned<String>>,
    padding: Option<Spanned<String>>,
    sensitive: Option<Spanned<String>>,
    parts: Option<Vec<PartFile>>,
    groups: Option<Vec<PartFile>>,
    usages: Option<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    tlv: bool,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct PartFile {
    name: String,
    kind: Spanned<String>,
    sensitive: Option<Spanned<String>>,
}

/// The `[wire]` table: the three axes, where an element says nothing else.
pub(super) struct Wire {
    pub(super) mti: Encoding,
    pub(super) bitmap: BitmapForm,
    pub(super) digits: Encoding,
    pub(super) text: Encoding,
    pub(super) bytes: Encoding,
    pub(super) lengths: LengthEncoding,
    pub(super) padding: Padding,
}

impl Wire {
    pub(super) const KEYS: [&'static str; 7] =
        ["mti", "bitmap", "digits", "text", "bytes", "lengths", "padding"];
}

/// One element of a file, being read.
pub(super) struct ElementReader<'a> {
    pub(super) path: String,
    pub(super) source: Source<'a>,
    pub(super) element: &'a Element,
    pub(super) wire: &'a Wire,
}

impl ElementReader<'_> {
    fn fault<T>(&self, value: &Spanned<T>, key: &str, reason: impl Into<String>) -> SpecError {
        self.source.fault(Some(value.span()), &format!("{}.{key}", self.path), reason)
    }

    pub(super) fn field(&self, element: DataElement, faults: &mut Vec<SpecError>) -> Option<FieldSpec> {
        let file = self.element;
        let attribute = self.attribute(&file.kind, "kind", faults)?;
        let padding = match &file.padding {
            None => Some(self.wire.padding),
            Some(name) => self.word(name, "padding", faults, Padding::from_name),
        };
        let default = match attribute.class {
            Class::Numeric | Class::Track | Class::SignedNumeric => self.wire.digits,
            Class::Alphabetic | Class::Alphanumeric | Class::Text => self.wire.text,
            Class::Binary => self.wire.bytes,
        };
        let encoding = match &file.encoding {
            None => Some(default),
            Some(name) => self.word(name, "encoding", faults, |name| {
                encoding(name, self.wire.padding).filter(|encoding| encoding.suits(attribute.class))
            }),
        };
        let encoding = match (encoding?, padding?) {
            (Encoding::Bcd(_), padding) => Encoding::Bcd(padding),
            (other, _) => other,
        };
        let prefix = self.prefix(attribute, faults)?;
        let layout = self.layout(attribute, faults)?;
        let sensitive = self.sensitive(file.sensitive.as_ref(), "sensitive", faults)?;
        let most = attribute.most();
        let least = match attribute.extent {
            Extent::Fixed(length) => length,
            Extent::UpTo(_) => file.least.unwrap_or(1),
        };
        if least > most {
            faults.push(self.fault(&file.kind, "least", "more than the most"));
        }
        let has_layout = layout.needs_check(attribute.class);
        let plan = Plan::new(attribute, encoding, prefix, least, has_layout);
        Some(FieldSpec { element, name: file.name.clone(), attribute, sensitive, layout, plan })
    }

    fn word<T>(
        &self,
        value: &Spanned<String>,
        key: &str,
        faults: &mut Vec<SpecError>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let word = read(value.get_ref());
        if word.is_none() {
            faults.push(self.fault(value, key, format!("`{}` is not known here", value.get_ref())));
        }
        word
    }

    fn attribute(&self, kind: &Spanned<String>, key: &str, faults: &mut Vec<SpecError>) -> Option<Attribute> {
        Attribute::parse(kind.get_ref()).map_err(|reason| faults.push(self.fault(kind, key, reason))).ok()
    }

    fn sensitive(
        &self,
        mark: Option<&Spanned<String>>,
        key: &str,
        faults: &mut Vec<SpecError>,
    ) -> Option<Sensitive> {
        mark.map_or(Some(Sensitive::No), |mark| self.word(mark, key, faults, sensitive))
    }

    /// `Some(None)` for a value of fixed length.
    fn prefix(&self, attribute: Attribute, faults: &mut Vec<SpecError>) -> Option<Option<LengthPrefix>> {
        let file = self.element;
        let most = match (attribute.extent, &file.length) {
            (Extent::Fixed(_), None) => return Some(None),
            (Extent::Fixed(_), Some(length)) => {
                faults.push(self.fault(length, "length", "the length does not vary"));
                return None;
            }
            (Extent::UpTo(most), _) => most,
        };
        let digits = match &file.length {
            None if most <= 99 => 2,
            None if most <= 999 => 3,
            None => 4,
            Some(written) => self.word(written, "length", faults, |text| {
                let count = u8::try_from(text.len()).ok()?;
                text.bytes().all(|byte| byte == b'L').then_some(count)
            })?,
        };
        let lengths = match &file.lengths {
            None => self.wire.lengths,
            Some(written) => self.word(written, "lengths", faults, length_encoding)?,
        };
        let prefix = LengthPrefix::new(digits, lengths).filter(|prefix| usize::from(most) <= prefix.most());
        if prefix.is_none() {
            faults.push(self.fault(&file.kind, "length", format!("{digits} digits do not announce {most}")));
        }
        prefix.map(Some)
    }

    fn layout(&self, attribute: Attribute, faults: &mut Vec<SpecError>) -> Option<Layout> {
        let file = self.element;
        let layouts = [file.parts.is_some(), file.groups.is_some(), file.usages.is_some(), file.tlv];
        if layouts.iter().filter(|given| **given).count() > 1 {
            faults.push(self.fault(&file.kind, "kind", "one of parts, groups, usages and tlv at most"));
            return None;
        }
        if file.tlv {
            if attribute.class != Class::Binary {
                faults.push(self.fault(&file.kind, "tlv", "only bytes (class b) hold BER-TLV"));
            }
            return Some(Layout::Tlv);
        }
        if let Some(usages) = &file.usages {
            return self.usages(usages, faults).map(Layout::Usages);
        }
        if let Some(parts) = &file.parts {
            let parts = self.parts("parts", parts, faults)?;
            if attribute.extent != Extent::Fixed(u16::try_from(length_of(&parts)).unwrap_or(u16::MAX)) {
                faults.push(self.fault(&file.kind, "parts", "together not as long as the element"));
            }
            return Some(Layout::Parts(parts));
        }
        if let Some(groups) = &file.groups {
            return self.parts("groups", groups, faults).map(Layout::Groups);
        }
        Some(Layout::Plain)
    }

    fn parts(&self, key: &str, parts: &[PartFile], faults: &mut Vec<SpecError>) -> Option<Vec<PartSpec>> {
        let mut specs = Vec::new();
        for part in parts {
            let attribute = self.attribute(&part.kind, key, faults)?;
            if matches!(attribute.extent, Extent::UpTo(_)) {
                faults.push(self.fault(&part.kind, key, "a part's length does not vary"));
            }
            let sensitive = self.sensitive(part.sensitive.as_ref(), key, faults)?;
            specs.push(PartSpec { name: part.name.clone(), attribute, sensitive });
        }
        Some(specs)
    }

    fn usages(
        &self,
        usages: &BTreeMap<String, Spanned<String>>,
        faults: &mut Vec<SpecError>,
    ) -> Option<Vec<UsageSpec>> {
        let mut specs = Vec::new();
        for (id, name) in usages {
            let Ok(id) = <[u8; 2]>::try_from(id.as_bytes()) else {
                faults.push(self.fault(name, "usages", format!("`{id}` is not two characters")));
                return None;
            };
            specs.push(UsageSpec { id, name: name.get_ref().clone() });
        }
        Some(specs)
    }
}

/// What the switch reads by name has to be what ISO 8583:1987 says it is; and what is secret has to be marked so.
const FORMS: [(u8, &str, Sensitive); 24] = [
    (2, "n..19", Sensitive::Pan),
    (3, "n 6", Sensitive::No),
    (4, "n 12", Sensitive::No),
    (7, "n 10", Sensitive::No),
    (11, "n 6", Sensitive::No),
    (12, "n 6", Sensitive::No),
    (13, "n 4", Sensitive::No),
    (14, "n 4", Sensitive::No),
    (15, "n 4", Sensitive::No),
    (18, "n 4", Sensitive::No),
    (22, "n 3", Sensitive::No),
    (23, "n 3", Sensitive::No),
    (32, "n..11", Sensitive::No),
    (33, "n..11", Sensitive::No),
    (35, "z..37", Sensitive::Secret),
    (36, "z..104", Sensitive::Secret),
    (37, "an 12", Sensitive::No),
    (38, "an 6", Sensitive::No),
    (41, "ans 8", Sensitive::No),
    (42, "ans 15", Sensitive::No),
    (45, "ans..76", Sensitive::Secret),
    (52, "b 64", Sensitive::Secret),
    (70, "n 3", Sensitive::No),
    (90, "n 42", Sensitive::No),
];

pub(super) fn check_forms(
    fields: &[FieldSpec],
    faults: &mut Vec<SpecError>,
    missing: impl Fn() -> SpecError,
) {
    for (number, kind, sensitive) in FORMS {
        let found = fields.iter().find(|field| field.element.number() == number);
        let reason = match found {
            None => format!("{number} is missing"),
            Some(field) if Attribute::parse(kind) != Ok(field.attribute) => {
                format!("{number} is `{kind}` in ISO 8583:1987, and the switch reads it so")
            }
            Some(field) if sensitive != Sensitive::No && field.sensitive != sensitive => {
                format!("{number} has to be marked as sensitive")
            }
            Some(_) => continue,
        };
        faults.push(SpecError { reason, ..missing() });
    }
}

pub(super) fn encoding(name: &str, padding: Padding) -> Option<Encoding> {
    match name {
        "ascii" => Some(Encoding::Ascii),
        "ebcdic" => Some(Encoding::Ebcdic),
        "bcd" => Some(Encoding::Bcd(padding)),
        "binary" => Some(Encoding::Raw),
        "hex" => Some(Encoding::Hex),
        _ => None,
    }
}

pub(super) fn length_encoding(name: &str) -> Option<LengthEncoding> {
    match name {
        "ascii" => Some(LengthEncoding::Ascii),
        "ebcdic" => Some(LengthEncoding::Ebcdic),
        "bcd" => Some(LengthEncoding::Bcd),
        "binary" => Some(LengthEncoding::Binary),
        _ => None,
    }
}

pub(super) fn sensitive(name: &str) -> Option<Sensitive> {
    match name {
        "pan" => Some(Sensitive::Pan),
        "secret" => Some(Sensitive::Secret),
        _ => None,
    }
}
