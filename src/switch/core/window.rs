//! Settlement windows: the one that requests are stamped with, and those that wait for the outcomes of theirs.

use std::collections::BTreeMap;

use crate::stdx::clock::Now;
use crate::stdx::sabotage::sabotaged;
use crate::vocab::SettlementWindow;

use super::super::event::Action;
use super::SwitchCore;

/// Windows that are not closed, each with how many of its requests have no outcome.
#[derive(Debug)]
pub(super) struct Windows {
    current: SettlementWindow,
    open: u64,
    /// Whether anything was stamped with it, or it was moved to: only then there is something to close.
    begun: bool,
    older: BTreeMap<SettlementWindow, u64>,
}

impl Windows {
    #[must_use]
    pub(super) fn new(current: SettlementWindow) -> Self {
        Self { current, open: 0, begun: false, older: BTreeMap::new() }
    }

    /// The window that requests are stamped with now.
    #[must_use]
    pub(super) fn current(&self) -> SettlementWindow {
        self.current
    }

    /// Windows before the current one that are not closed.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.older.len()
    }

    /// Requests are stamped with this one from now on.
    pub(super) fn move_to(&mut self, window: SettlementWindow) {
        if window != self.current {
            if self.begun {
                self.older.insert(self.current, self.open);
            }
            self.open = self.older.remove(&window).unwrap_or_default();
            self.current = window;
        }
        self.begun = true;
    }

    /// A request was stamped with it, and is journaled.
    pub(super) fn stamped(&mut self, window: SettlementWindow) {
        if window == self.current {
            self.open += 1;
            self.begun = true;
        } else {
            *self.older.entry(window).or_default() += 1;
        }
    }

    /// A request that was stamped with it has its outcome.
    pub(super) fn settled(&mut self, window: SettlementWindow) {
        let open = if window == self.current { Some(&mut self.open) } else { self.older.get_mut(&window) };
        if let Some(open) = open {
            *open = open.saturating_sub(1);
        }
    }

    /// The oldest, if it can be closed: it is, then.
    fn close_next(&mut self) -> Option<SettlementWindow> {
        let (window, open) = self.older.first_key_value()?;
        let done = *window < self.current && *open == 0;
        if done { self.older.pop_first().map(|(window, _)| window) } else { None }
    }
}

impl SwitchCore {
    /// The window in which requests count from now on, and the end of those that are over.
    pub(super) fn move_windows(&mut self, now: Now, actions: &mut Vec<Action>) {
        let window = self.config.window(now.wall);
        if window.date > self.windows.current().date {
            self.windows.move_to(window);
            actions.push(Action::CutOver(window));
        }
        self.close_windows(actions);
    }

    /// Closes each window that is over and whose requests all have their outcome.
    pub(super) fn close_windows(&mut self, actions: &mut Vec<Action>) {
        while let Some(window) = self.windows.close_next() {
            actions.push(Action::CloseWindow(window));
        }
    }

    /// Begun before a restart and not closed; the oldest comes first.
    pub(in super::super) fn recall_window(&mut self, window: SettlementWindow) {
        let is_next = !self.windows.begun || window > self.windows.current();
        if is_next && !sabotaged("window-opens-again") {
            self.windows.move_to(window);
        }
    }

    /// A request of it has no outcome.
    pub(in super::super) fn recall_open(&mut self, window: SettlementWindow) {
        self.windows.stamped(window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::BusinessDate;

    fn window(day: u8) -> SettlementWindow {
        SettlementWindow { date: BusinessDate { year: 2026, month: 11, day }, sequence: 1 }
    }

    #[test]
    fn a_window_closes_once_it_is_over_and_all_of_it_has_its_outcome() {
        let mut windows = Windows::new(window(1));
        windows.stamped(window(1));
        windows.stamped(window(1));
        windows.settled(window(1));
        assert_eq!(windows.close_next(), None, "it is not over");
        windows.move_to(window(2));
        windows.stamped(window(2));
        assert_eq!((windows.close_next(), windows.waiting()), (None, 1), "one has no outcome");
        windows.settled(window(1));
        assert_eq!(windows.close_next(), Some(window(1)));
        assert_eq!(windows.close_next(), None, "once");
    }

    #[test]
    fn the_oldest_closes_first() {
        let mut windows = Windows::new(window(1));
        windows.stamped(window(1));
        windows.move_to(window(2));
        windows.move_to(window(3));
        assert_eq!(windows.close_next(), None);
        windows.settled(window(1));
        assert_eq!([windows.close_next(), windows.close_next()], [Some(window(1)), Some(window(2))]);
    }
}
