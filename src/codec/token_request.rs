//! `TokenRequestPlaces`: how one dialect asks an issuer whether a card may have a token, as its `[token_request]` table
//! says: a 0100 whose DE 4 is zero, with a usage that marks it (EMVCo 8.1 wants a Token Request Indicator).

use super::bitmap::DataElement;
use super::error::{DecodeError, EncodeError, EncodeErrorKind, FieldPath};
use super::layout::name_part;
use super::message::Message;
use super::token_data::{ITEM_DIGITS, USAGE_DIGITS, pieces, write_piece};
use crate::stdx::wipe::WipedBytes;
use crate::vocab::{
    Contact, ContactKind, Contacts, EnquiryId, PanSource, ProcessingCode, Recommendation, ResponseCode,
    RiskHints, Text, TrustScore, WordError, WordFault,
};

/// What such a message, or its answer, says in its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenRequestData {
    /// Set in the request: it is no payment.
    pub indicator: bool,
    pub enquiry: Option<EnquiryId>,
    /// The requestor's view; in the request.
    pub hints: RiskHints,
    /// How the issuer can reach the cardholder; in the answer.
    pub contacts: Contacts,
}

/// Where it stands in a dialect.
#[derive(Debug, Clone, Copy)]
pub struct TokenRequestPlaces {
    /// DE 3 of the request.
    pub processing: ProcessingCode,
    /// DE 39 of an issuer that says yes only once the cardholder has proven itself.
    pub step_up: ResponseCode,
    pub element: DataElement,
    pub usage: [u8; 2],
}

/// Items of the usage.
const INDICATOR: [u8; 2] = *b"01";
const RECOMMENDATION: [u8; 2] = *b"02";
const DEVICE_SCORE: [u8; 2] = *b"03";
const ACCOUNT_SCORE: [u8; 2] = *b"04";
const SOURCE: [u8; 2] = *b"05";
const ENQUIRY: [u8; 2] = *b"06";
/// `C1` to `C9`: a contact of that number, a digit for its kind and what is shown of it.
const CONTACT: u8 = b'C';

/// The indicator's one value: a token is wanted.
const WANTED: &[u8] = b"1";

impl TokenRequestPlaces {
    /// What the message says; nothing where it has no such usage.
    ///
    /// # Errors
    /// The first item that is not what it should be.
    pub fn read(&self, message: &Message) -> Result<TokenRequestData, DecodeError> {
        let mut data = TokenRequestData::default();
        let Some(value) = message.get(self.element) else { return Ok(data) };
        let path = FieldPath::of(self.element);
        let fault = |path, kind| DecodeError { path, ..message.fault(self.element, kind) };
        for piece in pieces(value, USAGE_DIGITS) {
            let piece = piece.map_err(|(_, kind)| fault(path, kind))?;
            if piece.name != self.usage {
                continue;
            }
            let path = path.part(name_part(piece.name));
            for item in pieces(piece.value, ITEM_DIGITS) {
                let item = item.map_err(|(_, kind)| fault(path, kind))?;
                let read = data.take(item.name, item.value);
                read.map_err(|error| fault(path.part(name_part(item.name)), error.into()))?;
            }
        }
        Ok(data)
    }

    /// Puts the usage behind what the element has.
    ///
    /// # Errors
    /// As `Message::compose`, and for a usage longer than its length can say.
    pub fn write(&self, message: &mut Message, data: &TokenRequestData) -> Result<(), EncodeError> {
        let mut items = WipedBytes::default();
        data.put(&mut items).map_err(|kind| EncodeError::new(self.element, kind))?;
        let before = message.get(self.element).unwrap_or_default().to_vec();
        message.compose(self.element, before.len() + items.len() + 5, |out| {
            out.extend(&before);
            write_piece(self.usage, &items, USAGE_DIGITS, out)
        })
    }
}

impl TokenRequestData {
    fn take(&mut self, name: [u8; 2], value: &[u8]) -> Result<(), WordError> {
        let unknown = |word| WordError { word, fault: WordFault::OutOfRange };
        let code = || TrustScore::parse(value).map(TrustScore::get);
        match name {
            INDICATOR if value == WANTED => self.indicator = true,
            INDICATOR => return Err(unknown("token request indicator")),
            RECOMMENDATION => {
                let found = Recommendation::from_code(code()?).ok_or(unknown("recommendation"))?;
                self.hints.recommendation = Some(found);
            }
            DEVICE_SCORE => self.hints.device_score = Some(TrustScore::parse(value)?),
            ACCOUNT_SCORE => self.hints.account_score = Some(TrustScore::parse(value)?),
            SOURCE => {
                let found = PanSource::from_code(code()?).ok_or(unknown("PAN source"))?;
                self.hints.source = Some(found);
            }
            ENQUIRY => self.enquiry = Some(EnquiryId::parse(value)?),
            [CONTACT, digit @ b'1'..=b'9'] => {
                let (kind, shown) = value.split_first().ok_or(unknown("contact"))?;
                let kind = kind.checked_sub(b'0').and_then(ContactKind::from_code);
                let kind = kind.ok_or(unknown("contact kind"))?;
                let contact = Contact { number: digit - b'0', kind, shown: Text::parse("contact", shown)? };
                if !self.contacts.add(contact) {
                    return Err(unknown("contact"));
                }
            }
            // Items of a later layout are passed over.
            _ => {}
        }
        Ok(())
    }

    fn put(&self, out: &mut WipedBytes) -> Result<(), EncodeErrorKind> {
        let mut item = |name, value: &[u8]| write_piece(name, value, ITEM_DIGITS, out);
        if self.indicator {
            item(INDICATOR, WANTED)?;
        }
        let hints = &self.hints;
        let codes = [
            (RECOMMENDATION, hints.recommendation.map(Recommendation::code)),
            (DEVICE_SCORE, hints.device_score.map(TrustScore::get)),
            (ACCOUNT_SCORE, hints.account_score.map(TrustScore::get)),
            (SOURCE, hints.source.map(PanSource::code)),
        ];
        for (name, code) in codes {
            if let Some(code) = code {
                item(name, &[b'0' + code])?;
            }
        }
        if let Some(enquiry) = &self.enquiry {
            item(ENQUIRY, enquiry.text().as_bytes())?;
        }
        for contact in self.contacts.iter() {
            let said = [&[b'0' + contact.kind.code()], contact.shown.as_bytes()].concat();
            item([CONTACT, b'0' + contact.number], &said)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Dialect;
    use crate::vocab::Mti;

    fn places() -> TokenRequestPlaces {
        *Dialect::shipped("iso87-ascii").unwrap().token_request().unwrap()
    }

    fn message(usages: &[u8]) -> Message {
        let mut message = Message::new(Mti::parse(b"0100").unwrap());
        if !usages.is_empty() {
            message.set(DataElement::TOKEN_DATA, usages).unwrap();
        }
        message
    }

    #[test]
    fn it_is_written_behind_other_usages_and_read_back() {
        let mut contacts = Contacts::default();
        let shown = |text: &[u8]| Text::parse("contact", text).unwrap();
        contacts.add(Contact { number: 1, kind: ContactKind::TextMessage, shown: shown(b"+46 ** 12 34") });
        contacts.add(Contact { number: 3, kind: ContactKind::Email, shown: shown(b"a***@example") });
        let full = TokenRequestData {
            indicator: true,
            enquiry: Some(EnquiryId([7; 8])),
            hints: RiskHints {
                recommendation: Some(Recommendation::StepUp),
                device_score: TrustScore::new(2),
                account_score: TrustScore::new(5),
                source: Some(PanSource::OnFile),
            },
            contacts,
        };
        for data in [full, TokenRequestData { indicator: true, ..TokenRequestData::default() }] {
            let mut message = message(b"TK0050401x");
            places().write(&mut message, &data).unwrap();
            assert!(message.get(DataElement::TOKEN_DATA).unwrap().starts_with(b"TK0050401xTR"));
            assert_eq!(places().read(&message), Ok(data));
        }
        assert_eq!(places().read(&message(b"")), Ok(TokenRequestData::default()));
    }

    #[test]
    fn faults_name_the_item_and_what_is_new_is_passed_over() {
        assert_eq!(
            places().read(&message(b"TR0060102xx")).unwrap_err().to_string().split(':').next(),
            Some("63.TR.01")
        );
        for (usage, path) in [
            (&b"TR005020"[..], "63"),
            (b"TR00502019", "63.TR.02"),
            (b"TR005030\x316", "63.TR.03"),
            (b"TR005C1019", "63.TR.C1"),
            (b"TR004C100", "63.TR.C1"),
        ] {
            let error = places().read(&message(usage)).unwrap_err();
            assert_eq!(error.path.to_string(), path, "{}", String::from_utf8_lossy(usage));
        }
        let later = places().read(&message(b"TR0100402xxZ900")).unwrap_err();
        assert_eq!(later.path.to_string(), "63.TR.04");
        assert_eq!(places().read(&message(b"TR007Z903abc")), Ok(TokenRequestData::default()));
    }
}
