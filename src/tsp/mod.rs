//! The token service provider: vault, lifecycle, controls, requestors. It never sees ISO 8583.

mod approval;
mod audit;
mod beside;
mod card_codes;
mod cards;
mod chains;
mod checkpoint;
mod command;
mod config;
mod consent;
mod controls;
mod controls_layout;
mod counters;
mod credential;
mod detokenize;
mod disclosure;
mod error;
mod event;
mod generate;
mod given_keys;
mod idv;
mod initiation;
mod issue;
mod keys_layout;
mod layout;
mod lifecycle;
mod loading;
mod log;
mod metrics;
mod moves;
mod outbox;
mod overdue;
mod own_controls;
mod owners;
mod record;
mod record_index;
mod record_layout;
mod registry;
mod remembered;
mod remembered_layout;
mod remote;
mod renewal;
mod requestor;
mod restore;
mod service;
mod slot;
mod sourced;
mod step_up;
mod table;
mod token_view;
#[allow(clippy::module_inception, reason = "the state machine is what the module is named after")]
mod tsp;
mod velocity;
mod verify;
mod wanted;
mod wire;
mod wrapped;
mod writer;

pub use approval::{CardWord, Enquiry, EnquiryReply, IssuerApproval, IssuerWord, NoIssuers};
pub use audit::{Attributes, Audited, AuditedStep};
pub use cards::MappingView;
pub use checkpoint::TspFold;
pub use command::{
    Action, Answer, Asker, CallId, CardNews, CardRequest, Command, ControlRequest, MoveRequest, ParQuery,
    ProvisionRequest, RegistryChange, RegistryRequest, Told, UpdateRequest,
};
pub use config::{ConfigFault, CryptogramChoice, PanRange, TokenRange, TspConfig, TspLimits};
pub use consent::{Consent, ConsentId, ConsentRequest, ConsentView};
pub use controls::{DomainContext, DomainControls, EntryModes, Merchant};
pub use counters::{CounterWindow, Presentation};
pub use credential::CredentialDigest;
pub use detokenize::{DetokenizeRequest, Detokenized, Detokenizer, Purpose};
pub use disclosure::{DisclosureOf, DisclosureRequest, DisclosureView};
pub use error::{ProvisioningRefusal, TspError};
pub use event::{
    Actor, CardChange, CardEvent, CardStanding, Cause, Change, Decline, DeclinedBy, Disclosure,
    DisclosurePurpose, DisclosureRefusal, DisclosureRefused, PartyName, Principal, Reason, RequestId,
    RequestKey, Successor, TokenAfter, TokenEvent,
};
pub use given_keys::{
    DevicePoint, GivenKeys, KeyGiven, KeyKind, KeyRequest, KeyView, LimitedKey, LimitedKeyTerms, LimitedKeys,
    NamedKey,
};
pub use idv::{ApprovalRule, Doubts, IssuerRule};
pub use initiation::{Initiation, InitiationControls, NamedOriginal};
pub use lifecycle::{Lifecycle, Move, Moved, Suspender, Suspenders, TokenStatus};
pub use log::{JournalLog, LogNotifier, LogPosition, LogRefusal, LogState, LogWatch, TokenLog, log_watch};
pub use outbox::{Happening, Notification, Outbox, OutboxStanding, Receiver};
pub use own_controls::TokenControls;
pub use owners::{Owners, Setter};
pub use record::{CardAad, CardData, PastMapping, VaultRecord, open_card, seal_card};
pub use registry::Registration;
pub use remote::{CryptogramRequest, CryptogramView, MadeCryptogram};
pub use requestor::{Activation, RequestorLimits, Thumbprint, TokenRequestor};
pub use restore::kept_tokens;
pub use service::{Ports, TokenService};
pub use sourced::{CardMark, Source, SourceToken, SourcedRequest};
pub use step_up::{
    CodeDelivering, CodeDelivery, CodeRequest, CodeSubmission, NoCodes, SentCode, StepUp, StepUpCode,
    StepUpLimits,
};
pub use token_view::{SeenToken, StepUpView, TokenView};
pub use tsp::Tsp;
pub use velocity::{VelocityRule, VelocityWindow};
pub use verify::TokenKeys;
pub use wanted::WantedToken;
pub use wrapped::WrappedKey;
pub use writer::WriterThread;

#[cfg(test)]
mod tests;
