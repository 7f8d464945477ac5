//! `Tsp::restore`: the vault as a checkpoint or a base has it, read on as many threads as there are processors.

use std::num::NonZero;
use std::thread::available_parallelism;

use crate::journal::{CheckpointError, Records, Visitor};
use crate::vocab::TokenRequestorId;

use super::checkpoint::{
    CARD_CODES, CARDS, COUNTERS, DISCLOSURES, EVENTS, NOTED, OPEN, REQUESTORS, REQUESTS, STEP_UPS, TOKENS,
    TOLD, VELOCITY, decode_card_codes, decode_noted, decode_open, decode_step_up, decode_told_today,
};
use super::consent::CONSENTS;
use super::counters::TokenCounters;
use super::error::TspError;
use super::event::{CannotFollow, CardStanding};
use super::layout::{decode_registration, take_consent, take_receiver};
use super::outbox::Noted;
use super::record::VaultRecord;
use super::record_layout::decode_record;
use super::remembered_layout::decode_request;
use super::table::TableFault;
use super::tsp::Tsp;
use super::velocity::Takes;
use super::wire::Reader;

const UNREAD: CannotFollow = "a record cannot be read";

impl Tsp {
    /// Fills an empty vault with what a checkpoint or a base has; the journal's entries after it are for `replay`.
    ///
    /// # Errors
    /// `Store` for a checkpoint that is damaged, `Checkpoint` for what cannot be read, or does not fit this
    /// configuration. The vault is then of no use.
    pub fn restore(&mut self, checkpoint: &dyn Records) -> Result<(), TspError> {
        self.restore_tokens(checkpoint)?;
        read(checkpoint, REQUESTORS, |_, value| {
            let registration = decode_registration(value).ok_or(UNREAD)?;
            self.outbox.register(registration.receiver(), registration.url(), None);
            self.requestors.put(registration);
            Ok(())
        })?;
        read(checkpoint, DISCLOSURES, |key, value| {
            let requestor = TokenRequestorId::parse(key).ok();
            let (requestor, told) = requestor.zip(decode_told_today(value)).ok_or(UNREAD)?;
            self.disclosures.put(requestor, told);
            Ok(())
        })?;
        read(checkpoint, CARDS, |key, value| {
            let standing = value.first().and_then(|code| CardStanding::from_code(*code));
            let (card, standing) = key.try_into().ok().zip(standing).ok_or(UNREAD)?;
            self.cards.set(card, Some(standing));
            Ok(())
        })?;
        read(checkpoint, CARD_CODES, |key, value| {
            let (card, codes) = key.try_into().ok().zip(decode_card_codes(value)).ok_or(UNREAD)?;
            self.card_codes.put(card, codes);
            Ok(())
        })?;
        read(checkpoint, CONSENTS, |_, value| {
            self.consents.put(take_consent(&mut Reader::here(value)).ok_or(UNREAD)?);
            Ok(())
        })?;
        self.restore_taken(checkpoint)?;
        self.restore_told(checkpoint)?;
        let mut requests = share(checkpoint, REQUESTS, |_, value| decode_request(value))?;
        // Each thread had its share in order: there is little left to sort.
        requests.sort_by_key(|(number, _, _)| *number);
        for (_, key, remembered) in requests {
            self.remembered.insert(key, remembered);
        }
        Ok(())
    }

    fn restore_tokens(&mut self, checkpoint: &dyn Records) -> Result<(), TspError> {
        let Self { table, config, .. } = self;
        let loading = table.loading();
        let mut loaders: Vec<_> = (0..threads()).map(|_| loading.loader(&config.token_ranges)).collect();
        let mut visitors: Vec<Visitor<'_>> = Vec::new();
        for loader in &mut loaders {
            visitors.push(Box::new(|key, value| loader.take(key, value).map_err(CheckpointError::Damaged)));
        }
        let shared = checkpoint.share_part(TOKENS, &mut visitors);
        drop(visitors);
        let wrong = |reason| TspError::Checkpoint { part: TOKENS, reason };
        let loaded = loaders.into_iter().map(|loader| loader.end().map_err(wrong));
        let loaded = loaded.collect::<Result<Vec<_>, _>>()?;
        shared?;
        for some in &loaded {
            self.inactive.add(&some.inactive);
            self.issued.iter_mut().zip(&some.issued).for_each(|(sum, issued)| *sum += issued);
            for (requestor, live) in &some.live {
                *self.live.entry(*requestor).or_default() += live;
            }
        }
        let gap = |_: TableFault| wrong("tokens are missing");
        self.table.loaded(loaded).map_err(gap)
    }

    /// Counters that were used, and what was lately paid.
    fn restore_taken(&mut self, checkpoint: &dyn Records) -> Result<(), TspError> {
        let number = |key: &[u8]| key.try_into().map(u64::from_be_bytes).ok();
        let (velocity, counters) = (&self.velocity, &self.counters);
        share(checkpoint, VELOCITY, |key, value| {
            let (record, takes) = number(key).zip(Takes::decode(value))?;
            velocity.put(record, takes);
            Some(())
        })?;
        share(checkpoint, COUNTERS, |key, value| {
            let (place, taken) = number(key).zip(TokenCounters::decode(value))?;
            counters.put(place, taken);
            Some(())
        })?;
        read(checkpoint, OPEN, |_, value| {
            let open = decode_open(value).ok_or(UNREAD)?;
            open.into_iter().for_each(|(payment, record)| velocity.put_open(payment, record));
            Ok(())
        })
    }

    /// What tokens wait for, and what receivers are still to be told.
    fn restore_told(&mut self, checkpoint: &dyn Records) -> Result<(), TspError> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| UNREAD);
        read(checkpoint, EVENTS, |_, value| {
            self.events = number(value)?;
            Ok(())
        })?;
        read(checkpoint, STEP_UPS, |key, value| {
            self.step_ups.insert(number(key)?, decode_step_up(value).ok_or(UNREAD)?);
            Ok(())
        })?;
        read(checkpoint, TOLD, |key, value| {
            let receiver = take_receiver(&mut Reader::here(key)).ok_or(UNREAD)?;
            self.outbox.told(receiver, number(value)?);
            Ok(())
        })?;
        // Read where nobody is to be told, too: damage that a start does not see ends the checkpoint's keeper later.
        let mut noted = share(checkpoint, NOTED, |_, value| decode_noted(value))?;
        if !self.outbox.is_needed() {
            return Ok(());
        }
        noted.sort_by_key(|noted: &Noted| (noted.ordinal, noted.record));
        for noted in noted {
            if let Some(record) = self.table.record(noted.record) {
                self.notify_late(&noted, &record);
            }
        }
        Ok(())
    }
}

/// Every token that a checkpoint or a base has, by record; for who only looks.
///
/// # Errors
/// As `Tsp::restore`.
pub fn kept_tokens(records: &dyn Records, mut visit: impl FnMut(VaultRecord)) -> Result<(), TspError> {
    read(records, TOKENS, |_, value| {
        visit(decode_record(value).ok_or(UNREAD)?);
        Ok(())
    })
}

fn threads() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Hands over every record of a part, in order.
fn read(
    checkpoint: &dyn Records,
    part: &'static str,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), CannotFollow>,
) -> Result<(), TspError> {
    let mut fault = None;
    let done = checkpoint.scan_part(part, &mut |key, value| {
        take(key, value).map_err(|reason| {
            fault = Some(TspError::Checkpoint { part, reason });
            CheckpointError::Damaged(reason)
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(done?),
    }
}

/// What several threads make of the records of a part, in no order.
fn share<T: Send>(
    checkpoint: &dyn Records,
    part: &'static str,
    take: impl Fn(&[u8], &[u8]) -> Option<T> + Sync,
) -> Result<Vec<T>, TspError> {
    let (mut taken, unread) = (Vec::new(), std::sync::atomic::AtomicBool::new(false));
    taken.resize_with(threads(), Vec::new);
    let mut visitors: Vec<Visitor<'_>> = Vec::new();
    for taken in &mut taken {
        let (take, unread) = (&take, &unread);
        visitors.push(Box::new(move |key, value| {
            let Some(one) = take(key, value) else {
                unread.store(true, std::sync::atomic::Ordering::Relaxed);
                return Err(CheckpointError::Damaged(UNREAD));
            };
            taken.push(one);
            Ok(())
        }));
    }
    let shared = checkpoint.share_part(part, &mut visitors);
    drop(visitors);
    if unread.into_inner() {
        return Err(TspError::Checkpoint { part, reason: UNREAD });
    }
    shared?;
    Ok(taken.into_iter().flatten().collect())
}
