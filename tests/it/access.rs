//! Who may do what on the API: every role at every route, clients that act for several, and clients known by their
//! certificates over mutual TLS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tokenswitch::api::{ApiConfig, ApiServer, Client, Operation, Role, Shown, openapi};
use tokenswitch::stdx::clock::Clock;
use tokenswitch::tls::{Identity, ServerName, TlsClient, TlsServer};
use tokenswitch::tsp::CredentialDigest;
use tokenswitch::vocab::{Text, TokenRequestorId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::daemon::{Daemon, init_as};
use crate::parts::needs;
use crate::provisioning::{CREDENTIALS, PAN, Provider, Reply, api, config, exchange, vault};

/// Every route, and whether wallet, issuer and operator may. A route that is not here fails the test below.
#[rustfmt::skip]
const ROWS: &[(&str, &str, [bool; 3])] = &[
    ("POST", "/v1/tokens",                      [true, false, false]),
    ("POST", "/v1/tokens/from-token",           [true, false, false]),
    ("GET",  "/v1/tokens/{reference}",          [true, true, true]),
    ("POST", "/v1/tokens/{reference}/activate", [true, true, true]),
    ("POST", "/v1/tokens/{reference}/codes",    [true, false, false]),
    ("POST", "/v1/tokens/{reference}/proof",    [true, false, false]),
    ("POST", "/v1/tokens/{reference}/suspend",  [true, true, true]),
    ("POST", "/v1/tokens/{reference}/resume",   [true, true, true]),
    ("POST", "/v1/tokens/{reference}/unlink",   [true, true, true]),
    ("POST", "/v1/tokens/{reference}/update",   [true, true, true]),
    ("POST", "/v1/tokens/{reference}/controls", [true, true, true]),
    ("POST", "/v1/tokens/{reference}/cryptograms", [true, false, false]),
    ("POST", "/v1/tokens/{reference}/consents", [true, false, false]),
    ("POST", "/v1/tokens/{reference}/personalisation", [true, false, false]),
    ("POST", "/v1/tokens/{reference}/limited-keys", [true, false, false]),
    ("GET",  "/v1/tokens/{reference}/cards",    [false, true, true]),
    ("POST", "/v1/requestors",                  [false, false, true]),
    ("GET",  "/v1/requestors",                  [false, false, true]),
    ("GET",  "/v1/requestors/{id}",             [false, false, true]),
    ("POST", "/v1/requestors/{id}/close",       [false, false, true]),
    ("POST", "/v1/cards/events",                [false, true, true]),
    // To nobody as part of a role.
    ("POST", "/v1/detokenizations",             [false, false, false]),
    ("GET",  "/v1/keys",                        [true, true, true]),
    ("POST", "/v1/par",                         [true, true, true]),
];

const ROLES: [Role; 3] = [Role::Wallet, Role::Issuer, Role::Operator];

/// A client that shows its own name as its credential.
fn client(name: &str, role: Role) -> Client {
    let text = |text: &str| Text::parse("name", text.as_bytes()).unwrap();
    Client {
        name: text(name),
        shows: Shown::Credential(CredentialDigest::of(name.as_bytes())),
        role,
        requestors: if role == Role::Wallet { vec![requestor(0)] } else { Vec::new() },
        issuer: text(if role == Role::Issuer { "bank" } else { "" }),
        operations: None,
    }
}

fn requestor(number: usize) -> TokenRequestorId {
    config().requestors[number].id
}

fn with(clients: Vec<Client>) -> impl FnOnce(&mut ApiConfig) {
    move |api| api.clients = clients
}

#[test]
fn every_role_at_every_route() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes: BTreeSet<(String, &str)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.as_str()))
        })
        .collect();
    let listed: BTreeSet<(String, &str)> =
        ROWS.iter().map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
    assert_eq!(routes, listed, "each route has its row in this file, and each row its route");

    let directory = tempfile::tempdir().unwrap();
    let clients = ROLES.iter().map(|role| client(role.name(), *role)).collect();
    let provider = Provider::limited(directory.path(), with(clients));
    for (method, path, allowed) in ROWS {
        let path =
            path.replace("{reference}", "00000000000000000000000000000000").replace("{id}", "00000000009");
        for (role, allowed) in ROLES.iter().zip(allowed) {
            let reply = provider.send_as(role.name(), method, &path, "1", &json!({}));
            let denied = reply.status == 403 && reply.problem().1 == "operation-not-allowed";
            assert_eq!(!denied, *allowed, "{method} {path} as {role:?}: {:?}", reply.body);
            assert_ne!(reply.status, 401);
        }
        let reply = provider.send_as("nobody", method, &path, "1", &json!({}));
        assert_eq!(reply.problem(), (401, "credential-required", None));
    }
    provider.stop();
}

#[test]
fn a_grant_narrows_a_role_and_widens_none() {
    let directory = tempfile::tempdir().unwrap();
    let granted = |name, role, operations: &[Operation]| Client {
        operations: Some(operations.to_vec()),
        ..client(name, role)
    };
    let clients = vec![
        granted("reader", Role::Wallet, &[Operation::SeeToken]),
        granted("nothing", Role::Wallet, &[]),
        granted("issuer", Role::Issuer, &[Operation::IssueToken]),
    ];
    let provider = Provider::limited(directory.path(), with(clients));
    let place = format!("/v1/tokens/{}", provider.provision("1")["tokenReference"].as_str().unwrap());
    let card = json!({ "pan": PAN, "panExpiry": "4912" });
    for (who, method, path, status) in [
        ("reader", "GET", place.as_str(), 200),
        ("reader", "POST", "/v1/tokens", 403),
        ("nothing", "GET", &place, 403),
        ("issuer", "POST", "/v1/tokens", 403),
    ] {
        assert_eq!(provider.send_as(who, method, path, "2", &card).status, status, "{who} {method} {path}");
    }
    provider.stop();
}

#[test]
fn a_card_s_number_is_told_only_where_that_is_granted_by_name_and_so_often_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let granted = |name, role| Client {
        operations: Some(vec![Operation::DetokenizeToken, Operation::SetRequestor]),
        ..client(name, role)
    };
    let other = Client { issuer: Text::parse("issuer", b"other").unwrap(), ..granted("other", Role::Issuer) };
    let clients = vec![
        granted("wallet", Role::Wallet),
        granted("bank", Role::Issuer),
        other,
        granted("desk", Role::Operator),
        client("operator", Role::Operator),
    ];
    let provider = Provider::limited(directory.path(), with(clients));
    let token = provider.provision("1");
    let by_reference = json!({ "tokenReference": token["tokenReference"], "purpose": "dispute" });
    let ask = |who: &str, id: &str, body: &Value| {
        let reply = provider.send_as(who, "POST", "/v1/detokenizations", id, body);
        let told = reply.body["pan"].as_str().map(str::to_owned);
        (reply.status, told.unwrap_or_else(|| reply.problem().1.to_owned()))
    };
    let told = |code: &str, status: u16| (status, code.to_owned());
    assert_eq!(ask("operator", "1", &by_reference), told("operation-not-allowed", 403));
    assert_eq!(ask(CREDENTIALS[0], "1", &by_reference), told("operation-not-allowed", 403));
    assert_eq!(ask("desk", "1", &by_reference), told("detokenization-not-allowed", 403), "off by default");
    let registered = json!({
        "tokenRequestorId": token["tokenRequestorId"], "name": "wallet", "entryModes": ["07"],
        "tokenLocation": "02", "detokenizationsPerDay": 3,
    });
    assert_eq!(provider.send_as("desk", "POST", "/v1/requestors", "2", &registered).status, 200);
    let pan = told(PAN, 200);
    assert_eq!(ask("desk", "3", &by_reference), pan);
    assert_eq!(ask("desk", "3", &by_reference), pan, "told again, and counts once");
    assert_eq!(ask("other", "3", &by_reference), told("unknown-token", 404), "not its card");
    let by_token = |expiry: &Value| json!({ "token": token["token"], "tokenExpiry": expiry, "purpose": "legal-order", "reason": "file 7" });
    assert_eq!(ask("bank", "4", &by_token(&json!("2001"))), told("unknown-token", 404));
    assert_eq!(ask("bank", "4", &by_token(&token["tokenExpiry"])), pan);
    assert_eq!(ask("wallet", "4", &by_reference), pan);
    assert_eq!(ask("wallet", "5", &by_reference), told("detokenizations-exhausted", 429));
    for (body, expected) in [
        (json!({ "tokenReference": token["tokenReference"] }), (400, "missing-field", Some("purpose"))),
        (
            json!({ "token": token["token"], "purpose": "refund" }),
            (422, "missing-field", Some("tokenExpiry")),
        ),
        (json!({ "purpose": "refund" }), (422, "missing-field", Some("tokenReference"))),
        (json!({ "purpose": "curiosity" }), (400, "invalid-field", Some("purpose"))),
    ] {
        let reply = provider.send_as("desk", "POST", "/v1/detokenizations", "6", &body);
        assert_eq!(reply.problem(), expected, "{body}");
    }
    let closed = json!({
        "tokenRequestorId": token["tokenRequestorId"], "name": "wallet", "entryModes": ["07"],
        "tokenLocation": "02",
    });
    assert_eq!(provider.send_as("desk", "POST", "/v1/requestors", "7", &closed).status, 200);
    assert_eq!(ask("desk", "3", &by_reference), told("detokenization-not-allowed", 403), "a repeat, too");
    provider.stop();
}

#[test]
fn who_acts_for_several_names_one_and_what_is_not_its_own_is_as_unknown_as_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let both = Client { requestors: vec![requestor(0), requestor(1)], ..client("aggregator", Role::Wallet) };
    let provider = Provider::limited(directory.path(), with(vec![both, client("single", Role::Wallet)]));
    let card = json!({ "pan": PAN, "panExpiry": "4912" }).to_string();
    let send = |who: &str, method: &str, path: &str, named: &[&str], id: &str| {
        let named: String = named.iter().map(|it| format!("X-Token-Requestor-Id: {it}\r\n")).collect();
        let head = format!(
            "Authorization: Bearer {who}\r\nContent-Type: application/json\r\nX-Request-Id: {id}\r\n{named}"
        );
        exchange(provider.address(), method, path, &head, card.as_bytes())
    };
    let (first, second) = ("00000000000", "00000000001");
    let unnamed = send("aggregator", "POST", "/v1/tokens", &[], "1");
    assert_eq!(unnamed.problem(), (400, "missing-field", Some("X-Token-Requestor-Id")));
    let twice = send("aggregator", "POST", "/v1/tokens", &[first, second], "1");
    assert_eq!(twice.problem(), (400, "invalid-field", Some("X-Token-Requestor-Id")));
    let mut places = Vec::new();
    for named in [first, second] {
        // One request id for both: it is each requestor's own.
        let issued = send("aggregator", "POST", "/v1/tokens", &[named], "1");
        assert_eq!(
            (issued.status, &issued.body["tokenRequestorId"]),
            (201, &json!(named)),
            "{:?}",
            issued.body
        );
        places.push(format!("/v1/tokens/{}", issued.body["tokenReference"].as_str().unwrap()));
    }
    assert_eq!(send("single", "GET", &places[0], &[], "").status, 200);
    let told = |reply: Reply| (reply.status, reply.body.to_string());
    let no_requestor = told(send("single", "POST", "/v1/tokens", &["99999999999"], "3"));
    for strange in [second, "x", ""] {
        assert_eq!(told(send("single", "POST", "/v1/tokens", &[strange], "3")), no_requestor, "{strange}");
    }
    let no_token = told(send("single", "GET", "/v1/tokens/00000000000000000000000000000000", &[], ""));
    assert_eq!(told(send("single", "GET", &places[1], &[], "")), no_token, "there, but another's");
    provider.stop();
}

#[test]
fn an_issuer_holds_tokens_of_its_own_cards_and_an_operator_any_each_in_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let other = Client { issuer: Text::parse("issuer", b"other").unwrap(), ..client("other", Role::Issuer) };
    let clients = vec![client("bank", Role::Issuer), other, client("operator", Role::Operator)];
    let provider = Provider::limited(directory.path(), with(clients));
    let place = format!("/v1/tokens/{}", provider.provision("1")["tokenReference"].as_str().unwrap());
    let wallet = CREDENTIALS[0];
    // One request id for all: it is each one's own.
    for (who, verb, body, expected) in [
        ("bank", "suspend", json!({ "reason": "fraud" }), Ok(json!(["issuer"]))),
        ("operator", "suspend", json!({}), Ok(json!(["issuer", "operator"]))),
        (wallet, "resume", json!({}), Ok(json!(["issuer", "operator"]))),
        (
            "bank",
            "suspend",
            json!({ "causedBy": "cardholder" }),
            Err((422, "invalid-field", Some("causedBy"))),
        ),
        ("other", "unlink", json!({}), Err((404, "unknown-token", None))),
    ] {
        let reply = provider.send_as(who, "POST", &format!("{place}/{verb}"), &format!("{verb}-7"), &body);
        match expected {
            Ok(suspenders) => {
                assert_eq!((reply.status, &reply.body["suspendedBy"]), (200, &suspenders), "{who} {verb}")
            }
            Err(problem) => assert_eq!(reply.problem(), problem, "{who} {verb}"),
        }
    }
    for (who, status) in [("bank", 200), ("other", 404), ("operator", 200)] {
        assert_eq!(provider.send_as(who, "GET", &place, "", &Value::Null).status, status, "{who}");
    }
    let resumed = provider.send_as("bank", "POST", &format!("{place}/resume"), "8", &json!({}));
    assert_eq!(resumed.body["suspendedBy"], json!(["operator"]));
    provider.stop();
}

#[test]
fn what_an_issuer_says_of_a_card_its_tokens_follow() {
    let directory = tempfile::tempdir().unwrap();
    let other = Client { issuer: Text::parse("issuer", b"other").unwrap(), ..client("other", Role::Issuer) };
    let provider = Provider::limited(directory.path(), with(vec![client("bank", Role::Issuer), other]));
    let token = provider.provision("1");
    let place = format!("/v1/tokens/{}", token["tokenReference"].as_str().unwrap());
    let renewed = "4761730000000011";
    let card = |event: &str| json!({ "pan": PAN, "event": event });
    let with = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    let new_pan = with(card("new-pan"), "newPan", json!(renewed));
    for (at, (who, body, expected)) in [
        ("bank", card("burnt"), Err((400, "invalid-field", Some("event")))),
        ("bank", with(card("lost"), "newPan", json!(renewed)), Err((422, "invalid-field", Some("newPan")))),
        ("bank", card("new-pan"), Err((422, "missing-field", Some("newPan")))),
        ("bank", new_pan.clone(), Err((422, "missing-field", Some("newExpiry")))),
        ("other", card("lost"), Err((404, "unknown-card", None))),
        ("bank", card("stolen"), Ok(("suspended", "0119"))),
        ("bank", card("found"), Ok(("active", "0119"))),
        ("bank", with(new_pan, "newExpiry", json!("4912")), Ok(("active", "0011"))),
        ("bank", json!({ "pan": renewed, "event": "closed" }), Ok(("deactivated", "0011"))),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = provider.send_as(who, "POST", "/v1/cards/events", &format!("event-{at}"), &body);
        match expected {
            Ok((status, last_four)) => {
                assert_eq!((reply.status, &reply.body), (200, &json!({ "tokensChanged": 1 })), "{body}");
                let seen = provider.send_as(CREDENTIALS[0], "GET", &place, "", &Value::Null).body;
                assert_eq!(seen["token"], token["token"]);
                assert_eq!((&seen["status"], &seen["panLastFour"]), (&json!(status), &json!(last_four)));
            }
            Err(problem) => assert_eq!(reply.problem(), problem, "{body}"),
        }
    }
    let cards = provider.send_as("bank", "GET", &format!("{place}/cards"), "", &Value::Null).body;
    assert_eq!((&cards[0]["panLastFour"], &cards[1]["until"]), (&json!("0119"), &Value::Null), "{cards}");
    let of_token = json!({ "token": token["token"] });
    let of_card = json!({ "pan": renewed });
    for (who, body) in [(CREDENTIALS[0], &of_token), ("bank", &of_token), ("bank", &of_card)] {
        let reply = provider.send_as(who, "POST", "/v1/par", "par", body);
        assert_eq!((reply.status, &reply.body["par"]), (200, &token["par"]), "{who}");
    }
    assert_eq!(provider.send_as(CREDENTIALS[1], "POST", "/v1/par", "par", &of_token).problem().0, 404);
    assert_eq!(
        provider.send_as("bank", "POST", "/v1/par", "par", &json!({})).problem(),
        (422, "missing-field", Some("tokenReference"))
    );
    provider.stop();
}

#[test]
fn an_operator_keeps_the_registry() {
    let directory = tempfile::tempdir().unwrap();
    let third = Client {
        requestors: vec![TokenRequestorId::parse(b"00000000077").unwrap()],
        ..client("third", Role::Wallet)
    };
    let provider = Provider::limited(directory.path(), with(vec![client("operator", Role::Operator), third]));
    let card = json!({ "pan": PAN, "panExpiry": "4912" });
    assert_eq!(provider.send_as("third", "POST", "/v1/tokens", "1", &card).problem().0, 403);
    let requestor = json!({
        "tokenRequestorId": "00000000077", "name": "third wallet", "entryModes": ["07"], "tokenLocation": "03",
        "tokenLocations": ["02", "03"], "assuranceMethods": ["01"], "notificationUrl": "https://wallet.example/told",
        "merchants": [{ "acquirer": 1, "id": "SHOP1" }], "tokensMost": 1, "version": 0,
    });
    let set = |id: &str, body: &Value| provider.send_as("operator", "POST", "/v1/requestors", id, body);
    let told = set("1", &requestor);
    assert_eq!((told.status, &told.body["version"]), (200, &json!(1)), "{}", told.body);
    assert_eq!(set("2", &requestor).problem(), (409, "version-differs", None));
    assert_eq!(provider.send_as("third", "POST", "/v1/tokens", "2", &card).status, 201);
    assert_eq!(provider.send_as("third", "POST", "/v1/tokens", "3", &card).problem().1, "requestor-full");
    let close = provider.send_as("operator", "POST", "/v1/requestors/00000000077/close", "4", &json!({}));
    assert_eq!((close.status, &close.body["closed"]), (200, &json!(true)));
    assert_eq!(provider.send_as("third", "POST", "/v1/tokens", "5", &card).problem().1, "unknown-requestor");
    let seen = provider.send_as("operator", "GET", "/v1/requestors/00000000077", "", &Value::Null).body;
    assert_eq!((&seen["version"], &seen["closed"]), (&json!(2), &json!(true)));
    provider.stop();
}

#[test]
fn what_nobody_could_keep_to_is_not_registered() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), |api| {
        with(vec![client("operator", Role::Operator)])(api);
        api.surroundings.trusts_receivers = false;
    });
    let least = json!({
        "tokenRequestorId": "00000000078", "name": "fourth wallet", "entryModes": ["01"], "tokenLocation": "01",
    });
    for (at, (field, value, status, code, at_fault)) in [
        (
            "merchants",
            json!([{ "acquirer": 9, "id": "SHOP1" }]),
            422,
            "invalid-field",
            "merchants[0].acquirer",
        ),
        ("notificationUrl", json!("https://wallet.example/"), 422, "invalid-field", "notificationUrl"),
        ("tokenRequestorId", json!("99800000078"), 422, "requestor-not-ours", "tokenRequestorId"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = least.clone();
        body[field] = value;
        let refused = provider.send_as("operator", "POST", "/v1/requestors", &format!("r-{at}"), &body);
        assert_eq!(refused.problem(), (status, code, Some(at_fault)));
    }
    assert_eq!(provider.send_as("operator", "POST", "/v1/requestors", "good", &least).status, 200);
    let card = json!({
        "pan": PAN, "panExpiry": "4912", "controls": { "merchants": [{ "acquirer": 9, "id": "SHOP1" }] },
    });
    let refused = provider.send("POST", "/v1/tokens", "t", &card);
    assert_eq!(refused.problem(), (422, "invalid-field", Some("controls.merchants[0].acquirer")));
    provider.stop();
}

/// What is told can be sent back: all of it is set then, and one change is one change.
#[test]
fn what_is_registered_is_read_back_changed_and_set_again() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), with(vec![client("operator", Role::Operator)]));
    let full = json!({
        "tokenRequestorId": "00000000077", "name": "third wallet", "entryModes": ["07", "10"],
        "domains": ["proximity", "in-app"], "merchants": [{ "acquirer": 1, "id": "SHOP1" }],
        "categories": ["0742", "5411"], "mostAmount": { "minor": 5000, "currency": "978" }, "expiryOptional": true,
        "chipAmountBinds": false, "cryptogramRequired": true, "initiators": ["customer", "merchant"],
        "originalRequired": true, "tokenLocation": "03", "tokenLocations": ["02", "03"],
        "assuranceMethods": ["01", "12"], "confirms": true, "notificationUrl": "https://wallet.example/told",
        "tokensMost": 5, "tokensPerPan": 2, "tokensPerDevice": 1, "detokenizationsPerDay": 7,
        "sharesWith": ["00000000001"], "wrappingKeys": ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"],
    });
    let least = json!({
        "tokenRequestorId": "00000000078", "name": "fourth wallet", "entryModes": ["01"], "tokenLocation": "01",
    });
    for (at, (field, value)) in
        [("name", PAN.to_owned()), ("notificationUrl", format!("https://wallet.example/{PAN}/told"))]
            .into_iter()
            .enumerate()
    {
        let mut body = least.clone();
        body[field] = json!(value);
        let refused = provider.send_as("operator", "POST", "/v1/requestors", &format!("pan-{at}"), &body);
        assert_eq!(refused.problem(), (422, "account-number-in-words", Some(field)));
    }
    for body in [full, least] {
        let id = body["tokenRequestorId"].as_str().unwrap();
        let set = |request: &str, body: &Value| {
            provider.send_as("operator", "POST", "/v1/requestors", &format!("{id}-{request}"), body)
        };
        let see = || provider.send_as("operator", "GET", &format!("/v1/requestors/{id}"), "", &Value::Null);
        let told = set("1", &body);
        assert_eq!(told.status, 200, "{}", told.body);
        let mut seen = see().body;
        assert_eq!(seen, told.body);
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(seen[name], *value, "{name}");
        }
        assert_eq!(set("2", &seen).status, 200, "as it was told");
        seen["version"] = json!(2);
        seen["tokensPerPan"] = json!(9);
        assert_eq!(set("3", &seen).status, 200);
        let mut after = see().body;
        assert_eq!(after["version"], 3);
        (after["version"], after["changedAt"]) = (seen["version"].clone(), seen["changedAt"].clone());
        assert_eq!(after, seen);
    }
    provider.stop();
}

#[test]
fn a_card_has_one_rate_whichever_of_its_tokens_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), |api| {
        api.clients = vec![client("wallet", Role::Wallet)];
        api.rates.card_per_minute = NonZeroU32::new(2).unwrap();
    });
    let issue = |path: &str, id: &str, body: &Value| {
        let reply = provider.send_as("wallet", "POST", path, id, body);
        (reply.status, reply.body)
    };
    let (_, first) = issue("/v1/tokens", "1", &json!({ "pan": PAN, "panExpiry": "4912" }));
    let by_reference = |token: &Value| json!({ "sourceReference": token["tokenReference"] });
    let by_number =
        |token: &Value| json!({ "sourceToken": token["token"], "sourceTokenExpiry": token["tokenExpiry"] });
    let (status, second) = issue("/v1/tokens/from-token", "2", &by_reference(&first));
    assert_eq!(status, 201, "{second}");
    for (id, body) in [("3", by_reference(&second)), ("4", by_number(&first)), ("5", by_number(&second))] {
        let (status, told) = issue("/v1/tokens/from-token", id, &body);
        assert_eq!((status, &told["code"]), (429, &json!("too-many-requests")), "{id}");
    }
    let nobodys = json!({ "sourceReference": "0".repeat(32) });
    let (status, told) = issue("/v1/tokens/from-token", "6", &nobodys);
    assert_eq!((status, &told["code"]), (404, &json!("unknown-token")));
    let other = json!({ "pan": "4761739001010010", "panExpiry": "4912" });
    assert_eq!(issue("/v1/tokens", "7", &other).0, 201);
    provider.stop();
}

#[test]
fn who_may_have_no_tokens_takes_nothing_of_a_cards_rate() {
    let directory = tempfile::tempdir().unwrap();
    let third = Client {
        requestors: vec![TokenRequestorId::parse(b"00000000077").unwrap()],
        ..client("third", Role::Wallet)
    };
    let clients = vec![client("operator", Role::Operator), client("wallet", Role::Wallet), third];
    let provider = Provider::limited(directory.path(), |api| {
        api.clients = clients;
        api.rates.card_per_minute = NonZeroU32::MIN;
    });
    let operator = |path: &str, id: &str, body: &Value| {
        assert_eq!(provider.send_as("operator", "POST", path, id, body).status, 200, "{path}");
    };
    for (case, pan) in [("unknown", PAN), ("closed", "4761739001010010")] {
        let card = json!({ "pan": pan, "panExpiry": "4912" });
        for at in 0..3 {
            let refused = provider.send_as("third", "POST", "/v1/tokens", &format!("{case}-{at}"), &card);
            assert_eq!(refused.problem(), (403, "unknown-requestor", None), "{case}");
        }
        assert_eq!(provider.send_as("wallet", "POST", "/v1/tokens", case, &card).status, 201, "{case}");
        let other = provider.send_as("wallet", "POST", "/v1/tokens", &format!("{case}-more"), &card);
        assert_eq!(other.problem().1, "too-many-requests", "{case}");
        if case == "unknown" {
            let requestor = json!({
                "tokenRequestorId": "00000000077", "name": "third wallet", "entryModes": ["07"],
                "tokenLocation": "03",
            });
            operator("/v1/requestors", "set", &requestor);
            operator("/v1/requestors/00000000077/close", "close", &json!({}));
        }
    }
    provider.stop();
}

#[test]
fn a_token_gets_controls_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), with(vec![client("bank", Role::Issuer)]));
    let token = provider.provision("1");
    let place = format!("/v1/tokens/{}/controls", token["tokenReference"].as_str().unwrap());
    let set = |id: &str, controls: Value| {
        provider.send_as("bank", "POST", &place, id, &json!({ "controls": controls }))
    };
    let all = json!({
        "entryModes": ["07"], "merchants": [{ "acquirer": 1, "id": "SHOP1" }], "categories": ["5411"],
        "deniedCategories": ["7995"], "countries": ["276"], "currencies": ["978"],
        "mostAmount": { "minor": 5000, "currency": "978" }, "amountTolerance": 0, "cryptogramRequired": true,
        "expiryRequired": true, "from": "2026-01-01T00:00:00Z", "until": "2050-01-01T00:00:00Z",
        "velocity": [{ "mostPayments": 3 }, { "hours": 24, "mostAmount": { "minor": 9, "currency": "978" } }],
        "domains": ["proximity"], "initiators": ["merchant"], "originalRequired": true,
    });
    let told = set("1", all.clone());
    assert_eq!((told.status, &told.body["version"]), (200, &json!(2)), "{}", told.body);
    let seen_at = place.strip_suffix("/controls").unwrap();
    let see = || provider.send("GET", seen_at, "", &Value::Null).body;
    let seen = see();
    assert_eq!((&seen["controls"], &seen["controlsSetBy"]), (&all, &json!("issuer")));
    let again = set("again", seen["controls"].clone());
    assert_eq!((again.status, &again.body["version"]), (200, &json!(2)), "as it was told");
    let by_wallet = provider.send("POST", &place, "wallet", &json!({}));
    assert_eq!(by_wallet.problem(), (403, "controls-not-yours", Some("controls")));
    for (at, (controls, expected)) in [
        (json!({ "velocity": [{}] }), (422, "controls-not-valid", Some("controls"))),
        (json!({ "velocity": [{ "mostPayments": 129 }] }), (422, "controls-not-valid", Some("controls"))),
        (json!({ "countries": ["x"] }), (400, "invalid-field", Some("controls.countries[0]"))),
        (json!({ "from": "yesterday" }), (400, "invalid-field", Some("controls.from"))),
        (
            json!({ "merchants": [{ "acquirer": 70_000 }] }),
            (400, "invalid-field", Some("controls.merchants[0].acquirer")),
        ),
        (
            json!({ "merchants": [{ "acquirer": 1, "id": "SHOP1" }, { "acquirer": 9, "id": "SHOP1" }] }),
            (422, "invalid-field", Some("controls.merchants[1].acquirer")),
        ),
        (json!({ "amountTolerance": 1 }), (422, "tolerance-too-large", Some("controls.amountTolerance"))),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(set(&format!("bad-{at}"), controls).problem(), expected, "{at}");
    }
    let lifted = provider.send_as("bank", "POST", &place, "3", &json!({}));
    assert_eq!((lifted.status, &lifted.body["version"]), (200, &json!(3)));
    assert_eq!((&see()["controls"], &see()["controlsSetBy"]), (&Value::Null, &Value::Null));
    provider.stop();
}

#[test]
fn a_token_s_attributes_are_updated() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::limited(directory.path(), with(vec![client("bank", Role::Issuer)]));
    let token = provider.provision("1");
    let place = format!("/v1/tokens/{}/update", token["tokenReference"].as_str().unwrap());
    let update = |who: &str, id: &str, body: Value| provider.send_as(who, "POST", &place, id, &body);
    let told = update("bank", "1", json!({ "assuranceMethod": "12", "version": 1 }));
    assert_eq!(
        (told.status, &told.body["assuranceMethod"], &told.body["version"]),
        (200, &json!("12"), &json!(2))
    );
    let late = update("bank", "2", json!({ "renew": true, "version": 1 }));
    assert_eq!(late.problem(), (409, "version-differs", None));
    let claimed = update(CREDENTIALS[0], "3", json!({ "assuranceMethod": "12" }));
    assert_eq!(claimed.problem(), (422, "assurance-not-allowed", Some("assuranceMethod")));
    provider.stop();
}

#[test]
fn every_change_has_one_answer_for_one_request_id() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(directory.path());
    let changes = ROWS.iter().filter(|(method, _, [wallet, ..])| *method == "POST" && *wallet);
    let mut held = 0;
    for (at, (_, path, _)) in changes.enumerate() {
        let reference =
            provider.provision(&format!("token-{at}"))["tokenReference"].as_str().unwrap().to_owned();
        let path = path.replace("{reference}", &reference);
        let body = |reason: &str| match path.as_str() {
            "/v1/tokens" => json!({ "pan": PAN, "panExpiry": "4912", "reason": reason }),
            _ => json!({ "reason": reason }),
        };
        let id = format!("change-{at}");
        let first = provider.send("POST", &path, &id, &body("first"));
        // What needs more than these members is tried where it is tested.
        if first.status >= 300 {
            continue;
        }
        held += 1;
        let again = provider.send("POST", &path, &id, &body("first"));
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        let altered = provider.send("POST", &path, &id, &body("another"));
        assert_eq!(altered.problem(), (409, "request-id-reused", Some("X-Request-Id")), "{path}");
        let still = provider.send("POST", &path, &id, &body("first"));
        assert_eq!(still.body, first.body, "{path}: the first answer stands");
    }
    assert!(held >= 5, "{held} operations were tried");
    provider.stop();
}

/// A certification authority for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key with these names: with a colon a URI, else a DNS name.
    fn identity(&self, names: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains(':') {
                true => SanType::URI((*name).try_into().unwrap()),
                false => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn client(&self, names: Option<&[&str]>) -> TlsClient {
        let own = names.map(|names| self.identity(names));
        let own = own.as_ref().map(|(certificates, key)| Identity { certificates, key });
        TlsClient::new(self.0.pem().as_bytes(), own).unwrap()
    }

    fn server(&self) -> TlsServer {
        let (certificates, key) = self.identity(&["api.test"]);
        TlsServer::new(Identity { certificates: &certificates, key: &key }, Some(self.0.pem().as_bytes()))
            .unwrap()
    }
}

/// Status and problem code of one request over TLS; none when there was no connection.
fn over_tls(address: SocketAddr, client: &TlsClient, head: &str) -> Option<(u16, String)> {
    let body = json!({ "pan": PAN, "panExpiry": "4912" }).to_string();
    let request = format!(
        "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-Request-Id: 1\r\n{head}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("api.test").unwrap();
        let mut stream = client.connector().connect(name, stream).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // TLS 1.3 tells of a refused certificate only with the first read.
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body["code"].as_str().unwrap_or_default().to_owned()))
    })
}

#[test]
fn over_tls_a_client_is_what_its_certificate_says() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let shows = |name: &str| Shown::Certificate(name.to_owned());
    let wallet = Client { shows: shows("wallet.test"), ..client("wallet", Role::Wallet) };
    let device = Client { shows: shows("spiffe://test/wallet"), ..client("by-uri", Role::Wallet) };
    let issuer = Client { shows: shows("bank.test"), ..client("bank", Role::Issuer) };
    let directory = tempfile::tempdir().unwrap();
    let (journal, service, writer) = vault(directory.path());
    // Any address: with TLS the API is not bound to this machine.
    let open =
        ApiConfig { listen: "0.0.0.0:0".parse().unwrap(), clients: vec![wallet, device, issuer], ..api() };
    let tls = ours.server();
    let requestors = config().requestors;
    let server = ApiServer::start(
        &open,
        Some(tls.clone()),
        service,
        &requestors,
        &Clock::system(),
        &mut Registry::default(),
    )
    .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let bearer = format!("Authorization: Bearer {}\r\n", CREDENTIALS[0]);
    let denied = |code: &str| Some((403, code.to_owned()));
    for (who, head, expected) in [
        (ours.client(Some(&["wallet.test"])), "", Some((201, String::new()))),
        (ours.client(Some(&["spiffe://test/wallet"])), "", Some((201, String::new()))),
        (ours.client(Some(&["other.test", "wallet.test"])), "", Some((201, String::new()))),
        (ours.client(Some(&["bank.test"])), "", denied("operation-not-allowed")),
        (ours.client(Some(&["WALLET.test"])), "", denied("client-not-known")),
        (ours.client(Some(&["sub.wallet.test"])), "", denied("client-not-known")),
        (ours.client(Some(&["wallet.test", "bank.test"])), "", denied("client-not-known")),
        // A credential is good for nothing here.
        (ours.client(Some(&["other.test"])), bearer.as_str(), denied("client-not-known")),
        (ours.client(None), bearer.as_str(), None),
        (strangers.client(Some(&["wallet.test"])), "", None),
    ] {
        assert_eq!(over_tls(address, &who, head), expected);
    }
    let plain = exchange(address, "GET", "/openapi.json", "", b"");
    assert_eq!(plain.status, 0, "no HTTP without TLS");

    // Another authority from the next connection on.
    let (certificates, key) = strangers.identity(&["api.test"]);
    tls.reload(Identity { certificates: &certificates, key: &key }, Some(strangers.0.pem().as_bytes()))
        .unwrap();
    let known = Some((201, String::new()));
    assert_eq!(over_tls(address, &strangers.client(Some(&["wallet.test"])), ""), known);
    assert_eq!(over_tls(address, &ours.client(Some(&["wallet.test"])), ""), None);
    server.stop();
    writer.join();
    journal.close().unwrap();
}

/// What the daemon at `port` answers to curl with the certificates in `directory`; none without a connection.
fn curl(directory: &Path, port: &str, who: &str) -> Option<String> {
    let file = |name: &str| directory.join("tls").join(name);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--header", "X-Request-Id: 1"])
        .args([
            "--header",
            "Content-Type: application/json",
            "--data",
            r#"{"pan": "4761739001010119", "panExpiry": "4912"}"#,
        ])
        .arg("--cacert")
        .arg(file("ca.pem"))
        .arg("--cert")
        .arg(file(&format!("{who}.pem")))
        .arg("--key")
        .arg(file(&format!("{who}.key")))
        .arg(format!("https://127.0.0.1:{port}/v1/tokens"))
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_daemon_takes_renewed_certificates_while_it_runs() {
    let there = Command::new("curl").arg("--version").output().is_ok();
    let Some(()) = needs("curl", "apt-get install curl", there.then_some(())) else { return };
    let kept = tempfile::tempdir().unwrap();
    let (old, new) = (kept.path().join("old"), kept.path().join("new"));
    let config = init_as(&old, ["127.0.0.1:1", "127.0.0.1:1"], &["--tls"]);
    init_as(&new, ["127.0.0.1:1", "127.0.0.1:1"], &["--tls"]);
    let daemon = Daemon::start(&config);
    let port = daemon.addresses["api"].rsplit(':').next().unwrap();
    assert!(curl(&old, port, "wallet").unwrap().contains("tokenReference"));
    assert!(curl(&old, port, "operator").unwrap().contains("operation-not-allowed"));
    assert_eq!(curl(&new, port, "wallet"), None, "another authority's");
    // The old ones stay beside it for the client that still has them.
    std::fs::rename(old.join("tls"), kept.path().join("tls")).unwrap();
    std::fs::rename(new.join("tls"), old.join("tls")).unwrap();
    daemon.hang_up();
    let renewed = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        curl(&old, port, "wallet")
    });
    assert!(renewed.unwrap().contains("tokenReference"));
    assert_eq!(curl(kept.path(), port, "wallet"), None, "what was good before");
    daemon.stop();
}
