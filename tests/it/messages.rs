//! Card numbers that come encrypted: wrapped by another implementation (PyPI's joserfc, `tests/peers/messages.py`) and
//! opened by the real daemon, and wrapped here and opened there.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokenswitch::crypto::MessageKey;
use tokenswitch::stdx::random::Entropy;

use crate::daemon::{Daemon, PROGRAM, init};
use crate::parts::peers_python;
use crate::provisioning::{PAN, exchange};
use crate::source::root;

fn joserfc(python: &Path, arguments: &[&str]) -> String {
    let script = root().join("tests/peers/messages.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_card_number_wrapped_by_another_implementation_gets_a_token() {
    let Some(python) = peers_python() else { return };
    let kept = tempfile::tempdir().unwrap();
    let config = init(&kept.path().join("switch"), ["127.0.0.1:1", "127.0.0.1:1"]);
    let rotate = |config: &Path| {
        let mut command = Command::new(PROGRAM);
        command.args(["keys", "rotate", "--usage", "message-encryption", "--config"]).arg(config);
        assert!(command.output().unwrap().status.success());
    };
    let credential = |name: &str| {
        let shown = std::fs::read_to_string(config.with_file_name(name)).unwrap();
        format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", shown.trim())
    };
    let (wallet, issuer) = (credential("requestor.credential"), credential("issuer.credential"));
    let mut daemon = Daemon::start(&config);
    let send = |daemon: &Daemon, head: &str, path: &str, id: &str, body: &Value| {
        let address = daemon.addresses["api"].parse().unwrap();
        let (method, head) = if path == "/v1/keys" {
            ("GET", head.to_owned())
        } else {
            ("POST", format!("{head}X-Request-Id: {id}\r\n"))
        };
        exchange(address, method, path, &head, body.to_string().as_bytes())
    };
    let published = |daemon: &Daemon| {
        let keys = send(daemon, &wallet, "/v1/keys", "", &json!({})).body;
        assert_eq!(keys["keys"].as_array().unwrap().len(), 1, "{keys}");
        keys["keys"][0].to_string()
    };
    let card = |pan: &str| json!({ "pan": pan, "panExpiry": "4912" });
    let first = published(&daemon);
    let wrapped = joserfc(&python, &["wrap", &first, ",", PAN]);
    let issued = send(&daemon, &wallet, "/v1/tokens", "1", &card(&wrapped));
    assert_eq!((issued.status, &issued.body["panLastFour"]), (201, &json!(&PAN[PAN.len() - 4..])));
    // The same request in the clear, and encrypted anew, is the same request.
    for pan in [PAN, &joserfc(&python, &["wrap", &first, "wallet,tsp", PAN])] {
        let again = send(&daemon, &wallet, "/v1/tokens", "1", &card(pan));
        assert_eq!((again.status, &again.body), (201, &issued.body));
    }
    let lost = |pan: &str, event: &str| json!({ "pan": pan, "event": event });
    let reported = send(&daemon, &issuer, "/v1/cards/events", "2", &lost(&wrapped, "lost"));
    assert_eq!(reported.body, json!({ "tokensChanged": 1 }));
    send(&daemon, &issuer, "/v1/cards/events", "3", &lost(PAN, "found"));

    let not_opened = (422, "encryption-not-opened", Some("pan"));
    let no_number = joserfc(&python, &["wrap", &first, ",", "no number"]);
    let mut altered = wrapped.clone().into_bytes();
    let at = wrapped.rfind('.').unwrap() + 1;
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let told = send(&daemon, &wallet, "/v1/tokens", "4", &card(&no_number));
    assert_eq!(told.problem(), not_opened);
    let altered = String::from_utf8(altered).unwrap();
    assert_eq!(send(&daemon, &wallet, "/v1/tokens", "4", &card(&altered)).body, told.body);
    let cut = send(&daemon, &wallet, "/v1/tokens", "4", &card(&wrapped[..60]));
    assert_eq!(cut.problem(), (400, "invalid-field", Some("pan")), "no dot, and no number");
    let cut = send(&daemon, &wallet, "/v1/tokens", "4", &card(&wrapped[..at]));
    assert_eq!(cut.problem(), (422, "encryption-not-valid", Some("pan")));
    let new_pan = json!({ "pan": PAN, "event": "new-pan", "newPan": no_number, "newExpiry": "4912" });
    let told = send(&daemon, &issuer, "/v1/cards/events", "5", &new_pan);
    assert_eq!(told.problem(), (422, "encryption-not-opened", Some("newPan")));

    // With a key in its place the old one is good for a while, and then no more.
    daemon.stop();
    rotate(&config);
    daemon = Daemon::start(&config);
    let second = published(&daemon);
    assert_ne!(first, second);
    let wrapped_anew = joserfc(&python, &["wrap", &second, ",", PAN]);
    for (id, pan) in [("6", &wrapped), ("7", &wrapped_anew)] {
        assert_eq!(send(&daemon, &wallet, "/v1/tokens", id, &card(pan)).status, 201);
    }
    daemon.stop();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[keys]\n", "[keys]\nmessage_overlap = \"1ms\"\n")).unwrap();
    daemon = Daemon::start(&config);
    let told = send(&daemon, &wallet, "/v1/tokens", "8", &card(&wrapped));
    assert_eq!(told.problem(), (422, "encryption-key-unknown", Some("pan")));
    assert_eq!(send(&daemon, &wallet, "/v1/tokens", "8", &card(&wrapped_anew)).status, 201);
    daemon.stop();
}

#[test]
fn another_implementation_opens_what_is_wrapped_here() {
    let Some(python) = peers_python() else { return };
    // RFC 7518, appendix C: Bob's key.
    let (x, y) =
        ("weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ", "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck");
    let secret = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw" });
    let key = MessageKey::from_coordinates(x, y).unwrap();
    let text = "personalisation data of one token";
    let message = key.wrap(text.as_bytes(), &mut Entropy::system()).unwrap();
    assert_eq!(joserfc(&python, &["open", &secret.to_string(), &message]), text);
}
