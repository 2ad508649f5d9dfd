//! The two lanes in which prompts are prepared, as the main thread sees them: short prompts never wait for long ones.
//!
//! A lane is a thread and the jobs that were handed to it. Little is handed out ahead, since only what is still in the queue takes
//! turns among clients, and costs nothing if it is cancelled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::engine::Conversation;
use crate::engine::shared_prefix::FixedPrompt;
use crate::worker::{LONG_PROMPTS, SHORT_PROMPTS};

/// Most bytes of a conversation in the lane of short prompts: milliseconds of work.
const SHORT: usize = 8 * 1024;

/// Most bytes of the jobs that wait in a lane behind the one in work.
const AHEAD: usize = 64 * 1024;

/// Most jobs in a lane.
const MAX_JOBS: usize = 8;

/// How long rendering and tokenising one prompt may take. A long one has a low priority: beside models that want all CPUs it may get a
/// tenth of one.
const LIMIT_OF_SHORT: Duration = Duration::from_mins(1);

/// See [`LIMIT_OF_SHORT`].
const LIMIT_OF_LONG: Duration = Duration::from_mins(5);

/// A prompt that is to be prepared.
pub(super) enum Job {
    /// The prompt of the call of this number.
    Call(u64, Conversation),
    /// A shared prefix, and the number of its set.
    Fixed(u64, Box<FixedPrompt>),
}

impl Job {
    /// Returns the bytes of its conversation.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Call(_, conversation) => conversation.bytes(),
            Self::Fixed(_, prompt) => prompt.samples.iter().map(Conversation::bytes).sum(),
        }
    }
}

/// A lane: a thread that prepares prompts, and its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Short,
    Long,
}

/// The step in which a prompt is being prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Grammar,
    Rendering,
    Tokenizing,
}

/// The stage of a lane's thread, shared with the main thread.
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

/// A thread's end of a lane.
pub(super) struct Inbox {
    pub(super) lane: Lane,
    pub(super) jobs: Receiver<Job>,
    pub(super) progress: Progress,
}

/// The jobs of a lane.
struct Jobs {
    jobs: Sender<Job>,
    progress: Progress,
    /// Lengths of the unfinished jobs in bytes, that of the running job first.
    bytes: VecDeque<usize>,
    /// Start of the running job.
    since: Option<Instant>,
    /// How long it may take.
    limit: Duration,
}

/// Both lanes.
pub(super) struct Lanes {
    short: Jobs,
    long: Jobs,
}

impl Lanes {
    /// Makes empty lanes, and the ends for their threads.
    pub(super) fn new() -> (Self, [Inbox; 2]) {
        let [(short, one), (long, other)] = [Lane::Short, Lane::Long].map(Jobs::new);
        (Self { short, long }, [one, other])
    }

    /// Returns whether a job of `bytes` can be handed out.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting = match Lane::of(bytes) {
            Lane::Short => &self.short.bytes,
            Lane::Long => &self.long.bytes,
        };
        let ahead: usize = waiting.iter().skip(1).sum();
        waiting.is_empty() || waiting.len() < MAX_JOBS && ahead + bytes <= AHEAD
    }

    /// Returns whether both lanes are empty.
    pub(super) fn are_idle(&self) -> bool {
        self.short.bytes.is_empty() && self.long.bytes.is_empty()
    }

    /// Hands out a job.
    pub(super) fn begin(&mut self, job: Job) {
        let bytes = job.bytes();
        let lane = self.jobs(Lane::of(bytes));
        // A thread that has ended has panicked, and the process ends with it.
        drop(lane.jobs.send(job));
        lane.bytes.push_back(bytes);
        lane.since.get_or_insert_with(Instant::now);
    }

    /// Takes note that the first job of `lane` has ended.
    pub(super) fn end(&mut self, lane: Lane) {
        let lane = self.jobs(lane);
        lane.bytes.pop_front();
        lane.since = (!lane.bytes.is_empty()).then(Instant::now);
    }

    /// Returns the time until a job has taken too long, `None` if nothing is prepared.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let lanes = [&self.short, &self.long].into_iter();
        lanes.filter_map(Jobs::time_left).min()
    }

    /// Returns why the job that has taken too long is not ready, and what to do.
    pub(super) fn overdue(&self) -> String {
        let is_overdue = |lane: &&Jobs| lane.time_left() == Some(Duration::ZERO);
        let lane = [&self.short, &self.long].into_iter().find(is_overdue);
        let lane = lane.unwrap_or(&self.long);
        let bytes = lane.bytes.front().copied().unwrap_or_default();
        let cause = match lane.progress.stage() {
            Stage::Grammar => "the grammar of its JSON Schema takes too long; simplify the schema",
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
    /// Returns the name of its thread.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Short => SHORT_PROMPTS,
            Self::Long => LONG_PROMPTS,
        }
    }

    fn of(bytes: usize) -> Self {
        if bytes <= SHORT {
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
                Lane::Short => LIMIT_OF_SHORT,
                Lane::Long => LIMIT_OF_LONG,
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
        Job::Call(1, conversation)
    }

    #[test]
    fn a_short_prompt_has_room_beside_a_long_one() {
        let (mut lanes, [short, long]) = Lanes::new();
        lanes.begin(job(1_000_000));
        assert!(lanes.has_room(2));
        lanes.begin(job(2));
        assert_eq!(short.jobs.try_iter().count(), 1);
        assert_eq!(long.jobs.try_iter().count(), 1);
    }

    #[test]
    fn what_is_handed_out_ahead_is_bounded_by_bytes_and_number() {
        let (mut lanes, _inboxes) = Lanes::new();
        lanes.begin(job(1_000_000));
        assert!(lanes.has_room(AHEAD) && !lanes.has_room(AHEAD + 1));
        lanes.begin(job(AHEAD - 10_000));
        assert!(lanes.has_room(10_000) && !lanes.has_room(10_001));
        for _ in 0..MAX_JOBS {
            assert!(lanes.has_room(2));
            lanes.begin(job(2));
        }
        assert!(!lanes.has_room(2));
        lanes.end(Lane::Short);
        assert!(lanes.has_room(2));
    }

    #[test]
    fn lanes_are_idle_and_have_no_limit_of_time_once_all_jobs_have_ended() {
        let (mut lanes, _inboxes) = Lanes::new();
        assert!(lanes.are_idle() && lanes.time_left().is_none());
        lanes.begin(job(2));
        lanes.begin(job(20_000));
        lanes.end(Lane::Short);
        assert!(!lanes.are_idle() && lanes.time_left().is_some());
        lanes.end(Lane::Long);
        assert!(lanes.are_idle() && lanes.time_left().is_none());
    }

    #[test]
    fn a_prompt_that_is_not_ready_in_time_is_told_with_what_held_it_up() {
        let (mut lanes, [_, long]) = Lanes::new();
        lanes.begin(job(20_000));
        long.progress.begin(Stage::Tokenizing);
        let expected = "preparing a prompt of 20000 bytes took more than 300 s: tokenising its text takes too long; shorten the text";
        assert_eq!(lanes.overdue(), expected);
        long.progress.begin(Stage::Rendering);
        assert!(lanes.overdue().contains("chat template"));
    }
}
