//! `RouteTable`: which issuer a PAN belongs to, by its longest configured prefix.

use crate::vocab::{Bin, LinkId};

/// How many leading digits a route can look at.
const DEPTH: usize = 12;

/// Prefixes laid out as ranges of twelve-digit numbers that do not overlap, so that a look-up is one binary
/// search however many prefixes nest.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// (first number, issuer or none), sorted; each reaches to the next.
    starts: Vec<(u64, Option<LinkId>)>,
}

impl RouteTable {
    /// Lays the routes out; of two with the same prefix the later one holds.
    #[must_use]
    pub fn new(routes: &[(Bin, LinkId)]) -> Self {
        let mut nested: Vec<(u64, u64, usize, LinkId)> = routes
            .iter()
            .map(|(bin, issuer)| {
                let (first, last) = span(bin);
                (first, last, bin.as_bytes().len(), *issuer)
            })
            .collect();
        nested.sort_by_key(|route| route.2);
        let mut edges: Vec<u64> = nested.iter().flat_map(|route| [route.0, route.1 + 1]).collect();
        edges.sort_unstable();
        edges.dedup();
        let owner = |number: u64| {
            let covers = |route: &&(u64, u64, usize, LinkId)| (route.0..=route.1).contains(&number);
            nested.iter().rfind(covers).map(|route| route.3)
        };
        let mut starts: Vec<(u64, Option<LinkId>)> =
            edges.into_iter().map(|edge| (edge, owner(edge))).collect();
        starts.dedup_by_key(|start| start.1);
        Self { starts }
    }

    /// The issuer of an account number.
    #[must_use]
    pub fn issuer(&self, account: &[u8]) -> Option<LinkId> {
        let number = leading(account)?;
        let after = self.starts.partition_point(|start| start.0 <= number);
        self.starts.get(after.checked_sub(1)?)?.1
    }
}

/// The twelve-digit numbers that begin with `bin`, first and last.
fn span(bin: &Bin) -> (u64, u64) {
    let digits = bin.as_bytes();
    let width = (digits.len()..DEPTH).fold(1_u64, |width, _| width * 10);
    let first = leading(digits).unwrap_or_default();
    (first, first + (width - 1))
}

/// The first twelve digits as a number, filled up with zeros.
fn leading(account: &[u8]) -> Option<u64> {
    let digits = account.iter().chain(std::iter::repeat(&b'0')).take(DEPTH);
    digits
        .copied()
        .try_fold(0_u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, u16)]) -> RouteTable {
        let routes: Vec<_> =
            routes.iter().map(|(bin, id)| (Bin::parse(bin.as_bytes()).unwrap(), LinkId(*id))).collect();
        RouteTable::new(&routes)
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = table(&[("4", 1), ("4761", 2), ("476173", 3), ("4762", 1), ("51", 4)]);
        for (account, issuer) in [
            ("4000000000000000", Some(1)),
            ("4761000000000000", Some(2)),
            ("4761739001010119", Some(3)),
            ("4761749001010119", Some(2)),
            ("4762000000000000", Some(1)),
            ("5199999999999999", Some(4)),
            ("5200000000000000", None),
            ("3999999999999999", None),
        ] {
            assert_eq!(routes.issuer(account.as_bytes()), issuer.map(LinkId), "{account}");
        }
    }

    #[test]
    fn agrees_with_a_plain_search() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let routes: Vec<(Bin, LinkId)> = (0..rng.usize(1..30))
                .map(|id| {
                    let bin: String = (0..rng.usize(1..7)).map(|_| rng.digit(4)).collect();
                    (Bin::parse(bin.as_bytes()).unwrap(), LinkId(u16::try_from(id).unwrap()))
                })
                .collect();
            let table = RouteTable::new(&routes);
            for _ in 0..50 {
                let account: String = (0..16).map(|_| rng.digit(4)).collect();
                let plain = routes
                    .iter()
                    .filter(|(bin, _)| bin.begins(account.as_bytes()))
                    .max_by_key(|(bin, _)| bin.as_bytes().len())
                    .map(|(_, issuer)| *issuer);
                assert_eq!(table.issuer(account.as_bytes()), plain, "{account} in {routes:?}");
            }
        }
    }

    #[test]
    fn no_routes_no_issuer() {
        assert_eq!(table(&[]).issuer(b"4761739001010119"), None);
    }
}
