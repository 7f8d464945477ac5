//! `keys`: make a key store, show check values, add chip keys, rotate the keys that have versions, hand out receivers'
//! keys.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::host::Person;
use super::init::create;
use super::{Failure, say};
use crate::config::{Config, KeysSection};
use crate::crypto::{
    CryptoError, KeyBlockHeader, KeyLabel, KeyMaker, KeyPolicy, KeyUsage, MasterKey, SecurityModule,
    StorePurpose, TransportKey,
};
use crate::stdx::clock::Clock;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::step;
use crate::stdx::secret::Secret;
use crate::vocab::{Text, TokenRequestorId};

/// Keys: make, list, add, rotate, and hand out those of receivers. No command shows a key.
#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeysCommand {
    /// Make a fresh master key and a store of fresh production keys wrapped under it.
    Generate {
        /// The store to write; it must not exist yet.
        #[arg(long, value_name = "FILE")]
        store: PathBuf,
        /// The master key to write; it must not exist yet. Keep it apart from the store.
        #[arg(long, value_name = "FILE")]
        master_key: PathBuf,
    },
    /// Show label, usage, version and check value of every key.
    List {
        /// The daemon's configuration; its `[keys]` names the store.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Add a chip key, or a key that others encrypt for: one that is drawn here, or one that somebody else made. A
    /// label that is there already gets its next version, which of a chip key is the derivation key index of the cards
    /// made from it.
    Add {
        /// The daemon's configuration; its `[keys]` names the store.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What the configuration calls the key.
        #[arg(long)]
        label: String,
        /// What it is for: token-cryptogram-aes, -3des or -sm4; issuer-master-aes, -3des or -sm4;
        /// message-encryption.
        #[arg(long)]
        usage: String,
        /// A file with the key in clear hex; compare the check value shown, then destroy it.
        #[arg(long, value_name = "FILE")]
        clear_key: Option<PathBuf>,
        #[command(flatten)]
        person: Person,
    },
    /// Take in a chip key that somebody else sent in a key block (ANSI X9.143, or TR-31, of version D). The transport
    /// key above it is formed of its components; their check values, and its own, are shown to be compared.
    Import {
        /// The daemon's configuration; its `[keys]` names the store.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What the configuration calls the key.
        #[arg(long)]
        label: String,
        /// What it is for, as the block must say: token-cryptogram-aes or -3des, issuer-master-aes or -3des.
        #[arg(long)]
        usage: String,
        /// A file with the key block.
        #[arg(long, value_name = "FILE")]
        block: PathBuf,
        /// A file with one component of the transport key in hex; once for each component, two at least. Destroy it
        /// then.
        #[arg(long = "component", value_name = "FILE", required = true)]
        components: Vec<PathBuf>,
        #[command(flatten)]
        person: Person,
    },
    /// Write the key by which a receiver of notifications knows them: for that receiver alone.
    Receiver {
        /// The daemon's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// `requestor-` and its id, or `issuer-` and its name, as in the metrics.
        receiver: String,
        /// Where the key goes, in hexadecimal; it must not exist yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        person: Person,
    },
    /// Add a new version of a key that has versions. It does the work from the daemon's next start on; older ones go on
    /// opening: of the data key for ever, of the messages' key for as long as `keys.message_overlap` says.
    Rotate {
        /// The daemon's configuration; its `[keys]` names the store.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// data-sealing or message-encryption.
        #[arg(long, default_value = "data-sealing")]
        usage: String,
        #[command(flatten)]
        person: Person,
    },
}

/// Who has a key made, and when. It stands in the store, and in the journal from the daemon's next start on.
fn maker(person: &Person) -> Result<KeyMaker, Failure> {
    Ok(KeyMaker { by: Text::parse("who", person.name().as_bytes())?, at: Clock::system().now().wall })
}

pub(super) fn run(arguments: &Keys) -> Result<(), Failure> {
    match &arguments.command {
        KeysCommand::Generate { store, master_key } => generate(store, master_key),
        KeysCommand::List { config } => {
            list(&Config::load(config)?.security);
            Ok(())
        }
        KeysCommand::Add { config, label, usage, clear_key, person } => {
            let label = KeyLabel::parse(label)?;
            let usage = named(usage, |it| it.chip_cipher().is_some() || it == KeyUsage::MessageEncryption)?;
            add(&Config::load(config)?.keys, (label, usage), clear_key.as_deref(), maker(person)?)
        }
        KeysCommand::Import { config, label, usage, block, components, person } => {
            let label = KeyLabel::parse(label)?;
            let usage = named(usage, |it| KeyBlockHeader::of(it).is_some())?;
            let keys = Config::load(config)?.keys;
            import(&keys, (label, usage), block, &transport_key(components)?, maker(person)?)
        }
        KeysCommand::Receiver { config, receiver, out, person } => {
            receiver_key(&Config::load(config)?, receiver, out, maker(person)?)
        }
        KeysCommand::Rotate { config, usage, person } => {
            let versions = [KeyUsage::DataSealing, KeyUsage::MessageEncryption];
            let usage = named(usage, |it| versions.contains(&it))?;
            rotate(&Config::load(config)?.keys, usage, maker(person)?)
        }
    }
}

/// The usage of that name, of those that fit.
fn named(name: &str, fits: impl Fn(KeyUsage) -> bool) -> Result<KeyUsage, Failure> {
    let fitting = || KeyUsage::ALL.into_iter().filter(|usage| fits(*usage));
    fitting().find(|usage| usage.name() == name).ok_or_else(|| {
        let names: Vec<&str> = fitting().map(KeyUsage::name).collect();
        Failure::new(format!("--usage: must be one of {}", names.join(", ")))
    })
}

fn generate(store: &Path, master_key: &Path) -> Result<(), Failure> {
    let mut entropy = Entropy::system();
    let master = MasterKey::generate(&mut entropy).map_err(failed)?;
    let text =
        SecurityModule::create_store(&mut entropy, &master, StorePurpose::Production).map_err(failed)?;
    for (path, text) in [(master_key, master.to_text().as_str()), (store, text.as_str())] {
        create(path, 0o600, text).map_err(|error| Failure::file(path, "cannot be written", &error))?;
    }
    say(&format!("master key: check value {}", master.check_value()));
    list(&SecurityModule::open(&text, &master, KeyPolicy::PRODUCTION).map_err(failed)?);
    Ok(())
}

fn list(security: &SecurityModule) {
    say(&format!("{:<20} {:<21} {:>7}  {}", "LABEL", "USAGE", "VERSION", "CHECK VALUE"));
    for key in security.keys() {
        // `pad` fields print as strings, so that widths count.
        let (label, usage) = (key.label.to_string(), key.usage.to_string());
        say(&format!("{label:<20} {usage:<21} {:>7}  {}", key.version, key.check));
    }
}

fn receiver_key(config: &Config, name: &str, out: &Path, maker: KeyMaker) -> Result<(), Failure> {
    // Which requestors are registered the daemon knows; their keys come from their ids.
    let requestor =
        name.strip_prefix("requestor-").is_some_and(|id| TokenRequestorId::parse(id.as_bytes()).is_ok());
    if !requestor && !config.tsp.receivers.iter().any(|receiver| receiver.name() == name) {
        let names: Vec<String> = config.tsp.receivers.iter().map(crate::tsp::Receiver::name).collect();
        return Err(Failure::new(format!("no receiver {name:?}; there are: {}", names.join(", "))));
    }
    let secret = config.security.receiver_keys().secret(name).map_err(failed)?;
    let digits = Zeroizing::new(hex::encode(secret.expose_secret()) + "\n");
    create(out, 0o600, &digits).map_err(|error| Failure::file(out, "cannot be written", &error))?;
    let noted = replace(&config.keys, |old, master, policy, entropy| {
        SecurityModule::hand_out(old, master, policy, name, maker, entropy)
    });
    if let Err(failure) = noted {
        // What is noted nowhere is not handed out.
        let _ = fs::remove_file(out);
        return Err(failure);
    }
    say("That it was handed out stands in the audit trail from the daemon's next start on.");
    say(&format!("Give {} to {name}, and destroy it.", out.display()));
    Ok(())
}

fn rotate(keys: &KeysSection, usage: KeyUsage, maker: KeyMaker) -> Result<(), Failure> {
    replace(keys, |old, master, policy, entropy| {
        SecurityModule::rotate(old, master, policy, usage, maker, entropy)
    })?;
    say("Restart the daemon to use the new version.");
    Ok(())
}

fn add(
    keys: &KeysSection,
    named: (KeyLabel, KeyUsage),
    clear: Option<&Path>,
    maker: KeyMaker,
) -> Result<(), Failure> {
    let clear = clear.map(clear_key).transpose()?;
    replace(keys, |old, master, policy, entropy| {
        SecurityModule::add_key(old, master, policy, named, clear, maker, entropy)
    })?;
    say("Restart the daemon to use it.");
    Ok(())
}

fn import(
    keys: &KeysSection,
    named: (KeyLabel, KeyUsage),
    block: &Path,
    transport: &TransportKey,
    maker: KeyMaker,
) -> Result<(), Failure> {
    let block = read(block)?;
    replace(keys, |old, master, policy, entropy| {
        let sent = (transport, block.trim_end());
        SecurityModule::import_key(old, master, policy, named, sent, maker, entropy)
    })?;
    say("Restart the daemon to use it.");
    Ok(())
}

/// The key of these components. What each brought is shown before anything is opened with it.
fn transport_key(components: &[PathBuf]) -> Result<TransportKey, Failure> {
    let mut parsed = Vec::with_capacity(components.len());
    for path in components {
        let component = TransportKey::parse(&read(path)?)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        say(&format!("component {}: check value {}", parsed.len() + 1, component.check_value()));
        parsed.push(component);
    }
    let key = TransportKey::of_components(&parsed).map_err(failed)?;
    say(&format!("transport key: check value {}", key.check_value()));
    Ok(key)
}

/// A key in clear hex, with or without a line end after it.
fn clear_key(path: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let text = read(path)?;
    let digits = text.strip_suffix('\n').unwrap_or(&text);
    hex::decode(digits)
        .map(Secret::new)
        .map_err(|_| Failure::new(format!("{}: not hexadecimal", path.display())))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|error| Failure::file(path, "cannot be read", &error))
}

/// Writes the new store beside the old one and then takes its place, so that there is a whole store at any moment.
fn replace(
    keys: &KeysSection,
    change: impl FnOnce(&str, &MasterKey, KeyPolicy, &mut Entropy) -> Result<String, CryptoError>,
) -> Result<(), Failure> {
    let master = MasterKey::parse(&read(&keys.master_key)?).map_err(failed)?;
    let policy = if keys.development { KeyPolicy::DEVELOPMENT } else { KeyPolicy::PRODUCTION };
    let new = change(&read(&keys.store)?, &master, policy, &mut Entropy::system()).map_err(failed)?;
    // What was given from outside may be a sample key: a store that does not open must not take the place of one that
    // does.
    let opened = SecurityModule::open(&new, &master, policy).map_err(failed)?;
    let fresh = keys.store.with_extension("store.new");
    // One that was cut short left it there.
    let _ = fs::remove_file(&fresh);
    create(&fresh, 0o600, &new).map_err(|error| Failure::file(&fresh, "cannot be written", &error))?;
    step("key-store-written");
    fs::rename(&fresh, &keys.store)
        .and_then(|()| fs::File::open(keys.store.parent().unwrap_or(Path::new(".")))?.sync_all())
        .map_err(|error| Failure::file(&keys.store, "cannot be replaced", &error))?;
    list(&opened);
    Ok(())
}

fn failed(error: CryptoError) -> Failure {
    Failure::new(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init;
    use crate::stdx::clock::Wall;

    fn alice() -> KeyMaker {
        maker(&Person { who: Some("alice".to_owned()) }).unwrap()
    }

    #[test]
    fn rotation_leaves_one_whole_store_with_a_new_version() {
        let kept = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:1".parse().unwrap();
        let api = "127.0.0.1:0".parse().unwrap();
        let addresses = init::Addresses { acquirer: api, issuer_1: any, issuer_2: any, api, admin: any };
        init::write(kept.path(), addresses, &mut Entropy::system()).unwrap();
        let file = kept.path().join(init::CONFIG_FILE);
        for version in 2..=3 {
            let usage = KeyUsage::DataSealing;
            rotate(&Config::load(&file).unwrap().keys, usage, alice()).unwrap();
            let sealer = Config::load(&file).unwrap().security.data_sealer();
            assert_eq!(sealer.newest_version(), version);
        }
        assert_eq!(fs::read_dir(kept.path().join("keys")).unwrap().count(), 2, "no file is left over");
    }

    #[test]
    fn a_chip_key_is_added_drawn_or_from_elsewhere_and_a_published_one_is_refused() {
        let kept = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:1".parse().unwrap();
        let api = "127.0.0.1:0".parse().unwrap();
        let addresses = init::Addresses { acquirer: api, issuer_1: any, issuer_2: any, api, admin: any };
        let directory = kept.path().join("switch");
        init::write(&directory, addresses, &mut Entropy::system()).unwrap();
        let file = directory.join(init::CONFIG_FILE);
        let clear = kept.path().join("clear");
        let chip = |name| super::named(name, |it| it.chip_cipher().is_some());
        let named = |label| (KeyLabel::parse(label).unwrap(), chip("issuer-master-3des").unwrap());
        assert!(chip("data-sealing").unwrap_err().to_string().contains("token-cryptogram-sm4"));
        let add = |label, text: Option<&str>| {
            let path = text.map(|text| fs::write(&clear, text).map(|()| clear.as_path()).unwrap());
            add(&Config::load(&file).unwrap().keys, named(label), path, alice())
        };
        add("issuer-1", Some("11111111111111111111111111111111\n")).unwrap();
        add("issuer-1", None).unwrap();
        let config = Config::load(&file).unwrap();
        let shown: Vec<_> = config.security.keys().filter(|key| key.label == named("issuer-1").0).collect();
        assert_eq!(shown.len(), 2);
        assert_eq!((shown[0].version, shown[0].check.to_string()), (1, "82E136".to_owned()));
        // The left half of SHA-256 of `tokenswitch TEST ONLY issuer-master`.
        for refused in ["07bb6a920fa0b3c2d9dd464fa157c836", "1111", "no key"] {
            add("issuer-2", Some(refused)).unwrap_err();
        }
        assert_eq!(Config::load(&file).unwrap().security.keys().count(), config.security.keys().count());
    }

    #[test]
    fn a_key_comes_in_a_block_under_components_and_only_for_what_the_block_says() {
        let kept = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:1".parse().unwrap();
        let api = "127.0.0.1:0".parse().unwrap();
        let addresses = init::Addresses { acquirer: api, issuer_1: any, issuer_2: any, api, admin: any };
        let directory = kept.path().join("switch");
        init::write(&directory, addresses, &mut Entropy::system()).unwrap();
        let file = directory.join(init::CONFIG_FILE);
        let written = |name: &str, text: &str| {
            let path = kept.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let components =
            [written("one", &"1A".repeat(32)), written("two", &format!("{}\n", "25 ".repeat(32)))];
        let transport = transport_key(&components).unwrap();
        assert_eq!(transport.check_value(), TransportKey::parse(&"3F".repeat(32)).unwrap().check_value());
        let issuer = named("issuer-master-3des", |_| true).unwrap();
        let header = KeyBlockHeader::of(issuer).unwrap();
        let clear = Secret::new(vec![0x11; 16]);
        let block = transport.wrap(header, &clear, &mut Entropy::system()).unwrap();
        let block = written("block", &(block + "\n"));
        let label = KeyLabel::parse("issuer-1").unwrap();
        let import = |usage, transport: &TransportKey| {
            import(&Config::load(&file).unwrap().keys, (label, usage), &block, transport, alice())
        };
        import(issuer, &transport).unwrap();
        let count = || Config::load(&file).unwrap().security.keys().count();
        let config = Config::load(&file).unwrap();
        let key = config.security.keys().find(|key| key.label == label).unwrap();
        assert_eq!((key.usage, key.version, key.check.to_string()), (issuer, 1, "82E136".to_owned()));
        assert_eq!(config.security.maker(key).unwrap().by.as_str(), "alice");
        let before = count();
        let other = transport_key(&[components[0].clone(), block.clone()]).unwrap_err();
        assert!(other.to_string().contains("block: key component: 32, 48 or 64"), "{other}");
        let other = TransportKey::parse(&"3E".repeat(32)).unwrap();
        assert!(import(issuer, &other).unwrap_err().to_string().contains("compare the check values"));
        let for_tokens = import(named("token-cryptogram-aes", |_| true).unwrap(), &transport).unwrap_err();
        assert!(for_tokens.to_string().contains("it says usage E0, algorithm T"), "{for_tokens}");
        assert_eq!(count(), before, "nothing came in");
    }

    #[test]
    fn the_key_for_messages_has_versions_that_overlap() {
        let kept = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:1".parse().unwrap();
        let api = "127.0.0.1:0".parse().unwrap();
        let addresses = init::Addresses { acquirer: api, issuer_1: any, issuer_2: any, api, admin: any };
        let directory = kept.path().join("switch");
        init::write(&directory, addresses, &mut Entropy::system()).unwrap();
        let file = directory.join(init::CONFIG_FILE);
        let keys = || Config::load(&file).unwrap().security.message_keys();
        let message = keys().newest().unwrap().wrap(b"x", &mut Entropy::system()).unwrap();
        let maker = alice();
        rotate(&Config::load(&file).unwrap().keys, KeyUsage::MessageEncryption, maker).unwrap();
        let keys = keys().overlapping(std::time::Duration::from_secs(60));
        assert!(keys.open(&message, Wall(maker.at.0 + 59_999)).is_ok());
        assert!(keys.open(&message, Wall(maker.at.0 + 60_000)).is_err());
        // A number that is none of the curve's private keys is refused, and the store stays as it was.
        let clear = kept.path().join("clear");
        fs::write(&clear, "ff".repeat(32)).unwrap();
        let named = (KeyLabel::parse("messages").unwrap(), KeyUsage::MessageEncryption);
        let before = Config::load(&file).unwrap();
        let refused = add(&before.keys, named, Some(&clear), maker).unwrap_err();
        assert!(refused.to_string().contains("no private key"), "{refused}");
        assert_eq!(Config::load(&file).unwrap().security.keys().count(), before.security.keys().count());
    }

    #[test]
    fn generated_keys_are_production_keys_and_are_not_written_over() {
        let kept = tempfile::tempdir().unwrap();
        let (store, master) = (kept.path().join("keys.store"), kept.path().join("master.key"));
        generate(&store, &master).unwrap();
        let key = MasterKey::parse(&fs::read_to_string(&master).unwrap()).unwrap();
        let text = fs::read_to_string(&store).unwrap();
        assert!(!SecurityModule::open(&text, &key, KeyPolicy::PRODUCTION).unwrap().is_development());
        assert!(generate(&store, &master).is_err());
        assert_eq!(fs::read_to_string(&store).unwrap(), text);
    }
}
