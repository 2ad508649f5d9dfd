//! The defaults of calls: the model's settings, overridden by the tool's.

use crate::config::Defaults;
use crate::config::file::{ToolKind, ToolSettings};
use crate::config::{ranges, template_arguments};
use crate::schema::Limits;

impl Limits {
    /// Returns these limits, overridden by what `tool` sets.
    pub(super) fn with(self, tool: &ToolSettings) -> Self {
        Self {
            string: tool.json_max_string.unwrap_or(self.string),
            items: tool.json_max_items.unwrap_or(self.items),
        }
    }
}

impl Defaults {
    /// Returns these defaults, overridden by what `tool` sets.
    pub(super) fn with(&self, tool: &ToolSettings) -> Self {
        let number = |said: Option<f64>, default: f32| said.map_or(default, ranges::to_f32);
        let max_tokens_limit = tool.max_tokens_limit.or(self.max_tokens_limit);
        let limit = max_tokens_limit.unwrap_or(u32::MAX);
        Self {
            max_tokens: tool.max_tokens.unwrap_or(self.max_tokens).min(limit),
            max_tokens_limit,
            temperature: number(tool.temperature, self.temperature),
            top_p: number(tool.top_p, self.top_p),
            top_k: tool.top_k.unwrap_or(self.top_k),
            min_p: number(tool.min_p, self.min_p),
            repeat_penalty: tool
                .repeat_penalty
                .map_or(self.repeat_penalty, |penalty| Some(ranges::to_f32(penalty))),
            limits: self.limits.with(tool),
            presence_penalty: number(tool.presence_penalty, self.presence_penalty),
            frequency_penalty: number(tool.frequency_penalty, self.frequency_penalty),
            repeat_last_n: tool.repeat_last_n.unwrap_or(self.repeat_last_n),
            seed: tool.seed.map_or(self.seed, |seed| u32::try_from(seed).ok()),
            stop: tool.stop.clone().unwrap_or_else(|| self.stop.clone()),
            system: tool.system.clone().or_else(|| self.system.clone()),
            prompt_suffix: (tool.prompt_suffix.clone()).or_else(|| self.prompt_suffix.clone()),
            thinking: tool.thinking.unwrap_or(self.thinking),
            thinking_budget: tool.thinking_budget.or(self.thinking_budget),
            template_arguments: template_arguments::merged(
                &self.template_arguments,
                &template_arguments::given(tool.template_arguments.as_ref()),
            ),
            deadline: tool
                .deadline
                .map_or(self.deadline, |deadline| Some(deadline.0)),
            cut_note: tool.cut_note.unwrap_or(match tool.kind {
                ToolKind::Chat => self.cut_note,
                // Programs may parse the answer of a prepared prompt, so it must contain nothing else.
                ToolKind::Prompt => false,
            }),
        }
    }
}
