//! DE 55 of a token, as the switch looks at it and as it makes it: what the chip signed, the issuer's answer to it, and
//! a cryptogram made anew for an issuer that knows no tokens.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::codec::{
    CARD_TAGS, DataElement, Dialect, IccData, Message, Tag, icc_only, icc_without, write_item,
};
use crate::crypto::CryptogramKeys;
use crate::tsp::{CardData, Detokenizer};
use crate::vocab::{
    ChipPayment, EntryMode, Expiry, IssuerData, MessageClass, MessageFunction, Outcome, PanSequenceNumber,
    Refusal, Token, TokenRequestorId, Track2,
};

/// What DE 55 says, as far as it is looked at.
pub(super) struct Chip {
    /// What it signed, when all of it is there.
    pub(super) payment: Option<ChipPayment>,
    /// A cryptogram and its counter are there, and not all that they need.
    pub(super) incomplete: bool,
    /// Of 5F24 and of 57; whether they must agree depends on what the message is.
    pub(super) expiries: [Option<Expiry>; 2],
    /// 9F19: of a token only, so that what a plain card's chip says there refuses nothing.
    pub(super) requestor: Result<Option<TokenRequestorId>, Refusal>,
}

impl Chip {
    /// Reads DE 55; the account numbers it holds (5A, 57) must be `account`.
    pub(super) fn read(message: &Message, account: &[u8]) -> Result<Self, Refusal> {
        let icc = message.icc().map_err(|_| Refusal::FormatError)?;
        let Some(icc) = icc else {
            return Ok(Self { payment: None, incomplete: false, expiries: [None; 2], requestor: Ok(None) });
        };
        let number = icc.get(Tag::PAN).map(unpacked);
        if number.is_some_and(|number| number.as_slice() != account) {
            return Err(Refusal::AccountsDisagree);
        }
        let track =
            icc.get(Tag::TRACK_2_EQUIVALENT).map(unpacked).map(|track| Track2::parse(&track)).transpose();
        let track = track.map_err(|_| Refusal::FormatError)?;
        if track.as_ref().is_some_and(|track| track.account.expose_digits() != account) {
            return Err(Refusal::AccountsDisagree);
        }
        let date = icc.get(Tag::EXPIRY).map(unpacked);
        let date = date.map(|date| Expiry::parse(date.get(..4).unwrap_or(&date))).transpose();
        let date = date.map_err(|_| Refusal::FormatError)?;
        let of_track = track.and_then(|track| track.expiry);
        let payment = chip_payment(&icc);
        let incomplete = payment.is_none() && icc.atc().is_some() && icc.cryptogram().is_some();
        let requestor = icc.get(Tag::TOKEN_REQUESTOR).map(requestor_id).transpose();
        Ok(Self { payment, incomplete, expiries: [date, of_track], requestor })
    }
}

/// Eleven digits in six bytes, right-justified (EMV Book 3, 4.3).
fn requestor_id(packed: &[u8]) -> Result<TokenRequestorId, Refusal> {
    let digits = unpacked(packed);
    let digits = digits.strip_prefix(b"0").filter(|_| packed.len() == 6);
    TokenRequestorId::parse(digits.ok_or(Refusal::FormatError)?).map_err(|_| Refusal::FormatError)
}

/// Packed digits as characters, without the `F` that fills the last byte; `D` separates in track 2.
fn unpacked(packed: &[u8]) -> Zeroizing<Vec<u8>> {
    let nibbles = packed.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let characters = nibbles.filter(|nibble| *nibble != 0x0F);
    Zeroizing::new(
        characters.map(|nibble| if nibble < 10 { b'0' + nibble } else { b'A' - 10 + nibble }).collect(),
    )
}

/// The elements that a cryptogram is computed over (EMV Book 2, table 26), and the cryptogram; `None` unless each is
/// there in its length and the cryptogram is one that asks for an authorization (ARQC). The other amount alone may be
/// absent: it then is zero.
fn chip_payment(icc: &IccData<'_>) -> Option<ChipPayment> {
    fn exact<const N: usize>(icc: &IccData<'_>, tag: Tag) -> Option<[u8; N]> {
        icc.get(tag)?.try_into().ok()
    }
    let [information] = exact(icc, Tag::CID)?;
    if information & 0xC0 != 0x80 {
        return None;
    }
    Some(ChipPayment {
        amount: exact(icc, Tag::AMOUNT)?,
        amount_other: if icc.get(Tag::AMOUNT_OTHER).is_some() {
            exact(icc, Tag::AMOUNT_OTHER)?
        } else {
            [0; 6]
        },
        country: exact(icc, Tag::TERMINAL_COUNTRY)?,
        terminal_results: exact(icc, Tag::TVR)?,
        currency: exact(icc, Tag::CURRENCY)?,
        date: exact(icc, Tag::TRANSACTION_DATE)?,
        kind: exact(icc, Tag::TRANSACTION_TYPE)?,
        unpredictable: exact(icc, Tag::UNPREDICTABLE_NUMBER)?,
        profile: exact(icc, Tag::AIP)?,
        counter: exact(icc, Tag::ATC)?,
        issuer_data: IssuerData::parse(icc.get(Tag::IAD)?).ok()?,
        cryptogram: exact(icc, Tag::CRYPTOGRAM)?,
    })
}

/// DE 55 of an answer: issuer authentication data (tag 91) under the token's own key, for a terminal that still has the
/// card or says that it will meet it again. `answer` has its final DE 39. `None` where there is nothing to answer: no
/// true cryptogram, or nobody to check it.
pub(super) fn issuer_authentication(
    detokenizer: &Detokenizer,
    token: &Token,
    asked: &Message,
    answer: &Message,
    dialect: &Dialect,
) -> Option<Vec<u8>> {
    let mti = asked.mti();
    let is_payment = matches!(mti.class, MessageClass::Authorization | MessageClass::Financial)
        && mti.function == MessageFunction::Request;
    if !is_payment || dialect.field(DataElement::ICC).is_none() {
        return None;
    }
    if !is_awaited(asked) {
        return None;
    }
    let chip = chip_payment(&asked.icc().ok().flatten()?)?;
    let code = answer.response_code().ok().flatten()?;
    let approved = matches!(dialect.outcome(code), Some(Outcome::Approved | Outcome::ApprovedPartly));
    // Chips know two characters; the codes of 1993 have three.
    let short = code.as_bytes().try_into().unwrap_or(if approved { *b"00" } else { *b"05" });
    let made = detokenizer.issuer_authentication(token, &chip, short, approved)?;
    let mut out = Vec::with_capacity(12);
    write_item(Tag::ISSUER_AUTHENTICATION, made.as_bytes(), &mut out);
    Some(out)
}

/// What an issuer may say to a chip.
const TO_CHIP: [Tag; 4] =
    [Tag::ISSUER_AUTHENTICATION, Tag::ISSUER_SCRIPT_1, Tag::ISSUER_SCRIPT_2, Tag::RESPONSE_CODE];

/// Of an issuer's DE 55 what it says to the chip, as it stands there, and nothing else; `None` where it says nothing,
/// or what names a card besides.
pub(super) fn word_to_chip(icc: &[u8]) -> Option<Vec<u8>> {
    let said = icc_only(icc, &TO_CHIP);
    let names_card = matches!(icc_without(&said, &CARD_TAGS), Cow::Owned(_));
    (!said.is_empty() && !names_card).then_some(said)
}

/// A card in the terminal waits for the answer. One that was held against it is gone by then, unless the terminal
/// announces that the card will be held there again (terminal transaction qualifiers, byte 3, bit 8).
fn is_awaited(asked: &Message) -> bool {
    match asked.entry_mode().ok().flatten().map(|mode| mode.entry) {
        Some(EntryMode::CONTACT_CHIP) => true,
        Some(EntryMode::CONTACTLESS_CHIP) => asked
            .icc_value(Tag::TERMINAL_QUALIFIERS)
            .and_then(|bytes| bytes.get(2))
            .is_some_and(|byte| byte & 0x80 != 0),
        _ => false,
    }
}

/// DE 55 for an issuer that knows its plastic cards only: what the terminal said, signed with the key of the card
/// behind the token. The counter stays the token's. `None` for data that do not hold what is signed.
pub(super) fn regenerated(icc: &IccData<'_>, card: &CardData, keys: &CryptogramKeys) -> Option<Vec<u8>> {
    let mut chip = chip_payment(icc)?;
    let sequence = card.sequence.unwrap_or(PanSequenceNumber::ZERO);
    keys.card_key(card.pan.expose_digits(), sequence)?.sign(&mut chip);
    let mut leave_out = CARD_TAGS.to_vec();
    leave_out.extend([Tag::CRYPTOGRAM, Tag::IAD]);
    let mut out = icc.without(&leave_out).into_owned();
    write_item(Tag::CRYPTOGRAM, &chip.cryptogram, &mut out);
    write_item(Tag::IAD, chip.issuer_data.as_bytes(), &mut out);
    Some(out)
}
