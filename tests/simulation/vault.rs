//! `VaultBook`: what requestors, issuers and operators know of the vault by its answers alone, kept by the smallest
//! model of a token's life that says the same. It foretells every answer, and is compared with the vault after every
//! restart and at the end. It knows nothing of how the vault decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokenswitch::journal::{
    Body, Entry, OutcomeEntry, RequestEntry, StoredEntry, StoredKind, TransactionEntry,
};
use tokenswitch::sim::EnquiryAnswer;
use tokenswitch::stdx::clock::Wall;
use tokenswitch::tsp::{
    Answer, CallId, CardEvent, IssuerWord, LimitedKey, Move, Notification, ProvisioningRefusal as Refusal,
    Suspender, TokenStatus, TokenView, Told,
};
use tokenswitch::vocab::{
    Bin, CounterSeries, Expiry, MessageClass, MessageFunction, Outcome, Pan, TokenReferenceId, TransactionId,
    TransactionKind, YearMonth,
};

use crate::audit::Broken;
use crate::given::{KeyFor, Keys, Made, Order, cryptogram_until, is_key};
use crate::notices::{self, Hearer};
use crate::parties::{
    Consents, Given, Party, Registered, Registering, Registry, Sourced, Telling, Terms, ToldConsents, ToldOn,
    Verdict,
};
use crate::setting::{PROOF_MILLIS, VALIDITY_YEARS, VaultCard, requestor, requestor_at};

/// What is asked of the vault. Tokens and cards by their place in the order of issue and in the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Token {
        card: usize,
    },
    Move {
        token: usize,
        to: Move,
    },
    Assurance {
        token: usize,
        method: [u8; 2],
    },
    /// By its holder, or by the desk, which stands above.
    Narrow {
        token: usize,
        to: Option<Narrowing>,
        by_desk: bool,
    },
    Card {
        card: usize,
        event: CardEvent,
    },
    Code {
        token: usize,
    },
    Proof {
        token: usize,
        code: [u8; 6],
    },
    Cryptogram(Order),
    Key {
        token: usize,
        wanted: KeyFor,
    },
    /// Its expiry date becomes that of a token that is issued now.
    Renew {
        token: usize,
    },
    /// By the service itself: its cardholder has not proven itself in time.
    GiveUp {
        token: usize,
    },
    From(Sourced),
    /// Its holder lets another requestor have a token made from it.
    Consent {
        token: usize,
        to: usize,
    },
    Tell(Telling),
    /// A client of a requestor's that may not even ask wants a card's number.
    TellDenied {
        by: usize,
    },
    Register(Registering),
    /// A move by whoever it may be, of whosever token.
    MoveBy {
        token: usize,
        to: Move,
        by: Party,
    },
    /// By a receiver that was told everything up to an event.
    Confirm {
        hearer: Hearer,
        up_to: u64,
    },
}

/// What a token is narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Narrowing {
    /// Contactless chip only.
    Tap,
    /// Up to `SMALL` at a time.
    Small,
    /// So many payments in twenty-four hours.
    Seldom(u16),
}

/// The most that a token narrowed so may pay at a time, in minor units.
pub(crate) const SMALL: u64 = 5_000;
/// The second expiry date of every card.
pub(crate) const NEW_EXPIRY: &[u8] = b"3012";
/// How long codes are good, how many there are, and how often one may be wrong.
const CODE_MILLIS: u64 = 600_000;
const CODES: u8 = 3;
const TRIES: u8 = 3;
/// For how long both count against the card, and how many there may be of all its tokens: few, so that it is met.
pub(crate) const CARD_MILLIS: u64 = 300_000;
pub(crate) const CARD_CODES: u8 = 4;
pub(crate) const CARD_TRIES: u8 = 3;
const DAY: u64 = 86_400_000;

/// What its holder knows of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The place of the requestor whose it is.
    pub(crate) owner: usize,
    pub(crate) card: usize,
    pub(crate) status: TokenStatus,
    pub(crate) held_by: BTreeSet<Suspender>,
    /// Held by the issuer because its card is lost, and for no other reason.
    with_card: bool,
    version: u32,
    assurance: [u8; 2],
    /// Not by its holder: what others said of it, its holder does not change.
    assured_above: bool,
    pub(crate) narrowed: Option<Narrowing>,
    narrowed_above: bool,
    /// Its requestor's tokens were so when it was issued: they pay by contactless chip only.
    pub(crate) taps_only: bool,
    /// The card has its second expiry date.
    pub(crate) new_expiry: bool,
    /// The token's own.
    pub(crate) expiry: Expiry,
    issued_at: Wall,
    proof: Option<Proof>,
    /// How many cryptograms were made of it.
    cryptograms: u16,
    pub(crate) keys: Keys,
}

/// What its cardholder has to prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Proof {
    sent: u8,
    wrong: u8,
    until: u64,
    /// As it came to the cardholder, if it did.
    code: Option<[u8; 6]>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Token {
        token: usize,
        status: TokenStatus,
        held_by: BTreeSet<Suspender>,
        version: u32,
        assurance: [u8; 2],
        expiry: Expiry,
    },
    Changed(u32),
    Cryptogram {
        order: Order,
        number: u16,
        until: Wall,
        expiry: Expiry,
    },
    Key {
        token: usize,
        key: (KeyFor, Option<LimitedKey>),
        expiry: Expiry,
    },
    /// It is gone, with this version. Nobody asked for it.
    GivenUp(usize, u32),
    Consent(Given),
    /// The card behind a token, and whether by its second expiry date.
    Card(usize, (usize, bool)),
    /// As it was made, whatever was made of it since.
    Requestor(usize, Registered),
    /// A refusal that is remembered.
    No(Refusal),
}

/// All tokens, and the cards that are not as any.
#[derive(Debug, Clone)]
struct Standing {
    tokens: Vec<Holding>,
    /// Whether for good: nothing but an end happens to them.
    blocked: BTreeMap<usize, bool>,
    /// By card.
    codes: BTreeMap<usize, CardCodes>,
    consents: Consents,
    /// Cards' numbers that were told, by requestor.
    told: BTreeMap<usize, ToldOn>,
    registry: Registry,
}

/// Codes for a card's tokens, and wrong ones, since the first of them.
#[derive(Debug, Clone, Copy, Default)]
struct CardCodes {
    since: u64,
    sent: u8,
    wrong: u8,
}

impl CardCodes {
    /// As many as count at that time.
    fn at(self, now: u64) -> Self {
        if now >= self.since + CARD_MILLIS { Self { since: now, ..Self::default() } } else { self }
    }

    /// Refused if there are too many, and until when that is so.
    fn check(self, too_many: bool, now: u64) -> Result<(), Refusal> {
        let wait = Duration::from_secs((self.since + CARD_MILLIS - now).div_ceil(1_000));
        if too_many { Err(Refusal::CardCodesExhausted { wait }) } else { Ok(()) }
    }
}

/// A request that is not answered.
#[derive(Debug, Clone)]
struct Open {
    call: CallId,
    id: String,
    asked: Asked,
    word: Option<EnquiryAnswer>,
    at: Wall,
    /// The card that a token is wanted for, or that is told, and whether by its second expiry date; none of any other
    /// request.
    card: Option<(usize, bool)>,
    /// What becomes of a request to be told a card's number.
    verdict: Option<Verdict>,
    /// What the requestor may that it is about, by what was durable when it was decided.
    terms: Option<Terms>,
    /// Whether there are keys here for the token that it is about.
    keyed: bool,
}

/// What a token may be used for from an entry on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Since {
    entry: u64,
    status: TokenStatus,
    narrowed: Option<Narrowing>,
    keys: Keys,
}

pub(crate) struct VaultBook {
    cards: Vec<VaultCard>,
    /// The ranges of tokens whose keys their issuers alone have.
    keyless: Vec<Bin>,
    standing: Standing,
    /// As their holders were told: number, reference, expiry.
    views: Vec<Option<TokenView>>,
    answered: BTreeMap<String, (Asked, Heard)>,
    /// When cards' numbers were told first, by request.
    told: BTreeMap<String, Wall>,
    /// The very answers, by the requests' names.
    firsts: BTreeMap<String, Told>,
    /// Written down, in this order, and not answered.
    written: Vec<Open>,
    /// Waiting for an issuer.
    enquired: Vec<Open>,
    /// How many events of the vault's were answered or found.
    events: usize,
    history: Vec<Vec<Since>>,
    /// What holders got for payments in apps, by token and number.
    made: BTreeMap<(usize, u16), Made>,
    /// What requestors got to pass on to others.
    consents: ToldConsents,
    /// What receivers are to be told.
    notices: notices::Told,
    /// Payments that count, by token: entry, time, transaction.
    uses: BTreeMap<u64, Vec<(u64, Wall, TransactionId)>>,
    /// How many entries were looked at.
    entries: usize,
}

type Step = Result<(), Broken>;

/// Of a token that is issued or renewed at that time.
fn expiry_at(at: Wall) -> Expiry {
    Expiry::of(YearMonth::of(at).plus_years(VALIDITY_YEARS)).expect("within the century")
}

fn ensure(holds: bool, promise: &str, what: impl FnOnce() -> String) -> Step {
    if holds { Ok(()) } else { Err(format!("{promise}: {}", what())) }
}

impl Holding {
    fn issued(owner: usize, card: usize, status: TokenStatus, assurance: &[u8; 2], at: Wall) -> Self {
        Self {
            owner,
            card,
            status,
            held_by: BTreeSet::new(),
            with_card: false,
            version: 1,
            assurance: *assurance,
            // Nobody asks for a token with a method of its own.
            assured_above: assurance != b"00",
            narrowed: None,
            narrowed_above: false,
            taps_only: false,
            new_expiry: false,
            expiry: expiry_at(at),
            issued_at: at,
            proof: (status == TokenStatus::Inactive).then(Proof::default),
            cryptograms: 0,
            keys: Keys::default(),
        }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    fn is_gone(&self) -> bool {
        self.status == TokenStatus::Deactivated
    }

    fn unlink(&mut self) {
        self.keys.take_back();
        self.status = TokenStatus::Deactivated;
        self.held_by.clear();
        self.with_card = false;
    }

    fn free_of(&mut self, by: Suspender) {
        self.held_by.remove(&by);
        self.with_card &= by != Suspender::Issuer;
        self.status = if self.held_by.is_empty() { TokenStatus::Active } else { TokenStatus::Suspended };
    }

    fn hold(&mut self, by: Suspender) {
        self.keys.take_back();
        self.held_by.insert(by);
        self.with_card &= by != Suspender::Issuer;
        self.status = TokenStatus::Suspended;
    }

    fn moves(&mut self, to: Move, blocked: bool) -> Result<(), Refusal> {
        let waits = self.status == TokenStatus::Inactive;
        match to {
            Move::Unlink => self.unlink(),
            // What its cardholder has to prove, its requestor cannot say.
            Move::Activate if waits => return Err(Refusal::StatusDoesNotAllow),
            Move::Activate if blocked => return Err(Refusal::CardBlocked),
            _ if waits || self.is_gone() => return Err(Refusal::StatusDoesNotAllow),
            Move::Activate if self.status == TokenStatus::Suspended => {
                return Err(Refusal::StatusDoesNotAllow);
            }
            Move::Activate => {}
            Move::Suspend(by) => self.hold(by),
            Move::Resume(by) => self.free_of(by),
        }
        Ok(())
    }

    /// What happens to its card; whether that changes it.
    fn card(&mut self, event: CardEvent, successor: Option<usize>) -> bool {
        let before = self.clone();
        let usable = matches!(self.status, TokenStatus::Active | TokenStatus::Suspended);
        match event {
            CardEvent::NewExpiry => self.new_expiry = true,
            CardEvent::NewPan => (self.card, self.new_expiry) = (successor.unwrap_or(self.card), false),
            CardEvent::Lost | CardEvent::Stolen => {
                if usable && !self.held_by.contains(&Suspender::Issuer) {
                    self.hold(Suspender::Issuer);
                    self.with_card = true;
                }
            }
            CardEvent::Found if self.with_card => self.free_of(Suspender::Issuer),
            CardEvent::Found => {}
            CardEvent::Closed => self.unlink(),
        }
        let always = matches!(event, CardEvent::NewExpiry | CardEvent::NewPan);
        let changes = always || *self != before;
        self.version += u32::from(changes);
        changes
    }
}

impl Standing {
    /// What becomes of a request; a refusal changes nothing.
    fn apply(&mut self, cards: &[VaultCard], open: &Open) -> Result<Heard, Refusal> {
        match &open.asked {
            Asked::Token { card } => {
                let heard = self.provision((0, *card), open.word, open.at)?;
                Ok(self.under(heard, open.terms))
            }
            Asked::From(wanted) => self.provision_from(wanted, open),
            Asked::Consent { token, to } => {
                self.paying(*token)?;
                open.terms.ok_or(Refusal::UnknownRequestor)?;
                Ok(Heard::Consent(self.consents.give(*token, *to, open.at)))
            }
            Asked::Card { card, event } => self.card(*card, cards[*card].successor, *event),
            Asked::Code { token } => {
                self.provable(*token)?;
                let holding = &mut self.tokens[*token];
                let proof = holding.proof.as_mut().ok_or(Refusal::NothingToProve)?;
                if proof.sent == CODES {
                    return Err(Refusal::CodesExhausted);
                }
                let of_card = self.codes.entry(holding.card).or_default();
                let now = of_card.at(open.at.0);
                now.check(now.sent >= CARD_CODES || now.wrong >= CARD_TRIES, open.at.0)?;
                *of_card = CardCodes { sent: now.sent + 1, ..now };
                *proof = Proof { sent: proof.sent + 1, until: open.at.0 + CODE_MILLIS, code: None, ..*proof };
                Ok(self.heard(*token))
            }
            Asked::Proof { token, code } => self.prove(*token, *code, open.at),
            // Nobody waits for the answer.
            Asked::Confirm { .. } => Ok(Heard::No(Refusal::Unavailable)),
            Asked::MoveBy { token, to, by } => {
                self.move_by(cards, (*token, *to, *by), open.at)?;
                Ok(self.heard(*token))
            }
            Asked::Register(wanted) => {
                self.registry.change(wanted)?;
                let made = self.registry.of(wanted.place).ok_or(Refusal::UnknownRequestor)?;
                Ok(Heard::Requestor(wanted.place, made))
            }
            Asked::TellDenied { .. } => Ok(Heard::No(Refusal::DetokenizationNotAllowed)),
            Asked::Tell(telling) => {
                let (Some(verdict), Some(card)) = (open.verdict, open.card) else {
                    return Err(Refusal::Unavailable);
                };
                match verdict {
                    Verdict::No(refusal) => return Ok(Heard::No(refusal)),
                    Verdict::Told { again: true } => {}
                    Verdict::Told { again: false } => {
                        let owner = self.tokens[telling.token].owner;
                        self.told.entry(owner).or_default().one_more(open.at);
                    }
                }
                Ok(Heard::Card(telling.token, card))
            }
            Asked::Cryptogram(order) => {
                let token = self.paying(order.token)?;
                open.terms.ok_or(Refusal::UnknownRequestor)?;
                token.cryptograms += 1;
                let (until, expiry) = (cryptogram_until(open.at), token.expiry);
                Ok(Heard::Cryptogram { order: *order, number: token.cryptograms, until, expiry })
            }
            Asked::Key { token, wanted } => {
                let holding = self.paying(*token)?;
                open.terms.ok_or(Refusal::UnknownRequestor)?;
                if !open.keyed {
                    return Err(Refusal::NoKeysToGive);
                }
                let limited = holding.keys.give(*wanted, open.at)?;
                Ok(Heard::Key { token: *token, key: (*wanted, limited), expiry: holding.expiry })
            }
            Asked::GiveUp { token } => {
                let holding = &mut self.tokens[*token];
                holding.unlink();
                (holding.proof, holding.version) = (None, holding.version + 1);
                Ok(Heard::GivenUp(*token, holding.version))
            }
            Asked::Move { token, .. }
            | Asked::Assurance { token, .. }
            | Asked::Narrow { token, .. }
            | Asked::Renew { token } => {
                let claims = matches!(&open.asked, Asked::Assurance { method: [b'0', b'1'], .. });
                if claims && !self.tokens[*token].is_gone() {
                    open.terms.ok_or(Refusal::UnknownRequestor)?;
                }
                self.change(*token, &open.asked, open.at)?;
                Ok(self.heard(*token))
            }
        }
    }

    /// Each party moves only what it knows, and suspends and resumes in its own name. What a cardholder has to prove,
    /// its issuer alone may say in its place.
    fn move_by(
        &mut self,
        cards: &[VaultCard],
        (token, to, by): (usize, Move, Party),
        at: Wall,
    ) -> Result<(), Refusal> {
        let Holding { owner, card, status, .. } = self.tokens[token];
        if !by.knows(owner, cards[card].issuer_says.is_some()) {
            return Err(Refusal::UnknownToken);
        }
        if let Move::Suspend(name) | Move::Resume(name) = to
            && !by.suspends_as(name)
        {
            return Err(Refusal::NotYours);
        }
        let says = to == Move::Activate && status == TokenStatus::Inactive && by == Party::Issuer;
        if says && self.blocked.contains_key(&card) {
            return Err(Refusal::CardBlocked);
        }
        if says {
            let token = &mut self.tokens[token];
            (token.status, token.proof) = (TokenStatus::Active, None);
            token.version += 1;
            return Ok(());
        }
        self.change(token, &Asked::Move { token, to }, at)
    }

    /// A token that pays gets something to pay with.
    fn paying(&mut self, token: usize) -> Result<&mut Holding, Refusal> {
        let token = &mut self.tokens[token];
        let pays = token.status == TokenStatus::Active;
        if pays { Ok(token) } else { Err(Refusal::StatusDoesNotAllow) }
    }

    fn change(&mut self, token: usize, asked: &Asked, at: Wall) -> Result<(), Refusal> {
        let blocked = self.blocked.contains_key(&self.tokens[token].card);
        let token = &mut self.tokens[token];
        let before = token.clone();
        match asked {
            Asked::Move { to, .. } => token.moves(*to, blocked)?,
            _ if token.is_gone() => return Err(Refusal::StatusDoesNotAllow),
            Asked::Renew { .. } => token.expiry = expiry_at(at),
            Asked::Assurance { method, .. } if *method == token.assurance => {}
            Asked::Assurance { method, .. } => {
                let by_holder = method == b"01";
                if by_holder && token.assured_above {
                    return Err(Refusal::AssuranceNotYours);
                }
                (token.assurance, token.assured_above) = (*method, !by_holder);
            }
            Asked::Narrow { to, by_desk, .. } if *to == token.narrowed => {
                token.narrowed_above |= *by_desk && to.is_some();
            }
            Asked::Narrow { by_desk: false, .. } if token.narrowed_above => {
                return Err(Refusal::ControlsNotYours);
            }
            Asked::Narrow { to, by_desk, .. } => {
                (token.narrowed, token.narrowed_above) = (*to, *by_desk && to.is_some());
            }
            _ => {}
        }
        // Who stands behind a control is no change of the token.
        let as_before = Self::shown(token) == Self::shown(&before);
        token.version += u32::from(!as_before);
        if token.status != TokenStatus::Inactive {
            token.proof = None;
        }
        Ok(())
    }

    /// All that a change of makes another version.
    fn shown(token: &Holding) -> Holding {
        Holding { narrowed_above: false, ..token.clone() }
    }

    /// As for the card alone. What others narrowed the source to, the new token is narrowed to as well.
    fn provision_from(&mut self, wanted: &Sourced, open: &Open) -> Result<Heard, Refusal> {
        let source = &self.tokens[wanted.source];
        let narrowed = source.narrowed.filter(|_| source.narrowed_above);
        let (card, new_expiry) = open.card.unwrap_or((source.card, source.new_expiry));
        let heard = self.provision((wanted.by, card), open.word, open.at)?;
        if let (Heard::Token { .. }, Some(token)) = (&heard, self.tokens.last_mut()) {
            token.new_expiry = new_expiry;
            (token.narrowed, token.narrowed_above) = (narrowed, narrowed.is_some());
        }
        self.consents.use_up(wanted);
        Ok(self.under(heard, open.terms))
    }

    /// A new token has its requestor's controls.
    fn under(&mut self, heard: Heard, terms: Option<Terms>) -> Heard {
        if let (Heard::Token { .. }, Some(token)) = (&heard, self.tokens.last_mut()) {
            token.taps_only = terms.is_some_and(|terms| terms.taps_only);
        }
        heard
    }

    fn provision(
        &mut self,
        (owner, card): (usize, usize),
        word: Option<EnquiryAnswer>,
        at: Wall,
    ) -> Result<Heard, Refusal> {
        if self.blocked.contains_key(&card) {
            return Err(Refusal::CardBlocked);
        }
        let (status, assurance) = match word {
            None => (TokenStatus::Active, b"00"),
            Some(EnquiryAnswer::Approve) => (TokenStatus::Active, b"10"),
            Some(EnquiryAnswer::StepUp) => (TokenStatus::Inactive, b"00"),
            Some(EnquiryAnswer::Decline) => return Ok(Heard::No(Refusal::DeclinedByIssuer)),
            Some(EnquiryAnswer::Silent) => return Err(Refusal::NoAnswerFromIssuer),
        };
        self.tokens.push(Holding::issued(owner, card, status, assurance, at));
        Ok(self.heard(self.tokens.len() - 1))
    }

    /// Whether a token waits for proof, and its card is not lost.
    fn provable(&self, token: usize) -> Result<(), Refusal> {
        let Holding { card, proof, .. } = &self.tokens[token];
        proof.as_ref().ok_or(Refusal::NothingToProve)?;
        if self.blocked.contains_key(card) { Err(Refusal::CardBlocked) } else { Ok(()) }
    }

    fn prove(&mut self, token: usize, code: [u8; 6], at: Wall) -> Result<Heard, Refusal> {
        self.provable(token)?;
        let holding = &mut self.tokens[token];
        let proof = holding.proof.as_mut().ok_or(Refusal::NothingToProve)?;
        if proof.sent == 0 || at.0 >= proof.until {
            return Err(Refusal::NoCode);
        }
        let of_card = self.codes.entry(holding.card).or_default();
        let now = of_card.at(at.0);
        now.check(now.wrong >= CARD_TRIES, at.0)?;
        if proof.code == Some(code) {
            holding.proof = None;
            (holding.status, holding.assurance) = (TokenStatus::Active, *b"11");
            holding.assured_above = true;
            holding.version += 1;
            return Ok(self.heard(token));
        }
        *of_card = CardCodes { wrong: now.wrong + 1, ..now };
        proof.wrong += 1;
        if proof.wrong < TRIES {
            return Ok(Heard::No(Refusal::CodeWrong));
        }
        holding.proof = None;
        holding.unlink();
        holding.version += 1;
        Ok(Heard::No(Refusal::ProofFailed))
    }

    fn card(&mut self, card: usize, successor: Option<usize>, event: CardEvent) -> Result<Heard, Refusal> {
        if self.blocked.get(&card) == Some(&true) && event != CardEvent::Closed {
            return Err(Refusal::CardBlocked);
        }
        let has_tokens = self.tokens.iter().any(|token| token.card == card);
        let ends = matches!(event, CardEvent::Lost | CardEvent::Stolen | CardEvent::Closed);
        let found = event == CardEvent::Found && self.blocked.contains_key(&card);
        if !has_tokens && !ends && !found {
            return Err(Refusal::UnknownCard);
        }
        if event == CardEvent::NewPan && successor.is_none_or(|next| self.blocked.contains_key(&next)) {
            return Err(if successor.is_none() { Refusal::CardNotEligible } else { Refusal::CardBlocked });
        }
        let of_card = self.tokens.iter_mut().filter(|token| token.card == card);
        let changed = of_card.map(|token| u32::from(token.card(event, successor))).sum();
        for token in &mut self.tokens {
            if token.is_gone() {
                token.proof = None;
            }
        }
        match event {
            CardEvent::Found => drop(self.blocked.remove(&card)),
            CardEvent::NewExpiry => {}
            CardEvent::Lost | CardEvent::Stolen => drop(self.blocked.insert(card, false)),
            CardEvent::NewPan | CardEvent::Closed => drop(self.blocked.insert(card, true)),
        }
        Ok(Heard::Changed(changed))
    }

    fn heard(&self, token: usize) -> Heard {
        let Holding { status, held_by, version, assurance, expiry, .. } = self.tokens[token].clone();
        Heard::Token { token, status, held_by, version, assurance, expiry }
    }
}

impl VaultBook {
    pub(crate) fn new(cards: Vec<VaultCard>, keyless: Vec<Bin>) -> Self {
        Self {
            cards,
            keyless,
            standing: Standing {
                tokens: Vec::new(),
                blocked: BTreeMap::new(),
                codes: BTreeMap::new(),
                consents: Consents::default(),
                told: BTreeMap::new(),
                registry: Registry::configured(),
            },
            views: Vec::new(),
            answered: BTreeMap::new(),
            told: BTreeMap::new(),
            firsts: BTreeMap::new(),
            written: Vec::new(),
            enquired: Vec::new(),
            events: 0,
            history: Vec::new(),
            made: BTreeMap::new(),
            consents: ToldConsents::default(),
            notices: notices::Told::default(),
            uses: BTreeMap::new(),
            entries: 0,
        }
    }

    pub(crate) fn cards(&self) -> &[VaultCard] {
        &self.cards
    }

    /// The first card of the account: one that took a card's place is the same to whoever paid.
    pub(crate) fn account(&self, pan: Pan) -> Pan {
        let place = self.cards.iter().position(|it| it.card.pan == pan);
        let first = self.cards.iter().find(|it| it.successor.is_some() && it.successor == place);
        first.map_or(pan, |first| first.card.pan.clone())
    }

    /// Whether every request is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.written.is_empty() && self.enquired.is_empty()
    }

    /// Tokens whose holders know them, with what they know.
    pub(crate) fn known(&self) -> impl Iterator<Item = (usize, &TokenView, &Holding)> {
        let both = self.views.iter().zip(&self.standing.tokens).enumerate();
        both.filter_map(|(at, (view, holding))| Some((at, view.as_ref()?, holding)))
    }

    /// Tokens that are known, of cards whose issuer is asked about them.
    pub(crate) fn of_asked_cards(&self) -> impl Iterator<Item = usize> {
        let asked =
            |(_, _, holding): &(usize, &TokenView, &Holding)| self.cards[holding.card].issuer_says.is_some();
        self.known().filter(asked).map(|(at, ..)| at)
    }

    /// How a token is asked for by its holder.
    pub(crate) fn reference(&self, token: usize) -> Option<TokenReferenceId> {
        Some(self.views.get(token)?.as_ref()?.reference)
    }

    /// What holders may pay with in apps, the oldest first.
    pub(crate) fn made(&self) -> impl Iterator<Item = &Made> {
        self.made.values()
    }

    pub(crate) fn consents(&self) -> &ToldConsents {
        &self.consents
    }

    /// Requestors of whose tokens cards' numbers were told.
    pub(crate) fn were_told(&self) -> impl Iterator<Item = usize> {
        self.standing.told.keys().copied()
    }

    /// The expiry date of a token.
    pub(crate) fn expiry(&self, token: usize) -> Expiry {
        self.standing.tokens[token].expiry
    }

    /// Whose token it is.
    pub(crate) fn owner(&self, token: usize) -> usize {
        self.standing.tokens[token].owner
    }

    pub(crate) fn tokens(&self) -> usize {
        self.standing.tokens.len()
    }

    /// Every request that was answered for good.
    pub(crate) fn answered_requests(&self) -> impl Iterator<Item = (&str, &Asked)> {
        self.answered.iter().map(|(id, (asked, _))| (id.as_str(), asked))
    }

    /// The code with which a token's cardholder may prove itself: none when none was sent, and nothing can be said
    /// while another is on its way or was lost.
    pub(crate) fn code_of(&self, token: usize) -> Option<Option<[u8; 6]>> {
        let about = |open: &&Open| matches!(open.asked, Asked::Code { token: it } | Asked::Proof { token: it, .. } if it == token);
        let proof = self.standing.tokens[token].proof.as_ref()?;
        let quiet = self.written.iter().find(about).is_none() && (proof.sent == 0 || proof.code.is_some());
        quiet.then_some(proof.code)
    }

    /// As it will be once all that is written down is applied.
    fn ahead(&self) -> Standing {
        let mut ahead = self.standing.clone();
        for open in &self.written {
            let _ = ahead.apply(&self.cards, open);
        }
        ahead
    }

    /// Something was asked; `told` is what was answered at once.
    pub(crate) fn asks(
        &mut self,
        call: CallId,
        id: &str,
        asked: &Asked,
        at: Wall,
        told: Option<&Answer>,
    ) -> Step {
        let in_flight = self.written.iter().chain(&self.enquired).find(|open| open.id == id);
        if let Some(first) = in_flight {
            let same = first.asked == *asked;
            let refusal = if same { Refusal::RequestInFlight } else { Refusal::RequestIdReused };
            return self.same(id, Some(&Err(refusal)), told);
        }
        // A client that may not ask is no repeat of one that may; and a repeat of who may is judged again.
        let denied = matches!(asked, Asked::TellDenied { .. });
        let again = |(first, _): &(Asked, Heard)| matches!(first, Asked::Tell(_)) && first == asked;
        let before = self.answered.get(id);
        if let Some((first, heard)) = before.filter(|before| !denied && !again(before)) {
            let (same, heard) = (first == asked, heard.clone());
            // A key is given again only as long as its token pays, and its requestor is not closed.
            if same && let Asked::Key { token, .. } = asked {
                let open = self.terms_of(asked).ok_or(Refusal::UnknownRequestor);
                if let Err(refusal) = self.ahead().paying(*token).map(|_| ()).and(open.map(|_| ())) {
                    return self.same(id, Some(&Err(refusal)), told);
                }
            }
            return if same {
                let told = told.ok_or_else(|| format!("P2: the repeat of {id} {asked:?} waits"))?;
                self.hears(id, &heard, told)?;
                self.hears_the_very_same(id, told)
            } else {
                self.same(id, Some(&Err(Refusal::RequestIdReused)), told)
            };
        }
        let mut ahead = self.ahead();
        let mut verdict = None;
        let card = match asked {
            Asked::Tell(telling) => {
                verdict = Some(self.judge_telling(telling, id, at));
                let before = before.and_then(|(_, heard)| match heard {
                    Heard::Card(_, card) => Some(*card),
                    _ => None,
                });
                let now = &ahead.tokens[telling.token];
                Some(before.unwrap_or((now.card, now.new_expiry)))
            }
            Asked::Token { card } => Some((*card, false)),
            Asked::From(wanted) => {
                let source = &ahead.tokens[wanted.source];
                let active = source.status == TokenStatus::Active;
                let may = if active { Ok(()) } else { Err(Refusal::StatusDoesNotAllow) };
                let named = wanted.by_number.is_none_or(|expiry| expiry == source.expiry);
                let known = named && self.may_be_source(wanted, at);
                let may = if known { may } else { Err(Refusal::UnknownToken) };
                if let Err(refusal) = may {
                    return self.same(id, Some(&Err(refusal)), told);
                }
                Some((source.card, source.new_expiry))
            }
            _ => None,
        };
        let (terms, keyed) = (self.terms_of(asked), self.is_keyed(asked));
        let (id_of, asked_of) = (id.to_owned(), asked.clone());
        let open = Open { call, id: id_of, asked: asked_of, word: None, at, card, verdict, terms, keyed };
        if let Some(refusal) = self.is_proving(asked, &ahead) {
            return self.same(id, Some(&Err(refusal)), told);
        }
        if self.is_registering(asked) {
            return self.same(id, Some(&Err(Refusal::RequestInFlight)), told);
        }
        if let Some((card, _)) = card.filter(|_| verdict.is_none()) {
            if let Err(refusal) = self.admits(&ahead, &open, card) {
                return self.same(id, Some(&Err(refusal)), told);
            }
            if self.cards[card].issuer_says.is_some() {
                self.enquired.push(open);
                return self.same(id, None, told);
            }
        }
        let foretold = ahead.apply(&self.cards, &open).err().map(Err);
        if foretold.is_none() {
            self.written.push(open);
        }
        self.same(id, foretold.as_ref(), told)
    }

    /// What the requestor may that a request is about, by what is durable.
    fn terms_of(&self, asked: &Asked) -> Option<Terms> {
        let place = match asked {
            Asked::From(wanted) => wanted.by,
            Asked::Consent { to, .. } => *to,
            Asked::Assurance { token, .. } | Asked::Key { token, .. } => self.owner(*token),
            Asked::Cryptogram(order) => self.owner(order.token),
            _ => 0,
        };
        self.standing.registry.terms(place)
    }

    /// Whether the keys of the token that a request is about are here.
    fn is_keyed(&self, asked: &Asked) -> bool {
        let Asked::Key { token, .. } = asked else { return true };
        let known = self.views[*token].as_ref();
        !known.is_some_and(|view| {
            self.keyless.iter().any(|bin| view.token.as_bytes().starts_with(bin.as_bytes()))
        })
    }

    /// The service looks for tokens whose cardholders did not prove themselves in time: of those that wait, in the
    /// order of their issue, up to the first that has time.
    pub(crate) fn gives_up(&mut self, call: CallId, at: Wall) {
        let ahead = self.ahead();
        let waiting = self.standing.tokens.iter().enumerate().filter(|(_, token)| token.proof.is_some());
        let overdue = waiting.take_while(|(_, token)| token.issued_at.0 + PROOF_MILLIS <= at.0);
        let unproven = overdue.filter(|(token, _)| ahead.tokens[*token].status == TokenStatus::Inactive);
        let given_up = unproven.map(|(token, _)| Open {
            call,
            id: format!("unproven-{token}"),
            asked: Asked::GiveUp { token },
            word: None,
            at,
            card: None,
            verdict: None,
            terms: None,
            keyed: true,
        });
        self.written.extend(given_up);
    }

    /// Whether a requestor may have another token, of this card. Tokens that are being unlinked are there until they
    /// are gone.
    fn admits(&self, ahead: &Standing, open: &Open, card: usize) -> Result<(), Refusal> {
        let terms = open.terms.ok_or(Refusal::UnknownRequestor)?;
        let asking = if let Asked::From(wanted) = &open.asked { wanted.by } else { 0 };
        if ahead.blocked.contains_key(&card) {
            return Err(Refusal::CardBlocked);
        }
        let (applied, theirs) = (self.standing.tokens.len(), |token: &&Holding| token.owner == asking);
        let there = self.standing.tokens.iter().filter(theirs).filter(|token| !token.is_gone()).count();
        let to_come = ahead.tokens.iter().skip(applied).filter(theirs).count();
        let of_card = |token: &&Holding| token.card == card && !token.is_gone();
        let of_card = ahead.tokens.iter().filter(theirs).filter(of_card).count();
        let full = |most: Option<u32>, count: usize| most.is_some_and(|most| count >= most as usize);
        if full(terms.tokens, there + to_come) {
            return Err(Refusal::RequestorFull);
        }
        if full(terms.per_card, of_card) { Err(Refusal::TooManyTokensOfCard) } else { Ok(()) }
    }

    /// What is said to who would activate a token that waits for proof, but for its issuer: also while the proof is
    /// on its way to the disk.
    fn is_proving(&self, asked: &Asked, ahead: &Standing) -> Option<Refusal> {
        let token = match asked {
            Asked::Move { token, to: Move::Activate } => *token,
            Asked::MoveBy { token, to: Move::Activate, by } if *by != Party::Issuer => {
                let owner = self.owner(*token);
                Some(*token).filter(|_| by.knows(owner, false))?
            }
            _ => return None,
        };
        self.standing.tokens[token].proof.as_ref()?;
        let is_proven = ahead.tokens[token].status == TokenStatus::Active;
        Some(if is_proven { Refusal::ProofInFlight } else { Refusal::StatusDoesNotAllow })
    }

    /// Whether another change of this requestor is on its way to the disk.
    fn is_registering(&self, asked: &Asked) -> bool {
        let Asked::Register(wanted) = asked else { return false };
        let same = |open: &Open| matches!(&open.asked, Asked::Register(it) if it.place == wanted.place);
        wanted.by_desk && self.written.iter().any(same)
    }

    /// Whether a card's number is told. What is on its way to the disk counts for the day, whichever that is.
    fn judge_telling(&self, telling: &Telling, id: &str, at: Wall) -> Verdict {
        let Holding { owner, card, expiry, .. } = self.standing.tokens[telling.token];
        if telling.by_number.is_some_and(|named| named != expiry)
            || !telling.by.knows(owner, self.cards[card].issuer_says.is_some())
        {
            return Verdict::No(Refusal::UnknownToken);
        }
        let is_one = |open: &&Open| match open.asked {
            Asked::Tell(it) => {
                self.owner(it.token) == owner && open.verdict == Some(Verdict::Told { again: false })
            }
            _ => false,
        };
        let ahead = self.written.iter().filter(is_one).count();
        let told = self.standing.told.get(&owner).copied().unwrap_or_default();
        let most = self.standing.registry.of(owner).and_then(|it| it.terms.told_a_day);
        told.allow(most, u32::try_from(ahead).unwrap_or(u32::MAX), self.told.get(id).copied(), at)
    }

    /// Whether a requestor may have a token made from this one: its own, one that is shared, or what it presents is
    /// good and in no other request that is being worked on.
    pub(crate) fn may_be_source(&self, wanted: &Sourced, at: Wall) -> bool {
        if wanted.consent.is_none() {
            return self.standing.registry.shares(self.owner(wanted.source), wanted.by);
        }
        let presents = |open: &Open| matches!(open.asked, Asked::From(it) if it.consent == wanted.consent);
        let in_use = self.written.iter().chain(&self.enquired).any(presents);
        self.standing.consents.allow(wanted, at) && !in_use
    }

    /// An issuer's word about a request, and what was answered at once upon it.
    pub(crate) fn issuer_said(
        &mut self,
        call: CallId,
        said: &IssuerWord,
        at: Wall,
        told: Option<&Answer>,
    ) -> Step {
        let place = self.enquired.iter().position(|open| open.call == call);
        let place = place.ok_or_else(|| format!("P2: {call:?} hears of its issuer twice"))?;
        let word = match said {
            IssuerWord::Approved(_) => EnquiryAnswer::Approve,
            IssuerWord::StepUp(_) => EnquiryAnswer::StepUp,
            IssuerWord::Declined => EnquiryAnswer::Decline,
            IssuerWord::Silent => EnquiryAnswer::Silent,
        };
        let open = self.enquired.remove(place);
        let open = Open { word: Some(word), at, terms: self.terms_of(&open.asked), ..open };
        let Some((card, _)) = open.card else {
            return Err(format!("P6: an issuer is asked of {open:?}"));
        };
        let its = self.cards[card].issuer_says;
        ensure(word == EnquiryAnswer::Silent || Some(word) == its, "P6", || {
            format!("the issuer says {its:?} of {}, and {word:?} is heard", open.id)
        })?;
        let mut ahead = self.ahead();
        let admitted = self.admits(&ahead, &open, card);
        let foretold = admitted.and_then(|()| ahead.apply(&self.cards, &open)).err().map(Err);
        let id = open.id.clone();
        if foretold.is_none() {
            self.written.push(open);
        }
        self.same(&id, foretold.as_ref(), told)
    }

    /// The answer to what is durable. `appended`: the entry after which payments are held to it.
    pub(crate) fn answers(&mut self, call: CallId, answer: &Answer, appended: u64) -> Step {
        let first = self.written.first().filter(|open| open.call == call);
        ensure(first.is_some(), "P1", || format!("{call:?} is answered out of turn: {answer:?}"))?;
        let open = self.written.remove(0);
        let heard = self.take(open.clone(), appended)?;
        self.hears(&open.id, &heard, answer)?;
        self.hears_the_very_same(&open.id, answer)
    }

    /// What is durable is so from now on.
    fn take(&mut self, open: Open, appended: u64) -> Result<Heard, Broken> {
        self.events += 1;
        let before = self.standing.tokens.clone();
        let heard = self.standing.apply(&self.cards, &open);
        let heard = heard.map_err(|refusal| format!("P8: {} became {refusal} meanwhile", open.id))?;
        self.owe(&before);
        self.listen(&open.asked);
        self.views.resize(self.standing.tokens.len(), None);
        self.history.resize(self.standing.tokens.len(), Vec::new());
        for (of_token, token) in self.history.iter_mut().zip(&self.standing.tokens) {
            let Holding { status, narrowed, keys, .. } = token;
            let as_before =
                |last: &Since| (last.status, last.narrowed, &last.keys) == (*status, *narrowed, keys);
            if !of_token.last().is_some_and(as_before) {
                let keys = keys.clone();
                of_token.push(Since { entry: appended, status: *status, narrowed: *narrowed, keys });
            }
        }
        // No refusal to tell a card's number is remembered, and of what is told again, when it was told first.
        match (&open.asked, open.verdict) {
            (Asked::TellDenied { .. } | Asked::Confirm { .. } | Asked::GiveUp { .. }, _) => return Ok(heard),
            (Asked::Tell(_), Some(Verdict::Told { again: false })) => {
                self.told.insert(open.id.clone(), open.at);
            }
            (Asked::Tell(_), _) => return Ok(heard),
            _ => {}
        }
        self.answered.insert(open.id, (open.asked, heard.clone()));
        Ok(heard)
    }

    /// Whose tokens changed by the last event, and whose cards are behind them, are to be told.
    fn owe(&mut self, before: &[Holding]) {
        let event = u64::try_from(self.events).expect("they fit memory");
        for (at, token) in self.standing.tokens.iter().enumerate() {
            let change = (before.get(at), token);
            if change.0.is_some_and(|before| before.version == token.version) {
                continue;
            }
            self.notices.owe(Hearer::Requestor(token.owner), (event, at), change);
            if self.cards[token.card].issuer_says.is_some() {
                self.notices.owe(Hearer::Issuer, (event, at), change);
            }
        }
    }

    /// A registration may say who is told. Those of the configuration always are.
    fn listen(&mut self, asked: &Asked) {
        match asked {
            Asked::Confirm { hearer, up_to } => self.notices.confirmed(*hearer, *up_to),
            Asked::Register(Registering { place: 0, .. }) => {}
            Asked::Register(Registering { place, terms: Some(terms), .. }) => {
                self.notices.listens(Hearer::Requestor(*place), terms.listens);
            }
            _ => {}
        }
    }

    /// Receivers of the configuration, once their places are written down by so many events.
    pub(crate) fn adopted(&mut self, events: usize) {
        self.events += events;
        self.notices.listens(Hearer::Requestor(0), true);
        self.notices.listens(Hearer::Issuer, true);
    }

    pub(crate) fn notices(&self) -> &notices::Told {
        &self.notices
    }

    /// The place of a token of which somebody is told.
    pub(crate) fn told_of(&self, told: &Notification) -> Option<usize> {
        self.views.iter().position(|view| view.is_some_and(|view| view.reference == told.reference))
    }

    /// Somebody is told of a token.
    pub(crate) fn hears_of(&mut self, hearer: Hearer, told: &Notification) -> Step {
        match self.told_of(told) {
            Some(at) => self.notices.hears(hearer, at, told),
            // Of a token that its holder does not know yet there is nothing to compare it with.
            None => {
                let is_known = |at: usize| self.views.get(at).is_some_and(Option::is_some);
                self.notices.passes_over(hearer, told.sequence, is_known);
                Ok(())
            }
        }
    }

    /// A code came to the cardholder.
    pub(crate) fn code_came(&mut self, reference: TokenReferenceId, code: [u8; 6]) {
        let token = self.views.iter().position(|view| view.is_some_and(|view| view.reference == reference));
        let token = token.and_then(|token| self.standing.tokens.get_mut(token));
        if let Some(proof) = token.and_then(|token| token.proof.as_mut()) {
            proof.code = Some(code);
        }
    }

    /// The process died, and another one found so many events of the vault's. Gives what was asked and not answered.
    pub(crate) fn restarted(&mut self, events: usize, appended: u64) -> Result<Vec<(String, Asked)>, Broken> {
        let written = std::mem::take(&mut self.written);
        let kept = events.checked_sub(self.events).filter(|kept| *kept <= written.len());
        let kept = kept.ok_or_else(|| {
            format!("P8: {} events were answered, {} waited, {events} are there", self.events, written.len())
        })?;
        let lost = std::mem::take(&mut self.enquired);
        let unanswered =
            written.iter().chain(&lost).map(|open| (open.id.clone(), open.asked.clone())).collect();
        for open in written.into_iter().take(kept) {
            self.take(open, appended)?;
        }
        Ok(unanswered)
    }

    /// What a holder sees of a token is what it knows.
    pub(crate) fn sees(&mut self, token: usize, told: &Answer) -> Step {
        let heard = self.standing.heard(token);
        let proof = self.standing.tokens[token].proof.as_ref();
        let left = proof.map(|proof| (CODES - proof.sent, TRIES - proof.wrong));
        let shown = told.as_ref().ok().and_then(|told| told.clone().token()).and_then(|view| view.step_up);
        let shown = shown.map(|it| (it.codes_left, it.tries_left));
        ensure(left == shown, "P8", || {
            format!("token {token} has {left:?} codes and tries left, not {shown:?}")
        })?;
        let told = told.clone().map(|told| told.clone().token().map_or(told, Told::Token));
        self.hears("a look", &heard, &told)
    }

    fn same(&self, id: &str, foretold: Option<&Answer>, told: Option<&Answer>) -> Step {
        ensure(foretold == told, "P8", || {
            format!("{id} should hear {foretold:?} at once, and hears {told:?}")
        })
    }

    fn hears(&mut self, id: &str, heard: &Heard, told: &Answer) -> Step {
        let wrong = || Err(format!("P8: {id} should hear {heard:?}, and hears {told:?}"));
        match (heard, told) {
            (Heard::No(refusal), Err(other)) if refusal == other => Ok(()),
            (Heard::Cryptogram { order, number, until, expiry }, Ok(Told::Cryptogram(view))) => {
                let made = Made { order: *order, cryptogram: view.cryptogram };
                let (known, named) =
                    (self.views[order.token], (view.cryptogram.number(), view.until, view.expiry));
                let theirs = known.is_some_and(|known| known.token == view.token);
                let before = self.made.insert((order.token, *number), made);
                let same = before.is_none_or(|before| before == made);
                if theirs && same && named == (*number, *until, *expiry) { Ok(()) } else { wrong() }
            }
            (Heard::Key { token, key, expiry }, Ok(Told::Key(view))) => {
                let theirs = self.views[*token].is_some_and(|known| known.token == view.token);
                if theirs && view.expiry == *expiry && is_key(view, *key) { Ok(()) } else { wrong() }
            }
            (Heard::GivenUp(token, version), Ok(Told::Token(view))) => {
                let known = self.views[*token].is_none_or(|known| known.reference == view.reference);
                let named = (view.lifecycle.status, view.lifecycle.version);
                if known && named == (TokenStatus::Deactivated, *version) { Ok(()) } else { wrong() }
            }
            (Heard::Requestor(place, made), Ok(Told::Requestor(told))) => {
                let named = (&told.requestor, told.version, told.closed);
                let as_made = named == (&requestor(*place, &made.terms), made.version, made.closed);
                if as_made { Ok(()) } else { wrong() }
            }
            (Heard::Card(token, (card, new_expiry)), Ok(Told::Disclosed(view))) => {
                let (owner, card) = (self.owner(*token), &self.cards[*card].card);
                let expiry = if *new_expiry { Expiry::parse(NEW_EXPIRY).ok() } else { Some(card.expiry) };
                let named = (Some(view.reference), view.requestor, &view.pan, view.pan_expiry);
                let known = (self.reference(*token), requestor_at(owner), &card.pan, expiry);
                if named == known { Ok(()) } else { wrong() }
            }
            (Heard::Consent(given), Ok(Told::Consent(view))) => {
                let named = (Some(view.reference), view.to, view.until);
                let known = (self.reference(given.token), requestor_at(given.to), given.until);
                if named == known && self.consents.learn(*given, view.id) { Ok(()) } else { wrong() }
            }
            (Heard::Changed(count), Ok(Told::Card { changed })) if count == changed => Ok(()),
            (Heard::Token { token, status, held_by, version, assurance, expiry }, Ok(Told::Token(view))) => {
                let lifecycle = view.lifecycle;
                let agrees = view.requestor == requestor_at(self.owner(*token))
                    && lifecycle.status == *status
                    && lifecycle.version == *version
                    && lifecycle.suspenders.iter().collect::<BTreeSet<_>>() == *held_by
                    && view.expiry == *expiry
                    && view.assurance.digits() == *assurance;
                if agrees { self.learn(*token, view) } else { wrong() }
            }
            _ => wrong(),
        }
    }

    /// What a request was told first, each repeat is told to the last member, whatever has changed since.
    fn hears_the_very_same(&mut self, id: &str, told: &Answer) -> Step {
        let Ok(told) = told else { return Ok(()) };
        let first = self.firsts.entry(id.to_owned()).or_insert_with(|| told.clone());
        ensure(first == told, "P2", || format!("{id} was told {first:?}, and its repeat {told:?}"))
    }

    /// A token's number and reference never change, and are nobody else's.
    fn learn(&mut self, token: usize, view: &TokenView) -> Step {
        if let Some(known) = &self.views[token] {
            // A payment account reference goes with the account, and may differ once the card is another one.
            let same = (known.token, known.reference) == (view.token, view.reference);
            return ensure(same, "P8", || format!("token {token} is another one now"));
        }
        let others = self.views.iter().flatten();
        let taken = others.into_iter().any(|it| it.token == view.token || it.reference == view.reference);
        self.views[token] = Some(*view);
        ensure(!taken, "P8", || format!("the number of token {token} was given before"))
    }

    /// Entries became durable: what was forwarded with a token was allowed when it was looked up.
    pub(crate) fn durable(&mut self, entries: &[Entry]) -> Step {
        self.entries += entries.len();
        for entry in entries {
            match &entry.body {
                Body::Transaction(TransactionEntry::Request(request)) => self.forwards(entry, request)?,
                Body::Transaction(TransactionEntry::Outcome(outcome)) => self.ended(outcome),
                Body::Transaction(TransactionEntry::Stored(stored)) => self.taken_back(stored),
                _ => {}
            }
        }
        Ok(())
    }

    /// All entries, read back after a restart.
    pub(crate) fn read_back(&mut self, entries: &[Entry]) -> Step {
        let new = entries.get(self.entries..).unwrap_or_default();
        self.durable(new)
    }

    fn forwards(&mut self, entry: &Entry, request: &RequestEntry) -> Step {
        let Some(token) = &request.card.token else { return Ok(()) };
        let (mti, id, record) = (request.acquirer.mti, request.transaction, token.record);
        let asks = mti.function == MessageFunction::Request
            && matches!(mti.class, MessageClass::Authorization | MessageClass::Financial);
        if !asks || request.original.is_some() {
            return Ok(());
        }
        let history = usize::try_from(record).ok().and_then(|record| self.history.get(record));
        let before = |since: &&Since| since.entry < entry.number.0;
        let since = history.and_then(|history| history.iter().rev().find(before));
        let Some(Since { entry: from, status, narrowed, keys }) = since.cloned() else {
            return Err(format!("P6: {id} pays with a token that nobody was told of"));
        };
        if let Some(taken) = request.counter {
            ensure(keys.allow(taken.series, taken.atc, entry.wall_time), "P6", || {
                format!("{id} takes {taken:?} of a token whose keys are {keys:?}")
            })?;
            let of_token = usize::try_from(record).unwrap_or(usize::MAX);
            let made = self.made.get(&(of_token, taken.atc));
            let remote = taken.series == CounterSeries::Remote;
            ensure(!remote || made.is_some_and(|made| made.pays(entry, request)), "P6", || {
                format!("{id} pays with {taken:?}, and that is for {made:?}")
            })?;
        }
        ensure(status == TokenStatus::Active, "P6", || format!("{id} pays with a token that is {status:?}"))?;
        let minor = request.elements.amount().map_or(0, |amount| amount.minor());
        let tapped = request.elements.get(22).is_some_and(|mode| mode.starts_with(b"07"));
        let processing = request.elements.get(3).map(tokenswitch::vocab::ProcessingCode::parse);
        let debit =
            processing.is_some_and(|code| code.is_ok_and(|code| code.kind() == TransactionKind::Debit));
        let uses = self.uses.entry(record).or_default();
        let day = Wall((entry.wall_time.0 + 1).saturating_sub(DAY));
        let before = uses.iter().filter(|(number, at, _)| *number > from && *at >= day).count();
        let allowed = match narrowed {
            None => true,
            Some(Narrowing::Tap) => tapped,
            Some(Narrowing::Small) => minor <= SMALL,
            Some(Narrowing::Seldom(most)) => !debit || before < usize::from(most),
        };
        if debit {
            uses.push((entry.number.0, entry.wall_time, id));
        }
        ensure(allowed, "P6", || format!("{id} over {minor}, {before} before, is outside {narrowed:?}"))
    }

    /// A payment leaves for its issuer. Whoever was told that its token is suspended or unlinked may rely on it.
    pub(crate) fn leaves(&self, request: &RequestEntry) -> Step {
        let token = request.card.token.as_ref().filter(|_| request.original.is_none());
        let record = token.and_then(|token| usize::try_from(token.record).ok());
        let since = record.and_then(|record| self.history.get(record)?.last());
        let status = since.map_or(TokenStatus::Active, |since| since.status);
        ensure(status == TokenStatus::Active, "P6", || {
            format!("{} leaves with a token that is {status:?}", request.transaction)
        })
    }

    fn ended(&mut self, outcome: &OutcomeEntry) {
        let stands = matches!(outcome.outcome, Outcome::Approved | Outcome::ApprovedPartly);
        if !stands || outcome.reversal.is_some() {
            self.counts_no_more(outcome.transaction);
        }
    }

    fn taken_back(&mut self, stored: &StoredEntry) {
        let reverses = matches!(stored.kind, StoredKind::AcquirerReversal | StoredKind::OwnReversal(_));
        if let Some(original) = stored.original.filter(|_| reverses) {
            self.counts_no_more(original);
        }
    }

    fn counts_no_more(&mut self, id: TransactionId) {
        self.uses.values_mut().for_each(|uses| uses.retain(|(_, _, other)| *other != id));
    }
}
