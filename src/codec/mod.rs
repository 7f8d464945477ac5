//! Bytes and messages, driven by the dialects of `iso8583-spec/`. Never sees a socket.

mod attribute;
mod bitmap;
mod elements;
mod error;
mod frame;
mod icc;
mod message;
mod padding;
mod reader;
mod tlv;
mod token_data;

pub use attribute::{Attribute, Class, Extent};
pub use bitmap::{Bitmap, DataElement};
pub use elements::{OriginalData, same_institution};
pub use error::{
    DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, FieldPath, FrameError, Part, SpecError,
    WriteError,
};
pub use frame::{FormatError, Frame, FrameFormat, FrameReader, LengthHeader, MOST_FRAME, MOST_HEADER, TPDU};
pub use icc::{CARD_TAGS, IccData};
pub use message::{MOST_MESSAGE, MOST_VALUE, Message};
pub use padding::Padding;
pub use tlv::{MOST_DEPTH, MOST_ITEMS, Tag, Tlv, TlvFault};
pub use token_data::{TokenData, TokenPart};
