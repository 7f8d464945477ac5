//! A configuration as `init` writes it, changed in one place at a time.

use std::collections::BTreeSet;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::*;
use crate::crypto::{MasterKey, StorePurpose};
use crate::stdx::random::Entropy;
use crate::tls::testing::Authority;
use crate::vocab::LinkId;

const TEMPLATE: &str = include_str!("../cli/init.toml");

const FILE: &str = "tokenswitch.toml";

struct Directory {
    _kept: tempfile::TempDir,
    path: PathBuf,
}

impl Directory {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;

        let kept = tempfile::tempdir().unwrap();
        let path = kept.path().to_owned();
        let mut entropy = Entropy::system();
        let master = MasterKey::generate(&mut entropy).unwrap();
        let store = SecurityModule::create_store(&mut entropy, &master, StorePurpose::Development).unwrap();
        let text = TEMPLATE
            .replace("{acquirer}", "127.0.0.1:7001")
            .replace("{issuer_1}", "127.0.0.1:8101")
            .replace("{issuer_2}", "127.0.0.1:8102")
            .replace("{api}", "127.0.0.1:9001")
            .replace("{admin}", "127.0.0.1:9002")
            .replace("{api_clients}", "")
            .replace("{credential_digest}", &"5a".repeat(32));
        fs::create_dir(path.join("keys")).unwrap();
        fs::write(path.join("keys/keys.store"), store).unwrap();
        fs::write(path.join("keys/master.key"), &*master.to_text()).unwrap();
        fs::set_permissions(path.join("keys/master.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path.join(FILE), text).unwrap();
        Self { _kept: kept, path }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path.join(FILE)).unwrap()
    }

    fn parse(&self, text: &str) -> Result<Config, Faults> {
        Config::parse("f", &self.path, text)
    }

    /// Puts the API's certificates where the reference has them.
    fn put_certificates(&self) {
        use std::os::unix::fs::PermissionsExt;

        let authority = Authority::new();
        let (certificate, key) = authority.identity("api.test");
        fs::create_dir(self.path.join("tls")).unwrap();
        for (name, bytes) in [("api.pem", certificate), ("api.key", key), ("clients.pem", authority.pem())] {
            let path = self.path.join("tls").join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// The faults of the configuration with `from` changed to `to`.
    fn faults(&self, from: &str, to: &str) -> Vec<String> {
        let text = self.text();
        assert!(text.contains(from), "{from}");
        match self.parse(&text.replacen(from, to, 1)) {
            Ok(_) => Vec::new(),
            Err(Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        }
    }
}

#[test]
fn what_init_writes_has_no_fault() {
    let directory = Directory::new();
    let config = Config::load(&directory.path.join(FILE)).unwrap();
    assert!(config.security.is_development());
    assert!(config.tsp.token_ranges.iter().all(|range| range.cryptograms.is_some()));
    assert_eq!(config.node.data_directory, directory.path.join("data"));
    let links = config.links();
    assert_eq!((links.listeners.len(), links.issuers.len()), (1, 2));
    let switch = config.switch();
    assert_eq!(switch.routes.issuer(b"4761739001010119"), Some(LinkId(101)));
    assert_eq!(switch.routes.issuer(b"6228480000000000026"), Some(LinkId(102)));
    assert_eq!(switch.routes.issuer(b"4895370000000000"), None);
}

#[test]
fn each_fault_is_named_by_its_key() {
    let directory = Directory::new();
    for (from, to, fault) in [
        ("id = 102", "id = 101", "issuer[1].id: is issuer[0].id already"),
        ("id = 102", "id = 1", "issuer[1].id: is acquirer[0].id already"),
        ("\"issuer-2\"", "\"issuer-1\"", "issuer[1].name: is issuer[0].name already"),
        ("\"issuer-2\"", "7", "issuer[1].name: must be a string in quotes, not 7"),
        (
            "timeout = \"10s\"",
            "timeout = \"29s\"",
            "issuer[0].timeout: 29s and node.timeout_margin 1s are not",
        ),
        (
            "timeout = \"30s\"",
            "timeout = \"11s\"",
            "issuer[0].timeout: 10s and node.timeout_margin 1s are not",
        ),
        ("127.0.0.1:9001", "0.0.0.0:9001", "api.listen: must be a loopback address without [api.tls]"),
        ("127.0.0.1:9001", "127.0.0.1:7001", "acquirer[0].listen: is api.listen already"),
        ("\"iso87-bcd\"", "\"iso87-bcc\"", "issuer[1].dialect: is neither one of \"iso87-ascii\""),
        ("\"iso87-bcd\"", "\"mine.toml\"", "issuer[1].dialect: cannot be read: No such file"),
        ("\"binary-2\"", "\"binary-3\"", "acquirer[0].framing: `binary-3` is no length header"),
        ("issuer = 102", "issuer = 103", "route[1].issuer: no [[issuer]] has id 103"),
        ("issuer = 102", "issuer = 101", "issuer[1]: no [[route]] leads to it"),
        ("bin = \"622848\"\nissuer", "bin = \"476173\"\nissuer", "route[1].bin: has a route already"),
        ("bin = \"622848\"\nissuer", "bin = \"489537\"\nissuer", "route[1].bin: lies in a token range"),
        ("bin = \"489537\"", "bin = \"476173\"", "tsp.token_range[0].bin: overlaps a PAN range"),
        (
            "bin = \"623529\"\nlength = 19",
            "bin = \"489537\"\nlength = 16",
            "tsp.token_range[0].bin: overlaps a later",
        ),
        (
            "length = 19",
            "length = 20",
            "tsp.token_range[1].length: must be a whole number from 13 to 19, not 20",
        ),
        (
            "product = \"debit\"\ncontrolled",
            "product = \"x\"\ncontrolled",
            "tsp.pan_range[1].product: has no token range",
        ),
        ("bin_controller = \"Q001\"", "", "tsp.pan_range[0].controlled: needs bin_controller"),
        ("capacity = 1000000", "capacity = 0", "tsp.capacity: must be a whole number from 1"),
        ("[\"07\", \"10\", \"81\"]", "[]", "requestor[0].entry_modes: must name at least one"),
        (
            "[\"07\", \"10\", \"81\"]",
            "[\"07\", \"1\"]",
            "requestor[0].entry_modes[1]: entry mode: 1 characters",
        ),
        (
            "[api]",
            "[[requestor.merchant]]\nacquirer = 9\nid = \"S\"\n[api]",
            "requestor[0].merchant[0].acquirer: no [[acquirer]]",
        ),
        (
            "checkpoint = \"redb\"",
            "checkpoint = \"rdb\"",
            "journal.checkpoint: must be one of \"redb\", \"sled\", not \"rdb\"",
        ),
        ("checkpoint = \"redb\"", "segment_bytes = \"1001 B\"", "journal"),
        (
            "development = true",
            "development = false",
            "keys.development: the key store was made for development",
        ),
        ("keys/keys.store", "keys/none.store", "keys.store: "),
        ("keys/keys.store", "keys/master.key", "keys.store: key store, line 1"),
        ("keys/master.key", "keys/keys.store", "keys.master_key: master key: 64 hexadecimal"),
        ("cut_over = \"22:00\"", "", "settlement.cut_over: is missing"),
        ("[settlement]", "[setlement]", "setlement: there is no such key; is `settlement` meant?"),
        ("dial = [", "listen = \"127.0.0.1:1\"\ndial = [", "issuer[0].dial: either"),
        ("dial = [", "#", "issuer[0].dial: either"),
        ("[\"127.0.0.1:8101\"]", "[]", "issuer[0].dial: must name at least one"),
        ("id = 102", "id = 102\napproval = \"ask\"", "issuer[1].notify: must be there"),
        ("id = 102", "id = 102\ntrust_least = 3", "issuer[1].approval: must be \"ask\""),
        ("id = 102", "id = 102\ntrust_least = 6", "issuer[1].trust_least: "),
        ("id = 102", "id = 102\ndoubted_sources = [\"found\"]", "issuer[1].doubted_sources[0]: "),
        (
            "id = 102",
            "id = 102\napproval = \"ask\"\nenquiry_timeout = \"10s\"",
            "issuer[1].enquiry_timeout: must be less than api.request_timeout",
        ),
        ("127.0.0.1:8101", "127.0.0.1:0", "issuer[0].dial[0]: must have a port other than 0"),
    ] {
        let faults = directory.faults(from, to);
        assert!(faults.iter().any(|f| f.contains(&format!(": {fault}"))), "{to}: {fault}\n{faults:#?}");
        assert!(!faults.iter().any(|f| f.starts_with("f:1:")), "the line is known: {faults:#?}");
    }
}

#[test]
fn what_is_wrong_in_a_dialect_file_is_told_with_its_file() {
    let directory = Directory::new();
    fs::write(directory.path.join("mine.toml"), "name = \"mine\"\nbase = \"iso87-bcd\"\nfield = 1\n")
        .unwrap();
    let faults = directory.faults("\"iso87-bcd\"", "\"mine.toml\"");
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].starts_with("mine.toml:3: "), "{faults:#?}");
    fs::write(directory.path.join("mine.toml"), "name = \"mine\"\nbase = \"iso87-bcd\"\n").unwrap();
    assert_eq!(directory.faults("\"iso87-bcd\"", "\"mine.toml\""), Vec::<String>::new());
}

#[test]
fn all_faults_come_at_once() {
    let directory = Directory::new();
    let text = directory.text();
    let text =
        text.replace("id = 102", "id = 101").replace("[settlement]", "[settle]").replace("22:00", "25:00");
    let text = text.replace("keys/keys.store", "none").replace("0.1:9001", "0.1").replace("\"10s\"", "10");
    let Err(Faults(faults)) = directory.parse(&text) else { panic!("no fault") };
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    for key in [
        "issuer[0].timeout",
        "issuer[1].timeout",
        "api.listen",
        "settle",
        "settlement.cut_over",
        "keys.store",
    ] {
        assert!(keys.contains(&key), "{key}: {faults:#?}");
    }
}

/// Each fault stands beside others, some of which leave a whole party or row unreadable.
#[test]
fn no_fault_hides_another() {
    let directory = Directory::new();
    let mut text = directory.text();
    let changes = [
        // An acquirer that cannot be read whole, issuers, and what is compared between them.
        (r#"framing = "binary-2""#, r#"framing = "binary-3""#, "acquirer[0].framing"),
        (r#"timeout = "10s""#, r#"timeout = "29s""#, "issuer[0].timeout"),
        (r#"dial = ["127.0.0.1:8101"]"#, r#"dial = ["127.0.0.1"]"#, "issuer[0].dial[0]"),
        (r#"id = 102"#, "id = 101", "issuer[1].id"),
        (r#"name = "issuer-2""#, r#"name = "issuer-1""#, "issuer[1].name"),
        (r#"dialect = "iso87-bcd""#, r#"dialect = "iso87""#, "issuer[1].dialect"),
        (r#"institution = "00000000001""#, r#"institution = "one""#, "node.institution"),
        // A route of nothing to nobody, which leaves the second issuer without one.
        (r#"bin = "622848""#, r#"bin = "62284x""#, "route[1].bin"),
        ("issuer = 102", "issuer = 999", "route[1].issuer"),
        // Ranges and requestors.
        ("length = 16", "length = 99", "tsp.token_range[0].length"),
        ("validity_years = 3", "validity_years = 0", "tsp.token_range[0].validity_years"),
        (r#"bin = "623529""#, r#"bin = "476173""#, "tsp.token_range[1].bin"),
        (r#"id = "00000000001""#, r#"id = "1""#, "requestor[0].id"),
        (r#"entry_modes = ["07", "10", "81"]"#, "entry_modes = []", "requestor[0].entry_modes"),
        (r#"assurances = ["01"]"#, r#"assurances = ["15"]"#, "requestor[0].assurances[0]"),
        ("[api]", "[[requestor.merchant]]\nacquirer = 7\n[api]", "requestor[0].merchant[0].acquirer"),
        // What there is one of.
        (r#"listen = "127.0.0.1:9002""#, r#"listen = "127.0.0.1:9001""#, "admin.listen"),
        (r#"cut_over = "22:00""#, r#"cut_over = "10 pm""#, "settlement.cut_over"),
        (r#"store = "keys/keys.store""#, r#"store = "keys/none""#, "keys.store"),
    ];
    for (from, to, _) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let Err(Faults(faults)) = directory.parse(&text) else { panic!("no fault") };
    // They follow: a row of nothing but its acquirer, and a PAN route into what is a token range now.
    let follow = ["requestor[0].merchant[0].id", "route[0].bin"];
    let expected: BTreeSet<&str> = changes.iter().map(|(_, _, key)| *key).chain(follow).collect();
    let found: BTreeSet<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(found, expected, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.line.is_some()), "each has its line: {faults:#?}");
}

#[test]
fn an_empty_file_names_what_must_be_there() {
    let directory = Directory::new();
    let Err(Faults(faults)) = directory.parse("") else { panic!("no fault") };
    let keys: BTreeSet<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    for key in ["node.name", "node.institution", "keys.store", "acquirer", "issuer", "route", "api.listen"] {
        assert!(keys.contains(key), "{key}: {keys:?}");
    }
}

const TLS: &str =
    "[api.tls]\ncertificate = \"tls/api.pem\"\nkey = \"tls/api.key\"\nclient_roots = \"tls/clients.pem\"\n";

#[test]
fn a_client_s_faults_are_named() {
    let directory = Directory::new();
    directory.put_certificates();
    let (digest, other) = (format!("credential_digest = \"{}\"", "11".repeat(32)), "22".repeat(32));
    let client = |more: &str| format!("[[api.client]]\nname = \"one\"\n{more}\n");
    let wallet = format!("role = \"wallet\"\nrequestors = [\"00000000001\"]\n{digest}");
    for (tables, expected) in [
        (client(&wallet), None),
        (TLS.to_owned() + &client(&wallet.replace(&digest, "certificate = \"a.test\"")), None),
        (
            client(&wallet) + &client(&wallet.replace(&"11".repeat(32), &other)),
            Some("api.client[1].name: is api.client[0].name"),
        ),
        (
            client(&wallet) + &client(&wallet).replace("one", "two"),
            Some("api.client[1].credential_digest: is api.client[0].credential_digest already"),
        ),
        (
            TLS.to_owned() + &client(&wallet),
            Some("api.client[0].credential_digest: goes only without [api.tls]"),
        ),
        (
            client(&wallet.replace(&digest, "certificate = \"a.test\"")),
            Some("certificate: goes only with [api.tls]"),
        ),
        (client(&wallet.replace(&digest, "")), Some("api.client[0].credential_digest: must be there")),
        (
            client(&wallet.replace("requestors", "# ")),
            Some("api.client[0].requestors: must be there for role \"wallet\""),
        ),
        (client(&wallet.replace("wallet", "issuer")), Some("requestors: is only for role \"wallet\"")),
        (
            client(&format!("role = \"issuer\"\n{digest}")),
            Some("api.client[0].issuer: must be there for role \"issuer\""),
        ),
        (
            client(&wallet.replace("wallet", "admin")),
            Some("api.client[0].role: must be one of \"wallet\", \"issuer\""),
        ),
        (
            client(&format!("{wallet}\noperations = [\"print-money\"]")),
            Some("operations[0]: each must be one of issue-token"),
        ),
    ] {
        let faults = directory.faults("[admin]", &(tables.clone() + "[admin]"));
        match expected {
            None => assert_eq!(faults, Vec::<String>::new(), "{tables}"),
            Some(words) => assert!(faults.iter().any(|fault| fault.contains(words)), "{tables}: {faults:#?}"),
        }
    }
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    use std::os::unix::fs::PermissionsExt;

    let directory = Directory::new();
    let faults = || directory.faults("[admin]", &(TLS.to_owned() + "[admin]"));
    assert!(faults().iter().any(|fault| fault.contains("api.tls.certificate: cannot be read")));
    directory.put_certificates();
    assert_eq!(faults(), Vec::<String>::new());
    let key = directory.path.join("tls/api.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(faults().iter().any(|fault| fault.contains("api.tls.key") && fault.contains("mode 644")));
    fs::write(&key, Authority::new().identity("other.test").1).unwrap();
    assert!(faults().iter().any(|fault| fault.contains("api.tls: certificate and key")));
}

#[test]
fn a_master_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = Directory::new();
    let open = fs::Permissions::from_mode(0o640);
    fs::set_permissions(directory.path.join("keys/master.key"), open).unwrap();
    let faults = directory.faults("[node]", "[node]");
    assert!(faults.iter().any(|f| f.contains("keys.master_key") && f.contains("mode 640")), "{faults:#?}");
}

#[test]
fn a_range_s_cryptograms_need_a_profile_and_its_key() {
    let directory = Directory::new();
    let profile = "cryptogram_profile = \"ccd-aes\"";
    let key = "cryptogram_key = \"token-master\"";
    for (from, to, expected) in [
        (profile, "", "tsp.token_range[0].cryptogram_profile: goes only together with cryptogram_key"),
        (key, "", "tsp.token_range[0].cryptogram_profile: goes only together with cryptogram_key"),
        (profile, "cryptogram_profile = \"visa\"", "must be one of \"ccd-aes\", \"ccd-3des\""),
        (
            profile,
            "cryptogram_profile = \"visa-cvn-18\"",
            "tsp.token_range[0].cryptogram_key: no key token-master for token-cryptogram-3des in the key store",
        ),
        (key, "cryptogram_key = \"journal\"", "no key journal for token-cryptogram-aes in the key store"),
        (
            "frame_header = 5",
            "card_cryptogram_profile = \"visa-cvn-18\"\ncard_cryptogram_key = \"token-master\"\nframe_header = 5",
            "issuer[1].card_cryptogram_key: no key token-master for issuer-master-3des in the key store",
        ),
    ] {
        let faults = directory.faults(from, to);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{to}: {faults:#?}");
    }
}

#[test]
fn an_issuer_that_checks_cryptograms_itself_leaves_no_key_here() {
    let directory = Directory::new();
    let (issuer, other) = ("name = \"issuer-1\"", "name = \"issuer-2\"");
    let pass = |name: &str| format!("{name}\ncryptograms = \"pass\"");
    let keys = "cryptogram_profile = \"ccd-aes\"";
    let text = directory.text();
    assert_eq!(text.matches(issuer).count(), 1);
    let bare: String = text.split_inclusive('\n').filter(|line| !line.starts_with("cryptogram_")).collect();
    let faults = |text: &str| directory.parse(text).map(|_| ()).map_err(|found| found.to_string());
    assert_eq!(faults(&bare.replace(issuer, &pass(issuer))), Ok(()));
    let passed = directory.parse(&bare.replace(issuer, &pass(issuer))).unwrap();
    let checked: Vec<bool> = passed.tsp.token_ranges.iter().map(|range| range.checked_by_issuer).collect();
    assert_eq!(checked, [true, false], "of its product alone");
    assert_eq!(passed.issuers[0].switch.cryptograms, crate::switch::Cryptograms::Passed);
    let both_products = bare.replace("product = \"debit\"", "product = \"credit\"");
    let anew =
        "cryptograms = \"pass\"\ncard_cryptogram_profile = \"visa-cvn-18\"\ncard_cryptogram_key = \"x\"";
    for (text, expected) in [
        (text.replace(issuer, &pass(issuer)), "tsp.token_range[0].cryptogram_profile: must not be there"),
        (both_products.replace(issuer, &pass(issuer)), "issuer[1].cryptograms: must be \"pass\""),
        (bare.replace(issuer, &format!("{issuer}\n{anew}")), "issuer[0].cryptograms: \"pass\" goes with no"),
        (bare.replace(other, &format!("{other}\ncryptograms = \"trust\"")), "issuer[1].cryptograms: must be"),
    ] {
        let found = faults(&text).unwrap_err();
        assert!(found.contains(expected), "{expected}: {found}");
    }
    assert!(text.contains(keys));
}

#[test]
fn parties_share_an_address_when_their_peers_differ() {
    let directory = Directory::new();
    let second = |peers: &str, framing: &str| {
        format!(
            "[[acquirer]]\nid = 2\nname = \"acquirer-2\"\nlisten = \"127.0.0.1:7001\"\n{peers}\n\
             dialect = \"iso87-ascii\"\nframing = \"{framing}\"\ntimeout = \"30s\"\n[[acquirer]]\npeers = [\"127.0.0.1\"]"
        )
    };
    let faults = |peers: &str, framing: &str| directory.faults("[[acquirer]]", &second(peers, framing));
    assert_eq!(faults("peers = [\"127.0.0.2\"]", "binary-2"), Vec::<String>::new());
    for (peers, framing, fault) in [
        ("", "binary-2", "both must name `peers`"),
        ("peers = [\"127.0.0.1\"]", "binary-2", "acquirer[1].peers: shares an address"),
        ("peers = [\"127.0.0.2\"]", "ascii-4", "acquirer[1].framing: must be as acquirer[0]"),
    ] {
        let found = faults(peers, framing);
        assert!(found.iter().any(|f| f.contains(fault)), "{fault}: {found:#?}");
    }
    let text = directory.text().replacen("[[acquirer]]", &second("peers = [\"127.0.0.2\"]", "binary-2"), 1);
    let links = directory.parse(&text).unwrap().links();
    assert_eq!(links.listeners.len(), 1);
    assert_eq!(links.listeners[0].parties.len(), 2);
}

/// Every key in a table and below, without numbers: `issuer.dial`.
fn keys(table: &DeTable<'_>, path: &str, into: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key =
            if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => keys(inner, &key, into),
            DeValue::Array(rows) => {
                rows.iter().filter_map(|row| row.get_ref().as_table()).for_each(|row| keys(row, &key, into));
            }
            _ => {}
        }
        into.insert(key);
    }
}

#[test]
fn the_reference_parses_and_has_every_key() {
    let directory = Directory::new();
    let notes = Notes::new("reference.toml", REFERENCE);
    let table = file::parse(REFERENCE, &notes);
    let read = sections(REFERENCE, &notes, &directory.path, &mut Dialects::new(&directory.path));
    check::across(&read, &notes);
    assert_eq!(notes.faults(), []);
    let mut written = BTreeSet::new();
    keys(table.get_ref(), "", &mut written);
    let missing: Vec<String> = notes.asked().difference(&written).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "keys that the reference does not have");
}

#[test]
fn the_reference_tells_the_defaults_as_they_are() {
    let directory = Directory::new();
    let reference = REFERENCE.replace("development = false", "development = true");
    // It names a key that an issuer gives.
    let reference: String =
        reference.split_inclusive('\n').filter(|line| !line.starts_with("card_cryptogram")).collect();
    directory.put_certificates();
    let full = directory.parse(&reference).unwrap();
    let bare = directory.parse(&directory.text()).unwrap();
    assert_eq!(full.node.drain_limit, bare.node.drain_limit);
    assert_eq!(full.node.timeout_margin, bare.node.timeout_margin);
    assert_eq!(full.node.undelivered_grace, bare.node.undelivered_grace);
    assert_eq!(full.node.repeat_window, bare.node.repeat_window);
    assert_eq!(full.journal.journal.segment_bytes, bare.journal.journal.segment_bytes);
    assert_eq!(full.journal.journal.queue_bytes, bare.journal.journal.queue_bytes);
    let api = ApiConfig { clients: Vec::new(), surroundings: bare.api.surroundings.clone(), ..full.api };
    assert_eq!((&api, &full.admin), (&bare.api, &bare.admin));
    assert_eq!(format!("{:?}", full.limits), format!("{:?}", bare.limits));
    assert_eq!(full.inbox, bare.inbox);
    assert_eq!(format!("{:?}", full.store_forward), format!("{:?}", bare.store_forward));
    assert_eq!(format!("{:?}", full.tsp.limits), format!("{:?}", bare.tsp.limits));
    let (acquirer, plain) = (&full.acquirers[0], &bare.acquirers[0]);
    assert_eq!((acquirer.party.session, acquirer.party.limits), (plain.party.session, plain.party.limits));
    assert_eq!(
        (acquirer.party.framing, acquirer.listen.connections),
        (plain.party.framing, plain.listen.connections)
    );
    let (issuer, plain) = (&full.issuers[0], &bare.issuers[0]);
    assert_eq!((issuer.party.session, issuer.party.limits), (plain.party.session, plain.party.limits));
    assert_eq!((issuer.pool, &issuer.reach), (plain.pool, &plain.reach));
}
