//! `Command` in, `Action` out: everything that can be asked of the vault's writer and everything it can ask.

use ring::digest;

use crate::crypto::BlindIndexer;
use crate::stdx::clock::Wall;
use crate::vocab::{
    Digits, Expiry, Pan, PanSequenceNumber, Par, Text, Token, TokenAssuranceMethod, TokenLocation,
    TokenReferenceId, TokenRequestorId,
};

use super::error::ProvisioningRefusal;
use super::event::{Actor, Cause, RequestId};
use super::lifecycle::{Lifecycle, Move};
use super::record::VaultRecord;

/// Whose answer it is: given by the caller, given back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Who asks, and under which name for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    pub actor: Actor,
    pub requestor: TokenRequestorId,
    pub request_id: RequestId,
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
}

/// A token's status is to change.
#[derive(Debug, Clone, Copy)]
pub struct MoveRequest {
    pub asker: Asker,
    pub reference: TokenReferenceId,
    pub asked: Move,
}

/// What a requestor is told of its token. Nothing in it leads to the card but the last four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenView {
    pub token: Token,
    pub expiry: Expiry,
    pub reference: TokenReferenceId,
    pub par: Option<Par>,
    pub requestor: TokenRequestorId,
    pub assurance: TokenAssuranceMethod,
    pub location: TokenLocation,
    /// Of the PAN.
    pub last4: Digits<4>,
    pub lifecycle: Lifecycle,
    pub issued_at: Wall,
    pub changed_at: Wall,
}

/// Everything that can be asked of, or happen to, the vault's writer.
#[derive(Debug)]
pub enum Command {
    Provision {
        call: CallId,
        request: Box<ProvisionRequest>,
    },
    Move {
        call: CallId,
        request: MoveRequest,
    },
    Get {
        call: CallId,
        requestor: TokenRequestorId,
        reference: TokenReferenceId,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Append { at: Wall, event: Vec<u8> },
    Answer { call: CallId, answer: Answer },
}

/// What a caller is told.
pub type Answer = Result<TokenView, ProvisioningRefusal>;

impl From<&VaultRecord> for TokenView {
    fn from(record: &VaultRecord) -> Self {
        Self {
            token: record.token,
            expiry: record.expiry,
            reference: record.reference,
            par: record.par,
            requestor: record.requestor,
            assurance: record.assurance,
            location: record.location,
            last4: record.last4,
            lifecycle: record.lifecycle,
            issued_at: record.issued_at,
            changed_at: record.changed_at,
        }
    }
}

impl ProvisionRequest {
    /// The cause of what follows from this request. The PAN goes into the digest as its blind index: a plain hash
    /// of a request would tell the PAN to whoever tries them all.
    pub(super) fn cause(&self, indexer: &BlindIndexer) -> Cause {
        let mut said = vec![1];
        said.extend_from_slice(&indexer.index(&self.pan));
        said.extend_from_slice(&self.pan_expiry.digits());
        said.push(self.sequence.map_or(u8::MAX, PanSequenceNumber::get));
        said.extend_from_slice(&self.assurance.map_or(*b"--", TokenAssuranceMethod::digits));
        said.push(self.location.map_or(u8::MAX, TokenLocation::code));
        said.extend(self.par.iter().flat_map(|par| par.as_bytes().to_vec()));
        self.asker.cause(&said)
    }
}

impl MoveRequest {
    pub(super) fn cause(&self) -> Cause {
        let (kind, by) = self.asked.code();
        let mut said = vec![2, kind, by];
        said.extend_from_slice(&self.reference.to_bytes());
        self.asker.cause(&said)
    }
}

impl Asker {
    fn cause(&self, said: &[u8]) -> Cause {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [&[self.actor as u8], self.reason.as_bytes(), &[0], said] {
            hash.update(part);
        }
        let mut body_digest = [0; 32];
        body_digest.iter_mut().zip(hash.finish().as_ref()).for_each(|(place, byte)| *place = *byte);
        Cause {
            actor: self.actor,
            requestor: self.requestor,
            request_id: self.request_id,
            body_digest,
            reason: self.reason,
        }
    }
}
