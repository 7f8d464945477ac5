//! `IssuerLink`: dials the connections of one issuer, as `Pool` asks.

use std::rc::Rc;

use tokio::task::spawn_local;

use super::config::IssuerLinkConfig;
use super::connection::Connection;
use super::event::{CloseReason, ConnectionId, LinkEvent};
use super::metrics::{LinkMetrics, Metrics};
use super::shared::Shared;
use super::transport::Transport;

/// An issuer that we dial.
#[derive(Clone)]
pub(super) struct IssuerLink {
    config: Rc<IssuerLinkConfig>,
    metrics: Rc<LinkMetrics>,
    shared: Rc<Shared>,
}

impl IssuerLink {
    pub(super) fn new(config: IssuerLinkConfig, metrics: &Metrics, shared: Rc<Shared>) -> Self {
        let metrics = Rc::new(metrics.link(&config.name, config.limits.output_bytes));
        Self { config: Rc::new(config), metrics, shared }
    }

    /// Whether it is reached as `config` says.
    pub(super) fn is_as(&self, config: &IssuerLinkConfig) -> bool {
        self.config.is_as(config)
    }

    /// Connects to the `address`th address in a task of its own, which goes on to serve the connection.
    pub(super) fn dial(&self, address: usize, id: ConnectionId) {
        let link = self.clone();
        let task = spawn_local(async move { link.dial_and_serve(address, id).await });
        self.shared.dialling(id, self.config.link, task.abort_handle());
    }

    async fn dial_and_serve(&self, address: usize, id: ConnectionId) {
        let Self { config, metrics, shared } = self;
        let dialled = match config.addresses.get(address) {
            Some(peer) => Transport::dial(config, *peer).await.map(|transport| (*peer, transport)),
            None => Err(CloseReason::DialRefused),
        };
        if !shared.dialled(id) {
            return;
        }
        match dialled {
            Ok((peer, transport)) => {
                let IssuerLinkConfig { framing, limits, link, .. } = **config;
                let connection =
                    Connection::new(id, peer, transport, framing, limits, Rc::clone(metrics), shared.now());
                Rc::new(connection).serve(link, shared).await;
            }
            Err(reason) => {
                metrics.dial_failed(reason);
                let address = config.addresses.get(address).map(tracing::field::display);
                tracing::warn!(link = config.name, address, %reason, "dialling failed");
                shared.push(LinkEvent::DialFailed { connection: id, link: config.link, reason });
            }
        }
    }
}
