//! Models with limited memory: sliding windows, recurrent states, and hybrids of these with full attention.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use super::{assert_shared, cached, load, texts, uncached, user, with_setting};
use crate::support::gemma;
use crate::support::random_model::{hybrid, recurrent};
use crate::support::worker::{Answer, Worker};

/// Tokens of each answer.
const ANSWER: u32 = 6;

/// The subjects of Gemma's questions: it finds the badge of each of them anywhere in the text.
const CITIES: [&str; 40] = [
    "Oslo", "Lima", "Cairo", "Paris", "Tokyo", "Delhi", "Quito", "Rome", "Bern", "Accra", "Dakar",
    "Hanoi", "Kyiv", "Minsk", "Riga", "Sofia", "Doha", "Baku", "Male", "Lome", "Suva", "Apia",
    "Juba", "Nuuk", "Rabat", "Tunis", "Amman", "Seoul", "Manila", "Dublin", "Warsaw", "Vienna",
    "Prague", "Lisbon", "Madrid", "Athens", "Ankara", "Tehran", "Bogota", "Caracas",
];

const COLOURS: [&str; 18] = [
    "amber", "blue", "coral", "gold", "green", "ivory", "jade", "lilac", "olive", "pink", "plum",
    "red", "ruby", "silver", "teal", "violet", "white", "yellow",
];

/// Returns one line for the badge of each city, 12 tokens a line.
fn badges(cities: impl IntoIterator<Item = usize>) -> String {
    let lines = cities.into_iter().map(|at| {
        let (city, colour) = (CITIES[at], COLOURS[at * 7 % COLOURS.len()]);
        format!(
            "The badge of {city} is {colour} number {}.\n",
            at * 37 % 90 + 10
        )
    });
    lines.collect()
}

/// Returns the last line up to its number, which the model predicts with confidence.
fn question(city: usize) -> String {
    let badge = badges([city]);
    let (question, _) = badge.rsplit_once(' ').unwrap();
    format!("\n{question}")
}

/// Calls with a common prefix, concurrently, later and one after another. Asserts that the prefix is decoded once, or twice before it is
/// known to be common, and that the answers do not change.
fn share(load: &Value, text: &str, ends: [&str; 4], common: u64) -> Vec<String> {
    let prompts = ends.map(|end| user(&format!("{text}{end}")));
    let whole = uncached(load).ask_each(&prompts, ANSWER);
    let mut worker = Worker::load(load);
    let together = worker.ask(&prompts, ANSWER);
    assert_eq!(texts(&together), texts(&whole));
    assert_shared(&together, common);
    let later = worker.ask_each(&prompts, ANSWER);
    assert_eq!(texts(&later), texts(&whole));
    assert_eq!(cached(&later), [common; 4]);
    assert!(!worker.end().contains("llama.cpp did not"));
    texts(&whole).into_iter().map(str::to_owned).collect()
}

/// Like [`share`], but all calls come one after another: the second one discovers the common prefix.
fn follow(path: &Path, text: &str, ends: [&str; 4], common: u64, expected: &[String]) {
    let prompts = ends.map(|end| user(&format!("{text}{end}")));
    let answers = Worker::load(&load(path, 4096, 4)).ask_each(&prompts, ANSWER);
    assert_eq!(texts(&answers), expected);
    assert_eq!(cached(&answers), [0, 0, common, common]);
}

/// Alternates between two conversations on a single sequence, each restored from memory. Returns the answers of both.
fn converse(path: &Path, talks: [[String; 3]; 2]) -> [Vec<Answer>; 2] {
    let load = load(path, 4096, 1);
    let (mut worker, mut whole) = (Worker::load(&load), uncached(&load));
    let mut talks = talks.map(|turns| (turns.into_iter(), Vec::new(), Vec::new()));
    for turn in 0..3 {
        for (turns, messages, answers) in &mut talks {
            messages.push(json!({"role": "user", "content": turns.next()}));
            let conversation = [json!(messages)];
            let answer = worker.ask(&conversation, ANSWER).remove(0);
            let expected = whole.ask(&conversation, ANSWER);
            assert_eq!(texts(&expected), [&*answer.text], "turn {turn}");
            messages.push(json!({"role": "assistant", "content": answer.text}));
            answers.push(answer);
        }
    }
    assert!(!worker.end().contains("llama.cpp did not"));
    talks.map(|(_, _, answers)| answers)
}

/// Asserts that each turn started where the previous one ended, or after the part of its answer that reads the same in the next prompt.
fn assert_continued(answers: &[Answer]) {
    assert!(answers[0].cached < 32, "{answers:?}");
    for turns in answers.windows(2) {
        let before = turns[0].prompt..=turns[0].prompt + u64::from(ANSWER);
        assert!(before.contains(&turns[1].cached), "{answers:?}");
    }
}

#[test]
fn calls_share_a_prefix_that_is_longer_than_the_window() {
    // Longer than the window (512), and than its cells (768).
    let text = badges((0..40).cycle().take(165));
    let questions = [0, 1, 7, 33].map(question);
    let ends = questions.each_ref().map(String::as_str);
    let answers = share(&load(&gemma(), 2560, 4), &text, ends, 2008);
    assert_eq!(
        answers,
        [" 10.\nThe", " 47.\nThe", " 89.\nThe", " 61.\nThe"]
    );
}

#[test]
fn conversations_with_sliding_windows_are_restored_from_memory() {
    // Two questions about each city. The later questions are about cities that the window may have dropped.
    let turn =
        |cities: Range<usize>, city: usize| badges(cities.clone().chain(cities)) + &question(city);
    let talks = [
        [turn(0..12, 1), turn(12..24, 0), turn(24..36, 7)],
        [turn(20..32, 28), turn(0..12, 0), turn(8..20, 23)],
    ];
    let answers = converse(&gemma(), talks);
    let texts = answers.each_ref().map(|answers| texts(answers));
    assert_eq!(
        texts,
        [
            [" 47.\nThe", " 10.\nThe", " 89.\nThe"],
            [" 56.\nThe", " 10.\nThe", " 51.\nThe"]
        ]
    );
    for answers in answers {
        assert_continued(&answers);
    }
}

#[test]
fn tokens_that_left_the_window_do_not_count_as_cached() {
    let mut worker = Worker::load(&load(&gemma(), 1024, 1));
    // Longer than the window, but not than its cells: the saved state lacks the beginning.
    let long = badges((0..40).chain(0..21)) + &question(7);
    // Evicts the conversation from the only sequence.
    let other = "Once upon a time there was a crab that lived in the sea. ".repeat(4);
    // Ends before the beginning of the saved state.
    let short = badges(0..16) + &question(0);
    let answers = worker.ask_each(&[user(&long), user(&other), user(&short)], ANSWER);
    assert!(answers[0].prompt > 700, "{answers:?}");
    assert_eq!(answers[2].text, " 10.\nThe", "{answers:?}");
    assert!(answers[2].cached < 32, "{answers:?}");
}

#[test]
fn models_with_recurrent_states_share_and_restore_prefixes() {
    let sea = "A crab lives in the sea. ".repeat(200);
    let ends = ["Who is it?", "Is it here?", "Zebras sing.", "Go on!"];
    for (file, common) in [(recurrent(), 2603), (hybrid(), 2603)] {
        let load = load(&file.0, 4096, 4);
        let answers = share(&load, &sea, ends, common);
        // Fewer cells than four calls may need, so that the cache is a pool.
        let pool = with_setting(&load, "kv_cells", json!(3 * 4096));
        assert_eq!(share(&pool, &sea, ends, common), answers);
        follow(&file.0, &sea, ends, common, &answers);
        // The answers depend on the text before the questions, and on the questions.
        let land = "No crab lives on land, or does it? ".repeat(100);
        let elsewhere = ends.map(|end| user(&format!("{land}{end}")));
        let others = uncached(&load).ask_each(&elsewhere, ANSWER);
        for (at, answer) in answers.iter().enumerate() {
            assert_ne!(*answer, others[at].text);
            assert!(!answers[..at].contains(answer), "{answers:?}");
        }
        let turn = |words: &str| words.repeat(60);
        let talks = converse(
            &file.0,
            [
                [
                    turn("The sea is deep. "),
                    turn("Do crabs sing? "),
                    turn("They dance. "),
                ],
                [
                    turn("A bird flies. "),
                    turn("Where is it? "),
                    turn("Far away. "),
                ],
            ],
        );
        for answers in talks {
            assert_continued(&answers);
        }
    }
}
