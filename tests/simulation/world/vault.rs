//! What requestors, issuers, operators and cardholders ask of the vault in a run, and what they hear.

use std::collections::BTreeMap;

use tokenswitch::stdx::clock::Now;
use tokenswitch::tsp::{
    Actor, Answer, Asker, CallId, CardEvent, CardNews, CardRequest, CodeRequest, CodeSubmission, Command,
    ConsentRequest, ControlRequest, CryptogramRequest, DetokenizeRequest, DisclosureOf, DisclosurePurpose,
    DisclosureRequest, EntryModes, KeyKind, KeyRequest, Merchant, Move, MoveRequest, Principal,
    ProvisionRequest, Purpose, Receiver, RegistryChange, RegistryRequest, RequestId, SourceToken,
    SourcedRequest, StepUpCode, Suspender, TokenControls, TokenStatus, TokenView, Told, UpdateRequest,
    VelocityRule, VelocityWindow,
};
use tokenswitch::vocab::{
    Amount, Currency, EntryMode, Expiry, Initiator, RiskHints, Text, TokenAssuranceMethod, TransactionId,
};

use super::{Happening, MILLI, Step, World};
use crate::audit::Broken;
use crate::given::{KeyFor, Keys, Order, device};
use crate::house::House;
use crate::notices::Hearer;
use crate::parties::{Party, Sourced};
use crate::setting::{ACQUIRERS, ASKED_ISSUER, PARTIES, card_key, merchants, requestor, requestor_at};
use crate::vault::{Asked, Holding, NEW_EXPIRY, Narrowing, SMALL, VaultBook};

/// The first cards are those behind the tokens that pay.
const PAYING: usize = 6;
/// Two of those that pay have phones that keep no card key. The other issuer may check cryptograms itself.
const REPLENISHED: [usize; 2] = [3, 5];

/// What those phones get.
const LIMITED: KeyFor = KeyFor { kind: KeyKind::Limited, device: 0 };

/// Who asks for it.
fn principal(book: &VaultBook, asked: &Asked) -> Principal {
    let requestor = Principal::Requestor(requestor_at(asking(book, asked)));
    let name = |bytes: &[u8]| Text::parse("name", bytes).expect("short");
    match asked {
        Asked::Tell(telling) => party(telling.by),
        Asked::MoveBy { by, .. } => party(*by),
        Asked::Confirm { .. } | Asked::GiveUp { .. } => Principal::Service,
        Asked::Register(wanted) if wanted.by_desk => Principal::Operator(name(b"desk")),
        Asked::Card { .. } | Asked::Narrow { by_desk: true, .. } => Principal::Operator(name(b"desk")),
        Asked::Assurance { method, .. } if method != b"01" => Principal::Operator(name(b"desk")),
        Asked::Move { to: Move::Suspend(by) | Move::Resume(by), .. } => match by {
            Suspender::Operator => Principal::Operator(name(b"desk")),
            Suspender::Issuer => Principal::Service,
            Suspender::TokenRequestor | Suspender::Cardholder | Suspender::MobilePinLocked => requestor,
        },
        _ => requestor,
    }
}

/// A party by its name.
fn party(by: Party) -> Principal {
    let name = |bytes: &[u8]| Text::parse("name", bytes).expect("short");
    match by {
        Party::Requestor(place) => Principal::Requestor(requestor_at(place)),
        Party::Issuer => Principal::Issuer(name(ASKED_ISSUER)),
        Party::Desk => Principal::Operator(name(b"desk")),
    }
}

/// A receiver of notifications by its name.
pub(super) fn receiver(hearer: Hearer) -> Receiver {
    match hearer {
        Hearer::Requestor(place) => Receiver::Requestor(requestor_at(place)),
        Hearer::Issuer => Receiver::Issuer(Text::parse("name", ASKED_ISSUER).expect("short")),
    }
}

/// All that receivers are still to be told waits for them.
fn compare_notices(house: &House, book: &VaultBook) -> Step {
    let outbox = house.notices();
    for hearer in book.notices().hearers() {
        let waiting = outbox.first(receiver(hearer), usize::MAX);
        let there = waiting.iter().filter_map(|told| Some((told.sequence, book.told_of(told)?))).collect();
        book.notices().waits(hearer, &there, |at| book.reference(at).is_some())?;
    }
    Ok(())
}

/// Which requestor does, if one does: of a token, its holder.
fn asking(book: &VaultBook, asked: &Asked) -> usize {
    match asked {
        Asked::Token { .. } | Asked::Card { .. } | Asked::Tell(_) | Asked::Confirm { .. } => 0,
        Asked::TellDenied { by } => *by,
        Asked::Register(wanted) => wanted.place,
        Asked::From(wanted) => wanted.by,
        Asked::Cryptogram(order) => book.owner(order.token),
        Asked::Move { token, .. }
        | Asked::Assurance { token, .. }
        | Asked::Narrow { token, .. }
        | Asked::Code { token }
        | Asked::Proof { token, .. }
        | Asked::Key { token, .. }
        | Asked::Renew { token }
        | Asked::GiveUp { token }
        | Asked::MoveBy { token, .. }
        | Asked::Consent { token, .. } => book.owner(*token),
    }
}

fn asker(book: &VaultBook, id: &str, asked: &Asked) -> Asker {
    let principal = principal(book, asked);
    let actor = match principal {
        Principal::Requestor(_) => Actor::TokenRequestor,
        Principal::Issuer(_) => Actor::Issuer,
        Principal::Operator(_) => Actor::Operator,
        Principal::Service => Actor::Service,
    };
    Asker::new(principal, actor, RequestId::parse(id.as_bytes()).expect("short"))
}

fn controls(narrowing: Narrowing) -> TokenControls {
    let none = TokenControls::default();
    let euros = |minor| Amount::new(minor, Currency::from_letters("EUR").expect("known"));
    match narrowing {
        Narrowing::Tap => {
            let modes = EntryModes::default().with(EntryMode::CONTACTLESS_CHIP);
            TokenControls { entry_modes: Some(modes), ..none }
        }
        Narrowing::Small => TokenControls { most_amount: Some(euros(SMALL)), ..none },
        Narrowing::Seldom(most) => {
            let window = VelocityWindow::Hours(24);
            let rule = VelocityRule { window, most_payments: Some(most), most_amount: None };
            TokenControls { velocity: vec![rule], ..none }
        }
    }
}

/// The request as the vault takes it.
pub(super) fn command(book: &VaultBook, call: CallId, id: &str, asked: &Asked) -> Command {
    let asker = asker(book, id, asked);
    let reference = |token: usize| book.reference(token).expect("only its holder asks about a token");
    match asked {
        Asked::Token { card } => {
            let card = &book.cards()[*card].card;
            let request = ProvisionRequest::of(asker, card.pan.clone(), card.expiry);
            Command::Provision {
                call,
                request: Box::new(ProvisionRequest { sequence: card.sequence, ..request }),
            }
        }
        Asked::Move { token, to } | Asked::MoveBy { token, to, .. } => {
            let request = MoveRequest { asker, reference: reference(*token), asked: *to, version: None };
            Command::Move { call, request }
        }
        Asked::Assurance { token, method } => {
            let assurance = TokenAssuranceMethod::parse(method).ok();
            let reference = reference(*token);
            let request = UpdateRequest { asker, reference, version: None, renew: false, assurance };
            Command::Update { call, request }
        }
        Asked::Narrow { token, to, .. } => {
            let controls = to.map(|to| Box::new(controls(to)));
            let request = ControlRequest { asker, reference: reference(*token), version: None, controls };
            Command::Control { call, request: Box::new(request) }
        }
        Asked::Card { card, event } => {
            let expiry = Expiry::parse(NEW_EXPIRY).expect("digits");
            let this = &book.cards()[*card];
            let news = match event {
                CardEvent::NewExpiry => CardNews::NewExpiry { expiry, sequence: None },
                CardEvent::NewPan => {
                    let next = &book.cards()[this.successor.expect("it has one")].card;
                    CardNews::NewPan {
                        pan: next.pan.clone(),
                        expiry: next.expiry,
                        sequence: next.sequence,
                        keep_par: None,
                        par: None,
                    }
                }
                CardEvent::Lost => CardNews::Lost,
                CardEvent::Stolen => CardNews::Stolen,
                CardEvent::Found => CardNews::Found,
                CardEvent::Closed => CardNews::Closed,
            };
            let request = CardRequest { asker, pan: this.card.pan.clone(), news };
            Command::Card { call, request: Box::new(request) }
        }
        Asked::Code { token } => {
            let request = CodeRequest { asker, reference: reference(*token), contact: 1 };
            Command::RequestCode { call, request }
        }
        Asked::Cryptogram(order) => {
            let merchant = Merchant { acquirer: ACQUIRERS[order.acquirer], id: order.merchant };
            let (reference, amount) = (reference(order.token), order.amount());
            let request =
                CryptogramRequest { asker, reference, merchant, amount, initiator: Initiator::Customer };
            Command::Cryptogram { call, request: Box::new(request) }
        }
        Asked::Key { token, wanted: KeyFor { kind, device: at } } => {
            let (reference, kind, device) = (reference(*token), *kind, device(*at));
            Command::Key { call, request: Box::new(KeyRequest { asker, reference, kind, device }) }
        }
        Asked::Renew { token } => {
            let reference = reference(*token);
            let request = UpdateRequest { asker, reference, version: None, renew: true, assurance: None };
            Command::Update { call, request }
        }
        Asked::GiveUp { .. } => Command::GiveUpOverdue { call },
        Asked::From(wanted) => {
            let request = SourcedRequest {
                asker,
                source: source(book, wanted.source, wanted.by_number),
                assurance: None,
                location: None,
                device: None,
                hints: RiskHints::default(),
                controls: None,
                consent: wanted.consent.and_then(|number| book.consents().id(number)),
            };
            Command::ProvisionFrom { call, request: Box::new(request) }
        }
        Asked::Register(wanted) => {
            let change = match &wanted.terms {
                Some(terms) => RegistryChange::Set(Box::new(requestor(wanted.place, terms))),
                None => RegistryChange::Close(requestor_at(wanted.place)),
            };
            let request = RegistryRequest { asker, version: wanted.seen, change };
            Command::Registry { call, request: Box::new(request) }
        }
        Asked::Confirm { hearer, up_to } => {
            Command::Notified { call, receiver: receiver(*hearer), up_to: *up_to }
        }
        Asked::TellDenied { .. } => Command::DiscloseDenied { call, asker: Box::new(asker) },
        Asked::Tell(telling) => {
            let of = match source(book, telling.token, telling.by_number) {
                SourceToken::Token(token, expiry) => DisclosureOf::Token(token, expiry),
                SourceToken::Reference(reference) => DisclosureOf::Reference(reference),
            };
            let request = DisclosureRequest { asker, of, purpose: DisclosurePurpose::Dispute };
            Command::Disclose { call, request: Box::new(request) }
        }
        Asked::Consent { token, to } => {
            let request = ConsentRequest { asker, reference: reference(*token), to: requestor_at(*to) };
            Command::Consent { call, request }
        }
        Asked::Proof { token, code } => {
            let (reference, code) = (reference(*token), StepUpCode::parse(code).expect("six digits"));
            let request = CodeSubmission { asker, reference, code, device: None };
            Command::SubmitCode { call, request: Box::new(request) }
        }
    }
}

/// How a token is named by others than its holder.
fn source(book: &VaultBook, token: usize, by_number: Option<Expiry>) -> SourceToken {
    let known = book.known().find(|(at, ..)| *at == token);
    let (_, view, _) = known.expect("only a token that is known is named");
    match by_number {
        Some(expiry) => SourceToken::Token(view.token, expiry),
        None => SourceToken::Reference(view.reference),
    }
}

/// Each requestor may have a token made from whichever others share with it, or let it by what was not presented yet.
fn compare_sources(house: &mut House, book: &VaultBook, now: Now) -> Step {
    let mut all: Vec<Sourced> = Vec::new();
    let given = book.consents().all();
    all.extend(given.map(|it| Sourced {
        source: it.token,
        by_number: Some(book.expiry(it.token)),
        by: it.to,
        consent: Some(it.number),
    }));
    let known = book.known().flat_map(|(source, ..)| (0..PARTIES).map(move |by| (source, by)));
    all.extend(known.map(|(source, by)| Sourced { source, by_number: None, by, consent: None }));
    let mut marks = BTreeMap::new();
    for wanted in all {
        let consent = wanted.consent.and_then(|number| book.consents().id(number));
        let (call, asking) = (CallId(u64::MAX), requestor_at(wanted.by));
        let look = Command::CardBehind {
            call,
            asking,
            source: (source(book, wanted.source, wanted.by_number), consent),
        };
        let Some((_, Ok(Told::CardBehind(mark)))) = house.ask_vault(look, now).pop() else {
            return Err(format!("P8: nobody says what is behind {wanted:?}"));
        };
        if mark.is_some() != book.may_be_source(&wanted, now.wall) {
            return Err(format!("P6: {wanted:?} is allowed: {}", mark.is_some()));
        }
        let card = book.known().find(|(at, ..)| *at == wanted.source).map(|(.., holding)| holding.card);
        if let Some(mark) = mark
            && *marks.entry(card).or_insert(mark) != mark
        {
            return Err(format!("P8: {wanted:?} leads to another card"));
        }
    }
    Ok(())
}

/// The vault is what its holders know of it: each token as it is seen, where it leads, whether it would pay, and the
/// answer that each request gets again.
pub(super) fn compare(house: &mut House, book: &mut VaultBook, now: Now) -> Step {
    if house.tokens() != book.tokens() {
        return Err(format!("P8: {} tokens are known, {} are there", book.tokens(), house.tokens()));
    }
    let detokenizer = house.detokenizer();
    let call = CallId(u64::MAX);
    let known: Vec<_> = book.known().map(|(at, view, holding)| (at, *view, holding.clone())).collect();
    for (token, view, holding) in known {
        let principal = Principal::Requestor(requestor_at(holding.owner));
        let look = Command::Get { call, principal, reference: view.reference };
        let (_, seen) = house.ask_vault(look, now).pop().ok_or("P8: nobody answers a look")?;
        book.sees(token, &seen)?;
        let card = &book.cards()[holding.card].card;
        let refund = DetokenizeRequest {
            token: view.token,
            expiry: Some(holding.expiry),
            requestor: None,
            entry_mode: EntryMode::parse(b"10").ok(),
            acquirer: ACQUIRERS[0],
            merchant: None,
            category: None,
            country: None,
            transaction: TransactionId(u64::MAX),
            terminal: None,
            amount: Some(Amount::new(2 * SMALL, Currency::from_letters("EUR").expect("known"))),
            chip: None,
            remote: None,
            initiation: None,
            purpose: Purpose::Refund,
        };
        let past = DetokenizeRequest { purpose: Purpose::PastEvent, ..refund.clone() };
        let mut answers = Vec::new();
        detokenizer.detokenize_batch(now, &[past, refund], &mut answers);
        let (pays, led) = (answers.pop(), answers.pop());
        let (Some(Ok(led)), Some(pays)) = (led, pays) else {
            return Err(format!("P8: token {token} leads nowhere"));
        };
        let expiry = if holding.new_expiry { Expiry::parse(NEW_EXPIRY).ok() } else { Some(card.expiry) };
        if led.card.pan != card.pan || led.card.expiry != expiry {
            return Err(format!("P8: token {token} leads to another card"));
        }
        let may = holding.status == TokenStatus::Active
            && !holding.taps_only
            && !matches!(holding.narrowed, Some(Narrowing::Tap | Narrowing::Small));
        if pays.is_ok() != may {
            return Err(format!("P6: token {token}, {holding:?}: {:?}", pays.err()));
        }
    }
    compare_sources(house, book, now)?;
    compare_notices(house, book)?;
    let requests: Vec<(String, Asked)> =
        book.answered_requests().map(|(id, asked)| (id.to_owned(), asked.clone())).collect();
    for (id, asked) in requests {
        // That a card's number is told again is written down, and so would be an event of this look.
        if matches!(asked, Asked::Tell(_)) {
            continue;
        }
        // Whoever never heard of a token cannot ask about it.
        let command = command(book, call, &id, &asked);
        let told = house.ask_vault(command, now).pop().map(|(_, answer)| answer);
        book.asks(call, &id, &asked, now.wall, told.as_ref())?;
    }
    Ok(())
}

/// Receivers of the configuration hear from here on; those whose places are written down already, from there.
pub(super) fn adopt(house: &mut House, book: &mut VaultBook, now: Now) -> Step {
    house.ask_vault(Command::Adopt { call: CallId(0) }, now);
    house.sync()?;
    let adopted = house.vault_durable(now).len();
    book.adopted(adopted);
    Ok(())
}

/// A token for a card before the run begins.
pub(super) fn issue(
    house: &mut House,
    book: &mut VaultBook,
    card: usize,
    now: Now,
) -> Result<TokenView, Broken> {
    let (call, id, asked) = (CallId(card as u64), format!("p{card}"), Asked::Token { card });
    let told = house.ask_vault(command(book, call, &id, &asked), now).pop();
    book.asks(call, &id, &asked, now.wall, told.map(|(_, answer)| answer).as_ref())?;
    house.sync()?;
    let (_, answer) = house.vault_durable(now).pop().ok_or("P1: nobody answers")?;
    book.answers(call, &answer, house.appended())?;
    let view = answer.ok().and_then(Told::token);
    view.ok_or_else(|| "P8: no token".to_owned())
}

impl World {
    /// Somebody asks something of the vault, for the first time or again.
    pub(super) fn ask_something(&mut self) -> Step {
        if self.care_random.u32(0..4) == 0 {
            self.give_up_proofs()?;
        }
        for _ in 0..self.vault_random.u32(1..4) {
            let again = self.vault_random.u32(0..4) == 0;
            let (id, asked) = match self.vault_random.choice(&self.asked).cloned().filter(|_| again) {
                Some((id, asked)) => (id, self.maybe_altered(asked)),
                None => {
                    let Some(asked) = self.wish() else { continue };
                    (format!("v{}", self.asked.len()), asked)
                }
            };
            self.ask(id, asked)?;
        }
        Ok(())
    }

    /// One request, and what is heard at once.
    pub(super) fn ask(&mut self, id: String, asked: Asked) -> Step {
        let now = self.house_now();
        self.calls += 1;
        let call = CallId(self.calls);
        self.note(&format!("vault: {id} {asked:?}"));
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let command = command(&self.book, call, &id, &asked);
        let told = house.ask_vault(command, now).pop().map(|(_, answer)| answer);
        self.book.asks(call, &id, &asked, now.wall, told.as_ref())?;
        self.replenish(told.as_ref());
        if !matches!(asked, Asked::Confirm { .. }) {
            self.asked.push((id, asked));
        }
        self.have_it_synced();
        Ok(())
    }

    /// The service looks after tokens that wait for proof, as it does now and then.
    fn give_up_proofs(&mut self) -> Step {
        let now = self.house_now();
        self.calls += 1;
        let call = CallId(self.calls);
        self.note("vault: who has not proven itself in time?");
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        if let Some(told) = house.ask_vault(Command::GiveUpOverdue { call }, now).pop() {
            return Err(format!("P8: nobody asked, and hears {told:?}"));
        }
        self.book.gives_up(call, now.wall);
        self.have_it_synced();
        Ok(())
    }

    fn have_it_synced(&mut self) {
        if !self.syncing {
            self.syncing = true;
            self.later(MILLI, Happening::Sync);
        }
        // An issuer may be to be asked.
        self.wake();
    }

    /// What issuers said, as the vault hears it.
    pub(super) fn hear_issuers(&mut self) -> Step {
        let now = self.house_now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let mut heard = false;
        while let Some((call, word)) = house.issuers_word() {
            let told = house.ask_vault(Command::IssuerAnswered { call, word }, now).pop();
            self.book.issuer_said(call, &word, now.wall, told.map(|(_, answer)| answer).as_ref())?;
            heard = true;
        }
        if heard {
            self.have_it_synced();
        }
        Ok(())
    }

    /// A key that came goes into its phone, unless it came before.
    fn replenish(&mut self, told: Option<&Answer>) {
        let Some(Ok(Told::Key(view))) = told else { return };
        let of_view = self.book.known().find(|(_, known, _)| known.token == view.token);
        let phone = of_view.and_then(|(token, ..)| self.phones.get_mut(token));
        if let (Some((phone, newest)), Some(limited)) = (phone, view.key.limited)
            && limited.range.first > *newest
        {
            *newest = limited.range.first;
            phone.replenish(limited.range, card_key(&view.token).limited(limited.range));
        }
    }

    /// What is durable of the vault's is applied and answered.
    pub(super) fn hear_vault(&mut self) -> Step {
        let now = self.house_now();
        let Some(house) = self.house.as_mut() else { return Ok(()) };
        let answers: Vec<(CallId, Answer)> = house.vault_durable(now);
        let (appended, codes) = (house.appended(), std::mem::take(&mut house.codes));
        for (call, answer) in answers {
            self.book.answers(call, &answer, appended)?;
            self.replenish(Some(&answer));
            self.note(&format!("vault: {call:?} is answered"));
        }
        for delivery in codes {
            self.book.code_came(delivery.reference, *delivery.code.expose_code());
        }
        Ok(())
    }

    /// The same request, or another under its name.
    fn maybe_altered(&mut self, asked: Asked) -> Asked {
        if self.vault_random.u32(0..4) > 0 {
            return asked;
        }
        let other = self.wish().unwrap_or_else(|| asked.clone());
        if principal(&self.book, &other) == principal(&self.book, &asked) { other } else { asked }
    }

    /// Something new to ask; none when there is nothing of the kind.
    fn wish(&mut self) -> Option<Asked> {
        use Suspender::{Cardholder, Issuer, MobilePinLocked, Operator, TokenRequestor};
        if self.care_random.u32(0..8) == 0
            && let Some(asked) = self.keep_up()
        {
            return Some(asked);
        }
        if self.vault_random.u32(0..6) == 0
            && let Some(asked) = self.hold_and_release()
        {
            return Some(asked);
        }
        let random = &mut self.vault_random;
        let cards = self.book.cards().len();
        let kind = random.u32(0..38);
        if kind < 5 {
            return Some(Asked::Token { card: random.usize(0..cards) });
        }
        if kind < 9 {
            const EVENTS: [CardEvent; 8] = [
                CardEvent::NewExpiry,
                CardEvent::NewPan,
                CardEvent::Lost,
                CardEvent::Stolen,
                CardEvent::Found,
                CardEvent::Found,
                CardEvent::Found,
                CardEvent::Closed,
            ];
            let event = *random.choice(&EVENTS)?;
            // Of all cards, those that have tokens are the first ones.
            let card = if random.bool() { random.usize(0..PAYING) } else { random.usize(0..cards) };
            let replaced = event == CardEvent::NewPan && self.book.cards()[card].successor.is_none();
            let pays = card < PAYING && !self.renumbers && event == CardEvent::NewPan;
            return (!replaced && !pays).then_some(Asked::Card { card, event });
        }
        let known: Vec<(usize, TokenStatus)> =
            self.book.known().map(|(at, _, holding)| (at, holding.status)).collect();
        let unproven = known.iter().find(|(_, status)| *status == TokenStatus::Inactive);
        let (token, status) = *unproven.filter(|_| random.bool()).or(random.choice(&known))?;
        if status == TokenStatus::Inactive && kind < 20 {
            return self.proof_of(token);
        }
        let random = &mut self.vault_random;
        let by = *random.choice(&[Cardholder, TokenRequestor, MobilePinLocked, Operator, Issuer])?;
        Some(match kind {
            9..12 => Asked::Move { token, to: Move::Suspend(by) },
            12..16 => Asked::Move { token, to: Move::Resume(by) },
            16 => Asked::Move { token, to: Move::Activate },
            17 => Asked::Move { token, to: Move::Unlink },
            18..20 => Asked::Assurance { token, method: **random.choice(&[b"01", b"11", b"13", b"14"])? },
            28..34 => {
                let (token, acquirer) = (random.usize(0..PAYING), random.usize(0..ACQUIRERS.len()));
                let shops = merchants(self.plan.seed);
                let (shop, minor) = (random.usize(0..shops.len()), random.u64(100..20_000));
                let merchant = shops[shop].merchant;
                Asked::Cryptogram(Order { token, acquirer, shop, merchant, minor })
            }
            34.. => Asked::Key { token: *random.choice(&REPLENISHED)?, wanted: LIMITED },
            _ => {
                let token = if random.bool() { random.usize(0..PAYING) } else { token };
                let seldom = Some(Narrowing::Seldom(random.u16(1..3)));
                let all = [None, Some(Narrowing::Tap), Some(Narrowing::Small), seldom, seldom, seldom];
                Asked::Narrow { token, to: *random.choice(&all)?, by_desk: kind == 27 }
            }
        })
    }

    /// A token is renewed, or the card's own key is wanted for a device that keeps it; also of a phone that has
    /// limited-use keys, and for a device that is not the token's.
    fn keep_up(&mut self) -> Option<Asked> {
        let random = &mut self.care_random;
        let known: Vec<(usize, bool)> =
            self.book.known().map(|(at, _, holding)| (at, holding.keys == Keys::default())).collect();
        let (token, is_first) = *random.choice(&known)?;
        if random.bool() {
            return Some(Asked::Renew { token });
        }
        let device = usize::from(random.u32(0..4) == 0);
        let replenished = REPLENISHED.contains(&token);
        let kind = if replenished && random.bool() { KeyKind::Limited } else { KeyKind::Card };
        // What a phone without a place for keys gets first are limited ones, of its own.
        (!(replenished && is_first)).then_some(Asked::Key { token, wanted: KeyFor { kind, device } })
    }

    /// A phone that taps with limited-use keys gets one; then its token is held, and let go: what the phone has is good
    /// no more.
    fn hold_and_release(&mut self) -> Option<Asked> {
        let token = *self.vault_random.choice(&REPLENISHED)?;
        let (_, _, holding) = self.book.known().find(|(at, ..)| *at == token)?;
        let by = holding.held_by.first().copied();
        match (holding.status, by) {
            (TokenStatus::Active, _) if holding.keys.are_taken_back() => None,
            (TokenStatus::Active, _) if holding.keys == Keys::default() => {
                Some(Asked::Key { token, wanted: LIMITED })
            }
            (TokenStatus::Active, _) => Some(Asked::Move { token, to: Move::Suspend(Suspender::Cardholder) }),
            (TokenStatus::Suspended, Some(by)) => Some(Asked::Move { token, to: Move::Resume(by) }),
            _ => None,
        }
    }

    /// The token of a phone all of whose keys were taken back, though the token is good: what it signs must not pay.
    pub(super) fn outlived(&self) -> Option<usize> {
        let held = |(at, _, holding): &(usize, &TokenView, &Holding)| {
            REPLENISHED.contains(at) && holding.status == TokenStatus::Active && holding.keys.are_taken_back()
        };
        self.book.known().find(held).map(|(at, ..)| at)
    }

    /// A code is wanted, or typed: the right one or another.
    fn proof_of(&mut self, token: usize) -> Option<Asked> {
        let code = self.book.code_of(token);
        match code.flatten() {
            Some(code) if self.vault_random.u32(0..3) > 0 => {
                let wrong = self.vault_random.bool();
                let first = b'0' + (code[0] - b'0' + u8::from(wrong)) % 10;
                Some(Asked::Proof { token, code: [first, code[1], code[2], code[3], code[4], code[5]] })
            }
            _ if code == Some(None) && self.vault_random.bool() => {
                Some(Asked::Proof { token, code: *b"000000" })
            }
            _ => Some(Asked::Code { token }),
        }
    }
}
