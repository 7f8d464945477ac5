//! `Dialect`: one specification, validated and compiled to flat tables. No files, no serde.

use std::hash::BuildHasher;

use super::attribute::{Attribute, Class, Extent};
use super::bitmap::{Bitmap, DataElement};
use super::encoding::Encoding;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, Part};
use super::layout::Layout;
use super::length::{LengthEncoding, LengthPrefix};
use super::message::Message;
use super::padding::Padding;
use super::reader::Reader;
use super::response_codes::ResponseCodes;
use super::tlv::Tag;
use super::token_data::TokenData;
use super::token_places::TokenPlaces;
use super::token_request::TokenRequestPlaces;
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
    pub(super) lies: Lies,
    /// Whether it can be looked at together with a value before it that lies alike.
    pub(super) joins: bool,
    /// Whether it joins and is always `width` bytes, with nothing else to look at.
    pub(super) flows: bool,
    pub(super) width: u16,
}

/// How a value's characters lie in a frame, as far as the quick way of reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// As they are.
    Plain,
    /// Two digits a byte; a half byte left over stands before them.
    Packed,
    Otherwise,
}

impl Lies {
    /// How many bytes hold so many characters.
    #[inline]
    pub(super) fn wire_length(self, count: usize) -> usize {
        if self == Self::Packed { count.div_ceil(2) } else { count }
    }

    /// Whether so many characters fill their bytes, and can be written together with others.
    #[inline]
    pub(super) fn is_whole(self, count: usize) -> bool {
        match self {
            Self::Plain => true,
            Self::Packed => count.is_multiple_of(2),
            Self::Otherwise => false,
        }
    }
}

impl Plan {
    pub(super) fn new(
        Attribute { class, extent }: Attribute,
        encoding: Encoding,
        prefix: Option<LengthPrefix>,
        least: u16,
        has_layout: bool,
    ) -> Self {
        let lies = match encoding {
            Encoding::Ascii | Encoding::Raw => Lies::Plain,
            Encoding::Bcd(Padding::LeftZero) if class != Class::SignedNumeric && !has_layout => Lies::Packed,
            Encoding::Bcd(_) | Encoding::Ebcdic | Encoding::Hex => Lies::Otherwise,
        };
        // A length in between is made of characters of these classes, if it lies as the values do.
        let is_uniform = matches!(class, Class::Numeric | Class::Track | Class::Text);
        let is_alike = prefix.is_none_or(|prefix| match lies {
            Lies::Plain => prefix.encoding() == LengthEncoding::Ascii,
            Lies::Packed => prefix.encoding() == LengthEncoding::Bcd,
            Lies::Otherwise => false,
        });
        let (least, most) = match extent {
            Extent::Fixed(length) => (length, length),
            Extent::UpTo(most) => (least, most),
        };
        let joins = is_uniform && is_alike;
        let flows = joins && prefix.is_none() && !has_layout && lies.is_whole(usize::from(most));
        let width = u16::try_from(lies.wire_length(usize::from(most))).unwrap_or(most);
        Self { class, encoding, prefix, least, most, has_layout, lies, joins, flows, width }
    }

    /// Reads the length before the value, if there is one.
    ///
    /// # Errors
    /// As `LengthPrefix::read`, or `Length`.
    #[inline]
    pub(super) fn read_length(&self, reader: &mut Reader<'_>) -> Result<usize, DecodeErrorKind> {
        let (least, most) = (usize::from(self.least), usize::from(self.most));
        let Some(prefix) = self.prefix else { return Ok(most) };
        let length = prefix.read(reader)?;
        if length < least || length > most {
            return Err(DecodeErrorKind::Length { length, least, most });
        }
        Ok(length)
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

/// How an advice says that its payment was approved in the issuer's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandInReason {
    pub element: DataElement,
    pub value: Box<[u8]>,
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
    pub(super) token_request: Option<TokenRequestPlaces>,
    pub(super) stand_in: Option<StandInReason>,
    pub(super) codes: ResponseCodes,
    pub(super) echo: Bitmap,
    pub(super) echo_network: Bitmap,
    pub(super) from_issuer: Bitmap,
}

/// One dialect of ISO 8583, ready for use. Share it by `Arc`.
pub struct Dialect {
    parts: Parts,
    plans: [Option<Plan>; DataElement::MOST as usize],
    elements: Bitmap,
    /// Where among the fields each element stands, if it does.
    places: [u8; DataElement::MOST as usize],
    /// Whether no value has to be expanded, so that a copy of the frame holds them all.
    canonical: bool,
    /// The same number for dialects that ask the same of every element's value, however it lies in bytes.
    forms: u64,
    /// The same number for dialects that write every element alike, too.
    wire: u64,
}

impl Dialect {
    pub(super) fn new(mut parts: Parts) -> Self {
        parts.fields.sort_by_key(|field| field.element);
        parts.tags.sort_by_key(|spec| spec.tag);
        let mut plans = [None; DataElement::MOST as usize];
        let mut places = [0; DataElement::MOST as usize];
        for (number, field) in (0_u8..).zip(&parts.fields) {
            let index = field.element.index();
            if let (Some(plan), Some(place)) = (plans.get_mut(index), places.get_mut(index)) {
                (*plan, *place) = (Some(field.plan), number);
            }
        }
        let elements = parts.fields.iter().map(|field| field.element).collect();
        let canonical = parts.fields.iter().all(|field| field.plan.encoding.is_canonical());
        let forms = number_of(&parts.fields, |field| {
            let plan = &field.plan;
            format!("{} {:?} {} {} {:?}", field.element, plan.class, plan.least, plan.most, field.layout)
        });
        let wire = number_of(&parts.fields, |field| format!("{} {:?}", field.element, field.plan));
        Self { parts, plans, elements, places, canonical, forms, wire }
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
        let place = self.places.get(element.index())?;
        self.parts.fields.get(usize::from(*place)).filter(|field| field.element == element)
    }

    /// All elements, in order.
    #[must_use]
    pub fn fields(&self) -> &[FieldSpec] {
        &self.parts.fields
    }

    /// The elements that it has.
    #[must_use]
    pub fn elements(&self) -> Bitmap {
        self.elements
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

    /// How an issuer is asked whether a card may have a token; none where the dialect cannot.
    #[must_use]
    pub fn token_request(&self) -> Option<&TokenRequestPlaces> {
        self.parts.token_request.as_ref()
    }

    /// How an advice says that its payment was approved in the issuer's place; none where the dialect does not.
    #[must_use]
    pub fn stand_in(&self) -> Option<&StandInReason> {
        self.parts.stand_in.as_ref()
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
    pub(super) fn plan(&self, element: DataElement) -> Option<&Plan> {
        self.plans.get(element.index()).and_then(Option::as_ref)
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

    /// How the elements lie in bytes, as one number: what was read by a dialect of the same number can be written as it
    /// came.
    pub(super) fn wire(&self) -> u64 {
        self.wire
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

/// One number for what is said of all fields.
fn number_of(fields: &[FieldSpec], said: impl Fn(&FieldSpec) -> String) -> u64 {
    Set::<u64>::default().hasher().hash_one(fields.iter().map(said).collect::<Vec<_>>())
}

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialect({})", self.parts.name)
    }
}
