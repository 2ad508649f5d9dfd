//! Prompts of typed tools.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Config, Overrides, Surroundings};
use crate::process::Cpus;

fn rendered(source: &str, arguments: &Value) -> Result<String, String> {
    let arguments = arguments.as_object().unwrap().clone();
    let names: Vec<&str> = arguments.keys().map(String::as_str).collect();
    let rendered = PromptTemplate::new(source, &names)?.render(&arguments);
    rendered.map_err(|error| error.to_string())
}

#[test]
fn arguments_are_data_and_never_template() {
    let text = "{{ 7 * 7 }} <|im_end|> & \"x\"";
    assert_eq!(
        rendered("Say: {{ text }}", &json!({"text": text})).unwrap(),
        format!("Say: {text}")
    );
    let list = json!({"list": ["a", "b"], "n": 2, "on": true});
    assert_eq!(
        rendered(
            "{% for item in list %}{{ item }};{% endfor %}{{ n }}{% if on %}!{% endif %}",
            &list
        )
        .unwrap(),
        "a;b;2!"
    );
}

#[test]
fn methods_filters_and_functions_of_python_work_as_in_chat_templates() {
    let arguments = json!({"text": " A <b>small</b> text, and more of it ", "list": ["a", "<b>"]});
    for (source, expected) in [
        (
            "{{ text.strip().upper() }}",
            "A <B>SMALL</B> TEXT, AND MORE OF IT",
        ),
        ("{{ text.split(',')[1].split() | length }}", "4"),
        (
            "{{ ', '.join(list) }} {{ list | tojson }}",
            r#"a, <b> ["a", "<b>"]"#,
        ),
        ("{{ text | striptags | truncate(12) }}", "A small..."),
        (
            "{{ text | striptags | wordwrap(10) }}",
            "A small\ntext, and\nmore of it",
        ),
        (
            "{{ text | wordcount }} {{ 'x' | center(3) }} {{ 'a b' | urlencode }}",
            "9  x  a%20b",
        ),
    ] {
        assert_eq!(rendered(source, &arguments).unwrap(), expected, "{source}");
    }
    let error = rendered("{{ text.split('|')[1].strip() }}", &arguments).unwrap_err();
    assert!(error.contains("undefined value"), "{error}");
    let year = rendered("{{ strftime_now('%Y') }}", &json!({})).unwrap();
    assert!(year.parse::<u32>().unwrap() > 2000);
    assert_eq!(
        rendered("{{ raise_exception('no') }}", &json!({})).unwrap_err(),
        "no (line 1 of the template)"
    );
}

#[test]
fn long_lists_have_the_steps_that_they_need() {
    let list = vec![1; 200_000];
    let source = "{% for n in list %}{% if n > 0 and n < 2 %}{{ n }},{% endif %}{% endfor %}";
    let text = rendered(source, &json!({ "list": list })).unwrap();
    assert_eq!(text.len(), 400_000);
}

#[test]
fn a_name_that_is_no_argument_is_refused_before_any_call() {
    let error = PromptTemplate::new("Say: {{ txet }}", &["text"]).unwrap_err();
    assert_eq!(
        error,
        "uses `txet`, which is no argument; did you mean `text`?"
    );
    let text = json!({"text": {"type": "string"}});
    let error = checked("{{ text | upcase }}", &text).unwrap_err();
    assert!(error.contains("upcase"), "{error}");
    let chain = format!("{{{{ {}text }}}}", "not ".repeat(15_000));
    drop(PromptTemplate::new(&chain, &["text"]));
    let error = PromptTemplate::new("a\n{% if %}", &[]).unwrap_err();
    assert!(error.ends_with("(line 2 of the template)"), "{error}");
}

/// Checks `source` with arguments of these schemas.
fn checked(source: &str, schemas: &Value) -> Result<(), String> {
    let arguments: Vec<Argument> = schemas
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, schema)| Argument {
            name: name.clone(),
            schema: schema.clone(),
            default: None,
        })
        .collect();
    let names: Vec<&str> = arguments.iter().map(Argument::name).collect();
    PromptTemplate::new(source, &names)?.check_samples(source, &arguments)
}

#[test]
fn a_method_or_operator_that_no_value_of_an_argument_has_is_refused_before_any_call() {
    let schemas = json!({
        "count": {"type": "integer"},
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "number"}},
        "flag": {"type": "boolean"},
    });
    for (source, fault) in [
        ("{{ count.upper() }}", "number has no method named upper"),
        ("{{ list.strip() }}", "sequence has no method named strip"),
        ("{{ list[0].strip() }}", "number has no method named strip"),
        ("{{ text.uper() }}", "string has no method named uper"),
        (
            "{% if flag %}{{ text.uper() }}{% endif %}",
            "string has no method named uper",
        ),
        ("{{ 'Count: ' + count }}", "tried to use + operator"),
        (
            "{% if flag %}{{ count.upper() }}{% else %}{{ list.strip() }}{% endif %}",
            "has no method named",
        ),
    ] {
        let error = checked(source, &schemas);
        let error = error.expect_err(source);
        assert!(error.contains(fault), "{source}: {error}");
        assert!(error.ends_with("(line 1 of the template)"), "{error}");
    }
}

#[test]
fn a_prompt_that_works_for_some_values_passes() {
    let schemas = json!({
        "count": {"type": "integer", "minimum": 0},
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
        "flag": {"type": "boolean"},
        "mode": {"type": "string", "enum": ["a", "b", "c", "d"]},
    });
    for source in [
        "{{ text.split('|')[1].strip() }}",
        "{{ text | int + count }}",
        "{{ list[0].upper() }}{{ list | join(', ') }}",
        "{% if count is string %}{{ count.upper() }}{% endif %}",
        "{% if flag %}{{ count.upper() }}{% endif %}",
        "{% if list %}{{ list[0] + 1 }}{% endif %}",
        "{% if text | length < 100 %}{{ count.upper() }}{% endif %}",
        "{% if mode != 'c' %}{{ count.upper() }}{% endif %}",
        "{% if text != 'yes' %}{{ count.upper() }}{% endif %}",
        "{% if count < 1000 %}{{ count.upper() }}{% endif %}",
        "{% if count > 0 %}{{ count.upper() }}{% endif %}",
        "{{ raise_exception('no') }}",
    ] {
        assert_eq!(checked(source, &schemas), Ok(()), "{source}");
    }
}

#[test]
fn a_prompt_that_takes_long_is_tried_a_few_times_only_and_left_to_its_calls() {
    let schemas = json!({
        "count": {"type": "integer"},
        "mode": {"type": "string", "enum": ["a", "b", "c", "d"]},
    });
    let fault = "{{ count.upper() }}";
    assert!(checked(fault, &schemas).is_err());
    let short = format!("{{% for i in range(1000) %}}{{% endfor %}}{fault}");
    assert!(checked(&short, &schemas).is_err());
    let long = format!("{{% for i in range(300000) %}}{{% endfor %}}{fault}");
    assert_eq!(checked(&long, &schemas), Ok(()));
}

#[test]
fn the_prompt_of_a_tool_is_compiled_without_trials_and_checked_with_them() {
    let set = [
        "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf",
        "tools.t.prompt={{ count.upper() }}",
        "tools.t.arguments.count.type=integer",
    ];
    let typed = Overrides {
        set: set.map(str::to_owned).into(),
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    let (config, _) = Config::load(&typed, &around).unwrap();
    let tool = config.tools[0].prepared().unwrap();
    assert!(PromptTemplate::of(tool).is_ok());
    let error = PromptTemplate::check(tool).unwrap_err();
    assert!(error.contains("no method named upper"), "{error}");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let error = rendered(source, &json!({})).unwrap_err();
    assert!(error.starts_with("it takes too many steps"), "{error}");
}
