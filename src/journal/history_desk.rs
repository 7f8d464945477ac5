//! `HistoryDesk`: the thread that looks earlier transactions up on disk for the switch, which waits for nothing.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::checkpoint::{CatchUp, CheckpointError};
use super::history::{Families, HistoryName};
use super::older_history::OlderHistory;
use crate::vocab::TransactionId;

/// Which earlier transactions a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuestion {
    /// The message that asks.
    pub asked: TransactionId,
    pub name: HistoryName,
}

/// The transactions of that name; `None` when the history cannot be read, which is never "there are none".
#[derive(Debug)]
pub struct HistoryAnswer {
    pub asked: TransactionId,
    pub found: Option<Families>,
}

/// Takes questions. When all handles are gone its thread ends.
#[derive(Debug, Clone)]
pub struct HistoryDesk(SyncSender<HistoryQuestion>);

impl HistoryDesk {
    /// Starts the thread. Each question sees all that was durable when it was put: its checkpoint is caught up first.
    /// Of `most` questions that wait each gets one call of `answer`, on the thread, with so many `namesakes` at most.
    /// While the history is far behind, as after a start that rebuilds it, they wait for `patience` and are then
    /// answered that it cannot be read.
    ///
    /// # Errors
    /// `Store` when there is no thread to be had.
    pub fn start(
        history: OlderHistory,
        catch_up: CatchUp,
        (most, namesakes): (usize, usize),
        patience: Duration,
        answer: impl Fn(HistoryAnswer) + Send + 'static,
    ) -> Result<Self, CheckpointError> {
        let (desk, questions) = sync_channel(most);
        let look_up = move || {
            while let Ok(first) = questions.recv() {
                let waiting: Vec<_> = std::iter::once(first).chain(questions.try_iter().take(most)).collect();
                let up_to_date = catch_up.wait(patience);
                for HistoryQuestion { asked, name } in waiting {
                    let found = if up_to_date { found(&history, &name, namesakes) } else { None };
                    answer(HistoryAnswer { asked, found });
                }
            }
        };
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(look_up);
        thread.map_err(CheckpointError::store("start the history's thread"))?;
        Ok(Self(desk))
    }

    /// Puts a question; false when too many wait.
    #[must_use]
    pub fn ask(&self, question: HistoryQuestion) -> bool {
        self.0.try_send(question).is_ok()
    }
}

fn found(history: &OlderHistory, name: &HistoryName, most: usize) -> Option<Families> {
    history
        .families(name, most)
        .map_err(|error| tracing::error!(%error, "the history of transactions cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::super::checkpoint::{Checkpoint, CheckpointKind};
    use super::*;
    use crate::crypto::SecurityModule;
    use crate::vocab::{LinkId, Rrn};

    #[test]
    fn a_question_is_answered_though_the_history_never_catches_up() {
        let directory = tempfile::tempdir().unwrap();
        let keys = SecurityModule::sample().unwrap().journal_keys();
        let opened = Checkpoint::open(CheckpointKind::Redb, directory.path(), &keys).unwrap();
        let history = OlderHistory::of(Arc::new(opened.checkpoint));
        let (told, answers) = channel();
        let answer = move |answer| told.send(answer).unwrap();
        // Nobody ever catches up.
        let patience = Duration::from_millis(1);
        let desk = HistoryDesk::start(history, CatchUp::default(), (2, 2), patience, answer).unwrap();
        for number in 1..4 {
            let name = HistoryName::Rrn { link: LinkId(1), rrn: Rrn::parse(b"632700000001").unwrap() };
            assert!(desk.ask(HistoryQuestion { asked: TransactionId(number), name }));
            let answer = answers.recv().unwrap();
            assert!(answer.asked == TransactionId(number) && answer.found.is_none(), "{answer:?}");
        }
    }
}
