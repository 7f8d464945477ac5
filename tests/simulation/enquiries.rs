//! Enquiries: an issuer is asked whether its card may have a token. Nothing moves by it, so that it is sent once or
//! not at all, and whoever asked hears of every end.

use std::time::Duration;

use tokenswitch::codec::{DataElement, Message, TokenData, TokenRequestData};
use tokenswitch::link::ConnectionId;
use tokenswitch::switch::AskedEnquiry;
use tokenswitch::tsp::{CallId, CardData, CardWord, Enquiry, EnquiryReply, IssuerWord};
use tokenswitch::vocab::{
    Contact, ContactKind, Contacts, EnquiryId, Par, Recommendation, RiskHints, Text, TokenLocation,
};
use tokio::sync::mpsc::{Receiver, channel};

use crate::desk::{Desk, answer_to, get, set};
use crate::house::Crash;
use crate::setting::{ISSUERS, dialect_of, requestor_id};

const ENQUIRY: EnquiryId = EnquiryId([7; 8]);

/// What the TSP is told, once something is.
struct Told(Receiver<(CallId, IssuerWord)>);

impl Told {
    fn word(&mut self) -> Option<IssuerWord> {
        self.0.try_recv().ok().map(|(call, word)| {
            assert_eq!(call, CallId(5));
            word
        })
    }
}

fn contacts() -> Contacts {
    let mut contacts = Contacts::default();
    let shown = Text::parse("contact", b"+46 ** *** 12 34").expect("short");
    contacts.add(Contact { number: 1, kind: ContactKind::TextMessage, shown });
    contacts
}

/// What the issuer knows of the card.
fn known() -> CardWord {
    CardWord { contacts: contacts(), par: Par::parse(b"V0010013020315513942420893974").ok() }
}

/// The TSP asks about the card behind the desk's token.
fn ask(desk: &mut Desk) -> Told {
    let (sender, receiver) = channel(1);
    let card = CardData { pan: desk.behind.pan.clone(), expiry: Some(desk.behind.expiry), sequence: None };
    let hints = RiskHints { recommendation: Some(Recommendation::StepUp), ..RiskHints::default() };
    let enquiry = Enquiry {
        id: ENQUIRY,
        card,
        requestor: requestor_id(),
        location: TokenLocation::DeviceStorage,
        hints,
    };
    desk.house.node.enquire(AskedEnquiry { enquiry, reply: EnquiryReply::new(CallId(5), sender) });
    desk.settle();
    Told(receiver)
}

/// An enquiry that has left, as the issuer sees it.
fn asked() -> (Desk, Told, ConnectionId, Message) {
    let mut desk = Desk::open();
    let told = ask(&mut desk);
    let (connection, message) = desk.asked();
    (desk, told, connection, message)
}

/// With a code, contacts and the card's payment account reference.
fn answer(asked: &Message, code: &str, CardWord { contacts, par }: CardWord) -> Message {
    let mut answer = answer_to(asked, code);
    let dialect = dialect_of(ISSUERS[0]);
    dialect.set_token_data(&mut answer, &TokenData { par, ..TokenData::default() }).expect("it fits");
    let places = *dialect.token_request().expect("every shipped dialect has it");
    let data = TokenRequestData { contacts, ..TokenRequestData::default() };
    places.write(&mut answer, &data).expect("it fits");
    answer
}

#[test]
fn the_question_says_what_it_is_and_moves_nothing() {
    let (desk, _, _, message) = asked();
    let pan = String::from_utf8_lossy(desk.behind.pan.expose_digits()).into_owned();
    for (number, value) in [(2, pan.as_str()), (3, "330000"), (4, "000000000000"), (49, "999")] {
        assert_eq!(get(&message, number), value, "DE {number}");
    }
    assert_eq!(message.mti().to_string(), "0100");
    let dialect = dialect_of(ISSUERS[0]);
    let said = dialect.token_request().expect("there").read(&message).expect("readable");
    assert_eq!((said.indicator, said.enquiry), (true, Some(ENQUIRY)));
    assert_eq!(said.hints.recommendation, Some(Recommendation::StepUp));
    let data = dialect.token_data(&message).expect("readable");
    assert_eq!((data.requestor, data.token), (Some(requestor_id()), None));
}

#[test]
fn every_code_of_an_issuer_is_a_word_of_it() {
    let told = known();
    for (code, word) in [
        ("00", IssuerWord::Approved(told)),
        ("85", IssuerWord::StepUp(told)),
        ("05", IssuerWord::Declined),
        ("Z9", IssuerWord::Declined),
        ("91", IssuerWord::Silent),
    ] {
        let (mut desk, mut told, connection, message) = asked();
        desk.send(connection, &answer(&message, code, known()));
        assert_eq!(told.word(), Some(word), "{code}");
        desk.pass(Duration::from_secs(60));
        assert!(desk.sent_to_issuers().is_empty(), "{code}: asked once, nothing to reverse");
    }
}

#[test]
fn it_leaves_only_once_its_entry_is_durable() {
    let mut desk = Desk::open();
    desk.syncs = false;
    let mut told = ask(&mut desk);
    assert!(desk.sent_to_issuers().is_empty());
    desk.syncs = true;
    desk.sync();
    assert_eq!(desk.asked().1.mti().to_string(), "0100");
    assert_eq!(told.word(), None);
}

#[test]
fn without_an_answer_in_time_it_is_over_and_a_late_one_is_nobodys() {
    let (mut desk, mut told, connection, message) = asked();
    desk.pass(Duration::from_secs(60));
    assert_eq!(told.word(), Some(IssuerWord::Silent));
    assert!(desk.sent_to_issuers().is_empty(), "never sent again, never reversed");
    let before = desk.house.node.core().counts().unmatched;
    desk.send(connection, &answer(&message, "00", known()));
    assert_eq!(desk.house.node.core().counts().unmatched, before + 1);
    assert_eq!(told.word(), None);
}

#[test]
fn a_lost_connection_and_an_answer_that_cannot_be_are_silence() {
    let (mut desk, mut told, connection, _) = asked();
    desk.cut(connection, None);
    assert_eq!(told.word(), Some(IssuerWord::Silent));
    assert!(desk.sent_to_issuers().is_empty());

    let (mut desk, mut told, connection, message) = asked();
    let mut money = answer(&message, "00", known());
    set(&mut money, &[(4, "000000000100"), (49, "978")]);
    desk.send(connection, &money);
    assert_eq!(told.word(), Some(IssuerWord::Silent));

    let (mut desk, mut told, connection, message) = asked();
    let mut other = answer(&message, "00", known());
    set(&mut other, &[(7, "1122000000")]);
    desk.send(connection, &other);
    assert_eq!(told.word(), None, "not to this question");
}

#[test]
fn who_is_down_or_unknown_cannot_be_asked() {
    let mut desk = Desk::open();
    desk.behind = desk.card.clone();
    desk.behind.pan = tokenswitch::vocab::Pan::parse(b"3530111333300000").expect("digits");
    assert_eq!(ask(&mut desk).word(), Some(IssuerWord::Silent));
    desk.house.node.drain();
    let mut desk = Desk::open();
    desk.house.node.drain();
    assert_eq!(ask(&mut desk).word(), Some(IssuerWord::Silent));
}

#[test]
fn after_a_crash_it_is_forgotten_and_its_number_is_not_used_again() {
    let (desk, mut told, _, message) = asked();
    let mut desk = desk.restart(Crash::Unsynced);
    assert_eq!(told.word(), Some(IssuerWord::Silent), "who asked has no answer and may ask again");
    desk.sent_to_issuers();
    desk.pass(Duration::from_secs(30));
    assert!(desk.sent_to_issuers().is_empty(), "nothing is owed for it");
    ask(&mut desk);
    let (_, again) = desk.asked();
    assert_ne!(get(&again, DataElement::STAN.number()), get(&message, DataElement::STAN.number()));
}
