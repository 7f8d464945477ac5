//! The story: one token provisioned and tapped, told hop by hop with the messages as each side sees them; then a
//! suspended token, a silent issuer, a token where it must not be used, a cardholder that has to prove itself, and a
//! payment in an app.

use serde_json::Value;

use super::page::Page;
use super::stage::{DOUBTED, Stage};
use crate::cli::Failure;
use crate::cli::simulate::{Shared, pay_at, purchase};
use crate::codec::{Dialect, Message, decode, describe};
use crate::sim::{AcquirerSimulator, BookEntry, PresentedCard, RemotePayment};
use crate::vocab::{Amount, Currency, Initiator, MessageClass, PosEntryMode, TokenReferenceId};

/// A tap, a chip card put into the terminal, and a payment in an app.
const CONTACTLESS: &[u8] = b"071";
const CONTACT: &[u8] = b"051";
const IN_APP: &[u8] = b"810";
/// How long an answer may take, in milliseconds.
const PATIENCE_MS: u64 = 20_000;

/// Who plays in the story.
struct Cast {
    acquirer: Shared<AcquirerSimulator>,
    reference: TokenReferenceId,
    presented: PresentedCard,
}

pub(super) async fn tell(stage: &mut Stage, page: &Page) -> Result<(), Failure> {
    stage.issuers_up().await?;
    let cast = provision(stage, page).await?;
    tap(stage, &cast, page).await?;
    suspended(stage, &cast, page).await?;
    silence(stage, &cast, page).await?;
    outside_domain(&cast, page).await?;
    proof(stage, page).await?;
    in_app(stage, &cast, page).await
}

/// A wallet asks for a token.
async fn provision(stage: &mut Stage, page: &Page) -> Result<Cast, Failure> {
    page.step(1, "A wallet asks for a token");
    let request_id = stage.request_id();
    let card = stage.card(0)?.clone();
    let (token, body) = stage.call_raw(&stage.provisioner.provision(&card, &request_id)).await?;
    let said = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    page.hop("wallet", &format!("POST /v1/tokens: a card, {}", card.pan.masked()));
    page.hop(
        "vault",
        &format!(
            "draws a random token from the token range, seals the card under it, and answers once both are on \
             disk: token {}, expiry {}, reference {}, PAR {}",
            said("token"),
            said("tokenExpiry"),
            said("tokenReference"),
            said("par"),
        ),
    );
    let wanted = stage.request_id();
    let presented = stage.in_phone(&token, &card, &wanted).await?;
    page.hop(
        "vault",
        "POST .../personalisation: derives the token's card key, which leaves encrypted for the phone's own key",
    );
    page.check(presented.number.digits() != card.pan.expose_digits(), "the token is not the card's number");
    let acquirer = stage.connect_acquirer(vec![presented.clone()], 1).await?;
    Ok(Cast { acquirer, reference: token.reference, presented })
}

/// The phone taps, and everything goes well.
async fn tap(stage: &Stage, cast: &Cast, page: &Page) -> Result<(), Failure> {
    page.step(2, "The phone taps: EUR 42.50");
    listen_in(stage, cast);
    let entry = pay(cast, 4_250, CONTACTLESS, None).await?;
    let token = cast.presented.number.masked();
    page.hop("terminal", &format!("reads the token {token} and a cryptogram; the card number is nowhere"));
    page.hop("acquirer", &format!("0200 with DE 2 = token, DE 11 = {}", entry.stan));
    page.hop(
        "switch",
        "sees a token range, asks the vault: status, expiry, requestor, entry mode, cryptogram",
    );
    page.hop(
        "vault",
        "derives the phone's key, finds the cryptogram true, opens the card's envelope, takes the cryptogram's counter; \
         the verdicts go with the request",
    );
    page.hop("journal", "the request is on disk before a byte of it leaves");
    page.hop("switch", "routes the card number to its issuer, under a number of its own");
    page.hop("issuer", "knows its card, approves");
    page.hop("journal", "the outcome is on disk before the acquirer hears of it");
    page.hop(
        "switch",
        "builds the answer from an allow-list, puts the token back, looks for the PAN once more",
    );
    page.line("");
    let (asked, answered) = (heard_by_issuers(stage), heard_by_acquirer(stage, cast));
    let (Some(asked), Some(answered)) = (asked, answered) else {
        page.check(false, "both sides were heard");
        return Ok(());
    };
    show_both(page, &answered, &asked);
    receipt(page, cast, &entry);
    page.check(code_of(&entry) == "00", "approved");
    page.check(entry.mismatches == 0, "the answer repeats the request's own identifiers and token");
    let pan = cast.presented.pan().map(|pan| pan.expose_digits().to_vec()).unwrap_or_default();
    let leaked = answered.elements.windows(pan.len().max(1)).any(|window| window == pan.as_slice());
    page.check(!leaked, "no byte that went to the acquirer holds the card number");
    Ok(())
}

/// The cardholder's bank suspends the token.
async fn suspended(stage: &mut Stage, cast: &Cast, page: &Page) -> Result<(), Failure> {
    page.step(3, "The token is suspended, and tapped again");
    let (suspend, resume) = (stage.request_id(), stage.request_id());
    let now = stage.call(&stage.provisioner.suspend(cast.reference, &suspend, "demo")).await?;
    page.hop("wallet", &format!("POST .../suspend: the token is {}", now.status));
    let entry = pay(cast, 1_999, CONTACTLESS, None).await?;
    page.hop("switch", "declines here; no issuer ever hears of it");
    page.check(
        code_of(&entry) == "62",
        &format!("declined with DE 39 = {} (restricted card)", code_of(&entry)),
    );
    let again = stage.call(&stage.provisioner.resume(cast.reference, &resume, "demo")).await?;
    page.check(again.status == "active", "resumed by the one who suspended it");
    Ok(())
}

/// The issuer stays silent: the acquirer hears no, and what the issuer may have booked is taken back.
async fn silence(stage: &Stage, cast: &Cast, page: &Page) -> Result<(), Failure> {
    page.step(4, "The issuer does not answer");
    let reversals = |stage: &Stage| -> u64 {
        stage.issuers().iter().map(|issuer| issuer.look(|brain| brain.counts().reversals)).sum()
    };
    let before = reversals(stage);
    page.hop("issuer", "takes EUR 25.13 from the account, and its answer is lost");
    let entry = pay(cast, 2_513, CONTACTLESS, None).await?;
    page.hop("switch", "waits for its limit, then journals time-out and reversal as one entry");
    page.check(code_of(&entry) == "91", &format!("the acquirer hears DE 39 = {}", code_of(&entry)));
    stage.until("the reversal", || reversals(stage) > before).await?;
    page.hop("issuer", "gets 0420 with the request's own numbers in DE 90, and undoes it");
    let pan = cast.presented.pan().cloned();
    let charged: u64 = stage
        .issuers()
        .iter()
        .filter_map(|issuer| pan.as_ref().map(|pan| issuer.look(|brain| brain.ledger().balance(pan).debited)))
        .sum();
    page.check(charged == 4_250, "the account was charged for the first tap and nothing else");
    Ok(())
}

/// A phone's token where a plastic card would be.
async fn outside_domain(cast: &Cast, page: &Page) -> Result<(), Failure> {
    page.step(5, "The token is used where it must not be");
    page.hop("thief", "writes the token on a chip card and puts it into a terminal (DE 22 = 051)");
    let entry = pay(cast, 9_900, CONTACT, None).await?;
    page.hop("vault", "this token is for contactless taps, credentials on file and apps");
    page.check(
        code_of(&entry) == "57",
        &format!("declined with DE 39 = {} (not permitted)", code_of(&entry)),
    );
    Ok(())
}

/// A bank gives a token to its cardholder only: the wallet shows where a code can be sent, and brings it back.
async fn proof(stage: &mut Stage, page: &Page) -> Result<(), Failure> {
    page.step(6, "A bank wants its cardholder's proof first");
    let ids = [stage.request_id(), stage.request_id(), stage.request_id(), stage.request_id()];
    let [wanted, sent, guessed, typed] = ids;
    let card = stage.card(DOUBTED)?.clone();
    let (token, body) = stage.call_raw(&stage.provisioner.provision(&card, &wanted)).await?;
    page.hop("wallet", &format!("POST /v1/tokens: a card, {}", card.pan.masked()));
    page.hop(
        "switch",
        "asks issuer-2 over its own link: 0100, DE 3 = 330000, DE 4 = 0; journaled, never reversed",
    );
    page.hop(
        "issuer-2",
        "says DE 39 = 85: yes, once the cardholder has proven itself; and where it can be reached",
    );
    page.check(token.status == "inactive", "there is a token, and it is not good yet");
    let shown = body.pointer("/stepUp/contacts/0/shown").and_then(Value::as_str).unwrap_or("-");
    page.hop("wallet", &format!("shows the contacts, masked: {shown}; the cardholder chooses"));
    stage.call(&stage.provisioner.send_code(token.reference, &sent, 1)).await?;
    page.hop("vault", "draws a code, keeps a keyed digest of it, hands it to the bank's receiver, signed");
    let (bank, reference) = (stage.bank().clone(), token.reference.to_string());
    stage.until("the code", || bank.code_for(&reference).is_some()).await?;
    let code = bank.code_for(&reference).unwrap_or_default();
    page.hop("issuer-2", "sends the code to its cardholder");
    let guess = if code.starts_with('0') { "100000" } else { "000000" };
    let refused = stage.ask(&stage.provisioner.prove(token.reference, &guessed, guess)).await?;
    page.check(refused.status == 422, "a code that was guessed is refused, and a try is gone");
    let good = stage.call(&stage.provisioner.prove(token.reference, &typed, &code)).await?;
    page.check(good.status == "active", "with the right one the token is good");
    Ok(())
}

/// Nobody taps: the wallet gets a cryptogram for one payment in a shop's app.
async fn in_app(stage: &mut Stage, cast: &Cast, page: &Page) -> Result<(), Failure> {
    page.step(7, "The wallet pays in an app: EUR 19.99");
    let (made, euro) = (stage.request_id(), Currency::from_letters("EUR"));
    let amount = Amount::new(1_999, euro.ok_or_else(|| Failure::new("no euro"))?);
    let call =
        stage.provisioner.cryptogram(cast.reference, &made, stage.shop()?, amount, Initiator::Customer);
    let answer = stage.ask(&call).await?;
    let remote = stage.provisioner.read_cryptogram(answer.status, &answer.body);
    let remote = remote.map_err(|error| Failure::new(error.to_string()))?;
    page.hop(
        "wallet",
        "POST .../cryptograms: for this shop, this amount, this currency; its number is taken",
    );
    let paid = pay(cast, 1_999, IN_APP, Some(remote.into())).await?;
    page.hop("acquirer", "0200 with DE 22 = 810, the token in DE 2, the cryptogram in 63.TK.0E");
    page.check(
        code_of(&paid) == "00",
        "approved; the issuer hears that the cryptogram was true, and never sees it",
    );
    let again = pay(cast, 1_999, IN_APP, Some(remote.into())).await?;
    page.check(
        code_of(&again) == "59",
        &format!("paid with again: declined with DE 39 = {}", code_of(&again)),
    );
    Ok(())
}

/// Pays, and waits for the answer.
async fn pay(
    cast: &Cast,
    minor: u64,
    entry_mode: &[u8],
    remote: Option<RemotePayment>,
) -> Result<BookEntry, Failure> {
    let currency = Currency::from_letters("EUR").ok_or_else(|| Failure::new("no euro"))?;
    let payment = purchase(Amount::new(minor, currency), PosEntryMode::parse(entry_mode)?, remote)?;
    pay_at(&cast.acquirer, payment, PATIENCE_MS).await
}

fn code_of(entry: &BookEntry) -> String {
    entry.answer.map(|answer| answer.code.to_string()).unwrap_or_else(|| "none".to_owned())
}

/// Begins to keep what both sides receive.
fn listen_in(stage: &Stage, cast: &Cast) {
    cast.acquirer.keep_messages();
    for issuer in stage.issuers() {
        issuer.keep_messages();
    }
}

/// A message as its receiver shows it, and all of its bytes.
struct HeardMessage {
    rows: Vec<(String, String, String)>,
    elements: Vec<u8>,
}

fn heard_by_acquirer(stage: &Stage, cast: &Cast) -> Option<HeardMessage> {
    let dialect = &stage.config.acquirers.first()?.party.dialect;
    cast.acquirer.kept_messages().iter().find_map(|bytes| heard(dialect, bytes))
}

fn heard_by_issuers(stage: &Stage) -> Option<HeardMessage> {
    let dialects = stage.config.issuers.iter().map(|issuer| &issuer.party.dialect);
    let kept: Vec<_> = stage.issuers().iter().map(Shared::kept_messages).zip(dialects).collect();
    kept.iter().find_map(|(messages, dialect)| messages.iter().find_map(|bytes| heard(dialect, bytes)))
}

/// Network messages are not part of the story.
fn heard(dialect: &Dialect, bytes: &[u8]) -> Option<HeardMessage> {
    let message: Message = decode(dialect, bytes).ok()?;
    if message.mti().class == MessageClass::NetworkManagement {
        return None;
    }
    let rows =
        describe(dialect, &message).rows.into_iter().map(|row| (row.path, row.name, row.shown)).collect();
    Some(HeardMessage { rows, elements: bytes.to_vec() })
}

/// Both messages, element by element, masked.
fn show_both(page: &Page, acquirer: &HeardMessage, issuer: &HeardMessage) {
    let shown = |message: &HeardMessage, path: &str| {
        let row = message.rows.iter().find(|row| row.0 == path);
        row.map(|row| row.2.clone()).unwrap_or_else(|| "-".to_owned())
    };
    let mut paths: Vec<&(String, String, String)> = issuer.rows.iter().collect();
    paths.extend(acquirer.rows.iter().filter(|row| issuer.rows.iter().all(|other| other.0 != row.0)));
    paths.sort_by_key(|row| order_of(&row.0));
    let rows: Vec<_> = paths
        .into_iter()
        .map(|row| (format!("{} {}", row.0, row.1), shown(acquirer, &row.0), shown(issuer, &row.0)))
        .collect();
    page.side_by_side(("the acquirer sees", "the issuer sees"), &rows);
    page.line("");
}

/// The MTI first, then by element.
fn order_of(path: &str) -> (u32, String) {
    let element = path.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (element, path.to_owned())
}

fn receipt(page: &Page, cast: &Cast, entry: &BookEntry) {
    let answer = entry.answer;
    let approval = answer.and_then(|answer| answer.approval).map(|code| code.to_string()).unwrap_or_default();
    let digits = cast.presented.number.digits();
    let last = digits.get(digits.len().saturating_sub(4)..).unwrap_or_default();
    page.say("The receipt prints:");
    page.line(&format!(
        "       {}   CARD ************{}",
        entry.payment.amount,
        String::from_utf8_lossy(last)
    ));
    page.line(&format!("       APPROVAL {approval}   RRN {}   STAN {}", entry.rrn, entry.stan));
    page.line("");
}
