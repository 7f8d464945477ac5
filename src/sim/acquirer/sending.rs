//! How the acquirer's messages leave: payments by template, everything else through the codec.

use std::sync::Arc;

use super::{AcquirerSimulator, SimError, Waiting};
use crate::codec::{DataElement, Message, OriginalData, TokenData, WriteError, encode};
use crate::sim::book::{
    BookEntry, Earlier, NamedBy, Payment, PaymentNumber, PaymentState, RemotePayment, ReversalEntry,
    ReversalNumber,
};
use crate::sim::outbox::Outbox;
use crate::sim::payment::{Shape, Symbols, Terms, chip_payment};
use crate::sim::template::Template;
use crate::stdx::clock::{Moment, Now};
use crate::vocab::{
    BusinessDate, MessageClass, MessageFunction, Mti, NetworkCode, Rrn, Stan, TransmissionTime, WordError,
};

impl AcquirerSimulator {
    /// Writes a new payment into the book and sends it.
    pub(super) fn pay_on(
        &mut self,
        connection: usize,
        payment: Payment,
        intended: Moment,
        of_load: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Result<PaymentNumber, SimError> {
        let no_card = SimError::NoSuchCard(payment.card);
        let tap = self.taps.get_mut(payment.card).ok_or(no_card)?;
        let phone = self.cards.get(payment.card).and_then(|card| card.phone.as_ref());
        let atc = payment.entry_mode.entry.has_chip_data().then(|| {
            phone.map(|phone| phone.tap()).unwrap_or_else(|| {
                *tap = tap.wrapping_add(1);
                *tap
            })
        });
        let shares = payment.original.filter(|original| original.by != NamedBy::Data);
        let rrn = match shares.and_then(|original| self.book.payment(original.payment)) {
            Some(original) => original.rrn,
            None => self.next_rrn()?,
        };
        let (stan, sent_at) = (self.next_stan(), self.sent_at(now));
        let number = self.book.add(BookEntry {
            payment,
            stan,
            sent_at,
            rrn,
            atc,
            intended,
            answer: None,
            state: PaymentState::Waiting,
            repeats: 0,
            answers: 0,
            mismatches: 0,
            load_on: of_load.then_some(connection),
        });
        self.report.note_sent(now.moment);
        self.wait_for(stan, Waiting::Payment(number), 0, now);
        let sent = self.transmit(connection, number, false, now, out);
        if sent.is_err() {
            self.waiting.remove(&stan);
            self.settle(number, PaymentState::Silent);
        }
        sent.map(|()| number)
    }

    /// Sends what the book has under `number`, as it was or as a repeat.
    pub(super) fn transmit(
        &mut self,
        connection: usize,
        number: PaymentNumber,
        repeat: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let entry = self.book.payment(number).ok_or(SimError::NoSuchPayment(number.0))?;
        let payment = entry.payment;
        let card = self.cards.get(payment.card).ok_or(SimError::NoSuchCard(payment.card))?;
        let mti = if repeat { payment.mti.repeat() } else { payment.mti };
        let chip = chip_payment(entry, card, BusinessDate::of(now.wall));
        let (shape, symbols) =
            (Shape::of(entry, card, mti, chip.as_ref()), Symbols::of(entry, card, chip.as_ref()));
        let named = payment.original.and_then(|original| self.naming(original));
        if payment.remote.is_some() || named.is_some() {
            return self.transmit_alone(connection, (&shape, &symbols), (payment, named), now, out);
        }
        let at = match self.shapes.get(&shape) {
            Some(at) => *at,
            None => self.learn(shape)?,
        };
        let fault = self.wire.fault(mti, Some(payment.amount.minor()));
        let Self { templates, wire, header, .. } = self;
        let template = templates.get_mut(at);
        let fill = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(template.map(|t| t.fill(symbols.values())).unwrap_or_default());
            Ok(())
        };
        wire.send(connection, header, fault, now.moment, fill, out)?;
        Ok(())
    }

    /// The element by which a message names an earlier payment, if by any.
    fn naming(&self, Earlier { payment, by }: Earlier) -> Option<(DataElement, Vec<u8>)> {
        let entry = self.book.payment(payment)?;
        match by {
            NamedBy::Rrn => None,
            NamedBy::Approval => {
                let approval = entry.answer?.approval?;
                Some((DataElement::APPROVAL_CODE, approval.as_bytes().to_vec()))
            }
            NamedBy::Data => Some((DataElement::ORIGINAL_DATA, self.original_data(entry).digits().to_vec())),
        }
    }

    /// What DE 90 says of a payment.
    fn original_data(&self, entry: &BookEntry) -> OriginalData {
        OriginalData {
            mti: entry.payment.mti,
            stan: entry.stan,
            sent_at: entry.sent_at,
            acquirer: Some(self.institution),
            forwarder: None,
        }
    }

    /// A payment that nobody taps, or that is about an earlier one: no two are alike, and no template is made of it.
    fn transmit_alone(
        &mut self,
        connection: usize,
        (shape, symbols): (&Shape, &Symbols),
        (payment, named): (Payment, Option<(DataElement, Vec<u8>)>),
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let Self { dialect, merchants, message, institution, .. } = self;
        let merchant = merchants.get(payment.merchant).ok_or(SimError::NoSuchMerchant(payment.merchant))?;
        let terms = Terms { dialect, institution: *institution, merchant };
        let written = terms.write(shape, symbols, message).and_then(|()| {
            if let Some(RemotePayment { cryptogram, initiator, agreed: original }) = payment.remote {
                let requestor = shape.requestor;
                let data = TokenData { requestor, cryptogram, initiator, original, ..TokenData::default() };
                dialect.set_token_data(message, &data)?;
            }
            named.iter().try_for_each(|(element, value)| message.set(*element, value))
        });
        written.map_err(WriteError::Message)?;
        self.send_message(connection, Some(payment.amount.minor()), now, out)
    }

    /// Makes the template of a shape, once.
    fn learn(&mut self, shape: Shape) -> Result<usize, SimError> {
        let Self { dialect, merchants, message, institution, seed, .. } = self;
        let merchant = merchants.get(shape.merchant).ok_or(SimError::NoSuchMerchant(shape.merchant))?;
        let terms = Terms { dialect, institution: *institution, merchant };
        let template = Template::learn(&Symbols::kinds(), *seed, |values| {
            let mut bytes = Vec::new();
            terms
                .write(&shape, &Symbols::from_values(values), message)
                .and_then(|()| encode(terms.dialect, message, &mut bytes))
                .map_err(WriteError::Message)?;
            Ok(bytes)
        })?;
        self.templates.push(template);
        self.shapes.insert(shape, self.templates.len() - 1);
        Ok(self.templates.len() - 1)
    }

    fn next_rrn(&mut self) -> Result<Rrn, WordError> {
        self.numbers = (self.numbers + 1) % 1_000_000_000_000;
        let mut rest = self.numbers;
        let mut digits = [b'0'; 12];
        for place in digits.iter_mut().rev() {
            *place += u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        Rrn::parse(&digits)
    }

    /// Writes a reversal into the book and sends it, or lets it wait for a connection.
    pub(super) fn start_reversal(
        &mut self,
        connection: Option<usize>,
        number: PaymentNumber,
        keep: Option<u64>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<ReversalNumber, SimError> {
        let function =
            if self.patience.reversal_advice { MessageFunction::Advice } else { MessageFunction::Request };
        let mti = Mti::of(MessageClass::Reversal, function).with_version(self.dialect.version());
        let (stan, sent_at) = (self.next_stan(), self.sent_at(now));
        let reversal = ReversalEntry { of: number, mti, stan, sent_at, keep, repeats: 0, code: None };
        let reversal = self.book.add_reversal(reversal);
        self.settle(number, PaymentState::Reversing);
        self.report.reversals += 1;
        self.wait_for(stan, Waiting::Reversal(reversal), 0, now);
        if let Some(connection) = connection {
            self.transmit_reversal(connection, reversal, false, now, out)?;
        }
        Ok(reversal)
    }

    /// Sends an unacknowledged reversal again, while patience lasts.
    pub(super) fn insist(
        &mut self,
        number: ReversalNumber,
        repeats: u16,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let most = self.patience.reversal_repeats;
        let connection = self.next_connection();
        let Some(reversal) = self.book.reversal_mut(number) else { return Ok(()) };
        if reversal.code.is_some() || reversal.repeats != repeats {
            return Ok(());
        }
        if reversal.repeats >= most {
            let stan = reversal.stan;
            self.forget(stan, Waiting::Reversal(number));
            return Ok(());
        }
        reversal.repeats += 1;
        let (stan, repeats) = (reversal.stan, reversal.repeats);
        self.wait_for(stan, Waiting::Reversal(number), repeats, now);
        match connection {
            Some(connection) => self.transmit_reversal(connection, number, true, now, out),
            None => Ok(()),
        }
    }

    fn transmit_reversal(
        &mut self,
        connection: usize,
        number: ReversalNumber,
        repeat: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let Some(reversal) = self.book.reversal(number) else { return Ok(()) };
        let entry = self.book.payment(reversal.of).ok_or(SimError::NoSuchPayment(reversal.of.0))?;
        let payment = entry.payment;
        let card = self.cards.get(payment.card).ok_or(SimError::NoSuchCard(payment.card))?;
        let merchant =
            self.merchants.get(payment.merchant).ok_or(SimError::NoSuchMerchant(payment.merchant))?;
        let mti = if repeat { reversal.mti.repeat() } else { reversal.mti };
        let terms = Terms { dialect: &self.dialect, institution: self.institution, merchant };
        // The original's elements under the reversal's own DE 7 and 11, without what only a chip can say.
        let own = BookEntry { stan: reversal.stan, sent_at: reversal.sent_at, atc: None, ..entry.clone() };
        let (shape, symbols) = (Shape::of(&own, card, mti, None), Symbols::of(&own, card, None));
        let original = self.original_data(entry);
        let message = &mut self.message;
        let written = terms.write(&shape, &symbols, message).and_then(|()| {
            if let Some(approval) = entry.answer.and_then(|answer| answer.approval) {
                message.set(DataElement::APPROVAL_CODE, approval.as_bytes())?;
            }
            if let Some(keep) = reversal.keep {
                // DE 95: actual amount n12, settlement n12, and two fees x+n8 (ISO 8583 4.4.56).
                let amounts = format!("{keep:012}{:012}C00000000C00000000", 0);
                message.set(DataElement::REPLACEMENT_AMOUNTS, amounts.as_bytes())?;
            }
            message.set(DataElement::ORIGINAL_DATA, &original.digits())
        });
        written.map_err(WriteError::Message)?;
        self.send_message(connection, Some(payment.amount.minor()), now, out)
    }

    pub(super) fn write_network(
        &mut self,
        connection: usize,
        code: NetworkCode,
        stan: Stan,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let request = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        let message = &mut self.message;
        message.clear(request.with_version(self.dialect.version()));
        let sent_at = TransmissionTime::of(now.wall).digits();
        message
            .set(DataElement::SENT_AT, &sent_at)
            .and_then(|()| message.set(DataElement::STAN, &stan.digits()))
            .and_then(|()| message.set(DataElement::NETWORK_CODE, &code.digits()))
            .map_err(WriteError::Message)?;
        self.send_message(connection, None, now, out)
    }

    /// Answers a network management request of the switch.
    pub(super) fn answer_network(
        &mut self,
        connection: usize,
        asked: &Message,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let approved = self.dialect.approved();
        crate::sim::payment::write_network_answer(asked, approved, &mut self.message)
            .map_err(WriteError::Message)?;
        self.send_message(connection, None, now, out)
    }

    /// Sends what `self.message` holds.
    fn send_message(
        &mut self,
        connection: usize,
        amount: Option<u64>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), SimError> {
        let dialect = Arc::clone(&self.dialect);
        let fault = self.wire.fault(self.message.mti(), amount);
        let Self { message, wire, header, .. } = self;
        wire.send(connection, header, fault, now.moment, |bytes| encode(&dialect, message, bytes), out)?;
        Ok(())
    }
}
