//! The life of a transaction: a core without I/O, the node around it, and one driver.

mod answered;
mod cards;
mod checkpoint;
mod chip;
mod config;
mod core;
mod driver;
mod enquiry;
mod event;
mod metrics;
mod node;
mod numbers;
mod operator;
mod recovery;
mod request;
mod route;
mod stand_in;
mod status;
mod store_forward;
mod tombstones;
mod transaction;
mod unfinished;

pub use answered::{Answered, Share, ShareKind};
pub use cards::Cards;
pub use checkpoint::{LimitsInForce, SwitchFold};
pub use config::{
    AcquirerConfig, Cryptograms, Identifiers, IssuerConfig, Limits, StoreForwardConfig, SwitchConfig,
    TrackTwo,
};
pub use core::{EnquiryOrder, Exception, ListedException, SwitchCore};
pub use driver::{DurableSignal, HistoryLine, Operators, Switch, SwitchError, SwitchParts};
pub use enquiry::{AskedEnquiry, Enquiries, EnquiryLine, enquiry_line};
pub use event::{
    Account, Action, Answer, AnswerKind, CardMark, Concern, Delivery, Event, IssuerAnswer, Mapped,
    OperatedEnd, Past, Ticket, Unsent,
};
pub use node::{EntryLog, Happened, History, LogFault, Node, NodeParts, Reload, Wire};
pub use operator::{Decision, OperatorAct, OperatorActError};
pub use recovery::{Recovered, Recovery, RecoveryError};
pub use request::{Arrival, CardSource, Given, NotARequest, PanCard, Request, RequestKind};
pub use route::RouteTable;
pub use stand_in::StandInTerms;
pub use status::{AbsentIssuer, Counts, LinkStatus, NodeCounts, Picture, Suspense, SwitchStatus};
pub use store_forward::Standing;
pub use transaction::{Original, Parent, Routed, Transaction};
pub use unfinished::Unfinished;
