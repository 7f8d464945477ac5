//! `EnquiryLine`: how the TSP reaches the switch to have an issuer asked whether its card may have a token. It
//! implements the TSP's port; the switch's thread takes the other end.

use tokio::sync::mpsc;

use crate::tsp::{Enquiry, EnquiryReply, IssuerApproval};

/// An enquiry on its way to the switch, with the way back.
#[derive(Debug)]
pub struct AskedEnquiry {
    pub enquiry: Enquiry,
    pub reply: EnquiryReply,
}

/// The TSP's end. Clones are the same line.
#[derive(Debug, Clone)]
pub struct EnquiryLine(mpsc::Sender<AskedEnquiry>);

/// The switch's end.
#[derive(Debug)]
pub struct Enquiries(mpsc::Receiver<AskedEnquiry>);

/// A line on which so many enquiries may wait for the switch.
#[must_use]
pub fn enquiry_line(most: usize) -> (EnquiryLine, Enquiries) {
    let (sender, receiver) = mpsc::channel(most.max(1));
    (EnquiryLine(sender), Enquiries(receiver))
}

impl IssuerApproval for EnquiryLine {
    /// What does not fit, or finds the switch gone, drops its reply, which says that there is no answer.
    fn ask(&self, enquiry: Enquiry, reply: EnquiryReply) {
        let _ = self.0.try_send(AskedEnquiry { enquiry, reply });
    }
}

impl Enquiries {
    /// The next one, if one waits.
    pub(super) fn next(&mut self) -> Option<AskedEnquiry> {
        self.0.try_recv().ok()
    }
}
