//! What happens to cards, and so to all their tokens: another expiry or number, lost, found, closed; and what may be
//! asked about a card's tokens.

use crate::stdx::clock::{Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::{Digits, Pan, Par, TokenReferenceId, YearMonth, luhn_valid};

use super::command::{CardNews, CardRequest, ParQuery};
use super::config::PanRange;
use super::error::ProvisioningRefusal;
use super::event::{
    CardChange, CardEvent, CardStanding, Change, Principal, Successor, TokenAfter, TokenEvent,
};
use super::generate::draw_par;
use super::lifecycle::{Lifecycle, Move, Moved, TokenStatus};
use super::record::{CardAad, CardData, VaultRecord, open_card, seal_card};
use super::tsp::{Decision, Tsp};

/// What happens to a card happens to so many of its tokens, in one entry of the journal, which holds 64 KiB: to all
/// that are not deactivated, of which there are never more, and then to the newest.
const TOKENS_MOST: usize = 700;

/// A card to which a token leads, or led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingView {
    pub mapping_version: u32,
    /// Of the PAN.
    pub last4: Digits<4>,
    /// None: still.
    pub until: Option<Wall>,
}

/// How cards stand that are not as any: of those without tokens no more than the vault may hold tokens.
#[derive(Debug, Default)]
pub(super) struct Cards {
    standings: Map<[u8; 16], CardStanding>,
}

impl Cards {
    pub(super) fn set(&mut self, card: [u8; 16], standing: Option<CardStanding>) {
        match standing {
            Some(standing) => drop(self.standings.insert(card, standing)),
            None => drop(self.standings.remove(&card)),
        }
    }

    pub(super) fn note(&mut self, change: &CardChange) {
        let standing = change.event.standing();
        if (standing.is_some() || change.event.clears()) && !sabotaged("lost-card-forgotten") {
            self.set(change.blind_index, standing);
        }
    }
}

impl Tsp {
    /// How a card will stand once everything that waits is applied; none: as any.
    pub(super) fn standing(&self, card: &[u8; 16]) -> Option<CardStanding> {
        match self.ahead.cards.get(card) {
            Some((_, ahead)) => *ahead,
            None => self.cards.standings.get(card).copied(),
        }
    }

    /// What becomes of a card's tokens. All of it is one event: nobody ever sees half of a card suspended.
    pub(super) fn decide_card(
        &self,
        request: &CardRequest,
        now: Now,
        entropy: &mut Entropy,
    ) -> Result<Decision, ProvisioningRefusal> {
        let (cause, today) = (request.cause(&self.indexer), YearMonth::of(now.wall));
        if let Some(decided) = self.repeated(&cause, today)? {
            return Ok(decided);
        }
        let pans = self.own_range(cause.principal, &request.pan)?;
        let blind_index = self.indexer.index(&request.pan);
        let mut records = self.of_card(&blind_index);
        let event = request.news.event();
        self.check_standing(&blind_index, event, !records.is_empty())?;
        records.sort_by_key(|it| (it.lifecycle.status == TokenStatus::Deactivated, u64::MAX - it.record));
        records.truncate(TOKENS_MOST);
        let mut change = CardChange { event, blind_index, successor: None, tokens: Vec::new() };
        match &request.news {
            CardNews::NewExpiry { expiry, sequence } => {
                if expiry.is_past(today) {
                    return Err(ProvisioningRefusal::CardExpired);
                }
                let card = CardData { pan: request.pan.clone(), expiry: Some(*expiry), sequence: *sequence };
                let par = records.first().and_then(|record| record.par);
                self.lead_to(&card, par, &records, &mut change, entropy)?;
            }
            CardNews::NewPan { pan, expiry, sequence, keep_par, par } => {
                let to =
                    self.own_range(cause.principal, pan).map_err(|_| ProvisioningRefusal::CardNotEligible)?;
                if to.product != pans.product || *pan == request.pan {
                    return Err(ProvisioningRefusal::CardNotEligible);
                }
                if expiry.is_past(today) {
                    return Err(ProvisioningRefusal::CardExpired);
                }
                let next = self.indexer.index(pan);
                if self.standing(&next).is_some() {
                    return Err(ProvisioningRefusal::CardBlocked);
                }
                let live = |record: &&VaultRecord| record.lifecycle.status != TokenStatus::Deactivated;
                let together = self.of_card(&next).iter().chain(&records).filter(live).count();
                if together > TOKENS_MOST {
                    return Err(ProvisioningRefusal::TooManyTokensOfCard);
                }
                let keeps = keep_par.unwrap_or(self.config.par_follows_account);
                let old = records.first().and_then(|record| record.par).filter(|_| keeps);
                let par = self.par_of_successor(pan, to, old, *par, entropy)?;
                if *keep_par == Some(true) && old.is_some_and(|old| par != Some(old)) {
                    return Err(ProvisioningRefusal::ParDiffers);
                }
                let card = CardData { pan: pan.clone(), expiry: Some(*expiry), sequence: *sequence };
                self.lead_to(&card, par, &records, &mut change, entropy)?;
            }
            CardNews::Lost | CardNews::Stolen => change.becomes(&records, Lifecycle::card_lost),
            CardNews::Found => change.becomes(&records, Lifecycle::card_found),
            CardNews::Closed => change.becomes(&records, |from| match from.after(Move::Unlink) {
                Moved::To(after) => after,
                Moved::Already | Moved::Illegal => from,
            }),
        }
        Ok(Decision::New(Box::new(TokenEvent { cause, change: Change::Card(Box::new(change)) })))
    }

    /// Whether this can happen to a card that stands as it does. One that is lost or closed may be so before it has a
    /// token, and gets none then.
    fn check_standing(
        &self,
        card: &[u8; 16],
        event: CardEvent,
        has_tokens: bool,
    ) -> Result<(), ProvisioningRefusal> {
        let standing = self.standing(card);
        let for_good = matches!(standing, Some(CardStanding::Closed | CardStanding::Replaced));
        if for_good && event != CardEvent::Closed {
            return Err(ProvisioningRefusal::CardBlocked);
        }
        let stands_alone = match event {
            CardEvent::Lost | CardEvent::Stolen | CardEvent::Closed => true,
            CardEvent::Found => standing.is_some(),
            CardEvent::NewExpiry | CardEvent::NewPan => false,
        };
        if !has_tokens && !stands_alone {
            return Err(ProvisioningRefusal::UnknownCard);
        }
        let known = self.cards.standings.len().saturating_add(self.ahead.cards.len());
        let room = has_tokens || standing.is_some() || known < self.table.capacity();
        room.then_some(()).ok_or(ProvisioningRefusal::VaultFull)
    }

    /// The payment account reference of a principal's card or token; none when it has none.
    pub(super) fn par(
        &self,
        principal: Principal,
        query: &ParQuery,
    ) -> Result<Option<Par>, ProvisioningRefusal> {
        let record = match query {
            ParQuery::Reference(reference) => self.owned(principal, *reference),
            ParQuery::Token(token) => {
                let record = self.table.by_token(token).and_then(|record| self.table.record(record));
                record.and_then(|record| self.owned(principal, record.reference))
            }
            ParQuery::Pan(pan) => {
                self.own_range(principal, pan)?;
                let of_card = self.table.of_pan(self.indexer.index(pan)).next();
                return of_card.map(|record| record.par).ok_or(ProvisioningRefusal::UnknownCard);
            }
        };
        let record = record.and_then(|record| self.table.record(record));
        record.map(|record| record.par).ok_or(ProvisioningRefusal::UnknownToken)
    }

    /// The cards to which a token led and leads, for issuers and operators: a dispute is about the card of its day.
    pub(super) fn mappings(
        &self,
        principal: Principal,
        reference: TokenReferenceId,
    ) -> Result<Vec<MappingView>, ProvisioningRefusal> {
        let record = self.owned(principal, reference).and_then(|record| self.table.record(record));
        let record = record.ok_or(ProvisioningRefusal::UnknownToken)?;
        if matches!(principal, Principal::Requestor(_)) {
            return Err(ProvisioningRefusal::NotYours);
        }
        let view = |(mapping_version, sealed, until)| {
            let aad = CardAad::vault(&record.token, record.record, mapping_version);
            let card =
                open_card(&self.sealer, &aad, &sealed).map_err(|_| ProvisioningRefusal::Unavailable)?;
            Ok(MappingView { mapping_version, last4: card.pan.last4(), until })
        };
        let past = record.past.iter().map(|past| (past.mapping_version, past.sealed, Some(past.until)));
        past.chain([(record.mapping_version, record.sealed, None)]).map(view).collect()
    }

    /// The range of a card that this principal may speak of.
    fn own_range(&self, principal: Principal, pan: &Pan) -> Result<&PanRange, ProvisioningRefusal> {
        if !luhn_valid(pan.expose_digits()) {
            return Err(ProvisioningRefusal::CardNotValid);
        }
        let range = self.config.pan_range(pan).ok_or(ProvisioningRefusal::UnknownCard)?;
        let theirs = match principal {
            Principal::Issuer(name) => range.issuer == Some(name),
            Principal::Operator(_) | Principal::Service => true,
            Principal::Requestor(_) => false,
        };
        theirs.then_some(range).ok_or(ProvisioningRefusal::UnknownCard)
    }

    /// That of the new number's tokens, if it has some; else the account's; else a new one, or the one supplied.
    fn par_of_successor(
        &self,
        pan: &Pan,
        range: &PanRange,
        old: Option<Par>,
        supplied: Option<Par>,
        entropy: &mut Entropy,
    ) -> Result<Option<Par>, ProvisioningRefusal> {
        let own = self.of_card(&self.indexer.index(pan)).last().and_then(|record| record.par);
        match (own.or(old), &self.config.bin_controller) {
            (Some(par), _) => Ok(Some(par)),
            (None, Some(controller)) if range.controlled => {
                draw_par(controller, entropy).map_err(|_| ProvisioningRefusal::Unavailable)
            }
            (None, _) => Ok(supplied),
        }
    }

    /// Seals the card to each token, in the mapping version that follows.
    fn lead_to(
        &self,
        card: &CardData,
        par: Option<Par>,
        records: &[VaultRecord],
        change: &mut CardChange,
        entropy: &mut Entropy,
    ) -> Result<(), ProvisioningRefusal> {
        let blind_index = self.indexer.index(&card.pan);
        change.successor = Some(Successor { blind_index, last4: card.pan.last4(), par });
        for record in records {
            let aad = CardAad::vault(&record.token, record.record, record.mapping_version);
            let before = open_card(&self.sealer, &aad, &record.sealed);
            let before = before.map_err(|_| ProvisioningRefusal::Unavailable)?;
            // What is not said of the same number stays as it was.
            let same = before.pan == card.pan;
            let sequence = card.sequence.or(before.sequence.filter(|_| same));
            let card = CardData { sequence, ..card.clone() };
            let next = record.mapping_version.saturating_add(1);
            let aad = CardAad::vault(&record.token, record.record, next);
            let sealed = seal_card(&self.sealer, entropy, &aad, &card);
            change.tokens.push(TokenAfter {
                record: record.record,
                before: record.lifecycle,
                lifecycle: record.lifecycle.touched(),
                sealed: Some(sealed.map_err(|_| ProvisioningRefusal::Unavailable)?),
            });
        }
        Ok(())
    }
}

impl CardChange {
    /// Notes the tokens that stand elsewhere after it.
    fn becomes(&mut self, records: &[VaultRecord], after: impl Fn(Lifecycle) -> Lifecycle) {
        let moved = records.iter().map(|record| (record.record, record.lifecycle, after(record.lifecycle)));
        let moved = moved.filter(|(_, before, lifecycle)| before != lifecycle);
        let token = |(record, before, lifecycle)| TokenAfter { record, before, lifecycle, sealed: None };
        self.tokens.extend(moved.map(token));
    }
}
