//! Renders messages to the text of a prompt, with the model's Jinja chat template.
//!
//! llama.cpp's `llama_chat_apply_template` only guesses among built-in formats. So minijinja renders the template, with the extensions of
//! Hugging Face's `transformers`: trimmed blocks, loop controls, `raise_exception`, `strftime_now`, `tojson`, Python's string methods and
//! `{% generation %}`.
//!
//! A template is untrusted input. Fuel limits its work, and [`MAX_TEMPLATE_BYTES`] its length. Long flat chains may overflow the stack, so
//! a template is compiled on a thread with [`stack_size`]. Values may nest as deep as fuel allows, so it is rendered on a thread whose
//! stack suffices for that depth.

mod budget;
mod filters;
mod methods;
mod omission;
mod padding;
mod python;
mod repair;
mod stack;
mod tojson;
mod turn;

use std::cell::Cell;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Captured, Environment, Error, ErrorKind, State, Value, context};
use regex::Regex;
use serde::{Deserialize, Serialize};

use self::repair::{Complete, Fault, LeftOut, render_all};
pub(crate) use self::stack::limit_renderings;
use self::stack::on_deep_stack;
use self::turn::{Turn, turns_of};
use super::{EngineError, EngineErrorKind, Message, Role};
use crate::threads::{NotDone, on_stack};

/// Variables of a template, by name.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// Maximum length of a template, in bytes. The longest one known has 18 KiB.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// Fuel of one rendering, in addition to that for the conversation. One unit of fuel pays for one instruction of minijinja.
const FUEL: u64 = 2_000_000;

/// Additional fuel for each message. Gemma 4 goes through the whole conversation for each message: with 4,000 messages, that takes 14,000
/// for each.
const FUEL_PER_MESSAGE: u64 = 20_000;

/// Additional fuel for each byte of the conversation, enough to examine each character.
const FUEL_PER_BYTE: u64 = 16;

/// Number of renderings at full cost that one call may use to find and repair omissions.
const RENDERINGS: u64 = 8;

/// Divisor of the fuel that is charged for a failed rendering, whose actual fuel is unknown.
const FAILURE_DIVISOR: u64 = 8;

/// Returns the stack that compiling `template` may need, in bytes: 512 for each byte of the template, and 2 MiB.
pub fn stack_size(template: &str) -> usize {
    2 * 1024 * 1024 + 512 * template.len()
}

/// Checks that `source` compiles, and that it calls only known functions, filters and methods when it renders a question of a user. Runs on
/// a thread with [`stack_size`].
///
/// # Errors
/// `Template` if the check fails.
pub(crate) fn check(source: &str) -> Result<(), EngineError> {
    let compile = || {
        let template = ChatTemplate::new(source, String::new(), String::new())?;
        let question = [Message::new(Role::User, "?")];
        let render = || {
            let fuel = Fuel::for_messages(&question);
            Ok(template.render_once(&turns_of(&question), &Variables::new(), &fuel))
        };
        match on_deep_stack(FUEL, render)? {
            Err(error) if is_missing(error.kind()) => Err(template_error(
                "the model's chat template is not valid",
                &error,
            )),
            // Other errors depend on the messages.
            _ => Ok(()),
        }
    };
    try_on_stack(source, compile).map(|_| ())
}

/// How a chat template handles a system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemPrompt {
    /// The template prints it.
    Printed,
    /// The template rejects or omits it, so its text is merged into the first user message.
    Merged,
}

/// Renders `messages` with the chat template `source` and `variables`, and returns how the template handles a system prompt. Runs on a
/// thread with [`stack_size`].
///
/// # Errors
/// The errors of [`ChatTemplate::new`] and [`ChatTemplate::render`].
pub fn check_messages(
    source: &str,
    messages: &[Message],
    variables: &Variables,
) -> Result<SystemPrompt, EngineError> {
    let render = || {
        let template = ChatTemplate::new(source, String::new(), String::new())?;
        template.complete(messages, variables)
    };
    Ok(match try_on_stack(source, render)? {
        Some(complete) if complete.has_moved => SystemPrompt::Merged,
        _ => SystemPrompt::Printed,
    })
}

/// Runs `work` on a thread whose stack suffices for the chat template `source`. Returns `None` if the system cannot start a thread, which
/// is reported elsewhere. A panic counts as an error of the template.
fn try_on_stack<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<Option<T>, EngineError> {
    match on_stack(stack_size(source), work) {
        Ok(done) => done.map(Some),
        Err(NotDone::NoThread(_)) => Ok(None),
        Err(NotDone::Panicked) => Err(EngineError::new(
            EngineErrorKind::Template,
            "the model's chat template made its renderer panic".to_owned(),
        )),
    }
}

/// Returns whether `kind` is the error of a call of an unknown function, filter, method or test.
pub(crate) fn is_missing(kind: ErrorKind) -> bool {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    matches!(
        kind,
        UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest
    )
}

/// Adds the parts of Python's Jinja2 that templates expect to `environment`: methods such as `text.strip()`, filters such as
/// `truncate`, and functions such as `strftime_now`.
pub(crate) fn add_python(environment: &mut Environment<'_>) {
    python::add_to(environment);
}

/// End of the message of an error about a method that was called on an undefined value.
pub(crate) const UNDEFINED_CALL: &str = " was called on an undefined value";

/// Calls the Python method `method` of `value`, as templates do with [`add_python`].
///
/// # Errors
/// `UnknownMethod` if there is no such method, or the error of the method.
pub(crate) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    python::method(state, value, method, args)
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source`. `bos` and `eos` are the texts of these tokens, empty if the model lacks the token.
    ///
    /// # Errors
    /// `Template` if the source is too long or is invalid Jinja.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, EngineError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(EngineError::new(
                EngineErrorKind::Template,
                format!(
                    "the model's chat template has {} bytes, more than the {MAX_TEMPLATE_BYTES} that are accepted",
                    source.len()
                ),
            ));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(
            syntax.map_err(|error| template_error("Jinja could not be set up", &error))?,
        );
        environment.set_fuel(Some(FUEL));
        python::add_to(&mut environment);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| template_error("the model's chat template is not valid", &error))?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// Renders the prompt of `messages`, up to the beginning of the answer. The template gets `variables` in addition to the usual ones.
    ///
    /// Some templates reject system messages (Gemma 2) or omit them (Phi-3). Such messages are merged into the next user message. Other
    /// templates print only text that is a list of parts (`SmolVLM`), and get it in that form.
    ///
    /// # Errors
    /// `Template` if the template rejects the messages, with its own message, or if it omits text.
    pub fn render(
        &self,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<String, EngineError> {
        Ok(self.complete(messages, variables)?.prompt)
    }

    fn complete(
        &self,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<Complete, EngineError> {
        on_deep_stack(Fuel::for_messages(messages).per_rendering, || {
            let fuel = Fuel::for_messages(messages);
            let render = |turns: &[Turn<'_>]| self.render_once(turns, variables, &fuel);
            render_all(messages, render).map_err(|fault| match fault {
                Fault::Refused(error) => {
                    template_error("the model's chat template refused the messages", &error)
                }
                Fault::LeftOut(left_out) => left_out_error(messages, &left_out),
            })
        })
    }

    fn render_once(
        &self,
        turns: &[Turn<'_>],
        variables: &Variables,
        fuel: &Fuel,
    ) -> Result<String, Error> {
        let variables = context! {
            messages => Serde(turns),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..Value::from(Serde(variables))
        };
        let mut environment = self.environment.clone();
        let allowed = fuel.next();
        environment.set_fuel(Some(allowed));
        let template = environment.get_template(NAME)?;
        let rendered = template.render_captured(variables);
        fuel.spend(match &rendered {
            Ok(captured) => captured.state().fuel_levels().map_or(0, |levels| levels.0),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => allowed,
            Err(_) => allowed / FAILURE_DIVISOR,
        });
        rendered.map(Captured::into_output)
    }
}

/// Fuel for the renderings of one call.
struct Fuel {
    /// Maximum for one rendering.
    per_rendering: u64,
    /// Remaining fuel for all renderings.
    left: Cell<u64>,
}

impl Fuel {
    fn for_messages(messages: &[Message]) -> Self {
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let per_rendering =
            FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + FUEL_PER_BYTE * bytes as u64;
        Self {
            per_rendering,
            left: Cell::new(RENDERINGS * per_rendering),
        }
    }

    /// Returns the fuel for the next rendering.
    fn next(&self) -> u64 {
        self.left.get().min(self.per_rendering)
    }

    fn spend(&self, fuel: u64) {
        self.left.set(self.left.get().saturating_sub(fuel));
    }
}

/// Returns the prompt of a base model, which has no template: the texts of `messages`, joined with blank lines.
pub(crate) fn join_contents(messages: &[Message]) -> String {
    let contents: Vec<&str> = messages
        .iter()
        .map(|message| message.content.as_str())
        .collect();
    contents.join("\n\n")
}

/// Creates the error that names the messages in `left_out`.
fn left_out_error(messages: &[Message], left_out: &[LeftOut]) -> EngineError {
    const MOST_NAMED: usize = 3;
    let name = |one: &LeftOut| {
        let part = if one.is_partial { "part of " } else { "" };
        let role = messages[one.message].role.name();
        format!("{part}message {} ({role})", one.message + 1)
    };
    let mut names: Vec<String> = left_out.iter().take(MOST_NAMED).map(name).collect();
    if left_out.len() > MOST_NAMED {
        names.push(format!("{} more", left_out.len() - MOST_NAMED));
    }
    let last = names.pop().unwrap_or_default();
    let names = match &names[..] {
        [] => last,
        names => format!("{} and {last}", names.join(", ")),
    };
    EngineError::new(
        EngineErrorKind::Template,
        format!("the chat template leaves out {names}"),
    )
    .hint("put the text into another message, or give the model a `chat_template` that prints it")
}

fn template_error(what: &str, error: &Error) -> EngineError {
    let cause = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        _ => error
            .detail()
            .map_or_else(|| error.to_string(), str::to_owned),
    };
    EngineError::new(EngineErrorKind::Template, format!("{what}: {cause}"))
}

/// Replaces the `{% generation %}` blocks of `transformers`, which mark text for training, with their bodies.
fn without_generation_blocks(source: &str) -> String {
    static OPEN: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?-u)\{%([-+]?)\s*generation\s*([-+]?)%\}"));
    static CLOSE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?-u)\{%([-+]?)\s*endgeneration\s*([-+]?)%\}"));
    let opened = OPEN.replace_all(source, "{%$1 if true $2%}");
    CLOSE.replace_all(&opened, "{%$1 endif $2%}").into_owned()
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant and valid")
}

#[cfg(test)]
mod tests;
