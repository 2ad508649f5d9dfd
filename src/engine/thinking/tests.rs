//! Tests of the answer that is left after filtering, for every family and every split of the text.

use super::families::markers_of;
use super::*;

fn thinking(template: &str) -> Thinking {
    Thinking::new(markers_of(template, &[], None).into())
}

fn filter(mut thinking: Thinking, text: &str) -> (String, bool) {
    let mut out = String::new();
    thinking.push(text, &mut out);
    thinking.finish(&mut out);
    (out, thinking.is_inside())
}

const THINK: &str = "<think>";

#[test]
fn a_block_and_the_white_space_after_it_are_removed() {
    assert_eq!(
        filter(thinking(THINK), "<think>\nhm\n</think>\n\nLima."),
        ("Lima.".into(), false)
    );
    assert_eq!(
        filter(thinking(THINK), "\n<think></think><think>b</think> Lima."),
        ("Lima.".into(), false)
    );
}

#[test]
fn a_block_that_the_template_opened_is_removed() {
    assert_eq!(
        filter(
            thinking(THINK).after_prompt("assistant\n<think>\n"),
            "hm</think>Lima."
        ),
        ("Lima.".into(), false)
    );
}

#[test]
fn a_block_that_never_closes_leaves_no_answer_and_stays_open() {
    assert_eq!(
        filter(thinking(THINK), "<think>hm <b"),
        (String::new(), true)
    );
    assert_eq!(
        filter(thinking(THINK).after_prompt("<think>"), "hm"),
        (String::new(), true)
    );
}

#[test]
fn a_later_block_is_removed_only_if_it_closes() {
    assert_eq!(
        filter(thinking(THINK), "One <think>x</think>two"),
        ("One two".into(), false)
    );
    assert_eq!(
        filter(thinking(THINK), "The tag <think> opens"),
        ("The tag <think> opens".into(), false)
    );
}

#[test]
fn a_model_without_reasoning_may_write_the_tag() {
    let text = "<think> is a tag</think>";
    assert_eq!(filter(Thinking::never(), text), (text.into(), false));
}

#[test]
fn white_space_at_the_start_of_an_answer_without_a_block_stays() {
    assert_eq!(
        filter(thinking(THINK), "  Lima <"),
        ("  Lima <".into(), false)
    );
}

#[test]
fn a_block_without_a_visible_opening_ends_at_its_closing_marker() {
    assert_eq!(
        filter(thinking(THINK), "</think>\n\nLima."),
        ("Lima.".into(), false)
    );
}

#[test]
fn kept_reasoning_is_text_and_is_still_detected() {
    let text = "<think>hm</think>\n\nLima.";
    assert_eq!(
        filter(thinking(THINK).keep_reasoning(), text),
        (text.into(), false)
    );
    let cut = "<think>hm";
    assert_eq!(
        filter(thinking(THINK).keep_reasoning(), cut),
        (cut.into(), true)
    );
}

#[test]
fn a_marker_inside_a_structured_answer_is_text() {
    let answer = r#"{"tag": "<think>x</think>"}"#;
    let text = format!("<think>hm</think>\n{answer}");
    assert_eq!(
        filter(thinking(THINK).leading_only(), &text),
        (answer.into(), false)
    );
}

/// Texts that identify a family, and an answer as its models write it, with `hm` as the reasoning and `Lima.` as the answer.
const ANSWERS: [(&str, &str); 25] = [
    ("<think>", "<think>\nhm\n</think>\n\nLima."),
    ("</think>", "<think>hm</think>Lima."),
    ("[THINK]", "[THINK]hm[/THINK]Lima."),
    (
        "<seed:think>",
        "<seed:think>hm<seed:cot_budget_reflect>hm</seed:cot_budget_reflect></seed:think>Lima.",
    ),
    ("<mm:think>", "<mm:think>hm</mm:think>Lima."),
    (
        "'<think{}>' ':opensource'",
        "<think:opensource>hm</think:opensource>Lima.",
    ),
    (
        "<|channel><channel|>",
        "<|channel>thought\nhm\n<channel|>Lima.",
    ),
    (
        "<|channel|><|message|>",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Lima.<|end|>",
    ),
    (
        "<|channel|><|message|>",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>hm<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>Lima.",
    ),
    ("<|channel|><|message|>", "<|channel|>final<|message|>Lima."),
    (
        "<|start|>assistant to=self<|message|>",
        " to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>Lima.",
    ),
    (
        "<|begin|>assistant<|think|><|content|>",
        "<|think|>hm<|end|><|begin|>assistant<|content|>Lima.<|end|>",
    ),
    (
        "<|open|>think<|sep|><|close|>",
        "<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>Lima.<|close|>response<|sep|><|close|>message<|sep|>",
    ),
    (
        "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|>",
        "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Lima.<|END_RESPONSE|>",
    ),
    (
        "<|START_THINKING|><|END_THINKING|><|START_TEXT|>",
        "<|START_THINKING|>hm<|END_THINKING|><|START_TEXT|>Lima.<|END_TEXT|>",
    ),
    (
        "<|inner_prefix|><|inner_suffix|>",
        "<|inner_prefix|>hm<|inner_suffix|>Lima.",
    ),
    (
        "[BEGIN FINAL RESPONSE]",
        "Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\nLima.[END FINAL RESPONSE]\n",
    ),
    (
        "Here is my thought process:",
        "Here is my thought process: hm\n\nHere is my response:\n\nLima.",
    ),
    (
        "<think></think><response></response>",
        "<think>hm</think>\n<response>Lima.</response>",
    ),
    (
        "</think><answer>",
        "<think>\nhm\n</think>\n<answer>\nLima.</answer>",
    ),
    ("◁think▷", "◁think▷hm◁/think▷Lima."),
    (
        "<|begin_of_thought|>",
        "<|begin_of_thought|>\n\nhm\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nLima.<|end_of_solution|>",
    ),
    (
        "<thinking></thinking>",
        "<thinking>\nhm\n</thinking>\n\nLima.",
    ),
    ("<thought></thought>", "<thought>hm</thought>Lima."),
    ("<reasoning></reasoning>", "<reasoning>hm</reasoning> Lima."),
];

#[test]
fn the_reasoning_of_every_family_is_removed_however_its_text_is_split() {
    for (template, text) in ANSWERS {
        assert_eq!(
            filter(thinking(template), text),
            ("Lima.".into(), false),
            "{text}"
        );
        for (cut, _) in text.char_indices() {
            let mut filter = thinking(template);
            let mut out = String::new();
            filter.push(&text[..cut], &mut out);
            filter.push(&text[cut..], &mut out);
            filter.finish(&mut out);
            assert_eq!(out, "Lima.", "{text} cut at {cut}");
        }
        let mut filter = thinking(template);
        let mut out = String::new();
        for character in text.chars() {
            filter.push(character.encode_utf8(&mut [0; 4]), &mut out);
        }
        filter.finish(&mut out);
        assert_eq!(out, "Lima.", "{text}");
    }
}

#[test]
fn a_truncated_block_of_every_family_stays_open() {
    for (template, text) in ANSWERS {
        let Some(cut) = text.find("hm") else { continue };
        let (answer, is_inside) = filter(thinking(template), &text[..cut + 2]);
        assert_eq!((answer.as_str(), is_inside), ("", true), "{text}");
    }
}

#[test]
fn the_closing_text_of_every_family_is_followed_by_the_answer() {
    for (template, text) in ANSWERS {
        let Some(cut) = text.find("hm") else { continue };
        let mut thinking = thinking(template);
        let mut out = String::new();
        thinking.push(&text[..cut + 2], &mut out);
        let at = thinking.block().unwrap();
        let closing = thinking.markers[at].closing.clone();
        thinking.push(&closing, &mut out);
        assert!(thinking.is_after_block(), "{text}");
        thinking.push("Lima.", &mut out);
        thinking.finish(&mut out);
        assert_eq!(out, "Lima.", "{text}");
    }
}

#[test]
fn a_prompt_that_ends_inside_a_block_or_an_answer_is_recognised() {
    for (template, prompt, is_inside) in [
        (
            "<|channel|><|message|>",
            "<|start|>assistant<|channel|>analysis<|message|>",
            true,
        ),
        ("<|channel|><|message|>", "<|start|>assistant", false),
        ("<|channel><channel|>", "model\n<|channel>thought\n", true),
        (
            "<|channel><channel|>",
            "model\n<|channel>thought\n<channel|>",
            false,
        ),
        (
            "[BEGIN FINAL RESPONSE]",
            "Here are my reasoning steps:\n",
            true,
        ),
        (
            "<|START_THINKING|>",
            "<|START_THINKING|><|END_THINKING|>",
            false,
        ),
        ("<think>", "what is <think>?\nassistant\n", false),
    ] {
        assert_eq!(
            thinking(template).after_prompt(prompt).is_inside(),
            is_inside,
            "{prompt}"
        );
    }
    let begun = thinking("<|open|>think<|sep|><|close|>").after_prompt("<|open|>response<|sep|>");
    assert_eq!(
        filter(begun, "Lima.<|close|>response<|sep|>x"),
        ("Lima.".into(), false)
    );
}
