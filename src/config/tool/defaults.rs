//! The defaults of calls: the model's settings, overridden by the tool's.

use crate::config::Defaults;
use crate::config::file::{ToolKind, ToolSettings};
use crate::config::template_arguments;
use crate::schema::Limits;

impl Defaults {
    /// Returns these defaults, overridden by what `tool` sets.
    pub(super) fn with(&self, tool: &ToolSettings) -> Self {
        let max_tokens_limit = tool.max_tokens_limit.or(self.max_tokens_limit);
        let limit = max_tokens_limit.unwrap_or(u32::MAX);
        Self {
            max_tokens: tool.max_tokens.unwrap_or(self.max_tokens).min(limit),
            max_tokens_limit,
            sampling: self.sampling.clone().with(tool.sampling.clone()),
            limits: Limits {
                string: tool.json_max_string.unwrap_or(self.limits.string),
                items: tool.json_max_items.unwrap_or(self.limits.items),
            },
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
