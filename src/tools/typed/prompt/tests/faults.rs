//! Faults that are found before any call.

use serde_json::{Value, json};

use super::{compiled, tool};
use crate::config::tool::Argument;
use crate::tools::typed::prompt::{Known, PromptTemplate, TemplateFaults};

/// Checks `source` with arguments of these `schemas`.
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
    let template = compiled(source, &names)?;
    match &template.sample_faults(source, &arguments)[..] {
        [] => Ok(()),
        faults => Err(TemplateFaults(faults.to_vec()).to_string()),
    }
}

#[test]
fn an_unknown_name_is_a_fault() {
    let error = compiled("Say: {{ txet }}", &["text"]).unwrap_err();
    assert_eq!(
        error,
        "uses `txet`, which is not an argument (line 1 of the template); did you mean `text`?"
    );
    let text = json!({"text": {"type": "string"}});
    let error = checked("{{ text | upcase }}", &text).unwrap_err();
    assert!(error.contains("upcase"), "{error}");
    let chain = format!("{{{{ {}text }}}}", "not ".repeat(15_000));
    drop(compiled(&chain, &["text"]));
    let error = compiled("a\n{% if %}", &[]).unwrap_err();
    assert!(error.ends_with("(line 2 of the template)"), "{error}");
}

#[test]
fn all_unknown_names_are_found_even_in_branches_that_no_value_reaches() {
    let prompt = "tools.t.prompt={{ text | upcase }}\n{% if false %}{{ text is odd_ }}{{ txet }}{{ now() }}{% endif %}{{ text.uper() }}{{ text.lwer() }}";
    let tool = tool(&[prompt, "tools.t.arguments.text.type=string"]);
    let faults = PromptTemplate::faults(&tool, Known::All);
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "there is no filter `upcase` (line 1 of the template)",
        "there is no test `odd_` (line 2 of the template)",
        "uses `txet`, which is not an argument (line 2 of the template)",
        "uses `now`, which is not an argument (line 2 of the template)",
        "string has no method named uper (line 2 of the template)",
        "string has no method named lwer (line 2 of the template)",
    ];
    assert_eq!(texts, expected);
    assert_eq!(
        faults[0].hint.as_deref(),
        Some("docs/tools.md lists all filters and tests")
    );
    let names = PromptTemplate::faults(&tool, Known::Names);
    assert_eq!(names, faults[..4]);
    assert_eq!(PromptTemplate::faults(&tool, Known::Nothing), []);
}

#[test]
fn a_method_or_operator_that_no_value_of_an_argument_supports_is_a_fault() {
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
fn a_prompt_that_works_for_some_values_has_no_faults() {
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
fn a_slow_prompt_whose_trials_run_out_of_fuel_has_no_faults() {
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
fn trials_are_part_of_the_check_of_a_prompt_but_not_of_its_compilation() {
    let tool = tool(&[
        "tools.t.prompt={{ count.upper() }}",
        "tools.t.arguments.count.type=integer",
    ]);
    assert!(PromptTemplate::compile(&tool).is_ok());
    let faults = PromptTemplate::faults(&tool, Known::All);
    let text = TemplateFaults(faults).to_string();
    assert!(text.contains("no method named upper"), "{text}");
}

#[test]
fn a_prompt_that_fails_in_every_call_has_a_fault() {
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
        let text = checked(source, &schemas).err().unwrap_or_default();
        if !text.contains(fault) {
            missed.push((source, text));
        }
    }
    assert_eq!(missed, []);
}

#[test]
fn a_lookup_that_is_undefined_only_for_some_values_is_no_fault() {
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
fn a_prompt_that_works_only_for_few_values_has_no_faults() {
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
        if let Err(text) = checked(source, &schemas) {
            refused.push((source, text));
        }
    }
    assert_eq!(refused, []);
}
