//! The scheduler with a scripted decoder: no model, no time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::SamplingParams;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// The token that ends an answer; others are their own byte.
const END: Token = 0;

/// Every sequence writes the script's text again and again, or to its end.
#[derive(Debug, Clone, Default)]
struct Script {
    /// What is written, from its beginning in every sequence.
    text: &'static str,
    /// Whether it ends.
    ends: bool,
    /// Decodes that fail, by number.
    failing: Vec<usize>,
}

#[derive(Debug, Default)]
struct Seen {
    batches: Vec<Vec<Row>>,
    cleared: Vec<usize>,
}

#[derive(Debug)]
struct Scripted {
    script: Script,
    seen: Rc<RefCell<Seen>>,
}

impl Decoder for Scripted {
    type Sampler = usize;

    fn sampler(&self, _: &SamplingParams, _: &[Token]) -> usize {
        0
    }

    fn decode(&mut self, batch: &[Row]) -> Result<Duration, String> {
        let mut seen = self.seen.borrow_mut();
        seen.batches.push(batch.to_vec());
        if self.script.failing.contains(&seen.batches.len()) {
            return Err("a scripted failure".into());
        }
        Ok(MS)
    }

    fn sample(&mut self, row: usize, written: &mut usize) -> Token {
        let seen = self.seen.borrow();
        assert!(
            seen.batches.last().unwrap()[row].logits,
            "only rows with logits may be sampled"
        );
        let bytes = self.script.text.as_bytes();
        *written += 1;
        if self.script.ends && *written > bytes.len() {
            END
        } else {
            bytes[(*written - 1) % bytes.len()].into()
        }
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        vec![u8::try_from(token).unwrap()]
    }

    fn clear(&mut self, sequence: usize) {
        self.seen.borrow_mut().cleared.push(sequence);
    }
}

struct Bench {
    scheduler: Scheduler<Scripted>,
    seen: Rc<RefCell<Seen>>,
    start: Instant,
    updates: Vec<(u64, Update)>,
}

const LIMITS: Limits = Limits {
    parallel: 2,
    n_ctx: 100,
    kv_cells: 200,
    n_batch: 64,
};

impl Bench {
    fn new(limits: Limits, max_waiting: usize, script: Script) -> Self {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let start = Instant::now();
        let decoder = Scripted {
            script,
            seen: Rc::clone(&seen),
        };
        Self {
            scheduler: Scheduler::new(decoder, limits, Queue::new(max_waiting), start),
            seen,
            start,
            updates: Vec::new(),
        }
    }

    fn submit(&mut self, id: u64, prompt: usize, max_tokens: u32) {
        if self.enter(id, max_tokens, &[]) {
            self.scheduler.prepared(id, Ok(prompt_of(prompt)));
        }
    }

    fn enter(&mut self, id: u64, max_tokens: u32, stop: &[&str]) -> bool {
        self.scheduler
            .submit(id, request(max_tokens, stop), self.start);
        self.scheduler.queue.ids().any(|waiting| waiting == id)
    }

    fn turn(&mut self) {
        self.scheduler.turn(self.start);
        self.updates.extend(self.scheduler.take_updates());
    }

    fn turns_until_empty(&mut self) {
        for _ in 0..10_000 {
            self.turn();
            if self.scheduler.is_empty() {
                return;
            }
        }
        panic!("it never ends");
    }

    fn ends(&self) -> Vec<(u64, FinishReason, String)> {
        self.updates
            .iter()
            .filter_map(|(id, update)| match update {
                Update::Done(generation) => {
                    Some((*id, generation.finish_reason, generation.text.clone()))
                }
                _ => None,
            })
            .collect()
    }

    fn failures(&self) -> Vec<(u64, EngineErrorKind)> {
        self.updates
            .iter()
            .filter_map(|(id, update)| match update {
                Update::Failed(error) => Some((*id, error.kind)),
                _ => None,
            })
            .collect()
    }

    fn last_batch(&self) -> Vec<Row> {
        self.seen
            .borrow()
            .batches
            .last()
            .cloned()
            .unwrap_or_default()
    }

    fn batches(&self) -> usize {
        self.seen.borrow().batches.len()
    }
}

fn request(max_tokens: u32, stop: &[&str]) -> GenerateRequest {
    GenerateRequest {
        messages: Vec::new(),
        max_tokens,
        sampling: SamplingParams {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 7,
        },
        stop: stop.iter().map(ToString::to_string).collect(),
    }
}

fn prompt_of(length: usize) -> Prompt {
    Prompt {
        tokens: vec![1; length],
        thinking: ThinkingMode::Never,
    }
}

fn endless() -> Script {
    Script {
        text: "la ",
        ..Script::default()
    }
}

fn says(text: &'static str) -> Script {
    Script {
        text,
        ends: true,
        ..Script::default()
    }
}

#[test]
fn a_call_is_answered_and_its_sequence_is_free_again() {
    let mut bench = Bench::new(LIMITS, 8, says("Lima."));
    bench.submit(1, 10, 50);
    bench.turns_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "Lima.".into())]);
    let deltas: String = bench
        .updates
        .iter()
        .filter_map(|(_, update)| match update {
            Update::Delta(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deltas, "Lima.");
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
    assert_eq!(bench.seen.borrow().cleared, [0]);
}

#[test]
fn positions_have_no_gaps_and_only_the_last_row_of_a_prompt_asks_for_logits() {
    let mut bench = Bench::new(LIMITS, 8, says("abc"));
    bench.submit(1, 70, 20);
    bench.turns_until_empty();
    let rows: Vec<Row> = bench.seen.borrow().batches.concat();
    let positions: Vec<u32> = rows.iter().map(|row| row.position).collect();
    assert_eq!(positions, (0..73).collect::<Vec<u32>>());
    assert!(rows.iter().all(|row| row.logits == (row.position >= 69)));
}

#[test]
fn an_answer_is_cut_at_its_own_limit_and_at_the_contexts_end() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 10, 7);
    bench.submit(2, 95, 50);
    bench.turns_until_empty();
    assert_eq!(
        bench.ends(),
        [
            (2, FinishReason::Length, "la la".into()),
            (1, FinishReason::Length, "la la l".into())
        ]
    );
}

#[test]
fn a_prompt_that_fills_the_context_is_refused_with_both_numbers() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 100, 1);
    bench.turn();
    let Some((1, Update::Failed(error))) = bench.updates.last() else {
        panic!("it is refused")
    };
    assert_eq!(error.kind, EngineErrorKind::ContextOverflow);
    assert_eq!(
        error.text,
        "the prompt has 100 tokens, the model's context holds 100, the answer included"
    );
}

#[test]
fn generating_sequences_have_a_token_in_every_batch_and_prompts_follow() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    bench.turn();
    bench.submit(2, 90, 5);
    bench.turn();
    let batch = bench.last_batch();
    assert_eq!((batch[0].sequence, batch[0].logits), (0, true));
    assert!(batch[1..].iter().all(|row| row.sequence == 1));
    assert!(batch.len() > 1 && batch.len() <= LIMITS.n_batch);
}

#[test]
fn a_short_prompt_is_not_held_up_by_a_long_one() {
    let limits = Limits {
        n_ctx: 10_000,
        kv_cells: 20_000,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, says("x"));
    bench.submit(1, 9000, 5);
    bench.submit(2, 20, 5);
    while bench.ends().is_empty() {
        bench.turn();
    }
    assert_eq!(bench.ends()[0].0, 2);
    assert!(bench.batches() <= 3);
}

#[test]
fn prompts_share_a_chunk_evenly() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 90, 5);
    bench.submit(2, 90, 5);
    bench.turn();
    let of_first = bench
        .last_batch()
        .iter()
        .filter(|row| row.sequence == 0)
        .count();
    assert_eq!((of_first, bench.last_batch().len()), (8, 16));
}

#[test]
fn calls_are_admitted_in_order_and_told_their_place() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    for id in 1..=4 {
        bench.submit(id, 5, 5);
    }
    bench.turn();
    let news: Vec<_> = bench
        .updates
        .iter()
        .filter(|(id, _)| *id >= 3)
        .cloned()
        .collect();
    assert_eq!(
        news,
        [
            (3, Update::Queued(3)),
            (4, Update::Queued(4)),
            (3, Update::Queued(1)),
            (4, Update::Queued(2))
        ]
    );
    bench.turns_until_empty();
    let order: Vec<u64> = bench.ends().iter().map(|(id, ..)| *id).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn cells_are_reserved_for_prompt_and_answer_so_a_call_waits_where_they_do_not_suffice() {
    let limits = Limits {
        kv_cells: 110,
        ..LIMITS
    };
    let mut bench = Bench::new(limits, 8, endless());
    bench.submit(1, 10, 50);
    bench.submit(2, 10, 50);
    bench.submit(3, 10, 10);
    bench.turn();
    assert_eq!(
        (
            bench.scheduler.stats().active,
            bench.scheduler.stats().reserved_cells
        ),
        (1, 60)
    );
    bench.turns_until_empty();
    let order: Vec<u64> = bench.ends().iter().map(|(id, ..)| *id).collect();
    // The third would have fitted beside the first; it does not overtake the second.
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn a_call_whose_prompt_is_not_ready_holds_its_place() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    assert!(bench.enter(1, 5, &[]));
    bench.submit(2, 5, 5);
    bench.turn();
    assert_eq!(bench.batches(), 0);
    assert!(bench.scheduler.is_idle() && !bench.scheduler.is_empty());
    bench.scheduler.prepared(1, Ok(prompt_of(5)));
    bench.turn();
    assert_eq!(bench.scheduler.stats().active, 2);
}

#[test]
fn a_full_queue_says_how_many_wait() {
    let mut bench = Bench::new(LIMITS, 3, endless());
    for id in 1..=6 {
        bench.submit(id, 5, 5);
    }
    bench.turn();
    assert_eq!(bench.failures(), [(6, EngineErrorKind::Busy)]);
    let busy = bench.updates.iter().find_map(|(_, update)| match update {
        Update::Failed(error) => Some(error.text.clone()),
        _ => None,
    });
    assert_eq!(
        busy.unwrap(),
        "the model is busy: 3 calls are waiting, and no more may"
    );
}

#[test]
fn a_cancelled_call_is_gone_before_the_next_decode_wherever_it_was() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    bench.turn();
    bench.submit(2, 90, 5);
    bench.submit(3, 5, 5);
    assert!(bench.enter(4, 5, &[]));
    bench.turn();
    for id in 1..=5 {
        bench
            .scheduler
            .cancel(id, CancelReason::Cancelled, bench.start);
    }
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
    assert!(bench.scheduler.is_empty());
    let batches = bench.batches();
    bench.scheduler.prepared(4, Ok(prompt_of(5)));
    bench.turn();
    assert_eq!(bench.batches(), batches);
    assert!(
        bench
            .ends()
            .iter()
            .all(|(_, reason, _)| *reason == FinishReason::Cancelled)
    );
    let phases: Vec<Phase> = bench
        .updates
        .iter()
        .filter_map(|(_, update)| match update {
            Update::Done(generation) => Some(generation.phase),
            _ => None,
        })
        .collect();
    assert_eq!(
        phases,
        [Phase::Generate, Phase::Prefill, Phase::Queue, Phase::Queue]
    );
}

#[test]
fn a_deadline_ends_a_call_with_what_it_has() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    bench.submit(1, 1, 50);
    for _ in 0..4 {
        bench.turn();
    }
    bench
        .scheduler
        .cancel(1, CancelReason::Deadline, bench.start);
    bench.turn();
    assert_eq!(bench.ends(), [(1, FinishReason::Deadline, "la l".into())]);
}

#[test]
fn a_stop_string_ends_a_call_and_is_not_in_its_text() {
    let mut bench = Bench::new(LIMITS, 8, says("one two three"));
    assert!(bench.enter(1, 50, &["two"]));
    bench.scheduler.prepared(1, Ok(prompt_of(3)));
    bench.turns_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "one ".into())]);
}

#[test]
fn a_failed_decode_fails_the_calls_of_its_batch_and_the_next_are_served() {
    let script = Script {
        failing: vec![2],
        ..says("x")
    };
    let mut bench = Bench::new(LIMITS, 8, script);
    for id in 1..=3 {
        bench.submit(id, 5, 5);
    }
    bench.turns_until_empty();
    assert_eq!(
        bench.failures(),
        [(1, EngineErrorKind::Decode), (2, EngineErrorKind::Decode)]
    );
    assert_eq!(bench.ends(), [(3, FinishReason::Stop, "x".into())]);
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
}

#[test]
fn a_prompt_that_cannot_be_made_fails_its_call_alone() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    assert!(bench.enter(1, 5, &[]));
    bench
        .scheduler
        .prepared(1, Err(EngineError::new(EngineErrorKind::Template, "no")));
    bench.submit(2, 5, 5);
    bench.turns_until_empty();
    assert_eq!(bench.failures(), [(1, EngineErrorKind::Template)]);
    assert_eq!(bench.ends().len(), 1);
}

#[test]
fn waiting_for_the_load_and_waiting_in_the_queue_are_told_apart() {
    let start = Instant::now();
    assert_eq!(waits(start, start + 30 * MS, start + 50 * MS), (30, 20));
    assert_eq!(
        waits(start + 40 * MS, start + 30 * MS, start + 50 * MS),
        (0, 10)
    );
}

#[test]
fn those_that_waited_for_the_load_are_told_their_place() {
    let mut queue = Queue::new(8);
    for id in [3, 4] {
        let call = Waiting {
            id,
            request: request(5, &[]),
            prompt: None,
            received: Instant::now(),
        };
        queue.push(call, 0).unwrap();
    }
    let decoder = Scripted {
        script: endless(),
        seen: Rc::default(),
    };
    let mut scheduler = Scheduler::new(decoder, LIMITS, queue, Instant::now());
    assert_eq!(
        scheduler.take_updates(),
        [(3, Update::Queued(1)), (4, Update::Queued(2))]
    );
}

#[test]
fn a_stop_string_that_is_complete_only_at_the_end_counts() {
    // The tag in the middle of the answer is held, and with it the stop string.
    let mut bench = Bench::new(LIMITS, 8, says("a <think> STOP b"));
    assert!(bench.enter(1, 50, &["STOP"]));
    let prompt = Prompt {
        thinking: ThinkingMode::Possible,
        ..prompt_of(3)
    };
    bench.scheduler.prepared(1, Ok(prompt));
    bench.turns_until_empty();
    assert_eq!(bench.ends(), [(1, FinishReason::Stop, "a <think> ".into())]);
}

/// What may happen to a scheduler.
#[derive(Debug, Clone)]
enum Happening {
    Submit {
        prompt: usize,
        max_tokens: u32,
        is_prepared: bool,
    },
    Prepare(u64),
    Cancel(u64),
    Turn,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (1_usize..120, 1_u32..60, any::<bool>()).prop_map(|(prompt, max_tokens, is_prepared)| {
            Happening::Submit {
                prompt,
                max_tokens,
                is_prepared,
            }
        }),
        (1_u64..30).prop_map(Happening::Prepare),
        (1_u64..30).prop_map(Happening::Cancel),
        Just(Happening::Turn),
        Just(Happening::Turn),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_call_ends_once_and_nothing_is_over_its_limit(
        happenings in prop::collection::vec(happening(), 1..80),
        failing in prop::collection::vec(1_usize..60, 0..3),
    ) {
        let mut bench = Bench::new(Limits { kv_cells: 150, ..LIMITS }, 3, Script { failing, ..endless() });
        let mut ids = 0;
        for happening in happenings {
            match happening {
                Happening::Submit { prompt, max_tokens, is_prepared } => {
                    ids += 1;
                    if bench.enter(ids, max_tokens, &[]) && is_prepared {
                        bench.scheduler.prepared(ids, Ok(prompt_of(prompt)));
                    }
                }
                Happening::Prepare(id) => bench.scheduler.prepared(id, Ok(prompt_of(7))),
                Happening::Cancel(id) => bench.scheduler.cancel(id, CancelReason::Cancelled, bench.start),
                Happening::Turn => bench.turn(),
            }
            let stats = bench.scheduler.stats();
            prop_assert!(stats.reserved_cells <= 150 && stats.active <= LIMITS.parallel);
        }
        for id in 1..=ids {
            bench.scheduler.prepared(id, Ok(prompt_of(7)));
        }
        bench.turns_until_empty();
        prop_assert_eq!(bench.scheduler.stats().reserved_cells, 0);
        for id in 1..=ids {
            let ends = bench.updates.iter().filter(|(of, update)| {
                *of == id && matches!(update, Update::Done(_) | Update::Failed(_))
            });
            prop_assert_eq!(ends.count(), 1, "call {}", id);
        }
        let mut positions: HashMap<usize, u32> = HashMap::new();
        for batch in &bench.seen.borrow().batches {
            prop_assert!(!batch.is_empty() && batch.len() <= LIMITS.n_batch);
            for row in batch {
                let next = positions.entry(row.sequence).or_insert(0);
                prop_assert!(row.position == *next || row.position == 0, "a gap: {:?}", row);
                *next = row.position + 1;
            }
        }
    }
}

#[test]
fn prompts_are_prepared_in_order_and_not_for_calls_that_are_gone() {
    let mut bench = Bench::new(LIMITS, 8, says("x"));
    for id in 1..=3 {
        let mut request = request(5, &[]);
        request.messages.push(Message {
            role: crate::engine::Role::User,
            content: format!("question {id}"),
        });
        bench.scheduler.submit(id, request, bench.start);
    }
    let (first, messages) = bench.scheduler.next_to_prepare().unwrap();
    assert_eq!((first, messages[0].content.as_str()), (1, "question 1"));
    bench
        .scheduler
        .cancel(2, CancelReason::Cancelled, bench.start);
    assert_eq!(bench.scheduler.next_to_prepare().map(|(id, _)| id), Some(3));
    assert_eq!(bench.scheduler.next_to_prepare(), None);
}
