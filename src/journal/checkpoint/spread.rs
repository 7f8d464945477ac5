//! One thread reads from a store, several look at what it has read: opening seals takes longer than reading.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;

use super::CheckpointError;

/// How much may wait for each that looks.
const AHEAD: usize = 4;

/// Gives what `read` reads to each of `lookers` in turn, on a thread of its own each. A store that panics over a
/// damaged file is a damaged one.
///
/// # Errors
/// The first looker's that has one, else `read`'s; `Store` when there are no threads to be had.
pub(in crate::journal) fn spread<T: Send, L: Send>(
    read: impl FnOnce(&mut dyn FnMut(T) -> ControlFlow<()>) -> Result<(), CheckpointError> + Send,
    lookers: &mut [L],
    look: impl Fn(&mut L, T) -> Result<(), CheckpointError> + Sync,
) -> Result<(), CheckpointError> {
    let thread = || std::thread::Builder::new().name("checkpoint-read".to_owned());
    let failed = |error: std::io::Error| CheckpointError::store("start a thread")(error);
    let ended = |_| Err(CheckpointError::Damaged("its store could not read it"));
    std::thread::scope(|scope| {
        let (mut lines, mut ends) = (Vec::new(), Vec::new());
        for looker in lookers {
            let (line, waiting) = sync_channel(AHEAD);
            lines.push(line);
            let look = &look;
            let run = move || waiting.into_iter().try_for_each(|some| look(looker, some));
            ends.push(thread().spawn_scoped(scope, run).map_err(failed)?);
        }
        let reader = move || {
            let mut turns = (0..lines.len()).cycle();
            read(&mut |some| {
                let line = turns.next().and_then(|turn| lines.get(turn));
                match line.map(|line| line.send(some)) {
                    Some(Ok(())) => ControlFlow::Continue(()),
                    Some(Err(_)) | None => ControlFlow::Break(()),
                }
            })
        };
        let reader = thread().spawn_scoped(scope, reader).map_err(failed)?;
        let read = reader.join().unwrap_or_else(ended);
        let mut looked = Ok(());
        for end in ends {
            looked = looked.and(end.join().unwrap_or_else(ended));
        }
        looked.and(read)
    })
}
