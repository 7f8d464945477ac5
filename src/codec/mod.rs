//! Bytes and messages, driven by the dialects of `iso8583-spec/`. Never sees a socket.

mod attribute;
mod bitmap;
mod decode;
mod describe;
mod dialect;
mod elements;
mod encode;
mod encoding;
mod error;
mod frame;
mod icc;
mod layout;
mod leak_scan;
mod length;
mod message;
mod origin;
mod padding;
mod reader;
mod response_codes;
mod runs;
mod spec_element;
mod spec_file;
mod tlv;
mod token_data;
mod token_places;
mod token_request;
mod words;

pub use attribute::{Attribute, Class, Extent};
pub use bitmap::{Bitmap, DataElement};
pub use decode::{DecodeFailure, decode, decode_into};
pub use describe::{Description, Row, describe};
pub use dialect::{BitmapForm, Dialect, FieldSpec, Sensitive, StandInReason, TagSpec};
pub use elements::{OriginalData, same_institution};
pub use encode::encode;
pub use encoding::Encoding;
pub use error::{
    DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, FieldPath, FrameError, Part, SpecError,
    WriteError,
};
pub use frame::{FormatError, Frame, FrameFormat, FrameReader, LengthHeader, MOST_FRAME, MOST_HEADER, TPDU};
pub use icc::{CARD_TAGS, IccData, icc_of, icc_only, icc_without};
pub use layout::{Layout, PartSpec, UsageSpec};
pub use leak_scan::{Leak, LeakClass, LeakScan};
pub use length::{LengthEncoding, LengthPrefix};
pub use message::{MOST_MESSAGE, MOST_VALUE, Message};
pub use padding::Padding;
pub use response_codes::ResponseCodes;
pub use spec_file::shipped_dialects;
pub use tlv::{MOST_DEPTH, MOST_ITEMS, Tag, Tlv, TlvFault, write_item};
pub use token_data::{TokenData, TokenPart};
pub use token_places::{Inside, TokenPlace, TokenPlaces};
pub use token_request::{TokenRequestData, TokenRequestPlaces};
