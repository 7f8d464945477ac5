//! `Spares`: messages that are not in use, kept for their memory. Each is wiped before it is lent again.

use crate::codec::Message;
use crate::vocab::{MessageClass, MessageFunction, Mti};

/// As many are kept as may usually be in use at once; what is beyond is let go.
const MOST: usize = 4_096;

#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "they are lent as boxes: nothing of a message's size is moved about")]
pub(super) struct Spares(Vec<Box<Message>>);

impl Spares {
    /// An empty message; its type is whatever its user makes it.
    pub(super) fn lend(&mut self) -> Box<Message> {
        let nothing = Mti::of(MessageClass::NetworkManagement, MessageFunction::Request);
        self.0.pop().unwrap_or_else(|| Box::new(Message::new(nothing)))
    }

    /// Wipes a message and keeps its memory.
    pub(super) fn give_back(&mut self, mut message: Box<Message>) {
        if self.0.len() < MOST {
            let mti = message.mti();
            message.clear(mti);
            self.0.push(message);
        }
    }
}
