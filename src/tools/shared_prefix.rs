//! The shared prefix of each tool, as the configuration shows it: the system prompt, and the tool's prompt up to its first argument. All
//! calls of the tool share it, so models keep it in their cache ([`crate::worker::Command::Warm`]). Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::conversation::from_prompt;
use super::typed::prompt::{PromptError, PromptTemplate};
use super::typed::sample::{SampleSize, values};
use crate::backend::SharedPrefixes;
use crate::config::tool::{PreparedPrompt, ToolBody};
use crate::config::{Config, ModelConfig, ToolConfig};
use crate::engine::shared_prefix::PromptSamples;
use crate::engine::{Conversation, Message};

/// Most shared prefixes of one model. Each takes memory of the cache; the longest ones save the most work.
const MAX_PREFIXES: usize = 16;

/// Returns the shared prefixes of all models that have any, by the name of the model.
pub(crate) fn shared_prefixes(config: &Config) -> BTreeMap<&str, SharedPrefixes> {
    let models = config
        .models
        .iter()
        .filter(|model| model.gguf().settings.cache_prompt);
    models
        .map(|model| (model.name.as_str(), samples_of_model(model, &config.tools)))
        .filter(|(_, prompts)| !prompts.is_empty())
        .collect()
}

fn samples_of_model(model: &ModelConfig, tools: &[ToolConfig]) -> SharedPrefixes {
    let own = ToolConfig::own_of(model);
    let tools = tools.iter().filter(|tool| tool.model == model.name);
    let mut prompts: Vec<PromptSamples> = Vec::new();
    for prompt in own.iter().chain(tools).filter_map(samples_of_tool) {
        let is_known = prompts.iter().any(|known| known.samples == prompt.samples);
        if prompt.bytes() > 0 && !is_known {
            prompts.push(prompt);
        }
    }
    prompts.sort_by_key(|prompt| Reverse(prompt.bytes()));
    prompts.truncate(MAX_PREFIXES);
    prompts.into()
}

/// Returns a lower bound for the number of tokens of every prompt of `tool`, in any vocabulary. A token is at most one word and, in all
/// known vocabularies, at most 16 bytes long.
pub(crate) fn least_tokens(tool: &ToolConfig) -> usize {
    let of_word = |word: &str| {
        let letters = word.chars().filter(|c| c.is_alphanumeric());
        let bytes: usize = letters.map(char::len_utf8).sum();
        bytes.div_ceil(16)
    };
    let of_message =
        |message: &Message| -> usize { message.content.split_whitespace().map(of_word).sum() };
    let of_sample = |sample: &Conversation| sample.messages.iter().map(of_message).sum();
    let prompt = samples_of_tool(tool);
    let samples = prompt.iter().flat_map(|prompt| &prompt.samples);
    samples.map(of_sample).min().unwrap_or(0)
}

fn samples_of_tool(tool: &ToolConfig) -> Option<PromptSamples> {
    match &tool.body {
        ToolBody::Chat => Some(samples_of_chat(tool)),
        ToolBody::Prompt(prepared) => {
            // The template may reject the samples and yet accept the values of calls.
            let prompt = samples_of_typed(prepared, tool).inspect_err(|cause| {
                tracing::debug!(tool = tool.name, "the shared prefix is not cached: {cause}");
            });
            prompt.ok()
        }
    }
}

/// Returns the prompt samples of a chat tool, with the configured suffix, which most calls keep.
fn samples_of_chat(tool: &ToolConfig) -> PromptSamples {
    let sample = |text: &str| from_prompt(text.to_owned(), &tool.defaults);
    PromptSamples {
        tool: tool.name.clone(),
        samples: [sample("a"), sample("bb")],
    }
}

/// Returns the prompt samples of a typed tool.
fn samples_of_typed(
    prepared: &PreparedPrompt,
    tool: &ToolConfig,
) -> Result<PromptSamples, PromptError> {
    let template = PromptTemplate::compile(prepared)?;
    let sample = |size| -> Result<Conversation, PromptError> {
        let content = template.render(&values(&prepared.arguments, size))?;
        Ok(Conversation {
            // Some chat templates end the prompt differently before a structured answer.
            json_schema: prepared
                .answer
                .as_ref()
                .map(|answer| answer.enforced.clone()),
            ..from_prompt(content, &tool.defaults)
        })
    };
    Ok(PromptSamples {
        tool: tool.name.clone(),
        samples: [sample(SampleSize::Small)?, sample(SampleSize::Large)?],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Overrides, Surroundings};
    use crate::process::Cpus;

    /// Returns the prompt samples of the model `a`, with the overrides `set`.
    fn prompts(set: &[&str]) -> Vec<PromptSamples> {
        let around = Surroundings {
            program: None,
            cpus: Cpus::single(1),
            variables: BTreeMap::new(),
            folders: Vec::new(),
        };
        let path = "models.a.path=tests/models/tiny-crab-chat.Q8_0.gguf";
        let typed = Overrides {
            set: [path]
                .iter()
                .chain(set)
                .map(|set| (*set).to_owned())
                .collect(),
            ..Overrides::default()
        };
        let (config, _) = Config::load(&typed, &around).unwrap_or_else(|error| panic!("{error:?}"));
        let all = shared_prefixes(&config);
        all.get("a")
            .map(|prompts| prompts.to_vec())
            .unwrap_or_default()
    }

    /// Returns the messages of both samples, one per line.
    fn messages(prompt: &PromptSamples) -> [String; 2] {
        prompt.samples.each_ref().map(|sample| {
            let messages = sample.messages.iter();
            let lines =
                messages.map(|message| format!("{:?}: {}\n", message.role, message.content));
            lines.collect()
        })
    }

    #[test]
    fn a_chat_tool_with_a_system_prompt_has_a_shared_prefix_and_one_without_has_none() {
        assert_eq!(prompts(&[]), []);
        let made = prompts(&[
            "models.a.system=Be brief.",
            "models.a.prompt_suffix=/no_think",
        ]);
        let [prompt] = &made[..] else {
            panic!("{made:?}")
        };
        let expected =
            ["a", "bb"].map(|text| format!("System: Be brief. /no_think\nUser: {text}\n"));
        assert_eq!(messages(prompt), expected);
        assert_eq!(prompt.bytes(), "Be brief. /no_think".len());
        assert_eq!(
            prompts(&["models.a.system=Be brief.", "models.a.cache_prompt=false"]),
            []
        );
        // Without its own tool, the model has no tool that uses `system`.
        assert_eq!(
            prompts(&["models.a.system=Be brief.", "models.a.tool=false"]),
            []
        );
    }

    #[test]
    fn a_typed_tool_is_rendered_with_two_values_for_every_argument() {
        let made = prompts(&[
            "models.a.system=Be brief.",
            "models.a.tool=false",
            "tools.t.prompt=Mark {% if on %}so{% endif %} {{ text }} {{ n + 1 }} {{ list | join(',') }} {{ kind }}",
            "tools.t.choices=[\"yes\", \"no\"]",
            "tools.t.arguments.text.type=string",
            "tools.t.arguments.on.type=boolean",
            "tools.t.arguments.n.type=integer",
            "tools.t.arguments.list.type=array",
            "tools.t.arguments.kind.enum=[\"x\", \"y\"]",
        ]);
        let [prompt] = &made[..] else {
            panic!("{made:?}")
        };
        let expected = ["Mark  a 2 a x", "Mark so bb 4 bb,bb y"]
            .map(|content| format!("System: Be brief.\nUser: {content}\n"));
        assert_eq!(messages(prompt), expected);
        assert_eq!(prompt.bytes(), "Be brief.Mark ".len());
        assert!(prompt.samples[0].json_schema.is_some());
    }

    #[test]
    fn prompts_without_a_shared_prefix_and_those_that_fail_are_skipped_and_equal_ones_are_merged() {
        let typed = |name: &str, prompt: &str| {
            [
                format!("tools.{name}.prompt={prompt}"),
                format!("tools.{name}.arguments.text.type=string"),
            ]
        };
        let set = [
            typed("bare", "{{ text }}"),
            typed("broken", "Find it: {{ text[7].name }}"),
            typed("one", "Say it: {{ text }}"),
            typed("same", "Say it: {{ text }}"),
            typed("third", "Say it slowly: {{ text }}"),
        ]
        .concat();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let bytes: Vec<usize> = prompts(&set).iter().map(PromptSamples::bytes).collect();
        assert_eq!(bytes, ["Say it slowly: ".len(), "Say it: ".len()]);
    }

    #[test]
    fn only_the_longest_of_too_many_prompts_are_kept() {
        let set: Vec<String> = (1..=20)
            .map(|n| format!("tools.t{n}.prompt={}", "x".repeat(n)))
            .collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let bytes: Vec<usize> = prompts(&set).iter().map(PromptSamples::bytes).collect();
        let expected: Vec<usize> = (5..=20).rev().collect();
        assert_eq!(bytes, expected);
    }
}
