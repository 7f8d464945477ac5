//! The elements of a message as the field's words: typed accessors of `Message`, and `OriginalData` (DE 90).

use super::bitmap::DataElement;
use super::error::{DecodeError, DecodeErrorKind, FieldPath, Part};
use super::icc::IccData;
use super::message::Message;
use super::tlv::{Tag, find};
use crate::vocab::{
    Amount, ApprovalCode, Country, Currency, Expiry, InstitutionId, LocalDate, LocalTime, MerchantCategory,
    MerchantId, Mti, NetworkCode, Pan, PanSequenceNumber, PosEntryMode, ProcessingCode, ResponseCode, Rrn,
    Stan, TerminalId, Token, Track2, TransmissionTime, WordError, WordFault,
};

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $word:ident = $element:ident;)*) => {
        /// Each answers `None` when the element is not there.
        impl Message {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// `Word` when the value is not what the element asks for.
                pub fn $name(&self) -> Result<Option<$word>, DecodeError> {
                    self.word(DataElement::$element, $word::parse)
                }
            )*
        }
    };
}

accessors! {
    /// DE 2 as a card number.
    pan: Pan = PAN;
    /// DE 2 as a token.
    token: Token = PAN;
    /// DE 3.
    processing_code: ProcessingCode = PROCESSING_CODE;
    /// DE 7.
    sent_at: TransmissionTime = SENT_AT;
    /// DE 11.
    stan: Stan = STAN;
    /// DE 12.
    local_time: LocalTime = LOCAL_TIME;
    /// DE 13.
    local_date: LocalDate = LOCAL_DATE;
    /// DE 14.
    expiry: Expiry = EXPIRY;
    /// DE 18.
    merchant_category: MerchantCategory = MERCHANT_CATEGORY;
    /// DE 19.
    country: Country = COUNTRY;
    /// DE 22.
    entry_mode: PosEntryMode = ENTRY_MODE;
    /// DE 23.
    sequence_number: PanSequenceNumber = SEQUENCE_NUMBER;
    /// DE 32.
    acquirer: InstitutionId = ACQUIRER;
    /// DE 33.
    forwarder: InstitutionId = FORWARDER;
    /// DE 35.
    track2: Track2 = TRACK_2;
    /// DE 37.
    rrn: Rrn = RRN;
    /// DE 38.
    approval_code: ApprovalCode = APPROVAL_CODE;
    /// DE 39.
    response_code: ResponseCode = RESPONSE_CODE;
    /// DE 41.
    terminal: TerminalId = TERMINAL;
    /// DE 42.
    merchant: MerchantId = MERCHANT;
    /// DE 49.
    currency: Currency = CURRENCY;
    /// DE 70.
    network_code: NetworkCode = NETWORK_CODE;
}

impl Message {
    /// DE 4 in the currency of DE 49.
    ///
    /// # Errors
    /// `Word` as for any element; `Missing` at DE 49 when there is an amount without a currency.
    pub fn amount(&self) -> Result<Option<Amount>, DecodeError> {
        if !self.has(DataElement::AMOUNT) {
            return Ok(None);
        }
        let missing = || DecodeError::in_value(DataElement::CURRENCY, DecodeErrorKind::Missing);
        let currency = self.currency()?.ok_or_else(missing)?;
        self.word(DataElement::AMOUNT, |digits| Amount::parse(digits, currency))
    }

    /// DE 15, MMDD as sent; its year is the receiver's to find.
    ///
    /// # Errors
    /// `Word` when it is no date.
    pub fn settlement_date(&self) -> Result<Option<[u8; 4]>, DecodeError> {
        self.word(DataElement::SETTLEMENT_DATE, |digits| LocalDate::parse(digits).map(LocalDate::digits))
    }

    /// DE 90.
    ///
    /// # Errors
    /// `Word` at the part (`90.1` to `90.5`) that is not what it should be.
    pub fn original_data(&self) -> Result<Option<OriginalData>, DecodeError> {
        self.get(DataElement::ORIGINAL_DATA).map(OriginalData::parse).transpose()
    }

    /// DE 55.
    ///
    /// # Errors
    /// The first fault of its BER-TLV, with the tag's path.
    pub fn icc(&self) -> Result<Option<IccData<'_>>, DecodeError> {
        self.get(DataElement::ICC).map(IccData::parse).transpose()
    }

    /// The value of one tag of DE 55, the first if there are several: of a message that was decoded, whose DE 55 is
    /// known to be BER-TLV.
    #[must_use]
    pub fn icc_value(&self, tag: Tag) -> Option<&[u8]> {
        find(self.get(DataElement::ICC)?, tag)
    }

    fn word<T>(
        &self,
        element: DataElement,
        parse: impl FnOnce(&[u8]) -> Result<T, WordError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.get(element) {
            Some(value) => parse(value).map(Some).map_err(|error| self.fault(element, error.into())),
            None => Ok(None),
        }
    }
}

/// Original data elements, `n 42` (DE 90): MTI 4, DE 11 6, DE 7 10, DE 32 11, DE 33 11. Institutions are filled
/// with zeros on the left; all zeros say that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginalData {
    pub mti: Mti,
    pub stan: Stan,
    pub sent_at: TransmissionTime,
    /// Without its leading zeros: compare by `same_institution`.
    pub acquirer: Option<InstitutionId>,
    /// Without its leading zeros: compare by `same_institution`.
    pub forwarder: Option<InstitutionId>,
}

impl OriginalData {
    /// How many digits it has.
    pub const LENGTH: usize = 42;
    const INSTITUTION: usize = 11;

    /// Takes the 42 digits.
    ///
    /// # Errors
    /// `Length`, or `Word` at the part that is wrong.
    pub fn parse(digits: &[u8]) -> Result<Self, DecodeError> {
        let path = FieldPath::of(DataElement::ORIGINAL_DATA);
        let [mti, stan, sent_at, acquirer, forwarder] = Self::split(digits).ok_or_else(|| {
            let kind =
                DecodeErrorKind::Length { length: digits.len(), least: Self::LENGTH, most: Self::LENGTH };
            DecodeError::in_value(path, kind)
        })?;
        let wrong =
            |part| move |error: WordError| DecodeError::in_value(path.part(Part::Number(part)), error.into());
        Ok(Self {
            mti: Mti::parse(mti).map_err(wrong(1))?,
            stan: Stan::parse(stan).map_err(wrong(2))?,
            sent_at: TransmissionTime::parse(sent_at).map_err(wrong(3))?,
            acquirer: institution(acquirer).map_err(wrong(4))?,
            forwarder: institution(forwarder).map_err(wrong(5))?,
        })
    }

    fn split(digits: &[u8]) -> Option<[&[u8]; 5]> {
        let (mti, rest) = digits.split_at_checked(4)?;
        let (stan, rest) = rest.split_at_checked(6)?;
        let (sent_at, rest) = rest.split_at_checked(10)?;
        let (acquirer, forwarder) = rest.split_at_checked(Self::INSTITUTION)?;
        (forwarder.len() == Self::INSTITUTION).then_some([mti, stan, sent_at, acquirer, forwarder])
    }

    /// The 42 digits.
    #[must_use]
    pub fn digits(&self) -> [u8; Self::LENGTH] {
        let mut digits = [b'0'; Self::LENGTH];
        let (head, institutions) = digits.split_at_mut(20);
        let (mti, stan, sent_at) = (self.mti.digits(), self.stan.digits(), self.sent_at.digits());
        for (place, digit) in head.iter_mut().zip(mti.iter().chain(&stan).chain(&sent_at)) {
            *place = *digit;
        }
        for (place, id) in
            institutions.chunks_exact_mut(Self::INSTITUTION).zip([self.acquirer, self.forwarder])
        {
            let id = id.as_ref().map_or(&[][..], InstitutionId::as_bytes);
            for (place, digit) in place.iter_mut().rev().zip(id.iter().rev()) {
                *place = *digit;
            }
        }
        digits
    }
}

/// Whether two institution ids name the same one: leading zeros do not count, as DE 90 cannot keep them.
#[must_use]
pub fn same_institution(a: &InstitutionId, b: &InstitutionId) -> bool {
    significant(a.as_bytes()) == significant(b.as_bytes())
}

fn institution(digits: &[u8]) -> Result<Option<InstitutionId>, WordError> {
    if let Some(at) = digits.iter().position(|digit| !digit.is_ascii_digit()) {
        return Err(WordError { word: "institution id", fault: WordFault::NotADigit { at } });
    }
    match significant(digits) {
        [] => Ok(None),
        id => InstitutionId::parse(id).map(Some),
    }
}

fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DE_90: &[u8] = b"010000012311221234560000012345600000000000";

    #[test]
    fn original_data_there_and_back() {
        let original = OriginalData::parse(DE_90).unwrap();
        assert_eq!(original.mti.digits(), *b"0100");
        assert_eq!(original.stan.get(), 123);
        assert_eq!(original.sent_at.digits(), *b"1122123456");
        assert_eq!(original.acquirer.unwrap().as_str(), "123456");
        assert_eq!(original.forwarder, None);
        assert_eq!(original.digits().as_slice(), DE_90);
    }

    #[test]
    fn faults_in_original_data_name_their_part() {
        for (at, byte, path) in
            [(0, b'9', "90.1"), (5, b'x', "90.2"), (10, b'2', "90.3"), (24, b' ', "90.4"), (41, b'A', "90.5")]
        {
            let mut digits = DE_90.to_vec();
            digits[at] = byte;
            assert_eq!(OriginalData::parse(&digits).unwrap_err().path.to_string(), path);
        }
        for length in 0..42 {
            assert!(OriginalData::parse(&DE_90[..length]).is_err());
        }
    }

    #[test]
    fn institutions_are_the_same_whatever_fills_them() {
        let id = |digits: &[u8]| InstitutionId::parse(digits).unwrap();
        assert!(same_institution(&id(b"00010000"), &id(b"10000")));
        assert!(!same_institution(&id(b"00010000"), &id(b"1000")));
    }

    #[test]
    fn an_amount_needs_its_currency() {
        let mut message = Message::new(Mti::parse(b"0100").unwrap());
        assert_eq!(message.amount(), Ok(None));
        message.set(DataElement::AMOUNT, b"000000004250").unwrap();
        assert_eq!(message.amount().unwrap_err().to_string(), "49: not there");
        message.set(DataElement::CURRENCY, b"978").unwrap();
        assert_eq!(message.amount().unwrap().unwrap().to_string(), "EUR 42.50");
        message.set(DataElement::STAN, b"12x456").unwrap();
        assert_eq!(message.stan().unwrap_err().to_string(), "11: STAN: character 2 is no digit");
    }
}
