//! `iso8583-spec/*.toml` to `Dialect`. Every fault is told, with file, line and key; what the standard forbids, or
//! the switch cannot work with, is a fault too.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::attribute::Class;
use super::bitmap::{Bitmap, DataElement};
use super::dialect::{BitmapForm, Dialect, FieldSpec, Parts, Sensitive, StandInReason, TagSpec};
use super::error::SpecError;
use super::layout::Layout;
use super::padding::Padding;
use super::response_codes::ResponseCodes;
use super::spec_element::{
    Element, ElementReader, Source, Wire, Written, check_forms, encoding, length_encoding, sensitive,
};
use super::tlv::Tag;
use super::token_data::TokenPart;
use super::token_places::{Inside, TokenPlace, TokenPlaces};
use super::token_request::TokenRequestPlaces;
use crate::vocab::{MessageVersion, Outcome, ProcessingCode, Refusal, ResponseCode, TransactionKind};

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
    token_request: Option<TokenRequest>,
    stand_in: Option<StandIn>,
    response_codes: Option<Codes>,
    answers: Option<Answers>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    processing: Spanned<String>,
    usage: Spanned<String>,
    step_up: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandIn {
    element: Spanned<u8>,
    reason: Spanned<String>,
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
            token_request: self.token_request(&fields, faults),
            stand_in: self.stand_in(&fields, faults),
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
        let text = |name: &str| encoding(name, padding_of).filter(|e| e.suits(Class::Text));
        let bytes = |name: &str| encoding(name, padding_of).filter(|e| e.suits(Class::Binary));
        let form = |name: &str| match name {
            "binary" => Some(BitmapForm::Binary),
            "hex" => Some(BitmapForm::Hex),
            _ => None,
        };
        // All are read before one that is missing ends it, so that every fault is told.
        let mti = self.wire_word("mti", faults, digits);
        let bitmap = self.wire_word("bitmap", faults, form);
        let digits = self.wire_word("digits", faults, digits);
        let text = self.wire_word("text", faults, text);
        let bytes = self.wire_word("bytes", faults, bytes);
        let lengths = self.wire_word("lengths", faults, length_encoding);
        Some(Wire {
            mti: mti?,
            bitmap: bitmap?,
            digits: digits?,
            text: text?,
            bytes: bytes?,
            lengths: lengths?,
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
                    fields.extend(reader.field(element, faults));
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

    /// A dialect may be without it.
    fn token_request(&self, fields: &[FieldSpec], faults: &mut Vec<SpecError>) -> Option<TokenRequestPlaces> {
        let (source, table) = self.first(|file| file.token_request.as_ref())?;
        let mut fault = |span, key: &str, reason| {
            faults.push(source.fault(Some(span), &format!("token_request.{key}"), reason));
        };
        let processing = ProcessingCode::parse(table.processing.get_ref().as_bytes()).ok();
        let processing = processing.filter(|code| code.kind() == TransactionKind::Inquiry);
        if processing.is_none() {
            fault(table.processing.span(), "processing", "an inquiry has six digits that begin with 3");
        }
        let step_up = code(table.step_up.get_ref());
        if step_up.is_none() {
            fault(table.step_up.span(), "step_up", NO_CODE);
        }
        let place = table.usage.get_ref().split_once('.').and_then(|(number, usage)| {
            let element = number.parse().ok().and_then(DataElement::new)?;
            let field = fields.iter().find(|field| field.element == element)?;
            let usage: [u8; 2] = usage.as_bytes().try_into().ok()?;
            matches!(field.layout, Layout::Usages(_)).then_some((element, usage))
        });
        if place.is_none() {
            fault(table.usage.span(), "usage", "a place is a usage of an element that has such, as `63.TR`");
        }
        let (element, usage) = place?;
        Some(TokenRequestPlaces { processing: processing?, step_up: step_up?, element, usage })
    }

    /// A dialect may be without it.
    fn stand_in(&self, fields: &[FieldSpec], faults: &mut Vec<SpecError>) -> Option<StandInReason> {
        let (source, table) = self.first(|file| file.stand_in.as_ref())?;
        let element = DataElement::new(*table.element.get_ref());
        let field = element.and_then(|element| fields.iter().find(|field| field.element == element));
        let value = table.reason.get_ref().as_bytes();
        let Some(field) = field else {
            let reason = "no element of the dialect";
            faults.push(source.fault(Some(table.element.span()), "stand_in.element", reason));
            return None;
        };
        if !field.attribute.admits(value) {
            let reason = "not what the element's kind admits";
            faults.push(source.fault(Some(table.reason.span()), "stand_in.reason", reason));
        }
        Some(StandInReason { element: field.element, value: value.into() })
    }

    fn codes(&self, faults: &mut Vec<SpecError>) -> Option<ResponseCodes> {
        let Some((source, table)) = self.first(|file| file.response_codes.as_ref()) else {
            faults.push(self.missing("response_codes"));
            return None;
        };
        let mut fault = |span, key: &str, reason: &str| {
            faults.push(source.fault(Some(span), &format!("response_codes.{key}"), reason));
        };
        let mut outcomes = Vec::new();
        for (text, meaning) in &table.inbound {
            match (code(text), outcome(meaning.get_ref())) {
                (Some(code), Some(outcome)) => outcomes.push((code, outcome)),
                (None, _) => fault(meaning.span(), &format!("inbound.{text}"), NO_CODE),
                (_, None) => fault(meaning.span(), &format!("inbound.{text}"), NO_OUTCOME),
            }
        }
        let mut refusals = Vec::new();
        for (name, text) in &table.outward {
            match (Refusal::from_name(name), code(text.get_ref())) {
                (Some(refusal), Some(code)) => refusals.push((refusal, code)),
                (None, _) => fault(text.span(), &format!("outward.{name}"), "no such refusal"),
                (_, None) => fault(text.span(), &format!("outward.{name}"), NO_CODE),
            }
        }
        let approved = code(table.approved.get_ref());
        match approved.filter(|code| outcomes.contains(&(*code, Outcome::Approved))) {
            Some(approved) => Some(ResponseCodes::new(approved, outcomes, &refusals)),
            None => {
                fault(table.approved.span(), "approved", "not among the inbound codes as approved");
                None
            }
        }
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

const NO_CODE: &str = "a response code has two or three printable characters";
const NO_OUTCOME: &str = "an outcome is approved, approved-partly, declined, retry-later or unknown";

fn code(text: &str) -> Option<ResponseCode> {
    ResponseCode::parse(text.as_bytes()).ok().filter(|code| code.as_bytes().len() >= 2)
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
    use crate::vocab::MessageClass;

    #[test]
    fn every_shipped_dialect_is_whole() {
        for (name, text) in shipped_dialects() {
            let dialect = Dialect::from_toml(name, text).unwrap_or_else(|faults| panic!("{faults:#?}"));
            assert_eq!(dialect.name(), *name);
            assert_eq!(dialect.fields().len(), 127, "all elements from 2 to 128");
            assert!(dialect.answer_elements().has(DataElement::RESPONSE_CODE));
            assert!(!dialect.answer_elements().has(DataElement::PAN));
            assert!(dialect.echoes(MessageClass::Authorization).has(DataElement::PAN));
            assert!(!dialect.echoes(MessageClass::Authorization).has(DataElement::TRACK_2));
            assert!(!dialect.echoes(MessageClass::NetworkManagement).has(DataElement::PAN));
            let code = |text: &str| ResponseCode::parse(text.as_bytes()).unwrap();
            assert_eq!(dialect.outcome(dialect.approved()), Some(Outcome::Approved));
            assert_eq!(dialect.outcome(code("10")), Some(Outcome::ApprovedPartly));
            assert_eq!(dialect.outcome(code("Z3")), None);
            assert_eq!(dialect.response_code(Refusal::FormatError), code("30"));
        }
    }

    /// The faults of a dialect that differs from the shipped one as `text` says.
    fn faults(text: &str) -> Vec<String> {
        let text = format!("name = \"own\"\nbase = \"iso87-ascii\"\n{text}");
        match Dialect::from_toml("own.toml", &text) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_dialect_may_say_only_what_differs() {
        let text = "name = \"own\"\nbase = \"iso87-bcd\"\n[elements]\n63 = { name = \"own\", kind = \"ans..99\", usages = { TK = \"t\" } }";
        let dialect = Dialect::from_toml("own.toml", text).unwrap();
        assert_eq!(dialect.name(), "own");
        assert_eq!(dialect.field(DataElement::TOKEN_DATA).unwrap().attribute.most(), 99);
        assert_eq!(dialect.bitmap_form(), BitmapForm::Binary);
        assert!(faults("").is_empty());
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        for (text, fault) in [
            ("[wire]\nbitmap = \"octal\"", "own.toml:4: wire.bitmap: `octal` is not known here"),
            ("[wire]\ntext = \"bcd\"", "own.toml:4: wire.text: `bcd` is not known here"),
            ("edition = \"1986\"", "own.toml:3: edition: there are 1987, 1993 and 2003"),
            ("[elements]\n1 = { name = \"x\", kind = \"b 64\" }", "an element is a number from 2 to 128"),
            (
                "[elements]\n48 = { name = \"x\", kind = \"n4\" }",
                "own.toml:4: elements.48.kind: `n4` has no length",
            ),
            (
                "[elements]\n48 = { name = \"x\", kind = \"n 4\", length = \"LL\" }",
                "the length does not vary",
            ),
            (
                "[elements]\n48 = { name = \"x\", kind = \"n..120\", length = \"LL\" }",
                "2 digits do not announce 120",
            ),
            (
                "[elements]\n48 = { name = \"x\", kind = \"ans..9\", tlv = true }",
                "only bytes (class b) hold BER-TLV",
            ),
            (
                "[elements]\n48 = { name = \"x\", kind = \"ans..9\", encoding = \"hex\" }",
                "elements.48.encoding",
            ),
            ("[elements]\n11 = { name = \"x\", kind = \"n 8\" }", "11 is `n 6` in ISO 8583:1987"),
            ("[elements]\n52 = { name = \"x\", kind = \"b 64\" }", "52 has to be marked as sensitive"),
            (
                "[elements]\n90 = { name = \"x\", kind = \"n 42\", parts = [{ name = \"y\", kind = \"n 4\" }] }",
                "together not as long",
            ),
            ("[token]\ntoken = \"62.TK.01\"", "own.toml:4: token.token: a place is"),
            ("[token]\nowner = \"56\"", "token.owner: no such part"),
            (
                "[response_codes]\napproved = \"00\"\n[response_codes.inbound]\n00 = \"fine\"",
                "inbound.00: an outcome is",
            ),
            (
                "[response_codes]\napproved = \"00\"\n[response_codes.inbound]\n01 = \"declined\"",
                "approved: not among",
            ),
            (
                "[answers]\necho = [2]\necho_network = [7]\nfrom_issuer = [39, 35]",
                "35 is secret and may not go back",
            ),
            (
                "[answers]\necho = [1]\necho_network = [7]\nfrom_issuer = [39]",
                "1 is no element of the dialect",
            ),
            ("[stand_in]\nelement = 1\nreason = \"x\"", "stand_in.element: no element of the dialect"),
            (
                "[stand_in]\nelement = 39\nreason = \"stand-in\"",
                "stand_in.reason: not what the element's kind admits",
            ),
            ("surprise = 1", "own.toml:3: file: unknown field"),
        ] {
            let found = faults(text);
            assert!(found.iter().any(|found| found.contains(fault)), "{text}: {found:#?}");
        }
        let both = faults("[wire]\nbitmap = \"octal\"\n[token]\nowner = \"56\"");
        assert!(!both.is_empty());
        let unknown = Dialect::from_toml("own.toml", "name = \"own\"\nbase = \"iso90\"").unwrap_err();
        assert_eq!(unknown[0].to_string(), "own.toml:2: base: no dialect that comes with the program");
        let empty = Dialect::from_toml("own.toml", "name = \"own\"").unwrap_err();
        assert!(empty.len() >= 7, "all that is missing is told: {empty:#?}");
    }
}
