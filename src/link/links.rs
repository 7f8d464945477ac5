//! `Links`: all the sockets of one thread, between the network and the switch's driver.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

use super::config::LinksConfig;
use super::connection::Connection;
use super::event::{CloseReason, Inbox, LinkCommand, LinkEvent, Outbox};
use super::issuer::IssuerLink;
use super::listener::Listener;
use super::metrics::Metrics;
use super::shared::Shared;
use crate::stdx::clock::Clock;
use crate::stdx::maps::Map;
use crate::vocab::LinkId;

/// How often connections are asked whether they keep us waiting.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Why the links do not start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("listener `{name}`: cannot listen at {address}: {source}")]
    Listen { name: String, address: SocketAddr, source: io::Error },
}

/// All sockets of one thread. Its futures are not `Send`: it lives in a `tokio::task::LocalSet`.
pub struct Links {
    shared: Rc<Shared>,
    metrics: Metrics,
    /// How many connections were accepted, by all listeners.
    accepted: Rc<Cell<u64>>,
    listeners: Vec<Listener>,
    issuers: Map<LinkId, IssuerLink>,
    /// Connections with output of the batch at hand.
    touched: Vec<Rc<Connection>>,
    watch: JoinHandle<()>,
}

impl Links {
    /// Binds every listener. Issuers are dialled on `LinkCommand::Dial`. To be called within a `LocalSet`.
    ///
    /// # Errors
    /// Every listener that cannot be bound; then none is open.
    pub fn start(config: LinksConfig, clock: Clock, registry: &mut Registry) -> Result<Self, Vec<LinkError>> {
        let metrics = Metrics::register(registry);
        let LinksConfig { listeners, issuers, inbox } = config;
        let inbox_full = metrics.inbox_full.clone();
        let shared = Rc::new(Shared::new(clock, inbox, inbox_full));
        let accepted = Rc::new(Cell::new(0));
        let (mut open, mut errors) = (Vec::new(), Vec::new());
        for listener in listeners {
            match Listener::start(listener, &metrics, Rc::clone(&shared), Rc::clone(&accepted)) {
                Ok(listener) => open.push(listener),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let issuers = issuers
            .into_iter()
            .map(|issuer| (issuer.link, IssuerLink::new(issuer, &metrics, Rc::clone(&shared))))
            .collect();
        let watch = spawn_local(watch(Rc::clone(&shared)));
        Ok(Self { shared, metrics, accepted, listeners: open, issuers, touched: Vec::new(), watch })
    }

    /// Listens and dials as `config` says from here on; connections that stand are left as they are. Room between
    /// sockets and switch stays.
    ///
    /// # Errors
    /// Every new listener that cannot be bound; then nothing has changed.
    pub fn reload(&mut self, config: LinksConfig) -> Result<(), Vec<LinkError>> {
        let LinksConfig { listeners, issuers, inbox: _ } = config;
        let (known, new): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|it| self.listeners.iter().any(|known| known.is_for(it)));
        let (mut open, mut errors) = (Vec::new(), Vec::new());
        for listener in new {
            match Listener::start(listener, &self.metrics, Rc::clone(&self.shared), Rc::clone(&self.accepted))
            {
                Ok(listener) => open.push(listener),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.listeners.retain(|listener| known.iter().any(|it| listener.is_for(it)));
        for config in known {
            if let Some(listener) = self.listeners.iter_mut().find(|it| it.is_for(&config)) {
                listener.go_on(config, &self.metrics);
            }
        }
        self.listeners.append(&mut open);
        self.issuers.retain(|link, _| issuers.iter().any(|it| it.link == *link));
        for issuer in issuers {
            if self.issuers.get(&issuer.link).is_none_or(|known| !known.is_as(&issuer)) {
                let link = issuer.link;
                self.issuers.insert(link, IssuerLink::new(issuer, &self.metrics, Rc::clone(&self.shared)));
            }
        }
        Ok(())
    }

    /// Where each listener listens, by name; a configured port 0 has become a real one.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().map(|listener| (listener.name.as_str(), listener.address))
    }

    /// Connections that stand.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.borrow().len()
    }

    /// Waits until something happened that `take` gives. May be dropped and called again.
    pub async fn ready(&self) {
        self.shared.filled().await;
    }

    /// Exchanges `inbox`, which is wiped and emptied, for all that happened since the last time.
    pub fn take(&self, inbox: &mut Inbox) {
        self.shared.take(inbox);
    }

    /// Does what the switch wants, hands each connection's output to its socket in one go, and empties `outbox`.
    pub fn apply(&mut self, outbox: &mut Outbox) {
        for command in &outbox.commands {
            match command {
                LinkCommand::Write { connection, bytes } => {
                    if let Some(connection) = self.shared.connection(*connection)
                        && connection.write(outbox.written(bytes))
                    {
                        self.touched.push(connection);
                    }
                }
                LinkCommand::Close { connection, reason } => match self.shared.connection(*connection) {
                    Some(connection) => connection.close(*reason, &self.shared),
                    None => self.shared.stop_dialling(*connection, *reason),
                },
                LinkCommand::Abort { connection, reason } => {
                    if let Some(connection) = self.shared.connection(*connection) {
                        connection.abort(*reason);
                    }
                }
                LinkCommand::Dial { link, address, connection } => match self.issuers.get(link) {
                    Some(issuer) => issuer.dial(*address, *connection),
                    None => self.shared.push(LinkEvent::DialFailed {
                        connection: *connection,
                        link: *link,
                        reason: CloseReason::DialRefused,
                    }),
                },
            }
        }
        outbox.clear();
        for connection in self.touched.drain(..) {
            connection.flush(&self.shared);
        }
    }

    /// Closes all listeners; connections that stand are left as they are.
    pub fn stop_accepting(&mut self) {
        self.listeners.clear();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.watch.abort();
        for connection in self.shared.connections.borrow().values() {
            connection.abort(CloseReason::ShuttingDown);
        }
    }
}

/// Ends connections that keep us waiting.
async fn watch(shared: Rc<Shared>) {
    let mut beat = interval(CHECK_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let now = shared.now();
        for connection in shared.connections.borrow().values() {
            connection.check_deadlines(now);
        }
    }
}
