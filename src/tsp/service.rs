//! `TokenService`: the async handle on the vault's writer, for the API. Calls wait in a bounded channel; what does
//! not fit is refused at once.

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use crate::stdx::clock::Clock;
use crate::stdx::random::Entropy;
use crate::vocab::{Par, TokenReferenceId};

use super::command::{
    Answer, CardRequest, MappingView, MoveRequest, ParQuery, ProvisionRequest, TokenView, Told, UpdateRequest,
};
use super::error::{ProvisioningRefusal, TspError};
use super::event::Principal;
use super::log::TokenLog;
use super::metrics::Metrics;
use super::tsp::Tsp;
use super::writer::{Writer, WriterThread};

/// A question on its way to the writer, with the way back.
pub(super) struct Call {
    pub(super) question: Question,
    pub(super) reply: oneshot::Sender<Answer>,
}

pub(super) enum Question {
    Provision(Box<ProvisionRequest>),
    Move(MoveRequest),
    Update(UpdateRequest),
    Card(Box<CardRequest>),
    Par(Principal, Box<ParQuery>),
    Mappings(Principal, TokenReferenceId),
    Get(Principal, TokenReferenceId),
}

/// Asks the vault's writer. Clones ask the same one; when the last is gone, the writer ends.
#[derive(Clone)]
pub struct TokenService {
    calls: mpsc::Sender<Call>,
    metrics: Metrics,
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
    ) -> Result<(Self, WriterThread), TspError> {
        let limits = tsp.limits();
        let (calls, receiver) = mpsc::channel(limits.waiting_calls);
        let metrics = Metrics::new(limits);
        metrics.filled(tsp.fill());
        let thread = Writer::new(tsp, log, clock, entropy, receiver, metrics.clone()).spawn()?;
        Ok((Self { calls, metrics }, thread))
    }

    /// Shows in `registry`, under `tsp_`, how full the vault is and how calls are answered.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// A token for a card. The answer comes once the token is durable.
    ///
    /// # Errors
    /// Every `ProvisioningRefusal` that is not about a token that is there.
    pub async fn provision(&self, request: ProvisionRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Provision(Box::new(request))).await
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
    ) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Get(principal, reference)).await
    }

    /// A token's expiry or assurance method is updated.
    ///
    /// # Errors
    /// As `change`, and `AssuranceNotAllowed`.
    pub async fn update(&self, request: UpdateRequest) -> Result<TokenView, ProvisioningRefusal> {
        self.token(Question::Update(request)).await
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
