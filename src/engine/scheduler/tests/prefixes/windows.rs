//! Windows that slide: nothing can be cut off what a sequence holds, so states are saved where prompts part.

use super::*;

/// A decoder whose sequences forget what lies further back than 50 tokens.
fn forgetful() -> Script {
    Script {
        window: Some(50),
        ..says("x")
    }
}

#[test]
fn what_is_saved_without_its_beginning_is_not_cut_though_its_sequence_could_be() {
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
    // The sequence itself was cut; what goes to memory from it cannot be.
    bench.ask(3, (1..300).collect());
    bench.run_until_empty();
    let saved = bench.seen.borrow().saved.clone();
    assert!(saved.iter().any(|length| *length >= 320), "{saved:?}");
    bench.ask(4, of_tool(3));
    bench.run_until_empty();
    assert_eq!(sorted(bench.cached()), [0, 300, 0, 0]);
}

#[test]
fn prompts_that_forget_their_beginnings_share_from_where_they_part() {
    for (at_once, expected) in [(true, [0, 300, 300, 300]), (false, [0, 0, 300, 300])] {
        let mut bench = Bench::new(COPIES, 8, forgetful());
        for id in 1..=4 {
            bench.ask(id, of_tool(Token::try_from(id).unwrap()));
            if !at_once {
                bench.run_until_empty();
            }
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), expected);
    }
}

#[test]
fn nothing_is_copied_where_it_cannot_be_kept() {
    let little = Limits {
        cache_bytes: 200,
        ..COPIES
    };
    let none = Limits {
        reuse: Reuse::Nothing,
        ..COPIES
    };
    for limits in [little, none] {
        let mut bench = Bench::new(limits, 8, forgetful());
        for id in 1..=4 {
            bench.ask(id, of_tool(Token::try_from(id).unwrap()));
        }
        bench.run_until_empty();
        assert_eq!(sorted(bench.cached()), [0; 4]);
        assert_eq!(bench.seen.borrow().saved.len(), 0, "{limits:?}");
    }
}

#[test]
fn who_parts_earlier_than_the_others_starts_from_there() {
    let limits = Limits {
        parallel: 8,
        kv_cells: 8000,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, forgetful());
    let parting = |at: usize, question: Token| {
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
fn a_tools_prompt_that_is_told_while_a_call_of_it_is_read_is_saved_on_the_way() {
    let limits = Limits {
        n_batch: 64,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, forgetful());
    bench.ask(1, of_tool(1));
    bench.step();
    bench.scheduler.keep_warm(vec![of_tool(1)[..290].to_vec()]);
    bench.run_until_empty();
    assert_eq!(bench.scheduler.stats().warm, 1);
}

#[test]
fn nobody_waits_for_a_call_that_will_start_behind_what_they_share() {
    let limits = Limits {
        n_batch: 64,
        ..COPIES
    };
    let mut bench = Bench::new(limits, 8, forgetful());
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
