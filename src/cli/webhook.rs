//! `Webhook`: a receiver of notifications on this machine, for simulators, the demo and tests. It keeps what came, and
//! answers as it is told. As a command it prints what came.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Failure, say};

/// The longest call that is taken.
const MOST_BODY: usize = 1024 * 1024;

/// A receiver of notifications and of cardholders' codes, for trying out: it prints each call as a line of JSON, and
/// answers 200.
#[derive(Debug, clap::Args)]
pub(super) struct Receive {
    /// Where it listens: the address of a `notify`.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
}

/// Until a signal ends it.
pub(super) fn run(arguments: &Receive) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("no runtime can be started: {error}")))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let webhook = Webhook::start(arguments.listen).await?;
        webhook.0.borrow_mut().prints = true;
        std::future::pending().await
    })
}

/// One call as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Null when it was no JSON.
    pub body: Value,
    /// The very bytes, as they were signed.
    pub bytes: Vec<u8>,
    /// What the headers of time and signature said.
    pub timestamp: String,
    pub signature: String,
}

/// A receiver. Clones are the same one.
#[derive(Clone)]
pub struct Webhook(Rc<RefCell<Kept>>);

struct Kept {
    address: SocketAddr,
    status: u16,
    delay: Duration,
    /// What calls with this text in them are answered instead.
    apart: Option<(String, u16)>,
    received: Vec<Received>,
    /// Calls are printed, and not kept.
    prints: bool,
}

impl Webhook {
    /// Listens at `address`, whose port may be 0, in the current `LocalSet`.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn start(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (received, delay) = (Vec::new(), Duration::ZERO);
        let kept = Kept { address, status: 200, delay, apart: None, received, prints: false };
        let webhook = Self(Rc::new(RefCell::new(kept)));
        tokio::task::spawn_local(webhook.clone().accept(listener));
        Ok(webhook)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.borrow().address
    }

    /// From now on it answers with this status, after so long.
    pub fn answer_with(&self, status: u16, delay: Duration) {
        let mut kept = self.0.borrow_mut();
        (kept.status, kept.delay) = (status, delay);
    }

    /// From now on it answers a call with this text in it with this status.
    pub fn answer_apart(&self, text: &str, status: u16) {
        self.0.borrow_mut().apart = Some((text.to_owned(), status));
    }

    /// All calls so far, also those that were refused.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.0.borrow().received.clone()
    }

    /// The last code that came for a token.
    #[must_use]
    pub fn code_for(&self, token_reference: &str) -> Option<String> {
        let text = |call: &Received, name: &str| call.body.get(name)?.as_str().map(str::to_owned);
        let kept = self.0.borrow();
        let mut calls = kept.received.iter().rev();
        let of_token = |call: &&Received| text(call, "tokenReference").as_deref() == Some(token_reference);
        calls.find(of_token).and_then(|call| text(call, "code"))
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let webhook = self.clone();
            tokio::task::spawn_local(async move {
                let take = service_fn(|request| webhook.clone().take(request));
                // A caller that breaks off has not been answered, and comes again.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), take)
                    .await;
            });
        }
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (timestamp, signature) = (header("x-tokenswitch-timestamp"), header("x-tokenswitch-signature"));
        let body = Limited::new(request.into_body(), MOST_BODY).collect().await;
        let bytes = body.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let (status, delay) = {
            let mut kept = self.0.borrow_mut();
            let apart = kept.apart.as_ref();
            let apart = apart.filter(|(text, _)| String::from_utf8_lossy(&bytes).contains(text));
            let status = apart.map_or(kept.status, |(_, status)| *status);
            match kept.prints {
                true => say(&body.to_string()),
                false => kept.received.push(Received { body, bytes, timestamp, signature }),
            }
            (status, kept.delay)
        };
        tokio::time::sleep(delay).await;
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        Ok(response)
    }
}
