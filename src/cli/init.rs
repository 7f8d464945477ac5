//! `init`: a directory that `serve` starts from at once, with keys of its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Failure, init_tls, say};
use crate::crypto::{MasterKey, SecurityModule, StorePurpose, credential_digest};
use crate::stdx::random::Entropy;

/// The configuration's name in the directory.
pub const CONFIG_FILE: &str = "tokenswitch.toml";

/// The requestor's credential, which only the requestor needs.
pub const CREDENTIAL_FILE: &str = "requestor.credential";

/// As `CREDENTIAL_FILE`, of the first issuer's own people and of an operator.
const OTHER_CREDENTIALS: [(&str, &str); 2] =
    [("{issuer_digest}", "issuer.credential"), ("{operator_digest}", "operator.credential")];

/// Who may call without TLS, beside the requestor.
const CLIENTS: &str = r#"
# Who may call beside the requestor. The credentials stand in issuer.credential and operator.credential.
[[api.client]]
name = "issuer-1"
role = "issuer"
issuer = "issuer-1"
credential_digest = "{issuer_digest}"

[[api.client]]
name = "operator"
role = "operator"
credential_digest = "{operator_digest}"
"#;

/// Who may call over TLS.
const TLS_CLIENTS: &str = r#"
[api.tls]
certificate = "tls/api.pem"
key = "tls/api.key"
client_roots = "tls/ca.pem"

# Who may call, by the names in their certificates.
[[api.client]]
name = "phone-wallet"
role = "wallet"
requestors = ["00000000001"]
certificate = "phone-wallet.example"

[[api.client]]
name = "issuer-1"
role = "issuer"
issuer = "issuer-1"
certificate = "issuer-1.example"

[[api.client]]
name = "operator"
role = "operator"
certificate = "operator.example"
"#;

const TEMPLATE: &str = include_str!("init.toml");

/// Makes a directory with a configuration and fresh development keys.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Where to; it must be empty or not exist yet.
    pub directory: PathBuf,
    #[command(flatten)]
    pub addresses: Addresses,
    /// Serve the API over mutual TLS, with certificates for trying out in `tls/`; else with credentials on loopback.
    #[arg(long)]
    pub tls: bool,
}

/// Where everybody listens.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Addresses {
    /// Where the acquirer connects to the switch.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7001")]
    pub acquirer: SocketAddr,
    /// Where the switch dials issuer 1, which speaks ASCII.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8101")]
    pub issuer_1: SocketAddr,
    /// Where the switch dials issuer 2, which speaks BCD.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8102")]
    pub issuer_2: SocketAddr,
    /// Where the provisioning API listens; a loopback address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub api: SocketAddr,
    /// Where monitors read `/metrics`, `/health` and `/ready`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9002")]
    pub admin: SocketAddr,
}

/// The subcommand.
pub(super) fn run(arguments: &Init) -> Result<(), Failure> {
    let directory = &arguments.directory;
    write_as(directory, arguments.addresses, arguments.tls, &mut Entropy::system())?;
    let shown = directory.display();
    let callers = if arguments.tls {
        format!("Certificates for the API and its clients are in {shown}/tls.")
    } else {
        format!("The token requestor's credential is in {shown}/{CREDENTIAL_FILE}.")
    };
    say(&format!(
        "Made {shown}/{CONFIG_FILE} and keys for trying things out.\n{callers}\n\
         Next: tokenswitch serve --config {shown}/{CONFIG_FILE}"
    ));
    Ok(())
}

/// Writes the directory, for an API without TLS.
///
/// # Errors
/// When it is not empty, or something cannot be written; what was written before stays.
pub fn write(directory: &Path, addresses: Addresses, entropy: &mut Entropy) -> Result<(), Failure> {
    write_as(directory, addresses, false, entropy)
}

fn write_as(directory: &Path, addresses: Addresses, tls: bool, entropy: &mut Entropy) -> Result<(), Failure> {
    must_be_empty(directory)?;
    let master = MasterKey::generate(entropy).map_err(|error| Failure::new(error.to_string()))?;
    let store = SecurityModule::create_store(entropy, &master, StorePurpose::Development)
        .map_err(|error| Failure::new(error.to_string()))?;
    for folder in [directory.to_owned(), directory.join("keys"), directory.join("data")] {
        make(&folder)?;
    }
    let mut text = TEMPLATE
        .replace("{acquirer}", &addresses.acquirer.to_string())
        .replace("{issuer_1}", &addresses.issuer_1.to_string())
        .replace("{issuer_2}", &addresses.issuer_2.to_string())
        .replace("{api}", &addresses.api.to_string())
        .replace("{admin}", &addresses.admin.to_string())
        .replace("{api_clients}", if tls { TLS_CLIENTS } else { CLIENTS });
    put(directory, "keys/master.key", 0o600, &master.to_text())?;
    put(directory, "keys/keys.store", 0o600, &store)?;
    let others = OTHER_CREDENTIALS.iter().filter(|_| !tls);
    for (place, file) in [("{credential_digest}", CREDENTIAL_FILE)].iter().chain(others) {
        text = text.replace(place, &credential(directory, file, entropy)?);
    }
    if tls {
        let folder = directory.join("tls");
        make(&folder)?;
        init_tls::write(&folder)?;
    }
    // Last: whoever sees the configuration can start from it.
    put(directory, CONFIG_FILE, 0o644, &text)
}

/// Draws a credential into a file; its digest.
fn credential(directory: &Path, file: &str, entropy: &mut Entropy) -> Result<String, Failure> {
    let drawn = Zeroizing::new(entropy.bytes::<32>().map_err(|error| Failure::new(error.to_string()))?);
    let credential = Zeroizing::new(hex::encode(*drawn));
    put(directory, file, 0o600, &Zeroizing::new(format!("{}\n", *credential)))?;
    Ok(hex::encode(credential_digest(credential.as_bytes())))
}

fn make(folder: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::file(folder, "cannot be made", &error))
}

fn put(directory: &Path, name: &str, mode: u32, text: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    create(&path, mode, text).map_err(|error| Failure::file(&path, "cannot be written", &error))
}

fn must_be_empty(directory: &Path) -> Result<(), Failure> {
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(format!("{} is not empty; nothing was written", directory.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::file(directory, "cannot be read", &error)),
    }
}

/// Creates a file that must not be there, with its mode from the first moment on.
pub(super) fn create(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Config;

    fn addresses() -> Addresses {
        let any = "127.0.0.1:0".parse().unwrap();
        let issuer = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses { acquirer: any, issuer_1: issuer(8101), issuer_2: issuer(8102), api: any, admin: any }
    }

    #[test]
    fn what_is_written_can_be_started_and_only_its_owner_reads_secrets() {
        let kept = tempfile::tempdir().unwrap();
        let directory = kept.path().join("a/b");
        write(&directory, addresses(), &mut Entropy::system()).unwrap();
        let config = Config::load(&directory.join(CONFIG_FILE)).unwrap_or_else(|faults| panic!("{faults}"));
        let credential = fs::read_to_string(directory.join(CREDENTIAL_FILE)).unwrap();
        assert_eq!(credential.trim_end().len(), 64);
        let digest = credential_digest(credential.trim_end().as_bytes());
        assert_eq!(config.tsp.requestors[0].credential, Some(digest));
        let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        for secret in ["keys/master.key", "keys/keys.store", CREDENTIAL_FILE] {
            assert_eq!(mode(secret), 0o600, "{secret}");
        }
        assert_eq!(mode("data"), 0o700);
        let text = fs::read_to_string(directory.join(CONFIG_FILE)).unwrap();
        assert!(!text.contains(credential.trim_end()), "the digest alone stands in the configuration");
    }

    #[test]
    fn with_tls_the_certificates_fit_the_configuration() {
        let kept = tempfile::tempdir().unwrap();
        let directory = kept.path().join("switch");
        write_as(&directory, addresses(), true, &mut Entropy::system()).unwrap();
        let config = Config::load(&directory.join(CONFIG_FILE)).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(config.api_tls.is_some());
        for ((_, name), client) in init_tls::CLIENTS.iter().zip(&config.api.clients) {
            assert_eq!(client.shows, crate::api::Shown::Certificate((*name).to_owned()));
        }
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let kept = tempfile::tempdir().unwrap();
        write(kept.path(), addresses(), &mut Entropy::system()).unwrap();
        let before = fs::read_to_string(kept.path().join("keys/master.key")).unwrap();
        let refused = write(kept.path(), addresses(), &mut Entropy::system()).unwrap_err();
        assert!(refused.to_string().contains("is not empty"), "{refused}");
        assert_eq!(fs::read_to_string(kept.path().join("keys/master.key")).unwrap(), before);
    }

    #[test]
    fn two_directories_share_no_key() {
        let kept = tempfile::tempdir().unwrap();
        let mut entropy = Entropy::system();
        let key = |name: &str, entropy: &mut Entropy| {
            let directory = kept.path().join(name);
            write(&directory, addresses(), entropy).unwrap();
            fs::read_to_string(directory.join("keys/master.key")).unwrap()
        };
        assert_ne!(key("one", &mut entropy), key("two", &mut entropy));
    }
}
