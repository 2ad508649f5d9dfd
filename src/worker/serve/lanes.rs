//! Two lanes that prepare prompts, so that short prompts never wait for long ones. This is the main thread's side.
//!
//! A lane is a thread and the jobs that were dispatched to it. Few jobs are dispatched ahead: calls that are still in the queue take turns
//! among clients, and cost nothing if they are cancelled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::warming::PrefixSet;
use crate::engine::shared_prefix::PromptSamples;
use crate::engine::{CallId, Conversation};
use crate::worker::{LONG_PROMPTS, SHORT_PROMPTS};

/// Maximum size of a short prompt, in bytes. Such a prompt takes milliseconds.
const MAX_SHORT: usize = 8 * 1024;

/// Maximum size of the jobs that wait in a lane behind the running one, in bytes.
const MAX_AHEAD: usize = 64 * 1024;

/// Maximum number of jobs in a lane.
const MAX_JOBS: usize = 8;

/// Longest time to prepare a short prompt.
const SHORT_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest time to prepare a long prompt. Its thread has a low priority: next to models that use all CPUs, it may get a tenth of one.
const LONG_TIMEOUT: Duration = Duration::from_mins(5);

/// A prompt to prepare.
pub(super) enum Job {
    /// The id of a call, and its conversation.
    Call(CallId, Conversation),
    /// A set of shared prefixes, and one of its prompts.
    SharedPrefix(PrefixSet, Box<PromptSamples>),
}

impl Job {
    /// Returns the bytes of the job's conversations.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Call(_, conversation) => conversation.bytes(),
            Self::SharedPrefix(_, prompt) => prompt.samples.iter().map(Conversation::bytes).sum(),
        }
    }
}

/// One of the two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Short,
    Long,
}

/// A step of preparing a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Grammar,
    Rendering,
    Tokenizing,
}

/// The current stage of a lane's thread, shared with the main thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    pub(super) fn begin(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        let stages = [Stage::Grammar, Stage::Rendering, Stage::Tokenizing];
        stages[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// The receiving side of a lane, for its thread.
pub(super) struct Inbox {
    pub(super) lane: Lane,
    pub(super) jobs: Receiver<Job>,
    pub(super) progress: Progress,
}

/// The sending side of a lane, for the main thread.
struct Jobs {
    jobs: Sender<Job>,
    progress: Progress,
    /// Sizes of the unfinished jobs in bytes, the running one first.
    bytes: VecDeque<usize>,
    /// Start of the running job.
    since: Option<Instant>,
    /// Longest time of a job.
    limit: Duration,
}

/// The two lanes of a worker.
pub(super) struct Lanes {
    short: Jobs,
    long: Jobs,
}

impl Lanes {
    /// Creates empty lanes, and the inboxes of their threads.
    pub(super) fn new() -> (Self, [Inbox; 2]) {
        let [(short, one), (long, other)] = [Lane::Short, Lane::Long].map(Jobs::new);
        (Self { short, long }, [one, other])
    }

    /// Returns whether a job of `bytes` can be dispatched.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting = match Lane::for_bytes(bytes) {
            Lane::Short => &self.short.bytes,
            Lane::Long => &self.long.bytes,
        };
        let ahead: usize = waiting.iter().skip(1).sum();
        waiting.is_empty() || waiting.len() < MAX_JOBS && ahead + bytes <= MAX_AHEAD
    }

    /// Returns whether both lanes are empty.
    pub(super) fn are_idle(&self) -> bool {
        self.short.bytes.is_empty() && self.long.bytes.is_empty()
    }

    /// Dispatches a job to its lane.
    pub(super) fn dispatch(&mut self, job: Job) {
        let bytes = job.bytes();
        let lane = self.jobs(Lane::for_bytes(bytes));
        // A thread only ends early if it panics, and then the process ends, too.
        drop(lane.jobs.send(job));
        lane.bytes.push_back(bytes);
        lane.since.get_or_insert_with(Instant::now);
    }

    /// Records that the running job of `lane` has ended.
    pub(super) fn finish(&mut self, lane: Lane) {
        let lane = self.jobs(lane);
        lane.bytes.pop_front();
        lane.since = (!lane.bytes.is_empty()).then(Instant::now);
    }

    /// Returns the time until a running job times out, or `None` if no job is running.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let lanes = [&self.short, &self.long].into_iter();
        lanes.filter_map(Jobs::time_left).min()
    }

    /// Returns the message for the job that has timed out: its stage, and what to do.
    pub(super) fn timeout_message(&self) -> String {
        let is_overdue = |lane: &&Jobs| lane.time_left() == Some(Duration::ZERO);
        let lane = [&self.short, &self.long].into_iter().find(is_overdue);
        let lane = lane.unwrap_or(&self.long);
        let bytes = lane.bytes.front().copied().unwrap_or_default();
        let cause = match lane.progress.stage() {
            Stage::Grammar => "compiling its JSON Schema takes too long; simplify the schema",
            Stage::Rendering => {
                "the model's chat template does not finish; configure another `chat_template`"
            }
            Stage::Tokenizing => "tokenising its text takes too long; shorten the text",
        };
        let seconds = lane.limit.as_secs();
        format!("preparing a prompt of {bytes} bytes took more than {seconds} s: {cause}")
    }

    fn jobs(&mut self, lane: Lane) -> &mut Jobs {
        match lane {
            Lane::Short => &mut self.short,
            Lane::Long => &mut self.long,
        }
    }
}

impl Lane {
    /// Returns the name of the lane's thread.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Short => SHORT_PROMPTS,
            Self::Long => LONG_PROMPTS,
        }
    }

    fn for_bytes(bytes: usize) -> Self {
        if bytes <= MAX_SHORT {
            Self::Short
        } else {
            Self::Long
        }
    }
}

impl Jobs {
    fn time_left(&self) -> Option<Duration> {
        Some(self.limit.saturating_sub(self.since?.elapsed()))
    }

    fn new(lane: Lane) -> (Self, Inbox) {
        let (sender, jobs) = channel();
        let progress = Progress::default();
        let inbox = Inbox {
            lane,
            jobs,
            progress: progress.clone(),
        };
        let jobs = Self {
            jobs: sender,
            progress,
            bytes: VecDeque::new(),
            since: None,
            limit: match lane {
                Lane::Short => SHORT_TIMEOUT,
                Lane::Long => LONG_TIMEOUT,
            },
        };
        (jobs, inbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Conversation, Message, Role, ThinkingOutput};

    fn job(bytes: usize) -> Job {
        let conversation = Conversation {
            messages: vec![Message {
                role: Role::User,
                content: "x".repeat(bytes),
            }],
            thinking: ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        };
        Job::Call(CallId(1), conversation)
    }

    #[test]
    fn a_short_prompt_has_room_beside_a_long_one() {
        let (mut lanes, [short, long]) = Lanes::new();
        lanes.dispatch(job(1_000_000));
        assert!(lanes.has_room(2));
        lanes.dispatch(job(2));
        assert_eq!(short.jobs.try_iter().count(), 1);
        assert_eq!(long.jobs.try_iter().count(), 1);
    }

    #[test]
    fn the_jobs_of_a_lane_are_bounded_by_bytes_and_number() {
        let (mut lanes, _inboxes) = Lanes::new();
        lanes.dispatch(job(1_000_000));
        assert!(lanes.has_room(MAX_AHEAD) && !lanes.has_room(MAX_AHEAD + 1));
        lanes.dispatch(job(MAX_AHEAD - 10_000));
        assert!(lanes.has_room(10_000) && !lanes.has_room(10_001));
        for _ in 0..MAX_JOBS {
            assert!(lanes.has_room(2));
            lanes.dispatch(job(2));
        }
        assert!(!lanes.has_room(2));
        lanes.finish(Lane::Short);
        assert!(lanes.has_room(2));
    }

    #[test]
    fn lanes_are_idle_and_have_no_timeout_once_all_jobs_have_ended() {
        let (mut lanes, _inboxes) = Lanes::new();
        assert!(lanes.are_idle() && lanes.time_left().is_none());
        lanes.dispatch(job(2));
        lanes.dispatch(job(20_000));
        lanes.finish(Lane::Short);
        assert!(!lanes.are_idle() && lanes.time_left().is_some());
        lanes.finish(Lane::Long);
        assert!(lanes.are_idle() && lanes.time_left().is_none());
    }

    #[test]
    fn the_message_of_a_timeout_names_the_stage_that_took_too_long() {
        let (mut lanes, [_, long]) = Lanes::new();
        lanes.dispatch(job(20_000));
        long.progress.begin(Stage::Tokenizing);
        let expected = "preparing a prompt of 20000 bytes took more than 300 s: tokenising its text takes too long; shorten the text";
        assert_eq!(lanes.timeout_message(), expected);
        long.progress.begin(Stage::Rendering);
        assert!(lanes.timeout_message().contains("chat template"));
    }
}
