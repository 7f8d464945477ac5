//! Certificates for trying out TLS on the API: an authority of the directory's own, the API's certificate, and one
//! for a client of each role. Nobody else trusts them, and they never end.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use zeroize::Zeroizing;

use super::Failure;
use super::init::create;

/// The clients' certificates: file and subject alternative name.
pub(super) const CLIENTS: [(&str, &str); 3] =
    [("wallet", "phone-wallet.example"), ("issuer", "issuer-1.example"), ("operator", "operator.example")];

/// Writes `ca.pem`, `api.pem`, and a pair of files a client into `directory`, which is there. The authority's own key
/// is let go: it vouches for these and for nobody else.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "tokenswitch, for trying out");
    let authority = CertifiedIssuer::self_signed(params, key()?).map_err(failed)?;
    put(directory, "ca.pem", 0o644, &authority.pem())?;
    let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    signed(directory, "api", &local, ExtendedKeyUsagePurpose::ServerAuth, &authority)?;
    for (file, name) in CLIENTS {
        signed(directory, file, &[name.to_owned()], ExtendedKeyUsagePurpose::ClientAuth, &authority)?;
    }
    Ok(())
}

fn signed(
    directory: &Path,
    file: &str,
    names: &[String],
    purpose: ExtendedKeyUsagePurpose,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(), Failure> {
    let key = key()?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.extended_key_usages = vec![purpose];
    params.distinguished_name.push(DnType::CommonName, file);
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    put(directory, &format!("{file}.pem"), 0o644, &certificate.pem())?;
    put(directory, &format!("{file}.key"), 0o600, &Zeroizing::new(key.serialize_pem()))
}

fn key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(failed)
}

fn put(directory: &Path, name: &str, mode: u32, text: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    create(&path, mode, text).map_err(|error| Failure::file(&path, "cannot be written", &error))
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::new(format!("no certificate can be made: {error}"))
}
