//! Those who play beside the real daemon: issuers on sockets of this process, and what tests of several parties need
//! on their one thread.

use std::path::Path;
use std::time::Duration;

use tokenswitch::cli::Shared;
use tokenswitch::config::PartyConfig;
use tokenswitch::sim::{FaultPlan, IssuerConfig, IssuerSimulator};
use tokenswitch::stdx::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

pub(crate) const SEED: u64 = 1;
/// How long anything may take that takes a second at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn in_one_thread(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work);
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if holds() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("waited in vain for {what}");
}

/// Changes the configuration in one place.
pub(crate) fn change(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(config, text.replace(from, to)).unwrap();
}

/// An issuer that approves, as that party of the configuration.
pub(crate) fn issuer(party: &PartyConfig, listener: TcpListener) -> Shared<IssuerSimulator> {
    faulty_issuer(party, listener, FaultPlan::none())
}

/// One that does what the plan says, and approves otherwise.
pub(crate) fn faulty_issuer(
    party: &PartyConfig,
    listener: TcpListener,
    faults: FaultPlan,
) -> Shared<IssuerSimulator> {
    let brain = IssuerSimulator::new(IssuerConfig {
        dialect: party.dialect.clone(),
        framing: party.framing,
        header: vec![0; party.framing.header_length()],
        signs_on: false,
        rules: Vec::new(),
        enquiries: Vec::new(),
        faults,
        think: Duration::ZERO,
        seed: SEED,
    });
    let issuer = Shared::new(brain, party.framing, Clock::system());
    spawn_local(issuer.clone().tick());
    spawn_local(issuer.clone().accept(listener));
    issuer
}
