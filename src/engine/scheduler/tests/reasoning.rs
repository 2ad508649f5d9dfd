//! Tests of the reasoning budget, and of structured answers after reasoning.

use super::bench::{Bench, LIMITS, prompt_of};
use super::scripted::{Script, endless, says};
use crate::engine::FinishReason;
use crate::engine::prompt::Prompt;
use crate::engine::thinking::Thinking;
use crate::engine::thinking::blocks::{AnswerStart, Blocks, MarkerTokens};
use crate::engine::thinking::families::markers_of;
use crate::engine::token::Token;
use crate::engine::vocabulary::Vocabulary;

/// A vocabulary in which every byte is a token.
struct Letters;

impl Vocabulary for Letters {
    fn tokenize(&self, text: &str, _: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }
    fn bos(&self) -> Option<Token> {
        None
    }
    fn adds_bos(&self) -> bool {
        false
    }
    fn control_texts(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn longest_token(&self) -> usize {
        1
    }
    fn blanks(&self) -> Vec<Token> {
        vec![b'\n'.into(), b' '.into()]
    }
    fn special_texts(&self) -> Vec<String> {
        Vec::new()
    }
    fn begins(&self, text: &str) -> Vec<(Token, usize)> {
        let first = text.bytes().next();
        first.map(|first| (first.into(), 1)).into_iter().collect()
    }
}

/// Returns a prompt that ends with `end`, with a reasoning `budget`. The answer follows a grammar if `is_forced`.
fn prompt(end: &str, budget: Option<u32>, is_forced: bool) -> Prompt {
    let markers = markers_of("<think>", &[], None);
    let tokens = MarkerTokens::new(&markers, &Letters);
    let thinking = Thinking::new(markers.into()).after_prompt(end);
    let start = match (is_forced, thinking.is_inside()) {
        (false, _) => AnswerStart::Answer,
        (true, true) => AnswerStart::Block,
        (true, false) => tokens.choice(),
    };
    let thinking = if is_forced {
        thinking.leading_only()
    } else {
        thinking
    };
    Prompt {
        thinking,
        blocks: Blocks {
            tokens,
            start,
            budget,
        },
        ..prompt_of(3)
    }
}

/// Returns the answer, the reason why it ended, and the number of its reasoning tokens.
fn answer(script: Script, prompt: Prompt, max_tokens: u32) -> (String, FinishReason, u32) {
    let mut bench = Bench::new(LIMITS, 8, script);
    assert!(bench.enter(1, max_tokens, &[]));
    bench.prepare(1, Ok(prompt));
    bench.run_until_empty();
    let (_, reason, text) = bench.ends().remove(0);
    let usage = bench.generations().remove(0).usage;
    assert_eq!(bench.scheduler.stats().reserved_cells, 0);
    (text, reason, usage.thinking_tokens)
}

/// Number of tokens of `\n</think>`.
const CLOSING: u32 = 9;

#[test]
fn a_free_answer_follows_a_block_that_the_budget_closed() {
    let (text, reason, thinking) = answer(endless(), prompt("<think>", Some(6), false), 25);
    assert_eq!((text.as_str(), reason), ("la la la", FinishReason::Length));
    assert_eq!(thinking, 6 + CLOSING);
}

#[test]
fn without_a_budget_reasoning_can_use_all_tokens_of_a_free_answer() {
    let (text, reason, thinking) = answer(endless(), prompt("<think>", None, false), 25);
    assert_eq!(
        (text.as_str(), reason, thinking),
        ("", FinishReason::Length, 25)
    );
}

#[test]
fn a_structured_answer_follows_its_block_and_keeps_a_share_of_the_tokens() {
    let (text, _, thinking) = answer(endless(), prompt("<think>", None, true), 40);
    assert_eq!(thinking, 20 + CLOSING);
    assert_eq!(text, " la la la");
    let (_, _, thinking) = answer(endless(), prompt("<think>", Some(500), true), 40);
    assert_eq!(thinking, 30 + CLOSING);
}

#[test]
fn a_model_that_ends_inside_its_block_still_gives_a_structured_answer() {
    let (text, reason, thinking) = answer(says("hm"), prompt("<think>", None, true), 40);
    assert_eq!((text.as_str(), reason), ("", FinishReason::Stop));
    assert_eq!(thinking, 2 + CLOSING);
    // A free answer ends with the model's end token.
    let (text, reason, thinking) = answer(says("hm"), prompt("<think>", None, false), 40);
    assert_eq!(
        (text.as_str(), reason, thinking),
        ("", FinishReason::Stop, 2)
    );
}

#[test]
fn markers_in_a_structured_answer_are_text() {
    let script = says("hm</think>{<think>x</think>}");
    let (text, ..) = answer(script, prompt("<think>", None, true), 60);
    assert_eq!(text, "{<think>x</think>}");
}

#[test]
fn the_marker_of_a_block_that_the_model_opens_is_completed() {
    let (text, _, thinking) = answer(says("<hm</think>{x}"), prompt("", None, true), 60);
    assert_eq!(text, "{x}");
    assert!(thinking > 5);
}

#[test]
fn a_call_that_is_truncated_while_its_block_closes_is_still_thinking() {
    let mut bench = Bench::new(LIMITS, 8, endless());
    assert!(bench.enter(1, 9, &[]));
    let prompt = prompt("<think>", Some(6), false);
    bench.prepare(1, Ok(prompt));
    bench.run_until_empty();
    let generation = bench.generations().remove(0);
    assert!(generation.still_thinking && generation.text.is_empty());
    assert_eq!(generation.usage.completion_tokens, 9);
}
