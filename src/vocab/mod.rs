//! The field's words as types. Values only: no I/O, no crypto, no serde.

mod card;
mod chip;
mod codes;
mod domain;
mod ids;
mod initiation;
mod money;
mod mti;
mod pan;
mod refusal;
mod remote;
mod text;
mod time;
mod token;
mod token_request;
mod verdict;

pub use card::{Expiry, PanSequenceNumber, ServiceCode, Track2};
pub use chip::{AtcRange, ChipPayment, IssuerData};
pub use codes::{
    Country, EntryMode, MerchantCategory, NetworkCode, Outcome, PosEntryMode, ProcessingCode, ResponseCode,
    ReversalReason, TransactionKind,
};
pub use domain::{TokenDomain, TokenDomains};
pub use ids::{
    ApprovalCode, InstitutionId, LinkId, MerchantId, Rrn, ShardId, Stan, TerminalId, TransactionId,
};
pub use initiation::{Initiator, Initiators};
pub use money::{Amount, Currency, MoneyError};
pub use mti::{MessageClass, MessageFunction, MessageOrigin, MessageVersion, Mti};
pub use pan::{Bin, MaskedPan, Pan, holds_account, luhn_check_digit, luhn_valid, may_hold_account};
pub use refusal::Refusal;
pub use remote::RemoteCryptogram;
pub use text::{Digits, Text, WordError, WordFault};
pub use time::{BusinessDate, LocalDate, LocalTime, SentAt, SettlementWindow, TransmissionTime, YearMonth};
pub use token::{Par, Token, TokenAssuranceMethod, TokenLocation, TokenReferenceId, TokenRequestorId};
pub use token_request::{
    Contact, ContactKind, Contacts, EnquiryId, PanSource, Recommendation, RiskHints, TrustScore,
};
pub use verdict::{CounterSeries, CounterTaken, Service, Verdict, VerdictResult, Verdicts};
