//! The configuration that benchmarks run with: what `init` writes.

use tokenswitch::cli::{Addresses, CONFIG_FILE, write_init};
use tokenswitch::config::Config;
use tokenswitch::stdx::random::Entropy;

/// A directory as `init` makes it, and what stands in it.
pub(crate) fn made() -> (tempfile::TempDir, Config) {
    let directory = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let [issuer_1, issuer_2] = ["127.0.0.1:9", "127.0.0.1:19"].map(|address| address.parse().unwrap());
    let addresses = Addresses { acquirer: any, issuer_1, issuer_2, api: any, admin: any };
    let made = directory.path().join("bench");
    write_init(&made, addresses, &mut Entropy::seeded(1)).unwrap();
    let config = Config::load(&made.join(CONFIG_FILE)).unwrap();
    (directory, config)
}
