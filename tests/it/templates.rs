//! The chat templates of real models, as jinja2 renders them: `scripts/get-templates` makes the expected texts.

use std::path::Path;
use std::thread;

use llama_mcp_server::engine::Message;
use llama_mcp_server::engine::template::{ChatTemplate, stack_size};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    bos: String,
    eos: String,
    templates: Vec<Template>,
}

#[derive(Deserialize)]
struct Template {
    name: String,
    source: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    /// None where the template raises.
    rendered: Option<String>,
}

/// jinja2's text with its ⟦date formats⟧ filled in.
fn dated(text: &str) -> String {
    let mut pieces = text.split('⟦');
    let mut dated = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (format, rest) = piece.split_once('⟧').unwrap();
        dated.push_str(&jiff::Zoned::now().strftime(format).to_string());
        dated.push_str(rest);
    }
    dated
}

#[test]
fn real_templates_render_as_in_python() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/templates.json");
    let text = std::fs::read(&path)
        .unwrap_or_else(|_| panic!("{} is missing: run scripts/get-templates", path.display()));
    let Expected {
        bos,
        eos,
        templates,
    } = serde_json::from_slice(&text).unwrap();
    let mut compared = 0;
    let mut differing = Vec::new();
    for template in templates {
        let (bos, eos) = (bos.clone(), eos.clone());
        let stack = thread::Builder::new().stack_size(stack_size(&template.source));
        let rendered: Vec<_> = thread::scope(|scope| {
            let render = || {
                let compiled = ChatTemplate::new(&template.source, bos, eos)?;
                Ok(template
                    .cases
                    .iter()
                    .map(|case| compiled.render(&case.messages, true))
                    .collect::<Vec<_>>())
            };
            stack.spawn_scoped(scope, render).unwrap().join().unwrap()
        })
        .unwrap_or_else(|error: llama_mcp_server::engine::EngineError| {
            panic!("{}: {error}", template.name)
        });
        for (at, (case, rendered)) in template.cases.iter().zip(rendered).enumerate() {
            // Where a template raises, ours may have another way, which the unit tests show.
            let Some(expected) = &case.rendered else {
                continue;
            };
            compared += 1;
            match rendered {
                Ok(text) if text == dated(expected) => {}
                Ok(text) => differing.push(format!(
                    "{} case {at}:\n{text:?}\n{expected:?}",
                    template.name
                )),
                Err(error) => differing.push(format!("{} case {at}: {error}", template.name)),
            }
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {compared}:\n{}",
        differing.len(),
        differing.join("\n")
    );
    assert!(compared >= 200, "only {compared} comparisons");
}
