//! Kinds of warnings about settings that work but are probably a mistake.
//!
//! Their names are stable, like the error codes. `docs/warnings.md` explains each.

use strum::{EnumIter, IntoStaticStr};

/// Kind of a warning. Its name for programs is the variant in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum WarningKind {
    // Environment variables.
    /// An environment variable begins with `LLAMA_MCP_`, but is not a key.
    UnknownVariable,
    /// An environment variable matches several names, since variables have neither case nor hyphens.
    AmbiguousVariable,

    // Files.
    /// A file was replaced outside of its mount.
    StaleMount,

    // Models.
    /// The file contains a base model, which continues text instead of answering.
    BaseModel,
    /// The file of a chat model has no chat template.
    NoChatTemplate,
    /// `n_ctx` is above the context that the model was trained for.
    ContextCapped,
    /// `n_threads` is above the number of CPUs.
    ThreadsCapped,
    /// `max_tokens` leaves no room for a prompt in the context.
    MaxTokensAboveContext,
    /// `max_tokens` of a tool is above the `max_tokens_limit` of its model.
    MaxTokensCapped,
    /// `thinking_budget` is not below `max_tokens`.
    ThinkingBudgetUnused,
    /// Penalties are set, but apply to no token.
    PenaltiesUnused,
    /// `logit_bias` names a token that the vocabulary does not have.
    LogitBiasUnused,
    /// `idle_ttl` unloads a model after each call.
    UnloadedAfterEachCall,
    /// A size is a few bytes, because its number has no unit.
    TinySize,
    /// No tool uses the model.
    UnusedModel,
    /// The chat template does not use a variable of `template_arguments`.
    UnusedTemplateArgument,
    /// The chat template does not print earlier turns.
    EarlierTurnsRefused,
    /// The chat template does not print a system prompt.
    SystemPromptMerged,
    /// The chat template seems to have markers of reasoning that are not recognised.
    UnknownThinkingTags,

    // Tools.
    /// The prompt does not use an argument.
    UnusedArgument,
    /// The prompt does not name the choices.
    ChoicesNotShown,
    /// The prompt does not name the fields of the answer.
    OutputNotShown,
    /// A tool or an argument has no description.
    NoDescription,
    /// A text that is not rendered has template syntax.
    NotRendered,
    /// A text is the path of a file.
    PathAsText,
    /// The shared prefix of a tool is longer than the context.
    PromptAboveContext,
    /// A part of a schema is not enforced.
    SchemaNotEnforced,

    // The server.
    /// `memory_budget` is above the memory of the machine.
    BudgetAboveMemory,
    /// Keys for HTTP are set, but the server uses stdio.
    HttpKeysUnused,
    /// Keys for the log file are set, but there is no log file.
    LogKeysUnused,
    /// A bearer token can be guessed.
    ShortToken,
}

impl WarningKind {
    /// Returns the name for programs.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
