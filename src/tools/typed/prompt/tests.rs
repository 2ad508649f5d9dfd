//! Prompts of typed tools.

use std::collections::BTreeMap;

use serde_json::json;

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
    assert!(error.contains("is undefined"), "{error}");
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
        "uses `txet`, which is not an argument (line 1 of the template); did you mean `text`?"
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
    let template = PromptTemplate::new(source, &names)?;
    match &template.sample_faults(source, &arguments)[..] {
        [] => Ok(()),
        faults => Err(joined(faults)),
    }
}

/// The tool `t` with this prompt, and what else is `set`.
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
fn all_names_that_do_not_exist_are_found_also_where_no_value_leads() {
    let prompt = "tools.t.prompt={{ text | upcase }}\n{% if false %}{{ text is odd_ }}{{ txet }}{{ now() }}{% endif %}{{ text.uper() }}{{ text.lwer() }}";
    let tool = tool(&[prompt, "tools.t.arguments.text.type=string"]);
    let faults = PromptTemplate::faults(&tool, Known::All);
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "there is no filter `upcase` (line 1 of the template)",
        "there is no test `odd_` (line 2 of the template)",
        "uses `txet`, which is not an argument (line 2 of the template)",
        "uses `now`, which is not an argument (line 2 of the template)",
        "string has no method named uper (line 2 of the template)",
        "string has no method named lwer (line 2 of the template)",
    ];
    assert_eq!(told, expected);
    assert_eq!(
        faults[0].hint.as_deref(),
        Some("docs/tools.md lists all filters and tests")
    );
    let names = PromptTemplate::faults(&tool, Known::Names);
    assert_eq!(names, faults[..4]);
    assert_eq!(PromptTemplate::faults(&tool, Known::Nothing), []);
}

#[test]
fn a_prompt_can_name_the_choices_and_the_schema_of_its_answer() {
    let choices = tool(&[
        "tools.t.prompt={{ choices | join(', ') }} {{ choices }}",
        "tools.t.choices=[\"good\", \"bad\"]",
    ]);
    let rendered = PromptTemplate::of(&choices).unwrap().render(&Map::new());
    assert_eq!(rendered.unwrap(), "good, bad ['good', 'bad']");
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#;
    let output = format!("tools.t.output={schema}");
    let with_schema = tool(&["tools.t.prompt={{ output_schema }}", &output]);
    let rendered = PromptTemplate::of(&with_schema)
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
    let rendered = PromptTemplate::of(&own)
        .unwrap()
        .render(arguments.as_object().unwrap());
    assert_eq!(rendered.unwrap(), "mine");
    let free = PromptTemplate::new("{{ choices }}", &[]).unwrap_err();
    assert!(
        free.starts_with("uses `choices`, which is not an argument"),
        "{free}"
    );
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
    let tool = tool(&[
        "tools.t.prompt={{ count.upper() }}",
        "tools.t.arguments.count.type=integer",
    ]);
    assert!(PromptTemplate::of(&tool).is_ok());
    let faults = PromptTemplate::faults(&tool, Known::All);
    let told = joined(&faults);
    assert!(told.contains("no method named upper"), "{told}");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let error = rendered(source, &json!({})).unwrap_err();
    assert!(error.starts_with("it takes too many steps"), "{error}");
}

#[test]
fn a_prompt_that_fails_in_every_call_is_refused() {
    let schemas = json!({
        "x": {"type": "string"},
        "n": {"type": "integer"},
        "l": {"type": "array", "items": {"type": "string"}},
    });
    let mut missed = Vec::new();
    for (source, fault) in [
        ("{% include 'a' %}", "`include` is not supported"),
        (
            "{% include x ignore missing %}",
            "`include` is not supported",
        ),
        ("{% import 'a' as b %}", "`import` is not supported"),
        ("{% from 'a' import b %}", "`from` is not supported"),
        ("{% extends 'a' %}", "`extends` is not supported"),
        (
            "{% if x.length > 5 %}a{% endif %}",
            "`x.length` is undefined",
        ),
        ("{{ x.upper }}", "`x.upper` is undefined"),
        ("{{ x['foo'] }}", "`x['foo']` is undefined"),
        ("{{ x.foo.bar() }}", "`x.foo` is undefined"),
        ("{{ 'a' if x.foo else 'b' }}", "`x.foo` is undefined"),
        ("{% set a = {'b': x.foo ~ 'c'} %}", "`x.foo` is undefined"),
        ("{{ l[0].foo }}", "`l[0].foo` is undefined"),
        ("{{ n[0] }}", "`n[0]` is undefined"),
        ("{{ self.x() }}", "block 'x' not found"),
        ("{{ super() }}", "uses `super`"),
        (
            "{% block a %}{{ super() }}{% endblock %}",
            "no parent block exists",
        ),
        ("{{ n | length }}", "cannot calculate length"),
        (
            "{{ x | truncate(size=100) }}",
            "unknown keyword argument 'size'",
        ),
        ("{{ x | tojson(bad=1) }}", "unknown keyword argument 'bad'"),
        ("{{ n / 0 }}", "unable to calculate"),
        ("{{ n | join(',') }}", "cannot join value of type number"),
        ("{% for i in n %}{% endfor %}", "number is not iterable"),
        ("{{ x | round }}", "cannot round value (string)"),
        ("{{ x | sum }}", "cannot add texts"),
        ("{{ x | replace('a') }}", "missing argument: `replace('a')`"),
        ("{{ range() }}", "missing argument: `range()`"),
        ("{{ x.upper(1) }}", "too many arguments"),
        ("{{ x() }}", "value of type string is not callable"),
        (
            "{{ '%d' | format(x) }}",
            "cannot be formatted in decimal format",
        ),
        ("{% set a, b = n %}", "value is not iterable"),
        ("{{ -x }}", "invalid operation: `-x`"),
        (
            "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(x) }}",
            "`b` is undefined",
        ),
        (
            "{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(x) }}",
            "recursion limit exceeded",
        ),
        (
            "{% for i in ['a'] %}{{ loop.cycle() }}{% endfor %}",
            "it could not be rendered",
        ),
    ] {
        let told = checked(source, &schemas).err().unwrap_or_default();
        if !told.contains(fault) {
            missed.push((source, told));
        }
    }
    assert_eq!(missed, []);
}

#[test]
fn what_is_undefined_for_some_values_only_is_left_to_the_calls() {
    let schemas = json!({
        "x": {"type": "string"},
        "n": {"type": "integer"},
        "l": {"type": "array", "items": {"type": "string"}},
    });
    for source in [
        "{{ x.split(', ')[2] }}",
        "{{ l[3] }}",
        "{{ x[9] }}",
        "{% set a, b = x.split('=') %}{{ a }}",
        "{{ x | int }}",
        "{{ 100 / (n - 3) }}",
        "{{ x.index('needle') }}",
        "{% if x is mapping %}{{ x.foo }}{% endif %}",
        "{{ x.foo | default('a') }}",
        "{% if x.foo is defined %}{{ x.foo }}{% endif %}",
        "{% set ns = namespace(a='') %}{% for i in l %}{% set ns.a = i %}{% endfor %}{{ ns.a }}",
        "{% for i in l %}{{ loop.nextitem }}{% endfor %}",
        "{% set m = {'a': 'b'} %}{{ m[x] }}",
        "{% macro f(a, b='c') %}{{ a }}{{ b }}{% endmacro %}{{ f(x) }}",
        "{% if n < 500 %}{{ raise_exception('cannot convert it') }}{% endif %}",
    ] {
        assert_eq!(checked(source, &schemas), Ok(()), "{source}");
    }
}

#[test]
fn a_prompt_that_works_for_few_values_is_left_to_the_calls() {
    let schemas = json!({
        "text": {"type": "string"},
        "n": {"type": "array", "items": {"type": "integer"}},
        "s": {"type": "array", "items": {"type": "string"}},
    });
    let mut refused = Vec::new();
    for source in [
        "{{ text.splitlines()[1:]|first }}",
        "{{ (text.splitlines()[1:]|first) }}",
        "{{ text.split('\\n')[1:]|last }}",
        "{{ text.splitlines()[3:]|min }}",
        "{{ text.splitlines()[9:]|min }}",
        "{{ text.splitlines()\n|reject('equalto', text)\n|first }}",
        "{{ text.splitlines()|reject('equalto', text)|first }}",
        "{{ (text.splitlines()[3:]|first) ~ 'x' }}",
        "{{ (text.splitlines()[9:]|first) ~ 'x' }}",
        "{{ 'x' in (text.splitlines()[3:]|first) }}",
        "{{ 'x' in (text.splitlines()[9:]|first) }}",
        "{% set v = text.splitlines()[9:]|first %}{{ 'x' in v }}",
        "{% set v = text.splitlines()[9:]|first %}{{ v|first }}{{ -v }}",
        "{% set a, b = text.splitlines()[9:]|first %}",
        "{{ text.splitlines()[3:]|map('first')|first }}",
        "{{ text.splitlines()[9:]|map('first')|first }}",
        "{{ text.split('\\n\\n')|slice(2)|last|first }}",
        "{{ text.splitlines()[3:]|first|list }}",
        "{{ text.splitlines()[9:]|first|list }}",
        "{{ text.splitlines()[3:]|first|sort }}",
        "{{ text.splitlines()[9:]|first|sort }}",
        "{{ text.splitlines()[9:]|first|first }}",
        "{{ text.splitlines()[9:]|first|round }}",
        "{{ '%d'|format(n[5000:]|first) }}",
        "{{ '-' * (n[5000:]|first) }}",
        "{{ -(n[5000:]|first) }}",
        "{{ dict(s|map('split','=')) }}",
        "{{ dict(s[5000:5001]|first) }}",
        "{{ n|sum / (n|select('gt',7)|list|length) }}",
        "{{ 7 / text.count('\\n') }}",
        "{{ 7 / text.count('\\n\\n\\n') }}",
        "{{ 7 / (text.split('\\n')|length - 1) }}",
        "{{ 10 // (s|select('equalto','x')|list|length) }}",
        "{{ range(1, 9, text.count('@@') * text.count('##')) }}",
        "{{ text|truncate(n|length - 3000) }}",
        "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(text.split('@')[5]) }}",
        "{% macro f(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(*s) }}",
        "{{ '%s %s %s'|format(*s) }}",
        "{% set x = namespace(v=none) %}{% for i in n %}{% if i > 7 %}{% set x.v = i %}{% endif %}{% endfor %}{{ x.v + 1 }}",
        "{% set x = namespace(v=none) %}{% for i in s if i|length > 5000 %}{% set x.v = i %}{% endfor %}{{ x.v.upper() }}",
    ] {
        if let Err(told) = checked(source, &schemas) {
            refused.push((source, told));
        }
    }
    assert_eq!(refused, []);
}

#[test]
fn a_call_is_told_once_where_its_prompt_fails_and_what_is_undefined() {
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
