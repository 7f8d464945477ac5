//! `[api]`: where the provisioning API listens, its limits, its TLS and its clients.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::file::{Section, address, choice, count, digest, duration, number, rows, size, text, word};
use crate::api::{ApiConfig, Client, Operation, RateLimits, Role, Shown, Surroundings};
use crate::tls::{Identity, TlsError, TlsServer};
use crate::tsp::CredentialDigest;
use crate::vocab::{Text, TokenRequestorId};

/// The files of a TLS listener, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our own certificate first, then those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key; nobody else may read it.
    pub key: PathBuf,
    /// Whom we trust to vouch for clients.
    pub client_roots: PathBuf,
}

/// What stands in the files of a TLS listener.
#[derive(PartialEq, Eq)]
pub struct TlsMaterial {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_roots: Vec<u8>,
}

impl TlsFiles {
    /// # Errors
    /// The first file that cannot be read: its key in the configuration, and why.
    pub fn read(&self) -> Result<TlsMaterial, (&'static str, std::io::Error)> {
        let read = |key: &'static str, path: &Path| std::fs::read(path).map_err(|error| (key, error));
        Ok(TlsMaterial {
            certificate: read("certificate", &self.certificate)?,
            key: Zeroizing::new(read("key", &self.key)?),
            client_roots: read("client_roots", &self.client_roots)?,
        })
    }
}

impl TlsMaterial {
    /// A listener with it.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub fn server(&self) -> Result<TlsServer, TlsError> {
        TlsServer::new(self.identity(), Some(&self.client_roots))
    }

    /// Has a listener use it from the next connection on.
    ///
    /// # Errors
    /// As `server`; the listener then goes on with what it has.
    pub fn renew(&self, server: &TlsServer) -> Result<(), TlsError> {
        server.reload(self.identity(), Some(&self.client_roots))
    }

    fn identity(&self) -> Identity<'_> {
        Identity { certificates: &self.certificate, key: &self.key }
    }
}

/// `[api]`, as far as it could be read.
pub(super) struct ApiDraft {
    pub(super) config: Option<ApiConfig>,
    pub(super) tls: Option<TlsFiles>,
    /// Where each client stands.
    pub(super) client_paths: Vec<String>,
}

pub(super) fn api(mut section: Section<'_>, base: &Path) -> ApiDraft {
    let listen = section.need("listen", address);
    let connections = section.or("connections", 256, count(1, 100_000));
    let connections_per_address =
        section.or("connections_per_address", connections.div_ceil(2), count(1, 100_000));
    let body_bytes = section.or("body_bytes", 64 << 10, size);
    let request_timeout = section.or("request_timeout", Duration::from_secs(10), duration);
    let tls_section = section.table("tls");
    let over_tls = tls_section.is_there();
    let tls = tls(tls_section, base);
    let (clients, client_paths) = rows(section.tables("client"), |row| client(row, over_tls));
    if !over_tls && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let why =
            "must be a loopback address without [api.tls]: credentials would cross the network in clear";
        section.fault("listen", why);
    }
    let rates = rates(section.table("rates"));
    section.finish();
    let config = listen.map(|listen| ApiConfig {
        listen,
        connections,
        connections_per_address,
        body_bytes,
        request_timeout,
        clients,
        rates,
        // Put in once all sections are read.
        surroundings: Surroundings::default(),
    });
    ApiDraft { config, tls, client_paths }
}

fn rates(mut section: Section<'_>) -> RateLimits {
    let mut rate = |key, usual: u32| {
        let read = section.or(key, u64::from(usual), number(1, 1_000_000));
        u32::try_from(read).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    };
    let client_per_second = rate("client_per_second", 5_000);
    let card_per_minute = rate("card_per_minute", 60);
    let device_per_minute = rate("device_per_minute", 60);
    let remembered = section.or("remembered", 100_000, count(1, 10_000_000));
    section.finish();
    RateLimits { client_per_second, card_per_minute, device_per_minute, remembered }
}

fn tls(mut section: Section<'_>, base: &Path) -> Option<TlsFiles> {
    if !section.is_there() {
        // Asked for all the same, so that the reference knows the keys.
        ["certificate", "key", "client_roots"].into_iter().for_each(|key| drop(section.may(key, text)));
        return None;
    }
    let mut file = |key| section.need(key, text).map(|path| base.join(path));
    let (certificate, key, client_roots) = (file("certificate"), file("key"), file("client_roots"));
    section.finish();
    Some(TlsFiles { certificate: certificate?, key: key?, client_roots: client_roots? })
}

const ROLES: &[(&str, Role)] =
    &[("wallet", Role::Wallet), ("issuer", Role::Issuer), ("operator", Role::Operator)];

fn client(mut section: Section<'_>, over_tls: bool) -> Option<Client> {
    let name = section.need("name", word(|it| Text::parse("name", it)));
    let role = section.need("role", choice(ROLES));
    let certificate = section.may("certificate", text).map(Shown::Certificate);
    // Over TLS nobody is asked for one, and the reference, which has TLS, does without.
    let asked = !over_tls || section.has("credential_digest");
    let credential = asked.then(|| section.may("credential_digest", digest)).flatten();
    let credential = credential.map(|it| Shown::Credential(CredentialDigest(it)));
    for (key, wanted, place) in [
        ("certificate", over_tls, "only with [api.tls]"),
        ("credential_digest", !over_tls, "only without [api.tls]"),
    ] {
        if section.has(key) && !wanted {
            section.fault(key, format!("goes {place}"));
        }
    }
    if !section.has("certificate") && !section.has("credential_digest") {
        let wanted = if over_tls { "certificate" } else { "credential_digest" };
        section.fault(wanted, "must be there");
    }
    let requestors = section.list("requestors", word(TokenRequestorId::parse));
    let issuer = section.may("issuer", word(|it| Text::parse("issuer", it)));
    for (key, of) in [("requestors", Role::Wallet), ("issuer", Role::Issuer)] {
        match (role, section.has(key)) {
            (Some(role), true) if role != of => {
                section.fault(key, format!("is only for role \"{}\"", of.name()))
            }
            (Some(role), false) if role == of => {
                section.fault(key, format!("must be there for role \"{}\"", of.name()))
            }
            _ => {}
        }
    }
    let granted = section.list("operations", |value| operation(value, role));
    let operations = section.has("operations").then_some(granted);
    section.finish();
    let issuer = issuer.unwrap_or_default();
    Some(Client {
        name: name?,
        shows: certificate.or(credential)?,
        role: role?,
        requestors,
        issuer,
        operations,
    })
}

/// An operation that is one of the role's.
fn operation(value: &DeValue<'_>, role: Option<Role>) -> Result<Operation, String> {
    let of_role = |operation: &Operation| role.is_none_or(|role| operation.roles().contains(&role));
    let found = value.as_str().and_then(Operation::from_name).filter(of_role);
    found.ok_or_else(|| {
        let names: Vec<&str> = Operation::ALL.iter().filter(|it| of_role(it)).map(|it| it.name()).collect();
        format!("each must be one of {}", names.join(", "))
    })
}
