//! What all connections share: the inbox that they fill for the switch, and the table that commands find them in.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::config::InboxLimits;
use super::connection::Connection;
use super::event::{CloseReason, ConnectionId, Inbox, LinkEvent};
use crate::stdx::clock::{Clock, Moment};
use crate::stdx::maps::Map;
use crate::vocab::LinkId;

/// What all connections of a thread share.
pub(super) struct Shared {
    clock: Clock,
    inbox: RefCell<Inbox>,
    limits: InboxLimits,
    /// Tells the switch that there is something in the inbox.
    filled: Notify,
    /// Connections that read no further until the inbox was taken.
    waiting: RefCell<Vec<Waker>>,
    inbox_full: Counter,
    pub(super) connections: RefCell<Map<ConnectionId, Rc<Connection>>>,
    dialling: RefCell<Map<ConnectionId, (LinkId, AbortHandle)>>,
}

impl Shared {
    pub(super) fn new(clock: Clock, limits: InboxLimits, inbox_full: Counter) -> Self {
        Self {
            clock,
            inbox: RefCell::default(),
            limits,
            filled: Notify::new(),
            waiting: RefCell::default(),
            inbox_full,
            connections: RefCell::default(),
            dialling: RefCell::default(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now().moment
    }

    pub(super) fn push(&self, event: LinkEvent) {
        self.inbox.borrow_mut().events.push(event);
        self.filled.notify_one();
    }

    /// Lets `cut` add frames, and tells the switch when it added any.
    pub(super) fn push_frames<T>(&self, cut: impl FnOnce(&mut Inbox) -> T) -> T {
        let inbox = &mut *self.inbox.borrow_mut();
        let before = inbox.events.len();
        let result = cut(inbox);
        if before == 0 && !inbox.is_empty() {
            self.filled.notify_one();
        }
        result
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        let inbox = self.inbox.borrow();
        inbox.bytes.len() < self.limits.bytes && inbox.events.len() < self.limits.events
    }

    /// Wakes `task` when the inbox was taken.
    pub(super) fn wait_for_room(&self, task: &Waker) {
        self.inbox_full.inc();
        self.waiting.borrow_mut().push(task.clone());
    }

    /// Waits until there is something in the inbox. What the switch's last batch itself left there (`Written`, as
    /// a rule) is not worth a batch of its own, so the sockets may add to it first.
    pub(super) async fn filled(&self) {
        if !self.inbox.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        while self.inbox.borrow().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Gives what came and takes `inbox`, emptied, for what comes.
    pub(super) fn take(&self, inbox: &mut Inbox) {
        inbox.clear();
        std::mem::swap(inbox, &mut self.inbox.borrow_mut());
        for task in self.waiting.borrow_mut().drain(..) {
            task.wake();
        }
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&id).cloned()
    }

    pub(super) fn dialling(&self, id: ConnectionId, link: LinkId, task: AbortHandle) {
        self.dialling.borrow_mut().insert(id, (link, task));
    }

    /// The dialling of `id` is over. `false` if it was called off.
    pub(super) fn dialled(&self, id: ConnectionId) -> bool {
        self.dialling.borrow_mut().remove(&id).is_some()
    }

    /// Calls off the dialling of `id`, if it is being dialled.
    pub(super) fn stop_dialling(&self, id: ConnectionId, reason: CloseReason) {
        if let Some((link, task)) = self.dialling.borrow_mut().remove(&id) {
            task.abort();
            self.push(LinkEvent::DialFailed { connection: id, link, reason });
        }
    }
}
