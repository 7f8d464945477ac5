//! How an acquirer's payment becomes a message: the symbols that change from one to the next, and the shape
//! that does not.

use super::book::BookEntry;
use super::cards::{PresentedCard, TestMerchant};
use super::template::Symbol;
use crate::codec::{DataElement, Dialect, EncodeError, Message, TokenData};
use crate::vocab::{
    BusinessDate, ChipPayment, Currency, InstitutionId, IssuerData, Mti, Pan, PosEntryMode, ProcessingCode,
    ResponseCode, TokenRequestorId,
};

const ACCOUNT: usize = 0;
const EXPIRY: usize = ACCOUNT + Pan::MOST;
const AMOUNT: usize = EXPIRY + 4;
const SENT_AT: usize = AMOUNT + 12;
const STAN: usize = SENT_AT + 10;
const RRN: usize = STAN + 6;
const ATC: usize = RRN + 12;
const CRYPTOGRAM: usize = ATC + 4;
/// How many symbols a payment has.
const SYMBOLS: usize = CRYPTOGRAM + 16;

/// What a payment changes from one message to the next, as values of digits and half-bytes.
#[derive(Clone, Copy)]
pub(super) struct Symbols([u8; SYMBOLS]);

impl Symbols {
    /// Which values each may take.
    pub(super) fn kinds() -> [Symbol; SYMBOLS] {
        std::array::from_fn(|at| if at < ATC { Symbol::Digit } else { Symbol::Nibble })
    }

    /// Takes values as a template hands them out.
    pub(super) fn from_values(values: &[u8]) -> Self {
        let mut symbols = Self([0; SYMBOLS]);
        for (place, value) in symbols.0.iter_mut().zip(values) {
            *place = *value;
        }
        symbols
    }

    /// Those of one payment.
    pub(super) fn of(entry: &BookEntry, card: &PresentedCard, chip: Option<&ChipPayment>) -> Self {
        let mut symbols = Self([0; SYMBOLS]);
        symbols.put(ACCOUNT, card.number.digits());
        if let Some(expiry) = card.expiry {
            symbols.put(EXPIRY, &expiry.digits());
        }
        symbols.put(AMOUNT, &entry.payment.amount.digits());
        symbols.put(SENT_AT, &entry.sent_at.digits());
        symbols.put(STAN, &entry.stan.digits());
        symbols.put(RRN, entry.rrn.as_bytes());
        if let Some(chip) = chip {
            symbols.put_halves(ATC, &chip.counter);
            symbols.put_halves(CRYPTOGRAM, &chip.cryptogram);
        }
        symbols
    }

    pub(super) fn values(&self) -> &[u8] {
        &self.0
    }

    fn put(&mut self, at: usize, ascii: &[u8]) {
        for (place, digit) in self.0.iter_mut().skip(at).zip(ascii) {
            *place = digit & 0x0F;
        }
    }

    fn put_halves(&mut self, at: usize, bytes: &[u8]) {
        let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
        for (place, half) in self.0.iter_mut().skip(at).zip(halves) {
            *place = half;
        }
    }

    fn digits<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|n| b'0' + self.0.get(at + n).copied().unwrap_or_default())
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let half = |at: usize| self.0.get(at).copied().unwrap_or_default();
        std::array::from_fn(|n| half(at + 2 * n) << 4 | half(at + 2 * n + 1))
    }

    /// Digits packed two to a byte, as DE 55 has amounts and dates.
    fn packed<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes(at)
    }
}

/// What the chip says of a payment that is a tap. A phone signs it with its key; without one the cryptogram is worth
/// nothing, and only the same whenever the payment is sent.
pub(super) fn chip_payment(
    entry: &BookEntry,
    card: &PresentedCard,
    today: BusinessDate,
) -> Option<ChipPayment> {
    let atc = entry.atc?;
    let [month, day] = packed(&entry.sent_at.digits());
    let [year] = packed(&[b'0' + year_of(today) / 10, b'0' + year_of(today) % 10]);
    let rrn: [u8; 6] = packed(entry.rrn.as_bytes());
    let [_, _, unpredictable @ ..] = rrn;
    let [hundreds, tens, ones] = entry.payment.amount.currency().digits();
    let mut chip = ChipPayment {
        amount: packed(&entry.payment.amount.digits()),
        amount_other: [0; 6],
        country: [0x02, 0x76],
        terminal_results: [0; 5],
        currency: packed(&[b'0', hundreds, tens, ones]),
        date: [year, month, day],
        kind: [0],
        unpredictable,
        profile: [0; 2],
        counter: atc.to_be_bytes(),
        issuer_data: IssuerData::default(),
        cryptogram: [0; 8],
    };
    match &card.phone {
        Some(phone) => phone.sign(&mut chip),
        None => {
            let [a, b, c, d, e, f] = rrn;
            let [high, low] = chip.counter;
            chip.cryptogram = [f, e, d, c, b, a, low, high];
        }
    }
    Some(chip)
}

/// The last two digits, as a chip dates.
fn year_of(today: BusinessDate) -> u8 {
    u8::try_from(today.year % 100).unwrap_or_default()
}

/// ASCII digits packed two to a byte, as DE 55 has amounts and dates.
fn packed<const N: usize>(digits: &[u8]) -> [u8; N] {
    let digit = |at: usize| digits.get(at).copied().unwrap_or_default() & 0x0F;
    std::array::from_fn(|n| digit(2 * n) << 4 | digit(2 * n + 1))
}

/// What payments have in common that differ in their symbols only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) mti: Mti,
    pub(super) account_length: usize,
    pub(super) has_expiry: bool,
    pub(super) requestor: Option<TokenRequestorId>,
    pub(super) merchant: usize,
    pub(super) processing: ProcessingCode,
    pub(super) entry_mode: PosEntryMode,
    pub(super) currency: Currency,
    /// The parts of chip data that are the same from one payment of a card to the next.
    pub(super) chip: Option<ChipShape>,
}

/// What a chip says again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChipShape {
    issuer_data: IssuerData,
    year: u8,
}

impl Shape {
    /// That of one payment, sent with this message type.
    pub(super) fn of(entry: &BookEntry, card: &PresentedCard, mti: Mti, chip: Option<&ChipPayment>) -> Self {
        let [year, ..] = chip.map(|chip| chip.date).unwrap_or_default();
        Self {
            mti,
            account_length: card.number.digits().len(),
            has_expiry: card.expiry.is_some(),
            requestor: card.requestor,
            merchant: entry.payment.merchant,
            processing: entry.payment.processing,
            entry_mode: entry.payment.entry_mode,
            currency: entry.payment.amount.currency(),
            chip: chip.map(|chip| ChipShape { issuer_data: chip.issuer_data, year }),
        }
    }
}

/// What an acquirer puts into each of its messages.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) institution: InstitutionId,
    pub(super) merchant: &'a TestMerchant,
}

impl Terms<'_> {
    /// Writes the payment into `message`, which is wiped before.
    pub(super) fn write(
        &self,
        shape: &Shape,
        symbols: &Symbols,
        message: &mut Message,
    ) -> Result<(), EncodeError> {
        message.clear(shape.mti);
        let sent_at: [u8; 10] = symbols.digits(SENT_AT);
        let account: [u8; Pan::MOST] = symbols.digits(ACCOUNT);
        let merchant = self.merchant;
        message.set(DataElement::PAN, account.get(..shape.account_length).unwrap_or_default())?;
        message.set(DataElement::PROCESSING_CODE, shape.processing.as_bytes())?;
        message.set(DataElement::AMOUNT, &symbols.digits::<12>(AMOUNT))?;
        message.set(DataElement::SENT_AT, &sent_at)?;
        message.set(DataElement::STAN, &symbols.digits::<6>(STAN))?;
        let (date, time) = sent_at.split_at(4);
        message.set(DataElement::LOCAL_TIME, time)?;
        message.set(DataElement::LOCAL_DATE, date)?;
        if shape.has_expiry {
            message.set(DataElement::EXPIRY, &symbols.digits::<4>(EXPIRY))?;
        }
        message.set(DataElement::MERCHANT_CATEGORY, format!("{:04}", merchant.category.0).as_bytes())?;
        message.set(DataElement::ENTRY_MODE, &shape.entry_mode.digits())?;
        message.set(DataElement::CONDITION, b"00")?;
        message.set(DataElement::ACQUIRER, self.institution.as_bytes())?;
        message.set(DataElement::RRN, &symbols.digits::<12>(RRN))?;
        message.set(DataElement::TERMINAL, merchant.terminal.as_bytes())?;
        message.set(DataElement::MERCHANT, merchant.merchant.as_bytes())?;
        message.set(DataElement::MERCHANT_NAME, merchant.name.as_bytes())?;
        message.set(DataElement::CURRENCY, &shape.currency.digits())?;
        if let Some(chip) = &shape.chip {
            message.set(DataElement::ICC, &chip_data(shape, chip, symbols))?;
        }
        if shape.requestor.is_some() {
            let data = TokenData { requestor: shape.requestor, ..TokenData::default() };
            self.dialect.set_token_data(message, &data)?;
        }
        Ok(())
    }
}

/// DE 55 of a tap: the tags that a cryptogram is computed over (EMV Book 2, 8.1.1), and the cryptogram.
fn chip_data(shape: &Shape, chip: &ChipShape, symbols: &Symbols) -> Vec<u8> {
    let [month, day]: [u8; 2] = symbols.packed(SENT_AT);
    let [hundreds, tens, ones] = shape.currency.digits().map(|digit| digit & 0x0F);
    let currency = [hundreds, tens << 4 | ones];
    let mut out = Vec::with_capacity(160);
    for (tag, value) in [
        (&[0x9F, 0x26][..], &symbols.bytes::<8>(CRYPTOGRAM)[..]),
        (&[0x9F, 0x27], &[0x80]),
        (&[0x9F, 0x10], chip.issuer_data.as_bytes()),
        (&[0x9F, 0x37], &symbols.packed::<4>(RRN + 4)),
        (&[0x9F, 0x36], &symbols.bytes::<2>(ATC)),
        (&[0x95], &[0; 5]),
        (&[0x9A], &[chip.year, month, day]),
        (&[0x9C], &[0x00]),
        (&[0x9F, 0x02], &symbols.packed::<6>(AMOUNT)),
        (&[0x5F, 0x2A], &currency),
        (&[0x82], &[0x00, 0x00]),
        (&[0x9F, 0x1A], &[0x02, 0x76]),
        (&[0x9F, 0x03], &[0; 6]),
    ] {
        out.extend_from_slice(tag);
        out.push(u8::try_from(value.len()).unwrap_or_default());
        out.extend_from_slice(value);
    }
    out
}

/// Puts the code that a plain answer to a network management message carries.
pub(super) fn write_network_answer(
    asked: &Message,
    code: ResponseCode,
    answer: &mut Message,
) -> Result<(), EncodeError> {
    let Some(mti) = asked.mti().answer() else { return Ok(()) };
    answer.clear(mti);
    for element in [DataElement::SENT_AT, DataElement::STAN, DataElement::NETWORK_CODE] {
        answer.copy(element, asked)?;
    }
    answer.set(DataElement::RESPONSE_CODE, code.as_bytes())
}
