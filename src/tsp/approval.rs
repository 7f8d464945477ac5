//! `IssuerApproval`: the port through which an issuer is asked whether its card may have a token, and by what the
//! answer comes back. Declared here, implemented by whoever has links to issuers.

use tokio::sync::mpsc;

use crate::vocab::{Contacts, EnquiryId, Par, RiskHints, TokenLocation, TokenRequestorId};

use super::command::CallId;
use super::record::CardData;

/// What the issuer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enquiry {
    /// By which it knows the cardholder again.
    pub id: EnquiryId,
    pub card: CardData,
    /// Who wants the token, and where it will keep it.
    pub requestor: TokenRequestorId,
    pub location: TokenLocation,
    pub hints: RiskHints,
}

/// What the issuer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerWord {
    Approved(CardWord),
    /// Only once the cardholder has proven itself.
    StepUp(CardWord),
    Declined,
    /// It could not be asked, or gave no answer in time: nothing is decided, and it may be asked again.
    Silent,
}

/// What an issuer that says yes adds of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CardWord {
    /// How it can reach the cardholder.
    pub contacts: Contacts,
    /// The card's payment account reference.
    pub par: Option<Par>,
}

impl From<Contacts> for CardWord {
    fn from(contacts: Contacts) -> Self {
        Self { contacts, par: None }
    }
}

/// Asks issuers. It waits for nothing.
pub trait IssuerApproval: Send {
    /// Asks the issuer of the card. What comes of it, and be it nothing in time, is told to `reply`.
    fn ask(&self, enquiry: Enquiry, reply: EnquiryReply);
}

/// The way back for one answer. Dropped without one, it says `Silent`: nobody can be left waiting.
#[derive(Debug)]
pub struct EnquiryReply {
    call: CallId,
    /// Taken once something was said.
    answers: Option<mpsc::Sender<(CallId, IssuerWord)>>,
}

impl EnquiryReply {
    /// A reply and where it arrives; `answers` must have room for as many as are outstanding.
    #[must_use]
    pub fn new(call: CallId, answers: mpsc::Sender<(CallId, IssuerWord)>) -> Self {
        Self { call, answers: Some(answers) }
    }

    /// Says what came of it.
    pub fn tell(mut self, word: IssuerWord) {
        self.send(word);
    }

    fn send(&mut self, word: IssuerWord) {
        if let Some(answers) = self.answers.take() {
            // Without a receiver the vault's thread has ended, and nobody waits any more.
            let _ = answers.try_send((self.call, word));
        }
    }
}

impl Drop for EnquiryReply {
    fn drop(&mut self) {
        self.send(IssuerWord::Silent);
    }
}

/// For a TSP without links to issuers: none can be asked.
#[derive(Debug, Clone, Copy)]
pub struct NoIssuers;

impl IssuerApproval for NoIssuers {
    fn ask(&self, _: Enquiry, reply: EnquiryReply) {
        reply.tell(IssuerWord::Silent);
    }
}
