//! Chat templates of real models render as in jinja2: `scripts/get-templates` creates the expected texts.

use std::path::Path;
use std::thread;

use llama_mcp_server::internals::{
    ChatTemplate, EngineError, Message, Role, Variables, after_reasoning, check_messages,
    markers_of, stack_size, unknown_markers,
};
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
    /// The expected text, or `None` if the template raises an error.
    rendered: Option<String>,
    /// The messages whose text is missing from the expected text.
    left_out: Vec<usize>,
}

fn expected() -> Expected {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/templates.json");
    let text = std::fs::read(&path)
        .unwrap_or_else(|_| panic!("{} is missing: run scripts/get-templates", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Renders `conversations`, on a stack of the size that templates may need.
fn prompts(
    template: &Template,
    (bos, eos): (&str, &str),
    conversations: &[&[Message]],
) -> Vec<Result<String, EngineError>> {
    let render = || {
        let compiled = ChatTemplate::new(&template.source, bos.to_owned(), eos.to_owned())
            .unwrap_or_else(|error| panic!("{}: {error}", template.name));
        let prompts = conversations.iter();
        prompts
            .map(|messages| compiled.render(messages, &Variables::new()))
            .collect()
    };
    let stack = thread::Builder::new().stack_size(stack_size(&template.source));
    thread::scope(|scope| stack.spawn_scoped(scope, render).unwrap().join().unwrap())
}

/// Replaces the ⟦date formats⟧ in jinja2's text with the current date.
fn with_dates(text: &str) -> String {
    let mut pieces = text.split('⟦');
    let mut with_dates = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (format, rest) = piece.split_once('⟧').unwrap();
        with_dates.push_str(&jiff::Zoned::now().strftime(format).to_string());
        with_dates.push_str(rest);
    }
    with_dates
}

/// Templates that show markers other than `<think>`: the beginning of the template's name, and the marker that opens a block.
const MARKED: [(&str, &str); 17] = [
    ("Apertus", "<|inner_prefix|>"),
    ("Apriel", "Here are my reasoning steps:"),
    ("ByteDance-Seed", "<seed:think>"),
    ("Cohere2MoE", "<|START_THINKING|>"),
    ("CohereForAI-c4ai-command-r7b", "<|START_THINKING|>"),
    ("Kimi-K3", "<|open|>think<|sep|>"),
    ("MiniMax-M3", "<mm:think>"),
    ("google-gemma-4-31B-it-interleaved", "<|channel>"),
    ("google-gemma-4-31B-it", "<|channel>"),
    ("llm-jp", "<|channel|>"),
    ("mistralai-Ministral-3-14B-Reasoning", "[THINK]"),
    ("muse-glimmer", "to=self<|message|>"),
    ("openai-gpt-oss", "<|channel|>"),
    ("tencent-Hy3", "<think:opensource>"),
    ("unsloth-Apriel", "Here are my reasoning steps:"),
    ("upstage-Solar", "<|think|>"),
    ("ibm-granite-granite-3.3", "<think>"),
];

#[test]
fn real_templates_reveal_the_reasoning_markers_of_their_models() {
    let mut known = 0;
    for Template { name, source, .. } in expected().templates {
        let markers = markers_of(&source, &[], None);
        assert_eq!(unknown_markers(&source, &markers), [], "{name}");
        if name.starts_with("axolotl/") {
            continue;
        }
        let opens = markers.iter().map(|markers| markers.open.as_str());
        let opens: Vec<&str> = opens.filter(|open| !open.is_empty()).collect();
        if let Some((_, open)) = MARKED.iter().find(|(start, _)| name.starts_with(start)) {
            assert!(opens.contains(open), "{name}: {opens:?}");
            known += 1;
        } else if source.contains("think>") {
            assert_eq!(opens[0], "<think>", "{name}: {opens:?}");
        } else {
            assert!(opens.is_empty(), "{name}: {opens:?}");
        }
    }
    assert_eq!(known, MARKED.len());
}

/// Returns the text of a message, which a prompt must contain.
fn text_of(message: &Message) -> &str {
    let text = match message.role {
        Role::Assistant => after_reasoning(&message.content),
        Role::System | Role::User => &message.content,
    };
    text.trim()
}

/// Returns what is wrong with a prompt of `case`, if anything.
fn fault(case: &Case, prompt: Result<String, EngineError>) -> Option<String> {
    match (&case.rendered, prompt) {
        (Some(expected), Ok(prompt)) if case.left_out.is_empty() => {
            (prompt != with_dates(expected)).then(|| format!("\n{prompt:?}\n{expected:?}"))
        }
        (_, Ok(prompt)) => {
            let missing = case
                .messages
                .iter()
                .find(|message| !prompt.contains(text_of(message)));
            missing.map(|message| format!("{message:?} is not in\n{prompt:?}"))
        }
        // jinja2 fails, too.
        (None, Err(_)) => None,
        (Some(_), Err(error)) => Some(error.to_string()),
    }
}

#[test]
fn real_templates_render_as_in_python_and_drop_nothing() {
    let expected = expected();
    let ends = (expected.bos.as_str(), expected.eos.as_str());
    let (mut same, mut repaired) = (0, 0);
    let mut faults = Vec::new();
    for template in &expected.templates {
        let cases = template.cases.iter();
        let conversations: Vec<_> = cases.map(|case| &case.messages[..]).collect();
        let prompts = prompts(template, ends, &conversations);
        for (at, (case, prompt)) in template.cases.iter().zip(prompts).enumerate() {
            let is_whole = case.rendered.is_some() && case.left_out.is_empty();
            same += usize::from(is_whole);
            repaired += usize::from(!is_whole && prompt.is_ok());
            let fault = fault(case, prompt);
            faults.extend(fault.map(|fault| format!("{} case {at}: {fault}", template.name)));
        }
    }
    let count = faults.len();
    assert!(faults.is_empty(), "{count} faults:\n{}", faults.join("\n"));
    assert!(same >= 900, "only {same} comparisons");
    assert!(repaired >= 80, "only {repaired} repaired");
}

#[test]
fn real_templates_print_questions_and_conversations() {
    let none = Variables::new();
    for template in expected().templates {
        let Template { name, source, .. } = &template;
        let turns = [
            Message::new(Role::User, "Hi"),
            Message::new(Role::Assistant, "Hello!"),
            Message::new(Role::User, "Why?"),
        ];
        let question = check_messages(source, &turns[..1], &none);
        let fault = question.and_then(|_| check_messages(source, &turns, &none));
        // A template that Python cannot render either requires its own variables.
        let is_rendered = template.cases.iter().any(|case| case.rendered.is_some());
        assert_eq!(fault.is_ok(), is_rendered, "{name}: {fault:?}");
    }
}

/// Returns a conversation whose turns grow, with system messages at the beginning and in the middle.
fn growing_conversation() -> Vec<Message> {
    let texts = [
        (Role::System, "The first rule."),
        (Role::User, "One?"),
        (Role::Assistant, "Two."),
        (Role::System, "The second rule."),
        (Role::User, "Three?"),
        (Role::Assistant, "Four."),
        (Role::User, "Five?"),
    ];
    let message = |(role, text): (Role, &str)| Message {
        role,
        content: text.into(),
    };
    texts.into_iter().map(message).collect()
}

#[test]
fn a_growing_repaired_conversation_keeps_the_prefix_of_its_prompt() {
    let expected = expected();
    let messages = growing_conversation();
    let turns = [2, 5, 7].map(|end| &messages[..end]);
    for name in [
        "openai-gpt-oss-120b.jinja",
        "microsoft-Phi-3.5-mini-instruct.jinja",
        "google-gemma-2-2b-it.jinja",
        "HuggingFaceTB-SmolLM3-3B.jinja",
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
        "axolotl/phi_3.jinja",
        "axolotl/mistral_v1.jinja",
    ] {
        let template = expected.templates.iter().find(|known| known.name == name);
        let Some(template) = template else {
            panic!("{name} is missing");
        };
        let prompts: Vec<String> = prompts(template, ("<s>", "</s>"), &turns)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        for (turn, pair) in turns.iter().zip(prompts.windows(2)) {
            // Up to the beginning of the model's answer, because some templates print an earlier answer differently.
            let question = text_of(turn.last().unwrap());
            let (known, _) = pair[0].rsplit_once(question).unwrap();
            assert!(pair[1].starts_with(known), "{name}: {pair:#?}");
        }
    }
}

#[test]
fn every_template_of_llama_cpp_renders_4000_short_messages() {
    let messages: Vec<Message> = (0..4_001)
        .map(|at| Message {
            role: if at % 2 == 0 {
                Role::User
            } else {
                Role::Assistant
            },
            content: format!("message {at}"),
        })
        .collect();
    let expected = expected();
    let of_llama_cpp = |template: &&Template| !template.name.starts_with("axolotl/");
    let mut count = 0;
    for template in expected.templates.iter().filter(of_llama_cpp) {
        // This template requires its own variables.
        if template.cases.iter().all(|case| case.rendered.is_none()) {
            continue;
        }
        let prompt = prompts(template, ("<s>", "</s>"), &[&messages]).remove(0);
        let prompt = prompt.unwrap_or_else(|error| panic!("{}: {error}", template.name));
        assert!(prompt.contains("message 2000"), "{}", template.name);
        count += 1;
    }
    assert!(count >= 70, "only {count} templates");
}
