//! Tests of chat templates, each of which shows one feature.

use super::*;

fn message(role: Role, content: &str) -> Message {
    Message::new(role, content)
}

fn render(source: &str, messages: &[Message]) -> Result<String, EngineError> {
    ChatTemplate::new(source, "<s>".into(), "</s>".into())?.render(messages, &Variables::new())
}

#[test]
fn blocks_are_trimmed_and_python_methods_work() {
    let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.content.startswith('x') %}\n{{ m['content'].strip() }}|\n    {% else %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}";
    let messages = [message(Role::User, "x y "), message(Role::User, "z")];
    assert_eq!(render(source, &messages).unwrap(), "<s>\nx y|\nz\n");
}

#[test]
fn the_error_of_a_refusal_has_the_message_of_the_template() {
    let error = render(
        "{{ raise_exception('Roles must alternate') }}",
        &[message(Role::User, "a")],
    )
    .unwrap_err();
    assert_eq!(
        error.text,
        "the model's chat template refused the messages: Roles must alternate"
    );
}

#[test]
fn a_refused_system_message_moves_in_front_of_the_first_user_message() {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}[{{ m.role }}:{{ m.content }}]{% endfor %}";
    let messages = [
        message(Role::System, "Be brief."),
        message(Role::User, "Hi"),
    ];
    assert_eq!(render(source, &messages).unwrap(), "[user:Be brief.\n\nHi]");
}

/// A template without system messages, like that of Phi-3.
const NO_SYSTEM: &str = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}<|end|>{% endif %}{% endfor %}";

#[test]
fn an_omitted_system_message_moves_in_front_of_the_next_user_message() {
    let messages = [
        message(Role::System, "Be brief."),
        message(Role::User, "Hi"),
        message(Role::Assistant, "Hello!"),
        message(Role::System, "Be kind."),
        message(Role::User, "So?"),
    ];
    assert_eq!(
        render(NO_SYSTEM, &messages).unwrap(),
        "<|user|>Be brief.\n\nHi<|end|><|assistant|>Hello!<|end|><|user|>Be kind.\n\nSo?<|end|>"
    );
    assert_eq!(
        render(NO_SYSTEM, &messages[..1]).unwrap(),
        "<|user|>Be brief.<|end|>"
    );
}

#[test]
fn a_system_prompt_is_tried_before_any_call() {
    let messages = [
        message(Role::System, "Be brief."),
        message(Role::User, "Hi"),
    ];
    let fate = |source| check_messages(source, &messages, &Variables::new());
    let all = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(fate(all).unwrap(), SystemPrompt::Printed);
    assert_eq!(fate(NO_SYSTEM).unwrap(), SystemPrompt::Merged);
    assert_eq!(
        fate("{{ messages[0].content }}").unwrap_err().text,
        "the chat template leaves out message 2 (user)"
    );
}

#[test]
fn a_question_and_a_conversation_are_tried_with_the_configured_variables() {
    let none = Variables::new();
    let turns = [
        message(Role::User, "Hi"),
        message(Role::Assistant, "Hello!"),
        message(Role::User, "Why?"),
    ];
    let check_question = |source, variables| check_messages(source, &turns[..1], variables);
    let fixed = "{{ 'Hello' }}";
    assert_eq!(
        check_question(fixed, &none).unwrap_err().text,
        "the chat template leaves out message 1 (user)"
    );
    let first = "{{ messages[0].content }}";
    assert!(check_question(first, &none).is_ok());
    assert_eq!(
        check_messages(first, &turns, &none).unwrap_err().text,
        "the chat template leaves out message 2 (assistant) and message 3 (user)"
    );
    let wants = "{% if not lang %}{{ raise_exception('no lang') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let given = Variables::from_iter([("lang".to_owned(), "es".into())]);
    let refused = "the model's chat template refused the messages: no lang";
    assert_eq!(check_question(wants, &none).unwrap_err().text, refused);
    assert!(check_question(wants, &given).is_ok());
}

#[test]
fn a_panic_during_a_trial_is_an_error() {
    assert_eq!(try_on_stack("", || Ok(7)).unwrap(), Some(7));
    let error = try_on_stack("", || -> Result<(), _> { panic!("as a bug would") }).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Template);
    assert!(error.text.ends_with("panic"), "{error}");
}

#[test]
fn text_is_passed_as_parts_to_a_template_that_reads_parts() {
    // The template of SmolVLM.
    let source = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
    let messages = [
        message(Role::System, "Be brief."),
        message(Role::User, "What is a crab?"),
    ];
    assert_eq!(
        render(source, &messages).unwrap(),
        "<|im_start|>System: Be brief.<end_of_utterance>\nUser: What is a crab?<end_of_utterance>\nAssistant:"
    );
}

#[test]
fn the_error_names_the_messages_that_are_omitted() {
    let messages = [
        message(Role::User, "Hi"),
        message(Role::Assistant, "Hello!"),
        message(Role::User, "So?"),
    ];
    let no_answers = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    let error = render(no_answers, &messages).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Template);
    assert_eq!(
        error.text,
        "the chat template leaves out message 2 (assistant)"
    );
    assert!(error.hint.unwrap().contains("`chat_template`"));
    let cut = "{% for m in messages %}{{ m.content[:4] }}{% endfor %}";
    assert_eq!(
        render(cut, &messages).unwrap_err().text,
        "the chat template leaves out message 2 (assistant)"
    );
    let cut = "{{ messages[0].content.split('\\n')[-1] }}";
    let long = [message(Role::User, "What is a crab?\nBe brief.")];
    assert_eq!(
        render(cut, &long).unwrap_err().text,
        "the chat template leaves out part of message 1 (user)"
    );
    let first = "{{ messages[0].content }}";
    let more = [&messages[..], &messages[..], &messages[..]].concat();
    assert_eq!(
        render(first, &more).unwrap_err().text,
        "the chat template leaves out message 2 (assistant), message 3 (user), message 4 (user) and 5 more"
    );
}

#[test]
fn generation_blocks_print_their_body() {
    let source = "a {%- generation -%} b {% endgeneration %}";
    assert_eq!(render(source, &[message(Role::User, "")]).unwrap(), "ab ");
}

#[test]
fn an_endless_template_runs_out_of_fuel() {
    let source =
        "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}";
    let error = render(source, &[message(Role::User, "")]).unwrap_err();
    assert!(error.text.ends_with("it takes too many steps"), "{error}");
}

#[test]
fn a_template_cannot_create_text_that_its_fuel_does_not_pay_for() {
    let values = "{% set a = 'a' * 100000 %}{% set list = [a] * 100000 %}";
    for expression in [
        "a.replace('a', a)",
        "a.join(list)",
        "''.join(list)",
        "list",
        "list | join",
        "list | string",
        "list | tojson",
        "([1] * 10000) | tojson(separators=[a, a])",
        "('{0}' * 20000).format(a)",
        "('%s' * 20000) | format(*([a] * 20000))",
        "('\\t' * 10000000).expandtabs(64)",
        "a | wordwrap(1, wrapstring=a)",
        "('a ' * 10000000).split()",
        "('\\n' * 10000000).splitlines()",
        "list | pprint",
    ] {
        let source = format!("{values}{{{{ {expression} }}}}");
        let error = render(&source, &[message(Role::User, "")]).expect_err(expression);
        let is_stopped = error.text.ends_with("it takes too many steps");
        assert!(is_stopped, "{expression}: {error}");
    }
    for sum in ["sum(start='')", "sum(none, '')"] {
        let source = format!("{values}{{{{ list | {sum} }}}}");
        let error = render(&source, &[message(Role::User, "")]).unwrap_err();
        assert!(error.text.ends_with("use `join`"), "{error}");
    }
}

#[test]
fn texts_and_lists_of_usual_sizes_do_not_run_out_of_fuel() {
    for (expression, expected) in [
        ("'a-b-c'.replace('-', '+')", "a+b+c"),
        ("'a-b-c'.replace('-', '+', 1)", "a+b-c"),
        ("'aba'.replace('a', '', -1)", "b"),
        ("'-'.join(['a', 1])", "a-1"),
        ("'-'.join('abc')", "a-b-c"),
        ("[{'k': 'a'}, {'k': 'b'}] | join('+', attribute='k')", "a+b"),
        ("'{} {:>3}'.format('a', 'b')", "a   b"),
        ("'%s: %03d' | format('a', 7)", "a: 007"),
        ("[1, 2] | sum(start=3)", "6"),
        ("[[1], [2]] | sum(start=[])", "[1, 2]"),
        ("[1, 'a'] | string | length", "8"),
        ("['a', none, 1.5]", "['a', None, 1.5]"),
    ] {
        let source = format!("{{{{ {expression} }}}}");
        let rendered = render(&source, &[message(Role::User, "")]).unwrap();
        assert_eq!(rendered, expected, "{expression}");
    }
}

#[test]
fn all_renderings_of_a_conversation_share_a_budget() {
    // Each rendering uses part of the budget and omits all text.
    let source =
        "{% for a in range(10000) %}{% for b in range(8) %}{% set x = b %}{% endfor %}{% endfor %}";
    let messages: Vec<Message> = (0..9).map(|_| message(Role::User, "Hi")).collect();
    let error = render(source, &messages).unwrap_err();
    assert!(
        error.text.starts_with("the chat template leaves out"),
        "{error}"
    );
}

#[test]
fn the_budget_grows_with_the_conversation() {
    // Iterates over all earlier messages for each message.
    let source = "{% for m in messages %}{% for i in range(loop.index0) %}{% if messages[i].role == 'x' %}?{% endif %}{% endfor %}{{ m.content }}{% endfor %}";
    let messages: Vec<Message> = (0..1_500).map(|_| message(Role::User, "Hi")).collect();
    assert_eq!(render(source, &messages).unwrap().len(), 3_000);
    let source = "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}";
    let long = [message(Role::User, &"x".repeat(500_000))];
    assert_eq!(render(source, &long).unwrap().len(), 500_000);
}

#[test]
fn an_invalid_template_is_an_error() {
    let error = render("{% for %}", &[]).unwrap_err();
    assert!(
        error
            .text
            .starts_with("the model's chat template is not valid"),
        "{error}"
    );
}

/// Renders `source` after a loop that nests lists in each other `times` times, `levels` at a time.
fn nested(levels: usize, times: usize, source: &str) -> Result<String, EngineError> {
    let (open, close) = ("[".repeat(levels), "]".repeat(levels));
    let set = |name: &str| format!("{{% set ns.{name} = {open}ns.{name}{close} %}}");
    let sets = ["a", "b"].map(set).concat();
    let source = format!(
        "{{% set ns = namespace(a=[], b=[]) %}}{{% for i in range({times}) %}}{sets}{{% endfor %}}{{{{ messages[0].content }}}}{source}"
    );
    render(&source, &[message(Role::User, "Hi")])
}

#[test]
fn deeply_nested_values_are_dropped_printed_compared_and_sorted() {
    for (expression, expected) in [
        ("''", Ok("Hi".to_owned())),
        ("ns.a == ns.b", Ok("HiTrue".to_owned())),
        ("[ns.a, ns.b] | sort | length", Ok("Hi2".to_owned())),
        (
            "[ns.a, ns.b] | unique | list | length",
            Ok("Hi1".to_owned()),
        ),
        ("ns.a | string | length", Ok("Hi100002".to_owned())),
        ("ns.a | tojson | length", Ok("Hi100002".to_owned())),
    ] {
        let rendered = nested(1, 50_000, &format!("{{{{ {expression} }}}}"));
        assert_eq!(rendered, expected, "{expression}");
    }
}

#[test]
fn values_nested_many_thousand_levels_deep_do_not_exhaust_the_stack() {
    for expression in [
        "''",
        "ns.a == ns.b",
        "ns.a",
        "ns.a | tojson",
        "ns.a | pprint",
    ] {
        // The stack frames of a build without optimisation are larger, so fewer levels do.
        let levels = if cfg!(debug_assertions) { 400 } else { 4_000 };
        let rendered = nested(30, levels, &format!("{{{{ {expression} }}}}"));
        if let Err(error) = rendered {
            assert!(
                error.text.ends_with("it takes too many steps"),
                "{error:.200}"
            );
        }
    }
}

#[test]
fn reading_a_long_text_repeatedly_runs_out_of_fuel() {
    for expression in [
        "a.partition('b')",
        "a.find('b')",
        "a | wordcount",
        "a.isalpha()",
    ] {
        let source = format!(
            "{{% set a = 'a' * 1000000 %}}{{% for i in range(100000) %}}{{% set b = {expression} %}}{{% endfor %}}"
        );
        let error = render(&source, &[message(Role::User, "")]).expect_err(expression);
        let is_stopped = error.text.ends_with("it takes too many steps");
        assert!(is_stopped, "{expression}: {error}");
    }
}
