//! `Command` in, `Action` out: everything that can be asked of the vault's writer and everything it can ask.

use ring::digest;

use crate::crypto::BlindIndexer;
use crate::stdx::clock::Wall;
use crate::vocab::{
    Expiry, Pan, PanSequenceNumber, Par, RiskHints, Text, Token, TokenAssuranceMethod, TokenLocation,
    TokenReferenceId, TokenRequestorId,
};

use super::approval::{Enquiry, IssuerWord};
use super::cards::MappingView;
use super::consent::{ConsentId, ConsentRequest, ConsentView};
use super::controls_layout::encode_controls;
use super::disclosure::{DisclosureRequest, DisclosureView};
use super::error::ProvisioningRefusal;
use super::event::{Actor, CardEvent, Cause, Principal, Reason, RequestId};
use super::given_keys::{KeyRequest, KeyView};
use super::layout::encode_requestor;
use super::lifecycle::Move;
use super::outbox::Receiver;
use super::own_controls::TokenControls;
use super::registry::Registration;
use super::remote::{CryptogramRequest, CryptogramView};
use super::requestor::TokenRequestor;
use super::sourced::{CardMark, Source, SourceToken, SourcedRequest};
use super::step_up::{CodeDelivery, CodeRequest, CodeSubmission};
use super::token_view::{SeenToken, TokenView};
use super::wanted::WantedToken;

/// Whose answer it is: given by the caller, given back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Who asks, under which name for the request, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    pub principal: Principal,
    /// The API's client that speaks for the principal; may be empty.
    pub client: Text<32>,
    pub actor: Actor,
    pub request_id: RequestId,
    pub reason_code: Reason,
    /// In the caller's words; may be empty.
    pub reason: Text<32>,
}

/// A token is wanted for a card.
#[derive(Debug, Clone)]
pub struct ProvisionRequest {
    pub asker: Asker,
    pub pan: Pan,
    /// The card's own.
    pub pan_expiry: Expiry,
    pub sequence: Option<PanSequenceNumber>,
    pub assurance: Option<TokenAssuranceMethod>,
    /// None: where the requestor keeps its tokens as a rule.
    pub location: Option<TokenLocation>,
    /// Kept only for cards of which we are not the BIN controller.
    pub par: Option<Par>,
    /// The device that will hold the token, in the requestor's own name for it.
    pub device: Option<Text<64>>,
    /// What the requestor knows that may help to decide.
    pub hints: RiskHints,
    /// What the token is narrowed to from its first day.
    pub controls: Option<Box<TokenControls>>,
    /// The token that the request named in the card's place, if it did.
    pub source: Option<Source>,
}

impl ProvisionRequest {
    /// For a card of which nothing more is said.
    #[must_use]
    pub fn of(asker: Asker, pan: Pan, pan_expiry: Expiry) -> Self {
        Self {
            asker,
            pan,
            pan_expiry,
            sequence: None,
            assurance: None,
            location: None,
            par: None,
            device: None,
            hints: RiskHints::default(),
            controls: None,
            source: None,
        }
    }
}

/// A token's status is to change.
#[derive(Debug, Clone, Copy)]
pub struct MoveRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    pub asked: Move,
    /// The version of the token that the asker has seen; another one refuses. None: whatever it is.
    pub version: Option<u32>,
}

/// A token's attributes are to be updated.
#[derive(Debug, Clone, Copy)]
pub struct UpdateRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    /// As in `MoveRequest`.
    pub version: Option<u32>,
    /// Whether the token gets a new expiry date, as long from today as tokens of its range are good.
    pub renew: bool,
    /// How its holder was identified by now.
    pub assurance: Option<TokenAssuranceMethod>,
}

/// A token's own controls are to be others.
#[derive(Debug, Clone)]
pub struct ControlRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    /// As in `MoveRequest`.
    pub version: Option<u32>,
    /// In place of those it has; none: only its requestor's from now on.
    pub controls: Option<Box<TokenControls>>,
}

/// Something happened to a card, says its issuer or an operator.
#[derive(Debug, Clone)]
pub struct CardRequest {
    pub asker: Asker,
    pub pan: Pan,
    pub news: CardNews,
}

/// What happened to it.
#[derive(Debug, Clone)]
pub enum CardNews {
    NewExpiry {
        expiry: Expiry,
        /// None: as it was.
        sequence: Option<PanSequenceNumber>,
    },
    NewPan {
        pan: Pan,
        expiry: Expiry,
        sequence: Option<PanSequenceNumber>,
        /// Whether the payment account reference goes with the account; none: as configured.
        keep_par: Option<bool>,
        /// The new card's own, where it does not and we are not the BIN controller.
        par: Option<Par>,
    },
    Lost,
    Stolen,
    Found,
    Closed,
}

/// A requestor is registered, changed or closed, by an operator.
#[derive(Debug, Clone)]
pub struct RegistryRequest {
    pub asker: Asker,
    /// The version of the requestor that the asker has seen, 0 for one that is not registered; another one refuses.
    /// None: whatever it is.
    pub version: Option<u32>,
    pub change: RegistryChange,
}

/// What becomes of a requestor.
#[derive(Debug, Clone)]
pub enum RegistryChange {
    /// It is registered like this, or from now on is like this. Its tokens keep what they were given.
    Set(Box<TokenRequestor>),
    /// It gets no more tokens.
    Close(TokenRequestorId),
}

impl RegistryChange {
    #[must_use]
    pub fn id(&self) -> TokenRequestorId {
        match self {
            Self::Set(requestor) => requestor.id,
            Self::Close(id) => *id,
        }
    }
}

/// By what a payment account reference is asked for.
#[derive(Debug, Clone)]
pub enum ParQuery {
    Reference(TokenReferenceId),
    Token(Token),
    Pan(Pan),
}

/// Everything that can be asked of, or happen to, the vault's writer.
#[derive(Debug)]
pub enum Command {
    Provision {
        call: CallId,
        request: Box<ProvisionRequest>,
    },
    /// As `Provision`, of which something was made already.
    Wanted {
        call: CallId,
        wanted: Box<WantedToken>,
    },
    ProvisionFrom {
        call: CallId,
        request: Box<SourcedRequest>,
    },
    Move {
        call: CallId,
        request: MoveRequest,
    },
    Update {
        call: CallId,
        request: UpdateRequest,
    },
    Control {
        call: CallId,
        request: Box<ControlRequest>,
    },
    Disclose {
        call: CallId,
        request: Box<DisclosureRequest>,
    },
    /// One who may not even ask wanted a card's number.
    DiscloseDenied {
        call: CallId,
        asker: Box<Asker>,
    },
    Cryptogram {
        call: CallId,
        request: Box<CryptogramRequest>,
    },
    Consent {
        call: CallId,
        request: ConsentRequest,
    },
    Key {
        call: CallId,
        request: Box<KeyRequest>,
    },
    Card {
        call: CallId,
        request: Box<CardRequest>,
    },
    Registry {
        call: CallId,
        request: Box<RegistryRequest>,
    },
    Requestor {
        call: CallId,
        principal: Principal,
        id: TokenRequestorId,
    },
    /// The next of all requestors, in order of their ids.
    Requestors {
        call: CallId,
        principal: Principal,
        after: Option<TokenRequestorId>,
        most: usize,
    },
    /// Which card is behind a token, by a mark.
    CardBehind {
        call: CallId,
        asking: TokenRequestorId,
        source: (SourceToken, Option<ConsentId>),
    },
    Par {
        call: CallId,
        principal: Principal,
        query: Box<ParQuery>,
    },
    Mappings {
        call: CallId,
        principal: Principal,
        reference: TokenReferenceId,
    },
    Get {
        call: CallId,
        principal: Principal,
        reference: TokenReferenceId,
    },
    /// What came of an `AskIssuer`.
    IssuerAnswered {
        call: CallId,
        word: IssuerWord,
    },
    /// A code for the cardholder is wanted.
    RequestCode {
        call: CallId,
        request: CodeRequest,
    },
    /// The cardholder has typed a code.
    SubmitCode {
        call: CallId,
        request: Box<CodeSubmission>,
    },
    /// Receivers of notifications that are new begin to hear from here on. Nobody waits for the answer.
    Adopt {
        call: CallId,
    },
    /// Time has passed: tokens that waited too long for their cardholders' proof, or to be activated, are given up.
    GiveUpOverdue {
        call: CallId,
    },
    /// A receiver was told everything up to this event.
    Notified {
        call: CallId,
        receiver: Receiver,
        up_to: u64,
    },
    /// The oldest `events` of those appended are on disk.
    Durable {
        events: usize,
    },
    /// The newest `events` of those appended did not get into the log.
    Refused {
        events: usize,
    },
    /// The log takes no more; what waits may or may not be in it.
    Failed,
}

/// Everything that the writer can ask. Appends are in order of decision, and become durable in that order.
#[allow(clippy::large_enum_variant, reason = "a few a call, each taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Append {
        at: Wall,
        event: Vec<u8>,
    },
    Answer {
        call: CallId,
        answer: Answer,
    },
    /// Have the card's issuer asked; `IssuerAnswered` follows.
    AskIssuer {
        call: CallId,
        enquiry: Box<Enquiry>,
    },
    /// Bring a code to its issuer: it is durable that it was sent.
    SendCode(Box<CodeDelivery>),
}

/// What a caller is told.
pub type Answer = Result<Told, ProvisioningRefusal>;

/// What was done, or found.
#[allow(clippy::large_enum_variant, reason = "a few a call, each taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Token(TokenView),
    Seen(Box<SeenToken>),
    /// How many tokens of the card changed.
    Card {
        changed: u32,
    },
    Par(Option<Par>),
    CardBehind(Option<CardMark>),
    Disclosed(Box<DisclosureView>),
    Cryptogram(Box<CryptogramView>),
    Consent(Box<ConsentView>),
    Key(Box<KeyView>),
    Requestor(Box<Registration>),
    /// In order of their ids.
    Requestors(Vec<Registration>),
    /// The oldest first.
    Mappings(Vec<MappingView>),
}

impl Told {
    /// The token that it is about, if it is about one.
    #[must_use]
    pub fn token(self) -> Option<TokenView> {
        match self {
            Self::Token(view) => Some(view),
            Self::Seen(seen) => Some(seen.token),
            Self::Card { .. }
            | Self::Par(_)
            | Self::CardBehind(_)
            | Self::Disclosed(_)
            | Self::Cryptogram(_)
            | Self::Consent(_)
            | Self::Key(_)
            | Self::Mappings(_)
            | Self::Requestor(_)
            | Self::Requestors(_) => None,
        }
    }
}

impl MoveRequest {
    pub(super) fn cause(&self) -> Cause {
        let (kind, by) = self.asked.code();
        let mut said = vec![2, kind, by];
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend(self.version.iter().flat_map(|version| version.to_le_bytes()));
        self.asker.cause(&said)
    }
}

impl UpdateRequest {
    pub(super) fn cause(&self) -> Cause {
        let mut said = vec![3, u8::from(self.renew)];
        said.extend_from_slice(&self.assurance.map_or(*b"--", TokenAssuranceMethod::digits));
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend(self.version.iter().flat_map(|version| version.to_le_bytes()));
        self.asker.cause(&said)
    }
}

impl ControlRequest {
    pub(super) fn cause(&self) -> Cause {
        let mut said = vec![5];
        said.extend_from_slice(&self.reference.to_bytes());
        said.extend_from_slice(&self.version.map_or([0; 5], |version| {
            let [a, b, c, d] = version.to_le_bytes();
            [1, a, b, c, d]
        }));
        said.extend(self.controls.iter().flat_map(|controls| encode_controls(controls)));
        self.asker.cause(&said)
    }
}

impl RegistryRequest {
    pub(super) fn cause(&self) -> Cause {
        let mut said = vec![6];
        said.extend_from_slice(&self.version.unwrap_or(u32::MAX).to_le_bytes());
        match &self.change {
            RegistryChange::Set(requestor) => {
                said.push(1);
                said.extend_from_slice(&encode_requestor(requestor));
            }
            RegistryChange::Close(id) => {
                said.push(2);
                said.extend_from_slice(id.as_bytes());
            }
        }
        self.asker.cause(&said)
    }
}

impl CardNews {
    #[must_use]
    pub fn event(&self) -> CardEvent {
        match self {
            Self::NewExpiry { .. } => CardEvent::NewExpiry,
            Self::NewPan { .. } => CardEvent::NewPan,
            Self::Lost => CardEvent::Lost,
            Self::Stolen => CardEvent::Stolen,
            Self::Found => CardEvent::Found,
            Self::Closed => CardEvent::Closed,
        }
    }
}

impl CardRequest {
    /// As of a provisioning: PANs go into the digest as their blind indexes.
    pub(super) fn cause(&self, indexer: &BlindIndexer) -> Cause {
        let mut said = vec![4, self.news.event().code()];
        said.extend_from_slice(&indexer.index(&self.pan));
        let (expiry, sequence) = match &self.news {
            CardNews::NewExpiry { expiry, sequence } => (expiry, sequence),
            CardNews::NewPan { pan, expiry, sequence, keep_par, par } => {
                said.extend_from_slice(&indexer.index(pan));
                said.push(keep_par.map_or(2, u8::from));
                said.extend(par.iter().flat_map(|par| par.as_bytes().to_vec()));
                (expiry, sequence)
            }
            CardNews::Lost | CardNews::Stolen | CardNews::Found | CardNews::Closed => {
                return self.asker.cause(&said);
            }
        };
        said.extend_from_slice(&expiry.digits());
        said.push(sequence.map_or(u8::MAX, PanSequenceNumber::get));
        self.asker.cause(&said)
    }
}

impl Asker {
    /// A token requestor's request that says nothing more of itself.
    #[must_use]
    pub fn requestor(id: TokenRequestorId, request_id: RequestId) -> Self {
        Self::new(Principal::Requestor(id), Actor::TokenRequestor, request_id)
    }

    /// A request that says nothing more of itself.
    #[must_use]
    pub fn new(principal: Principal, actor: Actor, request_id: RequestId) -> Self {
        let (client, reason) = (Text::default(), Text::default());
        Self { principal, client, actor, request_id, reason_code: Reason::Unstated, reason }
    }

    /// The requestor that asks, if one does.
    pub(super) fn for_requestor(&self) -> Option<TokenRequestorId> {
        match self.principal {
            Principal::Requestor(id) => Some(id),
            Principal::Issuer(_) | Principal::Operator(_) | Principal::Service => None,
        }
    }

    /// The cause of what follows, `said` being all else that the request says. The client is left out: whichever
    /// of a principal's clients repeats a request, it is the same.
    pub(super) fn cause(&self, said: &[u8]) -> Cause {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [&[self.actor.code()], self.reason.as_bytes(), &[0], said] {
            hash.update(part);
        }
        // Left out where none is stated: so it was before there were reason codes.
        if self.reason_code != Reason::Unstated {
            hash.update(&[0, self.reason_code.code()]);
        }
        let mut body_digest = [0; 32];
        body_digest.iter_mut().zip(hash.finish().as_ref()).for_each(|(place, byte)| *place = *byte);
        Cause {
            principal: self.principal,
            client: self.client,
            actor: self.actor,
            requestor: self.for_requestor(),
            request_id: self.request_id,
            body_digest,
            reason_code: self.reason_code,
            reason: self.reason,
            source: None,
            consent: None,
        }
    }
}
