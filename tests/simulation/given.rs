//! What a token's holder was given to pay with, as the smallest model has it: cryptograms for payments in apps, and
//! keys. It foretells which of them are good for what, and knows nothing of how the vault decides.

use std::sync::OnceLock;

use tokenswitch::crypto::MessageKeys;
use tokenswitch::journal::{Entry, RequestEntry};
use tokenswitch::stdx::clock::Wall;
use tokenswitch::tsp::{DevicePoint, KeyKind, KeyView, LimitedKey, ProvisioningRefusal as Refusal};
use tokenswitch::vocab::{
    Amount, AtcRange, CounterSeries, Currency, MerchantId, RemoteCryptogram, Service, VerdictResult,
};

use crate::setting::{ACQUIRERS, LIMITED_KEY_MILLIS, tsp_config};

/// For how many payments a key is, and how many are good at once.
const PAYMENTS: u16 = 4;
const GOOD_MOST: usize = 4;

/// The order that a cryptogram is to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) token: usize,
    pub(crate) acquirer: usize,
    /// Its place among the shops, and its number there.
    pub(crate) shop: usize,
    pub(crate) merchant: MerchantId,
    pub(crate) minor: u64,
}

impl Order {
    pub(crate) fn amount(&self) -> Amount {
        Amount::new(self.minor, Currency::from_letters("EUR").expect("known"))
    }
}

/// A cryptogram as its holder knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) order: Order,
    pub(crate) cryptogram: RemoteCryptogram,
}

/// Which keys are wanted, and for which of the wallets' devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyFor {
    pub(crate) kind: KeyKind,
    pub(crate) device: usize,
}

/// What was given of a token's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// For whom the first was, and of which kind: those that follow are as it.
    first: Option<KeyFor>,
    last: u16,
    good: Vec<LimitedKey>,
}

impl Keys {
    /// The card's own, or the next limited one; one device has them all, and all of one kind.
    pub(crate) fn give(&mut self, wanted: KeyFor, at: Wall) -> Result<Option<LimitedKey>, Refusal> {
        let first = *self.first.get_or_insert(wanted);
        if first.device != wanted.device {
            return Err(Refusal::DeviceDiffers);
        }
        match (first.kind == wanted.kind, wanted.kind) {
            (false, _) => Err(Refusal::OtherKeysGiven),
            (true, KeyKind::Card) => Ok(None),
            (true, KeyKind::Limited) => Ok(Some(self.limited(at))),
        }
    }

    fn limited(&mut self, at: Wall) -> LimitedKey {
        let range = AtcRange { first: self.last + 1, last: self.last + PAYMENTS };
        let key = LimitedKey { range, until: Wall(at.0 + LIMITED_KEY_MILLIS) };
        self.last = range.last;
        self.good.push(key);
        if self.good.len() > GOOD_MOST {
            self.good.remove(0);
        }
        key
    }

    /// Whether its phone has a key, and none that is good any more.
    pub(crate) fn are_taken_back(&self) -> bool {
        self.last > 0 && self.good.is_empty()
    }

    /// Its token is held, or gone.
    pub(crate) fn take_back(&mut self) {
        self.good.clear();
    }

    /// Whether a payment that was judged then was allowed what it took.
    pub(crate) fn allow(&self, series: CounterSeries, atc: u16, at: Wall) -> bool {
        match series {
            CounterSeries::Chip => self.last == 0,
            CounterSeries::Limited => self.good.iter().any(|key| key.range.contains(atc) && at < key.until),
            CounterSeries::Remote => true,
        }
    }
}

/// The devices of all wallets.
pub(crate) fn device(at: usize) -> DevicePoint {
    static DEVICES: OnceLock<[DevicePoint; 2]> = OnceLock::new();
    let device = |byte: u8| {
        let keys = MessageKeys::of_device(&[byte; 32]).expect("a number below the curve's");
        keys.newest().expect("its own").point()
    };
    DEVICES.get_or_init(|| [device(9), device(10)])[at]
}

/// Until when a cryptogram is good that is made now; it says whole seconds.
pub(crate) fn cryptogram_until(at: Wall) -> Wall {
    let until = at.plus(tsp_config().cryptogram_lifetime);
    Wall(until.0 - until.0 % 1_000)
}

/// Whether the key that came is the one that was to come.
pub(crate) fn is_key(view: &KeyView, (wanted, limited): (KeyFor, Option<LimitedKey>)) -> bool {
    view.key.limited == limited && view.device == device(wanted.device)
}

impl Made {
    /// What is foretold of a payment that is forwarded with it: it is the one that it was made for, in time, and its
    /// issuer hears that the cryptogram is true.
    pub(crate) fn pays(&self, entry: &Entry, request: &RequestEntry) -> bool {
        let Order { acquirer, merchant, minor, .. } = &self.order;
        let shop = request.elements.get(42).unwrap_or_default().trim_ascii_end();
        let amount = request.elements.amount();
        let same = amount.is_some_and(|amount| {
            amount.minor() <= *minor && amount.currency() == self.order.amount().currency()
        });
        let good = Some(VerdictResult::Good);
        same && shop == merchant.as_bytes().trim_ascii_end()
            && request.acquirer.link == ACQUIRERS[*acquirer]
            && entry.wall_time < self.cryptogram.until()
            && request.verdicts.of(Service::Cryptogram) == good
            && request.verdicts.of(Service::ChipAmount) == good
    }
}
