//! Tests that the segments of a text have the same tokens as the whole, with real vocabularies.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::engine::llama::with_vocabulary;
use crate::engine::token::Token;
use crate::engine::vocabulary::Vocabulary;

const CRAB: &str = "tests/models/tiny-crab-chat.Q8_0.gguf";
const GEMMA: &str = "models/gemma-3-270m-q4_k_m.gguf";
const SMOL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

fn splitter(vocabulary: &impl Vocabulary) -> Splitter {
    Splitter::new(
        vocabulary.special_tokens().as_deref(),
        vocabulary.adjacent_chars(),
    )
    .unwrap()
}

/// Tokenises the segments of `text` one by one. Returns the tokens and the number of segments.
fn in_segments(
    vocabulary: &impl Vocabulary,
    splitter: &Splitter,
    text: &str,
) -> (Vec<Token>, usize) {
    let mut count = 0;
    let segments = splitter.segments(text, true).inspect(|_| count += 1);
    let tokens =
        segments.flat_map(|segment| vocabulary.tokenize(segment.text, segment.has_controls));
    (tokens.collect(), count)
}

/// Generates a part of a text: a special token, its beginning or end, a run of a character, or other characters.
fn part(specials: Vec<SpecialToken>) -> impl Strategy<Value = String> {
    let texts: Vec<String> = specials.into_iter().map(|special| special.text).collect();
    let cut_off = |(text, at): (String, prop::sample::Index)| {
        let at = text.floor_char_boundary(at.index(text.len()));
        let (beginning, end) = text.split_at(at);
        if at % 2 == 0 { beginning } else { end }.to_owned()
    };
    let run = |(c, length): (char, usize)| c.to_string().repeat(length);
    let single = [
        '\n', '\t', ' ', 'a', '\u{2581}', '\u{fdd0}', '😀', '中', '\u{301}', '<',
    ];
    prop_oneof![
        3 => select(texts.clone()),
        1 => (select(texts), any::<prop::sample::Index>()).prop_map(cut_off),
        3 => (select(single.to_vec()), 1_usize..100).prop_map(run),
        2 => "[a-z ]{1,20}",
        1 => any::<char>().prop_map(String::from),
    ]
}

fn check_random_texts(model: &str) {
    with_vocabulary(model, |vocabulary| {
        let splitter = splitter(vocabulary);
        let part = part(vocabulary.special_tokens().unwrap());
        let mut runner = TestRunner::new(Config::with_cases(64));
        let texts = vec(part, 1..400).prop_map(|parts| parts.concat());
        let outcome = runner.run(&texts, |text| {
            let (tokens, _) = in_segments(vocabulary, &splitter, &text);
            prop_assert_eq!(tokens, vocabulary.tokenize(&text, true));
            let plain = splitter.segments(&text, false);
            let plain: Vec<Token> = plain
                .flat_map(|segment| vocabulary.tokenize(segment.text, segment.has_controls))
                .collect();
            prop_assert_eq!(plain, vocabulary.tokenize(&text, false));
            Ok(())
        });
        outcome.unwrap();
    });
}

#[test]
fn the_segments_of_a_text_have_the_tokens_of_the_whole_in_gemmas_vocabulary() {
    check_random_texts(GEMMA);
}

#[test]
fn the_segments_of_a_text_have_the_tokens_of_the_whole_in_smollm2s_vocabulary() {
    check_random_texts(SMOL);
}

#[test]
fn the_segments_of_a_text_have_the_tokens_of_the_whole_in_the_test_models_vocabulary() {
    check_random_texts(CRAB);
}

#[test]
fn texts_that_llama_cpp_tokenises_in_quadratic_time_are_split_into_short_segments() {
    with_vocabulary(GEMMA, |vocabulary| {
        let splitter = splitter(vocabulary);
        let texts = [
            "\nx",
            "1\t2\t3\n",
            "<td>cell</td>",
            "\u{fdd0}",
            "\n",
            "\t\n",
            "x\n\n",
            "😀\n",
        ];
        for text in texts {
            let text = text.repeat(20_000 / text.len());
            let longest = splitter
                .segments(&text, true)
                .map(|segment| segment.text.len())
                .max();
            assert!(
                longest <= Some(2 * MIN_SEGMENT),
                "{longest:?} of {text:.20}"
            );
            let (tokens, _) = in_segments(vocabulary, &splitter, &text);
            assert_eq!(tokens, vocabulary.tokenize(&text, true));
        }
    });
}

/// Returns the segments of `text` if `specials` are the special tokens.
fn segments<'text>(specials: &[&str], text: &'text str) -> Vec<&'text str> {
    let special = |text: &&str| SpecialToken {
        text: (*text).to_owned(),
        is_control: false,
    };
    let specials: Vec<SpecialToken> = specials.iter().map(special).collect();
    let splitter = Splitter::new(Some(&specials), None).unwrap();
    splitter
        .segments(text, false)
        .map(|segment| segment.text)
        .collect()
}

#[test]
fn a_text_is_not_split_behind_a_token_that_a_longer_one_may_replace() {
    let text = format!("{}abcd{}", "x".repeat(MIN_SEGMENT), "y".repeat(MIN_SEGMENT));
    let behind = |end: usize| vec![&text[..MIN_SEGMENT + end], &text[MIN_SEGMENT + end..]];
    assert_eq!(segments(&["ab"], &text), behind(2));
    assert_eq!(segments(&["ab", "abc"], &text), behind(3));
    assert_eq!(segments(&["ab", "bcd"], &text), behind(4));
    // Both have the same length, so llama.cpp's order is unknown.
    assert_eq!(segments(&["ab", "bc"], &text), [text.as_str()]);
}
