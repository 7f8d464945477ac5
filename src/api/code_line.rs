//! `CodeLine`: codes on their way from the vault to the notifier, in memory only: of a code no copy is kept, so that
//! those that wait when the process ends are gone. They are counted and told, and their cardholders ask for others.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::stdx::clock::Moment;
use crate::tsp::{CodeDelivering, CodeDelivery, Receiver};

/// Codes that may wait for one issuer's first call, and as many again for one after that.
pub(super) const CODES: usize = 256;

/// Codes on their way to the notifier, by issuer.
#[derive(Clone)]
pub struct CodeLine {
    issuers: Vec<(Receiver, mpsc::Sender<CodeDelivery>)>,
    lost: Counter,
}

/// The notifier's end of a `CodeLine`.
pub struct WaitingCodes {
    pub(super) issuers: Vec<(Receiver, mpsc::Receiver<CodeDelivery>)>,
    pub(super) lost: Counter,
    /// Sent before this start and still good; nobody knows whether their issuers have them.
    pub(super) before: usize,
}

/// A line for codes to these issuers, where so many are good that were sent before.
#[must_use]
pub fn code_line(receivers: &[Receiver], before: usize) -> (CodeLine, WaitingCodes) {
    let lost = Counter::default();
    let issuers = receivers.iter().filter(|receiver| matches!(receiver, Receiver::Issuer(_)));
    let (senders, waiting) = issuers
        .map(|receiver| {
            let (sender, waiting) = mpsc::channel(CODES);
            ((*receiver, sender), (*receiver, waiting))
        })
        .unzip();
    (CodeLine { issuers: senders, lost: lost.clone() }, WaitingCodes { issuers: waiting, lost, before })
}

impl CodeDelivering for CodeLine {
    fn deliver(&self, delivery: CodeDelivery) {
        let to = Receiver::Issuer(delivery.issuer);
        let line = self.issuers.iter().find(|(receiver, _)| *receiver == to);
        if line.is_none_or(|(_, line)| line.try_send(delivery).is_err()) {
            self.lost.inc();
        }
    }
}

/// A code that its issuer has not taken.
pub(super) struct WaitingCode {
    pub(super) delivery: CodeDelivery,
    /// When it is brought next, and how long it then waits if that fails.
    pub(super) due: Moment,
    pub(super) pause: Duration,
}

/// All that one issuer has not taken.
pub(super) struct Untaken {
    issuer: String,
    pub(super) incoming: mpsc::Receiver<CodeDelivery>,
    pub(super) waiting: Vec<WaitingCode>,
    /// One is being brought: whether it arrives is not known.
    pub(super) under_way: bool,
    lost: Counter,
}

impl Untaken {
    pub(super) fn new(issuer: String, incoming: mpsc::Receiver<CodeDelivery>, lost: Counter) -> Self {
        Self { issuer, incoming, waiting: Vec::new(), under_way: false, lost }
    }
}

impl Drop for Untaken {
    /// The process ends.
    fn drop(&mut self) {
        let left = self.incoming.len() + self.waiting.len() + usize::from(self.under_way);
        if left > 0 {
            self.lost.inc_by(u64::try_from(left).unwrap_or(u64::MAX));
            let (receiver, codes) = (&self.issuer, left);
            tracing::warn!(%receiver, codes, "codes that waited for their issuer are gone: others can be asked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::clock::Wall;
    use crate::tsp::{PartyName, StepUpCode};
    use crate::vocab::{Contact, ContactKind, Digits, EnquiryId, Text, TokenReferenceId, TokenRequestorId};

    fn delivery(issuer: PartyName) -> CodeDelivery {
        CodeDelivery {
            issuer,
            enquiry: EnquiryId([1; 8]),
            reference: TokenReferenceId::from_bytes([7; 16]),
            requestor: TokenRequestorId::parse(b"00000000001").unwrap(),
            last4: Digits::parse("last four", b"0119", 4).unwrap(),
            contact: Contact { number: 1, kind: ContactKind::App, shown: Text::default() },
            code: StepUpCode::parse(b"123456").unwrap(),
            until: Wall(1),
        }
    }

    #[test]
    fn all_that_waits_when_the_process_ends_is_counted() {
        let issuer = PartyName::parse("issuer", b"bank").unwrap();
        for (queued, waiting, under_way) in [(0, 0, false), (2, 0, false), (1, 3, false), (0, 1, true)] {
            let (line, codes) = code_line(&[Receiver::Issuer(issuer)], 0);
            (0..queued).for_each(|_| line.deliver(delivery(issuer)));
            let (_, incoming) = codes.issuers.into_iter().next().unwrap();
            let mut untaken = Untaken::new("issuer-bank".to_owned(), incoming, codes.lost.clone());
            untaken.under_way = under_way;
            untaken.waiting.extend((0..waiting).map(|_| WaitingCode {
                delivery: delivery(issuer),
                due: Moment::default(),
                pause: Duration::ZERO,
            }));
            drop(untaken);
            assert_eq!(codes.lost.get(), queued + waiting + u64::from(under_way));
        }
    }
}
