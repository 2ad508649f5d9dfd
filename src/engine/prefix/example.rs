use super::*;
use crate::engine::token::tokens;

#[test]
fn a_prompt_starts_from_the_longest_prefix_that_pays() {
    // Sequence 0 is busy with a tool's prompt of 1,500 tokens, a question and an answer. Sequence 1 is empty.
    let held = tokens(0..1700);
    let prompt = tokens((0..1500).chain(5000..5080));
    let own = reusable_len(&[], true, &prompt);
    let other = reusable_len(&held, true, &prompt);
    assert_eq!((own, other), (0, 1500));

    let lengths = |own, other, saved| PrefixLengths { own, other, saved };
    // In a pool the new call shares the cells of sequence 0.
    let in_pool = true;
    assert_eq!(
        choose_source(lengths(own, other, 0), in_pool),
        (SourceKind::Other, 1500)
    );
    // Otherwise a saved state of the prompt is better: it takes one copy instead of two.
    assert_eq!(
        choose_source(lengths(own, other, 1500), !in_pool),
        (SourceKind::Saved, 1500)
    );
    // A few tokens are decoded faster than they are copied.
    assert_eq!(
        choose_source(lengths(own, 20, 0), in_pool),
        (SourceKind::Own, 0)
    );

    // A recurrent state cannot go back to token 1,500.
    assert_eq!(reusable_len(&held, false, &prompt), 0);
    // Before sequence 0 is overwritten, its content is saved only if enough of it is not cached elsewhere.
    assert!(is_worth_saving(1700, 1500));
    assert!(!is_worth_saving(1600, 1510));
}
