//! What no section can see by itself: identifiers given twice, ranges that overlap, time-outs in the wrong order,
//! keys that do not open.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use super::Sections;
use super::file::Notes;
use super::links::{IssuerDraft, ListenSection, PartyDraft, Reach};
use super::node::KeysSection;
use crate::api::{Endpoint, Shown};
use crate::crypto::{CryptoError, KeyPolicy, MasterKey, SecurityModule};
use crate::switch::Cryptograms;
use crate::tsp::{ApprovalRule, Doubts, PanRange};
use crate::vocab::Text;

/// Everything between sections except keys.
pub(super) fn across(sections: &Sections, notes: &Notes) {
    parties(sections, notes);
    listeners(sections, notes);
    routes(sections, notes);
    timeouts(sections, notes);
    merchants(sections, notes);
    clients(sections, notes);
    asked_and_told(sections, notes);
    passing_issuers(sections, notes);
    for (key, reason) in sections.tsp.faults() {
        notes.note(&key, reason);
    }
    let kept =
        [("journal.history", sections.journal.history), ("node.repeat_window", sections.node.repeat_window)];
    for (key, kept) in kept.into_iter().filter(|(_, kept)| *kept > sections.journal.bases.retention) {
        notes.note(
            "journal.retention",
            format!("must not be shorter than {key}, {kept:?}: what that needs would go"),
        );
    }
    if let Err(error) = sections.journal.journal.check() {
        notes.note("journal", error);
    }
}

fn parties(sections: &Sections, notes: &Notes) {
    for (kind, there) in
        [("acquirer", !sections.acquirers.is_empty()), ("issuer", !sections.issuers.is_empty())]
    {
        if !there && !notes.found(kind) {
            notes.note(kind, format!("at least one [[{kind}]] must be there"));
        }
    }
    let acquirers = sections.acquirers.iter().map(|acquirer| &acquirer.party);
    let parties: Vec<_> = acquirers.chain(sections.issuers.iter().map(|issuer| &issuer.party)).collect();
    let links = parties.iter().filter_map(|party| Some((party.path.as_str(), party.link?)));
    twice(notes, "id", links);
    let names = parties.iter().filter_map(|party| Some((party.path.as_str(), party.name.as_ref()?)));
    twice(notes, "name", names);
}

/// Notes each value that stands under an earlier path, too.
fn twice<'p, T: PartialEq + Debug>(notes: &Notes, name: &str, values: impl Iterator<Item = (&'p str, T)>) {
    let mut seen: Vec<(&str, T)> = Vec::new();
    for (path, value) in values {
        if let Some((first, _)) = seen.iter().find(|(_, known)| *known == value) {
            notes.note(&format!("{path}.{name}"), format!("is {first}.{name} already"));
        }
        seen.push((path, value));
    }
}

/// Parties on one address must be told apart by where they come from, and speak one framing.
fn listeners(sections: &Sections, notes: &Notes) {
    let acquirers = sections.acquirers.iter().filter_map(|it| Some((&it.party, it.listen.as_ref()?)));
    let dial_in = sections.issuers.iter().filter_map(|issuer| match issuer.reach.as_ref()? {
        Reach::Listen(listen) => Some((&issuer.party, listen)),
        Reach::Dial { .. } => None,
    });
    let all: Vec<(&PartyDraft, &ListenSection)> = acquirers.chain(dial_in).collect();
    let api = sections.api.config.as_ref().map(|api| api.listen);
    let admin = sections.admin.listen;
    if api == Some(admin) && admin.port() != 0 {
        notes.note("admin.listen", "is api.listen already");
    }
    for (number, (party, listen)) in all.iter().enumerate() {
        let key = |name: &str| format!("{}.{name}", party.path);
        if listen.address.port() == 0 {
            continue;
        }
        for (other, address) in [("api.listen", api), ("admin.listen", Some(admin))] {
            if address == Some(listen.address) {
                notes.note(&key("listen"), format!("is {other} already"));
            }
        }
        let earlier = all.iter().take(number).filter(|(_, other)| other.address == listen.address);
        for (other, their) in earlier {
            share(notes, (party, listen), (other, their));
        }
    }
}

/// What is wrong with a party on the address of an earlier one.
fn share(
    notes: &Notes,
    (party, listen): (&PartyDraft, &ListenSection),
    (other, their): (&PartyDraft, &ListenSection),
) {
    let key = |name: &str| format!("{}.{name}", party.path);
    let other_path = &other.path;
    if listen.peers.is_empty() || their.peers.is_empty() {
        let reason = format!("is {other_path}.listen already: both must name `peers` to be told apart");
        notes.note(&key("listen"), reason);
    } else if listen.peers.iter().any(|peer| their.peers.contains(peer)) {
        let reason = format!("shares an address with {other_path}.peers on the same listener");
        notes.note(&key("peers"), reason);
    }
    let framings_differ = other.framing.zip(party.framing).is_some_and(|(one, two)| one != two);
    if framings_differ || other.limits != party.limits {
        notes.note(&key("framing"), format!("must be as {other_path} has it, whose listener this is"));
    }
}

fn routes(sections: &Sections, notes: &Notes) {
    // One whose id could not be read may be the one that is named.
    let all_known = sections.issuers.iter().all(|issuer| issuer.party.link.is_some());
    for (number, route) in sections.routes.iter().enumerate() {
        let key = |name: &str| format!("{}.{name}", route.path);
        if let Some(id) = route.issuer
            && all_known
            && !sections.issuers.iter().any(|issuer| issuer.party.link == Some(id))
        {
            notes.note(&key("issuer"), format!("no [[issuer]] has id {id}"));
        }
        let Some(bin) = route.bin else { continue };
        if sections.routes.iter().take(number).any(|earlier| earlier.bin == Some(bin)) {
            notes.note(&key("bin"), "has a route already");
        }
        if sections.tsp.config.token_ranges.iter().any(|range| range.bin.begins(bin.as_bytes())) {
            notes.note(&key("bin"), "lies in a token range; tokens are routed by the PAN behind them");
        }
    }
    if sections.routes.is_empty() && !notes.found("route") {
        notes.note("route", "at least one [[route]] must be there");
    }
    let all_lead_somewhere = sections.routes.iter().all(|route| route.issuer.is_some());
    for issuer in sections.issuers.iter().filter(|_| all_lead_somewhere && !sections.routes.is_empty()) {
        let led_to = |link| sections.routes.iter().any(|route| route.issuer == Some(link));
        if issuer.party.link.is_some_and(|link| !led_to(link)) {
            notes.note(&issuer.party.path, "no [[route]] leads to it");
        }
    }
}

/// Who is asked or told must have cards, and a name by which PAN ranges name it.
fn asked_and_told(sections: &Sections, notes: &Notes) {
    for issuer in &sections.issuers {
        let key = |name: &str| format!("{}.{name}", issuer.party.path);
        let Some(name) = issuer.party.name.as_deref() else { continue };
        if issuer.approval != ApprovalRule::Ask && issuer.doubts != Doubts::default() {
            notes.note(
                &key("approval"),
                "must be \"ask\": of doubts nobody else is asked, and \"step-up\" always is",
            );
        }
        let used = if issuer.approval != ApprovalRule::Off { "approval" } else { "notify" };
        if issuer.approval == ApprovalRule::Off && issuer.notify.is_none() {
            continue;
        }
        let has_cards = |range: &PanRange| range.issuer.is_some_and(|it| it.as_str() == name);
        if !sections.tsp.config.pan_ranges.iter().any(has_cards) {
            notes.note(&key(used), format!("no [[tsp.pan_range]] has issuer = {name:?}"));
        }
        let asked = matches!(issuer.approval, ApprovalRule::Ask | ApprovalRule::AlwaysStepUp);
        if asked && issuer.party.dialect().is_some_and(|dialect| dialect.token_request().is_none()) {
            notes.note(&key("approval"), "its dialect has no [token_request]");
        }
        if asked && issuer.notify.is_none() {
            notes.note(
                &key("notify"),
                "must be there: by it codes reach the cardholders that have to prove themselves",
            );
        }
        let waits = sections.api.config.as_ref().map(|api| api.request_timeout);
        if asked && waits.is_some_and(|waits| issuer.enquiry_timeout >= waits) {
            notes.note(
                &key("enquiry_timeout"),
                "must be less than api.request_timeout: a caller waits no longer",
            );
        }
    }
    let wants_trust = |endpoint: &Endpoint| endpoint.is_tls() && sections.notifications.trust.is_none();
    let issuers = sections.issuers.iter().filter_map(|it| Some((&it.party.path, it.notify.as_ref()?)));
    for (path, _) in issuers.filter(|(_, endpoint)| wants_trust(endpoint)) {
        notes.note(&format!("{path}.notify"), NO_TRUST);
    }
    if sections.tsp.receivers.iter().any(|(_, endpoint)| wants_trust(endpoint)) {
        notes.note("notifications.trust", NO_TRUST);
    }
}

const NO_TRUST: &str = "https needs notifications.trust: the certificates that receivers' must come from";

/// An issuer's silence must be known, and answered, before the acquirer stops waiting.
fn timeouts(sections: &Sections, notes: &Notes) {
    let margin = sections.node.timeout_margin;
    let acquirers = || sections.acquirers.iter().filter_map(|it| Some((&it.party.path, it.timeout?)));
    for (path, timeout) in sections.issuers.iter().filter_map(|it| Some((&it.party.path, it.timeout?))) {
        for (acquirer, waits) in acquirers().filter(|(_, waits)| timeout.saturating_add(margin) >= *waits) {
            let reason = format!(
                "{timeout:?} and node.timeout_margin {margin:?} are not less than {acquirer}.timeout {waits:?}"
            );
            notes.note(&format!("{path}.timeout"), reason);
        }
    }
}

fn merchants(sections: &Sections, notes: &Notes) {
    if sections.acquirers.iter().any(|acquirer| acquirer.party.link.is_none()) {
        return;
    }
    for (path, acquirer) in &sections.tsp.merchants {
        if !sections.acquirers.iter().any(|it| it.party.link == Some(*acquirer)) {
            notes.note(&format!("{path}.acquirer"), format!("no [[acquirer]] has id {acquirer}"));
        }
    }
}

fn clients(sections: &Sections, notes: &Notes) {
    let clients = sections.api.config.iter().flat_map(|api| &api.clients).zip(&sections.api.client_paths);
    let clients: Vec<_> = clients.map(|(client, path)| (path.as_str(), client)).collect();
    twice(notes, "name", clients.iter().map(|(path, client)| (*path, client.name)));
    let shown = clients.iter().map(|(path, client)| (*path, &client.shows));
    let (certificates, credentials): (Vec<_>, Vec<_>) =
        shown.partition(|(_, shows)| matches!(shows, Shown::Certificate(_)));
    twice(notes, "certificate", certificates.into_iter());
    twice(notes, "credential_digest", credentials.into_iter());
}

/// The files of the API's TLS must be there, fit together, and the key be its owner's alone.
pub(super) fn tls(sections: &Sections, notes: &Notes) {
    let Some(files) = &sections.api.tls else { return };
    private(&files.key, "api.tls.key", notes);
    match files.read() {
        Err((key, error)) => notes.note(&format!("api.tls.{key}"), format!("cannot be read: {error}")),
        Ok(material) => {
            if let Err(error) = material.server() {
                notes.note("api.tls", error);
            }
        }
    }
}

/// Opens the key store; what stands in the way is noted.
pub(super) fn open_keys(keys: &KeysSection, notes: &Notes) -> Option<SecurityModule> {
    let store = read(&keys.store, "keys.store", notes);
    private(&keys.master_key, "keys.master_key", notes);
    let master = read(&keys.master_key, "keys.master_key", notes)
        .and_then(|text| MasterKey::parse(&text).map_err(|error| notes.note("keys.master_key", error)).ok());
    let policy = if keys.development { KeyPolicy::DEVELOPMENT } else { KeyPolicy::PRODUCTION };
    SecurityModule::open(&store?, &master?, policy)
        .map_err(|error| match error {
            CryptoError::DevelopmentKeys => {
                notes.note("keys.development", format!("{error}: it is not true"))
            }
            CryptoError::SampleMaster { .. } => notes.note("keys.master_key", error),
            _ => notes.note("keys.store", error),
        })
        .ok()
}

fn read(path: &Path, key: &str, notes: &Notes) -> Option<zeroize::Zeroizing<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Some(zeroize::Zeroizing::new(text)),
        Err(error) => {
            notes.note(key, format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}

/// A key that other users can read is no secret.
fn private(path: &Path, key: &str, notes: &Notes) {
    use std::os::unix::fs::PermissionsExt;

    let Ok(about) = fs::metadata(path) else { return };
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        notes.note(key, format!("{path} has mode {mode:03o}; other users can read it: chmod 600"));
    }
}

/// The issuers to which cards of a range lead.
fn issuers_of<'a>(sections: &'a Sections, range: &'a PanRange) -> impl Iterator<Item = &'a IssuerDraft> {
    let routes = sections.routes.iter().filter_map(|route| Some((route.bin?, route.issuer?)));
    let wider = routes.clone().filter(|(bin, _)| bin.begins(range.bin.as_bytes()));
    let nearest = wider.max_by_key(|(bin, _)| bin.as_bytes().len());
    let within = routes.filter(|(bin, _)| range.bin.begins(bin.as_bytes()));
    let links: Vec<_> = within.chain(nearest).map(|(_, issuer)| issuer).collect();
    sections.issuers.iter().filter(move |issuer| issuer.party.link.is_some_and(|id| links.contains(&id)))
}

/// The products whose tokens' cryptograms their cards' issuers alone check.
pub(super) fn products_of_passing_issuers(sections: &Sections) -> Vec<Text<16>> {
    let ranges = sections.tsp.config.pan_ranges.iter();
    let passes = |issuer: &IssuerDraft| issuer.cryptograms == Cryptograms::Passed;
    ranges.filter(|range| issuers_of(sections, range).any(passes)).map(|range| range.product).collect()
}

/// A token says of which product it is, not of which issuer: who checks its cryptogram must be one for the whole
/// product, and an issuer that checks them leaves no key here.
fn passing_issuers(sections: &Sections, notes: &Notes) {
    let (config, products) = (&sections.tsp.config, products_of_passing_issuers(sections));
    for issuer in sections.issuers.iter().filter(|issuer| issuer.cryptograms == Cryptograms::Passed) {
        if issuer.card_cryptograms.is_some() {
            let reason = "\"pass\" goes with no card_cryptogram_profile: chip data go to it as they came";
            notes.note(&format!("{}.cryptograms", issuer.party.path), reason);
        }
    }
    for range in config.pan_ranges.iter().filter(|range| products.contains(&range.product)) {
        for other in issuers_of(sections, range).filter(|it| it.cryptograms != Cryptograms::Passed) {
            let reason = "must be \"pass\" as another issuer's whose cards are of the same product";
            notes.note(&format!("{}.cryptograms", other.party.path), reason);
        }
    }
    for (at, range) in config.token_ranges.iter().enumerate() {
        if range.cryptograms.is_some() && products.contains(&range.product) {
            let reason = "must not be there: an issuer of this product's cards checks cryptograms itself";
            notes.note(&sections.tsp.key(&format!("token_ranges[{at}].cryptogram_profile")), reason);
        }
    }
}

/// Each token range's key, and each issuer's, must be in the store, and for its profile.
pub(super) fn cryptograms(sections: &Sections, security: Option<&SecurityModule>, notes: &Notes) {
    let Some(security) = security else { return };
    for issuer in &sections.issuers {
        let found = issuer.card_cryptograms.map(|chosen| security.issuer_keys(chosen.key, chosen.profile));
        if let Some(Err(error)) = found {
            notes.note(&format!("{}.card_cryptogram_key", issuer.party.path), error);
        }
    }
    for (at, range) in sections.tsp.config.token_ranges.iter().enumerate() {
        let found = range.cryptograms.map(|chosen| security.token_keys(chosen.key, chosen.profile));
        if let Some(Err(error)) = found {
            notes.note(&sections.tsp.key(&format!("token_ranges[{at}].cryptogram_key")), error);
        }
    }
}
