//! The thread that owns `Tsp`: hands it what was asked, submits its events to the log, and has them applied and
//! answered in entry order once they are durable.

use std::collections::VecDeque;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::stdx::clock::{Clock, Now, Wall};
use crate::stdx::maps::Map;
use crate::stdx::random::Entropy;
use crate::stdx::sabotage::step;

use super::approval::{EnquiryReply, IssuerWord};
use super::command::{Action, Answer, CallId, Command};
use super::error::{ProvisioningRefusal, TspError};
use super::log::{LogPosition, LogRefusal, LogState, LogWatch, TokenLog};
use super::metrics::Metrics;
use super::service::{Call, Ports, Question};
use super::tsp::Tsp;

/// How often it is looked at what has run out.
const LOOK: Duration = Duration::from_secs(1);

/// How many calls are decided in one step, so that a burst is one entry group and not a hundred.
const BATCH: usize = 256;

pub(super) struct Writer<L> {
    tsp: Tsp,
    log: L,
    watch: LogWatch,
    clock: Clock,
    entropy: Entropy,
    calls: mpsc::Receiver<Call>,
    replies: Map<CallId, oneshot::Sender<Answer>>,
    next_call: u64,
    /// Of events that were submitted and not yet applied, the oldest first.
    submitted: VecDeque<LogPosition>,
    most_submitted: usize,
    metrics: Metrics,
    ports: Ports,
    /// What issuers said, and the way there for each that is asked.
    words: mpsc::Receiver<(CallId, IssuerWord)>,
    words_to: mpsc::Sender<(CallId, IssuerWord)>,
    /// How many are being asked.
    asking: usize,
    /// Rises when there may be something new to tell receivers.
    news: watch::Sender<u64>,
}

/// The running thread.
#[derive(Debug)]
pub struct WriterThread(JoinHandle<()>);

impl WriterThread {
    /// Waits for the end: after the last `TokenService` is gone and all that it asked was answered.
    pub fn join(self) {
        // A panic in the thread was reported where it happened; whoever waited for an answer heard `Unavailable`.
        let _ = self.0.join();
    }
}

impl<L: TokenLog> Writer<L> {
    pub(super) fn new(
        tsp: Tsp,
        log: L,
        clock: Clock,
        entropy: Entropy,
        calls: mpsc::Receiver<Call>,
        metrics: Metrics,
        (ports, news): (Ports, watch::Sender<u64>),
    ) -> Self {
        let most_submitted = tsp.limits().waiting_calls;
        let (words_to, words) = mpsc::channel(tsp.limits().waiting_enquiries.max(1));
        Self {
            tsp,
            watch: log.watch(),
            log,
            clock,
            entropy,
            calls,
            replies: Map::default(),
            next_call: 0,
            submitted: VecDeque::new(),
            most_submitted,
            metrics,
            ports,
            words,
            words_to,
            asking: 0,
            news,
        }
    }

    pub(super) fn spawn(self) -> Result<WriterThread, TspError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let run = move || runtime.block_on(self.run());
        Ok(WriterThread(std::thread::Builder::new().name("vault".to_owned()).spawn(run)?))
    }

    /// Until nobody can ask any more and nothing waits.
    async fn run(mut self) {
        let (mut batch, mut asked) = (Vec::new(), true);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.next_call += 1;
        self.apply(Command::Adopt { call: CallId(self.next_call) });
        while asked || !self.submitted.is_empty() || self.asking > 0 {
            let room = self.most_submitted.saturating_sub(self.submitted.len()).min(BATCH);
            tokio::select! {
                biased;
                // Looked at only when something waits: the journal's other entries do not wake this thread.
                state = self.watch.changed(), if !self.submitted.is_empty() => self.log_is(state),
                Some((call, word)) = self.words.recv(), if self.asking > 0 => {
                    step("issuer-heard");
                    self.asking -= 1;
                    self.apply(Command::IssuerAnswered { call, word });
                }
                count = self.calls.recv_many(&mut batch, room), if asked && room > 0 => {
                    asked = count > 0;
                    self.metrics.waiting(self.calls.len());
                    self.decide(&mut batch);
                }
                _ = looks.tick(), if asked && room > 0 && self.log.has_room() => {
                    self.next_call += 1;
                    self.apply(Command::GiveUpOverdue { call: CallId(self.next_call) });
                }
            }
            self.metrics.undurable(self.submitted.len());
            self.metrics.filled(self.tsp.fill());
            let events = self.tsp.events();
            self.news.send_if_modified(|seen| std::mem::replace(seen, events) != events);
        }
    }

    fn decide(&mut self, batch: &mut Vec<Call>) {
        let now = self.clock.now();
        let mut actions = Vec::new();
        let room = self.log.has_room();
        for Call { question, reply } in batch.drain(..) {
            step("asked");
            if !room && matches!(question, Question::Provision(_) | Question::ProvisionFrom(_)) {
                let _ = reply.send(Err(ProvisioningRefusal::Overloaded));
                continue;
            }
            self.next_call += 1;
            let call = CallId(self.next_call);
            self.replies.insert(call, reply);
            let command = match question {
                Question::Provision(wanted) => Command::Wanted { call, wanted },
                Question::ProvisionFrom(request) => Command::ProvisionFrom { call, request },
                Question::Move(request) => Command::Move { call, request },
                Question::Update(request) => Command::Update { call, request },
                Question::Control(request) => Command::Control { call, request },
                Question::Disclose(request) => Command::Disclose { call, request },
                Question::DiscloseDenied(asker) => Command::DiscloseDenied { call, asker },
                Question::Cryptogram(request) => Command::Cryptogram { call, request },
                Question::Consent(request) => Command::Consent { call, request },
                Question::Key(request) => Command::Key { call, request },
                Question::Card(request) => Command::Card { call, request },
                Question::Registry(request) => Command::Registry { call, request },
                Question::Requestor(principal, id) => Command::Requestor { call, principal, id },
                Question::Requestors(principal, after, most) => {
                    Command::Requestors { call, principal, after, most }
                }
                Question::CardBehind(asking, source) => Command::CardBehind { call, asking, source },
                Question::Par(principal, query) => Command::Par { call, principal, query },
                Question::Mappings(principal, reference) => Command::Mappings { call, principal, reference },
                Question::Get(principal, reference) => Command::Get { call, principal, reference },
                Question::RequestCode(request) => Command::RequestCode { call, request },
                Question::SubmitCode(request) => Command::SubmitCode { call, request },
                Question::Notified(receiver, up_to) => Command::Notified { call, receiver, up_to },
            };
            self.tsp.apply(command, now, &mut self.entropy, &mut actions);
        }
        self.carry_out(now, actions);
    }

    fn log_is(&mut self, state: LogState) {
        let durable = self.submitted.iter().take_while(|position| **position <= state.durable).count();
        if durable > 0 {
            step("vault");
        }
        self.submitted.drain(..durable);
        self.apply(Command::Durable { events: durable });
        if state.failed {
            self.submitted.clear();
            self.apply(Command::Failed);
        }
    }

    fn apply(&mut self, command: Command) {
        let now = self.clock.now();
        let mut actions = Vec::new();
        self.tsp.apply(command, now, &mut self.entropy, &mut actions);
        self.carry_out(now, actions);
    }

    fn carry_out(&mut self, now: Now, actions: Vec<Action>) {
        let mut events = Vec::new();
        for action in actions {
            match action {
                // All of one step have its time, so that replay, which knows the entry's, comes to the same.
                Action::Append { event, .. } => events.push(event),
                Action::Answer { call, answer } => self.answer(call, answer),
                Action::AskIssuer { call, enquiry } => {
                    step("issuer-wanted");
                    self.asking += 1;
                    self.ports.issuers.ask(*enquiry, EnquiryReply::new(call, self.words_to.clone()));
                }
                Action::SendCode(code) => {
                    step("code-leaving");
                    self.ports.codes.deliver(*code);
                    step("code-left");
                }
            }
        }
        if !events.is_empty() {
            self.submit(now.wall, events);
        }
    }

    fn submit(&mut self, at: Wall, events: Vec<Vec<u8>>) {
        let count = events.len();
        match self.log.submit(at, events) {
            Ok(positions) => {
                step("submitted");
                self.submitted.extend(positions);
            }
            Err(LogRefusal::Full) => self.apply(Command::Refused { events: count }),
            Err(LogRefusal::Closed) => {
                self.submitted.clear();
                self.apply(Command::Failed);
            }
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        if let Some(reply) = self.replies.remove(&call) {
            step("applied");
            // Whoever asked may have gone; a repeat of the request gets the same answer.
            let _ = reply.send(answer);
            step("told");
        }
    }
}
