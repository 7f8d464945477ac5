//! rustls configurations from PEM bytes, for links, the API and the simulators: mutual authentication, TLS 1.2 and
//! 1.3, ring's cryptography, and reload without a restart.
//!
//! Connections that stand keep what they began with; a reload is for those that come after it.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use rustls::pki_types::ServerName;

/// Why no configuration came of some PEM bytes. It never holds a part of them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{what}: not PEM, or damaged")]
    Pem { what: &'static str },
    #[error("{what}: no certificate in it")]
    NoCertificate { what: &'static str },
    #[error("private key: none in it that can be used")]
    NoKey,
    #[error("trusted certificates: {reason}")]
    Roots { reason: String },
    #[error("certificate and key: {reason}")]
    Identity { reason: String },
}

/// Who we are, in PEM: the certificate chain (our own first) and its private key.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    pub certificates: &'a [u8],
    pub key: &'a [u8],
}

/// The accepting side. Clones share one configuration, and a reload of one is a reload of all.
#[derive(Clone)]
pub struct TlsServer(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsServer {
    /// With `client_roots` (PEM) every client must show a certificate that they vouch for; without, none is asked.
    ///
    /// # Errors
    /// `TlsError`, naming the part that cannot be used.
    pub fn new(identity: Identity<'_>, client_roots: Option<&[u8]>) -> Result<Self, TlsError> {
        server_config(identity, client_roots).map(|config| Self(Arc::new(RwLock::new(config))))
    }

    /// Takes new PEM bytes for the connections to come; on an error all stays as it was.
    ///
    /// # Errors
    /// As `new`.
    pub fn reload(&self, identity: Identity<'_>, client_roots: Option<&[u8]>) -> Result<(), TlsError> {
        let config = server_config(identity, client_roots)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For one handshake.
    #[must_use]
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsServer")
    }
}

/// The dialling side. Clones share one configuration, and a reload of one is a reload of all.
#[derive(Clone)]
pub struct TlsClient(Arc<RwLock<Arc<ClientConfig>>>);

impl TlsClient {
    /// The server must show a certificate that `roots` (PEM) vouch for, in the name that is dialled; with an
    /// `identity` we show ours when asked.
    ///
    /// # Errors
    /// `TlsError`, naming the part that cannot be used.
    pub fn new(roots: &[u8], identity: Option<Identity<'_>>) -> Result<Self, TlsError> {
        client_config(roots, identity).map(|config| Self(Arc::new(RwLock::new(config))))
    }

    /// Takes new PEM bytes for the connections to come; on an error all stays as it was.
    ///
    /// # Errors
    /// As `new`.
    pub fn reload(&self, roots: &[u8], identity: Option<Identity<'_>>) -> Result<(), TlsError> {
        let config = client_config(roots, identity)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For one handshake.
    #[must_use]
    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

/// SHA-256 over a certificate's DER: a certificate's name where a configuration lists which are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateDigest(pub [u8; 32]);

impl CertificateDigest {
    /// Of the first certificate in `pem`.
    ///
    /// # Errors
    /// `TlsError` when there is none.
    pub fn of_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("certificate", pem)?;
        chain.first().map(Self::of).ok_or(TlsError::NoCertificate { what: "certificate" })
    }

    /// Of a peer's certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        Self(digest.as_ref().try_into().unwrap_or_default())
    }
}

/// The names that a certificate vouches for: those of its subject alternative names that are DNS names or URIs
/// (RFC 5280 4.2.1.6). None for bytes that are no certificate.
#[must_use]
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(identity: Identity<'_>, roots: Option<&[u8]>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Identity { reason: error.to_string() })?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(root_store(roots)?, provider())
                .build()
                .map_err(|error| TlsError::Roots { reason: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("certificate", identity.certificates)?;
    let config = builder
        .with_single_cert(chain, private_key(identity.key)?)
        .map_err(|error| TlsError::Identity { reason: error.to_string() })?;
    Ok(Arc::new(config))
}

fn client_config(roots: &[u8], identity: Option<Identity<'_>>) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(root_store(roots)?, provider())
        .build()
        .map_err(|error| TlsError::Roots { reason: error.to_string() })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Identity { reason: error.to_string() })?
        .with_webpki_verifier(verifier);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                certificates("certificate", identity.certificates)?,
                private_key(identity.key)?,
            )
            .map_err(|error| TlsError::Identity { reason: error.to_string() })?,
    };
    Ok(Arc::new(config))
}

fn root_store(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("trusted certificates", pem)? {
        store.add(certificate).map_err(|error| TlsError::Roots { reason: error.to_string() })?;
    }
    Ok(Arc::new(store))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::Pem { what })?;
    if chain.is_empty() { Err(TlsError::NoCertificate { what }) } else { Ok(chain) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Certificates for tests.

    use super::Identity;

    /// A certification authority for one test.
    pub(crate) struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
        }

        pub(crate) fn pem(&self) -> Vec<u8> {
            self.0.pem().into_bytes()
        }

        /// Certificate and key for `name`.
        pub(crate) fn identity(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.0).unwrap();
            (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
        }
    }

    pub(crate) fn identity((certificates, key): &(Vec<u8>, Vec<u8>)) -> Identity<'_> {
        Identity { certificates, key }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::testing::{Authority, identity};
    use super::*;

    /// Whether one byte gets through from the client to the server and back.
    async fn meets(server: &TlsServer, client: &TlsClient, name: &'static str) -> bool {
        let (near, far) = tokio::io::duplex(65_536);
        let accept = async {
            let mut stream = server.acceptor().accept(far).await?;
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.flush().await
        };
        let connect = async {
            let name = ServerName::try_from(name).unwrap();
            let mut stream = client.connector().connect(name, near).await?;
            stream.write_u8(7).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        let (accepted, connected) = tokio::join!(accept, connect);
        accepted.is_ok() && connected.is_ok_and(|byte| byte == 7)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn both_sides_must_be_vouched_for() {
        let (ours, strangers) = (Authority::new(), Authority::new());
        let (server_id, client_id) = (ours.identity("switch.test"), ours.identity("issuer.test"));
        let server = TlsServer::new(identity(&server_id), Some(&ours.pem())).unwrap();
        let good = TlsClient::new(&ours.pem(), Some(identity(&client_id))).unwrap();
        assert!(meets(&server, &good, "switch.test").await);
        assert!(!meets(&server, &good, "other.test").await, "another name than the certificate's");

        let nobody = TlsClient::new(&ours.pem(), None).unwrap();
        assert!(!meets(&server, &nobody, "switch.test").await, "a client without a certificate");
        let stranger = strangers.identity("issuer.test");
        let stranger = TlsClient::new(&ours.pem(), Some(identity(&stranger))).unwrap();
        assert!(!meets(&server, &stranger, "switch.test").await, "a client of another authority");
        let distrustful = TlsClient::new(&strangers.pem(), Some(identity(&client_id))).unwrap();
        assert!(!meets(&server, &distrustful, "switch.test").await, "a server of another authority");

        let open = TlsServer::new(identity(&server_id), None).unwrap();
        assert!(meets(&open, &nobody, "switch.test").await);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reload_is_for_the_next_connection_and_a_bad_one_changes_nothing() {
        let (old, new) = (Authority::new(), Authority::new());
        let (old_id, new_id) = (old.identity("switch.test"), new.identity("switch.test"));
        let server = TlsServer::new(identity(&old_id), None).unwrap();
        let client = TlsClient::new(&old.pem(), None).unwrap();
        let handed_on = server.clone();

        assert!(matches!(
            server.reload(Identity { certificates: b"nonsense", key: &new_id.1 }, None),
            Err(TlsError::NoCertificate { what: "certificate" })
        ));
        assert!(meets(&handed_on, &client, "switch.test").await);
        server.reload(identity(&new_id), None).unwrap();
        assert!(!meets(&handed_on, &client, "switch.test").await, "the new certificate is not trusted yet");
        client.reload(&new.pem(), None).unwrap();
        assert!(meets(&handed_on, &client, "switch.test").await);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let authority = Authority::new();
        let id = authority.identity("a.test");
        let other = authority.identity("b.test");
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let not_der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: [(Result<TlsServer, TlsError>, &str); 5] = [
            (TlsServer::new(Identity { certificates: b"", key: &id.1 }, None), "certificate: no certificate"),
            (TlsServer::new(Identity { certificates: broken, key: &id.1 }, None), "certificate: not PEM"),
            (TlsServer::new(Identity { certificates: &id.0, key: b"" }, None), "private key"),
            (TlsServer::new(Identity { certificates: &id.0, key: &other.1 }, None), "certificate and key"),
            (TlsServer::new(identity(&id), Some(not_der)), "trusted certificates"),
        ];
        for (result, words) in cases {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(words), "{error:?} does not begin with {words:?}");
        }
    }
}
