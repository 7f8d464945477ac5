//! `iso8583-spec/*.toml` to `Dialect`. Every fault is told, with file, line and key; what the standard forbids, or
//! the switch cannot work with, is a fault too.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::attribute::{Attribute, Class, Extent};
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect, FieldSpec, Parts, Plan, Sensitive, TagSpec};
use super::encoding::Encoding;
use super::error::SpecError;
use super::layout::{Layout, PartSpec, UsageSpec, length_of};
use super::length::{LengthEncoding, LengthPrefix};
use super::padding::Padding;
use super::response_codes::ResponseCodes;
use super::tlv::Tag;
use super::token_data::TokenPart;
use super::token_places::{Inside, TokenPlace, TokenPlaces};
use crate::vocab::{MessageVersion, Outcome, Refusal, ResponseCode};

/// The dialects that come with the program: name, and the text of its file.
static SHIPPED: [(&str, &str); 3] = [
    ("iso87-ascii", include_str!("../../iso8583-spec/iso87-ascii.toml")),
    ("iso87-ascii-binary-bitmap", include_str!("../../iso8583-spec/iso87-ascii-binary-bitmap.toml")),
    ("iso87-bcd", include_str!("../../iso8583-spec/iso87-bcd.toml")),
];

/// Names of EMV's tags, the same in every dialect.
static ICC_TAGS: (&str, &str) = ("icc-tags.toml", include_str!("../../iso8583-spec/icc-tags.toml"));

/// How many files may build on one another.
const MOST_BASES: usize = 4;

/// The dialects that come with the program, each with the text of its file.
#[must_use]
pub fn shipped_dialects() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
}

impl Dialect {
    /// Reads a dialect's file. `file` is its name, for faults. A file may name a shipped dialect as its `base` and
    /// then says only what differs.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, Vec<SpecError>> {
        let mut faults = Vec::new();
        let parts = read(file, text, &mut faults);
        match parts {
            Some(parts) if faults.is_empty() => Ok(Self::new(parts)),
            _ => Err(faults),
        }
    }

    /// A dialect that comes with the program.
    #[must_use]
    pub fn shipped(name: &str) -> Option<Self> {
        let (name, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        Self::from_toml(&format!("{name}.toml"), text).ok()
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    base: Option<Spanned<String>>,
    edition: Option<Spanned<String>>,
    #[serde(default)]
    wire: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    elements: BTreeMap<String, Spanned<Element>>,
    token: Option<BTreeMap<String, Spanned<String>>>,
    response_codes: Option<Codes>,
    answers: Option<Answers>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Element {
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
struct PartFile {
    name: String,
    kind: Spanned<String>,
    sensitive: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    approved: Spanned<String>,
    inbound: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    outward: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    echo: Spanned<Vec<u8>>,
    echo_network: Spanned<Vec<u8>>,
    from_issuer: Spanned<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagsFile {
    tags: BTreeMap<String, Spanned<TagFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagFile {
    name: String,
    #[serde(default)]
    packed: bool,
    sensitive: Option<Spanned<String>>,
}

/// A file's name and text, to place faults in.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn fault(self, span: Option<std::ops::Range<usize>>, key: &str, reason: impl Into<String>) -> SpecError {
        let line = span.map_or(0, |span| {
            let before = self.text.get(..span.start).unwrap_or_default();
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        SpecError { file: self.file.to_owned(), line, key: key.to_owned(), reason: reason.into() }
    }

    fn parse<T: for<'de> Deserialize<'de>>(self) -> Result<T, SpecError> {
        toml::from_str(self.text).map_err(|error| self.fault(error.span(), "file", error.message()))
    }
}

/// A value with the place it was written at.
struct Written<'a, T> {
    source: Source<'a>,
    value: &'a Spanned<T>,
}

impl<'a, T> Written<'a, T> {
    fn fault(&self, key: &str, reason: impl Into<String>) -> SpecError {
        self.source.fault(Some(self.value.span()), key, reason)
    }

    fn get(&self) -> &'a T {
        self.value.get_ref()
    }
}

fn read(file: &str, text: &str, faults: &mut Vec<SpecError>) -> Option<Parts> {
    let mut files = Vec::new();
    let mut source = Source { file, text };
    loop {
        let parsed: File = source.parse().map_err(|fault| faults.push(fault)).ok()?;
        let base = parsed.base.clone();
        files.push((source, parsed));
        let Some(base) = base else { break };
        let shipped = SHIPPED.iter().find(|(name, _)| name == base.get_ref());
        let Some((name, text)) = shipped.filter(|_| files.len() < MOST_BASES) else {
            faults.push(source.fault(Some(base.span()), "base", "no dialect that comes with the program"));
            return None;
        };
        source = Source { file: name, text };
    }
    let reader = SpecReader { files: &files };
    reader.parts(faults)
}

/// A file and those it builds on, itself first.
struct SpecReader<'a> {
    files: &'a [(Source<'a>, File)],
}

impl<'a> SpecReader<'a> {
    /// The first file that says it.
    fn first<T>(&self, get: impl Fn(&'a File) -> Option<&'a T>) -> Option<(Source<'a>, &'a T)> {
        self.files.iter().find_map(|(source, file)| get(file).map(|value| (*source, value)))
    }

    fn missing(&self, key: &str) -> SpecError {
        let source = self.files.first().map_or(Source { file: "", text: "" }, |(source, _)| *source);
        source.fault(None, key, "missing")
    }

    fn parts(&self, faults: &mut Vec<SpecError>) -> Option<Parts> {
        let version = self.edition(faults);
        let wire = self.wire(faults);
        let (version, wire) = (version?, wire?);
        let fields = self.fields(&wire, faults);
        check_forms(&fields, faults, || self.missing("elements"));
        Some(Parts {
            name: self.files.first().map(|(_, file)| file.name.clone()).unwrap_or_default(),
            version,
            mti: wire.mti,
            bitmap: wire.bitmap,
            tags: tags(faults),
            token: self.token(&fields, faults),
            codes: self.codes(faults)?,
            echo: self.answers("answers.echo", &fields, faults, |answers| &answers.echo),
            echo_network: self.answers("answers.echo_network", &fields, faults, |a| &a.echo_network),
            from_issuer: self.answers("answers.from_issuer", &fields, faults, |a| &a.from_issuer),
            fields,
        })
    }

    fn edition(&self, faults: &mut Vec<SpecError>) -> Option<MessageVersion> {
        let Some((source, value)) = self.first(|file| file.edition.as_ref()) else {
            faults.push(self.missing("edition"));
            return None;
        };
        let written = Written { source, value };
        let edition = match written.get().as_str() {
            "1987" => Some(MessageVersion::Iso1987),
            "1993" => Some(MessageVersion::Iso1993),
            "2003" => Some(MessageVersion::Iso2003),
            _ => None,
        };
        if edition.is_none() {
            faults.push(written.fault("edition", "there are 1987, 1993 and 2003"));
        }
        edition
    }

    fn wire(&self, faults: &mut Vec<SpecError>) -> Option<Wire> {
        for (source, file) in self.files {
            for (key, value) in &file.wire {
                if !Wire::KEYS.contains(&key.as_str()) {
                    let reason = format!("no such key: there are {}", Wire::KEYS.join(", "));
                    faults.push(source.fault(Some(value.span()), &format!("wire.{key}"), reason));
                }
            }
        }
        let padding = self.wire_word("padding", faults, Padding::from_name);
        let padding_of = padding.unwrap_or(Padding::LeftZero);
        let digits = |name: &str| encoding(name, padding_of).filter(|e| e.suits(Class::Numeric));
        Some(Wire {
            mti: self.wire_word("mti", faults, digits)?,
            bitmap: self.wire_word("bitmap", faults, |name| match name {
                "binary" => Some(BitmapForm::Binary),
                "hex" => Some(BitmapForm::Hex),
                _ => None,
            })?,
            digits: self.wire_word("digits", faults, digits)?,
            text: self.wire_word("text", faults, |name| {
                encoding(name, padding_of).filter(|e| e.suits(Class::Text))
            })?,
            bytes: self.wire_word("bytes", faults, |name| {
                encoding(name, padding_of).filter(|e| e.suits(Class::Binary))
            })?,
            lengths: self.wire_word("lengths", faults, length_encoding)?,
            padding: padding?,
        })
    }

    fn wire_word<T>(
        &self,
        key: &str,
        faults: &mut Vec<SpecError>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let path = format!("wire.{key}");
        let Some((source, value)) = self.first(|file| file.wire.get(key)) else {
            faults.push(self.missing(&path));
            return None;
        };
        let word = read(value.get_ref());
        if word.is_none() {
            faults.push(
                Written { source, value }.fault(&path, format!("`{}` is not known here", value.get_ref())),
            );
        }
        word
    }

    fn fields(&self, wire: &Wire, faults: &mut Vec<SpecError>) -> Vec<FieldSpec> {
        let mut elements: BTreeMap<&str, Written<'a, Element>> = BTreeMap::new();
        for (source, file) in self.files.iter().rev() {
            for (key, value) in &file.elements {
                elements.insert(key, Written { source: *source, value });
            }
        }
        let mut fields = Vec::new();
        for (key, written) in elements {
            let path = format!("elements.{key}");
            match key.parse().ok().and_then(DataElement::new) {
                Some(DataElement::SECONDARY_BITMAP) | None => {
                    faults.push(written.fault(&path, "an element is a number from 2 to 128"));
                }
                Some(element) => {
                    let reader = ElementReader { path, source: written.source, element: written.get(), wire };
                    match reader.field(element, faults) {
                        Some(field) => fields.push(field),
                        None if faults.is_empty() => {
                            faults.push(written.fault(&reader.path, "not understood"))
                        }
                        None => {}
                    }
                }
            }
        }
        fields
    }

    fn token(&self, fields: &[FieldSpec], faults: &mut Vec<SpecError>) -> TokenPlaces {
        let mut places = Vec::new();
        let Some((source, table)) = self.first(|file| file.token.as_ref()) else {
            faults.push(self.missing("token"));
            return TokenPlaces::default();
        };
        for (key, value) in table {
            let path = format!("token.{key}");
            let Some(part) = TokenPart::from_name(key) else {
                let names: Vec<_> = TokenPart::ALL.iter().map(|part| part.name()).collect();
                let reason = format!("no such part: there are {}", names.join(", "));
                faults.push(source.fault(Some(value.span()), &path, reason));
                continue;
            };
            let written = value.get_ref();
            let (number, inside) = match written.split_once('.') {
                Some((number, inside)) => (number, Some(inside)),
                None => (written.as_str(), None),
            };
            let element = number.parse().ok().and_then(DataElement::new);
            let field = fields.iter().find(|field| Some(field.element) == element);
            match (field, Inside::parse(inside)) {
                (Some(field), Some(inside))
                    if inside == Inside::Element || matches!(field.layout, Layout::Usages(_)) =>
                {
                    places.push(TokenPlace { part, element: field.element, inside });
                }
                _ => {
                    let reason =
                        "a place is an element, as `56`, or an item of one with usages, as `63.TK.01`";
                    faults.push(source.fault(Some(value.span()), &path, reason));
                }
            }
        }
        TokenPlaces::new(&places)
    }

    fn codes(&self, faults: &mut Vec<SpecError>) -> Option<ResponseCodes> {
        let Some((source, table)) = self.first(|file| file.response_codes.as_ref()) else {
            faults.push(self.missing("response_codes"));
            return None;
        };
        let mut code = |text: &str, span, key: &str| {
            let parsed = ResponseCode::parse(text.as_bytes()).ok().filter(|code| code.as_bytes().len() >= 2);
            if parsed.is_none() {
                faults.push(source.fault(Some(span), key, format!("`{text}` is no response code")));
            }
            parsed
        };
        let approved = code(table.approved.get_ref(), table.approved.span(), "response_codes.approved");
        let mut inbound = Vec::new();
        for (text, meaning) in &table.inbound {
            let key = format!("response_codes.inbound.{text}");
            let parsed = code(text, meaning.span(), &key);
            inbound.push((parsed, meaning, key));
        }
        let mut outward = Vec::new();
        for (name, text) in &table.outward {
            let key = format!("response_codes.outward.{name}");
            let parsed = code(text.get_ref(), text.span(), &key);
            outward.push((name, parsed, text.span(), key));
        }
        let mut outcomes = Vec::new();
        for (code, meaning, key) in inbound {
            match (code, outcome(meaning.get_ref())) {
                (Some(code), Some(outcome)) => outcomes.push((code, outcome)),
                (_, None) => {
                    let reason = "an outcome is approved, approved-partly, declined, retry-later or unknown"
                        .to_owned();
                    faults.push(source.fault(Some(meaning.span()), &key, reason));
                }
                (None, Some(_)) => {}
            }
        }
        let mut refusals = Vec::new();
        for (name, code, span, key) in outward {
            match (Refusal::from_name(name), code) {
                (Some(refusal), Some(code)) => refusals.push((refusal, code)),
                (None, _) => faults.push(source.fault(Some(span), &key, "no such refusal")),
                (Some(_), None) => {}
            }
        }
        let approved = approved?;
        if !outcomes.contains(&(approved, Outcome::Approved)) {
            let reason = "not among the inbound codes as approved";
            faults.push(source.fault(Some(table.approved.span()), "response_codes.approved", reason));
        }
        Some(ResponseCodes::new(approved, outcomes, &refusals))
    }

    fn answers(
        &self,
        key: &str,
        fields: &[FieldSpec],
        faults: &mut Vec<SpecError>,
        get: impl Fn(&'a Answers) -> &'a Spanned<Vec<u8>>,
    ) -> Bitmap {
        let Some((source, value)) =
            self.first(|file| file.answers.as_ref()).map(|(s, answers)| (s, get(answers)))
        else {
            faults.push(self.missing(key));
            return Bitmap::EMPTY;
        };
        let mut elements = Bitmap::EMPTY;
        for number in value.get_ref() {
            let element = DataElement::new(*number);
            match element.filter(|element| fields.iter().any(|field| field.element == *element)) {
                Some(element) => elements.insert(element),
                None => {
                    let reason = format!("{number} is no element of the dialect");
                    faults.push(source.fault(Some(value.span()), key, reason));
                }
            }
        }
        let secret: Bitmap =
            fields.iter().filter(|f| f.sensitive == Sensitive::Secret).map(|f| f.element).collect();
        let usages: Bitmap = fields
            .iter()
            .filter(|field| matches!(field.layout, Layout::Usages(_)))
            .map(|field| field.element)
            .collect();
        for element in elements.and(secret.without(usages)).iter() {
            let reason = format!("{element} is secret and may not go back");
            faults.push(source.fault(Some(value.span()), key, reason));
        }
        elements
    }
}

/// The `[wire]` table: the three axes, where an element says nothing else.
struct Wire {
    mti: Encoding,
    bitmap: BitmapForm,
    digits: Encoding,
    text: Encoding,
    bytes: Encoding,
    lengths: LengthEncoding,
    padding: Padding,
}

impl Wire {
    const KEYS: [&'static str; 7] = ["mti", "bitmap", "digits", "text", "bytes", "lengths", "padding"];
}

/// One element of a file, being read.
struct ElementReader<'a> {
    path: String,
    source: Source<'a>,
    element: &'a Element,
    wire: &'a Wire,
}

impl ElementReader<'_> {
    fn fault<T>(&self, value: &Spanned<T>, key: &str, reason: impl Into<String>) -> SpecError {
        self.source.fault(Some(value.span()), &format!("{}.{key}", self.path), reason)
    }

    fn field(&self, element: DataElement, faults: &mut Vec<SpecError>) -> Option<FieldSpec> {
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
        let plan =
            Plan { class: attribute.class, encoding, prefix, least, most, has_layout: !layout.is_plain() };
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

fn check_forms(fields: &[FieldSpec], faults: &mut Vec<SpecError>, missing: impl Fn() -> SpecError) {
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

fn tags(faults: &mut Vec<SpecError>) -> Vec<TagSpec> {
    let source = Source { file: ICC_TAGS.0, text: ICC_TAGS.1 };
    let file: TagsFile = match source.parse() {
        Ok(file) => file,
        Err(fault) => {
            faults.push(fault);
            return Vec::new();
        }
    };
    let mut specs = Vec::new();
    for (key, value) in &file.tags {
        let spec = value.get_ref();
        let tag = hex::decode(key).ok().and_then(|bytes| Tag::from_bytes(&bytes));
        let mark = spec.sensitive.as_ref().map_or(Some(Sensitive::No), |mark| sensitive(mark.get_ref()));
        match (tag, mark) {
            (Some(tag), Some(sensitive)) => {
                specs.push(TagSpec { tag, name: spec.name.clone(), packed: spec.packed, sensitive });
            }
            _ => faults.push(source.fault(Some(value.span()), &format!("tags.{key}"), "not understood")),
        }
    }
    specs
}

fn encoding(name: &str, padding: Padding) -> Option<Encoding> {
    match name {
        "ascii" => Some(Encoding::Ascii),
        "ebcdic" => Some(Encoding::Ebcdic),
        "bcd" => Some(Encoding::Bcd(padding)),
        "binary" => Some(Encoding::Raw),
        "hex" => Some(Encoding::Hex),
        _ => None,
    }
}

fn length_encoding(name: &str) -> Option<LengthEncoding> {
    match name {
        "ascii" => Some(LengthEncoding::Ascii),
        "ebcdic" => Some(LengthEncoding::Ebcdic),
        "bcd" => Some(LengthEncoding::Bcd),
        "binary" => Some(LengthEncoding::Binary),
        _ => None,
    }
}

fn sensitive(name: &str) -> Option<Sensitive> {
    match name {
        "pan" => Some(Sensitive::Pan),
        "secret" => Some(Sensitive::Secret),
        _ => None,
    }
}

fn outcome(name: &str) -> Option<Outcome> {
    match name {
        "approved" => Some(Outcome::Approved),
        "approved-partly" => Some(Outcome::ApprovedPartly),
        "declined" => Some(Outcome::Declined),
        "retry-later" => Some(Outcome::RetryLater),
        "unknown" => Some(Outcome::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_dialect_is_whole() {
        for (name, text) in shipped_dialects() {
            let dialect = Dialect::from_toml(name, text).unwrap_or_else(|faults| panic!("{faults:#?}"));
            assert_eq!(dialect.name(), *name);
            assert_eq!(dialect.fields().len(), 127, "all elements from 2 to 128");
        }
    }
}
