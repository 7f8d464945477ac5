//! `Dialect`: one specification, validated and compiled to flat tables. No files, no serde.

use std::hash::BuildHasher;

use super::attribute::{Attribute, Class};
use super::bitmap::{Bitmap, DataElement};
use super::encoding::Encoding;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, Part};
use super::layout::Layout;
use super::length::LengthPrefix;
use super::message::Message;
use super::response_codes::ResponseCodes;
use super::tlv::Tag;
use super::token_data::TokenData;
use super::token_places::TokenPlaces;
use crate::stdx::maps::Set;
use crate::vocab::{MessageClass, MessageVersion, Outcome, Refusal, ResponseCode};

/// How the bitmaps lie in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapForm {
    /// Eight bytes each.
    Binary,
    /// Sixteen hexadecimal characters each.
    Hex,
}

/// What `describe` may show of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensitive {
    /// All of it.
    No,
    /// An account number: first six and last four.
    Pan,
    /// Nothing but its length: tracks, PIN blocks, private elements that nobody has described.
    Secret,
}

/// All that decoding and encoding need of one element, small enough that a dialect's table stays in the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) class: Class,
    pub(super) encoding: Encoding,
    /// `None`: always `most` long.
    pub(super) prefix: Option<LengthPrefix>,
    pub(super) least: u16,
    pub(super) most: u16,
    /// Whether its layout asks for more than the class says.
    pub(super) has_layout: bool,
    pub(super) shortcut: Shortcut,
}

/// How a value can be read without looking at encodings: those whose bytes are the value, behind a length of ASCII
/// digits or none, and without a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortcut {
    None,
    Fixed,
    TwoDigits,
    ThreeDigits,
}

impl Plan {
    pub(super) fn with_shortcut(self) -> Self {
        let shortcut = match self.prefix.map(LengthPrefix::ascii_digits) {
            _ if self.has_layout || !self.encoding.is_canonical() => Shortcut::None,
            None => Shortcut::Fixed,
            Some(Some(2)) => Shortcut::TwoDigits,
            Some(Some(3)) => Shortcut::ThreeDigits,
            Some(_) => Shortcut::None,
        };
        Self { shortcut, ..self }
    }
}

/// One element of a dialect.
#[derive(Debug, Clone)]
pub struct FieldSpec {
    pub element: DataElement,
    /// As people call it.
    pub name: String,
    pub attribute: Attribute,
    pub sensitive: Sensitive,
    pub layout: Layout,
    pub(super) plan: Plan,
}

/// An EMV tag as people read it.
#[derive(Debug, Clone)]
pub struct TagSpec {
    pub tag: Tag,
    pub name: String,
    /// Whether it holds packed digits rather than bytes.
    pub packed: bool,
    pub sensitive: Sensitive,
}

/// What a specification says, read and checked.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) version: MessageVersion,
    pub(super) mti: Encoding,
    pub(super) bitmap: BitmapForm,
    pub(super) fields: Vec<FieldSpec>,
    pub(super) tags: Vec<TagSpec>,
    pub(super) token: TokenPlaces,
    pub(super) codes: ResponseCodes,
    pub(super) echo: Bitmap,
    pub(super) echo_network: Bitmap,
    pub(super) from_issuer: Bitmap,
}

/// One dialect of ISO 8583, ready for use. Share it by `Arc`.
pub struct Dialect {
    parts: Parts,
    plans: [Option<Plan>; DataElement::MOST as usize],
    /// Whether no value has to be expanded, so that a copy of the frame holds them all.
    canonical: bool,
    /// The same number for dialects that ask the same of every element's value, however it lies in bytes.
    forms: u64,
}

impl Dialect {
    pub(super) fn new(mut parts: Parts) -> Self {
        parts.fields.sort_by_key(|field| field.element);
        parts.tags.sort_by_key(|spec| spec.tag);
        let mut plans = [None; DataElement::MOST as usize];
        for field in &parts.fields {
            if let Some(place) = plans.get_mut(field.element.index()) {
                *place = Some(field.plan);
            }
        }
        let canonical = parts.fields.iter().all(|field| field.plan.encoding.is_canonical());
        let forms = parts.fields.iter().map(|field| {
            let plan = &field.plan;
            format!("{} {:?} {} {} {:?}", field.element, plan.class, plan.least, plan.most, field.layout)
        });
        let forms = Set::<u64>::default().hasher().hash_one(forms.collect::<Vec<_>>());
        Self { parts, plans, canonical, forms }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The edition whose message types it has.
    #[must_use]
    pub fn version(&self) -> MessageVersion {
        self.parts.version
    }

    /// The element's specification; `None` when the dialect has no such element.
    #[must_use]
    pub fn field(&self, element: DataElement) -> Option<&FieldSpec> {
        let at = self.parts.fields.binary_search_by_key(&element, |field| field.element).ok()?;
        self.parts.fields.get(at)
    }

    /// All elements, in order.
    #[must_use]
    pub fn fields(&self) -> &[FieldSpec] {
        &self.parts.fields
    }

    /// What is known of an EMV tag.
    #[must_use]
    pub fn tag(&self, tag: Tag) -> Option<&TagSpec> {
        let at = self.parts.tags.binary_search_by_key(&tag, |spec| spec.tag).ok()?;
        self.parts.tags.get(at)
    }

    /// Where token data sits.
    #[must_use]
    pub fn token_places(&self) -> &TokenPlaces {
        &self.parts.token
    }

    /// What the message says about its token.
    ///
    /// # Errors
    /// The first part that is not what it should be, or is there twice.
    pub fn token_data(&self, message: &Message) -> Result<TokenData, DecodeError> {
        self.parts.token.read(message)
    }

    /// Puts token data into the message, in the place of any that it has. Other usages of the same element stay.
    ///
    /// # Errors
    /// `NoPlace` for a part of which the dialect does not say where it goes, `Unreadable` when the element's
    /// other usages cannot be told apart, and as `Message::set`.
    pub fn set_token_data(&self, message: &mut Message, data: &TokenData) -> Result<(), EncodeError> {
        self.parts.token.write(message, data)
    }

    /// What a code that came in means; `None` when the dialect does not list it.
    #[must_use]
    pub fn outcome(&self, code: ResponseCode) -> Option<Outcome> {
        self.parts.codes.outcome(code)
    }

    /// The code that tells a refusal to the other side.
    #[must_use]
    pub fn response_code(&self, refusal: Refusal) -> ResponseCode {
        self.parts.codes.code(refusal)
    }

    /// The code that says yes.
    #[must_use]
    pub fn approved(&self) -> ResponseCode {
        self.parts.codes.approved()
    }

    /// The elements that an answer takes from its request.
    #[must_use]
    pub fn echoes(&self, class: MessageClass) -> Bitmap {
        if class == MessageClass::NetworkManagement { self.parts.echo_network } else { self.parts.echo }
    }

    /// The issuer's elements that may go back to the acquirer.
    #[must_use]
    pub fn answer_elements(&self) -> Bitmap {
        self.parts.from_issuer
    }

    #[inline]
    pub(super) fn plan(&self, element_index: usize) -> Option<&Plan> {
        self.plans.get(element_index).and_then(Option::as_ref)
    }

    pub(super) fn mti_encoding(&self) -> Encoding {
        self.parts.mti
    }

    pub(super) fn bitmap_form(&self) -> BitmapForm {
        self.parts.bitmap
    }

    /// What is asked of the elements' values, as one number: a value checked by a dialect of the same number need
    /// not be checked again.
    pub(super) fn forms(&self) -> u64 {
        self.forms
    }

    /// Whether a copy of the frame holds all values as they are.
    pub(super) fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// Holds a value against its element's layout: the part, how far into the value, and what is wrong.
    pub(super) fn check_layout(
        &self,
        element: DataElement,
        value: &[u8],
    ) -> Result<(), (Option<Part>, usize, DecodeErrorKind)> {
        self.field(element).map_or(Ok(()), |field| field.layout.check(value))
    }
}

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialect({})", self.parts.name)
    }
}
