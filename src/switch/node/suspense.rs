//! What stands in suspense, summed up now and then: adding it up for each picture would cost more than the picture.

use std::time::Duration;

use crate::stdx::clock::{Moment, Now, Wall};

use super::super::core::SwitchCore;
use super::super::status::Suspense;
use super::story::Story;

/// How often it is summed up.
const EVERY: Duration = Duration::from_secs(1);

/// The sums, and when they are made next.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) sums: Vec<Suspense>,
    due: Moment,
    seen: Wall,
}

impl Sums {
    /// Sums it up where that is due, and tells what has become over age since.
    pub(super) fn look(&mut self, core: &SwitchCore, story: &mut Story, now: Now) {
        if self.due > now.moment {
            return;
        }
        self.sums = core.suspense(now.wall);
        core.stored().came_of_age(self.seen, now.wall).for_each(|item| story.came_of_age(&item.entry));
        (self.due, self.seen) = (now.moment.plus(EVERY), now.wall);
    }
}
