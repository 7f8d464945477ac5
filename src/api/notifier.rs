//! `Notifier`: tells requestors and issuers what became of their tokens, and brings codes to issuers, who bring them to
//! cardholders. The only client of HTTP in the daemon, on a thread and a runtime of its own: a receiver that is dead or
//! slow keeps nobody waiting but itself.
//!
//! Each receiver has one call outstanding, which takes the oldest of what waits for it; only once that is answered
//! with 2xx, and written down, the next follows. So they come in order, and at least once; one that its receiver
//! refuses for what it says, by itself and for as long as pauses grow, is given up. Codes have no order: one that its
//! issuer did not take waits while others are brought.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::code_line::{CODES, Untaken, WaitingCode, WaitingCodes};
use super::error::ApiError;
use crate::stdx::clock::{Clock, Wall};
use crate::tls::{ServerName, TlsClient};
use crate::tsp::{CodeDelivery, Notification, Outbox, Receiver, Suspender, TokenService};
use crate::vocab::Text;

/// The notifications of one call.
const BATCH: usize = 64;

/// Where a receiver takes notifications: `http` on this machine, `https` anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    /// Whether it is called over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// What stands in the header Host (RFC 3986, 3.2.2: an IPv6 address in brackets).
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "must be a URL such as \"https://wallet.example/tokens\"";
        let uri: axum::http::Uri = text.parse().map_err(|_| shape.to_owned())?;
        let (scheme, host) = uri.scheme_str().zip(uri.host()).ok_or_else(|| shape.to_owned())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let local = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let tls = match scheme {
            "https" => true,
            "http" if local => false,
            "http" => return Err("must be https: http stays on this machine".to_owned()),
            _ => return Err(shape.to_owned()),
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, path })
    }
}

/// How receivers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifierConfig {
    /// From dialling to the answer.
    pub timeout: Duration,
    /// The first pause after a call that failed; it doubles up to `pause_most`.
    pub pause_least: Duration,
    pub pause_most: Duration,
}

/// What the notifier works with.
pub struct NotifierParts {
    pub config: NotifierConfig,
    pub receivers: Vec<(Receiver, Endpoint)>,
    /// Whom receivers' certificates must come from.
    pub tls: Option<TlsClient>,
    pub service: TokenService,
    pub codes: WaitingCodes,
    pub clock: Clock,
}

/// The running notifier.
pub struct Notifier {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Notifier {
    /// Starts it, and shows it in `registry` under `notifications_`.
    ///
    /// # Errors
    /// `Thread`.
    pub fn start(parts: NotifierParts, registry: &mut Registry) -> Result<Self, ApiError> {
        let before = parts.codes.before;
        if before > 0 {
            tracing::warn!(codes = before, "codes sent before this start may not have reached their issuers");
        }
        let metrics = Metrics::register(registry, &parts.codes.lost, before);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let run = move || {
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, run(parts, metrics, stopping));
        };
        let thread = std::thread::Builder::new().name("notifier".to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Notifier {
    /// What is on its way is left: it will be sent again.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabel {
    receiver: String,
}

#[derive(Clone)]
struct Metrics {
    waiting: Family<ReceiverLabel, Gauge>,
    given_up: Family<ReceiverLabel, Gauge>,
    delivered: Family<ReceiverLabel, Counter>,
    failed: Family<ReceiverLabel, Counter>,
    refused: Family<ReceiverLabel, Counter>,
    codes: Counter,
    lost: Counter,
}

impl Metrics {
    fn register(registry: &mut Registry, lost: &Counter, before: usize) -> Self {
        let registry = registry.sub_registry_with_prefix("notifications");
        let metrics = Self {
            waiting: Family::default(),
            given_up: Family::default(),
            delivered: Family::default(),
            failed: Family::default(),
            refused: Family::default(),
            codes: Counter::default(),
            lost: lost.clone(),
        };
        registry.register("waiting", "Notifications that a receiver has not taken", metrics.waiting.clone());
        registry.register("given_up", "Notifications given up for want of room", metrics.given_up.clone());
        registry.register("delivered", "Notifications that a receiver took", metrics.delivered.clone());
        registry.register("failed_calls", "Calls of a receiver that failed", metrics.failed.clone());
        registry.register("refused", "Notifications given up as refused", metrics.refused.clone());
        registry.register("codes", "Codes that an issuer took", metrics.codes.clone());
        registry.register(
            "codes_lost",
            "Codes that no issuer took in time, or refused for good",
            metrics.lost.clone(),
        );
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(before).unwrap_or(i64::MAX));
        registry.register("codes_before_start", "Good codes of before the start, brought or not", gauge);
        metrics
    }
}

async fn run(parts: NotifierParts, metrics: Metrics, stop: CancellationToken) {
    let NotifierParts { config, receivers, tls, service, codes, clock } = parts;
    let caller = |receiver: Receiver, endpoint: Endpoint| Caller {
        receiver,
        label: ReceiverLabel { receiver: receiver.name() },
        endpoint,
        service: service.clone(),
        config,
        tls: tls.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    for (issuer, waiting) in codes.issuers {
        if let Some((_, endpoint)) = receivers.iter().find(|(receiver, _)| *receiver == issuer) {
            tokio::task::spawn_local(caller(issuer, endpoint.clone()).bring_codes(waiting));
        }
    }
    let (mut news, mut told, mut seen) = (service.news(), Told::default(), None);
    loop {
        let registrations = service.outbox().registrations();
        if seen.replace(registrations) != Some(registrations) {
            told.become_these(endpoints(&receivers, service.outbox().registered()), caller);
        }
        tokio::select! {
            // Whoever holds the service keeps the vault's thread alive: with this and the tasks it goes.
            () = stop.cancelled() => return,
            more = news.changed() => if more.is_err() { return },
        }
    }
}

/// Where each receiver is told: by its registration, else by the configuration.
fn endpoints(
    configured: &[(Receiver, Endpoint)],
    registered: Vec<(Receiver, Text<128>)>,
) -> BTreeMap<Receiver, Endpoint> {
    let mut endpoints: BTreeMap<_, _> = configured.iter().cloned().collect();
    for (receiver, url) in registered {
        match url.as_str().parse() {
            Ok(endpoint) => drop(endpoints.insert(receiver, endpoint)),
            // The API takes no such one.
            Err(error) => {
                tracing::error!(receiver = receiver.name(), %error, "a registered notification URL is none");
            }
        }
    }
    endpoints
}

/// Who is being told, where, and by which task.
#[derive(Default)]
struct Told(BTreeMap<Receiver, (Endpoint, JoinHandle<()>)>);

impl Told {
    /// Ends what tells others or elsewhere, and begins what is new. A call that is broken off is made again.
    fn become_these(
        &mut self,
        endpoints: BTreeMap<Receiver, Endpoint>,
        caller: impl Fn(Receiver, Endpoint) -> Caller,
    ) {
        self.0.retain(|receiver, (endpoint, task)| {
            let stays = endpoints.get(receiver) == Some(endpoint);
            if !stays {
                task.abort();
            }
            stays
        });
        for (receiver, endpoint) in endpoints {
            self.0.entry(receiver).or_insert_with(|| {
                let task = tokio::task::spawn_local(caller(receiver, endpoint.clone()).tell());
                (endpoint, task)
            });
        }
    }
}

/// What calls one receiver.
#[derive(Clone)]
struct Caller {
    receiver: Receiver,
    label: ReceiverLabel,
    endpoint: Endpoint,
    service: TokenService,
    config: NotifierConfig,
    tls: Option<TlsClient>,
    clock: Clock,
    metrics: Metrics,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the call cannot be written")]
    Unwritable,
    #[error("no certificates to trust are configured")]
    NoTrust,
    #[error("refused with {0}")]
    Refused(StatusCode),
}

impl CallError {
    /// Whether the same call will be refused as often as it is made (RFC 9110, 15.5; RFC 8470 for 425).
    fn is_final(&self) -> bool {
        let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        matches!(self, Self::Refused(status) if status.is_client_error() && !passing.contains(status))
    }

    /// Whether it is what the call says that was refused, and not who calls or where: only then others may do better.
    fn is_about_content(&self) -> bool {
        let about = [
            StatusCode::BAD_REQUEST,
            StatusCode::CONFLICT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        matches!(self, Self::Refused(status) if about.contains(status))
    }
}

impl Caller {
    /// Tells the receiver what waits for it, for ever.
    async fn tell(self) {
        let (receiver, outbox) = (self.receiver, self.service.outbox());
        // From zero on, so that the first of a kind is an increase.
        drop(self.metrics.delivered.get_or_create(&self.label));
        drop(self.metrics.failed.get_or_create(&self.label));
        drop(self.metrics.refused.get_or_create(&self.label));
        let mut news = self.service.news();
        let (mut pause, mut most) = (self.config.pause_least, BATCH);
        loop {
            self.show(&outbox, receiver);
            let batch = outbox.first(receiver, most);
            let Some(last) = batch.last() else {
                // The vault's thread has ended.
                if news.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let called = match body(&NotificationsBody::of(&batch)) {
                Some(body) => self.call(body).await,
                None => Err(CallError::Unwritable),
            };
            match called {
                Ok(()) => {
                    let count = u64::try_from(batch.len()).unwrap_or_default();
                    self.metrics.delivered.get_or_create(&self.label).inc_by(count);
                    (pause, most) = (self.config.pause_least, most.saturating_mul(2).min(BATCH));
                    self.service.notified(receiver, last.sequence).await;
                }
                // One of them may be what it does not take: each by itself from now on.
                Err(error)
                    if error.is_about_content() && batch.iter().any(|it| it.sequence < last.sequence) =>
                {
                    self.failed(&error);
                    most = 1;
                }
                Err(error) if error.is_about_content() && pause >= self.config.pause_most => {
                    self.failed(&error);
                    self.give_up(&batch, &error);
                    pause = self.config.pause_least;
                    self.service.notified(receiver, last.sequence).await;
                }
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(self.config.pause_most);
                }
            }
        }
    }

    /// Brings codes to an issuer, one at a time and each until it is no longer good. One that failed goes behind those
    /// that are due before it.
    async fn bring_codes(self, incoming: mpsc::Receiver<CodeDelivery>) {
        let mut codes = Untaken::new(self.receiver.name(), incoming, self.metrics.lost.clone());
        loop {
            let next = codes.waiting.iter().enumerate().min_by_key(|(_, code)| code.due);
            let next = next.map(|(at, code)| (at, code.due));
            let pause = next.map(|(_, due)| due.since(self.clock.now().moment)).unwrap_or_default();
            tokio::select! {
                biased;
                Some(delivery) = codes.incoming.recv(), if codes.waiting.len() < CODES => {
                    let (due, pause) = (self.clock.now().moment, self.config.pause_least);
                    codes.waiting.push(WaitingCode { delivery, due, pause });
                }
                () = tokio::time::sleep(pause), if next.is_some() => {
                    let Some((at, _)) = next else { continue };
                    let code = codes.waiting.remove(at);
                    codes.under_way = true;
                    codes.waiting.extend(self.bring(code).await);
                    codes.under_way = false;
                }
                else => return,
            }
        }
    }

    /// One call for one code, and what is left to be brought.
    async fn bring(&self, mut code: WaitingCode) -> Option<WaitingCode> {
        if self.clock.now().wall >= code.delivery.until {
            self.metrics.lost.inc();
            return None;
        }
        let called = match body(&CodeBody::of(&code.delivery)) {
            Some(body) => self.call(body).await,
            None => Err(CallError::Unwritable),
        };
        let Err(error) = called else {
            self.metrics.codes.inc();
            return None;
        };
        self.failed(&error);
        if error.is_final() {
            self.metrics.lost.inc();
            return None;
        }
        code.due = self.clock.now().moment.plus(code.pause);
        code.pause = code.pause.saturating_mul(2).min(self.config.pause_most);
        Some(code)
    }

    /// These their receiver refuses however often they come: those behind them shall not wait for that.
    fn give_up(&self, batch: &[Notification], error: &CallError) {
        let count = u64::try_from(batch.len()).unwrap_or_default();
        self.metrics.refused.get_or_create(&self.label).inc_by(count);
        for it in batch {
            let (receiver, token, sequence) = (&self.label.receiver, it.reference, it.sequence);
            tracing::warn!(%receiver, %token, sequence, %error, "a notification is given up: its receiver refuses it");
        }
    }

    fn failed(&self, error: &CallError) {
        self.metrics.failed.get_or_create(&self.label).inc();
        tracing::debug!(receiver = self.label.receiver, %error, "a receiver of notifications did not take a call");
    }

    fn show(&self, outbox: &Outbox, receiver: Receiver) {
        let standing = outbox.standing(receiver);
        let wide = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let waiting = u64::try_from(standing.waiting).unwrap_or(u64::MAX);
        self.metrics.waiting.get_or_create(&self.label).set(wide(waiting));
        self.metrics.given_up.get_or_create(&self.label).set(wide(standing.given_up));
    }

    /// One signed call, in time; only 2xx is an answer.
    async fn call(&self, body: Bytes) -> Result<(), CallError> {
        let exchange = self.exchange(self.request(body)?);
        let status = tokio::time::timeout(self.config.timeout, exchange);
        let status = status.await.map_err(|_| CallError::TimedOut)??;
        if status.is_success() { Ok(()) } else { Err(CallError::Refused(status)) }
    }

    /// The signature is over time and body, so that neither can be another's (RFC 2104, hexadecimal).
    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
        let timestamp = self.clock.now().wall.seconds().to_string();
        let signature = self.service.sign(self.receiver, &[timestamp.as_bytes(), b".", &body]);
        let signature = hex::encode(signature.ok_or(CallError::Unwritable)?);
        let host = self.endpoint.authority();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.endpoint.path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(header::CONNECTION, HeaderValue::from_static("close"))
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, format!("v1={signature}"));
        request.body(Full::new(body)).map_err(|_| CallError::Unwritable)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, CallError> {
        let stream = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await?;
        if !self.endpoint.tls {
            return send(stream, request).await;
        }
        let tls = self.tls.as_ref().ok_or(CallError::NoTrust)?;
        let name = ServerName::try_from(self.endpoint.host.clone()).map_err(|_| CallError::Unwritable)?;
        send(tls.connector().connect(name, stream).await?, request).await
    }
}

/// Seconds since 1970, as they stand in front of what is signed.
const TIMESTAMP: &str = "x-tokenswitch-timestamp";
/// `v1=` and HMAC-SHA-256, in hexadecimal, over timestamp, a dot and the body.
const SIGNATURE: &str = "x-tokenswitch-signature";

/// The body of the answer is not read.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, CallError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        answer = answer.as_mut() => answer,
        // With its last byte the answer may have come.
        ended = connection.as_mut() => {
            ended?;
            answer.await
        }
    };
    Ok(answer?.status())
}

fn body(value: &impl Serialize) -> Option<Bytes> {
    serde_json::to_vec(value).ok().map(Bytes::from)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationsBody {
    kind: &'static str,
    notifications: Vec<NotificationBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationBody {
    sequence: u64,
    at: Option<String>,
    event: &'static str,
    caused_by: &'static str,
    reason_code: &'static str,
    token_reference: String,
    token_requestor_id: String,
    pan_last_four: String,
    status: &'static str,
    suspended_by: Vec<&'static str>,
    version: u32,
    assurance_method: String,
}

impl NotificationsBody {
    fn of(batch: &[Notification]) -> Self {
        Self { kind: "tokens-changed", notifications: batch.iter().map(NotificationBody::of).collect() }
    }
}

impl NotificationBody {
    fn of(it: &Notification) -> Self {
        Self {
            sequence: it.sequence,
            at: time(it.at),
            event: it.what.name(),
            caused_by: it.actor.name(),
            reason_code: it.reason.name(),
            token_reference: it.reference.to_string(),
            token_requestor_id: it.requestor.as_str().to_owned(),
            pan_last_four: it.last4.as_str().to_owned(),
            status: it.lifecycle.status.name(),
            suspended_by: it.lifecycle.suspenders.iter().map(Suspender::name).collect(),
            version: it.lifecycle.version,
            assurance_method: super::provisioning::digits(&it.assurance.digits()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CodeBody {
    kind: &'static str,
    /// By which the issuer knows the cardholder again: it stood in the enquiry.
    enquiry: String,
    token_reference: String,
    token_requestor_id: String,
    pan_last_four: String,
    contact: String,
    code: String,
    good_until: Option<String>,
}

impl CodeBody {
    fn of(it: &CodeDelivery) -> Self {
        Self {
            kind: "step-up-code",
            enquiry: it.enquiry.text().as_str().to_owned(),
            token_reference: it.reference.to_string(),
            token_requestor_id: it.requestor.as_str().to_owned(),
            pan_last_four: it.last4.as_str().to_owned(),
            contact: it.contact.number.to_string(),
            code: super::provisioning::digits(it.code.expose_code()),
            good_until: time(it.until),
        }
    }
}

fn time(wall: Wall) -> Option<String> {
    super::provisioning::time(wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_its_port() {
        for (url, host, authority) in [
            ("http://[::1]:8201/told", "::1", "[::1]:8201"),
            ("https://[2001:db8::1]/", "2001:db8::1", "[2001:db8::1]:443"),
            ("http://127.0.0.1/told", "127.0.0.1", "127.0.0.1:80"),
            ("https://wallet.example:8443/", "wallet.example", "wallet.example:8443"),
        ] {
            let endpoint: Endpoint = url.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.authority().as_str()), (host, authority), "{url}");
        }
    }
}
