//! `HttpClient`: HTTP with JSON bodies, for simulators and operator commands that speak to a daemon: plain on this
//! machine, over mutual TLS anywhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::Failure;
use crate::sim::{ApiCall, ApiMethod};
use crate::tls::{Identity, ServerName, TlsClient};

/// The most of an answer that is read.
const MOST_ANSWER: usize = 1024 * 1024;

/// A client of one server. Connections are kept and used again.
#[derive(Clone)]
pub struct HttpClient {
    way: Way,
    address: SocketAddr,
    patience: Duration,
}

#[derive(Clone)]
enum Way {
    Plain(Box<Client<HttpConnector, Full<Bytes>>>),
    Tls(TlsClient),
}

/// PEM files of a client that shows a certificate.
#[derive(Debug)]
pub struct CertificateFiles {
    /// Who vouches for the server.
    pub roots: PathBuf,
    pub certificates: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    fn client(&self) -> Result<TlsClient, Failure> {
        let read = |path: &Path| {
            let bytes = std::fs::read(path).map(Zeroizing::new);
            bytes.map_err(|error| Failure::file(path, "cannot be read", &error))
        };
        let (roots, certificates, key) = (read(&self.roots)?, read(&self.certificates)?, read(&self.key)?);
        let identity = Identity { certificates: &certificates, key: &key };
        TlsClient::new(&roots, Some(identity)).map_err(|error| Failure::new(error.to_string()))
    }
}

/// What came back.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    /// Null when the body was empty or no JSON.
    pub body: Value,
}

impl HttpClient {
    /// A client of the server at `address`. Credentials and card numbers go over it in clear, so an address
    /// outside this machine is refused.
    ///
    /// # Errors
    /// When `address` is not on this machine.
    pub fn new(address: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            return Err(Failure::new(format!(
                "{address} is not on this machine, and plain HTTP stays on it"
            )));
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { way: Way::Plain(Box::new(client)), address, patience })
    }

    /// A client that shows a certificate, and wants one for the address that it dials. Each call has a connection of
    /// its own.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub fn over_tls(
        address: SocketAddr,
        files: &CertificateFiles,
        patience: Duration,
    ) -> Result<Self, Failure> {
        Ok(Self { way: Way::Tls(files.client()?), address, patience })
    }

    /// Makes one call.
    ///
    /// # Errors
    /// When there is no answer, not in time, or one too long.
    pub async fn call(&self, call: &ApiCall) -> Result<HttpAnswer, Failure> {
        let scheme = if matches!(self.way, Way::Plain(_)) { "http" } else { "https" };
        let what = format!("{scheme}://{}{}", self.address, call.path);
        let failed = |reason: String| Failure::new(format!("{what}: {reason}"));
        let method = match call.method {
            ApiMethod::Get => Method::GET,
            ApiMethod::Post => Method::POST,
        };
        let mut request = Request::builder().method(method).uri(&what);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let body = match &call.body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let answer = self.exchange(request).await.map_err(failed)?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok(HttpAnswer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
        };
        let late = |_| failed("no answer in time".to_owned());
        tokio::time::timeout(self.patience, exchange).await.map_err(late)?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let tls = match &self.way {
            Way::Plain(client) => return client.request(request).await.map_err(|error| told(&error)),
            Way::Tls(tls) => tls,
        };
        let stream = TcpStream::connect(self.address).await.map_err(|error| told(&error))?;
        let name = ServerName::from(self.address.ip());
        let stream = tls.connector().connect(name, stream).await.map_err(|error| told(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(&error))?;
        // It ends with the sender and the answer's body.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| told(&error))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (address, allowed) in [("127.0.0.1:80", true), ("[::1]:80", true), ("192.0.2.1:80", false)] {
            let client = HttpClient::new(address.parse().unwrap(), Duration::from_secs(1));
            assert_eq!(client.is_ok(), allowed, "{address}");
        }
    }

    #[tokio::test]
    async fn a_call_carries_its_headers_and_body_and_brings_the_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"pan\":\"1\"}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 12\r\n\r\n{\"status\":5";
            stream.write_all(answer).await.unwrap();
            stream.write_all(b"}").await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let call = ApiCall {
            method: ApiMethod::Post,
            path: "/v1/tokens".to_owned(),
            headers: vec![("authorization", "Bearer x".to_owned()), ("request-id", "7".to_owned())],
            body: Some(serde_json::json!({ "pan": "1" })),
        };
        let client = HttpClient::new(address, Duration::from_secs(60)).unwrap();
        let answer = client.call(&call).await.unwrap();
        let request = server.await.unwrap();
        assert!(request.starts_with("POST /v1/tokens HTTP/1.1\r\n"), "{request}");
        for header in ["authorization: Bearer x", "request-id: 7", "content-type: application/json"] {
            assert!(request.contains(header), "{header} in {request}");
        }
        assert_eq!((answer.status, answer.body["status"].as_i64()), (201, Some(5)));
    }
}
