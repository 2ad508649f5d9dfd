//! Rendering of prompts.

mod faults;

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::config::{Config, Overrides, Surroundings};
use crate::process::Cpus;

/// Compiles `source`, which may use `arguments`.
fn compiled(source: &str, arguments: &[&str]) -> Result<PromptTemplate, String> {
    let template = PromptTemplate::compile_source(source, arguments, Map::new());
    template.map_err(|faults| faults.to_string())
}

/// Renders `source` with `arguments`.
fn rendered(source: &str, arguments: &Value) -> Result<String, String> {
    let arguments = arguments.as_object().unwrap().clone();
    let names: Vec<&str> = arguments.keys().map(String::as_str).collect();
    let rendered = compiled(source, &names)?.render(&arguments);
    rendered.map_err(|error| error.to_string())
}

/// Returns the prompt of the tool `t` with the overrides `set`.
fn tool(set: &[&str]) -> PreparedPrompt {
    let model = "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf";
    let set = [&[model][..], set].concat();
    let typed = Overrides {
        set: set.into_iter().map(str::to_owned).collect(),
        ..Overrides::default()
    };
    let around = Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    let (config, _) = Config::load(&typed, &around).unwrap();
    config.tools[0].prepared().unwrap().clone()
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
fn python_methods_filters_and_functions_work_as_in_chat_templates() {
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
    assert!(error.contains("is undefined"), "{error}");
    let year = rendered("{{ strftime_now('%Y') }}", &json!({})).unwrap();
    assert!(year.parse::<u32>().unwrap() > 2000);
    assert_eq!(
        rendered("{{ raise_exception('no') }}", &json!({})).unwrap_err(),
        "no (line 1 of the template)"
    );
}

#[test]
fn long_lists_add_enough_fuel_to_loop_over_them() {
    let list = vec![1; 200_000];
    let source = "{% for n in list %}{% if n > 0 and n < 2 %}{{ n }},{% endif %}{% endfor %}";
    let text = rendered(source, &json!({ "list": list })).unwrap();
    assert_eq!(text.len(), 400_000);
}

#[test]
fn a_prompt_can_use_the_choices_or_the_schema_of_its_answer() {
    let choices = tool(&[
        "tools.t.prompt={{ choices | join(', ') }} {{ choices }}",
        "tools.t.choices=[\"good\", \"bad\"]",
    ]);
    let rendered = PromptTemplate::compile(&choices)
        .unwrap()
        .render(&Map::new());
    assert_eq!(rendered.unwrap(), "good, bad ['good', 'bad']");
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#;
    let output = format!("tools.t.output={schema}");
    let with_schema = tool(&["tools.t.prompt={{ output_schema }}", &output]);
    let rendered = PromptTemplate::compile(&with_schema)
        .unwrap()
        .render(&Map::new());
    assert_eq!(rendered.unwrap(), schema);
    // An argument of the same name takes precedence.
    let own = tool(&[
        "tools.t.prompt={{ choices }}",
        "tools.t.choices=[\"good\", \"bad\"]",
        "tools.t.arguments.choices.type=string",
    ]);
    let arguments = json!({"choices": "mine"});
    let rendered = PromptTemplate::compile(&own)
        .unwrap()
        .render(arguments.as_object().unwrap());
    assert_eq!(rendered.unwrap(), "mine");
    let free = compiled("{{ choices }}", &[]).unwrap_err();
    assert!(
        free.starts_with("uses `choices`, which is not an argument"),
        "{free}"
    );
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let error = rendered(source, &json!({})).unwrap_err();
    assert!(error.starts_with("it takes too many steps"), "{error}");
}

#[test]
fn the_error_of_a_call_names_the_line_and_the_undefined_expression() {
    let arguments = json!({"x": "a"});
    for (source, message) in [
        ("{{ x[5] }}", "`x[5]` is undefined (line 1 of the template)"),
        (
            "\n{{ x.split(':')[1].strip() }}",
            "`(...)[1]` is undefined (line 2 of the template)",
        ),
        (
            "{{ x | first(1) }}",
            "too many arguments: `first(1)` (line 1 of the template)",
        ),
    ] {
        assert_eq!(rendered(source, &arguments).unwrap_err(), message);
    }
}
