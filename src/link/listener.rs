//! Accepts acquirers, and issuers that dial in: a permit first, then a socket, then whose it is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_local};

use super::LinkError;
use super::config::ListenerConfig;
use super::connection::Connection;
use super::event::{CloseReason, ConnectionId};
use super::metrics::{LinkMetrics, ListenerMetrics, Metrics};
use super::shared::Shared;
use super::transport::Transport;
use crate::vocab::LinkId;

/// How long to wait when the operating system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that accepts, until it is dropped.
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// Where it was asked to listen: with port 0 the address is another.
    asked: SocketAddr,
    /// What the next connection is accepted with.
    site: Rc<RefCell<Rc<Site>>>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the accepting task works with.
struct Site {
    config: ListenerConfig,
    metrics: ListenerMetrics,
    permits: Arc<Semaphore>,
    parties: Vec<Seats>,
    shared: Rc<Shared>,
    /// Numbers accepted connections, of all listeners.
    accepted: Rc<Cell<u64>>,
}

/// One party's places.
struct Seats {
    link: LinkId,
    metrics: Rc<LinkMetrics>,
    permits: Arc<Semaphore>,
}

impl Listener {
    /// Binds and begins to accept.
    ///
    /// # Errors
    /// `LinkError` when the address cannot be had.
    pub(super) fn start(
        config: ListenerConfig,
        metrics: &Metrics,
        shared: Rc<Shared>,
        accepted: Rc<Cell<u64>>,
    ) -> Result<Self, LinkError> {
        let name = config.name.clone();
        let failed =
            |source| LinkError::Listen { name: config.name.clone(), address: config.address, source };
        let socket = match config.address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(config.address).map_err(failed)?;
        let listener = socket.listen(config.backlog).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let asked = config.address;
        let site = Rc::new(RefCell::new(Rc::new(Site::new(config, metrics, shared, accepted))));
        let task = spawn_local(accept_all(listener, Rc::clone(&site)));
        Ok(Self { name, address, asked, site, task })
    }

    /// Whether it is the one that `config` means: where any port will do, by its name.
    pub(super) fn is_for(&self, config: &ListenerConfig) -> bool {
        self.asked == config.address && (self.asked.port() != 0 || self.name == config.name)
    }

    /// Accepts on as `config` says, on the same address; connections that stand are left as they are.
    pub(super) fn go_on(&mut self, config: ListenerConfig, metrics: &Metrics) {
        let before = Rc::clone(&self.site.borrow());
        if !before.config.is_as(&config) {
            self.name.clone_from(&config.name);
            let (shared, accepted) = (Rc::clone(&before.shared), Rc::clone(&before.accepted));
            self.site.replace(Rc::new(Site::new(config, metrics, shared, accepted)));
        }
    }
}

/// Accepts, each connection as the site says by then.
async fn accept_all(listener: TcpListener, current: Rc<RefCell<Rc<Site>>>) {
    loop {
        let site = Rc::clone(&current.borrow());
        let Ok(permit) = site.permit(&site.permits).await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let now = Rc::clone(&current.borrow());
                now.admit(stream, peer, permit);
            }
            Err(error) => {
                tracing::warn!(listener = site.config.name, %error, "accepting failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Site {
    fn new(config: ListenerConfig, metrics: &Metrics, shared: Rc<Shared>, accepted: Rc<Cell<u64>>) -> Self {
        let seats = |party: &super::Party| Seats {
            link: party.link,
            metrics: Rc::new(metrics.link(&party.name, config.limits.output_bytes)),
            permits: Arc::new(Semaphore::new(party.connections)),
        };
        let parties = config.parties.iter().map(seats).collect();
        let metrics = metrics.listener(&config.name, config.connections);
        let permits = Arc::new(Semaphore::new(config.connections));
        Self { config, metrics, permits, parties, shared, accepted }
    }

    /// A place for one more connection; waits until there is one.
    async fn permit(
        &self,
        permits: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        self.metrics.full.inc();
        tracing::warn!(
            listener = self.config.name,
            limit = self.config.connections,
            "no more connections are accepted"
        );
        Arc::clone(permits).acquire_owned().await
    }

    /// Serves a connection in a task of its own, if its address is anybody's.
    fn admit(self: Rc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        if !self.config.parties.iter().any(|party| party.has_address(peer.ip())) {
            return self.refuse(peer, CloseReason::AddressNotAllowed);
        }
        spawn_local(async move {
            let _permit = permit;
            self.metrics.connections.inc();
            if let Err(reason) = self.serve(stream, peer).await {
                self.refuse(peer, reason);
            }
            self.metrics.connections.dec();
        });
    }

    /// Finds out whose connection it is, and serves it until it ends.
    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Result<(), CloseReason> {
        let ListenerConfig { tls, limits, framing, parties, .. } = &self.config;
        let transport = Transport::accept(stream, tls.as_ref(), limits).await?;
        let shown = transport.certificate();
        let (_, seats) = parties
            .iter()
            .zip(&self.parties)
            .find(|(party, _)| party.has_address(peer.ip()) && party.has_certificate(shown))
            .ok_or(CloseReason::CertificateNotAllowed)?;
        let _seat =
            Arc::clone(&seats.permits).try_acquire_owned().map_err(|_| CloseReason::TooManyConnections)?;
        let number = self.accepted.get();
        self.accepted.set(number.wrapping_add(1));
        let (id, metrics, now) =
            (ConnectionId::accepted(number), Rc::clone(&seats.metrics), self.shared.now());
        let connection = Connection::new(id, peer, transport, *framing, *limits, metrics, now);
        Rc::new(connection).serve(seats.link, &self.shared).await;
        Ok(())
    }

    fn refuse(&self, peer: SocketAddr, reason: CloseReason) {
        self.metrics.refused(reason);
        tracing::warn!(listener = self.config.name, %peer, %reason, "connection refused");
    }
}
