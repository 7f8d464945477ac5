//! `Connection`: the read and write loops of one connection, both in one task.
//!
//! Reading cuts all the frames that a read brought and hands them over in one go. Writing is tried at once when
//! the switch asks for it, after each of its batches, so that many messages leave in one call; what the socket
//! does not take waits, bounded, until it does.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::config::ConnectionLimits;
use super::event::{CloseReason, ConnectionId, LinkEvent};
use super::metrics::{LinkMetrics, gauge};
use super::output::Output;
use super::shared::Shared;
use super::transport::{Transport, is_tls_hello};
use crate::codec::{FrameError, FrameFormat, FrameReader};
use crate::stdx::clock::Moment;
use crate::vocab::LinkId;

/// Reads in one turn before the other connections have theirs.
const READS_PER_TURN: usize = 8;

/// One connection.
pub(super) struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    limits: ConnectionLimits,
    metrics: Rc<LinkMetrics>,
    state: RefCell<State>,
    /// Whether output was added since it was last flushed.
    touched: Cell<bool>,
}

struct State {
    transport: Transport,
    reader: FrameReader,
    output: Output,
    task: Option<Waker>,
    ending: Option<Ending>,
    /// Whether any byte came in yet.
    heard: bool,
    /// What the reader's count of keepalives was when the last frame ended.
    keepalives: u64,
    opened: Moment,
    /// Since when a frame is unfinished.
    frame_since: Option<Moment>,
    /// Since when output waits and none of it was taken.
    stalled_since: Option<Moment>,
}

#[derive(Clone, Copy)]
struct Ending {
    reason: CloseReason,
    /// Whether what waits may still leave.
    flush: bool,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        peer: SocketAddr,
        transport: Transport,
        framing: FrameFormat,
        limits: ConnectionLimits,
        metrics: Rc<LinkMetrics>,
        now: Moment,
    ) -> Self {
        let state = State {
            transport,
            reader: FrameReader::new(framing),
            output: Output::new(limits.output_bytes),
            task: None,
            ending: None,
            heard: false,
            keepalives: 0,
            opened: now,
            frame_since: None,
            stalled_since: None,
        };
        Self { id, peer, limits, metrics, state: RefCell::new(state), touched: Cell::new(false) }
    }

    /// Reads and writes until the connection ends, and tells the switch of both its ends.
    pub(super) async fn serve(self: Rc<Self>, link: LinkId, shared: &Shared) {
        let Self { id: connection, peer, metrics, .. } = &*self;
        let (connection, peer) = (*connection, *peer);
        shared.connections.borrow_mut().insert(connection, Rc::clone(&self));
        metrics.opened.inc();
        metrics.connections.inc();
        tracing::info!(link = metrics.name, %connection, %peer, "connection opened");
        shared.push(LinkEvent::Opened { connection, link, peer });

        let reason = std::future::poll_fn(|cx| self.poll(cx, shared)).await;

        shared.connections.borrow_mut().remove(&connection);
        let (begun, waiting) = {
            let output = &self.state.borrow().output;
            (output.begun(), output.waiting().len())
        };
        metrics.output_waiting.dec_by(gauge(waiting));
        metrics.connections.dec();
        metrics.closed(reason);
        tracing::info!(link = metrics.name, %connection, %peer, %reason, "connection closed");
        shared.push(LinkEvent::Closed { connection, reason, begun });
    }

    /// Adds output. `true` when it is the first since the last flush: the caller is to `flush`.
    pub(super) fn write(&self, bytes: &[u8]) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.ending.is_some() {
            return false;
        }
        if state.output.push(bytes).is_err() {
            state.end(Ending { reason: CloseReason::OutputFull, flush: false });
            return false;
        }
        self.metrics.output_waiting.inc_by(gauge(bytes.len()));
        !self.touched.replace(true)
    }

    /// Tries to hand all output to the socket; the task goes on with what is left.
    pub(super) fn flush(&self, shared: &Shared) {
        self.touched.set(false);
        let state = &mut *self.state.borrow_mut();
        // Output that waits already is the task's, which the socket wakes.
        if state.stalled_since.is_some() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_output(&mut cx, state, shared) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(reason)) => state.end(Ending { reason, flush: false }),
            Poll::Pending => state.wake(),
        }
    }

    /// Ends it once what waits has left, which `output_stall` bounds.
    pub(super) fn close(&self, reason: CloseReason, shared: &Shared) {
        let state = &mut *self.state.borrow_mut();
        state.stalled_since.get_or_insert_with(|| shared.now());
        state.end(Ending { reason, flush: true });
    }

    /// Ends it at once.
    pub(super) fn abort(&self, reason: CloseReason) {
        self.state.borrow_mut().end(Ending { reason, flush: false });
    }

    /// Ends it if it has kept us waiting for longer than it may.
    pub(super) fn check_deadlines(&self, now: Moment) {
        let state = &mut *self.state.borrow_mut();
        let limits = &self.limits;
        let over = |since: Moment, limit| now.since(since) >= limit;
        let reason = if state.stalled_since.is_some_and(|since| over(since, limits.output_stall)) {
            // A reason that was given before is the true one.
            state.ending.map_or(CloseReason::OutputStalled, |ending| ending.reason)
        } else if state.ending.is_some() {
            return;
        } else if state.frame_since.is_some_and(|since| over(since, limits.frame)) {
            CloseReason::FrameTooSlow
        } else if !state.heard && limits.first_byte.is_some_and(|limit| over(state.opened, limit)) {
            CloseReason::NothingSent
        } else {
            return;
        };
        state.ending = None;
        state.end(Ending { reason, flush: false });
    }

    fn poll(&self, cx: &mut Context<'_>, shared: &Shared) -> Poll<CloseReason> {
        let state = &mut *self.state.borrow_mut();
        if state.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        match state.ending {
            Some(Ending { reason, flush: false }) => return Poll::Ready(reason),
            Some(Ending { reason, flush: true }) => return self.poll_end(cx, state, shared).map(|()| reason),
            None => {}
        }
        if let Poll::Ready(Err(reason)) = self.poll_output(cx, state, shared) {
            return Poll::Ready(reason);
        }
        self.poll_input(cx, state, shared)
    }

    /// Writes what waits, then says goodbye. A fault on the way out changes nothing.
    fn poll_end(&self, cx: &mut Context<'_>, state: &mut State, shared: &Shared) -> Poll<()> {
        match self.poll_output(cx, state, shared) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) => {
                state.stalled_since.get_or_insert_with(|| shared.now());
                Pin::new(&mut state.transport).poll_shutdown(cx).map(|_| ())
            }
        }
    }

    /// Hands output to the socket until there is none or it takes no more. What TLS holds is with the socket before more
    /// is given to it: else a peer could have read what does not count as handed over yet.
    fn poll_output(
        &self,
        cx: &mut Context<'_>,
        state: &mut State,
        shared: &Shared,
    ) -> Poll<Result<(), CloseReason>> {
        let State { transport, output, .. } = state;
        let mut pending = false;
        while !pending {
            if !output.is_flushed() {
                match Pin::new(&mut *transport).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.report_written(output, shared),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(CloseReason::of(&error))),
                    Poll::Pending => pending = true,
                }
            } else if output.is_empty() {
                break;
            } else {
                match transport.poll_begin(cx, output.waiting()) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(CloseReason::ConnectionLost)),
                    Poll::Ready(Ok(count)) => {
                        output.took(count);
                        self.metrics.output_waiting.dec_by(gauge(count));
                        state.stalled_since = None;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(CloseReason::of(&error))),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            state.stalled_since.get_or_insert_with(|| shared.now());
            return Poll::Pending;
        }
        if state.ending.is_none() {
            state.stalled_since = None;
        }
        Poll::Ready(Ok(()))
    }

    fn report_written(&self, output: &mut Output, shared: &Shared) {
        let before = output.handed();
        if output.flushed() {
            self.metrics.bytes_sent.inc_by(output.handed() - before);
            shared.push(LinkEvent::Written { connection: self.id, total: output.handed() });
        }
    }

    /// Reads until the socket has no more, the switch has no room, or it is the turn of others.
    fn poll_input(&self, cx: &mut Context<'_>, state: &mut State, shared: &Shared) -> Poll<CloseReason> {
        for _ in 0..READS_PER_TURN {
            if !shared.has_room() {
                shared.wait_for_room(cx.waker());
                return Poll::Pending;
            }
            let State { transport, reader, .. } = state;
            let mut buffer = ReadBuf::new(reader.spare());
            match Pin::new(&mut *transport).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(CloseReason::of(&error)),
                Poll::Ready(Ok(())) => {}
            }
            let came = buffer.filled().len();
            let hello = !state.heard && transport.is_plain() && is_tls_hello(buffer.filled());
            if came == 0 {
                let partial = reader.is_partial();
                return Poll::Ready(if partial {
                    CloseReason::PeerClosedInFrame
                } else {
                    CloseReason::PeerClosed
                });
            }
            if hello {
                return Poll::Ready(CloseReason::TlsOnPlainPort);
            }
            state.heard = true;
            if let Err(reason) = self.cut_frames(state, came, shared) {
                return Poll::Ready(reason);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands over the frames that `came` new bytes complete.
    fn cut_frames(&self, state: &mut State, came: usize, shared: &Shared) -> Result<(), CloseReason> {
        let State { reader, .. } = state;
        reader.filled(came);
        let keepalives_before = reader.keepalives();
        let frames = shared.push_frames(|inbox| {
            let mut frames = 0_u64;
            while let Some(frame) = reader.next().map_err(framing_reason)? {
                inbox.push_frame(self.id, frame.header, frame.message);
                frames += 1;
            }
            Ok::<_, CloseReason>(frames)
        })?;
        self.metrics.bytes_received.inc_by(u64::try_from(came).unwrap_or(u64::MAX));
        self.metrics.frames.inc_by(frames);
        let keepalives = reader.keepalives();
        if keepalives > keepalives_before {
            self.metrics.keepalives.inc_by(keepalives - keepalives_before);
        }
        if frames > 0 {
            state.keepalives = keepalives;
        }
        if keepalives - state.keepalives > u64::from(self.limits.keepalives) {
            return Err(CloseReason::KeepaliveFlood);
        }
        if frames > 0 || keepalives > keepalives_before || !reader.is_partial() {
            state.frame_since = None;
        }
        if reader.is_partial() {
            state.frame_since.get_or_insert_with(|| shared.now());
        }
        Ok(())
    }
}

impl State {
    /// The first reason stands; the task does the rest.
    fn end(&mut self, ending: Ending) {
        if self.ending.is_none_or(|before| before.flush && !ending.flush) {
            let reason = self.ending.map_or(ending.reason, |before| before.reason);
            self.ending = Some(Ending { reason, ..ending });
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }
}

fn framing_reason(error: FrameError) -> CloseReason {
    match error {
        FrameError::LengthNotANumber => CloseReason::LengthMalformed,
        FrameError::Length { length, most, .. } if length > most => CloseReason::FrameTooLong,
        FrameError::Length { .. } => CloseReason::FrameTooShort,
    }
}
