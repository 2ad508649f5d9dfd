//! Tests with sliding windows: sequences cannot be truncated, so states are saved where prompts diverge.

use super::*;

/// Returns a script for a decoder with a sliding window of 50 tokens.
fn sliding() -> Script {
    Script {
        window: Some(50),
        ..says("x")
    }
}

#[test]
fn a_saved_state_without_its_first_tokens_is_not_truncated_even_if_its_sequence_can_be() {
    let limits = Limits {
        parallel: 1,
        ..COPIES
    };
    let script = Script {
        window: Some(200),
        ..says("x")
    };
    let mut bench = Bench::new(limits, 8, script);
    bench.ask(1, of_tool(1));
    bench.run_until_empty();
    bench.ask(2, of_tool(2));
    bench.run_until_empty();
    // The sequence can be truncated, but not its saved state.
    bench.ask(3, (1..300).collect());
    bench.run_until_empty();
    let saved = bench.seen.borrow().saved.clone();
    assert!(saved.iter().any(|length| *length >= 320), "{saved:?}");
    bench.ask(4, of_tool(3));
    bench.run_until_empty();
    assert_eq!(sorted(bench.cached()), [0, 300, 0, 0]);
}

#[test]
fn prompts_share_a_state_saved_where_they_diverge() {
    for (at_once, expected) in [(true, [0, 300, 300, 300]), (false, [0, 0, 300, 300])] {
        let mut bench = Bench::new(COPIES, 8, sliding());
        for id in 1..=4 {
            bench.ask(id, of_tool(i32::try_from(id).unwrap()));
            if !at_once {
                bench.run_until_empty();
            }
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), expected);
    }
}

#[test]
fn no_state_is_saved_if_it_does_not_fit() {
    let little = Limits {
        cache_bytes: 200,
        ..COPIES
    };
    let none = Limits {
        reuse: Reuse::Nothing,
        ..COPIES
    };
    for limits in [little, none] {
        let mut bench = Bench::new(limits, 8, sliding());
        for id in 1..=4 {
            bench.ask(id, of_tool(i32::try_from(id).unwrap()));
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [0; 4]);
        assert_eq!(bench.seen.borrow().saved.len(), 0, "{limits:?}");
    }
}

#[test]
fn a_prompt_that_diverges_earlier_reuses_the_state_saved_there() {
    let limits = Limits {
        parallel: 8,
        kv_cells: 8000,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, sliding());
    let parting = |at: usize, question: i32| {
        let mut tokens = of_tool(question);
        tokens[at] = 9000 + question;
        tokens
    };
    let prompts = [299, 299, 299, 298, 299].into_iter().zip(1..);
    for (id, (at, question)) in (1..).zip(prompts) {
        bench.ask(id, parting(at, question));
    }
    bench.run_until_empty();
    assert_eq!(sorted(bench.cached()), [0, 299, 299, 298, 299]);
}

#[test]
fn a_tools_prompt_is_saved_while_a_call_decodes_it() {
    let limits = Limits {
        n_batch: 64,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, sliding());
    bench.ask(1, of_tool(1));
    bench.step();
    bench
        .scheduler
        .set_shared_prefixes(vec![tokens(of_tool(1)[..290].to_vec())]);
    bench.run_until_empty();
    assert_eq!(bench.scheduler.stats().warm, 1);
}

#[test]
fn a_prefix_that_cannot_be_decoded_is_dropped_and_no_other() {
    let limits = Limits {
        parallel: 1,
        ..COPIES
    };
    // The call leaves the whole first prefix in the only sequence, which is saved before the prefix is decoded again.
    let after_call = |failing| {
        let script = Script {
            failing,
            ..sliding()
        };
        let mut bench = Bench::new(limits, 8, script);
        bench.ask(1, (0..200).collect());
        bench.run_until_empty();
        bench
    };
    let decodes = after_call(Vec::new()).batches();
    let mut bench = after_call(vec![decodes + 1]);
    let first = (0..200).chain([b'x'.into()]);
    let prefixes = vec![tokens(first), tokens(5000..5100)];
    bench.scheduler.set_shared_prefixes(prefixes);
    while !bench.scheduler.is_idle() {
        bench.step();
    }
    bench.ask(2, (5000..5120).collect());
    bench.run_until_empty();
    assert_eq!(bench.cached().last(), Some(&(2, 100)));
}

#[test]
fn no_call_waits_for_one_that_starts_after_their_common_prefix() {
    let limits = Limits {
        n_batch: 64,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, sliding());
    bench.ask(1, of_tool(1));
    for _ in 0..3 {
        bench.step();
    }
    bench.ask(2, of_tool(2));
    let shared = of_tool(3).into_iter().take(150);
    bench.ask(3, shared.chain(5000..5100).collect());
    bench.step();
    let sequences: Vec<usize> = bench.last_batch().iter().map(|row| row.sequence).collect();
    assert!(
        sequences.contains(&2) && !sequences.contains(&1),
        "{sequences:?}"
    );
}
