//! Any bytes as DE 55: what is left without the card's tags is still whole, and holds none of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenswitch::codec::{CARD_TAGS, IccData};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(icc) = IccData::parse(bytes) {
        assert_eq!(*icc.without(&[]), *bytes);
        let rest = icc.without(&CARD_TAGS);
        let rest = IccData::parse(&rest).unwrap();
        assert!(CARD_TAGS.iter().all(|tag| rest.get(*tag).is_none()));
    }
});
