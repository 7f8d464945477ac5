//! A history in which much happens: purchases approved and declined, holds raised and completed, refunds, reversals,
//! time-outs, approvals in an issuer's place and advices, of three acquirers at two issuers, over a month of settlement
//! windows.

use std::sync::Arc;

use tokenswitch::config::Config;
use tokenswitch::journal::{
    AcquirerLeg, Body, CardRef, DeliveredEntry, DeliveryEnd, Elements, IssuerLeg, OutcomeEntry, RequestEntry,
    StoredEntry, StoredKind, TransactionEntry,
};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::stdx::random::Entropy;
use tokenswitch::switch::{Cards, SwitchConfig};
use tokenswitch::tsp::CardData;
use tokenswitch::vocab::{
    Amount, Currency, LinkId, Mti, Outcome, Refusal, ResponseCode, ReversalReason, SentAt, SettlementWindow,
    Stan, TransactionId, Verdicts,
};

use super::{Batch, elements, pan};

const ACQUIRERS: u64 = 3;
const DAYS: u64 = 30;
const DAY: u64 = 86_400_000;
const HELD: u64 = 12_345;

/// Writes stories until there are so many transactions, in a journal whose batches are `batch`.
pub(crate) fn write(config: &Config, transactions: u64, batch: &mut Batch) {
    let switch = config.switch();
    let window = switch.window(Wall(batch.now.wall.0 - DAYS * DAY));
    let cards = Cards::new(config.security.data_sealer(), 7);
    let issuers = [0, 1].map(|at| config.issuers[at].party.link);
    let (entropy, kinds) = (Entropy::seeded(2), 0);
    let mut story = Story { batch, switch, cards, entropy, issuers, window, last: 0, kinds };
    while story.last < transactions {
        story.next_day(transactions);
        story.tell();
    }
}

struct Story<'a> {
    batch: &'a mut Batch,
    switch: SwitchConfig,
    cards: Cards,
    entropy: Entropy,
    issuers: [LinkId; 2],
    window: SettlementWindow,
    /// The newest transaction's number.
    last: u64,
    kinds: u64,
}

impl Story<'_> {
    /// The days pass evenly.
    fn next_day(&mut self, transactions: u64) {
        let days_left = DAYS.saturating_sub(self.last * DAYS / transactions.max(1));
        let window = self.switch.window(Wall(self.batch.now.wall.0 - days_left * DAY));
        if window != self.window {
            self.batch.push(Body::CutOver(window));
            self.batch.push(Body::WindowClosed(std::mem::replace(&mut self.window, window)));
        }
    }

    /// One story: of twenty, ten are purchases that are approved.
    fn tell(&mut self) {
        self.kinds += 1;
        match self.kinds % 20 {
            0..10 => drop(self.paid("0200", "000000", HELD, None)),
            10 => {
                let request = self.request("0200", "000000", HELD, None);
                self.outcome(&request, Outcome::Declined, "51");
            }
            11 | 12 => {
                let hold = self.paid("0100", "000000", HELD, None);
                let advice = self.stored(StoredKind::Advice, "0220", &hold, HELD);
                self.owed(advice);
            }
            13 => {
                let hold = self.paid("0100", "000000", HELD, None);
                self.paid("0100", "000000", 1_000, Some(&hold));
                self.paid("0200", "000000", HELD + 1_000, Some(&hold));
            }
            14 => {
                let purchase = self.paid("0200", "000000", HELD, None);
                self.paid("0200", "200000", HELD / 2, Some(&purchase));
            }
            15 => {
                let purchase = self.paid("0200", "000000", HELD, None);
                let reversal = self.stored(StoredKind::AcquirerReversal, "0420", &purchase, HELD);
                self.owed(reversal);
            }
            16 => {
                let request = self.request("0200", "000000", HELD, None);
                let reason = StoredKind::OwnReversal(ReversalReason::TimedOut);
                let reversal = self.stored(reason, "0420", &request, HELD);
                let ended = OutcomeEntry {
                    refusal: Some(Refusal::IssuerTimedOut),
                    reversal: Some(reversal.clone()),
                    ..outcome(&request, Outcome::Unknown, "91")
                };
                self.push(TransactionEntry::Outcome(Box::new(ended)));
                self.delivered(reversal.transaction);
            }
            17 => {
                let request = self.request("0200", "000000", HELD, None);
                let advice = self.stored(StoredKind::StandIn, "0220", &request, HELD);
                let advice = StoredEntry { settles: false, ..advice };
                let ended = OutcomeEntry {
                    advice: Some(advice.clone()),
                    ..outcome(&request, Outcome::Approved, "00")
                };
                self.push(TransactionEntry::Outcome(Box::new(ended)));
                self.delivered(advice.transaction);
            }
            _ => {
                let told = self.request_of("0220", "000000", HELD, None);
                let advice = self.stored(StoredKind::Advice, "0220", &told, HELD);
                self.owed(StoredEntry { original: None, original_data: None, ..advice });
            }
        }
    }

    fn push(&mut self, entry: TransactionEntry) {
        self.batch.push(Body::Transaction(entry));
    }

    fn paid(&mut self, mti: &str, processing: &str, minor: u64, of: Option<&RequestEntry>) -> RequestEntry {
        let request = self.request(mti, processing, minor, of);
        self.outcome(&request, Outcome::Approved, "00");
        request
    }

    fn request(
        &mut self,
        mti: &str,
        processing: &str,
        minor: u64,
        of: Option<&RequestEntry>,
    ) -> RequestEntry {
        let request = self.request_of(mti, processing, minor, of);
        self.push(TransactionEntry::Request(Box::new(request.clone())));
        request
    }

    fn request_of(
        &mut self,
        mti: &str,
        processing: &str,
        minor: u64,
        of: Option<&RequestEntry>,
    ) -> RequestEntry {
        self.last += 1;
        let (transaction, mti) = (TransactionId(self.last), Mti::parse(mti.as_bytes()).unwrap());
        let stan = Stan::new((self.last % u64::from(Stan::MOST)) as u32 + 1).unwrap();
        let sent_at = SentAt(self.batch.now.wall.seconds().saturating_sub(1));
        let acquirer = LinkId(u16::try_from(1 + self.kinds % ACQUIRERS).unwrap());
        let issuer = self.issuers[usize::from(self.kinds.is_multiple_of(3))];
        let mut elements = elements(u32::try_from(self.last % 1_000_000_000).unwrap());
        let amount = format!("{minor:012}");
        assert!(elements.keep(3, processing.as_bytes()) && elements.keep(4, amount.as_bytes()));
        let original_data = of.map(original_data);
        assert!(original_data.is_none_or(|data| elements.keep(90, &data)));
        RequestEntry {
            transaction,
            original: of.map(|of| of.transaction),
            acquirer: AcquirerLeg { link: acquirer, mti, sent_at, stan },
            issuer: IssuerLeg { link: issuer, mti, sent_at, stan, forwarder: None },
            elements,
            card: self.card(transaction),
            verdicts: Verdicts::default(),
            counter: None,
            window: self.window,
            moves_money: true,
            settles: mti.digits()[1] == b'2',
        }
    }

    fn card(&mut self, transaction: TransactionId) -> Arc<CardRef> {
        let number = u32::try_from(self.last % 50_000).unwrap();
        let card = CardData { pan: pan(number), expiry: None, sequence: None };
        let sealed = self.cards.seal(&mut self.entropy, transaction, &card).unwrap();
        Arc::new(CardRef { token: None, sealed })
    }

    fn outcome(&mut self, request: &RequestEntry, how: Outcome, code: &str) {
        let ended = outcome(request, how, code);
        self.push(TransactionEntry::Outcome(Box::new(ended)));
    }

    /// A message about an earlier one, with numbers of its own.
    fn stored(&mut self, kind: StoredKind, mti: &str, of: &RequestEntry, minor: u64) -> StoredEntry {
        let own = self.request_of(mti, "000000", minor, Some(of));
        let of_acquirer = matches!(kind, StoredKind::Advice | StoredKind::AcquirerReversal);
        StoredEntry {
            transaction: own.transaction,
            original: own.original,
            kind,
            acquirer: of_acquirer.then_some(AcquirerLeg { link: of.acquirer.link, ..own.acquirer }),
            issuer: IssuerLeg { link: of.issuer.link, ..own.issuer },
            elements: own.elements,
            original_data: Some(original_data(of)),
            // As the switch seals it: an advice's for itself.
            card: if kind == StoredKind::Advice { own.card } else { Arc::clone(&of.card) },
            verdicts: Verdicts::default(),
            window: self.window,
            settles: of.settles || kind == StoredKind::Advice,
            answer: Elements::default(),
        }
    }

    fn owed(&mut self, stored: StoredEntry) {
        let id = stored.transaction;
        self.push(TransactionEntry::Stored(Box::new(stored)));
        self.delivered(id);
    }

    fn delivered(&mut self, stored: TransactionId) {
        let end = DeliveryEnd::Acknowledged(ResponseCode::parse(b"00").unwrap());
        self.push(TransactionEntry::Delivered(DeliveredEntry { stored, end }));
    }
}

fn outcome(request: &RequestEntry, outcome: Outcome, code: &str) -> OutcomeEntry {
    let mut answer = Elements::new();
    assert!(answer.keep(39, code.as_bytes()) && answer.keep(38, b"A12345"));
    let approved = outcome == Outcome::Approved;
    let minor = request.elements.amount().map_or(0, Amount::minor);
    let euros = Currency::from_letters("EUR").unwrap();
    OutcomeEntry {
        transaction: request.transaction,
        outcome,
        refusal: None,
        answer,
        approved: approved.then(|| Amount::new(minor, euros)),
        reversal: None,
        advice: None,
        counter: None,
    }
}

/// DE 90 of the issuer's leg.
fn original_data(of: &RequestEntry) -> [u8; 42] {
    let IssuerLeg { mti, stan, sent_at, .. } = of.issuer;
    let named = [&mti.digits()[..], &stan.digits(), &sent_at.transmission_time().digits()].concat();
    let mut data = [b'0'; 42];
    data[..named.len()].copy_from_slice(&named);
    data
}
