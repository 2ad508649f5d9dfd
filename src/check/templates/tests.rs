//! Checks of chat templates by whole configurations.

use std::collections::BTreeMap;

use crate::check::load;
use crate::config::problem::Problem;
use crate::config::{Overrides, Surroundings};
use crate::process::Cpus;

const WANTS_LANGUAGE: &str = "{% if not lang %}{{ raise_exception('no lang') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

/// The problems and notes of the model `a` with the chat template `template`, the typed tools `t` and `u`, and more that is `set`.
fn told(template: &str, set: &[&str]) -> (Vec<String>, Vec<String>) {
    let around = Surroundings {
        cpus: Cpus::single(1),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    let template = format!("models.a.chat_template={template}");
    let always = [
        "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf",
        &template,
        "tools.t.prompt=Hi",
        "tools.u.prompt=Hello",
    ];
    let typed = Overrides {
        set: always
            .iter()
            .chain(set)
            .map(|set| (*set).to_owned())
            .collect(),
        ..Overrides::default()
    };
    let checked = load(&typed, &around).unwrap_or_else(|error| panic!("{error:?}"));
    let problem = |problem: &Problem| {
        let address = problem.address.as_ref().unwrap();
        format!("{address}: {}", problem.message)
    };
    let problems = checked.doubts.iter().map(problem).collect();
    (problems, checked.layers.notes)
}

const REFUSED: &str = "the model's chat template refused the messages: no lang";

#[test]
fn a_typed_tool_whose_every_call_fails_is_a_problem_though_other_tools_of_the_model_work() {
    let given = "models.a.template_arguments.lang=es";
    let cleared = "tools.t.template_arguments.lang=";
    assert_eq!(told(WANTS_LANGUAGE, &[given]).0, [""; 0]);
    let fails = format!("tools.t.template_arguments: every call fails: {REFUSED}");
    let (problems, _) = told(WANTS_LANGUAGE, &[given, cleared]);
    assert_eq!(problems, [fails.as_str()]);
    let (problems, _) = told(WANTS_LANGUAGE, &[given, cleared, "models.a.tool=false"]);
    assert_eq!(problems, [fails.as_str()]);
}

#[test]
fn the_variables_of_a_model_that_is_no_tool_are_not_tried() {
    let set = [
        "models.a.tool=false",
        "models.a.system=Be brief.",
        "tools.t.template_arguments.lang=es",
        "tools.u.template_arguments.lang=en",
    ];
    assert_eq!(told(WANTS_LANGUAGE, &set).0, [""; 0]);
    let cleared = [
        "models.a.tool=false",
        "models.a.template_arguments.lang=es",
        "tools.t.template_arguments.lang=",
        "tools.u.template_arguments.lang=",
    ];
    let (problems, _) = told(WANTS_LANGUAGE, &cleared);
    assert_eq!(problems, [format!("models.a.chat_template: {REFUSED}")]);
}

#[test]
fn the_own_tool_of_a_model_may_need_variables_that_its_calls_give() {
    let set = [
        "tools.t.template_arguments.lang=es",
        "tools.u.template_arguments.lang=en",
    ];
    assert_eq!(told(WANTS_LANGUAGE, &set).0, [""; 0]);
    assert_eq!(
        told(WANTS_LANGUAGE, &[]).0,
        [format!("models.a.chat_template: {REFUSED}")]
    );
}

#[test]
fn a_system_prompt_that_tools_inherit_is_noted_once_and_tried_with_their_variables() {
    let merges = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}";
    let (_, notes) = told(merges, &["models.a.system=Be brief."]);
    let of_system: Vec<&String> = notes
        .iter()
        .filter(|note| note.contains("does not print a system prompt"))
        .collect();
    assert_eq!(of_system.len(), 1, "{notes:?}");
    assert!(of_system[0].starts_with("models.a.system: "), "{notes:?}");
    let cuts = "{% for m in messages %}{{ m.content[:5] if lang else m.content }}{% endfor %}";
    let set = [
        "models.a.system=Be brief.",
        "tools.t.template_arguments.lang=es",
    ];
    let (problems, _) = told(cuts, &set);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("models.a.system: "), "{problems:?}");
}
