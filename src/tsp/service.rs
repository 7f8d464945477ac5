//! `TokenService`: the async handle on the vault's writer, for the API. Calls wait in a bounded channel; what does
//! not fit is refused at once.

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::crypto::{BlindIndexer, MessageFault, MessageKey, MessageKeys, ReceiverKeys, SecurityModule};
use crate::stdx::clock::Clock;
use crate::stdx::random::Entropy;
use crate::vocab::{Pan, Par, TokenReferenceId, TokenRequestorId};

use super::approval::{IssuerApproval, NoIssuers};
use super::cards::MappingView;
use super::command::{
    Answer, Asker, CardRequest, ControlRequest, MoveRequest, ParQuery, ProvisionRequest, RegistryRequest,
    Told, UpdateRequest,
};
use super::consent::{ConsentId, ConsentRequest, ConsentView};
use super::disclosure::{DisclosureRequest, DisclosureView};
use super::error::{ProvisioningRefusal, TspError};
use super::event::Principal;
use super::given_keys::KeyRequest;
use super::log::TokenLog;
use super::metrics::Metrics;
use super::outbox::{Outbox, Receiver};
use super::registry::Registration;
use super::remote::{CryptogramRequest, CryptogramView};
use super::sourced::{CardMark, SourceToken, SourcedRequest};
use super::step_up::{CodeDelivering, CodeRequest, CodeSubmission, NoCodes};
use super::token_view::{SeenToken, TokenView};
use super::tsp::Tsp;
use super::verify::TokenKeys;
use super::wanted::WantedToken;
use super::wrapped::WrappedKey;
use super::writer::{Writer, WriterThread};

/// A question on its way to the writer, with the way back.
pub(super) struct Call {
    pub(super) question: Question,
    pub(super) reply: oneshot::Sender<Answer>,
}

pub(super) enum Question {
    Provision(Box<WantedToken>),
    ProvisionFrom(Box<SourcedRequest>),
    Move(MoveRequest),
    Update(UpdateRequest),
    Control(Box<ControlRequest>),
    Disclose(Box<DisclosureRequest>),
    DiscloseDenied(Box<Asker>),
    Cryptogram(Box<CryptogramRequest>),
    Consent(ConsentRequest),
    Key(Box<KeyRequest>),
    Card(Box<CardRequest>),
    Registry(Box<RegistryRequest>),
    Requestor(Principal, TokenRequestorId),
    Requestors(Principal, Option<TokenRequestorId>, usize),
    CardBehind(TokenRequestorId, (SourceToken, Option<ConsentId>)),
    Par(Principal, Box<ParQuery>),
    Mappings(Principal, TokenReferenceId),
    Get(Principal, TokenReferenceId),
    RequestCode(CodeRequest),
    SubmitCode(Box<CodeSubmission>),
    Notified(Receiver, u64),
}

/// What the vault reaches others by.
pub struct Ports {
    pub issuers: Box<dyn IssuerApproval>,
    pub codes: Box<dyn CodeDelivering>,
    /// By which receivers know who tells them.
    pub keys: ReceiverKeys,
    /// For what callers encrypt.
    pub messages: MessageKeys,
}

impl Ports {
    /// Of a vault that reaches nobody.
    #[must_use]
    pub fn none(security: &SecurityModule) -> Self {
        let (keys, messages) = (security.receiver_keys(), security.message_keys());
        Self { issuers: Box::new(NoIssuers), codes: Box::new(NoCodes), keys, messages }
    }
}

/// Asks the vault's writer. Clones ask the same one; when the last is gone, the writer ends.
#[derive(Clone)]
pub struct TokenService {
    calls: mpsc::Sender<Call>,
    metrics: Metrics,
    outbox: Outbox,
    news: watch::Receiver<u64>,
    signers: ReceiverKeys,
    messages: MessageKeys,
    keys: TokenKeys,
    indexer: BlindIndexer,
    clock: Clock,
}

impl TokenService {
    /// Starts the thread that owns `tsp`, which must have been recovered by now.
    ///
    /// # Errors
    /// `Thread` when the system gives none.
    pub fn start(
        tsp: Tsp,
        log: impl TokenLog,
        clock: Clock,
        entropy: Entropy,
        ports: Ports,
    ) -> Result<(Self, WriterThread), TspError> {
        let limits = tsp.limits();
        let (outbox, signers) = (tsp.outbox(), ports.keys.clone());
        let (messages, own_clock) = (ports.messages.clone(), clock.clone());
        let (keys, indexer) = (tsp.keys.clone(), tsp.indexer.clone());
        let (telling, news) = watch::channel(0);
        let (calls, receiver) = mpsc::channel(limits.waiting_calls);
        let metrics = Metrics::new(limits);
        metrics.filled(tsp.fill());
        let told = (ports, telling);
        let thread = Writer::new(tsp, log, clock, entropy, receiver, metrics.clone(), told).spawn()?;
        let service =
            Self { calls, metrics, outbox, news, signers, messages, keys, indexer, clock: own_clock };
        Ok((service, thread))
    }

    /// Shows in `registry`, under `tsp_`, how full the vault is and how calls are answered.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The key for which callers may encrypt card numbers; none where the key store has none.
    #[must_use]
    pub fn message_key(&self) -> Option<&MessageKey> {
        self.messages.newest()
    }

    /// The card number in a JWE for one of the keys that are, or lately were, published.
    ///
    /// # Errors
    /// `EncryptionNotValid`, `EncryptionKeyUnknown`, `EncryptionNotOpened`.
    pub fn encrypted_pan(&self, message: &str) -> Result<Pan, ProvisioningRefusal> {
        let clear = self.messages.open(message, self.clock.now().wall).map_err(|fault| match fault {
            MessageFault::Form | MessageFault::Header | MessageFault::Algorithm => {
                ProvisioningRefusal::EncryptionNotValid
            }
            MessageFault::UnknownKey => ProvisioningRefusal::EncryptionKeyUnknown,
            MessageFault::NotOpened => ProvisioningRefusal::EncryptionNotOpened,
        })?;
        Pan::parse(&clear).map_err(|_| ProvisioningRefusal::EncryptionNotOpened)
    }

    /// The mark of a card, by its number.
    #[must_use]
    pub fn card_of(&self, pan: &Pan) -> CardMark {
        CardMark(self.indexer.index(pan))
    }

    /// The mark of the card behind a token, for a requestor that may name it with this consent in `provision_from`;
    /// none for any other.
    ///
    /// # Errors
    /// `Overloaded`, `Unavailable`.
    pub async fn card_behind(
        &self,
        asking: TokenRequestorId,
        source: SourceToken,
        consent: Option<ConsentId>,
    ) -> Result<Option<CardMark>, ProvisioningRefusal> {
        let told = self.ask(Question::CardBehind(asking, (source, consent))).await?;
        let Told::CardBehind(card) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(card)
    }

    /// A token for a card. The answer comes once the token is durable.
    ///
    /// # Errors
    /// Every `ProvisioningRefusal` that is not about a token that is there.
    pub async fn provision(&self, request: ProvisionRequest) -> Result<TokenView, ProvisioningRefusal> {
        let wanted = WantedToken::of(request, &self.indexer);
        self.token(Question::Provision(Box::new(wanted))).await
    }

    /// A token for the card behind another one.
    ///
    /// # Errors
    /// As `provision`, and `UnknownToken` for a token that is not, or is not shared with this requestor,
    /// `StatusDoesNotAllow` and `TokenExpired` for one that is not good itself.
    pub async fn provision_from(&self, request: SourcedRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::ProvisionFrom(Box::new(request))).await
    }

    /// Another status for a token. The answer comes once it is durable and every payment sees it.
    ///
    /// # Errors
    /// `UnknownToken`, `StatusDoesNotAllow`, `NotYours`, `TokenExpired`, `VersionDiffers`, `RequestIdReused`,
    /// `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn change(&self, request: MoveRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Move(request)).await
    }

    /// What is known of a token, to one who may know of it.
    ///
    /// # Errors
    /// `UnknownToken`, `Overloaded`, `Unavailable`.
    pub async fn get(
        &self,
        principal: Principal,
        reference: TokenReferenceId,
    ) -> Result<SeenToken, ProvisioningRefusal> {
        let told = self.ask(Question::Get(principal, reference)).await?;
        let Told::Seen(seen) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*seen)
    }

    /// A token's expiry or assurance method is updated.
    ///
    /// # Errors
    /// As `change`, and `AssuranceNotAllowed`.
    pub async fn update(&self, request: UpdateRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Update(request)).await
    }

    /// Other controls of its own for a token. The answer comes once they are durable and every payment is held to them.
    ///
    /// # Errors
    /// As `change`, `ControlsNotValid`, and `VaultFull` when too many tokens have some.
    pub async fn control(&self, request: ControlRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Control(Box::new(request))).await
    }

    /// Something happened to a card: how many of its tokens changed. The answer comes once every payment sees it.
    ///
    /// # Errors
    /// `UnknownCard` also for a card of another issuer, `CardNotValid`, `CardNotEligible`, `CardExpired`,
    /// `CardBlocked`, `TooManyTokensOfCard`, `RequestIdReused`, `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn card(&self, request: CardRequest) -> Result<u32, ProvisioningRefusal> {
        let told = self.ask(Question::Card(Box::new(request))).await?;
        let Told::Card { changed } = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(changed)
    }

    /// The number of the card behind a token, outside of any payment. The answer comes once it is durable that it was
    /// told.
    ///
    /// # Errors
    /// `UnknownToken`, `DetokenizationNotAllowed`, `DetokenizationsExhausted`, `RepeatTooLate`, `RequestIdReused`,
    /// `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn disclose(&self, request: DisclosureRequest) -> Result<DisclosureView, ProvisioningRefusal> {
        let told = self.ask(Question::Disclose(Box::new(request))).await?;
        let Told::Disclosed(view) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*view)
    }

    /// A client that is not granted `disclose` asked for it: the audit trail has that, too. What it is told is not the
    /// vault's to say.
    pub async fn disclose_denied(&self, asker: Asker) {
        let _ = self.ask(Question::DiscloseDenied(Box::new(asker))).await;
    }

    /// A cryptogram for one payment. The answer comes once its number is durably taken.
    ///
    /// # Errors
    /// `UnknownToken`, `StatusDoesNotAllow`, `TokenExpired`, `UnknownRequestor`, `AmountNotValid`,
    /// `CryptogramsExhausted`, `RequestIdReused`, `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn cryptogram(
        &self,
        request: CryptogramRequest,
    ) -> Result<CryptogramView, ProvisioningRefusal> {
        let told = self.ask(Question::Cryptogram(Box::new(request))).await?;
        let Told::Cryptogram(made) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*made)
    }

    /// Lets another requestor have a token made for the card behind one. The answer comes once that is durable.
    ///
    /// # Errors
    /// `UnknownToken`, `StatusDoesNotAllow`, `TokenExpired`, `UnknownRequestor`, `RequestIdReused`, `RequestInFlight`,
    /// `Overloaded`, `Unavailable`.
    pub async fn consent(&self, request: ConsentRequest) -> Result<ConsentView, ProvisioningRefusal> {
        let told = self.ask(Question::Consent(request)).await?;
        let Told::Consent(given) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*given)
    }

    /// A token's card key or a limited-use key, wrapped for its device. The answer comes once it is durable that it was
    /// given. The same request again gets the same key, wrapped anew.
    ///
    /// # Errors
    /// `UnknownToken`, `StatusDoesNotAllow`, `TokenExpired`, `CardBlocked`, `UnknownRequestor`, `NoKeysToGive`,
    /// `DeviceDiffers`, `OtherKeysGiven`, `KeyNotRegistered`, `LimitedKeysExhausted`, `RequestIdReused`,
    /// `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn key(&self, request: KeyRequest) -> Result<WrappedKey, ProvisioningRefusal> {
        let told = self.ask(Question::Key(Box::new(request))).await?;
        let Told::Key(view) = told else { return Err(ProvisioningRefusal::Unavailable) };
        // Here, not in the vault's thread: others need not wait for a curve.
        let wrapped = self.keys.wrapped(&view, &mut Entropy::system());
        wrapped.map_err(|_| ProvisioningRefusal::Unavailable)
    }

    /// A requestor is registered, changed or closed. The answer comes once that is durable.
    ///
    /// # Errors
    /// `NotYours` for anybody but an operator, `UnknownRequestor`, `VersionDiffers`, `StatusDoesNotAllow` once it is
    /// closed, `ControlsNotValid`, `VaultFull`, `RequestIdReused`, `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn registry(&self, request: RegistryRequest) -> Result<Registration, ProvisioningRefusal> {
        let told = self.ask(Question::Registry(Box::new(request))).await?;
        let Told::Requestor(found) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*found)
    }

    /// A requestor as it is registered, for operators and for itself.
    ///
    /// # Errors
    /// `UnknownRequestor`, `Overloaded`, `Unavailable`.
    pub async fn requestor(
        &self,
        who: Principal,
        id: TokenRequestorId,
    ) -> Result<Registration, ProvisioningRefusal> {
        let told = self.ask(Question::Requestor(who, id)).await?;
        let Told::Requestor(found) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(*found)
    }

    /// So many requestors after an id, in order of their ids; for operators.
    ///
    /// # Errors
    /// `NotYours` for anybody but an operator, `Overloaded`, `Unavailable`.
    pub async fn requestors(
        &self,
        who: Principal,
        after: Option<TokenRequestorId>,
        most: usize,
    ) -> Result<Vec<Registration>, ProvisioningRefusal> {
        let told = self.ask(Question::Requestors(who, after, most)).await?;
        let Told::Requestors(found) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(found)
    }

    /// A payment account reference, if there is one.
    ///
    /// # Errors
    /// `UnknownToken`, `UnknownCard`, `CardNotValid`, `Overloaded`, `Unavailable`.
    pub async fn par(&self, who: Principal, query: ParQuery) -> Result<Option<Par>, ProvisioningRefusal> {
        let told = self.ask(Question::Par(who, Box::new(query))).await?;
        let Told::Par(par) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(par)
    }

    /// The cards to which a token led and leads, the oldest first; for issuers and operators.
    ///
    /// # Errors
    /// `UnknownToken`, `NotYours`, `Overloaded`, `Unavailable`.
    pub async fn mappings(
        &self,
        who: Principal,
        reference: TokenReferenceId,
    ) -> Result<Vec<MappingView>, ProvisioningRefusal> {
        let told = self.ask(Question::Mappings(who, reference)).await?;
        let Told::Mappings(mappings) = told else { return Err(ProvisioningRefusal::Unavailable) };
        Ok(mappings)
    }

    /// Has another code sent to a contact of the cardholder.
    ///
    /// # Errors
    /// `UnknownToken`, `NothingToProve`, `CardBlocked`, `UnknownContact`, `CodesExhausted`, `RequestIdReused`,
    /// `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn request_code(&self, request: CodeRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::RequestCode(request)).await
    }

    /// Takes the code that a cardholder typed; with the right one the token is good.
    ///
    /// # Errors
    /// `UnknownToken`, `NothingToProve`, `CardBlocked`, `NoCode`, `CodeWrong`, `ProofFailed`, `RequestIdReused`,
    /// `RequestInFlight`, `Overloaded`, `Unavailable`.
    pub async fn submit_code(&self, request: CodeSubmission) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::SubmitCode(Box::new(request))).await
    }

    /// What waits for receivers.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Changes whenever something new may wait; fails once the vault has ended.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// A receiver has taken everything up to here. Should this not be written down, it is told again after a restart.
    pub async fn notified(&self, receiver: Receiver, up_to: u64) {
        // Whether it was written is not waited for: the outbox forgets it either way.
        self.outbox.told(receiver, up_to);
        let (reply, _) = oneshot::channel();
        let _ = self.calls.send(Call { question: Question::Notified(receiver, up_to), reply }).await;
    }

    /// The signature of the parts, by the receiver's key; none where the key store has nothing to derive it from.
    #[must_use]
    pub fn sign(&self, receiver: Receiver, parts: &[&[u8]]) -> Option<[u8; 32]> {
        Some(self.signers.key(&receiver.name()).ok()?.sign(parts))
    }

    async fn token(&self, question: Question) -> Result<TokenView, ProvisioningRefusal> {
        self.ask(question).await?.token().ok_or(ProvisioningRefusal::Unavailable)
    }

    async fn ask(&self, question: Question) -> Answer {
        let (reply, answer) = oneshot::channel();
        let sent = self.calls.try_send(Call { question, reply });
        self.metrics.waiting(self.calls.max_capacity().saturating_sub(self.calls.capacity()));
        let answer = match sent {
            Ok(()) => answer.await.unwrap_or(Err(ProvisioningRefusal::Unavailable)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ProvisioningRefusal::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ProvisioningRefusal::Unavailable),
        };
        self.metrics.answered(&answer);
        answer
    }
}
