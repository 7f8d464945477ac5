//! `Connection`: what the node knows of one socket — its session, and what is in its output.

use std::collections::VecDeque;

use crate::link::Session;
use crate::vocab::{LinkId, Stan, TransactionId};

/// Which side of the house a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Acquirer,
    Issuer,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: LinkId,
    pub(super) side: Side,
    pub(super) session: Session,
    /// Bytes put into its output since it opened.
    pub(super) queued: u64,
    /// Approvals in its output, by the end of their frame: given once the socket took that byte.
    approvals: VecDeque<(u64, TransactionId)>,
    /// DE 11 of our next network message on it.
    network_stan: Stan,
}

impl Connection {
    pub(super) fn new(link: LinkId, side: Side, session: Session) -> Self {
        Self { link, side, session, queued: 0, approvals: VecDeque::new(), network_stan: Stan::FIRST }
    }

    /// The number of the next network message of ours.
    pub(super) fn next_network_stan(&mut self) -> Stan {
        let stan = self.network_stan;
        self.network_stan = stan.next();
        stan
    }

    /// An approval was put into the output, up to what is queued now.
    pub(super) fn owes(&mut self, transaction: TransactionId) {
        self.approvals.push_back((self.queued, transaction));
    }

    /// The socket took bytes: gives the approvals that ended in them, which are given.
    pub(super) fn took(&mut self, total: u64) -> impl Iterator<Item = TransactionId> {
        let given = self.approvals.iter().take_while(|(end, _)| *end <= total).count();
        self.approvals.drain(..given).map(|(_, transaction)| transaction)
    }

    /// Approvals whose last byte was not taken.
    pub(super) fn not_given(&self) -> impl Iterator<Item = TransactionId> {
        self.approvals.iter().map(|(_, transaction)| *transaction)
    }
}
