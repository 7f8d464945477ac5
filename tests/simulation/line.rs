//! `Line`: one connection as the network sees it — bytes on their way, in order, late, cut off or lost.

use tokenswitch::codec::{Frame, FrameReader};
use tokenswitch::link::ConnectionId;
use tokenswitch::stdx::clock::Moment;
use tokenswitch::vocab::{LinkId, TransactionId};

use crate::setting::framing_of;

/// One connection between the switch and a peer.
pub(crate) struct Line {
    pub(crate) connection: ConnectionId,
    pub(crate) link: LinkId,
    pub(crate) at_switch: bool,
    pub(crate) at_peer: bool,
    /// Broken, though neither side may know it: what is written goes nowhere.
    pub(crate) broken: bool,
    /// Broken in the other direction: what the peer sends goes nowhere.
    pub(crate) deaf: bool,
    /// The peer is nobody's acquirer or issuer.
    pub(crate) stranger: bool,
    /// Everything the switch put into its output since the connection opened.
    pub(crate) output: Vec<u8>,
    /// How much of it the socket took.
    pub(crate) taken: usize,
    /// Where requests begin in the output, until the first byte of each was taken.
    pub(crate) originals: Vec<(usize, TransactionId)>,
    /// Approvals in its output, by the end of their frame.
    pub(crate) approvals: Vec<(usize, TransactionId)>,
    pub(crate) pumping: bool,
    /// In each direction nothing arrives before what was sent earlier.
    pub(crate) last_to_switch: Moment,
    pub(crate) last_to_peer: Moment,
    to_switch: FrameReader,
    to_peer: FrameReader,
}

impl Line {
    pub(crate) fn new(connection: ConnectionId, link: LinkId) -> Self {
        Self {
            connection,
            link,
            at_switch: true,
            at_peer: true,
            broken: false,
            deaf: false,
            stranger: false,
            output: Vec::new(),
            taken: 0,
            originals: Vec::new(),
            approvals: Vec::new(),
            pumping: false,
            last_to_switch: Moment(0),
            last_to_peer: Moment(0),
            to_switch: FrameReader::new(framing_of(link)),
            to_peer: FrameReader::new(framing_of(link)),
        }
    }

    /// Bytes that the switch receives; gives whole frames as header and message.
    pub(crate) fn frames_to_switch(&mut self, bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        frames(&mut self.to_switch, bytes)
    }

    pub(crate) fn frames_to_peer(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        frames(&mut self.to_peer, bytes).expect("the switch frames what it sends")
    }
}

/// `None` when the bytes cannot be framed.
fn frames(reader: &mut FrameReader, bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let spare = reader.spare();
        let (piece, later) = rest.split_at(spare.len().min(rest.len()));
        spare[..piece.len()].copy_from_slice(piece);
        reader.filled(piece.len());
        rest = later;
        loop {
            match reader.next() {
                Ok(Some(Frame { header, message })) => found.push((header.to_vec(), message.to_vec())),
                Ok(None) => break,
                Err(_) => return None,
            }
        }
    }
    Some(found)
}
