//! The configured parts of a conversation: its system prompt and its suffix.

use crate::config::Defaults;
use crate::engine::{Conversation, Message, Role};

/// Returns a conversation of `messages` with the system prompt of `defaults` and `suffix`, for a free answer.
pub(super) fn with_defaults(
    messages: Vec<Message>,
    suffix: Option<String>,
    defaults: &Defaults,
) -> Conversation {
    Conversation {
        messages: with_system(messages, defaults.system.as_deref(), suffix),
        thinking: defaults.thinking,
        json_schema: None,
        thinking_budget: defaults.thinking_budget,
        template_arguments: defaults.template_arguments.clone(),
    }
}

/// Returns the conversation of a typed tool with the rendered `prompt`.
pub(super) fn from_prompt(prompt: String, defaults: &Defaults) -> Conversation {
    let message = Message {
        role: Role::User,
        content: prompt,
    };
    with_defaults(vec![message], defaults.prompt_suffix.clone(), defaults)
}

/// Adds the configured prompt `system` and `suffix` to `messages`. The prompt goes before the text of the first message if that is a system
/// message, and into a new system message otherwise.
fn with_system(
    mut messages: Vec<Message>,
    system: Option<&str>,
    suffix: Option<String>,
) -> Vec<Message> {
    if let Some(system) = system.filter(|system| !system.is_empty()) {
        match messages
            .first_mut()
            .filter(|message| message.role == Role::System)
        {
            Some(message) => message.content = format!("{system}\n\n{}", message.content),
            None => messages.insert(
                0,
                Message {
                    role: Role::System,
                    content: system.to_owned(),
                },
            ),
        }
    }
    with_suffix(messages, suffix)
}

/// Appends `suffix` to the first system message, or adds it as a system message.
fn with_suffix(mut messages: Vec<Message>, suffix: Option<String>) -> Vec<Message> {
    let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) else {
        return messages;
    };
    match messages
        .iter_mut()
        .find(|message| message.role == Role::System)
    {
        Some(system) => {
            if !system.content.is_empty() && !suffix.starts_with(char::is_whitespace) {
                system.content.push(' ');
            }
            system.content.push_str(&suffix);
        }
        None => messages.insert(
            0,
            Message {
                role: Role::System,
                content: suffix,
            },
        ),
    }
    messages
}
